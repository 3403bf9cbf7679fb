//! One deletion, in step 3 or 6.

use std::collections::BTreeSet;
use std::time::Duration;

use super::list::LookFor;
use super::make_room::MakingRoom;
use super::{Action, End, Next, Pruning, Remark, Rotation, State};
use crate::call::{CallError, Outcome};
use crate::completion::NextLook;
use crate::moment::Moment;
use crate::naming::SnapshotId;
use crate::patience::Patience;
use crate::plan::{AskedBy, Deletion};
use crate::polling;
use crate::ring::Ring;

/// What a deletion is for.
#[derive(Debug)]
pub(super) enum Purpose {
    MakeRoom(MakingRoom),
    Prune(Pruning),
}

/// The result of one deletion.
#[derive(Debug)]
pub(super) enum Removal {
    /// The snapshot is gone.
    Gone,
    /// It still exists, and may be deleted on the strength of a new listing: the listing was too old, or
    /// the provider asked to try again later.
    Stale,
    /// Put off, and still listed: it may be asked for again.
    Postponed,
    /// Not sent: the snapshot was pinned after the rotation started.
    Pinned,
    /// The provider refused. The snapshot still exists.
    Refused(CallError),
    /// It may still exist.
    Unknown(CallError),
}

/// A delete that may have been carried out.
#[derive(Debug)]
pub(super) struct UnansweredDelete {
    deletion: Deletion,
    error: CallError,
    /// If it is still listed, it is asked for again.
    again: bool,
    /// Since when it is looked for.
    since: Duration,
}

/// A snapshot that the provider did not delete for now.
#[derive(Debug)]
pub(super) struct Postponed {
    snapshot: SnapshotId,
    patience: Patience,
}

impl Rotation {
    pub(super) fn delete(&mut self, deletion: Deletion, purpose: Purpose) -> Next {
        let action = Action::Delete(deletion.clone());
        self.enter(State::Deleting(deletion, purpose), action)
    }

    pub(super) fn delete_was_answered(
        &mut self,
        deletion: Deletion,
        purpose: Purpose,
        answer: Result<(), CallError>,
        now: Moment,
    ) -> Next {
        let error = match answer {
            Ok(()) => {
                // The next listing of the server checks it.
                self.progress.memory.deleted(deletion.snapshot(), deletion.name(), now);
                return self.removed(&deletion, purpose, Removal::Gone, now);
            }
            Err(CallError::Stale(_)) => {
                return self.removed(&deletion, purpose, Removal::Stale, now);
            }
            Err(CallError::Pinned) => {
                return self.removed(&deletion, purpose, Removal::Pinned, now);
            }
            Err(error) => error,
        };
        match error.outcome() {
            // No further call would succeed.
            None | Some(Outcome::Unauthorized | Outcome::Forbidden) => match purpose {
                Purpose::MakeRoom(_) => self.give_up(error, now),
                Purpose::Prune(_) => self.stop_pruning(error, now),
            },
            // A redirect says nothing of what was done before it.
            Some(Outcome::Rejected) if !error.is_redirect() => {
                self.removed(&deletion, purpose, Removal::Refused(error), now)
            }
            // It may have been deleted. A listing shows.
            Some(_) => {
                let wait = self.wait_to_delete_again(&deletion, &error, now);
                let (again, since) = (wait.is_some(), now.uptime);
                let delete = UnansweredDelete { deletion, error, again, since };
                self.look_for_deleted(delete, purpose, wait.unwrap_or_default())
            }
        }
    }

    fn look_for_deleted(
        &mut self,
        delete: UnansweredDelete,
        purpose: Purpose,
        wait: Duration,
    ) -> Next {
        let look = NextLook::in_one_answer(wait);
        self.look_in(look, LookFor::UnansweredDelete(delete, purpose))
    }

    /// How long to wait before the same delete may be sent again, if the provider put it off and tries and
    /// time are left.
    fn wait_to_delete_again(
        &mut self,
        deletion: &Deletion,
        error: &CallError,
        now: Moment,
    ) -> Option<Duration> {
        let outcome = error.outcome().filter(|_| error.is_put_off())?;
        let snapshot = deletion.snapshot();
        let postponed = match self.postponed.take() {
            Some(postponed) if postponed.snapshot == snapshot => postponed,
            _ => Postponed { snapshot, patience: Patience::default() },
        };
        let patience = &mut self.postponed.insert(postponed).patience;
        let asked = error.retry_after().unwrap_or_default();
        let wait = self.limits.backoff.next().unwrap_or_default().max(asked);
        let allowed = patience.allows(outcome, self.limits.retries, wait, now.uptime);
        (allowed && self.ledger.has_time_for(wait, now)).then_some(wait)
    }

