//! What is remembered of a server from one rotation to the next, so that one fault costs nothing twice.
//!
//! A listing shows one moment. It does not show that a snapshot which reads `error` now was completed an
//! hour ago, nor that a restore point was given up yesterday for a snapshot which never came. There is no
//! I/O here: the caller keeps a [`RingMemory`] for each server, also across restarts where it can.
//! Without one, every rule takes its cautious branch.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::naming::{Prefix, SnapshotId, Tick};
use crate::plan::AskedBy;
use crate::ring::{CLOCKS_AGREE_WITHIN, Holder, Ring, Slot};
use crate::snapshot::{Snapshot, Status};

/// A snapshot is deleted as failed when two listings at least this far apart, and all between them, have
/// shown it so. Providers are known to report an error for a moment.
pub const FAILED_FOR: Duration = Duration::from_mins(5);

/// How many ids are remembered beyond those that the last listing shows: a row may be missing for once.
const UNLISTED: usize = 32;

/// What is remembered of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RingMemory {
    /// Snapshots that a listing has shown as completed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    completed: Vec<SnapshotId>,
    /// Snapshots that each listing since then has shown as failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<Since>,
    /// Snapshots that the provider says it has deleted, and that no listing has confirmed yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deleted: Vec<Since>,
    /// Completed snapshots that made room for one of this server's own which has not been completed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    given_up: Vec<SnapshotId>,
    /// Snapshots that this server's rotations have made, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    made: Vec<SnapshotId>,
    /// Snapshots that appeared when this server's own was asked for, under another name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    strays: Vec<SnapshotId>,
    /// What a listing showed before a create that is not settled yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    before_create: Option<BeforeCreate>,
    /// The tick that a create was last sent for, until one ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_for: Option<Timestamp>,
    /// Whether a person asked for that one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    asked_by_hand: bool,
    /// The latest tick that ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_tick: Option<Timestamp>,
}

/// What was there before a create was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct BeforeCreate {
    ids: Vec<SnapshotId>,
    /// What the new snapshot is described with.
    description: Arc<str>,
}

impl BeforeCreate {
    /// Whether a foreign snapshot of this ring may be what the create made. It is not if it has another
    /// description, unless the provider is not known to keep them.
    fn may_have_led_to(&self, snapshot: &Snapshot, ring: &Ring) -> bool {
        let has_ours =
            |it: &Snapshot| it.description.as_ref().is_some_and(|it| *it == *self.description);
        let keeps_them = || ring.managed().any(|(managed, _)| has_ours(managed));
        !self.ids.contains(&snapshot.id) && (has_ours(snapshot) || !keeps_them())
    }
}

/// Since when something is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Since {
    id: SnapshotId,
    wall: Timestamp,
    /// `None` if it was another process's.
    #[serde(skip)]
    uptime: Option<Duration>,
    /// For people who read the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Box<str>>,
}

impl Since {
    fn at(id: SnapshotId, moment: Moment) -> Self {
        Self { id, wall: moment.wall, uptime: Some(moment.uptime), name: None }
    }

    /// How long, seen from `now`: the least that the clocks say.
    fn span(&self, now: Moment) -> Duration {
        let by_wall = Duration::try_from(now.wall.duration_since(self.wall)).unwrap_or_default();
        self.uptime.map_or(by_wall, |then| by_wall.min(now.uptime.saturating_sub(then)))
    }
}

/// Whether a snapshot that is listed as failed may be deleted for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// Listings agree.
    Surely,
    /// If a listing still shows it so after this span.
    Perhaps(Duration),
    /// It was completed once: it counts as completed.
    WasCompleted,
    /// It was completed once, and listings agree that it has failed since. It is not deleted for that, but
    /// no other one is deleted because of it.
    Broken,
}

