//! What should happen next? Every decision about a server's snapshots, none of the doing.
//!
//! `plan` prints what [`forecast::Plan`] says; `rotate` and the daemon ask [`next_step`] and
//! [`prune`], which the forecast is made of. A [`Deletion`] or a [`Creation`] can be had from here
//! only, and each carries the moment of the listing that it rests on.

pub mod forecast;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::foreign::ForeignText;
use crate::memory::{Failed, RingMemory};
use crate::moment::{Moment, shown};
use crate::naming::{ServerId, SnapshotId, Tick};
use crate::other_prefix::OtherPrefix;
use crate::policy::Policy;
use crate::retention::{Candidate, Verdict, retain};
use crate::ring::{Completed, Holder, Ring, Slot};
use crate::schedule::first_loaded::FirstLoaded;
use crate::snapshot::{Listing, Snapshot, Status};
use crate::wording::{is_or_are, listed};

/// Permission to delete one snapshot, for a reason, on the strength of one complete listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deletion {
    snapshot: SnapshotId,
    name: String,
    why: DeleteReason,
    #[serde(skip)]
    seen: Moment,
}

/// Why a snapshot is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeleteReason {
    /// It failed: it cannot be restored, and it holds a slot.
    Failed,
    /// A newer completed snapshot of the same tick exists.
    Duplicate,
    /// Retention does not keep it.
    Retention,
    /// Retention would keep it, and drop an older one that is the newest by id or by the provider's
    /// time.
    InsteadOfNewest,
    /// Retention would keep it, but snapshots that are not managed own hold the slots.
    Squeezed,
    /// A person asked for it.
    ByHand,
}

impl DeleteReason {
    /// Whether a point in time that could be restored is lost with it.
    #[must_use]
    pub fn costs_a_restore_point(self) -> bool {
        match self {
            Self::Failed | Self::Duplicate => false,
            Self::Retention | Self::InsteadOfNewest | Self::Squeezed | Self::ByHand => true,
        }
    }
}

impl fmt::Display for DeleteReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Failed => "it failed",
            Self::Duplicate => "a newer snapshot of the same tick exists",
            Self::Retention => "`keep` does not need it",
            Self::InsteadOfNewest => {
                "in place of an older one that may be the newest (highest id or latest date)"
            }
            Self::Squeezed => "squeezed: snapshots that no rotation deletes hold the slots",
            Self::ByHand => "asked for by hand",
        })
    }
}

impl Deletion {
    fn of(snapshot: &Snapshot, why: DeleteReason, listing: &Listing) -> Self {
        Self { snapshot: snapshot.id, name: snapshot.name.to_string(), why, seen: listing.asked_at }
    }

    /// A person's own decision about a snapshot that a listing shows; `None` when it does not.
    #[must_use]
    pub fn by_hand(snapshot: SnapshotId, listing: &Listing) -> Option<Self> {
        let row = listing.snapshots.iter().find(|row| row.id == snapshot)?;
        Some(Self::of(row, DeleteReason::ByHand, listing))
    }

    /// Which snapshot.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotId {
        self.snapshot
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why.
    #[must_use]
    pub fn why(&self) -> DeleteReason {
        self.why
    }

    /// When the listing was asked for that shows it.
    #[must_use]
    pub fn seen(&self) -> Moment {
        self.seen
    }
}

/// Permission to create one snapshot: a complete listing shows a free slot for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Creation {
    server: ServerId,
    name: String,
    #[serde(skip)]
    seen: Moment,
}

impl Creation {
    /// A person's own snapshot; `None` when the listing shows no free slot.
    #[must_use]
    pub fn by_hand(name: String, cap: u32, listing: &Listing) -> Option<Self> {
        let free = listing.snapshots.len() < cap as usize;
        free.then_some(Self { server: listing.server, name, seen: listing.asked_at })
    }

    /// Of which server.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// What it will be called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the listing was asked for that shows the free slot.
    #[must_use]
    pub fn seen(&self) -> Moment {
        self.seen
    }
}

/// Who asked for a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// The schedule: `min_interval` applies.
    Schedule,
    /// A person (`rotate`, USR1): it does not.
    Person,
}

/// What a rotation has done so far, and what is remembered from before, as far as the next step depends
/// on it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// From earlier rotations. It has taken note of the listing.
    pub memory: RingMemory,
    /// Deleted in this rotation. A listing may still show them for a while.
    pub deleted: BTreeSet<SnapshotId>,
    /// The provider would not delete these.
    pub undeletable: BTreeSet<SnapshotId>,
    /// Victims that may still be taken; `None`: room was not made yet.
    pub victims_left: Option<u32>,
    /// A create was sent.
    pub has_asked: bool,
}

