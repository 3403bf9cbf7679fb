//! Who ran rotations by hand: beside the rotations, in a table of its own, so that a daemon of an older version can
//! go on with the others.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::manual::Person;
use crate::naming::ServerId;
use crate::report::PastRotation;
use crate::store::StoreError;
use crate::store::database::{Database, statement, text};

const INSERT: &str = "
    INSERT INTO snapring_by (ended_at, server, uid, user_name, sudo_user) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING";

const SELECT: &str = "
    SELECT ended_at, server, uid, user_name, sudo_user FROM snapring_by
    WHERE ended_at >= $1 AND ended_at <= $2";

/// Which rotation.
type Key = (i64, String);

fn key(ended_at: Timestamp, server: ServerId) -> Key {
    let number = server.number;
    let server = match server.account.label() {
        None => number.to_string(),
        Some(account) => format!("{account}/{number}"),
    };
    (ended_at.as_millisecond(), server)
}

impl Database {
    /// Writes who ran these, all or nothing. Nothing where the daemon is of an older version.
    pub(super) async fn add_by(&mut self, rotations: &[PastRotation]) -> Result<(), StoreError> {
        let by_hand = rotations.iter().filter_map(|it| Some((it, it.by.as_ref()?)));
        let by_hand: Vec<_> = by_hand.collect();
        if by_hand.is_empty() {
            return Ok(());
        }
        self.run(statement("BEGIN")).await?;
        let mut added = Ok(());
        for (rotation, by) in by_hand {
            let (ended_at, server) = key(rotation.ended_at, rotation.server_id);
            let insert = statement(INSERT)
                .bind(ended_at)
                .bind(server)
                .bind(i64::from(by.uid))
                .bind(by.user.as_deref().map(text))
                .bind(by.sudo_user.as_deref().map(text));
            if added.is_ok() {
                added = self.run(insert).await;
            }
        }
        match self.end(added).await {
            Err(trouble) if trouble.is_empty_store() => Ok(()),
            added => added,
        }
    }

    /// Says of rotations who ran them.
    pub(super) async fn name_who_ran(
        &mut self,
        rotations: &mut [PastRotation],
    ) -> Result<(), StoreError> {
        let ends = || rotations.iter().map(|it| it.ended_at.as_millisecond());
        let (Some(first), Some(last)) = (ends().min(), ends().max()) else { return Ok(()) };
        let rows = match self.rows(statement(SELECT).bind(first).bind(last)).await {
            Err(trouble) if trouble.is_empty_store() => return Ok(()),
            rows => rows?,
        };
        let read: Result<HashMap<Key, Person>, sqlx::Error> = rows.iter().map(person).collect();
        let mut people = read.map_err(|error| self.trouble(&error))?;
        for rotation in rotations {
            rotation.by = people.remove(&key(rotation.ended_at, rotation.server_id));
        }
        Ok(())
    }
}

fn person(row: &AnyRow) -> Result<(Key, Person), sqlx::Error> {
    let uid = u32::try_from(row.try_get::<i64, _>(2)?).unwrap_or(u32::MAX);
    let by = Person { uid, user: row.try_get(3)?, sudo_user: row.try_get(4)? };
    Ok(((row.try_get(0)?, row.try_get(1)?), by))
}
