//! The task that writes. Whatever is wrong with the store, it costs history and nothing else.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::clock::Clock;
use crate::manual::ManualAct;
use crate::naming::ServerId;
use crate::report::{LastOfServer, PastRotation};
use crate::schedule::first_loaded::{FirstLoadedTimes, ScheduleKey};
use crate::store::connection::{Connect, Connection, Written};
use crate::store::database::PORTION;
use crate::store::error::{ErrorKind, StoreError};
use crate::store::health::StoreHealth;
use crate::store::place::Place;
use crate::store::quarantine::{put_aside, was_a_database};
use crate::store::told::{Told, ToldChanges};
use crate::store::{HistoryFilter, Remembered, ServerMemories, ToRemember};

/// The most rotations in one transaction.
const BATCH: usize = 1000;

/// How long a transaction may take, connecting included. A disk or a network that hangs longer is
/// as good as away.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two tries to reach a store that does not work.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often a portion of what is old is pruned: enough for 1,4 million rotations a day.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// How long rotations are kept: a quarter, so that a monthly schedule shows three of its ticks, and
/// 10,000 servers with a daily one some 300 MB.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);

/// How many damaged files are put aside in one life. A disk that damages each new one shall not be
/// filled with them.
const MOST_ASIDE: u32 = 3;

/// What is asked of the task, beside the writing of rotations.
pub(super) enum Order {
    /// These schedules are in the configuration since then. Answered with what is known of them.
    Begin(Vec<ScheduleKey>, Timestamp, oneshot::Sender<FirstLoadedTimes>),
    /// Another configuration is in force since then.
    Reload(Vec<ScheduleKey>, Timestamp),
    /// A question about the past.
    LastOfEach(oneshot::Sender<Result<Vec<LastOfServer>, StoreError>>),
    /// What is remembered of these servers; of all if none is named.
    Memories(Vec<ServerId>, oneshot::Sender<Result<ServerMemories, StoreError>>),
    /// The trouble that the targets of notices know.
    Told(oneshot::Sender<Result<Told, StoreError>>),
    /// Another question about the past.
    History(HistoryFilter, oneshot::Sender<Result<Vec<PastRotation>, StoreError>>),
    /// What people did by hand.
    Manual(HistoryFilter, oneshot::Sender<Result<Vec<ManualAct>, StoreError>>),
}

pub(super) struct Writer {
    pub(super) place: Place,
    pub(super) connect: Connect,
    pub(super) clock: Clock,
    pub(super) health: StoreHealth,
    pub(super) reports: mpsc::Receiver<PastRotation>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) to_remember: ToRemember,
    /// Told when there is something to remember.
    pub(super) remembers: Arc<Notify>,
    pub(super) closing: CancellationToken,
    pub(super) memory: Memory,
}

/// What the task knows between two transactions.
#[derive(Default)]
pub(super) struct Memory {
    database: Option<Box<dyn Connection>>,
    /// The file that is open: its device and inode.
    file: Option<(u64, u64)>,
    /// Whether this connection has written: one to a file that may only be read works until then.
    proven: bool,
    /// Rotations to be written.
    pending: Vec<PastRotation>,
    /// The schedules of the present configuration, once it is known.
    book: Option<FirstLoadedTimes>,
    /// Whether the book has been told what the store recorded before.
    recalled: bool,
    /// The schedules that the store has, and until when it was written before this connection.
    recorded: FirstLoadedTimes,
    heard: Option<Timestamp>,
    /// Since when it does not work, as uptime, and when it is tried again.
    outage: Option<Outage>,
    prune_at: Duration,
    lost_told: u64,
    aside: u32,
}

impl Memory {
    /// Where the store has what is in force, as it nearly always does, that is in memory once.
    fn share(&mut self) {
        if let Some(book) = self.book.as_ref().filter(|book| **book == self.recorded) {
            self.recorded = book.clone();
        }
    }
}

/// What is being written of what is to be remembered.
struct Borrowed<'a> {
    from: &'a ToRemember,
    all: Remembered,
}

impl Borrowed<'_> {
    fn are_written(mut self) {
        self.all = Remembered::default();
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.from.put_back(std::mem::take(&mut self.all));
    }
}

struct Outage {
    retry_at: Duration,
    waits: ExponentialBackoff,
}

