//! `include`: more files with servers and groups. Like the files with secrets they are read before the text
//! is checked, away from the runtime's threads.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::config::document::{Entry, Parsed, Problems, Table, mistake, string};
use crate::config::{FileError, MAX_BYTES, read_text};
use crate::handed_over;

/// The key.
pub(crate) const KEY: &str = "include";

/// What editors and package managers leave beside a file begins with a dot.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// A file that was included.
pub(crate) struct IncludedFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Reads the files that the main one includes, in the order of the patterns and then of their names, each
/// once. `left`: how many bytes they may have together.
pub(crate) fn read(
    main: &Path,
    root: &Table<'_, '_>,
    mut left: u64,
    variable: impl Fn(&str) -> Option<OsString>,
    problems: &mut Problems,
) -> Vec<IncludedFile> {
    let hint = || Some("write include = [\"conf.d/*.toml\"]".to_owned());
    let Some(value) = root.get(KEY) else { return Vec::new() };
    let Some(items) = value.items() else {
        mistake::<()>(value, "`include` is a list of files", hint(), problems);
        return Vec::new();
    };
    let directory = main.parent().unwrap_or(Path::new(""));
    let mut files: Vec<IncludedFile> = Vec::new();
    let mut seen = BTreeSet::from([main.to_owned()]);
    for item in items {
        let Parsed::Good(pattern, span) = string(item, KEY, problems) else { continue };
        let found = match expanded(directory, pattern, &variable) {
            Ok(found) => found,
            Err(message) => {
                problems.error(span, message, "", None);
                continue;
            }
        };
        if found.is_empty() {
            let message = format!("`include`: no file matches {pattern:?}");
            problems.warning(span.clone(), message, "", None);
        }
        for path in found {
            if !seen.insert(path.clone()) {
                continue;
            }
            match read_text(&path, left, &variable) {
                Ok(text) => {
                    left = left.saturating_sub(text.len() as u64);
                    files.push(IncludedFile { path, text });
                }
                Err(error) => tell(item, &path, error, problems),
            }
        }
    }
    files
}

fn tell(item: Entry<'_, '_>, path: &Path, error: FileError, problems: &mut Problems) {
    let reason = match error.kind {
        ErrorKind::FileTooLarge => {
            format!("with it, the configuration is larger than {} MiB", MAX_BYTES >> 20)
        }
        _ => error.reason,
    };
    let as_root = "run this command as root. If it is the service that says this, run `systemctl reload \
                   snapring`: that gives it a copy of the file";
    let hint = error.hint.map(|_| as_root.to_owned());
    let message = format!("the included file {} cannot be read: {reason}", path.display());
    problems.error(item.span(), message, "", hint);
}

/// The files that a pattern means: without a wildcard the one that it names, whether or not it is there. What
/// cannot be looked through is an error: the servers in it would be missed silently.
fn expanded(
    directory: &Path,
    pattern: &str,
    variable: &impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<PathBuf>, String> {
    if pattern.is_empty() {
        return Err("`include` names no file".to_owned());
    }
    let mut found = vec![directory.to_owned()];
    let mut is_wild = false;
    for component in Path::new(pattern).components() {
        let name = component.as_os_str().to_string_lossy();
        if !matches!(component, Component::Normal(_)) || !name.contains(['*', '?', '[']) {
            for path in &mut found {
                path.push(component);
            }
            if is_wild {
                found
                    .retain(|path| path.symlink_metadata().err().is_none_or(|it| !is_missing(&it)));
            }
            continue;
        }
        is_wild = true;
        let wanted = Pattern::new(&name)
            .map_err(|error| format!("`include`: {name:?} is not a pattern: {}", error.msg))?;
        let mut deeper = Vec::new();
        for path in found {
            let names = match handed_over::names_in(&path, variable) {
                Err(error) if is_missing(&error) => continue,
                Err(error) => {
                    return Err(format!(
                        "the directory {} cannot be read: {error}",
                        path.display()
                    ));
                }
                Ok(names) => names,
            };
            let fitting =
                names.into_iter().filter(|it| wanted.matches_with(&it.to_string_lossy(), OPTIONS));
            deeper.extend(fitting.map(|name| path.join(name)));
        }
        deeper.sort();
        found = deeper;
    }
    Ok(found)
}

/// Whether there is no such file, or something else where its directory would be.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
