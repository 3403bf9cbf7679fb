//! What holds of every set of snapshots, every `keep` and every zone.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

/// A period of a rule, worked out with the calendar of the tests: equal for two snapshots exactly
/// when they share it.
fn period_by_hand(rule: Rule, candidate: &Candidate, zone: &TimeZone) -> (i64, i64) {
    let offset = i64::from(zone.to_offset(candidate.at).seconds());
    let shown = candidate.at.as_second() + offset;
    let day = shown.div_euclid(86_400);
    let (year, month, _) = calendar::date(day);
    match rule {
        Rule::Last => (candidate.id.0.cast_signed(), 0),
        Rule::Hourly => (shown.div_euclid(3_600), offset),
        Rule::Daily => (day, 0),
        Rule::Weekly => (calendar::week(day), 0),
        Rule::Monthly => (year, month),
        Rule::Yearly => (year, 0),
    }
}

/// What the rules keep, one after the other, said another way: of the newest snapshot of each period, those that no
/// earlier rule keeps, newest first, as many as there are slots; where there are fewer, the oldest of all too.
fn kept_by_hand(scene: &Scene) -> BTreeSet<u64> {
    let mut by_time = scene.candidates.clone();
    by_time.sort_by_key(|it| (it.at, it.id));
    let mut kept = BTreeSet::new();
    for rule in Rule::ALL.into_iter().filter(|rule| scene.keep.count(*rule) > 0) {
        // A later snapshot takes its period from an earlier one.
        let newest: BTreeMap<(i64, i64), u64> =
            by_time.iter().map(|it| (period_by_hand(rule, it, &scene.zone), it.id.0)).collect();
        let newest: BTreeSet<u64> = newest.into_values().collect();
        let counted: Vec<u64> = by_time
            .iter()
            .rev()
            .map(|it| it.id.0)
            .filter(|id| newest.contains(id) && !kept.contains(id))
            .take(scene.keep.count(rule) as usize)
            .collect();
        if counted.len() < scene.keep.count(rule) as usize {
            kept.extend(by_time.first().map(|it| it.id.0));
        }
        kept.extend(counted);
    }
    kept
}

fn any_keep() -> impl Strategy<Value = Keep> {
    (0..4_u32, 0..4_u32, 0..4_u32, 0..4_u32, 0..4_u32, 0..4_u32)
        .prop_map(|(last, hourly, daily, weekly, monthly, yearly)| Keep {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
        })
        .prop_filter("an empty keep is refused when read", |keep| keep.total() > 0)
}

/// Any zone that there is, the ones with a story more often.
fn any_zone() -> impl Strategy<Value = TimeZone> {
    let all: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let with_a_story = vec![
        "UTC",
        "Europe/Berlin",
        "Europe/Dublin",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Chatham",
        "Pacific/Kiritimati",
        "America/St_Johns",
        "America/Havana",
        "Asia/Kathmandu",
        "Africa/Casablanca",
        "Antarctica/Troll",
    ];
    prop_oneof![
        prop::sample::select(with_a_story).prop_map(zone),
        prop::sample::select(all).prop_map(|name| zone(&name)),
    ]
}

/// Seconds of the years 2005 to 2045: anywhere, at local hours (and so midnights, Mondays, first
/// days of months and years), and where clocks are changed.
fn any_second(zone: TimeZone) -> impl Strategy<Value = Timestamp> {
    let span = || 1_104_537_600_i64..2_366_841_600;
    let near = prop::sample::select(vec![-3_600_i64, -1_800, -1, 0, 1, 1_799, 1_800, 3_600]);
    let days = prop_oneof![
        4 => (12_784..27_394_i64).boxed(),
        1 => (2005..2045_i64, 0..12_i64).prop_map(|(year, month)| {
            calendar::new_year(year)
                + (1..=month).map(|month| calendar::days_in_month(year, month)).sum::<i64>()
        }).boxed(),
        1 => (2005..2045_i64, -8..8_i64).prop_map(|(year, day)| calendar::new_year(year) + day).boxed(),
    ];
    let hours = prop_oneof![Just(0_i64), 0..24_i64];
    let by_the_clock = zone.clone();
    prop_oneof![
        1 => span().prop_map(|second| Timestamp::from_second(second).unwrap()),
        3 => (days, hours, near.clone()).prop_map(move |(day, hour, near)| {
            let shown = day * 86_400 + hour * 3_600;
            let at = Timestamp::from_second(shown).unwrap();
            let offset = i64::from(by_the_clock.to_offset(at).seconds());
            Timestamp::from_second(shown - offset + near).unwrap()
        }),
        1 => (span(), near, -3..4_i64).prop_map(move |(second, near, hours)| {
            let from = Timestamp::from_second(second).unwrap();
            let changed = zone.following(from).next().map_or(from, |it| it.timestamp());
            changed + SignedDuration::from_secs(near + hours * 3_600)
        }),
    ]
}

