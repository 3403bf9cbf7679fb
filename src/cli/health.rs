//! `snapring health`

use std::time::Duration;

use clap::Args;

use crate::cli::error::CommandError;
use crate::cli::setup::{load, locate};
use crate::cli::{ConfigFile, Exit, console, parse_span, progress};
use crate::clock::Clock;
use crate::config;
use crate::observe::client::ask;

/// Ask the running daemon whether it is alive, as a container's health check does.
///
/// Asks at `[http] listen` of the configuration, even if the rest of it has become invalid. Prints the answer
/// and exits with 0 if all is well, else with 1; with 2 or 78 if the configuration has no address to ask.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Ask whether it is ready, too: token accepted, last reload successful
    #[arg(long)]
    ready: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_span)]
    timeout: Duration,
    #[command(flatten)]
    config: ConfigFile,
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let Some(address) = config::listen_in(&locate(&arguments.config)) else {
        let (path, _) = load(&arguments.config)?;
        return Err(CommandError::Usage(format!(
            "[http] of {} has no `listen`, so there is no address to ask\n\
             hint: set `listen` in [http], and restart the daemon",
            path.display()
        )));
    };
    let asked = if arguments.ready { "/readyz" } else { "/livez" };
    let asks = progress::doing(format!("asking the daemon at {address}"));
    let (status, body) = ask(address, asked, arguments.timeout, &Clock::system()).await?;
    drop(asks);
    console::print(String::from_utf8_lossy(&body).trim_end())?;
    Ok(if status.is_success() { Exit::Well } else { Exit::Trouble })
}
