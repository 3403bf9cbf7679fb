//! Whether the scheduler lives: its own beats, not a timer's that would go on regardless.
//!
//! A beat has gone the whole way of a start: the scheduler asked the due work, what was due was
//! begun, and the loop that makes tasks of orders took note. Whatever stands still on that way, a
//! mutex that is never freed, a scheduler that has ended, worker threads that are all blocked,
//! keeps the beats from coming. The watchdog is fed by it, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::moment::Moment;

/// Without a beat for so long the scheduler is stuck. It beats about twice a second; a fleet that is
/// due at once, or a machine under load, delays a beat by seconds at most.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(10);

/// When the scheduler last beat. Clones share it.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    last: Arc<AtomicU64>,
    stuck_after: Duration,
}

impl Heartbeat {
    /// One that begins with a beat, now.
    #[must_use]
    pub fn begin(clock: &Clock) -> Self {
        let last = Arc::new(AtomicU64::new(milliseconds(clock.now())));
        // The scheduler runs on the machine's time, however fast the clock.
        Self { last, stuck_after: clock.passes_in(STUCK_AFTER) }
    }

    pub(crate) fn beat(&self, now: Moment) {
        self.last.store(milliseconds(now), Ordering::Relaxed);
    }

    /// How long ago it last beat. Stands still while the machine sleeps.
    #[must_use]
    pub fn silence(&self, now: Moment) -> Duration {
        let last = self.last.load(Ordering::Relaxed);
        Duration::from_millis(milliseconds(now).saturating_sub(last))
    }

    /// Whether the scheduler goes on.
    #[must_use]
    pub fn is_beating(&self, now: Moment) -> bool {
        self.silence(now) < self.stuck_after
    }
}

fn milliseconds(now: Moment) -> u64 {
    u64::try_from(now.uptime.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_stuck_when_no_beat_came_for_ten_seconds_whatever_the_wall_clock_says() {
        let at = |wall: &str, seconds| Moment {
            wall: wall.parse().unwrap(),
            uptime: Duration::from_secs(seconds),
        };
        let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
        let heartbeat = Heartbeat::begin(&clock);
        heartbeat.beat(at("2026-11-23T12:00:00Z", 5));
        assert!(heartbeat.is_beating(at("2036-11-23T12:00:00Z", 14)));
        assert!(!heartbeat.is_beating(at("2016-11-23T12:00:00Z", 15)));
        heartbeat.clone().beat(at("2026-11-23T12:00:00Z", 15));
        assert!(heartbeat.is_beating(at("2026-11-23T12:00:00Z", 16)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_clock_does_not_make_it_look_stuck() {
        let clock = Clock::accelerated("2026-11-23T12:00:00Z".parse().unwrap(), 720);
        let heartbeat = Heartbeat::begin(&clock);
        clock.sleep(Duration::from_secs(720)).await;
        assert!(heartbeat.is_beating(clock.now()), "a second of the machine's");
        clock.sleep(Duration::from_secs(9 * 720)).await;
        assert!(!heartbeat.is_beating(clock.now()), "ten of them");
    }
}
