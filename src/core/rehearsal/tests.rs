//! What policies do over months, by the very rotations that a daemon carries out.

use std::collections::BTreeSet;

use rstest::rstest;

use super::*;
use crate::policy::{Keep, Policy, Rule};
use crate::testing;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn scenario(days: i64) -> Scenario {
    let from = at("2026-01-01T00:00:00Z");
    Scenario {
        from,
        to: from + SignedDuration::from_hours(24 * days),
        snapshot_takes: Duration::from_mins(10),
        foreign: 0,
        outages: Vec::new(),
        fail_per_10_000: 0,
        seed: 1,
        settle: Duration::from_secs(20),
        retries: 4,
        page: 100,
    }
}

fn server(id: u64, keep: Keep, lines: &str) -> Arc<Server> {
    let server = testing::server(id, lines);
    let policy = Policy { keep, ..Policy::clone(&server.policy) };
    Arc::new(Server { policy: Arc::new(policy), ..Server::clone(&server) })
}

fn alone(server: Arc<Server>, scenario: &Scenario) -> (Course, Rehearsed) {
    let beginning = Beginning { server, snapshots: Vec::new(), in_detail: true };
    let mut rehearsed = rehearse(vec![beginning], scenario);
    (rehearsed.courses.remove(0), rehearsed)
}

fn promises(course: &Course) -> Vec<Broken> {
    let scenario = scenario(60);
    let ideal = ideal(&course.server, scenario.from, scenario.to, usize::MAX);
    course.broken_promises(&ideal, course.runs.last().unwrap().ended)
}

const NIGHTLY: &str = "schedule = \"0 3 * * *\"\ntimezone = \"Europe/Berlin\"";
const README: Keep = Keep { last: 2, hourly: 0, daily: 1, weekly: 1, monthly: 0, yearly: 0 };

fn days(seconds: i64) -> i64 {
    (seconds + 7200) / 86_400
}

#[rstest]
#[case::the_readmes(README, 4, (3, 9))]
#[case::two_weeks(Keep { last: 2, weekly: 2, ..Keep::default() }, 4, (9, 15))]
#[case::with_a_month(Keep { monthly: 1, ..README }, 5, (4, 40))]
fn the_reach_is_as_promised(#[case] keep: Keep, #[case] slots: u32, #[case] reach: (i64, i64)) {
    let (course, _) = alone(server(7, keep, NIGHTLY), &scenario(425));
    assert_eq!(course.count(RotationOutcome::Rotated), 425);
    assert_eq!(course.most_kept, slots);
    let shown = course.reach().unwrap();
    assert_eq!((days(shown.worst_s), days(shown.best_s)), reach);
    assert_eq!(course.unfilled, BTreeSet::new());
    // The shorter way comes to the same.
    let long = scenario(425);
    let ideal = ideal(&course.server, long.from, long.to, usize::MAX);
    assert_eq!((ideal.reach, &ideal.unfilled), (Some(shown), &BTreeSet::new()));
    assert_eq!(course.broken_promises(&ideal, long.to), []);
}

/// A year does not pass in two months. That is no fault of the policy.
#[test]
fn a_rule_that_needs_longer_is_not_a_broken_promise() {
    let keep = Keep { yearly: 1, ..README };
    let (course, _) = alone(server(7, keep, NIGHTLY), &scenario(60));
    assert_eq!(course.unfilled, BTreeSet::from([Rule::Yearly]));
    assert_eq!(promises(&course), []);
}

#[test]
fn a_day_shows_what_exists_at_its_end_and_why() {
    let (course, _) = alone(server(7, README, NIGHTLY), &scenario(12));
    let said = |day: &Day| {
        let each = day.snapshots.iter().rev().map(|it| match &it.reason {
            Some(reason) => format!("{} {reason}", days(day.end.duration_since(it.at).as_secs())),
            None => "?".to_owned(),
        });
        format!("{}: {}", day.date, each.collect::<Vec<_>>().join("; "))
    };
    let shown: Vec<String> = course.days.iter().map(said).collect();
    assert_eq!(
        [shown[1].as_str(), shown[10].as_str()],
        [
            "2026-01-02: 0 last (1 of 2); 1 last (2 of 2)",
            "2026-01-11: 0 last (1 of 2); 1 last (2 of 2); 2 daily (1 of 1): newest of 2026-01-09; \
             7 weekly (1 of 1): newest of 2026-W01",
        ]
    );
    assert_eq!(course.full_days, 0);
}

#[test]
fn snapshots_made_by_hand_squeeze_the_ring_and_then_block_it() {
    let squeezed = Scenario { foreign: 2, ..scenario(60) };
    let (course, _) = alone(server(7, README, NIGHTLY), &squeezed);
    assert_eq!((course.count(RotationOutcome::Rotated), course.most_kept), (60, 3));
    assert_eq!(course.unfilled, BTreeSet::from([Rule::Weekly]));
    assert_eq!(course.full_days, 58, "all but the first two days");
    assert_eq!(promises(&course), [Broken::NeverFilled { rule: Rule::Weekly }]);
    let blocked = Scenario { foreign: 4, ..scenario(60) };
    let (course, _) = alone(server(7, README, NIGHTLY), &blocked);
    assert_eq!(
        [RotationOutcome::Rotated, RotationOutcome::Blocked].map(|it| course.count(it)),
        [1, 59]
    );
    assert!(course.runs[1].reason.as_ref().unwrap().contains("no room"));
    let broken = promises(&course);
    assert!(
        matches!(
            &broken[..],
            [
                Broken::NeverFilled { rule: Rule::Last },
                Broken::NeverFilled { rule: Rule::Daily },
                Broken::NeverFilled { rule: Rule::Weekly },
                Broken::Blocked { times: 59, .. },
                Broken::Gap { .. }
            ]
        ),
        "{broken:?}"
    );
}

