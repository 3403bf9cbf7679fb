//! Where the store is. The address of a database server may hold a password: nothing here shows it.

use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access, geteuid};
use secrecy::{ExposeSecret, SecretString};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::foreign;
use crate::paths::{SERVICE_DIRECTORY, state_directory};
use crate::regular_file;
use crate::store::quarantine::was_a_database;

/// What the file is called in a state directory.
const FILE_NAME: &str = "snapring.db";

/// A larger file is none with passwords.
const MAX_PASSWORD_FILE: u64 = 1 << 20;

/// A password of fewer characters may be part of an ordinary word.
const WORD: usize = 6;

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
    /// Whether it says the password itself.
    has_password: bool,
    /// Each form of the password that connects, the longest first.
    passwords: Vec<SecretString>,
}

/// Why a text is no address that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// It is none of PostgreSQL.
    #[error("it is not the address of a PostgreSQL database")]
    NotAnAddress,
    /// The file that would have the password.
    #[error("{path} cannot be used: {reason}")]
    PasswordFile {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
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

    /// Whether it is a file that surely does not exist. One in a directory that cannot be searched may.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::File(path) if path.try_exists().is_ok_and(|exists| !exists))
    }

    /// Whether a command may create it for a daemon that starts later. The file belongs to the command's user, so
    /// only in a directory of that user.
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

    /// Why what is at its path by now is no file that a history can be kept in; `None` as well where nothing is there.
    #[must_use]
    pub(crate) fn obstacle(&self) -> Option<String> {
        let Self::File(path) = self else { return None };
        let file = match regular_file::open(path) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                return Some(error.to_string());
            }
            Err(_) => return None,
            Ok(file) => file.metadata().ok()?,
        };
        if file.len() > 0 && !was_a_database(path) {
            return Some("it is not a database of SQLite".to_owned());
        }
        let is_closed =
            file.mode() & 0o222 == 0 || access(path, AccessFlags::W_OK) == Err(Errno::EROFS);
        is_closed.then(|| "it is read-only".to_owned())
    }

    /// What may be shown of an error: not the address, should a library tell it again.
    pub(crate) fn redact(&self, words: &str) -> String {
        let Self::Server(address) = self else { return words.to_owned() };
        let words = words.replace(address.whole.expose_secret(), &address.shown);
        let passwords = address.passwords.iter().map(ExposeSecret::expose_secret);
        passwords.fold(words, |words, password| without(&words, password))
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
    /// Read, while another process may write it.
    Read,
    /// Read, while no process has it open: SQLite then makes no files beside it, which another user
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
    /// Of a `postgres://` URL.
    ///
    /// # Errors
    /// When it is none, or the file that would have its password is no such file.
    pub fn parse(text: &str) -> Result<Self, NoAddress> {
        let mut url = Url::parse(text).map_err(|_| NoAddress::NotAnAddress)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(NoAddress::NotAnAddress);
        }
        let given = url.query_pairs().find(|(name, _)| name == "password");
        let given = given.map(|(_, value)| value.into_owned());
        let given = given.or_else(|| url.password().map(str::to_owned));
        if given.is_none() && std::env::var_os("PGPASSWORD").is_none() {
            check_password_files()?;
        }
        // What it says of TLS, and the like, must be understood too.
        let options: PgConnectOptions = text.parse().map_err(|_| NoAddress::NotAnAddress)?;
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let shown = format!("postgres://{host}{port}{}", url.path());
        foreign::mask(text, "[database]");
        if is_elsewhere(&options) && !says_how_to_encrypt(&url) {
            url.query_pairs_mut().append_pair("sslmode", "verify-full");
            foreign::mask(url.as_str(), "[database]");
        }
        let effective = effective_password(&options);
        let all = given.iter().chain(&effective).flat_map(|it| [it.clone(), foreign::decoded(it)]);
        let mut passwords: Vec<String> = all.filter(|it| !it.is_empty()).collect();
        passwords.sort_by_key(|it| std::cmp::Reverse(it.len()));
        passwords.dedup();
        passwords.iter().for_each(|secret| foreign::mask(secret, "[password]"));
        Ok(Self {
            shown,
            whole: String::from(url).into(),
            has_password: given.is_some(),
            passwords: passwords.into_iter().map(SecretString::from).collect(),
        })
    }
}

