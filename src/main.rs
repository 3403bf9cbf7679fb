//! The `snapring` command. All of it is in the library.

use std::process::ExitCode;

/// Gives memory back once it is not used any more: that of reading a fleet's configuration, say.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    snapring::cli::main()
}
