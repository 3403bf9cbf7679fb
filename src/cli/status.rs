//! `snapring status`

pub(crate) mod findings;
pub(in crate::cli) mod gather;
pub(crate) mod nagios;
mod text;
mod watch;

use std::time::Duration;

use clap::Args;

use crate::cli::error::CommandError;
use crate::cli::selection::{InState, Selection};
use crate::cli::status::findings::{Finding, findings};
use crate::cli::status::gather::{Gathered, gather, read};
use crate::cli::status::text::text;
use crate::cli::{ConfigArgument, Exit, console, parse_span};

/// How long the daemon, or the store, may take to answer a person.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the daemon may take to answer a check.
const DAEMON_WITHIN: Duration = Duration::from_secs(3);

/// Show how each server is doing: last success, next tick, slots, last error.
///
/// Asks the running daemon at `[http] listen`, even if the rest of the configuration has become invalid.
/// Without a daemon, asks the provider for snapshots and reads past rotations from the history. Exits with 1 if any
/// server is in trouble, or if `[http] listen` is set and no daemon answers there.
///
/// Of more than 50 servers, only those in trouble are shown, and the others are counted.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    in_state: InState,
    /// Show every server, however many there are
    #[arg(long, conflicts_with_all = ["json", "max_age"])]
    all: bool,
    /// Refresh in place every two seconds, until Ctrl-C. Asks the running daemon
    #[arg(long, conflicts_with_all = ["json", "max_age"])]
    watch: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "max_age")]
    json: bool,
    /// Act as a Nagios check: print a line with performance data, one more line per further problem, and exit
    /// with 0 OK, 1 WARNING if a server is in trouble, 2 CRITICAL if a last success is older than this, 3
    /// UNKNOWN. Answers within 10 seconds: asks the daemon, else reads the history, else asks the provider once
    #[arg(long, value_name = "DURATION", value_parser = parse_span, conflicts_with = "state")]
    max_age: Option<Duration>,
    #[command(flatten)]
    config: ConfigArgument,
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    if arguments.watch {
        return watch::watch(&arguments).await;
    }
    let gathered = gather(&arguments).await;
    if let Some(max_age) = arguments.max_age {
        let check = match gathered {
            Ok(gathered) => nagios::check(&gathered, max_age),
            // The check goes on: it says that it knows nothing.
            Err(error) => {
                error.report();
                nagios::Check::unknown(&error)
            }
        };
        console::print(&check.words)?;
        return Ok(Exit::Check(check.level));
    }
    let gathered = gathered?;
    let findings = findings(&gathered, None);
    let Gathered { mut document, .. } = gathered;
    let in_state = &arguments.in_state;
    let text = text(&document, &findings, in_state, arguments.all);
    document.servers.retain(|server| in_state.takes(server.state));
    if arguments.json {
        console::print_json(&document)?;
    } else {
        console::print(&text)?;
    }
    Ok(exit_of(&findings))
}

fn exit_of(findings: &[Finding]) -> Exit {
    if findings.iter().any(Finding::is_trouble) { Exit::Trouble } else { Exit::Well }
}

/// The code that `status` exits with if the daemon answers with this: alone, and with `--max-age`. `None`
/// if the answer cannot be read.
#[must_use]
pub fn exit_codes(answer: &str, max_age: Duration) -> Option<(u8, u8)> {
    let document = read(answer.as_bytes(), |_| true).ok()?;
    let gathered = Gathered { document, unanswered: Vec::new() };
    let check = nagios::check(&gathered, max_age);
    Some((exit_of(&findings(&gathered, None)).code(), check.level.code()))
}

impl Arguments {
    fn daemon_within(&self) -> Duration {
        if self.max_age.is_some() { DAEMON_WITHIN } else { PATIENCE }
    }
}
