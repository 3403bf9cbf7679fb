//! `snapring delete`

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::answer::Verdict;
use crate::backoff;
use crate::cli::by_hand;
use crate::cli::error::CommandError;
use crate::cli::manual::Recording;
use crate::cli::recorder::{self, Recorder};
use crate::cli::setup::Setup;
use crate::cli::shutdown::StopSignals;
use crate::cli::{ConfigArgument, Exit, console, progress};
use crate::manual::{ManualAction, ManualOutcome};
use crate::naming::SnapshotId;
use crate::plan::Deletion;
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::readable::{age, size};
use crate::ring::{Holder, Ring};
use crate::snapshot::{Listing, Snapshot, Status};

/// Delete a snapshot by hand: shows what is lost, and asks.
///
/// Pinned snapshots are refused. The history and the journal record who has deleted it.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The snapshot's id, as `snapring list` shows it
    #[arg(value_name = "ID", value_parser = parse_id)]
    id: SnapshotId,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

/// Between the first two tries of a delete that was put off or not answered, and between later ones at
/// most: a person waits.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often such a delete is tried again.
const TRIES: usize = 6;

fn parse_id(text: &str) -> Result<SnapshotId, String> {
    text.parse().map(SnapshotId).map_err(|_| "not a snapshot's id, see `snapring list`".to_owned())
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let setup = Setup::read(&arguments.config)?;
    let client = setup.client()?;
    let id = arguments.id;
    let (snapshot, listing) = by_hand::find(&setup, &client, id).await?;
    console::note(&what_is_lost(&setup, &snapshot, &listing)?);
    if !arguments.yes && !console::confirm("Delete it? It cannot be undone. [yes/no]", "yes")? {
        console::note("nothing was deleted");
        return Ok(Exit::Trouble);
    }
    let stop = StopSignals::listen()?;
    let recorder = Recorder::begin(&setup);
    let deleted = (Some(id), snapshot.name.to_string());
    let recording =
        Recording::begin(&setup, &recorder, ManualAction::Delete, snapshot.server, deleted).await;
    let progress = Progress::default();
    let delete = delete(&setup, &client, &snapshot, stop.asked.clone(), &progress);
    let ended = stop.unless_at_once(delete).await.and_then(|ended| ended);
    let ended = ended.map_err(|problem| problem.interrupted_with(|| progress.words().to_owned()));
    let outcome = match &ended {
        Ok(_) => ManualOutcome::Done,
        Err(_) => progress.outcome(),
    };
    let reason = ended.as_ref().err().and_then(|it| it.reason(|| progress.words().to_owned()));
    recording.is(&setup, &recorder, outcome, reason);
    let is_recorded = recorder.end().await;
    if matches!(ended, Err(CommandError::Quiet(_))) {
        console::note(&format!("interrupted: {}", progress.words()));
    }
    console::print(&ended?)?;
    recorder::fails_unless(is_recorded)
}

/// Whether a delete may have been carried out.
#[derive(Debug, Default)]
struct Progress(AtomicBool);

impl Progress {
    fn may_be_deleted(&self, may_be: bool) {
        self.0.store(may_be, Ordering::Relaxed);
    }

    /// Of a delete that has not come to its end.
    fn outcome(&self) -> ManualOutcome {
        match self.0.load(Ordering::Relaxed) {
            true => ManualOutcome::Unknown,
            false => ManualOutcome::Failed,
        }
    }

    fn words(&self) -> &'static str {
        match self.outcome() {
            ManualOutcome::Unknown => {
                "it is not known whether it was deleted: `snapring list` shows it within a minute"
            }
            _ => "nothing was deleted",
        }
    }
}

