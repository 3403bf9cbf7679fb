//! One simulated world: some servers, some weeks, many faults, all of them from one seed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use secrecy::SecretString;
use snapring::cli::exit_codes_of_status;
use snapring::clock::Clock;
use snapring::config;
use snapring::config::types::Settings;
use snapring::daemon::Daemon;
use snapring::daemon::listeners::{Listeners, Outside, last_known};
use snapring::daemon::service_status::ServiceStatus;
use snapring::moment::Moment;
use snapring::naming::{ServerId, SnapshotId};
use snapring::observe;
use snapring::provider::client::Client;
use snapring::provider::credentials::Credentials;
use snapring::rotation::lock::{Claim, Exclusion, MemoryRecords};
use snapring::sandbox::in_memory::InMemory;
use snapring::sandbox::provider::{Options, Provider};
use snapring::store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;

use crate::database::{self, SimDatabase};
use crate::digests::{Record, row_line};
use crate::faults::{by_hand, forbidden, random_fault};
use crate::judge::Judge;
use crate::judge::visible::{MAX_AGE, Seen, Sure};
use crate::machine::{Events, SimHooks, SlowScheduler, TOKEN};
use crate::oracle::tick_in;
use crate::policy::{SimPolicy, pick, seed};
use crate::recording_transport::{Death, Watched};
use crate::webhooks::{self, Moods, SERVICES, SimPost};

/// The `timeout` of these worlds. The kernel goes on delivering a request for as long after the process
/// has given up or died.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What was simulated.
#[derive(Debug, Default)]
pub struct Tally {
    rotations: u64,
    whole: u64,
    calls: u64,
    faults: u64,
    crashes: u64,
    days: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.rotations += other.rotations;
        self.whole += other.whole;
        self.calls += other.calls;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.days += other.days;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rotations, whole, calls, faults, crashes, days } = self;
        write!(
            out,
            "{rotations} rotations ({whole} of them whole), {calls} calls, {faults} of them with \
             faults, {crashes} crashes, {days} server days"
        )
    }
}

pub struct Outcome {
    pub violations: Vec<String>,
    pub tally: Tally,
    pub record: Record,
}

/// What a stretch of the daemon's life is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Anything may go wrong, and the process may die.
    Faults,
    /// Whatever goes wrong is about this server.
    TroubleOf(u64),
    /// Nothing goes wrong; at the end, rotations under way are let finish.
    Peace,
}

pub struct Simulation {
    pub random: StdRng,
    /// The provider is slow to list what it has made; that is its nature, and does not end.
    pub slow: bool,
    pub provider: Arc<Mutex<Provider>>,
    pub judge: Arc<Mutex<Judge>>,
    pub policies: Vec<SimPolicy>,
    /// The true time.
    pub now: Timestamp,
    /// How likely people meddle just after a call, with a server that it was about or with any.
    meddling: f64,
    /// How wrong the daemon's clock is.
    offset: SignedDuration,
    /// When and how the process that lives now dies.
    dies_at: Option<Death>,
    death: CancellationToken,
    /// A server that a reload has taken out of the configuration.
    out: Option<ServerId>,
    /// Where a process finds what earlier ones recorded, if it has such a place.
    records: Option<MemoryRecords>,
    /// With the records it outlives a process.
    database: SimDatabase,
    store_mood: database::Mood,
    services: Moods,
    /// The looks of what wakes the daemon.
    beats: Arc<Notify>,
    /// Servers that another process has claimed, and for how many happenings more.
    claimed: BTreeMap<u64, (Claim, u32)>,
}

