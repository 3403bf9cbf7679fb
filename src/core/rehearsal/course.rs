//! What a rehearsal showed of one server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::memory::RingMemory;
use crate::naming::Tick;
use crate::plan;
use crate::policy::Rule;
use crate::report::RotationOutcome;
use crate::retention::{Reason, Verdict};
use crate::ring::{Holder, Ring};
use crate::server::Server;
use crate::snapshot::Status;

/// One rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Its tick.
    pub tick: Tick,
    /// When it ended.
    pub ended: Timestamp,
    /// How.
    pub outcome: RotationOutcome,
    /// Why it did not end well.
    pub reason: Option<String>,
}

/// The server's snapshots at the end of one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Day {
    /// Which, in the policy's zone.
    pub date: Date,
    /// Its end.
    pub end: Timestamp,
    /// Oldest first.
    pub snapshots: Vec<Kept>,
    /// Slots that are taken, by whatever.
    pub taken: u32,
}

/// One snapshot at the end of a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The point in time that it stands for.
    pub at: Timestamp,
    /// Whose it is.
    #[serde(flatten)]
    pub holder: Holder,
    /// Whether it can be restored.
    pub completed: bool,
    /// Why retention keeps it. `None`: it is not retention that does.
    pub reason: Option<Reason>,
}

/// How far back one could go: from the newest completed managed snapshot to the oldest, after each rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// At the worst moment, in seconds.
    pub worst_s: i64,
    /// At half of the moments it was longer, in seconds.
    pub typical_s: i64,
    /// At the best moment, in seconds.
    pub best_s: i64,
}

/// Everything about one server.
#[derive(Debug)]
pub struct Course {
    /// Which.
    pub server: Arc<Server>,
    /// Every tick with what became of it, in order.
    pub runs: Vec<Run>,
    /// Every day of the rehearsal; empty unless asked for.
    pub days: Vec<Day>,
    /// When all rules were filled for the first time.
    pub filled: Option<Timestamp>,
    /// Rules that were never filled.
    pub unfilled: BTreeSet<Rule>,
    /// Days at whose end every slot was taken.
    pub full_days: u32,
    /// The largest gap between two neighbouring restore points, in seconds.
    pub largest_gap_s: i64,
    /// The most restore points at the end of a rotation.
    pub most_kept: u32,
    reaches: Vec<i64>,
    reaches_before_filled: Vec<i64>,
}

impl Course {
    pub(super) fn of(server: Arc<Server>) -> Self {
        let keep = server.policy.keep;
        Self {
            unfilled: Rule::ALL.into_iter().filter(|rule| keep.count(*rule) > 0).collect(),
            server,
            runs: Vec::new(),
            days: Vec::new(),
            filled: None,
            full_days: 0,
            largest_gap_s: 0,
            most_kept: 0,
            reaches: Vec::new(),
            reaches_before_filled: Vec::new(),
        }
    }

    /// A rotation has ended, with this ring.
    pub(super) fn ran(&mut self, run: Run, ring: &Ring, memory: &RingMemory) {
        self.runs.push(run);
        let verdicts = plan::verdicts(ring, &self.server.policy, memory);
        let kept: Vec<&Verdict> = verdicts.iter().filter(|it| it.keeps()).collect();
        let keep = self.server.policy.keep;
        let is_filled = |rule: &Rule| {
            let slots = kept.iter().filter(|it| match &it.reason {
                Some(Reason::Newest { rule: by, .. }) => by == rule,
                _ => false,
            });
            slots.count() >= keep.count(*rule) as usize
        };
        self.unfilled.retain(|rule| !is_filled(rule));
        if self.filled.is_none() && Rule::ALL.iter().all(is_filled) {
            self.filled = self.runs.last().map(|run| run.ended);
        }
        let points = points(ring);
        self.most_kept = self.most_kept.max(u32::try_from(points.len()).unwrap_or(u32::MAX));
        let apart = |pair: &[Timestamp]| match pair {
            [older, newer] => newer.duration_since(*older).as_secs(),
            _ => 0,
        };
        let largest = points.windows(2).map(apart).max().unwrap_or_default();
        self.largest_gap_s = self.largest_gap_s.max(largest);
        if let (Some(oldest), Some(newest)) = (points.first(), points.last()) {
            let reach = newest.duration_since(*oldest).as_secs();
            let reaches = match self.filled {
                Some(_) => &mut self.reaches,
                None => &mut self.reaches_before_filled,
            };
            reaches.push(reach);
        }
    }

    /// How far back one could go, from the moment on when all rules were filled; before, if that moment never
    /// came. `None`: there never was a snapshot.
    #[must_use]
    pub fn reach(&self) -> Option<Reach> {
        let mut reaches = match self.filled {
            Some(_) => self.reaches.clone(),
            None => self.reaches_before_filled.clone(),
        };
        reaches.sort_unstable();
        let typical_s = *reaches.get(reaches.len() / 2)?;
        Some(Reach { worst_s: *reaches.first()?, typical_s, best_s: *reaches.last()? })
    }

    /// How many rotations ended like this.
    #[must_use]
    pub fn count(&self, outcome: RotationOutcome) -> usize {
        self.runs.iter().filter(|run| run.outcome == outcome).count()
    }

    /// The longest time without a new snapshot: the ticks around it, and how often the schedule would have had
    /// one meanwhile. `None`: fewer than two rotations ended well.
    #[must_use]
    pub fn longest_wait(&self) -> Option<(SignedDuration, Tick)> {
        let good: Vec<Tick> =
            self.runs.iter().filter(|run| run.outcome.is_good()).map(|run| run.tick).collect();
        let wait = |pair: &[Tick]| match pair {
            [before, after] => Some((after.instant().duration_since(before.instant()), *before)),
            _ => None,
        };
        good.windows(2).filter_map(wait).max()
    }

    /// The longest time between two ticks of the schedule.
    #[must_use]
    pub fn interval(&self) -> Option<SignedDuration> {
        let wait = |pair: &[Run]| match pair {
            [before, after] => Some(after.tick.instant().duration_since(before.tick.instant())),
            _ => None,
        };
        self.runs.windows(2).filter_map(wait).max()
    }

    /// The end of a day.
    pub(super) fn day_ended(
        &mut self,
        (date, end): (Date, Timestamp),
        ring: &Ring,
        memory: &RingMemory,
        in_detail: bool,
    ) {
        let policy = &self.server.policy;
        self.full_days += u32::from(ring.taken() >= policy.cap);
        if !in_detail {
            return;
        }
        let verdicts = plan::verdicts(ring, policy, memory);
        let reason = |id| verdicts.iter().find(|it| it.id == id).and_then(|it| it.reason.clone());
        let kept = ring.slots().iter().map(|slot| Kept {
            at: ring.point(&slot.snapshot),
            holder: slot.holder,
            completed: slot.snapshot.status == Status::Completed,
            reason: reason(slot.snapshot.id),
        });
        self.days.push(Day { date, end, snapshots: kept.collect(), taken: ring.taken() });
    }
}

/// The points in time that the server's own snapshots could restore, oldest first.
fn points(ring: &Ring) -> Vec<Timestamp> {
    let completed = ring.managed().filter(|(it, _)| it.status == Status::Completed);
    completed.map(|(snapshot, _)| ring.point(snapshot)).collect()
}

/// In seconds, for the settings of a rehearsal.
pub(super) fn signed(span: Duration) -> SignedDuration {
    SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)
}
