//! The row that the replicas of a fleet share, and the database that has it.

use std::fmt;

use jiff::Timestamp;

/// Who holds the row: one holding of one replica.
///
/// A replica draws a new one for each take-over. A failover can lose a term, so that its number is
/// given a second time. A statement or a rotation of the first one must not match the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HolderId(pub u128);

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The number of a holding, counted by the database. After a failover that lost commits, a number can
/// come again with another holder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term(pub u64);

impl Term {
    /// The number of the next holding.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many times the row was renewed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Beat(pub u64);

/// Which state of the row a replica has seen. It changes with every renewal and take-over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Version {
    /// Who holds the row, or held it last. `None`: nobody ever did.
    pub holder: Option<HolderId>,
    /// The number of the holding.
    pub term: Term,
    /// How many times it was renewed.
    pub beat: Beat,
}

/// The row, as far as it decides something. Name, age and address of the holder are for display, and
/// the caller keeps them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Row {
    /// Which state of the row this is.
    pub version: Version,
    /// The holder has given it up.
    pub released: bool,
}

impl Row {
    /// Nobody holds it.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.released || self.version.holder.is_none()
    }
}

/// What tells one database from another. It comes with each answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Database {
    /// `timeline_id` of `pg_control_checkpoint()`, or the first 8 digits of the WAL file's name.
    pub timeline: u32,
    /// `pg_postmaster_start_time()`.
    pub started_at: Timestamp,
    /// `pg_is_in_recovery()`. Then it is a copy, which may be behind.
    pub is_in_recovery: bool,
    /// A number that the caller gives each connection. A virtual machine that is set back to an earlier
    /// state differs in nothing else.
    pub connection: u64,
}
