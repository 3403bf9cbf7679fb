//! One deletion, in step 3 or 6.

use super::list::LookFor;
use super::make_room::MakingRoom;
use super::{Action, End, Next, Pruning, Rotation, State};
use crate::call::{CallError, Outcome};
use crate::completion::Sharing;
use crate::moment::Moment;
use crate::plan::Deletion;
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
    /// Not sent: the listing was too old.
    Stale,
    /// Not sent: the snapshot was pinned after the rotation started.
    Pinned,
    /// The provider refused. The snapshot still exists.
    Refused(CallError),
    /// It may still exist.
    Unknown(CallError),
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
            None | Some(Outcome::Unauthorized) => match purpose {
                Purpose::MakeRoom(_) => self.give_up(error, now),
                Purpose::Prune(_) => self.stop_pruning(error, now),
            },
            Some(Outcome::Rejected) => {
                self.removed(&deletion, purpose, Removal::Refused(error), now)
            }
            // It may have been deleted. A listing shows.
            Some(_) => {
                let looking = LookFor::UnansweredDelete(deletion, error, purpose);
                self.look(Sharing::OneAnswer, looking)
            }
        }
    }

    pub(super) fn looked_for_deleted(
        &mut self,
        deletion: Deletion,
        error: CallError,
        purpose: Purpose,
        ring: &Ring,
        now: Moment,
    ) -> Next {
        let is_listed = ring.slots().iter().any(|slot| slot.snapshot.id == deletion.snapshot());
        let removal = if is_listed { Removal::Unknown(error) } else { Removal::Gone };
        self.removed(&deletion, purpose, removal, now)
    }

    /// Whether what earlier rotations have deleted was gone when this one looked.
    pub(super) fn all_deletes_hold(&self) -> Result<(), End> {
        if self.undeleted.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.undeleted.iter().map(|(_, name)| name.as_str()).collect();
        Err(End::failed(format!(
            "the provider said earlier that it had deleted {}, and still lists it",
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
                // Of one that it did not delete before, the provider's word is not enough.
                if !self.undeleted.iter().any(|(id, _)| *id == deletion.snapshot()) {
                    self.deleted.push(deletion.name().to_owned());
                }
            }
            Removal::Stale => {}
            Removal::Pinned | Removal::Refused(_) | Removal::Unknown(_) => {
                self.progress.undeletable.insert(deletion.snapshot());
            }
        }
        match purpose {
            Purpose::MakeRoom(room) => self.victim_was_asked_for(room, removal, now),
            Purpose::Prune(pruning) => self.pruned_one(pruning, deletion.name(), removal, now),
        }
    }
}
