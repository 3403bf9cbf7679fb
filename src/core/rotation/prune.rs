//! Step 6: delete what retention drops. If one cannot be deleted, the others still are.

use std::time::Duration;

use super::delete::{Purpose, Removal};
use super::list::LookFor;
use super::{End, Next, OwnSnapshot, Remark, Rotation};
use crate::call::CallError;
use crate::completion::{NextLook, Sharing};
use crate::moment::Moment;
use crate::plan::{self, AskedBy};
use crate::ring::Ring;

/// Pruning may take at least this long, even if the next rotation starts sooner.
pub(super) const PRUNING_TIME: Duration = Duration::from_mins(10);

/// What is left of the step.
#[derive(Debug)]
pub(super) struct Pruning {
    made: OwnSnapshot,
    /// The result of the after hook. Reported if pruning succeeds.
    awake: Result<(), End>,
    /// Nothing is left but snapshots that only one listing has shown as failed: another one was waited for.
    waits_for_failed: bool,
}

impl Pruning {
    /// A later listing.
    pub(super) fn rests_on(&mut self, ring: Ring) {
        self.made.ring = ring;
    }
}

impl Rotation {
    pub(super) fn prune(&mut self, made: OwnSnapshot, awake: Result<(), End>, now: Moment) -> Next {
        self.ledger.allow(PRUNING_TIME, now);
        let pruning = Pruning { made, awake, waits_for_failed: false };
        self.prune_the_next(pruning, now)
    }

    fn prune_the_next(&mut self, mut pruning: Pruning, now: Moment) -> Next {
        let OwnSnapshot { own, ring } = &pruning.made;
        if !plan::has_own(ring, *own) {
            let reason =
                "the new snapshot is not listed as completed any more; nothing more was deleted";
            return self.stop_pruning(End::failed(reason), now);
        }
        let doomed = plan::prune(ring, &self.server().policy, *own, &self.progress)
            .into_iter()
            .find(|doomed| !self.progress.undeletable.contains(&doomed.snapshot()));
        if let Some(doomed) = doomed {
            return self.delete(doomed, Purpose::Prune(pruning));
        }
        let wait = plan::failed_perhaps(ring, &self.progress);
        // A person does not wait five minutes for it.
        if let Some(wait) = wait.filter(|_| !pruning.waits_for_failed)
            && self.job.asked_by == AskedBy::Schedule
            && self.ledger.undisturbed(now).is_some_and(|undisturbed| wait < undisturbed)
        {
            pruning.waits_for_failed = true;
            self.ledger.allow(wait.saturating_add(PRUNING_TIME), now);
            self.remarks.push(Remark::AwaitsFailed(wait));
            let look = NextLook::in_one_answer(wait);
            return self.look_in(look, LookFor::Pruning(pruning));
        }
        self.all_pruned(pruning, now)
    }

    /// Without the listing nothing more can be pruned. If only failed snapshots are left, the next rotation
    /// sees to them.
    pub(super) fn could_not_look_again(
        &mut self,
        pruning: Pruning,
        error: CallError,
        now: Moment,
    ) -> Next {
        if pruning.waits_for_failed {
            return self.all_pruned(pruning, now);
        }
        self.stop_pruning(error, now)
    }

    fn all_pruned(&mut self, pruning: Pruning, now: Moment) -> Next {
        match self.unconfirmed_for(now) {
            Some(wait) => self.look_for_all_deleted(pruning, wait),
            None => self.confirmed(pruning, now),
        }
    }

    pub(super) fn look_for_all_deleted(&mut self, pruning: Pruning, wait: Duration) -> Next {
        let look = NextLook::in_one_answer(wait);
        self.look_in(look, LookFor::AllDeleted(pruning))
    }

    /// As far as can be known now, what was to be deleted is gone.
    pub(super) fn confirmed(&mut self, pruning: Pruning, now: Moment) -> Next {
        self.ledger.lap("prune", now);
        let stuck = std::mem::take(&mut self.stuck);
        let pruned = if stuck.is_empty() { Ok(()) } else { Err(End::failed(stuck.join("; "))) };
        self.end(pruned.and(pruning.awake), now)
    }

    pub(super) fn pruned_one(
        &mut self,
        pruning: Pruning,
        name: &str,
        removal: Removal,
        now: Moment,
    ) -> Next {
        match removal {
            Removal::Gone | Removal::Pinned | Removal::Postponed => {}
            Removal::Stale => return self.look(Sharing::OneAnswer, LookFor::Pruning(pruning)),
            Removal::Refused(error) | Removal::Unknown(error) => {
                self.stuck.push(format!("{name} could not be deleted: {}", error.cause()));
            }
        }
        self.prune_the_next(pruning, now)
    }

    pub(super) fn look_again_and_prune(
        &mut self,
        mut pruning: Pruning,
        ring: Ring,
        now: Moment,
    ) -> Next {
        pruning.rests_on(ring);
        self.prune_the_next(pruning, now)
    }

    pub(super) fn stop_pruning(&mut self, end: impl Into<End>, now: Moment) -> Next {
        self.ledger.lap("prune", now);
        self.end(Err(end.into()), now)
    }
}
