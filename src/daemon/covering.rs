//! The settings in force: what the configuration says, and the servers that a `cover` adds to it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::config::types::Settings;
use crate::cover::{CoverNews, CoveredServers};
use crate::coverage::AccountServer;
use crate::daemon::lock;
use crate::naming::{Account, ServerId};
use crate::report::LastOfServer;
use crate::server::Server;

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
    pub(super) fn begin(configured: Settings, known: &[LastOfServer], now: Timestamp) -> Self {
        let mut covered = CoveredServers::default();
        covered.remember(configured.covered_before(known, now));
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
        let settings = configured.with_covered(&state.covered);
        let (_, covered) = settings.servers.split_at(configured.servers.len());
        let covered: HashMap<ServerId, &Arc<Server>> =
            covered.iter().map(|server| (server.id, server)).collect();
        let before = std::mem::replace(&mut state.configured, configured);
        drop(state);
        self.reloaded.notify_one();
        for old in &before.servers {
            let Some(new) = covered.get(&old.id) else { continue };
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
        let tables: HashSet<ServerId> = configured.servers.iter().map(|it| it.id).collect();
        let news = covered.listed(account, servers, |id| tables.contains(&id), now);
        tell(&news, cover.group());
        let after = configured.covered(covered);
        let same = |one: &Arc<Server>, other: &Arc<Server>| {
            (one.id, &one.name, one.enabled) == (other.id, &other.name, other.enabled)
        };
        if before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| same(a, b)) {
            return None;
        }
        let new = after.iter().filter(|it| news.new.contains(&it.id)).cloned().collect();
        Some(Changed { settings: configured.with_covered(covered), new })
    }
}

/// Logs what has changed.
fn tell(news: &CoverNews, group: &str) {
    let CoverNews { appeared, vanished, forgotten, .. } = news;
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
