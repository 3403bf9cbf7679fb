//! What may befall a fleet that shares listings.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::answer::Headers;
use crate::naming::SnapshotId;
use crate::provider::transport::Response;

/// A transport that treats listings of the account in a way of its own.
struct Strange<F>(InMemory, Clock, F);

/// What such a listing meets.
enum Meets {
    Answer(Response),
    Latency(Duration),
}

impl<F: Fn(&InMemory, usize) -> Meets + Send + Sync> Transport for Strange<F> {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        let of_account = request.method == Method::Get && !request.path.contains("server_id=");
        if !of_account {
            return self.0.exchange(request);
        }
        let page = request.path.split_once("page=").map_or(1, |(_, page)| page.parse().unwrap());
        Box::pin(async move {
            match (self.2)(&self.0, page) {
                Meets::Answer(response) => Ok(response),
                Meets::Latency(latency) => {
                    let answer = self.0.exchange(request).await;
                    self.1.sleep(latency).await;
                    answer
                }
            }
        })
    }
}

fn answer(status: u16, body: &serde_json::Value, retry_after: Option<&str>) -> Response {
    Response {
        status,
        retry_after: retry_after.map(str::to_owned),
        headers: Headers::default(),
        body: Ok(serde_json::to_vec(body).unwrap()),
    }
}

/// A provider that lists by id, in pages. Between the first and the second page of each listing of
/// the account a person removes the account's oldest snapshot and makes one of the last server: the
/// row that stood first on the second page, which is the one that `lose` finds, is then on no page.
struct Loses<F> {
    memory: InMemory,
    clock: Clock,
    last: ServerId,
    lose: F,
    size: AtomicUsize,
}

impl<F: Fn(&serde_json::Value) -> bool + Send + Sync> Loses<F> {
    fn new(stage: &Stage, last: ServerId, lose: F) -> Box<Self> {
        let (memory, clock) = (stage.memory.clone(), stage.clock.clone());
        Box::new(Self { memory, clock, last, lose, size: AtomicUsize::new(usize::MAX) })
    }

    async fn rows(&self, request: &Request) -> Vec<serde_json::Value> {
        let request = Request { path: "snapshots/".to_owned(), ..request.clone() };
        let body = self.memory.exchange(request).await.unwrap().body.unwrap();
        let mut page: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let mut rows = std::mem::take(page["results"].as_array_mut().unwrap());
        rows.sort_by_key(|row| row["id"].as_u64());
        rows
    }
}

impl<F: Fn(&serde_json::Value) -> bool + Send + Sync> Transport for Loses<F> {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        if request.method != Method::Get || request.path.contains("server_id=") {
            return self.memory.exchange(request);
        }
        let page = request.path.split_once("page=").map_or(1, |(_, page)| page.parse().unwrap());
        Box::pin(async move {
            let mut rows = self.rows(&request).await;
            if page == 1 {
                let place = rows.iter().position(&self.lose).unwrap_or(usize::MAX);
                self.size.store(place, Ordering::SeqCst);
            } else if page == 2 {
                let oldest = SnapshotId(rows[0]["id"].as_u64().unwrap());
                {
                    let mut provider = self.memory.provider.lock().unwrap();
                    provider.remove_snapshot(oldest);
                    let now = self.clock.now().wall;
                    provider.add_snapshot(self.last, "by-hand", "completed", now);
                }
                rows = self.rows(&request).await;
            }
            let size = self.size.load(Ordering::SeqCst);
            let first = size.saturating_mul(page - 1);
            let shown: Vec<_> = rows.iter().skip(first).take(size).collect();
            let next = (first.saturating_add(size) < rows.len())
                .then(|| format!("http://127.0.0.1/api/v1/snapshots/?page={}", page + 1));
            let body = serde_json::json!({ "count": rows.len(), "next": next, "results": shown });
            Ok(answer(200, &body, None))
        })
    }
}

/// When the last create came after three o'clock, in seconds.
async fn seconds_until_all_are_created(stage: &Stage, servers: usize, at_most: i64) -> i64 {
    let tick: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
    while creates(stage).len() < servers {
        stage.clock.sleep(Duration::from_secs(1)).await;
        let late = stage.clock.now().wall.duration_since(tick).as_secs();
        if late > at_most {
            return late;
        }
    }
    stage.clock.now().wall.duration_since(tick).as_secs()
}

