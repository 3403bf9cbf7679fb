//! What a rotation would do: the decisions of [`crate::plan`], foretold from one listing.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::memory::{FAILED_FOR, Failed, RingMemory};
use crate::naming::{SnapshotId, Tick};
use crate::other_prefix::OtherPrefix;
use crate::plan::{
    AskedBy, DeleteReason, Deletion, Progress, Squeeze, Step, YET_TO_COME, kept_victims, next_step,
    other_prefix_warnings, prune, verdicts, warnings,
};
use crate::policy::Policy;
use crate::retention::Reason;
use crate::ring::{Holder, Ring, Slot};
use crate::snapshot::{Listing, Snapshot, Status};
use crate::wording::{is_or_are, listed};

/// What a rotation would do, and what becomes of each snapshot.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For which tick.
    pub tick: Tick,
    /// The first step.
    pub step: Step,
    /// What is pruned once the new snapshot is there.
    pub prunes: Vec<Deletion>,
    /// The failed snapshots that are not deleted before later listings have shown them as failed too.
    unconfirmed: BTreeSet<SnapshotId>,
    /// Each snapshot with its fate, oldest first.
    pub fates: Vec<Fate>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// The ring once everything is done. As it is now, where nothing will be.
    pub after: Ring,
}

/// What becomes of one snapshot, and why.
#[derive(Debug, Clone)]
pub struct Fate {
    /// Of which.
    pub slot: Slot,
    /// Whether it goes.
    pub goes: bool,
    /// The newest completed snapshot of its tick, if that is another one.
    pub duplicate_of: Option<SnapshotId>,
    /// Why it stays or goes.
    pub why: String,
}

impl Plan {
    /// Foretells a rotation from one listing: what [`next_step`] and [`prune`] will say if every
    /// call succeeds and nothing else changes.
    #[must_use]
    pub fn forecast(
        ring: &Ring,
        policy: &Policy,
        tick: Tick,
        asked_by: AskedBy,
        memory: &RingMemory,
        now: Timestamp,
    ) -> Self {
        let progress = Progress { memory: memory.foreseen(ring), ..Progress::default() };
        let step = next_step(ring, policy, tick, asked_by, &progress, now);
        let (future, own) = future_ring(ring, policy, tick, &step, now);
        let prunes = match own {
            Some(own) => prune(&future, policy, own, &progress),
            None => Vec::new(),
        };
        let unconfirmed = unconfirmed(ring, memory);
        let fates = fates(ring, policy, &step, (&prunes, &unconfirmed), &future, &progress.memory);
        let mut warnings = warnings(ring, policy, &step, &progress.memory, now);
        warnings.extend(deletes_first(&step));
        warnings.extend(squeezed(ring, policy, &step));
        // A blocked ring says it itself.
        if !matches!(step, Step::Blocked(_)) {
            warnings.append(&mut other_prefix_warnings(ring));
        }
        let after = without(&future, policy, &prunes);
        Self { tick, step, prunes, unconfirmed, fates, warnings, after }
    }

    /// Everything that the rotation would delete, in order.
    pub fn deletions(&self) -> impl Iterator<Item = &Deletion> {
        let victims: &[Deletion] = match &self.step {
            Step::MakeRoom(victims) => victims,
            _ => &[],
        };
        victims.iter().chain(&self.prunes)
    }

    /// Whether a snapshot is deleted only after later listings have shown it as failed too.
    #[must_use]
    pub fn is_unconfirmed(&self, deletion: &Deletion) -> bool {
        is_unconfirmed(deletion, &self.unconfirmed)
    }
}

fn is_unconfirmed(deletion: &Deletion, unconfirmed: &BTreeSet<SnapshotId>) -> bool {
    deletion.why() == DeleteReason::Failed && unconfirmed.contains(&deletion.snapshot())
}

/// The managed snapshots that are listed as failed now, but not for long enough to be deleted for it.
fn unconfirmed(ring: &Ring, memory: &RingMemory) -> BTreeSet<SnapshotId> {
    let mut seen = memory.clone();
    seen.saw(ring);
    let is_doubtful = |it: &&Snapshot| matches!(seen.failed(it, ring), Some(Failed::Perhaps(_)));
    ring.managed().map(|(snapshot, _)| snapshot).filter(is_doubtful).map(|it| it.id).collect()
}