/// The password that connects, which may be the environment's or of a file; encoded as in an address.
fn effective_password(options: &PgConnectOptions) -> Option<String> {
    // Other names and hosts than these may not fit an address, and nothing else has the password.
    let options = options.clone().host("host").username("user");
    options.to_url_lossy().password().map(str::to_owned)
}

/// The library that reads them would wait for a pipe, and read a device for ever.
fn check_password_files() -> Result<(), NoAddress> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let default = std::env::home_dir().map(|home| home.join(".pgpass"));
    for path in [named, default].into_iter().flatten() {
        let reason = match regular_file::read(&path, MAX_PASSWORD_FILE) {
            Err(error)
                if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::FileTooLarge) =>
            {
                error.to_string()
            }
            // One that is missing or closed is passed over, as by psql.
            _ => continue,
        };
        return Err(NoAddress::PasswordFile { path, reason });
    }
    Ok(())
}

/// A text without a password. A short one is taken out only where it is a word: within others it is chance, and the text
/// could not be read any more.
fn without(text: &str, password: &str) -> String {
    let is_part_of_a_word = |it: Option<char>| it.is_some_and(char::is_alphanumeric);
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(password) {
        let is_within = password.chars().count() < WORD
            && (is_part_of_a_word(before.chars().next_back().or(shown.chars().next_back()))
                || is_part_of_a_word(after.chars().next()));
        shown.push_str(before);
        shown.push_str(if is_within { password } else { "***" });
        rest = after;
    }
    shown + rest
}

/// Whether a password and the history would cross a network.
fn is_elsewhere(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host.parse::<IpAddr>().map_or(host == "localhost", |it| it.is_loopback());
    let is_socket = options.get_socket().is_some() || host.starts_with('/');
    !is_loopback && !is_socket
}

/// Whether the address, or the environment as psql reads it, says how the connection is encrypted.
fn says_how_to_encrypt(url: &Url) -> bool {
    url.query_pairs().any(|(name, _)| matches!(&*name, "sslmode" | "ssl-mode"))
        || std::env::var_os("PGSSLMODE").is_some()
}

impl Address {
    /// Whether a password is in it.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.has_password
    }
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
    use rstest::rstest;

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

    #[rstest]
    #[case(
        "pw",
        "password \"pw\" of pwned pw: no upward-pw",
        "password \"***\" of pwned ***: no upward-***"
    )]
    #[case("s%20t", "no 's t', s%20t", "no '***', ***")]
    #[case("longer-one", "xlonger-onex", "x***x")]
    fn a_short_password_is_taken_out_where_it_is_a_word(
        #[case] password: &str,
        #[case] said: &str,
        #[case] shown: &str,
    ) {
        let url = format!("postgres://anna:{password}@localhost/rings");
        assert_eq!(Place::Server(Address::parse(&url).unwrap()).redact(said), shown);
    }

    #[rstest]
    #[case("postgres://anna:pw@db.example/rings", true)]
    #[case("postgres://anna@192.0.2.7:5433/rings?application_name=x", true)]
    #[case("postgres://127.0.0.1.evil.example/rings", true)]
    #[case("postgres://anna:pw@db.example/rings?sslmode=disable", false)]
    #[case("postgres://anna:pw@db.example/rings?ssl-mode=prefer", false)]
    #[case("postgres://anna:pw@localhost/rings", false)]
    #[case("postgres://anna:pw@127.0.0.2/rings", false)]
    #[case("postgres://anna:pw@[::1]/rings", false)]
    #[case("postgres:///rings?host=/run/postgresql", false)]
    fn a_server_elsewhere_is_verified_unless_the_address_says_otherwise(
        #[case] text: &str,
        #[case] is_verified: bool,
    ) {
        let url = Place::Server(Address::parse(text).unwrap()).to_url(Access::Write).unwrap();
        let options: PgConnectOptions = url.expose_secret().parse().unwrap();
        let mode = format!("{:?}", options.get_ssl_mode());
        assert_eq!(mode == "VerifyFull", is_verified, "{mode}");
        assert_eq!(url.expose_secret() == text, !is_verified);
    }

    #[test]
    fn a_file_may_be_called_anything() {
        let place = Place::File("/srv/a b?c#d%20.db".into());
        let url = place.to_url(Access::Read).unwrap();
        assert_eq!(url.expose_secret(), "sqlite:///srv/a%20b%3Fc%23d%2520.db?mode=ro");
    }
}