/// What comes next, up to the create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This tick's snapshot is there already.
    Adopt(Snapshot),
    /// Nothing is to be done for this tick.
    Skip(Skip),
    /// Delete these first; each makes one slot free.
    MakeRoom(Vec<Deletion>),
    /// What was deleted is still listed: look again.
    AwaitRoom,
    /// Failed snapshots hold the slots: look again after this span, which shows whether they have failed
    /// for good.
    AwaitFailed(Duration),
    /// Create the tick's snapshot.
    Create(Creation),
    /// No room, and none can be made.
    Blocked(Blocked),
}

/// Why a tick is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// It comes too soon after the last managed snapshot.
    TooSoon {
        /// That one's name.
        last: String,
        /// What the policy asks for.
        min_interval: Duration,
    },
    /// A later tick that has come has its snapshot already: this one's may have been there, and
    /// pruned.
    Overtaken {
        /// The later tick's snapshot.
        by: String,
    },
    /// Its snapshot may be there, under another name.
    OtherName {
        /// That name.
        name: ForeignText,
        /// Its id.
        id: SnapshotId,
    },
    /// It, or a later one, has run already: the clock was set back.
    HasRun {
        /// That tick, in the zone of the policy.
        last: String,
    },
}

impl Skip {
    /// Whether the policy asks for it. Otherwise the tick should have run.
    #[must_use]
    pub fn is_by_policy(&self) -> bool {
        match self {
            Self::TooSoon { .. } | Self::Overtaken { .. } => true,
            Self::OtherName { .. } | Self::HasRun { .. } => false,
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSoon { last, min_interval } => {
                let min_interval = humantime::format_duration(*min_interval);
                write!(out, "too soon after {last}: min_interval is {min_interval}")
            }
            Self::Overtaken { by } => write!(out, "a snapshot of a later tick exists: {by}"),
            Self::OtherName { name, id } => write!(
                out,
                "{name} ({id}) may be the snapshot of this tick, under another name, so no second one is \
                     created"
            ),
            Self::HasRun { last } => {
                write!(
                    out,
                    "the tick of {last} has already run; unless you rotated the server by hand, check the \
                         clock"
                )
            }
        }
    }
}

/// Why there is no room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// The policy's cap.
    pub cap: u32,
    /// The policy's reserve.
    pub reserve: u32,
    /// There would be room if `reserve` were lower.
    #[serde(skip)]
    pub is_room_reserved: bool,
    /// Some of them are foreign.
    #[serde(skip)]
    pub has_foreign: bool,
    /// Who holds the slots: each snapshot's name, id and holder.
    pub holders: Vec<String>,
    /// The same in a sentence, by holder.
    #[serde(skip)]
    pub held: String,
    /// Some of them are pinned.
    #[serde(skip)]
    pub has_pinned: bool,
    /// The policy itself asks for every slot.
    pub keep_fills_the_ring: bool,
    /// Snapshots that may be this server's own, under another name: each name and id.
    pub strays: Vec<String>,
    /// How many restore points were given up for a new snapshot that has not come.
    pub given_up: usize,
    /// Foreign snapshots that look like snapring's under another prefix.
    pub other_prefixes: Vec<OtherPrefix>,
    /// Those that were completed and are listed as failed now: each name, and its id. Nothing tells whether they
    /// can be used, so a person must decide.
    pub doubtful: Vec<(String, SnapshotId)>,
    /// Foreign and pinned snapshots leave less room than `keep` asks for.
    pub squeeze: Option<Squeeze>,
}

impl fmt::Display for Blocked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}. {}", self.problem(), self.advice())
    }
}

impl Blocked {
    /// Which slots are taken, by which snapshots.
    #[must_use]
    pub fn problem(&self) -> String {
        let Self { cap, reserve, holders, held, .. } = self;
        let reserved = match reserve {
            _ if !self.is_room_reserved => String::new(),
            reserve => format!(" and {reserve} {} reserved", is_or_are(*reserve as usize)),
        };
        format!("no room: {}{reserved}: {held}", slots_taken(holders.len(), *cap))
    }