/// How long a snapshot must have been listed as failed before it is deleted for that: `5 minutes`.
#[must_use]
pub fn failed_for() -> String {
    format!("{} minutes", FAILED_FOR.as_secs() / 60)
}

/// When a failed snapshot is deleted.
#[must_use]
pub fn once_failed() -> String {
    format!("once it has been listed as failed for {}", failed_for())
}

/// For a list of snapshots: why one is kept, or when it is deleted. `reason`: why `keep` keeps it.
/// `was_completed`: a listing has shown it so.
#[must_use]
pub fn kept(
    holder: Holder,
    status: &Status,
    reason: Option<&Reason>,
    was_completed: bool,
) -> String {
    match (holder, reason, status) {
        (Holder::Foreign | Holder::Pinned, ..) => "never deleted".to_owned(),
        (Holder::Managed(_), Some(reason), _) => reason.to_string(),
        (Holder::Managed(_), None, Status::Failed) if !was_completed => {
            format!("no: deleted {}", once_failed())
        }
        (Holder::Managed(_), None, Status::Completed | Status::Failed) => {
            "no: deleted at the next rotation".to_owned()
        }
        (Holder::Managed(_), None, Status::InProgress | Status::Other(_)) => String::new(),
    }
}

/// The ring cannot be as large as `keep` asks for. A blocked one, and one that gives up a snapshot for it, say so
/// themselves.
fn squeezed(ring: &Ring, policy: &Policy, step: &Step) -> Option<String> {
    if matches!(step, Step::Blocked(_)) || kept_victims(step).next().is_some() {
        return None;
    }
    let squeeze = Squeeze::of(ring, policy)?;
    // Where some look like snapring's own, another warning says what to do.
    match OtherPrefix::all_in(ring).is_empty() {
        true => Some(format!("{squeeze}. Delete some of them, or lower `keep`")),
        false => Some(squeeze.to_string()),
    }
}

/// Until the new snapshot is completed, there is one restore point less. A squeezed ring says itself what it gives
/// up.
fn deletes_first(step: &Step) -> Option<String> {
    let Step::MakeRoom(victims) = step else { return None };
    let is_told = |why: DeleteReason| why == DeleteReason::Squeezed || !why.costs_a_restore_point();
    let costs = victims.iter().filter(|victim| !is_told(victim.why()));
    let names: Vec<&str> = costs.map(Deletion::name).collect();
    (!names.is_empty()).then(|| {
        format!(
            "there is no free slot, so {} {} deleted before the new snapshot exists. With one slot less in \
             `keep` or `reserve`, or one foreign snapshot less, the new one would come first",
            listed(&names),
            is_or_are(names.len())
        )
    })
}

/// A ring without what is pruned. The new snapshot has an id as the provider may have given it, so that another
/// one can follow.
fn without(ring: &Ring, policy: &Policy, prunes: &[Deletion]) -> Ring {
    let is_pruned = |it: &Snapshot| prunes.iter().any(|prune| prune.snapshot() == it.id);
    let mut left: Vec<Snapshot> =
        ring.listing().snapshots.iter().filter(|it| !is_pruned(it)).cloned().collect();
    let highest = left.iter().map(|it| it.id).filter(|id| *id != YET_TO_COME).max();
    for new in left.iter_mut().filter(|it| it.id == YET_TO_COME) {
        new.id = SnapshotId(highest.map_or(1, |id| id.0.saturating_add(1)));
    }
    let Listing { server, asked_at, .. } = *ring.listing();
    Ring::of(Listing::complete(server, left, asked_at), policy)
}

