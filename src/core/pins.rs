//! The pins and prefixes in force: a reload may change them while a rotation waits, and what it protects is
//! protected at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::naming::{ManagedPrefix, ServerId, SnapshotId};
use crate::server::Server;

/// What the configuration in force protects, shared with the rotations under way. A server that is not
/// configured any more may still be one of those: what was protected of it stays so.
#[derive(Debug, Clone, Default)]
pub struct Pins(Arc<Mutex<InForce>>);

#[derive(Debug, Default)]
struct InForce {
    pinned: BTreeMap<ServerId, Vec<SnapshotId>>,
    /// Which names are managed.
    prefixes: BTreeMap<ServerId, ManagedPrefix>,
}

impl Pins {
    /// Takes over what a configuration says of these servers.
    pub fn set(&self, servers: &[Arc<Server>]) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for server in servers {
            now.pinned.remove(&server.id);
            if !server.policy.pinned.is_empty() {
                now.pinned.insert(server.id, server.policy.pinned.iter().copied().collect());
            }
            now.prefixes.insert(server.id, server.policy.prefix.clone());
        }
    }

    /// Whether a snapshot is pinned now.
    #[must_use]
    pub fn hold(&self, snapshot: SnapshotId) -> bool {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.pinned.values().any(|pinned| pinned.contains(&snapshot))
    }

    /// Whether a snapshot of this name is foreign now. A rotation that began before its prefix was changed,
    /// or taken out of `adopt_prefix`, may still take it for managed.
    #[must_use]
    pub fn make_foreign(&self, server: ServerId, name: &str) -> bool {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.prefixes.get(&server).is_some_and(|prefix| prefix.tick_of(name).is_none())
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

    #[test]
    fn a_name_is_foreign_as_soon_as_its_prefix_is_not_in_the_configuration() {
        let (new, old) = ("new-20261123T030000Z", "old-20261123T030000Z");
        let pins = Pins::default();
        let foreign = |id| [new, old].map(|name| pins.make_foreign(ServerId::new(id), name));
        assert_eq!(foreign(2), [false, false], "nothing is known of it");
        pins.set(&[server(2, "prefix = \"old\""), server(3, "")]);
        assert_eq!((foreign(2), foreign(3)), ([true, false], [true, true]));
        pins.set(&[server(2, "prefix = \"new\"\nadopt_prefix = [\"old\"]")]);
        assert_eq!(foreign(2), [false, false]);
        pins.set(&[server(2, "prefix = \"new\"")]);
        assert_eq!(foreign(2), [false, true]);
        pins.set(&[server(3, "")]);
        assert_eq!(foreign(2), [false, true], "it was taken out");
    }
}
