//! `snapring run`

use std::sync::Arc;

use clap::Args;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::api::client::Client;
use crate::cli::ending::LAST_WORDS;
use crate::cli::setup::{Refusal, Setup, connect, log_warnings};
use crate::cli::{ConfigArgument, Exit, console};
use crate::config;
use crate::config::types::Settings;
use crate::daemon::clockwork::CronClockwork;
use crate::daemon::herald::Herald;
use crate::daemon::notify::{self, ServiceManager};
use crate::daemon::signals::{self, Signal, Signals};
use crate::daemon::{Daemon, World};
use crate::hooks::Processes;
use crate::notices::Notices;
use crate::notices::post::HttpPost;
use crate::observe::listener::listen;
use crate::standing::Standings;

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
    let setup = Setup::read_as_daemon(&arguments.config)?;
    let client = setup.client().map_err(Refusal::log)?;
    let variable = |name: &str| std::env::var_os(name);
    let herald = Arc::new(Herald::new(
        ServiceManager::from_environment(variable),
        notify::watchdog(variable),
        setup.clock.clone(),
    ));
    let post = Arc::new(HttpPost::new(setup.clock.clone()));
    let notices = Arc::new(Notices::start(&setup.settings, [], setup.clock.clone(), post));
    let (told, noticed, clock) = (Arc::clone(&herald), Arc::clone(&notices), setup.clock.clone());
    let world = World {
        clock: setup.clock.clone(),
        exclusion: setup.exclusion().map_err(Refusal::log)?,
        hooks: Arc::new(Processes { clock: setup.clock.clone() }),
        standings: Standings::default(),
        on_report: Box::new(move |report| {
            told.rotated(report);
            noticed.on_report(report, clock.now().wall);
        }),
    };
    let clockwork = Box::<CronClockwork>::default();
    let daemon =
        Daemon::start(&setup.settings, client, world, clockwork).await.map_err(|problem| {
            tracing::error!(event = "daemon", "{problem}");
            Exit::Trouble
        })?;
    let _listening = setup.settings.http.listen.map(|address| {
        let listening = listen(address, daemon.view(), setup.clock.clone());
        AbortOnDropHandle::new(tokio::spawn(listening))
    });
    herald.ready(&daemon);
    tokio::select! {
        () = obey(&mut signals, &daemon, &setup, &herald, &notices) => {}
        never = herald.keep(&daemon) => match never {},
    }
    herald.stopping();
    tracing::info!(event = "daemon", "ending: nothing new starts, calls under way end");
    let broken_off = daemon.break_off();
    let done = CancellationToken::new();
    let ended = done.clone();
    tokio::spawn(async move {
        daemon.shutdown().await;
        notices.end().await;
        ended.cancel();
    });
    loop {
        tokio::select! {
            () = done.cancelled() => return Ok(Exit::Well),
            signal = signals.next() => if signal == Some(Signal::End) {
                tracing::warn!(event = "daemon", "asked a second time: ending at once");
                broken_off.cancel();
                let _ = setup.clock.timeout(LAST_WORDS, done.cancelled()).await;
                return Err(Exit::Trouble);
            },
        }
    }
}

/// Does what signals ask for, until one asks to end.
async fn obey(
    signals: &mut Signals,
    daemon: &Daemon,
    setup: &Setup,
    herald: &Herald,
    notices: &Notices,
) {
    while let Some(signal) = signals.next().await {
        match signal {
            Signal::End => return,
            Signal::Reload => {
                herald.reloading();
                let refused = reload(daemon, setup, notices).err();
                herald.reloaded(daemon, refused);
            }
            Signal::RotateAll => {
                tracing::info!(event = "daemon", "rotating every server, as asked");
                daemon.rotate_all().await;
            }
        }
    }
}

/// Reads the configuration again. Whatever is wrong with it, the old one stays in force.
fn reload(daemon: &Daemon, setup: &Setup, notices: &Notices) -> Result<(), String> {
    let (settings, client) = read_again(daemon, setup).inspect_err(|reason| {
        tracing::error!(event = "reload", "the old configuration stays in force: {reason}");
        daemon.refuse(reason);
    })?;
    notices.reload(&settings);
    daemon.reload(&settings, client);
    Ok(())
}

/// What the configuration says now, with a client where the account's settings have changed.
fn read_again(daemon: &Daemon, setup: &Setup) -> Result<(Settings, Option<Client>), String> {
    let loaded = config::read(&setup.path).map_err(|problem| problem.to_string())?;
    log_warnings("reload", &loaded.warnings);
    let settings = loaded.settings;
    if settings.api.base_url != setup.settings.api.base_url {
        // The claims between processes are made in its name.
        return Err("a new `base_url` takes effect with the next start".to_owned());
    }
    let client = if settings.api == daemon.api_settings() {
        None
    } else {
        let client = connect(&settings.api, setup.clock.clone())
            .map_err(|problem| format!("the new [api] does not work: {problem}"))?;
        Some(client.counting_into(daemon.view().traffic()))
    };
    for (section, changed) in [
        ("[http]", settings.http != setup.settings.http),
        ("[log]", settings.log != setup.settings.log),
    ] {
        if changed {
            tracing::warn!(
                event = "reload",
                "changes of {section} take effect with the next start"
            );
        }
    }
    Ok((settings, client))
}
