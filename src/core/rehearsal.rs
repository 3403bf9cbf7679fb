//! A configuration in virtual time: what its policies do over weeks, before they have run for one.
//!
//! [`rehearse`] drives the [rotations](crate::rotation) of all servers against a provider in memory. Nothing
//! waits, no clock is read, and the same scenario always comes to the same end.
//!
//! Calls take no time here, and hooks succeed at once. The ceilings of the account are not applied: the
//! busiest minute shows whether they would matter.

mod course;
mod ideal;
mod provider;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, ToSpan};

pub use self::course::{Broken, Course, Day, Kept, Reach, Run};
pub use self::ideal::{Ideal, ideal};
use self::provider::Provider;
use crate::call::{CallError, Failure, Operation, Outcome};
use crate::completion::Sharing;
use crate::memory::RingMemory;
use crate::moment::Moment;
use crate::naming::{ServerId, Tick};
use crate::plan::AskedBy;
use crate::polling::{CompletionTimes, GATHER};
use crate::report::{Report, RotationOutcome};
use crate::ring::Ring;
use crate::rotation::{Action, Event, HookEnd, Job, Limits, Listed, Next, Rotation};
use crate::server::{Server, mix};
use crate::snapshot::{Snapshot, Status};

/// What is assumed of the world.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Where virtual time begins.
    pub from: Timestamp,
    /// And ends.
    pub to: Timestamp,
    /// How long a snapshot is in progress.
    pub snapshot_takes: Duration,
    /// How many slots of each server snapshots made by hand hold, beside those that exist.
    pub foreign: u32,
    /// When the provider cannot be reached.
    pub outages: Vec<Outage>,
    /// Of 10,000 snapshots, how many fail.
    pub fail_per_10_000: u32,
    /// What decides which of them.
    pub seed: u64,
    /// `[api] settle`.
    pub settle: Duration,
    /// `[api] retries`.
    pub retries: u32,
    /// How many snapshots a page of a listing of the whole account has.
    pub page: usize,
}

/// A span of time in which no call arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// From this moment on.
    pub from: Timestamp,
    /// Until before this one.
    pub to: Timestamp,
}

/// A server and what it starts with.
#[derive(Debug)]
pub struct Beginning {
    /// The server.
    pub server: Arc<Server>,
    /// Its snapshots.
    pub snapshots: Vec<Snapshot>,
    /// Whether its days are wanted one by one.
    pub in_detail: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Rehearsed {
    /// Of each server, in the order in which they were given.
    pub courses: Vec<Course>,
    /// How many calls each minute with any cost: minutes since the Unix epoch.
    pub calls: BTreeMap<i64, u32>,
}

impl Rehearsed {
    /// The minute with the most calls, and their number.
    #[must_use]
    pub fn busiest_minute(&self) -> Option<(Timestamp, u32)> {
        let (minute, calls) = self.calls.iter().rev().max_by_key(|(_, calls)| **calls)?;
        Some((Timestamp::from_second(minute * 60).ok()?, *calls))
    }

    /// All calls.
    #[must_use]
    pub fn calls_in_all(&self) -> u64 {
        self.calls.values().map(|calls| u64::from(*calls)).sum()
    }
}

/// With fewer looks at once, each server is listed alone: what a client does.
const LEAST_TO_SHARE: usize = 8;

/// Runs the scenario to its end.
#[must_use]
pub fn rehearse(beginnings: Vec<Beginning>, scenario: &Scenario) -> Rehearsed {
    rehearse_telling(beginnings, scenario, |_| ())
}

/// The same, and tells the virtual time again and again: a year of dense schedules takes minutes.
#[must_use]
pub fn rehearse_telling(
    beginnings: Vec<Beginning>,
    scenario: &Scenario,
    tell: impl FnMut(Timestamp),
) -> Rehearsed {
    Stage::new(beginnings, scenario).play(tell)
}

/// What happens to one server at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cue {
    /// The day is over.
    DayEnds,
    /// A look that may be shared must be made now, at the latest.
    LookIsDue(u64),
    /// The rotation goes on.
    Resume,
    /// A tick's rotation starts.
    Start(Tick),
}

struct Actor {
    server: Arc<Server>,
    provider: Provider,
    memory: RingMemory,
    rotation: Option<Rotation>,
    /// The action that [`Cue::Resume`] carries out.
    action: Option<Action>,
    /// How many tries of the action have failed.
    tries: u32,
    course: Course,
    in_detail: bool,
}

