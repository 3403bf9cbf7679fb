//! `--snapshot-first`: one rotation by hand before the restore, by the rules of every rotation.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cli::error::CommandError;
use crate::cli::restore::carry_out::Task;
use crate::cli::restore::configured;
use crate::cli::restore::stage::Stage;
use crate::cli::setup::Setup;
use crate::cli::{by_hand, console};
use crate::memory::RingMemory;
use crate::naming::{SnapshotId, Tick};
use crate::plan::forecast::{Plan, failed_for, once_failed};
use crate::plan::{AskedBy, Deletion, Step};
use crate::report::{Report, RotationOutcome};
use crate::restore::protecting;
use crate::ring::Ring;
use crate::rotation::lock::Claim;
use crate::rotation::{Order, event, rotate_claimed};
use crate::server::Server;
use crate::snapshot::{Listing, Snapshot, Status};
use crate::wording::{is_or_are, listed};

/// An unfinished snapshot of an earlier `rotate` is continued with. That one holds an older state, so another one
/// is taken.
const ROTATIONS: usize = 2;

/// The rotation that takes a snapshot first.
#[derive(Debug, Clone)]
pub(super) struct First {
    /// With the source of the restore pinned.
    server: Arc<Server>,
    memory: RingMemory,
    plan: Plan,
    /// What it may delete; `None`: whatever the rules allow.
    may_delete: Option<BTreeSet<SnapshotId>>,
}

impl First {
    /// What it will do, from a listing.
    ///
    /// # Errors
    /// When it would not take a snapshot.
    pub(super) async fn plan(
        setup: &Setup,
        source: &Snapshot,
        listing: &Listing,
    ) -> Result<Self, CommandError> {
        let server = Arc::new(protecting(configured(setup, source.server)?, source.id));
        let own = |it: &&Snapshot| it.server == source.server;
        let snapshots = listing.snapshots.iter().filter(own).cloned().collect();
        let listing = Listing::complete(source.server, snapshots, listing.asked_at);
        let mut memories = setup.memories(&[Arc::clone(&server)]).await;
        let memory = memories.remove(&server.id).unwrap_or_default();
        let plan = forecast(setup, &server, listing, &memory)?;
        let may_delete = Some(plan.deletions().map(Deletion::snapshot).collect());
        Ok(Self { server, memory, plan, may_delete })
    }

    /// It may delete what the rotation asks for, because the question was skipped (`--yes`).
    pub(super) fn whatever_it_deletes(self) -> Self {
        Self { may_delete: None, ..self }
    }

    /// What a person is told before it begins.
    pub(super) fn words(&self) -> String {
        let mut text = String::from(
            "First, a snapshot of the server as it is now is created. `keep` counts it, and deletes it later like any \
             other.\n",
        );
        let (waits, at_once): (Vec<_>, Vec<_>) =
            self.victims().iter().partition(|it| self.plan.is_unconfirmed(it));
        // A rotation that a person asks for leaves these to a later one.
        let (later, prunes): (Vec<_>, Vec<_>) =
            self.plan.prunes.iter().partition(|it| self.plan.is_unconfirmed(it));
        if !at_once.is_empty() {
            text.push_str(&format!("  To make room, {} deleted.\n", told(&at_once)));
        }
        if !waits.is_empty() {
            text.push_str(&format!(
                "  To make room, {} deleted {}. Until then, this command waits. If the next tick comes first, \
                 nothing is created or restored.\n",
                told(&waits),
                once_failed()
            ));
        }
        if !prunes.is_empty() {
            text.push_str(&format!("  Once it is completed, {} deleted.\n", told(&prunes)));
        }
        if !later.is_empty() {
            text.push_str(&format!(
                "  A later rotation deletes what has been listed as failed for {}; for now, {} kept.\n",
                failed_for(),
                told(&later)
            ));
        }
        text
    }

    /// What makes room for it.
    fn victims(&self) -> &[Deletion] {
        match &self.plan.step {
            Step::MakeRoom(victims) => victims,
            _ => &[],
        }
    }
}

/// What the rotation will do now.
fn forecast(
    setup: &Setup,
    server: &Server,
    listing: Listing,
    memory: &RingMemory,
) -> Result<Plan, CommandError> {
    let now = setup.clock.now().wall;
    let (ring, tick) = (Ring::of(listing, &server.policy), Tick::at(now));
    let plan = Plan::forecast(&ring, &server.policy, tick, AskedBy::Person, memory, now);
    let why = match &plan.step {
        Step::Blocked(blocked) => blocked.to_string(),
        Step::Skip(skip) => skip.to_string(),
        _ => return Ok(plan),
    };
    Err(CommandError::Failed(format!(
        "{}: no snapshot can be created first, so nothing is restored: {why}\n\
         hint: a restore without --snapshot-first needs no free slot",
        server.name
    )))
}

