//! Where the lock files of this machine are, and what to do when they cannot be used.

use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::clock::Clock;
use crate::paths::{SERVICE_DIRECTORY, state_directory};
use crate::provider::settings::one_address;
use crate::rotation::lock::Exclusion;
use crate::rotation::lock::open_creates::NoteKind;

/// Where a user has a directory of their own for the lock files. Not the user's runtime directory: it
/// comes and goes with the user's sessions, and a daemon may start without one.
const BASES: &[&str] = &["/var/tmp", "/tmp"];
/// Only root may write there, and old files are not removed from it.
const BASE_OF_ROOT: &str = "/run";

/// The name of the lock files, without the number of each.
const LOCK_FILE: &str = "rotation.lock";

/// The lock of the service cannot be used: two rotations of one server could overlap.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot make sure that no other snapring process works on the same server: the lock files \
     {}.* cannot be used: {problem}\nhint: {hint}",
    .file.display()
)]
pub struct LockError {
    file: PathBuf,
    problem: io::Error,
    hint: &'static str,
}

impl Exclusion {
    /// The claims that keep rotations apart on this machine. Without a service, files that cannot
    /// be used are only warned of, and the claims hold in this process. `command` is this process's
    /// for the messages of others; `variable` reads the environment.
    ///
    /// # Errors
    /// When there is a service whose lock cannot be used.
    pub fn of_this_machine(
        base_url: &str,
        command: &'static str,
        clock: &Clock,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, LockError> {
        let address = one_address(base_url);
        let mut first_problem = None;
        for directory in directories(variable) {
            let file = directory.path().join(LOCK_FILE);
            let opened =
                directory.prepare().and_then(|()| Self::on_machine(&file, &address, clock));
            match opened {
                Ok(exclusion) => return Ok(exclusion.used_by(command)),
                Err(problem) if file.starts_with(SERVICE_DIRECTORY) => {
                    let hint = hint(&problem);
                    return Err(LockError { file, problem, hint });
                }
                Err(problem) => _ = first_problem.get_or_insert((file, problem)),
            }
        }
        if let Some((file, problem)) = first_problem {
            tracing::warn!(
                event = "lock",
                "other snapring processes on this machine may work on the same server at the same \
                 time: the lock files {}.* cannot be used: {problem}; set $STATE_DIRECTORY to a local \
                 directory that only this user can write to",
                file.display()
            );
        }
        Ok(Self::in_process())
    }
}

/// Whether any server on this machine may be quiesced. Creates nothing.
pub(crate) fn any_is_quiesced(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    any_is_noted(&[NoteKind::Quiesced], variable)
}

/// Whether any server on this machine may be in the middle of a restore, or was left broken by one. Creates
/// nothing.
pub(crate) fn any_is_restored(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    any_is_noted(&[NoteKind::Restore, NoteKind::Broken], variable)
}

fn any_is_noted(kinds: &[NoteKind], variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let is_one = |path: &Path| {
        let found = path.extension();
        kinds.iter().any(|kind| found == Some(kind.extension().as_ref().as_ref()))
    };
    directories(variable).iter().any(|directory| {
        let notes = directory.path().join(LOCK_FILE).with_extension("creates");
        let entries = notes.read_dir().into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| is_one(&path))
    })
}

fn hint(problem: &io::Error) -> &'static str {
    match problem.raw_os_error() {
        Some(nix::libc::ENOLCK) => {
            "this file system has no locks (NFS without a lock daemon?); put the state directory on a \
             local file system"
        }
        _ => "run this as root, or as the user of the service",
    }
}

/// A directory that lock files may be in.
#[derive(Debug, PartialEq, Eq)]
enum Directory {
    /// It exists already, and others decide who may use it.
    Given(PathBuf),
    /// To be created for this user alone.
    Own(PathBuf),
}

impl Directory {
    fn path(&self) -> &Path {
        let (Self::Given(path) | Self::Own(path)) = self;
        path
    }

    fn prepare(&self) -> io::Result<()> {
        let Self::Own(path) = self else { return Ok(()) };
        match DirBuilder::new().mode(0o700).create(path) {
            Err(problem) if problem.kind() != io::ErrorKind::AlreadyExists => return Err(problem),
            _ => {}
        }
        // Another user may have created it first, or a link in its place.
        let found = path.symlink_metadata()?;
        if !found.is_dir() || found.uid() != geteuid().as_raw() {
            return Err(io::Error::other(format!(
                "{} is not a directory of this user",
                path.display()
            )));
        }
        if found.mode() & 0o077 != 0 {
            std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
        }
        Ok(())
    }
}