struct Stage<'a> {
    scenario: &'a Scenario,
    actors: Vec<Actor>,
    cues: BinaryHeap<Reverse<(Timestamp, Cue, usize)>>,
    /// Looks that may be shared: the number of each look, its actor, and its earliest time.
    looks: BTreeMap<u64, (usize, Timestamp)>,
    looks_so_far: u64,
    completion_times: CompletionTimes,
    calls: BTreeMap<i64, u32>,
}

impl<'a> Stage<'a> {
    fn new(beginnings: Vec<Beginning>, scenario: &'a Scenario) -> Self {
        let mut stage = Self {
            scenario,
            actors: Vec::new(),
            cues: BinaryHeap::new(),
            looks: BTreeMap::new(),
            looks_so_far: 0,
            completion_times: CompletionTimes::default(),
            calls: BTreeMap::new(),
        };
        for Beginning { server, snapshots, in_detail } in beginnings {
            let takes = scenario.snapshot_takes;
            let mut provider = Provider::with(server.id, snapshots, takes, scenario.from);
            for nth in 1..=scenario.foreign {
                if provider.count() < server.policy.cap as usize {
                    let name = format!("made-by-hand-{nth}");
                    let ends = (scenario.from, Status::Completed);
                    let _ = provider.create(&name, scenario.from, ends);
                }
            }
            let course = Course::of(Arc::clone(&server));
            let memory = RingMemory::default();
            let (rotation, action) = (None, None);
            let actor =
                Actor { server, provider, memory, rotation, action, tries: 0, course, in_detail };
            let index = stage.actors.len();
            // A tick at the very beginning is one.
            let before = scenario.from.saturating_sub(SignedDuration::from_nanos(1));
            stage.schedule_tick(index, &actor.server, before.unwrap_or(scenario.from));
            stage.schedule_day(index, &actor.server, scenario.from);
            stage.actors.push(actor);
        }
        stage
    }

    fn schedule_tick(&mut self, index: usize, server: &Server, after: Timestamp) {
        let Some(tick) = server.next_tick_after(after) else { return };
        self.cues.push(Reverse((server.starts_at(tick), Cue::Start(tick), index)));
    }

    fn schedule_day(&mut self, index: usize, server: &Server, after: Timestamp) {
        let today = after.to_zoned(server.policy.time_zone.clone());
        let tomorrow = today.checked_add(1.day()).and_then(|it| it.start_of_day());
        if let Ok(tomorrow) = tomorrow {
            self.cues.push(Reverse((tomorrow.timestamp(), Cue::DayEnds, index)));
        }
    }

    fn play(mut self, mut tell: impl FnMut(Timestamp)) -> Rehearsed {
        while let Some(Reverse((now, cue, index))) = self.cues.pop() {
            if now > self.scenario.to {
                break;
            }
            tell(now);
            match cue {
                Cue::DayEnds => self.day_ends(index, now),
                Cue::Start(tick) => self.start(index, tick, now),
                Cue::Resume => self.resume(index, now),
                Cue::LookIsDue(number) => self.look_together(number, now),
            }
        }
        Rehearsed {
            courses: self.actors.into_iter().map(|actor| actor.course).collect(),
            calls: self.calls,
        }
    }

    fn moment(&self, now: Timestamp) -> Moment {
        let passed = now.duration_since(self.scenario.from);
        Moment { wall: now, uptime: Duration::try_from(passed).unwrap_or_default() }
    }

    fn at(&self, now: Timestamp, wait: Duration) -> Timestamp {
        now.saturating_add(course::signed(wait)).unwrap_or(self.scenario.to)
    }

    fn day_ends(&mut self, index: usize, now: Timestamp) {
        let moment = self.moment(now);
        let Some(actor) = self.actors.get_mut(index) else { return };
        let server = Arc::clone(&actor.server);
        let ring = Ring::of(actor.provider.list(moment), &server.policy);
        let just_before = now.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(now);
        let date = server.policy.time_zone.to_datetime(just_before).date();
        actor.course.day_ended((date, now), &ring, &actor.memory, actor.in_detail);
        self.schedule_day(index, &server, now);
    }

