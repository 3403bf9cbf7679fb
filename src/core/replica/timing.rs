//! The spans of the protocol.

use std::time::Duration;

/// The spans of the protocol. [`Timing::new`] computes the ones that are safe together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    /// How long a holder may change something after the last statement that the database answered.
    pub lease: Duration,
    /// How often the row is read or renewed.
    pub pace: Duration,
    /// How long a row must be unchanged before it is taken over.
    pub watch: Duration,
    /// How long a new holder waits until it looks, if the row had lapsed.
    pub grace: Duration,
    /// How long the database must have been the same before a replica that took a free row looks.
    pub proof: Duration,
}

impl Timing {
    /// The spans for a lease. `timeout` and `settle` are those of the account's API.
    #[must_use]
    pub fn new(lease: Duration, timeout: Duration, settle: Duration) -> Self {
        // Two clocks do not run at exactly the same speed. The quarter covers that, for the grace too.
        let watch = lease + lease / 4;
        // A request that was sent in the last moment of the old trust reaches the provider within
        // `timeout`, and is listed within `settle` after that.
        let grace = timeout + settle;
        // A free row may hide a holder whose take-over was lost in a failover. It is trusted for a lease
        // after the failover, like any other.
        let proof = watch + grace;
        Self { lease, pace: lease / 6, watch, grace, proof }
    }
}