/// Deletes it, and waits until listings do not show it any more. Gives what to print.
async fn delete(
    setup: &Setup,
    client: &Client,
    snapshot: &Snapshot,
    shutdown: CancellationToken,
    progress: &Progress,
) -> Result<String, CommandError> {
    let (id, server) = (snapshot.id, snapshot.server);
    let exclusion = setup.exclusion("delete")?;
    let claim = by_hand::claim(setup, &exclusion, server, shutdown.clone()).await?;
    if let Some((restoring, text)) = by_hand::restoring(setup, client, &claim, server).await {
        if restoring.needs(id) {
            return Err(CommandError::Failed(format!("{} is not deleted: {text}", snapshot.name)));
        }
        console::note(&text);
    }
    let scope = by_hand::scope(setup, server, shutdown);
    // The person may have thought for long: look again.
    let mut listing = client.list(server, &scope).await?;
    if Deletion::by_hand(id, &listing).is_none() {
        return Ok(format!("{} is already deleted", snapshot.name));
    }
    let mut waits = backoff::doubling(FIRST_WAIT, LONGEST_WAIT).take(TRIES);
    while let Some(deletion) = Deletion::by_hand(id, &listing) {
        progress.may_be_deleted(true);
        let Err(error) = client.delete(&deletion, &scope).await else { break };
        progress.may_be_deleted(error.verdict() == Verdict::Unknown);
        let asked = error.retry_after().unwrap_or_default();
        let wait = waits.next().map(|wait| wait.max(asked)).filter(|wait| *wait <= LONGEST_WAIT);
        // It may have been deleted all the same, or be deleted later: only a listing shows.
        let (Verdict::Unknown, Some(wait)) = (error.verdict(), wait) else {
            return Err(error.into());
        };
        console::note(&format!("{error}; checking again in {}", humantime::format_duration(wait)));
        let _waits = progress::doing(format!("checking whether {} was deleted", snapshot.name));
        client.pause(&scope, wait).await?;
        listing = client.list(server, &scope).await?;
    }
    if is_gone(setup, client, snapshot, &scope).await? {
        return Ok(format!("deleted {id} {}", snapshot.name));
    }
    Err(CommandError::Failed(format!(
        "the provider confirmed the deletion of {}, but still lists it\n\
         hint: `snapring list` shows whether it disappears; if not, delete it again",
        snapshot.name
    )))
}

/// Whether listings stop showing what the provider says it has deleted. They may take `settle` for it.
async fn is_gone(
    setup: &Setup,
    client: &Client,
    snapshot: &Snapshot,
    scope: &CallContext,
) -> Result<bool, CommandError> {
    let settle = setup.settings.api.create_spans().settle;
    let since = setup.clock.now().uptime;
    let settled_at = since.saturating_add(settle);
    let mut is_told = false;
    let gone = |listing: &Listing| {
        if Deletion::by_hand(snapshot.id, listing).is_none() {
            return Some(());
        }
        if !is_told && listing.asked_at.uptime < settled_at {
            let settle = humantime::format_duration(settle);
            console::note(&format!("deleted, but still listed; checking again for up to {settle}"));
            is_told = true;
        }
        None
    };
    let _looks = progress::doing(format!("checking whether {} is gone", snapshot.name));
    let looked =
        by_hand::look_until_settled(client, snapshot.server, (since, settled_at), scope, gone)
            .await;
    let gone = looked.map_err(|error| {
        CommandError::Failed(format!(
            "the provider confirmed the deletion of {}; checking whether it disappears: {error}",
            snapshot.name
        ))
    })?;
    Ok(gone.is_some())
}

fn what_is_lost(
    setup: &Setup,
    snapshot: &Snapshot,
    listing: &Listing,
) -> Result<String, CommandError> {
    let now = setup.clock.now().wall;
    let mut text = format!(
        "{} {} of server {}: {}, {}, created {} ago",
        snapshot.id,
        snapshot.name,
        by_hand::called(setup, snapshot.server),
        snapshot.status,
        size(snapshot.size_mb),
        age(snapshot.created_at, now)
    );
    let Some(server) = setup.server(snapshot.server) else { return Ok(text) };
    let ring = Ring::of(listing.clone(), &server.policy);
    let slot = ring.slots().iter().find(|slot| slot.snapshot.id == snapshot.id);
    match slot.map(|slot| slot.holder) {
        Some(Holder::Pinned) => {
            return Err(CommandError::Usage(format!(
                "{} is pinned\nhint: remove {} from `pin` in {} first",
                snapshot.name,
                snapshot.id,
                setup.path.display()
            )));
        }
        Some(Holder::Managed(_)) => text.push_str(", managed"),
        Some(Holder::Foreign) | None => text.push_str(", foreign"),
    }
    let usable = |row: &&Snapshot| row.status == Status::Completed;
    let newest = listing.snapshots.iter().rfind(usable);
    if newest.map(|row| row.id) == Some(snapshot.id) {
        text.push_str("\nThis is the newest completed snapshot of its server.");
    }
    Ok(text)
}
