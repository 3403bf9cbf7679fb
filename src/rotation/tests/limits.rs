//! Where a rotation gives up, and where it does not yet; and what it says of itself.

use super::*;
use crate::health::TroubleKind;
use crate::testing::notes::Notes;

/// A hook runner that notes what hooks are told, and does something to the provider meanwhile.
struct Meddler {
    told: Mutex<Vec<Vec<(&'static str, String)>>>,
    does: Box<dyn Fn() + Send + Sync>,
}

impl HookRunner for Meddler {
    fn run(&self, invocation: Invocation) -> Running<'_> {
        self.told.lock().unwrap().push(invocation.variables);
        (self.does)();
        Box::pin(async { Ok(()) })
    }
}

#[rstest]
#[case::as_long_as_settle("20s", RotationOutcome::Rotated)]
#[case::longer("10m", RotationOutcome::Failed)]
#[tokio::test(start_paused = true)]
async fn what_was_deleted_may_linger_until_settle_has_passed(
    #[case] linger: &str,
    #[case] outcome: RotationOutcome,
) {
    let fault = format!("delete:linger={linger},times=1");
    let mut scene = Scene::new("").holding("c c c c c").faults(&[&fault]);
    // One of the looks comes at this very second, when it has not passed yet.
    scene.context.spans.settle = Duration::from_secs(16);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, outcome, "{report:?}");
    if outcome == RotationOutcome::Failed {
        assert_eq!(reason(&report), "what was deleted to make room is still listed");
        assert_eq!(scene.calls(Operation::Create), 0);
        assert!(report.duration_ms < 60_000, "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_that_was_refused_but_done_is_the_rotations_own() {
    let scene = Scene::new("").holding("c").faults(&["create:status-after=400,times=1"]);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!(report.created.as_deref(), Some("snapring-20261123T030000Z"));
    assert_eq!((scene.made(), scene.calls(Operation::Create)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_has_nothing_to_do_with_the_cap_is_final() {
    let scene = Scene::new("").holding("c").faults(&["create:status=400"]);
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Failed);
    assert_eq!(scene.calls(Operation::Create), 1);
}

/// A person takes the last slot between the look and the create.
#[rstest]
#[case::there_is_room_now(&[], RotationOutcome::Rotated, &[801, 802])]
#[case::it_is_refused_again(&["create:status=400,after=1"], RotationOutcome::Failed, &[801])]
#[tokio::test(start_paused = true)]
async fn a_slot_that_somebody_took_meanwhile_is_made_anew_once(
    #[case] faults: &[&str],
    #[case] outcome: RotationOutcome,
    #[case] deleted: &[u64],
) {
    let hooks = "hooks = { before = [\"quiesce\"] }";
    let mut scene = Scene::new(hooks).holding("c c c c").faults(faults);
    let (provider, now) = (Arc::clone(&scene.memory.provider), scene.clock.now().wall);
    let does = Box::new(move || {
        provider.lock().unwrap().add_snapshot(WEB, "by-hand", "completed", now);
    });
    scene.context.hooks = Arc::new(Meddler { told: Mutex::default(), does });
    let report = scene.rotate().await;
    assert_eq!(report.outcome, outcome, "{report:?}");
    assert_eq!((scene.calls(Operation::Create), scene.deleted()), (2, deleted.to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_create_is_tried_as_often_as_configured_and_each_try_has_its_number() {
    let notes = Notes::default();
    let _listening = notes.listen();
    let scene = Scene::new("").holding("c").faults(&["create:status=500"]);
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Failed);
    let creates: Vec<String> = notes
        .of("api")
        .iter()
        .filter(|(_, fields)| fields["operation"] == "create")
        .map(|(_, fields)| fields["attempt"].clone())
        .collect();
    assert_eq!(creates, ["1", "2", "3", "4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn tries_end_when_the_next_rotation_is_due() {
    let scene = Scene::new("").holding("c").faults(&["create:status=500"]);
    let job = Job { next_start: None, ..scene.job() };
    let report = scene.rotate_as(&job).await;
    assert_eq!(report.outcome, RotationOutcome::Failed);
    let tries = scene.calls(Operation::Create);
    assert!((2..5).contains(&tries), "{tries} tries in the minute that there always is");
    assert!(report.duration_ms <= 90_000, "{report:?}");
}

/// Pages that come so slowly that the first is over a minute old when the last one comes.
#[tokio::test(start_paused = true)]
async fn on_a_listing_that_took_over_a_minute_nothing_is_deleted_and_a_fresh_one_is_asked_for() {
    let slow = ["list:latency=25s,times=3"];
    let pages = |options: &mut Options| options.page_size = Some(2);
    let scene = Scene::with("", pages, RecordedHooks::default()).holding("c c c c c").faults(&slow);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!(scene.deleted(), [801, 802, 803]);
    let provider = scene.memory.provider.lock().unwrap();
    let of = |wanted| {
        move |call: &&crate::sandbox::provider::RecordedCall| call.operation == Some(wanted)
    };
    let first_delete = provider.calls().iter().find(of(Operation::Delete)).unwrap().number;
    let pages = provider.calls().iter().take_while(|call| call.number < first_delete);
    assert_eq!(pages.filter(of(Operation::List)).count(), 6, "three pages, and three anew");
}

/// The same before the pruning: the ninth look, the first to show the new one as completed, is slow.
#[rstest]
#[case::still_there(false, RotationOutcome::Rotated, &[801, 802])]
#[case::removed_meanwhile(true, RotationOutcome::Failed, &[])]
#[tokio::test(start_paused = true)]
async fn what_is_pruned_is_pruned_on_a_fresh_listing_that_shows_the_new_one(
    #[case] removed: bool,
    #[case] outcome: RotationOutcome,
    #[case] deleted: &[u64],
) {
    let slow = ["list:latency=25s,after=26,times=3"];
    let pages = |options: &mut Options| {
        options.page_size = Some(2);
        options.completion = Duration::from_secs(180)..=Duration::from_secs(180);
    };
    let scene = Scene::with("", pages, RecordedHooks::default()).holding("c c c c").faults(&slow);
    let (provider, clock) = (Arc::clone(&scene.memory.provider), scene.clock.clone());
    if removed {
        tokio::spawn(async move {
            clock.sleep(Duration::from_secs(250)).await;
            assert!(provider.lock().unwrap().remove_snapshot(SnapshotId(805)));
        });
    }
    let report = scene.rotate().await;
    assert_eq!((report.outcome, scene.deleted()), (outcome, deleted.to_vec()), "{report:?}");
    assert_eq!(report.duration_ms, 259_000, "{report:?}");
    assert_eq!(
        reason(&report).contains("is not listed as completed any more"),
        removed,
        "{report:?}"
    );
}

#[rstest]
#[case::trouble_that_passes("list:status=503,after=1,times=12", RotationOutcome::Rotated, "")]
#[case::a_refusal("list:status=400,after=1", RotationOutcome::Failed, "400 (bad request)")]
#[case::trouble_that_stays("list:status=503,after=1", RotationOutcome::Failed, "within 45m")]
#[tokio::test(start_paused = true)]
async fn while_it_waits_the_providers_trouble_is_waited_out_and_a_refusal_is_not(
    #[case] fault: &str,
    #[case] outcome: RotationOutcome,
    #[case] words: &str,
) {
    let scene = Scene::new("").holding("c c c").faults(&[fault]);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, outcome, "{report:?}");
    assert!(reason(&report).contains(words), "{report:?}");
    assert!(!reason(&report).contains("gone"), "{report:?}");
    match fault {
        "list:status=400,after=1" => assert!(report.duration_ms < 10_000, "{report:?}"),
        "list:status=503,after=1" => {
            assert!(reason(&report).contains("503 (service unavailable)"), "{report:?}");
            assert!(report.duration_ms >= 45 * 60_000, "{report:?}");
        }
        _ => {}
    }
}

/// Looks come after 1, 2, 4, 8, 16, 32, 64, 124 and 184 seconds, and `settle`, 20 s, after a miss.
#[rstest]
#[case::before_it_was_ever_seen("create:late=10m", 0, 84, 10)]
#[case::after_it_was_seen("create:never-completes", 100, 144, 11)]
#[tokio::test(start_paused = true)]
async fn a_snapshot_is_gone_when_two_looks_miss_it_that_are_settle_apart(
    #[case] fault: &str,
    #[case] removed_after: u64,
    #[case] seconds: u64,
    #[case] calls: u32,
) {
    let scene = Scene::new("").holding("c").faults(&[fault]);
    let (provider, clock) = (Arc::clone(&scene.memory.provider), scene.clock.clone());
    if removed_after > 0 {
        tokio::spawn(async move {
            clock.sleep(Duration::from_secs(removed_after)).await;
            assert!(provider.lock().unwrap().remove_snapshot(SnapshotId(802)));
        });
    }
    let report = scene.rotate().await;
    assert!(reason(&report).contains("disappeared from the provider's listing"), "{report:?}");
    assert_eq!((report.api_calls, report.duration_ms / 1000), (calls, seconds), "{report:?}");
    let waited = report.steps.iter().find(|(step, _)| *step == "wait");
    assert_eq!(waited, Some(&("wait", report.duration_ms)));
}

/// The last one took twenty minutes, and this one takes less than ten; the next tick comes sooner than
/// it would be looked for.
#[tokio::test(start_paused = true)]
async fn a_rotation_does_not_wait_so_long_for_its_look_that_the_next_one_is_skipped() {
    let scene = Scene::new("").holding("c c c");
    scene.context.completion_times.learn(WEB, None, Duration::from_secs(1200));
    let next_start = Some(scene.clock.now().wall + jiff::SignedDuration::from_mins(12));
    let report = scene.rotate_as(&Job { next_start, ..scene.job() }).await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!(report.duration_ms, 11 * 60_000, "a minute is left to finish in");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_should_know_of_the_ring_is_said_once_a_rotation() {
    let notes = Notes::default();
    let _listening = notes.listen();
    let scene = Scene::new("").holding("H H c c");
    let now = scene.clock.now().wall;
    let from_the_future = "snapring-20361123T030000Z";
    scene.memory.provider.lock().unwrap().add_snapshot(WEB, from_the_future, "completed", now);
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
    let told = notes.of("ring");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1["message"].contains(from_the_future), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_report_tells_how_long_each_step_took() {
    let report = Scene::new(HOOKS).holding("c c c c c").rotate().await;
    let steps: Vec<&str> = report.steps.iter().map(|(step, _)| *step).collect();
    assert_eq!(
        steps,
        ["list", "make_room", "before_hook", "create", "wait", "after_hook", "prune"]
    );
    let waited = report.steps.iter().find(|(step, _)| *step == "wait").unwrap().1;
    let sum: u64 = report.steps.iter().map(|(_, took)| took).sum();
    assert!(waited >= 180_000 && sum == report.duration_ms, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn hooks_are_told_what_they_are_run_for() {
    let mut scene = Scene::new(HOOKS).holding("c");
    let meddler = Arc::new(Meddler { told: Mutex::default(), does: Box::new(|| {}) });
    scene.context.hooks = Arc::clone(&meddler) as Arc<dyn HookRunner>;
    scene.rotate().await;
    let told = meddler.told.lock().unwrap();
    let [before, after] = &told[..] else { panic!("{told:?}") };
    let expected = [
        ("SNAPRING_SERVER_ID", "101"),
        ("SNAPRING_SERVER", "web-01"),
        ("SNAPRING_ACCOUNT", "default"),
        ("SNAPRING_TICK", "2026-11-23T03:00:00Z"),
        ("SNAPRING_SNAPSHOT", "snapring-20261123T030000Z"),
    ];
    assert_eq!(*before, expected.map(|(name, value)| (name, value.to_owned())));
    assert_eq!(after[..5], before[..]);
    assert_eq!(after[5..], [("SNAPRING_RESULT", "completed".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_report_says_in_words_what_was_done() {
    let made = "rotated, created snapring-20261123T030000Z";
    let first = Scene::new("").rotate().await;
    assert_eq!(first.words(), made);
    let report = Scene::new("").holding("c c c c").rotate().await;
    let deleted = "deleted snapring-20261119T030000Z snapring-20261120T030000Z";
    assert_eq!(report.words(), format!("{made}, {deleted}"));
    let skipped = Scene::new("enabled = false").rotate().await;
    assert_eq!(skipped.words(), "skipped: the server is disabled");
}

#[test]
fn a_rotations_event_is_as_loud_as_its_outcome_and_says_all() {
    let notes = Notes::default();
    let _listening = notes.listen();
    let tick = Tick::at("2026-11-23T03:00:00Z".parse().unwrap());
    for outcome in RotationOutcome::ALL {
        let mut report = Report::without_steps(outcome, WEB, "web-01", tick, "why".to_owned());
        event::log(&report, Some(TroubleKind::Failed));
        report.known_cause = Some(KnownCause::Token);
        event::log(&report, Some(TroubleKind::Failed));
    }
    let skipped = RotationOutcome::Skipped;
    let by_policy = Report::without_steps(skipped, WEB, "web-01", tick, "why".to_owned());
    let known_cause = Some(KnownCause::Hindered);
    let hindered = Report { known_cause, ..by_policy.clone() };
    for (report, trouble) in [
        (&by_policy, Some(TroubleKind::Skipped)),
        (&hindered, None),
        (&hindered, Some(TroubleKind::Failed)),
        (&hindered, Some(TroubleKind::Skipped)),
    ] {
        event::log(report, trouble);
    }
    let told: Vec<String> = notes
        .of("rotation")
        .iter()
        .map(|(level, fields)| {
            format!("{level} {} {} {}", fields["outcome"], fields["server"], fields["reason"])
        })
        .collect();
    let line = |level: &str, outcome: &str| format!("{level} {outcome} web-01 why");
    assert_eq!(
        told,
        [
            line("INFO", "rotated"),
            line("INFO", "rotated"),
            line("INFO", "adopted"),
            line("INFO", "adopted"),
            line("INFO", "skipped"),
            line("INFO", "skipped"),
            line("ERROR", "blocked"),
            line("ERROR", "blocked"),
            line("ERROR", "failed"),
            line("WARN", "failed"),
            line("INFO", "skipped"),
            line("INFO", "skipped"),
            line("INFO", "skipped"),
            line("WARN", "skipped"),
        ]
    );
}

/// A delete that was throttled was not carried out: it is asked for again, on a fresh listing, once
/// the provider's wait is over.
#[rstest]
#[case::to_prune("c c c")]
#[case::to_make_room("c c c c c")]
#[tokio::test(start_paused = true)]
async fn a_delete_that_is_throttled_for_longer_than_a_listing_lasts_is_asked_for_again(
    #[case] holding: &str,
    #[values(30, 90, 600)] wait: u32,
) {
    let fault = format!("delete:status=429,retry-after={wait},times=1");
    let scene = Scene::new("").holding(holding).faults(&[&fault]);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!(scene.rows().len(), 3);
}

/// Nor does it go on for ever, nor faster than the provider asks.
#[rstest]
#[case::to_prune("c c c")]
#[case::to_make_room("c c c c c")]
#[tokio::test(start_paused = true)]
async fn a_delete_that_is_always_throttled_ends_with_the_next_tick(#[case] holding: &str) {
    let fault = "delete:status=429,retry-after=900";
    let scene = Scene::new("").holding(holding).faults(&[fault]);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Failed, "{report:?}");
    assert!(scene.clock.now().wall <= scene.job().next_start.unwrap());
    assert!(scene.calls(Operation::Delete) <= 24 * 4, "{report:?}");
    assert!(scene.deleted().is_empty());
}