impl Writer {
    /// Until the store is closed.
    pub(super) async fn keep(mut self) {
        self.memory.prune_at = self.clock.now().uptime + PRUNE_EVERY;
        self.try_to_write().await;
        while self.wait().await {
            // Who asks is answered first: to write a fleet's schedules takes a while.
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order).await;
            }
            let memory = &self.memory;
            let due = memory.outage.as_ref().is_none_or(|it| it.retry_at <= self.uptime());
            if due {
                self.try_to_write().await;
                self.prune().await;
            }
        }
        self.close().await;
    }

    fn uptime(&self) -> Duration {
        self.clock.now().uptime
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// Until there is something to do; `false`: to close.
    async fn wait(&mut self) -> bool {
        let outage = self.memory.outage.as_ref();
        let next = outage.map_or(self.memory.prune_at, |outage| outage.retry_at);
        let wait = next.saturating_sub(self.uptime());
        // What does not fit waits in the channel, and what does not fit there is counted.
        let room = BATCH.saturating_sub(self.memory.pending.len());
        let (clock, pending) = (&self.clock, &mut self.memory.pending);
        tokio::select! {
            biased;
            () = self.closing.cancelled() => return false,
            order = self.orders.recv() => match order {
                Some(order) => self.obey(order).await,
                None => return false,
            },
            got = self.reports.recv_many(pending, room), if room > 0 => return got > 0,
            () = self.remembers.notified() => {}
            () = clock.sleep(wait) => {}
        }
        true
    }

    async fn obey(&mut self, order: Order) {
        if matches!(order, Order::LastOfEach(_) | Order::History(..)) {
            self.look_after_the_file().await;
            self.write_first().await;
        }
        let memory = &mut self.memory;
        match order {
            Order::Begin(keys, now, answer) => {
                let book = memory.book.insert(FirstLoadedTimes::found(keys, now));
                memory.recalled = memory.database.is_some();
                if memory.recalled {
                    book.recall(&memory.recorded, memory.heard, now);
                }
                let known = book.clone();
                memory.share();
                let _ = answer.send(known);
            }
            Order::Reload(keys, now) => {
                if let Some(book) = &mut memory.book {
                    book.reload(keys, now);
                }
            }
            Order::LastOfEach(answer) => {
                let now = self.now();
                let last = self.ask(|it| it.last_of_each_server(now)).await;
                let _ = answer.send(last);
            }
            Order::Memories(servers, answer) => {
                let _ = answer
                    .send(self.ask(|it| async move { it.memories(&servers).await }.boxed()).await);
            }
            Order::Told(answer) => {
                let told = self.ask(|it| it.told()).await;
                let _ = answer.send(told);
            }
            Order::History(filter, answer) => {
                let _ = answer
                    .send(self.ask(|it| async move { it.history(&filter).await }.boxed()).await);
            }
            Order::Manual(filter, answer) => {
                let _ = answer
                    .send(self.ask(|it| async move { it.manual(&filter).await }.boxed()).await);
            }
        }
    }

    /// An answer includes each rotation that was handed over before the question.
    async fn write_first(&mut self) {
        while self.memory.outage.is_none() {
            let room = BATCH.saturating_sub(self.memory.pending.len());
            let took = (0..room).map_while(|_| self.reports.try_recv().ok());
            self.memory.pending.extend(took);
            if self.memory.pending.is_empty() && self.to_remember.is_empty() {
                return;
            }
            self.try_to_write().await;
        }
    }

    /// Asks the store, if it works; does not wait for one that does not.
    async fn ask<T>(
        &mut self,
        question: impl for<'d> FnOnce(&'d mut dyn Connection) -> BoxFuture<'d, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Some(database) = &mut self.memory.database else {
            return Err(StoreError::passing("the store is not working"));
        };
        let answer = self.clock.timeout(PATIENCE, question(&mut **database)).await;
        let answer = answer.unwrap_or_else(|| Err(too_slow()));
        if let Err(trouble) = &answer {
            // The next write finds out what is wrong.
            self.let_go().await;
            if trouble.kind == ErrorKind::Corrupt {
                self.put_aside(trouble).await;
            }
        }
        answer
    }

    /// Writes what there is to write, or finds out that it cannot.
    async fn try_to_write(&mut self) {
        self.look_after_the_file().await;
        loop {
            let clock = self.clock.clone();
            let written = clock.timeout(PATIENCE, self.write()).await;
            let Err(trouble) = written.unwrap_or_else(|| Err(too_slow())) else {
                self.is_well();
                return;
            };
            match trouble.kind {
                ErrorKind::Corrupt if self.put_aside(&trouble).await => {}
                ErrorKind::Refused if !self.memory.pending.is_empty() => {
                    self.drop_what_is_refused().await
                }
                _ => return self.is_broken(&trouble).await,
            }
        }
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        let now = self.now();
        let memory = &mut self.memory;
        let is_new = memory.database.is_none();
        let database = match &mut memory.database {
            Some(database) => database,
            None => {
                let mut database = (self.connect)().await?;
                (memory.recorded, memory.heard) = database.schedules().await?;
                if let Some(book) = &mut memory.book
                    && !memory.recalled
                {
                    book.recall(&memory.recorded, memory.heard, now);
                    memory.recalled = true;
                }
                memory.share();
                memory.proven = false;
                if let Place::File(path) = &self.place {
                    memory.file = identity(path, &self.clock).await.flatten();
                }
                memory.database.insert(database)
            }
        };
        let schedules = memory.book.as_ref().filter(|book| **book != memory.recorded);
        // The first write is to have the book in it: with that begins what the store can tell of.
        let proven = memory.proven || (memory.book.is_none() && memory.outage.is_none());
        if memory.pending.is_empty() && self.to_remember.is_empty() && schedules.is_none() && proven
        {
            return Ok(());
        }
        let change = schedules.map(|book| (&memory.recorded, book));
        // Handed back if the write fails, or is broken off.
        let mut remembered = Borrowed { from: &self.to_remember, all: self.to_remember.take() };
        let memories = &mut remembered.all.memories;
        if is_new && !memories.is_empty() {
            // What was written before this connection may be news to this process.
            let servers: Vec<ServerId> = memories.keys().copied().collect();
            for (server, older) in database.memories(&servers).await? {
                memories.entry(server).or_default().merge(older);
            }
        }
        let written = Written {
            rotations: &memory.pending,
            memories: &remembered.all.memories,
            told: &remembered.all.told,
            schedules: change,
            at: now,
        };
        database.write(written).await?;
        remembered.are_written();
        if let Some(book) = schedules {
            memory.recorded = book.clone();
        }
        memory.proven = true;
        memory.pending.clear();
        Ok(())
    }

    /// One by one, so that one which the database does not take costs only itself.
    async fn drop_what_is_refused(&mut self) {
        let now = self.now();
        let rotations = std::mem::take(&mut self.memory.pending);
        for rotation in rotations {
            let Some(database) = &mut self.memory.database else {
                self.memory.pending.push(rotation);
                continue;
            };
            let rotations = std::slice::from_ref(&rotation);
            let (memories, told) = (&ServerMemories::new(), &ToldChanges::new());
            let written = Written { rotations, memories, told, schedules: None, at: now };
            let one = database.write(written);
            match self.clock.timeout(PATIENCE, one).await {
                Some(Ok(())) => {}
                Some(Err(StoreError { kind: ErrorKind::Refused, .. })) => self.lose(1),
                Some(Err(_)) | None => {
                    self.let_go().await;
                    self.memory.pending.push(rotation);
                }
            }
        }
    }

    fn lose(&self, rotations: usize) {
        let rotations = u64::try_from(rotations).unwrap_or(u64::MAX);
        self.health.lose(rotations);
    }

    fn is_well(&mut self) {
        self.health.works(true);
        let memory = &mut self.memory;
        let lost = self.health.lost();
        let newly = lost - std::mem::replace(&mut memory.lost_told, lost);
        let store = self.place.to_string();
        if memory.outage.take().is_some() {
            tracing::info!(
                event = "store",
                store,
                lost = newly,
                "the store works again: {newly} rotations are missing from the history"
            );
        } else if newly > 0 {
            tracing::warn!(
                event = "store",
                store,
                lost = newly,
                "{newly} rotations are missing from the history: they came too fast for the store, or it \
                     refused them"
            );
        }
    }

    /// A file that was removed or replaced takes writes without an error, and they are lost.
    async fn look_after_the_file(&mut self) {
        let Place::File(path) = &self.place else { return };
        let Some(open) = self.memory.file.filter(|_| self.memory.database.is_some()) else {
            return;
        };
        let found = identity(path, &self.clock).await;
        // A file system that does not answer says nothing.
        if found.is_none_or(|found| found == Some(open)) {
            return;
        }
        tracing::warn!(
            event = "store",
            store = self.place.to_string(),
            "{}: the file was removed or replaced while it was open, and is opened again",
            self.place
        );
        self.let_go().await;
        self.memory.file = None;
    }

    /// Ends the connection. Waits for that, if it is not too long: SQLite removes its log by name,
    /// and by then the name could be that of a new file's.
    async fn let_go(&mut self) {
        if let Some(database) = self.memory.database.take() {
            let _ = self.clock.timeout(FIRST_WAIT, database.close()).await;
        }
    }

    /// Tells of it once.
    async fn is_broken(&mut self, trouble: &StoreError) {
        self.let_go().await;
        self.health.works(false);
        let now = self.uptime();
        match &mut self.memory.outage {
            Some(outage) => {
                outage.retry_at = now + outage.waits.next().unwrap_or(LONGEST_WAIT);
            }
            None => {
                let mut waits = backoff::doubling(FIRST_WAIT, LONGEST_WAIT);
                let retry_at = now + waits.next().unwrap_or(LONGEST_WAIT);
                self.memory.outage = Some(Outage { retry_at, waits });
                tracing::error!(
                    event = "store",
                    store = self.place.to_string(),
                    "the store does not work: {}: {trouble}; rotations continue. When it works again, the \
                         log says what is missing from the history",
                    self.place
                );
            }
        }
    }

    /// Whether a damaged file is out of the way, so that a new one can be begun.
    async fn put_aside(&mut self, trouble: &StoreError) -> bool {
        self.let_go().await;
        let Place::File(file) = &self.place else { return false };
        if self.memory.aside >= MOST_ASIDE || !was_a_database(file) {
            return false;
        }
        self.memory.aside += 1;
        match put_aside(file, self.now()) {
            Ok(aside) => {
                // The new file is to have all that is known.
                self.memory.recorded = FirstLoadedTimes::default();
                tracing::error!(
                    event = "store",
                    store = self.place.to_string(),
                    "{} is damaged ({trouble}); it was renamed to {}, and a new history was started",
                    self.place,
                    aside.display()
                );
                true
            }
            Err(problem) => {
                tracing::error!(
                    event = "store",
                    store = self.place.to_string(),
                    "{} is damaged, and cannot be renamed: {problem}",
                    self.place
                );
                false
            }
        }
    }

    async fn prune(&mut self) {
        if self.memory.prune_at > self.uptime() {
            return;
        }
        self.memory.prune_at = self.uptime() + PRUNE_EVERY;
        let limit = self.now().saturating_sub(KEPT_FOR).unwrap_or(Timestamp::MIN);
        let gone = self.ask(|database| database.prune(limit)).await;
        match gone {
            Ok(0) | Err(_) => {}
            Ok(gone) => tracing::debug!(
                event = "store",
                store = self.place.to_string(),
                "{gone} rotations were pruned, of at most {PORTION} at once"
            ),
        }
    }

    /// Writes what is queued, and ends the connection.
    async fn close(mut self) {
        while let Ok(order) = self.orders.try_recv() {
            self.obey(order).await;
        }
        self.reports.close();
        loop {
            let room = BATCH.saturating_sub(self.memory.pending.len());
            let got = self.reports.recv_many(&mut self.memory.pending, room).await;
            self.try_to_write().await;
            if got == 0 || self.memory.outage.is_some() {
                break;
            }
        }
        // Rows of the ring that were made before now are known.
        let now = self.now();
        if let Some(mut database) = self.memory.database.take() {
            let (memories, told) = (&ServerMemories::new(), &ToldChanges::new());
            let written = Written { rotations: &[], memories, told, schedules: None, at: now };
            let _ = database.write(written).await;
            database.close().await;
        }
        let unwritten = self.memory.pending.len() + self.reports.len();
        if unwritten > 0 {
            self.lose(unwritten);
            tracing::warn!(
                event = "store",
                store = self.place.to_string(),
                lost = unwritten,
                "stopping: {unwritten} rotations could not be written to the history"
            );
        }
    }
}

fn too_slow() -> StoreError {
    let patience = humantime::format_duration(PATIENCE);
    StoreError::passing(format!("it did not answer within {patience}"))
}

/// Which file stands at a path. `None` if the file system does not answer.
async fn identity(path: &Path, clock: &Clock) -> Option<Option<(u64, u64)>> {
    let found = clock.timeout(FIRST_WAIT, tokio::fs::metadata(path)).await?;
    Some(found.ok().map(|it| (it.dev(), it.ino())))
}
