//! One TOML file in, valid settings out; or every mistake in it at once, each pointed at.
//!
//! [`document`] walks the TOML, `servers`, `notify` and `sections` know its tables, [`problem`] shows
//! what is wrong, [`mod@reference`] says what each key is for, and [`types`] is what the rest of the
//! program sees.

mod document;
mod notify;
pub(crate) mod problem;
pub(crate) mod reference;
mod regions;
mod secret_files;
mod sections;
mod servers;
mod store;
pub mod types;
mod values;

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::document::{Problems, TomlDocument};
pub use crate::config::problem::{ConfigError, Problem};
use crate::config::problem::{Severity, SourceText};
use crate::config::secret_files::SecretFiles;
use crate::config::types::Settings;
use crate::handed_over;
use crate::paths;
use crate::regular_file;
use crate::server::Server;
use crate::store::place::Place;

/// Larger than the configuration of any fleet.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A good configuration.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What a person should know about it.
    pub warnings: Vec<Problem>,
    source: Arc<SourceText>,
    token_file_span: Option<std::ops::Range<usize>>,
}

/// Which file: `--config FILE`, else `$SNAPRING_CONFIG`, else [`paths::CONFIGURATION`].
#[must_use]
pub fn locate(flag: Option<&Path>, variable: Option<&OsStr>) -> PathBuf {
    let from_variable = variable.filter(|value| !value.is_empty()).map(Path::new);
    flag.or(from_variable).unwrap_or(Path::new(paths::CONFIGURATION)).to_path_buf()
}

/// Reads and checks a file.
///
/// # Errors
/// Every mistake in it, or why it cannot be read.
pub fn read(path: &Path) -> Result<Loaded, ConfigError> {
    parse_file(path, read_files(path)?)
}

/// A configuration as it is on the disk: its text, and the files with secrets that it names.
pub(crate) struct Files {
    text: String,
    secrets: SecretFiles,
}

/// Reads a file and those that it names, for [`parse_file`].
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_files(path: &Path) -> Result<Files, ConfigError> {
    let text = text(&path.display().to_string(), path)?;
    let secrets = SecretFiles::named_in(&text, |name| std::env::var_os(name));
    Ok(Files { text, secrets })
}

/// Checks a configuration.
///
/// # Errors
/// Every mistake in it.
pub(crate) fn parse_file(path: &Path, files: Files) -> Result<Loaded, ConfigError> {
    parse_with(&path.display().to_string(), &files.text, files.secrets)
}

/// Where a file has its daemon listen, however bad the rest of it is: a daemon that runs goes on
/// with what it read when that was good.
#[must_use]
pub fn listen_in(path: &Path) -> Option<SocketAddr> {
    let text = text("", path).ok()?;
    let mut problems = Problems::default();
    sections::listen(&TomlDocument::parse(&text, &mut problems), &mut problems)
}

fn text(name: &str, path: &Path) -> Result<String, ConfigError> {
    let unreadable = |reason: &str, hint: Option<&str>| {
        ConfigError::whole_file(name, &format!("the configuration cannot be read: {reason}"), hint)
    };
    let variable = |name: &str| std::env::var_os(name);
    let opened = handed_over::open(path, variable);
    let bytes = opened.and_then(|(file, _)| regular_file::read_opened(file, MAX_BYTES));
    let bytes = bytes.map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let hint = "name it with --config FILE or $SNAPRING_CONFIG";
            unreadable(&error.to_string(), Some(hint))
        }
        ErrorKind::PermissionDenied if is_roots_alone(path) => {
            let hint = "run this command as root, for example with sudo";
            unreadable("it may hold secrets, so only root can read it", Some(hint))
        }
        _ => unreadable(&error.to_string(), None),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
        unreadable(&format!("line {line} is not UTF-8"), None)
    })
}

/// Whether a file is root's and nobody else can read it, as the package installs it.
fn is_roots_alone(path: &Path) -> bool {
    path.metadata().is_ok_and(|it| it.uid() == 0 && it.mode() & 0o077 == 0)
}

