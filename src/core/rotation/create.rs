//! Step 4: the create. One without a clear answer is looked for before it is sent again.

use std::time::Duration;

use super::list::LookFor;
use super::{Action, End, LEAST_TIME, Next, Remark, Rotation, State};
use crate::answer::Verdict;
use crate::call::{CallError, Failure, Operation, Outcome};
use crate::completion::{NextLook, Sharing};
use crate::foreign::ForeignText;
use crate::moment::Moment;
use crate::plan::Creation;
use crate::polling;
use crate::ring::Ring;
use crate::snapshot::Snapshot;

/// How long a create may take to appear in a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateSpans {
    /// After the provider carried it out.
    pub settle: Duration,
    /// After the request was given up, or after its process ended.
    pub shows_up_within: Duration,
}

impl CreateSpans {
    /// How long after this answer a listing shows whether the create was carried out.
    #[must_use]
    pub fn settled_in(self, answer: &Result<Snapshot, CallError>) -> Duration {
        let Err(error) = answer else { return self.settle };
        match (error.outcome(), error.verdict()) {
            (None | Some(Outcome::Unauthorized | Outcome::Forbidden | Outcome::NotFound), _)
            | (Some(Outcome::Transport), Verdict::NotDone) => Duration::ZERO,
            (Some(Outcome::Transport), _) => self.shows_up_within,
            // A rejected one too: a proxy may have turned the answer into a redirect, say.
            (Some(_), _) => self.settle,
        }
    }
}

/// A create that may have been carried out, or may still arrive.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// What existed before it.
    before: Ring,
    /// How it failed.
    error: CallError,
    /// Since when the rotation has looked for it.
    since: Duration,
    /// Until when calls may be retried once it is settled.
    pub(super) give_up_at: Duration,
}

impl Rotation {
    pub(super) fn send_create(&mut self, creation: Creation, before: Ring) -> Next {
        // Until a further listing shows it.
        self.creates_are_settled = false;
        let attempt = self.tries.sent + 1;
        let action = Action::Create { creation: creation.clone(), attempt };
        self.enter(State::Creating(creation, before), action)
    }

    pub(super) fn create_was_answered(
        &mut self,
        creation: Creation,
        before: Ring,
        answer: Result<Snapshot, CallError>,
        now: Moment,
    ) -> Next {
        let error = match answer {
            Ok(other) if other.name != creation.name() => {
                self.came_under_another_name(&creation, &before, &other)
            }
            Ok(snapshot) => {
                // Whatever else has appeared is not this rotation's.
                self.progress.memory.creates_are_settled();
                return self.made(&snapshot, now);
            }
            Err(error) => error,
        };
        // 400 is the documented way to say no. Who says it otherwise may have let the create pass.
        let is_odd = error.outcome() == Some(Outcome::Rejected)
            && error.status().is_some_and(|status| status != 400);
        self.tries.is_open |= error.verdict() == Verdict::Unknown || is_odd;
        if !self.tries.is_open {
            // A snapshot that appears from now on was not created by this rotation.
            self.progress.memory.creates_are_settled();
        }
        if matches!(error, CallError::Stale(_)) {
            // Nothing was sent.
            return self.look_for_the_next_step();
        }
        self.ledger.lap("create", now);
        self.tries.sent += 1;
        self.progress.has_asked = true;
        match (error.outcome(), error.verdict()) {
            (_, Verdict::Unknown) => self.look_for_unanswered_create(&creation, before, error, now),
            // The answer does not say whether the ring was full.
            (Some(Outcome::Rejected), _) => {
                self.look(Sharing::Alone, LookFor::RejectedCreate(error))
            }
            // There was no connection.
            (Some(Outcome::Transport), _) => self.back_off(error, now.uptime, now),
            _ => self.give_up(error, now),
        }
    }

    /// The answer is about a snapshot of another name. Either the provider has changed the name, or the
    /// answer belongs to another request: only a listing shows.
    fn came_under_another_name(
        &mut self,
        creation: &Creation,
        before: &Ring,
        other: &Snapshot,
    ) -> CallError {
        if !before.lists(other.id) {
            self.progress.memory.strayed(other.id);
        }
        let asked = creation.name();
        let message =
            format!("{asked} was requested, but the answer is about {} ({})", other.name, other.id);
        let (operation, outcome) = (Operation::Create, Outcome::Malformed);
        Failure {
            operation,
            outcome,
            status: None,
            message,
            token_place: None,
            retry_after: None,
            was_sent: true,
        }
        .into()
    }

