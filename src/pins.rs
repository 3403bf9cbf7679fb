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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// A rotation that is under way when a reload takes its server out goes on.
    #[test]
    fn what_was_pinned_stays_so_when_its_server_is_taken_out_and_until_it_is_pinned_no_more() {
        let servers = |pins: &[(u64, &str)]| {
            let text: String = [(1, "[]")]
                .iter()
                .chain(pins)
                .map(|(id, pin)| {
                    format!(
                        "[[server]]\nid = {id}\nkeep = 1\nschedule = \"0 3 * * *\"\npin = {pin}\n"
                    )
                })
                .collect();
            config::parse("test.toml", &text).unwrap().settings.servers
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