/// A ceiling of the user's own: a create whose listing has grown old takes no place of the pace, since
/// nothing is sent.
#[rstest::rstest]
#[case(60, 240)]
#[case(30, 120)]
#[tokio::test(start_paused = true)]
async fn creates_of_all_come_as_fast_as_requests_per_minute_allows(
    #[case] rpm: usize,
    #[case] servers: u64,
) {
    let api = format!("requests_per_minute = {rpm}");
    let (stage, settings) = fleet(servers, &api, |options| {
        options.completion = Duration::from_secs(36_000)..=Duration::from_secs(36_000);
    });
    let daemon = stage.start(&settings).await;
    stage.clock.sleep(Duration::from_secs(115)).await;
    let ideal = servers as i64 * 60 / rpm as i64;
    let took = seconds_until_all_are_created(&stage, servers as usize, 20 * ideal).await;
    assert!(took * 4 <= ideal * 5, "{took} s, {ideal} s would be ideal");
    drop(daemon);
}

/// Nor where it has grown old before it comes to the line: while a hook quiesced the server, say.
#[tokio::test(start_paused = true)]
async fn a_create_whose_listing_is_old_already_takes_nobodys_turn() {
    let (stage, settings) = fleet(1, "requests_per_minute = 6", |_| {});
    let credentials = Credentials::known(SecretString::from(TOKEN));
    let transport = Box::new(stage.memory.clone());
    let client = Client::new(transport, &settings.api, credentials, stage.clock.clone(), 1);
    let scope = CallContext::default();
    let listing = client.list(ServerId::new(101), &scope).await.unwrap();
    let creation = Creation::by_hand("x".to_owned(), 5, &listing).unwrap();
    stage.clock.sleep(Duration::from_secs(61)).await;
    let begun = stage.clock.now().uptime;
    client.create(&creation, "", 1, &scope).await.unwrap_err();
    client.list(ServerId::new(101), &scope).await.unwrap();
    assert_eq!(stage.clock.now().uptime - begun, Duration::ZERO);
}

/// The same in the second night, when it is known how long snapshots take: all is done as fast as
/// two calls a server allow.
#[rstest::rstest]
#[case(60, 120)]
#[case(30, 240)]
#[tokio::test(start_paused = true)]
async fn rotations_of_all_end_as_fast_as_requests_per_minute_allows(
    #[case] rpm: usize,
    #[case] servers: u64,
) {
    let api = format!("requests_per_minute = {rpm}");
    let five = Duration::from_secs(300);
    let (stage, settings) = fleet(servers, &api, |options| options.completion = five..=five);
    let daemon = stage.start(&settings).await;
    stage.pass(23).await;
    let before = stage.reports.lock().unwrap().len();
    let tick = "2026-11-24T03:00:00Z".parse::<Timestamp>().unwrap();
    let calls = stage.memory.provider.lock().unwrap().calls().len();
    let mut last = 0;
    while stage.reports.lock().unwrap().len() < before + servers as usize {
        stage.clock.sleep(Duration::from_secs(1)).await;
        last = stage.clock.now().wall.duration_since(tick).as_secs();
        assert!(last < 24 * 3600);
    }
    let ideal = 300 + 2 * servers as i64 * 60 / rpm as i64;
    let calls = stage.memory.provider.lock().unwrap().calls().len() - calls;
    let good = stage.told()[before..].iter().filter(|it| it.ends_with("rotated")).count();
    eprintln!(
        "{servers} at {rpm}: {last} s, {ideal} would be ideal; {calls} calls; {good} rotated"
    );
    assert!(last <= 2 * ideal && good == servers as usize, "{last} s, {ideal} s would be ideal");
    drop(daemon);
}

