//! Who holds each of a server's slots.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::naming::{ManagedPrefix, SnapshotId, Tick};
use crate::policy::Policy;
use crate::snapshot::{Listing, Snapshot, Status};

/// On whose account a snapshot is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "holder", content = "tick")]
pub enum Holder {
    /// Ours, made for this tick: the only kind that may ever be deleted.
    Managed(Tick),
    /// Listed under `pin`, whatever its name; or the server is about to be restored from it.
    Pinned,
    /// Any other.
    Foreign,
}

impl Holder {
    /// The contract's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Managed(_) => "managed",
            Self::Pinned => "pinned",
            Self::Foreign => "foreign",
        }
    }
}

/// One taken slot.
#[derive(Debug, Clone)]
pub struct Slot {
    /// What is in it.
    pub snapshot: Snapshot,
    /// Whose it is.
    pub holder: Holder,
}

/// Two times of one event, by two clocks, are at most this far apart. Further apart, one of the clocks was
/// wrong.
pub(crate) const CLOCKS_AGREE_WITHIN: SignedDuration = SignedDuration::from_hours(48);

/// The point in time that a snapshot stands for: the tick in a managed name, so that a step of the
/// provider's clock changes nothing; `created_at` where there is no tick or the two clocks disagree.
fn point(snapshot: &Snapshot, prefix: &ManagedPrefix) -> Timestamp {
    point_of(prefix.tick_of(snapshot.name.raw()), snapshot.created_at)
}

/// The same for one whose tick is known.
#[must_use]
pub fn point_of(tick: Option<Tick>, created_at: Timestamp) -> Timestamp {
    tick.map(Tick::instant)
        .filter(|tick| tick.duration_since(created_at).abs() <= CLOCKS_AGREE_WITHIN)
        .unwrap_or(created_at)
}

/// A server's snapshots, oldest first, each with its holder, as one listing showed them. Of two of one
/// tick, the one that the provider made first comes first.
#[derive(Debug, Clone)]
pub struct Ring {
    slots: Vec<Slot>,
    listing: Listing,
    prefix: ManagedPrefix,
}

impl Ring {
    /// Tells whose each snapshot of a listing is.
    #[must_use]
    pub fn of(listing: Listing, policy: &Policy) -> Self {
        let mut slots: Vec<Slot> = listing
            .snapshots
            .iter()
            .map(|snapshot| Slot { snapshot: snapshot.clone(), holder: holder(snapshot, policy) })
            .collect();
        slots.sort_by_key(|Slot { snapshot, .. }| {
            (point(snapshot, &policy.prefix), snapshot.created_at, snapshot.id)
        });
        Self { slots, listing, prefix: policy.prefix.clone() }
    }

    /// The listing it was read from.
    #[must_use]
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// What the names of the managed ones begin with.
    #[must_use]
    pub fn prefix(&self) -> &ManagedPrefix {
        &self.prefix
    }

    /// The taken slots, oldest snapshot first.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Whether this snapshot is in a slot.
    #[must_use]
    pub fn lists(&self, snapshot: SnapshotId) -> bool {
        self.slots.iter().any(|slot| slot.snapshot.id == snapshot)
    }

    /// The snapshot of this id.
    #[must_use]
    pub fn snapshot(&self, id: SnapshotId) -> Option<&Snapshot> {
        self.slots.iter().map(|slot| &slot.snapshot).find(|snapshot| snapshot.id == id)
    }

    /// How many slots are taken, by any holder.
    #[must_use]
    pub fn taken(&self) -> u32 {
        count(self.slots.iter())
    }

    /// How many slots foreign and pinned snapshots hold.
    #[must_use]
    pub fn held_by_others(&self) -> u32 {
        count(self.slots.iter().filter(|slot| !matches!(slot.holder, Holder::Managed(_))))
    }

    /// The managed snapshots with their ticks, oldest first.
    pub fn managed(&self) -> impl DoubleEndedIterator<Item = (&Snapshot, Tick)> {
        self.slots.iter().filter_map(|slot| match slot.holder {
            Holder::Managed(tick) => Some((&slot.snapshot, tick)),
            Holder::Pinned | Holder::Foreign => None,
        })
    }

    /// The snapshot that carries this tick's name, pinned or not. Of several (a race between two
    /// machines), the one that is furthest; of several completed ones the newest, because retention
    /// counts that one and drops the others.
    #[must_use]
    pub fn for_tick(&self, tick: Tick, policy: &Policy) -> Option<&Snapshot> {
        let rank = |(place, snapshot): &(usize, &Snapshot)| match snapshot.status {
            Status::Completed => (0, Reverse(*place)),
            Status::InProgress => (1, Reverse(0)),
            Status::Other(_) => (2, Reverse(0)),
            Status::Failed => (3, Reverse(0)),
        };
        self.slots
            .iter()
            .map(|slot| &slot.snapshot)
            .enumerate()
            .filter(|(_, snapshot)| policy.prefix.tick_of(snapshot.name.raw()) == Some(tick))
            .min_by_key(rank)
            .map(|(_, snapshot)| snapshot)
    }

    /// A snapshot whose name differs from this tick's in nothing but the case of its letters. A provider that
    /// changes names may have made it of a create that nothing remembers.
    #[must_use]
    pub fn alike(&self, tick: Tick, policy: &Policy) -> Option<&Snapshot> {
        let name = policy.prefix.name(tick);
        let snapshots = self.slots.iter().map(|slot| &slot.snapshot);
        snapshots.into_iter().find(|snapshot| {
            let raw = snapshot.name.raw();
            raw != name && raw.eq_ignore_ascii_case(&name)
        })
    }

