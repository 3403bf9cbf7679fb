//! What has been: each rotation that ended, what people did by hand, and since when each schedule counts.
//!
//! The provider's listing stays the truth. A store that is damaged, full, locked or away costs
//! history and never a rotation: the daemon hands over what it has, waits for nothing, and a task
//! of the store's own does the rest.

mod by;
pub mod connection;
mod database;
mod error;
mod health;
mod manual;
pub(crate) mod place;
mod quarantine;
pub mod told;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::manual::{ManualAct, ManualOutcome};
use crate::memory::RingMemory;
use crate::naming::ServerId;
use crate::report::{LastOfServer, PastRotation, Report, RotationOutcome};
use crate::schedule::first_loaded::{FirstLoadedTimes, ScheduleKey, key};
use crate::server::Server;
use crate::store::connection::Connect;
use crate::store::database::Database;
pub use crate::store::error::StoreError;
pub use crate::store::health::StoreHealth;
pub use crate::store::manual::{add_manual, count_manual, read_manual};
use crate::store::place::{Access, Place};
use crate::store::told::{Told, ToldChanges, ToldOf, ToldState};
use crate::store::writer::{Memory, Order, Writer};

/// What is remembered of servers.
pub type ServerMemories = HashMap<ServerId, RingMemory>;

/// What outlasts the process beside rotations.
#[derive(Debug, Default)]
struct Remembered {
    memories: ServerMemories,
    told: ToldChanges,
}

/// What is to be written of it, the newest of each.
#[derive(Debug, Clone, Default)]
struct ToRemember(Arc<Mutex<Remembered>>);

impl ToRemember {
    fn take(&self) -> Remembered {
        std::mem::take(&mut self.lock())
    }

    /// Puts back what could not be written, unless there is something newer.
    fn put_back(&self, unwritten: Remembered) {
        let mut waiting = self.lock();
        for (server, memory) in unwritten.memories {
            waiting.memories.entry(server).or_insert(memory);
        }
        for (of, told) in unwritten.told {
            waiting.told.entry(of).or_insert(told);
        }
    }

    fn is_empty(&self) -> bool {
        let waiting = self.lock();
        waiting.memories.is_empty() && waiting.told.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many rotations may wait to be written: all of a large fleet's, ended within one minute.
const QUEUE: usize = 16_384;

/// How long a start waits for the store to say since when schedules count. Then the ring tells.
const START_WAIT: Duration = Duration::from_secs(3);

/// How long a start, and each rotation, wait for what is remembered. Without it they are more cautious.
const MEMORY_WAIT: Duration = Duration::from_secs(3);

/// How long a question may take.
const QUESTION_WAIT: Duration = Duration::from_secs(10);

/// Which rotations, or manual acts, are asked for. What is empty leaves none out.
#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    /// Of these servers, or of those in `names`.
    pub ids: Vec<ServerId>,
    /// By the names that they had.
    pub names: Vec<String>,
    /// That ended so.
    pub outcomes: Vec<RotationOutcome>,
    /// The same of manual acts.
    pub manual_outcomes: Vec<ManualOutcome>,
    /// That ended then or later.
    pub since: Option<Timestamp>,
    /// The newest, at most this many.
    pub limit: Option<u32>,
}

/// The daemon's store.
#[derive(Debug)]
pub struct Store {
    reports: mpsc::Sender<PastRotation>,
    orders: mpsc::UnboundedSender<Order>,
    to_remember: ToRemember,
    remembers: Arc<Notify>,
    health: StoreHealth,
    closing: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
    clock: Clock,
}

impl Store {
    /// Begins to keep what it is given. What is wrong with the place is found out, told and tried
    /// again by a task; nothing waits for it.
    #[must_use]
    pub fn open(place: Place, clock: Clock) -> Self {
        let connect = connection::to(&place);
        Self::open_with(place, connect, clock)
    }

    /// The same, in a database that is not at a place of this machine.
    #[must_use]
    pub fn over(connect: Connect, clock: Clock) -> Self {
        Self::open_with(Place::Memory, connect, clock)
    }

    fn open_with(place: Place, connect: Connect, clock: Clock) -> Self {
        let (reports, received) = mpsc::channel(QUEUE);
        let (orders, ordered) = mpsc::unbounded_channel();
        let health = StoreHealth::default();
        let (to_remember, remembers) = (ToRemember::default(), Arc::new(Notify::new()));
        let closing = CancellationToken::new();
        let keeper = Writer {
            place,
            connect,
            clock: clock.clone(),
            health: health.clone(),
            reports: received,
            orders: ordered,
            to_remember: to_remember.clone(),
            remembers: Arc::clone(&remembers),
            closing: closing.clone(),
            memory: Memory::default(),
        };
        let task = Mutex::new(Some(tokio::spawn(keeper.keep())));
        Self { reports, orders, to_remember, remembers, health, closing, task, clock }
    }

