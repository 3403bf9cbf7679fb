//! What is known of each server: how its last rotation ended, what its ring held when it was seen
//! last. Kept in memory for the status page, the metrics and `status`.
//!
//! It decides nothing. A rotation rests on a listing of its own, never on what stands here.

pub mod counts;
pub mod undelivered;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;
use snapring_core::rotation::Left;

use crate::foreign::ForeignText;
use crate::health::{Age, Ended, NotRestored, RotationHistory, Success, TroubleKind};
use crate::manual::ManualAct;
use crate::naming::{ManagedPrefix, ServerId, SnapshotId, Tick};
use crate::policy::Policy;
use crate::report::{LastOfServer, Report, RotationOutcome};
use crate::retention::{Candidate, Verdict, retain};
use crate::ring::{Holder, Ring, Slot, holder, point_of};
use crate::server::Server;
use crate::snapshot::{Snapshot, Status};
use crate::status::counts::Counts;

/// How a server stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerStatus {
    /// The last rotation that ended.
    pub last: Option<Ended>,
    /// What its rotations say about its health.
    pub history: RotationHistory,
    /// The rotation under way: for which tick, since when.
    pub under_way: Option<(Tick, Timestamp)>,
    /// What the provider listed last.
    pub ring: Option<RingSeen>,
    /// How many rotations ended how, since the daemon started.
    pub ended: Endings,
    /// What the last rotation would leave at the provider if it were broken off.
    pub left: Option<Left>,
    /// It has not come back from the last restore.
    pub not_restored: Option<Box<NotRestored>>,
}

impl ServerStatus {
    /// The last restore, if it has left the server broken and no rotation has succeeded since.
    #[must_use]
    pub fn broken(&self) -> Option<&NotRestored> {
        self.not_restored.as_deref().filter(|it| it.lasts(self.history.success()))
    }
}

/// Which servers have series of their own in the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MetricsScope {
    /// All.
    #[default]
    Servers,
    /// The worst twenty. Sums tell of the others.
    Fleet,
}

/// Rotations by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Endings([u32; RotationOutcome::ALL.len()]);

impl Endings {
    fn count(&mut self, outcome: RotationOutcome) {
        for (known, count) in RotationOutcome::ALL.iter().zip(&mut self.0) {
            if *known == outcome {
                *count = count.saturating_add(1);
            }
        }
    }

    /// How many ended how, for each outcome.
    pub fn each(&self) -> impl Iterator<Item = (RotationOutcome, u32)> {
        RotationOutcome::ALL.into_iter().zip(self.0)
    }
}

/// A ring as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingSeen {
    /// When it was asked for.
    pub at: Timestamp,
    /// What the names of the managed ones begin with.
    pub prefix: ManagedPrefix,
    /// The taken slots, oldest snapshot first.
    pub slots: Vec<SlotSeen>,
}

/// A taken slot as it was seen. A fleet has many of them: it holds nothing that can be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSeen {
    /// The snapshot's number.
    pub id: SnapshotId,
    /// Its name, unless its own prefix and its tick tell it.
    pub other_name: Option<ForeignText>,
    /// Whose it is.
    pub holder: Holder,
    /// How far it is.
    pub status: Status,
    /// When the provider began it.
    pub created_at: Timestamp,
    /// Its size in MiB, once known, and where it is one.
    pub size_mb: Option<u32>,
}

impl SlotSeen {
    fn of(snapshot: &Snapshot, holder: Holder, prefix: &ManagedPrefix) -> Self {
        Self {
            id: snapshot.id,
            other_name: match holder {
                Holder::Managed(tick) if snapshot.name == *prefix.name(tick) => None,
                // An adopted one has another prefix.
                Holder::Managed(_) | Holder::Pinned | Holder::Foreign => {
                    Some(snapshot.name.clone())
                }
            },
            holder,
            status: snapshot.status.clone(),
            created_at: snapshot.created_at,
            size_mb: snapshot.size_mb.and_then(|size| size.try_into().ok()),
        }
    }
}

impl RingSeen {
    /// What is to be remembered of a ring.
    #[must_use]
    pub fn of(ring: &Ring) -> Self {
        let prefix = ring.prefix();
        let slot = |slot: &Slot| SlotSeen::of(&slot.snapshot, slot.holder, prefix);
        Self {
            at: ring.listing().asked_at.wall,
            prefix: prefix.clone(),
            slots: ring.slots().iter().map(slot).collect(),
        }
    }

    /// What retention says of the completed ones, one of each tick.
    #[must_use]
    pub fn verdicts(&self, policy: &Policy) -> Vec<Verdict> {
        self.verdicts_with(policy, |_| false)
    }

