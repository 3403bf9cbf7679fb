//! `url_file`: an address that is a secret, in a file of its own.
//!
//! The files are read before the text is checked, away from the runtime's threads: a file system can hang.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::document::{Parsed, Problems, Table};
use crate::config::types::SecretsInFiles;
use crate::foreign::is_shown;
use crate::handed_over::{self, Origin};
use crate::regular_file;

/// The key.
pub(crate) const KEY: &str = "url_file";

/// No address is longer.
const MAX_BYTES: u64 = 4096;

/// What such a file holds, or why it cannot be used.
type Found = Result<SecretFile, String>;

/// What is in one of them. `Debug` does not show it.
#[derive(Clone)]
struct SecretFile {
    text: String,
    /// Whether others can read it.
    is_open: bool,
}

/// The files that a configuration names, read once. A clone of none of them is shown.
#[derive(Clone, Default)]
pub(crate) struct SecretFiles(BTreeMap<PathBuf, Found>);

impl SecretFiles {
    /// Reads all that a document names.
    pub(crate) fn named_in(
        root: &Table<'_, '_>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let paths = paths(root);
        Self(paths.into_iter().map(|path| (path.clone(), read(&path, &variable))).collect())
    }
}

/// The absolute paths in `[store]` and each `[[notify]]`.
fn paths(root: &Table<'_, '_>) -> Vec<PathBuf> {
    let mut tables = Vec::new();
    for section in ["store", "notify"] {
        match root.get(section).map(|it| it.get_ref()) {
            Some(DeValue::Table(table)) => tables.push(table),
            Some(DeValue::Array(items)) => {
                tables.extend(items.iter().filter_map(|item| item.get_ref().as_table()));
            }
            _ => {}
        }
    }
    let path = |table: &&DeTable<'_>| table.get(KEY)?.get_ref().as_str().map(PathBuf::from);
    tables.iter().filter_map(path).filter(|path| path.is_absolute()).collect()
}

fn read(path: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Found {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let (file, origin) = handed_over::open(path, variable).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let bytes = regular_file::read_opened(file, MAX_BYTES).map_err(unreadable)?;
    // The standard library's error would show the bytes.
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let text = text.trim();
    match text {
        "" => Err("is empty".to_owned()),
        _ if text.contains(char::is_whitespace) => {
            Err("holds more than one word; it must hold only the address".to_owned())
        }
        _ => Ok(SecretFile {
            text: text.to_owned(),
            is_open: origin == Origin::Itself && mode & 0o007 != 0,
        }),
    }
}

/// What `url` or `url_file` of a table says, with the place that names it. The text is a secret either way.
pub(crate) fn url_or_file(table: &Table<'_, '_>, problems: &mut Problems) -> Parsed<String> {
    given(table, problems).and_then(|text, span| {
        let is_good = text.chars().all(is_shown);
        if !is_good {
            let hint = "write it again: it may be cut, or of another encoding";
            let message = "the address holds a character that cannot be shown";
            problems.error(span, message, "", Some(hint.to_owned()));
        }
        is_good.then_some(text)
    })
}

fn given(table: &Table<'_, '_>, problems: &mut Problems) -> Parsed<String> {
    if let Some(value) = table.get("url") {
        problems.secrets.push(value.span());
    }
    let url = table.string("url", problems);
    let path = match table.string(KEY, problems) {
        Parsed::Absent => return url.and_then(|text, _| Some(text.to_owned())),
        Parsed::Mistaken => return Parsed::Mistaken,
        Parsed::Good(path, span) => (path, span),
    };
    let (path, span) = path;
    if !matches!(url, Parsed::Absent) {
        let hint = "remove one of them";
        let message = "both `url` and `url_file` are set";
        problems.error(span, message, "", Some(hint.to_owned()));
        return Parsed::Mistaken;
    }
    text_of(path, span, problems)
}

fn text_of(path: &str, span: Range<usize>, problems: &mut Problems) -> Parsed<String> {
    // What is no path may be the address itself.
    if !Path::new(path).is_absolute() {
        problems.secrets.push(span.clone());
        let hint = "write the whole path, like \"/etc/snapring/hook.url\"";
        problems.error(span, "`url_file` must be an absolute path", "", Some(hint.to_owned()));
        return Parsed::Mistaken;
    }
    match problems.files.0.get(Path::new(path)).cloned() {
        Some(Ok(SecretFile { text, is_open })) => {
            if is_open {
                let hint = format!("chmod 600 {path}");
                problems.warning(span.clone(), "others can read this file", "", Some(hint));
            }
            Parsed::Good(text, span)
        }
        Some(Err(problem)) => {
            let hint = "write the address into it, alone, and let only root read it";
            problems.error(span, format!("the file {problem}"), "", Some(hint.to_owned()));
            Parsed::Mistaken
        }
        None => {
            problems.error(span, "the file was not read", "", None);
            Parsed::Mistaken
        }
    }
}

impl SecretsInFiles {
    /// As the tables say it.
    pub(crate) fn of(root: &Table<'_, '_>) -> Self {
        let has_file = |table: &DeTable<'_>| table.contains_key(KEY);
        let store = root.get("store").and_then(|it| it.get_ref().as_table()).is_some_and(has_file);
        let notify = root.get("notify").and_then(|it| it.get_ref().as_array());
        let tables = notify.into_iter().flat_map(|items| items.iter());
        let webhooks = tables.filter(|it| it.get_ref().as_table().is_some_and(has_file)).count();
        Self { webhooks, store }
    }
}
