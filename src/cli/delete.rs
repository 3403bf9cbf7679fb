//! `snapring delete`

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::answer::Verdict;
use crate::backoff;
use crate::call::CallError;
use crate::cli::by_hand::{self, OfAccount};
use crate::cli::console::Answer;
use crate::cli::error::CommandError;
use crate::cli::manual::Recording;
use crate::cli::recorder::{self, Recorder};
use crate::cli::setup::Setup;
use crate::cli::shutdown::StopSignals;
use crate::cli::{ConfigArgument, Exit, console, progress};
use crate::manual::{ManualAction, ManualOutcome};
use crate::moment::shown_today;
use crate::naming::SnapshotId;
use crate::patience;
use crate::plan::Deletion;
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::readable::{age, size};
use crate::ring::{Holder, holder};
use crate::snapshot::{Listing, Snapshot, Status};
use crate::wording::listed;

/// Delete snapshots by hand: shows what is lost, and asks once.
///
/// They are deleted one after the other. If one cannot be deleted, the others still are. Pinned snapshots are
/// refused, and the snapshot that a restore needs: while it runs, and after it failed until the server is repaired.
/// The history and the journal record who has deleted them.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The ids of the snapshots, as `snapring list` shows them
    #[arg(value_name = "ID", required = true, value_parser = parse_id)]
    ids: Vec<SnapshotId>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    of_account: OfAccount,
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
    let setup = Setup::read(&arguments.config)?.covered().await?;
    let clients = arguments.of_account.clients(&setup)?;
    let mut ids = arguments.ids;
    let mut known = BTreeSet::new();
    ids.retain(|id| known.insert(*id));
    let found = by_hand::find(&setup, &clients, &ids).await?;
    let lost: Result<Vec<_>, _> = found.iter().map(|it| what_is_lost(&setup, it, &known)).collect();
    lost?.iter().for_each(|text| console::note(text));
    let question = match found.len() {
        1 => "Delete it? It cannot be undone. [yes/no]".to_owned(),
        several => format!("Delete these {several} snapshots? It cannot be undone. [yes/no]"),
    };
    if !arguments.yes
        && let Answer::Declined(why) = console::confirm(&question, "yes")?
    {
        console::note(&format!("nothing was deleted: {why}"));
        return Ok(Exit::Trouble);
    }
    let stop = StopSignals::listen()?;
    let recorder = Recorder::begin(&setup);
    let (mut done, mut first_failure) = (Ok(()), None);
    for (nth, (snapshot, _)) in found.iter().enumerate() {
        if stop.asked.is_cancelled() {
            let left: Vec<String> =
                found.iter().skip(nth).map(|(it, _)| it.id.to_string()).collect();
            console::note(&format!("not deleted, because of the interruption: {}", listed(&left)));
            break;
        }
        let client = by_hand::client_of(&clients, snapshot.server)?;
        let ended = recorded(&setup, client, &recorder, &stop, snapshot).await;
        match ended {
            Ok(text) => done = done.and(console::print(&text)),
            Err(problem) => {
                if found.len() > 1 {
                    console::note(&format!("{} ({}) was not deleted:", snapshot.name, snapshot.id));
                    problem.report();
                }
                first_failure.get_or_insert(problem);
            }
        }
    }
    let is_recorded = recorder.end().await;
    match first_failure {
        None => done.and_then(|()| recorder::fails_unless(is_recorded)),
        Some(problem) if found.len() > 1 => Err(CommandError::Quiet(problem.exit())),
        Some(problem) => Err(problem),
    }
}

