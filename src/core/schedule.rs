//! When is a tick? Pure: cron expressions in time zones, wall and monotonic time passed in.

mod elapsed;
pub mod first_loaded;
pub mod planner;
mod words;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// One cron expression in one time zone. Cheap to clone: servers with the same one share it.
///
/// Equal when expression (but for case and spaces) and zone are.
#[derive(Clone)]
pub struct Schedule(Arc<Expression>);

struct Expression {
    text: String,
    zone: TimeZone,
    /// What it is compared by.
    key: (Arc<str>, Arc<str>),
    /// Their union is the schedule. More than one for lists of fixed times, see [`fixed_times`].
    crons: Vec<Cron>,
}

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither 5 nor 6 fields.
    #[error("has {0} field{s}; a schedule has 5, or 6 with seconds \
         first", s = if *.0 == 1 { "" } else { "s" })]
    Fields(usize),
    /// A field that cannot be read.
    #[error("cannot be read: {0}")]
    Syntax(String),
    /// Well formed, but no date fits it.
    #[error("never occurs")]
    Never,
}

impl Schedule {
    /// Reads a cron expression of 5 fields, or of 6 with seconds first.
    ///
    /// Where both day of month and day of week are restricted, either suffices, as in cron.
    ///
    /// # Errors
    /// When it has another number of fields, a field that cannot be read, or no occurrence.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        if !matches!(fields.len(), 5 | 6) {
            return Err(ScheduleError::Fields(fields.len()));
        }
        if fields.iter().any(|field| field.split(',').any(str::is_empty)) {
            return Err(ScheduleError::Syntax("a comma has no value next to it".to_owned()));
        }
        if let Some(step) = step_out_of_range(&fields) {
            return Err(ScheduleError::Syntax(step));
        }
        let parser =
            CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let crons = fixed_times(&fields)
            .unwrap_or_else(|| vec![fields.join(" ")])
            .iter()
            .map(|one| parser.parse(one).map_err(|error| unreadable(&fields, &parser, &error)))
            .collect::<Result<Vec<_>, _>>()?;
        let zone_name = match zone.iana_name() {
            Some("UTC") => "Etc/UTC".to_owned(),
            Some(name) => name.to_owned(),
            // Told from others by all that is known of it.
            None => format!("{zone:?}"),
        };
        let text = fields.join(" ");
        let key = (text.to_ascii_lowercase().into(), zone_name.into());
        let schedule = Self(Arc::new(Expression { text, zone, key, crons }));
        // Before croner looks for one: it would look until the year 5000, for each fixed time anew.
        let days = parser
            .parse(&format!("0 0 {}", fields.split_at(fields.len() - 3).1.join(" ")))
            .map_err(|error| unreadable(&fields, &parser, &error))?;
        if !has_a_day(&days) {
            return Err(ScheduleError::Never);
        }
        // Any instant will do: an expression that occurs at all occurs within a few years.
        schedule.next_after(Timestamp::UNIX_EPOCH).ok_or(ScheduleError::Never)?;
        Ok(schedule)
    }

    /// The expression, its fields a space apart.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The expression in words, like "every day at 03:00", where there are any for it.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        words::words(&self.0.text)
    }

    /// Whether it has a field for seconds.
    #[must_use]
    pub fn has_seconds(&self) -> bool {
        self.0.text.split(' ').count() == 6
    }

    /// The time zone.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.0.zone
    }

    /// Expression and zone, as texts that are the same where schedules are equal.
    #[must_use]
    pub fn key(&self) -> &(Arc<str>, Arc<str>) {
        &self.0.key
    }

    /// The first occurrence after `instant`, in whole seconds.
    ///
    /// One that the spring gap leaves out is at the gap's end; one that the autumn fold shows twice
    /// is the first of the two, unless the expression is one of intervals (`*/30 * * * *`), which
    /// goes on through both.
    #[must_use]
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        self.0.crons.iter().filter_map(|cron| next(cron, instant, &self.0.zone)).min()
    }

    /// The last occurrence at or before `instant`.
    #[must_use]
    pub fn latest_at(&self, instant: Timestamp) -> Option<Timestamp> {
        // What comes backwards must be what came forwards, in gaps and folds too. So croner's
        // backward search gives a place to begin only, and the walk from before it goes forwards.
        let from = instant.to_zoned(self.0.zone.clone());
        let guess = self
            .0
            .crons
            .iter()
            .filter_map(|cron| cron.find_previous_occurrence(&from, true).ok())
            .map(|zoned| zoned.timestamp())
            .max()?;
        let mut latest = None;
        let mut walker = guess.checked_sub(LONGEST_GAP).ok()?;
        while let Some(next) = self.next_after(walker).filter(|next| *next <= instant) {
            // A tight schedule would be walked for long: leap ahead while the guess is ahead.
            walker = next.max(guess - SignedDuration::from_secs(1));
            latest = Some(next);
        }
        latest
    }

    /// Whether `instant` is an occurrence.
    #[must_use]
    pub fn occurs_at(&self, instant: Timestamp) -> bool {
        let before = instant.checked_sub(SignedDuration::from_secs(1));
        before.is_ok_and(|before| self.next_after(before) == Some(instant))
    }
}

/// Whether a midnight of 28 years fits: their calendars are all that there are, every day of the week
/// with and without a leap day.
fn has_a_day(midnights: &Cron) -> bool {
    (0..28 * 366).any(|day| {
        Timestamp::from_second(day * 24 * 3600).is_ok_and(|midnight| {
            midnights.is_time_matching(&midnight.to_zoned(TimeZone::UTC)).unwrap_or(false)
        })
    })
}

