use std::sync::Arc;

use rstest::rstest;

use super::*;
use crate::health::Ended;
use crate::report::KnownCause;
use crate::snapshot::Status;
use crate::testing::stage::{ended, managed, noon, numbered, ring, row, slot, time};

const NIGHT: &str = "2026-11-23T03:00:00Z";

/// One of each state, in no order.
fn fleet() -> Vec<ServerView> {
    let good = [ended(NIGHT, RotationOutcome::Rotated, "")];
    let bad = [ended(NIGHT, RotationOutcome::Failed, "the provider failed")];
    let blocked = [ended(NIGHT, RotationOutcome::Blocked, "no room")];
    vec![
        numbered(101, "zeta", "", &good),
        numbered(102, "Web-01", "", &good),
        numbered(103, "old", "enabled = false", &bad),
        numbered(104, "fresh", "", &[]),
        numbered(105, "mail", "", &blocked),
        numbered(106, "web-02", "", &bad),
        numbered(1060, "db", "", &bad),
    ]
}

fn names(found: &Found) -> Vec<&str> {
    found.rows.iter().map(|(_, row)| row.server.name.as_str()).collect()
}

#[test]
fn those_in_trouble_come_first_then_by_name() {
    let found = Found::among(fleet(), &StatusFilter::default());
    assert_eq!(names(&found), ["db", "web-02", "mail", "fresh", "Web-01", "zeta", "old"]);
    let states: Vec<&str> = found.rows.iter().map(|(state, _)| state.as_str()).collect();
    assert_eq!(states, ["failed", "failed", "blocked", "waiting", "ok", "ok", "disabled"]);
}

#[rstest]
#[case("web", None, &["web-02", "Web-01"])]
#[case(" WEB-0 ", None, &["web-02", "Web-01"])]
#[case("106", None, &["web-02"])]
#[case("10", None, &[])]
#[case("", Some(ServerState::Ok), &["Web-01", "zeta"])]
#[case("web", Some(ServerState::Ok), &["Web-01"])]
#[case("", Some(ServerState::Disabled), &["old"])]
#[case("nothing", None, &[])]
fn a_filter_takes_some_and_counts_all(
    #[case] words: &str,
    #[case] state: Option<ServerState>,
    #[case] expected: &[&str],
) {
    let found = Found::among(fleet(), &StatusFilter { words: words.to_owned(), state });
    assert_eq!(names(&found), expected);
    let totals = Totals {
        servers: 7,
        failed: 2,
        blocked: 1,
        waiting: 1,
        skipped: 0,
        stale: 0,
        ok: 2,
        disabled: 1,
    };
    assert_eq!(found.totals, totals);
    let sum: usize = ServerState::ALL.into_iter().map(|state| totals.count(state)).sum();
    assert_eq!(sum, totals.servers);
}

#[rstest]
#[case(&[], ServerState::Waiting)]
#[case(&[RotationOutcome::Rotated], ServerState::Ok)]
#[case(&[RotationOutcome::Adopted], ServerState::Ok)]
#[case(&[RotationOutcome::Skipped], ServerState::Waiting)]
#[case(&[RotationOutcome::Rotated, RotationOutcome::Skipped], ServerState::Ok)]
#[case(&[RotationOutcome::Failed, RotationOutcome::Skipped], ServerState::Failed)]
#[case(&[RotationOutcome::Failed, RotationOutcome::Blocked], ServerState::Blocked)]
#[case(&[RotationOutcome::Blocked, RotationOutcome::Failed], ServerState::Failed)]
#[case(&[RotationOutcome::Failed, RotationOutcome::Rotated], ServerState::Ok)]
fn a_server_is_as_its_last_rotations_left_it(
    #[case] outcomes: &[RotationOutcome],
    #[case] expected: ServerState,
) {
    let remembered: Vec<_> = outcomes.iter().map(|outcome| ended(NIGHT, *outcome, "")).collect();
    assert_eq!(state(&row("web-01", "", &remembered)), expected);
    assert_eq!(state(&row("web-01", "enabled = false", &remembered)), ServerState::Disabled);
}

/// Each with how many hours before noon: the schedule is a daily one.
#[rstest]
#[case::one_skip("rotated 9 hindered 1", ServerState::Ok)]
#[case::two("rotated 9 hindered 2 hindered 1", ServerState::Skipped)]
#[case::after_a_failure("failed 9 hindered 2 hindered 1", ServerState::Skipped)]
#[case::old("rotated 48", ServerState::Ok)]
#[case::too_old("rotated 49", ServerState::Stale)]
#[case::failed_and_too_old("rotated 99 failed 50", ServerState::Failed)]
fn trouble_is_more_than_a_failure(#[case] history: &str, #[case] expected: ServerState) {
    let words: Vec<&str> = history.split(' ').collect();
    let remembered = words.chunks(2).map(|chunk| {
        let at = noon() - jiff::SignedDuration::from_hours(chunk[1].parse().unwrap());
        let outcome = RotationOutcome::parse(chunk[0]);
        let cause = outcome.is_none().then_some(KnownCause::Hindered);
        let outcome = outcome.unwrap_or(RotationOutcome::Skipped);
        Ended { cause, ..ended(&at.to_string(), outcome, "why") }
    });
    let row = row("web-01", "", &remembered.collect::<Vec<_>>());
    assert_eq!(state(&row), expected);
    let record = ServerRecord::of(&row, expected, None);
    assert_eq!(record.trouble.is_some(), expected.is_trouble());
    assert_eq!(record.waiting, None);
}

