//! The whole of the daemon: it starts, obeys signals, and shuts down.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::config::types::Settings;
use crate::daemon::Daemon;
use crate::daemon::account::keep_listing_servers;
use crate::daemon::announcement::Announcement;
use crate::daemon::covering::{Changed, Covering};
use crate::daemon::listeners::{Listeners, Outside, last_known};
use crate::daemon::noted::look_for_noted_servers;
use crate::daemon::other_processes::hear_of_others;
use crate::daemon::reload::Reload;
use crate::daemon::scheduler::{CronScheduler, SchedulerError};
use crate::daemon::sd_notify::{self, ServiceManager};
use crate::daemon::service_status::ServiceStatus;
use crate::daemon::signals::{LAST_WORDS, Signal, Signals};
use crate::daemon::stale::tell_what_no_report_shows;
use crate::daemon::view::View;
use crate::notify::http::Post;
use crate::provider::client::Client;
use crate::provider::clients::Clients;
use crate::provider::connect::ConnectError;
use crate::provider::settings::ApiSettings;
use crate::rotation::hooks::HookRunner;
use crate::rotation::lock::{Exclusion, LockError};
use crate::store::Store;
use crate::store::place::Place;

/// What the daemon needs beside its settings.
pub struct Process {
    /// The clock.
    pub clock: Clock,
    /// The file that a reload reads.
    pub configuration: PathBuf,
    /// Reads a variable of the environment.
    pub variable: fn(&str) -> Option<OsString>,
    /// The signals. They are caught before the configuration is read: one that comes meanwhile waits.
    pub signals: Signals,
    /// Makes a client.
    pub connect: Connect,
    /// Runs hooks.
    pub hooks: Arc<dyn HookRunner>,
    /// Sends notices.
    pub post: Arc<dyn Post>,
    /// Shows the daemon where `[http] listen` says.
    pub observe: Observe,
}

/// Makes a client for an account's settings, at the start and when a reload changes them.
pub type Connect = Box<dyn Fn(&ApiSettings) -> Result<Client, ConnectError> + Send + Sync>;

/// Shows a daemon at an address, to those who call it by that or one of these names, for as long as it is
/// polled.
pub type Observe =
    Box<dyn FnOnce(SocketAddr, Vec<String>, View) -> BoxFuture<'static, Infallible> + Send + Sync>;

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no client.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Rotations cannot be kept apart.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Ticks cannot be watched.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
}

impl StartError {
    /// Whether the configuration must change, not the machine.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Connect(problem) => problem.is_configuration(),
            Self::Lock(_) | Self::Scheduler(_) => false,
        }
    }
}

/// How the daemon shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Calls under way have ended, and what was queued is written and sent.
    Whole,
    /// It was asked a second time, and what was under way was broken off.
    BrokenOff,
}

