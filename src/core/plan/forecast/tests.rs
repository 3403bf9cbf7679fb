//! What `plan` tells of each snapshot.

use std::collections::BTreeSet;

use rstest::rstest;

use super::*;
use crate::plan::tests::{now, policy, ring, tick};

fn told(ring: &Ring, policy: &Policy) -> Vec<String> {
    let plan =
        Plan::forecast(ring, policy, tick(), AskedBy::Schedule, &RingMemory::default(), now());
    let line = |fate: &Fate| {
        format!(
            "{} {}: {}",
            fate.slot.snapshot.id,
            if fate.goes { "goes" } else { "stays" },
            fate.why
        )
    };
    plan.fates.iter().map(line).collect()
}

#[rstest]
#[case::a_failed_one_makes_room("H c c f p", &[
    "1 stays: foreign, never deleted",
    "2 stays: pinned, never deleted",
    "3 stays: last (2 of 3)",
    "4 goes: before the create, to make room: it failed; only once it has been listed as failed for 5 minutes",
    "5 stays: in_progress: left alone",
])]
#[case::pruned_afterwards("c . c c c", &[
    "1 goes: after the new snapshot is completed: `keep` does not need it",
    "3 goes: after the new snapshot is completed: `keep` does not need it",
    "4 stays: last (3 of 3)",
    "5 stays: last (2 of 3)",
])]
#[case::squeezed("H H H c c", &[
    "1 stays: foreign, never deleted",
    "2 stays: pinned, never deleted",
    "3 stays: foreign, never deleted",
    "4 goes: before the create, to make room: squeezed: snapshots that no rotation deletes hold the slots",
    "5 stays: last (2 of 3)",
])]
#[case::an_unfinished_one_is_not_counted_as_done("c . c p c", &[
    "1 goes: after the new snapshot is completed: `keep` does not need it",
    "3 stays: last (3 of 3)",
    "4 stays: in_progress: left alone",
    "5 stays: last (2 of 3)",
])]
#[case::a_duplicate_makes_room("H c c c=3 c", &[
    "1 stays: foreign, never deleted",
    "2 stays: pinned, never deleted",
    "3 goes: before the create, to make room: 4 is a newer snapshot of the same tick",
    "4 stays: last (3 of 3)",
    "5 stays: last (2 of 3)",
])]
#[case::duplicates_are_pruned_afterwards("c . c=1 c=1", &[
    "1 goes: after the new snapshot is completed: 4 is a newer snapshot of the same tick",
    "3 goes: after the new snapshot is completed: 4 is a newer snapshot of the same tick",
    "4 stays: last (2 of 3)",
])]
fn each_snapshots_fate_is_told_in_words(#[case] words: &str, #[case] expected: &[&str]) {
    let policy = Policy { pinned: BTreeSet::from([SnapshotId(2)]), ..policy() };
    assert_eq!(told(&ring(words, &policy), &policy), expected);
}

/// A provider may report an error for a moment. The plan promises no deletion that then has to wait.
#[test]
fn a_failed_snapshot_goes_at_once_only_if_it_has_been_listed_as_failed_for_long_enough() {
    let policy = policy();
    let ring = ring("c c f", &policy);
    let forecast = |memory: &RingMemory| {
        let plan = Plan::forecast(&ring, &policy, tick(), AskedBy::Schedule, memory, now());
        let failed = plan.deletions().find(|it| it.snapshot() == SnapshotId(3)).cloned().unwrap();
        (plan.is_unconfirmed(&failed), plan.fates[2].why.clone())
    };
    let (is_unconfirmed, why) = forecast(&RingMemory::default());
    assert!(is_unconfirmed && why.contains("listed as failed for 5 minutes"), "{why}");
    let seen = |minutes: u64| {
        let Listing { server, asked_at, snapshots } = ring.listing().clone();
        let asked_at = asked_at.before(std::time::Duration::from_secs(60 * minutes));
        let mut memory = RingMemory::default();
        memory.saw(&Ring::of(Listing::complete(server, snapshots, asked_at), &policy));
        memory.without_uptime()
    };
    assert!(forecast(&seen(4)).0);
    let (is_unconfirmed, why) = forecast(&seen(6));
    assert!(!is_unconfirmed && why.ends_with(": it failed"), "{why}");
}

#[test]
fn a_ring_with_less_room_than_keep_asks_for_is_warned_of_before_it_loses_anything() {
    let policy = policy();
    let warnings = |words| {
        let ring = ring(words, &policy);
        let memory = RingMemory::default();
        Plan::forecast(&ring, &policy, tick(), AskedBy::Schedule, &memory, now()).warnings
    };
    assert_eq!(warnings("H H c c"), Vec::<String>::new());
    let warned = warnings("H H H c");
    assert_eq!(warned.len(), 1, "{warned:?}");
    let words = "the ring is squeezed: 3 foreign or pinned snapshots hold slots, so there is room for 2 of the 3 \
                 that `keep` asks for. Delete some";
    assert!(warned[0].starts_with(words), "{warned:?}");
}

#[test]
fn several_that_make_room_are_listed_in_a_sentence() {
    let policy = policy();
    let keeps_one = Policy {
        reserve: 3,
        keep: crate::policy::Keep { last: 1, ..Default::default() },
        ..policy
    };
    let ring = ring("c c c c", &keeps_one);
    let memory = RingMemory::default();
    let plan = Plan::forecast(&ring, &keeps_one, tick(), AskedBy::Schedule, &memory, now());
    let warning =
        plan.warnings.iter().find(|it| it.contains("before the new snapshot exists")).unwrap();
    let names = "snapring-20261119T030000Z, snapring-20261120T030000Z and snapring-20261121T030000Z are deleted";
    assert!(warning.contains(names), "{warning}");
}

#[test]
fn without_a_new_snapshot_even_what_retention_drops_stays() {
    let policy = Policy { min_interval: std::time::Duration::from_secs(25 * 3600), ..policy() };
    let lines = told(&ring("c c c c", &policy), &policy);
    assert_eq!(lines[0], "1 stays: until a new snapshot is completed");
    assert_eq!(lines[1], "2 stays: last (3 of 3)");
    let lines = told(&ring("c=2 c", &policy), &policy);
    assert_eq!(
        lines[0],
        "1 stays: 2 is a newer snapshot of the same tick; deleted once a rotation succeeds"
    );
}

#[rstest]
#[case::under_way(Status::InProgress, &[1])]
#[case::done(Status::Completed, &[1])]
#[case::failed(Status::Failed, &[])]
fn the_ticks_own_snapshot_is_foretold_to_be_completed_unless_it_failed(
    #[case] status: Status,
    #[case] pruned: &[u64],
) {
    let policy = policy();
    let before = ring("c c c c", &policy);
    let mut rows = before.listing().snapshots.clone();
    rows[3].name = policy.prefix.name(tick()).into();
    rows[3].status = status;
    let listing = Listing::complete(before.listing().server, rows, before.listing().asked_at);
    let plan = Plan::forecast(
        &Ring::of(listing, &policy),
        &policy,
        tick(),
        AskedBy::Person,
        &RingMemory::default(),
        now(),
    );
    assert_eq!(plan.prunes.iter().map(|it| it.snapshot().0).collect::<Vec<_>>(), pruned);
}
