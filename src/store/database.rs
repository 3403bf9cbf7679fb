//! The statements: one set for SQLite and PostgreSQL.

use std::collections::HashMap;

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use sqlx::any::{AnyArguments, AnyConnectOptions, AnyRow};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, ConnectOptions, Connection, Row, SqlStr};

use crate::foreign::ForeignText;
use crate::interner::Interner;
use crate::memory::RingMemory;
use crate::naming::{Account, ServerId, Subject, Tick};
use crate::provider::certificates;
use crate::report::{KnownCause, RotationOutcome};
use crate::report::{LastOfServer, PastRotation, Stretch};
use crate::schedule::first_loaded::{FirstLoaded, FirstLoadedTimes, ScheduleKey};
use crate::store::connection::Written;
use crate::store::error::{ErrorKind, StoreError};
use crate::store::place::{Access, Place};
use crate::store::told::{TargetKey, Told, ToldChanges, ToldState};
use crate::store::{HistoryFilter, ServerMemories};

/// Each file of src/store/migrations, in order. Never change one: add another.
pub(super) const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "history", include_str!("migrations/1_history.sql")),
    (2, "memory", include_str!("migrations/2_memory.sql")),
    (3, "told", include_str!("migrations/3_told.sql")),
    (4, "manual", include_str!("migrations/4_manual.sql")),
    (5, "account", include_str!("migrations/5_account.sql")),
    (6, "by", include_str!("migrations/6_by.sql")),
    (7, "owed", include_str!("migrations/7_owed.sql")),
];

/// Not sqlx's own name for it, so that a database may be shared with something else that uses sqlx.
const MIGRATIONS_TABLE: &str = "snapring_migrations";

const COLUMNS: &str = "ended_at, account, server_id, server, tick, outcome, created, deleted, api_calls, \
                       duration_ms, steps, reason, cause";
const WIDTH: usize = 13;

/// How many rows one statement takes: PostgreSQL is asked over a network.
const AT_ONCE: usize = 50;

/// How many rows are deleted in one transaction: others wait for it.
pub(super) const PORTION: i64 = 1000;

/// How many rotations are kept where they are in memory only: some 20 MB.
const MOST_IN_MEMORY: i64 = 20_000;

/// Stands for the account where others stand for servers. No server has it: numbers begin with 1.
const ACCOUNT: u64 = 0;

/// Stands for the list of an account's servers, in the same way.
const COVER: u64 = u64::MAX;

/// One connection.
pub(super) struct Database {
    connection: AnyConnection,
    place: Place,
}

pub(super) type Statement = Query<'static, Any, AnyArguments>;

pub(super) fn statement(text: &'static str) -> Statement {
    sqlx::query(text)
}

/// One whose number of parameters varies. All that comes from outside is bound.
fn built(text: String) -> Statement {
    sqlx::query::<Any>(AssertSqlSafe(text))
}

