//! Tables of rings and what is decided about them.

mod clocks;
mod oracle;

use std::time::Duration;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use rstest::rstest;

use super::forecast::Plan;
use super::*;
use crate::naming::{ManagedPrefix, Prefix};
use crate::policy::Keep;
use crate::ring::Holder;

const NOW: &str = "2026-11-23T03:00:00Z";

pub(super) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub(super) fn tick() -> Tick {
    Tick::at(now())
}

/// Keeps the 3 last of 5 slots.
pub(super) fn policy() -> Policy {
    Policy {
        prefix: "snapring".parse().unwrap(),
        keep: Keep { last: 3, ..Keep::default() },
        time_zone: TimeZone::UTC,
        cap: 5,
        reserve: 0,
        pinned: BTreeSet::new(),
        to_restore: None,
        min_interval: Duration::from_secs(600),
    }
}

/// A ring from words, oldest first, a day apart, the last one a day ago, with ids from 1:
/// `c` completed, `f` failed, `p` in progress, `?` archived (all managed), `H` made by hand, `.` none.
/// `c=2` is a completed one with the name of the second, and so on.
pub(super) fn ring(words: &str, policy: &Policy) -> Ring {
    let count = words.split_whitespace().count();
    let made = |place: usize| {
        let days_ago = i64::try_from(count - place).unwrap();
        now() - jiff::SignedDuration::from_hours(24 * days_ago)
    };
    let row = |(place, word): (usize, &str)| {
        let (state, like) = word.split_once('=').unwrap_or((word, ""));
        let named_like = like.parse().map_or(place, |id: usize| id - 1);
        let status = match state {
            "f" => Status::Failed,
            "p" => Status::InProgress,
            "?" => Status::Other("archived".into()),
            _ => Status::Completed,
        };
        let name = match word {
            "H" => format!("by-hand-{place}"),
            _ => policy.prefix.name(Tick::at(made(named_like))),
        };
        Snapshot {
            id: SnapshotId(place as u64 + 1),
            server: ServerId::new(7),
            name: name.into(),
            status,
            size_mb: Some(1),
            created_at: made(place),
            description: None,
        }
    };
    let there = words.split_whitespace().enumerate().filter(|(_, word)| *word != ".");
    let rows = there.map(row).collect();
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), policy)
}

fn ids(deletions: &[Deletion]) -> Vec<u64> {
    deletions.iter().map(|deletion| deletion.snapshot().0).collect()
}

fn first_step(ring: &Ring, policy: &Policy) -> Step {
    next_step(ring, policy, tick(), AskedBy::Schedule, &Progress::default(), now())
}

/// What happens first, and what is pruned at the end.
fn told(words: &str, policy: &Policy) -> String {
    let plan = Plan::forecast(
        &ring(words, policy),
        policy,
        tick(),
        AskedBy::Schedule,
        &RingMemory::default(),
        now(),
    );
    let step = match &plan.step {
        Step::MakeRoom(victims) => {
            let each: Vec<String> =
                victims.iter().map(|it| format!("{} {:?}", it.snapshot(), it.why())).collect();
            format!("make room: {}", each.join(", "))
        }
        Step::Create(_) => "create".to_owned(),
        Step::Blocked(_) => "blocked".to_owned(),
        other => format!("{other:?}"),
    };
    format!("{step}; prune {:?}", ids(&plan.prunes))
}

#[rstest]
#[case::an_empty_ring("", "create; prune []")]
#[case::room_left("c c", "create; prune []")]
#[case::one_too_many_afterwards("c c c", "create; prune [1]")]
#[case::two_too_many_afterwards("c c c c", "create; prune [1, 2]")]
#[case::full_with_our_own("c c c c c", "make room: 1 Retention; prune [2, 3]")]
#[case::failed_ones_make_room_first("c c c c f", "make room: 5 Failed; prune [1, 2]")]
#[case::failed_ones_are_pruned_too("c f c", "create; prune [2]")]
#[case::others_count_and_stay("H H c c", "create; prune []")]
#[case::squeezed_by_others("H H c c c", "make room: 3 Retention; prune []")]
#[case::the_newest_completed_stays("H H H H c", "blocked; prune []")]
#[case::squeezed_down_to_two("H H H c c", "make room: 4 Squeezed; prune []")]
#[case::all_by_hand("H H H H H", "blocked; prune []")]
#[case::one_in_progress_is_no_victim("H H H H p", "blocked; prune []")]
#[case::an_unknown_state_is_no_victim("H H H ? c", "blocked; prune []")]
#[case::in_progress_ones_count("p p c c c", "make room: 3 Retention; prune []")]
fn a_ring_of_five_that_keeps_three(#[case] words: &str, #[case] expected: &str) {
    assert_eq!(told(words, &policy()), expected);
}

