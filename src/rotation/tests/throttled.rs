//! What the provider asks to wait, and how long a listing of a cache may count.

use jiff::Timestamp;

use super::*;
use crate::activity::{Activities, Activity, Subject};
use crate::provider::client::Throttled;

/// The next tick comes in 24 hours, and so would the provider's turn.
#[rstest]
#[case::to_list("list:status=429,retry-after=86400", 0, 1)]
#[case::to_create("create:status=429,retry-after=86400", 1, 30_000)]
#[case::to_create_after_the_act("create:status-after=429,retry-after=86400", 1, 1_000_000)]
#[tokio::test(start_paused = true)]
async fn who_is_throttled_past_the_next_tick_does_not_sleep_through_it(
    #[case] fault: &str,
    #[case] creates: usize,
    #[case] milliseconds: u64,
) {
    let notes = Notes::default();
    let _listening = notes.listen();
    let scene = Scene::new("").holding("c").faults(&[fault]);
    let report = scene.rotate().await;
    assert_eq!(scene.calls(Operation::Create), creates, "{report:?}");
    assert!(report.duration_ms <= milliseconds, "{report:?}");
    if fault.contains("after=429") {
        assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    } else {
        assert_eq!(report.outcome, RotationOutcome::Failed, "{report:?}");
        let until = "throttled by the provider until 2026-11-24 03:00:0";
        assert!(reason(&report).contains(until), "{report:?}");
    }
    let told = notes.of("throttled");
    assert_eq!(told.len(), 1, "{told:?}");
    let (level, fields) = &told[0];
    assert_eq!(*level, tracing::Level::WARN);
    assert!(
        fields["message"].contains("web-01") && fields["message"].contains("until 2026-11-24 ")
    );
}

/// A later rotation of the server makes no room for a create that may not be sent, and sends nothing.
#[tokio::test(start_paused = true)]
async fn a_rotation_that_begins_while_its_server_is_throttled_fails_without_a_call() {
    let faults = ["create:status=429,retry-after=86400,times=1"];
    let mut scene = Scene::new("").holding("c c c c").faults(&faults);
    let server = Server { schedules: every_hour(), ..(*scene.server).clone() };
    scene.server = Arc::new(server);
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Failed);
    let before = scene.memory.provider.lock().unwrap().calls().len();
    let tick = Tick::at("2026-11-23T04:00:00Z".parse().unwrap());
    let server = Arc::clone(&scene.server);
    let asked_by = AskedBy::Schedule;
    let order = Order { server, tick, asked_by, claim: None, by_daemon: true };
    let report = rotate(&scene.context, order).await;
    assert_eq!(report.outcome, RotationOutcome::Failed, "{report:?}");
    assert!(
        reason(&report).starts_with("throttled by the provider until 2026-11-24 "),
        "{report:?}"
    );
    assert_eq!(scene.memory.provider.lock().unwrap().calls().len(), before);
    assert!(scene.deleted().is_empty());
}

fn every_hour() -> Arc<[Schedule]> {
    let text = "[[server]]\nid = 1\nschedule = \"0 * * * *\"\nkeep = 1\n";
    Arc::clone(&config::parse("test.toml", text).unwrap().settings.servers[0].schedules)
}

/// S9: the other server's call goes out after a back-off, alone, and the account is open again.
#[tokio::test(start_paused = true)]
async fn a_wait_of_a_day_for_one_server_is_not_the_others() {
    let faults = ["list:status=429,retry-after=86400,server=101"];
    let scene = Scene::new("").faults(&faults);
    let client = &scene.context.client;
    let scope = CallContext::of(&scene.server, CancellationToken::new());
    let error = client.list(WEB, &scope).await.unwrap_err();
    assert!(error.to_string().contains("throttled by the provider until 2026-11-24 "), "{error}");
    let other =
        CallContext::of_server(ServerId::new(102), "db".to_owned(), CancellationToken::new());
    let begun = scene.clock.now().uptime;
    assert!(client.list(ServerId::new(102), &other).await.is_ok());
    let took = scene.clock.now().uptime - begun;
    assert!(took <= Duration::from_secs(2), "{took:?}");
    // It is not asked for again, and says so at once.
    let error = client.list(WEB, &scope).await.unwrap_err();
    assert!(matches!(error, CallError::Throttled(_)), "{error}");
    assert_eq!(scene.calls(Operation::List), 2);
}

