//! Calls counted by how they ended, for the metrics; and which changes are under way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::call::{Operation, Outcome};

/// From a listing that is at hand to the longest that a request may take.
const SECONDS: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// A label's name and value.
type Label = (&'static str, &'static str);

/// All calls since the process began, whichever client made them. Clones share it.
#[derive(Debug, Clone)]
pub struct Traffic {
    calls: Family<[Label; 2], Counter>,
    durations: Family<[Label; 1], Histogram, fn() -> Histogram>,
    changes: Arc<Mutex<Changes>>,
}

/// Creates, deletes and restores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Changes {
    begun: u64,
    under_way: u64,
}

/// A change under way; it has ended when this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct ChangeUnderWay(Arc<Mutex<Changes>>);

impl Drop for ChangeUnderWay {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).under_way -= 1;
    }
}

/// A moment in which no change was under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quiet {
    begun: u64,
}

impl Default for Traffic {
    fn default() -> Self {
        let durations: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            calls: Family::default(),
            durations: Family::new_with_constructor(durations),
            changes: Arc::default(),
        }
    }
}

impl Traffic {
    /// A call has ended.
    pub fn count(&self, operation: Operation, outcome: Outcome, took: Duration) {
        let operation = ("operation", operation.as_str());
        self.calls.get_or_create(&[operation, ("outcome", outcome.as_str())]).inc();
        self.durations.get_or_create(&[operation]).observe(took.as_secs_f64());
    }

    /// A call that changes something is about to be sent.
    pub(crate) fn change_begins(&self) -> ChangeUnderWay {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.begun += 1;
        changes.under_way += 1;
        ChangeUnderWay(Arc::clone(&self.changes))
    }

    /// The present, if no change is under way.
    pub(crate) fn quiet(&self) -> Option<Quiet> {
        let Changes { begun, under_way } =
            *self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        (under_way == 0).then_some(Quiet { begun })
    }

    /// Whether no change has begun since then.
    pub(crate) fn quiet_since(&self, then: Quiet) -> bool {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).begun == then.begun
    }

    /// How many calls ended so.
    #[must_use]
    pub fn calls(&self, operation: Operation, outcome: Outcome) -> u64 {
        let labels = [("operation", operation.as_str()), ("outcome", outcome.as_str())];
        self.calls.get(&labels).map_or(0, |counter| counter.get())
    }

    /// Shows it among the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Calls to the provider by how they ended";
        registry.register("snapring_api_requests", help, self.calls.clone());
        let help = "How long calls to the provider took";
        let name = "snapring_api_request_duration";
        registry.register_with_unit(name, help, Unit::Seconds, self.durations.clone());
    }
}
