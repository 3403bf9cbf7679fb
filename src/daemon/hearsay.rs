//! What the daemon is told of rotations that other processes have ended, as a person's `rotate` does.

use std::sync::Arc;

use crate::api::lister::{GATHER, Sharing, When};
use crate::api::scope::Scope;
use crate::config::types::Server;
use crate::daemon::{Daemon, Shared};
use crate::ring::Ring;
use crate::store::PastRotation;

impl Daemon {
    /// Takes over how a rotation ended elsewhere, and looks at what there is now, for whoever asks
    /// the daemon. `false` where that is no news: of a server that is not configured; of a tick of
    /// its schedule, which was the daemon's own, though it may come back later than what is known,
    /// where the clock was set back; or no later than what is known.
    #[must_use]
    pub fn hear_of(&self, past: &PastRotation) -> bool {
        let shared = &self.shared;
        let Some(server) = shared.current().servers.get(&past.server_id).cloned() else {
            return false;
        };
        let is_own = server.has_tick(past.tick);
        if is_own || !shared.world.standings.hear_of(server.id, &past.into()) {
            return false;
        }
        tracing::info!(
            event = "heard",
            server_id = server.id.0,
            server = server.name.as_str(),
            tick = %past.tick,
            outcome = past.outcome.as_str(),
            created = past.created.as_deref(),
            "{}: another process has rotated it, which ended as {}",
            server.name,
            past.outcome.as_str()
        );
        let look = look(Arc::clone(shared), server);
        let broken_off = shared.broken_off.clone();
        shared.tasks.spawn(async move { broken_off.run_until_cancelled(look).await });
        true
    }
}

/// Sees what a server holds. Where that fails the call's event says so, and the next rotation looks
/// anyway.
async fn look(shared: Arc<Shared>, server: Arc<Server>) {
    let scope = Scope::of(&server, shared.shutdown.clone());
    let now = shared.world.clock.now().uptime;
    let when = When { earliest: now, latest: now.saturating_add(GATHER) };
    let client = Arc::clone(&shared.current().client);
    if let Ok(listing) = client.look(server.id, &scope, when, Sharing::OneAnswer).await {
        shared.world.standings.saw(&Ring::of(listing, &server.policy));
    }
}
