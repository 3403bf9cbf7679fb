//! The whole daemon on a paused clock and a provider in memory.

use std::os::unix::net::UnixDatagram;

use jiff::SignedDuration;
use secrecy::SecretString;

use super::*;
use crate::config;
use crate::daemon::scheduler::{CronScheduler, Work};
use crate::daemon::sd_notify::ServiceManager;
use crate::daemon::service_status::ServiceStatus;
use crate::notify::Notices;
use crate::notify::http::{Message, Post, Posting};
use crate::plan::Creation;
use crate::provider::call_context::CallContext;
use crate::provider::credentials::Credentials;
use crate::provider::transport::{Request, ResponseFuture, Transport};
use crate::report::{PastRotation, RotationOutcome};
use crate::rotation::hooks::Processes;
use crate::sandbox::in_memory::InMemory;
use crate::sandbox::provider::{Options, Provider, RecordedCall};
use crate::schedule::first_loaded::FirstLoaded;

const TOKEN: &str = "vps_test";

struct Stage {
    clock: Clock,
    memory: InMemory,
    reports: Arc<Mutex<Vec<Report>>>,
    first_loaded: FirstLoadedTimes,
}

impl Stage {
    fn at(begin: &str) -> Self {
        let clock = Clock::simulated(begin.parse().unwrap());
        let options = Options::new(3, SecretString::from(TOKEN), 1);
        let memory = InMemory::new(Provider::new(options), clock.clone(), Duration::from_secs(30));
        let first_loaded = FirstLoadedTimes::default();
        Self { clock, memory, reports: Arc::default(), first_loaded }
    }

    async fn daemon(&self, settings: &Settings, transport: Box<dyn Transport>) -> Daemon {
        self.daemon_by(Box::<CronScheduler>::default(), settings, transport).await
    }

    async fn daemon_by(
        &self,
        scheduler: Box<dyn Scheduler>,
        settings: &Settings,
        transport: Box<dyn Transport>,
    ) -> Daemon {
        let hooks = Arc::new(Processes::new(self.clock.clone()));
        self.daemon_with(hooks, scheduler, settings, transport).await
    }

    async fn daemon_with(
        &self,
        hooks: Arc<dyn HookRunner>,
        scheduler: Box<dyn Scheduler>,
        settings: &Settings,
        transport: Box<dyn Transport>,
    ) -> Daemon {
        let credentials = Credentials::known(SecretString::from(TOKEN));
        let client = Client::new(transport, &settings.api, credentials, self.clock.clone(), 1);
        let reports = Arc::clone(&self.reports);
        let on_report = move |report: &Report, _| reports.lock().unwrap().push(report.clone());
        let dependencies = Dependencies {
            hooks,
            first_loaded: self.first_loaded.clone(),
            ..Dependencies::in_process(self.clock.clone(), Box::new(on_report))
        };
        Daemon::start(settings, client, dependencies, scheduler).await.unwrap()
    }

    async fn start(&self, settings: &Settings) -> Daemon {
        self.daemon(settings, Box::new(self.memory.clone())).await
    }

    /// What a daemon before this one did, just before it died.
    async fn create_and_die(&self, settings: &Settings, server: ServerId, name: &str) {
        let credentials = Credentials::known(SecretString::from(TOKEN));
        let transport = Box::new(self.memory.clone());
        let client = Client::new(transport, &settings.api, credentials, self.clock.clone(), 1);
        let listing = client.list(server, &CallContext::default()).await.unwrap();
        let creation = Creation::by_hand(name.to_owned(), 5, &listing).unwrap();
        client.create(&creation, "", 1, &CallContext::default()).await.unwrap();
    }

    async fn pass(&self, hours: u64) {
        self.clock.sleep(Duration::from_secs(3600 * hours)).await;
    }

