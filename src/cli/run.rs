//! `snapring run`

use std::sync::Arc;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::cli::setup::{Chatter, Setup, connect};
use crate::cli::{ConfigArgument, Exit, console};
use crate::config;
use crate::daemon::clockwork::CronClockwork;
use crate::daemon::signals::{self, Signal, Signals};
use crate::daemon::{Daemon, World};
use crate::hooks::Processes;

/// Run the daemon: rotate each server on its schedule.
///
/// TERM or INT: start nothing new, let API calls under way end, exit 0; a second one exits at once.
/// HUP: read the configuration again, and keep the old one if the new one is bad. USR1: rotate
/// every enabled server now.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
}

/// Runs the command.
///
/// # Errors
/// How it ended, when not well.
pub async fn run(arguments: Arguments) -> Result<Exit, Exit> {
    let mut signals = signals::listen().map_err(|problem| {
        console::error(&format!("cannot catch signals: {problem}"));
        Exit::Trouble
    })?;
    let setup = Setup::read(&arguments.config, Chatter::AsConfigured)?;
    let client = setup.client()?;
    let world = World {
        clock: setup.clock.clone(),
        exclusion: setup.exclusion()?,
        hooks: Arc::new(Processes { clock: setup.clock.clone() }),
        on_report: Box::new(|_| {}),
    };
    let clockwork = Box::<CronClockwork>::default();
    let daemon =
        Daemon::start(&setup.settings, client, world, clockwork).await.map_err(|problem| {
            console::error(&problem.to_string());
            Exit::Trouble
        })?;
    obey(&mut signals, &daemon, &setup).await;
    tracing::info!(event = "daemon", "ending: nothing new starts, calls under way end");
    let done = CancellationToken::new();
    let ended = done.clone();
    tokio::spawn(async move {
        daemon.shutdown().await;
        ended.cancel();
    });
    loop {
        tokio::select! {
            () = done.cancelled() => return Ok(Exit::Well),
            signal = signals.next() => if signal == Some(Signal::End) {
                tracing::warn!(event = "daemon", "asked a second time: ending at once");
                return Err(Exit::Trouble);
            },
        }
    }
}

/// Does what signals ask for, until one asks to end.
async fn obey(signals: &mut Signals, daemon: &Daemon, setup: &Setup) {
    while let Some(signal) = signals.next().await {
        match signal {
            Signal::End => return,
            Signal::Reload => reload(daemon, setup),
            Signal::RotateAll => {
                tracing::info!(event = "daemon", "rotating every server, as asked");
                daemon.rotate_all().await;
            }
        }
    }
}

/// Reads the configuration again. Whatever is wrong with it, the old one stays in force.
fn reload(daemon: &Daemon, setup: &Setup) {
    let loaded = match config::read(&setup.path) {
        Ok(loaded) => loaded,
        Err(problem) => {
            tracing::error!(event = "reload", "the old configuration stays in force: {problem}");
            return;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!(event = "reload", "{}", warning.message());
    }
    let settings = loaded.settings;
    if settings.api.base_url != setup.settings.api.base_url {
        // The claims between processes are made in its name.
        tracing::error!(
            event = "reload",
            "the old configuration stays in force: a new `base_url` takes effect with the next start"
        );
        return;
    }
    let client = if settings.api == daemon.api_settings() {
        None
    } else {
        match connect(&settings.api, setup.clock.clone()) {
            Ok(client) => Some(client),
            Err(_) => {
                tracing::error!(
                    event = "reload",
                    "the old configuration stays in force: the new [api] does not work"
                );
                return;
            }
        }
    };
    if settings.log != setup.settings.log {
        tracing::warn!(event = "reload", "changes of [log] take effect with the next start");
    }
    daemon.reload(&settings, client);
}
