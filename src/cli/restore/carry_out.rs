//! Sends a restore, once it is confirmed and the server is free, and says what state things are in.

use std::time::Duration;

use jiff::SignedDuration;

use crate::activity::Activity;
use crate::answer::Verdict;
use crate::backoff;
use crate::call::CallError;
use crate::cli::by_hand;
use crate::cli::console;
use crate::cli::error::CommandError;
use crate::cli::manual::Recording;
use crate::cli::progress::activities;
use crate::cli::recorder::Recorder;
use crate::cli::restore::first::First;
use crate::cli::restore::stage::{Progress, Stage};
use crate::cli::setup::Setup;
use crate::foreign::ForeignText;
use crate::manual::ManualOutcome;
use crate::moment::shown_today;
use crate::naming::SnapshotId;
use crate::patience::{LONGEST_WAIT, Patience};
use crate::polling;
use crate::restore::ServerState;
use crate::rotation::Context;
use crate::rotation::lock::{Claim, LONGEST_RESTORE, NotedRestores, RestoreAnswer};
use crate::rotation::restored::state_of;
use crate::snapshot::{Snapshot, Status};

/// Between two attempts, if the provider is busy or throttles.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A restore that is confirmed.
pub(super) struct Task<'a> {
    pub(super) setup: &'a Setup,
    pub(super) context: &'a Context,
    pub(super) recorder: &'a Recorder,
    pub(super) recording: Recording,
    pub(super) progress: Progress,
    /// What it reads.
    pub(super) snapshot: Snapshot,
    pub(super) first: Option<First>,
    /// Whether to wait until it has ended.
    pub(super) waits: bool,
}

