//! One simulated world: some servers, some weeks, many misfortunes, all of them from one seed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use secrecy::SecretString;
use snapring::api::client::Client;
use snapring::api::credentials::Credentials;
use snapring::clock::Clock;
use snapring::config;
use snapring::config::types::Settings;
use snapring::daemon::clockwork::{Agenda, Clockwork, ClockworkError, Work};
use snapring::daemon::{Daemon, World};
use snapring::exclusion::Exclusion;
use snapring::hooks::{HookError, HookRunner, Invocation, Running};
use snapring::naming::ServerId;
use snapring::sandbox::in_memory::InMemory;
use snapring::sandbox::provider::{Options, Provider};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::judge::{Death, Judge, Watched, server_id};
use crate::policy::{SimPolicy, pick, seed};

const TOKEN: &str = "vps_simulated";

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
    pub story: Vec<String>,
}

/// Wakes the daemon less often than the real clockwork: weeks have many half seconds.
struct SlowClockwork {
    clock: Clock,
    beating: Option<AbortOnDropHandle<()>>,
}

impl Clockwork for SlowClockwork {
    fn start(&mut self, agenda: Arc<dyn Agenda>) -> Work<'_, Result<(), ClockworkError>> {
        let clock = self.clock.clone();
        self.beating = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                clock.sleep(Duration::from_secs(20)).await;
                if agenda.is_due() {
                    agenda.run_due();
                }
            }
        })));
        Box::pin(async { Ok(()) })
    }

    fn stop(&mut self) -> Work<'_, ()> {
        self.beating = None;
        Box::pin(async {})
    }
}

/// Hooks that take a while and sometimes fail.
struct SimHooks {
    clock: Clock,
    random: Mutex<StdRng>,
}

impl HookRunner for SimHooks {
    fn run(&self, invocation: Invocation) -> Running<'_> {
        let (takes, fails) = {
            let mut random = self.random.lock().unwrap();
            (random.random_range(0..90), random.random_bool(0.05))
        };
        let error = HookError { moment: invocation.moment, problem: "failed".to_owned() };
        Box::pin(async move {
            self.clock.sleep(Duration::from_secs(takes)).await;
            if fails { Err(error) } else { Ok(()) }
        })
    }
}

/// Counts the events of S7 and S8.
#[derive(Clone, Default)]
struct Events {
    api: Arc<AtomicU64>,
    rotation: Arc<AtomicU64>,
}

impl<S: tracing::Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Kind<'a>(&'a Events);
        impl tracing::field::Visit for Kind<'_> {
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                match (field.name(), value) {
                    ("event", "api") => self.0.api.fetch_add(1, Ordering::Relaxed),
                    ("event", "rotation") => self.0.rotation.fetch_add(1, Ordering::Relaxed),
                    _ => 0,
                };
            }
            fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn fmt::Debug) {}
        }
        event.record(&mut Kind(self));
    }
}

struct Simulation {
    random: StdRng,
    /// The provider is slow to list what it has made; that is its nature, and does not end.
    slow: bool,
    provider: Arc<Mutex<Provider>>,
    judge: Arc<Mutex<Judge>>,
    policies: Vec<SimPolicy>,
    /// The true time.
    now: Timestamp,
    /// How wrong the daemon's clock is.
    offset: SignedDuration,
}

