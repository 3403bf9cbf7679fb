//! Who holds each of a server's slots.

use serde::Serialize;

use crate::naming::{Prefix, Tick};
use crate::policy::Policy;
use crate::snapshot::{Listing, Snapshot, Status};

/// On whose account a snapshot is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "holder", content = "tick")]
pub enum Holder {
    /// Ours, made for this tick: the only kind that may ever be deleted.
    Managed(Tick),
    /// Listed under `pin`, whatever its name.
    Pinned,
    /// Somebody else's.
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

/// A server's snapshots, oldest first, each with its holder, as one listing showed them.
#[derive(Debug, Clone)]
pub struct Ring {
    slots: Vec<Slot>,
    listing: Listing,
    prefix: Prefix,
}

impl Ring {
    /// Tells whose each snapshot of a listing is.
    #[must_use]
    pub fn of(listing: Listing, policy: &Policy) -> Self {
        let slots = listing
            .snapshots
            .iter()
            .map(|snapshot| Slot { snapshot: snapshot.clone(), holder: holder(snapshot, policy) })
            .collect();
        Self { slots, listing, prefix: policy.prefix.clone() }
    }

    /// The listing it was read from.
    #[must_use]
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// What the names of the managed ones begin with.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// The taken slots, oldest snapshot first.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How many slots are taken, by whomever.
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
    /// machines), the one that is furthest.
    #[must_use]
    pub fn for_tick(&self, tick: Tick, policy: &Policy) -> Option<&Snapshot> {
        let rank = |snapshot: &&Snapshot| match snapshot.status {
            Status::Completed => 0,
            Status::InProgress => 1,
            Status::Other(_) => 2,
            Status::Failed => 3,
        };
        self.listing
            .snapshots
            .iter()
            .filter(|snapshot| policy.prefix.tick_of(&snapshot.name) == Some(tick))
            .min_by_key(rank)
    }

    /// The newest managed snapshot that is or may become usable (not a failed one), with its tick.
    /// Pinned ones with a managed name count.
    #[must_use]
    pub fn newest(&self, policy: &Policy) -> Option<(&Snapshot, Tick)> {
        self.listing
            .snapshots
            .iter()
            .rev()
            .filter(|snapshot| snapshot.status != Status::Failed)
            .find_map(|snapshot| Some((snapshot, policy.prefix.tick_of(&snapshot.name)?)))
    }
}

fn holder(snapshot: &Snapshot, policy: &Policy) -> Holder {
    if policy.pinned.contains(&snapshot.id) {
        return Holder::Pinned;
    }
    policy.prefix.tick_of(&snapshot.name).map_or(Holder::Foreign, Holder::Managed)
}

fn count<'a>(slots: impl Iterator<Item = &'a Slot>) -> u32 {
    u32::try_from(slots.count()).unwrap_or(u32::MAX)
}