    pub(super) fn looked_for_deleted(
        &mut self,
        delete: UnansweredDelete,
        mut purpose: Purpose,
        ring: Ring,
        now: Moment,
    ) -> Next {
        let is_listed = ring.lists(delete.deletion.snapshot());
        let passed = now.uptime.saturating_sub(delete.since);
        let wait = polling::settling(passed);
        // The provider may carry it out a moment after its answer.
        if is_listed
            && !delete.error.is_put_off()
            && passed < self.limits.settle
            && self.ledger.has_time_for(wait, now)
        {
            return self.look_for_deleted(delete, purpose, wait);
        }
        let UnansweredDelete { deletion, error, again, .. } = delete;
        if let Purpose::Prune(pruning) = &mut purpose {
            // What follows rests on this listing.
            pruning.rests_on(ring);
        }
        let removal = match (is_listed, again) {
            (false, _) => Removal::Gone,
            (true, true) => Removal::Postponed,
            (true, false) => Removal::Unknown(error),
        };
        self.removed(&deletion, purpose, removal, now)
    }

    /// What is reported as deleted. Of a snapshot that is listed although the provider has confirmed its
    /// deletion, the provider's word is not enough.
    pub(super) fn take_deleted(&mut self) -> (Vec<String>, BTreeSet<SnapshotId>) {
        let named = std::mem::take(&mut self.deleted);
        let mut ids = std::mem::take(&mut self.progress.deleted);
        let named = named.into_iter().filter(|(id, _)| !self.is_undeleted(*id));
        ids.retain(|id| !self.is_undeleted(*id));
        (named.map(|(_, name)| name).collect(), ids)
    }

    /// Whether it is still listed, although the provider has confirmed its deletion.
    pub(super) fn is_undeleted(&self, snapshot: SnapshotId) -> bool {
        self.undeleted.iter().any(|(id, _)| *id == snapshot)
    }

    /// A person reads what was deleted right after the rotation: it is looked for first. Gives how long to
    /// wait before the next look, if something may still be listed.
    pub(super) fn unconfirmed_for(&mut self, now: Moment) -> Option<Duration> {
        if self.job.asked_by != AskedBy::Person || self.deleted.is_empty() {
            return None;
        }
        let Some(since) = self.confirming_since else {
            self.confirming_since = Some(now.uptime);
            return Some(Duration::ZERO);
        };
        let passed = now.uptime.saturating_sub(since);
        (passed <= self.limits.settle).then(|| polling::settling(passed))
    }

    /// A look after all deletes. What it still shows after `settle` was not deleted.
    pub(super) fn looked_for_all_deleted(
        &mut self,
        mut pruning: Pruning,
        ring: Ring,
        now: Moment,
    ) -> Next {
        self.undeleted.retain(|(id, _)| ring.lists(*id));
        let listed: Vec<_> =
            self.deleted.iter().filter(|(id, _)| ring.lists(*id)).cloned().collect();
        pruning.rests_on(ring);
        if listed.is_empty() {
            return self.confirmed(pruning, now);
        }
        if let Some(wait) = self.unconfirmed_for(now) {
            return self.look_for_all_deleted(pruning, wait);
        }
        for (id, name) in listed {
            if !self.is_undeleted(id) {
                self.remarks.push(Remark::NotDeleted(name.clone()));
                self.undeleted.push((id, name));
            }
        }
        self.confirmed(pruning, now)
    }

    /// Whether what the provider has said to be deleted was gone when this rotation looked.
    pub(super) fn all_deletes_hold(&self) -> Result<(), End> {
        if self.undeleted.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.undeleted.iter().map(|(_, name)| name.as_str()).collect();
        Err(End::failed(format!(
            "the provider confirmed the deletion of {} but still lists it; the next rotation tries again",
            names.join(", ")
        )))
    }

    fn removed(
        &mut self,
        deletion: &Deletion,
        purpose: Purpose,
        removal: Removal,
        now: Moment,
    ) -> Next {
        match removal {
            Removal::Gone => {
                self.progress.deleted.insert(deletion.snapshot());
                if matches!(purpose, Purpose::MakeRoom(_)) && deletion.why().costs_a_restore_point()
                {
                    self.progress.memory.gave_up(deletion.snapshot());
                }
                self.deleted.push((deletion.snapshot(), deletion.name().to_owned()));
            }
            Removal::Stale | Removal::Postponed => {}
            Removal::Pinned | Removal::Refused(_) | Removal::Unknown(_) => {
                self.progress.undeletable.insert(deletion.snapshot());
            }
        }
        match purpose {
            Purpose::MakeRoom(room) => {
                self.victim_was_asked_for(room, deletion.name(), removal, now)
            }
            Purpose::Prune(pruning) => self.pruned_one(pruning, deletion.name(), removal, now),
        }
    }
}
