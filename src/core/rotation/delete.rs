//! One deletion, in step 3 or 6.

use std::time::Duration;

use super::list::LookFor;
use super::make_room::MakingRoom;
use super::{Action, End, Next, Pruning, Rotation, State};
use crate::call::{CallError, Outcome};
use crate::completion::{NextLook, Sharing};
use crate::moment::Moment;
use crate::naming::SnapshotId;
use crate::patience::Patience;
use crate::plan::Deletion;
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
                self.progress.memory.deleted(deletion.snapshot(), now);
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
                let delete = UnansweredDelete { deletion, error, again: wait.is_some() };
                let wait = wait.unwrap_or_default();
                let look = NextLook { wait, slack: polling::GATHER, sharing: Sharing::OneAnswer };
                self.look_in(look, LookFor::UnansweredDelete(delete, purpose))
            }
        }
    }

    /// How long to wait before the same delete may be sent again, if the provider put it off and tries and
    /// time are left.
    fn wait_to_delete_again(
        &mut self,
        deletion: &Deletion,
        error: &CallError,
        now: Moment,
    ) -> Option<Duration> {
        let outcome = error.outcome()?;
        if !matches!(outcome, Outcome::Busy | Outcome::Throttled) {
            return None;
        }
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
        let UnansweredDelete { deletion, error, again } = delete;
        let is_listed = ring.lists(deletion.snapshot());
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

    /// Whether what earlier rotations have deleted was gone when this one looked.
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
                // Of one that it did not delete before, the provider's word is not enough.
                if !self.undeleted.iter().any(|(id, _)| *id == deletion.snapshot()) {
                    self.deleted.push(deletion.name().to_owned());
                }
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
