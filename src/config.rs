//! TOML files in, valid settings out; or every mistake in them at once, each pointed at.
//!
//! [`includes`] finds further files, [`document`] walks the TOML, `servers`, `notify` and `sections` know its
//! tables, [`problem`] shows what is wrong, [`mod@reference`] says what each key is for, and [`types`] is what
//! the rest of the program sees.

mod document;
mod effective;
mod includes;
mod notify;
pub(crate) mod problem;
pub(crate) mod reference;
mod regions;
mod secret_files;
mod sections;
mod servers;
pub(crate) mod starting;
mod store;
pub mod types;
mod values;

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::document::{FileText, Problems, TomlDocument};
pub use crate::config::effective::{EffectiveServer, EffectiveValue, Origin};
pub use crate::config::problem::{ConfigError, Problem};
use crate::config::problem::{Draft, Severity, SourceText, Sources};
pub(crate) use crate::config::reference::schema::schema;
use crate::config::secret_files::SecretFiles;
use crate::config::types::Settings;
use crate::handed_over;
use crate::naming::Account;
use crate::paths;
use crate::provider::settings::ApiSettings;
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
    /// The files that it was read from, the main one first.
    pub files: Vec<PathBuf>,
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
    parse_files(read_files(path)?)
}

/// A configuration as it is on the disk: its texts, and the files with secrets that it names.
pub(crate) struct Files {
    /// The name and the text of each file, the main one first.
    texts: Vec<(String, String)>,
    /// What is wrong with `include`; `None`: no file was looked for.
    includes: Option<Vec<Draft>>,
    secrets: SecretFiles,
    may_name_no_server: bool,
}

/// Reads a file and those that it names, for [`parse_files`].
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_files(path: &Path) -> Result<Files, ConfigError> {
    let variable = |name: &str| std::env::var_os(name);
    let name = path.display().to_string();
    let text = main_text(&name, path)?;
    let mut includes = None;
    let mut included = Vec::new();
    let mut secrets = SecretFiles::default();
    // To parse a fleet's text twice takes a while.
    if text.contains(includes::KEY) || text.contains(secret_files::KEY) {
        let mut problems = Problems::default();
        let document = TomlDocument::parse(&text, &mut problems);
        secrets = SecretFiles::named_in(&document.root(), variable);
        let left = MAX_BYTES.saturating_sub(text.len() as u64);
        included = includes::read(path, &document.root(), left, variable, &mut problems);
        includes = Some(problems.drafts.split_off(problems.syntax_errors));
    }
    let mut texts = vec![(name, text)];
    texts.extend(included.into_iter().map(|it| (it.path.display().to_string(), it.text)));
    Ok(Files { texts, includes, secrets, may_name_no_server: false })
}

/// Reads and checks a file, and says of each server which value holds and where it comes from.
///
/// # Errors
/// As for [`read`].
pub fn read_with_origins(path: &Path) -> Result<(Loaded, Vec<EffectiveServer>), ConfigError> {
    let files = read_files(path)?;
    let texts = files.texts.clone();
    let loaded = parse_files(files)?;
    let origins = effective::of(&file_texts(&texts), &loaded.settings.servers);
    Ok((loaded, origins))
}

/// Where a file has its daemon listen, however bad the rest of it is: a daemon that runs goes on
/// with what it read when that was good.
#[must_use]
pub fn listen_in(path: &Path) -> Option<SocketAddr> {
    let text = main_text("", path).ok()?;
    let mut problems = Problems::default();
    sections::listen(&TomlDocument::parse(&text, &mut problems), &mut problems)
}

fn main_text(name: &str, path: &Path) -> Result<String, ConfigError> {
    let text = read_text(path, MAX_BYTES, |name| std::env::var_os(name));
    text.map_err(|FileError { kind, reason, hint }| {
        let hint = match kind {
            ErrorKind::NotFound => Some("name it with --config FILE or $SNAPRING_CONFIG"),
            _ => hint,
        };
        let message = format!("the configuration cannot be read: {reason}");
        ConfigError::whole_file(name, &message, hint)
    })
}

/// Why there is no text.
pub(crate) struct FileError {
    kind: ErrorKind,
    reason: String,
    hint: Option<&'static str>,
}

