//! When is a tick? Pure: cron expressions in time zones, wall and monotonic time passed in.

mod lived;
pub mod planner;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use croner::Cron;
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
    key: String,
    /// Their union is the schedule. More than one for lists of fixed times, see [`fixed_times`].
    crons: Vec<Cron>,
}

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither 5 nor 6 fields.
    #[error("has {0} fields; a schedule has 5, or 6 with seconds first")]
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
            return Err(ScheduleError::Syntax(
                "a comma stands without a value beside it".to_owned(),
            ));
        }
        let parser =
            CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let crons = fixed_times(&fields)
            .unwrap_or_else(|| vec![fields.join(" ")])
            .iter()
            .map(|one| parser.parse(one).map_err(|error| ScheduleError::Syntax(words(&error))))
            .collect::<Result<Vec<_>, _>>()?;
        // A zone that has no name is told from others by all that is known of it.
        let zone_key = zone.iana_name().map_or_else(|| format!("{zone:?}"), str::to_owned);
        let key = format!("{} {zone_key}", fields.join(" ").to_ascii_lowercase());
        let schedule = Self(Arc::new(Expression { text: fields.join(" "), zone, key, crons }));
        // Before croner looks for one: it would look until the year 5000, for each fixed time anew.
        let days = parser
            .parse(&format!("0 0 {}", fields.split_at(fields.len() - 3).1.join(" ")))
            .map_err(|error| ScheduleError::Syntax(words(&error)))?;
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

    /// The time zone.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.0.zone
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
            walker =
                if next < guess { next.max(guess - SignedDuration::from_secs(1)) } else { next };
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

/// croner's own words, without its names for things and its full stop.
fn words(error: &croner::errors::CronError) -> String {
    let text = error.to_string();
    let words = text.split_once(": ").map_or(text.as_str(), |(_, words)| words);
    words.trim_end_matches('.').to_lowercase()
}

/// Longer than any clock was ever set forward at once (Samoa's missing day).
const LONGEST_GAP: SignedDuration = SignedDuration::from_hours(25);

