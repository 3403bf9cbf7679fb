//! Which ticks are due, whatever the clock has done since the last look.
//!
//! The wall clock is read again at every poll. A jump forward, or a machine that slept, makes ticks
//! late: each schedule then has one, its latest. A jump back repeats nothing: the planner remembers
//! the stretches of wall time that it lived through, and no tick in them fires again. So a clock
//! set back by an hour means an hour without ticks, for they have been; and a clock that was ten
//! years ahead and is put right goes on at once, for those years were not lived through.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Moment;
use crate::naming::Tick;
use crate::schedule::Schedule;

/// A difference between the clocks of more than this is a step; less is how clocks are kept right.
const STEP: SignedDuration = SignedDuration::from_secs(2);

/// How many stretches, and how many ticks fired out of a jump, are remembered: the clock would have
/// to jump that often for a tick to come twice.
const REMEMBERED: usize = 64;

/// The longest between two polls.
const POLL_AT_LEAST: Duration = Duration::from_secs(30);

/// Missed ticks are counted up to this.
const COUNTED: u32 = 1000;

/// A schedule's tick that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Of which schedule.
    pub schedule: Schedule,
    /// The tick: the latest one that has come.
    pub tick: Tick,
    /// How many earlier ones came with it and will not run (at most 1000 are counted).
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
    /// Wall time lived through; the last one is going on.
    stretches: VecDeque<Stretch>,
    last: Moment,
}

#[derive(Debug)]
struct Entry {
    /// When, and in which stretch, it was first loaded.
    loaded_at: Timestamp,
    loaded_in: u64,
    next: Option<Timestamp>,
    /// Ticks that fired after a jump, outside of any stretch.
    fired_in_jumps: VecDeque<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    number: u64,
    from: Timestamp,
    to: Timestamp,
}

