//! `snapring rotate`

mod result;
mod tell;

use std::collections::HashMap;
use std::sync::Arc;

use clap::{ArgGroup, Args};
use jiff::Timestamp;
use tokio::task::{Id, JoinError, JoinSet};

use crate::cli::by_hand;
use crate::cli::error::{CommandError, NEW_TOKEN};
use crate::cli::manual::this_person;
use crate::cli::recorder::{self, Recorder};
use crate::cli::rotate::result::{Ended, FEW, outcome, story};
use crate::cli::selection::{InState, Selection, none_left};
use crate::cli::setup::{STORE_PATIENCE, Setup};
use crate::cli::shutdown::StopSignals;
use crate::cli::status::gather::last_known;
use crate::cli::table::{lines, table};
use crate::cli::{ConfigArgument, Exit, console, progress, usual};
use crate::naming::Tick;
use crate::plan::AskedBy;
use crate::report::{KnownCause, Report};
use crate::rotation::{Context, Order, event, rotate};
use crate::server::Server;

/// Rotate servers once, now, and wait for the result.
///
/// The tick is the current second; jitter and `min_interval` do not apply. If another snapring process works
/// on a server, the command waits for it, for at most an hour. If an earlier `rotate` was interrupted and its
/// snapshot is still in progress, the command creates no other. It waits for that one until `completion_timeout`
/// has passed since the snapshot was started. Exits with 1 if a rotation did not succeed: no new snapshot was
/// completed, or an old one could not be deleted. The result is added to the history, and the daemon picks it up
/// within seconds.
///
/// Run by a timer, it sends notices at the end, by the rules of the daemon: once when trouble begins, again
/// after `remind`, once when it is over. While a daemon runs with the same servers, webhooks and history, the
/// daemon sends them. Exits with 1 if a notice could not be delivered.
#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("which").args(["servers", "all", "group", "state"]).required(true).multiple(true)
))]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    in_state: InState,
    /// Every enabled server of the configuration
    #[arg(long, conflicts_with = "servers")]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Send notices even at a terminal
    #[arg(long, conflicts_with = "no_notify")]
    notify: bool,
    /// Never send notices
    #[arg(long)]
    no_notify: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let setup = Setup::read(&arguments.config)?.covered().await?;
    let chosen = setup.choose(&arguments.selection, &arguments.in_state).await;
    let mut servers = match chosen {
        Ok(servers) => servers,
        Err(problem) => {
            tell::without_rotation(&setup, arguments.wish()).await?;
            return Err(problem);
        }
    };
    if servers.is_empty() {
        return none_left(arguments.json).map(|exit| setup.exit(exit, &arguments.selection));
    }
    // A disabled one is only rotated, and then skipped, if it is named.
    servers.retain(|server| server.enabled || arguments.selection.names(server));
    if servers.is_empty() {
        return Err(CommandError::Usage("none of these servers is enabled".to_owned()));
    }
    let stop = StopSignals::listen()?;
    let clients = setup.clients_of(&servers)?;
    let Some(first) = servers.first() else { return none_left(arguments.json) };
    // All but the account is the same for all of them.
    let mut context = setup.context("rotate", first.id, stop.asked.clone())?;
    context.statuses = last_known(&setup, STORE_PATIENCE).await.unwrap_or_default();
    let is_few = servers.len() <= FEW;
    let is_for_a_person = !arguments.json && console::is_for_a_person(&arguments.config);
    if is_few && is_for_a_person {
        context.on_step = Some(Arc::new(|step: &str| console::note(step)));
    }
    let notices = tell::Run::begin(&setup, arguments.wish(), &context.exclusion).await;
    let recorder = Recorder::begin(&setup).of(this_person(&setup.clock).await);
    context.memories = recorder.memories(&setup);
    // Only for the messages: each rotation draws its tick.
    let tick = Tick::at(setup.clock.now().wall);
    for client in clients.all() {
        client.serves(servers.iter().filter(|it| it.id.account == client.whose()).count());
    }
    usual::look_up(&setup, &servers);
    progress::count(servers.len());
    let mut rotations = JoinSet::new();
    let mut under_way = HashMap::new();
    for server in &servers {
        let context = Context {
            client: Arc::clone(by_hand::client_of(&clients, server.id)?),
            spans: setup.settings.account_of(server.id).create_spans(),
            ..context.clone()
        };
        let rotated = Arc::clone(server);
        let task = rotations.spawn(async move {
            let asked_by = AskedBy::Person;
            let order = Order { server: rotated, tick, asked_by, claim: None, by_daemon: false };
            let report = rotate(&context, order).await;
            event::log(&report, None);
            report
        });
        under_way.insert(task.id(), Arc::clone(server));
    }
    let mut reports = Vec::new();
    let mut take = |report: Report| {
        let ended = recorder.record(&report);
        progress::counts(report.outcome.as_str());
        if !is_few
            && is_for_a_person
            && !report.outcome.is_good()
            && let Some(server) = servers.iter().find(|it| it.id == report.server_id)
        {
            let left = context.statuses.of(server.id).left.unwrap_or_default();
            console::note(&format!("{}: {}", server.name, outcome(&report, &left, server)));
        }
        reports.push((report, ended));
    };
    let broken_off = |server: &Server, broken: &JoinError| {
        event::broken_off(server, tick, AskedBy::Person, &context.statuses, broken)
    };
    if stop.unless_at_once(join(&mut rotations, &under_way, broken_off, &mut take)).await.is_err() {
        rotations.abort_all();
        join(&mut rotations, &under_way, broken_off, &mut take).await;
    }
    progress::stop_counting();
    let is_recorded = recorder.end().await;
    let sends = progress::doing("sending notices");
    let is_told = notices.tell(&setup, &reports, is_recorded).await;
    drop(sends);
    let mut reports: Vec<Report> = reports.into_iter().map(|(report, _)| report).collect();
    reports.sort_by(|one, other| one.server.cmp(&other.server));
    if arguments.json {
        console::print_json(&reports)?;
    } else {
        let text = match is_few {
            true => stories(&reports, &servers, &context, setup.clock.now().wall),
            false => tell(&reports),
        };
        console::print(text.trim_end())?;
    }
    // The reports name the refusal, each for its server. What to do is said once.
    if reports.iter().any(|report| report.known_cause == Some(KnownCause::Token)) {
        console::note(&format!("hint: {NEW_TOKEN}"));
    }
    if is_for_a_person && is_recorded {
        setup.note_a_daemon(&context.exclusion);
    }
    let good =
        reports.len() == servers.len() && reports.iter().all(|report| report.outcome.is_good());
    if good && is_told {
        let exit = recorder::fails_unless(is_recorded)?;
        return Ok(setup.exit(exit, &arguments.selection));
    }
    Ok(Exit::Trouble)
}