/// 429 on listings of the account only, each with a minute's Retry-After: the whole account waits, but
/// for one that is repeated at most.
#[rstest::rstest]
#[case::throttled(429, Some("60"), 150)]
#[case::throttled_without_a_word(429, None, 40)]
#[case::unavailable(503, None, 40)]
#[tokio::test(start_paused = true)]
async fn listings_of_the_account_that_are_always_refused_are_not_asked_for_for_long(
    #[case] status: u16,
    #[case] retry_after: Option<&'static str>,
    #[case] at_most: i64,
) {
    let (stage, settings) = fleet(40, "", |_| {});
    let transport = Strange(stage.memory.clone(), stage.clock.clone(), move |_: &InMemory, _| {
        Meets::Answer(answer(status, &serde_json::json!({"detail": "no"}), retry_after))
    });
    let daemon = stage.daemon(&settings, Box::new(transport)).await;
    let took = seconds_until_all_are_created(&stage, 40, 3600).await;
    assert!(took <= at_most, "{took} s");
    drop(daemon);
}

/// One row of a server that is not even ours cannot be read: for ever.
#[tokio::test(start_paused = true)]
async fn a_row_of_a_stranger_that_cannot_be_read_costs_the_fleet_nothing_night_after_night() {
    let (stage, settings) = fleet(40, "", |_| {});
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let transport = Strange(stage.memory.clone(), stage.clock.clone(), move |_: &InMemory, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        let body = serde_json::json!({ "count": 1, "results": [{
            "id": 1, "server": { "id": 7, "name": "x" }, "name": "y", "status": "completed",
            "created_at": "yesterday" }]});
        Meets::Answer(answer(200, &body, None))
    });
    let daemon = stage.daemon(&settings, Box::new(transport)).await;
    let mut late = Vec::new();
    for night in 0..4 {
        let before = creates(&stage).len();
        let begun = "2026-11-23T03:00:00Z".parse::<Timestamp>().unwrap()
            + SignedDuration::from_hours(24 * night);
        while creates(&stage).len() < before + 40 {
            stage.clock.sleep(Duration::from_secs(1)).await;
        }
        late.push(stage.clock.now().wall.duration_since(begun).as_secs());
        stage.pass(23).await;
    }
    assert!(late.iter().all(|late| *late <= 3), "{late:?}");
    drop(daemon);
}

/// The provider fails while snapshots are in progress, for forty minutes. The next nights nothing is
/// wrong, and snapshots take three minutes as ever.
#[tokio::test(start_paused = true)]
async fn an_outage_does_not_make_the_rotations_of_the_nights_after_slow() {
    let three = Duration::from_secs(180);
    let (stage, settings) = fleet(3, "", |options| options.completion = three..=three);
    let daemon = stage.start(&settings).await;
    stage.pass(30).await;
    stage.clock.sleep(Duration::from_secs((20 * 60 + 32) * 60)).await; // 03:31:00 + ... of the third night
    let mut took = Vec::new();
    let now = stage.clock.now().wall;
    // To 03:01 of the next night.
    let next = "2026-11-26T03:01:00Z".parse::<Timestamp>().unwrap();
    stage.clock.sleep(Duration::try_from(next.duration_since(now)).unwrap()).await;
    stage.memory.provider.lock().unwrap().add_fault("list:status=500".parse().unwrap());
    stage.clock.sleep(Duration::from_secs(40 * 60)).await;
    stage.memory.provider.lock().unwrap().faults().clear();
    stage.pass(24 * 5).await;
    daemon.finish().await;
    for report in
        stage.reports.lock().unwrap().iter().filter(|it| it.server_id == ServerId::new(101))
    {
        took.push(report.duration_ms / 1000);
    }
    assert!(took[4..].iter().all(|took| *took < 600), "{took:?}");
}

/// The provider's listings fail at once while snapshots are in progress, and nothing is tried again
/// within a call.
#[tokio::test(start_paused = true)]
async fn an_outage_is_not_hammered_at_once_a_second() {
    let three = Duration::from_secs(180);
    let (stage, settings) = fleet(1, "retries = 0", |options| options.completion = three..=three);
    let daemon = stage.start(&settings).await;
    stage.pass(30).await;
    let next = "2026-11-25T03:01:00Z".parse::<Timestamp>().unwrap();
    let now = stage.clock.now().wall;
    stage.clock.sleep(Duration::try_from(next.duration_since(now)).unwrap()).await;
    let before = stage.memory.provider.lock().unwrap().count(Operation::List);
    stage.memory.provider.lock().unwrap().add_fault("list:status=500".parse().unwrap());
    stage.clock.sleep(Duration::from_secs(40 * 60)).await;
    let looks = stage.memory.provider.lock().unwrap().count(Operation::List) - before;
    assert!(looks <= 60, "{looks}");
    drop(daemon);
}

