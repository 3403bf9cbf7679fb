//! Whole rotations against the sandbox in memory, on a paused clock: each fault ends in the state
//! that the rules promise.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rstest::rstest;
use secrecy::SecretString;
use tracing_subscriber::layer::{Layer, SubscriberExt};

use super::*;
use crate::call::Operation;
use crate::config;
use crate::memory::RingMemory;
use crate::naming::{ManagedPrefix, Prefix, ServerId, SnapshotId};
use crate::plan::Deletion;
use crate::provider::credentials::Credentials;
use crate::report::{KnownCause, RotationOutcome};
use crate::rotation::hooks::{HookError, Invocation, Running};
use crate::rotation::lock::Exclusion;
use crate::rotation::lock::MemoryRecords;
use crate::sandbox::in_memory::InMemory;
use crate::sandbox::provider::{Options, Provider, StoredSnapshot};
use crate::testing::notes::Notes;

mod cost;
mod late;
mod limits;
mod throttled;

const WEB: ServerId = ServerId::new(101);

/// A provider, a client, and one server's policy; 2026-11-23 03:00 and counting.
struct Scene {
    clock: Clock,
    memory: InMemory,
    context: Context,
    server: Arc<Server>,
    hooks: Arc<RecordedHooks>,
    exclusion: Exclusion,
}

#[derive(Default)]
struct RecordedHooks {
    ran: Mutex<Vec<String>>,
    before_fails: bool,
    before_takes: Option<(Clock, Duration)>,
}

impl HookRunner for RecordedHooks {
    fn run(&self, invocation: Invocation) -> Running<'_> {
        let result = invocation.variables.iter().find(|(name, _)| *name == "SNAPRING_RESULT");
        let result = result.map(|(_, result)| format!(" {result}")).unwrap_or_default();
        self.ran.lock().unwrap().push(format!("{}{result}", invocation.moment));
        let fails = self.before_fails && invocation.moment == "before";
        let error = HookError { moment: invocation.moment, problem: "said no".to_owned() };
        let takes = self.before_takes.as_ref().filter(|_| invocation.moment == "before");
        Box::pin(async move {
            if let Some((clock, span)) = takes {
                clock.sleep(*span).await;
            }
            if fails { Err(error) } else { Ok(()) }
        })
    }
}

impl Scene {
    fn new(lines: &str) -> Self {
        Self::with(lines, |_| {}, RecordedHooks::default())
    }

    fn with(lines: &str, change: impl FnOnce(&mut Options), hooks: RecordedHooks) -> Self {
        let clock = Clock::simulated("2026-11-23T03:00:00Z".parse().unwrap());
        let token = SecretString::from("vps_test_token");
        let mut options = Options::new(2, token.clone(), 1);
        change(&mut options);
        let memory = InMemory::new(Provider::new(options), clock.clone(), Duration::from_secs(30));
        let text = format!(
            "[[server]]\nid = 101\nname = \"web-01\"\nschedule = \"0 3 * * *\"\nkeep = 3\n{lines}\n"
        );
        let settings = config::parse("test.toml", &text)
            .unwrap_or_else(|error| panic!("{}", error.render(false)))
            .settings;
        let client = Client::new(
            Box::new(memory.clone()),
            &settings.api,
            Credentials::known(token),
            clock.clone(),
            1,
        );
        let hooks = Arc::new(hooks);
        let exclusion = Exclusion::in_process();
        let context = Context {
            client: Arc::new(client),
            hooks: Arc::clone(&hooks) as Arc<dyn HookRunner>,
            exclusion: exclusion.clone(),
            spans: settings.api.create_spans(),
            pins: Pins::default(),
            statuses: Statuses::default(),
            completion_times: CompletionTimes::default(),
            memories: Memories::default(),
            on_step: None,
            shutdown: CancellationToken::new(),
        };
        let server = Arc::clone(&settings.servers[0]);
        Self { clock, memory, context, server, hooks, exclusion }
    }

    /// Puts snapshots into the ring, a day apart, the last a day ago: `c`, `f`, `?` managed ones,
    /// `H` by hand, `O` a managed one of the prefix `snapring`.
    fn holding(self, words: &str) -> Self {
        let count = words.split_whitespace().count();
        for (place, word) in words.split_whitespace().enumerate() {
            let hours = 24 * i64::try_from(count - place).unwrap();
            let made = self.clock.now().wall - jiff::SignedDuration::from_hours(hours);
            let name = match word {
                "H" => format!("by-hand-{place}"),
                "O" => "snapring".parse::<Prefix>().unwrap().name(Tick::at(made)),
                _ => self.server.policy.prefix.name(Tick::at(made)),
            };
            let status = match word {
                "f" => "failed",
                "?" => "archived",
                _ => "completed",
            };
            self.memory.provider.lock().unwrap().add_snapshot(WEB, &name, status, made);
        }
        self
    }