/// These snapshots as the subject of a sentence, with its verb: `801 a (it failed) and 802 b (…) are`.
fn told(deletions: &[&Deletion]) -> String {
    let one = |it: &&Deletion| format!("{} {} ({})", it.snapshot(), it.name(), it.why());
    let each: Vec<String> = deletions.iter().map(one).collect();
    format!("{} {}", listed(&each), is_or_are(each.len()))
}

impl Task<'_> {
    /// Takes a snapshot of a claimed server, of which this is the present listing.
    pub(super) async fn take_a_snapshot(
        &self,
        first: &First,
        claim: &Claim,
        listing: Listing,
    ) -> Result<Snapshot, CommandError> {
        let (setup, server) = (self.setup, &first.server);
        let plan = forecast(setup, server, listing, &first.memory)?;
        let is_unannounced = |it: &&Deletion| {
            first.may_delete.as_ref().is_some_and(|may| !may.contains(&it.snapshot()))
        };
        let unannounced: Vec<&Deletion> = plan.deletions().filter(is_unannounced).collect();
        if !unannounced.is_empty() {
            return Err(CommandError::Failed(format!(
                "nothing was restored: the server's snapshots have changed since you were asked. With \
                 --snapshot-first, {} deleted now\n\
                 hint: run the command again to see what it would do now",
                told(&unannounced)
            )));
        }
        console::note(&format!(
            "{}: creating a snapshot first, which takes 3 to 10 minutes",
            server.name
        ));
        self.progress.is(Stage::TakingASnapshot);
        let mut report = self.rotate(server, claim).await;
        for _ in 1..ROTATIONS {
            if report.outcome != RotationOutcome::Adopted {
                break;
            }
            console::note(&format!(
                "{}: that snapshot was started earlier; creating one of the present state",
                server.name
            ));
            report = self.rotate(server, claim).await;
        }
        let taken = self.newest_of(&report).await?;
        if report.outcome != RotationOutcome::Rotated {
            console::warning(&format!(
                "warning: the snapshot was created, but its rotation ended differently: {}",
                report.words()
            ));
        }
        self.recording.has_taken(self.recorder, taken.id, &taken.name.to_string());
        // Otherwise the step has said it.
        if self.context.on_step.is_none() {
            console::note(&format!(
                "{}: snapshot {} {} is completed",
                server.name, taken.id, taken.name
            ));
        }
        Ok(taken)
    }

    async fn rotate(&self, server: &Arc<Server>, claim: &Claim) -> Report {
        let tick = Tick::at(self.setup.clock.now().wall);
        let asked_by = AskedBy::Person;
        let order =
            Order { server: Arc::clone(server), tick, asked_by, claim: None, by_daemon: false };
        let report = rotate_claimed(self.context, order, claim).await;
        event::log(&report, None);
        self.recorder.record(&report);
        report
    }

    /// The snapshot that a rotation has created. A listing must show that it is completed: how the rotation ended
    /// is not enough, either way.
    async fn newest_of(&self, report: &Report) -> Result<Snapshot, CommandError> {
        let failed = |why: &str| {
            CommandError::Failed(format!("nothing was restored, the server was not changed: {why}"))
        };
        if self.context.shutdown.is_cancelled() {
            return Err(failed(&report.words()));
        }
        let Some(name) = &report.created else {
            return Err(failed(&format!("no snapshot was created first: {}", report.words())));
        };
        let listing = self.list().await?;
        let is_it = |it: &Snapshot| it.name == **name && it.status == Status::Completed;
        let taken = listing.snapshots.into_iter().rfind(is_it);
        taken.ok_or_else(|| failed(&format!("the snapshot is not completed: {}", report.words())))
    }

    /// A second signal has broken the rotation off: it has its report all the same.
    pub(super) fn rotation_was_broken_off(&self, first: &First) -> String {
        let left = self.context.statuses.of(first.server.id).left.unwrap_or_default();
        let words = left.words(&first.server, AskedBy::Person);
        let tick = Tick::at(self.setup.clock.now().wall);
        let by = crate::report::BrokenOffBy::Request(words.clone());
        let report = Report::broken_off(first.server.id, &first.server.name, tick, by);
        event::log(&report, None);
        self.recorder.record(&report);
        words
    }

    /// The server's snapshots now.
    pub(super) async fn list(&self) -> Result<Listing, CommandError> {
        let server = self.snapshot.server;
        let scope = by_hand::scope(self.setup, server, self.context.shutdown.clone());
        let listed = self.context.client.list(server, &scope).await;
        listed.map_err(|problem| {
            CommandError::Failed(format!("nothing was restored: {}", problem.explained()))
        })
    }
}
