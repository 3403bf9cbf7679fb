//! What a rotation that is interrupted leaves at the provider, and what becomes of it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Rotation, State};
use crate::moment::shown;
use crate::naming::{SnapshotId, Tick};
use crate::plan::AskedBy;
use crate::ring::Ring;
use crate::server::Server;
use crate::snapshot::{Snapshot, Status};

/// What is there of the tick's snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    #[default]
    Nothing,
    /// A create of this name was sent, and it is not known whether it was carried out.
    Perhaps {
        /// The name.
        name: String,
    },
    /// It is in progress.
    InProgress {
        /// Its name.
        name: String,
        /// Its id.
        id: SnapshotId,
        /// Its tick.
        tick: Tick,
    },
    /// The provider has created it, and does not list it any more.
    Vanished {
        /// Its id.
        id: SnapshotId,
    },
    /// It failed at the provider, and holds a slot.
    Failed {
        /// Its name.
        name: String,
        /// Its id.
        id: SnapshotId,
    },
    /// It is completed.
    Completed {
        /// Its name.
        name: String,
        /// Its id.
        id: SnapshotId,
    },
}

impl Left {
    /// What a person is told, and what the next rotation will do.
    #[must_use]
    pub fn words(&self, server: &Server, asked_by: AskedBy) -> String {
        match (self, asked_by) {
            (Self::Nothing, _) => {
                "no snapshot was created; the next rotation starts over".to_owned()
            }
            (Self::Vanished { id }, _) => {
                format!("the provider created it as {id}; the next rotation starts over")
            }
            (Self::Perhaps { name }, _) => format!(
                "it is not known whether {name} was created; the next rotation looks for it before it \
                 creates anything"
            ),
            (Self::InProgress { name, id, tick }, AskedBy::Person) => format!(
                "{name} ({id}) is still in progress. Run `snapring rotate {}` again before {} to wait for it; it \
                 creates no second snapshot",
                server.name,
                shown(continued_until(*tick, server), &server.policy.time_zone)
            ),
            (Self::InProgress { name, id, .. }, AskedBy::Schedule) => format!(
                "{name} ({id}) is still in progress at the provider; the next start of the daemon \
                 continues with it"
            ),
            (Self::Failed { name, id }, _) => format!(
                "{name} ({id}) cannot be used, and takes a slot until a later rotation deletes it"
            ),
            (Self::Completed { name, id }, _) => format!(
                "{name} ({id}) is completed. Snapshots that `keep` drops may be left; the next rotation \
                 deletes them"
            ),
        }
    }
}

/// Until when a rotation that a person asks for continues with an unfinished snapshot of this tick.
fn continued_until(tick: Tick, server: &Server) -> Timestamp {
    let timeout =
        SignedDuration::try_from(server.completion_timeout).unwrap_or(SignedDuration::MAX);
    tick.instant().checked_add(timeout).unwrap_or(Timestamp::MAX)
}

impl Rotation {
    /// What it would leave if it were broken off now.
    #[must_use]
    pub fn left(&self) -> Left {
        if let Some(own) = &self.own_seen {
            return own.clone();
        }
        // One that is under way may be carried out, whatever becomes of this process.
        let is_under_way = matches!(self.state, State::Creating(..));
        if is_under_way || (self.tries.is_open && !self.creates_are_settled) {
            return Left::Perhaps { name: self.server().policy.prefix.name(self.job.tick) };
        }
        Left::Nothing
    }

    /// The tick's snapshot exists, and is so.
    pub(super) fn own_is(&mut self, own: &Snapshot) {
        let (name, id, tick) = (own.name.to_string(), own.id, self.job.tick);
        self.own_seen = Some(match own.status {
            Status::Completed => Left::Completed { name, id },
            _ => Left::InProgress { name, id, tick },
        });
    }

    /// A person asks for a snapshot, and an earlier rotation by hand has begun one that is still in
    /// progress: nothing waits for it, since the server is claimed. This rotation continues with it.
    pub(super) fn unfinished_by_hand(
        &self,
        ring: &Ring,
        now: Timestamp,
    ) -> Option<(Snapshot, Tick)> {
        let has_begun = self.tries.sent > 0 || self.progress.victims_left.is_some();
        if self.job.asked_by != AskedBy::Person || has_begun {
            return None;
        }
        let server = self.server();
        let (newest, tick) = ring.newest(&server.policy)?;
        // A rotation by hand never has a tick of the schedule. What is remembered knows even if the
        // schedule has been changed since.
        let is_by_hand = self
            .progress
            .memory
            .was_asked_for_by_hand(tick)
            .unwrap_or_else(|| !server.has_tick(tick));
        let age = Duration::try_from(now.duration_since(tick.instant())).ok()?;
        let is_unfinished = newest.status == Status::InProgress && age < server.completion_timeout;
        (is_unfinished && is_by_hand).then(|| (newest.clone(), tick))
    }
}