/// Checks a text that came from the file of this name. Files that it names are not there.
///
/// # Errors
/// Every mistake in it.
pub fn parse(name: &str, text: &str) -> Result<Loaded, ConfigError> {
    parse_with(name, text, SecretFiles::default())
}

fn parse_with(name: &str, text: &str, files: SecretFiles) -> Result<Loaded, ConfigError> {
    let mut problems = Problems::with(files);
    let document = TomlDocument::parse(text, &mut problems);
    let read = sections::read(&document, &mut problems);
    let read = read.map(|(settings, span)| (apart(settings), span));
    drop(document);
    problems.forget_the_doubtful();
    let Problems { drafts, secrets, .. } = problems;
    let source = Arc::new(SourceText::new(name, text, &secrets));
    let (errors, warnings): (Vec<_>, Vec<_>) = drafts
        .into_iter()
        .map(|draft| Problem::new(draft, Arc::clone(&source)))
        .partition(|problem| problem.severity() == Severity::Error);
    match read {
        Some((settings, token_file_span)) if errors.is_empty() => {
            Ok(Loaded { settings, warnings, source, token_file_span })
        }
        _ => Err(ConfigError::new(errors, warnings)),
    }
}

/// The same with servers that lie together in memory. As they were read they lie among the parts of
/// the document; with holes in their place, none of its memory could be given back.
fn apart(settings: Settings) -> Settings {
    let copy = |server: &Arc<Server>| Arc::new(Server::clone(server));
    let servers = settings.servers.iter().map(copy).collect();
    Settings { servers, ..settings }
}

/// What is amiss with the token's file. `unusable`: why there is no token in it.
#[must_use]
pub fn token_file_problem(loaded: &Loaded, unusable: Option<&str>) -> Option<Problem> {
    let path = loaded.settings.api.token_file.as_ref()?;
    let (severity, message, hint) = match unusable {
        Some(reason) => (Severity::Error, reason.to_owned(), NO_TOKEN_NO_RUN.to_owned()),
        None => {
            let mode =
                regular_file::open(path).and_then(|file| file.metadata()).ok()?.permissions();
            if mode.mode() & 0o007 == 0 {
                return None;
            }
            let message = "others can read the token file".to_owned();
            (Severity::Warning, message, format!("chmod 600 {}", path.display()))
        }
    };
    let draft = problem::Draft {
        severity,
        message,
        span: loaded.token_file_span.clone(),
        label: String::new(),
        hint: Some(hint),
    };
    Some(Problem::new(draft, Arc::clone(&loaded.source)))
}

/// Whether others can read the secrets in the configuration's file.
#[must_use]
pub fn secrets_warning(path: &Path, loaded: &Loaded) -> Option<Problem> {
    let Settings { notify, store, .. } = &loaded.settings;
    let in_files = &loaded.settings.secrets_in_files;
    let password = matches!(store, Some(Place::Server(address)) if address.has_password());
    let password = password && !in_files.store;
    let secrets = match (notify.len() <= in_files.webhooks, password) {
        (true, false) => return None,
        (false, false) => "addresses of webhooks",
        (true, true) => "the password of a database",
        (false, true) => "addresses of webhooks and the password of a database",
    };
    let metadata = regular_file::open(path).and_then(|file| file.metadata()).ok()?;
    if metadata.permissions().mode() & 0o007 == 0 {
        return None;
    }
    let message = format!("others can read this file, and it holds secrets: {secrets}");
    let hint = format!(
        "chmod 600 {}; the packaged service gets a copy of it (\"Secrets in the configuration\" in \
         SECURITY.md)",
        path.display()
    );
    let severity = Severity::Warning;
    let draft =
        problem::Draft { severity, message, span: None, label: String::new(), hint: Some(hint) };
    Some(Problem::new(draft, Arc::clone(&loaded.source)))
}

/// What follows from a token that cannot be used.
pub const NO_TOKEN_NO_RUN: &str = "`snapring run` does not start without a token";

#[cfg(test)]
mod tests;
