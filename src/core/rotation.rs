//! One rotation of one server, as a state machine: steps 1 to 7.
//!
//! [`Rotation::begin`] returns the first [`Action`]. The caller carries it out and passes the result
//! to [`Rotation::next`] as an [`Event`], which returns the next action, until [`Next::End`]. There is
//! no I/O here, and no clock: the time is a parameter.
//!
//! [`plan`](crate::plan) decides which snapshots are created and deleted. This module keeps the order:
//! a create is never sent twice without a listing in between, nothing is pruned before the new
//! snapshot is completed, and after a failure nothing more is deleted.
//!
//! One file per step: [`list`], [`make_room`], [`create`], [`wait`], [`prune`]. [`delete`] is shared
//! by two of them, [`hooks`] run around the create, and [`ledger`] keeps the time.

mod create;
mod delete;
mod hooks;
mod ledger;
mod left;
mod list;
mod make_room;
mod prune;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use self::create::CreateSpans;
pub use self::hooks::{Hook, HookEnd, HookMoment};
use self::ledger::Ledger;
pub use self::left::Left;
use self::list::LookFor;
use self::prune::Pruning;
use self::wait::Wait;
use crate::call::{CallError, Outcome};
use crate::completion::NextLook;
use crate::memory::RingMemory;
use crate::moment::Moment;
use crate::naming::{SnapshotId, Tick};
use crate::patience::Patience;
use crate::plan::{AskedBy, Creation, Deletion, Progress, Skip};
use crate::polling::CompletionTimes;
use crate::report::{KnownCause, Report, RotationOutcome};
use crate::ring::Ring;
use crate::server::Server;
use crate::snapshot::Snapshot;

/// Calls may be tried for at least this long, even if the next rotation starts sooner.
const LEAST_TIME: Duration = Duration::from_mins(1);

/// What is to be rotated, and for which tick.
#[derive(Debug, Clone)]
pub struct Job {
    /// The server with its policy.
    pub server: Arc<Server>,
    /// The tick.
    pub tick: Tick,
    /// Who asked.
    pub asked_by: AskedBy,
    /// When the server's next rotation starts. Nothing is retried after that.
    pub next_start: Option<Timestamp>,
}

impl Job {
    /// A rotation that begins now.
    #[must_use]
    pub fn beginning(server: Arc<Server>, tick: Tick, asked_by: AskedBy, now: Timestamp) -> Self {
        let next_start = server.next_start_after(now);
        Self { server, tick, asked_by, next_start }
    }
}

/// What a rotation depends on besides its server's policy.
pub struct Limits {
    /// How long a created snapshot may take to appear in a listing.
    pub settle: Duration,
    /// How many times a create may be sent again.
    pub retries: u32,
    /// How long to wait before each of them.
    pub backoff: Box<dyn Iterator<Item = Duration> + Send>,
    /// How long snapshots usually take.
    pub completion_times: CompletionTimes,
    /// Whether a listing in pages may be relied on: this server has been listed in one answer, or what is
    /// remembered of it would show that the tick has run.
    pub was_listed: bool,
    /// What is remembered of it.
    pub memory: RingMemory,
}

/// What the caller does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// List the server's snapshots.
    Look(NextLook),
    /// Record that a create of this name is about to be sent, so that another process learns of it.
    RecordCreate(String),
    /// Remove that record: the create was not sent.
    ForgetCreate,
    /// Run a hook.
    RunHook(Hook),
    /// Send a create, once.
    Create {
        /// The permission.
        creation: Creation,
        /// Which try this is, from 1.
        attempt: u32,
    },
    /// Delete a snapshot.
    Delete(Deletion),
    /// Wait so long.
    Wait(Duration),
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Carry this out.
    Do(Action),
    /// The rotation has ended. The caller fills in the number of calls.
    End(Box<Report>),
}

