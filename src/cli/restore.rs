//! `snapring restore`: what is chosen, shown and asked. [`carry_out`] does it, [`follow`] waits for its end.

mod carry_out;
mod first;
mod follow;
mod stage;

use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;

use crate::cli::at::At;
use crate::cli::by_hand::{self, OfAccount};
use crate::cli::console::Answer;
use crate::cli::error::CommandError;
use crate::cli::manual::{Recording, this_person};
use crate::cli::recorder::{self, Recorder};
use crate::cli::restore::carry_out::Task;
use crate::cli::restore::first::First;
use crate::cli::restore::stage::Progress;
use crate::cli::setup::{STORE_PATIENCE, Setup};
use crate::cli::shutdown::StopSignals;
use crate::cli::{ConfigArgument, Exit, completions, console, progress, usual};
use crate::manual::ManualAction;
use crate::moment::shown;
use crate::naming::{ServerId, SnapshotId};
use crate::other_prefix::OtherPrefix;
use crate::readable::{age, size};
use crate::restore::{Choice, NoChoice, NotedSnapshots, latest, latest_before};
use crate::ring::Ring;
use crate::server::Server;
use crate::snapshot::{Listing, Snapshot, Status};
use crate::store::{self, HistoryFilter};

/// Overwrite a server with one of its snapshots.
///
/// Shows which server and snapshot are meant and what is lost, and asks for the server's name. Then it waits
/// until the provider's list of servers shows that the restore has ended: 5 to 15 minutes. The provider stops
/// the server first. A restore cannot be undone.
///
/// `latest` and `--before` choose a snapshot. They skip those that `--snapshot-first` has created. If neither the
/// provider nor the history shows what a snapshot was created for, they restore nothing. Then decide yourself:
/// `snapring list SERVER` shows all snapshots, and `snapring restore ID` takes any of them.
///
/// Until the restore has ended, at most for 30 minutes, rotations of this server wait, and the snapshots that
/// it needs are not deleted. The history and the journal record who has restored what.
#[derive(Debug, Args)]
#[command(override_usage = "snapring restore [OPTIONS] <ID>\n       \
                    snapring restore [OPTIONS] latest <SERVER>\n       \
                    snapring restore [OPTIONS] --before <TIME> <SERVER>")]
pub(super) struct Arguments {
    /// The snapshot's id, or the word `latest`: the newest completed snapshot of SERVER, managed or foreign.
    /// After a restore that left the server broken, those newer than its source are skipped, too
    #[arg(value_name = "ID|latest")]
    which: String,
    /// Id or name of a server
    #[arg(value_name = "SERVER", add = completions::servers())]
    server: Option<String>,
    /// The newest completed managed snapshot of SERVER that is older than this: for example 26h (ago),
    /// `yesterday` or 2026-11-24T03:00 (in the time zone of the server), or 2026-11-24T03:00:00Z
    #[arg(long, value_name = "TIME", value_parser = At::past)]
    before: Option<At>,
    /// Create a snapshot of the server as it is now first, and wait for it. It is one rotation: if there is no free
    /// slot, the snapshot that `keep` needs least is deleted, and `keep` counts the new one like any other
    #[arg(long)]
    snapshot_first: bool,
    /// Return as soon as the provider has started the restore
    #[arg(long)]
    no_wait: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    of_account: OfAccount,
    #[command(flatten)]
    config: ConfigArgument,
}

/// Which snapshot is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    Id(SnapshotId),
    Latest(String),
    Before(At, String),
}