#[rstest]
#[case::the_older_one_is_pruned("c c=1 c", "create; prune [1]")]
#[case::of_the_newest_tick_too("c c c=2", "create; prune [2]")]
#[case::of_three_the_newest_stays("c c=1 c=1", "create; prune [1, 2]")]
#[case::two_are_one_point_in_time("c c c=2 c", "create; prune [2, 1]")]
#[case::a_newer_one_in_progress_replaces_nothing("c c p=2", "create; prune []")]
#[case::nor_does_a_failed_one("c f=1 c", "create; prune [2]")]
#[case::nor_one_of_an_unknown_state("c ?=1 c", "create; prune []")]
#[case::one_in_progress_is_left_alone("c p=1 c=1", "create; prune [1]")]
#[case::it_makes_room_first("c c c=2 c c", "make room: 2 Duplicate; prune [1, 3]")]
#[case::but_after_a_failed_one("c c=1 f c c", "make room: 3 Failed; prune [1, 2]")]
#[case::it_goes_instead_of_one_that_others_squeeze(
    "H H H c c=4",
    "make room: 4 Duplicate; prune []"
)]
#[case::the_newest_of_all_makes_no_room("H H H H p c=5", "blocked; prune []")]
fn several_snapshots_of_one_tick_are_one(#[case] words: &str, #[case] expected: &str) {
    assert_eq!(told(words, &policy()), expected);
}

#[rstest]
#[case::the_older_one(1)]
#[case::the_newer_one(2)]
fn a_pinned_snapshot_makes_no_duplicate_of_a_managed_one(#[case] id: u64) {
    let policy = Policy { pinned: BTreeSet::from([SnapshotId(id)]), ..policy() };
    assert_eq!(told("c c=1 c", &policy), "create; prune []");
}

/// However it is shown.
#[test]
fn a_name_that_only_looks_managed_is_foreign() {
    let policy = policy();
    let listed = ring("c c", &policy);
    let mut rows = listed.listing().snapshots.clone();
    let name = policy.prefix.name(Tick::at(rows[0].created_at));
    rows[0].name = format!(" {name}\n").into();
    assert_eq!(rows[0].name.to_string(), name);
    let ring = Ring::of(Listing { snapshots: rows, ..listed.listing().clone() }, &policy);
    assert_eq!(ring.slots()[0].holder, Holder::Foreign);
    assert!(matches!(ring.slots()[1].holder, Holder::Managed(_)));
}

/// A provider that changes the case of names, and a process that remembers nothing.
#[test]
fn a_tick_whose_name_exists_in_other_letters_is_not_created_again() {
    let policy = policy();
    let listed = ring("c c", &policy);
    let mut rows = listed.listing().snapshots.clone();
    rows[1].name = policy.prefix.name(tick()).to_lowercase().into();
    let ring = Ring::of(Listing { snapshots: rows, ..listed.listing().clone() }, &policy);
    let step = first_step(&ring, &policy);
    assert!(matches!(step, Step::Skip(Skip::OtherName { id: SnapshotId(2), .. })), "{step:?}");
}

#[test]
fn neither_the_rotations_own_nor_the_newest_is_pruned_as_a_duplicate() {
    let policy = policy();
    let pruned = |own, progress: &Progress| {
        ids(&prune(&ring("c c c=1", &policy), &policy, SnapshotId(own), progress))
    };
    // Found in progress, and completed while the other machine's newer one was, too.
    assert_eq!(pruned(1, &Progress::default()), Vec::<u64>::new());
    assert_eq!(pruned(3, &Progress::default()), [1]);
    // The newer one was deleted in this rotation, and is still listed.
    let progress = Progress { deleted: BTreeSet::from([SnapshotId(3)]), ..Progress::default() };
    assert_eq!(pruned(2, &progress), Vec::<u64>::new());
}

