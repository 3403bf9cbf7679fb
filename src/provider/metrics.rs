//! Calls counted by how they ended.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::call::{Operation, Outcome};
use crate::naming::Account;

/// From a listing that is at hand to the longest that a request may take.
const SECONDS: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Names and values.
type Labels = Vec<(&'static str, String)>;

/// All calls since the process began, whichever client made them. Clones share it.
#[derive(Debug, Clone)]
pub struct CallMetrics {
    /// Whose calls are counted through this one.
    account: Account,
    calls: Family<Labels, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Default for CallMetrics {
    fn default() -> Self {
        let durations: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            account: Account::API,
            calls: Family::default(),
            durations: Family::new_with_constructor(durations),
        }
    }
}

impl CallMetrics {
    /// The same, through which calls of an account are counted.
    #[must_use]
    pub fn of_account(&self, account: Account) -> Self {
        Self { account, ..self.clone() }
    }

    /// Whose calls are counted.
    #[must_use]
    pub fn account(&self) -> Account {
        self.account
    }

    /// A call has ended.
    pub fn count(&self, operation: Operation, outcome: Outcome, took: Duration) {
        self.calls.get_or_create(&self.labels(operation, Some(outcome))).inc();
        self.durations.get_or_create(&self.labels(operation, None)).observe(took.as_secs_f64());
    }

    fn labels(&self, operation: Operation, outcome: Option<Outcome>) -> Labels {
        let account = self.account.label().map(|name| ("account", name.to_owned()));
        let outcome = outcome.map(|it| ("outcome", it.as_str().to_owned()));
        let operation = ("operation", operation.as_str().to_owned());
        [Some(operation), outcome, account].into_iter().flatten().collect()
    }

    /// How many calls of the account ended so.
    #[must_use]
    pub fn calls(&self, operation: Operation, outcome: Outcome) -> u64 {
        let labels = self.labels(operation, Some(outcome));
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