    fn faults(self, faults: &[&str]) -> Self {
        for fault in faults {
            self.memory.provider.lock().unwrap().add_fault(fault.parse().unwrap());
        }
        self
    }

    fn job(&self) -> Job {
        let tick = Tick::at("2026-11-23T03:00:00Z".parse().unwrap());
        let next_start = Some("2026-11-24T03:00:00Z".parse().unwrap());
        Job { server: Arc::clone(&self.server), tick, asked_by: AskedBy::Schedule, next_start }
    }

    async fn rotate(&self) -> Report {
        self.rotate_as(&self.job()).await
    }

    async fn rotate_as(&self, job: &Job) -> Report {
        let claim = self.exclusion.claim(job.server.id).unwrap();
        carry_out(&self.context, job.clone(), &claim).await
    }

    fn rows(&self) -> Vec<StoredSnapshot> {
        self.memory.provider.lock().unwrap().snapshots(WEB, self.clock.now().wall)
    }

    /// How many snapshots carry the tick's name.
    fn made(&self) -> usize {
        let name = self.server.policy.prefix.name(self.job().tick);
        self.rows().iter().filter(|row| row.name == name).count()
    }

    fn deleted(&self) -> Vec<u64> {
        self.memory.provider.lock().unwrap().deleted().map(|row| row.id.0).collect()
    }

    fn calls(&self, operation: Operation) -> usize {
        self.memory.provider.lock().unwrap().count(operation)
    }
}