#[test]
fn a_tick_with_several_snapshots_is_warned_of() {
    let policy = Policy { pinned: BTreeSet::from([SnapshotId(5)]), ..policy() };
    let said = |words| {
        warnings(&ring(words, &policy), &policy, &Step::AwaitRoom, &RingMemory::default(), now())
    };
    assert_eq!(said("c c f=2 H H"), Vec::<String>::new());
    let each = [said("c c=1"), said("p c=1 c=1 c=1"), said("c p=1 c . c=3")].concat();
    insta::assert_snapshot!(each.join("\n"), @r"
    2 snapshots of the tick 2026-11-21 03:00:00 UTC: 1 and 2; the older one, 1, is deleted once a rotation succeeds
    4 snapshots of the tick 2026-11-19 03:00:00 UTC: 1, 2, 3 and 4; the older ones, 2 and 3, are deleted once a rotation succeeds
    2 snapshots of the tick 2026-11-18 03:00:00 UTC: 1 and 2; none is deleted as a duplicate, because at most one is both completed and not pinned
    2 snapshots of the tick 2026-11-20 03:00:00 UTC: 3 and 5; none is deleted as a duplicate, because at most one is both completed and not pinned
    ");
}

#[rstest]
#[case::a_free_reserve_is_left_free("c c c", "make room: 1 Retention; prune []")]
#[case::a_snapshot_by_hand_uses_the_reserve_up("H c c c", "make room: 2 Retention; prune []")]
#[case::two_use_it_up("H H c c c", "make room: 3 Retention; prune []")]
#[case::more_than_the_reserve_squeeze("H H H c c", "make room: 4 Squeezed; prune []")]
fn a_reserve_of_two(#[case] words: &str, #[case] expected: &str) {
    let policy = Policy { reserve: 2, ..policy() };
    assert_eq!(told(words, &policy), expected);
}

#[test]
fn a_smaller_cap_takes_one_victim_for_each_slot_needed_and_no_more() {
    let policy = Policy { cap: 2, keep: Keep { last: 2, ..Keep::default() }, ..policy() };
    assert_eq!(
        told("c c c c", &policy),
        "make room: 1 Retention, 2 Retention, 3 Retention; prune []"
    );
    let policy = Policy { cap: 1, keep: Keep { last: 1, ..Keep::default() }, ..policy };
    assert_eq!(told("c", &policy), "blocked; prune []");
}

#[test]
fn pinned_snapshots_count_and_are_never_victims() {
    let pinned = BTreeSet::from([SnapshotId(1), SnapshotId(2)]);
    let policy = Policy { pinned, ..policy() };
    assert_eq!(told("c c c c c", &policy), "make room: 3 Retention; prune []");
}

#[test]
fn a_name_that_is_years_off_counts_by_the_providers_clock_and_stays_as_the_newest_by_tick() {
    // The second was named by a machine whose clock was ten years ahead.
    let policy = policy();
    let mut rows = ring("c c c c c", &policy).listing().snapshots.clone();
    rows[1].name = "snapring-20361123T030000Z".to_owned().into();
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    let ring = Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &policy);
    let plan =
        Plan::forecast(&ring, &policy, tick(), AskedBy::Schedule, &RingMemory::default(), now());
    assert_eq!(plan.deletions().map(|it| it.snapshot().0).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(
        plan.warnings[0],
        "snapring-20361123T030000Z is dated in the future; check the clocks"
    );
    let first = "there is no free slot, so snapring-20261118T030000Z is deleted before";
    assert!(plan.warnings[1].starts_with(first), "{:?}", plan.warnings);
    assert_eq!(plan.warnings.len(), 2);
}

#[test]
fn a_tick_whose_snapshot_is_there_is_adopted_even_if_pinned_or_too_soon() {
    let policy = policy();
    let mut rows = ring("c c", &policy).listing().snapshots.clone();
    rows[1].name = policy.prefix.name(tick()).into();
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    for pinned in [BTreeSet::new(), BTreeSet::from([SnapshotId(2)])] {
        let policy = Policy { pinned, ..policy.clone() };
        let listing = Listing::complete(ServerId::new(7), rows.clone(), asked_at);
        let step = first_step(&Ring::of(listing, &policy), &policy);
        assert!(matches!(step, Step::Adopt(found) if found.id == SnapshotId(2)));
    }
}

#[rstest]
#[case::just_before(9 * 60, AskedBy::Schedule, true)]
#[case::just_after(-9 * 60, AskedBy::Schedule, true)]
#[case::far_enough(10 * 60, AskedBy::Schedule, false)]
#[case::a_person_may(9 * 60, AskedBy::Person, false)]
fn a_tick_too_near_to_the_last_snapshot_is_skipped(
    #[case] seconds_before_tick: i64,
    #[case] asked_by: AskedBy,
    #[case] skipped: bool,
) {
    let policy = policy();
    let mut rows = ring("c", &policy).listing().snapshots.clone();
    let last = now() - jiff::SignedDuration::from_secs(seconds_before_tick);
    rows[0].name = policy.prefix.name(Tick::at(last)).into();
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    let ring = Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &policy);
    let step = next_step(&ring, &policy, tick(), asked_by, &Progress::default(), now());
    assert_eq!(matches!(step, Step::Skip(Skip::TooSoon { .. })), skipped, "{step:?}");
}

/// A start may find the older tick's snapshot in progress, wait for its turn, and come when a later
/// tick's rotation has pruned it: to make it again would be to make it twice.
#[rstest]
#[case::of_a_tick_that_has_come(0, true)]
#[case::of_one_that_only_a_wrong_clock_saw(3 * 3600, false)]
fn a_tick_is_overtaken_by_a_later_ones_snapshot(#[case] seconds_ahead: i64, #[case] skipped: bool) {
    let policy = policy();
    let mut rows = ring("c", &policy).listing().snapshots.clone();
    rows[0].name =
        policy.prefix.name(Tick::at(now() + jiff::SignedDuration::from_secs(seconds_ahead))).into();
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    let ring = Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &policy);
    let older = Tick::at(now() - jiff::SignedDuration::from_hours(1));
    for asked_by in [AskedBy::Schedule, AskedBy::Person] {
        let step = next_step(&ring, &policy, older, asked_by, &Progress::default(), now());
        assert_eq!(matches!(step, Step::Skip(Skip::Overtaken { .. })), skipped, "{step:?}");
    }
}

/// The newest snapshot may be another machine's, made late for an old tick.
#[test]
fn a_tick_is_overtaken_by_a_later_ones_snapshot_though_a_duplicate_is_newer() {
    let policy = policy();
    let ring = ring("c c c=1", &policy);
    let overtaking = &ring.listing().snapshots[1];
    let older = Tick::at(overtaking.created_at - jiff::SignedDuration::from_hours(1));
    let step = next_step(&ring, &policy, older, AskedBy::Person, &Progress::default(), now());
    assert_eq!(step, Step::Skip(Skip::Overtaken { by: overtaking.name.to_string() }));
}

