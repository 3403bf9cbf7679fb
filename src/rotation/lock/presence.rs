//! Whether a daemon runs on this machine: it hears of what commands do, and tells of it.

use std::io;

use crate::naming::ServerId;
use crate::rotation::lock::files::Shared;
use crate::rotation::lock::{Exclusion, MachineLock, place};

/// Stands for daemons where others stand for servers. No server has it: numbers begin with 1.
const DAEMON: ServerId = ServerId(0);

/// Shows that a daemon runs, until it is dropped, by the end of its process too.
#[derive(Debug)]
#[must_use]
pub struct Presence {
    _shared: Option<Shared>,
}

impl Exclusion {
    /// Shows other processes that a daemon runs. Several may.
    ///
    /// # Errors
    /// When the lock file does not work.
    pub fn daemon_is_here(&self) -> io::Result<Presence> {
        let shared = match &self.0.machine {
            Some(MachineLock::Files { files, account }) => {
                Some(files.share(place(account, DAEMON))?)
            }
            Some(MachineLock::Memory(_)) | None => None,
        };
        Ok(Presence { _shared: shared })
    }

    /// Whether a daemon of the same account and the same lock files runs, in another process.
    #[must_use]
    pub fn has_daemon(&self) -> bool {
        match &self.0.machine {
            Some(MachineLock::Files { files, account }) => {
                files.is_taken(place(account, DAEMON)).unwrap_or(false)
            }
            Some(MachineLock::Memory(_)) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_daemon_is_seen_by_others_of_its_account_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lock");
        let open = |account| Exclusion::on_machine(&file, account, &Clock::system()).unwrap();
        let (daemon, second, person) = (open("https://a/"), open("https://a/"), open("https://a/"));
        assert!(!person.has_daemon());
        let presence = daemon.daemon_is_here().unwrap();
        assert!(person.has_daemon());
        assert!(!open("https://b/").has_daemon(), "another account's");
        let other = second.daemon_is_here().unwrap();
        drop(presence);
        assert!(person.has_daemon(), "the second one is there");
        drop(other);
        assert!(!person.has_daemon());
        assert!(!Exclusion::in_process().has_daemon());
        assert!(Exclusion::in_process().daemon_is_here().is_ok());
    }
}