/// The text of a file of the configuration, or of its copy.
fn read_text(
    path: &Path,
    max_bytes: u64,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<String, FileError> {
    let opened = handed_over::open(path, variable);
    let bytes = opened.and_then(|(file, _)| regular_file::read_opened(file, max_bytes));
    let bytes = bytes.map_err(|error| match error.kind() {
        kind @ ErrorKind::PermissionDenied if is_roots_alone(path) => {
            let hint = Some("run this command as root, for example with sudo");
            FileError {
                kind,
                reason: "it may hold secrets, so only root can read it".to_owned(),
                hint,
            }
        }
        kind => FileError { kind, reason: error.to_string(), hint: None },
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
        let reason = format!("line {line} is not UTF-8");
        FileError { kind: ErrorKind::InvalidData, reason, hint: None }
    })
}

/// Whether a file is root's and no other user can read it, as the package installs it.
fn is_roots_alone(path: &Path) -> bool {
    path.metadata().is_ok_and(|it| it.uid() == 0 && it.mode() & 0o077 == 0)
}

/// Checks a text that came from the file of this name. Files that it names are not there.
///
/// # Errors
/// Every mistake in it.
pub fn parse(name: &str, text: &str) -> Result<Loaded, ConfigError> {
    parse_files(Files::of_text(name, text))
}

/// Reads and checks a file that need not name a server. `None`: there is no file, and every key has its
/// default.
///
/// # Errors
/// As for [`read`].
pub fn read_before_servers(path: Option<&Path>) -> Result<Loaded, ConfigError> {
    let files = path.map_or_else(|| Ok(Files::of_text("", "")), read_files)?;
    parse_files(Files { may_name_no_server: true, ..files })
}

/// Reads and checks a file as if it included one more, with this name and text. `None`: there is no file but
/// that.
///
/// # Errors
/// As for [`read`].
pub fn read_with(path: Option<&Path>, name: &str, text: &str) -> Result<Loaded, ConfigError> {
    let Some(path) = path else { return parse(name, text) };
    let mut files = read_files(path)?;
    files.texts.push((name.to_owned(), text.to_owned()));
    parse_files(files)
}

impl Files {
    /// A text that names no other file.
    fn of_text(name: &str, text: &str) -> Self {
        let texts = vec![(name.to_owned(), text.to_owned())];
        Self { texts, includes: None, secrets: SecretFiles::default(), may_name_no_server: false }
    }
}

/// The texts, one after the other.
fn file_texts(texts: &[(String, String)]) -> Vec<FileText<'_>> {
    let mut base = 0;
    let mut files = Vec::with_capacity(texts.len());
    for (name, text) in texts {
        files.push(FileText { name, text, base });
        // An error at the very end of a file is not in the next one.
        base += text.len() + 1;
    }
    files
}

/// Checks a configuration.
///
/// # Errors
/// Every mistake in it.
pub(crate) fn parse_files(files: Files) -> Result<Loaded, ConfigError> {
    let mut problems = Problems::with(files.secrets);
    problems.may_name_no_server = files.may_name_no_server;
    let texts = file_texts(&files.texts);
    let documents = TomlDocument::parse_all(&texts, &mut problems);
    let read = sections::read(&documents, files.includes, &mut problems);
    let read = read.map(|(settings, span)| (apart(settings), span));
    drop(documents);
    problems.forget_the_doubtful();
    let Problems { mut drafts, secrets, .. } = problems;
    let sources = Sources::new(&texts, &secrets);
    drafts.sort_by_key(|it| match it.severity {
        Severity::Error => it.span.as_ref().map_or(usize::MAX, |span| span.start),
        Severity::Warning => usize::MAX,
    });
    let (errors, warnings): (Vec<_>, Vec<_>) = drafts
        .into_iter()
        .map(|draft| sources.problem(draft))
        .partition(|problem| problem.severity() == Severity::Error);
    match read {
        Some((settings, token_file_span)) if errors.is_empty() => {
            let files = files.texts.iter().map(|(name, _)| PathBuf::from(name)).collect();
            Ok(Loaded { settings, warnings, files, source: sources.main(), token_file_span })
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

/// What is amiss with the file of an account's token. `unusable`: why there is no token in it.
#[must_use]
pub fn token_file_problem(
    loaded: &Loaded,
    api: &ApiSettings,
    unusable: Option<&str>,
) -> Option<Problem> {
    let path = api.token_file.as_ref()?;
    let of = api.account.label().map(|name| format!(" of account {name}")).unwrap_or_default();
    let (severity, message, hint) = match unusable {
        Some(reason) => (Severity::Error, reason.to_owned(), NO_TOKEN_NO_RUN.to_owned()),
        None => {
            let mode =
                regular_file::open(path).and_then(|file| file.metadata()).ok()?.permissions();
            if mode.mode() & 0o007 == 0 {
                return None;
            }
            let message = format!("others can read the token file{of}");
            (Severity::Warning, message, format!("chmod 600 {}", path.display()))
        }
    };
    let draft = problem::Draft {
        severity,
        message,
        // Only of [api] it is known where it stands.
        span: loaded.token_file_span.clone().filter(|_| api.account == Account::API),
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