    /// What a person can do.
    #[must_use]
    pub fn advice(&self) -> String {
        let mut advice: Vec<String> = Vec::new();
        advice.extend(self.other_prefixes.iter().map(OtherPrefix::way_out_in_short));
        for (name, id) in &self.doubtful {
            advice.push(format!(
                "{name} ({id}) was completed and is now listed as failed: if the provider says that it is lost, \
                 delete it with `snapring delete {id}`"
            ));
        }
        if !self.strays.is_empty() {
            advice.push(format!(
                "{} may be snapring's own, under another name: delete it with `snapring delete ID`, or list its \
                 id under `pin`",
                listed(&self.strays)
            ));
        } else if self.given_up > 0 {
            advice.push(format!(
                "{} made room for a new snapshot before, which was never completed, so no more are deleted. Find \
                 out why the new ones fail, and delete one that cannot be used with `snapring delete ID`",
                self.given_up
            ));
        } else {
            let start = if advice.is_empty() { "Delete" } else { "Else delete" };
            let ways = self.ways_out(advice.is_empty());
            advice.push(format!("{start} {}", ways.join(", or ")));
        }
        advice.join(". ")
    }

    /// `says_whose`: which one to delete was not said before.
    fn ways_out(&self, says_whose: bool) -> Vec<&'static str> {
        let mut ways = vec![match self.has_foreign && says_whose {
            true => "a foreign one with `snapring delete ID`",
            false => "one with `snapring delete ID`",
        }];
        if self.has_pinned {
            ways.push("remove one from `pin`");
        }
        if self.keep_fills_the_ring {
            ways.push("lower `keep`");
        }
        if self.is_room_reserved {
            ways.push("lower `reserve`");
        }
        ways
    }
}

/// `5 of 5 slots are taken`. A provider may let a server have more than its limit.
fn slots_taken(taken: usize, cap: u32) -> String {
    if taken <= cap as usize {
        return format!("{taken} of {cap} slots are taken");
    }
    format!("there are {taken} snapshots in {cap} slots")
}

/// Foreign and pinned snapshots leave too few slots for what `keep` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Squeeze {
    /// How many slots they hold.
    pub held_by_others: u32,
    /// How many snapshots `keep` asks for.
    pub wanted: u32,
    /// How many of those have room.
    pub fit: u32,
    /// One of those slots holds what the server is about to be restored from.
    #[serde(skip)]
    pub is_restored: bool,
}

impl Squeeze {
    /// Of a ring, if it is squeezed.
    #[must_use]
    pub fn of(ring: &Ring, policy: &Policy) -> Option<Self> {
        let (fit, wanted) = (room_for_managed(ring, policy), policy.keep.total());
        let is_restored = ring.slots().iter().any(|slot| is_restored(slot, policy));
        let held_by_others = ring.held_by_others();
        (fit < wanted).then_some(Self { held_by_others, wanted, fit, is_restored })
    }
}

impl fmt::Display for Squeeze {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held_by_others, wanted, fit, is_restored } = self;
        let hold =
            if *held_by_others == 1 { "snapshot holds a slot" } else { "snapshots hold slots" };
        let others =
            if *is_restored { "foreign, pinned or to-be-restored" } else { "foreign or pinned" };
        write!(
            out,
            "the ring is squeezed: {held_by_others} {others} {hold}, so there is room for {fit} of the {wanted} that \
             `keep` asks for"
        )
    }
}

/// Decides what comes next for a tick: adopt, make room, create, or stop.
///
/// `now` stands for the time at which the new snapshot will be made.
#[must_use]
pub fn next_step(
    ring: &Ring,
    policy: &Policy,
    tick: Tick,
    asked_by: AskedBy,
    progress: &Progress,
    now: Timestamp,
) -> Step {
    if let Some(found) = ring.for_tick(tick, policy) {
        return Step::Adopt(found.clone());
    }
    // Once room was made or a create was sent, the tick is run.
    if progress.victims_left.is_none()
        && !progress.has_asked
        && let Some(skip) = skip(ring, policy, tick, asked_by, &progress.memory, now)
    {
        return Step::Skip(skip);
    }
    let needed = slots_needed(ring, policy, progress);
    if needed > 0 {
        let may_take = progress.victims_left.unwrap_or(needed);
        let victims = victims(ring, policy, progress, tick);
        let costless = victims.iter().filter(|it| !it.why().costs_a_restore_point()).count();
        if costless < needed as usize
            && let Some(wait) = failed_perhaps(ring, progress)
        {
            return Step::AwaitFailed(wait);
        }
        if room_for_managed(ring, policy) == 0
            || may_take < needed
            || victims.len() < needed as usize
        {
            return Step::Blocked(blocked(ring, policy, progress));
        }
        return Step::MakeRoom(victims.into_iter().take(needed as usize).collect());
    }
    if ring.taken() >= policy.cap {
        return Step::AwaitRoom;
    }
    Step::Create(Creation {
        server: ring.listing().server,
        name: policy.prefix.name(tick),
        seen: ring.listing().asked_at,
    })
}

