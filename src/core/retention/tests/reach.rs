//! How far back a policy reaches once it has run for a while.

use jiff::Zoned;

use super::*;

/// Carries out a nightly schedule in Berlin for this many nights, and gives the ages in days of what is kept after
/// each, newest first.
fn nightly(keep: Keep, nights: i64) -> Vec<Vec<i64>> {
    let zone = zone("Europe/Berlin");
    let first: Zoned = jiff::civil::date(2026, 1, 1).at(3, 0, 0, 0).to_zoned(zone.clone()).unwrap();
    let mut ring: Vec<Candidate> = Vec::new();
    let mut ages = Vec::new();
    for night in 0..nights {
        let at = (&first + jiff::Span::new().days(night)).timestamp();
        ring.push(Candidate { id: SnapshotId(night.cast_unsigned() + 1), at });
        let kept = kept(&ring, &keep, &zone);
        ring.retain(|it| kept.contains(&it.id.0));
        // A night is an hour shorter or longer where clocks are changed.
        let age = |it: &Candidate| (at.duration_since(it.at).as_hours() + 2) / 24;
        ages.push(ring.iter().rev().map(age).collect());
    }
    ages
}

/// Over a year that follows sixty nights in which the ring filled.
#[rstest]
#[case::the_readmes(Keep { last: 2, daily: 1, weekly: 1, ..Keep::default() }, 4, 3..=9)]
#[case::two_weeks(Keep { last: 2, weekly: 2, ..Keep::default() }, 4, 9..=15)]
#[case::with_a_month(
    Keep { last: 2, daily: 1, weekly: 1, monthly: 1, ..Keep::default() },
    5,
    4..=40
)]
#[case::a_number(Keep { last: 5, ..Keep::default() }, 5, 4..=4)]
#[case::every_rule_but_last(
    Keep { daily: 2, weekly: 2, monthly: 1, ..Keep::default() },
    5,
    9..=46
)]
fn every_slot_is_used_and_the_reach_is_as_promised(
    #[case] keep: Keep,
    #[case] slots: usize,
    #[case] reach: std::ops::RangeInclusive<i64>,
) {
    let later = &nightly(keep, 60 + 365)[60..];
    assert!(later.iter().all(|ages| ages.len() == slots), "{later:?}");
    let oldest = later.iter().map(|ages| *ages.last().unwrap());
    assert_eq!((oldest.clone().min(), oldest.max()), (Some(*reach.start()), Some(*reach.end())));
}

/// It begins on a Thursday. The first snapshot is kept until two weeks are filled.
#[test]
fn a_young_ring_grows_towards_its_oldest_point() {
    let ages = nightly(Keep { last: 2, weekly: 2, ..Keep::default() }, 12);
    assert_eq!(
        ages,
        [
            vec![0],
            vec![0, 1],
            vec![0, 1, 2],
            vec![0, 1, 3],
            vec![0, 1, 4],
            vec![0, 1, 2, 5],
            vec![0, 1, 3, 6],
            vec![0, 1, 4, 7],
            vec![0, 1, 5, 8],
            vec![0, 1, 6, 9],
            vec![0, 1, 7, 10],
            vec![0, 1, 8, 11],
        ]
    );
}
