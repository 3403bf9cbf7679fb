//! When a call that failed is sent again.
//!
//! Creates and restores are never sent again here: their callers have to look first.

use std::time::Duration;

use crate::activity::Activity;
use crate::backoff;
use crate::call::CallError;
use crate::patience::{LONGEST_WAIT, Patience};
use crate::provider::call_context::CallContext;
use crate::provider::exchange::{Exchange, wall_at};

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How often a call was tried, and the waits to come.
pub(super) struct Tries {
    /// From 1.
    pub(super) attempt: u32,
    patience: Patience,
    backoff: Box<dyn Iterator<Item = Duration> + Send>,
}

impl Tries {
    pub(super) fn begin(exchange: &Exchange) -> Self {
        Self { attempt: 1, patience: Patience::default(), backoff: Box::new(backoff(exchange)) }
    }

    /// Waits before another try. Gives the error back if another try would not help, or if tries or
    /// time are used up.
    pub(super) async fn wait(
        &mut self,
        exchange: &Exchange,
        error: CallError,
        scope: &CallContext,
    ) -> Result<(), CallError> {
        let wait = self.backoff.next().unwrap_or(BACKOFF_MAX);
        let asked = error.retry_after().unwrap_or_default();
        let now = exchange.clock().now().uptime;
        let allows = |outcome| self.patience.allows(outcome, exchange.retries(), wait, now);
        // Who has set no time does not wait for hours either.
        let is_too_long = asked > LONGEST_WAIT && scope.give_up_at.is_none();
        if !error.outcome().is_some_and(allows)
            || is_too_long
            || !exchange.has_time(scope, wait.max(asked))
        {
            return Err(error);
        }
        self.attempt += 1;
        let activity = Activity::Retry {
            attempt: self.attempt,
            attempts: exchange.retries().saturating_add(1),
            at: wall_at(now.saturating_add(wait), exchange.clock().now()),
            why: error.in_short(),
        };
        let _waits = exchange.activities().begin(scope.server.as_ref(), activity);
        exchange.pause(scope, wait).await
    }
}

/// The waits between tries: exponential, with jitter, from 1 s to 30 s.
pub(super) fn backoff(exchange: &Exchange) -> impl Iterator<Item = Duration> + Send + use<> {
    backoff::with_jitter(BACKOFF_MIN, BACKOFF_MAX, exchange.random())
}