/// Why the tick is not run, by the ring and by what is remembered.
fn skip(
    ring: &Ring,
    policy: &Policy,
    tick: Tick,
    asked_by: AskedBy,
    memory: &RingMemory,
    now: Timestamp,
) -> Option<Skip> {
    skip_by_the_ring(ring, policy, tick, asked_by, now).or_else(|| {
        if let Some(it) = memory.made_for(tick, ring).or_else(|| ring.alike(tick, policy)) {
            return Some(Skip::OtherName { name: it.name.clone(), id: it.id });
        }
        let last = memory.has_run(tick).filter(|_| asked_by == AskedBy::Schedule)?;
        Some(Skip::HasRun { last: shown(last.instant(), &policy.time_zone) })
    })
}

/// Ticks are compared with ticks, so that a machine whose clock disagrees with the provider's
/// neither skips nor doubles. Nearness counts both ways, since a late tick may be the earlier one.
/// A later tick that has not come yet was made by a clock that was wrong, and overtakes nothing.
fn skip_by_the_ring(
    ring: &Ring,
    policy: &Policy,
    tick: Tick,
    asked_by: AskedBy,
    now: Timestamp,
) -> Option<Skip> {
    let (snapshot, last) = ring.newest(policy)?;
    let apart = tick.instant().duration_since(last.instant()).unsigned_abs();
    if asked_by == AskedBy::Schedule && apart < policy.min_interval {
        let last = snapshot.name.to_string();
        return Some(Skip::TooSoon { last, min_interval: policy.min_interval });
    }
    // Any of them: a duplicate that came late can be the newest, and its tick an old one.
    let overtaking = |(_, later): &(_, Tick)| (tick.instant()..=now).contains(&later.instant());
    let (by, _) = ring.usable(policy).rfind(overtaking)?;
    Some(Skip::Overtaken { by: by.name.to_string() })
}

/// How many managed snapshots may be there at once.
fn room_for_managed(ring: &Ring, policy: &Policy) -> u32 {
    policy.room_beside(ring.held_by_others())
}

/// How many managed snapshots must go before one more fits.
fn slots_needed(ring: &Ring, policy: &Policy, progress: &Progress) -> u32 {
    let managed = u32::try_from(remaining(ring, progress).count()).unwrap_or(u32::MAX);
    managed.saturating_add(1).saturating_sub(room_for_managed(ring, policy))
}

/// Who may make room, in order: failed ones; duplicates; what retention would drop once the new one
/// is there, oldest first; then the oldest completed ones but the newest.
fn victims(ring: &Ring, policy: &Policy, progress: &Progress, tick: Tick) -> Vec<Deletion> {
    let listing = ring.listing();
    let newest = newest(ring, progress);
    let Completed { one_per_tick: completed, duplicates, .. } = completed(ring, progress);
    let kept = kept_ones(ring, &completed, policy, progress, Some(tick));
    let failed = failed(ring, progress).map(|snapshot| (snapshot, DeleteReason::Failed));
    let strays = progress.memory.strays(ring).next().is_some();
    let mut left = restore_points_left(ring, policy, progress, completed.len());
    let spare = completed.iter().copied().filter(|snapshot| !newest.contains(&snapshot.id));
    let (held_duplicates, duplicates): (Vec<_>, Vec<_>) =
        duplicates.iter().map(|it| it.snapshot).partition(|it| newest.contains(&it.id));
    let (dropped, mut spared): (Vec<_>, Vec<_>) =
        spare.partition(|snapshot| !kept.contains(&snapshot.id));
    // What would go first may be the newest by id or by the provider's time, and stays. A ring that keeps as
    // many as it has slots would be blocked for as long as that is so: the next oldest goes instead.
    let is_held = |it: &&&Snapshot| newest.contains(&it.id) && !kept.contains(&it.id);
    let older = completed.split_last().map_or(&[][..], |(_, older)| older);
    let held = older.iter().filter(is_held).count() + held_duplicates.len();
    let held = held.min(spared.len());
    let instead: Vec<_> = spared.drain(..held).collect();
    let mut squeezed = spared;
    // Only others squeeze a ring. Its own unfinished snapshots must not eat the finished ones.
    if ring.held_by_others() <= policy.reserve {
        squeezed.clear();
    }
    // Nor when others squeeze it too: one goes for each finished one that does not fit, and no more.
    let lacking = (completed.len() + 1).saturating_sub(room_for_managed(ring, policy) as usize);
    squeezed.truncate(lacking.saturating_sub(dropped.len() + instead.len()));
    failed
        .chain(duplicates.into_iter().map(|snapshot| (snapshot, DeleteReason::Duplicate)))
        .chain(dropped.into_iter().map(|snapshot| (snapshot, DeleteReason::Retention)))
        .chain(instead.into_iter().map(|snapshot| (snapshot, DeleteReason::InsteadOfNewest)))
        .chain(squeezed.into_iter().map(|snapshot| (snapshot, DeleteReason::Squeezed)))
        .filter(|(snapshot, _)| !progress.undeletable.contains(&snapshot.id))
        // A restore point was given up for this server's own snapshot, and something else came.
        .filter(|(_, why)| !(strays && why.costs_a_restore_point()))
        // Those that were given up before for a new one, which has not come, count too.
        .filter(|(_, why)| {
            let may_go = !why.costs_a_restore_point() || left > 0;
            left = left.saturating_sub(usize::from(may_go && why.costs_a_restore_point()));
            may_go
        })
        .map(|(snapshot, why)| Deletion::of(snapshot, why, listing))
        .collect()
}