impl Database {
    /// Connects, and makes the tables where they are to be written.
    pub(super) async fn open(place: &Place, access: Access) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        if let Place::Server(_) = place {
            // To encrypt the connection, the library reads them.
            certificates::check(|name| std::env::var_os(name)).map_err(StoreError::passing)?;
        }
        let url = place.to_url(access).ok_or_else(|| StoreError::passing("this is no path"))?;
        let trouble = |error: sqlx::Error| StoreError::of(&error, place);
        let options: AnyConnectOptions = url.expose_secret().parse().map_err(trouble)?;
        let connection = options.disable_statement_logging().connect().await.map_err(trouble)?;
        let mut database = Self { connection, place: place.clone() };
        match database.set_up(access).await {
            Ok(()) => Ok(database),
            Err(trouble) => {
                database.close().await;
                Err(trouble)
            }
        }
    }

    async fn set_up(&mut self, access: Access) -> Result<(), StoreError> {
        match self.place {
            Place::Memory => {}
            Place::File(_) => self.set_up_file(access).await?,
            Place::Server(_) => {
                // Otherwise it says at each start that its tables are there already.
                self.run(statement("SET client_min_messages TO warning")).await?;
                self.run(statement("SET application_name TO 'snapring'")).await?;
            }
        }
        match access {
            Access::Write => self.migrate().await,
            Access::Add | Access::Read | Access::ReadAtRest => Ok(()),
        }
    }

    async fn set_up_file(&mut self, access: Access) -> Result<(), StoreError> {
        self.run(statement("PRAGMA busy_timeout = 2000")).await?;
        if access == Access::Write {
            self.run(statement("PRAGMA journal_mode = WAL")).await?;
            // In WAL mode a power cut then costs the last rows, not the file.
            self.run(statement("PRAGMA synchronous = NORMAL")).await?;
        }
        Ok(())
    }

    async fn migrate(&mut self) -> Result<(), StoreError> {
        let migrations = MIGRATIONS.iter().map(|(version, name, text)| {
            let text = SqlStr::from_static(text);
            Migration::new(*version, (*name).into(), MigrationType::Simple, text, false)
        });
        let mut migrator = Migrator::with_migrations(migrations.collect());
        migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
        // `run` asks for more of a connection than a task that may change threads can give.
        let done = migrator.run_direct(None, &mut self.connection, false).boxed().await;
        done.map_err(|error| StoreError::of_migration(&error, &self.place))
    }

    pub(super) fn trouble(&self, error: &sqlx::Error) -> StoreError {
        StoreError::of(error, &self.place)
    }

    pub(super) async fn run(&mut self, statement: Statement) -> Result<(), StoreError> {
        let done = statement.execute(&mut self.connection).boxed().await;
        done.map(drop).map_err(|error| self.trouble(&error))
    }

    pub(super) async fn rows(&mut self, statement: Statement) -> Result<Vec<AnyRow>, StoreError> {
        let rows = statement.fetch_all(&mut self.connection).boxed().await;
        rows.map_err(|error| self.trouble(&error))
    }

    /// Ends the connection in order.
    pub(super) async fn close(self) {
        // What was committed is safe without it.
        let _ = self.connection.close().await;
    }

    /// Writes, all or nothing: what there is, and that the store was written then.
    pub(super) async fn write(&mut self, written: Written<'_>) -> Result<(), StoreError> {
        self.run(statement("BEGIN")).await?;
        let written = self.write_all(written).await;
        self.end(written).await
    }

    /// Writes rotations of another process than the one that keeps it, all or nothing.
    pub(super) async fn add(&mut self, rotations: &[PastRotation]) -> Result<(), StoreError> {
        self.run(statement("BEGIN")).await?;
        let added = self.insert(rotations).await;
        self.end(added).await
    }

    /// Writes what another process remembers, all or nothing.
    pub(super) async fn add_memories(
        &mut self,
        memories: &ServerMemories,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.run(statement("BEGIN")).await?;
        let added = self.remember(memories, now).await;
        self.end(added).await
    }

    /// Writes what another process told, all or nothing.
    pub(super) async fn add_told(&mut self, told: &ToldChanges) -> Result<(), StoreError> {
        self.run(statement("BEGIN")).await?;
        let added = self.tell(told).await;
        self.end(added).await
    }

    async fn tell(&mut self, told: &ToldChanges) -> Result<(), StoreError> {
        for ((target, of), state) in told {
            let change = match state {
                Some(_) => statement(
                    "INSERT INTO snapring_told (target, account, subject, told_at, owed)
                     VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT (target, account, subject) DO UPDATE
                       SET told_at = excluded.told_at, owed = excluded.owed",
                ),
                None => statement(
                    "DELETE FROM snapring_told WHERE target = $1 AND account = $2 AND subject = $3",
                ),
            };
            let (account, number) = match of {
                Subject::Account(account) => (account, ACCOUNT),
                Subject::Cover(account) => (account, COVER),
                Subject::Server(server) => (&server.account, server.number),
            };
            let change = change
                .bind(target.as_str().to_owned())
                .bind(account.key().to_owned())
                .bind(number.cast_signed());
            self.run(match state {
                Some(state) => {
                    let is_owed = matches!(state, ToldState::Owed(_));
                    change.bind(state.at().as_millisecond()).bind(i64::from(is_owed))
                }
                None => change,
            })
            .await?;
        }
        Ok(())
    }

    /// The trouble that targets were notified of, or are owed.
    pub(super) async fn told(&mut self) -> Result<Told, StoreError> {
        let all = "SELECT target, account, subject, told_at, owed FROM snapring_told";
        let rows = self.rows(statement(all)).await?;
        let read = |row: &AnyRow| {
            let server = server_id(row, 1)?;
            let of = match server.number {
                ACCOUNT => Subject::Account(server.account),
                COVER => Subject::Cover(server.account),
                _ => Subject::Server(server),
            };
            let at = time(row, 3)?;
            let state = match row.try_get::<i64, _>(4)? {
                0 => ToldState::Told(at),
                _ => ToldState::Owed(at),
            };
            Ok(((TargetKey::from(row.try_get::<String, _>(0)?), of), state))
        };
        let read: Result<Told, sqlx::Error> = rows.iter().map(read).collect();
        read.map_err(|error| self.trouble(&error))
    }

    async fn remember(
        &mut self,
        memories: &ServerMemories,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let rows: Vec<_> = memories.iter().collect();
        for rows in at_once(&rows) {
            let text = format!(
                "INSERT INTO snapring_memory (account, server_id, written_at, memory) VALUES {}
                 ON CONFLICT (account, server_id) DO UPDATE
                   SET written_at = excluded.written_at, memory = excluded.memory",
                repeated(rows.len(), 4, ", ", |places| format!("({})", places.join(", ")))
            );
            let bind = |query: Statement, (server, memory): &(&ServerId, &RingMemory)| {
                let memory = serde_json::to_string(memory).unwrap_or_else(|_| "{}".to_owned());
                bind_server(query, **server).bind(now.as_millisecond()).bind(memory)
            };
            self.run(rows.iter().fold(built(text), bind)).await?;
        }
        Ok(())
    }

    /// What is remembered of these servers; of all if none is named.
    pub(super) async fn memories(
        &mut self,
        servers: &[ServerId],
    ) -> Result<ServerMemories, StoreError> {
        let mut text = "SELECT account, server_id, memory FROM snapring_memory".to_owned();
        if !servers.is_empty() {
            text += &format!(" WHERE {}", any_server(servers.len(), 1));
        }
        let query = servers.iter().fold(built(text), |query, server| bind_server(query, *server));
        let read = |row: AnyRow| {
            let memory: String = row.try_get(2)?;
            // One that a later version wrote says nothing to this one.
            Ok((server_id(&row, 0)?, serde_json::from_str(&memory).unwrap_or_default()))
        };
        let rows = query.fetch(&mut self.connection).map(|row| row.and_then(read));
        let memories = rows.try_collect::<ServerMemories>().boxed().await;
        memories.map_err(|error| self.trouble(&error))
    }

    /// Ends a transaction.
    pub(super) async fn end(&mut self, written: Result<(), StoreError>) -> Result<(), StoreError> {
        let end = if written.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.run(statement(end)).await;
        written.and(ended)
    }

    async fn insert(&mut self, rotations: &[PastRotation]) -> Result<(), StoreError> {
        for rows in at_once(rotations) {
            let text = format!(
                "INSERT INTO snapring_rotation ({COLUMNS}) VALUES {} ON CONFLICT DO NOTHING",
                repeated(rows.len(), WIDTH, ", ", |places| format!("({})", places.join(", ")))
            );
            self.run(rows.iter().fold(built(text), bind_rotation)).await?;
        }
        Ok(())
    }

    async fn write_all(&mut self, written: Written<'_>) -> Result<(), StoreError> {
        let Written { rotations, memories, told, schedules, at } = written;
        self.insert(rotations).await?;
        self.remember(memories, at).await?;
        self.tell(told).await?;
        if let Some((before, now)) = schedules {
            self.write_schedules(before, now).await?;
        }
        let upsert = "INSERT INTO snapring_heard (one, at) VALUES (1, $1)
                      ON CONFLICT (one) DO UPDATE SET at = excluded.at";
        self.run(statement(upsert).bind(at.as_millisecond())).await
    }

    async fn write_schedules(
        &mut self,
        before: &FirstLoadedTimes,
        now: &FirstLoadedTimes,
    ) -> Result<(), StoreError> {
        let gone: Vec<&ScheduleKey> =
            before.all().keys().filter(|key| !now.all().contains_key(key)).collect();
        for keys in at_once(&gone) {
            let text = format!(
                "DELETE FROM snapring_schedule WHERE {}",
                repeated(keys.len(), 4, " OR ", |place| {
                    let [account, server, schedule, zone] = place else { return String::new() };
                    format!(
                        "(account = {account} AND server_id = {server} AND schedule = {schedule} \
                          AND timezone = {zone})"
                    )
                })
            );
            self.run(keys.iter().fold(built(text), |query, key| bind_key(query, key))).await?;
        }
        let differs =
            |(key, it): &(&ScheduleKey, &FirstLoaded)| before.all().get(*key) != Some(*it);
        let new: Vec<_> = now.all().iter().filter(differs).collect();
        for rows in at_once(&new) {
            let text = format!(
                "INSERT INTO snapring_schedule
                   (account, server_id, schedule, timezone, loaded_after, loaded_by)
                 VALUES {}
                 ON CONFLICT (account, server_id, schedule, timezone) DO UPDATE
                   SET loaded_after = excluded.loaded_after, loaded_by = excluded.loaded_by",
                repeated(rows.len(), 6, ", ", |places| format!("({})", places.join(", ")))
            );
            let bind = |query: Statement, (key, loaded): &(&ScheduleKey, &FirstLoaded)| {
                let FirstLoaded { after, by } = loaded;
                bind_key(query, key).bind(after.as_millisecond()).bind(by.as_millisecond())
            };
            self.run(rows.iter().fold(built(text), bind)).await?;
        }
        Ok(())
    }

    /// The schedules that are recorded, and until when the store was written.
    pub(super) async fn schedules(
        &mut self,
    ) -> Result<(FirstLoadedTimes, Option<Timestamp>), StoreError> {
        let all = "SELECT account, server_id, schedule, timezone, loaded_after, loaded_by
                   FROM snapring_schedule";
        let mut texts = Interner::<str>::default();
        let mut read = |row: AnyRow| {
            let mut text = |column| row.try_get(column).map(|text: &str| texts.one(text));
            let key = (server_id(&row, 0)?, text(2)?, text(3)?);
            Ok((key, FirstLoaded { after: time(&row, 4)?, by: time(&row, 5)? }))
        };
        // Row by row: all at once they take many times the room of what they say.
        let rows = statement(all).fetch(&mut self.connection);
        let rows = rows.map(|row| row.and_then(&mut read)).try_collect::<Vec<_>>();
        let recorded = rows.boxed().await;
        let recorded = recorded.map_err(|error| self.trouble(&error))?;
        let rows = self.rows(statement("SELECT at FROM snapring_heard")).await?;
        let heard = rows.first().map(|row| time(row, 0)).transpose();
        Ok((recorded.into_iter().collect(), heard.map_err(|error| self.trouble(&error))?))
    }

    /// Past rotations, the newest first.
    pub(super) async fn history(
        &mut self,
        filter: &HistoryFilter,
    ) -> Result<Vec<PastRotation>, StoreError> {
        let outcomes: Vec<&str> = filter.outcomes.iter().map(|it| it.as_str()).collect();
        let from = format!("SELECT {COLUMNS} FROM snapring_rotation");
        let order = "ORDER BY ended_at DESC, account, server_id, tick DESC";
        let rows = self.selected(&from, order, filter, &outcomes).await?;
        let read: Result<Vec<_>, _> = rows.iter().map(rotation).collect();
        read.map_err(|error| self.trouble(&error))
    }

    /// How many rows of a table that a filter takes have which outcome.
    pub(super) async fn counted(
        &mut self,
        table: &str,
        filter: &HistoryFilter,
        outcomes: &[&str],
    ) -> Result<HashMap<String, u64>, StoreError> {
        let from = format!("SELECT outcome, CAST(COUNT(*) AS BIGINT) FROM {table}");
        let filter = HistoryFilter { limit: None, ..filter.clone() };
        let rows = self.selected(&from, "GROUP BY outcome", &filter, outcomes).await?;
        let read = |row: &AnyRow| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)?.unsigned_abs()));
        let read: Result<HashMap<_, _>, sqlx::Error> = rows.iter().map(read).collect();
        read.map_err(|error| self.trouble(&error))
    }

    /// How many rotations ended how.
    pub(super) async fn counts(
        &mut self,
        filter: &HistoryFilter,
    ) -> Result<Vec<(RotationOutcome, u64)>, StoreError> {
        let outcomes: Vec<&str> = filter.outcomes.iter().map(|it| it.as_str()).collect();
        let counts = self.counted("snapring_rotation", filter, &outcomes).await?;
        let count = |it: RotationOutcome| Some((it, *counts.get(it.as_str())?));
        Ok(RotationOutcome::ALL.into_iter().filter_map(count).collect())
    }

    /// The servers that the history knows, each under every name that it had.
    pub(super) async fn past_servers(&mut self) -> Result<Vec<(ServerId, String)>, StoreError> {
        let of = |table: &str| format!("SELECT DISTINCT account, server_id, server FROM {table}");
        let mut rows = self.rows(built(of("snapring_rotation"))).await?;
        match self.rows(built(of("snapring_manual"))).await {
            Ok(more) => rows.extend(more),
            Err(trouble) if trouble.is_empty_store() => {}
            Err(trouble) => return Err(trouble),
        }
        let read = |row: &AnyRow| Ok((server_id(row, 0)?, row.try_get(2)?));
        let read: Result<Vec<(ServerId, String)>, sqlx::Error> = rows.iter().map(read).collect();
        let mut servers = read.map_err(|error| self.trouble(&error))?;
        servers.sort();
        servers.dedup();
        Ok(servers)
    }

    /// The rows of a table that a filter takes.
    pub(super) async fn selected(
        &mut self,
        from: &str,
        tail: &str,
        filter: &HistoryFilter,
        outcomes: &[&str],
    ) -> Result<Vec<AnyRow>, StoreError> {
        let mut text = format!("{from} WHERE ended_at >= $1");
        let mut bound = 1;
        let mut places = |count: usize| {
            let places: Vec<String> =
                (bound + 1..=bound + count).map(|nth| format!("${nth}")).collect();
            bound += count;
            places.join(", ")
        };
        if !outcomes.is_empty() {
            text += &format!(" AND outcome IN ({})", places(outcomes.len()));
        }
        let mut servers = Vec::new();
        if !filter.ids.is_empty() {
            servers.push(any_server(filter.ids.len(), 2 + outcomes.len()));
            places(2 * filter.ids.len());
        }
        if !filter.names.is_empty() {
            servers.push(format!("server IN ({})", places(filter.names.len())));
        }
        if !servers.is_empty() {
            text += &format!(" AND ({})", servers.join(" OR "));
        }
        text += &format!(" {tail} LIMIT {}", places(1));
        let since = filter.since.unwrap_or(Timestamp::UNIX_EPOCH);
        let mut query = built(text).bind(since.as_millisecond());
        for outcome in outcomes {
            query = query.bind((*outcome).to_owned());
        }
        for id in &filter.ids {
            query = bind_server(query, *id);
        }
        for name in &filter.names {
            query = query.bind(name.clone());
        }
        let limit = filter.limit.map_or(i64::MAX, i64::from);
        self.rows(query.bind(limit)).await
    }

    /// The rotations up to `now` that each server's health depends on. What a clock that was ahead wrote
    /// would hide all that came after it.
    pub(super) async fn last_of_each_server(
        &mut self,
        now: Timestamp,
    ) -> Result<Vec<LastOfServer>, StoreError> {
        let good = RotationOutcome::GOOD.map(|good| format!("'{}'", good.as_str())).join(", ");
        let bad = format!(
            "outcome IN ('{}', '{}') AND (cause IS NULL OR cause <> '{}')",
            RotationOutcome::Failed.as_str(),
            RotationOutcome::Blocked.as_str(),
            KnownCause::Shutdown.as_str()
        );
        // Behind rotations that failed with the account's token, the server's own trouble is still there.
        let bad_of_its_own =
            format!("{bad} AND (cause IS NULL OR cause <> '{}')", KnownCause::Token.as_str());
        let mut rotations = Vec::new();
        let good = format!("outcome IN ({good})");
        for condition in ["1 = 1".to_owned(), good, bad.clone(), bad_of_its_own] {
            let last = format!(
                "SELECT {COLUMNS} FROM snapring_rotation
                 JOIN (SELECT account AS whose, server_id AS id, MAX(ended_at) AS last
                       FROM snapring_rotation
                       WHERE {condition} AND ended_at <= $1 GROUP BY account, server_id) AS newest
                 ON account = whose AND server_id = id AND ended_at = last
                 WHERE {condition}"
            );
            rotations.extend(self.rotations_until(last, now).await?);
        }
        // Few, as long as all is well.
        let skips = format!(
            "SELECT {COLUMNS} FROM
               (SELECT {COLUMNS}, ROW_NUMBER() OVER
                  (PARTITION BY account, server_id ORDER BY ended_at DESC, tick DESC) AS nth
                FROM snapring_rotation WHERE cause = '{}' AND ended_at <= $1) AS skips
             WHERE nth <= 2",
            KnownCause::Hindered.as_str()
        );
        rotations.extend(self.rotations_until(skips, now).await?);
        rotations.sort_by(|one, other| {
            let key = |it: &PastRotation| (it.server_id, it.ended_at, it.tick, it.outcome.as_str());
            key(one).cmp(&key(other))
        });
        rotations.dedup();
        let stretches = self.stretches(&rotations, &bad, now).await?;
        let servers = rotations.chunk_by(|one, other| one.server_id == other.server_id);
        let of_server = |rotations: &[PastRotation]| {
            let server_id = rotations.first()?.server_id;
            let stretch = |is_token| stretches.get(&(server_id, is_token)).copied();
            let (failed, refused) = (stretch(false), stretch(true));
            Some(LastOfServer { server_id, rotations: rotations.to_vec(), failed, refused })
        };
        Ok(servers.filter_map(of_server).collect())
    }

    /// Since when and how often rotations have ended badly since the last good one, of servers whose last ones did;
    /// those that a refused token ended apart from the others. Asked server by server: few are in trouble, and the
    /// history of a fleet is long.
    async fn stretches(
        &mut self,
        rotations: &[PastRotation],
        bad: &str,
        now: Timestamp,
    ) -> Result<HashMap<(ServerId, bool), Stretch>, StoreError> {
        let mut stretches = HashMap::new();
        for servers in at_once(&last_good_of_failing(rotations)) {
            let places: Vec<String> = (0..servers.len())
                .map(|nth| 2 + 3 * nth)
                .map(|at| {
                    let (id, ended) = (at + 1, at + 2);
                    format!("(account = ${at} AND server_id = ${id} AND ended_at > ${ended})")
                })
                .collect();
            let text = format!(
                "SELECT account, server_id, CAST(CASE WHEN cause = '{}' THEN 1 ELSE 0 END AS BIGINT) AS token,
                        MIN(ended_at), COUNT(*)
                 FROM snapring_rotation WHERE {bad} AND ended_at <= $1 AND ({})
                 GROUP BY account, server_id, token",
                KnownCause::Token.as_str(),
                places.join(" OR ")
            );
            let bind = |query: Statement, (server, good): &(ServerId, i64)| {
                bind_server(query, *server).bind(*good)
            };
            let query = built(text).bind(now.as_millisecond());
            let rows = self.rows(servers.iter().fold(query, bind)).await?;
            let read = |row: &AnyRow| {
                let is_token = row.try_get::<i64, _>(2)? == 1;
                let rotations = u32::try_from(row.try_get::<i64, _>(4)?).unwrap_or(u32::MAX);
                Ok(((server_id(row, 0)?, is_token), Stretch { since: time(row, 3)?, rotations }))
            };
            let read: Result<Vec<_>, sqlx::Error> = rows.iter().map(read).collect();
            stretches.extend(read.map_err(|error| self.trouble(&error))?);
        }
        Ok(stretches)
    }

    async fn rotations_until(
        &mut self,
        query: String,
        now: Timestamp,
    ) -> Result<Vec<PastRotation>, StoreError> {
        let rows = self.rows(built(query).bind(now.as_millisecond())).await?;
        let read: Result<_, _> = rows.iter().map(rotation).collect();
        read.map_err(|error| self.trouble(&error))
    }

    /// Deletes a portion of the rotations that ended before `limit`; gives how many went.
    pub(super) async fn prune(&mut self, limit: Timestamp) -> Result<u64, StoreError> {
        let old = "DELETE FROM snapring_rotation
                   WHERE ended_at < $1 AND ended_at <=
                     (SELECT MAX(ended_at) FROM
                       (SELECT ended_at FROM snapring_rotation ORDER BY ended_at LIMIT $2) AS oldest)";
        let delete = statement(old).bind(limit.as_millisecond()).bind(PORTION);
        let done = delete.execute(&mut self.connection).boxed().await;
        let mut gone = done.map_err(|error| self.trouble(&error))?.rows_affected();
        for forgotten in [
            "DELETE FROM snapring_memory WHERE written_at < $1",
            "DELETE FROM snapring_told WHERE told_at < $1",
            "DELETE FROM snapring_manual WHERE ended_at < $1",
            "DELETE FROM snapring_by WHERE ended_at < $1",
        ] {
            self.run(statement(forgotten).bind(limit.as_millisecond())).await?;
        }
        if self.place == Place::Memory {
            let surplus = "DELETE FROM snapring_rotation WHERE ended_at <
                             (SELECT ended_at FROM snapring_rotation
                              ORDER BY ended_at DESC LIMIT 1 OFFSET $1)";
            let delete = statement(surplus).bind(MOST_IN_MEMORY);
            let done = delete.execute(&mut self.connection).boxed().await;
            gone += done.map_err(|error| self.trouble(&error))?.rows_affected();
        }
        Ok(gone)
    }

    #[cfg(test)]
    pub(super) async fn execute(&mut self, text: impl Into<String>) -> Result<(), StoreError> {
        self.run(built(text.into())).await
    }
}

