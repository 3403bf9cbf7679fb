//! A reading of the clocks.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// One reading of both clocks, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Moment {
    /// The wall clock: may be wrong, may jump either way, goes on while the machine sleeps.
    pub wall: Timestamp,
    /// Time since the clock was made: never goes back, stands still while the machine sleeps.
    pub uptime: Duration,
}

impl Moment {
    /// How long ago this moment was, seen from `later`.
    ///
    /// Takes the larger of what the two clocks say, so that neither a suspend (which the
    /// monotonic clock does not see) nor a wall clock set back makes something old look fresh.
    #[must_use]
    pub fn age_at(self, later: Moment) -> Duration {
        let by_wall = Duration::try_from(later.wall.duration_since(self.wall)).unwrap_or_default();
        by_wall.max(later.uptime.saturating_sub(self.uptime))
    }

    /// The moment so long before this one.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        let uptime = self.uptime.saturating_sub(span);
        let wall = self.wall.checked_sub(span).unwrap_or(Timestamp::MIN);
        Self { wall, uptime }
    }

    /// The earlier one by each clock, so that nothing looks fresher than it is.
    #[must_use]
    pub fn earliest(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), uptime: self.uptime.min(other.uptime) }
    }
}

/// A time in a message, without the date if that is today's.
#[must_use]
pub fn shown_today(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let zoned = at.to_zoned(zone.clone());
    if zoned.date() == now.to_zoned(zone.clone()).date() {
        return zoned.strftime("%H:%M:%S %Z").to_string();
    }
    shown(at, zone)
}

/// A time in a message.
#[must_use]
pub fn shown(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2026-11-23T02:20:15Z", "03:20:15 CET")]
    #[case("2026-11-23T22:59:59Z", "23:59:59 CET")]
    #[case("2026-11-23T23:00:00Z", "2026-11-24 00:00:00 CET")]
    fn a_time_of_today_has_no_date(#[case] at: &str, #[case] expected: &str) {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let now = "2026-11-23T02:00:00Z".parse().unwrap();
        assert_eq!(shown_today(at.parse().unwrap(), now, &zone), expected);
    }
}