/// How many restore points may still be given up until a new snapshot is completed: one for each slot
/// that was needed when the last one was. Unfinished ones and strays need no further slot.
fn restore_points_left(
    ring: &Ring,
    policy: &Policy,
    progress: &Progress,
    completed: usize,
) -> usize {
    let given_up = progress.memory.given_up();
    let had = completed + given_up;
    let needed = (had + 1).saturating_sub(room_for_managed(ring, policy) as usize);
    needed.max(1).saturating_sub(given_up)
}

fn blocked(ring: &Ring, policy: &Policy, progress: &Progress) -> Blocked {
    let describe = |slot: &Slot| {
        let (name, id, whose) = (&slot.snapshot.name, slot.snapshot.id, whose(slot, policy));
        match &slot.snapshot.status {
            Status::Completed => format!("{name} ({id}, {whose})"),
            status => format!("{name} ({id}, {whose}, {status})"),
        }
    };
    let is_pinned = |slot: &Slot| slot.holder == Holder::Pinned && !is_restored(slot, policy);
    Blocked {
        cap: policy.cap,
        reserve: policy.reserve,
        is_room_reserved: policy.reserve > ring.held_by_others() && ring.taken() < policy.cap,
        has_foreign: ring.slots().iter().any(|slot| slot.holder == Holder::Foreign),
        holders: ring.slots().iter().map(describe).collect(),
        held: held(ring, policy),
        has_pinned: ring.slots().iter().any(is_pinned),
        keep_fills_the_ring: ring.held_by_others() <= policy.reserve
            && policy.keep.total().saturating_add(policy.reserve) >= policy.cap,
        // A name under another prefix is no stray's: the prefix was changed, and adopting it is the way out.
        strays: progress
            .memory
            .strays(ring)
            .filter(|slot| slot.snapshot.name.managed_prefix().is_none())
            .map(|slot| format!("{} ({})", slot.snapshot.name, slot.snapshot.id))
            .collect(),
        given_up: progress.memory.given_up(),
        other_prefixes: OtherPrefix::all_in(ring),
        doubtful: listed_as_failed(ring, progress)
            .filter(|(_, failed)| matches!(failed, Failed::WasCompleted | Failed::Broken))
            .map(|(snapshot, _)| (snapshot.name.to_string(), snapshot.id))
            .collect(),
        squeeze: Squeeze::of(ring, policy),
    }
}

/// Whether the rotation holds a slot for a restore, and no pin does.
fn is_restored(slot: &Slot, policy: &Policy) -> bool {
    let id = slot.snapshot.id;
    policy.to_restore == Some(id) && !policy.pinned.contains(&id)
}

const TO_RESTORE: &str = "to be restored";

fn whose(slot: &Slot, policy: &Policy) -> &'static str {
    if is_restored(slot, policy) { TO_RESTORE } else { slot.holder.as_str() }
}

