//! Whether the store works, for those who show it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Whether the store works. Clones are about the same store.
#[derive(Debug, Clone, Default)]
pub struct StoreHealth(Arc<Health>);

#[derive(Debug, Default)]
struct Health {
    is_broken: AtomicBool,
    lost: AtomicU64,
}

impl StoreHealth {
    /// Whether it could be used when last tried. True before the first try.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.0.is_broken.load(Ordering::Relaxed)
    }

    /// How many rotations are missing from the history since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    pub(super) fn works(&self, it_does: bool) {
        self.0.is_broken.store(!it_does, Ordering::Relaxed);
    }

    pub(super) fn lose(&self, rotations: u64) {
        self.0.lost.fetch_add(rotations, Ordering::Relaxed);
    }
}
