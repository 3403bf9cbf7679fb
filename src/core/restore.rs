//! What to restore from, and whether a restore has ended.
//!
//! A restore by hand may take a snapshot of the present state first: one rotation, whose snapshot is a managed
//! one. It holds the state that a person wanted to leave, so no restore picks it by itself.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::naming::SnapshotId;
use crate::policy::Policy;
use crate::ring::Ring;
use crate::server::Server;
use crate::snapshot::{Listing, Snapshot, Status};

/// How the description of a snapshot begins that was taken before a restore.
const SAFETY_DESCRIPTION: &str = "created before restoring snapshot ";

/// How the names of such snapshots began in earlier versions.
const OLD_SAFETY_NAME: &str = "before-restore-";

/// The same of a snapshot of a server that a failed restore had left broken.
const BROKEN_DESCRIPTION: &str = "created while the server was broken after a failed restore";

/// The description of a snapshot that is created by hand of a server that a failed restore has left broken.
#[must_use]
pub fn describing_broken(description: &str) -> String {
    match description {
        "" => BROKEN_DESCRIPTION.to_owned(),
        own => format!("{BROKEN_DESCRIPTION}: {own}"),
    }
}

/// The server as the rotation sees it that takes a snapshot before a restore from `source`: the rotation deletes that
/// one neither to make room nor when it prunes.
#[must_use]
pub fn protecting(server: &Server, source: SnapshotId) -> Server {
    let mut policy = Policy::clone(&server.policy);
    policy.to_restore = Some(source);
    let description = format!("{SAFETY_DESCRIPTION}{source}").into();
    Server { policy: Arc::new(policy), description, ..server.clone() }
}

/// Whether a snapshot was taken before a restore. `noted`: those that are known to be, whatever the provider
/// has kept of their descriptions.
#[must_use]
pub fn is_safety(snapshot: &Snapshot, noted: &BTreeSet<SnapshotId>) -> bool {
    let says_so =
        snapshot.description.as_ref().is_some_and(|it| it.starts_with(SAFETY_DESCRIPTION));
    says_so || snapshot.name.starts_with(OLD_SAFETY_NAME) || noted.contains(&snapshot.id)
}

/// What the history knows of a server's snapshots, where there is one.
#[derive(Debug, Clone, Default)]
pub struct NotedSnapshots {
    /// Those that restores created first.
    pub safety: BTreeSet<SnapshotId>,
    /// The names of those that rotations created, these among them.
    pub rotated: BTreeSet<String>,
    /// What the last restore read, if it has left the server broken.
    pub failed: Option<SnapshotId>,
}

impl NotedSnapshots {
    /// Why a snapshot is none that a person would go back to.
    fn set_aside(&self, snapshot: &Snapshot) -> Option<PassedOver> {
        let is_of_broken = snapshot.description.as_ref();
        if is_safety(snapshot, &self.safety) {
            Some(PassedOver::Safety)
        } else if is_of_broken.is_some_and(|it| it.starts_with(BROKEN_DESCRIPTION)) {
            Some(PassedOver::OfBroken)
        } else {
            None
        }
    }

    /// Whether a snapshot is newer than the source of a restore that has left the server broken.
    fn is_after_failed(&self, snapshot: &Snapshot, listing: &Listing) -> bool {
        let Some(failed) = self.failed else { return false };
        match listing.snapshots.iter().find(|it| it.id == failed) {
            Some(source) => (snapshot.created_at, snapshot.id) > (source.created_at, source.id),
            // It is not listed any more, but later ones have greater numbers.
            None => snapshot.id > failed,
        }
    }

    /// Whether a snapshot can be one that a restore created first, though nothing says so: a rotation by hand
    /// created it, and neither the provider nor the history tells what for.
    fn leave_open(&self, snapshot: &Snapshot, server: &Server) -> bool {
        let tick = snapshot.name.tick(&server.policy.prefix);
        let is_by_hand = tick.is_some_and(|tick| !server.has_tick(tick));
        let is_described = snapshot.description.as_ref().is_some_and(|it| !it.is_empty());
        is_by_hand && !is_described && !self.rotated.contains(snapshot.name.raw())
    }
}

/// What a restore reads.
#[derive(Debug, Clone)]
pub struct Choice {
    /// This snapshot.
    pub snapshot: Snapshot,
    /// The names of newer ones that are not meant, and why.
    pub passed_over: Vec<(String, PassedOver)>,
}

/// Why a newer snapshot is not meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassedOver {
    /// It was taken before a restore.
    Safety,
    /// It was created by hand of a server that a failed restore had left broken.
    OfBroken,
    /// It is newer than the source of the restore that has left the server broken: a person wanted to go further
    /// back.
    AfterFailed,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Safety => "created by `restore --snapshot-first`",
            Self::OfBroken => "created while the server was broken",
            Self::AfterFailed => "newer than the source of the restore that failed",
        })
    }
}

/// Why none was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoChoice {
    /// There is none.
    None,
    /// The newest one may have been taken before a restore. Then this other one is meant, if there is one.
    Unclear(Box<(Snapshot, Option<Snapshot>)>),
}

/// The newest completed snapshot, managed or foreign.
///
/// # Errors
/// When there is none, or it is not clear which.
pub fn latest(
    listing: &Listing,
    server: &Server,
    noted: &NotedSnapshots,
) -> Result<Choice, NoChoice> {
    let completed = listing.snapshots.iter().rev().filter(|it| it.status == Status::Completed);
    choose(completed, server, noted, |snapshot| {
        let after = noted.is_after_failed(snapshot, listing).then_some(PassedOver::AfterFailed);
        noted.set_aside(snapshot).or(after)
    })
}