pub fn run(seed: u64, verbose: bool) -> Outcome {
    let events = Events::default();
    let _guard =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(events.clone()));
    let mut simulation = Simulation::new(seed, verbose);
    let begun = simulation.now;
    let end = begun + SignedDuration::from_hours(24 * simulation.random.random_range(7..21));
    let mut crashes = 0;
    while simulation.now < end {
        let hours = simulation.random.random_range(1..96);
        crashes += u64::from(simulation.live(SignedDuration::from_hours(hours), true));
        let away = pick(&mut simulation.random, &[1, 1, 2, 5, 30, 600, 3_000, 20_000, 100_000]);
        simulation.now += SignedDuration::from_secs(away);
    }
    simulation.make_peace();
    // Longer than the longest distance of two ticks, and a snapshot.
    simulation.live(SignedDuration::from_hours(8 * 24 + 3), false);
    simulation.judge_peace();

    let mut judge = simulation.judge.lock().unwrap();
    let provider = simulation.provider.lock().unwrap();
    let told = (events.api.load(Ordering::Relaxed), events.rotation.load(Ordering::Relaxed));
    let rotations: u64 = judge.outcomes.values().sum();
    if told != (judge.exchanges, rotations) {
        let words =
            format!("S7, S8: {told:?} events for {} calls, {rotations} reports", judge.exchanges);
        judge.violations.push(words);
    }
    let whole = ["rotated", "adopted"].iter().filter_map(|it| judge.outcomes.get(*it)).sum();
    let servers = simulation.policies.len() as u64;
    let hours = simulation.now.duration_since(begun).as_hours().unsigned_abs();
    Outcome {
        violations: std::mem::take(&mut judge.violations),
        story: judge.story.take().unwrap_or_default(),
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
    fn new(seed: u64, verbose: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let cap = random.random_range(1..=8);
        let count = random.random_range(1..=5);
        let mut options =
            Options::new(count, SecretString::from(TOKEN), crate::policy::seed(&mut random));
        options.cap = cap;
        options.page_size = pick(&mut random, &[None, None, Some(2)]);
        options.bare_array = random.random_bool(0.1);
        options.ignore_filter = random.random_bool(0.1);
        // From the autumn of 2026 to the summer of 2027: both changes of the clocks.
        let begin: Timestamp = "2026-10-15T00:00:00Z".parse().unwrap();
        let now = begin + SignedDuration::from_hours(random.random_range(0..24 * 200));
        let mut policies: Vec<SimPolicy> =
            (0..count).map(|nth| SimPolicy::random(101 + nth, cap, &mut random)).collect();
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
                let id = provider.add_snapshot(server_id(policy.id), &name, status, made);
                if random.random_bool(0.15) {
                    policy.pins.push(id.0);
                }
            }
        }
        let mut judge = Judge::default();
        judge.story = verbose.then(Vec::new);
        let slow = random.random_bool(0.4);
        let simulation = Self {
            random,
            slow,
            provider: Arc::new(Mutex::new(provider)),
            judge: Arc::new(Mutex::new(judge)),
            policies,
            now,
            offset: SignedDuration::ZERO,
        };
        simulation.end_faults();
        for policy in &simulation.policies {
            simulation.judge.lock().unwrap().tell(|| policy.toml());
        }
        simulation
    }

    fn settings(&self) -> Settings {
        let servers: String = self.policies.iter().map(SimPolicy::toml).collect();
        let loaded = config::parse("simulated", &servers);
        loaded.unwrap_or_else(|error| panic!("{}", error.render(false))).settings
    }

    /// The daemon runs for a while and then ends, gently or at any await point. Whether it
    /// crashed.
    fn live(&mut self, span: SignedDuration, eventful: bool) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let crashes = eventful && self.random.random_bool(0.7);
        let death = CancellationToken::new();
        let dies = crashes && self.random.random_bool(0.8);
        {
            let (at_create, before) = (self.random.random_bool(0.5), self.random.random_bool(0.3));
            let calls = self.random.random_range(1..150);
            let mut judge = self.judge.lock().unwrap();
            let nth =
                if at_create { judge.creates + calls / 20 + 1 } else { judge.exchanges + calls };
            judge.dies_at = dies.then_some(Death { at_create, nth, before });
        }
        let life = async {
            let truth = Clock::simulated(self.now);
            let clock = Clock::simulated(self.now + self.offset);
            let daemon = self.start(&truth, &clock, &death).await;
            let mut left = span;
            loop {
                let nap = SignedDuration::from_secs(self.random.random_range(20..12_000));
                if !eventful || nap >= left {
                    break;
                }
                left -= nap;
                tokio::select! {
                    () = death.cancelled() => return truth.now().wall,
                    () = truth.sleep(nap.unsigned_abs()) => {}
                }
                self.something_happens(&daemon, &truth, &clock).await;
            }
            tokio::select! {
                () = death.cancelled() => return truth.now().wall,
                () = truth.sleep(left.unsigned_abs()) => {}
            }
            if !eventful {
                daemon.finish().await;
            } else if !crashes {
                daemon.shutdown().await;
            }
            truth.now().wall
        };
        self.now = runtime.block_on(life);
        // Whatever is under way is dropped where it stands.
        drop(runtime);
        let mut judge = self.judge.lock().unwrap();
        judge.examine(self.provider.lock().unwrap().acts());
        judge.crashed();
        crashes
    }

    async fn start(&mut self, truth: &Clock, clock: &Clock, death: &CancellationToken) -> Daemon {
        let timeout = Duration::from_secs(30);
        let inner = InMemory::over(Arc::clone(&self.provider), truth.clone(), timeout);
        let judge = Arc::clone(&self.judge);
        let watched = Watched {
            inner,
            judge: Arc::clone(&judge),
            clock: clock.clone(),
            death: death.clone(),
        };
        let settings = self.settings();
        judge.lock().unwrap().policies(&self.policies);
        let credentials = Credentials::known(SecretString::from(TOKEN));
        let client = Client::new(
            Box::new(watched),
            &settings.api,
            credentials,
            clock.clone(),
            seed(&mut self.random),
        );
        let provider = Arc::clone(&self.provider);
        let hooks_random = Mutex::new(StdRng::seed_from_u64(seed(&mut self.random)));
        let world = World {
            clock: clock.clone(),
            exclusion: Exclusion::in_process(),
            hooks: Arc::new(SimHooks { clock: clock.clone(), random: hooks_random }),
            on_report: Box::new(move |report| {
                let mut judge = judge.lock().unwrap();
                judge.reported(report, provider.lock().unwrap().acts());
            }),
        };
        let clockwork = Box::new(SlowClockwork { clock: clock.clone(), beating: None });
        Daemon::start(&settings, client, world, clockwork).await.unwrap()
    }

    async fn something_happens(&mut self, daemon: &Daemon, truth: &Clock, clock: &Clock) {
        let random = &mut self.random;
        let server = self.policies[random.random_range(0..self.policies.len())].id;
        let now = truth.now().wall;
        match random.random_range(0..100) {
            0..45 => {
                let fault = random_fault(random);
                self.judge.lock().unwrap().tell(|| format!("{now} fault {fault}"));
                self.provider.lock().unwrap().add_fault(fault.parse().unwrap());
            }
            45..60 => {
                self.judge.lock().unwrap().tell(|| format!("{now} all faults end"));
                self.end_faults();
            }
            60..80 => self.by_hand(server, now),
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
                self.judge.lock().unwrap().clock_went_back |= hours < 0;
                if self.offset.abs() > SignedDuration::from_hours(40)
                    || self.random.random_bool(0.3)
                {
                    clock.step(-self.offset);
                    self.judge.lock().unwrap().clock_went_back = true;
                    self.offset = SignedDuration::ZERO;
                }
            }
            86..91 => {
                let hours = self.random.random_range(1..60);
                self.judge.lock().unwrap().tell(|| format!("{now} asleep for {hours} h"));
                clock.step(SignedDuration::from_hours(hours));
                truth.step(SignedDuration::from_hours(hours));
            }
            91..96 => {
                let nth = self.random.random_range(0..self.policies.len());
                self.policies[nth] = self.policies[nth].edited(&mut self.random);
                self.judge
                    .lock()
                    .unwrap()
                    .tell(|| format!("{now} reload: {}", self.policies[nth].toml()));
                self.judge.lock().unwrap().policies(&self.policies[nth..=nth]);
                daemon.reload(&self.settings(), None);
            }
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

    /// Somebody works on the snapshots.
    fn by_hand(&mut self, server: u64, now: Timestamp) {
        let mut provider = self.provider.lock().unwrap();
        let rows = provider.snapshots(ServerId(server), now);
        let any = (!rows.is_empty()).then(|| rows[self.random.random_range(0..rows.len())].clone());
        let what = match (self.random.random_range(0..10), any) {
            (0..5, _) if rows.len() < 9 => {
                provider.add_snapshot(ServerId(server), "made-by-hand", "completed", now);
                "made one".to_owned()
            }
            (0..8, Some(row)) => {
                provider.remove_snapshot(row.id);
                format!("removed {}", row.name)
            }
            (_, Some(row)) => {
                let word = pick(&mut self.random, &["failed", "archived", "completed"]);
                provider.set_status(row.id, word);
                format!("{} is {word} now", row.name)
            }
            _ => return,
        };
        self.judge.lock().unwrap().by_hand(server, now, what);
    }

    /// Faults end, clocks are put right, and the provider gives up on what it could not finish.
    fn make_peace(&mut self) {
        let mut provider = self.provider.lock().unwrap();
        provider.faults().clear();
        self.judge.lock().unwrap().clock_went_back |= self.offset.is_positive();
        self.offset = SignedDuration::ZERO;
        // A wrong clock may have made names of years to come; they are as good as others.
        for policy in &self.policies {
            for row in provider.snapshots(ServerId(policy.id), self.now) {
                match row.status.as_str() {
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
        self.judge.lock().unwrap().tell(|| format!("{} peace", self.now));
    }

    fn judge_peace(&mut self) {
        let mut provider = self.provider.lock().unwrap();
        for policy in &self.policies {
            let rows = provider.snapshots(ServerId(policy.id), self.now);
            self.judge.lock().unwrap().at_peace(policy.id, &rows, self.now);
        }
    }
}

fn random_fault(random: &mut StdRng) -> String {
    let operation = pick(random, &["any", "list", "create", "delete"]);
    let effect = match operation {
        "create" => pick(
            random,
            &[
                "drop-after",
                "drop-before",
                "status=500",
                "status-after=500",
                "status=400",
                "status=409",
                "status=429,retry-after=40",
                "torn",
                "empty",
                "garbage",
                "huge",
                "fails",
                "never-completes",
                "vanishes",
                "late=12s",
                "hang",
                "latency=25s",
                "latency=50s",
            ],
        ),
        "delete" => pick(
            random,
            &[
                "drop-after",
                "drop-before",
                "status=500",
                "status-after=500",
                "status=409",
                "status=404",
                "status=429",
                "status-after=200",
                "linger=12s",
                "hang",
                "latency=40s",
            ],
        ),
        "list" => pick(
            random,
            &[
                "torn",
                "empty",
                "garbage",
                "huge",
                "wrong-count",
                "foreign-next",
                "status=500",
                "status=429,retry-after=90",
                "status=403",
                "hang",
                "latency=20s",
                "drop-before",
            ],
        ),
        _ => pick(
            random,
            &[
                "latency=2s",
                "latency=29s",
                "status=500",
                "hang",
                "status=401",
                "drop-after",
                "status=429",
            ],
        ),
    };
    let condition = pick(
        random,
        &[",times=1", ",times=3", ",chance=0.3", ",chance=0.05", ",chance=0.8,times=20"],
    );
    format!("{operation}:{effect}{condition}")
}
