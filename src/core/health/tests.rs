use rstest::rstest;

use super::*;
use crate::testing;

const START: &str = "2026-11-20T03:00:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What a letter comes to, one an hour.
fn ended(letter: char, hour: i64) -> Ended {
    let (outcome, cause) = match letter {
        'r' => (RotationOutcome::Rotated, None),
        'a' => (RotationOutcome::Adopted, None),
        'f' => (RotationOutcome::Failed, None),
        'b' => (RotationOutcome::Blocked, None),
        't' => (RotationOutcome::Failed, Some(KnownCause::Token)),
        'x' => (RotationOutcome::Failed, Some(KnownCause::Shutdown)),
        'p' => (RotationOutcome::Skipped, None),
        'h' => (RotationOutcome::Skipped, Some(KnownCause::Hindered)),
        other => panic!("{other}"),
    };
    let at = time(START) + SignedDuration::from_hours(hour);
    Ended { tick: Tick::at(at), at, outcome, reason: Some(format!("{letter}{hour}").into()), cause }
}

fn history(story: &str) -> RotationHistory {
    let mut history = RotationHistory::default();
    for (hour, letter) in (0..).zip(story.chars()) {
        history.ended(&ended(letter, hour));
    }
    history
}

/// The kind, the hour of its beginning, how many rotations, and the reason.
#[rstest]
#[case::nothing_known("", None)]
#[case::well("ra", None)]
#[case::failed("rf", Some("Failed 1 1 f1"))]
#[case::blocked("rfb", Some("Blocked 1 2 b2"))]
#[case::failed_again("rbf", Some("Failed 1 2 f2"))]
#[case::token("rt", Some("Failed 1 1 t1"))]
#[case::over("rffr", None)]
#[case::adopted_is_well("fa", None)]
#[case::by_policy_for_ever("rpppppp", None)]
#[case::the_policy_says_nothing_of_trouble("fpp", Some("Failed 0 1 f0"))]
#[case::one_skip_is_chance("rh", None)]
#[case::two_are_trouble("rhh", Some("Skipped 1 2 h2"))]
#[case::three("rhhh", Some("Skipped 1 3 h3"))]
#[case::the_first_of_all("hh", Some("Skipped 0 2 h1"))]
#[case::a_success_between("rhrh", None)]
#[case::the_policy_between("rhph", Some("Skipped 1 2 h3"))]
#[case::a_shutdown_between("rhxh", Some("Skipped 1 2 h3"))]
#[case::a_failure_between("rhfh", Some("Failed 2 1 f2"))]
#[case::one_skip_after_a_failure("rfh", Some("Failed 1 1 f1"))]
#[case::two_after_a_failure("rfhh", Some("Skipped 1 3 h3"))]
#[case::a_failure_after_skips("rhhf", Some("Failed 1 3 f3"))]
#[case::one_skip_after_these("rhhfh", Some("Failed 1 3 f3"))]
#[case::over_with_skips("rhhr", None)]
#[case::shutdowns("rxxx", None)]
fn the_last_rotations_tell_what_is_wrong(#[case] story: &str, #[case] expected: Option<&str>) {
    let history = history(story);
    let told = history.trouble().map(|it| {
        let since = it.since.duration_since(time(START)).as_hours();
        let reason = it.reason.as_deref().unwrap();
        format!("{:?} {since} {} {reason}", it.kind, it.rotations)
    });
    assert_eq!(told.as_deref(), expected);
}

const DAILY: &str = "schedule = \"0 3 * * *\"";
const JITTER: &str = "schedule = \"0 3 * * *\"\njitter = \"2h\"";
const HOURLY: &str = "schedule = \"0 * * * *\"";
const SPARSE: &str = "schedule = \"0 * * * *\"\nmin_interval = \"3h\"";
const WORKING_DAYS: &str = "schedule = \"0 9 * * mon-fri\"";
const TWO: &str = "schedule = [\"0 */6 * * *\", \"30 22 * * fri\"]";

/// A success for this tick, twelve minutes later, is too old from when on?
#[rstest]
#[case::daily(DAILY, "2026-11-20T03:00:00Z", "2026-11-22T03:12:00Z")]
#[case::jitter(JITTER, "2026-11-20T03:00:00Z", "2026-11-22T05:12:00Z")]
#[case::hourly(HOURLY, "2026-11-20T03:00:00Z", "2026-11-20T05:12:00Z")]
// Two minutes before the tick: that one is skipped, as too soon.
#[case::by_hand(DAILY, "2026-11-20T02:58:00Z", "2026-11-22T03:12:00Z")]
#[case::by_hand_at_noon(DAILY, "2026-11-20T12:00:00Z", "2026-11-22T12:12:00Z")]
// Every third tick runs.
#[case::min_interval(SPARSE, "2026-11-20T03:00:00Z", "2026-11-20T09:12:00Z")]
// A Friday, a Thursday, a Monday.
#[case::over_the_weekend(WORKING_DAYS, "2026-11-20T09:00:00Z", "2026-11-24T09:12:00Z")]
#[case::into_the_weekend(WORKING_DAYS, "2026-11-19T09:00:00Z", "2026-11-23T09:12:00Z")]
#[case::in_the_week(WORKING_DAYS, "2026-11-23T09:00:00Z", "2026-11-25T09:12:00Z")]
#[case::two_schedules(TWO, "2026-11-20T18:00:00Z", "2026-11-21T01:42:00Z")]
fn a_success_is_too_old_after_two_intervals(
    #[case] lines: &str,
    #[case] tick: &str,
    #[case] limit: &str,
) {
    let server = testing::server(101, lines);
    let at = time(tick) + SignedDuration::from_mins(12);
    let mut history = RotationHistory::default();
    history.ended(&Ended { tick: Tick::at(time(tick)), at, ..ended('r', 0) });
    let age = Age { server: &server, success: history.success(), since: None, is_under_way: false };
    assert_eq!(history.health(&age, time(limit)), ServerHealth::Ok);
    let later = time(limit) + SignedDuration::from_secs(1);
    let health = history.health(&age, later);
    let trouble = health.trouble().unwrap();
    assert_eq!((trouble.kind, trouble.since), (TroubleKind::Stale, time(limit)));
    let under_way = Age { is_under_way: true, ..age };
    assert_eq!(history.health(&under_way, later), ServerHealth::Ok, "its end will tell");
    // A schedule that was put in force this moment owes nothing yet.
    let fresh = Age { since: Some(later), ..age };
    assert_eq!(history.health(&fresh, later), ServerHealth::Ok);
}

