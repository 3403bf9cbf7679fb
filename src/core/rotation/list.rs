//! Steps 1 and 2: list the snapshots, and adopt the one of this tick if it exists.

use std::sync::Arc;
use std::time::Duration;

use super::delete::{Purpose, UnansweredDelete};
use super::{Action, End, LEAST_TIME, Listed, Next, Pruning, Remark, Rotation, State, Wait};
use crate::call::CallError;
use crate::completion::{NextLook, Sharing};
use crate::moment::Moment;
use crate::plan::{self, Step};
use crate::polling;
use crate::ring::Ring;
use crate::snapshot::{Snapshot, Status};

/// What a listing is for.
#[derive(Debug)]
pub(super) enum LookFor {
    /// Creates from before this rotation may have arrived.
    EarlierCreates,
    /// To decide the next step.
    NextStep,
    /// A create that was not answered may have been carried out.
    UnansweredCreate(super::create::Unanswered),
    /// A create was rejected; the ring may be full.
    RejectedCreate(CallError),
    /// A delete that was not answered may have been carried out.
    UnansweredDelete(UnansweredDelete, Purpose),
    /// The new snapshot may be completed.
    Completion(Wait),
    /// The last listing became too old to prune by.
    Pruning(Pruning),
    /// What was deleted may still be listed.
    AllDeleted(Pruning),
}

impl Rotation {
    /// Lists now. To share the listing, it may be up to [`polling::GATHER`] late.
    pub(super) fn look(&mut self, sharing: Sharing, looking: LookFor) -> Next {
        self.look_in(NextLook { wait: Duration::ZERO, slack: polling::GATHER, sharing }, looking)
    }

    pub(super) fn look_in(&mut self, look: NextLook, looking: LookFor) -> Next {
        self.enter(State::Looking(looking), Action::Look(look))
    }

    pub(super) fn looked(
        &mut self,
        looking: LookFor,
        listed: Result<Listed, CallError>,
        now: Moment,
    ) -> Next {
        let Listed { ring, earlier_creates_settled_at } = match listed {
            Ok(listed) => listed,
            Err(error) => return self.could_not_look(looking, error, now),
        };
        self.creates_are_settled = earlier_creates_settled_at.is_none()
            && ring.listing().asked_at.uptime >= self.tries.settled_at;
        self.remember(&ring);
        match looking {
            LookFor::EarlierCreates => {
                self.saw_earlier_creates(ring, earlier_creates_settled_at, now)
            }
            LookFor::NextStep => self.consider(ring, now),
            LookFor::UnansweredCreate(create) => self.looked_for_create(create, ring, now),
            LookFor::RejectedCreate(error) => self.create_was_rejected(error, ring, now),
            LookFor::UnansweredDelete(delete, purpose) => {
                self.looked_for_deleted(delete, purpose, ring, now)
            }
            LookFor::Completion(waiting) => self.looked_for_completion(waiting, ring, now),
            LookFor::Pruning(pruning) => self.look_again_and_prune(pruning, ring, now),
            LookFor::AllDeleted(pruning) => self.looked_for_all_deleted(pruning, ring, now),
        }
    }

    /// What the listing shows of earlier deeds. The provider's word that something is deleted is not
    /// believed for ever.
    fn remember(&mut self, ring: &Ring) {
        let memory = &mut self.progress.memory;
        memory.saw(ring);
        for id in memory.take_undeleted(ring, self.limits.settle) {
            let Some(slot) = ring.slots().iter().find(|slot| slot.snapshot.id == id) else {
                continue;
            };
            let name = slot.snapshot.name.to_string();
            self.remarks.push(Remark::NotDeleted(name.clone()));
            if !self.is_undeleted(id) {
                self.undeleted.push((id, name));
            }
        }
    }

    fn could_not_look(&mut self, looking: LookFor, error: CallError, now: Moment) -> Next {
        match looking {
            LookFor::Completion(waiting) => self.could_not_look_for_completion(waiting, error, now),
            LookFor::UnansweredCreate(create) => {
                self.ledger.restore(create.give_up_at);
                self.give_up(error, now)
            }
            LookFor::Pruning(pruning) => self.could_not_look_again(pruning, error, now),
            // The next rotation looks.
            LookFor::AllDeleted(pruning) => self.confirmed(pruning, now),
            LookFor::UnansweredDelete(_, Purpose::Prune(_)) => self.stop_pruning(error, now),
            LookFor::EarlierCreates
            | LookFor::NextStep
            | LookFor::RejectedCreate(_)
            | LookFor::UnansweredDelete(_, Purpose::MakeRoom(_)) => self.give_up(error, now),
        }
    }

