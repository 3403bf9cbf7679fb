//! Which changes of the account are under way: a listing of several pages that was read meanwhile may
//! lack a row.

use std::sync::{Arc, Mutex, PoisonError};

/// Creates, deletes and restores of all clients of the account. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct PendingChanges(Arc<Mutex<Counts>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    begun: u64,
    under_way: u64,
}

/// A change under way. It ends when this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct PendingChange(Arc<Mutex<Counts>>);

impl Drop for PendingChange {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).under_way -= 1;
    }
}

/// A moment in which no change was under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quiet {
    begun: u64,
}

impl PendingChanges {
    /// A call that changes something is about to be sent.
    pub(crate) fn begin(&self) -> PendingChange {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.begun += 1;
        counts.under_way += 1;
        PendingChange(Arc::clone(&self.0))
    }

    /// The present, if no change is under way.
    pub(crate) fn quiet(&self) -> Option<Quiet> {
        let Counts { begun, under_way } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (under_way == 0).then_some(Quiet { begun })
    }

    /// Whether no change has begun since then.
    pub(crate) fn quiet_since(&self, then: Quiet) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).begun == then.begun
    }
}
