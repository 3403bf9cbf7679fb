//! When a schedule's ticks are, by a reading of cron that shares nothing with the product's: it
//! walks the days of the calendar and asks the time zone about each time of day.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// A value of a field: a number, a list, or all with a step, which is as much as the simulated
/// policies use.
fn values(field: &str, end: i8) -> Vec<i8> {
    match field.split_once('/') {
        Some(("*", step)) => (0..end).step_by(step.parse().unwrap()).collect(),
        _ if field == "*" => (0..end).collect(),
        _ => field.split(',').map(|number| number.parse().unwrap()).collect(),
    }
}

/// The ticks of a schedule of five fields after `from`, up to `to`, in order.
///
/// A time of day that the clocks leave out in spring is at the gap's end, and one that they show
/// twice in autumn is the first; but a schedule of intervals leaves it out, or has it twice.
pub fn ticks(schedule: &str, zone: &TimeZone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let fields: Vec<&str> = schedule.split(' ').collect();
    let [minute, hour, "*", "*", weekday] = fields[..] else {
        panic!("the calendar cannot read {schedule:?}")
    };
    let is_interval = minute.contains('*') || hour.contains('*');
    let fits = |day: Weekday| match weekday {
        "*" => true,
        "mon" => day == Weekday::Monday,
        "tue,fri" => matches!(day, Weekday::Tuesday | Weekday::Friday),
        other => panic!("the calendar does not know the day {other:?}"),
    };
    let mut ticks = BTreeSet::new();
    let first = from.to_zoned(zone.clone()).date().yesterday().unwrap();
    let last = to.to_zoned(zone.clone()).date().tomorrow().unwrap();
    for day in first.series(jiff::Span::new().days(1)).take_while(|day| *day <= last) {
        if !fits(day.weekday()) {
            continue;
        }
        for hour in values(hour, 24) {
            for minute in values(minute, 60) {
                let shown = day.at(hour, minute, 0, 0);
                match zone.to_ambiguous_timestamp(shown).offset() {
                    AmbiguousOffset::Unambiguous { offset } => {
                        ticks.insert(offset.to_timestamp(shown).unwrap());
                    }
                    AmbiguousOffset::Gap { after, .. } if !is_interval => {
                        let before_the_gap = after.to_timestamp(shown).unwrap();
                        let gap = zone.following(before_the_gap).next().unwrap();
                        ticks.insert(gap.timestamp());
                    }
                    AmbiguousOffset::Gap { .. } => {}
                    AmbiguousOffset::Fold { before, after } => {
                        ticks.insert(before.to_timestamp(shown).unwrap());
                        if is_interval {
                            ticks.insert(after.to_timestamp(shown).unwrap());
                        }
                    }
                }
            }
        }
    }
    ticks.into_iter().filter(|tick| from < *tick && *tick <= to).collect()
}
