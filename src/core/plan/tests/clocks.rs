//! Wrong clocks: the provider's, and those of machines that named snapshots.

use super::*;

/// The ring of [`ring`], with the provider's time of some snapshots (by id) moved by a number of hours.
fn skewed(words: &str, policy: &Policy, hours: &[(u64, i64)]) -> Ring {
    let mut rows = ring(words, policy).listing().snapshots.clone();
    for (id, hours) in hours {
        let row = rows.iter_mut().find(|row| row.id.0 == *id).unwrap();
        row.created_at += jiff::SignedDuration::from_hours(*hours);
    }
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), policy)
}

fn forecast(ring: &Ring, policy: &Policy) -> Vec<u64> {
    let plan =
        Plan::forecast(ring, policy, tick(), AskedBy::Schedule, &RingMemory::default(), now());
    plan.deletions().map(|deletion| deletion.snapshot().0).collect()
}

#[rstest]
#[case::all_is_well(&[], &[1, 2, 3])]
#[case::the_provider_was_set_back_before_the_last_two(&[(4, -40), (5, -40)], &[1, 2, 3])]
// More than two days apart, `created_at` counts: but no victim, and pruned only beside a newer one.
#[case::the_newest_seems_the_oldest(&[(5, -24 * 900)], &[1, 5, 2])]
#[case::an_old_one_is_dated_2099(&[(1, 24 * 365 * 73)], &[2, 3, 4])]
#[case::an_old_one_is_a_day_ahead(&[(2, 24)], &[1, 2, 3])]
#[case::all_are_years_behind(&[(1, -90_000), (2, -90_000), (3, -90_000), (4, -90_000), (5, -90_000)], &[1, 2, 3])]
fn what_goes_of_a_full_ring(#[case] hours: &[(u64, i64)], #[case] goes: &[u64]) {
    let policy = policy();
    assert_eq!(forecast(&skewed("c c c c c", &policy, hours), &policy), goes, "{hours:?}");
}

#[test]
fn a_ring_that_keeps_as_many_as_it_has_slots_is_not_blocked_by_ids_that_fall() {
    let policy = Policy { keep: Keep { last: 5, ..Keep::default() }, ..policy() };
    let mut rows = ring("c c c c c", &policy).listing().snapshots.clone();
    for (row, id) in rows.iter_mut().zip([15, 14, 13, 12, 11]) {
        row.id = SnapshotId(id);
    }
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    let ring = Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &policy);
    let Step::MakeRoom(victims) = first_step(&ring, &policy) else { panic!("no room") };
    let victims: Vec<_> = victims.iter().map(|it| (it.snapshot().0, it.why())).collect();
    assert_eq!(victims, [(14, DeleteReason::InsteadOfNewest)]);
}

#[test]
fn a_duplicate_that_is_the_newest_by_id_makes_no_room() {
    let policy = Policy { keep: Keep { last: 5, ..Keep::default() }, ..policy() };
    let mut rows = ring("c c c c c=4", &policy).listing().snapshots.clone();
    // Made first by the provider's time, and last by its count.
    (rows[3].id, rows[4].id) = (SnapshotId(15), SnapshotId(4));
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    let ring = Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &policy);
    assert_eq!(ring.completed().duplicates[0].snapshot.id, SnapshotId(15));
    let Step::MakeRoom(victims) = first_step(&ring, &policy) else { panic!("no room") };
    assert_eq!(super::ids(&victims), [1]);
}

#[test]
fn a_snapshot_whose_name_was_changed_is_nobodys_own() {
    let policy = policy();
    let ring = ring("c c c c H", &policy);
    let pruned = |own| super::ids(&prune(&ring, &policy, SnapshotId(own), &Progress::default()));
    assert_eq!((pruned(4), pruned(5)), (vec![1], vec![]));
}

/// The newest of the ring has an old tick: it came days late.
#[test]
fn a_later_tick_overtakes_though_its_snapshot_is_not_the_newest() {
    let policy = policy();
    let mut rows = ring("c c c c", &policy).listing().snapshots.clone();
    rows[0].created_at = now();
    rows[3].name = policy.prefix.name(Tick::at(now() - jiff::SignedDuration::from_hours(1))).into();
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    let ring = Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &policy);
    assert_eq!(ring.newest(&policy).unwrap().0.id, SnapshotId(1));
    let tick = Tick::at(now() - jiff::SignedDuration::from_hours(2));
    let step = next_step(&ring, &policy, tick, AskedBy::Schedule, &Progress::default(), now());
    assert!(matches!(step, Step::Skip(Skip::Overtaken { .. })), "{step:?}");
}

