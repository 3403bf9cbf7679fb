//! A running daemon as it is seen from outside: it can be looked at, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;

use crate::coverage::{AccountStatus, CoverProblem};
use crate::daemon::{Managed, Shared, lock};
use crate::health::ServerHealth;
use crate::manual::ManualAct;
use crate::naming::{Account, ServerId, Tick};
use crate::provider::client::Client;
use crate::provider::metrics::CallMetrics;
use crate::provider::token_state::TokenState;
use crate::rotation::lock::{Quiesced, RestoreUnderWay};
use crate::server::Server;
use crate::status::ServerStatus;
use crate::status::counts::Counts;
use crate::store::StoreHealth;

/// Looks at a daemon. Clones look at the same one.
#[derive(Clone)]
pub struct View(pub(super) Arc<Shared>);

/// An account, as calls have shown it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountView {
    /// Which.
    pub account: Account,
    /// What the provider makes of its token.
    pub token: TokenState,
    /// Since when it has refused it.
    pub token_refused_since: Option<Timestamp>,
    /// Until when the provider throttles the whole account.
    pub throttled_until: Option<Timestamp>,
    /// Whether any of its servers is to be rotated.
    pub has_work: bool,
}

impl AccountView {
    /// What keeps its servers from being rotated.
    #[must_use]
    pub(crate) fn trouble(&self) -> Option<String> {
        let of = self.account.label().map(|name| format!(" of account {name}")).unwrap_or_default();
        match self.token {
            TokenState::Accepted => None,
            TokenState::Refused => Some(format!("the provider refuses the token{of}")),
            TokenState::Untried if self.has_work => {
                let about = self.account.label().map(|name| format!(" for account {name}"));
                Some(format!("the provider has not answered yet{}", about.unwrap_or_default()))
            }
            TokenState::Untried => None,
        }
    }
}

/// What became of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// When the one in force was read.
    pub read_at: Timestamp,
    /// Why the one that was read last is not in force, and since when.
    pub refused: Option<(String, Timestamp)>,
}

/// One server, with all that is known of it.
#[derive(Debug, Clone)]
pub struct ServerView {
    /// What the configuration says.
    pub server: Arc<Server>,
    /// How it stands.
    pub status: ServerStatus,
    /// Whether it is in trouble.
    pub health: ServerHealth,
    /// Whether its last success is too old, even if something else is wrong with it.
    pub is_stale: bool,
    /// The next rotation's tick, and when it starts.
    pub next: Option<(Tick, Timestamp)>,
    /// Until when the provider throttles this server alone.
    pub throttled_until: Option<Timestamp>,
    /// How long its snapshots usually take.
    pub usual: Option<Duration>,
    /// Why the provider did not show it, if it was asked to.
    pub unseen: Option<Box<str>>,
}

impl ServerView {
    /// A server at `now`. `since`: since when all its schedules have been in force, if that is known.
    #[must_use]
    pub fn of(
        server: Arc<Server>,
        status: ServerStatus,
        since: Option<Timestamp>,
        next: Option<(Tick, Timestamp)>,
        now: Timestamp,
    ) -> Self {
        let age = status.age(&server, since);
        let restored = status.not_restored.as_deref();
        let health = status.history.health(&age, now).after(restored, status.history.success());
        let is_stale = age.is_too_old(now);
        let (throttled_until, usual, unseen) = (None, None, None);
        Self { server, status, health, is_stale, next, throttled_until, usual, unseen }
    }

    /// The same, where one of these restores is of this server.
    #[must_use]
    pub(crate) fn with_restores(self, restores: &[RestoreUnderWay]) -> Self {
        match restores.iter().any(|it| it.server_id == self.server.id) {
            true => Self { health: self.health.being_restored(), ..self },
            false => self,
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("View").finish_non_exhaustive()
    }
}

impl View {
    /// The present, by the daemon's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.dependencies.clock.now().wall
    }

    /// When the daemon started.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.0.started_at
    }

    /// Whether its scheduler goes on.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.heartbeat.is_beating(self.0.dependencies.clock.now())
    }

    /// Each account in use.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountView> {
        let current = self.0.current();
        let work = |account| {
            current.servers.iter().any(|(id, it)| id.account == account && it.server.enabled)
        };
        let account = |client: &Arc<Client>| AccountView {
            account: client.whose(),
            token: client.token_state(),
            token_refused_since: client.token_refused_since(),
            throttled_until: client.throttled().account,
            has_work: work(client.whose()),
        };
        current.clients.all().map(account).collect()
    }

    /// All calls to the provider.
    #[must_use]
    pub fn call_metrics(&self) -> CallMetrics {
        let current = self.0.current();
        current.clients.all().next().map(|it| it.metrics().clone()).unwrap_or_default()
    }

    /// How long rotations took.
    #[must_use]
    pub fn durations(&self) -> Histogram {
        self.0.dependencies.statuses.durations().clone()
    }

    /// What people did last by hand, the last act first.
    #[must_use]
    pub fn manual(&self) -> Arc<[ManualAct]> {
        self.0.dependencies.statuses.manual()
    }

    /// Hooks and notices, counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.dependencies.statuses.counts().clone()
    }

    /// Whether all servers of the account have a policy, as far as that is known.
    #[must_use]
    pub fn account(&self) -> AccountStatus {
        self.0.account_status()
    }

    /// Each account with a `cover` that was asked for its servers, and why they are not known.
    #[must_use]
    pub fn covers(&self) -> Vec<(Account, Option<CoverProblem>)> {
        self.0.covers()
    }

    /// Servers that are not rotated any more, and whose `after` hook is owed.
    #[must_use]
    pub fn not_resumed(&self) -> Vec<Quiesced> {
        lock(&self.0.not_resumed).clone()
    }

    /// Servers that are being restored.
    #[must_use]
    pub fn restores(&self) -> Vec<RestoreUnderWay> {
        lock(&self.0.restores).clone()
    }

    /// Whether the store works.
    #[must_use]
    pub fn store(&self) -> StoreHealth {
        self.0.dependencies.store.clone()
    }

    /// What became of the configuration.
    #[must_use]
    pub fn configuration(&self) -> Configuration {
        lock(&self.0.configuration).clone()
    }

    /// Every server, by its number.
    #[must_use]
    pub fn rows(&self) -> Vec<ServerView> {
        let (current, now) = (self.0.current(), self.now());
        let throttled: HashMap<ServerId, Timestamp> =
            current.clients.all().flat_map(|it| it.throttled().servers).collect();
        let restores = self.restores();
        let timetable = lock(&self.0.timetable);
        let row = |Managed { server, .. }: &Managed| {
            let status = self.0.dependencies.statuses.of(server.id);
            let since = Some(self.0.in_force_since(server));
            let next = timetable.next_of(server).filter(|_| server.enabled);
            let view = ServerView::of(Arc::clone(server), status, since, next, now)
                .with_restores(&restores);
            let throttled_until = throttled.get(&server.id).copied();
            let usual = self.0.completion_times.usual(server.id);
            ServerView { throttled_until, usual, ..view }
        };
        current.servers.values().map(row).collect()
    }
}