fn fleet_of_one_snapshot_each(servers: u64, lines: &str) -> (Stage, Settings) {
    let begin = "2026-11-23T03:10:00Z";
    let clock = Clock::simulated(begin.parse().unwrap());
    let options = Options::new(servers, SecretString::from(TOKEN), 1);
    let mut provider = Provider::new(options);
    let mut text = String::new();
    let made: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
    for id in (101..).take(usize::try_from(servers).unwrap()) {
        text += &server(id, lines);
        provider.add_snapshot(ServerId::new(id), "snapring-20261122T030000Z", "completed", made);
    }
    let memory = InMemory::new(provider, clock.clone(), Duration::from_secs(30));
    let first_loaded = FirstLoadedTimes::default();
    (Stage { clock, memory, reports: Arc::default(), first_loaded }, settings(&text))
}

/// L2: a missed tick is run once. The row that shows that the schedule was in force is lost.
#[tokio::test(start_paused = true)]
async fn a_row_lost_between_pages_does_not_lose_a_missed_tick() {
    let (stage, settings) = fleet_of_one_snapshot_each(40, "schedule = \"0 3 * * *\"");
    let before: Timestamp = "2026-11-01T03:00:00Z".parse().unwrap();
    let by_hand = (101..141).map(ServerId::new);
    by_hand.for_each(|id| {
        stage.memory.provider.lock().unwrap().add_snapshot(id, "by-hand", "completed", before);
    });
    let transport = Loses::new(&stage, ServerId::new(140), |row| {
        row["server"]["id"] == 120 && row["name"] == "snapring-20261122T030000Z"
    });
    let daemon = stage.daemon(&settings, transport).await;
    stage.pass(3).await;
    let mut told = stage.told();
    told.sort();
    drop(daemon);
    assert!(told.contains(&"120 rotated".to_owned()), "{} {told:?}", told.len());
}

/// S3: the tick that a person's rotation got is also a scheduled one, whose start comes later.
#[tokio::test(start_paused = true)]
async fn a_row_lost_between_pages_makes_no_second_snapshot_for_a_tick() {
    let (stage, settings) =
        fleet_of_one_snapshot_each(1600, "schedule = \"0 5 * * *\"\njitter = \"1m\"");
    let instant = Duration::from_millis(10);
    stage.memory.provider.lock().unwrap().options_mut().completion = instant..=instant;
    // The last of the fleet to start.
    let tick: Timestamp = "2026-11-23T05:00:00Z".parse().unwrap();
    let late = settings.servers.iter().find(|it| {
        it.id.number != 101
            && it.id.number > 1000
            && it.id.number < 1690
            && it.starts_at(Tick::at(tick)) > tick + SignedDuration::from_secs(50)
    });
    let late = late.unwrap().id;
    let truth = stage.clock.clone();
    let transport = Loses::new(&stage, ServerId::new(1700), move |row| {
        truth.now().wall > tick + SignedDuration::from_secs(40)
            && row["server"]["id"] == late.number
            && row["name"] == "snapring-20261123T050000Z"
    });
    let daemon = stage.daemon(&settings, transport).await;
    let now = stage.clock.now().wall;
    let until = tick - SignedDuration::from_millis(300);
    stage.clock.sleep(Duration::try_from(until.duration_since(now)).unwrap()).await;
    daemon.rotate_all().await;
    stage.clock.sleep(Duration::from_secs(90)).await;
    drop(daemon);
    let rows = stage.memory.provider.lock().unwrap().snapshots(late, stage.clock.now().wall);
    let told: Vec<_> =
        stage.told().into_iter().filter(|it| it.starts_with(&late.to_string())).collect();
    let created: Vec<_> = {
        let provider = stage.memory.provider.lock().unwrap();
        provider
            .acts()
            .iter()
            .filter(|act| act.operation == Operation::Create && act.row.server == late)
            .map(|act| act.row.name.clone())
            .collect()
    };
    assert_eq!(created.len(), 1, "{told:?} {created:?} {rows:?}");
}

