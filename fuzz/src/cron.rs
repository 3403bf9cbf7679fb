//! Cron expressions: what is taken occurs, ever later, when its fields say so, and soon found.
//!
//! The input is a time zone, a line's end, and an expression; without a line's end it is UTC.
//! That nothing takes long is libFuzzer's `-timeout` to judge.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use snapring::schedule::Schedule;

/// Shortly before clocks go forward in Europe.
const START: i64 = 1_806_105_600;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (zone, text) = text.split_once('\n').unwrap_or(("Etc/UTC", text));
    let Ok(zone) = TimeZone::get(zone) else { return };
    let is_utc = zone.iana_name().is_some_and(|name| name == "Etc/UTC");
    let schedule = match Schedule::parse(text, zone.clone()) {
        Ok(schedule) => schedule,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let again = Schedule::parse(schedule.text(), zone).expect("its own text");
    assert_eq!(again, schedule);
    let fields = is_utc.then(|| Fields::read(schedule.text())).flatten();
    let mut before = Timestamp::from_second(START).expect("in range");
    for _ in 0..6 {
        // The search ends with croner's last year; no expression may end before this century does.
        let Some(next) = schedule.next_after(before) else {
            panic!("nothing after {before}");
        };
        assert!(next > before, "{next} does not lie ahead of {before}");
        assert_eq!(next.subsec_nanosecond(), 0);
        assert_eq!(again.next_after(before), Some(next));
        assert!(schedule.occurs_at(next), "{next}");
        assert_eq!(schedule.latest_at(next), Some(next));
        let between = next - SignedDuration::from_secs(1);
        if between >= before && before.as_second() != START {
            assert_eq!(schedule.latest_at(between), Some(before));
        }
        if let Some(fields) = &fields {
            assert!(fields.fit(next), "{next}");
            let mut passed = before + SignedDuration::from_secs(1);
            for _ in 0..2000 {
                if passed >= next {
                    break;
                }
                assert!(!fields.fit(passed), "{passed} was left out");
                passed += SignedDuration::from_secs(1);
            }
        }
        before = next;
    }
}

/// The plainest reading of an expression of numbers, stars, ranges and steps.
struct Fields {
    sets: [Vec<i8>; 6],
    either_day: bool,
}

impl Fields {
    fn read(text: &str) -> Option<Self> {
        let mut words: Vec<&str> = text.split(' ').collect();
        if words.len() == 5 {
            words.insert(0, "0");
        }
        let [second, minute, hour, day, month, weekday] = words.as_slice() else { return None };
        Some(Self {
            sets: [
                set(second, 0, 59)?,
                set(minute, 0, 59)?,
                set(hour, 0, 23)?,
                set(day, 1, 31)?,
                set(month, 1, 12)?,
                set(weekday, 0, 7)?,
            ],
            either_day: *day != "*" && *weekday != "*",
        })
    }

    fn fit(&self, instant: Timestamp) -> bool {
        let shown: Zoned = instant.to_zoned(TimeZone::UTC);
        let [seconds, minutes, hours, days, months, weekdays] = &self.sets;
        let by_day = days.contains(&shown.day());
        let weekday = shown.weekday().to_sunday_zero_offset();
        let by_weekday = weekdays.contains(&weekday) || weekday == 0 && weekdays.contains(&7);
        seconds.contains(&shown.second())
            && minutes.contains(&shown.minute())
            && hours.contains(&shown.hour())
            && months.contains(&shown.month())
            && if self.either_day { by_day || by_weekday } else { by_day && by_weekday }
    }
}

fn set(field: &str, least: i8, most: i8) -> Option<Vec<i8>> {
    let mut set = Vec::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<usize>().ok().filter(|it| *it > 0)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
            None if range == "*" => (least, most),
            None => {
                let from = range.parse().ok()?;
                (from, if step.is_some() { most } else { from })
            }
        };
        if from > to || from < least || to > most {
            return None;
        }
        set.extend((from..=to).step_by(step.unwrap_or(1)));
    }
    Some(set)
}
