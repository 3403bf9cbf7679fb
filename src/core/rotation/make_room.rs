//! Step 3: delete one victim for each slot that is needed.

use std::time::Duration;
use std::vec;

use super::delete::{Purpose, Removal};
use super::{Action, End, LEAST_TIME, Next, Remark, Rotation, State};
use crate::moment::Moment;
use crate::plan::Deletion;
use crate::plan::forecast::once_failed;
use crate::polling;

/// What is left of the step.
#[derive(Debug)]
pub(super) struct MakingRoom {
    victims: vec::IntoIter<Deletion>,
    /// Slots that are still needed.
    needed: u32,
}

impl Rotation {
    pub(super) fn make_room(&mut self, victims: Vec<Deletion>, now: Moment) -> Next {
        let needed = u32::try_from(victims.len()).unwrap_or(u32::MAX);
        self.take_a_victim(MakingRoom { victims: victims.into_iter(), needed }, now)
    }

    fn take_a_victim(&mut self, mut room: MakingRoom, now: Moment) -> Next {
        match room.victims.next() {
            Some(victim) => self.delete(victim, Purpose::MakeRoom(room)),
            None => self.room_was_made(&room, now),
        }
    }

    /// If a victim could not be deleted, the plan may choose another.
    fn room_was_made(&mut self, room: &MakingRoom, now: Moment) -> Next {
        self.progress.victims_left = Some(room.needed);
        self.ledger.lap("make_room", now);
        self.look_for_the_next_step()
    }

    pub(super) fn victim_was_asked_for(
        &mut self,
        mut room: MakingRoom,
        name: &str,
        removal: Removal,
        now: Moment,
    ) -> Next {
        match removal {
            Removal::Gone => room.needed = room.needed.saturating_sub(1),
            Removal::Pinned => {}
            Removal::Refused(error) => {
                self.stuck.push(format!("{name} could not be deleted: {}", error.cause()));
            }
            Removal::Stale | Removal::Postponed => return self.room_was_made(&room, now),
            // It may be gone. Another victim could be one too many.
            Removal::Unknown(error) => return self.give_up(error, now),
        }
        self.take_a_victim(room, now)
    }

    /// A failed snapshot holds the slot, and a later listing must agree that it has failed. Waits for that
    /// unless the next tick comes sooner.
    pub(super) fn await_failed(&mut self, wait: Duration, now: Moment) -> Next {
        if self.ledger.undisturbed(now).is_none_or(|undisturbed| wait > undisturbed) {
            let end = End::failed(format!(
                "all slots are taken, and one snapshot is listed as failed. It is deleted {}, and the next tick comes \
                 first",
                once_failed()
            ));
            return self.give_up(end, now);
        }
        self.ledger.allow(wait.saturating_add(LEAST_TIME), now);
        self.remarks.push(Remark::AwaitsFailed(wait));
        self.enter(State::Pausing, Action::Wait(wait))
    }

    /// A deleted snapshot is still listed.
    pub(super) fn await_room(&mut self, now: Moment) -> Next {
        let since = *self.tries.room_awaited_since.get_or_insert(now.uptime);
        let passed = now.uptime.saturating_sub(since);
        if passed > self.limits.settle {
            let end = End::failed("what was deleted to make room is still listed");
            return self.give_up(end, now);
        }
        self.enter(State::Pausing, Action::Wait(polling::settling(passed)))
    }
}
