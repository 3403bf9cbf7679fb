//! `snapring plan`

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::at::At;
use crate::cli::error::CommandError;
use crate::cli::setup::{Setup, Verbosity, rings_or_trouble};
use crate::cli::table::{lines, table};
use crate::cli::{ConfigArgument, Exit, console};
use crate::foreign::ForeignText;
use crate::memory::RingMemory;
use crate::naming::{ServerId, SnapshotId, Tick};
use crate::plan::forecast::Plan;
use crate::plan::{AskedBy, Blocked, Deletion, Step};
use crate::readable::age;
use crate::ring::Ring;
use crate::server::Server;
use crate::snapshot::Status;

/// Show what the next rotation would create and delete, and why; changes nothing.
///
/// It is the very plan that `rotate` and `run` carry out. Ends with 1 when a ring is blocked.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Ids or names of servers; none: all
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,
    /// Plan the first tick at or after this time, say 2026-11-24T03:00:00Z or, in the server's own
    /// time zone, 2026-11-24T03:00 [default: now]
    #[arg(long, value_name = "TIME", value_parser = At::parse)]
    at: Option<At>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Serialize)]
struct Row<'a> {
    server_id: ServerId,
    server: &'a str,
    tick: Tick,
    action: &'static str,
    creates: Option<String>,
    adopts: Option<&'a ForeignText>,
    skips: Option<String>,
    blocked: Option<&'a Blocked>,
    deletes: Vec<&'a Deletion>,
    snapshots: Vec<FateRow<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct FateRow<'a> {
    id: SnapshotId,
    name: &'a ForeignText,
    holder: &'static str,
    status: &'a Status,
    created_at: Timestamp,
    goes: bool,
    duplicate: bool,
    why: &'a str,
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let setup = Setup::read(&arguments.config, Verbosity::Quiet)?;
    let servers = setup.select(&arguments.servers)?;
    let client = setup.client()?;
    let memories = setup.memories(&servers).await;
    let (rings, mut exit) = rings_or_trouble(&client, &servers).await;
    let mut json = Vec::new();
    let mut text = String::new();
    for (server, ring) in rings {
        let now = setup.clock.now().wall;
        let Some(tick) = tick_to_plan(server, arguments.at, now) else {
            let error = CommandError::of_server(server, "its schedules have no tick then");
            error.report();
            exit = error.exit();
            continue;
        };
        let memory = memories.get(&server.id).cloned().unwrap_or_default();
        let plan = foretell(server, &ring, tick, &memory, now);
        if matches!(plan.step, Step::Blocked(_)) {
            exit = Exit::Trouble;
        }
        if arguments.json {
            let row = serde_json::to_value(row(server, &plan));
            json.push(row.map_err(|_| CommandError::Quiet(Exit::Trouble))?);
        } else {
            text.push_str(&tell(server, &plan, now));
        }
    }
    if arguments.json {
        console::print_json(&json)?;
    } else {
        console::print(text.trim_end())?;
    }
    Ok(exit)
}

/// What the rotation of a tick would do, asked for now.
pub(super) fn foretell(
    server: &Server,
    ring: &Ring,
    tick: Tick,
    memory: &RingMemory,
    now: Timestamp,
) -> Plan {
    // At the tick, or now if that is later: when the new snapshot would be made.
    let then = tick.instant().max(now);
    Plan::forecast(ring, &server.policy, tick, AskedBy::Schedule, memory, then)
}

/// The first tick at or after the time asked for, or after now.
fn tick_to_plan(server: &Server, at: Option<At>, now: Timestamp) -> Option<Tick> {
    let from = match at {
        None => now,
        Some(at) => just_before(at.within(&server.policy.time_zone)?)?,
    };
    server.next_tick_after(from)
}

fn just_before(instant: Timestamp) -> Option<Timestamp> {
    instant.checked_sub(jiff::SignedDuration::from_nanos(1)).ok()
}

fn action(step: &Step) -> &'static str {
    match step {
        Step::Adopt(_) => "adopt",
        Step::Skip(_) => "skip",
        Step::MakeRoom(_) | Step::AwaitRoom | Step::AwaitFailed(_) | Step::Create(_) => "create",
        Step::Blocked(_) => "blocked",
    }
}

fn row<'a>(server: &'a Server, plan: &'a Plan) -> Row<'a> {
    let action = action(&plan.step);
    Row {
        server_id: server.id,
        server: &server.name,
        tick: plan.tick,
        action,
        creates: (action == "create").then(|| server.policy.prefix.name(plan.tick)),
        adopts: match &plan.step {
            Step::Adopt(snapshot) => Some(&snapshot.name),
            _ => None,
        },
        skips: match &plan.step {
            Step::Skip(skip) => Some(skip.to_string()),
            _ => None,
        },
        blocked: match &plan.step {
            Step::Blocked(blocked) => Some(blocked),
            _ => None,
        },
        deletes: plan.deletions().collect(),
        snapshots: plan
            .fates
            .iter()
            .map(|fate| FateRow {
                id: fate.slot.snapshot.id,
                name: &fate.slot.snapshot.name,
                holder: fate.slot.holder.as_str(),
                status: &fate.slot.snapshot.status,
                created_at: fate.slot.snapshot.created_at,
                goes: fate.goes,
                duplicate: fate.duplicate_of.is_some(),
                why: &fate.why,
            })
            .collect(),
        warnings: &plan.warnings,
    }
}

fn tell(server: &Server, plan: &Plan, now: Timestamp) -> String {
    let mut text = format!("{} ({}), tick {}", server.name, server.id, plan.tick);
    if !server.enabled {
        text.push_str(" (disabled: it will be skipped)");
    }
    text.push_str(": ");
    text.push_str(&match &plan.step {
        Step::Adopt(snapshot) => format!("adopt {}, which is there already", snapshot.name),
        Step::Skip(skip) => format!("skip, {skip}"),
        Step::Blocked(blocked) => format!("blocked: {blocked}"),
        Step::MakeRoom(_) | Step::AwaitRoom | Step::AwaitFailed(_) | Step::Create(_) => {
            format!("create {}", server.policy.prefix.name(plan.tick))
        }
    });
    let deletions = plan.deletions().count();
    if deletions > 0 {
        text.push_str(&format!(", delete {deletions}"));
    }
    text.push('\n');
    if !plan.fates.is_empty() {
        let mut table = table(&["", "id", "name", "whose", "status", "age", "why"]);
        for fate in &plan.fates {
            let snapshot = &fate.slot.snapshot;
            table.add_row([
                if fate.goes { "delete" } else { "keep" }.to_owned(),
                snapshot.id.to_string(),
                snapshot.name.to_string(),
                fate.slot.holder.as_str().to_owned(),
                snapshot.status.to_string(),
                age(snapshot.created_at, now),
                fate.why.clone(),
            ]);
        }
        text.push_str(&lines(&table));
    }
    for warning in &plan.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text.push('\n');
    text
}
