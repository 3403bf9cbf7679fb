//! The processes that snapring has started, and those that others have left to it.
//!
//! The first process of a container inherits each process whose parent has ended. Somebody must ask how
//! it ended, or its entry stays in the process table. Who is waited for must not be asked for here: the
//! answer is given once.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::clock::Clock;

/// How often the first process of a container looks for ended processes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Those that snapring has started and waits for. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Children(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    awaited: Mutex<HashSet<Pid>>,
    /// How many are being started: they may end before they are known. No lock, since a start may hang.
    starting: AtomicUsize,
}

/// One that is waited for; not any more when this is dropped.
#[derive(Debug)]
pub(super) struct Awaited {
    children: Children,
    /// `None`: it has ended already.
    pub(super) pid: Option<Pid>,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            self.children.lock().remove(&pid);
        }
    }
}

impl Children {
    /// Starts one that is waited for.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<(Child, Awaited)> {
        self.0.starting.fetch_add(1, Ordering::SeqCst);
        let started = command.spawn().map(|child| {
            let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
            self.lock().extend(pid);
            (child, Awaited { children: self.clone(), pid })
        });
        self.0.starting.fetch_sub(1, Ordering::SeqCst);
        started
    }

    /// While it is polled, releases those that have ended and that no task waits for.
    pub(crate) async fn reap_others(&self, clock: &Clock) -> Infallible {
        loop {
            self.reap();
            clock.sleep(LOOK_EVERY).await;
        }
    }

    fn reap(&self) {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(ended) = waitid(Id::All, look)
            && let Some(pid) = ended.pid()
            && self.0.starting.load(Ordering::SeqCst) == 0
            // The kernel names the same one until it is asked for: who waits for it will do so soon.
            && !self.lock().contains(&pid)
        {
            if waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