impl Arguments {
    fn wish(&self) -> Result<Wish, CommandError> {
        let usage = |text: &str| Err(CommandError::Usage(text.to_owned()));
        match (self.before, self.which.as_str(), &self.server) {
            (Some(at), "latest", Some(server)) => Ok(Wish::Before(at, server.clone())),
            (Some(_), "latest", None) => {
                usage("of which server? write `snapring restore --before TIME SERVER`")
            }
            (Some(at), server, None) => Ok(Wish::Before(at, server.to_owned())),
            (Some(_), _, Some(_)) => {
                usage("--before takes one server: `snapring restore --before TIME SERVER`")
            }
            (None, "latest", Some(server)) => Ok(Wish::Latest(server.clone())),
            (None, "latest", None) => {
                usage("of which server? write `snapring restore latest SERVER`")
            }
            (None, id, server) => match (id.parse().map(SnapshotId), server) {
                (Ok(id), None) => Ok(Wish::Id(id)),
                (Ok(_), Some(_)) => usage("an id says which server is meant; leave SERVER out"),
                (Err(_), _) => Err(CommandError::Usage(format!(
                    "{id:?} is neither a snapshot's id nor the word `latest`\n\
                     hint: if it is a server, `snapring restore latest {id}` takes its newest snapshot, and \
                     `snapring list {id}` shows the ids of all"
                ))),
            },
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let wish = arguments.wish()?;
    let setup = Setup::read(&arguments.config)?.covered().await?;
    let (choice, listing) = choose(&setup, &arguments.of_account, &wish).await?;
    let snapshot = choice.snapshot;
    if !choice.passed_over.is_empty() {
        let each = choice.passed_over.iter().map(|(name, why)| format!("{name} ({why})"));
        console::note(&format!("skipped: {}", each.collect::<Vec<_>>().join(", ")));
    }
    if snapshot.status != Status::Completed {
        let Snapshot { name, status, .. } = snapshot;
        return Err(CommandError::Failed(format!("{name} is {status}, not completed")));
    }
    let server = snapshot.server;
    let now = setup.clock.now().wall;
    // It would cost good snapshots for one of a broken server.
    if arguments.snapshot_first
        && let Some(state) = by_hand::broken_state(&setup, server).await?
    {
        return Err(CommandError::Failed(format!(
            "no snapshot of {} is created first: a restore of it failed, and the provider shows it as {state:?}\n\
             hint: restore without --snapshot-first",
            by_hand::called(&setup, server)
        )));
    }
    let first = match arguments.snapshot_first {
        true => Some(First::plan(&setup, &snapshot, &listing).await?),
        false => None,
    };
    console::note(&what_is_lost(&setup, &snapshot, &listing, first.as_ref(), now));
    let server_name =
        setup.server(server).map_or_else(|| server.to_string(), |server| server.name.clone());
    let question = format!("To go on, type the server's name ({server_name}):");
    if !arguments.yes
        && let Answer::Declined(why) = console::confirm(&question, &server_name)?
    {
        console::note(&format!("nothing was restored: {why}"));
        return Ok(Exit::Trouble);
    }
    let stop = StopSignals::listen()?;
    let recorder = Recorder::begin(&setup).of(this_person(&setup.clock).await);
    let mut context = setup.context("restore", server, stop.asked.clone())?;
    context.memories = recorder.memories(&setup);
    if first.is_some() {
        if console::is_for_a_person(&arguments.config) {
            context.on_step = Some(Arc::new(|step: &str| console::note(step)));
        }
        usual::look_up(&setup, &setup.server(server).cloned().into_iter().collect::<Vec<_>>());
    }
    let source = (Some(snapshot.id), snapshot.name.to_string());
    let task = Task {
        recording: Recording::begin(&setup, &recorder, ManualAction::Restore, server, source).await,
        setup: &setup,
        context: &context,
        recorder: &recorder,
        progress: Progress::default(),
        snapshot,
        first: first.map(|first| if arguments.yes { first.whatever_it_deletes() } else { first }),
        waits: !arguments.no_wait,
    };
    let ended = stop.unless_at_once(task.carry_out()).await.and_then(|ended| ended);
    let ended = task.end(ended);
    let is_recorded = recorder.end().await;
    if is_recorded && console::is_for_a_person(&arguments.config) {
        setup.note_a_daemon(&context.exclusion);
    }
    console::print(&ended?)?;
    recorder::fails_unless(is_recorded)
}

/// The snapshot that is wanted, with the listing that shows it.
async fn choose(
    setup: &Setup,
    of_account: &OfAccount,
    wish: &Wish,
) -> Result<(Choice, Listing), CommandError> {
    let name = match wish {
        Wish::Id(id) => {
            let clients = of_account.clients(setup)?;
            let mut found = by_hand::find(setup, &clients, &[*id]).await?;
            let (snapshot, listing) = found.pop().ok_or(CommandError::Quiet(Exit::Trouble))?;
            return Ok((Choice { snapshot, passed_over: Vec::new() }, listing));
        }
        Wish::Latest(name) | Wish::Before(_, name) => name,
    };
    let server = setup.find(name, of_account.name())?;
    let scope = by_hand::scope(setup, server.id, tokio_util::sync::CancellationToken::new());
    let listing = setup.client_of(server.id)?.list(server.id, &scope).await?;
    let failed = match setup.exclusion("restore")?.broken(server.id).await {
        Some(broken) => broken.source,
        None => by_hand::broken_before(setup, server.id).await.and_then(|it| it.source),
    };
    let noted = NotedSnapshots { failed, ..noted(setup, server.id).await };
    let (choice, none) = match wish {
        Wish::Before(at, _) => {
            let zone = &server.policy.time_zone;
            let Some(instant) = at.within(zone, setup.clock.now().wall) else {
                return Err(CommandError::Usage("there is no such time".to_owned()));
            };
            let before = latest_before(&listing, server, instant, &noted);
            (before, format!("no completed managed snapshot from before {}", shown(instant, zone)))
        }
        _ => (latest(&listing, server, &noted), "no completed snapshot".to_owned()),
    };
    let choice = choice.map_err(|why| {
        CommandError::Failed(match why {
            NoChoice::None => {
                let is_completed =
                    |it: &Snapshot| it.server == server.id && it.status == Status::Completed;
                if !listing.snapshots.iter().any(is_completed) {
                    let text = format!("{} has no completed snapshot", server.name);
                    return CommandError::Failed(text);
                }
                let newer = match noted.failed {
                    Some(source) => format!(" or that are newer than {source}, from which a restore failed"),
                    None => String::new(),
                };
                let ring = Ring::of(listing.clone(), &server.policy);
                let others = OtherPrefix::all_in(&ring);
                let others: String =
                    others.iter().map(|it| format!("\n{it}: {}", it.way_out())).collect();
                format!(
                    "{} has {none}, apart from those that earlier restores created first{newer}{others}\n\
                     hint: `snapring list {}` shows what there is; `snapring restore ID` takes any of them",
                    server.name, server.name
                )
            }
            NoChoice::Unclear(both) => unclear(server, &both.0, both.1.as_ref()),
        })
    })?;
    Ok((choice, listing))
}

/// What to say where the newest one may hold what a person wanted to leave.
fn unclear(server: &Server, newest: &Snapshot, other: Option<&Snapshot>) -> String {
    let called = |it: &Snapshot| {
        format!("{} (created {})", it.name, shown(it.created_at, &server.policy.time_zone))
    };
    let other = other.map_or(String::new(), |it| {
        format!(", or `snapring restore {}` for {}", it.id, called(it))
    });
    format!(
        "{0}: it is not known whether {1} was created by a rotation or by `restore --snapshot-first`\n\
         hint: decide by its time, and name the snapshot: run `snapring restore {2}` to use it{other}. `snapring list \
         {0}` shows all",
        server.name,
        called(newest),
        newest.id
    )
}

/// What the history tells of a server's snapshots. Their descriptions tell too.
async fn noted(setup: &Setup, server: ServerId) -> NotedSnapshots {
    let place = setup.store();
    if !place.may_be_there() {
        return NotedSnapshots::default();
    }
    let _reads = progress::doing("reading the history");
    let filter = HistoryFilter { ids: vec![server], ..HistoryFilter::default() };
    let read = async {
        let acts = store::read_manual(&place, &filter).await?;
        let rotations = store::read(&place, &filter).await?;
        Ok::<_, store::StoreError>(NotedSnapshots {
            safety: acts.iter().filter_map(|act| act.safety_id).collect(),
            rotated: rotations.into_iter().filter_map(|it| it.created).collect(),
            failed: None,
        })
    };
    let read = setup.clock.timeout(STORE_PATIENCE, read).await;
    read.and_then(Result::ok).unwrap_or_default()
}

fn what_is_lost(
    setup: &Setup,
    snapshot: &Snapshot,
    listing: &Listing,
    first: Option<&First>,
    now: Timestamp,
) -> String {
    let zone = by_hand::zone(setup, snapshot.server);
    let line = |it: &Snapshot| {
        let created = shown(it.created_at, &zone);
        let (size, age) = (size(it.size_mb), age(it.created_at, now));
        let Snapshot { id, name, status, .. } = it;
        let whose = by_hand::whose(setup, it);
        format!("{id} {name}, {status}, {size}, created {created} ({age} ago), {whose}")
    };
    let mut text = format!(
        "Server {} will be stopped and overwritten with this snapshot:\n  {}\n\
         {}: everything written to the server in the last {}.\n",
        by_hand::called(setup, snapshot.server),
        line(snapshot),
        if first.is_some() {
            "Only in the snapshot that is created first"
        } else {
            "Lost for good"
        },
        age(snapshot.created_at, now)
    );
    let is_newer = |it: &&Snapshot| (it.created_at, it.id) > (snapshot.created_at, snapshot.id);
    let newer: Vec<String> = listing
        .snapshots
        .iter()
        .filter(|it| it.server == snapshot.server)
        .filter(is_newer)
        .map(line)
        .collect();
    match (newer.is_empty(), first) {
        (false, _) => {
            text.push_str(&format!("Newer snapshots of this server:\n  {}\n", newer.join("\n  ")));
        }
        (true, None) => text.push_str(
            "No snapshot contains it. `--snapshot-first` creates one of the present state first.\n",
        ),
        (true, Some(_)) => {}
    }
    if let Some(first) = first {
        text.push_str(&first.words());
    }
    text.push_str("A restore takes 5 to 15 minutes and cannot be undone.");
    text
}

/// The server that a policy is needed for.
fn configured(setup: &Setup, server: ServerId) -> Result<&Arc<Server>, CommandError> {
    let refused = |why: &str| {
        CommandError::Usage(format!(
            "--snapshot-first creates a managed snapshot, and {why}\n\
             hint: create one with `snapring create`, and restore without --snapshot-first"
        ))
    };
    match setup.server(server) {
        None => Err(refused(&format!("server {server} is not in the configuration"))),
        Some(it) if !it.enabled => Err(refused(&format!("{} is disabled", it.name))),
        Some(it) => Ok(it),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn wish(arguments: &[&str]) -> Result<Wish, String> {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            arguments: Arguments,
        }
        let all = [&["restore"], arguments].concat();
        let parsed: Command = clap::Parser::try_parse_from(all).map_err(|it| it.to_string())?;
        parsed.arguments.wish().map_err(|it| it.to_string())
    }

    #[test]
    fn a_snapshot_is_wanted_by_its_id_as_the_latest_or_as_the_latest_before_a_time() {
        let at = At::past("2026-11-24T03:00").unwrap();
        assert_eq!(wish(&["801"]), Ok(Wish::Id(SnapshotId(801))));
        assert_eq!(wish(&["latest", "web"]), Ok(Wish::Latest("web".to_owned())));
        let before = Wish::Before(at, "101".to_owned());
        assert_eq!(wish(&["--before", "2026-11-24T03:00", "101"]), Ok(before.clone()));
        assert_eq!(wish(&["latest", "101", "--before", "2026-11-24T03:00"]), Ok(before));
    }

    #[rstest]
    #[case(&["latest"], "of which server?")]
    #[case(&["801", "web"], "leave SERVER out")]
    #[case(&["web"], "neither a snapshot's id nor the word `latest`")]
    #[case(&["--before", "2026-11-24", "latest"], "of which server?")]
    #[case(&["--before", "2026-11-24", "801", "web"], "takes one server")]
    #[case(&["--before", "recently", "web"], "not a time")]
    fn what_cannot_be_meant_is_explained(#[case] arguments: &[&str], #[case] expected: &str) {
        let error = wish(arguments).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