/// The result of an action.
#[derive(Debug)]
pub enum Event {
    /// Of [`Action::Look`].
    Listed(Result<Listed, CallError>),
    /// Of [`Action::RecordCreate`] and [`Action::ForgetCreate`].
    Recorded,
    /// Of [`Action::RunHook`].
    HookEnded(HookEnd),
    /// Of [`Action::Create`].
    Created {
        /// The provider's answer.
        answer: Result<Snapshot, CallError>,
        /// From this uptime on, a listing shows whether the create was carried out. See
        /// [`CreateSpans::settled_in`].
        settled_at: Duration,
    },
    /// Of [`Action::Delete`].
    Deleted(Result<(), CallError>),
    /// Of [`Action::Wait`].
    Waited(Result<(), CallError>),
}

/// A complete listing.
#[derive(Debug)]
pub struct Listed {
    /// The server's snapshots.
    pub ring: Ring,
    /// From this uptime on, a listing shows whether creates sent before this rotation were carried
    /// out. `None` if this listing does.
    pub earlier_creates_settled_at: Option<Duration>,
}

/// Something to log at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// About the ring.
    Ring(String),
    /// The rotation waits this long, because an earlier create of the server may still arrive.
    EarlierCreate(Duration),
    /// This snapshot may exist, although its create was not answered.
    MayExist {
        /// Its name.
        snapshot: String,
        /// How the create failed.
        error: CallError,
        /// Listings show it at the latest after this span.
        within: Duration,
    },
    /// The after hook failed, so the server may still be quiesced.
    NotAwake(String),
    /// A snapshot is listed as failed. The rotation waits this long for a second listing that shows it so,
    /// and deletes it then.
    AwaitsFailed(Duration),
    /// The provider said that it had deleted this snapshot, and lists it all the same.
    NotDeleted(String),
    /// The rotation continues with this snapshot, which an earlier rotation by hand has begun.
    Continues(String),
}

/// Why a rotation ends early.
#[derive(Debug)]
enum End {
    Skipped { reason: String, known_cause: Option<KnownCause> },
    Blocked(String),
    Failed { reason: String, known_cause: Option<KnownCause> },
}

impl End {
    fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), known_cause: None }
    }

    fn interrupted() -> Self {
        CallError::Interrupted.into()
    }

    /// The same, and something else has failed too. Then what caused the first one does not explain all.
    fn and(self, other: Option<Self>) -> Self {
        match (self, other) {
            (Self::Failed { reason, .. }, Some(Self::Failed { reason: other, .. })) => {
                Self::failed(format!("{reason}; {other}"))
            }
            (end, _) => end,
        }
    }
}

impl From<Skip> for End {
    fn from(skip: Skip) -> Self {
        let known_cause = (!skip.is_by_policy()).then_some(KnownCause::Hindered);
        Self::Skipped { reason: skip.to_string(), known_cause }
    }
}

impl From<CallError> for End {
    fn from(error: CallError) -> Self {
        let known_cause = match &error {
            CallError::Failed(failure) if failure.outcome == Outcome::Unauthorized => {
                Some(KnownCause::Token)
            }
            CallError::Interrupted => Some(KnownCause::Shutdown),
            _ => None,
        };
        Self::Failed { reason: error.explained(), known_cause }
    }
}

/// The completed snapshot of the tick, and the ring that shows it.
#[derive(Debug)]
struct OwnSnapshot {
    own: SnapshotId,
    ring: Ring,
}

/// What the rotation is waiting for.
#[derive(Debug)]
enum State {
    /// A listing, and what it is for.
    Looking(LookFor),
    /// A create is being recorded.
    Recording(Creation, Ring),
    /// The record of a create is being removed.
    Forgetting(End),
    /// The before hook is running.
    Quiescing(Creation, Ring),
    /// The create is being sent. The ring shows what existed before.
    Creating(Creation, Ring),
    /// A wait before the next listing.
    Pausing,
    /// A snapshot is being deleted.
    Deleting(Deletion, delete::Purpose),
    /// The after hook is running.
    Waking(Result<OwnSnapshot, End>),
    /// The rotation has ended.
    Ended,
}

