//! The snapshots that the provider has, found at once by number, by server, and by when they change
//! by themselves: an account may have thousands of servers, and each call asks for one or another.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::naming::{ServerId, SnapshotId};

/// A snapshot that the provider has, or had and still lists.
#[derive(Debug, Clone, Serialize)]
pub struct StoredSnapshot {
    /// Its number.
    pub id: SnapshotId,
    /// Whose it is.
    pub server: ServerId,
    /// Its name.
    pub name: String,
    /// `in_progress`, `completed`, `failed`, or any other word.
    pub status: String,
    /// When it was begun.
    pub created_at: Timestamp,
    /// What was written about it.
    pub description: Option<String>,
    /// When its state changes by itself, and to what; `None`: it disappears.
    #[serde(skip)]
    pub(super) becomes: Option<(Timestamp, Option<&'static str>)>,
    #[serde(skip)]
    pub(super) listed_from: Timestamp,
    /// Deleted, and listed until then.
    #[serde(skip)]
    pub(super) lingers_until: Option<Timestamp>,
}

/// All of them, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Rows {
    by_id: BTreeMap<SnapshotId, StoredSnapshot>,
    by_server: BTreeMap<ServerId, BTreeSet<SnapshotId>>,
    /// When to look at which again.
    changes: BTreeSet<(Timestamp, SnapshotId)>,
}

impl Rows {
    pub(super) fn get(&self, id: SnapshotId) -> Option<&StoredSnapshot> {
        self.by_id.get(&id)
    }

    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &StoredSnapshot> {
        self.by_id.values()
    }

    pub(super) fn of_server(
        &self,
        server: ServerId,
    ) -> impl DoubleEndedIterator<Item = &StoredSnapshot> {
        self.by_server.get(&server).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }

    pub(super) fn insert(&mut self, row: StoredSnapshot) {
        self.changes.extend(row.becomes.map(|(at, _)| (at, row.id)));
        self.by_server.entry(row.server).or_default().insert(row.id);
        self.by_id.insert(row.id, row);
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, id: SnapshotId) -> bool {
        let Some(row) = self.by_id.remove(&id) else { return false };
        if let Some(ids) = self.by_server.get_mut(&row.server) {
            ids.remove(&id);
        }
        true
    }

    /// From now on it only lingers.
    pub(super) fn linger(&mut self, id: SnapshotId, until: Timestamp) {
        if let Some(row) = self.by_id.get_mut(&id) {
            row.lingers_until = Some(until);
            self.changes.insert((until, id));
        }
    }

    /// Gives it a status that stays; whether it was there.
    pub(super) fn set_status(&mut self, id: SnapshotId, status: &str) -> bool {
        let Some(row) = self.by_id.get_mut(&id) else { return false };
        status.clone_into(&mut row.status);
        row.becomes = None;
        true
    }

    pub(super) fn forget_descriptions(&mut self) {
        self.by_id.values_mut().for_each(|row| row.description = None);
    }

    pub(super) fn let_time_pass(&mut self, now: Timestamp) {
        while let Some((_, id)) = self.changes.first().copied().filter(|(at, _)| *at <= now) {
            self.changes.pop_first();
            // It may be gone, or have been given another fate since.
            let Some(row) = self.by_id.get_mut(&id) else { continue };
            let due = row.becomes.filter(|(at, _)| *at <= now);
            if let Some((_, Some(word))) = due {
                word.clone_into(&mut row.status);
                row.becomes = None;
            }
            let lingered = row.lingers_until.is_some_and(|until| until <= now);
            if lingered || matches!(due, Some((_, None))) {
                self.remove(id);
            }
        }
    }
}
