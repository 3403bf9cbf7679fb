//! Which ticks are due, whatever the clock has done since the last look.
//!
//! The wall clock is read again at every poll. A jump forward, or a machine that slept, makes ticks
//! late: each schedule then has one, its latest. A jump back repeats nothing: each schedule
//! remembers the wall time that it lived through, and no tick in there fires again. So a clock
//! set back by an hour means an hour without ticks, for they have been; and a clock that was ten
//! years ahead and is put right goes on at once, for those years were not lived through.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::moment::Moment;
use crate::naming::Tick;
use crate::schedule::Schedule;
use crate::schedule::elapsed::Lived;

/// A difference between the clocks of more than this is a step; less is how clocks are kept right.
const STEP: SignedDuration = SignedDuration::from_secs(2);

/// The longest between two polls.
const POLL_AT_LEAST: Duration = Duration::from_secs(30);

/// Missed ticks are counted up to this, so that a jump of years costs each schedule little.
const COUNTED: u32 = 100;

/// A schedule's tick that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Of which schedule.
    pub schedule: Schedule,
    /// The tick: the latest one that has come.
    pub tick: Tick,
    /// How many earlier ones came with it and will not run (at most 100 are counted).
    pub missed: u32,
    /// How long ago it should have come.
    pub late: Duration,
}

/// What a poll found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Poll {
    /// At most one tick for each schedule.
    pub due: Vec<Due>,
    /// How far the wall clock was stepped since the last poll, if it was.
    pub step: Option<SignedDuration>,
}

/// Knows of each distinct schedule when its next tick is.
#[derive(Debug)]
pub struct Planner {
    entries: BTreeMap<Schedule, Entry>,
    queue: BTreeSet<(Timestamp, Schedule)>,
    /// Until when wall time was lived through since the last step.
    lived_until: Timestamp,
    /// A step that no poll has reported yet.
    step: Option<SignedDuration>,
    last: Moment,
}

#[derive(Debug)]
struct Entry {
    next: Option<Timestamp>,
    /// From when on it has lived without a step: when it was loaded, or the last step's end.
    since: Timestamp,
    /// What it lived through before that, and the ticks that fired out of a jump.
    lived: Lived,
}

impl Entry {
    /// The stretch of its life that holds an instant.
    fn around(&self, instant: Timestamp, lived_until: Timestamp) -> Option<(Timestamp, Timestamp)> {
        // A tick at the very instant where a step ends has not been.
        let since_step = self.since < instant && instant <= lived_until;
        self.lived.around(instant).or_else(|| since_step.then_some((self.since, lived_until)))
    }

    /// The first tick after an instant that was not lived through.
    fn next_after(
        &self,
        schedule: &Schedule,
        mut instant: Timestamp,
        lived_until: Timestamp,
    ) -> Option<Timestamp> {
        loop {
            let tick = schedule.next_after(instant)?;
            match self.around(tick, lived_until) {
                Some((_, to)) => instant = to.max(tick),
                None => return Some(tick),
            }
        }
    }

    /// The last tick at or before an instant that was not lived through.
    fn latest_at(
        &self,
        schedule: &Schedule,
        mut instant: Timestamp,
        lived_until: Timestamp,
    ) -> Option<Timestamp> {
        loop {
            let tick = schedule.latest_at(instant)?;
            match self.around(tick, lived_until) {
                Some((from, _)) => {
                    instant = from.min(tick).checked_sub(SignedDuration::from_nanos(1)).ok()?;
                }
                None => return Some(tick),
            }
        }
    }
}