#[test]
fn a_server_that_was_not_rotated_yet_says_since_when_it_waits() {
    let row = row("web-01", "timezone = \"Europe/Berlin\"", &[]);
    let waiting = |started| ServerRecord::of(&row, state(&row), started).waiting.unwrap();
    let since = Some(time("2026-11-23T14:02:00Z"));
    let reason = "not rotated since the start at 2026-11-23 15:02:00 CET".to_owned();
    assert_eq!(waiting(since), WaitingStatus { since, reason });
    assert_eq!(waiting(None).reason, "no rotation is known");
}

/// `unknown` is what a daemon says that was started before the upgrade.
#[test]
fn a_document_of_an_older_daemon_is_read() {
    let found = Found::among(fleet(), &StatusFilter::default());
    let document = StatusDocument::of(&found, None, noon());
    let mut json =
        serde_json::to_string(&document).unwrap().replace("\"waiting\":1", "\"unknown\":1");
    json = json.replace("\"skipped\":0,\"stale\":0,", "");
    json = json.replace("\"state\":\"waiting\"", "\"state\":\"unknown\"");
    json = json.replace("\"waiting\":null,", "");
    assert!(!json.contains("\"stale\"") && json.contains("\"unknown\""), "{json}");
    assert_eq!(serde_json::from_str::<StatusDocument>(&json).unwrap(), document);
}

#[test]
fn the_document_tells_all_that_is_known_and_is_read_as_it_was_written() {
    let mut row = row(
        "web-01",
        "reserve = 1",
        &[
            ended("2026-11-22T03:00:00Z", RotationOutcome::Failed, "first"),
            ended(NIGHT, RotationOutcome::Failed, "second"),
            ended("2026-11-23T03:05:00Z", RotationOutcome::Skipped, "too soon"),
        ],
    );
    row.status.ring = Some(ring(vec![
        slot(801, "by-hand", Holder::Foreign, Status::Completed, "2026-11-01T00:00:00Z"),
        slot(802, "kept", Holder::Pinned, Status::Completed, "2026-11-02T00:00:00Z"),
        managed(803, NIGHT, Status::InProgress),
        managed(804, NIGHT, Status::InProgress),
    ]));
    let found = Found::among(vec![row], &StatusFilter::default());
    let document = StatusDocument::of(&found, None, noon());
    let json = serde_json::to_value(&document).unwrap();
    assert_eq!(json["version"], 1);
    let server = &json["servers"][0];
    assert_eq!((&server["id"], &server["state"]), (&101.into(), &"failed".into()));
    assert_eq!(server["trouble"]["rotations"], 2);
    assert_eq!(server["trouble"]["since"], "2026-11-22T03:00:00Z");
    assert_eq!(server["trouble"]["reason"], "second");
    assert_eq!(server["last_rotation"]["outcome"], "skipped");
    let ring = &server["ring"];
    let counts = ["cap", "reserve", "managed", "foreign", "pinned", "free"].map(|key| &ring[key]);
    assert_eq!(counts, [5, 1, 2, 1, 1, 1]);
    assert_eq!(ring["duplicate_ticks"], 1);
    assert_eq!(ring["snapshots"][2]["status"], "in_progress");
    assert_eq!(ring["snapshots"][1]["holder"], "pinned");
    assert_eq!(ring["snapshots"][1]["kept"], serde_json::Value::Null);
    assert_eq!(serde_json::from_value::<StatusDocument>(json).unwrap(), document);
}

#[test]
fn a_document_of_a_daemon_that_does_not_count_duplicate_ticks_is_read() {
    let policy = Arc::clone(&row("web", "", &[]).server.policy);
    let seen = ring(vec![managed(1, NIGHT, Status::Completed)]);
    let mut json = serde_json::to_value(RingStatus::of(&seen, &policy)).unwrap();
    json.as_object_mut().unwrap().remove("duplicate_ticks").unwrap();
    assert_eq!(serde_json::from_value::<RingStatus>(json).unwrap(), RingStatus::of(&seen, &policy));
}

#[test]
fn a_ring_with_more_snapshots_than_slots_has_none_free() {
    let slots = (1..=7).map(|id| managed(id, NIGHT, Status::Completed)).collect();
    assert_eq!(RingStatus::of(&ring(slots), &row("web", "", &[]).server.policy).free, 0);
}

#[test]
fn a_completed_snapshot_says_why_it_is_kept() {
    let policy = Arc::clone(&row("web", "", &[]).server.policy);
    let seen =
        ring(vec![managed(1, NIGHT, Status::Completed), managed(2, NIGHT, Status::Completed)]);
    let kept: Vec<_> =
        RingStatus::of(&seen, &policy).snapshots.into_iter().map(|it| it.kept).collect();
    let first = format!("last (1 of {})", policy.keep.last);
    assert_eq!(kept, [None, Some(first)], "two of one tick are one");
}
