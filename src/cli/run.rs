//! `snapring run`

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::cli::setup::{Refusal, Setup, connect, log_warnings};
use crate::cli::shutdown::LAST_WORDS;
use crate::cli::{ConfigArgument, Exit, console};
use crate::clock::Clock;
use crate::config;
use crate::config::types::Settings;
use crate::daemon::clockwork::CronClockwork;
use crate::daemon::sd_notify::{self, ServiceManager};
use crate::daemon::service_status::Herald;
use crate::daemon::signals::{self, Signal, Signals};
use crate::daemon::{Daemon, World};
use crate::naming::ServerId;
use crate::notify::Notices;
use crate::notify::http::HttpPost;
use crate::observe::listener::listen;
use crate::provider::client::Client;
use crate::report::Report;
use crate::rotation::hooks::Processes;
use crate::status::Standings;
use crate::store::place::Place;
use crate::store::{Filter, LastOfServer, Store};

/// How long the store is waited for: what it knows at the start, and what is queued for it at the end.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// How often is asked what other processes have rotated.
const HEAR_EVERY: Duration = Duration::from_secs(10);

/// How long what another process has rotated may take to be written.
const WRITTEN_WITHIN: SignedDuration = SignedDuration::from_mins(1);

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
    let mut setup = Setup::read_as_daemon(&arguments.config)?;
    let client = setup.client().map_err(Refusal::log)?;
    let variable = |name: &str| std::env::var_os(name);
    let exclusion = setup.exclusion().map_err(Refusal::log)?;
    let place = Place::of_daemon(setup.settings.store.as_ref(), variable);
    let store = Store::open(place, setup.clock.clone());
    let (first_loaded, known) = tokio::join!(
        store.begin(&setup.settings.servers),
        setup.clock.timeout(STORE_WAIT, store.last_of_each_server()),
    );
    let known = known.unwrap_or_default();
    let standings = {
        let ids: HashSet<ServerId> =
            setup.settings.servers.iter().map(|server| server.id).collect();
        let configured = |it: &&LastOfServer| ids.contains(&it.last.server_id);
        Standings::known(known.iter().filter(configured))
    };
    let witnesses = Arc::new(Witnesses {
        herald: Herald::new(
            ServiceManager::from_environment(variable),
            sd_notify::watchdog(variable),
            setup.clock.clone(),
        ),
        store,
        notices: Notices::start(
            &setup.settings,
            known.into_iter().filter_map(|it| Some((it.last.server_id, it.was_well()?))),
            setup.clock.clone(),
            Arc::new(HttpPost::new(setup.clock.clone())),
        ),
        clock: setup.clock.clone(),
    });
    let told = Arc::clone(&witnesses);
    let world = World {
        clock: setup.clock.clone(),
        exclusion,
        hooks: Arc::new(Processes { clock: setup.clock.clone() }),
        standings,
        first_loaded,
        on_report: Box::new(move |report, at| told.on_report(report, at)),
    };
    let clockwork = Box::<CronClockwork>::default();
    let daemon =
        Daemon::start(&setup.settings, client, world, clockwork).await.map_err(|problem| {
            tracing::error!(event = "daemon", "{problem}");
            Exit::Trouble
        })?;
    // The daemon has them, until a reload: they are not to be kept beyond that.
    setup.settings.servers = Vec::new();
    let _listening = setup.settings.http.listen.map(|address| {
        let listening = listen(address, daemon.view(), setup.clock.clone());
        AbortOnDropHandle::new(tokio::spawn(listening))
    });
    witnesses.herald.ready(&daemon);
    tokio::select! {
        () = obey(&mut signals, &daemon, &setup, &witnesses) => {}
        never = witnesses.hear_of_others(&daemon) => match never {},
        never = witnesses.herald.keep(&daemon) => match never {},
    }
    witnesses.herald.stopping();
    tracing::info!(event = "daemon", "ending: nothing new starts, calls under way end");
    let broken_off = daemon.break_off();
    let done = CancellationToken::new();
    let ended = done.clone();
    tokio::spawn(async move {
        daemon.shutdown().await;
        witnesses.end().await;
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

/// Who is told of each rotation that ended. None of them holds one up.
struct Witnesses {
    herald: Herald,
    store: Store,
    notices: Notices,
    clock: Clock,
}

impl Witnesses {
    fn on_report(&self, report: &Report, at: Timestamp) {
        self.herald.rotated(report);
        self.store.record(report, at);
        self.notices.on_report(report, at);
    }

    /// Learns from the store what other processes have rotated, as a person does who is not content
    /// with how the daemon's rotation ended.
    async fn hear_of_others(&self, daemon: &Daemon) -> Infallible {
        let mut since = self.clock.now().wall;
        loop {
            self.clock.sleep(HEAR_EVERY).await;
            let now = self.clock.now().wall;
            let filter =
                Filter { since: since.checked_sub(WRITTEN_WITHIN).ok(), ..Filter::default() };
            // While the store does not work nothing is known, and nothing is missed.
            let Ok(rotations) = self.store.history(filter).await else { continue };
            since = now;
            for past in rotations.iter().rev().filter(|past| past.ended_at <= now) {
                if daemon.hear_of(past) {
                    self.notices.on_report(&past.report(), past.ended_at);
                }
            }
        }
    }

    /// Lets what is queued go out, and into the store.
    async fn end(&self) {
        tokio::join!(self.notices.end(), self.store.close(STORE_WAIT));
    }
}

/// Does what signals ask for, until one asks to end.
async fn obey(signals: &mut Signals, daemon: &Daemon, setup: &Setup, witnesses: &Witnesses) {
    while let Some(signal) = signals.next().await {
        match signal {
            Signal::End => return,
            Signal::Reload => {
                witnesses.herald.reloading();
                let refused = reload(daemon, setup, witnesses).err();
                witnesses.herald.reloaded(daemon, refused);
            }
            Signal::RotateAll => {
                tracing::info!(event = "daemon", "rotating every server, as asked");
                daemon.rotate_all().await;
            }
        }
    }
}

/// Reads the configuration again. Whatever is wrong with it, the old one stays in force.
fn reload(daemon: &Daemon, setup: &Setup, witnesses: &Witnesses) -> Result<(), String> {
    let (settings, client) = read_again(daemon, setup).inspect_err(|reason| {
        tracing::error!(event = "reload", "the old configuration stays in force: {reason}");
        daemon.refuse(reason);
    })?;
    witnesses.notices.reload(&settings);
    daemon.reload(&settings, client);
    witnesses.store.reload(&settings.servers);
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
        Some(client)
    };
    for (section, changed) in [
        ("[http]", settings.http != setup.settings.http),
        ("[store]", settings.store != setup.settings.store),
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
