//! One server's snapshots at a provider that exists in memory only.

use std::time::Duration;

use jiff::Timestamp;

use crate::moment::Moment;
use crate::naming::{ServerId, SnapshotId};
use crate::snapshot::{Listing, Snapshot, Status};

/// The snapshots of one server, and when those in progress will end.
#[derive(Debug)]
pub(super) struct Provider {
    server: ServerId,
    snapshots: Vec<Stored>,
    last_id: u64,
}

#[derive(Debug)]
struct Stored {
    snapshot: Snapshot,
    /// When it will be completed or failed, and which.
    ends: Option<(Timestamp, Status)>,
}

impl Provider {
    /// With what the server has now. What is in progress is completed after `snapshot_takes` in all.
    pub(super) fn with(
        server: ServerId,
        snapshots: Vec<Snapshot>,
        snapshot_takes: Duration,
        now: Timestamp,
    ) -> Self {
        let last_id = snapshots.iter().map(|it| it.id.0).max().unwrap_or_default();
        let stored = |snapshot: Snapshot| {
            let at = snapshot.created_at.saturating_add(snapshot_takes).unwrap_or(now).max(now);
            let is_unfinished = snapshot.status == Status::InProgress;
            Stored { ends: is_unfinished.then_some((at, Status::Completed)), snapshot }
        };
        Self { server, snapshots: snapshots.into_iter().map(stored).collect(), last_id }
    }

    pub(super) fn create(
        &mut self,
        name: &str,
        now: Timestamp,
        ends: (Timestamp, Status),
    ) -> Snapshot {
        self.last_id += 1;
        let snapshot = Snapshot {
            id: SnapshotId(self.last_id),
            server: self.server,
            name: name.into(),
            status: Status::InProgress,
            size_mb: None,
            created_at: now,
            description: None,
        };
        self.snapshots.push(Stored { snapshot: snapshot.clone(), ends: Some(ends) });
        snapshot
    }

    pub(super) fn delete(&mut self, id: SnapshotId) {
        self.snapshots.retain(|it| it.snapshot.id != id);
    }

    pub(super) fn count(&self) -> usize {
        self.snapshots.len()
    }

    pub(super) fn list(&mut self, now: Moment) -> Listing {
        for stored in &mut self.snapshots {
            if let Some((_, status)) = stored.ends.take_if(|(at, _)| *at <= now.wall) {
                stored.snapshot.status = status;
            }
        }
        let snapshots = self.snapshots.iter().map(|it| it.snapshot.clone()).collect();
        Listing::complete(self.server, snapshots, now)
    }
}
