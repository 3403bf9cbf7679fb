//! How long each step took, and until when calls may be retried.

use std::time::Duration;

use jiff::Timestamp;

use crate::moment::Moment;
use crate::polling;
use crate::report::milliseconds;

/// The time of one rotation.
#[derive(Debug)]
pub(super) struct Ledger {
    next_start: Option<Timestamp>,
    begun: Duration,
    step_begun: Duration,
    steps: Vec<(&'static str, u64)>,
    give_up_at: Duration,
}

impl Ledger {
    pub(super) fn begin(next_start: Option<Timestamp>, now: Moment) -> Self {
        let begun = now.uptime;
        Self { next_start, begun, step_begun: begun, steps: Vec::new(), give_up_at: begun }
    }

    /// Calls may be retried for `span` from now, or until the next rotation if that is later.
    pub(super) fn allow(&mut self, span: Duration, now: Moment) {
        let until_next_start = self.until_next_start(now).unwrap_or_default();
        self.give_up_at = now.uptime.saturating_add(span.max(until_next_start));
    }

    pub(super) fn give_up_at(&self) -> Duration {
        self.give_up_at
    }

    /// Puts back what [`Ledger::give_up_at`] gave.
    pub(super) fn restore(&mut self, give_up_at: Duration) {
        self.give_up_at = give_up_at;
    }

    /// Whether a wait of this span leaves time for another try.
    pub(super) fn has_time_for(&self, span: Duration, now: Moment) -> bool {
        now.uptime.saturating_add(span) < self.give_up_at
    }

    /// How long a listing may wait to be shared without making the server miss its next tick. `None` if
    /// the next tick is near or has passed.
    pub(super) fn undisturbed(&self, now: Moment) -> Option<Duration> {
        if self.next_start.is_none() {
            return Some(Duration::MAX);
        }
        let until = self.until_next_start(now)?;
        until.checked_sub(polling::TO_FINISH).filter(|span| !span.is_zero())
    }

    fn until_next_start(&self, now: Moment) -> Option<Duration> {
        Duration::try_from(self.next_start?.duration_since(now.wall)).ok()
    }

    /// Ends a step.
    pub(super) fn lap(&mut self, step: &'static str, now: Moment) {
        let took = milliseconds(now.uptime.saturating_sub(self.step_begun));
        self.step_begun = now.uptime;
        match self.steps.iter_mut().find(|(name, _)| *name == step) {
            Some((_, sum)) => *sum = sum.saturating_add(took),
            None => self.steps.push((step, took)),
        }
    }

    pub(super) fn milliseconds_until(&self, now: Moment) -> u64 {
        milliseconds(now.uptime.saturating_sub(self.begun))
    }

    pub(super) fn take_steps(&mut self) -> Vec<(&'static str, u64)> {
        std::mem::take(&mut self.steps)
    }
}
