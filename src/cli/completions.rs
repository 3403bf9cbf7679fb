//! `snapring completions`

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{Shell, generate};

use crate::cli::error::CommandError;
use crate::cli::{Cli, Exit, console};
use crate::config;
use crate::server::Server;

/// Print the completion script for a shell.
///
/// The Debian package installs the one of --dynamic. By hand, for bash:
/// snapring completions bash --dynamic >~/.local/share/bash-completion/completions/snapring
///
/// With --dynamic, the script asks snapring itself at each completion. It then offers the servers and groups of the
/// configuration, too, if you can read that file.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    shell: Known,
    /// Print a script that also offers the servers and groups of the configuration
    #[arg(long)]
    dynamic: bool,
}

/// The shells that the packages serve.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

const NAME: &str = "snapring";

/// Set by a dynamic script: the shell that asks.
const VARIABLE: &str = "SNAPRING_COMPLETE";

/// zsh runs a file of its function path at the first completion, which must have an answer already.
const AUTOLOADED: &str = "
if [[ $funcstack[1] == _snapring ]]; then
    _clap_dynamic_completer_snapring \"$@\"
fi
";

/// Answers a dynamic script, and ends the process; if none asks, does nothing.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).bin(NAME).complete();
}

/// The servers of the configuration, for a dynamic script.
pub(super) fn servers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let candidate = |server: &Arc<Server>| {
            let help = format!("server {}", server.id);
            CompletionCandidate::new(&server.name).help(Some(help.into()))
        };
        configured().iter().map(candidate).collect()
    })
}

/// Their groups.
pub(super) fn groups() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let servers = configured();
        let groups: BTreeSet<&str> = servers.iter().filter_map(|it| it.group.as_deref()).collect();
        groups.into_iter().map(CompletionCandidate::new).collect()
    })
}

/// Their accounts.
pub(super) fn accounts() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let servers = configured();
        let accounts: BTreeSet<&str> = servers.iter().map(|it| it.id.account.name()).collect();
        accounts.into_iter().map(CompletionCandidate::new).collect()
    })
}

/// Nothing where the configuration is bad or cannot be read: a shell has no place for a message.
fn configured() -> Vec<Arc<Server>> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let flag = config_in(&words);
    let path = config::locate(flag.as_deref(), std::env::var_os("SNAPRING_CONFIG").as_deref());
    config::read(&path).map(|loaded| loaded.settings.servers).unwrap_or_default()
}

/// The file that the command line names so far.
fn config_in(words: &[OsString]) -> Option<PathBuf> {
    words.iter().enumerate().find_map(|(nth, word)| {
        let word = word.to_str()?;
        match word {
            "-c" | "--config" => words.get(nth + 1).map(PathBuf::from),
            _ => word.strip_prefix("--config=").map(PathBuf::from),
        }
    })
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
    if arguments.dynamic {
        let shells = Shells::builtins();
        let of_shell = shells.completer(&shell.to_string());
        let registration = of_shell
            .map(|it| it.write_registration(VARIABLE, NAME, NAME, NAME, &mut script))
            .transpose();
        let failed = |problem| CommandError::Failed(format!("there is no script: {problem}"));
        registration.map_err(failed)?;
        if shell == Shell::Zsh {
            script.extend_from_slice(AUTOLOADED.as_bytes());
        }
    } else {
        generate(shell, &mut Cli::command(), NAME, &mut script);
    }
    console::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Well)
}
