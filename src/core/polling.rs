//! When to look next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::naming::ServerId;

/// How long a look that cannot wait waits for others that come at the same time. With the
/// scheduler's half second it stays within a second from a tick to its first request.
pub const GATHER: Duration = Duration::from_millis(200);

/// The shortest wait before a look.
pub const FIRST: Duration = Duration::from_secs(1);

/// Between two looks for a snapshot in progress, at most: snapshots take minutes.
const MAX: Duration = Duration::from_secs(60);

/// The same where it is known how long they take, and nothing waits for it.
const PATIENT_MAX: Duration = Duration::from_secs(120);

/// By how much a look may be late to be shared, at the least: while the creates of a fleet go out one
/// after the other, this gathers those who wait for theirs.
const SLACK_MIN: Duration = Duration::from_secs(20);
const SLACK_MAX: Duration = Duration::from_mins(5);

/// Between two looks for a create whose answer never came, at most.
const SETTLING_MAX: Duration = Duration::from_secs(8);

/// What a rotation needs, once its snapshot is there, so as not to be in the next one's way.
pub const TO_FINISH: Duration = Duration::from_mins(1);

/// After how long each server's snapshots are there, as far as is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct CompletionTimes(Arc<Mutex<HashMap<ServerId, Duration>>>);

impl CompletionTimes {
    /// How to wait for this server's snapshot; `None`: for one of which nothing is known.
    #[must_use]
    pub fn pace(&self, server: Option<ServerId>, hurried: bool) -> Pace {
        let expected = server.and_then(|server| self.usual(server));
        Pace { expected, hurried }
    }

    /// How long this server's snapshots take, as far as that is known.
    #[must_use]
    pub fn usual(&self, server: ServerId) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&server).copied()
    }

    /// A look that was to come after `found` showed the snapshot as completed, and one after
    /// `missed` did not.
    pub fn learn(&self, server: ServerId, missed: Option<Duration>, found: Duration) {
        let expected = match missed {
            Some(missed) => missed.saturating_add(found) / 2,
            // It may have been there for long.
            None => found * 9 / 10,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(server, expected);
    }

    /// Forgets the others.
    pub fn keep_only(&self, keep: impl Fn(ServerId) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|server, _| keep(*server));
    }
}

/// How to wait for a snapshot in progress; by default for one of which nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// When the server's last one was there, as far as looks can tell.
    expected: Option<Duration>,
    /// Its users wait: the server is quiesced.
    hurried: bool,
}

impl Pace {
    /// The wait before the next look for a snapshot that has been in progress for `passed` and was
    /// looked for `looks` times. The first look comes when the server's last one was there. The
    /// further they are from its beginning, the further they are apart, so that both a snapshot of
    /// seconds and one of half an hour cost few.
    #[must_use]
    pub fn wait(self, passed: Duration, looks: u32) -> Duration {
        match (self.expected, self.hurried) {
            (Some(expected), false) if looks == 0 => expected.saturating_sub(passed).max(FIRST),
            (Some(expected), true) if looks == 0 => {
                (expected * 9 / 10).saturating_sub(passed).max(FIRST)
            }
            (Some(_), false) => (passed / 2).clamp(FIRST, PATIENT_MAX),
            (Some(_), true) => (passed / 4).clamp(FIRST, MAX),
            (None, _) => passed.clamp(FIRST, MAX),
        }
    }

    /// How much later than `passed` the look may be, if it can then be shared with others.
    #[must_use]
    pub fn slack(self, passed: Duration) -> Duration {
        if self.hurried { Duration::ZERO } else { (passed / 2).clamp(SLACK_MIN, SLACK_MAX) }
    }
}

/// The wait before the next look for something that should show up, or go, within seconds.
#[must_use]
pub fn settling(passed: Duration) -> Duration {
    passed.clamp(FIRST, SETTLING_MAX)
}

/// The same for a create that was not answered, which is looked for from `since` on until a listing
/// was asked for at `settled_at`.
#[must_use]
pub fn until_settled(since: Duration, settled_at: Duration, now: Duration) -> Duration {
    let wait = settling(now.saturating_sub(since));
    match settled_at.saturating_sub(now) {
        // Caches give listings from before that moment.
        Duration::ZERO => wait,
        left => wait.min(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: ServerId = ServerId::new(101);

    /// When a snapshot that takes `took` is looked for.
    fn looks(pace: Pace, took: Duration) -> Vec<Duration> {
        let (mut passed, mut looks) = (Duration::ZERO, Vec::new());
        while passed < took {
            passed += pace.wait(passed, u32::try_from(looks.len()).unwrap());
            looks.push(passed);
        }
        looks
    }

    #[test]
    fn a_first_snapshot_of_ten_minutes_costs_sixteen_looks_and_is_found_within_a_minute() {
        let looks =
            looks(CompletionTimes::default().pace(Some(WEB), false), Duration::from_secs(600));
        assert_eq!(looks.len(), 16);
        assert!(looks[15] < Duration::from_secs(660), "{looks:?}");
    }

    #[test]
    fn the_looks_for_the_next_ones_settle_around_the_span_that_they_take() {
        for (hurried, calls, late) in [(false, 15, 0.5), (true, 32, 0.26)] {
            for took in [180, 300, 420, 600].map(Duration::from_secs) {
                let completion_times = CompletionTimes::default();
                let (mut sum, mut worst) = (0, Duration::ZERO);
                for nth in 0..11 {
                    let looks = looks(completion_times.pace(Some(WEB), hurried), took);
                    let (found, missed) = (looks[looks.len() - 1], looks.iter().rev().nth(1));
                    completion_times.learn(WEB, missed.copied(), found);
                    if nth > 0 {
                        sum += looks.len();
                        worst = worst.max(found - took);
                    }
                }
                assert!(sum <= calls, "{sum} looks in ten rotations of {took:?}, {hurried}");
                assert!(worst <= took.mul_f64(late), "{worst:?} late, {took:?}, {hurried}");
            }
        }
    }

    #[test]
    fn a_quiesced_server_is_looked_at_before_its_last_span_has_passed_and_waits_for_nobody() {
        let completion_times = CompletionTimes::default();
        completion_times.learn(WEB, Some(Duration::from_secs(500)), Duration::from_secs(700));
        let pace = completion_times.pace(Some(WEB), true);
        assert_eq!(pace.wait(Duration::ZERO, 0), Duration::from_secs(540));
        assert_eq!(pace.slack(Duration::from_secs(540)), Duration::ZERO);
        assert_eq!(
            completion_times.pace(Some(WEB), false).wait(Duration::ZERO, 0),
            Duration::from_secs(600)
        );
    }

    #[test]
    fn a_look_may_be_half_as_late_again_within_bounds() {
        let slack = |seconds| Pace::default().slack(Duration::from_secs(seconds)).as_secs();
        assert_eq!([0, 40, 50, 600, 3600].map(slack), [20, 20, 25, 300, 300]);
    }

    #[test]
    fn the_habits_of_servers_that_are_gone_are_forgotten() {
        let completion_times = CompletionTimes::default();
        let other = ServerId::new(102);
        for server in [WEB, other] {
            completion_times.learn(server, None, Duration::from_secs(600));
        }
        completion_times.keep_only(|server| server == other);
        assert_eq!(completion_times.pace(Some(WEB), false), Pace::default());
        assert_ne!(completion_times.pace(Some(other), false), Pace::default());
    }
}
