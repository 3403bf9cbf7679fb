//! What can be wrong with a store, as far as it matters to what is done next.

use std::fmt;

use sqlx::migrate::MigrateError;

use crate::foreign::ForeignText;
use crate::store::place::Place;

/// Why something could not be read or written. Its words hold no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError {
    pub(super) kind: ErrorKind,
    words: String,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// The file is damaged, or no database at all.
    Corrupt,
    /// There is a database, and it does not hold what snapring keeps.
    Empty,
    /// The tables lack what this version of snapring keeps.
    Older,
    /// The database does not take these very values, and will not take them another time.
    Refused,
    /// Anything that may pass: locked, full, read-only, away.
    Passing,
}

impl StoreError {
    /// One that may pass.
    #[must_use]
    pub fn passing(words: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Passing, words: words.into() }
    }

    pub(super) fn of(error: &sqlx::Error, place: &Place) -> Self {
        // An error of sqlx's own says of the database's nothing but what that says itself.
        let told = match error {
            sqlx::Error::Database(cause) => cause.message().to_owned(),
            sqlx::Error::Io(cause) => cause.to_string(),
            other => other.to_string(),
        };
        let mut words = ForeignText::from(place.redact(&told)).to_string();
        if matches!(error, sqlx::Error::Tls(_)) {
            words.push_str(
                ". Unless the server is on this machine, it must have a certificate that this machine \
                 trusts: add its authority (`sslrootcert=/path`) or another `sslmode` to `url` in \
                 [store]",
            );
        }
        let kind = kind(error, place);
        if kind == ErrorKind::Older {
            words = "it was written by an older version of snapring. The daemon converts it when it starts, and so \
                     does `snapring rotate` if there is no service"
                .to_owned();
        }
        Self { kind, words }
    }

    pub(super) fn of_migration(error: &MigrateError, place: &Place) -> Self {
        match error {
            MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
                Self::of(cause, place)
            }
            MigrateError::VersionMissing(_) => {
                Self::passing("it was created by a newer version of snapring and is left unchanged")
            }
            other => Self::passing(ForeignText::from(place.redact(&other.to_string())).to_string()),
        }
    }
}

fn kind(error: &sqlx::Error, place: &Place) -> ErrorKind {
    let sqlx::Error::Database(cause) = error else { return ErrorKind::Passing };
    let code = cause.code().unwrap_or_default();
    if matches!(place, Place::Server(_)) {
        return match code.get(..2) {
            // Values that cannot be represented, constraints.
            Some("22" | "23") => ErrorKind::Refused,
            // No such table; no such column.
            _ if code == "42P01" => ErrorKind::Empty,
            _ if code == "42703" => ErrorKind::Older,
            _ => ErrorKind::Passing,
        };
    }
    // SQLite's extended codes carry the plain one in their lowest byte.
    match code.parse::<i64>().map(|code| code & 0xff) {
        Ok(CORRUPT | NO_DATABASE) => ErrorKind::Corrupt,
        Ok(TOO_BIG | CONSTRAINT | MISMATCH) => ErrorKind::Refused,
        Ok(ERROR) if cause.message().contains("no such table") => ErrorKind::Empty,
        Ok(ERROR) if OLDER.iter().any(|words| cause.message().contains(words)) => ErrorKind::Older,
        _ => ErrorKind::Passing,
    }
}

/// How SQLite says that a column is not there.
const OLDER: [&str; 2] = ["no such column", "has no column named"];

const ERROR: i64 = 1;
const CORRUPT: i64 = 11;
const TOO_BIG: i64 = 18;
const CONSTRAINT: i64 = 19;
const MISMATCH: i64 = 20;
const NO_DATABASE: i64 = 26;

impl fmt::Display for StoreError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.words)
    }
}

impl std::error::Error for StoreError {}