#[test]
fn a_deleted_snapshot_that_lingers_is_waited_for_and_not_replaced_by_another_victim() {
    let policy = policy();
    let progress = Progress {
        deleted: BTreeSet::from([SnapshotId(1)]),
        victims_left: Some(0),
        ..Progress::default()
    };
    let step = next_step(
        &ring("c c c c c", &policy),
        &policy,
        tick(),
        AskedBy::Schedule,
        &progress,
        now(),
    );
    assert_eq!(step, Step::AwaitRoom);
}

#[test]
fn when_somebody_takes_the_slot_that_was_made_no_further_victim_is_taken() {
    let policy = policy();
    let progress = Progress { victims_left: Some(0), ..Progress::default() };
    let ring = ring("c c c c H", &policy);
    let step = next_step(&ring, &policy, tick(), AskedBy::Schedule, &progress, now());
    assert!(matches!(step, Step::Blocked(_)), "{step:?}");
}

#[test]
fn a_victim_that_cannot_be_deleted_gives_way_to_the_next() {
    let policy = policy();
    let progress = Progress {
        undeletable: BTreeSet::from([SnapshotId(1)]),
        victims_left: Some(1),
        ..Progress::default()
    };
    let ring = ring("c c c c c", &policy);
    let step = next_step(&ring, &policy, tick(), AskedBy::Schedule, &progress, now());
    assert!(matches!(step, Step::MakeRoom(victims) if ids(&victims) == [2]));
}

#[test]
fn nothing_is_pruned_while_the_new_one_is_not_completed() {
    let policy = policy();
    let ring = ring("c c c c p", &policy);
    assert_eq!(prune(&ring, &policy, SnapshotId(5), &Progress::default()), []);
    assert_eq!(prune(&ring, &policy, SnapshotId(99), &Progress::default()), []);
}

#[test]
fn blocked_says_who_holds_the_slots() {
    let policy = Policy { pinned: BTreeSet::from([SnapshotId(2)]), ..policy() };
    let Step::Blocked(blocked) = first_step(&ring("H c H H p", &policy), &policy) else {
        panic!("not blocked");
    };
    insta::assert_snapshot!(blocked.to_string(), @"no room: 5 of 5 slots are taken: foreign by-hand-0 (1), \
         by-hand-2 (3), by-hand-3 (4); managed snapring-20261122T030000Z (5, in_progress); pinned \
         snapring-20261119T030000Z (2). Delete a foreign one with `snapring delete ID`, or remove one from `pin`");
}

#[test]
fn a_ring_that_its_own_keep_fills_says_so() {
    // The new one falls into the newest one's month, so only the newest would go.
    let keep = Keep { monthly: 2, ..Keep::default() };
    let policy = Policy { cap: 2, keep, ..policy() };
    let words = format!("c {}c", ". ".repeat(24));
    let Step::Blocked(blocked) = first_step(&ring(&words, &policy), &policy) else {
        panic!("not blocked");
    };
    insta::assert_snapshot!(blocked.to_string(), @"no room: 2 of 2 slots are taken: managed \
         snapring-20261028T030000Z (1), snapring-20261122T030000Z (26, kept). Delete one with `snapring delete ID`, \
         or lower `keep`");
}

#[test]
fn blocked_says_that_slots_are_reserved() {
    let policy = Policy { reserve: 4, ..policy() };
    let Step::Blocked(blocked) = first_step(&ring("c", &policy), &policy) else {
        panic!("not blocked");
    };
    let words = blocked.to_string();
    assert!(
        words.starts_with("no room: 1 of 5 slots are taken and 4 are reserved: managed ")
            && words.contains(", kept)")
            && words.ends_with("or lower `reserve`"),
        "{words}"
    );
}

/// The advice would not help: other snapshots hold the slots.
#[test]
fn a_reserve_that_takes_no_room_is_not_blamed() {
    let policy = Policy { reserve: 1, ..policy() };
    let Step::Blocked(blocked) = first_step(&ring("H H H H c", &policy), &policy) else {
        panic!("not blocked");
    };
    let words = blocked.to_string();
    assert!(!words.contains("reserve"), "{words}");
    assert!(
        words.ends_with("(5, kept). Delete a foreign one with `snapring delete ID`"),
        "{words}"
    );
}

#[test]
fn neither_the_rotations_own_nor_the_newest_is_pruned_whatever_retention_says() {
    // Adopted late: the rotation's own is the oldest, and retention would drop it.
    let ring = ring("c c c c c", &policy());
    assert_eq!(ids(&prune(&ring, &policy(), SnapshotId(1), &Progress::default())), [2]);
    let keeps_nothing = Policy { keep: Keep::default(), ..policy() };
    assert_eq!(ids(&prune(&ring, &keeps_nothing, SnapshotId(1), &Progress::default())), [2, 3, 4]);
}

#[test]
fn of_two_snapshots_for_one_tick_the_one_that_is_furthest_is_adopted() {
    let policy = policy();
    for (words, furthest) in [
        ("f c", 2),
        ("c f", 1),
        ("p ?", 1),
        ("f ?", 2),
        ("c p", 1),
        ("c c", 2),
        ("c c p", 2),
        ("p p", 1),
    ] {
        let mut rows = ring(words, &policy).listing().snapshots.clone();
        rows.iter_mut().for_each(|row| row.name = policy.prefix.name(tick()).into());
        let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
        let ring = Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &policy);
        let step = first_step(&ring, &policy);
        assert!(matches!(step, Step::Adopt(found) if found.id == SnapshotId(furthest)), "{words}");
    }
}

