//! A holding, and how long it may be relied on.

use std::time::Duration;

use super::row::{HolderId, Term};
use super::timing::Timing;
use crate::moment::Moment;

/// A row that this replica holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) holder: HolderId,
    pub(super) term: Term,
    /// Just before the last answered statement was sent.
    pub(super) heard: Moment,
}

impl Held {
    /// How much longer it may be relied on.
    ///
    /// It counts from before the statement was sent: others may have read the row as soon as it was
    /// carried out, however late the answer came. The larger age of both clocks counts, because a sleep
    /// stops one of them, and the other can be set back.
    pub(super) fn trust_left(&self, timing: &Timing, now: Moment) -> Duration {
        timing.lease.saturating_sub(self.heard.age_at(now))
    }

    pub(super) fn is_trusted(&self, timing: &Timing, now: Moment) -> bool {
        !self.trust_left(timing, now).is_zero()
    }
}
