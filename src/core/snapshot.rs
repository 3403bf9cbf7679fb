//! What the provider says exists: one snapshot, and a complete listing of a server's.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::foreign::ForeignText;
use crate::moment::Moment;
use crate::naming::{ServerId, SnapshotId};

/// One snapshot, as the provider listed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// The provider's number.
    pub id: SnapshotId,
    /// Whose it is.
    pub server: ServerId,
    /// Its name: not unique, any text.
    pub name: ForeignText,
    /// How far it is.
    pub status: Status,
    /// Size in MiB as the provider counts it, once known.
    pub size_mb: Option<u64>,
    /// When the provider began it, by the provider's clock.
    pub created_at: Timestamp,
    /// The description that it was created with.
    pub description: Option<ForeignText>,
}

/// How far a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Usable.
    Completed,
    /// Being made.
    InProgress,
    /// Will never be usable: the provider's `failed` or `error`.
    Failed,
    /// A word that the provider's documentation does not have. Counted, never deleted by itself.
    Other(ForeignText),
}

impl Status {
    /// Reads the provider's word.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word {
            "completed" => Self::Completed,
            "in_progress" => Self::InProgress,
            "failed" | "error" => Self::Failed,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => out.pad("completed"),
            Self::InProgress => out.pad("in_progress"),
            Self::Failed => out.pad("failed"),
            Self::Other(word) => word.fmt(out),
        }
    }
}

impl Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A complete answer to 'which snapshots does this server have': every page read, every row
/// understood. Anything less is an error and never becomes one of these.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Whose snapshots.
    pub server: ServerId,
    /// All of them, oldest first by the provider's clock, then by id.
    pub snapshots: Vec<Snapshot>,
    /// When it was asked for: what happened since may be missing from it.
    pub asked_at: Moment,
}

impl Listing {
    /// Puts the rows into order. The caller vouches that they are all there.
    #[must_use]
    pub fn complete(server: ServerId, mut snapshots: Vec<Snapshot>, asked_at: Moment) -> Self {
        snapshots.sort_by_key(|snapshot| (snapshot.created_at, snapshot.id));
        Self { server, snapshots, asked_at }
    }
}