/// The ring as it will stand when the wait is over, and the rotation's own snapshot in it.
fn future_ring(
    ring: &Ring,
    policy: &Policy,
    tick: Tick,
    step: &Step,
    now: Timestamp,
) -> (Ring, Option<SnapshotId>) {
    let mut snapshots = ring.listing().snapshots.clone();
    let own = match step {
        Step::Adopt(found) => Some(found.id),
        Step::MakeRoom(_) | Step::AwaitRoom | Step::AwaitFailed(_) | Step::Create(_) => {
            let newest = snapshots.iter().map(|snapshot| snapshot.created_at).max();
            snapshots.push(Snapshot {
                id: YET_TO_COME,
                server: ring.listing().server,
                name: policy.prefix.name(tick).into(),
                status: Status::InProgress,
                size_mb: None,
                created_at: newest.map_or(now, |newest| newest.max(now)),
                description: None,
            });
            Some(YET_TO_COME)
        }
        Step::Skip(_) | Step::Blocked(_) => None,
    };
    if let Step::MakeRoom(victims) = step {
        let gone: BTreeSet<SnapshotId> = victims.iter().map(Deletion::snapshot).collect();
        snapshots.retain(|snapshot| !gone.contains(&snapshot.id));
    }
    for snapshot in &mut snapshots {
        if Some(snapshot.id) == own && snapshot.status == Status::InProgress {
            snapshot.status = Status::Completed;
        }
    }
    let listing = Listing::complete(ring.listing().server, snapshots, ring.listing().asked_at);
    (Ring::of(listing, policy), own)
}

fn fates(
    ring: &Ring,
    policy: &Policy,
    step: &Step,
    (prunes, unconfirmed): (&[Deletion], &BTreeSet<SnapshotId>),
    future: &Ring,
    memory: &RingMemory,
) -> Vec<Fate> {
    let verdicts = verdicts(future, policy, memory);
    let completed_now = ring.completed();
    let victims: &[Deletion] = match step {
        Step::MakeRoom(victims) => victims,
        _ => &[],
    };
    let fate = |slot: &Slot| {
        let id = slot.snapshot.id;
        let duplicate = completed_now.duplicate(id).map(|duplicate| duplicate.newest.id);
        let cause = |deletion: &Deletion| match (deletion.why(), duplicate) {
            (DeleteReason::Duplicate, Some(newest)) => {
                format!("{newest} is a newer snapshot of the same tick")
            }
            _ if is_unconfirmed(deletion, unconfirmed) => {
                format!("it failed; only {}", once_failed())
            }
            (why, _) => why.to_string(),
        };
        if let Some(victim) = victims.iter().find(|victim| victim.snapshot() == id) {
            let why = format!("before the create, to make room: {}", cause(victim));
            return Fate { slot: slot.clone(), goes: true, duplicate_of: duplicate, why };
        }
        if let Some(pruned) = prunes.iter().find(|pruned| pruned.snapshot() == id) {
            let why = format!("after the new snapshot is completed: {}", cause(pruned));
            return Fate { slot: slot.clone(), goes: true, duplicate_of: duplicate, why };
        }
        let verdict = verdicts.iter().find(|verdict| verdict.id == id);
        let reason = verdict.and_then(|verdict| verdict.reason.as_ref());
        let why = match (slot.holder, &slot.snapshot.status) {
            (Holder::Foreign, _) => "foreign, never deleted".to_owned(),
            (Holder::Pinned, _) => "pinned, never deleted".to_owned(),
            (Holder::Managed(_), Status::Completed) => match (reason, duplicate) {
                (Some(reason), _) => reason.to_string(),
                (None, Some(newest)) => format!(
                    "{newest} is a newer snapshot of the same tick; deleted once a rotation succeeds"
                ),
                (None, None) => "until a new snapshot is completed".to_owned(),
            },
            (Holder::Managed(_), status) => match memory.failed(&slot.snapshot, ring) {
                Some(Failed::WasCompleted) => {
                    "listed as failed, but it was completed once, and counts as a good one"
                        .to_owned()
                }
                Some(Failed::Broken) => {
                    "listed as failed, but it was completed once; while there is room".to_owned()
                }
                Some(Failed::Surely | Failed::Perhaps(_)) | None => format!("{status}: left alone"),
            },
        };
        Fate { slot: slot.clone(), goes: false, duplicate_of: duplicate, why }
    };
    ring.slots().iter().map(fate).collect()
}

#[cfg(test)]
mod tests;