/// Deletes one, and records what became of it. Gives what to print.
async fn recorded(
    setup: &Setup,
    client: &Client,
    recorder: &Recorder,
    stop: &StopSignals,
    snapshot: &Snapshot,
) -> Result<String, CommandError> {
    let deleted = (Some(snapshot.id), snapshot.name.to_string());
    let recording =
        Recording::begin(setup, recorder, ManualAction::Delete, snapshot.server, deleted).await;
    let progress = Progress::default();
    let delete = delete(setup, client, snapshot, stop.asked.clone(), &progress);
    let ended = stop.unless_at_once(delete).await.and_then(|ended| ended);
    let ended = ended.map_err(|problem| problem.interrupted_with(|| progress.words(snapshot)));
    let outcome = match &ended {
        Ok(_) => ManualOutcome::Done,
        Err(_) => progress.outcome(),
    };
    let reason = ended.as_ref().err().and_then(|it| it.reason(|| progress.words(snapshot)));
    recording.is(setup, recorder, outcome, reason);
    if matches!(ended, Err(CommandError::Quiet(_))) {
        console::note(&format!("interrupted: {}", progress.words(snapshot)));
    }
    ended
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

    fn words(&self, snapshot: &Snapshot) -> String {
        let Snapshot { id, name, .. } = snapshot;
        match self.outcome() {
            ManualOutcome::Unknown => format!(
                "it is not known whether {name} ({id}) was deleted: `snapring list` shows it within a minute"
            ),
            _ => format!("{name} ({id}) was not deleted"),
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
        console::note(&format!(
            "{}: {}. It does not need {}, which is deleted now",
            by_hand::called(setup, server),
            by_hand::restore_under_way(&restoring),
            snapshot.name
        ));
    }
    if let Some(broken) = by_hand::broken(setup, client, &claim).await
        && broken.needs(id)
    {
        return Err(CommandError::Failed(format!(
            "{} is not deleted: a restore from it failed, and the provider shows server {} as {:?}\n\
             hint: first restore the server again, or repair it in the provider's panel",
            snapshot.name,
            by_hand::called(setup, server),
            broken.state
        )));
    }
    let scope = by_hand::scope(setup, server, shutdown);
    // The person may have thought for long: look again.
    let mut listing = client.list(server, &scope).await?;
    if Deletion::by_hand(id, &listing).is_none() {
        return Ok(format!("{} is already deleted", snapshot.name));
    }
    let mut waits = backoff::doubling(FIRST_WAIT, LONGEST_WAIT).take(TRIES);
    let now = setup.clock.now();
    let give_up_at = now.uptime.saturating_add(patience::LONGEST_WAIT);
    let until = now.wall.checked_add(patience::LONGEST_WAIT).unwrap_or(now.wall);
    let until = shown_today(until, now.wall, &by_hand::zone(setup, server));
    while let Some(deletion) = Deletion::by_hand(id, &listing) {
        progress.may_be_deleted(true);
        let Err(error) = client.delete(&deletion, &scope).await else { break };
        progress.may_be_deleted(error.verdict() == Verdict::Unknown);
        let asked = error.retry_after().unwrap_or_default();
        let wait = waits.next().map(|wait| wait.max(asked)).filter(|wait| *wait <= LONGEST_WAIT);
        let now = setup.clock.now().uptime;
        let wait = wait.filter(|wait| now.saturating_add(*wait) < give_up_at);
        // It may have been deleted all the same, or be deleted later: only a listing shows.
        let (Verdict::Unknown, Some(wait)) = (error.verdict(), wait) else {
            return Err(unknown_or(error, snapshot));
        };
        console::note(&format!(
            "{error}; checking again in {}, and deleting it again if it is still listed, until {until} at the \
             latest. Ctrl-C stops",
            humantime::format_duration(wait)
        ));
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

/// Why a delete is not tried again.
fn unknown_or(error: CallError, snapshot: &Snapshot) -> CommandError {
    match error.verdict() {
        Verdict::Unknown => CommandError::Failed(format!(
            "it is not known whether {} was deleted: {error}\n\
             hint: `snapring list` shows whether it disappears; if not, delete it again",
            snapshot.name
        )),
        _ => error.into(),
    }
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

/// `all`: what is deleted together with it.
fn what_is_lost(
    setup: &Setup,
    (snapshot, listing): &(Snapshot, Listing),
    all: &BTreeSet<SnapshotId>,
) -> Result<String, CommandError> {
    let now = setup.clock.now().wall;
    let Snapshot { id, name, status, .. } = snapshot;
    let server = by_hand::called(setup, snapshot.server);
    let mut text = format!(
        "{id} {name} of server {server}: {status}, {}, created {} ago, {}",
        size(snapshot.size_mb),
        age(snapshot.created_at, now),
        by_hand::whose(setup, snapshot)
    );
    let policy = setup.server(snapshot.server).map(|server| &server.policy);
    if policy.is_some_and(|policy| holder(snapshot, policy) == Holder::Pinned) {
        return Err(CommandError::Usage(format!(
            "{name} is pinned\nhint: remove {id} from `pin` in {} first",
            setup.path.display()
        )));
    }
    let mut usable = listing.snapshots.iter().filter(|row| row.status == Status::Completed).rev();
    let is_newest = usable.clone().next().is_some_and(|newest| newest.id == *id);
    if is_newest && usable.all(|row| all.contains(&row.id)) {
        text.push_str(&format!("\nAfter this, server {server} has no completed snapshot."));
    } else if is_newest {
        text.push_str("\nThis is the newest completed snapshot of its server.");
    }
    Ok(text)
}
