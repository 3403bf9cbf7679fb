use rstest::rstest;

use super::*;
use crate::moment::Moment;
use crate::snapshot::{Listing, Snapshot};
use crate::testing::stage::{ended, managed, ring, server, settings, slot, time};

const GOOD: RotationOutcome = RotationOutcome::Rotated;
const NIGHT: &str = "2026-11-23T03:00:00Z";
const BAD: RotationOutcome = RotationOutcome::Failed;

fn report(tick: &str, outcome: RotationOutcome) -> Report {
    Report::without_steps(
        outcome,
        ServerId::new(101),
        "web-01",
        Tick::at(time(tick)),
        "why".to_owned(),
    )
}

fn status(remembered: &[Ended]) -> ServerStatus {
    let mut status = ServerStatus::default();
    remembered.iter().for_each(|ended| status.remember(ended));
    status
}

#[test]
fn trouble_lasts_from_the_first_bad_end_and_is_explained_by_the_last() {
    let status = status(&[
        ended("2026-11-20T03:00:00Z", GOOD, ""),
        ended("2026-11-21T03:00:00Z", BAD, "first"),
        ended("2026-11-22T03:00:00Z", RotationOutcome::Blocked, "second"),
        ended("2026-11-22T04:00:00Z", RotationOutcome::Skipped, "too soon"),
    ]);
    let trouble = status.history.trouble().unwrap();
    assert_eq!(trouble.since, time("2026-11-21T03:00:00Z"));
    assert_eq!((trouble.rotations, trouble.kind), (2, TroubleKind::Blocked));
    assert_eq!(trouble.reason.as_deref(), Some("second"), "not why a later one was skipped");
    assert_eq!(status.last.as_ref().unwrap().outcome, RotationOutcome::Skipped);
    assert_eq!(status.last_success().unwrap().at, time("2026-11-20T03:00:00Z"));
}

#[rstest]
#[case(RotationOutcome::Rotated, true)]
#[case(RotationOutcome::Adopted, true)]
#[case(RotationOutcome::Skipped, false)]
fn only_a_success_ends_trouble(#[case] outcome: RotationOutcome, #[case] ends: bool) {
    let status = status(&[
        ended("2026-11-21T03:00:00Z", BAD, "why"),
        ended("2026-11-22T03:00:00Z", outcome, ""),
    ]);
    assert_eq!(status.history.trouble().is_none(), ends);
    assert_eq!(status.history.success().is_some(), ends);
}

#[test]
fn a_snapshot_is_shown_from_the_answer_to_its_create_on() {
    let settings = settings(&server(101, "web-01", ""));
    let server = &settings.servers[0];
    let (id, policy) = (server.id, &server.policy);
    let statuses = Statuses::default();
    let tick = Tick::at(time(NIGHT));
    let created = Snapshot {
        id: SnapshotId(7),
        server: id,
        name: policy.prefix.name(tick).as_str().into(),
        status: Status::InProgress,
        created_at: time(NIGHT),
        size_mb: None,
        description: None,
    };
    statuses.created(&created, policy);
    assert_eq!(statuses.of(id).ring, None, "nothing is known of the others");
    let moment = Moment { wall: time("2026-11-23T02:59:59Z"), uptime: Duration::ZERO };
    statuses.saw(&Ring::of(Listing::complete(id, Vec::new(), moment), policy));
    for _ in 0..2 {
        statuses.created(&created, policy);
        let ring = statuses.of(id).ring.unwrap();
        assert_eq!(ring.slots.len(), 1);
        assert_eq!(
            (ring.slots[0].holder, &ring.slots[0].status),
            (Holder::Managed(tick), &Status::InProgress)
        );
    }
}

#[test]
fn without_a_rotation_the_newest_completed_managed_snapshot_was_the_last_success() {
    let foreign = slot(4, "by-hand", Holder::Foreign, Status::Completed, "2026-11-23T09:00:00Z");
    let slots = vec![
        managed(1, "2026-11-21T03:00:00Z", Status::Completed),
        managed(2, "2026-11-22T03:00:00Z", Status::Failed),
        managed(3, "2026-11-23T03:00:00Z", Status::InProgress),
        foreign,
    ];
    let status = ServerStatus { ring: Some(ring(slots)), ..ServerStatus::default() };
    let own = time("2026-11-21T03:00:00Z");
    assert_eq!(status.last_success(), Some(Success { tick: Tick::at(own), at: own }));
    assert_eq!(ServerStatus::default().last_success(), None);
}

