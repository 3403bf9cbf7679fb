//! Carries one rotation out: looks, asks [`crate::plan`] what comes next, does it, looks again.
//!
//! Nothing is decided here about which snapshot comes or goes. Here stands what must hold while the
//! decisions are carried out: a create is never sent twice without a look between, nothing is
//! pruned before the new snapshot is there, and a failure leaves what exists alone.

pub mod event;
mod hook_steps;
pub mod hooks;
pub mod lock;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::completion::{Sharing, Sight, Watch};
use crate::moment::Moment;
use crate::naming::{SnapshotId, Tick};
use crate::pins::Pins;
use crate::plan::{self, AskedBy, Creation, Deletion, Progress, Step};
use crate::polling::{self, Habits};
use crate::provider::call_context::Scope;
use crate::provider::client::Client;
use crate::provider::outcome::{CallError, Outcome};
use crate::provider::shared_listing::{GATHER, When};
use crate::report::{KnownCause, Report, RotationOutcome, milliseconds};
use crate::ring::{Ring, Slot};
use crate::rotation::hooks::HookRunner;
use crate::rotation::lock::Claim;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::snapshot::{Snapshot, Status};
use crate::status::Standings;

/// The least time that calls may be tried in, however soon the next rotation is.
const LEAST_TIME: Duration = Duration::from_mins(1);

/// How long the pruning may be tried, once the snapshot is there, if the next rotation is sooner.
const PRUNING_TIME: Duration = Duration::from_mins(10);

/// What a rotation needs of the world.
#[derive(Clone)]
pub struct Surroundings {
    /// The account.
    pub client: Arc<Client>,
    /// Runs hooks.
    pub hooks: Arc<dyn HookRunner>,
    /// How long what the provider has created may take to show up in a listing.
    pub settle: Duration,
    /// How long after it was given up, or after the end of its process, a create may still show up.
    pub shows_up_within: Duration,
    /// The pins in force now: a reload may add some while a rotation waits.
    pub pins: Pins,
    /// Who is told what was seen.
    pub standings: Standings,
    /// How long snapshots take.
    pub habits: Habits,
    /// Set when snapring shuts down.
    pub shutdown: CancellationToken,
}

/// What is to be rotated, and for which tick.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The server with its policy.
    pub server: Arc<Server>,
    /// The tick.
    pub tick: Tick,
    /// Who asked.
    pub asked_by: AskedBy,
    /// When the server's next rotation starts: nothing is tried again past it.
    pub next_start: Option<Timestamp>,
}

/// How many seconds a rotation by hand waits for one that is nobody's tick.
const SECONDS_TRIED: usize = 60;

/// The tick of a rotation that a person asks for: the next whole second, once it has begun. In the
/// present one a process that was killed may have made a snapshot that is not listed yet. It is no
/// tick of these servers' schedules, so that a snapshot of such a tick is made by no second process.
pub async fn tick_by_hand(clock: &Clock, servers: impl IntoIterator<Item = &Arc<Server>>) -> Tick {
    let schedules: BTreeSet<&Schedule> =
        servers.into_iter().flat_map(|server| &*server.schedules).collect();
    let mut second = clock.next_second().await;
    for _ in 0..SECONDS_TRIED {
        if !schedules.iter().any(|schedule| schedule.occurs_at(second)) {
            break;
        }
        second = clock.next_second().await;
    }
    Tick::at(second)
}

/// Rotates one server once. The caller holds the claim on it, and logs the report.
pub async fn rotate(surroundings: &Surroundings, assignment: &Assignment, claim: &Claim) -> Report {
    let mut rotation = Rotation::begin(surroundings, assignment, claim);
    let end = rotation.carry_out().await;
    rotation.report(end)
}

/// Why a rotation ends before it is whole.
#[derive(Debug)]
enum End {
    Skipped(String),
    Blocked(String),
    Failed { reason: String, known_cause: Option<KnownCause> },
}

impl End {
    fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), known_cause: None }
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
        let reason = match &error {
            CallError::Failed(failure) if failure.outcome == Outcome::NotFound => {
                format!("the server is gone at the provider: {failure}")
            }
            CallError::Interrupted => {
                "interrupted by a shutdown; the next start goes on from what is there".to_owned()
            }
            other => other.to_string(),
        };
        Self::Failed { reason, known_cause }
    }
}

