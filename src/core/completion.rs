//! The wait for a snapshot that is being created: when to look for it, and what the looks come to.
//!
//! Nothing is asked here, and no clock is read. All times are spans since the wait began.

use std::time::Duration;

use crate::polling::{self, GATHER, Pace};
use crate::snapshot::Status;

/// Which listing of the account will do in the place of the server's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// None.
    Alone,
    /// One that came in one answer.
    OneAnswer,
    /// One of several pages too. When others change the account's snapshots between two pages, a
    /// row may be lost without a trace. One that was seen before is missed; who must not overlook
    /// one that was not cannot use this.
    Pages,
}

/// One wait, and what it has seen so far.
#[derive(Debug)]
pub struct Watch {
    pace: Pace,
    /// The longest that it may take to be completed.
    timeout: Duration,
    /// How long one that was just created may be missing in listings.
    settle: Duration,
    /// The wait began when the snapshot did, so that how long it takes can be learned.
    is_from_its_beginning: bool,
    /// Looks planned so far.
    looks: u32,
    /// For when the last of them was planned.
    planned_for: Duration,
    was_listed: bool,
    /// The last listing lacked it.
    is_missed: bool,
    in_progress_after: Option<Duration>,
    /// A look has failed since it was last seen, so it is unknown how long it took.
    was_blind: bool,
}

/// When to look next, and with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextLook {
    /// After this time.
    pub wait: Duration,
    /// Or up to so much later, to share it.
    pub slack: Duration,
    /// With whom.
    pub sharing: Sharing,
}

impl NextLook {
    /// After this time or a moment later, and not in pages: they may lack a row that decides.
    #[must_use]
    pub(crate) fn in_one_answer(wait: Duration) -> Self {
        Self { wait, slack: GATHER, sharing: Sharing::OneAnswer }
    }
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// It is there, whole.
    Completed,
    /// The provider could not make it.
    Failed,
    /// It was listed, or should have been, and is not.
    Gone,
    /// Look again.
    NotYet,
}

impl Watch {
    /// For a snapshot that was just created.
    pub fn over_a_new_one(pace: Pace, timeout: Duration, settle: Duration) -> Self {
        Self {
            pace,
            timeout,
            settle,
            is_from_its_beginning: true,
            looks: 0,
            planned_for: Duration::ZERO,
            was_listed: false,
            is_missed: false,
            in_progress_after: None,
            was_blind: false,
        }
    }

    /// For one that a listing showed in progress, it is unknown since when.
    pub fn over_a_found_one(pace: Pace, timeout: Duration, settle: Duration) -> Self {
        let found = Self::over_a_new_one(pace, timeout, settle);
        Self { is_from_its_beginning: false, was_listed: true, ..found }
    }

    /// The next look, or `None` when it has taken too long. `undisturbed`: the time that is left
    /// before the server's next rotation must begin, `None` where there is nothing to wait for.
    pub fn next_look(
        &mut self,
        passed: Duration,
        undisturbed: Option<Duration>,
    ) -> Option<NextLook> {
        let left = self.timeout.checked_sub(passed).filter(|left| !left.is_zero())?;
        let next = if self.is_missed {
            // Only its own listing will do, and not so soon that it shows the same moment.
            let wait = self.settle.max(polling::FIRST).min(left);
            NextLook { wait, slack: Duration::ZERO, sharing: Sharing::Alone }
        } else {
            let until = left.min(undisturbed.unwrap_or(left));
            let wait = self.pace.wait(passed, self.looks).min(until);
            let room = undisturbed.map_or(Duration::ZERO, |_| until - wait);
            let slack = self.pace.slack(passed + wait).min(room);
            NextLook { wait, slack, sharing: Sharing::Pages }
        };
        self.looks += 1;
        self.planned_for = passed + next.wait;
        Some(next)
    }

    /// The look failed, in a way that may pass.
    pub fn saw_nothing(&mut self) {
        self.was_blind = true;
    }

    /// The look that was planned when `passed` had passed was asked for after `asked_after`, and
    /// showed the snapshot with this status, or not at all.
    pub fn saw(
        &mut self,
        status: Option<&Status>,
        passed: Duration,
        asked_after: Duration,
    ) -> Observed {
        match status {
            Some(Status::Completed) => Observed::Completed,
            Some(Status::Failed) => Observed::Failed,
            Some(Status::InProgress | Status::Other(_)) => {
                (self.was_listed, self.is_missed, self.was_blind) = (true, false, false);
                self.in_progress_after = Some(asked_after);
                Observed::NotYet
            }
            // One just created may show up late, and a listing may lack a row for once.
            None if !self.was_listed && passed <= self.settle => Observed::NotYet,
            None if !self.is_missed => {
                self.is_missed = true;
                Observed::NotYet
            }
            None => Observed::Gone,
        }
    }