/// A rotation under way.
pub struct Rotation {
    job: Job,
    limits: Limits,
    state: State,
    ledger: Ledger,
    progress: Progress,
    tries: CreateTries,
    postponed: Option<delete::Postponed>,
    before_hook_ran: bool,
    created: Option<String>,
    /// What the provider said it deleted: ids and names.
    deleted: Vec<(SnapshotId, String)>,
    said: Vec<String>,
    remarks: Vec<Remark>,
    /// The snapshots that could not be deleted, and why.
    stuck: Vec<String>,
    /// Deleted by the provider's word in an earlier rotation, and still listed: ids and names.
    undeleted: Vec<(SnapshotId, String)>,
    /// Since when, in uptime, it is looked whether the deleted snapshots are gone.
    confirming_since: Option<Duration>,
    /// The last listing shows what became of every create.
    creates_are_settled: bool,
    /// The tick's snapshot as it was seen last.
    own_seen: Option<Left>,
    /// The snapshot of an earlier rotation by hand that this one continues with.
    continued: Option<String>,
}

/// The creates of this rotation so far.
#[derive(Debug, Default)]
struct CreateTries {
    /// How many were sent.
    sent: u32,
    /// Whether one more may be sent after a failure.
    patience: Patience,
    /// From this uptime on, a listing shows which of them were carried out.
    settled_at: Duration,
    /// One may have been carried out, by its answer.
    is_open: bool,
    /// One was rejected because the ring was full, and room was made a second time.
    room_was_made_again: bool,
    /// Since when the rotation has waited for a deleted snapshot to disappear from listings.
    room_awaited_since: Option<Duration>,
}

impl Rotation {
    /// Starts a rotation and returns the first action. `earlier_creates_settled_at`: see [`Listed`].
    #[must_use]
    pub fn begin(
        job: Job,
        mut limits: Limits,
        earlier_creates_settled_at: Option<Duration>,
        now: Moment,
    ) -> (Self, Next) {
        let memory = std::mem::take(&mut limits.memory);
        let mut rotation = Self {
            ledger: Ledger::begin(job.next_start, now),
            job,
            limits,
            state: State::Ended,
            progress: Progress { memory, ..Progress::default() },
            tries: CreateTries::default(),
            postponed: None,
            before_hook_ran: false,
            created: None,
            deleted: Vec::new(),
            said: Vec::new(),
            remarks: Vec::new(),
            stuck: Vec::new(),
            undeleted: Vec::new(),
            confirming_since: None,
            creates_are_settled: false,
            own_seen: None,
            continued: None,
        };
        rotation.ledger.allow(LEAST_TIME, now);
        let first = if !rotation.job.server.enabled {
            let reason = "the server is disabled".to_owned();
            rotation.end(Err(End::Skipped { reason, known_cause: None }), now)
        } else if earlier_creates_settled_at.is_some() {
            rotation.look_for_earlier_creates()
        } else {
            rotation.look_for_the_next_step()
        };
        (rotation, first)
    }

    /// Takes the result of the last action and returns the next one.
    pub fn next(&mut self, event: Event, now: Moment) -> Next {
        match (std::mem::replace(&mut self.state, State::Ended), event) {
            (State::Looking(looking), Event::Listed(listed)) => self.looked(looking, listed, now),
            (State::Pausing, Event::Waited(Ok(()))) => self.look_for_the_next_step(),
            (State::Pausing, Event::Waited(Err(error))) => self.give_up(error, now),
            (State::Recording(creation, before), Event::Recorded) => self.quiesce(creation, before),
            (State::Quiescing(creation, before), Event::HookEnded(end)) => {
                self.quiesced(creation, before, end, now)
            }
            (State::Forgetting(end), Event::Recorded) => self.give_up(end, now),
            (State::Creating(creation, before), Event::Created { answer, settled_at }) => {
                self.tries.settled_at = self.tries.settled_at.max(settled_at);
                self.create_was_answered(creation, before, answer, now)
            }
            (State::Deleting(deletion, purpose), Event::Deleted(answer)) => {
                self.delete_was_answered(deletion, purpose, answer, now)
            }
            (State::Waking(made), Event::HookEnded(end)) => self.woken(made, end, now),
            (_, _) => {
                let fault = "a bug in snapring: this is not the result of the last action";
                self.give_up(End::failed(fault), now)
            }
        }
    }