pub fn run(seed: u64, record: Record) -> Outcome {
    let events = Events::default();
    let _guard =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(events.clone()));
    let mut simulation = Simulation::new(seed, record);
    let begun = simulation.now;
    let end = begun + SignedDuration::from_hours(24 * simulation.random.random_range(7..21));
    let mut crashes = 0;
    while simulation.now < end {
        let hours = simulation.random.random_range(1..96);
        crashes += u64::from(simulation.live(SignedDuration::from_hours(hours), Life::Faults));
        let away = pick(&mut simulation.random, &[1, 1, 2, 5, 30, 600, 3_000, 20_000, 100_000]);
        simulation.now += SignedDuration::from_secs(away);
    }
    simulation.make_peace();
    // Longer than the longest distance of two ticks, and a snapshot.
    simulation.live(SignedDuration::from_hours(8 * 24 + 3), Life::Peace);
    simulation.judge_peace();
    simulation.note_rows();

    let mut judge = simulation.judge.lock().unwrap();
    let provider = simulation.provider.lock().unwrap();
    let told = (events.api(), events.rotation());
    let rotations = judge.reports.len() as u64;
    if told != (judge.exchanges, rotations) {
        let words =
            format!("S7, S8: {told:?} events for {} calls, {rotations} reports", judge.exchanges);
        judge.violations.push(words);
    }
    if events.with_token() > 0 {
        judge.violations.push(format!("S10: {} events show the token", events.with_token()));
    }
    let whole = judge.reports.iter().filter(|it| ["rotated", "adopted"].contains(&it.outcome));
    let whole = whole.count() as u64;
    let servers = simulation.policies.len() as u64;
    let hours = simulation.now.duration_since(begun).as_hours().unsigned_abs();
    Outcome {
        violations: std::mem::take(&mut judge.violations),
        record: std::mem::take(&mut judge.record),
        tally: Tally {
            rotations,
            whole,
            calls: judge.exchanges,
            faults: provider.calls().iter().filter(|call| !call.faults.is_empty()).count() as u64,
            crashes,
            days: servers * hours / 24,
        },
    }
}

impl Simulation {
    pub fn new(seed: u64, record: Record) -> Self {
        Self::build(seed, record, |_| {})
    }

    /// A world in which nothing that is drawn for one server depends on another one.
    pub fn even_tempered(seed: u64, record: Record) -> Self {
        let mut simulation = Self::build(seed, record, |options| {
            options.ignore_filter = false;
            options.completion = *options.completion.end()..=*options.completion.end();
        });
        simulation.slow = false;
        simulation.end_faults();
        for policy in &mut simulation.policies {
            policy.hooks = false;
        }
        simulation
    }

