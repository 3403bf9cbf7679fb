//! A reading of the clocks.

use std::time::Duration;

use jiff::Timestamp;

/// One reading of both clocks, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}
