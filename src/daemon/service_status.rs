//! Tells the service manager about a daemon: that it is ready, what comes next, what came of the
//! last rotation, and that it lives, for as long as the scheduler's heart beats.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::Notify;

use crate::clock::{self, Clock};
use crate::daemon::Daemon;
use crate::daemon::sd_notify::{Notification, ServiceManager};
use crate::moment::shown;
use crate::readable;
use crate::report::Report;
use crate::timetable::Upcoming;

/// How often to look without a watchdog: a tick may pass without a rotation.
const LOOK: Duration = Duration::from_secs(10);

/// The least between two messages, however many rotations end.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells the service manager.
pub struct ServiceStatus {
    manager: ServiceManager,
    watchdog: Option<Duration>,
    clock: Clock,
    news: Mutex<LastSent>,
    changed: Notify,
}

/// What has happened, as far as it is shown.
#[derive(Debug, Default)]
struct LastSent {
    /// The last rotation, and when it ended.
    last: Option<(String, Timestamp)>,
    /// Why the configuration that was read last is not in force.
    refused: Option<(String, Timestamp)>,
}

impl ServiceStatus {
    /// Talks to this service manager, which wants a sign of life within each `watchdog`.
    #[must_use]
    pub(super) fn new(manager: ServiceManager, watchdog: Option<Duration>, clock: Clock) -> Self {
        Self { manager, watchdog, clock, news: Mutex::default(), changed: Notify::new() }
    }

    /// Without a service manager.
    #[must_use]
    pub fn without_manager(clock: Clock) -> Self {
        Self::new(ServiceManager::none(), None, clock)
    }

    /// A rotation has ended.
    pub(super) fn rotated(&self, report: &Report) {
        let words = format!("{} {}", report.outcome.as_str(), report.server);
        self.note(|news, now| news.last = Some((words, now)));
    }

    /// The daemon is set going.
    pub(super) fn ready(&self, daemon: &Daemon) {
        self.manager.tell(&[Notification::Ready, Notification::Status(self.status(daemon))]);
    }

    /// The configuration is about to be read again.
    pub(super) fn reloading(&self) {
        self.manager.tell(&[Notification::Reloading(clock::monotonic_us())]);
    }

    /// The configuration was read again; `refused` says why it is not in force.
    pub(super) fn reloaded(&self, daemon: &Daemon, refused: Option<String>) {
        self.note(|news, now| news.refused = refused.map(|reason| (reason, now)));
        self.ready(daemon);
    }

    /// The daemon is about to end. No sign of life is owed from here on.
    pub(super) fn stopping(&self) {
        let status = "stopping: nothing new starts; API calls under way may finish".to_owned();
        self.manager.tell(&[Notification::Stopping, Notification::Status(status)]);
    }

    /// Tells how things are, for as long as it is polled.
    pub(super) async fn keep(&self, daemon: &Daemon) -> Infallible {
        if !self.manager.listens() {
            return std::future::pending().await;
        }
        // As its manual asks: twice within the span.
        let span = self.watchdog.map_or(LOOK, |span| (span / 2).min(LOOK));
        let mut said = String::new();
        let mut alive = true;
        loop {
            let mut states = Vec::new();
            let was_alive = alive;
            alive = daemon.heartbeat().is_beating(self.clock.now());
            if self.watchdog.is_some() && alive {
                states.push(Notification::Alive);
            }
            // What stands still may hold what the status asks for.
            if alive {
                let status = self.status(daemon);
                if status != said {
                    states.push(Notification::Status(status.clone()));
                    said = status;
                }
            }
            self.manager.tell(&states);
            if was_alive && !alive {
                tracing::error!(event = "heartbeat", "the scheduler has stalled");
            }
            self.clock.sleep(PAUSE.min(span)).await;
            let left = span.saturating_sub(PAUSE);
            let _ = self.clock.timeout(left, self.changed.notified()).await;
        }
    }

    fn note(&self, what: impl FnOnce(&mut LastSent, Timestamp)) {
        let now = self.clock.now().wall;
        what(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner), now);
        self.changed.notify_one();
    }

    fn status(&self, daemon: &Daemon) -> String {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let (servers, upcoming) = daemon.outlook();
        news.status(servers, upcoming, &daemon.common_zone())
    }
}

impl LastSent {
    /// One line for a person who looks.
    fn status(&self, servers: usize, upcoming: Option<Upcoming>, zone: &TimeZone) -> String {
        let mut status = readable::servers(servers);
        if let Some(Upcoming { at, server, zone, more }) = upcoming {
            status.push_str(&format!(", next tick {} for {server}", shown(at, &zone)));
            if more > 0 {
                status.push_str(&format!(" and {more} more"));
            }
        }
        if let Some((words, when)) = &self.last {
            status.push_str(&format!(", last: {words} at {}", shown(*when, zone)));
        }
        if let Some((reason, when)) = &self.refused {
            let when = shown(*when, zone);
            status.push_str(&format!(", the old configuration is in use since {when}: {reason}"));
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_status_says_what_comes_next_what_was_last_and_what_is_wrong() {
        let upcoming = |more| {
            let (at, zone) = (at("2026-11-26T03:00:00Z"), TimeZone::get("Asia/Tokyo").unwrap());
            Some(Upcoming { at, server: "web-01".to_owned(), zone, more })
        };
        let mut news = LastSent::default();
        assert_eq!(news.status(1, None, &TimeZone::UTC), "1 server");
        assert_eq!(
            news.status(1, upcoming(0), &TimeZone::UTC),
            "1 server, next tick 2026-11-26 12:00:00 JST for web-01"
        );
        news.last = Some(("rotated web-01".to_owned(), at("2026-11-25T03:04:10.9Z")));
        news.refused = Some(("config.toml: no".to_owned(), at("2026-11-25T09:00:00Z")));
        assert_eq!(
            news.status(3, upcoming(2), &TimeZone::UTC),
            "3 servers, next tick 2026-11-26 12:00:00 JST for web-01 and 2 more, \
             last: rotated web-01 at 2026-11-25 03:04:10 UTC, \
             the old configuration is in use since 2026-11-25 09:00:00 UTC: config.toml: no"
        );
    }
}
