//! A schedule in words, for a person to see whether it is the one that was meant.

use std::collections::BTreeSet;
use std::fmt::Write;

/// More single times than these are told as minutes and hours.
const MOST_TIMES: usize = 6;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

type Values = BTreeSet<u32>;

/// What an expression says, like "every day at 03:00". `None` where it is not one of numbers, names,
/// ranges and steps alone.
pub(super) fn words(text: &str) -> Option<String> {
    let mut fields: Vec<&str> = text.split(' ').collect();
    if fields.len() == 5 {
        fields.insert(0, "0");
    }
    let [seconds, minutes, hours, days, months, weekdays] = fields.as_slice() else { return None };
    let seconds = values(seconds, 0, 59, &[])?;
    let minutes = values(minutes, 0, 59, &[])?;
    let hours = values(hours, 0, 23, &[])?;
    let on_days = on_days(days, months, weekdays)?;
    Some(match clock_times(&seconds, &minutes, &hours) {
        Some(times) => {
            let days = if on_days.is_empty() { "every day" } else { &on_days };
            format!("{days} at {times}")
        }
        None => {
            let often = how_often(&seconds, &minutes, &hours);
            if on_days.is_empty() { often } else { format!("{often}, {on_days}") }
        }
    })
}

/// The values of a field. A name stands for its place among `names`, from `least` on.
fn values(field: &str, least: u32, most: u32, names: &[&str]) -> Option<Values> {
    let value = |text: &str| {
        let by_name = || {
            let is_it = |name: &&str| {
                text.len() == 3 && name.get(..3).is_some_and(|it| it.eq_ignore_ascii_case(text))
            };
            least.checked_add(u32::try_from(names.iter().position(is_it)?).ok()?)
        };
        text.parse().ok().or_else(by_name).filter(|value| (least..=most).contains(value))
    };
    let mut all = Values::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (least, most),
            Some((from, to)) => (value(from)?, value(to)?),
            None => (value(range)?, value(range)?),
        };
        if from > to {
            return None;
        }
        all.extend((from..=to).step_by(step));
    }
    Some(all)
}

fn is_any(field: &str) -> bool {
    matches!(field, "*" | "?")
}

/// Nothing where every day is meant.
fn on_days(days: &str, months: &str, weekdays: &str) -> Option<String> {
    let of_month = match days {
        _ if is_any(days) => None,
        "L" | "l" => Some("the last day".to_owned()),
        _ => {
            let days = values(days, 1, 31, &[])?;
            let s = if days.len() == 1 { "" } else { "s" };
            Some(format!("day{s} {}", joined(&days, |day| day.to_string())))
        }
    };
    let of_week = if is_any(weekdays) {
        None
    } else {
        let days: Values = values(weekdays, 0, 7, &DAYS)?.iter().map(|day| day % 7).collect();
        Some(joined(&days, |day| name(&DAYS, day)))
    };
    let in_months = if is_any(months) {
        None
    } else {
        let months = values(months, 1, 12, &MONTHS)?;
        Some(joined(&months, |month| name(&MONTHS, month - 1)))
    };
    let month = in_months.as_deref().unwrap_or("every month");
    Some(match (of_month, of_week) {
        (None, None) => {
            in_months.map_or_else(String::new, |months| format!("every day in {months}"))
        }
        (Some(day), None) => format!("on {day} of {month}"),
        (None, Some(week)) => {
            format!("every {week}{}", in_months.map_or_else(String::new, |it| format!(" in {it}")))
        }
        // Either suffices, as in cron.
        (Some(day), Some(week)) => format!("on {day} of {month}, and every {week} then"),
    })
}

/// A few times of the day, one by one.
fn clock_times(seconds: &Values, minutes: &Values, hours: &Values) -> Option<String> {
    if seconds.len() * minutes.len() * hours.len() > MOST_TIMES {
        return None;
    }
    let mut times = Vec::new();
    for hour in hours {
        for minute in minutes {
            times.extend(seconds.iter().map(|second| {
                let second = at_second(*second);
                format!("{hour:02}:{minute:02}{second}")
            }));
        }
    }
    Some(times.join(", "))
}

fn at_second(second: u32) -> String {
    if second == 0 { String::new() } else { format!(":{second:02}") }
}

