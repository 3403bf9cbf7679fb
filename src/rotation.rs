//! Carries out the actions of [`snapring_core::rotation`]: calls, hooks, waits, records of creates.
//!
//! [`rotate`] is the only way to rotate a server. The daemon, `rotate` and `demo` use it.

mod create;
pub(crate) mod event;
pub mod hooks;
pub mod lock;
pub mod memories;
pub(crate) mod owed_hooks;
pub(crate) mod restored;
pub mod steps;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use snapring_core::rotation::{
    Action, CreateSpans, Event, Hook, HookEnd, HookMoment, Job, Limits, Listed, Next, Rotation,
};
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::call::CallError;
use crate::clock::Clock;
use crate::completion::NextLook;
use crate::memory::RingMemory;
use crate::naming::{ServerId, Tick};
use crate::pins::Pins;
use crate::plan::AskedBy;
use crate::polling::CompletionTimes;
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::provider::shared_listing::When;
use crate::report::{Report, RotationOutcome};
use crate::ring::Ring;
pub(crate) use crate::rotation::create::{ToSend, send_create};
use crate::rotation::hooks::{HookRunner, Invocation, Occasion};
use crate::rotation::lock::{Busy, Claim, Exclusion, OnRestore, Wait};
use crate::rotation::memories::Memories;
use crate::rotation::owed_hooks::{after_has_failed, run_owed_hook};
use crate::rotation::restored::is_still_broken;
use crate::rotation::steps::{OnStep, Steps};
use crate::schedule::Schedule;
use crate::server::Server;
use crate::status::Statuses;

/// What a rotation needs of the world.
#[derive(Clone)]
pub struct Context {
    /// The account.
    pub client: Arc<Client>,
    /// Keeps rotations apart.
    pub exclusion: Exclusion,
    /// Runs hooks.
    pub hooks: Arc<dyn HookRunner>,
    /// How long creates may take to show up in a listing.
    pub spans: CreateSpans,
    /// The pins in force now: a reload may add some while a rotation waits.
    pub pins: Pins,
    /// Who is told what was seen.
    pub statuses: Statuses,
    /// How long snapshots take.
    pub completion_times: CompletionTimes,
    /// What is remembered of each server.
    pub memories: Memories,
    /// Gets each step.
    pub on_step: Option<OnStep>,
    /// Set when snapring shuts down.
    pub shutdown: CancellationToken,
}

/// How many seconds a rotation by hand waits for one that is no tick of the schedule.
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

/// How long a person's command waits for a server that another process works on.
pub(crate) const PATIENCE_BY_HAND: Duration = Duration::from_secs(3600);

/// How many ticks a rotation by hand tries, if each has a snapshot already.
const TICKS_TRIED: usize = 5;

/// A rotation that is to be carried out.
pub struct Order {
    /// Of which server.
    pub server: Arc<Server>,
    /// For which tick. If a person asked, for the messages only: the tick is drawn once the server is
    /// claimed.
    pub tick: Tick,
    /// Who asked.
    pub asked_by: AskedBy,
    /// If the caller already holds it.
    pub claim: Option<Claim>,
    /// Whether the caller goes on running: then a server that is busy or being restored is waited for
    /// until its next rotation is due. Otherwise a restore is not waited for.
    pub by_daemon: bool,
}

/// Rotates one server once. The caller logs the report.
pub async fn rotate(context: &Context, mut order: Order) -> Report {
    let claim = order.claim.take();
    match claim_for(context, &order, claim).await {
        Ok(claim) => rotate_claimed(context, order, &claim).await,
        Err(busy) => busy.report(&order.server, order.tick, order.asked_by),
    }
}

/// Claims the server of an order once it is free. `claim`: if it is held already.
///
/// # Errors
/// When it did not become free in time.
pub(crate) async fn claim_for(
    context: &Context,
    order: &Order,
    claim: Option<Claim>,
) -> Result<Claim, Busy> {
    let Order { server, by_daemon, .. } = order;
    let by_daemon = *by_daemon;
    let clock = context.client.clock();
    let wait = Wait {
        at_most: if by_daemon { Duration::MAX } else { PATIENCE_BY_HAND },
        until: server.next_start_after(clock.now().wall).filter(|_| by_daemon),
        on_restore: if by_daemon { OnRestore::Wait } else { OnRestore::Refuse },
        shutdown: context.shutdown.clone(),
    };
    let zone = &server.policy.time_zone;
    let tell =
        |busy: &Busy, wait: &Wait| event::waits(server, busy, &wait.until_words(clock, zone));
    let subject = (server.id, server.name.clone());
    let activities = context.client.activities();
    let show = |busy: &Busy| {
        let words = busy.in_short(clock.now().wall, zone);
        activities.begin(Some(&subject), Activity::Other(words))
    };
    let clock = (clock, Some(&*context.client));
    let claim =
        context.exclusion.claim_when_free(server.id, claim, &wait, clock, show, tell).await?;
    if let Some(known) = context.statuses.of(server.id).broken()
        && let Some(broken) =
            is_still_broken(&context.client, &claim, known, &context.shutdown).await
    {
        return Err(Busy::Broken(broken.state));
    }
    Ok(claim)
}

