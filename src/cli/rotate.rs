//! `snapring rotate`

mod result;
mod tell;

use std::collections::HashMap;
use std::sync::Arc;

use clap::{ArgGroup, Args};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};

use crate::cli::error::CommandError;
use crate::cli::rotate::result::{Ended, FEW, outcome, story};
use crate::cli::setup::{self, STORE_PATIENCE, Setup};
use crate::cli::shutdown::StopSignals;
use crate::cli::table::{lines, table};
use crate::cli::{ConfigArgument, Exit, console, progress, usual};
use crate::clock::Clock;
use crate::memory::RingMemory;
use crate::naming::{ServerId, Tick};
use crate::plan::AskedBy;
use crate::report::{PastRotation, Report};
use crate::rotation::memories::Memories;
use crate::rotation::{Order, event, rotate};
use crate::server::Server;
use crate::status::Statuses;
use crate::store::place::Place;
use crate::store::{self, ServerMemories};

/// The most that is written in one transaction.
const AT_ONCE: usize = 1000;

/// Rotate servers once, now, and wait for the end.
///
/// A person asks, so the tick is the present second, and neither jitter nor `min_interval` applies.
/// If another snapring process works on a server, the command waits for it, at most for an hour.
/// If an earlier `rotate` was interrupted and its snapshot is still in progress, the command continues
/// with that one and creates no other. It does so until `completion_timeout` after its start.
/// Ends with 1 unless every one of them has its new snapshot. It comes into the history of the
/// daemon's store, and the daemon learns of it there within seconds.
///
/// Failures and recoveries are told to each `[[notify]]` at the end, by the rules of the daemon: once when trouble
/// begins, again after `remind`, once when it is over. While a daemon runs with the same servers, webhooks and store,
/// that is left to it. Also ends with 1 if a notice could not be delivered.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").args(["servers", "all"]).required(true)))]
pub(super) struct Arguments {
    /// Ids or names of servers
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,
    /// Every enabled server of the configuration
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Send notices although a person runs this at a terminal
    #[arg(long, conflicts_with = "no_notify")]
    notify: bool,
    /// Send no notices, though no terminal is there
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
    let setup = Setup::read(&arguments.config)?;
    let mut servers = setup.select(&arguments.servers)?;
    if arguments.all {
        servers.retain(|server| server.enabled);
    }
    let stop = StopSignals::listen()?;
    let mut context = setup.context("rotate", stop.asked.clone())?;
    let is_few = servers.len() <= FEW;
    let is_for_a_person = !arguments.json && console::is_for_a_person(&arguments.config);
    if is_few && is_for_a_person {
        context.on_step = Some(Arc::new(|step: &str| console::note(step)));
    }
    let notices = tell::Run::begin(&setup, arguments.wish(), &context.exclusion).await;
    let recorder = Recorder::begin(&setup);
    context.memories = recorder.memories(&setup);
    // Only for the messages: each rotation draws its tick.
    let tick = Tick::at(setup.clock.now().wall);
    context.client.serves(servers.len());
    usual::look_up(&setup, &servers);
    progress::count(servers.len());
    let mut rotations = JoinSet::new();
    let mut under_way = HashMap::new();
    for server in &servers {
        let (context, rotated) = (context.clone(), Arc::clone(server));
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
    let writes = progress::doing("writing the result into the history");
    let is_recorded = recorder.end().await;
    drop(writes);
    let sends = progress::doing("sending notices");
    let is_told = notices.tell(&setup, &reports, is_recorded).await;
    drop(sends);
    let mut reports: Vec<Report> = reports.into_iter().map(|(report, _)| report).collect();
    reports.sort_by(|one, other| one.server.cmp(&other.server));
    if arguments.json {
        console::print_json(&reports)?;
    } else {
        let text = match is_few {
            true => stories(&reports, &servers, &context.statuses, setup.clock.now().wall),
            false => tell(&reports),
        };
        console::print(text.trim_end())?;
    }
    let good =
        reports.len() == servers.len() && reports.iter().all(|report| report.outcome.is_good());
    Ok(if good && is_told { Exit::Well } else { Exit::Trouble })
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

/// What comes into the store.
enum ToWrite {
    Rotation(PastRotation),
    Memory(ServerId, RingMemory),
}

/// Writes rotations that ended, and what is to be remembered of their servers, into what the daemon keeps,
/// as they end: `history` shows them, and a daemon that runs learns of them there.
struct Recorder {
    to_write: mpsc::UnboundedSender<ToWrite>,
    /// Ends with whether all was written.
    task: JoinHandle<bool>,
    clock: Clock,
}

impl Recorder {
    fn begin(setup: &Setup) -> Self {
        let place = setup.store();
        let (sender, mut to_write) = mpsc::unbounded_channel();
        let clock = setup.clock.clone();
        let task = tokio::spawn(async move {
            let (mut portion, mut all_written) = (Vec::new(), true);
            while to_write.recv_many(&mut portion, AT_ONCE).await > 0 {
                let (mut rotations, mut memories) = (Vec::new(), ServerMemories::new());
                for one in portion.drain(..) {
                    match one {
                        ToWrite::Rotation(rotation) => rotations.push(rotation),
                        ToWrite::Memory(server, memory) => {
                            memories.insert(server, memory);
                        }
                    }
                }
                all_written &= write(&place, &rotations, &memories, &clock).await;
            }
            all_written
        });
        Self { to_write: sender, task, clock: setup.clock.clone() }
    }

    /// When it ended.
    fn record(&self, report: &Report) -> Timestamp {
        // Fails only when the task was ended by a fault.
        let ended = self.clock.now().wall;
        let _ = self.to_write.send(ToWrite::Rotation(PastRotation::of(report, ended)));
        ended
    }

    /// What is remembered of servers: read once each is claimed. What changes is written.
    fn memories(&self, setup: &Setup) -> Memories {
        // Weak, so that the task ends with the recorder.
        let to_write = self.to_write.downgrade();
        let keep = move |server, memory: &RingMemory| {
            if let Some(to_write) = to_write.upgrade() {
                let _ = to_write.send(ToWrite::Memory(server, memory.clone()));
            }
        };
        let (place, clock) = (setup.store(), setup.clock.clone());
        let recall = move |server| -> BoxFuture<'static, Option<RingMemory>> {
            let (place, clock) = (place.clone(), clock.clone());
            Box::pin(
                async move { setup::memories(&place, &clock, &[server]).await.remove(&server) },
            )
        };
        Memories::kept(ServerMemories::new(), Arc::new(keep)).recalled_by(Arc::new(recall))
    }

    /// Whether all is written.
    async fn end(self) -> bool {
        drop(self.to_write);
        self.task.await.unwrap_or(false)
    }
}

async fn write(
    place: &Place,
    rotations: &[PastRotation],
    memories: &ServerMemories,
    clock: &Clock,
) -> bool {
    let added = store::add(place, rotations, memories, clock.now().wall);
    let words = match clock.timeout(STORE_PATIENCE, added).await {
        Some(Ok(())) => return true,
        Some(Err(trouble)) => trouble.to_string(),
        None => "no answer".to_owned(),
    };
    console::warning(&format!("this is missing in the history: {place}: {words}"));
    false
}

/// What became of a few servers, with their rings.
fn stories(
    reports: &[Report],
    servers: &[Arc<Server>],
    statuses: &Statuses,
    now: Timestamp,
) -> String {
    let mut stories = Vec::new();
    for report in reports {
        let Some(server) = servers.iter().find(|it| it.id == report.server_id) else { continue };
        let left = statuses.of(server.id).left.unwrap_or_default();
        statuses.ended(report, now);
        let ring = statuses.of(server.id).ring;
        stories.push(story(&Ended { report, server, left, ring }, now));
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