impl Arguments {
    fn wish(&self) -> tell::Wish {
        match (self.notify, self.no_notify) {
            (true, _) => tell::Wish::Yes,
            (_, true) => tell::Wish::No,
            _ => tell::Wish::UnlessAtATerminal,
        }
    }
}

/// Waits until all have ended; one that was broken off has a report too.
async fn join(
    rotations: &mut JoinSet<Report>,
    under_way: &HashMap<Id, Arc<Server>>,
    broken_off: impl Fn(&Server, &JoinError) -> Report,
    take: &mut impl FnMut(Report),
) {
    while let Some(ended) = rotations.join_next().await {
        match ended {
            Ok(report) => take(report),
            Err(broken) => {
                let Some(server) = under_way.get(&broken.id()) else { continue };
                let report = broken_off(server, &broken);
                event::log(&report, None);
                take(report);
            }
        }
    }
}

/// What became of a few servers, with their rings.
fn stories(
    reports: &[Report],
    servers: &[Arc<Server>],
    context: &Context,
    now: Timestamp,
) -> String {
    let statuses = &context.statuses;
    let mut stories = Vec::new();
    for report in reports {
        let Some(server) = servers.iter().find(|it| it.id == report.server_id) else { continue };
        let left = statuses.of(server.id).left.unwrap_or_default();
        statuses.ended(report, now);
        let ring = statuses.of(server.id).ring;
        let memory = context.memories.of(server.id);
        stories.push(story(&Ended { report, server, left, ring, memory }, now));
    }
    stories.join("\n")
}

fn tell(reports: &[Report]) -> String {
    let mut table = table(&["server", "outcome", "created", "deleted", "calls", "took", "reason"]);
    for report in reports {
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        table.add_row([
            report.server.clone(),
            report.outcome.as_str().to_owned(),
            or_dash(report.created.as_deref().unwrap_or_default()),
            or_dash(&report.deleted.join(" ")),
            report.api_calls.to_string(),
            format!("{}.{}s", report.duration_ms / 1000, report.duration_ms % 1000 / 100),
            or_dash(report.reason.as_deref().unwrap_or_default()),
        ]);
    }
    lines(&table)
}