#[test]
fn what_a_rotation_deleted_leaves_the_ring_but_a_foreign_one_of_that_name_stays() {
    let old = managed(1, "2026-11-21T03:00:00Z", Status::Completed);
    let name = "snapring-20261121T030000Z";
    let foreign = slot(2, name, Holder::Foreign, Status::Completed, "2026-11-22T03:00:00Z");
    let mut status =
        ServerStatus { ring: Some(ring(vec![old, foreign])), ..ServerStatus::default() };
    let report =
        Report { deleted_ids: [SnapshotId(1)].into(), ..report("2026-11-23T03:00:00Z", GOOD) };
    status.ended(&report, time("2026-11-23T03:01:00Z"));
    let left: Vec<u64> = status.ring.unwrap().slots.iter().map(|slot| slot.id.0).collect();
    assert_eq!(left, [2]);
}

#[test]
fn a_deleted_duplicate_leaves_the_ring_and_the_newer_one_stays() {
    let again = |id| SlotSeen { id: SnapshotId(id), ..managed(1, NIGHT, Status::Completed) };
    let mut status =
        ServerStatus { ring: Some(ring(vec![again(1), again(2)])), ..Default::default() };
    assert_eq!(status.ring.as_ref().unwrap().duplicate_ticks(), 1);
    let report = Report { deleted_ids: [SnapshotId(1)].into(), ..report(NIGHT, GOOD) };
    status.ended(&report, time("2026-11-23T03:01:00Z"));
    let ring = status.ring.unwrap();
    assert_eq!(ring.slots.iter().map(|slot| slot.id.0).collect::<Vec<_>>(), [2]);
    assert_eq!(ring.duplicate_ticks(), 0);
}

#[test]
fn a_tick_has_duplicates_when_two_snapshots_that_have_not_failed_have_its_name() {
    let name = "snapring-20261123T030000Z";
    let own = || managed(1, NIGHT, Status::Completed);
    let other = |holder, status| slot(2, name, holder, status, NIGHT);
    let count = |slots| ring(slots).duplicate_ticks();
    assert_eq!(count(vec![]), 0);
    assert_eq!(count(vec![own(), managed(2, "2026-11-23T03:00:01Z", Status::Completed)]), 0);
    assert_eq!(count(vec![own(), managed(2, NIGHT, Status::InProgress)]), 1);
    assert_eq!(count(vec![own(), managed(2, NIGHT, Status::Failed)]), 0);
    assert_eq!(count(vec![own(), own(), own()]), 1, "ticks are counted, not snapshots");
    assert_eq!(count(vec![own(), other(Holder::Pinned, Status::Completed)]), 1);
    let by_hand = |id| slot(id, "by-hand", Holder::Foreign, Status::Completed, NIGHT);
    assert_eq!(count(vec![by_hand(1), by_hand(2)]), 0, "these have no tick");
}

#[test]
fn a_snapshot_is_known_by_the_name_that_the_provider_gave() {
    let own = managed(1, "2026-11-21T03:00:00Z", Status::Completed);
    let pinned = slot(
        2,
        "snapring-20261120T030000Z",
        Holder::Pinned,
        Status::Completed,
        "2026-11-20T03:00:00Z",
    );
    let foreign = slot(3, "by-hand", Holder::Foreign, Status::Completed, "2026-11-22T03:00:00Z");
    let ring = ring(vec![own, pinned, foreign]);
    let names: Vec<_> = ring.slots.iter().map(|slot| ring.name(slot)).collect();
    assert_eq!(names, ["snapring-20261121T030000Z", "snapring-20261120T030000Z", "by-hand"]);
}