/// The newest completed managed snapshot that is older than this, by its tick and by the provider's clock.
///
/// # Errors
/// When there is none, or it is not clear which.
pub fn latest_before(
    listing: &Listing,
    server: &Server,
    at: Timestamp,
    noted: &NotedSnapshots,
) -> Result<Choice, NoChoice> {
    let policy = &server.policy;
    let ring = Ring::of(listing.clone(), policy);
    let is_older = |it: &&Snapshot| {
        let tick = it.name.tick(&policy.prefix);
        it.created_at < at && tick.is_some_and(|tick| tick.instant() < at)
    };
    let managed = ring.slots().iter().rev().map(|slot| &slot.snapshot);
    let older = managed.filter(|it| it.status == Status::Completed).filter(is_older);
    choose(older, server, noted, |snapshot| noted.set_aside(snapshot))
}

fn choose<'a>(
    newest_first: impl Iterator<Item = &'a Snapshot>,
    server: &Server,
    noted: &NotedSnapshots,
    passes: impl Fn(&Snapshot) -> Option<PassedOver>,
) -> Result<Choice, NoChoice> {
    let mut passed_over = Vec::new();
    let mut candidates = newest_first.filter(|snapshot| {
        let why = passes(snapshot);
        passed_over.extend(why.map(|why| (snapshot.name.to_string(), why)));
        why.is_none()
    });
    let snapshot = candidates.next().cloned().ok_or(NoChoice::None)?;
    if noted.leave_open(&snapshot, server) {
        let other = candidates.find(|it| !noted.leave_open(it, server)).cloned();
        return Err(NoChoice::Unclear(Box::new((snapshot, other))));
    }
    drop(candidates);
    Ok(Choice { snapshot, passed_over })
}

/// What the provider's word for the state of a server says of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// It is being restored.
    Restoring,
    /// It runs.
    Active,
    /// It is stopped or suspended. A restore stops the server first, so early this says nothing.
    Off,
    /// The provider gave up: it does not come back by itself.
    Failed,
    /// Anything else: the server may still be on its way back.
    Other,
}

impl ServerState {
    /// Reads the provider's word.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "restoring" => Self::Restoring,
            "active" => Self::Active,
            "stopped" | "suspended" => Self::Off,
            "error" | "failed" => Self::Failed,
            _ => Self::Other,
        }
    }

    /// Whether a server that was restoring has come to rest. `passed`: since the restore was sent.
    #[must_use]
    pub fn is_at_rest(self, passed: Duration) -> bool {
        match self {
            Self::Active | Self::Failed => true,
            Self::Off => passed >= SHORTEST_RESTORE,
            Self::Restoring | Self::Other => false,
        }
    }
}

/// A list of servers may be a copy from before: two looks in a row must agree.
const LOOKS_THAT_AGREE: u32 = 2;

/// A restore takes 5 to 15 minutes, as the provider says.
const SHORTEST_RESTORE: Duration = Duration::from_mins(5);

/// How long the list may take to show a restore that has begun.
const SHOWN_WITHIN: Duration = Duration::from_mins(1);

/// How long a server may be in a state that says nothing before the restore counts as failed.
pub const ODD_FOR: Duration = Duration::from_mins(2);

/// Follows a restore by what the list of servers says. Times are counted from when it was sent.
#[derive(Debug, Clone, Default)]
pub struct RestoreWatch {
    is_shown: bool,
    at_rest: u32,
    odd_since: Option<Duration>,
}

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreSeen {
    /// It goes on, as far as one can tell.
    GoesOn,
    /// It has ended: the server was shown as restoring, and now as at rest.
    Ended,
    /// It has ended, and the server has not come back.
    Failed,
    /// The server was shown as restoring, and is in some other state since.
    Odd,
    /// The list shows the server, and never showed the restore: it does not tell when one ends.
    NotShown,
}

impl RestoreWatch {
    /// Whether the list has shown the restore.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// Whether one more look like the last one shows that it has ended.
    #[must_use]
    pub fn is_confirming(&self) -> bool {
        self.at_rest > 0
    }

    /// One look. `None`: it showed nothing of this server.
    pub fn saw(&mut self, state: Option<ServerState>, passed: Duration) -> RestoreSeen {
        let Some(state) = state else { return RestoreSeen::GoesOn };
        if state == ServerState::Restoring {
            *self = Self { is_shown: true, ..Self::default() };
            return RestoreSeen::GoesOn;
        }
        if !self.is_shown {
            let is_late = passed >= SHOWN_WITHIN;
            return if is_late { RestoreSeen::NotShown } else { RestoreSeen::GoesOn };
        }
        if state.is_at_rest(passed) {
            self.odd_since = None;
            self.at_rest += 1;
            return match state {
                _ if self.at_rest < LOOKS_THAT_AGREE => RestoreSeen::GoesOn,
                ServerState::Failed => RestoreSeen::Failed,
                _ => RestoreSeen::Ended,
            };
        }
        self.at_rest = 0;
        if state == ServerState::Off {
            return RestoreSeen::GoesOn;
        }
        let since = *self.odd_since.get_or_insert(passed);
        let is_long = passed.saturating_sub(since) >= ODD_FOR;
        if is_long { RestoreSeen::Odd } else { RestoreSeen::GoesOn }
    }
}

#[cfg(test)]
mod tests;
