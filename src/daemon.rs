//! The daemon: from a settled configuration to rotations, until it is asked to end.
//!
//! The [`scheduler`] wakes it twice a second, and when a start is due. The [`timetable`](crate::timetable)
//! says whose time has come, and each such start becomes a task of its own, so that no server's trouble holds
//! another's up. A claim keeps two rotations of one server apart, across reloads too.
//!
//! [`run()`] is the whole of it as a process: signals, reloads, and those who hear of each rotation.

mod account;
mod announcement;
mod covering;
mod heartbeat;
pub mod listeners;
mod noted;
mod other_processes;
mod reload;
mod resume;
mod run;
pub mod scheduler;
mod sd_notify;
pub mod service_status;
pub(crate) mod signals;
mod stale;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use snapring_core::rotation::CreateSpans;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::call::CallError;
use crate::clock::Clock;
use crate::completion::Sharing;
use crate::config::types::Settings;
use crate::coverage::AccountServers;
use crate::daemon::heartbeat::Heartbeat;
pub use crate::daemon::run::{Connect, Observe, Process, Shutdown, StartError, run};
use crate::daemon::scheduler::{DueWork, Scheduler, SchedulerError};
use crate::daemon::view::{Configuration, View};
use crate::moment::shown;
use crate::naming::{Account, ServerId, Tick};
use crate::pins::Pins;
use crate::plan::AskedBy;
use crate::polling::{CompletionTimes, GATHER};
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::provider::clients::Clients;
use crate::provider::settings::ApiSettings;
use crate::provider::shared_listing::When;
use crate::report::Report;
use crate::ring::Ring;
use crate::rotation::hooks::counted::Counted;
use crate::rotation::hooks::{HookRunner, Processes};
use crate::rotation::lock::{Claim, Exclusion, Quiesced, RestoreUnderWay};
use crate::rotation::memories::Memories;
use crate::rotation::{Context, Order, claim_for, event, rotate_claimed};
use crate::schedule::first_loaded::FirstLoadedTimes;
use crate::server::{Server, common_zone};
use crate::status::Statuses;
use crate::store::{self, StoreHealth};
use crate::timetable::{DropReason, Dropped, Start, Timetable, Upcoming};

/// How many starts may stand between the scheduler and the rotations. What does not fit waits in
/// the timetable for the next beat.
const QUEUE: usize = 65_536;

/// What the daemon needs of the world.
pub struct Dependencies {
    /// The clock.
    pub clock: Clock,
    /// Keeps rotations apart.
    pub exclusion: Exclusion,
    /// Runs hooks.
    pub hooks: Arc<dyn HookRunner>,
    /// Is told how each server stands.
    pub statuses: Statuses,
    /// Whether the store works.
    pub store: StoreHealth,
    /// What is remembered of each server.
    pub memories: Memories,
    /// Since when the schedules count, as far as that is known; the ring tells the rest.
    pub first_loaded: FirstLoadedTimes,
    /// Gets each rotation that ended, and when, after the log.
    pub on_report: OnReport,
}

impl Dependencies {
    /// For a daemon that shares nothing with other processes and remembers nothing of earlier ones.
    #[must_use]
    pub fn in_process(clock: Clock, on_report: OnReport) -> Self {
        Self {
            exclusion: Exclusion::in_process(),
            hooks: Arc::new(Processes::new(clock.clone())),
            statuses: Statuses::default(),
            store: StoreHealth::default(),
            memories: Memories::default(),
            first_loaded: FirstLoadedTimes::default(),
            on_report,
            clock,
        }
    }
}

/// Takes a report, and when its rotation ended.
pub type OnReport = Box<dyn Fn(&Report, Timestamp) + Send + Sync>;

/// A running daemon.
pub struct Daemon {
    shared: Arc<Shared>,
    scheduler: Box<dyn Scheduler>,
    orders: AbortOnDropHandle<()>,
}