impl Planner {
    /// A planner that begins to live now.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        let first = Stretch { number: 0, from: now.wall, to: now.wall };
        Self {
            entries: BTreeMap::new(),
            queue: BTreeSet::new(),
            stretches: VecDeque::from([first]),
            last: now,
        }
    }

    /// Plans these schedules from now on. Those that were planned before go on as if nothing had
    /// happened; a new one counts from now, a tick at this very instant being past.
    pub fn set(&mut self, schedules: impl IntoIterator<Item = Schedule>, now: Moment) {
        let wanted: BTreeSet<Schedule> = schedules.into_iter().collect();
        self.entries.retain(|schedule, _| wanted.contains(schedule));
        self.queue.retain(|(_, schedule)| wanted.contains(schedule));
        for schedule in wanted {
            if self.entries.contains_key(&schedule) {
                continue;
            }
            let entry = Entry {
                loaded_at: now.wall,
                loaded_in: self.stretches.back().map_or(0, |stretch| stretch.number),
                next: None,
                fired_in_jumps: VecDeque::new(),
            };
            self.entries.insert(schedule.clone(), entry);
            self.plan(&schedule, now.wall);
        }
    }

    /// When the next tick of any schedule is.
    #[must_use]
    pub fn earliest(&self) -> Option<Timestamp> {
        self.queue.first().map(|(next, _)| *next)
    }

    /// Whether a poll would find something. Changes nothing.
    #[must_use]
    pub fn must_be_polled(&self, now: Moment) -> bool {
        self.earliest().is_some_and(|next| next <= now.wall)
            || self.step_since_last(now).is_some()
            // So that a clock that is kept right little by little does not add up to a step.
            || now.uptime.saturating_sub(self.last.uptime) >= POLL_AT_LEAST
    }

    /// What has come since the last poll. Costs little when nothing has.
    pub fn poll(&mut self, now: Moment) -> Poll {
        let step = self.step_since_last(now);
        match step {
            Some(by) if by.is_negative() => self.live_again_from(now.wall),
            Some(_) => self.begin_stretch(now.wall),
            None => {}
        }
        let mut due = Vec::new();
        while let Some((next, _)) = self.queue.first()
            && *next <= now.wall
        {
            let Some((next, schedule)) = self.queue.pop_first() else { break };
            due.extend(self.fire(schedule.clone(), next, now.wall, step.is_some()));
            self.plan(&schedule, now.wall);
        }
        if let Some(stretch) = self.stretches.back_mut() {
            stretch.to = stretch.to.max(now.wall);
        }
        self.last = now;
        Poll { due, step }
    }

    fn step_since_last(&self, now: Moment) -> Option<SignedDuration> {
        let by_wall = now.wall.duration_since(self.last.wall);
        let passed = now.uptime.saturating_sub(self.last.uptime);
        let step = by_wall.saturating_sub(SignedDuration::try_from(passed).unwrap_or_default());
        (step.abs() > STEP).then_some(step)
    }

    /// The clock went back: within the present stretch it goes on, before it a new one begins.
    fn live_again_from(&mut self, wall: Timestamp) {
        if self.stretches.back().is_none_or(|stretch| wall < stretch.from) {
            self.begin_stretch(wall);
        }
        self.queue.clear();
        let schedules: Vec<Schedule> = self.entries.keys().cloned().collect();
        for schedule in schedules {
            self.plan(&schedule, wall);
        }
    }

    fn begin_stretch(&mut self, wall: Timestamp) {
        let number = self.stretches.back().map_or(0, |stretch| stretch.number + 1);
        self.stretches.push_back(Stretch { number, from: wall, to: wall });
        if self.stretches.len() > REMEMBERED {
            self.stretches.pop_front();
        }
    }

    /// The one tick of a schedule whose time has come, `next` being the first that has.
    fn fire(
        &mut self,
        schedule: Schedule,
        next: Timestamp,
        wall: Timestamp,
        jumped: bool,
    ) -> Option<Due> {
        let latest = schedule.latest_at(wall).filter(|latest| {
            let lived = |entry| self.lived_through(entry, *latest).is_some();
            *latest >= next && !self.entries.get(&schedule).is_some_and(lived)
        });
        let tick = latest.unwrap_or(next);
        let mut missed = 0;
        let mut earlier = next;
        while earlier < tick && missed < COUNTED {
            missed += 1;
            match schedule.next_after(earlier) {
                Some(later) => earlier = later,
                None => break,
            }
        }
        let entry = self.entries.get_mut(&schedule)?;
        if jumped {
            entry.fired_in_jumps.push_back(tick);
            if entry.fired_in_jumps.len() > REMEMBERED {
                entry.fired_in_jumps.pop_front();
            }
        }
        let late = Duration::try_from(wall.duration_since(tick)).unwrap_or_default();
        Some(Due { schedule, tick: Tick::at(tick), missed, late })
    }

    /// Finds a schedule's next tick after `wall` that was not lived through.
    fn plan(&mut self, schedule: &Schedule, wall: Timestamp) {
        let Some(entry) = self.entries.get(schedule) else { return };
        let mut next = schedule.next_after(wall);
        while let Some(tick) = next {
            let Some(until) = self.lived_through(entry, tick) else { break };
            next = schedule.next_after(until.max(tick));
        }
        if let Some(tick) = next {
            self.queue.insert((tick, schedule.clone()));
        }
        if let Some(entry) = self.entries.get_mut(schedule) {
            entry.next = next;
        }
    }

    /// Until when that was, if the schedule lived through the tick.
    fn lived_through(&self, entry: &Entry, tick: Timestamp) -> Option<Timestamp> {
        let lived = |stretch: &&Stretch| {
            (stretch.from..=stretch.to).contains(&tick)
                && (stretch.number > entry.loaded_in
                    || (stretch.number == entry.loaded_in && tick > entry.loaded_at))
        };
        let stretch = self.stretches.iter().find(lived).map(|stretch| stretch.to);
        stretch.or_else(|| entry.fired_in_jumps.contains(&tick).then_some(tick))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use jiff::tz::TimeZone;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn schedule(text: &str) -> Schedule {
        Schedule::parse(text, TimeZone::UTC).unwrap()
    }

    /// A clock of two hands.
    #[derive(Clone, Copy)]
    struct Hands(Moment);

    impl Hands {
        fn at(wall: &str) -> Self {
            Self(Moment { wall: wall.parse().unwrap(), uptime: Duration::ZERO })
        }

        fn run(&mut self, span: Duration) -> Moment {
            self.0.uptime += span;
            self.0.wall += SignedDuration::try_from(span).unwrap();
            self.0
        }

        fn step(&mut self, hours: i64) {
            self.0.wall += SignedDuration::from_hours(hours);
        }
    }

    /// The ticks of so many minutes of half-second polls.
    fn ticks(planner: &mut Planner, hands: &mut Hands, minutes: u64) -> Vec<String> {
        (0..minutes * 120)
            .flat_map(|_| planner.poll(hands.run(Duration::from_millis(500))).due)
            .map(|due| due.tick.to_string())
            .collect()
    }

    fn planner(text: &str, hands: &Hands) -> Planner {
        let mut planner = Planner::new(hands.0);
        planner.set([schedule(text)], hands.0);
        planner
    }

    #[test]
    fn a_schedule_fires_at_its_ticks_and_not_for_the_past() {
        let mut hands = Hands::at("2026-11-23T12:00:00Z");
        let mut planner = planner("*/5 * * * *", &hands);
        let expected = ["2026-11-23T12:05:00Z", "2026-11-23T12:10:00Z"];
        assert_eq!(ticks(&mut planner, &mut hands, 10), expected);
    }

    #[test]
    fn a_machine_that_slept_has_one_late_tick_and_then_goes_on() {
        let mut hands = Hands::at("2026-11-23T12:00:30Z");
        let mut planner = planner("0 * * * *", &hands);
        hands.step(9);
        let poll = planner.poll(hands.run(Duration::from_millis(500)));
        assert_eq!(poll.step, Some(SignedDuration::from_hours(9)));
        let [due] = poll.due.as_slice() else { panic!("{poll:?}") };
        assert_eq!(due.tick.to_string(), "2026-11-23T21:00:00Z");
        assert_eq!((due.missed, due.late.as_secs()), (8, 30));
        assert_eq!(ticks(&mut planner, &mut hands, 60), ["2026-11-23T22:00:00Z"]);
    }

    #[test]
    fn a_clock_set_back_an_hour_repeats_nothing_and_goes_on_after_that_hour() {
        let mut hands = Hands::at("2026-11-23T12:00:00Z");
        let mut planner = planner("*/30 * * * *", &hands);
        assert_eq!(ticks(&mut planner, &mut hands, 61).len(), 2); // until 13:01
        hands.step(-1);
        assert_eq!(ticks(&mut planner, &mut hands, 60), Vec::<String>::new());
        assert_eq!(ticks(&mut planner, &mut hands, 30), ["2026-11-23T13:30:00Z"]);
    }

    #[test]
    fn a_clock_set_back_to_before_the_start_fires_what_was_not_lived_through() {
        let mut hands = Hands::at("2026-11-23T12:15:00Z");
        let mut planner = planner("*/30 * * * *", &hands);
        assert_eq!(ticks(&mut planner, &mut hands, 30), ["2026-11-23T12:30:00Z"]);
        hands.step(-1); // 11:45
        let expected = ["2026-11-23T12:00:00Z", "2026-11-23T13:00:00Z"];
        assert_eq!(ticks(&mut planner, &mut hands, 80), expected);
    }

    #[test]
    fn a_clock_ten_years_ahead_that_is_put_right_goes_on_at_once() {
        let mut hands = Hands::at("2036-01-01T00:00:00Z");
        let mut planner = planner("*/5 * * * *", &hands);
        assert_eq!(ticks(&mut planner, &mut hands, 5).len(), 1);
        hands.0.wall = "2026-11-23T12:00:00Z".parse().unwrap();
        let expected = ["2026-11-23T12:05:00Z", "2026-11-23T12:10:00Z"];
        assert_eq!(ticks(&mut planner, &mut hands, 10), expected);
    }

    #[test]
    fn a_clock_that_jumps_ten_years_ahead_and_back_goes_on_and_repeats_nothing() {
        let mut hands = Hands::at("2026-11-23T12:01:00Z");
        let mut planner = planner("* * * * * *", &hands);
        let ten_years = 10 * 365 * 24;
        hands.step(ten_years);
        let poll = planner.poll(hands.run(Duration::from_millis(500)));
        assert_eq!((poll.due.len(), poll.due[0].missed), (1, COUNTED));
        hands.step(-ten_years);
        let fired = ticks(&mut planner, &mut hands, 1);
        assert!(fired.len() >= 59, "{fired:?}");
        assert_eq!(fired.iter().collect::<HashSet<_>>().len(), fired.len());
    }

    #[test]
    fn a_runtime_blocked_over_a_due_second_is_late_once() {
        let mut hands = Hands::at("2026-11-23T02:59:58Z");
        let mut planner = planner("0 3 * * *", &hands);
        let poll = planner.poll(hands.run(Duration::from_secs(3)));
        assert_eq!(poll.due[0].late.as_secs(), 1);
        assert_eq!(planner.poll(hands.run(Duration::from_secs(3))), Poll::default());
    }

    #[test]
    fn three_hundred_schedules_on_one_second_all_fire() {
        let mut hands = Hands::at("2026-11-23T02:59:59Z");
        let zones = jiff::tz::db().available().take(300).map(|name| name.to_string());
        let schedules: Vec<Schedule> = zones
            .map(|zone| Schedule::parse("*/15 * * * *", TimeZone::get(&zone).unwrap()).unwrap())
            .collect();
        let mut planner = Planner::new(hands.0);
        planner.set(schedules, hands.0);
        assert_eq!(planner.poll(hands.run(Duration::from_secs(1))).due.len(), 300);
    }

    #[rstest]
    #[case::kept("0 * * * *", &["2026-11-23T13:00:00Z"])]
    #[case::edited_to_one_in_the_past("30 11 * * *", &[])]
    fn a_reload_fires_nothing_and_loses_nothing(#[case] after: &str, #[case] expected: &[&str]) {
        let mut hands = Hands::at("2026-11-23T12:30:00Z");
        let mut planner = planner("0 * * * *", &hands);
        // Due, but not polled yet, when the reload comes.
        hands.run(Duration::from_secs(1800));
        planner.set([schedule(after)], hands.0);
        assert_eq!(ticks(&mut planner, &mut hands, 1), expected);
    }

    proptest! {
        /// Whatever the clock does, no schedule yields one tick twice; and while it does nothing
        /// strange, ticks only go forward.
        #[test]
        fn no_tick_comes_twice(
            moves in prop::collection::vec(
                (0..5400_u64, prop_oneof![4 => Just(0_i64), 1 => -10_000..10_000_i64]), 1..60,
            ),
            text in prop::sample::select(vec!["*/10 * * * *", "0 * * * *", "0 0 * * *", "*/20 * * * * *"]),
        ) {
            let mut hands = Hands::at("2026-11-23T12:00:00Z");
            let mut planner = planner(text, &hands);
            let mut seen = HashSet::new();
            let mut last = None;
            for (seconds, step) in moves {
                hands.0.wall += SignedDuration::from_secs(step);
                if step != 0 {
                    last = None;
                }
                for due in planner.poll(hands.run(Duration::from_secs(seconds))).due {
                    prop_assert!(due.tick.instant() <= hands.0.wall);
                    prop_assert!(seen.insert(due.tick), "{} came twice", due.tick);
                    prop_assert!(last.is_none_or(|last| due.tick > last));
                    last = Some(due.tick);
                }
            }
        }
    }
}