#[test]
fn what_a_person_asks_for_rests_on_a_listing_too() {
    let ring = ring("c H c", &policy());
    let deletion = Deletion::by_hand(SnapshotId(2), ring.listing()).unwrap();
    assert_eq!((deletion.snapshot(), deletion.name()), (SnapshotId(2), "by-hand-1"));
    assert_eq!(Deletion::by_hand(SnapshotId(4), ring.listing()), None);
    let create = |cap| Creation::by_hand("mine".to_owned(), cap, ring.listing());
    assert_eq!(create(4).map(|creation| creation.name), Some("mine".to_owned()));
    assert_eq!((create(3), create(2)), (None, None));
}

#[test]
fn a_tick_within_five_minutes_of_the_clock_is_no_sign_of_a_wrong_one() {
    let policy = policy();
    let ring = ring("c", &policy);
    let made = ring.newest(&policy).unwrap().1.instant();
    let warned = |seconds| {
        let clock = made - jiff::SignedDuration::from_secs(seconds);
        !warnings(&ring, &policy, &Step::AwaitRoom, &RingMemory::default(), clock).is_empty()
    };
    assert_eq!([299, 300, 301].map(warned), [false, false, true]);
}

#[test]
fn a_squeeze_is_warned_of_and_other_victims_are_not() {
    let policy = policy();
    let said = |words| {
        let ring = ring(words, &policy);
        warnings(&ring, &policy, &first_step(&ring, &policy), &RingMemory::default(), now())
    };
    assert_eq!(said("c c c c c"), Vec::<String>::new());
    assert_eq!(
        said("H H H c c"),
        [
            "the ring is squeezed: 3 foreign or pinned snapshots hold slots, so there is room for 2 of the 3 that \
             `keep` asks for. snapring-20261121T030000Z (4) is deleted to make room"
        ]
    );
}

#[rstest]
#[case::others_are_in_the_way("H H H c c", 5, 4)]
#[case::its_own_unfinished_ones_are("p p p p p", 3, 5)]
fn a_ring_that_something_else_fills_does_not_blame_its_keep(
    #[case] words: &str,
    #[case] last: u32,
    #[case] cap: u32,
) {
    let policy = Policy { cap, keep: Keep { last, ..Keep::default() }, ..policy() };
    let step = first_step(&ring(words, &policy), &policy);
    assert!(matches!(step, Step::Blocked(Blocked { keep_fills_the_ring: false, .. })), "{step:?}");
}

/// Both of two slots are protected: the one that was the newest until it read as failed, and the newest that does not.
#[test]
fn a_ring_that_a_broken_snapshot_blocks_says_which_one_and_what_to_do() {
    let policy = Policy { cap: 2, keep: Keep { last: 2, ..Keep::default() }, ..policy() };
    let mut memory = RingMemory::default();
    memory.saw(&ring("c c", &policy));
    let ring = ring("c f", &policy);
    memory.saw(&ring);
    let progress = Progress { memory: memory.foreseen(&ring), ..Progress::default() };
    let step = next_step(&ring, &policy, tick(), AskedBy::Schedule, &progress, now());
    let Step::Blocked(blocked) = step else { panic!("{step:?}") };
    let words = blocked.to_string();
    assert!(words.contains(" (2) was completed and is now listed as failed"), "{words}");
    assert!(words.contains("delete it with `snapring delete 2`"), "{words}");
    assert!(!words.contains("snapring delete 1`"), "{words}");
}

/// What was missed, where nothing is recorded but the ring.
fn guessed(
    ring: &Ring,
    policy: &Policy,
    latest: Tick,
    occurs: impl Fn(Tick) -> bool,
) -> Option<Tick> {
    missed(ring, policy, [(latest, FirstLoaded::UNKNOWN)], occurs)
}

#[rstest]
#[case::a_new_server_missed_nothing("", None)]
#[case::only_made_by_hand("H H", None)]
#[case::the_latest_was_missed("c c", Some(tick()))]
#[case::an_unfinished_one_and_a_missed_tick("c p", Some(tick()))]
fn a_start_finds_what_was_missed(#[case] words: &str, #[case] expected: Option<Tick>) {
    let policy = policy();
    let ring = ring(words, &policy);
    let missed = guessed(&ring, &policy, tick(), |_| true);
    assert_eq!(unfinished(&ring, &policy, missed), expected);
}

#[test]
fn a_start_goes_on_with_an_unfinished_snapshot_and_fires_nothing_for_a_new_schedule() {
    let policy = policy();
    let found = |ring: &Ring, latest, occurs: &dyn Fn(Tick) -> bool| {
        unfinished(ring, &policy, guessed(ring, &policy, latest, occurs))
    };
    let begun = ring("c p", &policy);
    let newest = begun.newest(&policy).unwrap().1;
    // Nothing missed since.
    assert_eq!(found(&begun, newest, &|_| true), Some(newest));
    // The ring's ticks are none of the present schedule's: it was edited.
    assert_eq!(found(&begun, tick(), &|_| false), Some(newest));
    let done = ring("c c", &policy);
    assert_eq!(found(&done, tick(), &|_| false), None);
    assert_eq!(found(&done, newest, &|_| true), None);
    // A rotation by hand came after the schedule's last tick.
    assert_eq!(found(&done, tick(), &|it| it != newest), Some(tick()));
    // All that is left of the schedule's time is pinned.
    let pinned = Policy { pinned: BTreeSet::from([SnapshotId(1)]), ..policy };
    let done = ring("c", &pinned);
    assert_eq!(guessed(&done, &pinned, tick(), |_| true), Some(tick()));
}

