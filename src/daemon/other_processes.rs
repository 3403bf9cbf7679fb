//! Rotations that other processes have ended, as a person's `rotate` does, and what people did by hand: the
//! daemon asks the store for them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use crate::clock::Clock;
use crate::completion::Sharing;
use crate::daemon::listeners::Listeners;
use crate::daemon::{Daemon, Managed};
use crate::report::PastRotation;
use crate::store::HistoryFilter;

/// How often the store is asked.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// How long another process may take to write a rotation that has ended.
const WRITTEN_WITHIN: SignedDuration = SignedDuration::from_mins(1);

/// How many manual acts are shown, and known at the start.
pub(super) const MANUAL_ACTS: u32 = 10;

/// Asks the store for them, for as long as it is polled. After a rotation of the daemon failed, a person may rotate
/// the server again.
pub(super) async fn hear_of_others(
    daemon: &Daemon,
    listeners: &Listeners,
    clock: &Clock,
) -> Infallible {
    let mut since = clock.now().wall;
    loop {
        clock.sleep(ASK_EVERY).await;
        let now = clock.now().wall;
        let filter = HistoryFilter {
            since: since.checked_sub(WRITTEN_WITHIN).ok(),
            ..HistoryFilter::default()
        };
        // While the store does not work nothing is known, and nothing is missed.
        let Ok(rotations) = listeners.store.history(filter).await else { continue };
        since = now;
        let last = HistoryFilter { limit: Some(MANUAL_ACTS), ..HistoryFilter::default() };
        if let Ok(acts) = listeners.store.manual(last).await {
            daemon.shared.dependencies.statuses.set_manual(acts);
        }
        for past in rotations.iter().rev().filter(|past| past.ended_at <= now) {
            if daemon.hear_of(past) {
                listeners.notices.on_report(&past.report(), past.ended_at);
            }
        }
    }
}

impl Daemon {
    /// Notes how a rotation by another process ended, and lists the server, so that the daemon shows what is true
    /// now. `false` if it is not news: the server is not configured; the tick is one of its schedule, so the rotation
    /// was the daemon's own (after the clock was set back, it may look newer than what is known); or something newer
    /// is known already.
    #[must_use]
    pub fn hear_of(&self, past: &PastRotation) -> bool {
        let shared = &self.shared;
        let Some(Managed { server, client, .. }) = shared.managed(past.server_id) else {
            return false;
        };
        let is_own = server.has_tick(past.tick);
        if is_own || !shared.dependencies.statuses.hear_of(server.id, &past.into()) {
            return false;
        }
        tracing::info!(
            event = "heard",
            server_id = server.id.number,
            account = server.id.account.label(),
            server = server.name.as_str(),
            tick = %past.tick,
            outcome = past.outcome.as_str(),
            created = past.created.as_deref(),
            "{}: another process finished a rotation: {}",
            server.name,
            past.report().words()
        );
        let looking = Arc::clone(shared);
        shared.spawn(async move {
            // If it fails, the event of the call says so, and the next rotation lists the server anyway.
            let _ = looking.look(&client, &server, Sharing::OneAnswer).await;
        });
        true
    }
}