/// `foreign by-hand (1), another (3); managed snapring-… (2, kept)`. A rotation never deletes what is protected.
fn held(ring: &Ring, policy: &Policy) -> String {
    let newest = ring.completed().newest();
    let mut by_holder: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for slot in ring.slots() {
        let snapshot = &slot.snapshot;
        let status = match &snapshot.status {
            Status::Completed if newest.contains(&snapshot.id) => ", kept".to_owned(),
            Status::Completed => String::new(),
            status => format!(", {status}"),
        };
        let named = format!("{} ({}{status})", snapshot.name, snapshot.id);
        by_holder.entry(whose(slot, policy)).or_default().push(named);
    }
    let each = by_holder.iter().map(|(whose, named)| match *whose {
        TO_RESTORE => format!("{whose}, so not deleted: {}", named.join(", ")),
        holder => format!("{holder} {}", named.join(", ")),
    });
    each.collect::<Vec<_>>().join("; ")
}

/// The managed snapshots without those that this rotation deleted and the listing still shows.
fn remaining<'a>(
    ring: &'a Ring,
    progress: &Progress,
) -> impl Iterator<Item = (&'a Snapshot, Tick)> {
    ring.managed().filter(|(snapshot, _)| !progress.deleted.contains(&snapshot.id))
}

/// The managed, completed snapshots. Retention looks at one of each tick and at nothing else. One that
/// was completed once and is listed as failed counts too: it goes when its time has come, so that an
/// error that providers report for a moment changes nothing.
fn completed<'a>(ring: &'a Ring, progress: &Progress) -> Completed<'a> {
    let was_completed = |snapshot: &Snapshot| {
        let failed = progress.memory.failed(snapshot, ring);
        matches!(failed, Some(Failed::WasCompleted | Failed::Broken))
    };
    Completed::of(
        remaining(ring, progress)
            .filter(|(it, _)| it.status == Status::Completed || was_completed(it)),
    )
}

/// The newest completed ones by every measure, see [`Completed::newest`]. They stay. One that was completed
/// and has just been listed as failed may be completed or not: it stays where it would be the newest if it
/// were, and so does the one that would be if it were not. Where none at all is listed as completed, any that
/// ever was may be the only good one, however long it has been listed as failed.
fn newest(ring: &Ring, progress: &Progress) -> BTreeSet<SnapshotId> {
    let none_is_sure = !remaining(ring, progress).any(|(it, _)| it.status == Status::Completed);
    let doubtful: Vec<SnapshotId> = listed_as_failed(ring, progress)
        .filter(|(_, failed)| match failed {
            Failed::WasCompleted => true,
            Failed::Broken => none_is_sure,
            Failed::Surely | Failed::Perhaps(_) => false,
        })
        .map(|(snapshot, _)| snapshot.id)
        .collect();
    let newest_with = |doubtful: Option<SnapshotId>| {
        let counts =
            |(it, _): &(&Snapshot, Tick)| it.status == Status::Completed || doubtful == Some(it.id);
        Completed::of(remaining(ring, progress).filter(counts)).newest()
    };
    let mut newest = &completed(ring, progress).newest() | &newest_with(None);
    for snapshot in doubtful {
        newest.extend(newest_with(Some(snapshot)));
    }
    newest
}

/// The managed snapshots that have surely failed.
fn failed<'a>(ring: &'a Ring, progress: &Progress) -> impl Iterator<Item = &'a Snapshot> {
    listed_as_failed(ring, progress)
        .filter(|(_, failed)| *failed == Failed::Surely)
        .map(|(snapshot, _)| snapshot)
}

/// When the next of those that may have failed is known to have.
pub(crate) fn failed_perhaps(ring: &Ring, progress: &Progress) -> Option<Duration> {
    let left = |(_, failed)| match failed {
        Failed::Perhaps(left) => Some(left),
        Failed::Surely | Failed::WasCompleted | Failed::Broken => None,
    };
    listed_as_failed(ring, progress).filter_map(left).min()
}

fn listed_as_failed<'a>(
    ring: &'a Ring,
    progress: &Progress,
) -> impl Iterator<Item = (&'a Snapshot, Failed)> {
    remaining(ring, progress)
        .filter_map(|(snapshot, _)| Some((snapshot, progress.memory.failed(snapshot, ring)?)))
}

fn candidates(ring: &Ring, snapshots: &[&Snapshot]) -> Vec<Candidate> {
    snapshots
        .iter()
        .map(|snapshot| Candidate { id: snapshot.id, at: ring.point(snapshot) })
        .collect()
}

/// What retention says of the restore points of a ring as they are now. Of a duplicate it says nothing.
#[must_use]
pub fn verdicts(ring: &Ring, policy: &Policy, memory: &RingMemory) -> Vec<Verdict> {
    let progress = Progress { memory: memory.clone(), ..Progress::default() };
    let completed = completed(ring, &progress).one_per_tick;
    retain(&candidates(ring, &completed), &policy.keep, &policy.time_zone)
}