fn reason(report: &Report) -> &str {
    report.reason.as_deref().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_rotation_creates_waits_and_prunes_the_oldest() {
    let scene = Scene::new("").holding("c c c");
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!(report.created.as_deref(), Some("snapring-20261123T030000Z"));
    assert_eq!(report.deleted, ["snapring-20261120T030000Z"]);
    assert_eq!(scene.deleted(), [801]);
    assert_eq!(scene.rows().len(), 3);
    assert_eq!(report.api_calls as usize, scene.memory.provider.lock().unwrap().calls().len());
    assert!(report.duration_ms >= 180_000, "it waited for the snapshot: {report:?}");
}

#[rstest]
#[case::no_answer_after_the_act("create:drop-after,times=1", 1)]
#[case::no_answer_before_the_act("create:drop-before,times=1", 2)]
#[case::an_error_before_the_act("create:status=500,times=1", 2)]
#[case::an_error_after_the_act("create:status-after=502,times=1", 1)]
#[case::a_torn_answer("create:torn,times=1", 1)]
#[case::an_empty_answer("create:empty,times=1", 1)]
#[case::a_proxys_page("create:garbage,times=1", 1)]
#[case::a_timeout("create:hang,times=1", 2)]
#[case::a_timeout_after_the_act("create:hang-after,times=1", 1)]
#[case::an_answer_later_than_the_timeout("create:latency=50s,times=1", 1)]
#[case::throttled("create:status=429,retry-after=120,times=2", 3)]
#[case::throttled_without_a_time("create:status=429,times=1", 2)]
#[case::throttled_after_the_act("create:status-after=429,retry-after=5,times=1", 1)]
#[case::busy("create:status=409,times=3", 4)]
#[case::busy_for_longer_than_tries_last("create:status=423,times=9", 10)]
#[case::busy_after_the_act("create:status-after=409,times=1", 1)]
#[case::too_slow_after_the_act("create:status-after=408,times=1", 1)]
#[case::too_early_after_the_act("create:status-after=425,times=1", 1)]
#[case::another_success_after_the_act("create:status-after=202,times=1", 1)]
#[tokio::test(start_paused = true)]
async fn a_create_without_a_clear_answer_is_never_made_twice(
    #[case] fault: &str,
    #[case] creates: usize,
) {
    let scene = Scene::new("").holding("c c c").faults(&[fault]);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!(scene.made(), 1);
    assert_eq!(scene.calls(Operation::Create), creates);
    assert_eq!(scene.deleted(), [801]);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_lost_create_that_shows_up_late_is_found_before_a_second_try(
    #[values(
        "drop-after",
        "status-after=408",
        "status-after=409",
        "status-after=423",
        "status-after=425",
        "status-after=429",
        "status-after=500",
        "status-after=200"
    )]
    lost: &str,
) {
    let lost = format!("create:{lost},times=1");
    let scene = Scene::new("").holding("c").faults(&[&lost, "create:late=15s,times=1"]);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!((scene.made(), scene.calls(Operation::Create)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_changes_names_is_not_asked_again_and_again() {
    let scene = Scene::new("").holding("c").faults(&["create:drop-after"]);
    let provider = Arc::clone(&scene.memory.provider);
    let clock = scene.clock.clone();
    tokio::spawn(async move {
        clock.sleep(Duration::from_millis(500)).await;
        let mut provider = provider.lock().unwrap();
        let now = clock.now().wall;
        let made = provider.snapshots(WEB, now).pop().unwrap();
        provider.remove_snapshot(made.id);
        provider.add_snapshot(WEB, &made.name.to_lowercase(), "in_progress", now);
    });
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Failed);
    assert!(
        reason(&report)
            .contains("snapring-20261123t030000z has appeared and may be the requested snapshot"),
        "{report:?}"
    );
    assert_eq!(scene.calls(Operation::Create), 1);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_shows_up_late_is_not_taken_for_gone() {
    let scene = Scene::new("").holding("c").faults(&["create:late=15s"]);
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
}

#[tokio::test(start_paused = true)]
async fn throttling_is_waited_out_as_long_as_the_provider_asks() {
    let scene = Scene::new("").faults(&["create:status=429,retry-after=300,times=1"]);
    let begun = scene.clock.now().uptime;
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
    assert!(scene.clock.now().uptime - begun >= Duration::from_secs(300 + 180));
    let provider = scene.memory.provider.lock().unwrap();
    let after = provider.calls().iter().find(|call| call.status == Some(429)).unwrap().at;
    let next = provider.calls().iter().find(|call| call.at > after).unwrap().at;
    assert!(next.duration_since(after).as_secs() >= 300, "nobody called in between");
}

#[rstest]
#[case::torn("list:torn")]
#[case::empty("list:empty")]
#[case::garbage("list:garbage")]
#[case::too_long("list:huge")]
#[case::a_wrong_count("list:wrong-count")]
#[case::errors("list:status=503")]
#[case::closed("list:drop-before")]
#[case::hanging("list:hang")]
#[case::refused("list:status=400")]
#[case::a_redirect("list:status=301")]
#[case::a_part("list:status-after=206")]
#[case::a_part_by_its_range("list:header=content-range:items 0-1/5")]
#[case::a_next_page_in_a_header("list:header=link:<http://x/?page=2>; rel=next")]
#[case::from_a_cache("list:header=age:600")]
#[case::from_a_cache_of_unknown_age("list:header=age:soon")]
#[case::throttled_past_the_next_tick("list:status=429,retry-after=864000")]
#[tokio::test(start_paused = true)]
async fn without_a_complete_listing_nothing_is_changed(#[case] fault: &str) {
    let scene = Scene::new("").holding("c c c c c").faults(&[fault]);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Failed, "{report:?}");
    assert_eq!((scene.calls(Operation::Create), scene.calls(Operation::Delete)), (0, 0));
    assert!(scene.calls(Operation::List) <= 5, "one try and four more");
    assert!(!reason(&report).is_empty());
}

#[rstest]
#[case("list:torn,times=3")]
#[case("list:status=500,times=4")]
#[case("list:wrong-count,times=1")]
#[case("list:status=429,retry-after=5,times=2")]
#[case("list:status=423,times=9")]
#[case("list:header=age:600,times=2")]
#[case("list:header=age:60")]
#[tokio::test(start_paused = true)]
async fn a_listing_is_tried_again(#[case] fault: &str) {
    let scene = Scene::new("").holding("c c c").faults(&[fault]);
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
}

#[rstest]
#[case::it_fails("create:fails", "the provider failed to create snapring-20261123T030000Z")]
#[case::it_stays_in_progress("create:never-completes", "was not completed within 45m")]
#[case::it_disappears("create:vanishes", "disappeared from the provider's listing")]
#[tokio::test(start_paused = true)]
async fn when_the_new_one_is_not_completed_nothing_is_pruned(
    #[case] fault: &str,
    #[case] expected: &str,
) {
    let scene = Scene::new("").holding("c c c c").faults(&[fault]);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Failed);
    assert!(reason(&report).contains(expected), "{report:?}");
    assert_eq!(scene.deleted(), Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn a_full_ring_gives_up_one_snapshot_only_even_if_the_create_then_fails() {
    for fault in
        ["create:fails", "create:status=500", "create:status=400", "create:never-completes"]
    {
        let scene = Scene::new("").holding("c c c c c").faults(&[fault]);
        assert_eq!(scene.rotate().await.outcome, RotationOutcome::Failed);
        assert_eq!(scene.deleted(), [801], "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn snapshots_of_others_pinned_ones_and_unknown_states_are_never_touched() {
    let scene = Scene::new("pin = [802]").holding("H c ? c f");
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!(scene.deleted(), [805], "the failed one made room");
    let names: Vec<String> = scene.rows().iter().map(|row| row.name.clone()).collect();
    assert_eq!(names[0], "by-hand-0");
    assert_eq!(names.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn five_made_by_hand_block_the_ring_and_are_named() {
    let scene = Scene::new("").holding("H H H H H");
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Blocked);
    assert!(
        reason(&report).contains("foreign by-hand-0 (801), ")
            && reason(&report).contains("by-hand-4 (805). Delete"),
        "{report:?}"
    );
    assert_eq!(scene.memory.provider.lock().unwrap().calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_snapshot_that_lingers_does_not_cost_a_second_one() {
    let scene = Scene::new("").holding("c c c c c").faults(&["delete:linger=10s,times=1"]);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!(scene.deleted(), [801, 802, 803]);
    assert_eq!(scene.memory.provider.lock().unwrap().peak(), 5);
}

/// The first try is carried out and its answer lost, the second is refused, and the listing is late:
/// nothing says that the slot is free, and a second victim would be one too many.
#[tokio::test(start_paused = true)]
async fn a_delete_that_is_refused_after_a_lost_answer_does_not_cost_a_second_one() {
    for lost in ["delete:drop-after,times=1", "delete:status-after=500,times=1"] {
        let faults = ["delete:linger=30s,times=1", lost, "delete:status=400,times=1"];
        let scene = Scene::new("").holding("c c c c c").faults(&faults);
        let report = scene.rotate().await;
        assert_eq!(report.outcome, RotationOutcome::Failed, "{report:?}");
        assert_eq!(scene.deleted(), [801], "{lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_deleted_does_not_keep_the_others() {
    for fault in ["delete:status=400,times=1", "delete:status=500,times=5"] {
        let scene = Scene::new("").holding("c c c c").faults(&[fault]);
        let report = scene.rotate().await;
        assert_eq!(report.outcome, RotationOutcome::Failed, "{fault}");
        assert!(
            reason(&report).contains("snapring-20261119T030000Z could not be deleted"),
            "{report:?}"
        );
        assert_eq!(scene.deleted(), [802], "{fault}");
    }
}

#[rstest]
#[case("delete:drop-after,times=1")]
#[case("delete:drop-before,times=1")]
#[case("delete:status-after=500,times=1")]
#[case("delete:status-after=200,times=1")]
#[case("delete:status=404,times=1")]
#[case("delete:status=409,times=9")]
#[case("delete:status-after=409,times=1")]
#[case("delete:status-after=429,times=1")]
#[case("delete:status-after=429,retry-after=90,times=1")]
#[tokio::test(start_paused = true)]
async fn a_delete_without_a_clear_answer_is_cleared_up(#[case] fault: &str) {
    let scene = Scene::new("").holding("c c c").faults(&[fault]);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!(report.deleted, ["snapring-20261120T030000Z"]);
}

#[tokio::test(start_paused = true)]
async fn a_tick_whose_snapshot_is_there_is_adopted_and_the_ring_pruned() {
    let scene = Scene::new("").holding("c c c");
    let now = scene.clock.now().wall;
    scene.memory.provider.lock().unwrap().add_snapshot(
        WEB,
        "snapring-20261123T030000Z",
        "completed",
        now,
    );
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Adopted);
    assert_eq!((scene.calls(Operation::Create), scene.deleted()), (0, vec![801]));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_create_fails_with_the_providers_words() {
    let scene = Scene::with("cap = 6", |_| {}, RecordedHooks::default()).holding("H H c c c");
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Failed);
    assert!(reason(&report).contains("This snapshot cannot be created"), "{report:?}");
    assert_eq!(scene.deleted(), Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn a_disabled_server_costs_no_call_and_one_too_soon_costs_one() {
    let scene = Scene::new("enabled = false");
    let report = scene.rotate().await;
    assert_eq!((report.outcome, report.known_cause), (RotationOutcome::Skipped, None));
    assert_eq!(scene.calls(Operation::List), 0);

    let scene = Scene::new("min_interval = \"25h\"").holding("c");
    let report = scene.rotate().await;
    assert_eq!((report.outcome, report.known_cause), (RotationOutcome::Skipped, None));
    assert_eq!(
        reason(&report),
        "too soon after snapring-20261122T030000Z: min_interval is 1day 1h"
    );
    assert_eq!(report.api_calls, 1);
}

#[tokio::test(start_paused = true)]
async fn pages_foreign_links_bare_arrays_and_ignored_filters_make_no_difference() {
    let changes: [fn(&mut Options); 3] = [
        |options| options.page_size = Some(2),
        |options| options.bare_array = true,
        |options| options.ignore_filter = true,
    ];
    for change in changes {
        let scene = Scene::with("", change, RecordedHooks::default())
            .holding("c H c c")
            .faults(&["list:foreign-next"]);
        let now = scene.clock.now().wall;
        let name = "snapring-20200101T030000Z";
        scene.memory.provider.lock().unwrap().add_snapshot(
            ServerId::new(102),
            name,
            "completed",
            now,
        );
        let report = scene.rotate().await;
        assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
        assert_eq!(scene.deleted(), [801]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_ends_the_rotation_and_changes_nothing() {
    let scene = Scene::new("").holding("c c c c c");
    scene.memory.provider.lock().unwrap().options_mut().token = SecretString::from("vps_another");
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Failed);
    assert_eq!(report.known_cause, Some(KnownCause::Token));
    assert!(
        reason(&report).contains("the provider refused the token of $SNAPRING_TOKEN (401)"),
        "{report:?}"
    );
    assert_eq!(report.api_calls, 2, "the account was asked, too");
}

/// A 403 and a 401 are the server's, unless the account's own call is refused as well.
#[rstest]
#[case::of_the_server(&[], None, "the provider does not allow this for this server: could not create the snapshot: the provider answered 40")]
#[case::of_the_account(&["account:status=403"], Some(KnownCause::Token), "could not create the snapshot: the provider refused the token of $SNAPRING_TOKEN (40")]
#[case::of_a_dead_token(&["account:status=401"], Some(KnownCause::Token), "could not create the snapshot: the provider refused the token of $SNAPRING_TOKEN (40")]
#[case::of_an_account_that_hangs(&["account:hang"], None, "the provider does not allow")]
#[tokio::test(start_paused = true)]
async fn what_is_refused_is_the_servers_unless_the_account_is_refused_too(
    #[case] faults: &[&str],
    #[case] cause: Option<KnownCause>,
    #[case] words: &str,
    #[values("401", "403")] status: &str,
) {
    let refused = format!("create:status={status}");
    let faults = [&[refused.as_str()], faults].concat();
    let scene = Scene::new("").holding("c c c").faults(&faults);
    let report = scene.rotate().await;
    assert_eq!((report.outcome, report.known_cause), (RotationOutcome::Failed, cause));
    assert!(reason(&report).starts_with(words), "{report:?}");
    assert_eq!(report.api_calls, 3, "the account was asked once");
    assert_eq!(scene.deleted(), [] as [u64; 0]);
    let report = scene.rotate().await;
    assert_eq!(report.known_cause, cause);
    assert_eq!(report.api_calls, 2, "and not again within a minute");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_is_said_to_be() {
    let scene =
        Scene::with("", |options| drop(options.servers.remove(0)), RecordedHooks::default());
    let report = scene.rotate().await;
    assert!(reason(&report).starts_with("the account has no server with this id"), "{report:?}");
}

const HOOKS: &str = "hooks = { before = [\"quiesce\"], after = [\"resume\"] }";

#[rstest]
#[case::well("", false, &["before", "after completed"], RotationOutcome::Rotated)]
#[case::before_fails("", true, &["before", "after failed"], RotationOutcome::Failed)]
#[case::create_fails("create:status=400", false, &["before", "after failed"], RotationOutcome::Failed)]
#[case::wait_fails("create:fails", false, &["before", "after failed"], RotationOutcome::Failed)]
#[case::prune_fails("delete:status=400", false, &["before", "after completed"], RotationOutcome::Failed)]
#[case::nothing_to_create("list:status=500", false, &[], RotationOutcome::Failed)]
#[tokio::test(start_paused = true)]
async fn what_was_quiesced_is_woken_whatever_happened(
    #[case] fault: &str,
    #[case] before_fails: bool,
    #[case] ran: &[&str],
    #[case] outcome: RotationOutcome,
) {
    let hooks = RecordedHooks { before_fails, ..RecordedHooks::default() };
    let mut scene = Scene::with(HOOKS, |_| {}, hooks).holding("c c c");
    if !fault.is_empty() {
        scene = scene.faults(&[fault]);
    }
    let report = scene.rotate().await;
    assert_eq!(report.outcome, outcome, "{report:?}");
    assert_eq!(*scene.hooks.ran.lock().unwrap(), ran);
    if before_fails {
        assert_eq!(scene.calls(Operation::Create), 0);
    }
}

/// S8: its `after` hook is owed and cannot be run. Whatever else a rotation does, that is trouble.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_still_quiesced_fails_until_it_was_resumed() {
    let mut scene = Scene::new("").holding("c c c");
    scene.exclusion = Exclusion::remembered_in(&MemoryRecords::default(), &scene.clock);
    scene.context.exclusion = scene.exclusion.clone();
    let claim = scene.exclusion.claim(WEB).unwrap();
    claim.quiesces("web-01", "snapring-20261122T030000Z").await.unwrap();
    drop(claim);
    let words =
        "the before hook of snapring-20261122T030000Z ran, and the after hook failed: there is no";
    for made in [1, 1] {
        // The second one adopts the snapshot of the first.
        let report = scene.rotate().await;
        assert_eq!(report.outcome, RotationOutcome::Failed, "{report:?}");
        assert!(reason(&report).starts_with(words), "{report:?}");
        assert_eq!(scene.made(), made);
    }
    let fault = "list:status=500".parse().unwrap();
    scene.memory.provider.lock().unwrap().add_fault(fault);
    let report = scene.rotate().await;
    assert!(reason(&report).contains("; failed: could not list the snapshots"), "{report:?}");
    scene.memory.provider.lock().unwrap().faults().clear();
    scene.exclusion.claim(WEB).unwrap().is_awake().await;
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Adopted, "{report:?}");
}

/// The `after` hook that failed is run again first of all.
#[tokio::test(start_paused = true)]
async fn an_after_hook_of_a_later_rotation_resumes_a_quiesced_server() {
    let mut scene = Scene::new(HOOKS).holding("c c c");
    scene.exclusion = Exclusion::remembered_in(&MemoryRecords::default(), &scene.clock);
    scene.context.exclusion = scene.exclusion.clone();
    let claim = scene.exclusion.claim(WEB).unwrap();
    claim.quiesces("web-01", "snapring-20261122T030000Z").await.unwrap();
    claim.stays_quiesced("web-01", "exit status 7").await.unwrap();
    drop(claim);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!(*scene.hooks.ran.lock().unwrap(), ["after failed", "before", "after completed"]);
    assert_eq!(scene.exclusion.claim(WEB).unwrap().quiesced("web-01").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_a_hook_takes_is_not_taken_from_the_calls() {
    let hooks = "hooks = { before = [\"quiesce\"], timeout = \"5m\" }";
    let mut scene = Scene::new(hooks).holding("c c");
    let takes = (scene.clock.clone(), Duration::from_secs(90));
    scene.hooks = Arc::new(RecordedHooks { before_takes: Some(takes), ..Default::default() });
    scene.context.hooks = Arc::clone(&scene.hooks) as Arc<dyn HookRunner>;
    let mut job = scene.job();
    job.next_start = Some(scene.clock.now().wall + jiff::SignedDuration::from_secs(9));
    let report = scene.rotate_as(&job).await;
    assert_eq!((report.outcome, report.reason), (RotationOutcome::Rotated, None));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_in_the_middle_loses_nothing_and_the_next_start_goes_on() {
    let mut scene = Scene::new(HOOKS).holding("c c c");
    let shutdown = scene.context.shutdown.clone();
    let clock = scene.clock.clone();
    tokio::spawn(async move {
        clock.sleep(Duration::from_secs(60)).await;
        shutdown.cancel();
    });
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Failed);
    assert!(reason(&report).contains("interrupted by a shutdown"), "{report:?}");
    assert_eq!(*scene.hooks.ran.lock().unwrap(), ["before", "after failed"]);
    assert_eq!((scene.made(), scene.deleted().len()), (1, 0));

    scene.context.shutdown = CancellationToken::new();
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Adopted, "{report:?}");
    assert_eq!((scene.made(), scene.deleted()), (1, vec![801]));
}

#[tokio::test(start_paused = true)]
async fn one_servers_hanging_requests_do_not_hold_another_server_up() {
    let scene = Scene::new("").holding("c c c").faults(&["any:hang,server=102"]);
    let other = Arc::new(Server { id: ServerId::new(102), ..Server::clone(&scene.server) });
    let stuck = Job { server: other, ..scene.job() };
    let context = scene.context.clone();
    let claim = scene.exclusion.claim(stuck.server.id).unwrap();
    let stuck = tokio::spawn(async move { carry_out(&context, stuck, &claim).await });
    tokio::task::yield_now().await;
    let alone = Scene::new("").holding("c c c").rotate().await;
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated);
    assert_eq!(report.duration_ms, alone.duration_ms, "not a millisecond longer");
    assert_eq!(stuck.await.unwrap().outcome, RotationOutcome::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_pin_that_was_loaded_while_the_rotation_waited_is_honoured() {
    let scene = Scene::new("").holding("c c c c");
    let mut pinned = Server::clone(&scene.server);
    Arc::make_mut(&mut pinned.policy).pinned.insert(SnapshotId(801));
    scene.context.pins.set(&[Arc::new(pinned)]);
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
    assert_eq!(scene.deleted(), [802]);
}

/// S1: what a reload makes foreign is foreign at once.
#[tokio::test(start_paused = true)]
async fn a_prefix_that_is_not_adopted_any_more_when_the_rotation_prunes_is_foreign() {
    let lines = "prefix = \"new\"\nadopt_prefix = [\"snapring\"]";
    for is_adopted in [true, false] {
        let scene = Scene::new(lines).holding("O O O O");
        let mut server = Server::clone(&scene.server);
        if !is_adopted {
            let own = server.policy.prefix.own().clone();
            Arc::make_mut(&mut server.policy).prefix = ManagedPrefix::new(own, [].into());
        }
        scene.context.pins.set(&[Arc::new(server)]);
        let report = scene.rotate().await;
        assert_eq!(report.outcome, RotationOutcome::Rotated);
        assert_eq!(report.created.as_deref(), Some("new-20261123T030000Z"));
        assert_eq!(scene.deleted(), if is_adopted { vec![801, 802] } else { vec![] });
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_rotation_with_a_new_prefix_names_the_snapshots_of_the_old_one() {
    let notes = Notes::default();
    let _listening = notes.listen();
    let scene = Scene::new("prefix = \"new\"").holding("O O H");
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
    let told = notes.of("ring");
    assert_eq!(told.len(), 1, "{told:?}");
    let message = &told[0].1["message"];
    assert!(message.contains("look like snapring's under the prefix snapring"), "{message}");
    assert!(message.contains("adopt_prefix = [\"snapring\"]"), "{message}");
    scene.clock.sleep(Duration::from_secs(24 * 3600)).await;
    let job = Job { tick: Tick::at(scene.clock.now().wall), ..scene.job() };
    assert_eq!(scene.rotate_as(&job).await.outcome, RotationOutcome::Rotated);
    assert_eq!(notes.of("ring").len(), 1, "another snapring may use this server on purpose");
    assert_eq!(scene.deleted(), Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn a_pin_that_is_loaded_between_two_tries_of_a_delete_is_honoured() {
    let scene = Scene::new("").holding("c c c").faults(&["delete:status=500,times=1"]);
    let pins = scene.context.pins.clone();
    let mut pinned = Server::clone(&scene.server);
    Arc::make_mut(&mut pinned.policy).pinned.insert(SnapshotId(801));
    let pin = async {
        while scene.calls(Operation::Delete) == 0 {
            scene.clock.sleep(Duration::from_millis(50)).await;
        }
        pins.set(&[Arc::new(pinned)]);
    };
    let (report, ()) = tokio::join!(scene.rotate(), pin);
    assert_eq!(scene.deleted(), Vec::<u64>::new(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn one_made_by_hand_does_not_let_snapshots_that_never_complete_eat_the_ring() {
    let scene = Scene::new("min_interval = \"0s\"")
        .holding("H c c c c")
        .faults(&["create:never-completes"]);
    for _ in 0..6 {
        let tick = Tick::at(scene.clock.now().wall);
        let job = Job { tick, ..scene.job() };
        scene.rotate_as(&job).await;
        scene.clock.sleep(Duration::from_secs(24 * 3600)).await;
    }
    let rows = scene.rows();
    let completed =
        |row: &&StoredSnapshot| row.status == "completed" && row.name.starts_with("snapring-");
    // One was given up for the first of them, and none after that.
    assert_eq!(rows.iter().filter(completed).count(), 3, "{rows:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_delete_is_given_up_after_its_tries_and_named() {
    let scene = Scene::new("").holding("c c c").faults(&["delete:hang"]);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Failed);
    assert!(reason(&report).contains("could not be deleted: "), "{report:?}");
    assert!(scene.calls(Operation::Delete) <= 5, "{} deletes", scene.calls(Operation::Delete));
}

#[tokio::test(start_paused = true)]
async fn snapshots_that_never_complete_do_not_eat_the_ring() {
    let scene =
        Scene::new("min_interval = \"0s\"").holding("c c c c").faults(&["create:never-completes"]);
    for day in 0..8 {
        let tick = Tick::at(scene.clock.now().wall);
        let job = Job { tick, ..scene.job() };
        let report = scene.rotate_as(&job).await;
        assert_ne!(report.outcome, RotationOutcome::Rotated, "day {day}");
    }
    let good = scene.rows().iter().filter(|row| row.status == "completed").count();
    assert!(good >= 2, "{good} are left");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_on_a_listing_older_than_a_minute() {
    let scene = Scene::new("").holding("c c");
    let client = &scene.context.client;
    let scope = CallContext::default();
    let listing = client.list(WEB, &scope).await.unwrap();
    let deletion = Deletion::by_hand(SnapshotId(801), &listing).unwrap();
    // The machine slept: the monotonic clock stood still.
    scene.clock.step(jiff::SignedDuration::from_secs(61));
    let error = client.delete(&deletion, &scope).await.unwrap_err();
    assert!(matches!(error, CallError::Stale(_)), "{error}");
    assert_eq!(scene.calls(Operation::Delete), 0);
}

/// Counts events by their `event` field.
#[derive(Clone, Default)]
struct Counter(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Counter {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Name(Option<String>);
        impl tracing::field::Visit for Name {
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                if field.name() == "event" {
                    self.0 = Some(value.to_owned());
                }
            }
            fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
        }
        let mut name = Name(None);
        event.record(&mut name);
        self.0.lock().unwrap().extend(name.0);
    }
}

#[rstest]
#[case(&[])]
#[case(&["any:status=500,chance=0.3", "any:drop-after,chance=0.2", "list:torn,chance=0.2"])]
#[case(&["any:hang,chance=0.3", "any:garbage,chance=0.2"])]
#[tokio::test(start_paused = true)]
async fn every_call_leaves_exactly_one_event(#[case] faults: &[&str]) {
    let counter = Counter::default();
    // While there is one dispatcher only, tracing asks the first thread that comes to an event whether
    // anybody listens there, and other tests' threads say no for all. So there are two.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(counter.clone()));
    let scene = Scene::new("").holding("c c c c").faults(faults);
    let report = scene.rotate().await;
    // A call that is given up half way leaves its event too.
    let abandoned = scene.clock.timeout(Duration::from_millis(1), async {
        let scope = CallContext::default();
        let _ = scene.context.client.list(WEB, &scope).await;
    });
    scene.memory.provider.lock().unwrap().add_fault("list:latency=10s,times=1".parse().unwrap());
    assert!(abandoned.await.is_none() || !faults.is_empty());
    event::log(&report, None);
    let events = counter.0.lock().unwrap();
    let count = |wanted| events.iter().filter(|name| *name == wanted).count();
    let received = scene.memory.provider.lock().unwrap().calls().len();
    assert_eq!((count("api"), count("rotation")), (received, 1));
}

#[tokio::test(start_paused = true)]
async fn what_must_outlive_the_process_is_kept_before_each_change_and_at_the_end() {
    let mut scene = Scene::new("").holding("c c c");
    let kept = Arc::<Mutex<Vec<usize>>>::default();
    let (list, provider) = (Arc::clone(&kept), Arc::clone(&scene.memory.provider));
    let keep = move |_, _: &RingMemory| {
        list.lock().unwrap().push(provider.lock().unwrap().count(Operation::Create));
    };
    scene.context.memories = Memories::kept(HashMap::new(), Arc::new(keep));
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
    // And before the prune.
    assert_eq!(*kept.lock().unwrap(), [0, 1, 1]);
}

/// Another process may have rotated the server since this one did.
#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_read_again_once_the_server_is_claimed() {
    let mut scene = Scene::new("").holding("c c c");
    let theirs = {
        let mut theirs = RingMemory::default();
        theirs.succeeded(scene.job().tick);
        theirs
    };
    let recall = move |_| -> BoxFuture<'static, Option<RingMemory>> {
        let theirs = theirs.clone();
        Box::pin(async move { Some(theirs) })
    };
    let keep = |_, _: &RingMemory| {};
    scene.context.memories =
        Memories::kept(HashMap::new(), Arc::new(keep)).recalled_by(Arc::new(recall));
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Skipped, "{report:?}");
    assert_eq!(report.known_cause, Some(KnownCause::Hindered), "the policy did not ask for it");
    assert!(report.reason.unwrap().contains("has already run"));
}

/// The provider gives what it makes another name, and the process begins anew each night.
#[tokio::test(start_paused = true)]
async fn a_provider_that_renames_costs_one_restore_point_however_many_ticks_fail() {
    let mut scene = Scene::new("cap = 5\n").holding("c c c c c").faults(&["create:renames"]);
    for night in 0..4 {
        let tick = scene.job().tick.instant() + jiff::SignedDuration::from_hours(24 * night);
        let job = Job { tick: Tick::at(tick), ..scene.job() };
        let report = scene.rotate_as(&job).await;
        let expected = if night == 0 { RotationOutcome::Failed } else { RotationOutcome::Blocked };
        assert_eq!(report.outcome, expected, "{report:?}");
        scene.context.memories = Memories::default();
        // The same tick is not asked for again.
        let report = scene.rotate_as(&job).await;
        let expected = if night == 0 { RotationOutcome::Skipped } else { RotationOutcome::Blocked };
        assert_eq!(report.outcome, expected, "{report:?}");
        // Without a store: the name alone tells.
        scene.context.memories = Memories::default();
    }
    let left = scene.rows().iter().filter(|row| row.name.starts_with("snapring-")).count();
    assert_eq!((left - 1, scene.deleted()), (4, vec![801]));
}
