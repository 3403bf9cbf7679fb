//! `snapring completions`

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use crate::cli::error::CommandError;
use crate::cli::{Cli, Exit, console};

/// Print the completion script for a shell.
///
/// The Debian package installs it. By hand, for bash:
/// snapring completions bash >~/.local/share/bash-completion/completions/snapring
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    shell: Known,
}

/// The shells that the packages serve.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

/// Runs the command.
///
/// # Errors
/// [`CommandError::Quiet`] when nothing can be written.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let shell = match arguments.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "snapring", &mut script);
    console::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Well)
}