struct Shared {
    dependencies: Dependencies,
    timetable: Mutex<Timetable>,
    current: Mutex<Arc<Current>>,
    pins: Pins,
    completion_times: CompletionTimes,
    queue: mpsc::Sender<Ordered>,
    /// Goes from the due work to the loop that takes orders, as an order does.
    pulse: Notify,
    heartbeat: Heartbeat,
    started_at: Timestamp,
    /// Since when each schedule is in force.
    in_force: Mutex<FirstLoadedTimes>,
    configuration: Mutex<Configuration>,
    account_servers: Mutex<BTreeMap<Account, AccountServers>>,
    /// Servers that are not rotated any more, and whose `after` hook is owed.
    not_resumed: Mutex<Vec<Quiesced>>,
    /// Servers that are being restored.
    restores: Mutex<Vec<RestoreUnderWay>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Set when what is under way is not waited for any more.
    broken_off: CancellationToken,
}

/// The configuration in force.
struct Current {
    /// In order, so that what is done for all of them can be replayed.
    servers: BTreeMap<ServerId, Managed>,
    accounts: BTreeMap<Account, ApiSettings>,
    /// Those with a `cover`.
    covered_accounts: BTreeSet<Account>,
    clients: Clients,
}

/// A server with what its account is reached through.
#[derive(Clone)]
struct Managed {
    server: Arc<Server>,
    client: Arc<Client>,
    spans: CreateSpans,
}

/// A rotation that is to begin.
struct Ordered {
    server: Arc<Server>,
    tick: Tick,
    asked_by: AskedBy,
    /// Where it is held already.
    claim: Option<Claim>,
}

impl Daemon {
    /// Sets everything going. Returns when ticks are being watched.
    ///
    /// # Errors
    /// When the scheduler does not start.
    pub async fn start(
        settings: &Settings,
        clients: impl Into<Clients>,
        mut dependencies: Dependencies,
        mut scheduler: Box<dyn Scheduler>,
    ) -> Result<Self, SchedulerError> {
        let (queue, orders) = mpsc::channel(QUEUE);
        let counts = dependencies.statuses.counts().clone();
        dependencies.hooks = Arc::new(Counted::new(dependencies.hooks, counts));
        let now = dependencies.clock.now();
        let shared = Arc::new(Shared {
            timetable: Mutex::new(Timetable::new(&settings.servers, now)),
            current: Mutex::new(Arc::new(Current::of(settings, clients.into()))),
            pins: Pins::default(),
            completion_times: CompletionTimes::default(),
            queue,
            pulse: Notify::new(),
            heartbeat: Heartbeat::begin(&dependencies.clock),
            started_at: now.wall,
            in_force: Mutex::new(dependencies.first_loaded.clone()),
            configuration: Mutex::new(Configuration { read_at: now.wall, refused: None }),
            account_servers: Mutex::default(),
            not_resumed: Mutex::default(),
            restores: Mutex::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            broken_off: CancellationToken::new(),
            dependencies,
        });
        shared.pins.set(&settings.servers);
        let orders = AbortOnDropHandle::new(tokio::spawn(carry_out(Arc::clone(&shared), orders)));
        scheduler.start(Arc::clone(&shared) as Arc<dyn DueWork>).await?;
        let servers = settings.servers.clone();
        shared.tasks.spawn(resume::go_on_with_all(Arc::clone(&shared), servers, now));
        let next = lock(&shared.timetable).earliest();
        let servers = settings.servers.len();
        tracing::info!(
            event = "daemon",
            servers,
            next_tick = next.map(tracing::field::display),
            "ready: watching the ticks of {servers} server{}",
            if servers == 1 { "" } else { "s" }
        );
        Ok(Self { shared, scheduler, orders })
    }

    /// How an account is reached at present; `None`: it is not in use.
    #[must_use]
    pub fn account(&self, account: Account) -> Option<ApiSettings> {
        self.shared.current().accounts.get(&account).cloned()
    }

    /// Whether its scheduler lives.
    #[must_use]
    pub fn heartbeat(&self) -> Heartbeat {
        self.shared.heartbeat.clone()
    }

    /// How many servers there are, and the next rotation.
    #[must_use]
    pub fn outlook(&self) -> (usize, Option<Upcoming>) {
        (self.shared.current().servers.len(), lock(&self.shared.timetable).upcoming())
    }