/// A create that surely did nothing is made again, though a row was lost in the look before it.
#[tokio::test(start_paused = true)]
async fn a_row_lost_between_pages_is_not_taken_for_one_that_has_appeared() {
    let (stage, settings) = fleet(40, "", |_| {});
    let truth = stage.clock.clone();
    let tick: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
    let transport = Loses::new(&stage, ServerId::new(140), move |row| {
        let now = truth.now().wall;
        (tick..tick + SignedDuration::from_secs(1)).contains(&now)
            && row["server"]["id"] == 120
            && row["name"] == "snapring-20261120T030000Z"
    });
    let fault = "create:status=500,times=1,server=120";
    stage.memory.provider.lock().unwrap().add_fault(fault.parse().unwrap());
    let daemon = stage.daemon(&settings, transport).await;
    stage.pass(3).await;
    drop(daemon);
    let reports = stage.reports.lock().unwrap();
    let report = reports.iter().find(|it| it.server_id == ServerId::new(120)).unwrap();
    assert_eq!((report.outcome, &report.reason), (RotationOutcome::Rotated, &None));
}

/// S3: the answer to a create is lost, and its snapshot shows up just after `settle`. The look before
/// the second try would lose its row, if it were shared.
#[tokio::test(start_paused = true)]
async fn a_row_lost_between_pages_is_not_made_again_though_it_shows_up_late() {
    let (stage, mut settings) = fleet(40, "", |_| {});
    // The others wait for theirs by then, and look when any of them looks.
    settings.servers = servers_with(101..141, |id| match id {
        120 => "schedule = \"0 3 * * *\"",
        _ => "schedule = \"20 0 3 * * *\"",
    });
    for fault in ["create:drop-after,times=1,server=120", "create:late=20500ms,times=1,server=120"]
    {
        stage.memory.provider.lock().unwrap().add_fault(fault.parse().unwrap());
    }
    let lost = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lost);
    let transport = Loses::new(&stage, ServerId::new(140), move |row| {
        let is_it = row["server"]["id"] == 120 && row["name"] == "snapring-20261123T030000Z";
        counted.fetch_add(usize::from(is_it), Ordering::SeqCst);
        is_it
    });
    let daemon = stage.daemon(&settings, transport).await;
    stage.pass(1).await;
    drop(daemon);
    let provider = stage.memory.provider.lock().unwrap();
    let created = provider
        .acts()
        .iter()
        .filter(|act| act.operation == Operation::Create && act.row.server == ServerId::new(120));
    assert_eq!(created.count(), 1, "{:?}", stage.told());
    assert!(lost.load(Ordering::SeqCst) > 0);
}

/// The answer to a create is lost, and the one look for its snapshot would lose its row, if it were
/// shared.
#[tokio::test(start_paused = true)]
async fn a_row_lost_between_pages_is_not_taken_for_a_create_that_did_nothing() {
    let (stage, settings) = fleet(40, "retries = 0\nsettle = \"1s\"", |_| {});
    let fault = "create:drop-after,times=1,server=120";
    stage.memory.provider.lock().unwrap().add_fault(fault.parse().unwrap());
    let transport = Loses::new(&stage, ServerId::new(140), |row| {
        row["server"]["id"] == 120 && row["name"] == "snapring-20261123T030000Z"
    });
    let daemon = stage.daemon(&settings, transport).await;
    stage.pass(1).await;
    drop(daemon);
    let told = stage.told();
    assert!(told.contains(&"120 rotated".to_owned()), "{told:?}");
}

/// S3: another process has made the tick's snapshots, by a clock that was ahead, and this one has not
/// looked at anything yet.
#[tokio::test(start_paused = true)]
async fn a_row_lost_between_pages_is_not_made_again_by_who_has_seen_nothing_yet() {
    let (stage, settings) = fleet(40, "", |_| {});
    stage.clock.sleep(Duration::from_secs(50)).await;
    let now = stage.clock.now().wall;
    for id in 101..141 {
        let mut provider = stage.memory.provider.lock().unwrap();
        provider.add_snapshot(ServerId::new(id), "snapring-20261123T030000Z", "completed", now);
    }
    let transport = Loses::new(&stage, ServerId::new(140), |row| {
        row["server"]["id"] == 120 && row["name"] == "snapring-20261123T030000Z"
    });
    let daemon = stage.daemon(&settings, transport).await;
    stage.pass(1).await;
    drop(daemon);
    let creates = stage.memory.provider.lock().unwrap().count(Operation::Create);
    assert_eq!(creates, 0, "{:?}", stage.told());
}