impl Task<'_> {
    /// Restores, and gives what to print.
    pub(super) async fn carry_out(&self) -> Result<String, CommandError> {
        let Self { setup, context, snapshot, .. } = self;
        let (client, exclusion) = (&context.client, &context.exclusion);
        let server = snapshot.server;
        // The rotation that it may have to wait for must not delete what is to be restored.
        let wanted = exclusion.restore_is_wanted(server, snapshot.id).await;
        let claim = by_hand::claim(setup, exclusion, server, context.shutdown.clone()).await;
        exclusion.restore_waits_no_more(wanted).await;
        let claim = claim.map_err(|busy| match busy {
            CommandError::Failed(text) => {
                CommandError::Failed(format!("nothing was restored: {text}"))
            }
            other => other,
        })?;
        if let Some((restoring, text)) = by_hand::restoring(setup, client, &claim, server).await {
            // One that was not confirmed may not have begun. If it has, the provider refuses another.
            if restoring.answer != RestoreAnswer::Unclear {
                return Err(CommandError::Failed(text));
            }
            if self.first.is_some() {
                return Err(CommandError::Failed(format!(
                    "nothing was restored: {text}. Until then, no snapshot of the present state can be created. \
                     Wait, or restore without `--snapshot-first`"
                )));
            }
            console::note(&format!(
                "{}: {}. This restore is sent anyway: if the earlier one is running, the provider refuses this one",
                by_hand::called(setup, server),
                by_hand::restore_under_way(&restoring)
            ));
        }
        // The person may have thought for long.
        let listing = self.list().await?;
        let is_there = |it: &Snapshot| it.id == snapshot.id && it.status == Status::Completed;
        if !listing.snapshots.iter().any(is_there) {
            return Err(CommandError::Failed(format!(
                "nothing was restored: {} ({}) is not there any more",
                snapshot.name, snapshot.id
            )));
        }
        let safety = match &self.first {
            Some(first) => Some(self.take_a_snapshot(first, &claim, listing).await?.id),
            None => None,
        };
        let now = setup.clock.now().wall;
        let longest = SignedDuration::try_from(LONGEST_RESTORE).unwrap_or_default();
        self.progress.is_sent(now.checked_add(longest).unwrap_or(now));
        self.recording.is_sent(self.recorder);
        let source = (snapshot.id, &snapshot.name);
        let scope = by_hand::scope(setup, server, context.shutdown.clone());
        let sent_at = client.clock().now().uptime;
        let earlier = claim.noted_restores().await;
        hold(&claim, source, safety, RestoreAnswer::Unclear).await;
        let mut tries = Tries::default();
        while let Err(problem) = client.restore(snapshot, &scope).await {
            let begun = if problem.verdict() == Verdict::Unknown {
                console::note(&format!(
                    "{problem}; checking whether the restore has started anyway"
                ));
                let looks = Activity::Other("checking whether the restore has started".to_owned());
                let _looks = activities().begin(Some(&by_hand::subject(setup, server)), looks);
                self.has_begun().await
            } else {
                Some(false)
            };
            match (begun, problem.is_put_off()) {
                (Some(true), _) => break,
                (Some(false), true) if self.may_try_again(&mut tries, &problem).await => {}
                (Some(false), true) => {
                    return Err(self.was_refused(&claim, &earlier, &problem).await);
                }
                (Some(false), false) if problem.verdict() != Verdict::Unknown => {
                    return Err(self.was_refused(&claim, &earlier, &problem).await);
                }
                (Some(false) | None, _) => return Err(self.unclear(&problem)),
            }
        }
        self.progress.is(Stage::Begun);
        hold(&claim, source, safety, RestoreAnswer::Confirmed).await;
        if self.state().await == Some(ServerState::Restoring) {
            hold(&claim, source, safety, RestoreAnswer::Listed).await;
        }
        // Others may look at the server. The note holds what would disturb the restore.
        drop(claim);
        if self.waits {
            self.recording.is(setup, self.recorder, ManualOutcome::Started, None);
            return self.follow(sent_at).await;
        }
        Ok(format!("{}. This may take 5 to 15 minutes", self.begun()))
    }

    /// It has not begun. Ends its note.
    async fn was_refused(
        &self,
        claim: &Claim,
        earlier: &NotedRestores,
        problem: &CallError,
    ) -> CommandError {
        self.progress.is(Stage::Refused);
        // If that cannot be noted, its snapshots stay protected for longer than needed.
        let _ = claim.restore_is_refused(earlier).await;
        self.refused(problem)
    }

    /// Waits before the restore is sent again, which the provider has put off, if tries and time are left.
    async fn may_try_again(&self, tries: &mut Tries, problem: &CallError) -> bool {
        let Context { client, shutdown, .. } = self.context;
        let (setup, server) = (self.setup, self.snapshot.server);
        let retries = setup.settings.account_of(server).retries;
        let asked = problem.retry_after().unwrap_or_default();
        let wait = tries.backoff.next().unwrap_or_default().max(asked);
        let now = client.clock().now();
        let Some(outcome) = problem.outcome() else { return false };
        if wait > LONGEST_WAIT || !tries.patience.allows(outcome, retries, wait, now.uptime) {
            return false;
        }
        let at = now.wall.checked_add(wait).unwrap_or(now.wall);
        let zone = by_hand::zone(setup, server);
        let at = shown_today(at, now.wall, &zone);
        console::note(&format!("the restore has not started; trying again at {at}"));
        let waits = Activity::Other(format!("trying the restore again at {at}"));
        let _waits = activities().begin(Some(&by_hand::subject(setup, server)), waits);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => false,
            () = client.clock().sleep(wait) => true,
        }
    }

    /// After an answer that is not clear: whether the list of servers shows the restore, before it would have
    /// to. `None`: the server is not listed.
    async fn has_begun(&self) -> Option<bool> {
        let clock = self.context.client.clock();
        let since = clock.now().uptime;
        let settled_at = since.saturating_add(self.context.spans.settle);
        loop {
            let state = self.state().await;
            if state == Some(ServerState::Restoring) {
                return Some(true);
            }
            let now = clock.now().uptime;
            if now >= settled_at {
                return state.map(|_| false);
            }
            if self.context.shutdown.is_cancelled() {
                return None;
            }
            clock.sleep(polling::until_settled(since, settled_at, now)).await;
        }
    }

    /// The state of the server, if the provider lists it.
    async fn state(&self) -> Option<ServerState> {
        let Context { client, shutdown, .. } = self.context;
        let word = state_of(client, self.snapshot.server, shutdown).await.ok().flatten()?;
        Some(ServerState::of(&word))
    }

    pub(super) fn begun(&self) -> String {
        let server = by_hand::called(self.setup, self.snapshot.server);
        format!("server {server} is being restored from {}", self.source())
    }

    pub(super) fn source(&self) -> String {
        format!("{} ({})", self.snapshot.name, self.snapshot.id)
    }

    fn refused(&self, problem: &CallError) -> CommandError {
        if *problem == CallError::Interrupted {
            return CommandError::Failed(
                "interrupted: nothing was restored, the server was not changed".to_owned(),
            );
        }
        let kept = match &self.first {
            Some(_) => ". The snapshot that was created first is kept",
            None => "",
        };
        CommandError::Failed(format!(
            "nothing was restored, the server was not changed: {}\n\
             hint: see in the provider's panel what state the server is in, and try again{kept}",
            problem.explained()
        ))
    }

    fn unclear(&self, problem: &CallError) -> CommandError {
        CommandError::Failed(format!(
            "it is not known whether the restore has started: {}\n\
             hint: look at the server in the provider's panel before you try again. {}",
            problem.cause(),
            self.held()
        ))
    }

    /// What holds until the restore has ended.
    pub(super) fn held(&self) -> String {
        let now = self.setup.clock.now().wall;
        let zone = by_hand::zone(self.setup, self.snapshot.server);
        let until = shown_today(self.progress.held_until().unwrap_or(now), now, &zone);
        format!(
            "Rotations of this server wait until the restore has ended, at the latest until {until}; \
             until then {} cannot be deleted",
            self.source()
        )
    }

    /// What is said and recorded of its end.
    pub(super) fn end(&self, ended: Result<String, CommandError>) -> Result<String, CommandError> {
        let stage = self.progress.stage();
        let broken_off = matches!(ended, Err(CommandError::Quiet(_)));
        let left = if broken_off { self.left(stage) } else { String::new() };
        if broken_off {
            console::note(&format!("interrupted: {left}"));
        }
        let reason = ended.as_ref().err().and_then(|it| it.reason(|| left));
        self.recording.is(self.setup, self.recorder, stage.outcome(), reason);
        ended
    }

    /// What an interruption leaves, and what to do next.
    pub(super) fn left(&self, stage: Stage) -> String {
        match (stage, &self.first) {
            (Stage::Nothing | Stage::Refused, _) | (Stage::TakingASnapshot, None) => {
                "nothing was restored, the server was not changed".to_owned()
            }
            (Stage::TakingASnapshot, Some(first)) => {
                let left = self.rotation_was_broken_off(first);
                format!("nothing was restored, the server was not changed. Of the snapshot: {left}")
            }
            (Stage::Perhaps, _) => format!(
                "it is not known whether the restore has started: look at the server in the \
                 provider's panel before you try again. {}",
                self.held()
            ),
            (Stage::Begun, _) => format!(
                "the restore continues at the provider, and takes 5 to 15 minutes in all: the \
                 provider's panel shows when the server is active again. {}",
                self.held()
            ),
            (Stage::Ended, _) => "the restore has ended".to_owned(),
            (Stage::Failed, _) => "the restore has failed".to_owned(),
        }
    }
}

/// Attempts to send a restore.
struct Tries {
    patience: Patience,
    backoff: Box<dyn Iterator<Item = Duration> + Send>,
}

impl Default for Tries {
    fn default() -> Self {
        let backoff = backoff::doubling(FIRST_RETRY, LAST_RETRY);
        Self { patience: Patience::default(), backoff: Box::new(backoff) }
    }
}

/// Keeps other snapring processes away from the server until the restore must have ended.
async fn hold(
    claim: &Claim,
    source: (SnapshotId, &ForeignText),
    safety: Option<SnapshotId>,
    answer: RestoreAnswer,
) {
    let noted = claim.restore_begins(source, safety, answer).await;
    if let Err(problem) = noted {
        console::warning(&format!(
            "warning: other snapring processes do not learn of this restore: {problem}\n\
             hint: stop the daemon until the restore has ended"
        ));
    }
}