    fn start(&mut self, index: usize, tick: Tick, now: Timestamp) {
        let moment = self.moment(now);
        let Some(actor) = self.actors.get_mut(index) else { return };
        let server = Arc::clone(&actor.server);
        self.schedule_tick(index, &server, tick.instant());
        let Some(actor) = self.actors.get_mut(index) else { return };
        if actor.rotation.is_some() {
            let reason = "the previous rotation was still running".to_owned();
            let outcome = RotationOutcome::Skipped;
            let run = Run { tick, ended: now, outcome, reason: Some(reason) };
            let ring = Ring::of(actor.provider.list(moment), &server.policy);
            return actor.course.ran(run, &ring, &actor.memory);
        }
        let job = Job::beginning(Arc::clone(&server), tick, AskedBy::Schedule, now);
        let limits = Limits {
            settle: self.scenario.settle,
            retries: self.scenario.retries,
            backoff: Box::new(waits()),
            completion_times: self.completion_times.clone(),
            was_listed: true,
            memory: actor.memory.clone(),
        };
        let (rotation, next) = Rotation::begin(job, limits, None, moment);
        actor.rotation = Some(rotation);
        self.follow(index, next, now);
    }

    /// Carries out what takes no time, until something does.
    fn follow(&mut self, index: usize, mut next: Next, now: Timestamp) {
        loop {
            let action = match next {
                Next::End(report) => return self.ended(index, *report, now),
                Next::Do(action) => action,
            };
            let event = match action {
                Action::RecordCreate(_) | Action::ForgetCreate => Event::Recorded,
                Action::RunHook(_) => Event::HookEnded(HookEnd::Done),
                Action::Wait(span) => {
                    let until = self.at(now, span);
                    return self.pause(index, Action::Wait(span), until);
                }
                Action::Look(look) if look.sharing == Sharing::Alone => {
                    let until = self.at(now, look.wait);
                    return self.pause(index, Action::Look(look), until);
                }
                Action::Look(look) => {
                    let earliest = self.at(now, look.wait);
                    let latest = self.at(earliest, look.slack.max(GATHER));
                    self.looks_so_far += 1;
                    let number = self.looks_so_far;
                    self.looks.insert(number, (index, earliest));
                    self.cues.push(Reverse((latest, Cue::LookIsDue(number), index)));
                    let Some(actor) = self.actors.get_mut(index) else { return };
                    actor.action = Some(Action::Look(look));
                    return;
                }
                Action::Create { .. } | Action::Delete(_) => {
                    return self.pause(index, action, now);
                }
            };
            let Some(following) = self.pass(index, event, now) else { return };
            next = following;
        }
    }

    fn pause(&mut self, index: usize, action: Action, until: Timestamp) {
        if let Some(actor) = self.actors.get_mut(index) {
            actor.action = Some(action);
            actor.tries = 0;
            self.cues.push(Reverse((until, Cue::Resume, index)));
        }
    }

    fn pass(&mut self, index: usize, event: Event, now: Timestamp) -> Option<Next> {
        let moment = self.moment(now);
        let rotation = self.actors.get_mut(index)?.rotation.as_mut()?;
        let next = rotation.next(event, moment);
        let _ = rotation.take_remarks();
        Some(next)
    }

    fn resume(&mut self, index: usize, now: Timestamp) {
        let Some(action) = self.actors.get_mut(index).and_then(|actor| actor.action.take()) else {
            return;
        };
        if !matches!(action, Action::Wait(_)) {
            self.count_calls(1, now);
        }
        self.carry_out(index, action, now);
    }