    /// Once it is completed: when it was last seen in progress, and when it was first looked for
    /// after it was there. `None` where that says nothing about how long such snapshots take.
    pub fn lesson(&self) -> Option<(Option<Duration>, Duration)> {
        (self.is_from_its_beginning && !self.was_blind)
            .then_some((self.in_progress_after, self.planned_for))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(30);
    const TIMEOUT: Duration = Duration::from_mins(45);
    const FAR: Option<Duration> = Some(Duration::from_hours(12));

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn new_one() -> Watch {
        Watch::over_a_new_one(Pace::default(), TIMEOUT, SETTLE)
    }

    fn found_one() -> Watch {
        Watch::over_a_found_one(Pace::default(), TIMEOUT, SETTLE)
    }

    #[test]
    fn a_new_one_may_be_missing_for_as_long_as_settle_and_a_found_one_once() {
        let mut watch = new_one();
        for passed in [0, 1, 15, 30] {
            assert_eq!(watch.saw(None, seconds(passed), seconds(passed)), Observed::NotYet);
            assert_eq!(watch.next_look(seconds(passed), FAR).unwrap().sharing, Sharing::Pages);
        }
        assert_eq!(watch.saw(None, seconds(31), seconds(31)), Observed::NotYet);
        assert_eq!(watch.saw(None, seconds(61), seconds(61)), Observed::Gone);
        let mut watch = found_one();
        assert_eq!(watch.saw(None, seconds(0), seconds(1)), Observed::NotYet);
        assert_eq!(watch.saw(None, seconds(1), seconds(31)), Observed::Gone);
    }

    #[test]
    fn one_that_is_missing_is_looked_for_alone_and_no_sooner_than_after_settle() {
        let mut watch = found_one();
        watch.saw(None, seconds(0), seconds(1));
        let alone = NextLook { wait: SETTLE, slack: Duration::ZERO, sharing: Sharing::Alone };
        assert_eq!(watch.next_look(seconds(1), FAR), Some(alone));
        // Seen again, it is missed anew.
        assert_eq!(watch.saw(Some(&Status::InProgress), seconds(1), seconds(31)), Observed::NotYet);
        assert_eq!(watch.next_look(seconds(31), FAR).unwrap().sharing, Sharing::Pages);
        assert_eq!(watch.saw(None, seconds(31), seconds(62)), Observed::NotYet);
    }

    #[test]
    fn no_look_is_planned_past_the_timeout_and_the_last_one_is_at_it() {
        let mut watch = new_one();
        let last = watch.next_look(TIMEOUT - seconds(10), FAR).unwrap();
        assert_eq!((last.wait, last.slack), (seconds(10), Duration::ZERO));
        assert_eq!(watch.next_look(TIMEOUT, FAR), None);
    }

    #[test]
    fn a_look_comes_before_the_next_rotation_and_where_that_is_near_waits_for_nobody() {
        let next = new_one().next_look(seconds(100), Some(seconds(20))).unwrap();
        assert_eq!((next.wait, next.slack), (seconds(20), Duration::ZERO));
        let next = new_one().next_look(seconds(100), Some(seconds(70))).unwrap();
        assert_eq!((next.wait, next.slack), (seconds(60), seconds(10)));
        let next = new_one().next_look(seconds(100), None).unwrap();
        assert_eq!((next.wait, next.slack), (seconds(60), Duration::ZERO));
    }

    #[test]
    fn how_long_it_took_is_learned_from_a_wait_that_saw_it_all() {
        let in_progress = Some(&Status::InProgress);
        let wait = |watch: &mut Watch, blind_at: Option<u64>| {
            for passed in [100, 200] {
                watch.next_look(seconds(passed), FAR).unwrap();
                if blind_at == Some(passed) {
                    watch.saw_nothing();
                } else {
                    watch.saw(in_progress, seconds(passed), seconds(passed + 61));
                }
            }
            watch.next_look(seconds(300), FAR).unwrap();
            watch.saw(Some(&Status::Completed), seconds(300), seconds(361));
            watch.lesson()
        };
        let seen = Some((Some(seconds(261)), seconds(360)));
        assert_eq!(wait(&mut new_one(), None), seen);
        assert_eq!(wait(&mut new_one(), Some(100)), seen);
        assert_eq!(wait(&mut new_one(), Some(200)), None);
        assert_eq!(wait(&mut found_one(), None), None);
    }
}
