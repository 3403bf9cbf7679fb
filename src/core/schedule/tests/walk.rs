//! A second opinion on when ticks are: reads an expression in the plainest way, and looks at the
//! clock on the wall minute by minute. Knows nothing of croner.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::schedule::MOST_FIXED_TIMES;
use crate::testing::calendar;

/// What an expression says, field by field.
pub(super) struct Expression {
    seconds: Values,
    minutes: Values,
    hours: Values,
    days: Values,
    months: Values,
    weekdays: Values,
    /// Both kinds of days are restricted: either suffices.
    either_day: bool,
    /// Its times of day are listed one by one: each is a daily time, which the gap puts off and the
    /// fold does not repeat. Else they are intervals, which follow the clock on the wall.
    fixed: bool,
}

impl Expression {
    pub(super) fn read(text: &str) -> Self {
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let [second, minute, hour, day, month, weekday] = fields[..] else { panic!("{text}") };
        let times = [second, minute, hour];
        let count: usize = times.iter().map(|field| field.split(',').count()).product();
        Self {
            seconds: Values::read(second, 0, 59, &[]),
            minutes: Values::read(minute, 0, 59, &[]),
            hours: Values::read(hour, 0, 23, &[]),
            days: Values::read(day, 1, 31, &[]),
            months: Values::read(month, 1, 12, &MONTHS),
            weekdays: Values::read(weekday, 0, 7, &WEEKDAYS),
            either_day: day != "*" && weekday != "*",
            fixed: count <= MOST_FIXED_TIMES
                && times.iter().all(|field| !field.contains(['*', '-', '/'])),
        }
    }

    fn has_minute(&self, minute: i64) -> bool {
        self.minutes.hold(minute.rem_euclid(60)) && self.hours.hold(minute.div_euclid(60) % 24)
    }

    fn has_day(&self, day: i64) -> bool {
        let (_, month, of_month) = calendar::date(day);
        let weekday = calendar::weekday(day);
        let by_date = self.days.hold(of_month);
        let by_weekday = self.weekdays.hold(weekday) || weekday == 0 && self.weekdays.hold(7);
        self.months.hold(month)
            && if self.either_day { by_date || by_weekday } else { by_date && by_weekday }
    }
}

pub(super) const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
pub(super) const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A set of numbers below 64.
struct Values(u64);

impl Values {
    /// Reads a field; `names` stand for the values from `least` on.
    fn read(field: &str, least: i64, most: i64, names: &[&str]) -> Self {
        let value = |word: &str, is_end: bool| match names.iter().position(|name| *name == word) {
            // Of a range like `fri-sun` the end is the Sunday after.
            Some(0) if is_end && least == 0 => most,
            Some(place) => least + place as i64,
            None => word.parse().unwrap_or_else(|_| panic!("{word}")),
        };
        let mut values = 0;
        for part in field.to_lowercase().split(',') {
            let (range, step) = part.split_once('/').unwrap_or((part, "1"));
            let (from, to) = match range.split_once('-') {
                Some((from, to)) => (value(from, false), value(to, true)),
                None if range == "*" => (least, most),
                None => (value(range, false), value(range, false)),
            };
            assert!(least <= from && from <= to && to <= most, "{part}");
            for value in (from..=to).step_by(step.parse().unwrap()) {
                values |= 1_u64 << value;
            }
        }
        Self(values)
    }

    fn hold(&self, value: i64) -> bool {
        self.0 >> value & 1 == 1
    }
}

/// What the clocks of a zone showed, minute by minute.
pub(super) struct Walk(Vec<Minute>);

/// All are counted in minutes from 1970-01-01 00:00.
struct Minute {
    /// In UTC.
    at: i64,
    /// What the clock on the wall shows.
    shows: i64,
    /// What it should have shown next, before this: less than it shows at a gap's end, more in a
    /// fold's second pass.
    expected: i64,
}

impl Walk {
    /// Over a stretch of time, and the hours before it, for it may begin in a fold.
    pub(super) fn over(zone: &TimeZone, from: Timestamp, to: Timestamp) -> Self {
        let mut minutes: Vec<Minute> = Vec::new();
        for at in from.as_second().div_euclid(60) - 6 * 60..=to.as_second().div_euclid(60) {
            let offset = zone.to_offset(Timestamp::from_second(at * 60).unwrap()).seconds();
            assert_eq!(offset % 60, 0, "a minute of UTC is not one on the wall");
            let shows = at + i64::from(offset / 60);
            let expected = minutes.last().map_or(shows, |it| it.shows.max(it.expected - 1) + 1);
            minutes.push(Minute { at, shows, expected });
        }
        Self(minutes)
    }

    /// The ticks of an expression in that time.
    pub(super) fn ticks(&self, expression: &Expression) -> BTreeSet<Timestamp> {
        let mut day_known = (i64::MIN, false);
        let mut fits = |minute: i64| {
            let day = minute.div_euclid(24 * 60);
            if day_known.0 != day {
                day_known = (day, expression.has_day(day));
            }
            day_known.1 && expression.has_minute(minute)
        };
        let mut ticks = BTreeSet::new();
        for Minute { at, shows, expected } in &self.0 {
            let second = |second: i64| Timestamp::from_second(at * 60 + second).unwrap();
            if expression.fixed && (*expected..*shows).any(&mut fits) {
                ticks.insert(second(0));
            }
            if fits(*shows) && (shows >= expected || !expression.fixed) {
                ticks.extend((0..60).filter(|it| expression.seconds.hold(*it)).map(second));
            }
        }
        ticks
    }
}
