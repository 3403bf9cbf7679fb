//! What is remembered of each server between its rotations.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;

use crate::memory::RingMemory;
use crate::naming::ServerId;
use crate::ring::Ring;

/// Keeps a server's memory beyond this process. Never waits.
pub type KeepMemory = Arc<dyn Fn(ServerId, &RingMemory) + Send + Sync>;

/// Reads what any process has kept of a server. Bounded; `None` where it cannot be read.
pub type RecallMemory =
    Arc<dyn Fn(ServerId) -> BoxFuture<'static, Option<RingMemory>> + Send + Sync>;

/// The memories of this process. Clones share them.
#[derive(Clone, Default)]
pub struct Memories {
    servers: Arc<Mutex<HashMap<ServerId, RingMemory>>>,
    keep: Option<KeepMemory>,
    recall: Option<RecallMemory>,
}

impl fmt::Debug for Memories {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Memories").field(&self.servers).finish()
    }
}

impl Memories {
    /// Those that earlier processes have kept. What changes is handed to `keep`.
    #[must_use]
    pub fn kept(servers: HashMap<ServerId, RingMemory>, keep: KeepMemory) -> Self {
        Self { servers: Arc::new(Mutex::new(servers)), keep: Some(keep), recall: None }
    }

    /// The same, with a way to learn what other processes have kept meanwhile.
    #[must_use]
    pub fn recalled_by(self, recall: RecallMemory) -> Self {
        Self { recall: Some(recall), ..self }
    }

    /// Reads what was last kept of a server that is claimed: another process may have rotated it since
    /// this one did.
    pub async fn recall(&self, server: ServerId) {
        if let Some(recall) = &self.recall
            && let Some(kept) = recall(server).await
        {
            self.set(server, &kept);
        }
    }

    /// What is remembered of a server.
    #[must_use]
    pub fn of(&self, server: ServerId) -> RingMemory {
        self.lock().get(&server).cloned().unwrap_or_default()
    }

    /// Remembers this from now on, within this process, and what [`Memories::saw`] has noted meanwhile.
    pub fn set(&self, server: ServerId, memory: &RingMemory) {
        let mut servers = self.lock();
        match servers.get_mut(&server) {
            Some(known) if *known == *memory => {}
            Some(known) => {
                let before = std::mem::replace(known, memory.clone());
                known.keeps_of(&before);
            }
            None => _ = servers.insert(server, memory.clone()),
        }
    }

    /// A listing was asked for beside the server's rotations.
    pub fn saw(&self, ring: &Ring) {
        self.lock().entry(ring.listing().server).or_default().saw_completed(ring);
    }

    /// Has what is remembered of a server kept beyond this process.
    pub fn keep(&self, server: ServerId) {
        if let Some(keep) = &self.keep {
            keep(server, &self.of(server));
        }
    }

    /// Forgets the servers of which this says `false`.
    pub fn keep_only(&self, is_known: impl Fn(ServerId) -> bool) {
        self.lock().retain(|server, _| is_known(*server));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerId, RingMemory>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
