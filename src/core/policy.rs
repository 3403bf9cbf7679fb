//! A server's policy: what decides which of its snapshots are created, kept and deleted.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::naming::{ManagedPrefix, SnapshotId};

/// What decides which snapshots come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What this server's managed names begin with.
    pub prefix: ManagedPrefix,
    /// How many snapshots retention keeps.
    pub keep: Keep,
    /// Where days, weeks and months begin.
    pub time_zone: TimeZone,
    /// The provider's limit for this server.
    pub cap: u32,
    /// Slots always left free for snapshots made by hand.
    pub reserve: u32,
    /// Ids never deleted.
    pub pinned: BTreeSet<SnapshotId>,
    /// What the server is restored from once the rotation has ended: not deleted either.
    pub to_restore: Option<SnapshotId>,
    /// A tick sooner than this after the last managed snapshot is skipped.
    pub min_interval: Duration,
}

impl Policy {
    /// How many managed snapshots may be there at once beside this many foreign and pinned ones. A snapshot made by
    /// hand uses up the reserve, it does not add to it.
    #[must_use]
    pub fn room_beside(&self, others: u32) -> u32 {
        self.cap.saturating_sub(self.reserve.max(others))
    }

    /// How many of the snapshots that `keep` asks for have no slot beside this many foreign and pinned ones.
    #[must_use]
    pub fn squeezed_by(&self, others: u32) -> u32 {
        self.keep.total().saturating_sub(self.room_beside(others))
    }
}

impl Hash for Policy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The zone has no hash of its own: equality alone sees it.
        let Self { prefix, keep, time_zone: _, cap, reserve, pinned, to_restore, min_interval } =
            self;
        (prefix, keep, cap, reserve, pinned, to_restore, min_interval).hash(state);
    }
}

/// How many snapshots to keep: each number is that many slots. See [`retain`](crate::retention::retain).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Keep {
    /// The N newest.
    pub last: u32,
    /// The newest of an hour.
    pub hourly: u32,
    /// Days, in the policy's time zone.
    pub daily: u32,
    /// ISO weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
}

impl Keep {
    /// The most snapshots that this can keep.
    #[must_use]
    pub fn total(&self) -> u32 {
        Rule::ALL.iter().fold(0, |sum, rule| sum.saturating_add(self.count(*rule)))
    }

    /// The rules that have slots.
    #[must_use]
    pub fn rules(&self) -> BTreeSet<Rule> {
        Rule::ALL.into_iter().filter(|rule| self.count(*rule) > 0).collect()
    }

    /// How many slots this rule fills.
    #[must_use]
    pub fn count(&self, rule: Rule) -> u32 {
        match rule {
            Rule::Last => self.last,
            Rule::Hourly => self.hourly,
            Rule::Daily => self.daily,
            Rule::Weekly => self.weekly,
            Rule::Monthly => self.monthly,
            Rule::Yearly => self.yearly,
        }
    }
}

/// One key of `keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Each snapshot is a period of its own.
    Last,
    /// Hours of the clock on the wall; the hour that autumn repeats counts as two.
    Hourly,
    /// Calendar days.
    Daily,
    /// ISO weeks, which begin on Monday.
    Weekly,
    /// Calendar months.
    Monthly,
    /// Calendar years.
    Yearly,
}

impl Rule {
    /// All of them, shortest period first.
    pub const ALL: [Self; 6] =
        [Self::Last, Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// The key in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::server;

    #[test]
    fn what_others_hold_leaves_less_room_and_uses_the_reserve_up_first() {
        let mut policy = Policy::clone(&server(101, "").policy);
        policy.reserve = 1;
        let room: Vec<u32> = (0..7).map(|others| policy.room_beside(others)).collect();
        assert_eq!(room, [4, 4, 3, 2, 1, 0, 0]);
        let squeezed: Vec<u32> = (0..7).map(|others| policy.squeezed_by(others)).collect();
        assert_eq!(squeezed, [0, 0, 0, 1, 2, 3, 3]);
    }
}
