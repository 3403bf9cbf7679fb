//! `snapring rotate`

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinHandle, JoinSet};

use crate::cli::error::CommandError;
use crate::cli::setup::{Setup, Verbosity};
use crate::cli::shutdown::StopSignals;
use crate::cli::table::{lines, table};
use crate::cli::{ConfigArgument, Exit, console};
use crate::clock::Clock;
use crate::naming::Tick;
use crate::plan::AskedBy;
use crate::report::{PastRotation, Report};
use crate::rotation::{Order, event, rotate};
use crate::server::Server;
use crate::store;
use crate::store::place::Place;

/// How long the store is waited for, which costs history and nothing else.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most rotations in one transaction.
const AT_ONCE: usize = 1000;

/// Rotate servers once, now, and wait for the end.
///
/// A person asks, so the tick is the present second, and neither jitter nor `min_interval` applies.
/// If another snapring process works on a server, the command waits for it, at most for an hour.
/// Ends with 1 unless every one of them has its new snapshot. It comes into the history of the
/// daemon's store, and the daemon learns of it there within seconds.
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
    #[command(flatten)]
    config: ConfigArgument,
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let setup = Setup::read(&arguments.config, Verbosity::AsConfigured)?;
    let mut servers = setup.select(&arguments.servers)?;
    if arguments.all {
        servers.retain(|server| server.enabled);
    }
    let stop = StopSignals::listen()?;
    let context = setup.context("rotate", stop.asked.clone())?;
    // Only for the messages: each rotation draws its tick.
    let tick = Tick::at(setup.clock.now().wall);
    context.client.serves(servers.len());
    let mut rotations = JoinSet::new();
    let mut under_way = HashMap::new();
    for server in &servers {
        let (context, rotated) = (context.clone(), Arc::clone(server));
        let task = rotations.spawn(async move {
            let asked_by = AskedBy::Person;
            let order = Order { server: rotated, tick, asked_by, claim: None, by_daemon: false };
            let report = rotate(&context, order).await;
            event::log(&report);
            report
        });
        under_way.insert(task.id(), Arc::clone(server));
    }
    let recorder = Recorder::begin(&setup);
    let mut reports = Vec::new();
    let mut take = |report: Report| {
        recorder.record(&report);
        reports.push(report);
    };
    if stop.unless_at_once(join(&mut rotations, &under_way, tick, &mut take)).await.is_err() {
        rotations.abort_all();
        join(&mut rotations, &under_way, tick, &mut take).await;
    }
    recorder.end().await;
    reports.sort_by(|one, other| one.server.cmp(&other.server));
    if arguments.json {
        console::print_json(&reports)?;
    } else {
        console::print(&tell(&reports))?;
    }
    let good =
        reports.len() == servers.len() && reports.iter().all(|report| report.outcome.is_good());
    Ok(if good { Exit::Well } else { Exit::Trouble })
}

/// Waits until all have ended; one that was broken off has a report too.
async fn join(
    rotations: &mut JoinSet<Report>,
    under_way: &HashMap<Id, Arc<Server>>,
    tick: Tick,
    take: &mut impl FnMut(Report),
) {
    while let Some(ended) = rotations.join_next().await {
        match ended {
            Ok(report) => take(report),
            Err(broken) => {
                let Some(server) = under_way.get(&broken.id()) else { continue };
                let report = event::broken_off(server, tick, &broken);
                event::log(&report);
                take(report);
            }
        }
    }
}

/// Writes rotations that ended into what the daemon keeps, as they end: `history` shows them, and a
/// daemon that runs learns of them there.
struct Recorder {
    ended: mpsc::UnboundedSender<PastRotation>,
    task: JoinHandle<()>,
    clock: Clock,
}

impl Recorder {
    fn begin(setup: &Setup) -> Self {
        let place = setup.store();
        let (ended, mut to_write) = mpsc::unbounded_channel();
        let clock = setup.clock.clone();
        let task = tokio::spawn(async move {
            let mut rotations = Vec::new();
            while to_write.recv_many(&mut rotations, AT_ONCE).await > 0 {
                if place.may_be_there() {
                    write(&place, &rotations, &clock).await;
                }
                rotations.clear();
            }
        });
        Self { ended, task, clock: setup.clock.clone() }
    }

    fn record(&self, report: &Report) {
        // Fails only when the task was ended by a fault.
        let _ = self.ended.send(PastRotation::of(report, self.clock.now().wall));
    }

    async fn end(self) {
        drop(self.ended);
        let _ = self.task.await;
    }
}

async fn write(place: &Place, rotations: &[PastRotation], clock: &Clock) {
    let words = match clock.timeout(PATIENCE, store::add(place, rotations)).await {
        Some(Ok(())) => return,
        // A daemon will begin it.
        Some(Err(trouble)) if trouble.is_empty_store() => return,
        Some(Err(trouble)) => trouble.to_string(),
        None => "no answer".to_owned(),
    };
    console::warning(&format!("this is missing in the history: {place}: {words}"));
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