/// `min_interval` holds though a row was lost.
#[tokio::test(start_paused = true)]
async fn a_row_lost_between_pages_makes_no_tick_run_that_comes_too_soon() {
    let (stage, settings) = fleet(40, "", |_| {});
    let made: Timestamp = "2026-11-23T02:55:00Z".parse().unwrap();
    for id in 101..141 {
        let mut provider = stage.memory.provider.lock().unwrap();
        provider.add_snapshot(ServerId::new(id), "snapring-20261123T025500Z", "completed", made);
    }
    let truth = stage.clock.clone();
    let tick: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
    let transport = Loses::new(&stage, ServerId::new(140), move |row| {
        truth.now().wall > tick
            && row["server"]["id"] == 120
            && row["name"] == "snapring-20261123T025500Z"
    });
    let daemon = stage.daemon(&settings, transport).await;
    stage.pass(3).await;
    drop(daemon);
    let told = stage.told();
    let ran: Vec<_> = told.iter().filter(|it| !it.ends_with("skipped")).collect();
    let deleted: Vec<_> =
        stage.memory.provider.lock().unwrap().deleted().map(|row| row.name.clone()).collect();
    assert!(ran.is_empty(), "{} told, {ran:?}, deleted {deleted:?}", told.len());
}

struct NoProcesses;

impl HookRunner for NoProcesses {
    fn run(&self, _: crate::rotation::hooks::Invocation) -> crate::rotation::hooks::Running<'_> {
        Box::pin(async { Ok(()) })
    }
}

/// The same fleet, each server with these lines.
fn servers_with(
    ids: std::ops::Range<u64>,
    lines: impl Fn(u64) -> &'static str,
) -> Vec<Arc<crate::server::Server>> {
    super::settings(&ids.map(|id| server(id, lines(id))).collect::<String>()).servers
}

/// A quiesced server waits for no other: the listing of the others takes 29 s.
#[tokio::test(start_paused = true)]
async fn a_quiesced_server_is_not_kept_asleep_by_a_slow_listing_of_the_account() {
    let three = Duration::from_secs(180);
    let (stage, mut settings) = fleet(40, "", |options| options.completion = three..=three);
    settings.servers = servers_with(101..141, |id| match id {
        101 => "schedule = \"0 3 * * *\"\nhooks = { before = [\"true\"], after = [\"true\"] }",
        _ => "schedule = \"0 3 * * *\"",
    });
    let transport = Strange(stage.memory.clone(), stage.clock.clone(), |_: &InMemory, _| {
        Meets::Latency(Duration::from_secs(29))
    });
    let scheduler = Box::<CronScheduler>::default();
    let daemon =
        stage.daemon_with(Arc::new(NoProcesses), scheduler, &settings, Box::new(transport)).await;
    stage.pass(24 * 5).await;
    daemon.finish().await;
    let took: Vec<_> = stage
        .reports
        .lock()
        .unwrap()
        .iter()
        .filter(|it| it.server_id == ServerId::new(101))
        .map(|it| (it.duration_ms / 1000, it.steps.clone()))
        .collect();
    assert!(took[2..].iter().all(|(took, _)| *took <= 240), "{took:?}");
}

const EVERY_MINUTE: &str = "schedule = \"* * * * *\"\nmin_interval = \"0s\"";

/// How many rotations did not end as rotated, and how many there were.
fn not_rotated(stage: &Stage) -> (usize, usize) {
    let told = stage.told();
    (told.iter().filter(|it| !it.ends_with("rotated")).count(), told.len())
}

