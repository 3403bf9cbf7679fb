//! What the daemon is told of rotations that other processes have ended, as a person's `rotate` does.

use std::sync::Arc;

use crate::daemon::Daemon;
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
        let looking = Arc::clone(shared);
        shared.spawn(async move {
            // Where it fails the call's event says so, and the next rotation looks anyway.
            let _ = looking.look(&server).await;
        });
        true
    }
}