/// A listing from a cache is as old as the cache says: it does not show that a create was not carried
/// out, and a delete on it comes too late sooner.
#[tokio::test(start_paused = true)]
async fn the_age_of_a_listing_counts_from_when_the_cache_has_it() {
    let faults = ["create:status=500,times=1", "list:header=age:30"];
    let scene = Scene::new("").holding("c").faults(&faults);
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
    let provider = scene.memory.provider.lock().unwrap();
    let creates = provider.calls().iter().filter(|call| call.operation == Some(Operation::Create));
    let at: Vec<_> = creates.map(|call| call.at).collect();
    let apart = at[1].duration_since(at[0]).as_secs();
    assert!(apart >= 20 + 30, "{apart} s: `settle`, and the age");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_on_a_listing_that_is_older_than_a_minute_with_its_age() {
    let scene = Scene::new("").holding("c c c c c").faults(&["list:header=age:40"]);
    let scope = CallContext::of(&scene.server, CancellationToken::new());
    let listing = scene.context.client.list(WEB, &scope).await.unwrap();
    let ring = Ring::of(listing, &scene.server.policy);
    let age = ring.listing().asked_at.age_at(scene.clock.now());
    assert_eq!(age, Duration::from_secs(40));
}

/// A call that stood in the line when the answer to another one about its server came.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_its_turn_heeds_what_the_provider_asks_meanwhile() {
    let faults = ["list:status=429,retry-after=86400,times=1", "list:latency=1s"];
    let scene = Scene::new("\n[api]\nmax_in_flight = 1\n").faults(&faults);
    let client = &scene.context.client;
    let in_a_minute = scene.clock.now().uptime + Duration::from_secs(60);
    let scope = CallContext::until(in_a_minute);
    let (first, second) = tokio::join!(client.list(WEB, &scope), client.list(WEB, &scope));
    assert!(first.is_err());
    assert!(matches!(second, Err(CallError::Throttled(_))), "{second:?}");
    assert_eq!(scene.calls(Operation::List), 1);
}

/// The waits for the provider that are under way.
fn throttled(activities: &Activities) -> Vec<(Option<Subject>, Timestamp)> {
    let under_way = activities.under_way().into_iter();
    under_way
        .filter_map(|it| match it.activity {
            Activity::Throttled { until } => Some((it.server, until)),
            _ => None,
        })
        .collect()
}

/// What a person at a terminal is told, and what status and page show meanwhile.
#[tokio::test(start_paused = true)]
async fn a_wait_of_the_account_is_shown_with_its_end_while_it_lasts() {
    for span in [120, 20] {
        let fault = format!("list:status=429,retry-after={span},times=1");
        let scene = Scene::new("").faults(&[&fault]);
        let notes = Notes::default();
        let _listening = notes.listen();
        let activities = Activities::watched(scene.clock.clone());
        let client = scene.context.client.watched_by(activities.clone());
        let begun = scene.clock.now().wall;
        let scope = CallContext::of(&scene.server, CancellationToken::new());
        let other =
            CallContext::of_server(ServerId::new(102), "db".to_owned(), CancellationToken::new());
        let look = async {
            scene.clock.sleep(Duration::from_secs(5)).await;
            (client.throttled(), throttled(&activities))
        };
        let (one, two, (shown, watched)) =
            tokio::join!(client.list(WEB, &scope), client.list(ServerId::new(102), &other), look);
        assert!(one.is_ok() && two.is_ok());
        let until = begun + jiff::SignedDuration::from_secs(span);
        let is_it =
            |at: Timestamp| at.duration_since(until).abs() <= jiff::SignedDuration::from_secs(1);
        assert!(shown.account.is_some_and(is_it) && shown.servers.is_empty(), "{shown:?}");
        assert_eq!(client.throttled(), Throttled::default(), "it is over");
        assert!(matches!(watched[..], [(None, until)] if is_it(until)), "{watched:?}");
        assert_eq!(activities.under_way(), []);
        let logged = notes.of("throttled");
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert!(is_it(logged[0].1["until"].parse().unwrap()), "{logged:?}");
    }
}

