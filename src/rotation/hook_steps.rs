//! The hooks around a create: whatever was quiesced is woken again.

use crate::naming::SnapshotId;
use crate::plan::Creation;
use crate::provider::outcome::CallError;
use crate::ring::Ring;
use crate::rotation::hooks::Invocation;
use crate::rotation::{End, LEAST_TIME, Rotation};

impl Rotation<'_> {
    /// Runs `before`, once a rotation.
    pub(super) async fn run_before_hook(&mut self, creation: &Creation) -> Result<(), End> {
        let Some(hooks) = self.server.hooks.as_ref().filter(|hooks| !hooks.before.is_empty())
        else {
            return Ok(());
        };
        if self.before_hook_started {
            return Ok(());
        }
        if self.scope.shutdown.is_cancelled() {
            return Err(CallError::Interrupted.into());
        }
        self.before_hook_started = true;
        let invocation = Invocation {
            moment: "before",
            argv: hooks.before.clone(),
            variables: self.hook_variables(creation.name()),
            timeout: hooks.timeout,
        };
        let done = tokio::select! {
            biased;
            done = self.surroundings.hooks.run(invocation) => done,
            () = self.scope.shutdown.cancelled() => return Err(CallError::Interrupted.into()),
        };
        self.lap("before_hook");
        // A hook has its own time; what it took is not the calls'.
        self.allow(LEAST_TIME);
        done.map_err(|error| End::failed(error.to_string()))
    }

    /// Runs `after`, if it is owed.
    pub(super) async fn run_after_hook(
        &mut self,
        waited: &Result<(SnapshotId, Ring), End>,
    ) -> Result<(), End> {
        let Some(hooks) = self.server.hooks.as_ref().filter(|hooks| !hooks.after.is_empty()) else {
            return Ok(());
        };
        // Without a `before` there is nothing to undo, but something to do: after each snapshot.
        let due =
            if hooks.before.is_empty() { self.created.is_some() } else { self.before_hook_started };
        if !due {
            return Ok(());
        }
        let name = self.server.policy.prefix.name(self.assignment.tick);
        let mut variables = self.hook_variables(&name);
        let result = if waited.is_ok() { "completed" } else { "failed" };
        variables.push(("SNAPRING_RESULT", result.to_owned()));
        let invocation = Invocation {
            moment: "after",
            argv: hooks.after.clone(),
            variables,
            timeout: hooks.timeout,
        };
        let done = self.surroundings.hooks.run(invocation).await;
        self.lap("after_hook");
        done.map_err(|error| {
            // Said at once: a server that sleeps on is worse than a rotation that failed.
            tracing::error!(
                event = "hook",
                server_id = self.server.id.0,
                server = self.server.name.as_str(),
                tick = %self.assignment.tick,
                "{}: {error}",
                self.server.name
            );
            End::failed(error.to_string())
        })
    }

    fn hook_variables(&self, snapshot: &str) -> Vec<(&'static str, String)> {
        vec![
            ("SNAPRING_SERVER_ID", self.server.id.to_string()),
            ("SNAPRING_SERVER", self.server.name.clone()),
            ("SNAPRING_TICK", self.assignment.tick.to_string()),
            ("SNAPRING_SNAPSHOT", snapshot.to_owned()),
        ]
    }
}