    /// Tells which schedules are in force, and gives what is known of their beginnings. Takes a few seconds
    /// at most; where the store did not answer by then, they are known to be in force now, so that a later
    /// reload does not take them for new.
    pub async fn begin(&self, servers: &[Arc<Server>]) -> FirstLoadedTimes {
        let now = self.clock.now().wall;
        let order = |answer| Order::Begin(keys(servers), now, answer);
        let known = self.ask(START_WAIT, order).await;
        known.unwrap_or_else(|| FirstLoadedTimes::found(keys(servers), now))
    }

    /// Tells that another configuration is in force: schedules that came count from now, and those
    /// that went are forgotten.
    pub fn reload(&self, servers: &[Arc<Server>]) {
        // Fails only when it was closed.
        let _ = self.orders.send(Order::Reload(keys(servers), self.clock.now().wall));
    }

    /// Takes a rotation that ended. Never waits: one that does not fit is counted as lost.
    pub fn record(&self, report: &Report, ended_at: Timestamp) {
        if self.reports.try_send(PastRotation::of(report, ended_at)).is_err() {
            self.health.lose(1);
        }
    }

    /// Keeps what is remembered of a server. Never waits; of several the last one counts.
    pub fn remember(&self, server: ServerId, memory: &RingMemory) {
        self.to_remember.lock().memories.insert(server, memory.clone());
        self.remembers.notify_one();
    }

    /// Keeps what a target of notices knows of trouble, or `None` once it is over. Never waits.
    pub fn keeps_told(&self) -> impl Fn(ToldOf, Option<ToldState>) + Send + Sync + use<> {
        let (to_remember, remembers) = (self.to_remember.clone(), Arc::clone(&self.remembers));
        move |of, state| {
            to_remember.lock().told.insert(of, state);
            remembers.notify_one();
        }
    }

    /// The trouble that the targets of notices know. `None` when the store does not work.
    pub async fn told(&self) -> Option<Told> {
        self.ask(QUESTION_WAIT, Order::Told).await?.ok()
    }

    /// What is remembered of these servers; of all if none is named. `None` when the store does not
    /// work.
    pub async fn memories(&self, servers: Vec<ServerId>) -> Option<ServerMemories> {
        let asked_for = servers.clone();
        let answer = self.ask(MEMORY_WAIT, |answer| Order::Memories(servers, answer)).await;
        let mut memories = answer.and_then(Result::ok)?;
        // Each rotation asks: that must not cost a transaction each time.
        let unwritten = &self.to_remember.lock().memories;
        let is_asked_for = |id: &ServerId| asked_for.is_empty() || asked_for.contains(id);
        let unwritten = unwritten.iter().filter(|(id, _)| is_asked_for(id));
        memories.extend(unwritten.map(|(id, memory)| (*id, memory.clone())));
        Some(memories)
    }

    /// The last rotation of each server that there was one of. Empty when the store does not work.
    pub async fn last_of_each_server(&self) -> Vec<LastOfServer> {
        let answer = self.ask(QUESTION_WAIT, Order::LastOfEach).await;
        answer.and_then(Result::ok).unwrap_or_default()
    }

    /// Past rotations, the newest first.
    ///
    /// # Errors
    /// When the store does not work.
    pub async fn history(&self, filter: HistoryFilter) -> Result<Vec<PastRotation>, StoreError> {
        let answer = self.ask(QUESTION_WAIT, |answer| Order::History(filter, answer)).await;
        answer.unwrap_or_else(|| Err(StoreError::passing("the store did not answer")))
    }

    /// What people did by hand, the last act first.
    ///
    /// # Errors
    /// When the store does not work.
    pub async fn manual(&self, filter: HistoryFilter) -> Result<Vec<ManualAct>, StoreError> {
        let answer = self.ask(QUESTION_WAIT, |answer| Order::Manual(filter, answer)).await;
        answer.unwrap_or_else(|| Err(StoreError::passing("the store did not answer")))
    }

    async fn ask<T>(
        &self,
        patience: Duration,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).ok()?;
        self.clock.timeout(patience, answered).await?.ok()
    }

    /// Whether it works.
    #[must_use]
    pub fn health(&self) -> StoreHealth {
        self.health.clone()
    }

    /// Writes what is queued and ends, within the given span. What comes afterwards is lost.
    pub async fn close(&self, within: Duration) {
        self.closing.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        if self.clock.timeout(within, &mut task).await.is_none() {
            task.abort();
            tracing::warn!(
                event = "store",
                "stopping: the store did not take the last rotations in time; they are missing from the \
                     history"
            );
        }
    }
}

/// The schedules that are in force. A server that is disabled has none: enabling it is a beginning.
pub(crate) fn keys(servers: &[Arc<Server>]) -> Vec<ScheduleKey> {
    let enabled = servers.iter().filter(|server| server.enabled);
    enabled.flat_map(|server| server.schedules.iter().map(|it| key(server.id, it))).collect()
}

