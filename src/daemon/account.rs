//! Which servers the account has. Asked for once an hour, in the background; no rotation depends on it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff;
use crate::call::{CallError, Outcome};
use crate::clock::Clock;
use crate::coverage::{AccountStatus, CoverProblem, unknown};
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

/// Between two tries to learn which servers are covered, and how often the log says that they are not known.
const SAY_EVERY: Duration = Duration::from_hours(1);
const FIRST_RETRY: Duration = Duration::from_secs(10);
const LAST_RETRY: Duration = Duration::from_mins(5);

/// Asks for the servers, for as long as it is polled. An account with a `cover` is asked at once, and again soon if its
/// servers are not listed: until then new ones are not rotated.
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
            let now = clock.now().uptime;
            let is_covered = covering.covers(account);
            next.at = now.saturating_add(match listed {
                Listed::Not { .. } if is_covered => next.retry(),
                Listed::Not { is_refused: true } => ASK_AGAIN_EVERY,
                Listed::Whole | Listed::Not { .. } => {
                    *next = Next::at(now);
                    ASK_EVERY
                }
            });
            let problem = daemon.shared.cover_problem(account).filter(|_| is_covered);
            if let Some(problem) = problem.filter(|_| next.says(now)) {
                tracing::warn!(event = "servers", account = account.label(), "{}", problem.words);
            }
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
    /// When the log last said that its servers are not known.
    said: Option<Duration>,
}

impl Next {
    fn at(at: Duration) -> Self {
        let retries = Box::new(backoff::doubling(FIRST_RETRY, LAST_RETRY));
        Self { at, retries, said: None }
    }

    /// Whether the log is to say again that its servers are not known.
    fn says(&mut self, now: Duration) -> bool {
        let is_due = self.said.is_none_or(|said| now.saturating_sub(said) >= SAY_EVERY);
        if is_due {
            self.said = Some(now);
        }
        is_due
    }

    fn retry(&mut self) -> Duration {
        self.retries.next().unwrap_or(LAST_RETRY)
    }
}

/// How asking for the servers ended.
enum Listed {
    Whole,
    /// Or the list is empty.
    Not {
        /// The token may not list servers.
        is_refused: bool,
    },
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
                let is_empty = servers.is_empty();
                let mut accounts = lock(&self.shared.account_servers);
                accounts.entry(client.whose()).or_default().listed(servers, now);
                drop(accounts);
                tell(&before, &self.shared.account_status());
                if is_empty { Listed::Not { is_refused: false } } else { Listed::Whole }
            }
            Err(CallError::Interrupted) => Listed::Not { is_refused: false },
            Err(problem) => {
                let (words, now) = (problem.explained(), clock.now().wall);
                let mut accounts = lock(&self.shared.account_servers);
                let known = accounts.entry(client.whose()).or_default();
                let is_news = known.not_listed(words.clone(), now);
                drop(accounts);
                if is_news && !covering.covers(client.whose()) {
                    tracing::warn!(event = "servers", "{}", unknown(client.whose(), &words));
                }
                Listed::Not { is_refused: problem.outcome() == Some(Outcome::Forbidden) }
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
            let cover_problem = known.cover_problem(account).filter(|_| is_covered);
            let cover_problem = cover_problem.map(|it| it.words);
            Some((account, AccountStatus { cover_problem, ..status }))
        }))
    }

    /// Each account with a `cover` that was asked for its servers, and why they are not known.
    pub(super) fn covers(&self) -> Vec<(Account, Option<CoverProblem>)> {
        let (current, accounts) = (self.current(), lock(&self.account_servers));
        let asked =
            |account: &Account| Some((*account, accounts.get(account)?.cover_problem(*account)));
        current.covered_accounts.iter().filter_map(asked).collect()
    }

    fn cover_problem(&self, account: Account) -> Option<CoverProblem> {
        lock(&self.account_servers).get(&account)?.cover_problem(account)
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
