//! What a configuration says once it has been found good: every value here is valid.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cover::{Cover, CoveredServers};
use crate::foreign::ForeignText;
use crate::naming::{Account, ServerId};
use crate::notify::{Audience, NotifySettings};
use crate::provider::settings::{ApiSettings, one_address};
use crate::report::LastOfServer;
use crate::server::{Server, common_zone};
use crate::status::MetricsScope;
use crate::store::place::Place;
use crate::telemetry::LogSettings;
use crate::vanished::Vanished;

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The account of `[api]`, whether it has servers or not.
    pub api: ApiSettings,
    /// Each `[[account]]`, in the order of the files; names are unique.
    pub more_accounts: Vec<ApiSettings>,
    /// The servers, in the order of the file; ids and names are unique, and each one's account is one of these.
    pub servers: Vec<Arc<Server>>,
    /// The policies for servers of an account that are not among these, at most one for each account.
    pub covers: Vec<Cover>,
    /// Who may look.
    pub http: HttpSettings,
    /// Where the history is kept; `None`: where the daemon's surroundings say.
    pub store: Option<Place>,
    /// How logs are written.
    pub log: LogSettings,
    /// Who is told; no two have one address.
    pub notify: Vec<NotifySettings>,
    /// Which of the secrets are in files of their own.
    pub secrets_in_files: SecretsInFiles,
}

impl Settings {
    /// The accounts that are in use: each `[[account]]`, and that of `[api]` unless only those have servers.
    pub fn accounts(&self) -> impl Iterator<Item = &ApiSettings> {
        let has_servers = || {
            self.servers.iter().any(|it| it.id.account == Account::API)
                || self.cover_of(Account::API).is_some()
        };
        let api = Some(&self.api).filter(|_| self.more_accounts.is_empty() || has_servers());
        api.into_iter().chain(&self.more_accounts)
    }

    /// How the account of a server is reached.
    #[must_use]
    pub fn account_of(&self, server: ServerId) -> &ApiSettings {
        let named = self.more_accounts.iter().find(|it| it.account == server.account);
        named.unwrap_or(&self.api)
    }

    /// Who is told of these servers.
    #[must_use]
    pub(crate) fn audience(&self) -> Audience<'_> {
        Audience { targets: &self.notify, servers: &self.servers, covers: &self.covers }
    }

    /// The policy of an account's servers that have no table.
    #[must_use]
    pub fn cover_of(&self, account: Account) -> Option<&Cover> {
        self.covers.iter().find(|cover| cover.account() == account)
    }

    /// The same, with the servers that `covers` give a policy to.
    #[must_use]
    pub fn with_covered(&self, covered: &CoveredServers) -> Self {
        let mut all = self.clone();
        all.servers.extend(self.covered(covered));
        all
    }

    /// The servers that `covers` give a policy to. Where two accounts reach the same servers of a provider, each server
    /// has one policy: its own, else that of the first account.
    #[must_use]
    pub fn covered(&self, covered: &CoveredServers) -> Vec<Arc<Server>> {
        if self.covers.is_empty() {
            return Vec::new();
        }
        let address = |id: ServerId| one_address(self.account_of(id).base_url.as_str());
        let mut taken: HashSet<(String, u64)> =
            self.servers.iter().map(|it| (address(it.id), it.id.number)).collect();
        let mut servers = covered.servers(&self.covers, &self.servers);
        servers.retain(|it| taken.insert((address(it.id), it.id.number)));
        servers
    }

    /// The servers that the history knows, of accounts with a `cover`, and that have no policy here.
    #[must_use]
    pub fn uncovered_before(&self, known: &[LastOfServer], now: Timestamp) -> Vanished {
        let servers: HashSet<ServerId> = self.servers.iter().map(|server| server.id).collect();
        let is_other = |id: ServerId| servers.contains(&id) || self.cover_of(id.account).is_none();
        Vanished::among(known, is_other, now)
    }

    /// The same with their names: they are covered until their account is listed.
    #[must_use]
    pub fn covered_before(
        &self,
        known: &[LastOfServer],
        now: Timestamp,
    ) -> Vec<(ServerId, ForeignText)> {
        let before = self.uncovered_before(known, now);
        before.servers().map(|(id, name)| (id, name.into())).collect()
    }

    /// The time zone that all servers have, else UTC: for times that concern no single one.
    #[must_use]
    pub fn common_zone(&self) -> TimeZone {
        common_zone(self.servers.iter().map(AsRef::as_ref))
    }
}

/// Which secrets a configuration keeps in files of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretsInFiles {
    /// How many addresses of webhooks.
    pub webhooks: usize,
    /// Whether the address of the store is.
    pub store: bool,
}

/// `[http]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where to listen; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// By which names it may be addressed, besides those of loopback and all addresses.
    pub hosts: Vec<String>,
    /// Which servers the metrics have series of.
    pub metrics: MetricsScope,
}
