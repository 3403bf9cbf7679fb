//! The `snapring` command. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    snapring::cli::main()
}
