//! Which servers the account has. Asked for once an hour, in the background; no rotation depends on it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff;
use crate::call::{CallError, Outcome};
use crate::clock::Clock;
use crate::coverage::{AccountStatus, empty_list, not_covered, unknown};
use crate::daemon::covering::{Changed, Covering};
use crate::daemon::resume::go_on_with_all;
use crate::daemon::{Daemon, Shared, lock};
use crate::naming::Account;
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

/// Between two tries to learn which servers are covered.
const FIRST_RETRY: Duration = Duration::from_secs(10);
const LAST_RETRY: Duration = Duration::from_mins(5);

/// Asks for the servers, for as long as it is polled. An account with a `cover` is asked at once, and again soon if it
/// does not answer: until then its servers are not rotated.
pub(super) async fn keep_listing_servers(
    daemon: &Daemon,
    covering: &Covering,
    put_in_force: impl Fn(Changed),
    clock: &Clock,
) -> Infallible {
    let mut next: BTreeMap<Account, Next> = BTreeMap::new();
    loop {
        let begun = clock.now().uptime;
        let clients = daemon.shared.current().clients.clone();
        next.retain(|account, _| clients.of(*account).is_some());
        for client in clients.all() {
            let account = client.whose();
            let is_awaited = covering.awaits(account);
            let first = if is_awaited { begun } else { begun.saturating_add(FIRST_AFTER) };
            let next = next.entry(account).or_insert_with(|| Next::at(first));
            if next.at > begun {
                continue;
            }
            if !is_awaited {
                daemon.shared.await_quiet().await;
            }
            let listed = daemon.list_servers_of(client, covering, &put_in_force).await;
            next.at = clock.now().uptime.saturating_add(match listed {
                Listed::Refused if !covering.covers(account) => ASK_AGAIN_EVERY,
                Listed::Not | Listed::Refused if covering.awaits(account) => next.retry(),
                Listed::Whole | Listed::Not | Listed::Refused => ASK_EVERY,
            });
        }
        let earliest = next.values().map(|it| it.at).min().unwrap_or(begun + ASK_EVERY);
        tokio::select! {
            () = clock.sleep(earliest.saturating_sub(clock.now().uptime)) => {}
            () = covering.reloaded.notified() => {
                next.retain(|account, _| !covering.awaits(*account));
            }
        }
    }
}

/// When an account is asked next.
struct Next {
    at: Duration,
    retries: Box<dyn Iterator<Item = Duration> + Send>,
}

impl Next {
    fn at(at: Duration) -> Self {
        Self { at, retries: Box::new(backoff::doubling(FIRST_RETRY, LAST_RETRY)) }
    }

    fn retry(&mut self) -> Duration {
        self.retries.next().unwrap_or(LAST_RETRY)
    }
}

/// How asking for the servers ended.
enum Listed {
    Whole,
    Not,
    /// The token may not list servers.
    Refused,
}

impl Daemon {
    async fn list_servers_of(
        &self,
        client: &Client,
        covering: &Covering,
        put_in_force: &impl Fn(Changed),
    ) -> Listed {
        let clock = &self.shared.dependencies.clock;
        let mut scope = CallContext::until(clock.now().uptime.saturating_add(WAITS_FOR));
        scope.in_background = true;
        scope.shutdown = self.shared.shutdown.clone();
        let listed = client.servers_at_once(&scope).await;
        let before = self.shared.account_status();
        match listed {
            Ok(servers) => {
                let now = clock.now().wall;
                if let Some(changed) = covering.listed(client.whose(), &servers, now) {
                    let new = changed.new.clone();
                    put_in_force(changed);
                    // They may have missed a tick while no daemon ran, or have a snapshot in progress.
                    let shared = Arc::clone(&self.shared);
                    self.shared.tasks.spawn(go_on_with_all(shared, new, clock.now()));
                }
                let mut accounts = lock(&self.shared.account_servers);
                accounts.entry(client.whose()).or_default().listed(servers, now);
                drop(accounts);
                tell(&before, &self.shared.account_status());
                Listed::Whole
            }
            Err(CallError::Interrupted) => Listed::Not,
            Err(problem) => {
                let words = problem.explained();
                let mut accounts = lock(&self.shared.account_servers);
                let of_account = accounts.entry(client.whose()).or_default();
                let is_news = of_account.not_listed(words.clone(), clock.now().wall);
                drop(accounts);
                if covering.covers(client.whose()) {
                    tracing::warn!(event = "servers", "{}", not_covered(client.whose(), &words));
                } else if is_news {
                    tracing::warn!(event = "servers", "{}", unknown(client.whose(), &words));
                }
                let is_refused = problem.outcome() == Some(Outcome::Forbidden);
                if is_refused { Listed::Refused } else { Listed::Not }
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
            let known = accounts.get(&account)?;
            let status = known.status(configured, now);
            let is_covered = current.covered_accounts.contains(&account);
            let cover_problem = match &status.problem {
                _ if !is_covered => None,
                Some(problem) => Some(not_covered(account, problem)),
                None => known.is_empty().then(|| empty_list(account)),
            };
            Some((account, AccountStatus { cover_problem, ..status }))
        }))
    }

    /// Each account with a `cover` that was asked for its servers, and whether it listed them when last asked.
    pub(super) fn covers(&self) -> Vec<(Account, bool)> {
        let (current, accounts) = (self.current(), lock(&self.account_servers));
        let asked = |account: &Account| Some((*account, accounts.get(account)?.is_listed()));
        current.covered_accounts.iter().filter_map(asked).collect()
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
