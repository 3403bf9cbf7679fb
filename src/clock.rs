//! The only place that reads a clock or waits for one.
//!
//! Everything else is handed a [`Clock`], so that weeks pass in milliseconds under test, the demo
//! can run an hour in seconds, and every behaviour can be replayed.
#![allow(clippy::disallowed_methods, reason = "this is the module the others are sent to")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::moment::Moment;

/// Reads the time and waits. Cheap to clone; clones share one time line.
#[derive(Debug, Clone)]
pub struct Clock(Arc<TimeLine>);

#[derive(Debug)]
struct TimeLine {
    origin: tokio::time::Instant,
    speed: u32,
    wall: Wall,
}

#[derive(Debug)]
enum Wall {
    System,
    /// Starts at a chosen instant, follows the monotonic clock, and steps when told to.
    Simulated {
        start: Timestamp,
        stepped_ms: AtomicI64,
        asleep_ms: AtomicI64,
    },
}

impl Clock {
    /// The machine's own clocks.
    #[must_use]
    pub fn system() -> Self {
        Self::new(1, Wall::System)
    }

    /// A clock that starts at `start` and runs `speed` times as fast as the machine's (at least 1).
    #[must_use]
    pub fn accelerated(start: Timestamp, speed: u32) -> Self {
        let (stepped_ms, asleep_ms) = (AtomicI64::new(0), AtomicI64::new(0));
        Self::new(speed.max(1), Wall::Simulated { start, stepped_ms, asleep_ms })
    }

    /// A clock for tests: starts at `start` and follows tokio's clock, paused or not.
    #[must_use]
    pub fn simulated(start: Timestamp) -> Self {
        Self::accelerated(start, 1)
    }

    fn new(speed: u32, wall: Wall) -> Self {
        Self(Arc::new(TimeLine { origin: tokio::time::Instant::now(), speed, wall }))
    }

    /// The machine of a simulated clock was suspended for this long: its uptime stands still.
    pub fn sleep_through(&self, span: SignedDuration) {
        self.step(span);
        if let Wall::Simulated { asleep_ms, .. } = &self.0.wall {
            let span_ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
            asleep_ms.fetch_add(span_ms, Ordering::SeqCst);
        }
    }