    /// The uptime until which the present action may be retried.
    #[must_use]
    pub fn give_up_at(&self) -> Duration {
        self.ledger.give_up_at()
    }

    /// Whether the server has ever been listed, as of now. To be told before each [`Rotation::next`]: a
    /// reload may forget a server.
    pub fn set_was_listed(&mut self, was_listed: bool) {
        self.limits.was_listed = was_listed;
    }

    /// For which tick. If a person asked, an unfinished snapshot of an earlier one may be continued with.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.job.tick
    }

    /// What is to be remembered for the next rotation, as of now.
    #[must_use]
    pub fn memory(&self) -> &RingMemory {
        &self.progress.memory
    }

    /// What to log since the last call.
    pub fn take_remarks(&mut self) -> Vec<Remark> {
        std::mem::take(&mut self.remarks)
    }

    /// The tick's snapshot is completed.
    fn completed(&mut self, made: OwnSnapshot, now: Moment) -> Next {
        self.progress.memory.succeeded(self.job.tick);
        if let Some(own) = made.ring.snapshot(made.own).cloned() {
            self.own_is(&own);
        }
        self.wake(Ok(made), now)
    }

    fn server(&self) -> &Server {
        &self.job.server
    }

    fn enter(&mut self, state: State, action: Action) -> Next {
        self.state = state;
        Next::Do(action)
    }

    /// Ends steps 1 to 5 without a snapshot. The after hook still runs if it is due.
    fn give_up(&mut self, end: impl Into<End>, now: Moment) -> Next {
        self.wake(Err(end.into()), now)
    }

    /// Step 7.
    fn end(&mut self, end: Result<(), End>, now: Moment) -> Next {
        if self.creates_are_settled {
            self.progress.memory.creates_are_settled();
        }
        let mut known_cause = None;
        let (outcome, reason) = match end.and_then(|()| self.all_deletes_hold()) {
            Ok(()) if self.created.is_some() => (RotationOutcome::Rotated, None),
            Ok(()) => {
                let reason = self.continued.take().map(|snapshot| {
                    format!(
                        "continued with {snapshot}, which an earlier `rotate` had started; no other \
                         snapshot was created"
                    )
                });
                (RotationOutcome::Adopted, reason)
            }
            Err(End::Skipped { reason, known_cause: known }) => {
                known_cause = known;
                (RotationOutcome::Skipped, Some(reason))
            }
            Err(End::Blocked(reason)) => (RotationOutcome::Blocked, Some(reason)),
            Err(End::Failed { mut reason, known_cause: known }) => {
                known_cause = known;
                if known == Some(KnownCause::Shutdown) {
                    let left = self.left().words(self.server(), self.job.asked_by);
                    reason = match self.job.asked_by {
                        AskedBy::Person => format!("interrupted: {left}"),
                        AskedBy::Schedule => format!("{reason}: {left}"),
                    };
                }
                (RotationOutcome::Failed, Some(reason))
            }
        };
        let (deleted, deleted_ids) = self.take_deleted();
        let report = Report {
            outcome,
            server_id: self.server().id,
            server: self.server().name.clone(),
            tick: self.job.tick,
            created: self.created.take(),
            deleted,
            deleted_ids,
            api_calls: 0,
            duration_ms: self.ledger.milliseconds_until(now),
            steps: self.ledger.take_steps(),
            reason,
            known_cause,
        };
        self.state = State::Ended;
        Next::End(Box::new(report))
    }
}

#[cfg(test)]
mod tests;
