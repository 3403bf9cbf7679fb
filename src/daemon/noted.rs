//! What this machine's processes have noted of servers: those that were left quiesced and that no rotation resumes,
//! because they are out of the configuration, or disabled; those that are being restored.

use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::daemon::{Daemon, Shared, lock};
use crate::rotation::lock::Quiesced;

/// How often to look: a person restores a server in another process, or says there that it was resumed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks for them, for as long as it is polled.
pub(super) async fn look_for_noted_servers(daemon: &Daemon, clock: &Clock) -> Infallible {
    loop {
        daemon.shared.look_for_quiesced().await;
        daemon.shared.look_for_restores(clock.now().wall).await;
        clock.sleep(LOOK_EVERY).await;
    }
}

impl Shared {
    async fn look_for_restores(&self, now: Timestamp) {
        let current = self.current();
        let servers = current.servers.values().map(|it| it.server.as_ref());
        let found = self.dependencies.exclusion.restores(servers, now).await;
        *lock(&self.restores) = found;
    }

    pub(super) async fn look_for_quiesced(&self) {
        let mut found = self.dependencies.exclusion.all_quiesced().await;
        let current = self.current();
        found.retain(|it: &Quiesced| {
            let server = current.servers.get(&it.server_id).map(|it| it.server.as_ref());
            let account = it.server_id.account;
            // A `cover` may still add it, until its account was asked for.
            let is_asked = || lock(&self.account_servers).contains_key(&account);
            let may_be_covered = || current.covered_accounts.contains(&account) && !is_asked();
            it.is_unrotated(server, may_be_covered)
        });
        let before = std::mem::replace(&mut *lock(&self.not_resumed), found.clone());
        for quiesced in found.iter().filter(|it| !before.contains(it)) {
            tracing::error!(
                event = "hook",
                server_id = quiesced.server_id.number,
                account = quiesced.account.as_deref(),
                server = quiesced.server.as_str(),
                snapshot = quiesced.snapshot.as_str(),
                "{}",
                quiesced.words_with_server()
            );
        }
    }
}
