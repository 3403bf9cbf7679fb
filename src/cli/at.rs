//! A time on the command line. All commands read times alike.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

/// A time as a person writes it. Which instant it is depends on the time zone and on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Instant(Timestamp),
    /// What a clock shows in a server's own time zone.
    Civil(DateTime),
    /// A time of the day that is this many days from today.
    Day(i64, Time),
    /// This long from now, before it if negative.
    FromNow(SignedDuration),
}

/// The words for days, and how far each is from today.
const DAYS: [(&str, i64); 3] = [("yesterday", -1), ("today", 0), ("tomorrow", 1)];

impl At {
    /// Reads a time. A duration is a time ago.
    ///
    /// # Errors
    /// When it is no time.
    pub(super) fn past(text: &str) -> Result<Self, String> {
        Self::parse(text, |span| -span)
            .ok_or_else(|| wrong(text, "`yesterday`, `yesterday 03:00`, 26h (that long ago)"))
    }

    /// Reads a time. A duration is a time from now on.
    ///
    /// # Errors
    /// When it is no time.
    pub(super) fn future(text: &str) -> Result<Self, String> {
        Self::parse(text, |span| span)
            .ok_or_else(|| wrong(text, "`tomorrow`, `tomorrow 03:00`, 26h (that long from now)"))
    }

    fn parse(text: &str, counted: impl Fn(SignedDuration) -> SignedDuration) -> Option<Self> {
        let text = text.trim();
        if let Ok(instant) = text.parse() {
            return Some(Self::Instant(instant));
        }
        if let Ok(civil) = text.parse() {
            return Some(Self::Civil(civil));
        }
        if text == "now" {
            return Some(Self::FromNow(SignedDuration::ZERO));
        }
        if let Some((rest, days)) =
            DAYS.iter().find_map(|(word, days)| Some((text.strip_prefix(word)?, days)))
        {
            let time = match rest.trim_start_matches([' ', 'T']) {
                "" if rest.is_empty() => Time::midnight(),
                time => time.parse().ok()?,
            };
            return Some(Self::Day(*days, time));
        }
        let span = humantime::parse_duration(text).ok()?;
        SignedDuration::try_from(span).ok().map(|span| Self::FromNow(counted(span)))
    }

    /// The instant, in this zone. `None`: the zone has no such time within the years that can be counted.
    pub(super) fn within(self, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Instant(instant) => Some(instant),
            Self::Civil(civil) => zone.to_timestamp(civil).ok(),
            Self::Day(days, time) => {
                let today = now.to_zoned(zone.clone()).date();
                let day = today.checked_add(Span::new().days(days)).ok()?;
                zone.to_timestamp(day.to_datetime(time)).ok()
            }
            Self::FromNow(span) => now.checked_add(span).ok(),
        }
    }
}

fn wrong(text: &str, relative: &str) -> String {
    format!(
        "{text:?} is not a time. Write 2026-11-24T03:00 (in the server's time zone), 2026-11-24T03:00:00Z (in UTC), \
         2026-11-24, {relative}"
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: &str = "2026-11-23T23:30:00Z";

    /// In Berlin it is half past midnight on the 24th.
    #[rstest]
    #[case("2026-11-24T03:00:00Z", "2026-11-24T03:00:00Z")]
    #[case("2026-11-24T03:00:00+02:00", "2026-11-24T01:00:00Z")]
    #[case("2026-11-24T03:00", "2026-11-24T02:00:00Z")]
    #[case("2026-11-24 03:00", "2026-11-24T02:00:00Z")]
    #[case("2026-11-24", "2026-11-23T23:00:00Z")]
    #[case("today", "2026-11-23T23:00:00Z")]
    #[case("yesterday", "2026-11-22T23:00:00Z")]
    #[case("yesterday 03:15", "2026-11-23T02:15:00Z")]
    #[case("yesterdayT03:15:30", "2026-11-23T02:15:30Z")]
    #[case("tomorrow", "2026-11-24T23:00:00Z")]
    #[case(" now ", NOW)]
    #[case("yesterday ", "2026-11-22T23:00:00Z")]
    fn a_time_is_written_in_many_ways(#[case] text: &str, #[case] expected: &str) {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let (now, expected) = (NOW.parse().unwrap(), expected.parse().unwrap());
        for parse in [At::past, At::future] {
            assert_eq!(parse(text).unwrap().within(&berlin, now), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_duration_is_counted_from_now_in_the_direction_that_the_argument_means() {
        let now: Timestamp = NOW.parse().unwrap();
        let within = |at: At| at.within(&TimeZone::UTC, now).unwrap();
        assert_eq!(within(At::past("26h").unwrap()), now - SignedDuration::from_hours(26));
        assert_eq!(within(At::past("7d").unwrap()), now - SignedDuration::from_hours(7 * 24));
        assert_eq!(within(At::future("1d 2h").unwrap()), now + SignedDuration::from_hours(26));
    }

    #[rstest]
    #[case("")]
    #[case("soon")]
    #[case("yesterdayish")]
    #[case("today 25:00")]
    #[case("26")]
    #[case("-26h")]
    fn anything_else_is_explained(#[case] text: &str) {
        assert!(At::past(text).unwrap_err().contains("`yesterday`"), "{text}");
        assert!(At::future(text).unwrap_err().contains("`tomorrow`"), "{text}");
    }
}
