//! The pins in force: a reload may add some while a rotation waits, and they hold at once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::types::Server;
use crate::naming::SnapshotId;

/// All pinned snapshots of the configuration in force, shared with the rotations under way.
#[derive(Debug, Clone, Default)]
pub struct Pins(Arc<Mutex<BTreeSet<SnapshotId>>>);

impl Pins {
    /// Takes over what a configuration pins.
    pub fn set(&self, servers: &[Arc<Server>]) {
        let pinned = servers.iter().flat_map(|server| server.policy.pinned.iter().copied());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pinned.collect();
    }

    /// Whether a snapshot is pinned now.
    #[must_use]
    pub fn hold(&self, snapshot: SnapshotId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&snapshot)
    }
}
