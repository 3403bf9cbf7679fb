//! `snapring restore`

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::answer::Verdict;
use crate::call::CallError;
use crate::cli::by_hand::{self, CreateProgress, Wanted};
use crate::cli::error::CommandError;
use crate::cli::setup::Setup;
use crate::cli::shutdown::StopSignals;
use crate::cli::{ConfigArgument, Exit, console};
use crate::foreign::ForeignText;
use crate::naming::SnapshotId;
use crate::readable::{age, size};
use crate::rotation::lock::{Claim, RestoreAnswer};
use crate::snapshot::{Listing, Snapshot, Status};

/// Overwrite a server with one of its snapshots: shows what is lost, and asks.
///
/// The provider stops the server first; all its present data are lost, and it cannot be undone. It
/// takes 5 to 15 minutes. For 30 minutes, no rotation of this server starts and the snapshots that the
/// restore needs are not deleted.
#[derive(Debug, Args)]
#[command(
    override_usage = "snapring restore [OPTIONS] <ID>\n       snapring restore [OPTIONS] latest <SERVER>"
)]
pub(super) struct Arguments {
    /// The snapshot's id, or the word `latest`
    #[arg(value_name = "ID|latest", value_parser = parse_which)]
    which: Which,
    /// After `latest`: id or name of a server, whose newest completed snapshot is meant; never one that
    /// `--snapshot-first` has made
    #[arg(value_name = "SERVER")]
    server: Option<String>,
    /// Make a snapshot of the present state first, and wait for it
    #[arg(long)]
    snapshot_first: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

/// What the names of snapshots begin with that `--snapshot-first` makes.
const SAFETY_PREFIX: &str = "before-restore-";

#[derive(Debug, Clone, Copy)]
enum Which {
    Latest,
    Id(SnapshotId),
}

fn parse_which(text: &str) -> Result<Which, String> {
    if text == "latest" {
        return Ok(Which::Latest);
    }
    text.parse()
        .map(|id| Which::Id(SnapshotId(id)))
        .map_err(|_| "neither a snapshot's id nor the word `latest`".to_owned())
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let stop = StopSignals::listen()?;
    stop.unless_at_once(restore(arguments, stop.asked.clone())).await?
}

async fn restore(arguments: Arguments, shutdown: CancellationToken) -> Result<Exit, CommandError> {
    let setup = Setup::read(&arguments.config)?;
    let client = setup.client()?;
    let snapshot = match (arguments.which, &arguments.server) {
        (Which::Id(id), None) => by_hand::find(&setup, &client, id).await?.0,
        (Which::Latest, Some(name)) => {
            let server = setup.find(name)?;
            let scope = by_hand::scope(&setup, server.id, shutdown.clone());
            let listing = client.list(server.id, &scope).await?;
            let (latest, passed_over) = latest(listing).ok_or_else(|| {
                CommandError::Failed(format!(
                    "{} has no completed snapshot, but for those that earlier restores made first",
                    server.name
                ))
            })?;
            if !passed_over.is_empty() {
                console::note(&format!(
                    "{} is the latest that was not made by `restore --snapshot-first`; passed over: {}",
                    latest.name,
                    passed_over.join(", ")
                ));
            }
            latest
        }
        (Which::Latest, None) => {
            let text = "of which server? write `snapring restore latest SERVER`";
            return Err(CommandError::Usage(text.to_owned()));
        }
        (Which::Id(_), Some(_)) => {
            let text = "an id says which server is meant; leave SERVER out";
            return Err(CommandError::Usage(text.to_owned()));
        }
    };
    if snapshot.status != Status::Completed {
        return Err(CommandError::Failed(format!(
            "{} is {}, not completed",
            snapshot.name, snapshot.status
        )));
    }
    let now = setup.clock.now().wall;
    let server_name = setup
        .server(snapshot.server)
        .map_or_else(|| snapshot.server.to_string(), |server| server.name.clone());
    let first = match arguments.snapshot_first {
        true => "; a snapshot of the present state is made first",
        false => "",
    };
    console::note(&format!(
        "Server {} will be stopped and overwritten with\n  {} {}, {}, made {} ago.\n\
         Everything written since then is lost{}.",
        by_hand::called(&setup, snapshot.server),
        snapshot.id,
        snapshot.name,
        size(snapshot.size_mb),
        age(snapshot.created_at, now),
        first
    ));
    let question = format!("To go on, type the server's name ({server_name}):");
    if !arguments.yes && !console::confirm(&question, &server_name)? {
        console::note("nothing was restored");
        return Ok(Exit::Trouble);
    }
    let server = snapshot.server;
    // The rotation that it may have to wait for must not delete what is to be restored.
    let exclusion = setup.exclusion("restore")?;
    exclusion.restore_is_wanted(server, snapshot.id).await;
    let claim = by_hand::claim(&setup, "restore", server, shutdown.clone()).await;
    exclusion.restore_waits_no_more(server).await;
    let claim = claim?;
    let before = by_hand::restoring(&setup, &client, &claim, server).await;
    if let Some((restoring, text)) = &before {
        // One that was not confirmed may not have begun. If it has, the provider refuses another.
        if restoring.answer != RestoreAnswer::Unclear {
            return Err(CommandError::Failed(text.clone()));
        }
        console::note(text);
    }
    let mut safety = None;
    if arguments.snapshot_first {
        let name = format!("{SAFETY_PREFIX}{}", now.strftime("%Y%m%d-%H%M%S"));
        let description = format!("before restoring {}", snapshot.id);
        let wanted = Wanted { server, name: &name, description: &description, wait: true };
        by_hand::check_name(&setup, server, &name)?;
        let progress = CreateProgress::default();
        let made =
            by_hand::create(&setup, &client, &claim, &wanted, shutdown.clone(), &progress).await?;
        safety = Some(made.id);
        console::note(&format!("{name} is there"));
    }
    let scope = by_hand::scope(&setup, server, shutdown);
    let source = (snapshot.id, &snapshot.name);
    hold(&claim, source, safety, RestoreAnswer::Unclear).await;
    if let Err(problem) = client.restore(&snapshot, &scope).await {
        if !may_have_begun(&problem) {
            claim.restore_is_over().await;
            if let Some((source, name)) = before.as_ref().and_then(|it| it.0.source.as_ref()) {
                let safety = before.as_ref().and_then(|(restoring, _)| restoring.safety);
                hold(&claim, (*source, &name.as_str().into()), safety, RestoreAnswer::Unclear)
                    .await;
            }
            return Err(problem.into());
        }
        let text = problem.to_string();
        let advice = "the restore may have begun all the same: look at the server before you try \
                      again. Rotations of this server wait for 30 minutes";
        return Err(CommandError::Unclear { text, advice });
    }
    hold(&claim, source, safety, RestoreAnswer::Confirmed).await;
    if by_hand::status(&client, server).await.is_some_and(|it| it == "restoring") {
        hold(&claim, source, safety, RestoreAnswer::Listed).await;
    }
    console::print(&format!(
        "server {server_name} is being restored from {}; this may take 5 to 15 minutes",
        snapshot.name
    ))?;
    Ok(Exit::Well)
}

/// The newest completed snapshot, but for those that a restore has made first: they hold the state that
/// was to be overwritten. Also their names.
fn latest(listing: Listing) -> Option<(Snapshot, Vec<String>)> {
    let mut passed_over = Vec::new();
    let mut completed =
        listing.snapshots.into_iter().rev().filter(|row| row.status == Status::Completed);
    let latest = completed.find(|row| {
        let is_safety = row.name.starts_with(SAFETY_PREFIX);
        if is_safety {
            passed_over.push(row.name.to_string());
        }
        !is_safety
    })?;
    Some((latest, passed_over))
}

/// Whether the provider may have begun a restore that it did not confirm.
fn may_have_begun(problem: &CallError) -> bool {
    problem.verdict() == Verdict::Unknown
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
