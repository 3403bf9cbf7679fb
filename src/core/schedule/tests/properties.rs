//! What holds of every expression, anywhere and at any time.

use proptest::prelude::*;

use super::walk::{MONTHS, WEEKDAYS};
use super::*;

/// `*`, or a list of numbers, ranges and steps; `names` stand for numbers from `least` on.
fn any_field(least: i64, most: i64, names: &'static [&'static str]) -> BoxedStrategy<String> {
    // The weekdays go round: `sun` is 0, and 7 at a range's end.
    let word = move |value: i64, style: u8| match names.iter().cycle().nth((value - least) as usize)
    {
        Some(name) if style == 0 => (*name).to_owned(),
        Some(name) if style == 1 => name.to_uppercase(),
        _ => value.to_string(),
    };
    let number = || (least..=most, 0..4_u8).prop_map(move |(value, style)| word(value, style));
    let range = || {
        (least..most)
            .prop_flat_map(move |from| (Just(from), from + 1..=most, 0..4_u8, 0..4_u8))
            .prop_map(move |(from, to, style, other)| {
                format!("{}-{}", word(from, style), word(to, other))
            })
    };
    let part = prop_oneof![
        4 => number(),
        1 => range(),
        1 => (range(), 1..=most).prop_map(|(range, step)| format!("{range}/{step}")),
        1 => (1..=most).prop_map(|step| format!("*/{step}")),
    ];
    let list = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(","));
    prop_oneof![2 => Just("*".to_owned()), 3 => number(), 2 => list].boxed()
}

fn any_expression() -> impl Strategy<Value = String> {
    let seconds =
        prop_oneof![6 => Just(String::new()), 1 => any_field(0, 59, &[]).prop_map(|it| it + " ")];
    let any = |field: BoxedStrategy<String>| prop_oneof![3 => Just("*".to_owned()), 1 => field];
    (
        seconds,
        any_field(0, 59, &[]),
        any_field(0, 23, &[]),
        any(any_field(1, 31, &[])),
        any(any_field(1, 12, &MONTHS)),
        any(any_field(0, 7, &WEEKDAYS)),
    )
        .prop_map(|(second, minute, hour, day, month, weekday)| {
            format!("{second}{minute} {hour} {day} {month} {weekday}")
        })
}

/// One of the twenty zones and an instant of the ten years, every other time near a change of clocks.
fn any_place() -> impl Strategy<Value = (&'static str, Timestamp)> {
    let span = || (FROM..TO).prop_map(|second| Timestamp::from_second(second).unwrap());
    (prop::sample::select(ZONES.to_vec()), span(), any::<bool>(), -200..60_i64).prop_map(
        |(name, from, near, minutes)| {
            let next = TimeZone::get(name).unwrap().following(from).next().map(|it| it.timestamp());
            let at = next.filter(|_| near).map(|at| at + SignedDuration::from_mins(minutes));
            (name, at.unwrap_or(from))
        },
    )
}

proptest! {
    #[test]
    fn ticks_only_ever_go_forward_and_the_latest_is_the_one_that_came_before(
        text in any_expression(),
        (name, start) in any_place(),
    ) {
        let schedule = match Schedule::parse(&text, TimeZone::get(name).unwrap()) {
            Err(ScheduleError::Never) => return Ok(()),
            parsed => parsed.unwrap(),
        };
        let mut before = start;
        for _ in 0..5 {
            let next = schedule.next_after(before).unwrap();
            prop_assert!(next > before);
            prop_assert_eq!(next.subsec_nanosecond(), 0);
            prop_assert!(schedule.occurs_at(next));
            prop_assert_eq!(schedule.latest_at(next), Some(next));
            let between = before + next.duration_since(before) / 2;
            prop_assert_eq!(schedule.next_after(between), Some(next));
            if before > start {
                prop_assert_eq!(schedule.latest_at(between), Some(before));
            }
            before = next;
        }
    }

    /// Two days of any zone, any expression: the same ticks as the walk finds, and both searches
    /// find them from wherever they begin.
    #[test]
    fn ticks_agree_with_a_walk_minute_by_minute(
        text in any_expression(),
        (name, from) in any_place(),
        starts in prop::collection::vec(0..2 * 86_400_i64, 4),
    ) {
        let zone = TimeZone::get(name).unwrap();
        let to = from + SignedDuration::from_hours(48);
        let walk = Walk::over(&zone, from, to).ticks(&Expression::read(&text));
        let schedule = match Schedule::parse(&text, zone) {
            Err(ScheduleError::Never) => {
                prop_assert!(walk.is_empty());
                return Ok(());
            }
            parsed => parsed.unwrap(),
        };
        // Enough of a tight schedule to be past a change of clocks.
        let most = 300;
        let expected: Vec<Timestamp> =
            walk.range(from..).copied().filter(|tick| *tick > from && *tick <= to).take(most).collect();
        prop_assert_eq!(Vec::from_iter(walked(&schedule, from, to).take(most)), expected);
        for start in starts {
            let start = from + SignedDuration::from_secs(start);
            let next = walk.range(start..).find(|tick| **tick > start && **tick <= to).copied();
            prop_assert_eq!(schedule.next_after(start).filter(|tick| *tick <= to), next);
            let latest = walk.range(..=start).next_back().copied();
            let found = schedule.latest_at(start);
            if latest.is_some() {
                prop_assert_eq!(found, latest);
            }
            prop_assert_eq!(schedule.occurs_at(start), walk.contains(&start));
        }
    }
}
