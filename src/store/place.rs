//! Where the store is. The address of a database server may hold a password: nothing here shows it.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use secrecy::{ExposeSecret, SecretString};
use url::{Url, form_urlencoded};

use crate::foreign;
use crate::paths::{SERVICE_DIRECTORY, state_directory};

/// What the file is called in a state directory.
const FILE_NAME: &str = "snapring.db";

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In memory, as long as the process lives.
    Memory,
    /// A file of SQLite's.
    File(PathBuf),
    /// A PostgreSQL server.
    Server(Address),
}

/// The address of a PostgreSQL database. Neither `Debug` nor `Display` shows user, password or
/// parameters.
#[derive(Clone)]
pub struct Address {
    whole: SecretString,
    shown: String,
    password: Option<SecretString>,
}

impl Place {
    /// Where a daemon keeps it: where the configuration says, else in systemd's state directory, else
    /// in memory.
    #[must_use]
    pub fn of_daemon(
        configured: Option<&Self>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let default = || state_directory(variable).map(|state| Self::File(state.join(FILE_NAME)));
        configured.cloned().or_else(default).unwrap_or(Self::Memory)
    }

    /// Where a person's command looks for what the daemon kept: as for a daemon, but without a state
    /// directory of its own it is the service's, if there is one.
    #[must_use]
    pub fn of_command(
        configured: Option<&Self>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        Self::of_command_beside(Path::new(SERVICE_DIRECTORY), configured, variable)
    }

    fn of_command_beside(
        service: &Path,
        configured: Option<&Self>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        match Self::of_daemon(configured, variable) {
            // With DynamicUser= it is a link that other users cannot follow; it is there all the same.
            Self::Memory if configured.is_none() && service.symlink_metadata().is_ok() => {
                Self::File(service.join(FILE_NAME))
            }
            place => place,
        }
    }

    /// Whether there may be something, as far as one can tell without connecting.
    #[must_use]
    pub fn may_be_there(&self) -> bool {
        match self {
            Self::Memory => false,
            Self::File(path) => path.exists(),
            Self::Server(_) => true,
        }
    }

    /// Whether a command may begin it beside a daemon, or for one that will come. A file belongs to whoever
    /// makes it: only in a directory of its own user.
    pub(crate) fn may_be_begun(&self) -> bool {
        match self {
            Self::Memory => false,
            Self::File(path) => {
                let directory = path.parent().and_then(|directory| directory.metadata().ok());
                directory.is_some_and(|it| it.uid() == geteuid().as_raw())
            }
            Self::Server(_) => true,
        }
    }

    /// What may be shown of an error: not the address, should a library tell it again.
    pub(crate) fn redact(&self, words: &str) -> String {
        let Self::Server(address) = self else { return words.to_owned() };
        let mut words = words.replace(address.whole.expose_secret(), &address.shown);
        if let Some(password) = &address.password {
            words = words.replace(password.expose_secret(), "***");
        }
        words
    }

    /// As sqlx takes it.
    pub(crate) fn to_url(&self, access: Access) -> Option<SecretString> {
        match self {
            Self::Memory => Some("sqlite::memory:".into()),
            Self::Server(address) => Some(address.whole.clone()),
            Self::File(path) => {
                let path = Url::from_file_path(path).ok()?;
                let mode = match access {
                    Access::Write => "mode=rwc",
                    Access::Add => "mode=rw",
                    Access::Read => "mode=ro",
                    Access::ReadAtRest => "mode=ro&immutable=true",
                };
                Some(format!("sqlite://{}?{mode}", path.path()).into())
            }
        }
    }
}

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Written, and made if it is not there.
    Write,
    /// Added to, where it is there.
    Add,
    /// Read, beside whoever writes it.
    Read,
    /// Read, while nobody has it open: SQLite then makes no files beside it, which another user
    /// could not write afterwards.
    ReadAtRest,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => out.write_str("memory"),
            Self::File(path) => write!(out, "{}", path.display()),
            Self::Server(address) => out.write_str(&address.shown),
        }
    }
}

impl Address {
    /// Of a `postgres://` URL; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return None;
        }
        // What it says of TLS, and the like, must be understood too.
        text.parse::<sqlx::postgres::PgConnectOptions>().ok()?;
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let given = url.query_pairs().find(|(name, _)| name == "password");
        let password = url.password().map(str::to_owned);
        let password = given.map(|(_, value)| value.into_owned()).or(password);
        foreign::mask(text, "[database]");
        for secret in password.iter().flat_map(|it| [it.clone(), decoded(it)]) {
            foreign::mask(&secret, "[password]");
        }
        Some(Self {
            whole: text.to_owned().into(),
            shown: format!("postgres://{host}{port}{}", url.path()),
            password: password.filter(|it| !it.is_empty()).map(SecretString::from),
        })
    }
}

/// Without the percent signs that stand for other characters.
fn decoded(text: &str) -> String {
    let query = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
    form_urlencoded::parse(query.as_bytes()).map(|(_, value)| value.into_owned()).collect()
}

impl fmt::Debug for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Address({})", self.shown)
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.whole.expose_secret() == other.whole.expose_secret()
    }
}

impl Eq for Address {}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_state(name: &str) -> Option<OsString> {
        (name == "STATE_DIRECTORY").then(|| "/var/lib/one:/var/lib/two".into())
    }

    #[test]
    fn a_daemon_keeps_it_where_it_is_told_or_in_its_state_directory_or_in_memory() {
        let told = Place::File("/srv/history.db".into());
        assert_eq!(Place::of_daemon(Some(&told), in_state), told);
        assert_eq!(
            Place::of_daemon(None, in_state),
            Place::File("/var/lib/one/snapring.db".into())
        );
        assert_eq!(Place::of_daemon(None, |_| None), Place::Memory);
    }

    #[test]
    fn a_persons_command_finds_the_services_file_and_nothing_where_there_is_no_service() {
        let directory = tempfile::tempdir().unwrap();
        let find = |configured| Place::of_command_beside(directory.path(), configured, |_| None);
        assert_eq!(find(None), Place::File(directory.path().join("snapring.db")));
        assert_eq!(find(Some(&Place::Memory)), Place::Memory);
        let nowhere = directory.path().join("none");
        assert_eq!(Place::of_command_beside(&nowhere, None, |_| None), Place::Memory);
    }

    #[test]
    fn neither_user_nor_password_nor_parameters_of_an_address_are_ever_shown() {
        let text = "postgres://anna:s3cr%20et@db.example:5433/rings?sslmode=require";
        let place = Place::Server(Address::parse(text).unwrap());
        assert_eq!(place.to_string(), "postgres://db.example:5433/rings");
        let again = format!("cannot reach {text}: bad password s3cr%20et");
        for shown in [place.to_string(), format!("{place:?}"), place.redact(&again)] {
            for secret in ["anna", "s3cr", "require"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
        let given = "postgres:///rings?host=/run/postgresql&password=s3cret";
        let place = Place::Server(Address::parse(given).unwrap());
        assert!(!format!("{place:?} {}", place.redact("no s3cret")).contains("s3cret"));
    }

    #[test]
    fn a_file_may_be_called_anything() {
        let place = Place::File("/srv/a b?c#d%20.db".into());
        let url = place.to_url(Access::Read).unwrap();
        assert_eq!(url.expose_secret(), "sqlite:///srv/a%20b%3Fc%23d%2520.db?mode=ro");
    }
}
