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
    "4 goes: before the create, to make room: it failed",
    "5 stays: in_progress: left alone",
])]
#[case::pruned_afterwards("c . c c c", &[
    "1 goes: after the new snapshot is complete: `keep` does not need it",
    "3 goes: after the new snapshot is complete: `keep` does not need it",
    "4 stays: last (3 of 3)",
    "5 stays: last (2 of 3)",
])]
#[case::squeezed("H H H c c", &[
    "1 stays: foreign, never deleted",
    "2 stays: pinned, never deleted",
    "3 stays: foreign, never deleted",
    "4 goes: before the create, to make room: squeezed: foreign or pinned snapshots hold the slots",
    "5 stays: last (2 of 3)",
])]
#[case::an_unfinished_one_is_not_counted_as_done("c . c p c", &[
    "1 goes: after the new snapshot is complete: `keep` does not need it",
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
    "1 goes: after the new snapshot is complete: 4 is a newer snapshot of the same tick",
    "3 goes: after the new snapshot is complete: 4 is a newer snapshot of the same tick",
    "4 stays: last (2 of 3)",
])]
fn each_snapshots_fate_is_told_in_words(#[case] words: &str, #[case] expected: &[&str]) {
    let policy = Policy { pinned: BTreeSet::from([SnapshotId(2)]), ..policy() };
    assert_eq!(told(&ring(words, &policy), &policy), expected);
}

#[test]
fn without_a_new_snapshot_even_what_retention_drops_stays() {
    let policy = Policy { min_interval: std::time::Duration::from_secs(25 * 3600), ..policy() };
    let lines = told(&ring("c c c c", &policy), &policy);
    assert_eq!(lines[0], "1 stays: until a new snapshot is complete");
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
