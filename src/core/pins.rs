//! The pins in force: a reload may add some while a rotation waits, and they hold at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::naming::{ServerId, SnapshotId};
use crate::server::Server;

/// All pinned snapshots of the configuration in force, shared with the rotations under way. A server
/// that is not configured any more may still be one of those: what was pinned of it stays so.
#[derive(Debug, Clone, Default)]
pub struct Pins(Arc<Mutex<BTreeMap<ServerId, Vec<SnapshotId>>>>);

impl Pins {
    /// Takes over what a configuration pins.
    pub fn set(&self, servers: &[Arc<Server>]) {
        let mut pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for server in servers {
            pins.remove(&server.id);
            if !server.policy.pinned.is_empty() {
                pins.insert(server.id, server.policy.pinned.iter().copied().collect());
            }
        }
    }

    /// Whether a snapshot is pinned now.
    #[must_use]
    pub fn hold(&self, snapshot: SnapshotId) -> bool {
        let pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pins.values().any(|pinned| pinned.contains(&snapshot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::server;

    /// A rotation that is under way when a reload takes its server out goes on.
    #[test]
    fn what_was_pinned_stays_so_when_its_server_is_taken_out_and_until_it_is_pinned_no_more() {
        let servers = |pins: &[(u64, &str)]| {
            let all = [(1, "[]")].iter().chain(pins);
            all.map(|(id, pin)| server(*id, &format!("pin = {pin}"))).collect::<Vec<_>>()
        };
        let pins = Pins::default();
        pins.set(&servers(&[(2, "[801, 802]"), (3, "[803]")]));
        pins.set(&servers(&[(3, "[]")]));
        assert!(pins.hold(SnapshotId(801)) && pins.hold(SnapshotId(802)));
        assert!(!pins.hold(SnapshotId(803)));
        pins.set(&servers(&[(2, "[802]")]));
        assert!(!pins.hold(SnapshotId(801)) && pins.hold(SnapshotId(802)));
    }
}
