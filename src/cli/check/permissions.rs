//! Whether others can change what decides which programs snapring runs.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Uid, User};

use crate::cli::check::CheckFinding;
use crate::server::Server;

/// In a directory with this bit, others cannot replace a file that is not theirs.
const STICKY: u32 = 0o1000;

/// Files of the configuration, hooks, and files that hooks are given, that others than root and this user can change;
/// or replace, because a directory is open.
pub(super) fn changeable(configuration: &[PathBuf], servers: &[Arc<Server>]) -> Vec<CheckFinding> {
    let hooks: BTreeSet<&String> = servers
        .iter()
        .filter_map(|server| server.hooks.as_deref())
        .flat_map(|hooks| hooks.before.iter().chain(&hooks.after))
        .collect();
    let configuration =
        configuration.iter().map(|path| (path.clone(), "runs the hooks named there"));
    let hooks = hooks.into_iter().filter_map(|word| Some((on_path(word)?, "runs it as a hook")));
    let mut told = BTreeSet::new();
    let findings = configuration.chain(hooks).filter_map(|(path, what)| {
        let path = path.canonicalize().ok().filter(|path| path.is_file())?;
        let Open { place, who, hint } = path.ancestors().find_map(open_to_others)?;
        let message = if place == path {
            format!("{who} can change {}, and snapring {what}", path.display())
        } else {
            let (path, place) = (path.display(), place.display());
            format!("{who} can replace {path}, because {place} is writable, and snapring {what}")
        };
        told.insert(place).then(|| CheckFinding::warning(message, &hint))
    });
    findings.collect()
}

/// A hook's program, or a file that it is given.
fn on_path(word: &str) -> Option<PathBuf> {
    let path = Path::new(word);
    if path.is_absolute() {
        return Some(path.to_owned());
    }
    let folders = std::env::var_os("PATH").filter(|_| !word.contains('/'))?;
    std::env::split_paths(&folders).map(|folder| folder.join(word)).find(|path| path.is_file())
}

/// A file or a directory that others can write.
struct Open {
    place: PathBuf,
    who: String,
    hint: String,
}

fn open_to_others(place: &Path) -> Option<Open> {
    let metadata = place.metadata().ok()?;
    let (mode, shown) = (metadata.permissions().mode(), place.display());
    let open = |who: String, hint: String| Some(Open { place: place.to_owned(), who, hint });
    if mode & 0o002 != 0 && !(metadata.is_dir() && mode & STICKY != 0) {
        return open("every user".to_owned(), format!("chmod o-w {shown}"));
    }
    let owner = Uid::from_raw(metadata.uid());
    if Uid::effective().is_root() && !owner.is_root() {
        let name = User::from_uid(owner).ok().flatten().map(|user| user.name);
        let who = format!("user {}", name.unwrap_or_else(|| owner.to_string()));
        let hint = "keep it where only root can change it";
        return open(who, hint.to_owned());
    }
    None
}