fn how_often(seconds: &Values, minutes: &Values, hours: &Values) -> String {
    let mut words = String::new();
    let mut at = String::new();
    match seconds.iter().next() {
        Some(second) if seconds.len() == 1 => at = at_second(*second),
        _ => {
            words.push_str(&steps(seconds, 60, "second").unwrap_or_else(|| {
                format!("at the seconds {}", joined(seconds, |second| second.to_string()))
            }));
            if minutes.len() < 60 {
                words.push_str(" of ");
            }
        }
    }
    match steps(minutes, 60, "minute") {
        // Of every second or so it is said already.
        Some(_) if minutes.len() == 60 && !words.is_empty() => {}
        Some(often) => {
            words.push_str(&often);
            if !at.is_empty() {
                let _ = write!(words, " at {at}");
            }
        }
        None => {
            let minutes = joined(minutes, |minute| format!(":{minute:02}{at}"));
            if words.is_empty()
                && let Some(often) = steps(hours, 24, "hour")
            {
                return format!("{often} at {minutes}");
            }
            let _ = write!(words, "{}{minutes}", if words.is_empty() { "at " } else { "" });
            if hours.len() == 24 {
                words.push_str(" of every hour");
            }
        }
    }
    if hours.len() < 24 {
        let _ = write!(words, ", in the hours {}", joined(hours, |hour| format!("{hour:02}")));
    }
    words
}

/// "every 15 minutes", where the values are as far apart round the clock as from each other.
fn steps(values: &Values, all: u32, unit: &str) -> Option<String> {
    let count = u32::try_from(values.len())
        .ok()
        .filter(|count| *count > 1 && all.is_multiple_of(*count))?;
    let step = all / count;
    if !values.iter().copied().eq((0..all).step_by(usize::try_from(step).ok()?)) {
        return None;
    }
    Some(if step == 1 { format!("every {unit}") } else { format!("every {step} {unit}s") })
}

fn name(names: &[&str], nth: u32) -> String {
    let name = usize::try_from(nth).ok().and_then(|nth| names.get(nth));
    name.copied().unwrap_or_default().to_owned()
}

/// Values one by one; from three in a row on, the first and the last.
fn joined(values: &Values, shown: impl Fn(u32) -> String) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *value => *last = *value,
            _ => runs.push((*value, *value)),
        }
    }
    let words: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => shown(first),
            1 => format!("{}, {}", shown(first), shown(last)),
            _ => format!("{} to {}", shown(first), shown(last)),
        })
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0 3 * * *", "every day at 03:00")]
    #[case("30 2,14 * * *", "every day at 02:30, 14:30")]
    #[case("0 3 * * * *", "every hour at :03")]
    #[case("0 0 3 * * *", "every day at 03:00")]
    #[case("30 0 3 * * *", "every day at 03:00:30")]
    #[case("0 * * * *", "every hour at :00")]
    #[case("*/60 * * * *", "every hour at :00")]
    #[case("5,35 * * * *", "every hour at :05, :35")]
    #[case("*/15 * * * *", "every 15 minutes")]
    #[case("*/7 * * * *", "every hour at :00, :07, :14, :21, :28, :35, :42, :49, :56")]
    #[case("* * * * *", "every minute")]
    #[case("30 * * * * *", "every minute at :30")]
    #[case("* * * * * *", "every second")]
    #[case("*/3 * * * * *", "every 3 seconds")]
    #[case("*/3 5 * * * *", "every 3 seconds of :05 of every hour")]
    #[case("0 */2 * * *", "every 2 hours at :00")]
    #[case("0 */6 * * *", "every day at 00:00, 06:00, 12:00, 18:00")]
    #[case(
        "*/5 9-17 * * mon-fri",
        "every 5 minutes, in the hours 09 to 17, every Monday to Friday"
    )]
    #[case("30 9-17 * * *", "at :30, in the hours 09 to 17")]
    #[case("30 22 * * fri", "every Friday at 22:30")]
    #[case("0 3 * * 0,7", "every Sunday at 03:00")]
    #[case("0 3 * * 1,3", "every Monday, Wednesday at 03:00")]
    #[case("0 3 1 * *", "on day 1 of every month at 03:00")]
    #[case("0 3 L * *", "on the last day of every month at 03:00")]
    #[case("0 3 1,15 jan,jul ?", "on days 1, 15 of January, July at 03:00")]
    #[case("0 3 * 6-8 *", "every day in June to August at 03:00")]
    #[case("0 3 13 * fri", "on day 13 of every month, and every Friday then at 03:00")]
    fn a_schedule_is_said_in_words(#[case] text: &str, #[case] said: &str) {
        assert_eq!(words(text).as_deref(), Some(said));
    }

    #[rstest]
    #[case("0 3 * * 5#2")]
    #[case("0 3 15W * *")]
    #[case("0 3 * * fri-mon")]
    fn what_has_a_meaning_of_its_own_is_left_as_it_is(#[case] text: &str) {
        assert_eq!(words(text), None);
    }
}
