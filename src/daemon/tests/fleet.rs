//! What a fleet costs, and how long it takes. Calls are counted on a virtual clock, so these figures
//! are exact, and a regression shows at once.

use super::*;
use crate::call::{Operation, Outcome};
use crate::provider::transport::{Method, TransportError};

/// So many servers that are due together each night, and a provider with rings that are full.
fn fleet(servers: u64, api: &str, change: impl FnOnce(&mut Options)) -> (Stage, Settings) {
    let begin = "2026-11-23T02:58:00Z";
    let clock = Clock::simulated(begin.parse().unwrap());
    let mut options = Options::new(servers, SecretString::from(TOKEN), 1);
    change(&mut options);
    let mut provider = Provider::new(options);
    let mut text = format!("[api]\n{api}\n");
    for id in (101..).take(usize::try_from(servers).unwrap()) {
        text += &server(id, "schedule = \"0 3 * * *\"");
        for days in 1..=3 {
            let made = clock.now().wall - SignedDuration::from_hours(24 * days);
            let name = format!("snapring-{}", made.strftime("%Y%m%dT030000Z"));
            provider.add_snapshot(ServerId::new(id), &name, "completed", made);
        }
    }
    let memory = InMemory::new(provider, clock.clone(), Duration::from_secs(30));
    let first_loaded = FirstLoadedTimes::default();
    (Stage { clock, memory, reports: Arc::default(), first_loaded }, settings(&text))
}

/// Calls so far.
fn calls(daemon: &Daemon) -> u64 {
    let metrics = daemon.view().call_metrics();
    [Operation::List, Operation::Create, Operation::Delete]
        .into_iter()
        .map(|operation| metrics.calls(operation, Outcome::Ok))
        .sum()
}

/// Calls a rotation in a night when it is known how long snapshots take.
#[rstest::rstest]
#[case::one_page(None, 2.01)]
#[case::pages_of_a_hundred(Some(100), 2.2)]
#[tokio::test(start_paused = true)]
async fn a_thousand_servers_on_one_tick_cost_two_calls_a_rotation_and_a_few_listings(
    #[case] page_size: Option<usize>,
    #[case] at_most: f64,
) {
    const SERVERS: u64 = 1000;
    let (stage, settings) = fleet(SERVERS, "", |options| options.page_size = page_size);
    let daemon = stage.start(&settings).await;
    stage.pass(2).await;
    let first = calls(&daemon);
    stage.pass(24).await;
    let a_rotation = (calls(&daemon) - first) as f64 / SERVERS as f64;
    daemon.finish().await;
    let good = stage.told().iter().filter(|words| words.ends_with("rotated")).count() as u64;
    assert_eq!(good, 2 * SERVERS);
    eprintln!("{a_rotation:.3} calls per rotation; {first} in the first night");
    assert!(a_rotation <= at_most, "{a_rotation}");
    assert!(stage.memory.provider.lock().unwrap().peak() <= 4);
}

/// A start looks at all servers, and has something to do for two of them.
#[rstest::rstest]
#[case::pages_of_a_hundred(100)]
#[case::pages_of_twenty_five(25)]
#[tokio::test(start_paused = true)]
async fn a_start_costs_pages_and_not_servers(#[case] page_size: u64) {
    const SERVERS: u64 = 1000;
    let (stage, settings) =
        fleet(SERVERS, "", |options| options.page_size = Some(page_size as usize));
    let unfinished = stage.clock.now().wall - SignedDuration::from_mins(2);
    for server in [ServerId::new(300), ServerId::new(700)] {
        let name = format!("snapring-{}", unfinished.strftime("%Y%m%dT%H%M%SZ"));
        let mut provider = stage.memory.provider.lock().unwrap();
        provider.add_snapshot(server, &name, "in_progress", unfinished);
    }
    let daemon = stage.start(&settings).await;
    stage.clock.sleep(Duration::from_secs(60)).await;
    let pages = (3 * SERVERS + 2).div_ceil(page_size);
    let lists = daemon.view().call_metrics().calls(Operation::List, Outcome::Ok);
    daemon.finish().await;
    eprintln!("{lists} listings, {pages} pages");
    // Those two are listed alone, and then looked at until their snapshots are completed.
    assert!((pages + 2..pages + 20).contains(&lists), "{lists} listings, {pages} pages");
}

/// When creates came in.
fn creates(stage: &Stage) -> Vec<Timestamp> {
    let provider = stage.memory.provider.lock().unwrap();
    let acts = provider.acts().iter().filter(|act| act.operation == Operation::Create);
    acts.map(|act| act.at).collect()
}

/// `cargo bench` has the same with ten thousand servers and a fifth of the latency, over HTTP.
#[tokio::test(start_paused = true)]
async fn creates_of_all_are_sent_in_little_more_than_the_time_that_they_take() {
    const SERVERS: u64 = 2000;
    let (stage, settings) = fleet(SERVERS, "max_in_flight = 64", |_| {});
    stage.memory.provider.lock().unwrap().add_fault("any:latency=250ms".parse().unwrap());
    let daemon = stage.start(&settings).await;
    stage.clock.sleep(Duration::from_secs(120 + 55)).await;
    let tick: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
    let creates = creates(&stage);
    assert_eq!(creates.len() as u64, SERVERS);
    let first = creates[0].duration_since(tick).as_secs_f64();
    let took = creates[creates.len() - 1].duration_since(tick).as_secs_f64();
    let ideal = SERVERS as f64 * 0.25 / 64.0;
    eprintln!("the first after {first:.2} s, all in {:.2} times the ideal", took / ideal);
    // The scheduler's half second, the gathering, the listing and half of the create.
    assert!(first <= 0.5 + 0.2 + 0.04 + 0.25 + 0.125 + 0.01, "{first} s");
    assert!(took <= 1.25 * ideal, "{took} s, {ideal} s would be ideal");
    drop(daemon);
}