impl RingMemory {
    /// Takes note of a complete listing.
    pub fn saw(&mut self, ring: &Ring) {
        let asked_at = ring.listing().asked_at;
        let failed = |id: SnapshotId| {
            let is_it = |slot: &&Slot| slot.snapshot.id == id;
            ring.slots().iter().find(is_it).is_some_and(|it| it.snapshot.status == Status::Failed)
        };
        // One whose time has not come yet was noted by a clock that was ahead: it begins anew.
        self.failed.retain(|it| failed(it.id) && it.wall <= asked_at.wall);
        self.saw_completed(ring);
        for Slot { snapshot, .. } in ring.slots() {
            if snapshot.status == Status::Failed
                && !self.failed.iter().any(|it| it.id == snapshot.id)
            {
                self.failed.push(Since::at(snapshot.id, asked_at));
            }
        }
        self.deleted.retain(|it| ring.lists(it.id));
        forget_unlisted(&mut self.made, ring);
        // A snapshot that an answer names may be listed later.
        if self.before_create.is_none() {
            self.strays.retain(|id| ring.lists(*id));
        }
        if let Some(before) = &self.before_create {
            for Slot { snapshot, holder } in ring.slots() {
                let is_known = self.strays.contains(&snapshot.id);
                if *holder == Holder::Foreign && !is_known && before.may_have_led_to(snapshot, ring)
                {
                    self.strays.push(snapshot.id);
                }
            }
        }
    }

    /// Takes note of which snapshots a listing shows as completed, and of nothing else.
    pub fn saw_completed(&mut self, ring: &Ring) {
        for Slot { snapshot, .. } in ring.slots() {
            if snapshot.status == Status::Completed && !self.completed.contains(&snapshot.id) {
                self.completed.push(snapshot.id);
            }
        }
        forget_unlisted(&mut self.completed, ring);
    }

    /// This one is newer than another one of the same server, and may come from another process. What
    /// was seen completed stays so, and this process's own clock still counts.
    pub fn keeps_of(&mut self, older: &Self) {
        // What only the older one knows comes first, since the first ones are forgotten first. The newer one has
        // taken note of a later listing: what it knows may be listed still, however long ago it was completed.
        let newer = std::mem::replace(&mut self.completed, older.completed.clone());
        self.completed.retain(|id| !newer.contains(id));
        self.completed.extend(newer);
        // Far beyond what a server can have.
        let surplus = self.completed.len().saturating_sub(4 * UNLISTED);
        self.completed.drain(..surplus);
        self.last_tick = self.last_tick.or(older.last_tick);
        let keep_uptime = |newer: &mut Vec<Since>, older: &[Since]| {
            for since in newer {
                let same = older.iter().find(|it| (it.id, it.wall) == (since.id, since.wall));
                since.uptime = since.uptime.or(same.and_then(|it| it.uptime));
            }
        };
        keep_uptime(&mut self.failed, &older.failed);
        keep_uptime(&mut self.deleted, &older.deleted);
    }

    /// A create for this tick is about to be sent, with this description. `before` shows what exists
    /// without it.
    pub fn creates(
        &mut self,
        tick: Tick,
        asked_by: AskedBy,
        before: &Ring,
        description: &Arc<str>,
    ) {
        (self.asked_for, self.asked_by_hand) = (Some(tick.instant()), asked_by == AskedBy::Person);
        self.before_create.get_or_insert_with(|| BeforeCreate {
            ids: before.slots().iter().map(|slot| slot.snapshot.id).collect(),
            description: Arc::clone(description),
        });
    }

    /// The last listing shows what became of all creates.
    pub fn creates_are_settled(&mut self) {
        self.before_create = None;
    }

    /// This snapshot was made for the server.
    pub fn made(&mut self, snapshot: SnapshotId) {
        add(&mut self.made, &[snapshot]);
    }

    /// The provider says that this is the snapshot which it was asked for. It has another name.
    pub fn strayed(&mut self, snapshot: SnapshotId) {
        add(&mut self.strays, &[snapshot]);
    }

    /// The provider says that it has deleted this snapshot.
    pub fn deleted(&mut self, snapshot: SnapshotId, name: &str, now: Moment) {
        self.deleted.retain(|it| it.id != snapshot);
        self.deleted.push(Since { name: Some(name.into()), ..Since::at(snapshot, now) });
    }

    /// The names of the snapshots that the provider says it has deleted, and that no listing has confirmed
    /// yet.
    pub fn unconfirmed(&self) -> impl Iterator<Item = &str> {
        self.deleted.iter().filter_map(|it| it.name.as_deref())
    }

    /// This completed snapshot made room for a new one.
    pub fn gave_up(&mut self, snapshot: SnapshotId) {
        add(&mut self.given_up, &[snapshot]);
    }

    /// How many restore points were given up for a new snapshot that has not come.
    #[must_use]
    pub fn given_up(&self) -> usize {
        self.given_up.len()
    }

