//! Who hears of each rotation that ended: the service manager, the store, the notices. They begin before
//! the daemon, which gets from them what earlier processes knew.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::config::types::Settings;
use crate::daemon::Dependencies;
use crate::daemon::other_processes::MANUAL_ACTS;
use crate::daemon::service_status::ServiceStatus;
use crate::memory::RingMemory;
use crate::naming::ServerId;
use crate::notify::Notices;
use crate::notify::http::Post;
use crate::notify::told::ToldBook;
use crate::report::{LastOfServer, Report};
use crate::rotation::hooks::HookRunner;
use crate::rotation::lock::Exclusion;
use crate::rotation::memories::Memories;
use crate::status::Statuses;
use crate::store::{HistoryFilter, Store};
use crate::vanished::Vanished;

/// How long the store may take: to answer at the start, and to write what is queued at the end.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// What the world outside is reached through.
pub struct Outside {
    /// The clock.
    pub clock: Clock,
    /// Keeps rotations apart.
    pub exclusion: Exclusion,
    /// Runs hooks.
    pub hooks: Arc<dyn HookRunner>,
    /// Sends notices.
    pub post: Arc<dyn Post>,
    /// Keeps the history.
    pub store: Store,
    /// Tells the service manager.
    pub service: ServiceStatus,
}

/// How the servers stood when the store was last written. Nothing if it does not answer in time.
pub async fn last_known(store: &Store, clock: &Clock) -> Vec<LastOfServer> {
    clock.timeout(STORE_WAIT, store.last_of_each_server()).await.unwrap_or_default()
}

/// They hear of each rotation that ended. None of them holds one up.
pub struct Listeners {
    pub(super) service: ServiceStatus,
    pub(super) store: Store,
    pub(super) notices: Notices,
}

impl Listeners {
    /// Sets them going. Gives what a daemon with these settings needs, which tells them of each rotation. `known`: see
    /// [`last_known`].
    pub async fn start(
        settings: &Settings,
        known: Vec<LastOfServer>,
        outside: Outside,
    ) -> (Arc<Self>, Dependencies) {
        let Outside { clock, exclusion, hooks, post, store, service } = outside;
        let acts = HistoryFilter { limit: Some(MANUAL_ACTS), ..HistoryFilter::default() };
        let (first_loaded, told, memories, acts) = tokio::join!(
            store.begin(&settings.servers),
            clock.timeout(STORE_WAIT, store.told()),
            clock.timeout(STORE_WAIT, store.memories(Vec::new())),
            clock.timeout(STORE_WAIT, store.manual(acts)),
        );
        let ids: HashSet<ServerId> = settings.servers.iter().map(|server| server.id).collect();
        let is_configured = |id| ids.contains(&id);
        let vanished = Vanished::among(&known, is_configured, clock.now().wall);
        for words in vanished.words(&settings.common_zone()) {
            tracing::warn!(
                event = "daemon",
                "{words}. If that is a mistake, look for an included file that is missing"
            );
        }
        let statuses = Statuses::known(known.iter().filter(|it| ids.contains(&it.server_id)));
        // A restore may have left a server broken, which must not be rotated then.
        if let Some(Ok(acts)) = acts {
            statuses.set_manual(acts);
        }
        let told =
            ToldBook { known: told.flatten().map(Arc::new), keep: Arc::new(store.keeps_told()) };
        let notices = Notices::start(
            settings.audience(),
            known,
            told,
            clock.clone(),
            post,
            statuses.counts().clone(),
        );
        notices.tell_owed();
        let listeners = Arc::new(Self { service, store, notices });
        let memories = listeners.memories(memories.flatten());
        memories.keep_only(|id| ids.contains(&id));
        let hearing = Arc::clone(&listeners);
        let dependencies = Dependencies {
            clock,
            exclusion,
            hooks,
            statuses,
            store: listeners.store.health(),
            memories,
            first_loaded,
            on_report: Box::new(move |report, at| hearing.on_report(report, at)),
        };
        (listeners, dependencies)
    }

    /// What is remembered, as far as the store could tell at the start. It is kept there.
    fn memories(self: &Arc<Self>, known: Option<crate::store::ServerMemories>) -> Memories {
        // The store itself logs that it does not work.
        if known.is_none() && self.store.health().is_up() {
            tracing::warn!(
                event = "store",
                "the store cannot be read yet; until it can, rotations are more cautious"
            );
        }
        let keeping = Arc::clone(self);
        let keep = move |server, memory: &RingMemory| keeping.store.remember(server, memory);
        let recalling = Arc::clone(self);
        let recall = move |server| -> BoxFuture<'static, Option<RingMemory>> {
            let listeners = Arc::clone(&recalling);
            Box::pin(async move { listeners.store.memories(vec![server]).await?.remove(&server) })
        };
        Memories::kept(known.unwrap_or_default(), Arc::new(keep)).recalled_by(Arc::new(recall))
    }

    /// A rotation has ended.
    fn on_report(&self, report: &Report, at: Timestamp) {
        self.service.rotated(report);
        self.store.record(report, at);
        self.notices.on_report(report, at);
    }

    /// Sends the notices that are queued, and then writes what is queued for the store: what was told is
    /// among it.
    pub async fn drain(&self) {
        self.notices.end().await;
        self.store.close(STORE_WAIT).await;
    }
}