impl StoreError {
    /// Whether a process that may write to the store must make its tables first.
    #[must_use]
    pub(super) fn lacks_tables(&self) -> bool {
        matches!(self.kind, ErrorKind::Empty | ErrorKind::Older)
    }

    /// Whether the store is there and was never written.
    #[must_use]
    pub fn is_empty_store(&self) -> bool {
        self.kind == ErrorKind::Empty
    }
}

/// The servers whose last good rotation, if there is one, was followed by a bad one, and when it ended.
fn last_good_of_failing(rotations: &[PastRotation]) -> Vec<(ServerId, i64)> {
    let mut failing = Vec::new();
    for of_server in rotations.chunk_by(|one, other| one.server_id == other.server_id) {
        let last = |is_so: fn(&RotationOutcome) -> bool| {
            of_server
                .iter()
                .filter(|it| is_so(&it.outcome))
                .map(|it| it.ended_at.as_millisecond())
                .max()
        };
        let good = last(|it| it.is_good()).unwrap_or(i64::MIN);
        let bad = last(|it| matches!(it, RotationOutcome::Failed | RotationOutcome::Blocked));
        if let (Some(first), true) = (of_server.first(), bad.is_some_and(|bad| bad > good)) {
            failing.push((first.server_id, good));
        }
    }
    failing
}