/// What befalls listings of the account, and no others.
#[derive(Clone, Copy)]
enum Trouble {
    None,
    Hangs,
    Status(u16),
    Throttled,
    NoCount,
    LessRowsThanCounted,
}

struct Troubled(InMemory, Clock, Trouble);

impl Transport for Troubled {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        if request.path != "snapshots/" || request.method != Method::Get {
            return self.0.exchange(request);
        }
        Box::pin(async move {
            let mut response = self.0.exchange(request).await?;
            match self.2 {
                Trouble::None => {}
                Trouble::Hangs => {
                    let timeout = Duration::from_secs(300);
                    self.1.sleep(timeout).await;
                    return Err(TransportError::Timeout(timeout));
                }
                Trouble::Status(status) => response.status = status,
                Trouble::Throttled => {
                    response.status = 429;
                    response.retry_after = Some("1".to_owned());
                }
                Trouble::NoCount | Trouble::LessRowsThanCounted => {
                    let body = response.body.unwrap();
                    let mut page: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    let page = page.as_object_mut().unwrap();
                    if matches!(self.2, Trouble::NoCount) {
                        page.remove("count");
                    }
                    // The oldest, which are to be pruned, are missing.
                    let rows = page["results"].as_array_mut().unwrap();
                    rows.retain(|row| row["name"] != "snapring-20261120T030000Z");
                    response.body = Ok(serde_json::to_vec(page).unwrap());
                }
            }
            Ok(response)
        })
    }
}

/// S9 for a fleet: whatever happens to the shared listing, no server waits long for it, and none trusts
/// one that may lack rows.
#[rstest::rstest]
#[case::nothing(Trouble::None, 1, 1)]
#[case::hangs(Trouble::Hangs, 32, 41)]
#[case::fails(Trouble::Status(500), 32, 50)]
#[case::is_refused(Trouble::Status(403), 2, 41)]
#[case::is_throttled(Trouble::Throttled, 40, 50)]
#[case::is_not_counted(Trouble::NoCount, 2, 41)]
#[case::is_miscounted(Trouble::LessRowsThanCounted, 32, 50)]
#[tokio::test(start_paused = true)]
async fn a_listing_of_the_account_that_cannot_be_used_holds_nobody_up_for_long(
    #[case] trouble: Trouble,
    #[case] seconds: i64,
    #[case] lists: usize,
) {
    let (stage, settings) = fleet(40, "max_in_flight = 64", |_| {});
    let transport = Troubled(stage.memory.clone(), stage.clock.clone(), trouble);
    let daemon = stage.daemon(&settings, Box::new(transport)).await;
    stage.clock.sleep(Duration::from_secs(115)).await;
    let before = stage.memory.provider.lock().unwrap().count(Operation::List);
    let tick: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
    while creates(&stage).len() < 40 {
        stage.clock.sleep(Duration::from_millis(100)).await;
        let late = stage.clock.now().wall.duration_since(tick).as_secs();
        assert!(late <= seconds, "{late} s, {} creates", creates(&stage).len());
    }
    let after = stage.memory.provider.lock().unwrap().count(Operation::List);
    assert!(after - before <= lists, "{} listings", after - before);
    stage.pass(2).await;
    daemon.finish().await;
    let mut told = stage.told();
    told.sort();
    assert_eq!(told, (101..141).map(|id| format!("{id} rotated")).collect::<Vec<_>>());
    let deleted = stage.memory.provider.lock().unwrap().deleted().count();
    assert_eq!(deleted, 40, "one each: the oldest");
}

/// A rotation that an earlier process began, and pages of which it is unknown whether a row was lost
/// between them: what may be there already is looked for alone.
#[tokio::test(start_paused = true)]
async fn after_a_start_what_is_owed_is_looked_for_alone_where_listings_have_pages() {
    let (stage, settings) = fleet(40, "", |options| options.page_size = Some(50));
    stage.clock.sleep(Duration::from_secs(600)).await;
    let daemon = stage.start(&settings).await;
    stage.pass(1).await;
    daemon.finish().await;
    let provider = stage.memory.provider.lock().unwrap();
    let mut looked = std::collections::BTreeSet::new();
    for call in provider.calls() {
        match (call.operation, call.server) {
            (Some(Operation::List), Some(server)) => {
                looked.insert(server);
            }
            (Some(Operation::Create), Some(server)) => assert!(looked.contains(&server)),
            _ => {}
        }
    }
    assert_eq!((looked.len(), stage.told().len()), (40, 40));
}

/// A second signal is not waited for; a first one lets the shared listing end.
#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_the_shared_listing_end_and_starts_nothing_new() {
    let (stage, settings) = fleet(40, "", |_| {});
    let daemon = stage.start(&settings).await;
    stage.clock.sleep(Duration::from_secs(115)).await;
    stage.memory.provider.lock().unwrap().add_fault("list:latency=10s".parse().unwrap());
    stage.clock.sleep(Duration::from_secs(8)).await;
    let began = stage.clock.now().uptime;
    daemon.shutdown().await;
    let took = stage.clock.now().uptime - began;
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(10), "{took:?}");
    let provider = stage.memory.provider.lock().unwrap();
    assert_eq!(provider.calls().back().and_then(|call| call.status), Some(200), "it has ended");
    assert_eq!(provider.count(Operation::Create), 0);
    let told = stage.told();
    assert_eq!(told.len(), 40);
    assert!(told.iter().all(|words| words.ends_with("failed")), "{told:?}");
}

mod adversity;
mod reload;
mod scarce;