/// What came of asking for one deletion.
enum Removal {
    /// It is gone.
    Gone,
    /// The listing was too old; nothing was sent.
    Stale,
    /// It was pinned since the rotation began; nothing was sent.
    Pinned,
    /// The provider said no: it is still there.
    Refused(CallError),
    /// Nobody knows.
    Unknown(CallError),
}

struct Rotation<'a> {
    clock: Clock,
    surroundings: &'a Surroundings,
    server: &'a Server,
    assignment: &'a Assignment,
    claim: &'a Claim,
    scope: Scope,
    progress: Progress,
    begun: Moment,
    step_begun: Duration,
    steps: Vec<(&'static str, u64)>,
    before_hook_started: bool,
    created: Option<String>,
    deleted: Vec<String>,
    remarks: Vec<String>,
}

impl<'a> Rotation<'a> {
    fn begin(surroundings: &'a Surroundings, assignment: &'a Assignment, claim: &'a Claim) -> Self {
        let clock = surroundings.client.clock().clone();
        let begun = clock.now();
        let server = &*assignment.server;
        let mut scope = Scope::of(server, surroundings.shutdown.clone());
        scope.tick = Some(assignment.tick);
        scope.pins = surroundings.pins.clone();
        let mut rotation = Self {
            clock,
            surroundings,
            server,
            assignment,
            claim,
            scope,
            progress: Progress::default(),
            begun,
            step_begun: begun.uptime,
            steps: Vec::new(),
            before_hook_started: false,
            created: None,
            deleted: Vec::new(),
            remarks: Vec::new(),
        };
        rotation.allow(LEAST_TIME);
        rotation
    }

    /// Steps 1 to 7.
    async fn carry_out(&mut self) -> Result<(), End> {
        if !self.server.enabled {
            return Err(End::Skipped("the server is disabled".to_owned()));
        }
        self.surroundings.client.refresh_token();
        let waited = self.until_it_is_there().await;
        // Whatever happened: what was quiesced must wake.
        let awake = self.run_after_hook(&waited).await;
        let (own, ring) = waited?;
        let pruned = self.prune(own, ring).await;
        self.lap("prune");
        pruned.and(awake)
    }

    /// Steps 1 to 5: the tick's snapshot, completed, and the ring with it.
    async fn until_it_is_there(&mut self) -> Result<(SnapshotId, Ring), End> {
        let looked = self.until_earlier_creates_are_settled().await?;
        let (own, ring) = self.obtain(looked).await?;
        if let (Status::Completed, Some(ring)) = (&own.status, ring) {
            return Ok((own.id, ring));
        }
        let ring = self.wait_for(&own).await;
        self.lap("wait");
        Ok((own.id, ring?))
    }

    /// While an earlier create of this server may still arrive, a listing does not show what will be
    /// there. Waits until one does, and gives it.
    async fn until_earlier_creates_are_settled(&mut self) -> Result<Option<Ring>, End> {
        let mut looked = None;
        let span = self.surroundings.shows_up_within;
        loop {
            let now = self.clock.now().uptime;
            let settled_at = self.claim.last_create_settled_at(now, span).await;
            let Some(settled_at) = settled_at else {
                return Ok(looked);
            };
            let mut wait = settled_at.saturating_sub(now);
            if looked.is_none() {
                // What has arrived already need not be waited for.
                wait = Duration::ZERO;
            } else {
                tracing::info!(
                    event = "settle",
                    server_id = self.server.id.0,
                    server = self.server.name.as_str(),
                    tick = %self.assignment.tick,
                    "{}: waiting {} because an earlier create of this server may still arrive",
                    self.server.name,
                    humantime::format_duration(Duration::from_secs(wait.as_secs() + 1))
                );
                self.allow(wait.saturating_add(LEAST_TIME));
            }
            looked = Some(self.look_in(wait, GATHER, Sharing::OneAnswer).await?);
            self.lap("earlier_create");
            self.allow(LEAST_TIME);
        }
    }

