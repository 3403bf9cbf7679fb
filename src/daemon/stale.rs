//! The trouble that no report shows: servers whose last success is too old, and a `cover` that does not know its
//! servers.

use std::convert::Infallible;
use std::time::Duration;

use jiff::SignedDuration;

use crate::clock::Clock;
use crate::daemon::Daemon;
use crate::daemon::listeners::Listeners;
use crate::daemon::view::View;
use crate::health::TroubleKind;

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A large fleet is looked at less often: one minute more between two looks for so many servers. What is looked for takes
/// hours or days to come.
const SERVERS_A_LOOK: usize = 2_500;

/// A `cover` is in trouble after so long. Until then the list is asked for again several times.
const UNLISTED_FOR: SignedDuration = SignedDuration::from_mins(15);

/// Tells of each once, for as long as it is polled.
pub(super) async fn tell_what_no_report_shows(
    daemon: &Daemon,
    listeners: &Listeners,
    clock: &Clock,
) -> Infallible {
    let mut left = 0;
    loop {
        clock.sleep(LOOK_EVERY).await;
        let view = daemon.view();
        listeners.tell_of_covers(&view);
        if left == 0 {
            listeners.tell_of_stale_servers(&view);
            left = daemon.outlook().0 / SERVERS_A_LOOK;
        } else {
            left -= 1;
        }
    }
}

impl Listeners {
    /// Reports those that were not reported yet.
    pub fn tell_of_stale_servers(&self, view: &View) {
        let now = view.now();
        for row in view.rows() {
            let server = &row.server;
            let Some(trouble) = row.health.trouble() else { continue };
            let is_standing = trouble.kind == TroubleKind::Stale || trouble.is_of_restore();
            if !is_standing || !self.notices.on_standing(server, trouble, now) {
                continue;
            }
            if trouble.kind == TroubleKind::Stale {
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

    /// Tells of each `cover` that does not know its servers for long, and of each that does.
    fn tell_of_covers(&self, view: &View) {
        for (account, problem) in view.covers() {
            match problem {
                Some(it) if view.now().duration_since(it.since) < UNLISTED_FOR => {}
                problem => self.notices.on_cover(account, problem.as_ref()),
            }
        }
    }
}
