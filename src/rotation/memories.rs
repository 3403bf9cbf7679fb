//! What is remembered of each server between its rotations.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::memory::RingMemory;
use crate::naming::ServerId;

/// Keeps a server's memory beyond this process. Never waits.
pub type KeepMemory = Arc<dyn Fn(ServerId, &RingMemory) + Send + Sync>;

/// The memories of this process. Clones share them.
#[derive(Clone, Default)]
pub struct Memories {
    servers: Arc<Mutex<HashMap<ServerId, RingMemory>>>,
    keep: Option<KeepMemory>,
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
        Self { servers: Arc::new(Mutex::new(servers)), keep: Some(keep) }
    }

    /// What is remembered of a server.
    #[must_use]
    pub fn of(&self, server: ServerId) -> RingMemory {
        self.lock().get(&server).cloned().unwrap_or_default()
    }

    /// Remembers this from now on, within this process.
    pub fn set(&self, server: ServerId, memory: &RingMemory) {
        let mut servers = self.lock();
        if servers.get(&server) != Some(memory) {
            servers.insert(server, memory.clone());
        }
    }

    /// Has what is remembered of a server kept beyond this process.
    pub fn keep(&self, server: ServerId) {
        if let Some(keep) = &self.keep {
            keep(server, &self.of(server));
        }
    }

    /// Adds what another process has remembered of a server.
    pub fn merge(&self, server: ServerId, other: RingMemory) {
        self.lock().entry(server).or_default().merge(other);
    }

    /// Forgets the servers of which this says `false`.
    pub fn keep_only(&self, is_known: impl Fn(ServerId) -> bool) {
        self.lock().retain(|server, _| is_known(*server));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerId, RingMemory>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