#[test]
fn a_tick_is_missed_if_its_schedule_was_loaded_by_then_and_not_before() {
    let policy = policy();
    let done = ring("c c", &policy);
    let newest = done.newest(&policy).unwrap().1.instant();
    let due = tick().instant();
    let second = jiff::SignedDuration::from_secs(1);
    let found = |after, by, occurs: bool| {
        missed(&done, &policy, [(tick(), FirstLoaded { after, by })], |_| occurs).is_some()
    };
    // Known to the second; the ring is not asked.
    assert!(found(due, due, false));
    assert!(!found(due + second, due + second, true));
    // Edited while snapring was away: it was not there yet when the ring's newest was made, though
    // that one's tick is an occurrence of it too.
    assert!(!found(newest, due + second, true));
    // The record ends before the ring's newest: what was made since tells.
    assert!(found(newest - second, due + second, true));
    assert!(!found(newest - second, due + second, false));
    // Nobody missed anything where nothing was ever made.
    let known = FirstLoaded::at(newest);
    assert_eq!(missed(&ring("H", &policy), &policy, [(tick(), known)], |_| true), None);
}

#[test]
fn of_two_schedules_that_missed_a_tick_the_later_tick_runs_and_a_new_one_does_not_hide_the_old() {
    let policy = policy();
    let done = ring("c c", &policy);
    let earlier = Tick::at(tick().instant() - jiff::SignedDuration::from_secs(60));
    let old = FirstLoaded::at(done.newest(&policy).unwrap().1.instant());
    let new = FirstLoaded::at(tick().instant() + jiff::SignedDuration::from_secs(1));
    assert_eq!(missed(&done, &policy, [(earlier, old), (tick(), old)], |_| false), Some(tick()));
    assert_eq!(missed(&done, &policy, [(earlier, old), (tick(), new)], |_| false), Some(earlier));
}

proptest! {
    /// Whatever the ring: victims and prunes are managed, unpinned, never the newest completed,
    /// and a create leaves the reserve alone.
    #[test]
    fn no_ring_makes_a_plan_that_breaks_the_rules(
        words in prop::collection::vec(
            prop::sample::select(vec!["c", "c", "f", "p", "?", "H", "c=1", "c=2", "p=1", "f=2"]),
            0..9,
        ),
        pinned in prop::collection::btree_set((1..9_u64).prop_map(SnapshotId), 0..3),
        cap in 1..9_u32,
        reserve in 0..3_u32,
        last in 1..6_u32,
        daily in 0..4_u32,
    ) {
        let keep = Keep { last, daily, ..Keep::default() };
        let policy = Policy { cap, reserve, keep, pinned, ..policy() };
        let ring = ring(&words.join(" "), &policy);
        let plan = Plan::forecast(&ring, &policy, tick(), AskedBy::Schedule, &RingMemory::default(), now());
        let newest = ring
            .managed()
            .map(|(snapshot, _)| snapshot)
            .rfind(|snapshot| snapshot.status == Status::Completed)
            .map(|snapshot| snapshot.id);
        let deleted: BTreeSet<SnapshotId> = plan.deletions().map(Deletion::snapshot).collect();
        prop_assert_eq!(deleted.len(), plan.deletions().count(), "one is deleted twice");
        for slot in ring.slots().iter().filter(|slot| deleted.contains(&slot.snapshot.id)) {
            prop_assert!(matches!(slot.holder, Holder::Managed(_)));
            prop_assert!(matches!(slot.snapshot.status, Status::Completed | Status::Failed));
        }
        let victims = match &plan.step {
            Step::MakeRoom(victims) => ids(victims),
            Step::Create(_) => Vec::new(),
            _ => { prop_assert!(deleted.is_empty()); return Ok(()); }
        };
        prop_assert!(newest.is_none_or(|newest| !victims.contains(&newest.0)));
        // Of completed ones of one name, all but the newest go, and before any that retention or
        // others would cost.
        let completed = |slot: &&Slot| {
            matches!(slot.holder, Holder::Managed(_)) && slot.snapshot.status == Status::Completed
        };
        let completed: Vec<&Snapshot> =
            ring.slots().iter().filter(completed).map(|slot| &slot.snapshot).collect();
        let is_older = |it: &&&Snapshot| {
            completed.iter().any(|other| {
                other.name == it.name && (other.created_at, other.id) > (it.created_at, it.id)
            })
        };
        let older: BTreeSet<SnapshotId> = completed.iter().filter(is_older).map(|it| it.id).collect();
        let doubles = |deletions: &[&Deletion]| {
            let doubles = deletions.iter().filter(|it| it.why() == DeleteReason::Duplicate);
            doubles.map(|it| it.snapshot()).collect::<BTreeSet<_>>()
        };
        let all: Vec<&Deletion> = plan.deletions().collect();
        prop_assert_eq!(doubles(&all), older.clone());
        let costs_a_tick = |id: &u64| {
            completed.iter().any(|it| it.id.0 == *id) && !older.contains(&SnapshotId(*id))
        };
        if victims.iter().any(costs_a_tick) {
            prop_assert!(older.iter().all(|id| victims.contains(&id.0)));
        }
        let taken = ring.taken() as usize - victims.len() + 1;
        prop_assert!(taken <= cap as usize, "the cap is passed");
        let others = ring.held_by_others() as usize;
        prop_assert!(taken - others <= (cap as usize).saturating_sub(others.max(reserve as usize)));
    }
}

