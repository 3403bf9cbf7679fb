//! What each server was last seen to have, against listings that lack a row.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::naming::{ServerId, SnapshotId};
use crate::snapshot::Listing;

/// The snapshots that each server was last seen to have, with what was made and without what was
/// deleted since. A listing that is shared and lacks one of them is not relied on: either it
/// was deleted, or a row was lost while the listing was read. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastSeen(Arc<Mutex<HashMap<ServerId, Seen>>>);

#[derive(Debug, Default)]
struct Seen {
    snapshots: Vec<SnapshotId>,
    /// One of the listings came in one answer, so that no row was lost between pages.
    was_whole: bool,
}

impl LastSeen {
    /// A listing of this server is relied on. `is_whole`: it came in one answer.
    pub(crate) fn saw(&self, listing: &Listing, is_whole: bool) {
        let mut servers = self.lock();
        let seen = servers.entry(listing.server).or_default();
        seen.snapshots = listing.snapshots.iter().map(|snapshot| snapshot.id).collect();
        seen.was_whole |= is_whole;
    }

    /// The provider says that it has made one.
    pub(crate) fn made(&self, server: ServerId, snapshot: SnapshotId) {
        if let Some(known) = self.lock().get_mut(&server) {
            known.snapshots.push(snapshot);
        }
    }

    /// One is gone.
    pub(crate) fn deleted(&self, server: ServerId, snapshot: SnapshotId) {
        if let Some(known) = self.lock().get_mut(&server) {
            known.snapshots.retain(|id| *id != snapshot);
        }
    }

    /// Whether all of the server was seen once.
    pub(crate) fn know(&self, server: ServerId) -> bool {
        self.lock().get(&server).is_some_and(|seen| seen.was_whole)
    }

    /// Whether a listing shows all that is known of its server.
    pub(crate) fn are_all_in(&self, listing: &Listing) -> bool {
        let known = self.lock();
        let known = known.get(&listing.server).map_or(&[][..], |seen| &seen.snapshots);
        known.iter().all(|id| listing.snapshots.iter().any(|row| row.id == *id))
    }

    /// Forgets the others.
    pub(crate) fn keep_only(&self, keep: impl Fn(ServerId) -> bool) {
        self.lock().retain(|server, _| keep(*server));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::snapshot::{Snapshot, Status};

    const WEB: ServerId = ServerId::new(101);

    fn listing(server: ServerId, ids: &[u64]) -> Listing {
        let clock = Clock::system();
        let snapshot = |id: &u64| Snapshot {
            id: SnapshotId(*id),
            server,
            name: format!("s{id}").into(),
            status: Status::Completed,
            size_mb: None,
            created_at: clock.now().wall,
            description: None,
        };
        Listing::complete(server, ids.iter().map(snapshot).collect(), clock.now())
    }

    #[test]
    fn what_was_seen_or_made_is_missed_until_it_is_deleted() {
        let last_seen = LastSeen::default();
        let misses = |ids: &[u64]| !last_seen.are_all_in(&listing(WEB, ids));
        assert!(!misses(&[]), "of a server that was never seen nothing is known");
        last_seen.saw(&listing(WEB, &[1, 2]), false);
        last_seen.made(WEB, SnapshotId(3));
        assert!(misses(&[1, 3]) && misses(&[1, 2]) && !misses(&[1, 2, 3, 4]));
        last_seen.deleted(WEB, SnapshotId(1));
        assert!(misses(&[2]) && !misses(&[2, 3]));
        last_seen.saw(&listing(WEB, &[2]), false);
        assert!(!misses(&[2]), "a listing that is relied on is the truth");
        assert!(!last_seen.know(WEB), "in pages only");
        last_seen.saw(&listing(WEB, &[2]), true);
        last_seen.saw(&listing(WEB, &[2]), false);
        assert!(last_seen.know(WEB));
    }

    #[test]
    fn servers_that_are_not_configured_any_more_are_forgotten_and_the_others_are_not() {
        let (last_seen, other) = (LastSeen::default(), ServerId::new(102));
        last_seen.saw(&listing(WEB, &[1]), true);
        last_seen.saw(&listing(other, &[2]), true);
        last_seen.keep_only(|server| server == WEB);
        assert!(last_seen.know(WEB) && !last_seen.know(other));
        assert!(!last_seen.are_all_in(&listing(WEB, &[])));
        assert!(last_seen.are_all_in(&listing(other, &[])));
    }
}
