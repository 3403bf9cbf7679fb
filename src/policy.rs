//! Retention: which of a server's snapshots its policy keeps, and why.

/// How many snapshots to keep: the newest of each of the N newest periods that hold one, joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// The N newest.
    pub last: u32,
    /// The newest of each of the N newest hours that hold one.
    pub hourly: u32,
    /// Days, in the policy's time zone.
    pub daily: u32,
    /// ISO weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
}

impl Keep {
    /// The most snapshots that this can keep.
    #[must_use]
    pub fn total(&self) -> u32 {
        [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly]
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}