/// Adds rotations, and what is remembered of their servers, to what a daemon keeps, beside it or without
/// it. Where nothing was ever kept, it is begun, unless a daemon that runs as another user could then not
/// go on with it.
///
/// # Errors
/// When they cannot be written.
pub async fn add(
    place: &Place,
    rotations: &[PastRotation],
    memories: &ServerMemories,
    now: Timestamp,
) -> Result<(), StoreError> {
    let added = match place.may_be_there() {
        true => Some(add_with(Access::Add, place, rotations, memories, now).await),
        false => None,
    };
    match added {
        Some(Err(trouble)) if !trouble.lacks_tables() => Err(trouble),
        Some(Ok(())) => Ok(()),
        // There is a history, and this is missing in it.
        Some(Err(trouble)) if !trouble.is_empty_store() && !place.may_be_begun() => Err(trouble),
        _ if !place.may_be_begun() => Ok(()),
        _ => add_with(Access::Write, place, rotations, memories, now).await,
    }
}

async fn add_with(
    access: Access,
    place: &Place,
    rotations: &[PastRotation],
    memories: &ServerMemories,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut database = Database::open(place, access).await?;
    let added = match database.add(rotations).await {
        Ok(()) => database.add_by(rotations).await,
        trouble => trouble,
    };
    let remembered = match added {
        Ok(()) if !memories.is_empty() => database.add_memories(memories, now).await,
        _ => Ok(()),
    };
    database.close().await;
    match remembered {
        // The daemon is of an older version, and will not ask for them.
        Err(trouble) if trouble.is_empty_store() => added,
        trouble => added.and(trouble),
    }
}

/// Adds what targets of notices were told to what a daemon keeps, beside it or without it.
///
/// # Errors
/// When it cannot be written.
pub async fn add_told(place: &Place, told: &ToldChanges) -> Result<(), StoreError> {
    let access = match place.may_be_there() {
        _ if told.is_empty() => return Ok(()),
        true => Access::Add,
        // No rotation has begun it: there was none to record.
        false if place.may_be_begun() => Access::Write,
        false => return Ok(()),
    };
    let mut database = Database::open(place, access).await?;
    let added = database.add_told(told).await;
    database.close().await;
    match added {
        // The daemon is of an older version, and will not ask for it.
        Err(trouble) if trouble.lacks_tables() => Ok(()),
        added => added,
    }
}

/// Reads what a daemon keeps, beside it or without it; changes nothing and leaves no file behind.
///
/// # Errors
/// When it cannot be read, or was never written.
pub async fn read(place: &Place, filter: &HistoryFilter) -> Result<Vec<PastRotation>, StoreError> {
    reading(place, async |database| {
        let mut rotations = database.history(filter).await?;
        database.name_who_ran(&mut rotations).await?;
        Ok(rotations)
    })
    .await
}

/// How many rotations ended how, as [`read`] reads; however many a filter's limit takes.
///
/// # Errors
/// As for [`read`].
pub async fn count(
    place: &Place,
    filter: &HistoryFilter,
) -> Result<Vec<(RotationOutcome, u64)>, StoreError> {
    reading(place, async |database| database.counts(filter).await).await
}

/// The servers that the history knows, each under every name that it had.
///
/// # Errors
/// As for [`read`].
pub async fn past_servers(place: &Place) -> Result<Vec<(ServerId, String)>, StoreError> {
    reading(place, async |database| database.past_servers().await).await
}

/// The last that is known of each server up to `now`, as [`read`] reads.
///
/// # Errors
/// As for [`read`].
pub async fn read_last(place: &Place, now: Timestamp) -> Result<Vec<LastOfServer>, StoreError> {
    reading(place, async |database| database.last_of_each_server(now).await).await
}

/// The trouble that the targets of notices know, as [`read`] reads.
///
/// # Errors
/// As for [`read`].
pub async fn read_told(place: &Place) -> Result<Told, StoreError> {
    reading(place, async |database| database.told().await).await
}

/// What is remembered of these servers, beside a daemon or without it; changes nothing.
///
/// # Errors
/// As for [`read`], and when a daemon begins meanwhile.
pub async fn read_memories(
    place: &Place,
    servers: &[ServerId],
) -> Result<ServerMemories, StoreError> {
    let access = match place {
        Place::File(file) if at_rest(file) => Access::ReadAtRest,
        _ => Access::Read,
    };
    let mut database = Database::open(place, access).await?;
    let memories = database.memories(servers).await;
    database.close().await;
    memories
}

async fn reading<T>(
    place: &Place,
    question: impl AsyncFn(&mut Database) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let read = async |access| {
        let mut database = Database::open(place, access).await?;
        let answer = question(&mut database).await;
        database.close().await;
        answer
    };
    if let Place::File(file) = place
        && at_rest(file)
    {
        let answer = read(Access::ReadAtRest).await;
        // A daemon that has begun meanwhile may have changed what was being read.
        if answer.is_ok() || at_rest(file) {
            return answer;
        }
    }
    read(Access::Read).await
}

/// Whether no process has the file open: SQLite's log is beside it as long as one does, and
/// after a crash.
fn at_rest(file: &Path) -> bool {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    !Path::new(&log).exists()
}

#[cfg(test)]
mod tests;
