//! Servers that were left quiesced and that no rotation resumes: they are out of the configuration, or disabled.

use std::convert::Infallible;
use std::time::Duration;

use crate::clock::Clock;
use crate::daemon::{Daemon, Shared, lock};
use crate::rotation::lock::Quiesced;

/// How often to look: a person says in another process that a server was resumed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks for them, for as long as it is polled.
pub(super) async fn look_for_quiesced_servers(daemon: &Daemon, clock: &Clock) -> Infallible {
    loop {
        daemon.shared.look_for_quiesced().await;
        clock.sleep(LOOK_EVERY).await;
    }
}

impl Shared {
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
