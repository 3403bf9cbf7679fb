//! Step 5: wait until the tick's snapshot is completed.

use std::time::Duration;

use super::list::LookFor;
use super::{End, Left, Next, OwnSnapshot, Rotation};
use crate::call::{CallError, Outcome};
use crate::completion::{Observed, Watch};
use crate::foreign::ForeignText;
use crate::moment::Moment;
use crate::naming::SnapshotId;
use crate::ring::Ring;
use crate::snapshot::Snapshot;

use super::prune::PRUNING_TIME;

/// One wait.
#[derive(Debug)]
pub(super) struct Wait {
    own: SnapshotId,
    name: ForeignText,
    watch: Watch,
    since: Duration,
    /// How long the wait had lasted when the present listing was planned.
    planned_after: Duration,
    /// Why the last listing failed.
    trouble: Option<CallError>,
}

impl Rotation {
    pub(super) fn wait_for(&mut self, snapshot: &Snapshot, now: Moment) -> Next {
        self.own_is(snapshot);
        let timeout = self.server().completion_timeout;
        // Even past the next tick, which is skipped while this rotation waits.
        self.ledger.allow(timeout.saturating_add(PRUNING_TIME), now);
        let (completion_times, settle) = (&self.limits.completion_times, self.limits.settle);
        let watch = if self.created.is_some() {
            let pace = completion_times.pace(Some(self.server().id), self.before_hook_ran);
            Watch::over_a_new_one(pace, timeout, settle)
        } else {
            let pace = completion_times.pace(None, self.before_hook_ran);
            Watch::over_a_found_one(pace, timeout, settle)
        };
        let waiting = Wait {
            own: snapshot.id,
            name: snapshot.name.clone(),
            watch,
            since: now.uptime,
            planned_after: Duration::ZERO,
            trouble: None,
        };
        self.look_for_completion(waiting, now)
    }

    fn look_for_completion(&mut self, mut waiting: Wait, now: Moment) -> Next {
        waiting.planned_after = now.uptime.saturating_sub(waiting.since);
        let undisturbed = self.ledger.undisturbed(now);
        match waiting.watch.next_look(waiting.planned_after, undisturbed) {
            Some(look) => self.look_in(look, LookFor::Completion(waiting)),
            None => {
                let trouble =
                    waiting.trouble.map(|error| format!(" ({error})")).unwrap_or_default();
                let timeout = humantime::format_duration(self.server().completion_timeout);
                let reason =
                    format!("{} was not completed within {timeout}{trouble}", waiting.name);
                self.stop_waiting(End::failed(reason), now)
            }
        }
    }

    pub(super) fn could_not_look_for_completion(
        &mut self,
        mut waiting: Wait,
        error: CallError,
        now: Moment,
    ) -> Next {
        if !error.outcome().is_some_and(Outcome::may_pass) {
            return self.stop_waiting(error, now);
        }
        // A failed listing does not stop the snapshot. Look again later.
        waiting.watch.saw_nothing();
        waiting.trouble = Some(error);
        self.look_for_completion(waiting, now)
    }

    pub(super) fn looked_for_completion(
        &mut self,
        mut waiting: Wait,
        ring: Ring,
        now: Moment,
    ) -> Next {
        waiting.trouble = None;
        let asked_after = ring.listing().asked_at.uptime.saturating_sub(waiting.since);
        let row = ring.slots().iter().find(|slot| slot.snapshot.id == waiting.own);
        if let Some(slot) = row
            && slot.snapshot.name != waiting.name
        {
            self.created = None;
            self.ledger.lap("wait", now);
            let came = slot.snapshot.clone();
            return self.strayed(&waiting.name.to_string(), &came, now);
        }
        let status = row.map(|slot| &slot.snapshot.status);
        match waiting.watch.saw(status, waiting.planned_after, asked_after) {
            Observed::Completed => {
                if let Some((in_progress_after, found_after)) = waiting.watch.lesson() {
                    self.limits.completion_times.learn(
                        self.server().id,
                        in_progress_after,
                        found_after,
                    );
                }
                self.ledger.lap("wait", now);
                self.completed(OwnSnapshot { own: waiting.own, ring }, now)
            }
            Observed::Failed => {
                let reason = format!("the provider failed to create {}", waiting.name);
                self.own_has_not_come(Left::Failed {
                    name: waiting.name.to_string(),
                    id: waiting.own,
                });
                self.stop_waiting(End::failed(reason), now)
            }
            Observed::Gone => {
                let reason = format!("{} disappeared from the provider's listing", waiting.name);
                self.own_has_not_come(Left::Vanished { id: waiting.own });
                self.stop_waiting(End::failed(reason), now)
            }
            Observed::NotYet => self.look_for_completion(waiting, now),
        }
    }

    /// What the provider began is not among what this rotation has created.
    fn own_has_not_come(&mut self, left: Left) {
        self.created = None;
        self.own_seen = Some(left);
    }

    fn stop_waiting(&mut self, end: impl Into<End>, now: Moment) -> Next {
        self.ledger.lap("wait", now);
        self.give_up(end, now)
    }
}