#[test]
fn a_period_is_that_of_the_tick() {
    // By the provider's clock, each was made after midnight of the next day but one.
    let policy = Policy { keep: Keep { daily: 3, ..Keep::default() }, ..policy() };
    let plain = forecast(&skewed("c c c c", &policy, &[]), &policy);
    let late = forecast(&skewed("c c c c", &policy, &[(1, 30), (2, 30), (3, 6), (4, 6)]), &policy);
    assert_eq!((plain.as_slice(), late.as_slice()), (&[1, 2][..], &[1, 2][..]));
}

proptest! {
    /// Whatever the clocks did: none of the newest goes, neither to make room nor after.
    #[test]
    fn the_newest_by_tick_by_clock_and_by_id_stay(
        count in 2..6_usize,
        skews in prop::collection::vec(
            prop_oneof![Just(0_i64), -60..60_i64, -100_000..700_000_i64], 6),
        ids in Just(vec![1_u64, 2, 3, 4, 5, 6]).prop_shuffle(),
        by_hand in 0..3_usize,
        keep in 1..5_u32,
    ) {
        let policy = Policy { keep: Keep { last: keep, ..Keep::default() }, ..policy() };
        let words = ["c"; 6][..count].join(" ") + &" H".repeat(by_hand.min(5 - count.min(5)));
        let mut rows = ring(&words, &policy).listing().snapshots.clone();
        for (row, (skew, id)) in rows.iter_mut().zip(skews.into_iter().zip(ids)) {
            row.created_at += jiff::SignedDuration::from_hours(skew);
            row.id = SnapshotId(id);
        }
        let completed: Vec<Snapshot> =
            rows.iter().filter(|row| row.name.raw().starts_with("snapring-")).cloned().collect();
        let newest = [
            completed.iter().max_by_key(|row| row.name.clone()).unwrap().id.0,
            completed.iter().max_by_key(|row| (row.created_at, row.id)).unwrap().id.0,
            completed.iter().max_by_key(|row| row.id).unwrap().id.0,
        ];
        let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
        let ring = Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &policy);
        let first = first_step(&ring, &policy);
        if let Step::MakeRoom(victims) = &first {
            prop_assert!(super::ids(victims).iter().all(|id| !newest.contains(id)));
        }
        for own in &completed {
            let pruned = prune(&ring, &policy, own.id, &Progress::default());
            prop_assert!(super::ids(&pruned).iter().all(|id| !newest.contains(id) && *id != own.id.0));
        }
    }
}

/// The first step after listings an hour apart, in each of which these places read failed and all others completed.
fn step_after(ids: [u64; 3], failed: &[&[usize]]) -> Step {
    let policy = Policy { reserve: 2, ..policy() };
    let mut memory = RingMemory::default();
    let mut step = Step::AwaitRoom;
    for (hours, failed) in (0..).zip(failed) {
        let mut rows = ring("c c c", &policy).listing().snapshots.clone();
        for ((place, row), id) in rows.iter_mut().enumerate().zip(ids) {
            row.id = SnapshotId(id);
            row.status = if failed.contains(&place) { Status::Failed } else { Status::Completed };
        }
        let uptime = Duration::from_hours(hours);
        let wall = now() + jiff::SignedDuration::try_from(uptime).unwrap();
        let listing = Listing::complete(ServerId::new(7), rows, Moment { wall, uptime });
        let ring = Ring::of(listing, &policy);
        memory.saw(&ring);
        let progress = Progress { memory: memory.clone(), ..Progress::default() };
        step = next_step(&ring, &policy, tick(), AskedBy::Schedule, &progress, now());
    }
    step
}

/// By falling ids the middle one is the newest of those that are surely completed; if it is.
#[test]
fn one_that_reads_failed_for_a_moment_stays_where_it_may_be_the_newest() {
    let step = step_after([19, 17, 14], &[&[], &[0], &[0, 1]]);
    assert!(matches!(step, Step::Blocked(_)), "{step:?}");
}

#[test]
fn where_nothing_is_listed_as_completed_nothing_that_ever_was_is_deleted() {
    let step = step_after([1, 2, 3], &[&[], &[0, 1, 2], &[0, 1, 2]]);
    assert!(matches!(step, Step::Blocked(_)), "{step:?}");
}