/// Rows as they go into one statement: whole portions, and the rest one by one, so that there are two
/// shapes of it only.
fn at_once<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let whole = rows.chunks_exact(AT_ONCE);
    let rest = whole.remainder().chunks(1);
    whole.chain(rest)
}

/// The parameters of this many rows, each row written by `one` from its own.
fn repeated(rows: usize, width: usize, between: &str, one: impl Fn(&[String]) -> String) -> String {
    let places: Vec<String> = (1..=rows * width).map(|place| format!("${place}")).collect();
    places.chunks(width).map(one).collect::<Vec<_>>().join(between)
}

fn bind_key(query: Statement, (server, schedule, zone): &ScheduleKey) -> Statement {
    bind_server(query, *server).bind(schedule.to_string()).bind(zone.to_string())
}

/// Binds what [`server_id`] reads.
pub(super) fn bind_server(query: Statement, server: ServerId) -> Statement {
    query.bind(server.account.key().to_owned()).bind(server.number.cast_signed())
}

/// The condition that a row is of one of this many servers, whose first parameter is the `first`.
fn any_server(servers: usize, first: usize) -> String {
    let pairs: Vec<String> =
        (0..servers).map(|nth| first + 2 * nth).map(|at| format!("(${at}, ${})", at + 1)).collect();
    format!("(account, server_id) IN (VALUES {})", pairs.join(", "))
}

