//! Judges a case by what the provider holds, what it was asked, and what it did. Knows the
//! contract, and nothing of how snapring decides.

use std::collections::BTreeSet;

use snapring::call::Operation;
use snapring::naming::Prefix;
use snapring::sandbox::provider::{Act, StoredSnapshot};

use super::scenario::Command;
use super::stage::{NEIGHBOUR, Part, Stage};
use crate::machine::WEB;

/// Every rule that a case broke.
pub fn violations(stage: &Stage) -> Vec<String> {
    let mut found = stage.complaints.clone();
    for part in &stage.parts {
        judge_part(stage, part, &mut found);
    }
    judge_end(stage, &mut found);
    found
}

/// One rotation's worth: what it may delete hangs on what was there when it began.
fn judge_part(stage: &Stage, part: &Part, found: &mut Vec<String>) {
    let Part { title, own, before, calls, acts } = part;
    let provider = stage.machine.sandbox.provider();
    let mut say = |what: String| found.push(format!("{what} ({title})"));

    for call in provider.calls().range(calls.clone()) {
        match (call.operation, call.status) {
            (Some(Operation::Create), Some(400)) => {
                say("S4: a create without a free slot".to_owned())
            }
            (Some(Operation::Delete), Some(409)) => {
                say(format!("a delete of {:?}, in progress", call.snapshot))
            }
            (Some(Operation::List | Operation::Create | Operation::Delete), _) => {}
            // The daemon's own, once an hour.
            (Some(Operation::Servers), _) => {}
            (other, _) => say(format!("a rotation has no business with {other:?}")),
        }
    }

    let earlier = created(&provider.acts()[..acts.start]);
    let acts = &provider.acts()[acts.clone()];
    let made = created(acts);
    // Of a rotation that died before its create, nobody knows here what it was to make.
    let own = own.as_ref().or(made.last());
    let slots_needed = match own {
        Some(own) if before.iter().any(|row| row.name == *own) => 0,
        _ => (count_managed(stage, before) + 1).saturating_sub(stage.scenario.room()),
    };
    let mut victims = 0;
    for act in acts {
        let Act { row, before, .. } = act;
        if row.server != WEB {
            say(format!("S1: another server's {} was changed", row.name));
        }
        if act.operation == Operation::Create {
            if before.len() >= stage.scenario.cap as usize {
                say(format!("S4: {} was created past the cap", row.name));
            }
            if before.iter().any(|other| other.name == row.name) || earlier.contains(&row.name) {
                say(format!("S3: {} was created a second time", row.name));
            }
            continue;
        }
        if stage.others.contains(&row.id) {
            say(format!("S1: {} is not snapring's to delete", row.name));
        }
        let newest_first = completed(stage, before);
        let rank = newest_first.iter().position(|other| other.id == row.id);
        let is_own = |name| own.map_or_else(|| earlier.contains(name), |own| name == own);
        let may_prune = newest_first.iter().any(|other| is_own(&other.name));
        match rank {
            Some(0) => say(format!("S2: {}, the newest completed, was deleted", row.name)),
            Some(rank) if may_prune && rank >= stage.scenario.keep as usize => {}
            Some(_) => victims += 1,
            None if row.status == "failed" => {}
            None => say(format!("{} was deleted, which is {}", row.name, row.status)),
        }
    }
    if victims > slots_needed {
        say(format!(
            "S2: {victims} completed ones that `keep` asks for, or before the new one was there, \
             were given up for {slots_needed} slots"
        ));
    }
    if made.len() > 1 {
        say(format!("S3: one rotation created {}", made.join(" and ")));
    }
    if let Some(own) = own {
        for name in made.iter().filter(|name| *name != own) {
            say(format!("{name} was created, and not {own}"));
        }
    }
}

/// What is left when all is over.
fn judge_end(stage: &Stage, found: &mut Vec<String>) {
    let mut say = |what: String| found.push(what);
    if stage.scenario.command == Command::Run {
        let missed = stage.at_rest.iter().filter(|row| row.name == stage.missed);
        let states: Vec<&str> = missed.map(|row| row.status.as_str()).collect();
        if states != ["completed"] {
            say(format!("L2: at rest, the missed tick's snapshots are {states:?}"));
        }
    }
    let rows = stage.machine.rows(WEB);
    if stage.machine.names(NEIGHBOUR) != stage.neighbours {
        say("S1: another server's snapshots have changed".to_owned());
    }
    let provider = stage.machine.sandbox.provider();
    if provider.peak() > stage.scenario.cap as usize {
        say(format!("S4: there were {} at once", provider.peak()));
    }
    let prefix: Prefix = "snapring".parse().unwrap();
    let names = created(provider.acts());
    for name in names.iter().filter(|name| prefix.tick_of(name).is_none()) {
        say(format!("{name} is no managed name"));
    }
    let unique: BTreeSet<&String> = names.iter().collect();
    if unique.len() < names.len() {
        say(format!("S3: of the created, some are one: {}", names.join(" ")));
    }
    for id in stage.others.iter().filter(|id| !rows.iter().any(|row| row.id == **id)) {
        say(format!("S1: {id} is gone, which was not snapring's"));
    }
    // All that ever were completed: those of before, those that were deleted, those that are there.
    let deleted = provider.deleted().cloned().collect::<Vec<_>>();
    let ever: Vec<StoredSnapshot> = deleted.into_iter().chain(rows.iter().cloned()).collect();
    let mut expected: Vec<&str> =
        completed(stage, &ever).iter().map(|row| row.name.as_str()).collect();
    expected.truncate(stage.scenario.full());
    let mut managed: Vec<&StoredSnapshot> =
        rows.iter().filter(|row| !stage.others.contains(&row.id)).collect();
    managed.sort_by(|one, other| other.name.cmp(&one.name));
    let left: Vec<&str> = managed.iter().map(|row| row.name.as_str()).collect();
    if left != expected {
        say(format!("L1: the policy wants {expected:?}, there is {left:?}"));
    }
    for row in managed.iter().filter(|row| row.status != "completed") {
        say(format!("L1: {} is {}", row.name, row.status));
    }
}

/// The names that were created, in order.
fn created(acts: &[Act]) -> Vec<String> {
    let creates = acts.iter().filter(|act| act.operation == Operation::Create);
    creates.map(|act| act.row.name.clone()).collect()
}

fn count_managed(stage: &Stage, rows: &[StoredSnapshot]) -> usize {
    rows.iter().filter(|row| !stage.others.contains(&row.id)).count()
}

/// The completed managed ones, newest first. A managed name sorts as its tick does.
fn completed<'a>(stage: &Stage, rows: &'a [StoredSnapshot]) -> Vec<&'a StoredSnapshot> {
    let ours = |row: &&StoredSnapshot| row.status == "completed" && !stage.others.contains(&row.id);
    let mut rows: Vec<&StoredSnapshot> = rows.iter().filter(ours).collect();
    rows.sort_by(|one, other| other.name.cmp(&one.name));
    rows
}