/// Rotates a server that is claimed, once. The caller logs the report.
pub(crate) async fn rotate_claimed(context: &Context, order: Order, claim: &Claim) -> Report {
    let Order { server, tick: asked, asked_by, .. } = order;
    let clock = context.client.clock();
    let mut before: Option<Report> = None;
    for _ in 0..TICKS_TRIED {
        let tick = match asked_by {
            AskedBy::Schedule => asked,
            // Not before the server is claimed: another process may have used the tick meanwhile.
            AskedBy::Person => tick_by_hand(clock, [&server]).await,
        };
        let now = clock.now().wall;
        let _under_way = context.statuses.begun(server.id, tick, now);
        let job = Job::beginning(Arc::clone(&server), tick, asked_by, now);
        let report = carry_out(context, job, claim).await;
        let report = match before {
            Some(before) => both(before, report),
            None => report,
        };
        // What a person asks for is a new snapshot. Another process, whose clock differs, has used the
        // tick. One that an earlier command has begun, and that is continued with, has another tick.
        let is_used_up = report.outcome == RotationOutcome::Adopted && report.tick == tick;
        if asked_by == AskedBy::Schedule || !is_used_up {
            return report;
        }
        before = Some(report);
    }
    before.unwrap_or_else(|| Busy::Here.report(&server, asked, asked_by))
}

/// One report of two rotations that belong together.
fn both(first: Report, second: Report) -> Report {
    Report {
        deleted: [first.deleted, second.deleted].concat(),
        deleted_ids: first.deleted_ids.union(&second.deleted_ids).copied().collect(),
        api_calls: first.api_calls.saturating_add(second.api_calls),
        duration_ms: first.duration_ms.saturating_add(second.duration_ms),
        ..second
    }
}

/// Rotates a server that is claimed.
async fn carry_out(context: &Context, job: Job, claim: &Claim) -> Report {
    let clock = context.client.clock();
    let quiesced = run_owed_hook(context.hooks.as_ref(), &job.server, claim).await;
    context.memories.recall(job.server.id).await;
    context.client.refresh_token().await;
    let mut executor = Executor { context, claim, scope: scope(context, &job), job: job.clone() };
    let limits = Limits {
        settle: context.spans.settle,
        retries: context.client.retries(),
        backoff: Box::new(context.client.backoff()),
        completion_times: context.completion_times.clone(),
        was_listed: was_listed(context, job.server.id),
        memory: context.memories.of(job.server.id),
    };
    let begun = clock.now();
    let earlier = claim.last_create_settled_at(begun.uptime, context.spans.shows_up_within).await;
    let server = Arc::clone(&job.server);
    let mut steps = Steps::of(&server, context.client.activities(), context.on_step.as_ref());
    let (mut rotation, mut next) = Rotation::begin(job, limits, earlier, begun);
    loop {
        for remark in rotation.take_remarks() {
            event::remark(&executor.job, &remark, clock.now().wall);
            steps.remark(&remark, clock.now().wall);
        }
        executor.remember(rotation.memory(), &next);
        executor.scope.give_up_at = Some(rotation.give_up_at());
        executor.scope.tick = Some(rotation.tick());
        executor.job.tick = rotation.tick();
        let left = rotation.left();
        steps.leaves(&left);
        context.statuses.leaves(server.id, left);
        let event = match next {
            Next::End(report) => {
                let report = Report { api_calls: executor.scope.calls(), ..*report };
                // Unless an after hook of this rotation has resumed the server.
                let quiesced = match quiesced {
                    Some(_) => claim.quiesced(&server.name).await,
                    None => None,
                };
                return match quiesced {
                    Some(quiesced) => report.of_quiesced_server(&quiesced.words()),
                    None => report,
                };
            }
            Next::Do(action) => {
                let step = steps.begin(&action);
                let event = executor.carry_out(action).await;
                steps.ended(step, &event);
                event
            }
        };
        rotation.set_was_listed(was_listed(context, server.id));
        next = rotation.next(event, clock.now());
    }
}

/// Whether a listing in pages may be relied on: a row that it lacks would be missed, or the tick that made
/// it be remembered.
fn was_listed(context: &Context, server: ServerId) -> bool {
    context.client.has_seen(server) || context.memories.of(server).has_succeeded()
}

