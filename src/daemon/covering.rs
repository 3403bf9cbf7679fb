//! The settings in force: what the configuration says, and the servers that a `cover` adds to it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::types::Settings;
use crate::cover::{CoverNews, CoveredServers};
use crate::coverage::AccountServer;
use crate::daemon::lock;
use crate::naming::{Account, ServerId};
use crate::server::Server;
use crate::store::Store;
use crate::vanished::Vanished;

/// How long the store may take to say which servers were rotated before.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// Which servers the daemon has, and why.
pub(super) struct Covering {
    state: Mutex<State>,
    /// A reload may cover accounts that are to be listed soon.
    pub(super) reloaded: Notify,
}

struct State {
    configured: Settings,
    covered: CoveredServers,
    /// Accounts with a `cover` that were not listed since the start, or since it was put in force.
    awaited: BTreeSet<Account>,
}

/// Settings that a list of servers changes.
pub(super) struct Changed {
    /// To be put in force.
    pub(super) settings: Settings,
    /// Servers that may have missed a tick.
    pub(super) new: Vec<Arc<Server>>,
}

impl Covering {
    /// Covers what was rotated before, as far as the store says, until the accounts are listed: a restart forgets
    /// no server.
    pub(super) async fn begin(configured: Settings, store: &Store, clock: &Clock) -> Self {
        let mut covered = CoveredServers::default();
        if !configured.covers.is_empty() {
            let known = clock.timeout(STORE_WAIT, store.last_of_each_server()).await;
            let tables = ids(&configured.servers);
            let is_configured =
                |id: ServerId| tables.contains(&id) || configured.cover_of(id.account).is_none();
            let known = known.unwrap_or_default();
            let before = Vanished::among(&known, is_configured, clock.now().wall);
            covered.remember(before.servers().map(|(id, name)| (id, name.into())));
        }
        Self::new(configured, covered)
    }

    pub(super) fn new(configured: Settings, covered: CoveredServers) -> Self {
        let awaited = configured.covers.iter().map(|it| it.account()).collect();
        let state = Mutex::new(State { configured, covered, awaited });
        Self { state, reloaded: Notify::new() }
    }

    /// What is in force.
    pub(super) fn settings(&self) -> Settings {
        let state = lock(&self.state);
        state.configured.with_covered(&state.covered)
    }

    /// Another configuration. Gives what is in force then.
    pub(super) fn reload(&self, configured: Settings) -> Settings {
        let mut state = lock(&self.state);
        state.awaited = configured.covers.iter().map(|it| it.account()).collect();
        let before = std::mem::replace(&mut state.configured, configured);
        drop(state);
        self.reloaded.notify_one();
        let settings = self.settings();
        let now: HashMap<ServerId, &Server> =
            settings.servers.iter().map(|server| (server.id, server.as_ref())).collect();
        let tables = ids(&lock(&self.state).configured.servers);
        for old in before.servers.iter().filter(|old| !tables.contains(&old.id)) {
            let Some(new) = now.get(&old.id) else { continue };
            // It may be in an included file that has gone.
            tracing::warn!(
                event = "cover",
                server_id = old.id.number,
                account = old.id.account.label(),
                server = old.name.as_str(),
                "{} ({}) has no [[server]] any more: as {}, it has the policy of group {} now. If that is a mistake, \
                 look for an included file that is missing",
                old.name,
                old.id,
                new.name,
                new.group.as_deref().unwrap_or_default()
            );
        }
        settings
    }

    /// Whether servers of this account may be missing until it is listed.
    pub(super) fn awaits(&self, account: Account) -> bool {
        lock(&self.state).awaited.contains(&account)
    }

    /// Whether servers of this account are covered at all.
    pub(super) fn covers(&self, account: Account) -> bool {
        lock(&self.state).configured.cover_of(account).is_some()
    }

    /// An account was listed. `None`: that changes nothing.
    pub(super) fn listed(
        &self,
        account: Account,
        servers: &[AccountServer],
        now: Timestamp,
    ) -> Option<Changed> {
        let mut state = lock(&self.state);
        let State { configured, covered, awaited } = &mut *state;
        let cover = configured.cover_of(account)?;
        awaited.remove(&account);
        let before = configured.covered(covered);
        let tables = ids(&configured.servers);
        let has_table = |id| tables.contains(&id);
        let news = covered.listed(account, servers, has_table, now);
        tell(&news, cover.group());
        let after = configured.covered(covered);
        let same = |one: &Arc<Server>, other: &Arc<Server>| {
            (one.id, &one.name, one.enabled) == (other.id, &other.name, other.enabled)
        };
        if before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| same(a, b)) {
            return None;
        }
        let new = after.iter().filter(|it| news.new.contains(&it.id)).cloned().collect();
        let mut settings = configured.clone();
        settings.servers.extend(after);
        Some(Changed { settings, new })
    }
}

fn ids(servers: &[Arc<Server>]) -> HashSet<ServerId> {
    servers.iter().map(|server| server.id).collect()
}

/// Logs what has changed.
fn tell(news: &CoverNews, group: &str) {
    let CoverNews { appeared, vanished, forgotten, is_doubtful, .. } = news;
    if *is_doubtful {
        tracing::warn!(
            event = "cover",
            "the list of servers has none of those that it had before, so it is not believed: they are rotated as before"
        );
    }
    if appeared.count > 0 {
        tracing::info!(
            event = "cover",
            servers = appeared.count,
            "now rotated by the policy of group {group}: {appeared}"
        );
    }
    if vanished.count > 0 {
        tracing::warn!(
            event = "cover",
            servers = vanished.count,
            "no longer among the servers of the account: {vanished}. Once a second list lacks them too, they are \
             not rotated any more"
        );
    }
    if forgotten.count > 0 {
        tracing::info!(
            event = "cover",
            servers = forgotten.count,
            "not listed for a day, so they are no longer shown: {forgotten}"
        );
    }
}