    /// The time zone that all servers have, else UTC.
    #[must_use]
    pub fn common_zone(&self) -> TimeZone {
        common_zone(self.shared.current().servers.values().map(|it| it.server.as_ref()))
    }

    /// Puts another configuration in force. Rotations under way end under the one they began with, but for
    /// its pins, which hold at once; a schedule that stays neither fires nor misses a tick. `clients`: of the
    /// accounts that are new or whose settings have changed.
    pub fn reload(&self, settings: &Settings, clients: impl IntoIterator<Item = Client>) {
        let before = self.shared.current();
        self.put_in_force(settings, clients);
        let current = self.shared.current();
        for (id, Managed { server, .. }) in &before.servers {
            if !current.servers.contains_key(id) {
                tracing::warn!(
                    event = "reload",
                    server_id = id.number,
                    account = id.account.label(),
                    server = server.name.as_str(),
                    "{} ({id}) is no longer in the configuration, so it is not rotated any more",
                    server.name
                );
            }
        }
        let now = self.shared.dependencies.clock.now();
        *lock(&self.shared.configuration) = Configuration { read_at: now.wall, refused: None };
        tracing::info!(
            event = "reload",
            servers = settings.servers.len(),
            "the configuration was reloaded"
        );
    }

    /// Puts other servers in force, as [`Daemon::reload`] does.
    pub fn put_in_force(&self, settings: &Settings, clients: impl IntoIterator<Item = Client>) {
        let in_use = |account| settings.accounts().any(|it| it.account == account);
        let clients = self.shared.current().clients.with(clients, in_use);
        self.shared.pins.set(&settings.servers);
        self.shared.dependencies.exclusion.serves(&settings.more_accounts);
        let current = Arc::new(Current::of(settings, clients));
        *lock(&self.shared.current) = current;
        let now = self.shared.dependencies.clock.now();
        lock(&self.shared.timetable).set_servers(&settings.servers, now);
        lock(&self.shared.in_force).reload(store::keys(&settings.servers), now.wall);
        let current = self.shared.current();
        self.shared.dependencies.statuses.keep_only(|id| current.servers.contains_key(&id));
        self.shared.completion_times.keep_only(|id| current.servers.contains_key(&id));
        for client in current.clients.all() {
            client.keep_only(|id| current.servers.contains_key(&id));
        }
    }

    /// The configuration was read again and is not put in force, for this reason.
    pub fn refuse(&self, reason: &str) {
        let at = self.shared.dependencies.clock.now().wall;
        lock(&self.shared.configuration).refused = Some((reason.to_owned(), at));
    }

    /// To look at it from elsewhere.
    #[must_use]
    pub fn view(&self) -> View {
        View(Arc::clone(&self.shared))
    }

    /// Rotates every enabled server now, as if a person had asked for each.
    pub async fn rotate_all(&self) {
        let current = self.shared.current();
        // Only for the messages: each rotation draws its tick.
        let tick = Tick::at(self.shared.dependencies.clock.now().wall);
        for Managed { server, .. } in current.servers.values().filter(|it| it.server.enabled) {
            let order = Ordered {
                server: Arc::clone(server),
                tick,
                asked_by: AskedBy::Person,
                claim: None,
            };
            // Fails only when the daemon is ending.
            let _ = self.shared.queue.send(order).await;
        }
    }

    /// To be cancelled once a shutdown is not waited for any more: breaks off what is under way,
    /// which leaves its events.
    #[must_use]
    pub fn break_off(&self) -> CancellationToken {
        self.shared.broken_off.clone()
    }

    /// Ends it soon: starts nothing new, lets API calls under way end, runs the hooks that are owed.
    pub async fn shutdown(self) {
        self.shared.shutdown.cancel();
        self.finish().await;
    }

    /// Ends it when the rotations under way are whole; starts nothing new.
    pub async fn finish(mut self) {
        self.scheduler.stop().await;
        drop(self.orders);
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        tracing::info!(event = "daemon", "stopped");
    }
}