    /// The tick has its snapshot, whole and under its own name.
    pub fn succeeded(&mut self, tick: Tick) {
        self.given_up.clear();
        self.strays.clear();
        (self.before_create, self.asked_for, self.asked_by_hand) = (None, None, false);
        // A clock that was years ahead must not have the last word for years.
        self.last_tick = match self.last_tick {
            Some(last) if Self::stands_before(last, tick) => Some(last),
            _ => Some(tick.instant()),
        };
    }

    /// Those listed snapshots that the provider has said to be deleted so long ago that listings should
    /// not show them any more. Each is given once.
    pub fn take_undeleted(&mut self, ring: &Ring, settle: Duration) -> Vec<SnapshotId> {
        let asked_at = ring.listing().asked_at;
        let mut undeleted = Vec::new();
        self.deleted.retain(|it| {
            let is_overdue = it.span(asked_at) > settle && ring.lists(it.id);
            if is_overdue {
                undeleted.push(it.id);
            }
            !is_overdue
        });
        undeleted
    }

    /// Whether a listing has shown this snapshot as completed.
    #[must_use]
    pub fn was_completed(&self, snapshot: SnapshotId) -> bool {
        self.completed.contains(&snapshot)
    }

    /// What is known of a snapshot of this ring; `None` if it is not listed as failed.
    #[must_use]
    pub fn failed(&self, snapshot: &Snapshot, ring: &Ring) -> Option<Failed> {
        if snapshot.status != Status::Failed {
            return None;
        }
        let since = self.failed.iter().find(|it| it.id == snapshot.id);
        let span = since.map_or(Duration::ZERO, |it| it.span(ring.listing().asked_at));
        let left = FAILED_FOR.checked_sub(span).filter(|left| !left.is_zero());
        Some(match (self.was_completed(snapshot.id), left) {
            (true, Some(_)) => Failed::WasCompleted,
            (true, None) => Failed::Broken,
            (false, Some(left)) => Failed::Perhaps(left),
            (false, None) => Failed::Surely,
        })
    }

    /// As it will be if further listings go on to show the same.
    #[must_use]
    pub fn foreseen(&self, ring: &Ring) -> Self {
        let mut foreseen = self.clone();
        foreseen.saw(ring);
        for failed in &mut foreseen.failed {
            (failed.wall, failed.uptime) = (Timestamp::MIN, None);
        }
        foreseen
    }

    /// The foreign snapshots that may be what this server's own create made, under another name. While
    /// one is listed, no completed snapshot is given up for a new one. Beside those that are
    /// remembered, they are, where no earlier rotation is remembered, those newer than any
    /// managed one whose names resemble a managed one's. One may also have been renamed after it was
    /// created.
    pub fn strays<'a>(&'a self, ring: &'a Ring) -> impl Iterator<Item = &'a Slot> {
        let completed = |slot: &&Slot| {
            matches!(slot.holder, Holder::Managed(_)) && slot.snapshot.status == Status::Completed
        };
        let newest = ring.slots().iter().filter(completed).map(|slot| slot.snapshot.id).max();
        ring.slots().iter().filter(move |slot| {
            let Slot { snapshot, holder } = slot;
            let resembles = || {
                // Who remembers an earlier rotation knows better.
                self.last_tick.is_none()
                    && newest.is_some_and(|newest| newest < snapshot.id)
                    && resembles_managed(snapshot.name.raw(), ring.prefix().own())
            };
            let is_known = self.strays.contains(&snapshot.id) || self.made.contains(&snapshot.id);
            *holder == Holder::Foreign && (is_known || resembles())
        })
    }

    /// What may be the snapshot of this tick, under another name.
    #[must_use]
    pub fn made_for<'a>(&'a self, tick: Tick, ring: &'a Ring) -> Option<&'a Snapshot> {
        let stray = self.strays(ring).next().map(|slot| &slot.snapshot);
        stray.filter(|_| self.asked_for == Some(tick.instant()))
    }

    /// Whether a person asked for the snapshot of this tick. `None` if it is not the last one that was asked
    /// for.
    #[must_use]
    pub fn was_asked_for_by_hand(&self, tick: Tick) -> Option<bool> {
        (self.asked_for == Some(tick.instant())).then_some(self.asked_by_hand)
    }