/// A call that will not wait so long says so in its error only.
#[tokio::test(start_paused = true)]
async fn a_long_wait_of_a_server_is_shown_with_its_name_unless_the_call_gives_up_before() {
    let scene = Scene::new("").faults(&["list:status=429,retry-after=3600,server=101,times=1"]);
    let activities = Activities::watched(scene.clock.clone());
    let client = scene.context.client.watched_by(activities.clone());
    let begun = scene.clock.now();
    let mut scope = CallContext::of(&scene.server, CancellationToken::new());
    scope.give_up_at = Some(begun.uptime + Duration::from_secs(60));
    assert!(client.list(WEB, &scope).await.is_err());
    let error = client.list(WEB, &scope).await.unwrap_err();
    assert!(matches!(error, CallError::Throttled(_)), "{error}");
    assert_eq!(activities.under_way(), []);
    let until = client.throttled().servers[&WEB];
    assert_eq!(until.duration_since(begun.wall).as_secs() / 10, 360);
    scope.give_up_at = Some(begun.uptime + Duration::from_secs(7200));
    let look = async {
        scene.clock.sleep(Duration::from_secs(1800)).await;
        throttled(&activities)
    };
    let (listed, watched) = tokio::join!(client.list(WEB, &scope), look);
    assert!(listed.is_ok());
    let Some((Some((WEB, name)), shown)) = watched.first() else { panic!("{watched:?}") };
    assert_eq!((name.as_str(), *shown), ("web-01", until));
    assert_eq!(client.throttled(), Throttled::default());
}

/// A create without an answer is looked for for as long as it may arrive: 54 s.
#[tokio::test(start_paused = true)]
async fn a_rotation_that_waits_to_see_what_became_of_a_create_says_until_when() {
    let scene = Scene::new("timezone = \"Europe/Berlin\"").faults(&["create:drop-before,times=1"]);
    let notes = Notes::default();
    let _listening = notes.listen();
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
    let told = notes.of("settle");
    let (level, fields) = &told[0];
    assert_eq!(*level, tracing::Level::INFO);
    let message = &fields["message"];
    let words = "may have been created anyway: looking for it until 04:00:5";
    assert!(message.starts_with("web-01: ") && message.contains(words), "{message}");
    assert!(message.ends_with(" CET before trying again"), "{message}");
}

/// What concerns no single server is told in the zone that all servers have.
#[tokio::test(start_paused = true)]
async fn a_wait_of_the_account_is_told_in_the_zone_of_its_servers() {
    let scene =
        Scene::new("timezone = \"Europe/Berlin\"").faults(&["any:status=429,retry-after=60"]);
    let client = &scene.context.client;
    let scope = CallContext::of_account(CancellationToken::new());
    let error = client.servers(&scope).await.unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("throttled by the provider until ") && words.ends_with(" CET"),
        "{words}"
    );
}

/// A create that may be sent again later: until then is waited, and nothing else is a time.
#[tokio::test(start_paused = true)]
async fn a_create_that_was_throttled_is_told_with_one_time() {
    let words = {
        let scene = Scene::new("").faults(&["create:status=429,retry-after=9"]);
        let scope = CallContext::of(&scene.server, CancellationToken::new());
        let client = &scene.context.client;
        let listing = client.list(WEB, &scope).await.unwrap();
        let ring = Ring::of(listing, &scene.server.policy);
        let tick = Tick::at(scene.clock.now().wall);
        let progress = crate::plan::Progress::default();
        let now = scene.clock.now().wall;
        let policy = &scene.server.policy;
        let step = crate::plan::next_step(&ring, policy, tick, AskedBy::Schedule, &progress, now);
        let crate::plan::Step::Create(creation) = step else { panic!("{step:?}") };
        let error = client.create(&creation, "", 1, &scope).await.unwrap_err();
        assert!(error.to_string().contains("throttled by the provider until "), "{error}");
        crate::rotation::event::may_exist("snapring-1", &error, "03:00:20 UTC")
    };
    assert_eq!(
        words,
        "the provider answered 429 (too many requests); trying again after 03:00:20 UTC, unless snapring-1 is \
         listed before"
    );
}