/// A policy with the prefix `snap` that has adopted `snapring`, with which [`ring`] names its rows.
fn adopting() -> (Policy, Policy) {
    let own: Prefix = "snap".parse().unwrap();
    let adopted: Prefix = "snapring".parse().unwrap();
    let alone = Policy { prefix: ManagedPrefix::new(own.clone(), [].into()), ..policy() };
    (Policy { prefix: ManagedPrefix::new(own, [adopted].into()), ..policy() }, alone)
}

/// The same rows under another policy.
fn seen_by(policy: &Policy, ring: &Ring) -> Ring {
    Ring::of(ring.listing().clone(), policy)
}

#[rstest]
#[case::a_full_ring("c c c c c", "make room: 1 Retention; prune [2, 3]")]
#[case::a_ring_with_room("c c c c", "create; prune [1, 2]")]
#[case::one_by_hand_stays("H c c c", "create; prune [2]")]
#[case::a_failed_one("f c c", "create; prune [1]")]
fn adopted_snapshots_are_pruned_like_own_ones_and_without_adoption_never(
    #[case] words: &str,
    #[case] expected: &str,
) {
    let (adopting, alone) = adopting();
    let rows = ring(words, &policy());
    let told = |policy: &Policy| {
        let (ring, memory) = (seen_by(policy, &rows), RingMemory::default());
        Plan::forecast(&ring, policy, tick(), AskedBy::Schedule, &memory, now())
    };
    let plan = told(&adopting);
    let victims: Vec<String> = match &plan.step {
        Step::MakeRoom(victims) => {
            victims.iter().map(|it| format!("{} {:?}", it.snapshot(), it.why())).collect()
        }
        Step::Create(creation) => {
            assert_eq!(creation.name(), "snap-20261123T030000Z");
            Vec::new()
        }
        other => panic!("{other:?}"),
    };
    let step = if victims.is_empty() {
        "create".into()
    } else {
        format!("make room: {}", victims.join(", "))
    };
    assert_eq!(format!("{step}; prune {:?}", ids(&plan.prunes)), expected);
    let without = told(&alone);
    assert_eq!(without.deletions().count(), 0, "{without:?}");
}

/// S3: with an adopted name the tick has its snapshot. Of two of one tick the newer one stands for it.
#[test]
fn a_tick_with_an_adopted_name_exists_and_is_one_point_in_time_with_its_own() {
    let (adopting, alone) = adopting();
    let mut rows = ring("c c c", &policy()).listing().snapshots.clone();
    rows[2].name = policy().prefix.name(tick()).into();
    let listing = |rows: &[Snapshot]| {
        let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
        Listing::complete(ServerId::new(7), rows.to_vec(), asked_at)
    };
    let there = Ring::of(listing(&rows), &adopting);
    assert!(matches!(first_step(&there, &adopting), Step::Adopt(it) if it.id == SnapshotId(3)));
    let without = Ring::of(listing(&rows), &alone);
    assert!(matches!(first_step(&without, &alone), Step::Create(_)));
    // 2 and 3 have one tick, under two prefixes.
    rows[1].name = adopting.prefix.name(tick()).into();
    let both = Ring::of(listing(&rows), &adopting);
    let completed = both.completed();
    let one_per_tick: Vec<u64> = completed.one_per_tick.iter().map(|it| it.id.0).collect();
    assert_eq!(one_per_tick, [1, 3]);
    assert_eq!(completed.duplicate(SnapshotId(2)).unwrap().newest.id, SnapshotId(3));
    assert_eq!(completed.newest(), BTreeSet::from([SnapshotId(3)]));
}

/// S2: the newest by tick is found across prefixes, whatever their letters.
#[test]
fn the_newest_by_tick_is_protected_whatever_its_prefix() {
    let policy = Policy {
        prefix: ManagedPrefix::new("zz".parse().unwrap(), ["aa".parse().unwrap()].into()),
        ..policy()
    };
    let mut rows = ring("c c c", &policy).listing().snapshots.clone();
    let prefix: Prefix = "aa".parse().unwrap();
    // By tick it is the newest, by the provider's clock and by id the oldest.
    rows[0].name = prefix.name(Tick::at(now() - jiff::SignedDuration::from_hours(1))).into();
    let ring = Ring::of(
        Listing::complete(ServerId::new(7), rows, Moment { wall: now(), uptime: Duration::ZERO }),
        &policy,
    );
    assert!(ring.completed().newest().contains(&SnapshotId(1)));
}

