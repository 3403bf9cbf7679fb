//! One event for each call, and one count: the only place that tells what the provider answered.

use std::time::Duration;

use crate::call::{Operation, Outcome, cause};
use crate::clock::Clock;
use crate::naming::{ServerId, SnapshotId, Tick};
use crate::provider::metrics::CallMetrics;
use crate::telemetry::logs_calls_at_debug;

/// What a call is about, for its event.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallSubject {
    /// Of which server.
    pub server_id: Option<ServerId>,
    /// Its name in the configuration.
    pub server: Option<String>,
    /// Which snapshot, once known.
    pub snapshot_id: Option<SnapshotId>,
    /// The snapshot's name.
    pub snapshot: Option<String>,
    /// For which tick.
    pub tick: Option<Tick>,
}

/// A call under way. Whatever becomes of it, one event comes of it: the end that it is told, or,
/// when it is dropped before that, that it was abandoned.
pub(crate) struct CallEvent<'a> {
    operation: Operation,
    subject: CallSubject,
    attempt: u32,
    begun: Duration,
    clock: &'a Clock,
    metrics: &'a CallMetrics,
    told: bool,
}

impl<'a> CallEvent<'a> {
    pub(crate) fn begin(
        operation: Operation,
        subject: CallSubject,
        attempt: u32,
        clock: &'a Clock,
        metrics: &'a CallMetrics,
    ) -> Self {
        let begun = clock.now().uptime;
        Self { operation, subject, attempt, begun, clock, metrics, told: false }
    }

    /// The provider gave the snapshot its number only now.
    pub(crate) fn name_snapshot(&mut self, id: SnapshotId) {
        self.subject.snapshot_id = Some(id);
    }

    pub(crate) fn end(mut self, outcome: Outcome, status: Option<u16>, words: &str) {
        self.tell(outcome, status, words);
    }

    /// Readable by itself: `words` are the provider's, and empty when all is well.
    fn sentence(&self, outcome: Outcome, status: Option<u16>, words: &str) -> String {
        let CallSubject { server_id, server, snapshot_id, snapshot, .. } = &self.subject;
        let mut sentence = match (server, server_id) {
            (Some(server), _) => format!("{server}: "),
            (None, Some(id)) => format!("server {id}: "),
            (None, None) => String::new(),
        };
        let snapshot = match (snapshot, snapshot_id) {
            (Some(name), _) => format!(" {name}"),
            (None, Some(id)) => format!(" snapshot {id}"),
            (None, None) => String::new(),
        };
        let attempt = match self.attempt {
            0 | 1 => String::new(),
            attempt => format!(", attempt {attempt}"),
        };
        sentence.push_str(&format!("{}{snapshot}{attempt}: ", self.operation.as_str()));
        sentence.push_str(&match outcome {
            Outcome::Ok => "ok".to_owned(),
            _ => cause(outcome, status, words),
        });
        sentence
    }

    fn tell(&mut self, outcome: Outcome, status: Option<u16>, words: &str) {
        self.told = true;
        let message = self.sentence(outcome, status, words);
        let duration = self.clock.now().uptime.saturating_sub(self.begun);
        self.metrics.count(self.operation, outcome, duration);
        let CallSubject { server_id, server, snapshot_id, snapshot, tick } = &self.subject;
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    event = "api",
                    operation = self.operation.as_str(),
                    outcome = outcome.as_str(),
                    status,
                    server_id = server_id.map(|id| id.number),
                    account = self.metrics.account().label(),
                    server = server.as_deref(),
                    snapshot_id = snapshot_id.map(|id| id.0),
                    snapshot = snapshot.as_deref(),
                    tick = tick.map(tracing::field::display),
                    attempt = self.attempt,
                    duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
                    "{message}"
                )
            };
        }
        let expected = outcome == Outcome::Ok
            || (outcome == Outcome::NotFound && self.operation == Operation::Delete);
        match expected {
            true if logs_calls_at_debug() => event!(debug),
            true => event!(info),
            false => event!(warn),
        }
    }
}

impl Drop for CallEvent<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Outcome::Transport, None, "cancelled before the answer came");
        }
    }
}