#[test]
fn a_server_waits_for_its_first_rotation_and_no_longer_than_two_intervals() {
    let server = testing::server(101, "schedule = \"0 3 * * *\"\ntimezone = \"Europe/Berlin\"");
    let history = RotationHistory::default();
    let since = Some(time("2026-11-20T14:02:00Z"));
    let age = Age { server: &server, success: None, since, is_under_way: false };
    assert_eq!(history.health(&age, time("2026-11-22T14:02:00Z")), ServerHealth::Waiting);
    let health = history.health(&age, time("2026-11-22T14:02:01Z"));
    let reason = health.trouble().unwrap().reason.as_deref().unwrap();
    let words = "no rotation has succeeded since 2026-11-20 15:02:00 CET, for more than two \
                 intervals of the schedule";
    assert_eq!(reason, words);
    let nobody_watches = Age { since: None, ..age };
    let later = time("2027-11-22T14:02:01Z");
    assert_eq!(history.health(&nobody_watches, later), ServerHealth::Waiting);
}

#[test]
fn how_rotations_ended_says_more_than_how_long_ago() {
    let server = testing::server(101, HOURLY);
    let history = history("rf");
    let success = history.success();
    let age = Age { server: &server, success, since: None, is_under_way: true };
    let health = history.health(&age, time("2026-11-27T03:00:00Z"));
    assert_eq!(health.trouble().unwrap().kind, TroubleKind::Failed);
    assert!(age.is_too_old(time("2026-11-27T03:00:00Z")));
    assert!(!age.is_too_old(time("2026-11-20T05:00:00Z")));
}

#[test]
fn a_fault_of_a_clock_is_no_age() {
    let server = testing::server(101, HOURLY);
    let history = history("r");
    let success = history.success();
    let age = Age { server: &server, success, since: None, is_under_way: false };
    assert_eq!(history.health(&age, time("2026-11-01T03:00:00Z")), ServerHealth::Ok, "set back");
}

#[test]
fn a_server_that_has_not_come_back_from_a_restore_is_in_trouble_until_a_later_success() {
    let since = time("2026-11-20T05:00:00Z");
    let broken = NotRestored { since, reason: "error".into(), source: None };
    let success = |hour| {
        let at = time(START) + SignedDuration::from_hours(hour);
        Some(Success { tick: Tick::at(at), at })
    };
    let after = |success| ServerHealth::Ok.after(Some(&broken), success);
    let trouble = after(success(1)).trouble().cloned().unwrap();
    assert_eq!((trouble.kind, trouble.since), (TroubleKind::Failed, broken.since));
    assert_eq!(after(success(3)), ServerHealth::Ok);
    assert_eq!(ServerHealth::Ok.after(None, success(1)), ServerHealth::Ok);
    assert!(ServerHealth::Waiting.after(Some(&broken), None).trouble().is_some());
    // What a rotation says does not hide it.
    let failed = Trouble {
        kind: TroubleKind::Failed,
        since: time("2026-11-20T06:00:00Z"),
        rotations: 2,
        reason: Some("busy".into()),
    };
    let both = ServerHealth::Trouble(Box::new(failed)).after(Some(&broken), None);
    let both = both.trouble().cloned().unwrap();
    assert_eq!(both.reason.as_deref(), Some("error; its last rotation: busy"));
    assert_eq!((both.since, both.rotations), (broken.since, 2));
}

#[test]
fn a_broken_server_that_is_being_restored_is_not_to_be_restored_again() {
    let reason = |reason: String| {
        let (kind, since) = (TroubleKind::Failed, time(START));
        let trouble = Trouble { kind, since, rotations: 1, reason: Some(reason.into()) };
        let restored = ServerHealth::Trouble(Box::new(trouble)).being_restored();
        restored.trouble().and_then(|it| it.reason.clone()).unwrap()
    };
    let both =
        format!("shown as error. {RESTORE_AGAIN}; its last rotation: not run. {RESTORE_AGAIN}");
    assert_eq!(
        &*reason(both),
        "shown as error. It is being restored now; its last rotation: not run"
    );
    assert_eq!(&*reason("the token is refused".to_owned()), "the token is refused");
}