    /// Steps 1 to 4: the tick's snapshot, found or created. With the ring, when it was found.
    async fn obtain(&mut self, mut looked: Option<Ring>) -> Result<(Snapshot, Option<Ring>), End> {
        let mut tries = 0;
        let mut room_was_made_again = false;
        let mut room_awaited_since = None;
        let mut backoff = self.surroundings.client.backoff();
        loop {
            let ring = match looked.take() {
                Some(ring) => ring,
                None => self.look(self.sharing(tries > 0)).await?,
            };
            self.lap("list");
            match self.next_step(&ring) {
                Step::Adopt(snapshot) => {
                    // After a create whose answer said otherwise, it is this rotation's own.
                    let snapshot = if tries > 0 { self.remember(snapshot) } else { snapshot };
                    return Ok((snapshot, Some(ring)));
                }
                Step::Skip(skip) => return Err(End::Skipped(skip.to_string())),
                Step::Blocked(blocked) => return Err(End::Blocked(blocked.to_string())),
                Step::MakeRoom(victims) => {
                    self.make_room(victims).await?;
                    self.lap("make_room");
                }
                Step::AwaitRoom => {
                    let now = self.clock.now().uptime;
                    let since = *room_awaited_since.get_or_insert(now);
                    if now.saturating_sub(since) > self.surroundings.settle {
                        return Err(End::failed("what was deleted to make room is still listed"));
                    }
                    self.pause(polling::settling(now.saturating_sub(since))).await?;
                }
                Step::Create(creation) => {
                    // Before the hook, which may freeze the file system that this is written to.
                    let now = self.clock.now().uptime;
                    let span = self.surroundings.shows_up_within;
                    self.claim.create_begins(creation.name(), now, span).await;
                    if let Err(end) = self.run_before_hook(&creation).await {
                        let now = self.clock.now().uptime;
                        self.claim.create_ended(now, now).await;
                        return Err(end);
                    }
                    let error = match self.create(&creation, tries + 1).await {
                        Ok(snapshot) => return Ok((self.remember(snapshot), None)),
                        // Nothing was sent; look again.
                        Err(CallError::Stale(_)) => continue,
                        Err(error) => error,
                    };
                    self.lap("create");
                    tries += 1;
                    match error.outcome() {
                        Some(Outcome::Malformed | Outcome::ServerError | Outcome::Transport) => {
                            if let Some(found) = self.settle(&creation, &ring, &error).await? {
                                return Ok((self.remember(found), None));
                            }
                        }
                        Some(Outcome::Throttled) => {}
                        Some(Outcome::Rejected) => {
                            // The answer does not say whether the cap was the cause.
                            let ring = self.look(Sharing::Alone).await?;
                            if self.own(&ring).is_none() {
                                let full = ring.taken() >= self.server.policy.cap;
                                if !full || room_was_made_again {
                                    return Err(error.into());
                                }
                                room_was_made_again = true;
                                self.progress.victims_left = None;
                            }
                            looked = Some(ring);
                            continue;
                        }
                        _ => return Err(error.into()),
                    }
                    let wait = backoff.next().unwrap_or_default();
                    let client = &self.surroundings.client;
                    if tries > client.retries() || !client.has_time(&self.scope, wait) {
                        return Err(error.into());
                    }
                    self.pause(wait).await?;
                }
            }
        }
    }

    /// With whom a look before the create may be shared. Where the tick's snapshot may be there
    /// already, it must not be overlooked. Who is to be quiesced asks alone, so that its turn to
    /// create comes soon after: after a listing for all, all want to create.
    fn sharing(&self, create_was_sent: bool) -> Sharing {
        if self.server.hooks.as_ref().is_some_and(|hooks| !hooks.before.is_empty()) {
            Sharing::Alone
        } else if create_was_sent || !self.surroundings.client.has_seen(self.server.id) {
            Sharing::OneAnswer
        } else {
            Sharing::Pages
        }
    }

    fn next_step(&mut self, ring: &Ring) -> Step {
        let Assignment { tick, asked_by, .. } = *self.assignment;
        let policy = &self.server.policy;
        let now = self.clock.now().wall;
        let step = plan::next_step(ring, policy, tick, asked_by, &self.progress, now);
        for remark in plan::warnings(ring, policy, &step, now) {
            if !self.remarks.contains(&remark) {
                tracing::warn!(
                    event = "ring",
                    server_id = self.server.id.0,
                    server = self.server.name.as_str(),
                    tick = %tick,
                    "{}: {remark}",
                    self.server.name
                );
                self.remarks.push(remark);
            }
        }
        step
    }

