//! `snapring plan`

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::at::At;
use crate::cli::error::CommandError;
use crate::cli::selection::{InState, Selection, none_left};
use crate::cli::setup::{Setup, rings_or_trouble};
use crate::cli::table::{lines, table};
use crate::cli::{ConfigArgument, Exit, console};
use crate::foreign::ForeignText;
use crate::memory::RingMemory;
use crate::moment::shown;
use crate::naming::{ServerId, SnapshotId, Tick};
use crate::plan::forecast::Plan;
use crate::plan::{AskedBy, Blocked, Deletion, Step};
use crate::readable::age;
use crate::ring::Ring;
use crate::server::Server;
use crate::snapshot::Status;
use crate::wording::slots_taken;

/// Show what the next rotation would create and delete, and why; changes nothing.
///
/// This is the plan that `rotate` and `run` carry out. Exits with 1 if a rotation would be blocked.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    in_state: InState,
    /// Plan the first tick at or after this time, for example 26h (from now), `tomorrow 03:00` or
    /// 2026-11-24T03:00 (in the time zone of the server), or 2026-11-24T03:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = At::future)]
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
    slots: u32,
    taken_before: u32,
    taken_after: u32,
    snapshots: Vec<FateRow<'a>>,
    warnings: &'a [String],
    /// What the ticks after this one will do.
    then: Vec<ThenRow<'a>>,
}

#[derive(Serialize)]
struct ThenRow<'a> {
    tick: Tick,
    action: &'static str,
    deletes: Vec<&'a Deletion>,
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
    let setup = Setup::read_to_look(&arguments.config)?.covered().await?;
    let servers = setup.choose(&arguments.selection, &arguments.in_state).await?;
    if servers.is_empty() {
        return none_left(arguments.json).map(|exit| setup.exit(exit, &arguments.selection));
    }
    setup.warn_of_restores(&servers, "plan").await;
    let clients = setup.clients_of(&servers)?;
    let memories = setup.memories(&servers).await;
    let (rings, mut exit) = rings_or_trouble(&clients, &servers).await;
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
        let then = afterwards(server, &plan, &memory, now);
        if matches!(plan.step, Step::Blocked(_)) {
            exit = Exit::Trouble;
        }
        if arguments.json {
            let row = serde_json::to_value(row(server, &ring, &plan, &then));
            json.push(row.map_err(|_| CommandError::Quiet(Exit::Trouble))?);
        } else {
            text.push_str(&tell(server, &ring, &plan, &then, now));
        }
    }
    if arguments.json {
        console::print_json(&json)?;
    } else {
        console::print(text.trim_end())?;
    }
    Ok(setup.exit(exit, &arguments.selection))
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

/// How many ticks after the planned one are foretold.
const TICKS_AFTERWARDS: usize = 3;

/// The ticks after the planned one, if each succeeds and nothing else changes.
fn afterwards(server: &Server, plan: &Plan, memory: &RingMemory, now: Timestamp) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    for _ in 0..TICKS_AFTERWARDS {
        let last = plans.last().unwrap_or(plan);
        let Some(tick) = server.next_tick_after(last.tick.instant()) else { break };
        let then = tick.instant().max(now);
        plans.push(Plan::forecast(
            &last.after,
            &server.policy,
            tick,
            AskedBy::Schedule,
            memory,
            then,
        ));
    }
    plans
}

/// The first tick at or after the time asked for, or after now.
fn tick_to_plan(server: &Server, at: Option<At>, now: Timestamp) -> Option<Tick> {
    let from = match at {
        None => now,
        Some(at) => just_before(at.within(&server.policy.time_zone, now)?)?,
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

fn row<'a>(server: &'a Server, ring: &Ring, plan: &'a Plan, then: &'a [Plan]) -> Row<'a> {
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
        slots: server.policy.cap,
        taken_before: ring.taken(),
        taken_after: plan.after.taken(),
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
        then: then
            .iter()
            .map(|plan| ThenRow {
                tick: plan.tick,
                action: self::action(&plan.step),
                deletes: plan.deletions().collect(),
            })
            .collect(),
    }
}

fn tell(server: &Server, ring: &Ring, plan: &Plan, then: &[Plan], now: Timestamp) -> String {
    let zone = &server.policy.time_zone;
    let tick = shown(plan.tick.instant(), zone);
    let mut text = format!("{} ({}), tick {tick}", server.name, server.id);
    let start = server.starts_at(plan.tick);
    if start != plan.tick.instant() {
        text.push_str(&format!(" (starts {})", start.to_zoned(zone.clone()).strftime("%H:%M:%S")));
    }
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
    text.push_str(&format!(
        "\n{} now, {} afterwards\n",
        slots_taken(ring.taken(), server.policy.cap),
        plan.after.taken()
    ));
    if !plan.fates.is_empty() {
        let mut table = table(&["", "id", "name", "whose", "status", "created", "age", "why"]);
        for fate in &plan.fates {
            let snapshot = &fate.slot.snapshot;
            table.add_row([
                if fate.goes { "delete" } else { "keep" }.to_owned(),
                snapshot.id.to_string(),
                snapshot.name.to_string(),
                fate.slot.holder.as_str().to_owned(),
                snapshot.status.to_string(),
                shown(snapshot.created_at, zone),
                age(snapshot.created_at, now),
                fate.why.clone(),
            ]);
        }
        text.push_str(&lines(&table));
    }
    for warning in &plan.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    for plan in then {
        let tick = plan.tick.instant().to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M %Z");
        let deletes: Vec<&str> = plan.deletions().map(Deletion::name).collect();
        let deletes = match deletes.as_slice() {
            [] => String::new(),
            names => format!(", delete {}", names.join(", ")),
        };
        text.push_str(&format!("then {tick}: {}{deletes}\n", action(&plan.step)));
    }
    text.push('\n');
    text
}
