//! Whether a daemon runs on this machine: it hears of what commands do, and tells of it.

use std::io;

use crate::rotation::lock::files::{self, Shared};
use crate::rotation::lock::{Addresses, Exclusion, MachineLock, place};

/// Stands for daemons where others stand for servers. No server has it: numbers begin with 1.
const DAEMON: u64 = 0;

/// Shows that a daemon runs, until it is dropped, by the end of its process too.
#[derive(Debug)]
#[must_use]
pub struct Presence {
    _shared: Option<Shared>,
}

impl Exclusion {
    /// Shows other processes that a daemon with this coverage runs. Several may.
    ///
    /// # Errors
    /// When the lock file does not work.
    pub fn daemon_is_here(&self, coverage: &str) -> io::Result<Presence> {
        let shared = match &self.0.machine {
            Some(MachineLock::Files { files, addresses }) => {
                Some(files.share(of_daemon(addresses, coverage))?)
            }
            Some(MachineLock::Memory(_)) | None => None,
        };
        Ok(Presence { _shared: shared })
    }

    /// Whether a daemon of the same account, lock files and coverage surely runs, in another process: one that is stopped,
    /// or that the kernel does not show, tells nothing for certain.
    #[must_use]
    pub fn has_daemon(&self, coverage: &str) -> bool {
        let Some(MachineLock::Files { files, addresses }) = &self.0.machine else { return false };
        let holder = files.holder(of_daemon(addresses, coverage));
        self.shows_daemon(coverage) && holder.is_some_and(files::is_running)
    }

    fn shows_daemon(&self, coverage: &str) -> bool {
        match &self.0.machine {
            Some(MachineLock::Files { files, addresses }) => {
                files.is_taken(of_daemon(addresses, coverage)).unwrap_or(false)
            }
            Some(MachineLock::Memory(_)) | None => false,
        }
    }
}

fn of_daemon(Addresses { api, .. }: &Addresses, coverage: &str) -> i64 {
    place(&format!("{api} {coverage}"), DAEMON)
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
        assert!(!person.shows_daemon("x"));
        let presence = daemon.daemon_is_here("x").unwrap();
        assert!(person.shows_daemon("x"));
        assert!(!open("https://b/").shows_daemon("x"), "another account's");
        assert!(!person.shows_daemon("y"), "of another configuration");
        assert!(!person.has_daemon("x"), "the kernel names no process but another one");
        let other = second.daemon_is_here("x").unwrap();
        drop(presence);
        assert!(person.shows_daemon("x"), "the second one is there");
        drop(other);
        assert!(!person.shows_daemon("x"));
        assert!(!Exclusion::in_process().shows_daemon("x"));
        assert!(Exclusion::in_process().daemon_is_here("x").is_ok());
    }
}