#[test]
fn a_pin_holds_an_adopted_snapshot() {
    let (adopting, _) = adopting();
    let adopting = Policy { pinned: [SnapshotId(1)].into(), ..adopting };
    let ring = seen_by(&adopting, &ring("c c c c", &policy()));
    assert_eq!(ring.slots()[0].holder, Holder::Pinned);
    let plan =
        Plan::forecast(&ring, &adopting, tick(), AskedBy::Schedule, &RingMemory::default(), now());
    assert!(plan.deletions().all(|it| it.snapshot() != SnapshotId(1)), "{plan:?}");
}

#[test]
fn foreign_snapshots_that_look_like_snapring_s_are_named_with_the_way_out() {
    let (adopting, alone) = adopting();
    let rows = ring("H c c c", &policy());
    let told = |policy: &Policy| {
        let ring = seen_by(policy, &rows);
        let memory = RingMemory::default();
        Plan::forecast(&ring, policy, tick(), AskedBy::Schedule, &memory, now()).warnings
    };
    let warnings = told(&alone);
    assert_eq!(warnings.len(), 2, "the ring is squeezed, too: {warnings:?}");
    assert!(!warnings[0].contains("Delete"), "its own are not to be deleted: {warnings:?}");
    let words = "snapring-20261120T030000Z (2), snapring-20261121T030000Z (3), \
                 snapring-20261122T030000Z (4) look like snapring's under the prefix snapring. They count as \
                 foreign and are never deleted: if they are this server's own";
    assert!(warnings[1].starts_with(words), "{warnings:?}");
    assert!(warnings[1].contains("adopt_prefix = [\"snapring\"]"), "{warnings:?}");
    assert_eq!(told(&adopting), Vec::<String>::new());
    assert_eq!(told(&policy()), Vec::<String>::new());
}

#[test]
fn a_ring_that_is_blocked_by_an_earlier_prefix_says_how_to_adopt_it() {
    let (_, alone) = adopting();
    let mut rows = ring("c c c c c", &policy()).listing().snapshots.clone();
    rows[4].name = alone.prefix.name(Tick::at(rows[4].created_at)).into();
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    let ring = Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &alone);
    let Step::Blocked(blocked) = first_step(&ring, &alone) else { panic!("it has room") };
    let words = blocked.to_string();
    assert!(words.contains("look like snapring's under the prefix snapring"), "{words}");
    assert!(words.contains("adopt_prefix = [\"snapring\"]"), "{words}");
    let plan =
        Plan::forecast(&ring, &alone, tick(), AskedBy::Schedule, &RingMemory::default(), now());
    assert!(plan.warnings.iter().all(|it| !it.contains("adopt_prefix")), "it is said once");
}

#[test]
fn one_foreign_snapshot_that_looks_like_snapring_s_is_told_in_the_singular() {
    let (_, alone) = adopting();
    let warnings = other_prefix_warnings(&seen_by(&alone, &ring("c", &policy())));
    assert!(warnings[0].contains("(1) looks like snapring's"), "{warnings:?}");
    assert!(warnings[0].contains("It counts as foreign and is never deleted"), "{warnings:?}");
    let many = Policy { cap: 9, ..policy() };
    let warnings = other_prefix_warnings(&seen_by(&alone, &ring("c c c c c c c c", &many)));
    assert!(warnings[0].contains(" (6) and 2 more look like"), "{warnings:?}");
}

/// After a change of the prefix, the memory knows that snapring made the old ones. They are no strays to be deleted.
#[test]
fn what_was_made_under_an_earlier_prefix_is_to_be_adopted_and_not_deleted() {
    let (_, alone) = adopting();
    let mut rows = ring("c c c c c", &policy()).listing().snapshots.clone();
    rows[4].name = alone.prefix.name(Tick::at(rows[4].created_at)).into();
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    let ring = Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &alone);
    let mut memory = RingMemory::default();
    (1..=4).for_each(|id| memory.made(SnapshotId(id)));
    assert_eq!(memory.strays(&ring).count(), 4, "no restore point is given up beside them");
    let progress = Progress { memory, ..Progress::default() };
    let step = next_step(&ring, &alone, tick(), AskedBy::Schedule, &progress, now());
    let Step::Blocked(blocked) = step else { panic!("{step:?}") };
    let advice = blocked.advice();
    assert!(advice.contains("adopt_prefix = [\"snapring\"]"), "{advice}");
    assert!(!advice.contains("under another name"), "{advice}");
    insta::assert_snapshot!(blocked.to_string(), @"no room: 5 of 5 slots are taken: foreign \
         snapring-20261118T030000Z (1), snapring-20261119T030000Z (2), snapring-20261120T030000Z (3), \
         snapring-20261121T030000Z (4); managed snap-20261122T030000Z (5, kept). 4 look like snapring's under the \
         prefix snapring: if they are this server's, set adopt_prefix = [\"snapring\"]. Else delete \
         one with `snapring delete ID`");
    assert!(blocked.to_string().len() <= 3 * 120, "three lines of a terminal");
}

#[test]
fn a_provider_that_exceeds_its_limit_is_told_in_numbers_that_make_sense() {
    let Step::Blocked(blocked) = first_step(&ring("H H H H H H H", &policy()), &policy()) else {
        panic!("not blocked");
    };
    let problem = blocked.problem();
    assert!(
        problem.starts_with("no room: there are 7 snapshots in 5 slots: foreign "),
        "{problem}"
    );
}