    /// Carries out an action whose call, if any, was counted.
    fn carry_out(&mut self, index: usize, action: Action, now: Timestamp) {
        let moment = self.moment(now);
        let is_down = self.is_down(now);
        let scenario = self.scenario;
        let Some(actor) = self.actors.get_mut(index) else { return };
        let operation = match &action {
            Action::Look(_) => Operation::List,
            Action::Create { .. } => Operation::Create,
            Action::Delete(_) => Operation::Delete,
            _ => {
                let next = self.pass(index, Event::Waited(Ok(())), now);
                return next.into_iter().for_each(|next| self.follow(index, next, now));
            }
        };
        // A create is tried again by the rotation itself, other calls by the client.
        let give_up_at = actor.rotation.as_ref().map_or(Duration::ZERO, Rotation::give_up_at);
        if is_down && operation != Operation::Create && actor.tries < scenario.retries {
            let wait = waits().nth(actor.tries as usize).unwrap_or_default();
            if moment.uptime + wait < give_up_at {
                actor.tries += 1;
                actor.action = Some(action);
                let until = now.saturating_add(course::signed(wait)).unwrap_or(scenario.to);
                self.cues.push(Reverse((until, Cue::Resume, index)));
                return;
            }
        }
        actor.tries = 0;
        let answer = if is_down { Err(unreachable(operation)) } else { Ok(()) };
        let event = match action {
            Action::Create { creation, .. } => {
                let ends = ends(scenario, actor.server.id, now);
                let provider = &mut actor.provider;
                let answer = answer.map(|()| provider.create(creation.name(), now, ends));
                let settled_at = moment.uptime + scenario.settle;
                Event::Created { answer, settled_at }
            }
            Action::Delete(deletion) => {
                let answer = answer.map(|()| actor.provider.delete(deletion.snapshot()));
                Event::Deleted(answer)
            }
            _ => {
                let ring = |()| Ring::of(actor.provider.list(moment), &actor.server.policy);
                let answer = answer.map(ring);
                let listed = |ring| Listed { ring, earlier_creates_settled_at: None };
                Event::Listed(answer.map(listed))
            }
        };
        let next = self.pass(index, event, now);
        next.into_iter().for_each(|next| self.follow(index, next, now));
    }

    /// Somebody's latest moment to look has come: everybody whose earliest has looks too.
    fn look_together(&mut self, number: u64, now: Timestamp) {
        if !self.looks.contains_key(&number) {
            return;
        }
        let together: Vec<usize> = self
            .looks
            .extract_if(.., |_, (_, earliest)| *earliest <= now)
            .map(|(_, (index, _))| index)
            .collect();
        let alone = together.len();
        let calls = if alone >= LEAST_TO_SHARE { alone.min(self.pages()) } else { alone };
        self.count_calls(u32::try_from(calls).unwrap_or(u32::MAX), now);
        for index in together {
            let action = self.actors.get_mut(index).and_then(|actor| actor.action.take());
            action.into_iter().for_each(|action| self.carry_out(index, action, now));
        }
    }

    /// How many calls a listing of the whole account takes.
    fn pages(&self) -> usize {
        let rows: usize = self.actors.iter().map(|actor| actor.provider.count()).sum();
        rows.div_ceil(self.scenario.page.max(1)).max(1)
    }

    fn ended(&mut self, index: usize, report: Report, now: Timestamp) {
        let moment = self.moment(now);
        let Some(actor) = self.actors.get_mut(index) else { return };
        if let Some(rotation) = actor.rotation.take() {
            actor.memory = rotation.memory().clone();
        }
        let run = Run {
            tick: report.tick,
            ended: now,
            outcome: report.outcome,
            reason: report.reason.filter(|_| !report.outcome.is_good()),
        };
        let ring = Ring::of(actor.provider.list(moment), &actor.server.policy);
        actor.course.ran(run, &ring, &actor.memory);
    }

    fn count_calls(&mut self, calls: u32, now: Timestamp) {
        *self.calls.entry(now.as_second().div_euclid(60)).or_default() += calls;
    }

    fn is_down(&self, now: Timestamp) -> bool {
        self.scenario.outages.iter().any(|outage| (outage.from..outage.to).contains(&now))
    }
}

/// The waits between attempts, without the jitter that spreads them.
fn waits() -> impl Iterator<Item = Duration> + Send {
    (0_u32..).map(|nth| Duration::from_secs(1 << nth.min(5)).min(Duration::from_secs(30)))
}

fn unreachable(operation: Operation) -> CallError {
    CallError::Failed(Failure {
        operation,
        outcome: Outcome::Transport,
        status: None,
        message: "the provider cannot be reached (assumed)".to_owned(),
        token_place: None,
        retry_after: None,
        was_sent: false,
    })
}

/// When a snapshot that is created now will have ended, and how.
fn ends(scenario: &Scenario, server: ServerId, now: Timestamp) -> (Timestamp, Status) {
    let takes = course::signed(scenario.snapshot_takes);
    let at = now.saturating_add(takes).unwrap_or(scenario.to);
    let second = now.as_second().cast_unsigned();
    let drawn = mix(scenario.seed ^ mix(server.number ^ mix(second)));
    let fails = drawn % 10_000 < u64::from(scenario.fail_per_10_000);
    (at, if fails { Status::Failed } else { Status::Completed })
}

#[cfg(test)]
mod tests;