    /// Server and outcome of each rotation so far, in order.
    fn told(&self) -> Vec<String> {
        let reports = self.reports.lock().unwrap();
        reports.iter().map(|it| format!("{} {}", it.server_id, it.outcome.as_str())).collect()
    }
}

fn settings(text: &str) -> Settings {
    config::parse("test.toml", text).unwrap_or_else(|it| panic!("{}", it.render(false))).settings
}

fn server(id: u64, lines: &str) -> String {
    format!("[[server]]\nid = {id}\nkeep = 3\n{lines}\n")
}

#[tokio::test(start_paused = true)]
async fn nights_around_the_spring_gap_each_have_one_snapshot_at_the_right_time() {
    let stage = Stage::at("2027-03-27T00:00:00Z");
    let line = "schedule = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\"";
    let daemon = stage.start(&settings(&server(101, line))).await;
    stage.pass(50).await;
    daemon.finish().await;
    let now = stage.clock.now().wall;
    let names: Vec<String> = stage
        .memory
        .provider
        .lock()
        .unwrap()
        .snapshots(ServerId::new(101), now)
        .into_iter()
        .map(|row| row.name)
        .collect();
    // 02:30 CET; 03:00 CEST, where the gap ends; 02:30 CEST.
    let expected = ["20270327T013000Z", "20270328T010000Z", "20270329T003000Z"];
    assert_eq!(names, expected.map(|stamp| format!("snapring-{stamp}")));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_for_days_rotates_once_and_goes_on() {
    let stage = Stage::at("2026-11-23T00:30:00Z");
    let daemon = stage.start(&settings(&server(101, "schedule = \"0 * * * *\""))).await;
    stage.pass(1).await;
    stage.clock.step(SignedDuration::from_hours(23));
    stage.pass(1).await;
    daemon.finish().await;
    let ticks: Vec<String> =
        stage.reports.lock().unwrap().iter().map(|report| report.tick.to_string()).collect();
    assert_eq!(ticks, ["2026-11-23T01:00:00Z", "2026-11-24T00:00:00Z", "2026-11-24T01:00:00Z"]);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_takes_longer_than_the_schedule_is_not_overtaken_not_even_after_a_reload() {
    let stage = Stage::at("2026-11-23T00:59:00Z");
    let settings =
        settings(&server(101, "schedule = \"0 * * * *\"\ncompletion_timeout = \"150m\""));
    stage
        .memory
        .provider
        .lock()
        .unwrap()
        .add_fault("create:never-completes,times=1".parse().unwrap());
    let daemon = stage.start(&settings).await;
    stage.pass(1).await;
    daemon.reload(&settings, None);
    daemon.rotate_all().await;
    stage.pass(3).await;
    daemon.finish().await;
    // By hand after the reload, at 02:00, at 03:00; the stuck one ends at 03:30; 04:00 is free.
    let expected = ["101 skipped", "101 skipped", "101 skipped", "101 failed"];
    assert_eq!(stage.told()[..4], expected, "{:?}", stage.told());
}

#[tokio::test(start_paused = true)]
async fn five_hundred_reloads_leave_nothing_behind_and_fire_nothing() {
    let stage = Stage::at("2026-11-23T00:10:00Z");
    let settings = settings(&server(101, "schedule = \"0 3 * * *\""));
    let daemon = stage.start(&settings).await;
    stage.clock.sleep(Duration::from_secs(60)).await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    for _ in 0..500 {
        daemon.reload(&settings, None);
        stage.clock.sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((alive(), stage.told().len()), (before, 0));
    stage.pass(3).await;
    assert_eq!(stage.told(), ["101 rotated"]);
    daemon.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_right_after_a_crash_does_not_make_again_what_is_not_listed_yet() {
    let stage = Stage::at("2026-11-23T03:00:05Z");
    let settings = settings(&server(101, "schedule = \"0 3 * * *\""));
    let web = ServerId::new(101);
    let yesterday = stage.clock.now().wall - SignedDuration::from_hours(24);
    {
        let mut provider = stage.memory.provider.lock().unwrap();
        provider.add_snapshot(web, "snapring-20261122T030000Z", "completed", yesterday);
        provider.add_fault("create:late=15s,times=1".parse().unwrap());
    }
    let name = "snapring-20261123T030000Z";
    stage.create_and_die(&settings, web, name).await;

    let daemon = stage.start(&settings).await;
    stage.pass(1).await;
    daemon.shutdown().await;
    assert_eq!(stage.told(), ["101 adopted"]);
    let rows = stage.memory.provider.lock().unwrap().snapshots(web, stage.clock.now().wall);
    assert_eq!(rows.iter().filter(|row| row.name == name).count(), 1, "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_left_in_progress_is_not_made_again_after_a_later_tick_has_pruned_it() {
    let stage = Stage::at("2026-11-23T04:03:00Z");
    let line = "schedule = \"*/5 * * * *\"\njitter = \"4m\"\nmin_interval = \"0s\"";
    let settings = settings(&server(101, line).replace("keep = 3", "keep = 1"));
    let web = ServerId::new(101);
    {
        let mut provider = stage.memory.provider.lock().unwrap();
        let begun = stage.clock.now().wall - SignedDuration::from_mins(3);
        let id = provider.add_snapshot(web, "snapring-20261123T040000Z", "completed", begun);
        provider.set_status(id, "in_progress");
    }
    let daemon = stage.start(&settings).await;
    // Past the look of the start.
    stage.clock.sleep(Duration::from_secs(60)).await;
    {
        let mut provider = stage.memory.provider.lock().unwrap();
        let rows = provider.snapshots(web, stage.clock.now().wall);
        provider.set_status(rows[0].id, "completed");
    }
    stage.pass(1).await;
    daemon.shutdown().await;
    let provider = stage.memory.provider.lock().unwrap();
    let created: Vec<String> = provider
        .acts()
        .iter()
        .filter(|act| act.operation == crate::call::Operation::Create)
        .map(|act| act.row.name.clone())
        .collect();
    assert!(!created.contains(&"snapring-20261123T040000Z".to_owned()), "{created:?}");
    assert!(stage.told()[0] == "101 adopted" && created.len() > 2, "{:?}", stage.told());
}

/// Ticks of a server whose ring has the snapshot of 03:00, after a start at 10:30 with this schedule.
async fn ticks_after_a_start(
    schedule: &str,
    recorded: &[(&str, FirstLoaded)],
    heard: Option<&str>,
) -> Vec<String> {
    let mut stage = Stage::at("2026-11-23T10:30:00Z");
    let now = stage.clock.now().wall;
    {
        let mut provider = stage.memory.provider.lock().unwrap();
        let then = now - SignedDuration::from_mins(450);
        provider.add_snapshot(ServerId::new(101), "snapring-20261123T030000Z", "completed", then);
    }
    let settings = settings(&server(101, &format!("schedule = {schedule:?}")));
    let named = |text: &str| (ServerId::new(101), text.into(), "Etc/UTC".into());
    let recorded: FirstLoadedTimes =
        recorded.iter().map(|(text, loaded)| (named(text), *loaded)).collect();
    stage.first_loaded = FirstLoadedTimes::found([named(schedule)], now);
    let heard = heard.map(|text| text.parse().unwrap());
    stage.first_loaded.recall(&recorded, heard, now);
    let daemon = stage.start(&settings).await;
    stage.clock.sleep(Duration::from_secs(20 * 60)).await;
    daemon.shutdown().await;
    let reports = stage.reports.lock().unwrap();
    reports.iter().map(|report| report.tick.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_start_after_an_edit_from_daily_to_hourly_fires_nothing_where_a_store_remembers() {
    let long_ago = FirstLoaded::at("2026-11-01T00:00:00Z".parse().unwrap());
    let daily = [("0 3 * * *", long_ago)];
    let heard = Some("2026-11-23T09:10:00Z");
    assert!(ticks_after_a_start("0 * * * *", &daily, heard).await.is_empty());
    // Without a store, and with a new one, the ring tells: its tick is one of the hourly ones.
    assert_eq!(ticks_after_a_start("0 * * * *", &[], None).await, ["2026-11-23T10:00:00Z"]);
    // The store was away already when the ring's newest was made: it cannot tell.
    let heard = Some("2026-11-23T01:00:00Z");
    let ticks = ticks_after_a_start("0 * * * *", &daily, heard).await;
    assert_eq!(ticks, ["2026-11-23T10:00:00Z"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_runs_the_missed_tick_once_where_a_store_remembers_the_schedule() {
    let long_ago = FirstLoaded::at("2026-11-01T00:00:00Z".parse().unwrap());
    let heard = Some("2026-11-23T03:10:00Z");
    let ticks = ticks_after_a_start("0 * * * *", &[("0 * * * *", long_ago)], heard).await;
    assert_eq!(ticks, ["2026-11-23T10:00:00Z"]);
    // No tick of the ring is one of this schedule, which was in force all the same.
    let ticks = ticks_after_a_start("45 * * * *", &[("45 * * * *", long_ago)], heard).await;
    assert_eq!(ticks, ["2026-11-23T09:45:00Z", "2026-11-23T10:45:00Z"]);
    assert_eq!(ticks_after_a_start("45 * * * *", &[], None).await, ["2026-11-23T10:45:00Z"]);
    // Loaded after its last tick.
    let loaded = FirstLoaded::at("2026-11-23T09:50:00Z".parse().unwrap());
    let ticks = ticks_after_a_start("45 * * * *", &[("45 * * * *", loaded)], heard).await;
    assert_eq!(ticks, ["2026-11-23T10:45:00Z"]);
}

/// Watches nothing: the test asks for the due work by hand.
struct NoScheduler;

impl Scheduler for NoScheduler {
    fn start(&mut self, _: Arc<dyn DueWork>) -> Work<'_, Result<(), SchedulerError>> {
        Box::pin(async { Ok(()) })
    }

    fn stop(&mut self) -> Work<'_, ()> {
        Box::pin(async {})
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_servers_first_request_leaves_at_its_tick_and_at_the_start_that_jitter_gives() {
    let stage = Stage::at("2026-11-23T02:59:00.130Z");
    let jittered = "schedule = \"0 4 * * *\"\njitter = \"10m\"";
    let settings = settings(&(server(101, "schedule = \"0 3 * * *\"") + &server(102, jittered)));
    let daemon = stage.start(&settings).await;
    stage.pass(2).await;
    let four = Tick::at("2026-11-23T04:00:00Z".parse().unwrap());
    let starts = [
        (ServerId::new(101), "2026-11-23T03:00:00Z".parse().unwrap()),
        (ServerId::new(102), settings.servers[1].starts_at(four)),
    ];
    for (server, start) in starts {
        let provider = stage.memory.provider.lock().unwrap();
        let of_it = |call: &&RecordedCall| call.server == Some(server);
        let first = provider.calls().iter().filter(of_it).map(|it| it.at).find(|at| *at >= start);
        let late = first.unwrap().duration_since(start);
        assert!(late <= SignedDuration::from_millis(5), "{server}: {late}");
    }
    daemon.shutdown().await;
}

/// Starts that come together share a listing, so from eight servers on jitter's starts wait for a poll.
#[rstest::rstest]
#[case::few(7, true)]
#[case::a_fleet(8, false)]
#[tokio::test(start_paused = true)]
async fn the_timer_is_for_ticks_and_for_starts_that_share_nothing(
    #[case] servers: u64,
    #[case] is_for_jitter: bool,
) {
    let stage = Stage::at("2026-11-23T02:59:59Z");
    let line = "schedule = \"0 3 * * *\"\njitter = \"1h\"";
    let text: String = (101..101 + servers).map(|id| server(id, line)).collect();
    let memory = Box::new(stage.memory.clone());
    let daemon = stage.daemon_by(Box::new(NoScheduler), &settings(&text), memory).await;
    assert_eq!(daemon.shared.next_start_in(), Some(Duration::from_secs(1)));
    stage.clock.sleep(Duration::from_secs(1)).await;
    daemon.shared.run_due();
    let next = daemon.shared.next_start_in().unwrap();
    assert_eq!(next < Duration::from_hours(1), is_for_jitter, "{next:?}");
    daemon.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_heart_does_not_beat_for_what_is_due_and_is_not_run() {
    let stage = Stage::at("2026-11-23T02:59:00Z");
    let settings = settings(&server(101, "schedule = \"0 3 * * *\""));
    let memory = Box::new(stage.memory.clone());
    let daemon = stage.daemon_by(Box::new(NoScheduler), &settings, memory).await;
    let silence = || daemon.heartbeat().silence(stage.clock.now());
    let moment = Duration::from_millis(1);
    stage.clock.sleep(Duration::from_secs(20)).await;
    assert!(!daemon.shared.is_due());
    stage.clock.sleep(moment).await;
    assert_eq!(silence(), moment, "asked, and nothing was due");
    assert_eq!(daemon.shared.next_start_in(), Some(Duration::from_secs(40) - moment));
    stage.clock.sleep(moment).await;
    assert_eq!(silence(), 2 * moment, "asking for the next start is no beat");
    stage.clock.sleep(Duration::from_secs(60) - moment).await;
    assert_eq!(daemon.shared.next_start_in(), Some(Duration::ZERO), "due");
    assert!(daemon.shared.is_due());
    stage.clock.sleep(moment).await;
    assert_eq!(silence(), Duration::from_secs(60) + 2 * moment, "due, and not run");
    daemon.shared.run_due();
    stage.clock.sleep(moment).await;
    assert_eq!(silence(), moment);
    daemon.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_fed_by_the_heart_and_not_when_orders_are_not_taken_any_more() {
    let stage = Stage::at("2026-11-23T02:00:00Z");
    let daemon = stage.start(&settings(&server(101, "schedule = \"0 3 * * *\""))).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let (hears, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            if hears.send(String::from_utf8(buffer[..length].to_vec()).unwrap()).is_err() {
                return;
            }
        }
    });
    let manager = ServiceManager::at(path.as_os_str().as_encoded_bytes()).unwrap();
    let service = ServiceStatus::new(manager, Some(Duration::from_secs(10)), stage.clock.clone());
    // How often it is fed in this many seconds.
    let fed = async |span| {
        let _ = stage.clock.timeout(Duration::from_secs(span), service.keep(&daemon)).await;
        UnixDatagram::unbound().unwrap().send_to(b"mark", &path).unwrap();
        let told = heard.iter().take_while(|message| message != "mark");
        told.filter(|message| message.lines().any(|line| line == "WATCHDOG=1")).count()
    };
    assert!(fed(600).await >= 120, "once in half its span");
    daemon.orders.abort();
    fed(heartbeat::STUCK_AFTER.as_secs()).await;
    assert_eq!(fed(600).await, 0);
}

/// Real threads: one of them holds what the due work needs. tokio's timers stand still too then, since
/// the worker that waits for the mutex had them in its care; so the test waits without them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods, reason = "tokio's own clock is held up on purpose")]
async fn a_timetable_that_is_never_let_go_stops_the_heart() {
    let stage = Stage::at("2026-11-23T02:00:00Z");
    let daemon = stage.start(&settings(&server(101, "schedule = \"0 3 * * *\""))).await;
    let until = |so: &dyn Fn(Duration) -> bool, what: &str| {
        for _ in 0..3000 {
            if so(daemon.heartbeat().silence(stage.clock.now())) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what}");
    };
    let (free, freed) = std::sync::mpsc::channel::<()>();
    let shared = Arc::clone(&daemon.shared);
    let holder = std::thread::spawn(move || {
        let held = lock(&shared.timetable);
        let _ = freed.recv();
        drop(held);
    });
    until(&|silence| silence > Duration::from_secs(3), "it beats on");
    drop(free);
    holder.join().unwrap();
    until(&|silence| silence < Duration::from_secs(1), "it does not beat again");
}

#[tokio::test(start_paused = true)]
async fn a_person_who_asks_again_within_the_second_of_a_crash_gets_a_tick_of_its_own() {
    let stage = Stage::at("2026-11-23T12:00:00Z");
    let settings = settings(&server(101, "schedule = \"0 3 * * *\""));
    let web = ServerId::new(101);
    let late = "create:late=15s,times=1".parse().unwrap();
    stage.memory.provider.lock().unwrap().add_fault(late);
    stage.create_and_die(&settings, web, "snapring-20261123T120000Z").await;

    let daemon = stage.start(&settings).await;
    daemon.rotate_all().await;
    stage.pass(1).await;
    daemon.shutdown().await;
    let rows = stage.memory.provider.lock().unwrap().snapshots(web, stage.clock.now().wall);
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["snapring-20261123T120000Z", "snapring-20261123T120001Z"]);
}

/// Panics on one server's calls.
struct Fragile(InMemory);

impl Transport for Fragile {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        assert!(!request.path.contains("server_id=102"), "on purpose");
        self.0.exchange(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_servers_rotation_is_a_failure_of_that_one_only() {
    let stage = Stage::at("2026-11-23T02:59:00Z");
    let line = "schedule = \"0 3 * * *\"";
    let settings = settings(&format!("{}{}", server(101, line), server(102, line)));
    let daemon = stage.daemon(&settings, Box::new(Fragile(stage.memory.clone()))).await;
    stage.pass(1).await;
    assert_eq!(stage.told(), ["102 failed", "101 rotated"]);
    let reason = stage.reports.lock().unwrap()[0].reason.clone().unwrap();
    assert!(reason.contains("a bug in snapring interrupted the rotation"), "{reason}");
    // Its claim is free again.
    stage.pass(24).await;
    assert_eq!(stage.told()[2..], ["102 failed", "101 rotated"]);
    daemon.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn after_faults_end_every_server_is_back_to_its_policy_within_one_tick() {
    let stage = Stage::at("2026-11-23T00:59:00Z");
    for fault in ["any:status=500,chance=0.5,times=40", "create:drop-after,chance=0.5,times=5"] {
        stage.memory.provider.lock().unwrap().add_fault(fault.parse().unwrap());
    }
    let servers: String = (101..=103).map(|id| server(id, "schedule = \"0 * * * *\"")).collect();
    let daemon = stage.start(&settings(&servers)).await;
    stage.pass(6).await;
    stage.memory.provider.lock().unwrap().faults().clear();
    stage.pass(1).await;
    daemon.finish().await;
    let now = stage.clock.now().wall;
    let mut provider = stage.memory.provider.lock().unwrap();
    for id in 101..=103 {
        let rows = provider.snapshots(ServerId::new(id), now);
        assert_eq!(rows.len(), 3, "{rows:?}");
        assert!(rows.iter().all(|row| row.status == "completed"));
        assert_eq!(rows[2].name, "snapring-20261123T070000Z");
    }
    assert!(provider.peak() <= 5);
}

#[tokio::test(start_paused = true)]
async fn an_owed_tick_that_cannot_be_claimed_is_told_of() {
    let stage = Stage::at("2026-11-23T03:10:00Z");
    let settings = settings(&server(101, "schedule = \"0 3 * * *\""));
    let yesterday = stage.clock.now().wall - SignedDuration::from_hours(24);
    stage.memory.provider.lock().unwrap().add_snapshot(
        ServerId::new(101),
        "snapring-20261122T030000Z",
        "completed",
        yesterday,
    );
    // A person's `rotate` on this machine, that fails in the end.
    let directory = tempfile::tempdir().unwrap();
    let lock_file = directory.path().join("lock");
    let person = Exclusion::on_machine(&lock_file, "account", &stage.clock).unwrap();
    let claim = person.claim(ServerId::new(101)).unwrap();
    let client = Client::new(
        Box::new(stage.memory.clone()),
        &settings.api,
        Credentials::known(SecretString::from(TOKEN)),
        stage.clock.clone(),
        1,
    );
    let reports = Arc::clone(&stage.reports);
    let on_report = move |report: &Report, _| reports.lock().unwrap().push(report.clone());
    let dependencies = Dependencies {
        exclusion: Exclusion::on_machine(&lock_file, "account", &stage.clock).unwrap(),
        ..Dependencies::in_process(stage.clock.clone(), Box::new(on_report))
    };
    let daemon = Daemon::start(&settings, client, dependencies, Box::<CronScheduler>::default())
        .await
        .unwrap();
    stage.clock.sleep(Duration::from_secs(120)).await;
    drop(claim);
    stage.pass(20).await;
    assert_ne!(stage.told(), Vec::<String>::new(), "the missed tick was neither run nor told of");
    daemon.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_person_asks_for_right_after_the_start_is_not_taken_for_left_over() {
    let stage = Stage::at("2026-11-23T12:00:00Z");
    let daemon = stage.start(&settings(&server(101, "schedule = \"0 3 * * *\""))).await;
    // In progress when the start looks.
    stage.clock.sleep(Duration::from_secs(10)).await;
    daemon.rotate_all().await;
    stage.pass(1).await;
    daemon.shutdown().await;
    assert_eq!(stage.told(), ["101 rotated"]);
}

#[tokio::test(start_paused = true)]
async fn what_another_process_has_rotated_is_taken_over_and_looked_at_once() {
    let stage = Stage::at("2026-11-23T02:59:00Z");
    let settings = settings(&server(101, "schedule = \"0 3 * * *\""));
    stage.memory.provider.lock().unwrap().add_fault("create:fails,times=1".parse().unwrap());
    let daemon = stage.start(&settings).await;
    stage.pass(1).await;
    assert_eq!(stage.told(), ["101 failed"]);
    let own = stage.reports.lock().unwrap()[0].clone();

    stage.create_and_die(&settings, ServerId::new(101), "snapring-20261123T035900Z").await;
    stage.pass(1).await;
    let now = stage.clock.now().wall;
    let by_hand = PastRotation {
        outcome: RotationOutcome::Rotated,
        tick: Tick::at(now),
        reason: None,
        ..PastRotation::of(&own, now)
    };
    let own = PastRotation::of(&own, now);
    assert!(!daemon.hear_of(&own), "though it is later: the clock was set back since");
    assert!(daemon.hear_of(&by_hand));
    assert!(!daemon.hear_of(&by_hand), "no news any more");
    assert!(!daemon.hear_of(&PastRotation { server_id: ServerId::new(103), ..by_hand }));
    let calls = || stage.memory.provider.lock().unwrap().calls().len();
    let before = calls();
    stage.clock.sleep(Duration::from_secs(10)).await;
    assert_eq!(calls() - before, 1);
    let status = daemon.view().rows().remove(0).status;
    assert!(status.history.trouble().is_none(), "{status:?}");
    assert_eq!(status.last_success().unwrap().at, now, "{status:?}");
    let ring = status.ring.unwrap();
    assert_eq!(ring.name(ring.newest().unwrap()), "snapring-20261123T035900Z");
    assert_eq!(stage.told().len(), 1, "it is no rotation of this daemon");
    daemon.shutdown().await;
}

/// All servers of a fleet wait at once, after a start and at a common tick. Room that each holds for what hardly any
/// does made 3.7 GiB of 100,000 servers.
#[tokio::test(start_paused = true)]
async fn a_server_that_waits_holds_a_few_kibibytes_only() {
    let stage = Stage::at("2026-11-23T01:00:00Z");
    let daemon = stage.start(&settings(&server(101, "schedule = \"0 3 * * *\""))).await;
    let Managed { server, .. } = daemon.shared.managed(ServerId::new(101)).unwrap();
    let now = stage.clock.now();
    let start = resume::go_on_with(Arc::clone(&daemon.shared), Arc::clone(&server), true, now);
    assert!(size_of_val(&start) <= 2 * 1024, "{}", size_of_val(&start));
    let (tick, asked_by) = (Tick::at(now.wall), AskedBy::Schedule);
    let rotation = daemon.shared.rotate(Ordered { server, tick, asked_by, claim: None });
    assert!(size_of_val(&rotation) <= 8 * 1024, "{}", size_of_val(&rotation));
    drop((start, rotation));
    daemon.finish().await;
}

/// A service that takes connections and never answers.
struct Hanging(Arc<Mutex<usize>>);

impl Post for Hanging {
    fn post<'a>(&'a self, _: &'a Message) -> Posting<'a> {
        *self.0.lock().unwrap() += 1;
        Box::pin(std::future::pending())
    }
}

/// When each rotation of a day ended and how, with or without a listener for each and
/// never answers; and how often that one was tried.
async fn a_day(told: bool) -> (Vec<(String, Duration)>, usize) {
    let stage = Stage::at("2026-11-23T00:59:00Z");
    let line = "schedule = \"*/10 * * * *\"\nmin_interval = \"0s\"";
    let mut text = server(101, line) + &server(102, line);
    if told {
        let on = "on = [\"failure\", \"recovery\", \"success\"]";
        text += &format!("[[notify]]\nurl = \"https://hangs.example/x\"\n{on}\n");
    }
    stage.memory.provider.lock().unwrap().add_fault("create:fails,chance=0.5".parse().unwrap());
    let settings = settings(&text);
    let tries = Arc::<Mutex<usize>>::default();
    let post = Arc::new(Hanging(Arc::clone(&tries)));
    let notices = Arc::new(Notices::start(
        settings.audience(),
        [],
        crate::notify::told::ToldBook::none(),
        stage.clock.clone(),
        post,
        crate::status::counts::Counts::default(),
    ));
    let ends = Arc::<Mutex<Vec<(String, Duration)>>>::default();
    let (noticed, noted, clock) = (Arc::clone(&notices), Arc::clone(&ends), stage.clock.clone());
    let on_report = move |report: &Report, at| {
        noticed.on_report(report, at);
        noted.lock().unwrap().push((report.words(), clock.now().uptime));
    };
    let dependencies = Dependencies::in_process(stage.clock.clone(), Box::new(on_report));
    let credentials = Credentials::known(SecretString::from(TOKEN));
    let transport = Box::new(stage.memory.clone());
    let client = Client::new(transport, &settings.api, credentials, stage.clock.clone(), 1);
    let scheduler = Box::<CronScheduler>::default();
    let daemon = Daemon::start(&settings, client, dependencies, scheduler).await.unwrap();
    stage.pass(24).await;
    daemon.finish().await;
    notices.end().await;
    let ends = std::mem::take(&mut *ends.lock().unwrap());
    let tries = *tries.lock().unwrap();
    (ends, tries)
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_hangs_delays_no_rotation() {
    let (alone, _) = a_day(false).await;
    let (told, tries) = a_day(true).await;
    assert!(alone.len() > 200 && tries > 100, "{} rotations, {tries} tries", alone.len());
    assert!(alone.iter().any(|(words, _)| words.starts_with("failed")));
    assert_eq!(alone, told);
}

mod account;
mod accounts;
mod fleet;
mod locks;
mod stale;