    /// The ticks that have more than one snapshot, each with its snapshots, oldest first. Pinned
    /// snapshots with a managed name count, failed ones do not.
    #[must_use]
    pub fn duplicate_ticks(&self, policy: &Policy) -> BTreeMap<Tick, Vec<&Snapshot>> {
        let mut ticks: BTreeMap<Tick, Vec<&Snapshot>> = BTreeMap::new();
        for (snapshot, tick) in self.usable(policy) {
            ticks.entry(tick).or_default().push(snapshot);
        }
        ticks.retain(|_, snapshots| snapshots.len() > 1);
        ticks
    }

    /// The completed managed snapshots, with the duplicates set apart.
    #[must_use]
    pub fn completed(&self) -> Completed<'_> {
        Completed::of(self.managed().filter(|(it, _)| it.status == Status::Completed))
    }

    /// The point in time that one of these snapshots stands for, by which they are ordered.
    #[must_use]
    pub fn point(&self, snapshot: &Snapshot) -> Timestamp {
        point(snapshot, &self.prefix)
    }

    /// The newest managed snapshot that is or may become usable (not a failed one), with its tick.
    /// Pinned ones with a managed name count.
    #[must_use]
    pub fn newest(&self, policy: &Policy) -> Option<(&Snapshot, Tick)> {
        self.usable(policy).next_back()
    }

    /// The snapshots with a managed name that have not failed, with their ticks, oldest first.
    /// Pinned ones count.
    pub fn usable<'a>(
        &'a self,
        policy: &Policy,
    ) -> impl DoubleEndedIterator<Item = (&'a Snapshot, Tick)> {
        self.slots
            .iter()
            .map(|slot| &slot.snapshot)
            .filter(|snapshot| snapshot.status != Status::Failed)
            .filter_map(|snapshot| Some((snapshot, policy.prefix.tick_of(snapshot.name.raw())?)))
    }
}

/// Completed managed snapshots of one server. Several of one tick are one point in time: the newest
/// of them represents the tick, and retention never looks at the others.
#[derive(Debug, Clone, Default)]
pub struct Completed<'a> {
    /// One for each tick, oldest first.
    pub one_per_tick: Vec<&'a Snapshot>,
    /// The others, oldest first.
    pub duplicates: Vec<Duplicate<'a>>,
    newest_by_tick: Option<&'a Snapshot>,
}

/// A completed managed snapshot of a tick that has a newer one.
#[derive(Debug, Clone, Copy)]
pub struct Duplicate<'a> {
    /// The older snapshot.
    pub snapshot: &'a Snapshot,
    /// The newest completed one of its tick.
    pub newest: &'a Snapshot,
}

impl<'a> Completed<'a> {
    /// The newest ones: by tick, by the provider's clock and by id. They are mostly one and the same.
    /// Where they are not, a clock is wrong, and it is unknown which of them is the newest.
    #[must_use]
    pub fn newest(&self) -> BTreeSet<SnapshotId> {
        let newest = |key: fn(&Snapshot) -> (Timestamp, SnapshotId)| {
            let duplicates = self.duplicates.iter().map(|it| it.snapshot);
            let all = self.one_per_tick.iter().copied().chain(duplicates);
            all.max_by_key(|snapshot| key(snapshot))
        };
        let by_tick = self.newest_by_tick;
        let by_clock = newest(|snapshot| (snapshot.created_at, snapshot.id));
        let by_id = newest(|snapshot| (Timestamp::MIN, snapshot.id));
        [by_tick, by_clock, by_id].into_iter().flatten().map(|snapshot| snapshot.id).collect()
    }

    /// Of these managed snapshots with their ticks, oldest first, which all count as completed.
    #[must_use]
    pub fn of(completed: impl Iterator<Item = (&'a Snapshot, Tick)>) -> Self {
        let each: Vec<(&Snapshot, Tick)> = completed.collect();
        // Of one tick, whatever prefix its names have, the last one is the newest.
        let newest: BTreeMap<Tick, &Snapshot> =
            each.iter().map(|(snapshot, tick)| (*tick, *snapshot)).collect();
        let newest_by_tick = newest.last_key_value().map(|(_, snapshot)| *snapshot);
        let mut completed = Self { newest_by_tick, ..Self::default() };
        for (snapshot, tick) in each {
            match newest.get(&tick) {
                Some(newest) if newest.id != snapshot.id => {
                    completed.duplicates.push(Duplicate { snapshot, newest });
                }
                _ => completed.one_per_tick.push(snapshot),
            }
        }
        completed
    }

    /// The duplicate of this id.
    #[must_use]
    pub fn duplicate(&self, id: SnapshotId) -> Option<Duplicate<'a>> {
        self.duplicates.iter().find(|duplicate| duplicate.snapshot.id == id).copied()
    }
}

#[must_use]
pub fn holder(snapshot: &Snapshot, policy: &Policy) -> Holder {
    if policy.pinned.contains(&snapshot.id) || policy.to_restore == Some(snapshot.id) {
        return Holder::Pinned;
    }
    policy.prefix.tick_of(snapshot.name.raw()).map_or(Holder::Foreign, Holder::Managed)
}

fn count<'a>(slots: impl Iterator<Item = &'a Slot>) -> u32 {
    u32::try_from(slots.count()).unwrap_or(u32::MAX)
}
