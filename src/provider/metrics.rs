//! Calls counted by how they ended.

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
pub struct CallMetrics {
    calls: Family<[Label; 2], Counter>,
    durations: Family<[Label; 1], Histogram, fn() -> Histogram>,
}

impl Default for CallMetrics {
    fn default() -> Self {
        let durations: fn() -> Histogram = || Histogram::new(SECONDS);
        Self { calls: Family::default(), durations: Family::new_with_constructor(durations) }
    }
}

impl CallMetrics {
    /// A call has ended.
    pub fn count(&self, operation: Operation, outcome: Outcome, took: Duration) {
        let operation = ("operation", operation.as_str());
        self.calls.get_or_create(&[operation, ("outcome", outcome.as_str())]).inc();
        self.durations.get_or_create(&[operation]).observe(took.as_secs_f64());
    }

    /// How many calls ended so.
    #[must_use]
    pub fn calls(&self, operation: Operation, outcome: Outcome) -> u64 {
        let labels = [("operation", operation.as_str()), ("outcome", outcome.as_str())];
        self.calls.get(&labels).map_or(0, |counter| counter.get())
    }

    /// Shows it among the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "API calls by outcome";
        registry.register("snapring_api_requests", help, self.calls.clone());
        let help = "How long API calls took";
        let name = "snapring_api_request_duration";
        registry.register_with_unit(name, help, Unit::Seconds, self.durations.clone());
    }
}