#[test]
fn an_outage_costs_its_ticks_and_nothing_else() {
    let outage = Outage { from: at("2026-01-10T00:00:00Z"), to: at("2026-01-12T12:00:00Z") };
    let (course, _) =
        alone(server(7, README, NIGHTLY), &Scenario { outages: vec![outage], ..scenario(30) });
    let failed: Vec<String> = course
        .runs
        .iter()
        .filter(|run| run.outcome == RotationOutcome::Failed)
        .map(|run| run.tick.to_string())
        .collect();
    assert_eq!(failed, ["2026-01-10T02:00:00Z", "2026-01-11T02:00:00Z", "2026-01-12T02:00:00Z"]);
    assert_eq!(course.count(RotationOutcome::Rotated), 27);
    let after = Some(Tick::at(at("2026-01-09T02:00:00Z")));
    let gap = Broken::Gap { seconds: 4 * 86_400, after, interval_s: 86_400 };
    assert_eq!(promises(&course), [gap]);
}

#[test]
fn a_short_outage_is_outlasted_by_retries() {
    let outage = Outage { from: at("2026-01-10T01:59:00Z"), to: at("2026-01-10T02:00:05Z") };
    let (course, _) =
        alone(server(7, README, NIGHTLY), &Scenario { outages: vec![outage], ..scenario(30) });
    assert_eq!(course.count(RotationOutcome::Rotated), 30);
}

#[test]
fn a_snapshot_that_takes_longer_than_the_interval_makes_ticks_wait_or_skip() {
    let hourly = server(7, Keep { last: 3, ..Keep::default() }, "schedule = \"*/10 * * * *\"");
    let slow = Scenario { snapshot_takes: Duration::from_mins(25), ..scenario(2) };
    let (course, _) = alone(hourly, &slow);
    assert!(course.count(RotationOutcome::Skipped) > 90, "{:?}", &course.runs[..9]);
    assert!(course.count(RotationOutcome::Rotated) > 90, "{:?}", &course.runs[..9]);
}

#[test]
fn failed_snapshots_are_drawn_from_the_seed() {
    let failing = |seed| {
        let scenario = Scenario { fail_per_10_000: 2_000, seed, ..scenario(100) };
        let (course, _) = alone(server(7, README, NIGHTLY), &scenario);
        course.runs.iter().map(|run| run.outcome).collect::<Vec<_>>()
    };
    let failed = failing(3).iter().filter(|it| **it == RotationOutcome::Failed).count();
    assert!((8..35).contains(&failed), "{failed}");
    assert_eq!(failing(3), failing(3));
    assert_ne!(failing(3), failing(4));
}

/// As the daemon's own tests count it.
#[test]
fn a_fleet_on_one_tick_shares_its_looks() {
    let beginnings = (1..=200).map(|id| Beginning {
        server: server(id, README, NIGHTLY),
        snapshots: Vec::new(),
        in_detail: false,
    });
    let rehearsed = rehearse(beginnings.collect(), &scenario(30));
    let rotations: usize =
        rehearsed.courses.iter().map(|it| it.count(RotationOutcome::Rotated)).sum();
    assert_eq!(rotations, 200 * 30);
    let per_rotation = rehearsed.calls_in_all() as f64 / rotations as f64;
    assert!((1.8..2.2).contains(&per_rotation), "{per_rotation}");
    let (_, calls) = rehearsed.busiest_minute().unwrap();
    assert!((200..260).contains(&calls), "{calls}");
    assert!(rehearsed.courses.iter().all(|it| it.days.is_empty()));
}

#[test]
fn it_goes_on_from_what_is_there() {
    let server = server(7, README, NIGHTLY);
    let old = |id: u64, text: &str| Snapshot {
        id: crate::naming::SnapshotId(id),
        server: server.id,
        name: server.policy.prefix.name(Tick::at(at(text))).into(),
        status: Status::Completed,
        size_mb: None,
        created_at: at(text),
        description: None,
    };
    let snapshots = vec![old(1, "2025-12-21T02:00:00Z"), old(2, "2025-12-31T02:00:00Z")];
    let beginning = Beginning { server: Arc::clone(&server), snapshots, in_detail: true };
    let course = rehearse(vec![beginning], &scenario(3)).courses.remove(0);
    assert_eq!(course.days[0].snapshots.len(), 3);
    assert_eq!(course.days[0].snapshots[0].at, at("2025-12-21T02:00:00Z"));
    assert_eq!(course.most_kept, 4);
}

#[test]
fn an_outage_at_the_end_is_a_broken_promise_too() {
    let outage = Outage { from: at("2026-01-27T00:00:00Z"), to: at("2026-03-01T00:00:00Z") };
    let scenario = Scenario { outages: vec![outage], ..scenario(30) };
    let (course, _) = alone(server(7, README, NIGHTLY), &scenario);
    let ideal = ideal(&course.server, scenario.from, scenario.to, usize::MAX);
    let after = Some(Tick::at(at("2026-01-26T02:00:00Z")));
    let gap = Broken::Gap { seconds: 4 * 86_400 + 22 * 3_600, after, interval_s: 86_400 };
    assert_eq!(course.broken_promises(&ideal, scenario.to), [gap]);
}

#[test]
fn a_tick_at_the_very_beginning_is_carried_out() {
    let from = at("2026-01-01T02:00:00Z");
    let scenario = Scenario { from, to: from + SignedDuration::from_hours(24), ..scenario(1) };
    let (course, _) = alone(server(7, README, NIGHTLY), &scenario);
    assert_eq!(course.runs[0].tick, Tick::at(from));
    assert!(ideal(&course.server, scenario.from, scenario.to, usize::MAX).unfilled.len() < 3);
}