impl Current {
    fn of(settings: &Settings, clients: Clients) -> Self {
        let accounts: BTreeMap<Account, ApiSettings> =
            settings.accounts().map(|it| (it.account, it.clone())).collect();
        let managed = |server: &Arc<Server>| {
            let (account, client) =
                accounts.get(&server.id.account).zip(clients.of(server.id.account))?;
            let (spans, client) = (account.create_spans(), Arc::clone(client));
            Some((server.id, Managed { server: Arc::clone(server), client, spans }))
        };
        let servers: BTreeMap<_, _> = settings.servers.iter().filter_map(managed).collect();
        debug_assert_eq!(servers.len(), settings.servers.len(), "each account in use has a client");
        for client in clients.all() {
            let is_its = |id: &ServerId| id.account == client.whose();
            let own = servers.iter().filter(|(id, it)| is_its(id) && it.server.enabled);
            client.serves(own.count());
        }
        let covered_accounts = settings.covers.iter().map(|it| it.account()).collect();
        Self { servers, accounts, covered_accounts, clients }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DueWork for Shared {
    fn is_due(&self) -> bool {
        let due = lock(&self.timetable).is_due(self.dependencies.clock.now());
        // What is due must be run before the heart may beat.
        if !due {
            self.pulse.notify_one();
        }
        due
    }

    fn next_start_in(&self) -> Option<Duration> {
        let is_shared = self.current().clients.all().any(|it| it.shares_listings());
        let timetable = lock(&self.timetable);
        // The starts that jitter spreads over a fleet wait for the poll: together they share a
        // listing, one by one each would need its own.
        let next = if is_shared { timetable.next_tick() } else { timetable.earliest() };
        let clock = &self.dependencies.clock;
        let wait = next?.duration_since(clock.now().wall);
        // Negative: it is due.
        Some(clock.takes(Duration::try_from(wait).unwrap_or_default()))
    }

    fn run_due(&self) {
        let mut timetable = lock(&self.timetable);
        // Read under the lock: two threads may run this at once, and the timetable must never see
        // an older time after a newer one.
        let now = self.dependencies.clock.now();
        let news = timetable.advance(now);
        if let Some(step) = news.step {
            tracing::warn!(
                event = "clock",
                step_s = step.as_secs(),
                next_tick = timetable.earliest().map(tracing::field::display),
                "the clock was changed, or the machine slept; past ticks are not repeated"
            );
        }
        for (schedule, missed) in news.coalesced {
            tracing::warn!(
                event = "missed",
                missed,
                "several ticks of {:?} in {} are due at once: only the latest runs",
                schedule.text(),
                schedule.zone().iana_name().unwrap_or_default()
            );
        }
        let mut dropped = news.dropped;
        while let Ok(place) = self.queue.try_reserve() {
            let Some(start) = timetable.take(now, &mut dropped) else { break };
            let Start { server, tick } = start;
            place.send(Ordered { server, tick, asked_by: AskedBy::Schedule, claim: None });
        }
        drop(timetable);
        for Dropped { server, tick, why } in dropped {
            let why = match why {
                DropReason::TooLate(late) => {
                    let late = humantime::format_duration(Duration::from_secs(late.as_secs()));
                    format!("was missed {late} ago, longer than catch_up allows: it will not run")
                }
                DropReason::Overtaken(newer) => {
                    let newer = shown(newer.instant(), &server.policy.time_zone);
                    format!("does not run: the tick of {newer} runs instead")
                }
            };
            tracing::warn!(
                event = "missed",
                server_id = server.id.number,
                account = server.id.account.label(),
                server = server.name.as_str(),
                tick = %tick,
                "{}: the tick of {} {why}",
                server.name,
                shown(tick.instant(), &server.policy.time_zone)
            );
        }
        self.pulse.notify_one();
    }
}

impl Shared {
    fn current(&self) -> Arc<Current> {
        Arc::clone(&lock(&self.current))
    }

    /// A server as it is configured at present.
    fn managed(&self, server: ServerId) -> Option<Managed> {
        self.current().servers.get(&server).cloned()
    }

    fn context(&self, managed: &Managed) -> Context {
        Context {
            client: Arc::clone(&managed.client),
            exclusion: self.dependencies.exclusion.clone(),
            hooks: Arc::clone(&self.dependencies.hooks),
            spans: managed.spans,
            pins: self.pins.clone(),
            statuses: self.dependencies.statuses.clone(),
            completion_times: self.completion_times.clone(),
            memories: self.dependencies.memories.clone(),
            on_step: None,
            shutdown: self.shutdown.clone(),
        }
    }

    /// Since when all of a server's schedules have been in force, as far as that is known.
    fn in_force_since(&self, server: &Server) -> Timestamp {
        let book = lock(&self.in_force);
        let latest = server.schedules.iter().map(|it| book.of(server.id, it).by).max();
        latest.filter(|by| *by != Timestamp::MAX).unwrap_or(self.started_at)
    }

    /// A task that ends where it stands once what is under way is not waited for any more.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Boxed: what wraps it would hold room for it several times.
        let (broken_off, task) = (self.broken_off.clone(), Box::pin(task));
        self.tasks.spawn(async move { broken_off.run_until_cancelled(task).await });
    }

    /// What a server holds, beside its rotations; those who ask about it are told.
    async fn look(
        &self,
        client: &Client,
        server: &Server,
        sharing: Sharing,
    ) -> Result<Ring, CallError> {
        let scope = CallContext::of(server, self.shutdown.clone());
        let now = self.dependencies.clock.now().uptime;
        let when = When { earliest: now, latest: now.saturating_add(GATHER) };
        let look = Box::pin(client.look(server.id, &scope, when, sharing));
        let ring = Ring::of(look.await?, &server.policy);
        self.dependencies.statuses.saw(&ring);
        self.dependencies.memories.saw(&ring);
        Ok(ring)
    }

    /// Rotates, once the server is free. The one place where a rotation's end is told.
    async fn rotate(&self, order: Ordered) {
        let Ordered { server, tick, asked_by, claim } = order;
        // The policy in force now, not the one when the tick fell.
        let Some(managed) = self.managed(server.id) else { return };
        let order = |server| Order { server, tick, asked_by, claim: None, by_daemon: true };
        let context = self.context(&managed);
        let claim = match claim_for(&context, &order(Arc::clone(&managed.server)), claim).await {
            Ok(claim) => claim,
            Err(busy) => return self.tell(&busy.report(&managed.server, tick, asked_by)),
        };
        // The wait may have been long: a reload may have changed the policy, or taken the server out.
        let Some(managed) = self.managed(server.id) else { return };
        let order = order(Arc::clone(&managed.server));
        let report = rotate_claimed(&self.context(&managed), order, &claim).await;
        drop(claim);
        self.tell(&report);
    }

    fn tell(&self, report: &Report) {
        let now = self.dependencies.clock.now().wall;
        let trouble = self.dependencies.statuses.ended(report, now);
        event::log(report, trouble);
        (self.dependencies.on_report)(report, now);
    }
}

/// Makes a task of each order, and a beat of each pulse.
async fn carry_out(shared: Arc<Shared>, mut orders: mpsc::Receiver<Ordered>) {
    loop {
        let order = tokio::select! {
            biased;
            () = shared.pulse.notified() => {
                shared.heartbeat.beat(shared.dependencies.clock.now());
                continue;
            }
            order = orders.recv() => order,
        };
        let Some(order) = order else { return };
        if shared.shutdown.is_cancelled() {
            return;
        }
        let (server, tick, asked_by) = (Arc::clone(&order.server), order.tick, order.asked_by);
        let shared = Arc::clone(&shared);
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            let mut rotation = tokio::spawn({
                let shared = Arc::clone(&shared);
                async move { shared.rotate(order).await }
            });
            let ended = tokio::select! {
                biased;
                ended = &mut rotation => ended,
                () = shared.broken_off.cancelled() => {
                    rotation.abort();
                    rotation.await
                }
            };
            // A panic is a failure like any other: it is reported, and affects no other server.
            if let Err(broken) = ended {
                let statuses = &shared.dependencies.statuses;
                let report = event::broken_off(&server, tick, asked_by, statuses, &broken);
                shared.tell(&report);
            }
        });
    }
}

#[cfg(test)]
mod tests;