/// The directories that may hold the lock files, the best first: the same for the daemon and for a
/// person's commands where that is possible. `$STATE_DIRECTORY`, else the directory of the service if
/// there is one, else one for the user that no other variable moves.
fn directories(variable: impl Fn(&str) -> Option<OsString>) -> Vec<Directory> {
    if let Some(state) = state_directory(&variable).filter(|path| !is_shared(path)) {
        return vec![Directory::Given(state)];
    }
    let service = Path::new(SERVICE_DIRECTORY);
    // With DynamicUser= it is a link that other users cannot follow; it is there all the same.
    if service.symlink_metadata().is_ok() {
        return vec![Directory::Given(service.to_owned())];
    }
    let user = geteuid();
    let of_root = user.is_root().then_some(&BASE_OF_ROOT);
    let bases = of_root.into_iter().chain(BASES).filter(|base| Path::new(base).is_dir());
    bases.map(|base| Directory::Own(Path::new(base).join(format!("snapring-{user}")))).collect()
}

/// Whether other users may write to a directory: they could put something in the place of a lock.
fn is_shared(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.mode() & 0o002 != 0)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::upper_case("HTTPS://Admin.VPS.org/api/v1/", "https://admin.vps.org/api/v1/")]
    #[case::a_default_port("https://admin.vps.org:443/api/v1/", "https://admin.vps.org/api/v1/")]
    #[case::a_final_dot("https://admin.vps.org./api/v1/", "https://admin.vps.org/api/v1/")]
    #[case::loopback("http://127.0.0.1:8091/api/v1/", "http://localhost:8091/api/v1/")]
    #[case::loopback_v6("http://[::1]:8091/api/v1/", "http://localhost:8091/api/v1/")]
    #[case::the_default_port_of_http("http://[::1]:80/", "http://localhost/")]
    #[case::another_address("https://192.0.2.1/api/", "https://192.0.2.1/api/")]
    #[case::no_address("a", "a")]
    fn two_addresses_of_one_account_are_one(#[case] base_url: &str, #[case] expected: &str) {
        assert_eq!(one_address(base_url), expected);
    }

    #[test]
    fn no_variable_of_a_session_moves_the_lock() {
        let session = |name: &str| {
            ["XDG_RUNTIME_DIR", "TMPDIR", "HOME"].contains(&name).then(|| "/elsewhere".into())
        };
        assert_eq!(directories(session), directories(|_| None));
        assert_ne!(directories(|_| None), []);
    }

    #[test]
    fn the_state_directory_comes_first_unless_it_is_shared() {
        let directory = tempfile::tempdir().unwrap();
        let state = |name: &str| (name == "STATE_DIRECTORY").then(|| directory.path().into());
        assert_eq!(directories(state), [Directory::Given(directory.path().to_owned())]);
        let mode = Permissions::from_mode(0o1777);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        assert_eq!(directories(state), directories(|_| None));
    }

    #[test]
    fn an_own_directory_is_created_for_the_user_alone_and_no_link_is_taken_for_it() {
        let base = tempfile::tempdir().unwrap();
        let own = Directory::Own(base.path().join("snapring-1000"));
        own.prepare().unwrap();
        assert_eq!(own.path().metadata().unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(own.path(), Permissions::from_mode(0o777)).unwrap();
        own.prepare().unwrap();
        assert_eq!(own.path().metadata().unwrap().mode() & 0o777, 0o700);

        let link = Directory::Own(base.path().join("snapring-1001"));
        std::os::unix::fs::symlink(own.path(), link.path()).unwrap();
        assert!(link.prepare().is_err());
        let file = Directory::Own(base.path().join("snapring-1002"));
        std::fs::write(file.path(), "").unwrap();
        assert!(file.prepare().is_err());
    }

    #[test]
    fn a_file_system_without_locks_is_named() {
        let problem = io::Error::from(nix::errno::Errno::ENOLCK);
        assert!(hint(&problem).contains("NFS"));
    }
}