    /// While an earlier create of this server may still arrive, a listing is not the whole truth. The
    /// first one is asked for at once: what has already arrived need not be waited for.
    pub(super) fn look_for_earlier_creates(&mut self) -> Next {
        self.look(Sharing::OneAnswer, LookFor::EarlierCreates)
    }

    fn saw_earlier_creates(
        &mut self,
        ring: Ring,
        settled_at: Option<Duration>,
        now: Moment,
    ) -> Next {
        self.ledger.lap("earlier_create", now);
        let Some(settled_at) = settled_at else {
            self.ledger.allow(LEAST_TIME, now);
            return self.consider(ring, now);
        };
        let wait = match settled_at.saturating_sub(now.uptime) {
            // A cache gave a listing from before that moment.
            Duration::ZERO => polling::FIRST,
            wait => wait,
        };
        self.remarks.push(Remark::EarlierCreate(wait));
        self.ledger.allow(wait.saturating_add(LEAST_TIME), now);
        let look = NextLook::in_one_answer(wait);
        self.look_in(look, LookFor::EarlierCreates)
    }

    pub(super) fn look_for_the_next_step(&mut self) -> Next {
        self.look(self.sharing(), LookFor::NextStep)
    }

    /// Which shared listing is good enough before the create. If the tick's snapshot may already exist,
    /// it must not be missed. A server with a before hook asks alone: after a listing for the whole
    /// fleet all servers want to create at once, and this one would stay quiesced while it waits.
    fn sharing(&self) -> Sharing {
        if self.server().hooks.as_ref().is_some_and(|hooks| !hooks.before.is_empty()) {
            Sharing::Alone
        } else if self.tries.sent > 0 || !self.limits.was_listed {
            Sharing::OneAnswer
        } else {
            Sharing::Pages
        }
    }

    /// Asks the plan what comes next, and begins it.
    pub(super) fn consider(&mut self, ring: Ring, now: Moment) -> Next {
        self.ledger.lap("list", now);
        if let Some((snapshot, tick)) = self.unfinished_by_hand(&ring, now.wall) {
            let named = format!("{} ({})", snapshot.name, snapshot.id);
            self.remarks.push(Remark::Continues(named.clone()));
            (self.job.tick, self.continued) = (tick, Some(named));
            return self.adopt(snapshot, ring, now);
        }
        let (tick, asked_by) = (self.job.tick, self.job.asked_by);
        let policy = &self.job.server.policy;
        let step = plan::next_step(&ring, policy, tick, asked_by, &self.progress, now.wall);
        let mut warnings = plan::warnings(&ring, policy, &step, &self.progress.memory, now.wall);
        // In the first rotation with a new prefix. Two snaprings may use one server on purpose, so later
        // ones say it only when they are blocked.
        if ring.newest(policy).is_none() && !matches!(step, Step::Blocked(_)) {
            warnings.append(&mut plan::other_prefix_warnings(&ring));
        }
        for warning in warnings {
            if !self.said.contains(&warning) {
                self.said.push(warning.clone());
                self.remarks.push(Remark::Ring(warning));
            }
        }
        match step {
            Step::Adopt(snapshot) => self.adopt(snapshot, ring, now),
            Step::Skip(skip) => self.give_up(skip, now),
            Step::Blocked(blocked) => {
                let mut reasons = vec![blocked.to_string()];
                reasons.append(&mut self.stuck);
                self.give_up(End::Blocked(reasons.join("; ")), now)
            }
            Step::MakeRoom(victims) => self.make_room(victims, now),
            Step::AwaitRoom => self.await_room(now),
            Step::AwaitFailed(wait) => self.await_failed(wait, now),
            Step::Create(creation) => {
                let name = creation.name().to_owned();
                let description = Arc::clone(&self.job.server.description);
                self.progress.memory.creates(tick, asked_by, &ring, &description);
                self.enter(State::Recording(creation, ring), Action::RecordCreate(name))
            }
        }
    }

    /// Step 2.
    fn adopt(&mut self, snapshot: Snapshot, ring: Ring, now: Moment) -> Next {
        // Its create was answered with an error, but was carried out.
        if self.tries.sent > 0 {
            self.has_created(&snapshot, now);
        }
        if snapshot.status == Status::Completed {
            self.completed(super::OwnSnapshot { own: snapshot.id, ring }, now)
        } else {
            self.wait_for(&snapshot, now)
        }
    }

    /// The tick's snapshot, if the ring shows it.
    pub(super) fn own(&self, ring: &Ring) -> Option<Snapshot> {
        ring.for_tick(self.job.tick, &self.job.server.policy).cloned()
    }
}
