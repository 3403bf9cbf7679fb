//! What this machine's processes have noted of servers: those that were left quiesced and that no rotation resumes,
//! because they are out of the configuration, or disabled; those that are being restored.

use std::convert::Infallible;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::daemon::{Daemon, Dependencies, Managed, Shared, lock};
use crate::rotation::lock::Quiesced;
use crate::rotation::restored::has_ended;
use crate::server::Server;

/// How often to look: a person restores a server in another process, or says there that it was resumed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often the provider is asked whether a restore has ended. The command that started it may have been killed.
const ASK_EVERY: Duration = Duration::from_mins(1);

/// Longer than such a look can take.
const NO_TICK_FOR: SignedDuration = SignedDuration::from_mins(1);

/// Looks for them, for as long as it is polled.
pub(super) async fn look_for_noted_servers(daemon: &Daemon, clock: &Clock) -> Infallible {
    let mut next_at_provider = Duration::ZERO;
    loop {
        daemon.shared.look_for_quiesced().await;
        daemon.shared.look_for_restores(clock.now().wall).await;
        if clock.now().uptime >= next_at_provider {
            daemon.shared.look_whether_they_ended().await;
            next_at_provider = clock.now().uptime.saturating_add(ASK_EVERY);
        }
        daemon.shared.look_for_broken_servers(clock.now().wall).await;
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

    /// Ends the notes of restores that are over, as a rotation does. Where another process works on the server, it
    /// looks itself.
    async fn look_whether_they_ended(&self) {
        let Dependencies { exclusion, clock, .. } = &self.dependencies;
        let restores = lock(&self.restores).clone();
        for server in restores.into_iter().map(|it| it.server_id) {
            let Some(Managed { server, client, .. }) = self.managed(server) else { continue };
            // A rotation would find the server taken, and not wait for it as it waits for the restore. It looks itself.
            let next = lock(&self.timetable).next_of(&server);
            let is_near = |start: Timestamp| start.duration_since(clock.now().wall) < NO_TICK_FOR;
            if next.is_some_and(|(_, start)| server.enabled && is_near(start)) {
                continue;
            }
            let Ok(claim) = exclusion.claim(server.id) else { continue };
            if let Some(restoring) = claim.restoring(clock.now().wall).await {
                has_ended(&client, &claim, &restoring, &self.shutdown).await;
            }
        }
    }

    /// Shows servers that a restore has left broken, also those whose restore nobody has followed.
    async fn look_for_broken_servers(&self, now: Timestamp) {
        let Dependencies { exclusion, statuses, .. } = &self.dependencies;
        let current = self.current();
        let servers = current.servers.values().map(|it| it.server.as_ref());
        // What another restore makes of it is not known yet.
        let restores = lock(&self.restores).clone();
        let is_restored = |server: &Server| restores.iter().any(|it| it.server_id == server.id);
        let broken = exclusion.broken_among(servers).await;
        for (server, broken) in broken.into_iter().filter(|(it, _)| !is_restored(it)) {
            let restored = broken.seen(now);
            let reason = restored.reason.clone();
            if statuses.set_broken(server.id, restored) {
                tracing::error!(
                    event = "restore",
                    server_id = server.id.number,
                    account = server.id.account.label(),
                    server = server.name.as_str(),
                    "{}: {reason}",
                    server.name
                );
            }
        }
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
