//! Which ticks surely have no snapshot yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::naming::{ServerId, Tick};
use crate::ring::Ring;

/// The latest tick that each server had a managed snapshot of, in the last listing of it that surely
/// lacked no row. A snapshot of a later tick can only have been made since then, by this process.
/// Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Sightings(Arc<Mutex<HashMap<ServerId, Option<Tick>>>>);

impl Sightings {
    /// Takes note of a ring.
    pub fn saw(&self, ring: &Ring) {
        let listing = ring.listing();
        if !listing.may_lack_rows {
            let latest = ring.managed().map(|(_, tick)| tick).max();
            self.lock().insert(listing.server, latest);
        }
    }

    /// Whether nobody but this process can have made the tick's snapshot.
    #[must_use]
    pub fn is_new(&self, server: ServerId, tick: Tick) -> bool {
        self.lock().get(&server).is_some_and(|latest| latest.is_none_or(|latest| latest < tick))
    }

    /// Forgets the others.
    pub fn keep_only(&self, keep: impl Fn(ServerId) -> bool) {
        self.lock().retain(|server, _| keep(*server));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerId, Option<Tick>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
