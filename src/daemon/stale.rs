//! Servers whose last success is too old: the one trouble that no report shows.

use std::convert::Infallible;
use std::time::Duration;

use crate::clock::Clock;
use crate::daemon::Daemon;
use crate::daemon::listeners::Listeners;
use crate::daemon::view::View;
use crate::health::TroubleKind;

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Tells of each such server once, for as long as it is polled.
pub(super) async fn tell_of_stale_servers(
    daemon: &Daemon,
    listeners: &Listeners,
    clock: &Clock,
) -> Infallible {
    loop {
        clock.sleep(LOOK_EVERY).await;
        listeners.tell_of_stale_servers(&daemon.view());
    }
}

impl Listeners {
    /// Reports those that were not reported yet.
    pub fn tell_of_stale_servers(&self, view: &View) {
        let now = view.now();
        for row in view.rows() {
            let server = &row.server;
            let Some(trouble) = row.health.trouble() else { continue };
            if trouble.kind == TroubleKind::Stale && self.notices.on_stale(server, trouble, now) {
                tracing::warn!(
                    event = "stale",
                    server_id = server.id.number,
                    account = server.id.account.label(),
                    server = server.name.as_str(),
                    "{}: {}",
                    server.name,
                    trouble.reason.as_deref().unwrap_or_default()
                );
            }
        }
    }
}