/// Every minute, with a provider whose listing of the account always takes 29 s, and whose other
/// answers come at once.
#[tokio::test(start_paused = true)]
async fn a_dense_schedule_is_kept_though_listings_of_the_account_are_slow() {
    let (stage, mut settings) = fleet(40, "", |options| {
        options.completion = Duration::from_secs(5)..=Duration::from_secs(5)
    });
    settings.servers = servers_with(101..141, |_| EVERY_MINUTE);
    let transport = Strange(stage.memory.clone(), stage.clock.clone(), |_: &InMemory, _| {
        Meets::Latency(Duration::from_secs(29))
    });
    let daemon = stage.daemon(&settings, Box::new(transport)).await;
    stage.pass(1).await;
    drop(daemon);
    let (bad, told) = not_rotated(&stage);
    assert!(bad * 20 <= told, "{bad} of {told}");
}

/// Every minute, and snapshots of seconds: no server waits so long for others that a tick is skipped.
#[tokio::test(start_paused = true)]
async fn a_dense_schedule_is_kept_though_looks_may_be_late() {
    let (stage, mut settings) = fleet(40, "", |options| {
        options.completion = Duration::from_secs(3)..=Duration::from_secs(30)
    });
    settings.servers = servers_with(101..141, |_| EVERY_MINUTE);
    let daemon = stage.start(&settings).await;
    stage.pass(1).await;
    drop(daemon);
    let (bad, told) = not_rotated(&stage);
    assert!(bad * 50 <= told, "{bad} of {told}");
}

/// 403 on listings of the account only: is the account's token refused?
#[tokio::test(start_paused = true)]
async fn a_token_that_may_list_single_servers_only_is_not_called_refused() {
    let (stage, settings) = fleet(40, "", |_| {});
    let transport = Strange(stage.memory.clone(), stage.clock.clone(), |_: &InMemory, _| {
        Meets::Answer(answer(403, &serde_json::json!({"detail": "no"}), None))
    });
    let daemon = stage.daemon(&settings, Box::new(transport)).await;
    let mut refused = 0;
    for _ in 0..24 * 3600 {
        stage.clock.sleep(Duration::from_secs(1)).await;
        let state = daemon.shared.current().clients.all().next().unwrap().token_state();
        refused += u32::from(state == crate::provider::token_state::TokenState::Refused);
    }
    drop(daemon);
    assert_eq!(refused, 0, "seconds in which it was");
}

/// A provider that shows the newest hundred rows of the account, and counts what it shows; a
/// server's own listing is whole. Its rings are full, so that room must be made each night.
#[tokio::test(start_paused = true)]
async fn a_listing_of_the_account_that_is_silently_cut_off_breaks_no_rotation() {
    let (stage, mut settings) = fleet(80, "", |_| {});
    settings.servers = servers_with(101..181, |_| "schedule = \"0 3 * * *\"\ncap = 3");
    stage.memory.provider.lock().unwrap().options_mut().cap = 3;
    let daemon = stage.daemon(&settings, Box::new(CutOff(stage.memory.clone()))).await;
    stage.pass(3).await;
    daemon.finish().await;
    let told = stage.told();
    let good = told.iter().filter(|it| it.ends_with("rotated")).count();
    let reasons: std::collections::BTreeSet<_> =
        stage.reports.lock().unwrap().iter().filter_map(|it| it.reason.clone()).collect();
    let provider = stage.memory.provider.lock().unwrap();
    let twice: Vec<_> = provider
        .acts()
        .iter()
        .filter(|act| act.operation == Operation::Create)
        .filter(|act| act.before.iter().any(|row| row.name == act.row.name))
        .map(|act| (act.row.server, act.row.name.clone()))
        .collect();
    assert!(
        twice.is_empty(),
        "made a second time: {twice:?}; {good} of {}, {reasons:?}",
        told.len()
    );
    assert_eq!(good, 80, "{reasons:?}");
}

struct CutOff(InMemory);

impl Transport for CutOff {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        if request.path != "snapshots/" || request.method != Method::Get {
            return self.0.exchange(request);
        }
        Box::pin(async move {
            let body = self.0.exchange(request).await?.body.unwrap();
            let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let rows: Vec<_> = page["results"].as_array().unwrap().iter().take(100).collect();
            Ok(answer(200, &serde_json::json!({ "count": rows.len(), "results": rows }), None))
        })
    }
}