    /// Steps a simulated wall clock, as NTP or a person would. The system's clock is left alone.
    pub fn step(&self, by: SignedDuration) {
        if let Wall::Simulated { stepped_ms, .. } = &self.0.wall {
            let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            stepped_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }

    /// Both clocks, now.
    #[must_use]
    pub fn now(&self) -> Moment {
        let uptime = self.0.origin.elapsed().saturating_mul(self.0.speed);
        let wall = match &self.0.wall {
            Wall::System => Timestamp::now(),
            Wall::Simulated { start, stepped_ms, .. } => {
                let stepped = SignedDuration::from_millis(stepped_ms.load(Ordering::SeqCst));
                let since = SignedDuration::try_from(uptime).unwrap_or(SignedDuration::MAX);
                start
                    .checked_add(since.saturating_add(stepped))
                    .unwrap_or(if stepped.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
            }
        };
        Moment { wall, uptime }
    }

    /// Time since the machine was started, sleep included. The same for all processes of the machine,
    /// and untouched by steps of the wall clock.
    #[must_use]
    pub fn since_boot(&self) -> Duration {
        match &self.0.wall {
            Wall::System => {
                let read = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
                read.map(Duration::from).unwrap_or_default()
            }
            Wall::Simulated { start, asleep_ms, .. } => {
                let asleep = SignedDuration::from_millis(asleep_ms.load(Ordering::SeqCst));
                let since_epoch = start.as_duration().saturating_add(asleep);
                let since_epoch = Duration::try_from(since_epoch).unwrap_or_default();
                since_epoch.saturating_add(self.now().uptime)
            }
        }
    }

    /// How much of this clock's time passes in `span` of the machine's.
    #[must_use]
    pub fn passes_in(&self, span: Duration) -> Duration {
        span.saturating_mul(self.0.speed)
    }

    /// How much of the machine's time passes in `span` of this clock's.
    #[must_use]
    pub fn takes(&self, span: Duration) -> Duration {
        span / self.0.speed
    }

    /// Waits for `span` of this clock's time.
    pub async fn sleep(&self, span: Duration) {
        tokio::time::sleep(self.takes(span)).await;
    }

    /// Waits until the wall clock's next whole second begins; gives that second. Whoever began
    /// before it and had ended by now was given another one.
    pub async fn next_second(&self) -> Timestamp {
        let now = self.now().wall;
        let next = Timestamp::from_second(now.as_second().saturating_add(1)).unwrap_or(now);
        self.sleep(Duration::try_from(next.duration_since(now)).unwrap_or_default()).await;
        next
    }

    /// The same, but time during which this process stood still does not count: it was stopped, or the machine was
    /// too busy. What came meanwhile is taken before the time is over.
    pub async fn timeout_while_running<F: Future>(
        &self,
        span: Duration,
        work: F,
    ) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        let (mut left, mut standstills) = (span, 0);
        while !left.is_zero() {
            let (part, begun) = (left.min(PART), self.now().uptime);
            if let Some(done) = self.timeout(part, work.as_mut()).await {
                return Some(done);
            }
            let took = self.now().uptime.saturating_sub(begun);
            if took > part + PART && standstills < MOST_STANDSTILLS {
                standstills += 1;
            } else {
                left -= part;
            }
        }
        None
    }

    /// Runs `work` for at most `span` of this clock's time; `None` when it was not done by then.
    pub async fn timeout<F: Future>(&self, span: Duration, work: F) -> Option<F::Output> {
        tokio::time::timeout(self.takes(span), work).await.ok()
    }
}

/// A process that did not run for longer than this stood still.
const PART: Duration = Duration::from_secs(1);

/// How often that is made up for.
const MOST_STANDSTILLS: u32 = 10;

/// The system's monotonic clock in microseconds, as another process reads it too.
#[must_use]
pub fn monotonic_us() -> u64 {
    let read = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let since_boot = read.map(Duration::from).unwrap_or_default();
    u64::try_from(since_boot.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspend_and_a_clock_set_back_both_age_a_moment() {
        let clock = Clock::simulated(noon());
        let then = clock.now();
        clock.step(SignedDuration::from_hours(9));
        assert_eq!(then.age_at(clock.now()), Duration::from_secs(9 * 3600));

        let then = clock.now();
        clock.sleep(Duration::from_secs(90)).await;
        clock.step(SignedDuration::from_hours(-1));
        assert_eq!(then.age_at(clock.now()), Duration::from_secs(90));
    }

    #[tokio::test(start_paused = true)]
    async fn an_accelerated_clock_waits_less_and_reads_more() {
        let clock = Clock::accelerated(noon(), 720);
        let real = tokio::time::Instant::now();
        clock.sleep(Duration::from_secs(3600)).await;
        assert_eq!(real.elapsed(), Duration::from_secs(5));
        assert_eq!(clock.takes(Duration::from_secs(3600)), Duration::from_secs(5));
        assert_eq!(clock.now().wall, noon() + SignedDuration::from_hours(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_second_has_begun_when_it_is_given_and_is_never_the_present_one() {
        let clock = Clock::simulated(noon() + SignedDuration::from_millis(250));
        for second in 1..=3 {
            assert_eq!(clock.next_second().await, noon() + SignedDuration::from_secs(second));
            assert_eq!(clock.now().wall, noon() + SignedDuration::from_secs(second));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_in_which_the_process_stood_still_does_not_count() {
        let clock = Clock::simulated(noon());
        let begun = clock.now().uptime;
        let never =
            clock.timeout_while_running(Duration::from_secs(10), std::future::pending::<()>());
        assert_eq!(never.await, None);
        assert_eq!(clock.now().uptime - begun, Duration::from_secs(10));
        // The answer comes while nothing of this process runs, as after SIGSTOP.
        let (answer, answered) = tokio::sync::oneshot::channel();
        let standing = clock.clone();
        tokio::spawn(async move {
            standing.sleep(Duration::from_millis(9500)).await;
            tokio::time::advance(Duration::from_secs(60)).await;
            tokio::task::yield_now().await;
            let _ = answer.send(());
        });
        let done = clock.timeout_while_running(Duration::from_secs(10), answered).await;
        assert_eq!(done, Some(Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn ten_years_back_and_forth_do_not_panic() {
        let clock = Clock::simulated(noon());
        for hours in [-87_600, 87_600, i64::MAX / 3_600_000, i64::MIN / 3_600_000] {
            clock.step(SignedDuration::from_hours(hours));
            let _ = clock.now();
        }
    }
}