    /// The same if those that are listed as failed now count that were completed once.
    #[must_use]
    pub fn verdicts_with(
        &self,
        policy: &Policy,
        was_completed: impl Fn(SnapshotId) -> bool,
    ) -> Vec<Verdict> {
        // The last of a tick is its newest.
        let mut of_tick: BTreeMap<Tick, Candidate> = BTreeMap::new();
        let counts = |slot: &&SlotSeen| match slot.status {
            Status::Completed => true,
            Status::Failed => was_completed(slot.id),
            Status::InProgress | Status::Other(_) => false,
        };
        for slot in self.slots.iter().filter(counts) {
            if let Holder::Managed(tick) = slot.holder {
                let at = point_of(Some(tick), slot.created_at);
                of_tick.insert(tick, Candidate { id: slot.id, at });
            }
        }
        let candidates: Vec<Candidate> = of_tick.into_values().collect();
        retain(&candidates, &policy.keep, &policy.time_zone)
    }

    /// The name of the snapshot in one of its slots.
    #[must_use]
    pub fn name(&self, slot: &SlotSeen) -> String {
        match (&slot.other_name, slot.holder) {
            (None, Holder::Managed(tick)) => self.prefix.name(tick),
            (name, _) => name.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// How many slots hold such snapshots.
    #[must_use]
    pub fn count(&self, whose: impl Fn(Holder) -> bool) -> u32 {
        let count = self.slots.iter().filter(|slot| whose(slot.holder)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How many of the snapshots that `keep` asks for have no slot, because foreign and pinned ones hold it.
    #[must_use]
    pub fn squeezed(&self, policy: &Policy) -> u32 {
        policy.squeezed_by(self.count(|holder| !matches!(holder, Holder::Managed(_))))
    }

    /// How many ticks have more than one snapshot that has not failed, pinned ones included.
    #[must_use]
    pub fn duplicate_ticks(&self) -> u32 {
        let mut counts: BTreeMap<Tick, u32> = BTreeMap::new();
        for slot in self.slots.iter().filter(|slot| slot.status != Status::Failed) {
            if let Some(tick) = self.tick(slot) {
                *counts.entry(tick).or_default() += 1;
            }
        }
        let count = counts.into_values().filter(|count| *count > 1).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The tick in a slot's name, managed or pinned.
    fn tick(&self, slot: &SlotSeen) -> Option<Tick> {
        match slot.holder {
            Holder::Managed(tick) => Some(tick),
            Holder::Pinned | Holder::Foreign => slot.other_name.as_ref()?.tick(&self.prefix),
        }
    }

    /// The newest completed snapshot of ours.
    #[must_use]
    pub fn newest(&self) -> Option<&SlotSeen> {
        let usable = |slot: &&SlotSeen| {
            matches!(slot.holder, Holder::Managed(_)) && slot.status == Status::Completed
        };
        self.slots.iter().rev().find(usable)
    }
}

impl ServerStatus {
    /// A rotation has ended.
    pub fn ended(&mut self, report: &Report, at: Timestamp) {
        self.ended.count(report.outcome);
        self.left = None;
        self.remember(&Ended::of(report, at));
        let Some(ring) = &mut self.ring else { return };
        // By id: another snapshot of the same tick may be left.
        ring.slots.retain(|slot| !report.deleted_ids.contains(&slot.id));
    }

    /// Takes over how a rotation ended, now or before a restart.
    pub fn remember(&mut self, ended: &Ended) {
        self.history.ended(ended);
        self.last = Some(ended.clone());
    }

    /// The last success: as far as rotations are remembered, else as the ring shows.
    #[must_use]
    pub fn last_success(&self) -> Option<Success> {
        let in_the_ring = || {
            let newest = self.ring.as_ref()?.newest()?;
            let Holder::Managed(tick) = newest.holder else { return None };
            Some(Success { tick, at: newest.created_at })
        };
        self.history.success().or_else(in_the_ring)
    }

    /// How old this server's last success may be. `since`: as in [`Age`].
    #[must_use]
    pub fn age<'a>(&self, server: &'a Server, since: Option<Timestamp>) -> Age<'a> {
        let is_under_way = self.under_way.is_some();
        Age { server, success: self.last_success(), since, is_under_way }
    }
}

/// In seconds: from a rotation that only looked to one that waited for hours.
const DURATIONS: [f64; 10] =
    [1.0, 10.0, 60.0, 180.0, 300.0, 600.0, 1200.0, 2700.0, 5400.0, 14_400.0];

/// How each server stands. Clones share it.
#[derive(Debug, Clone)]
pub struct Statuses {
    servers: Arc<Mutex<BTreeMap<ServerId, Box<ServerStatus>>>>,
    durations: Histogram,
    counts: Counts,
    /// What people did last by hand.
    manual: Arc<Mutex<Arc<[ManualAct]>>>,
}

impl Default for Statuses {
    fn default() -> Self {
        Self {
            servers: Arc::default(),
            durations: Histogram::new(DURATIONS),
            counts: Counts::default(),
            manual: Arc::default(),
        }
    }
}

/// A rotation under way.
#[derive(Debug)]
pub struct UnderWay {
    statuses: Statuses,
    server: ServerId,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(status) = self.statuses.lock().get_mut(&self.server) {
            status.under_way = None;
        }
    }
}

impl Statuses {
    /// A rotation has begun; it is under way until what is given here is dropped, however it ends.
    /// A report of another one meanwhile, skipped because this one runs, does not end it.
    #[must_use]
    pub fn begun(&self, server: ServerId, tick: Tick, at: Timestamp) -> UnderWay {
        self.lock().entry(server).or_default().under_way = Some((tick, at));
        UnderWay { statuses: self.clone(), server }
    }

    /// What the rotation under way would leave if it were broken off now.
    pub fn leaves(&self, server: ServerId, left: Left) {
        self.lock().entry(server).or_default().left = Some(left);
    }

    /// The provider has listed a server.
    pub fn saw(&self, ring: &Ring) {
        let seen = RingSeen::of(ring);
        self.lock().entry(ring.listing().server).or_default().ring = Some(seen);
    }

    /// The provider has answered that it creates a snapshot. Listings show it later.
    pub fn created(&self, created: &Snapshot, policy: &Policy) {
        let slot = SlotSeen::of(created, holder(created, policy), &policy.prefix);
        if let Some(ring) = self.lock().get_mut(&created.server).and_then(|it| it.ring.as_mut()) {
            ring.slots.retain(|slot| slot.id != created.id);
            ring.slots.push(slot);
        }
    }

    /// A rotation has ended. Gives what is wrong with its server now.
    pub fn ended(&self, report: &Report, at: Timestamp) -> Option<TroubleKind> {
        if report.outcome != RotationOutcome::Skipped {
            self.durations.observe(Duration::from_millis(report.duration_ms).as_secs_f64());
        }
        self.counts.rotation_ended(report.outcome);
        let mut servers = self.lock();
        let status = servers.entry(report.server_id).or_default();
        status.ended(report, at);
        status.history.trouble().map(|trouble| trouble.kind)
    }

    /// How a rotation ended before this process began. Does not count as one of its own.
    pub fn remember(&self, server: ServerId, ended: &Ended) {
        self.lock().entry(server).or_default().remember(ended);
    }

    /// A rotation ended in another process. `false` where that is no later than what is known. By
    /// whole milliseconds, as what is heard of has been written down.
    #[must_use]
    pub fn hear_of(&self, server: ServerId, ended: &Ended) -> bool {
        let mut servers = self.lock();
        let status = servers.entry(server).or_default();
        let known = status.last.as_ref().map(|last| last.at.as_millisecond());
        let is_news = known.is_none_or(|known| ended.at.as_millisecond() > known);
        if is_news {
            status.remember(ended);
        }
        is_news
    }

    /// How servers stood, as far as is known of their last rotations.
    #[must_use]
    pub fn known<'a>(last: impl IntoIterator<Item = &'a LastOfServer>) -> Self {
        let statuses = Self::default();
        for known in last {
            let last = known.rotations.last().map(Ended::from);
            let status = ServerStatus {
                history: RotationHistory::known(known),
                last,
                ..ServerStatus::default()
            };
            statuses.lock().insert(known.server_id, Box::new(status));
        }
        statuses
    }

    /// Forgets all servers but these.
    pub fn keep_only(&self, is_kept: impl Fn(ServerId) -> bool) {
        self.lock().retain(|id, _| is_kept(*id));
    }

    /// How a server stands.
    #[must_use]
    pub fn of(&self, server: ServerId) -> ServerStatus {
        self.lock().get(&server).map(|it| ServerStatus::clone(it)).unwrap_or_default()
    }

    /// People did this last by hand, the last act first.
    pub fn set_manual(&self, acts: Vec<ManualAct>) {
        let mut servers = self.lock();
        for act in acts.iter().rev() {
            let Some(restored) = act.not_restored() else { continue };
            if restored.is_some() {
                servers.entry(act.server_id).or_default().not_restored = restored.map(Box::new);
            } else if let Some(status) = servers.get_mut(&act.server_id) {
                // What came of this one may have been seen since it was last heard of.
                status.not_restored.take_if(|it| it.since <= act.ended_at);
            }
        }
        drop(servers);
        *self.manual.lock().unwrap_or_else(PoisonError::into_inner) = acts.into();
    }

    /// A restore has left the server broken. Gives whether that was not known.
    pub fn set_broken(&self, server: ServerId, restored: NotRestored) -> bool {
        let mut servers = self.lock();
        let status = servers.entry(server).or_default();
        let is_news = status.broken().is_none();
        if is_news {
            status.not_restored = Some(Box::new(restored));
        }
        is_news
    }

    /// What people did last by hand, as far as the store tells.
    #[must_use]
    pub fn manual(&self) -> Arc<[ManualAct]> {
        Arc::clone(&self.manual.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long rotations took.
    #[must_use]
    pub fn durations(&self) -> &Histogram {
        &self.durations
    }

    /// What happened beside the rotations.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServerId, Box<ServerStatus>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