fn next(cron: &Cron, instant: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let from = instant.to_zoned(zone.clone());
    let next = cron.find_next_occurrence(&from, false).ok()?.timestamp();
    if next > instant {
        return Some(next);
    }
    // Not seen in croner 4.0.3. A time that does not lie ahead would make a busy loop of the daemon.
    let later = instant.checked_add(SignedDuration::from_hours(1)).ok()?;
    let next = cron.find_next_occurrence(&later.to_zoned(zone.clone()), false).ok()?.timestamp();
    (next > instant).then_some(next)
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
        let plain = |text: &&str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
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
        write!(out, "Schedule({})", self.0.key)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Schedule {}

impl Hash for Schedule {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

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
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn schedule(text: &str, zone: &str) -> Schedule {
        Schedule::parse(text, TimeZone::get(zone).unwrap()).unwrap()
    }

    fn instant(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The occurrences from `from` on, as the clock on the wall shows them.
    fn occurrences(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = schedule(text, zone);
        let mut at = instant(from);
        let mut shown = Vec::new();
        for _ in 0..count {
            at = schedule.next_after(at).unwrap();
            shown.push(at.to_zoned(schedule.zone().clone()).strftime("%m-%d %H:%M %Z").to_string());
        }
        shown
    }

    #[rstest]
    #[case::gap_daily("30 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z",
        &["03-28 03:00 CEST", "03-29 02:30 CEST"])]
    #[case::hour_before_the_gap("30 1 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z",
        &["03-28 01:30 CET", "03-29 01:30 CEST"])]
    #[case::gap_list("30 2,14 * * *", "Europe/Berlin", "2027-03-27T18:00:00Z",
        &["03-28 03:00 CEST", "03-28 14:30 CEST", "03-29 02:30 CEST"])]
    #[case::fold_daily("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
        &["10-25 02:30 CEST", "10-26 02:30 CET"])]
    #[case::fold_list("0,30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
        &["10-25 02:00 CEST", "10-25 02:30 CEST", "10-26 02:00 CET"])]
    #[case::fold_interval("*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
        &["10-25 02:00 CEST", "10-25 02:30 CEST", "10-25 02:00 CET", "10-25 02:30 CET"])]
    #[case::london_midnight("0 0 * * *", "Europe/London", "2026-10-24T12:00:00Z",
        &["10-25 00:00 BST", "10-26 00:00 GMT"])]
    #[case::london_gap("30 1 * * *", "Europe/London", "2027-03-27T12:00:00Z",
        &["03-28 02:00 BST", "03-29 01:30 BST"])]
    #[case::lord_howe_gap_of_half_an_hour("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00:00Z",
        &["10-04 02:30 +11", "10-05 02:15 +11"])]
    #[case::lord_howe_fold("45 1 * * *", "Australia/Lord_Howe", "2027-04-02T20:00:00Z",
        &["04-04 01:45 +11", "04-05 01:45 +1030"])]
    #[case::sydney_gap("30 2 * * *", "Australia/Sydney", "2026-10-02T20:00:00Z",
        &["10-04 03:00 AEDT", "10-05 02:30 AEDT"])]
    #[case::new_year("30 0 1 1 *", "Pacific/Auckland", "2026-06-01T00:00:00Z",
        &["01-01 00:30 NZDT", "01-01 00:30 NZDT"])]
    #[case::seconds_first("15 30 2 * * *", "Etc/UTC", "2026-06-01T00:00:00Z", &["06-01 02:30 UTC"])]
    #[case::sunday_is_seven_too("0 3 * * 7", "Etc/UTC", "2026-11-23T00:00:00Z", &["11-29 03:00 UTC"])]
    #[case::either_day_suffices("0 3 1 * mon", "Etc/UTC", "2026-11-24T00:00:00Z",
        &["11-30 03:00 UTC", "12-01 03:00 UTC", "12-07 03:00 UTC"])]
    fn ticks_around_what_clocks_do(
        #[case] text: &str,
        #[case] zone: &str,
        #[case] from: &str,
        #[case] expected: &[&str],
    ) {
        assert_eq!(occurrences(text, zone, from, expected.len()), expected);
    }

    #[rstest]
    #[case("* * * *", ScheduleError::Fields(4))]
    #[case("@daily", ScheduleError::Fields(1))]
    #[case("0 0 0 1 1 * 2027", ScheduleError::Fields(7))]
    #[case("0 0 30 2 *", ScheduleError::Never)]
    // No day of the week at all, and 48 times: took croner seconds.
    #[case("0,1,2,3,4,5,6,7,8,9,10,11 2,14,15,16 * * +", ScheduleError::Never)]
    fn what_is_no_schedule_is_refused(#[case] text: &str, #[case] error: ScheduleError) {
        assert_eq!(Schedule::parse(text, TimeZone::UTC).unwrap_err(), error);
    }

    #[rstest]
    #[case("0 0 29 2 *")]
    #[case("0 0 29 2 +sun")]
    #[case("0 0 29 2 +sun#5")]
    #[case("0 0 L * +fri")]
    fn a_rare_day_is_a_day(#[case] text: &str) {
        assert!(Schedule::parse(text, TimeZone::UTC).is_ok());
    }

    #[rstest]
    #[case("60 3 * * *")]
    #[case("0 24 * * *")]
    #[case("0 3 * * funday")]
    #[case("0 3 32 * *")]
    #[case("0,, 3 * * *")]
    #[case("0 3 * * 8")]
    fn a_field_that_cannot_be_read_is_refused(#[case] text: &str) {
        assert!(matches!(Schedule::parse(text, TimeZone::UTC), Err(ScheduleError::Syntax(_))));
    }

    #[test]
    fn schedules_are_the_same_when_they_mean_the_same_text_in_the_same_zone() {
        assert_eq!(
            schedule("0  3 * * MON", "Europe/Berlin"),
            schedule("0 3 * * mon", "Europe/Berlin")
        );
        assert_ne!(schedule("0 3 * * *", "Europe/Berlin"), schedule("0 3 * * *", "Europe/Paris"));
        let east =
            |hours| Schedule::parse("0 3 * * *", TimeZone::fixed(jiff::tz::offset(hours))).unwrap();
        assert_eq!(east(1), east(1));
        assert_ne!(east(1), east(5));
    }

    /// Where a search goes wrong is around a transition, so both are tried from every quarter of an
    /// hour there, against ticks walked from days before.
    #[rstest]
    fn both_searches_agree_with_a_walk_wherever_they_begin_around_a_transition(
        #[values(
            "Europe/Berlin",
            "Europe/London",
            "Australia/Lord_Howe",
            "Australia/Sydney",
            "America/Havana",
            "Africa/Casablanca",
            "Antarctica/Troll"
        )]
        zone: &str,
        #[values(
            "30 2 * * *",
            "30 1 * * *",
            "0 0 * * *",
            "0,30 1,2,3 * * *",
            "30 23,0,1 * * *",
            "*/15 * * * *",
            "0 */2 * * *",
            "15 2-4 * * *",
            "0 2 * * sun"
        )]
        text: &str,
    ) {
        let schedule = schedule(text, zone);
        for transition in schedule.zone().following(instant("2026-11-23T00:00:00Z")).take(2) {
            let around = |hours| transition.timestamp() + SignedDuration::from_hours(hours);
            let walk = std::iter::successors(schedule.next_after(around(-200)), |tick| {
                schedule.next_after(*tick)
            });
            let ticks: Vec<Timestamp> = walk.take_while(|tick| *tick <= around(200)).collect();
            for quarters in -12..20 {
                let from = around(0) + SignedDuration::from_mins(15 * quarters);
                let after = ticks.partition_point(|tick| *tick <= from);
                assert_eq!(schedule.next_after(from), Some(ticks[after]), "after {from}");
                assert_eq!(schedule.latest_at(from), Some(ticks[after - 1]), "at {from}");
            }
        }
    }

    const ZONES: [&str; 20] = [
        "Etc/UTC",
        "Europe/Berlin",
        "Europe/London",
        "Australia/Lord_Howe",
        "Australia/Sydney",
        "America/New_York",
        "America/St_Johns",
        "America/Havana",
        "America/Sao_Paulo",
        "Asia/Kathmandu",
        "Asia/Tehran",
        "Asia/Beirut",
        "Africa/Casablanca",
        "Africa/Cairo",
        "Pacific/Apia",
        "Pacific/Auckland",
        "Pacific/Chatham",
        "America/Asuncion",
        "Europe/Dublin",
        "Antarctica/Troll",
    ];

    proptest! {
        #[test]
        fn ticks_only_ever_go_forward_and_the_latest_is_the_one_that_came_before(
            text in prop::sample::select(vec![
                "30 2 * * *", "0 0 * * *", "0,30 1,2,3 * * *", "*/15 * * * *", "0 */6 * * *",
                "59 23 31 12 *", "0 12 * * sun", "*/7 30 2 * * *", "15 2-4 * * *",
            ]),
            zone in prop::sample::select(ZONES.to_vec()),
            second in 1_767_225_600_i64..2_082_758_400, // 2026 to 2035
        ) {
            let schedule = schedule(text, zone);
            let start = Timestamp::from_second(second).unwrap();
            let mut before = start;
            for _ in 0..5 {
                let next = schedule.next_after(before).unwrap();
                prop_assert!(next > before);
                prop_assert_eq!(schedule.latest_at(next), Some(next));
                let between = before + (next.duration_since(before)) / 2;
                if between > before && before > start {
                    prop_assert_eq!(schedule.latest_at(between), Some(before));
                }
                prop_assert!(schedule.occurs_at(next));
                before = next;
            }
        }
    }

    /// A walk that knows nothing of croner: looks at the clock on the wall at every minute of a
    /// year. A daily time that the gap leaves out counts at the gap's end; the fold counts once.
    #[rstest]
    #[case("30 2 * * *", 2, 30)]
    #[case("0 0 * * *", 0, 0)]
    #[case("45 1 * * *", 1, 45)]
    fn daily_ticks_agree_with_a_walk_minute_by_minute(
        #[case] text: &str,
        #[case] hour: i8,
        #[case] minute: i8,
        #[values("Europe/Berlin", "Australia/Lord_Howe", "America/Havana", "Asia/Beirut")]
        zone: &str,
    ) {
        let schedule = schedule(text, zone);
        let (begin, end) = (instant("2026-01-01T12:00:00Z"), instant("2027-01-01T12:00:00Z"));
        let mut walked = Vec::new();
        let wanted = jiff::civil::time(hour, minute, 0, 0);
        let mut shown_before = begin.to_zoned(schedule.zone().clone()).datetime();
        let mut last_day = None;
        let mut at = begin;
        while at < end {
            at += SignedDuration::from_mins(1);
            let shown = at.to_zoned(schedule.zone().clone()).datetime();
            // Passed it, by a step of one minute or over a gap.
            let due = [shown_before.date(), shown.date()]
                .iter()
                .map(|date| date.to_datetime(wanted))
                .find(|due| shown_before < *due && *due <= shown);
            if let Some(due) = due
                && last_day != Some(due.date())
            {
                last_day = Some(due.date());
                walked.push(at);
            }
            shown_before = shown;
        }
        let mut ticks = Vec::new();
        let mut at = begin;
        while let Some(next) = schedule.next_after(at).filter(|next| *next <= end) {
            ticks.push(next);
            at = next;
        }
        assert_eq!(ticks, walked);
    }
}