/// Runs the daemon until a signal asks it to end.
///
/// # Errors
/// When it does not start. Nothing has been rotated then.
pub async fn run(settings: Settings, process: Process) -> Result<Shutdown, StartError> {
    let Process { clock, variable, mut signals, connect, .. } = process;
    let clients = settings.accounts().map(&connect).collect::<Result<Vec<_>, _>>()?;
    let address = settings.api.base_url.as_str();
    let exclusion = Exclusion::of_this_machine(address, "run", &clock, variable)?;
    exclusion.serves(&settings.more_accounts);
    let place = Place::of_daemon(settings.store.as_ref(), variable);
    let announcement = Announcement::new(exclusion.clone(), place.clone());
    let store = Store::open(place, clock.clone());
    let known = last_known(&store, &clock).await;
    let covering = Covering::begin(settings, &known, clock.now().wall);
    let mut settings = covering.settings();
    let service = ServiceStatus::new(
        ServiceManager::from_environment(variable),
        sd_notify::watchdog(variable),
        clock.clone(),
    );
    let outside = Outside {
        clock: clock.clone(),
        exclusion,
        hooks: process.hooks,
        post: process.post,
        store,
        service,
    };
    let (listeners, dependencies) = Listeners::start(&settings, known, outside).await;
    let scheduler = Box::<CronScheduler>::default();
    let daemon = Daemon::start(&settings, Clients::new(clients), dependencies, scheduler).await?;
    announcement.show(&settings);
    // The daemon has them, until a reload: they are not to be kept beyond that.
    settings.servers = Vec::new();
    let _observed = settings.http.listen.map(|address| {
        AbortOnDropHandle::new(tokio::spawn((process.observe)(
            address,
            settings.http.hosts.clone(),
            daemon.view(),
        )))
    });
    let configuration = process.configuration;
    let reload = Reload { configuration, started_with: settings, connect, announcement, covering };
    let reload = Arc::new(reload);
    let put_in_force = |changed: Changed| reload.cover(&daemon, &listeners, &changed);
    listeners.service.ready(&daemon);
    tokio::select! {
        () = obey(&mut signals, &daemon, &reload, &listeners, &clock) => {}
        never = hear_of_others(&daemon, &listeners, &clock) => match never {},
        never = look_for_noted_servers(&daemon, &clock) => match never {},
        never = tell_what_no_report_shows(&daemon, &listeners, &clock) => match never {},
        never = keep_listing_servers(&daemon, &reload.covering, put_in_force, &clock) => match never {},
        never = listeners.notices.keep_reminding() => match never {},
        never = listeners.service.keep(&daemon) => match never {},
    }
    Ok(shut_down(daemon, listeners, signals, &clock).await)
}

/// Does what signals ask for, until one asks to end.
async fn obey(
    signals: &mut Signals,
    daemon: &Daemon,
    reload: &Arc<Reload>,
    listeners: &Listeners,
    clock: &Clock,
) {
    // Those that came during a reload.
    let mut held = VecDeque::new();
    loop {
        let next = match held.pop_front() {
            Some(signal) => Some(signal),
            None => signals.next().await,
        };
        match next {
            None | Some(Signal::End) => return,
            Some(Signal::Reload) => {
                listeners.service.reloading();
                let reloaded = reload.reload(daemon, listeners, clock);
                let refused = tokio::select! {
                    reloaded = reloaded => reloaded.err(),
                    () = until_end(signals, &mut held) => return,
                };
                listeners.service.reloaded(daemon, refused.map(|reason| reason.to_string()));
            }
            Some(Signal::RotateAll) => {
                tracing::info!(event = "daemon", "rotating every server, as asked");
                daemon.rotate_all().await;
            }
        }
    }
}

/// Waits for a signal that asks to end, and holds the others.
async fn until_end(signals: &mut Signals, held: &mut VecDeque<Signal>) {
    while let Some(signal) = signals.next().await {
        match signal {
            Signal::End => return,
            // A signal that is held already asks for the same.
            Signal::Reload | Signal::RotateAll if held.contains(&signal) => {}
            Signal::Reload | Signal::RotateAll => held.push_back(signal),
        }
    }
}

/// Starts nothing new and waits for what is under way, unless a second signal breaks it off.
async fn shut_down(
    daemon: Daemon,
    listeners: Arc<Listeners>,
    mut signals: Signals,
    clock: &Clock,
) -> Shutdown {
    listeners.service.stopping();
    tracing::info!(
        event = "daemon",
        "stopping: nothing new starts; API calls under way may finish"
    );
    let broken_off = daemon.break_off();
    let done = CancellationToken::new();
    let ended = done.clone();
    tokio::spawn(async move {
        daemon.shutdown().await;
        listeners.drain().await;
        ended.cancel();
    });
    loop {
        tokio::select! {
            () = done.cancelled() => return Shutdown::Whole,
            signal = signals.next() => if signal == Some(Signal::End) {
                tracing::warn!(event = "daemon", "second signal: stopping at once");
                broken_off.cancel();
                let _ = clock.timeout(LAST_WORDS, done.cancelled()).await;
                return Shutdown::BrokenOff;
            },
        }
    }
}