    /// Looks for its name until it appears, or until a listing was requested so late that it would
    /// have appeared.
    fn look_for_unanswered_create(
        &mut self,
        creation: &Creation,
        before: Ring,
        error: CallError,
        now: Moment,
    ) -> Next {
        let snapshot = creation.name().to_owned();
        let give_up_at = self.ledger.give_up_at();
        // Even if the next rotation starts sooner: it would have to wait for the same.
        let span = self.tries.settled_at.saturating_sub(now.uptime);
        self.remarks.push(Remark::MayExist { snapshot, error: error.clone(), within: span });
        self.ledger.allow(span.saturating_add(LEAST_TIME), now);
        self.look_for_it_again(Unanswered { before, error, since: now.uptime, give_up_at }, now)
    }

    fn look_for_it_again(&mut self, create: Unanswered, now: Moment) -> Next {
        let wait = polling::until_settled(create.since, self.tries.settled_at, now.uptime);
        let look = NextLook::in_one_answer(wait);
        self.look_in(look, LookFor::UnansweredCreate(create))
    }

    pub(super) fn looked_for_create(
        &mut self,
        create: Unanswered,
        ring: Ring,
        now: Moment,
    ) -> Next {
        let found = self.own(&ring);
        let is_settled = ring.listing().asked_at.uptime >= self.tries.settled_at;
        if found.is_none() && !is_settled {
            return self.look_for_it_again(create, now);
        }
        self.ledger.restore(create.give_up_at);
        if let Some(found) = found {
            return self.made(&found, now);
        }
        match newcomer(&create.before, &ring) {
            // If the provider had changed the name, each further attempt would create one more.
            Some(newcomer) => {
                let end = End::failed(format!(
                    "{}; {newcomer} has appeared and may be the requested snapshot, so it is not \
                         requested again",
                    create.error
                ));
                self.give_up(end, now)
            }
            None => self.back_off(create.error, create.since, now),
        }
    }

    pub(super) fn create_was_rejected(
        &mut self,
        error: CallError,
        ring: Ring,
        now: Moment,
    ) -> Next {
        if self.own(&ring).is_none() {
            let is_full = ring.taken() >= self.server().policy.cap;
            if !is_full || self.tries.room_was_made_again {
                return self.give_up(error, now);
            }
            self.tries.room_was_made_again = true;
            self.progress.victims_left = None;
        }
        self.consider(ring, now)
    }

    /// Waits, then lists and tries again, unless tries or time are used up. The create was answered at
    /// `since`, and the provider may have asked to wait from then on.
    fn back_off(&mut self, error: CallError, since: Duration, now: Moment) -> Next {
        let asked = error.retry_after().unwrap_or_default();
        let asked = asked.saturating_sub(now.uptime.saturating_sub(since));
        let wait = self.limits.backoff.next().unwrap_or_default().max(asked);
        let retries = self.limits.retries;
        let allows = |outcome| self.tries.patience.allows(outcome, retries, wait, now.uptime);
        if !error.outcome().is_some_and(allows) || !self.ledger.has_time_for(wait, now) {
            return self.give_up(error, now);
        }
        self.enter(State::Pausing, Action::Wait(wait))
    }

    fn made(&mut self, snapshot: &Snapshot, now: Moment) -> Next {
        self.has_created(snapshot, now);
        self.wait_for(snapshot, now)
    }

    /// The provider made something else than what it was asked for. It is foreign by its name, and is
    /// never deleted; but no further restore point is given up for one more of its kind.
    pub(super) fn strayed(&mut self, asked_for: &str, came: &Snapshot, now: Moment) -> Next {
        self.progress.memory.creates_are_settled();
        self.progress.memory.strayed(came.id);
        self.give_up(
            End::failed(format!(
                "{asked_for} was requested, but the provider created {} ({}): it counts as foreign, and \
                 snapring does not delete it",
                came.name, came.id
            )),
            now,
        )
    }

    /// Notes that this rotation created the snapshot.
    pub(super) fn has_created(&mut self, created: &Snapshot, now: Moment) {
        self.ledger.lap("create", now);
        self.created = Some(created.name.to_string());
        self.progress.memory.made(created.id);
    }
}

/// The name of a snapshot that the earlier listing did not show.
fn newcomer<'a>(before: &Ring, now: &'a Ring) -> Option<&'a ForeignText> {
    let newcomer = now.slots().iter().find(|slot| !before.lists(slot.snapshot.id))?;
    Some(&newcomer.snapshot.name)
}
