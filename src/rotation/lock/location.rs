//! Where the lock files of this machine are, and what to do when they cannot be used.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::paths::{SERVICE_DIRECTORY, state_directory};
use crate::rotation::lock::Exclusion;

/// The service's lock cannot be used: two rotations of one server could overlap.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot keep out of the way of the service's rotations: {}: {problem}\n\
     hint: run this as root, or as the service's user",
    .file.display()
)]
pub struct LockError {
    file: PathBuf,
    problem: io::Error,
}

impl Exclusion {
    /// The claims that keep rotations apart on this machine. Without a service, files that cannot
    /// be used are only warned of, and the claims hold in this process. `variable`
    /// reads the environment.
    ///
    /// # Errors
    /// When there is a service whose lock cannot be used.
    pub fn of_this_machine(
        account: &str,
        clock: &Clock,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, LockError> {
        let file = lock_file(variable);
        let problem = match Self::on_machine(&file, account, clock) {
            Ok(exclusion) => return Ok(exclusion),
            Err(problem) => problem,
        };
        if file.starts_with(SERVICE_DIRECTORY) {
            return Err(LockError { file, problem });
        }
        tracing::warn!(
            event = "lock",
            "rotations of other snapring processes on this machine cannot be kept apart: {}: \
             {problem}",
            file.display()
        );
        Ok(Self::in_process())
    }
}

/// Where the lock file stands: the same for the service and for a person's commands where that is
/// possible. `$STATE_DIRECTORY`, else the service's own directory if there is one, else the user's
/// runtime directory, else the directory for temporary files.
fn lock_file(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let service = Path::new(SERVICE_DIRECTORY);
    let writable = |path: &Path| {
        nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok() && path.is_dir()
    };
    if let Some(state) = state_directory(&variable) {
        return state.join("rotation.lock");
    }
    // With DynamicUser= it is a link that other users cannot follow; it is there all the same.
    if service.symlink_metadata().is_ok() {
        return service.join("rotation.lock");
    }
    match variable("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| writable(path)) {
        Some(runtime) => runtime.join("snapring.lock"),
        None => std::env::temp_dir().join(format!("snapring-{}.lock", nix::unistd::getuid())),
    }
}