    fn build(seed: u64, record: Record, adjust: impl FnOnce(&mut Options)) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let cap = random.random_range(1..=8);
        // Hard: fleets only, on one tick, in pages, with people who exchange snapshots.
        let hard = std::env::var_os("SNAPRING_SIM_HARD").is_some();
        let counts: &[u64] = if hard { &[12, 20, 40] } else { &[1, 2, 3, 4, 5, 12] };
        let count = pick(&mut random, counts);
        let mut options =
            Options::new(count, SecretString::from(TOKEN), crate::policy::seed(&mut random));
        options.cap = cap;
        let pages = if hard { [Some(7), Some(20), Some(50)] } else { [None, Some(2), Some(7)] };
        options.page_size = pick(&mut random, &pages).filter(|_| random.random_bool(0.7));
        options.bare_array = !hard && random.random_bool(0.1);
        options.ignore_filter = random.random_bool(0.1);
        options.oldest_first = random.random_bool(0.5);
        options.ids_fall = random.random_bool(0.1);
        adjust(&mut options);
        // From the autumn of 2026 to the summer of 2027: both changes of the clocks.
        let begin: Timestamp = "2026-10-15T00:00:00Z".parse().unwrap();
        let now = begin + SignedDuration::from_hours(random.random_range(0..24 * 200));
        let mut policies: Vec<SimPolicy> =
            (0..count).map(|nth| SimPolicy::random(101 + nth, cap, &mut random)).collect();
        if random.random_bool(if hard { 0.9 } else { 0.5 }) {
            // A fleet that is due on one tick.
            let (first, others) = policies.split_at_mut(1);
            for policy in others {
                policy.schedules.clone_from(&first[0].schedules);
                (policy.zone, policy.jitter) = (first[0].zone, first[0].jitter);
            }
        }
        let mut provider = Provider::new(options);
        for policy in &mut policies {
            for nth in 0..random.random_range(0..=cap) {
                let made = now - SignedDuration::from_hours(random.random_range(1..500));
                let name = match random.random_range(0..3) {
                    0 => format!("by-hand-{nth}"),
                    1 => format!("{}-{}", policy.prefix, made.strftime("%Y%m%dT%H0000Z")),
                    _ => format!("{}er-{}", policy.prefix, made.strftime("%Y%m%dT%H0000Z")),
                };
                let status = pick(&mut random, &["completed", "completed", "completed", "failed"]);
                let id = provider.add_snapshot(ServerId::new(policy.id), &name, status, made);
                if random.random_bool(0.15) {
                    policy.pins.push(id.0);
                }
            }
        }
        let mut judge = Judge::default();
        judge.record = record;
        let slow = random.random_bool(0.4);
        let meddling = pick(&mut random, if hard { &[0.03, 0.15] } else { &[0.0, 0.03] });
        let records = random.random_bool(0.6).then(MemoryRecords::default);
        judge.remembers = records.is_some();
        judge.visible.persists = records.is_some();
        let simulation = Self {
            random,
            slow,
            meddling,
            provider: Arc::new(Mutex::new(provider)),
            judge: Arc::new(Mutex::new(judge)),
            policies,
            now,
            offset: SignedDuration::ZERO,
            dies_at: None,
            death: CancellationToken::new(),
            out: None,
            records,
            database: SimDatabase::default(),
            store_mood: database::Mood::Works,
            services: Moods::default(),
            beats: Arc::default(),
            claimed: BTreeMap::new(),
        };
        simulation.end_faults();
        for policy in &simulation.policies {
            simulation.judge.lock().unwrap().tell(|| policy.toml());
        }
        simulation.note_rows();
        simulation
    }

    fn settings(&self) -> Settings {
        let is_in = |policy: &&SimPolicy| Some(ServerId::new(policy.id)) != self.out;
        let servers: String = self.policies.iter().filter(is_in).map(SimPolicy::toml).collect();
        let loaded = config::parse("simulated", &(webhooks::toml() + &servers));
        loaded.unwrap_or_else(|error| panic!("{}", error.render(false))).settings
    }

    /// The daemon runs for a while and then ends, gently or at any await point. Whether it
    /// crashed.
    pub fn live(&mut self, span: SignedDuration, life: Life) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        self.strays_arrive();
        let crashes = life == Life::Faults && self.random.random_bool(0.7);
        self.dies_at = self.draw_death().filter(|_| crashes);
        self.out = None;
        self.note_start(span, life);
        self.judge.lock().unwrap().is_running = true;
        let death = CancellationToken::new();
        self.death = death.clone();
        let story = async {
            let truth = Clock::simulated(self.now);
            let clock = Clock::simulated(self.now + self.offset);
            let (daemon, listeners) = self.start(&truth, &clock, life).await;
            let mut looks = 0;
            let mut left = span;
            loop {
                let nap = SignedDuration::from_secs(match life {
                    Life::Peace => 26_000,
                    _ => self.random.random_range(20..12_000),
                });
                if nap >= left {
                    break;
                }
                left -= nap;
                tokio::select! {
                    biased;
                    () = death.cancelled() => return truth.now().wall,
                    () = truth.sleep(nap.unsigned_abs()) => {}
                }
                looks += 1;
                tokio::select! {
                    biased;
                    () = death.cancelled() => return truth.now().wall,
                    () = self.look(&daemon, &listeners, &truth, looks % 8 == 0) => {}
                }
                match life {
                    Life::TroubleOf(server) => self.trouble_grows(server, &truth),
                    Life::Faults => {
                        self.something_happens(&daemon, &listeners, &truth, &clock).await;
                    }
                    Life::Peace => {}
                }
            }
            tokio::select! {
                    biased;
                () = death.cancelled() => return truth.now().wall,
                () = truth.sleep(left.unsigned_abs()) => {}
            }
            tokio::select! {
                biased;
                () = death.cancelled() => return truth.now().wall,
                () = self.look(&daemon, &listeners, &truth, true) => {}
            }
            if !crashes {
                self.judge.lock().unwrap().visible.stopping = life != Life::Peace;
                match life {
                    Life::Peace => daemon.finish().await,
                    _ => daemon.shutdown().await,
                }
                listeners.drain().await;
            }
            truth.now().wall
        };
        self.now = runtime.block_on(story);
        self.note(|| format!("{} the process ends", self.now));
        self.judge.lock().unwrap().is_running = false;
        // Whatever is under way is dropped where it stands.
        drop(runtime);
        self.strays_arrive();
        self.provider.lock().unwrap().limit_strays(None, self.now + TIMEOUT);
        self.judge.lock().unwrap().crashed();
        crashes
    }

    fn note(&self, line: impl FnOnce() -> String) {
        self.judge.lock().unwrap().note(line);
    }

    fn note_start(&self, span: SignedDuration, life: Life) {
        let life = match life {
            Life::Faults => "faults".to_owned(),
            Life::TroubleOf(server) => format!("trouble of {server}"),
            Life::Peace => "peace".to_owned(),
        };
        let dies_at = self.dies_at.map(|death| {
            let Death { at_create, nth, before, turns, strays } = death;
            format!(
                "nth={nth} at_create={at_create} before={before} turns={turns} strays={strays:?}"
            )
        });
        let (now, offset) = (self.now, self.offset.as_millis());
        let span = span.as_millis();
        self.note(|| format!("{now} start span={span} offset={offset} {life} dies={dies_at:?}"));
    }

    /// What each server has now.
    pub fn note_rows(&self) {
        let mut provider = self.provider.lock().unwrap();
        for policy in &self.policies {
            for row in provider.snapshots(ServerId::new(policy.id), self.now) {
                self.note(|| row_line(&row));
            }
        }
    }

    /// Those that are due by now.
    fn strays_arrive(&self) {
        let mut judge = self.judge.lock().unwrap();
        let mut provider = self.provider.lock().unwrap();
        provider.let_time_pass(self.now);
        judge.examine(provider.acts());
    }

    /// At a call, or some turns of the scheduler after it; `None`: at any time.
    fn draw_death(&mut self) -> Option<Death> {
        let dies_at_a_call = self.random.random_bool(0.8);
        let (at_create, before) = (self.random.random_bool(0.5), self.random.random_bool(0.3));
        let calls = self.random.random_range(1..150);
        let turns = pick(&mut self.random, &[0, 0, 1, 2, 3, 5, 8, 13]);
        let span = Duration::from_millis(self.random.random_range(0..=30_000));
        let strays = (at_create && self.random.random_bool(0.33)).then_some(span);
        let before = before || strays.is_some();
        let judge = self.judge.lock().unwrap();
        let nth = if at_create { judge.creates + calls / 20 + 1 } else { judge.exchanges + calls };
        dies_at_a_call.then_some(Death { at_create, nth, before, turns, strays })
    }

    fn client(&mut self, settings: &Settings, truth: &Clock, clock: &Clock, life: Life) -> Client {
        let recording_transport = Watched {
            inner: InMemory::over(Arc::clone(&self.provider), truth.clone(), TIMEOUT),
            judge: Arc::clone(&self.judge),
            clock: clock.clone(),
            truth: truth.clone(),
            dies_at: self.dies_at,
            death: self.death.clone(),
            meddling: if life == Life::Faults { self.meddling } else { 0.0 },
            random: Mutex::new(StdRng::seed_from_u64(seed(&mut self.random))),
        };
        let credentials = Credentials::known(SecretString::from(TOKEN));
        let seed = seed(&mut self.random);
        Client::new(Box::new(recording_transport), &settings.api, credentials, clock.clone(), seed)
    }

    async fn start(
        &mut self,
        truth: &Clock,
        clock: &Clock,
        life: Life,
    ) -> (Daemon, Arc<Listeners>) {
        let judge = Arc::clone(&self.judge);
        let settings = self.settings();
        let client = self.client(&settings, truth, clock, life);
        {
            let mut judge = judge.lock().unwrap();
            judge.policies(&self.policies);
            judge.woke(clock.now().wall, truth.now().wall);
        }
        let provider = Arc::clone(&self.provider);
        let truth = truth.clone();
        let hooks_random = Mutex::new(StdRng::seed_from_u64(seed(&mut self.random)));
        if self.records.is_none() {
            // What was kept in memory.
            self.database = SimDatabase::default();
            self.database.is_from_now_on(self.store_mood);
        }
        self.note_life(clock);
        let outside = Outside {
            clock: clock.clone(),
            exclusion: match &self.records {
                Some(records) => Exclusion::remembered_in(records, &truth),
                None => Exclusion::in_process(),
            },
            hooks: Arc::new(SimHooks {
                clock: clock.clone(),
                failing: if life == Life::Faults { 0.05 } else { 0.0 },
                random: hooks_random,
                judge: Arc::clone(&judge),
            }),
            post: Arc::new(SimPost {
                moods: self.services.clone(),
                truth: truth.clone(),
                judge: Arc::clone(&judge),
            }),
            store: Store::over(self.database.connect(&truth, &judge), clock.clone()),
            service: ServiceStatus::without_manager(clock.clone()),
        };
        let known = last_known(&outside.store, clock).await;
        let (listeners, mut dependencies) = Listeners::start(&settings, known, outside).await;
        let tell_all = dependencies.on_report;
        dependencies.on_report = Box::new(move |report, at| {
            {
                let mut judge = judge.lock().unwrap();
                judge.note(|| format!("the daemon's clock: {at}"));
                let mut provider = provider.lock().unwrap();
                let now = truth.now();
                judge.reported(report, now.wall, provider.acts());
                let rows = provider.snapshots(report.server_id, now.wall);
                judge.reported_by_then(report, at, now, &rows);
                for id in judge.reported_at_peace(report, now.wall, &rows) {
                    provider.remove_snapshot(SnapshotId(id));
                }
            }
            tell_all(report, at);
        });
        let scheduler = Box::new(SlowScheduler::new(clock, &self.beats));
        let daemon = Daemon::start(&settings, client, dependencies, scheduler).await.unwrap();
        (daemon, listeners)
    }

    /// Tells the judge what the process that begins can know.
    fn note_life(&self, clock: &Clock) {
        let works = match self.store_mood {
            database::Mood::Works => Sure::Yes,
            _ => Sure::No,
        };
        let reads = match self.store_mood {
            database::Mood::Works if self.records.is_some() => Sure::Yes,
            database::Mood::TakesNothing if self.records.is_some() => Sure::Unclear,
            _ => Sure::No,
        };
        let mut judge = self.judge.lock().unwrap();
        let told = self.database.told();
        judge.life_begins(clock.now(), self.offset.is_zero(), reads, works, &told);
    }

    /// The operator looks at the daemon.
    async fn look(&self, daemon: &Daemon, listeners: &Listeners, truth: &Clock, at_page: bool) {
        // The heart of the real scheduler beats twice in a second: this one would seem to stand still.
        self.beats.notified().await;
        truth.sleep(Duration::from_millis(1)).await;
        // As the daemon does by itself every minute.
        listeners.tell_of_stale_servers(&daemon.view());
        let view = daemon.view();
        let (_, document) = observe::get(view.clone(), "/api/v1/status").await;
        let (_, metrics) = observe::get(view.clone(), "/metrics").await;
        let page = match at_page {
            true => Some(observe::get(view.clone(), "/").await.1),
            false => None,
        };
        let now = truth.now();
        {
            let mut judge = self.judge.lock().unwrap();
            let mut provider = self.provider.lock().unwrap();
            for policy in &self.policies {
                let rows = provider.snapshots(ServerId::new(policy.id), now.wall);
                for row in rows {
                    judge.may_be_newest(policy.id, row.created_at);
                }
            }
        }
        let is_in =
            |policy: &&SimPolicy| policy.enabled && Some(ServerId::new(policy.id)) != self.out;
        let seen = Seen {
            exits: exit_codes_of_status(&document, MAX_AGE),
            document,
            metrics,
            page,
            at: Moment { wall: view.now(), uptime: now.uptime },
            truly: now,
            enabled: self.policies.iter().filter(is_in).map(|policy| policy.id).collect(),
            out: self.out.map(|server| server.number),
        };
        self.judge.lock().unwrap().looks(&seen);
    }

    /// Another process works on a server for a while.
    fn is_claimed_elsewhere(&mut self, server: u64, truth: &Clock) {
        let Some(records) = &self.records else { return };
        let Ok(claim) = Exclusion::remembered_in(records, truth).claim(ServerId::new(server))
        else {
            return;
        };
        let happenings = self.random.random_range(1..8);
        self.claimed.insert(server, (claim, happenings));
        let mut judge = self.judge.lock().unwrap();
        judge.held.insert(server);
        judge.tell(|| format!("{} another process has {server}", truth.now().wall));
    }

    /// Those that other processes have had for long enough.
    fn others_let_go(&mut self, all: bool) {
        let mut judge = self.judge.lock().unwrap();
        self.claimed.retain(|server, (_, left)| {
            *left = left.saturating_sub(1);
            let stays = *left > 0 && !all;
            if !stays {
                judge.held.remove(server);
                judge.tell(|| format!("another process lets go of {server}"));
            }
            stays
        });
    }

    /// A service that is told breaks, or is well again.
    fn a_service_changes(&mut self, now: Moment) {
        let (service, _) = pick(&mut self.random, &SERVICES);
        let is_bad = self.random.random_bool(0.5);
        let lost = self.random.random_bool(0.1);
        let mood = match is_bad {
            true if lost => webhooks::Mood::AnswersNever,
            true => pick(&mut self.random, &webhooks::Mood::BAD),
            false => webhooks::Mood::Well,
        };
        self.services.set(service, mood);
        let mut judge = self.judge.lock().unwrap();
        judge.visible.told.service_is(service, mood == webhooks::Mood::Well, now.uptime);
        judge.tell(|| format!("{} {service} is {mood:?}", now.wall));
    }

    /// The store breaks, or is well again.
    fn the_store_changes(&mut self, now: Moment) {
        self.store_mood = match self.random.random_bool(0.7) {
            true => pick(&mut self.random, &database::Mood::BROKEN),
            false => database::Mood::Works,
        };
        self.database.is_from_now_on(self.store_mood);
        let works = match self.store_mood {
            database::Mood::Works => Sure::Yes,
            // What is connected goes on.
            database::Mood::DoesNotOpen => Sure::Unclear,
            _ => Sure::No,
        };
        let mut judge = self.judge.lock().unwrap();
        judge.store_is(works, now.uptime);
        judge.tell(|| format!("{} the store {:?}", now.wall, self.store_mood));
    }

    /// Services, store and other processes are as they should be.
    fn all_else_is_well(&mut self, now: Duration) {
        self.others_let_go(true);
        self.services.all_well();
        let broken = self.store_mood != database::Mood::Works;
        self.store_mood = database::Mood::Works;
        self.database.is_from_now_on(self.store_mood);
        let mut judge = self.judge.lock().unwrap();
        judge.visible.told.all_services_are_well(now);
        if broken {
            judge.store_is(Sure::Yes, now);
        }
    }

    /// Calls about one server go wrong, and people work on it.
    fn trouble_grows(&mut self, server: u64, truth: &Clock) {
        let now = truth.now().wall;
        self.others_let_go(false);
        match self.random.random_range(0..5) {
            4 => self.is_claimed_elsewhere(server, truth),
            0 => by_hand(&self.provider, &self.judge, server, now, &mut self.random),
            _ => {
                let fault = loop {
                    let fault = random_fault(&mut self.random);
                    // This means the whole account.
                    if !fault.contains("429") {
                        break format!("{fault},server={server}");
                    }
                };
                self.judge.lock().unwrap().tell(|| format!("{now} fault {fault}"));
                self.provider.lock().unwrap().add_fault(fault.parse().unwrap());
            }
        }
    }

    async fn something_happens(
        &mut self,
        daemon: &Daemon,
        listeners: &Listeners,
        truth: &Clock,
        clock: &Clock,
    ) {
        self.others_let_go(false);
        let random = &mut self.random;
        let server = self.policies[random.random_range(0..self.policies.len())].id;
        let now = truth.now().wall;
        match random.random_range(0..120) {
            0..45 => {
                let fault = random_fault(random);
                self.judge.lock().unwrap().tell(|| format!("{now} fault {fault}"));
                self.provider.lock().unwrap().add_fault(fault.parse().unwrap());
            }
            45..60 => {
                self.judge.lock().unwrap().tell(|| format!("{now} all faults end"));
                self.end_faults();
                self.all_else_is_well(truth.now().uptime);
            }
            60..80 => by_hand(&self.provider, &self.judge, server, now, random),
            80..86 => {
                // Asleep, or set by NTP or a person; by hours, by years, either way.
                let hours = pick(&mut self.random, &[-87_600, -30, -3, -1, 1, 2, 9, 30, 87_600]);
                let step = SignedDuration::from_hours(hours) + SignedDuration::from_secs(17);
                self.judge
                    .lock()
                    .unwrap()
                    .tell(|| format!("{now} the daemon's clock steps {hours} h"));
                clock.step(step);
                self.offset += step;
                self.judge.lock().unwrap().visible.clock_was_set = true;
                self.judge.lock().unwrap().clock_went_back |= hours < 0;
                if self.offset.abs() > SignedDuration::from_hours(40)
                    || self.random.random_bool(0.3)
                {
                    clock.step(-self.offset);
                    self.judge.lock().unwrap().clock_went_back = true;
                    self.offset = SignedDuration::ZERO;
                }
                self.note(|| format!("offset={}", self.offset.as_millis()));
                self.judge.lock().unwrap().woke(clock.now().wall, truth.now().wall);
            }
            86..91 => {
                let hours = self.random.random_range(1..60);
                self.judge.lock().unwrap().tell(|| format!("{now} asleep for {hours} h"));
                clock.sleep_through(SignedDuration::from_hours(hours));
                truth.sleep_through(SignedDuration::from_hours(hours));
                self.judge.lock().unwrap().woke(clock.now().wall, truth.now().wall);
            }
            91..96 => {
                let nth = self.random.random_range(0..self.policies.len());
                let edited = ServerId::new(self.policies[nth].id);
                // Taken out for a while, or edited.
                let leaves = self.policies.len() > 1 && self.random.random_bool(0.3);
                let was_out = std::mem::replace(&mut self.out, leaves.then_some(edited));
                let was_enabled = self.policies[nth].enabled;
                if leaves {
                    self.judge.lock().unwrap().tell(|| format!("{now} reload without {edited}"));
                } else {
                    let present: Vec<u64> = {
                        let mut provider = self.provider.lock().unwrap();
                        provider.snapshots(edited, now).iter().map(|row| row.id.0).collect()
                    };
                    self.policies[nth] = self.policies[nth].edited(&present, &mut self.random);
                    self.judge
                        .lock()
                        .unwrap()
                        .tell(|| format!("{now} reload: {}", self.policies[nth].toml()));
                    self.judge.lock().unwrap().policies(&self.policies[nth..=nth]);
                }
                let settings = self.settings();
                // What is said of the account may have changed too.
                let client = self.random.random_bool(0.5);
                self.note(|| format!("another client: {client}"));
                let client = client.then(|| self.client(&settings, truth, clock, Life::Faults));
                let forgets = leaves || self.policies[nth].enabled != was_enabled;
                {
                    let mut judge = self.judge.lock().unwrap();
                    let at = clock.now().wall;
                    judge.is_edited(edited.number, leaves, forgets, at);
                    if let Some(was_out) = was_out {
                        judge.is_edited(was_out.number, true, true, at);
                    }
                }
                listeners.reload(daemon, &settings, client.into_iter().collect());
            }
            96..105 => self.a_service_changes(truth.now()),
            105..108 => self.the_store_changes(truth.now()),
            108..112 => {
                let servers: Vec<u64> = self.policies.iter().map(|policy| policy.id).collect();
                for fault in forbidden(&servers, &mut self.random) {
                    self.judge.lock().unwrap().tell(|| format!("{now} fault {fault}"));
                    self.provider.lock().unwrap().add_fault(fault.parse().unwrap());
                }
            }
            112..117 => self.is_claimed_elsewhere(server, truth),
            _ => {
                self.judge.lock().unwrap().tell(|| format!("{now} rotate all"));
                daemon.rotate_all().await;
            }
        }
    }

    fn end_faults(&self) {
        let mut provider = self.provider.lock().unwrap();
        provider.faults().clear();
        if self.slow {
            provider.add_fault("create:late=12s,chance=0.6".parse().unwrap());
        }
    }

    /// Faults end, clocks are put right, and the provider gives up on what it could not finish.
    fn make_peace(&mut self) {
        // What was under way at the end of the last life has arrived by then, or never will.
        self.now += TIMEOUT;
        self.strays_arrive();
        self.all_else_is_well(Duration::ZERO);
        let mut provider = self.provider.lock().unwrap();
        provider.faults().clear();
        self.judge.lock().unwrap().clock_went_back |= self.offset.is_positive();
        self.offset = SignedDuration::ZERO;
        for policy in &mut self.policies {
            policy.enabled = true;
        }
        // A wrong clock may have made names of years to come; they are as good as others.
        for policy in &self.policies {
            for row in provider.snapshots(ServerId::new(policy.id), self.now) {
                let tick = tick_in(&policy.prefix, &row.name);
                match row.status.as_str() {
                    // What is not there when its tick comes is made then.
                    "in_progress" | "failed" if tick.is_some_and(|tick| tick > self.now) => {
                        provider.remove_snapshot(row.id);
                    }
                    "in_progress" => {
                        provider.set_status(row.id, "failed");
                    }
                    "completed" | "failed" => {}
                    _ => {
                        provider.remove_snapshot(row.id);
                    }
                }
            }
        }
        self.judge.lock().unwrap().peace_begins(self.now);
    }

    fn judge_peace(&mut self) {
        let mut provider = self.provider.lock().unwrap();
        for policy in &self.policies {
            let rows = provider.snapshots(ServerId::new(policy.id), self.now);
            self.judge.lock().unwrap().every_tick_was_run(policy.id, &rows, self.now);
        }
    }
}
