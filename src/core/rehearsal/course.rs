//! What a rehearsal showed of one server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::ideal::Ideal;
use crate::memory::RingMemory;
use crate::naming::Tick;
use crate::plan;
use crate::policy::Rule;
use crate::report::RotationOutcome;
use crate::retention::{Reason, unfilled};
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

/// How far back one could go, each time it was looked at, in seconds: how often each span was seen.
#[derive(Debug, Default)]
pub(super) struct Reaches(BTreeMap<i64, usize>);

impl Reaches {
    pub(super) fn add(&mut self, reach: SignedDuration) {
        *self.0.entry(reach.as_secs()).or_default() += 1;
    }

    pub(super) fn summary(&self) -> Option<Reach> {
        let half = self.0.values().sum::<usize>() / 2;
        let mut seen = 0;
        let (typical_s, _) = self.0.iter().find(|(_, times)| {
            seen += **times;
            seen > half
        })?;
        let (worst_s, best_s) = (self.0.first_key_value()?.0, self.0.last_key_value()?.0);
        Some(Reach { worst_s: *worst_s, typical_s: *typical_s, best_s: *best_s })
    }
}

/// What a policy promises and did not keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "promise", rename_all = "snake_case")]
pub enum Broken {
    /// A rule had no chance, although there were ticks enough.
    NeverFilled {
        /// The rule.
        rule: Rule,
    },
    /// Rotations were blocked.
    Blocked {
        /// How many.
        times: usize,
        /// The first of them.
        first: Tick,
        /// Why.
        reason: Option<String>,
    },
    /// For more than twice its interval there was no new snapshot.
    Gap {
        /// How long, in seconds.
        seconds: i64,
        /// The tick of the last snapshot before it; `None`: there was none from the start on.
        after: Option<Tick>,
        /// The longest time between two ticks of the schedule, in seconds.
        interval_s: i64,
    },
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
    reaches: Reaches,
    reaches_before_filled: Reaches,
}

impl Course {
    pub(super) fn of(server: Arc<Server>) -> Self {
        Self {
            unfilled: server.policy.keep.rules(),
            server,
            runs: Vec::new(),
            days: Vec::new(),
            filled: None,
            full_days: 0,
            largest_gap_s: 0,
            most_kept: 0,
            reaches: Reaches::default(),
            reaches_before_filled: Reaches::default(),
        }
    }

    /// A rotation has ended, with this ring.
    pub(super) fn ran(&mut self, run: Run, ring: &Ring, memory: &RingMemory) {
        self.runs.push(run);
        let verdicts = plan::verdicts(ring, &self.server.policy, memory);
        let unfilled = unfilled(&verdicts, &self.server.policy.keep);
        self.unfilled.retain(|rule| unfilled.contains(rule));
        if unfilled.is_empty() {
            self.filled = self.filled.or_else(|| self.runs.last().map(|run| run.ended));
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
            let reaches = match self.filled {
                Some(_) => &mut self.reaches,
                None => &mut self.reaches_before_filled,
            };
            reaches.add(newest.duration_since(*oldest));
        }
    }

    /// How far back one could go, from the moment on when all rules were filled; before, if that moment never
    /// came. `None`: there never was a snapshot.
    #[must_use]
    pub fn reach(&self) -> Option<Reach> {
        match self.filled {
            Some(_) => self.reaches.summary(),
            None => self.reaches_before_filled.summary(),
        }
    }

    /// How many rotations ended like this.
    #[must_use]
    pub fn count(&self, outcome: RotationOutcome) -> usize {
        self.runs.iter().filter(|run| run.outcome == outcome).count()
    }

    /// The longest time without a new snapshot, and the tick before it. `to`: the end of the rehearsal.
    fn longest_wait(&self, to: Timestamp) -> Option<(SignedDuration, Option<Tick>)> {
        let mut before: Option<Tick> = None;
        let mut longest: Option<(SignedDuration, Option<Tick>)> = None;
        let since = |before: Option<Tick>| before.or_else(|| self.runs.first().map(|run| run.tick));
        for run in &self.runs {
            let wait = since(before).map(|it| run.tick.instant().duration_since(it.instant()));
            longest = longest.max(wait.map(|wait| (wait, before)));
            if run.outcome.is_good() {
                before = Some(run.tick);
            }
        }
        let wait = since(before).map(|it| to.duration_since(it.instant()));
        longest.max(wait.map(|wait| (wait, before)))
    }

    /// The times between each two ticks of the schedule.
    pub fn intervals(&self) -> impl Iterator<Item = SignedDuration> {
        let later = self.runs.iter().skip(1);
        self.runs
            .iter()
            .zip(later)
            .map(|(before, after)| after.tick.instant().duration_since(before.tick.instant()))
    }

    /// What the policy promises and did not keep until `to`. `ideal`: what it comes to when nothing goes wrong.
    #[must_use]
    pub fn broken_promises(&self, ideal: &Ideal, to: Timestamp) -> Vec<Broken> {
        let mut broken: Vec<Broken> = self
            .unfilled
            .difference(&ideal.unfilled)
            .map(|rule| Broken::NeverFilled { rule: *rule })
            .collect();
        let blocked = |run: &&Run| run.outcome == RotationOutcome::Blocked;
        if let Some(first) = self.runs.iter().find(blocked) {
            let times = self.count(RotationOutcome::Blocked);
            broken.push(Broken::Blocked { times, first: first.tick, reason: first.reason.clone() });
        }
        if let (Some((wait, after)), Some(interval)) =
            (self.longest_wait(to), self.intervals().max())
            && wait > interval * 2
        {
            let (seconds, interval_s) = (wait.as_secs(), interval.as_secs());
            broken.push(Broken::Gap { seconds, after, interval_s });
        }
        broken
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

/// A span of the settings, as instants are moved by.
pub(super) fn signed(span: Duration) -> SignedDuration {
    SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)
}