    /// Whether any tick is known to have ended well.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.last_tick.is_some()
    }

    /// The tick that has run and excludes this one: not an earlier one, and not so much later
    /// that it was a wrong clock's.
    #[must_use]
    pub fn has_run(&self, tick: Tick) -> Option<Tick> {
        let last = self.last_tick.filter(|last| Self::stands_before(*last, tick))?;
        Some(Tick::at(last))
    }

    fn stands_before(last: Timestamp, tick: Tick) -> bool {
        let ahead = last.duration_since(tick.instant());
        // Further ahead, a wrong clock has run it. It does not stand in the way of the ticks of years.
        !ahead.is_negative() && ahead <= CLOCKS_AGREE_WITHIN
    }

    /// As another process finds it that has what was kept.
    #[cfg(test)]
    pub(crate) fn without_uptime(&self) -> Self {
        let mut kept = self.clone();
        kept.failed.iter_mut().chain(&mut kept.deleted).for_each(|since| since.uptime = None);
        kept
    }

    /// Adds what another process has remembered while neither could read what the other kept.
    pub fn merge(&mut self, other: Self) {
        add(&mut self.completed, &other.completed);
        add(&mut self.made, &other.made);
        add(&mut self.strays, &other.strays);
        add(&mut self.given_up, &other.given_up);
        let add_since = |all: &mut Vec<Since>, more: Vec<Since>| {
            for since in more {
                if !all.iter().any(|it| it.id == since.id) {
                    all.push(since);
                }
            }
        };
        add_since(&mut self.failed, other.failed);
        add_since(&mut self.deleted, other.deleted);
        self.before_create = self.before_create.take().or(other.before_create);
        if other.asked_for > self.asked_for {
            (self.asked_for, self.asked_by_hand) = (other.asked_for, other.asked_by_hand);
        }
        self.last_tick = self.last_tick.max(other.last_tick);
    }
}

/// Forgets the oldest of those that the listing does not show, but for some.
fn forget_unlisted(ids: &mut Vec<SnapshotId>, ring: &Ring) {
    let unlisted = ids.iter().filter(|id| !ring.lists(**id)).count();
    let mut to_forget = unlisted.saturating_sub(UNLISTED);
    ids.retain(|id| {
        let forget = to_forget > 0 && !ring.lists(*id);
        to_forget -= usize::from(forget);
        !forget
    });
}

fn add(ids: &mut Vec<SnapshotId>, more: &[SnapshotId]) {
    for id in more {
        if !ids.contains(id) {
            ids.push(*id);
        }
    }
}

/// Whether a name is a managed one but for what providers change: case and separators.
fn resembles_managed(name: &str, prefix: &Prefix) -> bool {
    let letters = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|it| it.to_ascii_lowercase()).collect()
    };
    let (name, prefix) = (letters(name), letters(prefix.as_str()));
    let Some(stamp) = name.strip_prefix(&prefix) else { return false };
    let shape: String =
        stamp.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect();
    shape == "00000000t000000z"
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::naming::ServerId;
    use crate::snapshot::{Listing, Snapshot};

    /// At night `nth`: the oldest snapshot, which retention keeps for years, and last night's.
    fn ring(nth: u64, oldest: Status) -> Ring {
        let asked_at = Moment {
            wall: Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * nth.cast_signed()),
            uptime: Duration::from_hours(24 * nth),
        };
        let row = |id, status| Snapshot {
            id: SnapshotId(id),
            server: ServerId::new(7),
            name: format!("by-hand-{id}").as_str().into(),
            status,
            size_mb: None,
            created_at: asked_at.wall,
            description: None,
        };
        let rows = vec![row(1, oldest), row(nth, Status::Completed)];
        let server = crate::testing::server(7, "");
        Ring::of(Listing::complete(ServerId::new(7), rows, asked_at), &server.policy)
    }

    /// S2: else it would be deleted as one that failed, if it reads so for a while.
    #[test]
    fn what_is_listed_is_known_to_have_been_completed_however_many_have_come_and_gone_since() {
        let mut known = RingMemory::default();
        for night in 2..1000 {
            // As a rotation does: it goes on from what is known, and hands over what it has seen.
            let mut newer = known.clone();
            newer.saw(&ring(night, Status::Completed));
            newer.keeps_of(&known);
            known = newer;
            assert!(known.completed.len() <= 4 * UNLISTED);
        }
        let ring = ring(1000, Status::Failed);
        known.saw(&ring);
        let oldest = ring.snapshot(SnapshotId(1)).unwrap();
        assert_eq!(known.failed(oldest, &ring), Some(Failed::WasCompleted));
    }
}
