//! One server of the account: what the configuration says of it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::naming::{ServerId, Tick};
use crate::policy::Policy;
use crate::schedule::Schedule;

/// How many snapshots VPS.org gives each server.
pub const CAP: u32 = 5;

/// `[[server]]`, with what `[defaults]` gave it. What servers of a fleet have in common, they share.
#[derive(Debug, Clone)]
pub struct Server {
    /// The provider's number.
    pub id: ServerId,
    /// How logs and tables call it.
    pub name: String,
    /// The group that its settings come from.
    pub group: Option<Arc<str>>,
    /// Whether its ticks do anything.
    pub enabled: bool,
    /// When its ticks are; at least one schedule.
    pub schedules: Arc<[Schedule]>,
    /// What its snapshots are described with.
    pub description: Arc<str>,
    /// The span in which a tick starts, at a point that server and tick decide.
    pub jitter: Duration,
    /// How old a missed tick may be to run late; zero: never.
    pub catch_up: Duration,
    /// How long a snapshot may stay in progress.
    pub completion_timeout: Duration,
    /// What runs around a create.
    pub hooks: Option<Arc<Hooks>>,
    /// What a plan depends on.
    pub policy: Arc<Policy>,
}

impl Server {
    /// The first tick of any of its schedules after `instant`.
    #[must_use]
    pub fn next_tick_after(&self, instant: Timestamp) -> Option<Tick> {
        self.schedules.iter().filter_map(|it| it.next_after(instant)).min().map(Tick::at)
    }

    /// When the rotation of the first tick after `instant` starts.
    #[must_use]
    pub fn next_start_after(&self, instant: Timestamp) -> Option<Timestamp> {
        self.next_tick_after(instant).map(|tick| self.starts_at(tick))
    }

    /// Whether a tick is one of its schedules'.
    #[must_use]
    pub fn has_tick(&self, tick: Tick) -> bool {
        self.schedules.iter().any(|it| it.occurs_at(tick.instant()))
    }

    /// When a tick's rotation starts: at a point of the jitter's span that depends on server and
    /// tick alone, so that a restart or another replica comes to the same.
    #[must_use]
    pub fn starts_at(&self, tick: Tick) -> Timestamp {
        let offset = jitter_offset(self.id, tick, self.jitter);
        tick.instant().checked_add(offset).unwrap_or(tick.instant())
    }
}

/// The time zone that all of these have, else UTC: for times that concern no single server.
#[must_use]
pub fn common_zone<'a>(servers: impl IntoIterator<Item = &'a Server>) -> TimeZone {
    let mut zones = servers.into_iter().map(|server| &server.policy.time_zone);
    let Some(first) = zones.next() else { return TimeZone::UTC };
    if zones.all(|zone| zone == first) { first.clone() } else { TimeZone::UTC }
}

/// A point in `0..span`, in whole milliseconds, evenly spread over servers and ticks.
fn jitter_offset(server: ServerId, tick: Tick, span: Duration) -> Duration {
    let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let second = tick.instant().as_second().cast_unsigned();
    let drawn = mix(mix(server.number) ^ second);
    Duration::from_millis(drawn.checked_rem(span_ms).unwrap_or(0))
}

/// Spreads numbers evenly: SplitMix64's finish.
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// `[server.hooks]`: argument vectors, run without a shell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hooks {
    /// Runs before the create; empty: none.
    pub before: Vec<String>,
    /// Runs whenever `before` was started; empty: none.
    pub after: Vec<String>,
    /// How long each may take.
    pub timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_stable_and_spreads_a_fleet_evenly_over_its_span() {
        let tick = Tick::at("2026-11-23T03:00:00Z".parse().unwrap());
        let span = Duration::from_secs(600);
        let offset = |id| jitter_offset(ServerId::new(id), tick, span);
        assert_eq!(offset(12345), offset(12345));
        let mut minutes = [0_u32; 10];
        for id in 0..100_000 {
            assert!(offset(id) < span);
            minutes[(offset(id).as_secs() / 60) as usize] += 1;
        }
        assert!(minutes.iter().all(|count| (9_500..10_500).contains(count)), "{minutes:?}");
        assert_eq!(jitter_offset(ServerId::new(1), tick, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn jitter_is_drawn_anew_for_each_tick() {
        let first = Tick::at("2026-11-23T03:00:00Z".parse().unwrap());
        let next = Tick::at("2026-11-24T03:00:00Z".parse().unwrap());
        let span = Duration::from_secs(3600);
        assert_ne!(
            jitter_offset(ServerId::new(1), first, span),
            jitter_offset(ServerId::new(1), next, span)
        );
    }
}