/// PostgreSQL takes no text with a NUL in it.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', " ")
}

fn bind_rotation(query: Statement, it: &PastRotation) -> Statement {
    let json = |value: serde_json::Result<String>| value.unwrap_or_else(|_| "[]".to_owned());
    query
        .bind(it.ended_at.as_millisecond())
        .bind(it.server_id.account.key().to_owned())
        .bind(it.server_id.number.cast_signed())
        .bind(text(&it.server))
        .bind(it.tick.instant().as_second())
        .bind(it.outcome.as_str().to_owned())
        .bind(it.created.as_deref().map(text))
        .bind(json(serde_json::to_string(&it.deleted)))
        .bind(i64::from(it.api_calls))
        .bind(i64::try_from(it.duration_ms).unwrap_or(i64::MAX))
        .bind(json(serde_json::to_string(&it.steps)))
        .bind(it.reason.as_deref().map(text))
        .bind(it.cause.map(|cause| cause.as_str().to_owned()))
}

fn rotation(row: &AnyRow) -> Result<PastRotation, sqlx::Error> {
    let decode = |problem: serde_json::Error| sqlx::Error::Decode(Box::new(problem));
    let outcome: String = row.try_get(5)?;
    let outcome = RotationOutcome::parse(&outcome)
        .ok_or_else(|| sqlx::Error::Decode(format!("no such outcome: {outcome:?}").into()))?;
    let (deleted, steps): (String, String) = (row.try_get(7)?, row.try_get(10)?);
    let tick = Timestamp::from_second(row.try_get(4)?).map_err(unreadable)?;
    Ok(PastRotation {
        ended_at: time(row, 0)?,
        server_id: server_id(row, 1)?,
        server: row.try_get(3)?,
        tick: Tick::at(tick),
        outcome,
        created: row.try_get::<Option<String>, _>(6)?.map(masked),
        deleted: serde_json::from_str(&deleted).map_err(decode)?,
        api_calls: u32::try_from(row.try_get::<i64, _>(8)?).unwrap_or(u32::MAX),
        duration_ms: u64::try_from(row.try_get::<i64, _>(9)?).unwrap_or_default(),
        steps: serde_json::from_str(&steps).map_err(decode)?,
        reason: row.try_get::<Option<String>, _>(11)?.map(masked),
        cause: row.try_get::<Option<String>, _>(12)?.and_then(|word| KnownCause::parse(&word)),
        by: None,
    })
}

/// A text as it may be shown: what is a secret by now may not have been known as one when it was written.
pub(super) fn masked(text: String) -> String {
    ForeignText::from(text).to_string()
}

pub(super) fn time(row: &AnyRow, column: usize) -> Result<Timestamp, sqlx::Error> {
    Timestamp::from_millisecond(row.try_get(column)?).map_err(unreadable)
}

fn unreadable(problem: jiff::Error) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(problem))
}

/// A server, from its account's column and the one after it.
pub(super) fn server_id(row: &AnyRow, column: usize) -> Result<ServerId, sqlx::Error> {
    let account = Account::of_key(row.try_get(column)?)
        .ok_or_else(|| sqlx::Error::Decode("no name of an account".into()))?;
    Ok(ServerId { account, number: row.try_get::<i64, _>(column + 1)?.cast_unsigned() })
}
