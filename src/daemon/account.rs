//! Which servers the account has. Asked for once an hour, in the background; no rotation depends on it.

use std::convert::Infallible;
use std::time::Duration;

use crate::call::{CallError, Outcome};
use crate::clock::Clock;
use crate::coverage::{AccountStatus, unknown};
use crate::daemon::{Daemon, Shared, lock};
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;

/// When it is first asked for, after the start.
const FIRST_AFTER: Duration = Duration::from_secs(20);

/// How often it is asked for.
const ASK_EVERY: Duration = Duration::from_hours(1);

/// The same if the token may not list servers.
const ASK_AGAIN_EVERY: Duration = Duration::from_hours(24);

/// No rotation should start that soon, and the calls may wait that long for others.
const QUIET_FOR: Duration = Duration::from_secs(30);
const WAITS_FOR: Duration = Duration::from_mins(10);

/// Asks for the servers, for as long as it is polled.
pub(super) async fn keep_listing_servers(daemon: &Daemon, clock: &Clock) -> Infallible {
    clock.sleep(FIRST_AFTER).await;
    loop {
        let next = daemon.list_servers().await;
        clock.sleep(next).await;
    }
}

impl Daemon {
    /// Asks for the servers of the account, and logs news about them. Gives how long to wait before they are
    /// asked for again.
    pub async fn list_servers(&self) -> Duration {
        self.shared.await_quiet().await;
        let clients = self.shared.current().clients.clone();
        let mut next = ASK_AGAIN_EVERY;
        for client in clients.all() {
            next = next.min(self.list_servers_of(client).await);
        }
        next
    }

    async fn list_servers_of(&self, client: &Client) -> Duration {
        let clock = &self.shared.dependencies.clock;
        let mut scope = CallContext::until(clock.now().uptime.saturating_add(WAITS_FOR));
        scope.in_background = true;
        scope.shutdown = self.shared.shutdown.clone();
        let listed = client.servers_at_once(&scope).await;
        let before = self.shared.account_status();
        match listed {
            Ok(servers) => {
                let mut accounts = lock(&self.shared.account_servers);
                accounts.entry(client.whose()).or_default().listed(servers, clock.now().wall);
                drop(accounts);
                tell(&before, &self.shared.account_status());
                ASK_EVERY
            }
            Err(CallError::Interrupted) => ASK_EVERY,
            Err(problem) => {
                let words = problem.explained();
                let mut accounts = lock(&self.shared.account_servers);
                let is_news = accounts.entry(client.whose()).or_default().not_listed(words.clone());
                drop(accounts);
                if is_news {
                    tracing::warn!(event = "servers", "{}", unknown(client.whose(), &words));
                }
                let is_forbidden = problem.outcome() == Some(Outcome::Forbidden);
                if is_forbidden { ASK_AGAIN_EVERY } else { ASK_EVERY }
            }
        }
    }
}

/// Logs what has changed.
fn tell(before: &AccountStatus, now: &AccountStatus) {
    let Some(coverage) = now.coverage.as_ref().filter(|_| before.coverage != now.coverage) else {
        return;
    };
    for finding in coverage.findings() {
        tracing::warn!(
            event = "servers",
            uncovered = coverage.uncovered.count,
            missing = coverage.missing.count,
            "{finding}"
        );
    }
    if coverage.is_whole() {
        tracing::info!(
            event = "servers",
            uncovered = 0,
            missing = 0,
            "each server of the account has a policy"
        );
    }
}

impl Shared {
    /// What the account's servers say of the configuration in force.
    pub(super) fn account_status(&self) -> AccountStatus {
        let (current, now) = (self.current(), self.dependencies.clock.now().wall);
        let accounts = lock(&self.account_servers);
        AccountStatus::together(current.clients.all().filter_map(|client| {
            let account = client.whose();
            let own = current.servers.iter().filter(|(id, _)| id.account == account);
            let configured = own.map(|(id, it)| (*id, it.server.name.as_str()));
            Some((account, accounts.get(&account)?.status(configured, now)))
        }))
    }

    /// Waits until no rotation is about to start, but not for ever.
    async fn await_quiet(&self) {
        let clock = &self.dependencies.clock;
        let begun = clock.now().uptime;
        while clock.now().uptime.saturating_sub(begun) < WAITS_FOR {
            let next = lock(&self.timetable).earliest();
            let wait = next.map(|next| next.duration_since(clock.now().wall));
            let is_near =
                wait.is_some_and(|wait| Duration::try_from(wait).unwrap_or_default() < QUIET_FOR);
            if !is_near {
                return;
            }
            clock.sleep(QUIET_FOR).await;
        }
    }
}
