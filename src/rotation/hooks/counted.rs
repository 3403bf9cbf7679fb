//! Counts hooks by how they end.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::naming::ServerId;
use crate::rotation::hooks::{HookRunner, Invocation, Running};
use crate::status::counts::{Counts, HookOutcome};

/// Another runner, counted.
pub(crate) struct Counted {
    runner: Arc<dyn HookRunner>,
    counts: Counts,
}

/// Counts when it is dropped: also where the waiting ends before the hook.
struct End<'a> {
    counts: &'a Counts,
    moment: &'static str,
    outcome: HookOutcome,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.counts.hook_ended(self.moment, self.outcome);
    }
}

impl Counted {
    pub(crate) fn new(runner: Arc<dyn HookRunner>, counts: Counts) -> Self {
        Self { runner, counts }
    }
}

impl HookRunner for Counted {
    fn run(&self, invocation: Invocation) -> Running<'_> {
        let Invocation { moment, .. } = invocation;
        Box::pin(async move {
            let mut end = End { counts: &self.counts, moment, outcome: HookOutcome::Interrupted };
            let done = self.runner.run(invocation).await;
            end.outcome = if done.is_ok() { HookOutcome::Ok } else { HookOutcome::Failed };
            done
        })
    }

    fn end_left_behind(&self, server: ServerId, snapshot: &str) -> BoxFuture<'_, ()> {
        self.runner.end_left_behind(server, snapshot)
    }
}