#[test]
fn a_rotation_is_under_way_until_it_ends_whatever_is_skipped_because_of_it() {
    let statuses = Statuses::default();
    let tick = Tick::at(time("2026-11-23T03:00:00Z"));
    let began = time("2026-11-23T03:00:01Z");
    let under_way = statuses.begun(ServerId::new(101), tick, began);
    // The same tick asked for a second time, and another one.
    for skipped in ["2026-11-23T03:00:00Z", "2026-11-23T04:00:00Z"] {
        statuses.ended(&report(skipped, RotationOutcome::Skipped), began);
        assert_eq!(statuses.of(ServerId::new(101)).under_way, Some((tick, began)));
    }
    drop(under_way);
    assert_eq!(statuses.of(ServerId::new(101)).under_way, None);
}

#[test]
fn each_end_is_counted_by_how_it_was_but_not_those_remembered_from_before() {
    let statuses = Statuses::default();
    let at = time("2026-11-23T03:00:00Z");
    statuses.remember(ServerId::new(101), &ended("2026-11-22T03:00:00Z", BAD, "why"));
    for outcome in [GOOD, BAD, BAD] {
        statuses.ended(&report("2026-11-23T03:00:00Z", outcome), at);
    }
    let counts: Vec<(RotationOutcome, u32)> =
        statuses.of(ServerId::new(101)).ended.each().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, [(GOOD, 1), (BAD, 2)]);
}

#[test]
fn what_ended_elsewhere_is_news_when_it_is_later_than_what_is_known() {
    let (statuses, web) = (Statuses::default(), ServerId::new(101));
    let at = time("2026-11-23T03:00:00.123456Z");
    statuses.ended(&report("2026-11-23T03:00:00Z", BAD), at);
    // Its own row, as it was written down.
    let own =
        Ended { at: time("2026-11-23T03:00:00.123Z"), ..ended("2026-11-23T03:00:00Z", BAD, "why") };
    assert!(!statuses.hear_of(web, &own));
    assert_eq!(statuses.of(web).history.trouble().unwrap().rotations, 1);
    assert!(statuses.hear_of(web, &ended("2026-11-23T03:00:01Z", GOOD, "")));
    assert!(statuses.of(web).history.trouble().is_none());
    assert!(!statuses.hear_of(web, &ended("2026-11-23T03:00:00Z", BAD, "late")));
    assert_eq!(statuses.of(web).last.unwrap().outcome, GOOD);
    assert_eq!(statuses.of(web).ended.each().map(|(_, count)| count).sum::<u32>(), 1);
    assert!(statuses.hear_of(ServerId::new(102), &own), "of one of which nothing is known");
}

#[test]
fn a_server_that_left_the_configuration_is_forgotten() {
    let statuses = Statuses::default();
    statuses.remember(ServerId::new(101), &ended("2026-11-22T03:00:00Z", GOOD, ""));
    statuses.remember(ServerId::new(102), &ended("2026-11-22T03:00:00Z", GOOD, ""));
    statuses.keep_only(|id| id == ServerId::new(102));
    assert_eq!(statuses.of(ServerId::new(101)), ServerStatus::default());
    assert!(statuses.of(ServerId::new(102)).last_success().is_some());
}

#[test]
fn names_are_shown_as_they_are_whatever_prefix_they_have() {
    let lines = "prefix = \"new\"\nadopt_prefix = [\"old\"]";
    let policy = Arc::clone(&settings(&server(101, "web-01", lines)).servers[0].policy);
    let names = ["new-20261123T030000Z", "old-20261123T030000Z", "other-20261123T030000Z"];
    let row = |(id, name): (u64, &str)| Snapshot {
        id: SnapshotId(id),
        server: ServerId::new(101),
        name: name.into(),
        status: Status::Completed,
        size_mb: None,
        created_at: time(NIGHT),
        description: None,
    };
    let asked_at = Moment { wall: time(NIGHT), uptime: Duration::ZERO };
    let rows = (1..).zip(names).map(row).collect();
    let seen =
        RingSeen::of(&Ring::of(Listing::complete(ServerId::new(101), rows, asked_at), &policy));
    let shown: Vec<String> = seen.slots.iter().map(|slot| seen.name(slot)).collect();
    assert_eq!(shown, names);
    assert_eq!(seen.count(|it| matches!(it, Holder::Managed(_))), 2);
    assert_eq!(seen.duplicate_ticks(), 1, "of one tick under two prefixes");
}
