//! When is a tick? Pure: cron expressions in time zones, wall and monotonic time passed in.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// One cron expression in one time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    zone: TimeZone,
    cron: croner::Cron,
}

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither 5 nor 6 fields.
    #[error("has {0} fields; a schedule has 5, or 6 with seconds first")]
    Fields(usize),
    /// A field that cannot be read.
    #[error("{0}")]
    Syntax(String),
    /// Well formed, but no date fits it.
    #[error("never occurs")]
    Never,
}

impl Schedule {
    /// Reads a cron expression of 5 fields, or of 6 with seconds first.
    ///
    /// # Errors
    /// When it has another number of fields, a field that cannot be read, or no occurrence.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let fields = text.split_whitespace().count();
        if !matches!(fields, 5 | 6) {
            return Err(ScheduleError::Fields(fields));
        }
        let cron: croner::Cron = text
            .parse()
            .map_err(|error: croner::errors::CronError| ScheduleError::Syntax(error.to_string()))?;
        let schedule = Self { text: text.to_owned(), zone, cron };
        schedule.next_after(Timestamp::UNIX_EPOCH).ok_or(ScheduleError::Never)?;
        Ok(schedule)
    }

    /// The expression as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The time zone.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first occurrence after `instant`.
    #[must_use]
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let from = instant.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&from, false).ok().map(|zoned| zoned.timestamp())
    }

    /// The last occurrence at or before `instant`.
    #[must_use]
    pub fn latest_at(&self, instant: Timestamp) -> Option<Timestamp> {
        let from = instant.to_zoned(self.zone.clone());
        self.cron.find_previous_occurrence(&from, true).ok().map(|zoned| zoned.timestamp())
    }
}