/// An id that no snapshot has: the one that is still to be made.
const YET_TO_COME: SnapshotId = SnapshotId(u64::MAX);

/// What retention keeps of these, beside a new one for `to_come`. Broken ones are kept as long as they
/// would be if they were whole, and there is room beside those that are.
fn kept_ones(
    ring: &Ring,
    completed: &[&Snapshot],
    policy: &Policy,
    progress: &Progress,
    to_come: Option<Tick>,
) -> BTreeSet<SnapshotId> {
    let kept = |snapshots: &[&Snapshot]| match to_come {
        Some(tick) => kept_beside_a_new_one(ring, snapshots, policy, tick),
        None => kept(&candidates(ring, snapshots), policy),
    };
    let is_broken = |it: &&Snapshot| progress.memory.failed(it, ring) == Some(Failed::Broken);
    let (broken, whole): (Vec<&Snapshot>, Vec<&Snapshot>) =
        completed.iter().copied().partition(is_broken);
    let all = kept(completed);
    if broken.is_empty() {
        return all;
    }
    let mut stay = kept(&whole);
    let room = all.len().saturating_sub(stay.len());
    let broken = broken.iter().rev().map(|snapshot| snapshot.id).filter(|id| all.contains(id));
    stay.extend(broken.take(room));
    stay
}

fn kept_beside_a_new_one(
    ring: &Ring,
    completed: &[&Snapshot],
    policy: &Policy,
    tick: Tick,
) -> BTreeSet<SnapshotId> {
    let mut candidates = candidates(ring, completed);
    // A clock that was ahead has made snapshots of later ticks. The new one is the newest all the same.
    let newest = candidates.iter().map(|it| it.at).max();
    let at = newest.map_or(tick.instant(), |newest| newest.max(tick.instant()));
    candidates.push(Candidate { id: YET_TO_COME, at });
    kept(&candidates, policy)
}

fn kept(candidates: &[Candidate], policy: &Policy) -> BTreeSet<SnapshotId> {
    let verdicts = retain(candidates, &policy.keep, &policy.time_zone);
    verdicts.into_iter().filter(Verdict::keeps).map(|verdict| verdict.id).collect()
}

/// What is to be pruned once `own`, the rotation's snapshot, is completed: duplicates, then managed
/// snapshots that retention drops, each oldest first, then failed ones. Nothing while the listing
/// does not show `own` as completed.
#[must_use]
pub fn prune(ring: &Ring, policy: &Policy, own: SnapshotId, progress: &Progress) -> Vec<Deletion> {
    if !has_own(ring, own) {
        return Vec::new();
    }
    let newest = newest(ring, progress);
    let Completed { one_per_tick: completed, duplicates, .. } = completed(ring, progress);
    let kept = kept_ones(ring, &completed, policy, progress, None);
    let dropped = completed
        .into_iter()
        .filter(|snapshot| !kept.contains(&snapshot.id))
        .map(|snapshot| (snapshot, DeleteReason::Retention));
    duplicates
        .into_iter()
        .map(|it| (it.snapshot, DeleteReason::Duplicate))
        .chain(dropped)
        .chain(failed(ring, progress).map(|snapshot| (snapshot, DeleteReason::Failed)))
        // Retention keeps the newest by itself; that it stays must not hang on retention alone.
        .filter(|(snapshot, _)| snapshot.id != own && !newest.contains(&snapshot.id))
        .map(|(snapshot, why)| Deletion::of(snapshot, why, ring.listing()))
        .collect()
}

/// Whether a ring shows the rotation's snapshot, completed and under a managed name.
#[must_use]
pub fn has_own(ring: &Ring, own: SnapshotId) -> bool {
    ring.slots().iter().any(|Slot { snapshot, holder }| {
        snapshot.id == own && snapshot.status == Status::Completed && *holder != Holder::Foreign
    })
}