/// The fields, with what each may be. A schedule of five begins with the minute.
const FIELDS: [(&str, &str); 6] = [
    ("second", "0-59"),
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31"),
    ("month", "1-12 or jan-dec"),
    ("day of week", "0-7 or sun-sat"),
];

/// How many values each field has. A longer step leaves only the first value.
const LONGEST_STEPS: [u64; 6] = [60, 60, 24, 31, 12, 7];

/// Tells of a step that is longer than its field.
fn step_out_of_range(fields: &[&str]) -> Option<String> {
    let known = FIELDS.iter().zip(LONGEST_STEPS).skip(FIELDS.len() - fields.len());
    fields.iter().zip(known).find_map(|(field, ((name, range), longest))| {
        let is_beyond = |part: &&str| {
            let step = part.split_once('/').and_then(|(_, step)| step.parse::<u64>().ok());
            step.is_some_and(|step| step > longest)
        };
        let part: String =
            field.split(',').find(is_beyond)?.chars().take(SHOWN_CHARACTERS).collect();
        Some(format!("{name} {part:?}: the step goes beyond {range}"))
    })
}

/// The most of a field that is said again.
const SHOWN_CHARACTERS: usize = 40;

/// Which field is at fault, and what it may be: croner says what is wrong and not where, so each is
/// tried alone.
fn unreadable(fields: &[&str], parser: &CronParser, error: &CronError) -> ScheduleError {
    let known = FIELDS.iter().skip(FIELDS.len() - fields.len());
    let at_fault = fields.iter().zip(known).enumerate().find_map(|(nth, (field, known))| {
        field.split(',').find_map(|part| {
            let (before, after) = ("* ".repeat(nth), " *".repeat(fields.len() - nth - 1));
            let error = parser.parse(&format!("{before}{part}{after}")).err()?;
            Some((known, part, error))
        })
    });
    let Some(((name, range), part, error)) = at_fault else {
        return ScheduleError::Syntax(words(error));
    };
    let number = part.bytes().all(|it| it.is_ascii_digit());
    let part: String = part.chars().take(SHOWN_CHARACTERS).collect();
    ScheduleError::Syntax(match &error {
        _ if number => format!("{name} {part} is not in {range}"),
        CronError::IllegalCharacters(_) => format!("{name} {part:?} is not in {range}"),
        error => format!("{name} {part:?}: {}; it is in {range}", words(error)),
    })
}

/// croner's own words, without its names for things and its full stop.
fn words(error: &CronError) -> String {
    let text = error.to_string();
    let words = text.split_once(": ").map_or(text.as_str(), |(_, words)| words);
    words.trim_end_matches('.').to_lowercase()
}

/// Longer than any clock was ever set forward at once (Samoa's missing day).
const LONGEST_GAP: SignedDuration = SignedDuration::from_hours(25);

fn next(cron: &Cron, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let find = |from: Timestamp, itself| {
        let next = cron.find_next_occurrence(&from.to_zoned(zone.clone()), itself).ok()?;
        Some(next.timestamp())
    };
    ahead_of(instant, |from| {
        // A day that the zone leaves out (Samoa's) is an error to croner, however often it is asked from before it.
        let after_gap =
            || zone.following(from).take(GAPS_TRIED).find_map(|gap| find(gap.timestamp(), true));
        find(from, false).or_else(after_gap)
    })
}

/// How many changes of the clocks are passed over to find an occurrence.
const GAPS_TRIED: usize = 8;

/// What `find` finds after an instant. A time that does not lie ahead would make a busy loop of the
/// daemon; it was not seen in croner 4.0.3, and is answered by a search from an hour later.
fn ahead_of(
    instant: Timestamp,
    find: impl Fn(Timestamp) -> Option<Timestamp>,
) -> Option<Timestamp> {
    let lies_ahead = |next: &Timestamp| *next > instant;
    Some(find(instant)?)
        .filter(lies_ahead)
        .or_else(|| find(instant.checked_add(SignedDuration::from_hours(1)).ok()?))
        .filter(lies_ahead)
}

/// The most single times that a list is taken apart into.
const MOST_FIXED_TIMES: usize = 48;

/// Takes `30 2,14 * * *` apart into `30 2 * * *` and `30 14 * * *`.
///
/// croner treats a list as an interval, which the gap skips and the fold runs twice. What a person
/// means by it is several daily times; each of them then behaves as one. `None` where the times are
/// not plain numbers, or too many.
fn fixed_times(fields: &[&str]) -> Option<Vec<String>> {
    let (times, days) = fields.split_at(fields.len().checked_sub(3)?);
    let mut expanded = vec![String::new()];
    for field in times {
        let numbers: Vec<&str> = field.split(',').collect();
        let plain = |text: &&str| text.bytes().all(|it| it.is_ascii_digit());
        if !numbers.iter().all(plain) || expanded.len() * numbers.len() > MOST_FIXED_TIMES {
            return None;
        }
        expanded = expanded
            .iter()
            .flat_map(|begun| numbers.iter().map(move |number| format!("{begun}{number} ")))
            .collect();
    }
    Some(expanded.iter().map(|begun| format!("{begun}{}", days.join(" "))).collect())
}

impl fmt::Debug for Schedule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, zone) = &self.0.key;
        write!(out, "Schedule({text} {zone})")
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Schedule {}

impl PartialOrd for Schedule {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Schedule {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

#[cfg(test)]
mod tests;
