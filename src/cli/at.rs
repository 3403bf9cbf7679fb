//! A time on the command line.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// An instant, or what a clock shows in a server's own time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Instant(Timestamp),
    Civil(DateTime),
}

impl At {
    /// Reads an argument.
    ///
    /// # Errors
    /// When it is neither.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(instant) = text.parse() {
            return Ok(Self::Instant(instant));
        }
        text.parse().map(Self::Civil).map_err(|_| {
            "not a time; write 2026-11-24T03:00:00Z, or 2026-11-24T03:00 for the server's own time zone"
                .to_owned()
        })
    }

    /// The instant, in this zone. `None`: the zone has no such time within the years that can be counted.
    pub(super) fn within(self, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Instant(instant) => Some(instant),
            Self::Civil(civil) => zone.to_timestamp(civil).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_instant_or_a_civil_time_and_anything_else_is_explained() {
        assert!(matches!(At::parse("2026-11-24T03:00:00Z"), Ok(At::Instant(_))));
        assert!(matches!(At::parse("2026-11-24T03:00"), Ok(At::Civil(_))));
        assert!(matches!(At::parse("2026-11-24"), Ok(At::Civil(_))));
        assert!(At::parse("tomorrow").unwrap_err().contains("write 2026-11-24T03:00:00Z"));
    }
}