fn scope(context: &Context, job: &Job) -> CallContext {
    let mut scope = CallContext::of(&job.server, context.shutdown.clone());
    scope.tick = Some(job.tick);
    scope.pins = context.pins.clone();
    scope
}

/// Carries out one action after the other.
struct Executor<'a> {
    context: &'a Context,
    claim: &'a Claim,
    scope: CallContext,
    job: Job,
}

impl Executor<'_> {
    /// Before anything else is done. What must outlive this process is kept before a create, a hook or a
    /// delete, and at the end.
    fn remember(&self, memory: &RingMemory, next: &Next) {
        let (memories, server) = (&self.context.memories, self.job.server.id);
        memories.set(server, memory);
        let is_long = |action: &Action| {
            matches!(action, Action::RecordCreate(_) | Action::RunHook(_) | Action::Delete(_))
        };
        if matches!(next, Next::End(_)) || matches!(next, Next::Do(action) if is_long(action)) {
            memories.keep(server);
        }
    }

    async fn carry_out(&self, action: Action) -> Event {
        let Context { client, spans, .. } = self.context;
        let now = client.clock().now().uptime;
        match action {
            Action::Look(look) => Event::Listed(self.look(look).await),
            Action::RecordCreate(name) => {
                self.claim.create_begins(&name, now, spans.shows_up_within).await;
                Event::Recorded
            }
            Action::ForgetCreate => {
                self.claim.create_is_settled(now).await;
                Event::Recorded
            }
            Action::RunHook(hook) => Event::HookEnded(self.run_hook(hook).await),
            Action::Create { creation, attempt } => {
                let description = &self.job.server.description;
                let create = ToSend { creation: &creation, description, attempt, spans: *spans };
                let (answer, settled_at) =
                    send_create(client, self.claim, create, &self.scope).await;
                if let Ok(created) = &answer {
                    self.context.statuses.created(created, &self.job.server.policy);
                }
                Event::Created { answer, settled_at }
            }
            Action::Delete(deletion) if self.claim.is_wanted(deletion.snapshot()).await => {
                Event::Deleted(Err(CallError::Pinned))
            }
            Action::Delete(deletion) => Event::Deleted(client.delete(&deletion, &self.scope).await),
            Action::Wait(span) => Event::Waited(client.pause(&self.scope, span).await),
        }
    }

    async fn look(&self, look: NextLook) -> Result<Listed, CallError> {
        let NextLook { wait, slack, sharing } = look;
        let Context { client, statuses, .. } = self.context;
        let earliest = client.clock().now().uptime.saturating_add(wait);
        let when = When { earliest, latest: earliest.saturating_add(slack) };
        let server = &self.job.server;
        let listing = client.look(server.id, &self.scope, when, sharing).await?;
        let ring = Ring::of(listing, &server.policy);
        let earlier_creates_settled_at = self.claim.listed(&ring).await;
        statuses.saw(&ring);
        Ok(Listed { ring, earlier_creates_settled_at })
    }

    async fn run_hook(&self, hook: Hook) -> HookEnd {
        let shutdown = &self.context.shutdown;
        let (moment, result) = match hook.moment {
            HookMoment::Before if shutdown.is_cancelled() => return HookEnd::NotStarted,
            HookMoment::Before => ("before", None),
            HookMoment::After { is_completed: true } => ("after", Some("completed")),
            HookMoment::After { is_completed: false } => ("after", Some("failed")),
        };
        let server = &self.job.server;
        let owes_after = server.hooks.as_ref().is_some_and(|hooks| !hooks.after.is_empty());
        if hook.moment == HookMoment::Before
            && owes_after
            && let Err(problem) = self.claim.quiesces(&server.name, &hook.snapshot).await
        {
            event::not_noted(server, &problem);
        }
        let Hook { argv, timeout, snapshot, .. } = hook;
        let occasion = Occasion { moment, tick: Some(self.job.tick), snapshot, result };
        let invocation = Invocation::of(server, argv, timeout, occasion);
        let running = self.context.hooks.run(invocation);
        let done = match hook.moment {
            HookMoment::Before => tokio::select! {
                biased;
                done = running => done,
                () = shutdown.cancelled() => return HookEnd::Interrupted,
            },
            // What was quiesced must wake.
            HookMoment::After { .. } => {
                let done = running.await;
                match &done {
                    Ok(()) => self.claim.is_awake().await,
                    Err(error) => after_has_failed(server, self.claim, &error.to_string()).await,
                }
                done
            }
        };
        match done {
            Ok(()) => HookEnd::Done,
            Err(error) => HookEnd::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