/// The latest tick that was missed, of those that were the `latest` of each of a server's schedules.
///
/// One was missed if its schedule had been loaded by then. Where that is not recorded, the ring
/// tells: a managed snapshot whose tick is an occurrence of the server's schedules (`occurs`), made
/// after the moment when the schedule was not there yet, shows that it was in force, and later
/// occurrences were missed. A ring without a managed snapshot has missed nothing. So neither a new
/// server nor an edited schedule fires by itself.
#[must_use]
pub fn missed(
    ring: &Ring,
    policy: &Policy,
    latest: impl IntoIterator<Item = (Tick, FirstLoaded)>,
    occurs: impl Fn(Tick) -> bool,
) -> Option<Tick> {
    let (_, newest) = ring.newest(policy)?;
    let in_force_since = |moment: Timestamp| {
        let ticks = ring.managed().map(|(_, tick)| tick).chain([newest]);
        ticks.into_iter().any(|tick| tick.instant() > moment && occurs(tick))
    };
    latest
        .into_iter()
        .filter(|(tick, _)| *tick > newest)
        .filter(|(tick, loaded)| tick.instant() >= loaded.by || in_force_since(loaded.after))
        .map(|(tick, _)| tick)
        .max()
}

/// What a start finds to be done for a server: run the tick that was missed, else go on with an
/// unfinished snapshot, else nothing.
#[must_use]
pub fn unfinished(ring: &Ring, policy: &Policy, missed: Option<Tick>) -> Option<Tick> {
    let (newest, tick) = ring.newest(policy)?;
    missed.or_else(|| (newest.status == Status::InProgress).then_some(tick))
}

/// What a step deletes although retention would keep it, because others hold the slots.
pub(crate) fn kept_victims(step: &Step) -> impl Iterator<Item = &Deletion> {
    let victims: &[Deletion] = match step {
        Step::MakeRoom(victims) => victims,
        _ => &[],
    };
    victims.iter().filter(|victim| victim.why() == DeleteReason::Squeezed)
}

/// A tick this much ahead of the clock points to a clock that was or is wrong.
const FUTURE_TICK_TOLERANCE: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);

/// What a person should know about a ring before a rotation touches it.
#[must_use]
pub fn warnings(
    ring: &Ring,
    policy: &Policy,
    step: &Step,
    memory: &RingMemory,
    now: Timestamp,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(squeeze) = Squeeze::of(ring, policy) {
        let named = |it: &Deletion| format!("{} ({})", it.name(), it.snapshot());
        let names: Vec<String> = kept_victims(step).map(named).collect();
        if !names.is_empty() {
            let (names, is) = (listed(&names), is_or_are(names.len()));
            warnings.push(format!("{squeeze}. {names} {is} deleted to make room"));
        }
    }
    for (snapshot, tick) in ring.managed() {
        let meaning = match memory.failed(snapshot, ring) {
            Some(Failed::WasCompleted) => Some("It is kept as a good one"),
            Some(Failed::Broken) => Some("It does not count for `keep` any more"),
            Some(Failed::Surely | Failed::Perhaps(_)) | None => None,
        };
        if let Some(meaning) = meaning {
            warnings.push(format!(
                "{} ({}) was completed and is now listed as failed. {meaning}. If the provider says that it \
                 is lost, delete it with `snapring delete {1}`",
                snapshot.name, snapshot.id
            ));
        }
        if tick.instant() > now.saturating_add(FUTURE_TICK_TOLERANCE).unwrap_or(now) {
            warnings.push(format!("{} is dated in the future; check the clocks", snapshot.name));
        }
    }
    let completed = ring.completed();
    for (tick, snapshots) in ring.duplicate_ticks(policy) {
        let tick = shown(tick.instant(), &policy.time_zone);
        warnings.push(duplicate_warning(&tick, &snapshots, &completed));
    }
    warnings
}

/// What a person should know of foreign snapshots that look like snapring's under another prefix.
#[must_use]
pub fn other_prefix_warnings(ring: &Ring) -> Vec<String> {
    let warning = |other: &OtherPrefix| format!("{other}: {}", other.way_out());
    OtherPrefix::all_in(ring).iter().map(warning).collect()
}

fn duplicate_warning(tick: &str, snapshots: &[&Snapshot], completed: &Completed<'_>) -> String {
    let ids = |snapshots: &[&Snapshot]| {
        let ids: Vec<String> = snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect();
        listed(&ids)
    };
    let older: Vec<&Snapshot> = snapshots
        .iter()
        .copied()
        .filter(|snapshot| completed.duplicate(snapshot.id).is_some())
        .collect();
    let what_happens = match older.as_slice() {
        [] => {
            "none is deleted as a duplicate, because at most one is both completed and not pinned"
                .to_owned()
        }
        [one] => format!("the older one, {}, is deleted once a rotation succeeds", one.id),
        older => format!("the older ones, {}, are deleted once a rotation succeeds", ids(older)),
    };
    format!("{} snapshots of the tick {tick}: {}; {what_happens}", snapshots.len(), ids(snapshots))
}

#[cfg(test)]
mod tests;