impl Planner {
    /// A planner that begins to live now.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self {
            entries: BTreeMap::new(),
            queue: BTreeSet::new(),
            lived_until: now.wall,
            step: None,
            last: now,
        }
    }

    /// Plans these schedules from now on. Those that were planned before go on as if nothing had
    /// happened; a new one counts from now, a tick at this very instant being past.
    pub fn set(&mut self, schedules: impl IntoIterator<Item = Schedule>, now: Moment) {
        // Before any is loaded, lest a new one take over what others lived through.
        self.notice_step(now);
        let wanted: BTreeSet<Schedule> = schedules.into_iter().collect();
        self.entries.retain(|schedule, _| wanted.contains(schedule));
        self.queue.retain(|(_, schedule)| wanted.contains(schedule));
        for schedule in wanted {
            if !self.entries.contains_key(&schedule) {
                let entry = Entry { next: None, since: now.wall, lived: Lived::default() };
                self.entries.insert(schedule.clone(), entry);
                self.plan(schedule, now.wall);
            }
        }
    }

    /// When the next tick of any schedule is.
    #[must_use]
    pub fn earliest(&self) -> Option<Timestamp> {
        self.next().map(|(next, _)| next)
    }

    /// The next tick of any schedule, and the schedule; one of them, where several fall together.
    #[must_use]
    pub fn next(&self) -> Option<(Timestamp, &Schedule)> {
        self.queue.first().map(|(next, schedule)| (*next, schedule))
    }

    /// When a schedule's next tick is.
    #[must_use]
    pub fn next_tick(&self, schedule: &Schedule) -> Option<Tick> {
        self.entries.get(schedule).and_then(|entry| entry.next).map(Tick::at)
    }

    /// Whether a poll would find something. Changes nothing.
    #[must_use]
    pub fn must_be_polled(&self, now: Moment) -> bool {
        self.earliest().is_some_and(|next| next <= now.wall)
            || self.step.is_some()
            || self.step_since_last(now).is_some()
            // So that a clock that is kept right little by little does not add up to a step.
            || now.uptime.saturating_sub(self.last.uptime) >= POLL_AT_LEAST
    }

    /// What has come since the last poll. Costs little when nothing has.
    pub fn poll(&mut self, now: Moment) -> Poll {
        self.notice_step(now);
        let mut due = Vec::new();
        while let Some((next, _)) = self.queue.first()
            && *next <= now.wall
        {
            let Some((next, schedule)) = self.queue.pop_first() else { break };
            due.extend(self.fire(schedule.clone(), next, now.wall));
            self.plan(schedule, now.wall);
        }
        self.lived_until = self.lived_until.max(now.wall);
        self.last = now;
        Poll { due, step: self.step.take() }
    }

    fn step_since_last(&self, now: Moment) -> Option<SignedDuration> {
        let by_wall = now.wall.duration_since(self.last.wall);
        let passed = now.uptime.saturating_sub(self.last.uptime);
        let step = by_wall.saturating_sub(SignedDuration::try_from(passed).unwrap_or_default());
        (step.abs() > STEP).then_some(step)
    }

    /// Ends every schedule's stretch where the clock left it, and begins another where it is now.
    fn notice_step(&mut self, now: Moment) {
        let Some(step) = self.step_since_last(now) else { return };
        for entry in self.entries.values_mut() {
            if entry.since <= self.lived_until {
                entry.lived.add(entry.since, self.lived_until);
            }
            entry.since = now.wall;
        }
        self.lived_until = now.wall;
        self.last = now;
        self.step = Some(self.step.unwrap_or_default().saturating_add(step));
        // After a step forward what was planned is late at most.
        if step.is_negative() {
            self.queue.clear();
            let schedules: Vec<Schedule> = self.entries.keys().cloned().collect();
            for schedule in schedules {
                self.plan(schedule, now.wall);
            }
        }
    }

    /// The one tick of a schedule whose time has come, `next` being the first that has.
    fn fire(&mut self, schedule: Schedule, next: Timestamp, wall: Timestamp) -> Option<Due> {
        let lived_until = self.lived_until;
        let entry = self.entries.get_mut(&schedule)?;
        let latest = entry.latest_at(&schedule, wall, lived_until);
        let tick = latest.unwrap_or(next).max(next);
        let mut missed = 0;
        let mut earlier = next;
        while earlier < tick && missed < COUNTED {
            missed += 1;
            let Some(later) = entry.next_after(&schedule, earlier, lived_until) else { break };
            earlier = later;
        }
        if tick <= entry.since {
            entry.lived.add(tick, tick);
        }
        let late = Duration::try_from(wall.duration_since(tick)).unwrap_or_default();
        Some(Due { schedule, tick: Tick::at(tick), missed, late })
    }

    fn plan(&mut self, schedule: Schedule, wall: Timestamp) {
        let Some(entry) = self.entries.get_mut(&schedule) else { return };
        entry.next = entry.next_after(&schedule, wall, self.lived_until);
        if let Some(next) = entry.next {
            self.queue.insert((next, schedule));
        }
    }
}

#[cfg(test)]
mod tests;
