//! Manual acts in the store: their table, and how commands add to it.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::manual::{ManualAct, ManualAction, ManualOutcome, Person};
use crate::naming::SnapshotId;
use crate::store::database::{Database, Statement, masked, server_id, statement, text, time};
use crate::store::place::{Access, Place};
use crate::store::{HistoryFilter, StoreError, reading};

const COLUMNS: &str = "started_at, ended_at, account, server_id, server, action, outcome, snapshot_id, snapshot, \
                       safety_id, safety, uid, user_name, sudo_user, reason, pid";

/// A row that is there already is of the same act, and gets its end.
const UPSERT: &str = "
    INSERT INTO snapring_manual
      (started_at, ended_at, account, server_id, server, action, outcome, snapshot_id, snapshot,
       safety_id, safety, uid, user_name, sudo_user, reason, pid)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
    ON CONFLICT (started_at, account, server_id, action, pid) DO UPDATE
      SET ended_at = excluded.ended_at, outcome = excluded.outcome,
          snapshot_id = excluded.snapshot_id, snapshot = excluded.snapshot,
          safety_id = excluded.safety_id, safety = excluded.safety, reason = excluded.reason";

impl Database {
    /// Writes what people did, all or nothing.
    async fn add_manual(&mut self, acts: &[ManualAct]) -> Result<(), StoreError> {
        self.run(statement("BEGIN")).await?;
        let mut added = Ok(());
        for act in acts {
            if added.is_ok() {
                added = self.run(bind(statement(UPSERT), act)).await;
            }
        }
        self.end(added).await
    }

    /// What people did, the last act first. None where the store was made before they were recorded.
    pub(super) async fn manual(
        &mut self,
        filter: &HistoryFilter,
    ) -> Result<Vec<ManualAct>, StoreError> {
        let outcomes: Vec<&str> = filter.manual_outcomes.iter().map(|it| it.as_str()).collect();
        let from = format!("SELECT {COLUMNS} FROM snapring_manual");
        let order = "ORDER BY ended_at DESC, account, server_id, action, pid";
        match self.selected(&from, order, filter, &outcomes).await {
            Ok(rows) => {
                let read: Result<Vec<_>, _> = rows.iter().map(manual).collect();
                read.map_err(|error| self.trouble(&error))
            }
            Err(trouble) if trouble.is_empty_store() => Ok(Vec::new()),
            Err(trouble) => Err(trouble),
        }
    }
}

/// How many acts ended how, as [`read_manual`] reads.
///
/// # Errors
/// As for [`read`](super::read).
pub async fn count_manual(
    place: &Place,
    filter: &HistoryFilter,
) -> Result<Vec<(ManualOutcome, u64)>, StoreError> {
    reading(place, async |database| {
        let outcomes: Vec<&str> = filter.manual_outcomes.iter().map(|it| it.as_str()).collect();
        let counts = match database.counted("snapring_manual", filter, &outcomes).await {
            Err(trouble) if trouble.is_empty_store() => return Ok(Vec::new()),
            counts => counts?,
        };
        let count = |it: ManualOutcome| Some((it, *counts.get(it.as_str())?));
        Ok(ManualOutcome::ALL.into_iter().filter_map(count).collect())
    })
    .await
}

/// Adds what people did to what a daemon keeps, as [`add`](super::add) adds rotations. An act that cannot be
/// written is an error, unless there is no history at all by the configuration.
///
/// # Errors
/// When it cannot be written.
pub async fn add_manual(place: &Place, acts: &[ManualAct]) -> Result<(), StoreError> {
    let add = async |access| {
        let mut database = Database::open(place, access).await?;
        let added = database.add_manual(acts).await;
        database.close().await;
        added
    };
    if *place == Place::Memory {
        return Ok(());
    }
    let added = if place.may_be_there() { Some(add(Access::Add).await) } else { None };
    match added {
        Some(Err(trouble)) if trouble.lacks_tables() => {}
        Some(added) => return added,
        None => {}
    }
    if place.may_be_begun() {
        return add(Access::Write).await;
    }
    // A file that this user made could not be written by the service.
    Err(StoreError::passing(
        "the service has not prepared it for manual acts yet; start the service, or restart it after an upgrade",
    ))
}

/// What people did, the last act first, as [`read`](super::read) reads.
///
/// # Errors
/// As for [`read`](super::read).
pub async fn read_manual(
    place: &Place,
    filter: &HistoryFilter,
) -> Result<Vec<ManualAct>, StoreError> {
    reading(place, async |database| database.manual(filter).await).await
}

fn bind(query: Statement, act: &ManualAct) -> Statement {
    let id = |id: Option<SnapshotId>| id.map(|id| id.0.cast_signed());
    let ManualAct { snapshot, safety, by, reason, .. } = act;
    query
        .bind(act.started_at.as_millisecond())
        .bind(act.ended_at.as_millisecond())
        .bind(act.server_id.account.key().to_owned())
        .bind(act.server_id.number.cast_signed())
        .bind(text(&act.server))
        .bind(act.action.as_str().to_owned())
        .bind(act.outcome.as_str().to_owned())
        .bind(id(act.snapshot_id))
        .bind(snapshot.as_deref().map(text))
        .bind(id(act.safety_id))
        .bind(safety.as_deref().map(text))
        .bind(i64::from(by.uid))
        .bind(by.user.as_deref().map(text))
        .bind(by.sudo_user.as_deref().map(text))
        .bind(reason.as_deref().map(text))
        .bind(i64::from(act.pid))
}

fn manual(row: &AnyRow) -> Result<ManualAct, sqlx::Error> {
    let unknown =
        |what: &str, word: &str| sqlx::Error::Decode(format!("no such {what}: {word:?}").into());
    let (action, outcome): (String, String) = (row.try_get(5)?, row.try_get(6)?);
    let id = |column: usize| -> Result<Option<SnapshotId>, sqlx::Error> {
        let id: Option<i64> = row.try_get(column)?;
        Ok(id.map(|id| SnapshotId(id.cast_unsigned())))
    };
    let number = |column: usize| -> Result<u32, sqlx::Error> {
        Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(u32::MAX))
    };
    let at = |column: usize| -> Result<Timestamp, sqlx::Error> { time(row, column) };
    Ok(ManualAct {
        started_at: at(0)?,
        ended_at: at(1)?,
        server_id: server_id(row, 2)?,
        server: row.try_get(4)?,
        action: ManualAction::parse(&action).ok_or_else(|| unknown("action", &action))?,
        outcome: ManualOutcome::parse(&outcome).ok_or_else(|| unknown("outcome", &outcome))?,
        snapshot_id: id(7)?,
        snapshot: row.try_get::<Option<String>, _>(8)?.map(masked),
        safety_id: id(9)?,
        safety: row.try_get::<Option<String>, _>(10)?.map(masked),
        by: Person { uid: number(11)?, user: row.try_get(12)?, sudo_user: row.try_get(13)? },
        reason: row.try_get::<Option<String>, _>(14)?.map(masked),
        pid: number(15)?,
    })
}
