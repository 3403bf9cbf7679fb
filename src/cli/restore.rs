//! `snapring restore`

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::answer::Verdict;
use crate::cli::by_hand;
use crate::cli::error::CommandError;
use crate::cli::setup::{Setup, Verbosity};
use crate::cli::shutdown::StopSignals;
use crate::cli::{ConfigArgument, Exit, console};
use crate::naming::SnapshotId;
use crate::readable::{age, size};
use crate::snapshot::{Snapshot, Status};

/// Overwrite a server with one of its snapshots: shows what is lost, and asks.
///
/// The provider stops the server first; all its present data are lost, and it cannot be undone. It
/// takes 5 to 15 minutes.
#[derive(Debug, Args)]
#[command(
    override_usage = "snapring restore [OPTIONS] <ID>\n       snapring restore [OPTIONS] latest <SERVER>"
)]
pub(super) struct Arguments {
    /// The snapshot's id, or the word `latest`
    #[arg(value_name = "ID|latest", value_parser = parse_which)]
    which: Which,
    /// After `latest`: id or name of a server, whose newest completed snapshot is meant
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
    let setup = Setup::read(&arguments.config, Verbosity::Quiet)?;
    let client = setup.client()?;
    let snapshot = match (arguments.which, &arguments.server) {
        (Which::Id(id), None) => by_hand::find(&setup, &client, id).await?.0,
        (Which::Latest, Some(name)) => {
            let server = setup.find(name)?;
            let scope = by_hand::scope(&setup, server.id, shutdown.clone());
            let listing = client.list(server.id, &scope).await?;
            let usable = |row: &Snapshot| row.status == Status::Completed;
            listing.snapshots.into_iter().rev().find(usable).ok_or_else(|| {
                CommandError::Failed(format!("{} has no completed snapshot", server.name))
            })?
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
            snapshot.name,
            snapshot.status.as_str()
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
    if arguments.snapshot_first {
        let name = format!("before-restore-{}", now.strftime("%Y%m%d-%H%M%S"));
        let what = format!("before restoring {}", snapshot.id);
        let wait = true;
        by_hand::create(&setup, &client, snapshot.server, &name, &what, wait, shutdown.clone())
            .await?;
        console::note(&format!("{name} is there"));
    }
    let _claim = by_hand::claim(&setup, snapshot.server)?;
    let scope = by_hand::scope(&setup, snapshot.server, shutdown);
    client.restore(&snapshot, &scope).await.map_err(|problem| {
        if problem.verdict() != Verdict::Unknown {
            return problem.into();
        }
        let text = problem.to_string();
        let advice =
            "the restore may have begun all the same: look at the server before you try again";
        CommandError::Unclear { text, advice }
    })?;
    console::print(&format!(
        "server {server_name} is being restored from {}; this may take 5 to 15 minutes",
        snapshot.name
    ))?;
    Ok(Exit::Well)
}
