//! `snapring list`

use clap::Args;
use serde::Serialize;

use crate::cli::error::CommandError;
use crate::cli::selection::{InState, Selection, none_left};
use crate::cli::setup::{Setup, rings_or_trouble};
use crate::cli::table::{Narrow, Table, lines};
use crate::cli::{ConfigArgument, Exit, console};
use crate::moment::shown;
use crate::naming::{ServerId, SnapshotId, Tick};
use crate::plan;
use crate::plan::forecast::kept;
use crate::readable::{age, size};
use crate::retention::Reason;
use crate::ring::{Holder, Slot};
use crate::snapshot::Snapshot;
use crate::wording::slots_taken;

/// List snapshots: whose they are, how old, why each is kept, and the free slots.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    in_state: InState,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

/// The columns. The age says what a narrow terminal leaves out of the time.
const COLUMNS: [(&str, Narrow); 8] = [
    ("id", Narrow::Stays),
    ("name", Narrow::Stays),
    ("whose", Narrow::Stays),
    ("status", Narrow::Stays),
    ("size", Narrow::Out(1)),
    ("created", Narrow::Out(2)),
    ("age", Narrow::Stays),
    ("kept", Narrow::Below),
];

#[derive(Serialize)]
struct ServerRow<'a> {
    server_id: ServerId,
    server: &'a str,
    cap: u32,
    reserve: u32,
    taken: u32,
    free: u32,
    /// How many snapshots `keep` asks for.
    keep: u32,
    /// How many of these have no slot, because foreign and pinned ones hold it.
    squeezed: u32,
    snapshots: Vec<SnapshotRow>,
}

#[derive(Serialize)]
struct SnapshotRow {
    #[serde(flatten)]
    snapshot: Snapshot,
    holder: &'static str,
    tick: Option<Tick>,
    /// A newer completed snapshot of the same tick exists.
    duplicate: bool,
    age_seconds: i64,
    /// Why `keep` keeps it.
    reason: Option<Reason>,
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
    setup.warn_of_restores(&servers, "list").await;
    let clients = setup.clients_of(&servers)?;
    let memories = setup.memories(&servers).await;
    let (rings, exit) = rings_or_trouble(&clients, &servers).await;
    let are_several = setup.settings.accounts().nth(1).is_some();
    let mut rows = Vec::new();
    let mut text = String::new();
    for (server, ring) in rings {
        let now = setup.clock.now().wall;
        let completed = ring.completed();
        let mut memory = memories.get(&server.id).cloned().unwrap_or_default();
        memory.saw(&ring);
        let verdicts = plan::verdicts(&ring, &server.policy, &memory);
        let reason = |id| verdicts.iter().find(|it| it.id == id).and_then(|it| it.reason.clone());
        let (taken, cap) = (ring.taken(), server.policy.cap);
        let free = cap.saturating_sub(taken);
        let squeezed = server.policy.squeezed_by(ring.held_by_others());
        if arguments.json {
            let row = |slot: &Slot| SnapshotRow {
                snapshot: slot.snapshot.clone(),
                holder: slot.holder.as_str(),
                tick: match slot.holder {
                    Holder::Managed(tick) => Some(tick),
                    Holder::Pinned | Holder::Foreign => None,
                },
                duplicate: completed.duplicate(slot.snapshot.id).is_some(),
                age_seconds: now.duration_since(slot.snapshot.created_at).as_secs(),
                reason: reason(slot.snapshot.id),
            };
            rows.push(ServerRow {
                server_id: server.id,
                server: &server.name,
                cap,
                reserve: server.policy.reserve,
                taken,
                free,
                keep: server.policy.keep.total(),
                squeezed,
                snapshots: ring.slots().iter().map(row).collect(),
            });
            continue;
        }
        let reserved = match server.policy.reserve {
            0 => String::new(),
            reserve => format!(" ({reserve} reserved)"),
        };
        let account = match are_several {
            true => format!(" in account {}", server.id.account),
            false => String::new(),
        };
        text.push_str(&format!(
            "{} ({}){account}: {}, {free} free{reserved}\n",
            server.name,
            server.id,
            slots_taken(taken, cap)
        ));
        if squeezed > 0 {
            let keep = server.policy.keep.total();
            text.push_str(&format!(
                "squeezed: beside {} foreign or pinned, there is room for {} of the {keep} that `keep` asks for\n",
                ring.held_by_others(),
                keep.saturating_sub(squeezed)
            ));
        }
        if taken > 0 {
            let mut table = Table::new(COLUMNS);
            for slot in ring.slots() {
                let Snapshot { id, name, status, size_mb, created_at, .. } = &slot.snapshot;
                table.add_row([
                    id.to_string(),
                    name.to_string(),
                    whose(slot.holder, completed.duplicate(*id).map(|it| it.newest.id)),
                    status.to_string(),
                    size(*size_mb),
                    shown(*created_at, &server.policy.time_zone),
                    age(*created_at, now),
                    kept(slot.holder, status, reason(*id).as_ref(), memory.was_completed(*id)),
                ]);
            }
            text.push_str(&lines(&table));
        }
        for warning in plan::other_prefix_warnings(&ring) {
            text.push_str(&format!("warning: {warning}\n"));
        }
        text.push('\n');
    }
    if arguments.json {
        console::print_json(&rows)?;
    } else {
        console::print(text.trim_end())?;
    }
    Ok(setup.exit(exit, &arguments.selection))
}

fn whose(holder: Holder, newest_of_its_tick: Option<SnapshotId>) -> String {
    match newest_of_its_tick {
        Some(newest) => format!("{}, duplicate of {newest}", holder.as_str()),
        None => holder.as_str().to_owned(),
    }
}
