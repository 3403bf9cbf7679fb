//! What a replica that does not hold the row knows of it.

use std::time::Duration;

use super::row::{Database, Row};
use super::timing::Timing;
use crate::moment::Moment;

/// The database that answered last, and since when it has been the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub(super) database: Database,
    /// The uptime of its first answer. Every statement since then was answered by it.
    pub(super) since: Duration,
}

impl Known {
    /// After one more answer. Another database starts a new count, because it may have lost commits.
    pub(super) fn after(known: Option<Self>, database: Database, answered_at: Moment) -> Self {
        match known {
            Some(known) if known.database == database => known,
            _ => Self { database, since: answered_at.uptime },
        }
    }
}

/// The row as it was read, and since when it is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Watch {
    pub(super) row: Row,
    /// An uptime: the time counts that surely passed. A wall clock that is set forward makes no row old.
    pub(super) since: Duration,
}

impl Watch {
    /// The first sight of a row. The watch counts from the answer: when the question was asked, the
    /// holder may still have renewed.
    pub(super) fn begin(row: Row, answered_at: Moment) -> Self {
        Self { row, since: answered_at.uptime }
    }

    /// After one more read of the same database. A renewal starts a new count.
    pub(super) fn after(self, row: Row, answered_at: Moment) -> Self {
        if self.row.version == row.version {
            return Self { row, since: self.since };
        }
        Self::begin(row, answered_at)
    }

    /// From this uptime on the row may be taken: at once if it is free, else when it has lapsed.
    pub(super) fn takes_at(&self, timing: &Timing) -> Duration {
        if self.row.is_free() { Duration::ZERO } else { self.since + timing.watch }
    }
}