#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) candidates: Vec<Candidate>,
    pub(super) keep: Keep,
    pub(super) zone: TimeZone,
}

/// Snapshots in clusters: a few instants, and others seconds, hours, days or weeks after them.
pub(super) fn any_scene() -> impl Strategy<Value = Scene> {
    (any_keep(), any_zone()).prop_flat_map(|(keep, zone)| {
        let apart = prop::sample::select(vec![
            0_i64, 1, 1_800, 3_599, 3_600, 7_200, 86_399, 86_400, 604_799, 604_800, 2_592_000,
        ]);
        let clusters = prop::collection::vec(
            (any_second(zone.clone()), prop::collection::vec(apart, 0..6)),
            0..8,
        );
        clusters.prop_map(move |clusters| {
            let times: Vec<Timestamp> = clusters
                .iter()
                .flat_map(|(first, apart)| {
                    let others = apart.iter().scan(*first, |at, apart| {
                        *at += SignedDuration::from_secs(*apart);
                        Some(*at)
                    });
                    std::iter::once(*first).chain(others)
                })
                .collect();
            Scene { candidates: numbered(&times), keep, zone: zone.clone() }
        })
    })
}

proptest! {
    #[test]
    fn the_newest_always_stays(scene in any_scene()) {
        let Scene { candidates, keep, zone } = scene;
        let newest = candidates.iter().max_by_key(|c| (c.at, c.id)).map(|c| c.id.0);
        let kept = kept(&candidates, &keep, &zone);
        prop_assert!(newest.is_none_or(|id| kept.contains(&id)));
    }

    #[test]
    fn a_second_implementation_keeps_the_same(scene in any_scene()) {
        let by_hand = kept_by_hand(&scene);
        let Scene { candidates, keep, zone } = scene;
        prop_assert_eq!(kept(&candidates, &keep, &zone), by_hand);
    }

    /// Which is what makes room plannable.
    #[test]
    fn never_more_are_kept_than_keep_has_slots(scene in any_scene()) {
        let Scene { candidates, keep, zone } = scene;
        let verdicts = retain(&candidates, &keep, &zone);
        prop_assert_eq!(verdicts.len(), candidates.len());
        prop_assert!(verdicts.iter().filter(|it| it.keeps()).count() <= keep.total() as usize);
        for rule in Rule::ALL {
            let of_rule: Vec<&Reason> = verdicts
                .iter()
                .filter_map(|it| it.reason.as_ref())
                .filter(|reason| match reason {
                    Reason::Newest { rule: by, .. } | Reason::Oldest { rule: by } => *by == rule,
                })
                .collect();
            let slots = keep.count(rule);
            for (nth, reason) in (1..).zip(&of_rule) {
                match reason {
                    Reason::Newest { nth: slot, of, .. } => prop_assert_eq!((*slot, *of), (nth, slots)),
                    Reason::Oldest { .. } => prop_assert_eq!(nth as usize, of_rule.len()),
                }
            }
            prop_assert!(of_rule.len() <= slots as usize);
        }
    }

    #[test]
    fn the_slots_are_filled_where_the_snapshots_are_in_periods_of_their_own(
        keep in any_keep(),
        years in 0..30_i16,
    ) {
        let noon = |year: i16| jiff::civil::date(2000 + year, 6, 15).at(12, 0, 0, 0);
        let times: Vec<Timestamp> =
            (0..years).map(|year| noon(year).to_zoned(TimeZone::UTC).unwrap().timestamp()).collect();
        let there = kept(&numbered(&times), &keep, &TimeZone::UTC).len();
        prop_assert_eq!(there, times.len().min(keep.total() as usize));
    }

    #[test]
    fn the_order_of_the_rows_says_nothing(
        (scene, shuffled) in any_scene().prop_flat_map(|scene| {
            let shuffled = Just(scene.candidates.clone()).prop_shuffle();
            (Just(scene), shuffled)
        }),
    ) {
        let Scene { candidates, keep, zone } = scene;
        let verdicts = retain(&shuffled, &keep, &zone);
        prop_assert_eq!(&verdicts, &retain(&candidates, &keep, &zone));
        let made = |id: SnapshotId| candidates.iter().find(|it| it.id == id).unwrap().at;
        prop_assert!(verdicts.is_sorted_by_key(|it| std::cmp::Reverse((made(it.id), it.id))));
    }

    /// So that pruning may be broken off anywhere, and gone on with: whichever of the dropped ones
    /// are gone already, the same ones stay, for the same reasons.
    #[test]
    fn deleting_the_dropped_one_by_one_changes_nothing_for_the_others(
        (scene, order) in any_scene().prop_flat_map(|scene| {
            let order = Just(scene.candidates.iter().map(|it| it.id).collect::<Vec<_>>());
            (Just(scene), order.prop_shuffle())
        }),
    ) {
        let Scene { mut candidates, keep, zone } = scene;
        let verdicts = retain(&candidates, &keep, &zone);
        let dropped = |id: &SnapshotId| verdicts.iter().any(|it| it.id == *id && !it.keeps());
        let mut left = verdicts.clone();
        for id in order.iter().filter(|id| dropped(id)) {
            candidates.retain(|candidate| candidate.id != *id);
            left.retain(|verdict| verdict.id != *id);
            prop_assert_eq!(&retain(&candidates, &keep, &zone), &left);
        }
        prop_assert!(left.iter().all(Verdict::keeps));
    }

    #[test]
    fn a_newer_snapshot_brings_no_dropped_one_back(
        scene in any_scene(),
        later in prop::sample::select(vec![0_i64, 1, 3_600, 86_400, 604_800, 31_622_400]),
    ) {
        let Scene { mut candidates, keep, zone } = scene;
        let before = kept(&candidates, &keep, &zone);
        let newest = candidates.iter().map(|it| it.at).max();
        let newer = Candidate {
            id: SnapshotId(999),
            at: newest.unwrap_or_default() + SignedDuration::from_secs(later),
        };
        candidates.push(newer);
        let after = kept(&candidates, &keep, &zone);
        prop_assert!(after.contains(&999));
        prop_assert!(after.iter().all(|id| *id == 999 || before.contains(id)));
    }

    /// Two snapshots moments apart, across a beginning of something or not.
    #[test]
    fn two_snapshots_share_a_period_exactly_when_the_clock_on_the_wall_says_so(
        (zone, first) in any_zone().prop_flat_map(|zone| (Just(zone.clone()), any_second(zone))),
        apart in prop::sample::select(vec![1_i64, 2, 1_800, 3_599, 3_600, 7_200, 86_399, 86_400, 90_000]),
    ) {
        let pair = numbered(&[first, first + SignedDuration::from_secs(apart)]);
        for rule in Rule::ALL {
            let [one, other] = [0, 1].map(|place| period_by_hand(rule, &pair[place], &zone));
            let share = share_a_period(rule, pair[0].at, pair[1].at, &zone);
            prop_assert_eq!(share, one == other, "{:?}", rule);
        }
    }

    #[test]
    fn a_reason_says_in_words_which_period_it_is(
        (zone, at) in any_zone().prop_flat_map(|zone| (Just(zone.clone()), any_second(zone))),
    ) {
        let shown = at.as_second() + i64::from(zone.to_offset(at).seconds());
        let day = shown.div_euclid(86_400);
        let (year, month, of_month) = calendar::date(day);
        let (iso_year, week) = calendar::iso_week(day);
        let words = Rule::ALL.map(|rule| {
            let verdicts = retain(&numbered(&[at]), &only(rule, 1), &zone);
            match &verdicts[0].reason {
                Some(Reason::Newest { period, .. }) => period.clone(),
                other => panic!("{other:?}"),
            }
        });
        let date = format!("{year}-{month:02}-{of_month:02}");
        prop_assert_eq!(words, [
            String::new(),
            format!("{date} {:02}h", shown.rem_euclid(86_400) / 3_600),
            date,
            format!("{iso_year}-W{week:02}"),
            format!("{year}-{month:02}"),
            year.to_string(),
        ]);
    }
}