    /// Step 3: deletes the victims, one for each slot needed.
    async fn make_room(&mut self, victims: Vec<Deletion>) -> Result<(), End> {
        let mut left = u32::try_from(victims.len()).unwrap_or(u32::MAX);
        for victim in &victims {
            match self.remove(victim).await? {
                Removal::Gone => left = left.saturating_sub(1),
                // The plan may take another one in its place.
                Removal::Pinned | Removal::Refused(_) => {}
                Removal::Stale => break,
                // Another victim could be one too many.
                Removal::Unknown(error) => return Err(error.into()),
            }
        }
        self.progress.victims_left = Some(left);
        Ok(())
    }

    /// Asks for one deletion and remembers what came of it. Fails when nothing more may be asked.
    async fn remove(&mut self, deletion: &Deletion) -> Result<Removal, End> {
        let error = match self.surroundings.client.delete(deletion, &self.scope).await {
            Ok(()) => {
                self.count_deleted(deletion);
                return Ok(Removal::Gone);
            }
            Err(CallError::Stale(_)) => return Ok(Removal::Stale),
            Err(CallError::Pinned) => {
                self.progress.undeletable.insert(deletion.snapshot());
                return Ok(Removal::Pinned);
            }
            Err(error) => error,
        };
        match error.outcome() {
            None | Some(Outcome::Unauthorized) => Err(error.into()),
            Some(Outcome::Rejected) => {
                self.progress.undeletable.insert(deletion.snapshot());
                Ok(Removal::Refused(error))
            }
            Some(_) => {
                // It may have been deleted all the same: the listing knows.
                let ring = self.look(Sharing::OneAnswer).await?;
                let listed =
                    ring.slots().iter().any(|slot| slot.snapshot.id == deletion.snapshot());
                if listed {
                    self.progress.undeletable.insert(deletion.snapshot());
                    return Ok(Removal::Unknown(error));
                }
                self.count_deleted(deletion);
                Ok(Removal::Gone)
            }
        }
    }

    fn count_deleted(&mut self, deletion: &Deletion) {
        self.progress.deleted.insert(deletion.snapshot());
        self.deleted.push(deletion.name().to_owned());
    }

    /// Sends one create. The claim knows of it until a listing shows what became of it.
    async fn create(&self, creation: &Creation, attempt: u32) -> Result<Snapshot, CallError> {
        let Surroundings { client, settle, shows_up_within, .. } = self.surroundings;
        let description = &self.server.description;
        let made = client.create(creation, description, attempt, &self.scope).await;
        let outcome = made.as_ref().map_or_else(CallError::outcome, |_| Some(Outcome::Ok));
        let settled_in = create_settled_in(outcome, *settle, *shows_up_within);
        let now = self.clock.now().uptime;
        self.claim.create_ended(now.saturating_add(settled_in), now).await;
        made
    }

    /// Step 4's look: a create whose answer never came may have been carried out, or may still be.
    /// Looks for its name, more than once, until a listing was asked for after the last moment at
    /// which it can show up.
    async fn settle(
        &mut self,
        creation: &Creation,
        before: &Ring,
        error: &CallError,
    ) -> Result<Option<Snapshot>, End> {
        let now = self.clock.now().uptime;
        let span = self.surroundings.shows_up_within;
        let settled_at = self.claim.last_create_settled_at(now, span).await.unwrap_or(now);
        tracing::debug!(event = "settle", snapshot = creation.name(), "may exist: {error}");
        // However soon the next rotation is: it would have to wait for the same.
        let give_up_at = self.scope.give_up_at;
        self.allow(settled_at.saturating_sub(now).saturating_add(LEAST_TIME));
        let ring = self.look_until(settled_at).await;
        self.scope.give_up_at = give_up_at;
        let ring = ring?;
        if let Some(found) = self.own(&ring) {
            return Ok(Some(found));
        }
        match newcomer(before, &ring) {
            // A provider that changes names would be asked for one more with each try.
            Some(newcomer) => Err(End::failed(format!(
                "{error}; {newcomer} has appeared meanwhile and could be what was asked for, so it \
                 is not asked for again"
            ))),
            None => Ok(None),
        }
    }

    /// Looks until the tick's snapshot is listed, at the longest until `settled_at`. Gives the last
    /// look.
    async fn look_until(&self, settled_at: Duration) -> Result<Ring, CallError> {
        let since = self.clock.now().uptime;
        loop {
            let now = self.clock.now().uptime;
            let wait =
                polling::settling(now.saturating_sub(since)).min(settled_at.saturating_sub(now));
            let ring = self.look_in(wait, GATHER, Sharing::OneAnswer).await?;
            if self.own(&ring).is_some() || ring.listing().asked_at.uptime >= settled_at {
                return Ok(ring);
            }
        }
    }

    /// Step 5: waits until the snapshot is completed; gives the ring that shows it.
    async fn wait_for(&mut self, own: &Snapshot) -> Result<Ring, End> {
        let timeout = self.server.completion_timeout;
        // Past the next tick too: that one will be skipped while this one waits.
        self.allow(timeout.saturating_add(PRUNING_TIME));
        let since = self.clock.now().uptime;
        let Surroundings { habits, settle, .. } = self.surroundings;
        let mut watch = if self.created.is_some() {
            let pace = habits.pace(Some(self.server.id), self.before_hook_started);
            Watch::over_a_new_one(pace, timeout, *settle)
        } else {
            let pace = habits.pace(None, self.before_hook_started);
            Watch::over_a_found_one(pace, timeout, *settle)
        };
        let mut trouble = None;
        loop {
            let passed = self.clock.now().uptime.saturating_sub(since);
            let undisturbed = self.until_just_before_the_next_start();
            let Some(look) = watch.next_look(passed, undisturbed) else {
                let trouble = trouble.map(|error| format!(" ({error})")).unwrap_or_default();
                return Err(End::failed(format!(
                    "{} was not completed within {}{trouble}",
                    own.name,
                    humantime::format_duration(timeout)
                )));
            };
            let ring = match self.look_in(look.wait, look.slack, look.sharing).await {
                Ok(ring) => ring,
                // The provider's trouble does not stop the snapshot; look again later.
                Err(error) if error.outcome().is_some_and(Outcome::may_pass) => {
                    watch.saw_nothing();
                    trouble = Some(error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            trouble = None;
            let asked_after = ring.listing().asked_at.uptime.saturating_sub(since);
            let row = ring.slots().iter().find(|slot| slot.snapshot.id == own.id);
            match watch.saw(row.map(|slot| &slot.snapshot.status), passed, asked_after) {
                Sight::Completed => {
                    if let Some((in_progress_after, found_after)) = watch.lesson() {
                        habits.learn(self.server.id, in_progress_after, found_after);
                    }
                    return Ok(ring);
                }
                Sight::Failed => {
                    return Err(End::failed(format!("the provider failed to make {}", own.name)));
                }
                Sight::Gone => {
                    return Err(End::failed(format!(
                        "{} has gone from the provider's listing",
                        own.name
                    )));
                }
                Sight::NotYet => {}
            }
        }
    }

    /// Step 6: prunes what retention drops. One that cannot be deleted stops none of the others.
    async fn prune(&mut self, own: SnapshotId, ring: Ring) -> Result<(), End> {
        self.allow(PRUNING_TIME);
        let mut ring = ring;
        let mut stuck = Vec::new();
        loop {
            let doomed = plan::prune(&ring, &self.server.policy, own, &self.progress)
                .into_iter()
                .find(|doomed| !self.progress.undeletable.contains(&doomed.snapshot()));
            let Some(doomed) = doomed else { break };
            match self.remove(&doomed).await? {
                Removal::Gone | Removal::Pinned => {}
                Removal::Stale => {
                    ring = self.look(Sharing::OneAnswer).await?;
                    let completed = |slot: &Slot| {
                        slot.snapshot.id == own && slot.snapshot.status == Status::Completed
                    };
                    if !ring.slots().iter().any(completed) {
                        return Err(End::failed(
                            "the new snapshot is not listed as completed any more; nothing more was pruned",
                        ));
                    }
                }
                Removal::Refused(error) | Removal::Unknown(error) => {
                    stuck.push(format!("{} could not be deleted: {error}", doomed.name()));
                }
            }
        }
        if stuck.is_empty() { Ok(()) } else { Err(End::failed(stuck.join("; "))) }
    }

    async fn look(&self, sharing: Sharing) -> Result<Ring, CallError> {
        self.look_in(Duration::ZERO, GATHER, sharing).await
    }

    /// Looks when `wait` has passed, or up to `slack` later where others look too.
    async fn look_in(
        &self,
        wait: Duration,
        slack: Duration,
        sharing: Sharing,
    ) -> Result<Ring, CallError> {
        let earliest = self.clock.now().uptime.saturating_add(wait);
        let when = When { earliest, latest: earliest.saturating_add(slack) };
        let client = &self.surroundings.client;
        let listing = client.look(self.server.id, &self.scope, when, sharing).await?;
        let ring = Ring::of(listing, &self.server.policy);
        self.claim.listed(&ring).await;
        self.surroundings.standings.saw(&ring);
        Ok(ring)
    }

    fn own(&self, ring: &Ring) -> Option<Snapshot> {
        ring.for_tick(self.assignment.tick, &self.server.policy).cloned()
    }

    fn remember(&mut self, created: Snapshot) -> Snapshot {
        self.lap("create");
        self.created = Some(created.name.clone());
        created
    }

    async fn pause(&self, span: Duration) -> Result<(), CallError> {
        self.surroundings.client.pause(&self.scope, span).await
    }

    /// While a rotation waits past its server's next tick, that one is skipped. `None` where that is
    /// near, or has come: then there is nothing to wait for.
    fn until_just_before_the_next_start(&self) -> Option<Duration> {
        let Some(next) = self.assignment.next_start else { return Some(Duration::MAX) };
        let until = Duration::try_from(next.duration_since(self.clock.now().wall)).ok()?;
        until.checked_sub(polling::TO_FINISH).filter(|span| !span.is_zero())
    }

    /// From now on calls may be tried for `span`, or until the next rotation if that is later.
    fn allow(&mut self, span: Duration) {
        let now = self.clock.now();
        let until_next_start = self
            .assignment
            .next_start
            .and_then(|next| Duration::try_from(next.duration_since(now.wall)).ok())
            .unwrap_or_default();
        self.scope.give_up_at = Some(now.uptime.saturating_add(span.max(until_next_start)));
    }

    /// Ends a step of the account of time.
    fn lap(&mut self, step: &'static str) {
        let now = self.clock.now().uptime;
        let took = milliseconds(now.saturating_sub(self.step_begun));
        self.step_begun = now;
        match self.steps.iter_mut().find(|(name, _)| *name == step) {
            Some((_, sum)) => *sum = sum.saturating_add(took),
            None => self.steps.push((step, took)),
        }
    }

    /// Step 7.
    fn report(self, end: Result<(), End>) -> Report {
        let mut known_cause = None;
        let (outcome, reason) = match end {
            Ok(()) if self.created.is_some() => (RotationOutcome::Rotated, None),
            Ok(()) => (RotationOutcome::Adopted, None),
            Err(End::Skipped(reason)) => (RotationOutcome::Skipped, Some(reason)),
            Err(End::Blocked(reason)) => (RotationOutcome::Blocked, Some(reason)),
            Err(End::Failed { reason, known_cause: known }) => {
                known_cause = known;
                (RotationOutcome::Failed, Some(reason))
            }
        };
        let took = self.clock.now().uptime.saturating_sub(self.begun.uptime);
        Report {
            outcome,
            server_id: self.server.id,
            server: self.server.name.clone(),
            tick: self.assignment.tick,
            created: self.created,
            deleted: self.deleted,
            deleted_ids: self.progress.deleted,
            api_calls: self.scope.calls(),
            duration_ms: milliseconds(took),
            steps: self.steps,
            reason,
            known_cause,
        }
    }
}

/// How long after a create ended with this outcome (`None`: it was not sent) a listing shows what
/// became of it.
pub fn create_settled_in(
    outcome: Option<Outcome>,
    settle: Duration,
    shows_up_within: Duration,
) -> Duration {
    match outcome {
        None | Some(Outcome::Unauthorized | Outcome::NotFound) => Duration::ZERO,
        Some(Outcome::Transport) => shows_up_within,
        Some(_) => settle,
    }
}

/// A snapshot that an earlier look did not show, by its name.
fn newcomer<'a>(before: &Ring, now: &'a Ring) -> Option<&'a str> {
    let known = |id| before.slots().iter().any(|slot| slot.snapshot.id == id);
    let newcomer = now.slots().iter().find(|slot| !known(slot.snapshot.id))?;
    Some(&newcomer.snapshot.name)
}

#[cfg(test)]
mod tests;
