//! Is a server in trouble? State, page, metrics, `status`, exit codes and notices all ask here.
//!
//! It is when its last rotation failed or was blocked, when ticks were skipped twice in a row although
//! its policy does not ask for that, or when its last success is older than two intervals of its
//! schedule.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::moment::shown;
use crate::naming::{SnapshotId, Tick};
use crate::report::{KnownCause, LastOfServer, PastRotation, Report, RotationOutcome};
use crate::server::Server;

/// The number of skips in a row that are trouble. A single one can be chance.
const SKIPS: u32 = 2;

/// What the end of a rotation says about its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The server is well.
    Good,
    /// It is not.
    Bad,
    /// The account is not well. The server may be.
    TokenRefused,
    /// The tick was skipped, and should have run.
    Hindered,
    /// Nothing: the policy or a person had it skipped, or snapring was stopped.
    Nothing,
}

impl Evidence {
    /// `cause` as in [`Report::known_cause`](crate::report::Report::known_cause).
    #[must_use]
    pub fn of(outcome: RotationOutcome, cause: Option<KnownCause>) -> Self {
        match (outcome, cause) {
            (good, _) if good.is_good() => Self::Good,
            (RotationOutcome::Skipped, Some(KnownCause::Hindered)) => Self::Hindered,
            (RotationOutcome::Skipped, _) | (_, Some(KnownCause::Shutdown)) => Self::Nothing,
            (_, Some(KnownCause::Token)) => Self::TokenRefused,
            (_, Some(KnownCause::Hindered) | None) => Self::Bad,
        }
    }
}

/// How a rotation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// For which tick.
    pub tick: Tick,
    /// When.
    pub at: Timestamp,
    /// How.
    pub outcome: RotationOutcome,
    /// Why, if it did not end well.
    pub reason: Option<Box<str>>,
    /// As in [`Report::known_cause`](crate::report::Report::known_cause).
    pub cause: Option<KnownCause>,
}

impl Ended {
    /// What a report says, once its rotation has ended.
    #[must_use]
    pub fn of(report: &Report, at: Timestamp) -> Self {
        Self {
            tick: report.tick,
            at,
            outcome: report.outcome,
            reason: report.reason.as_deref().map(Into::into),
            cause: report.known_cause,
        }
    }
}

impl From<&PastRotation> for Ended {
    fn from(past: &PastRotation) -> Self {
        Self {
            tick: past.tick,
            at: past.ended_at,
            outcome: past.outcome,
            reason: past.reason.as_deref().map(Into::into),
            cause: past.cause,
        }
    }
}

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// Its last rotation failed.
    Failed,
    /// Its last rotation found no slot.
    Blocked,
    /// Its last ticks were skipped, and should have run.
    Skipped,
    /// Its last success is too old.
    Stale,
}

/// A server in trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong now.
    pub kind: TroubleKind,
    /// When the first of its rotations ended badly or was skipped; when its success became too old.
    pub since: Timestamp,
    /// How many rotations have ended badly or were skipped since.
    pub rotations: u32,
    /// Why.
    pub reason: Option<Box<str>>,
}

impl Trouble {
    /// Whether a restore has left the server broken, and no rotation has met that.
    #[must_use]
    pub fn is_of_restore(&self) -> bool {
        self.kind == TroubleKind::Failed && self.rotations == 0
    }
}

/// A rotation that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Success {
    /// For which tick.
    pub tick: Tick,
    /// When it ended.
    pub at: Timestamp,
}

/// What is known of a server's rotations, as far as its health depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotationHistory {
    success: Option<Success>,
    trouble: Option<Box<Trouble>>,
    /// Skips in a row that are no trouble yet: how many, and when the first one was.
    skips: Option<(u32, Timestamp)>,
}

impl RotationHistory {
    /// Adds a rotation that has ended. Rotations must be added in their order.
    pub fn ended(&mut self, ended: &Ended) {
        let kind = match Evidence::of(ended.outcome, ended.cause) {
            Evidence::Nothing => return,
            Evidence::Good => {
                let success = Some(Success { tick: ended.tick, at: ended.at });
                *self = Self { success, ..Self::default() };
                return;
            }
            Evidence::Hindered => TroubleKind::Skipped,
            Evidence::Bad | Evidence::TokenRefused => match ended.outcome {
                RotationOutcome::Blocked => TroubleKind::Blocked,
                _ => TroubleKind::Failed,
            },
        };
        let (mut rotations, mut since) = (1, ended.at);
        if kind == TroubleKind::Skipped {
            let (skips, first) =
                self.skips.map_or((1, ended.at), |(skips, first)| (skips.saturating_add(1), first));
            self.skips = Some((skips, first));
            if skips < SKIPS {
                return;
            }
            if skips == SKIPS {
                (rotations, since) = (SKIPS, first);
            }
        } else {
            self.skips = None;
        }
        let before = self.trouble.as_ref();
        self.trouble = Some(Box::new(Trouble {
            kind,
            since: before.map_or(since, |before| before.since),
            rotations: before.map_or(0, |before| before.rotations).saturating_add(rotations),
            reason: ended.reason.clone(),
        }));
    }

    /// What is known of a server from before this process. Of a long trouble only the last rotations are
    /// kept; since when it lasts is told beside them.
    #[must_use]
    pub fn known(last: &LastOfServer) -> Self {
        let mut history = Self::default();
        for ended in last.rotations.iter().map(Ended::from) {
            history.ended(&ended);
        }
        let stretches = || [last.failed, last.refused].into_iter().flatten();
        if let Some(trouble) = &mut history.trouble {
            let since = stretches().map(|it| it.since).fold(trouble.since, Timestamp::min);
            let all = stretches().map(|it| it.rotations).fold(0, u32::saturating_add);
            (trouble.since, trouble.rotations) = (since, trouble.rotations.max(all));
        }
        history
    }

    /// The last rotation that ended well.
    #[must_use]
    pub fn success(&self) -> Option<Success> {
        self.success
    }

    /// Since when its rotations have not ended well, if they have not.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_deref()
    }

    /// How the server is at `now`.
    #[must_use]
    pub fn health(&self, age: &Age<'_>, now: Timestamp) -> ServerHealth {
        if let Some(trouble) = &self.trouble {
            return ServerHealth::Trouble(trouble.clone());
        }
        match age.trouble(now) {
            Some(stale) => ServerHealth::Trouble(Box::new(stale)),
            None if self.success.is_some() => ServerHealth::Ok,
            None => ServerHealth::Waiting,
        }
    }
}

/// What a person can do about a server that a restore has left broken.
pub const RESTORE_AGAIN: &str = "Restore it again, or repair it in the provider's panel";

/// The same while that is done.
const RESTORED_NOW: &str = "It is being restored now";

/// How a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerHealth {
    /// Its last rotation ended well, and not too long ago.
    Ok,
    /// No rotation of it is known yet.
    Waiting,
    /// A person must look at it.
    Trouble(Box<Trouble>),
}

/// A server that has not come back from a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotRestored {
    /// When that was seen.
    pub since: Timestamp,
    /// What the provider shows.
    pub reason: Box<str>,
    /// What the restore read.
    pub source: Option<SnapshotId>,
}

impl NotRestored {
    /// Whether no later snapshot shows that the server is well again.
    #[must_use]
    pub fn lasts(&self, success: Option<Success>) -> bool {
        success.is_none_or(|success| success.at <= self.since)
    }
}

impl ServerHealth {
    /// The same, if the last restore has left the server broken.
    #[must_use]
    pub fn after(self, restore: Option<&NotRestored>, success: Option<Success>) -> Self {
        let restore = restore.filter(|it| it.lasts(success));
        match (self, restore) {
            (Self::Ok | Self::Waiting, Some(NotRestored { since, reason, .. })) => {
                let reason = Some(reason.clone());
                let kind = TroubleKind::Failed;
                Self::Trouble(Box::new(Trouble { kind, since: *since, rotations: 0, reason }))
            }
            // The rotations since then, or before it, failed for whatever reason: the server comes first.
            (Self::Trouble(trouble), Some(NotRestored { since, reason, .. })) => {
                let of_rotation = trouble.reason.as_deref();
                let reason = match of_rotation {
                    None => reason.to_string(),
                    Some(other) => format!("{reason}; its last rotation: {other}"),
                };
                let since = trouble.since.min(*since);
                Self::Trouble(Box::new(Trouble { since, reason: Some(reason.into()), ..*trouble }))
            }
            (health, _) => health,
        }
    }

    /// The same of a server that is being restored. The reason of a past rotation may ask for that, too.
    #[must_use]
    pub fn being_restored(mut self) -> Self {
        if let Self::Trouble(trouble) = &mut self
            && let Some(reason) = &mut trouble.reason
        {
            let said_once = reason.replacen(RESTORE_AGAIN, RESTORED_NOW, 1);
            *reason = said_once.replace(&format!(". {RESTORE_AGAIN}"), "").into();
        }
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Ok | Self::Waiting => None,
            Self::Trouble(trouble) => Some(trouble),
        }
    }
}

/// How old the last success may be.
#[derive(Debug, Clone, Copy)]
pub struct Age<'a> {
    /// Whose.
    pub server: &'a Server,
    /// The last success, if one is known.
    pub success: Option<Success>,
    /// Since when all its schedules have been in force and a daemon has run; before that, nothing was
    /// owed.
    pub since: Option<Timestamp>,
    /// A rotation is under way. It ends in bounded time, and its end says more than its age.
    pub is_under_way: bool,
}

impl Age<'_> {
    /// Whether the last success is too old, even if something else is wrong or a rotation is under way.
    #[must_use]
    pub fn is_too_old(self, now: Timestamp) -> bool {
        Self { is_under_way: false, ..self }.trouble(now).is_some()
    }

    fn trouble(&self, now: Timestamp) -> Option<Trouble> {
        let begin = |at| Success { tick: Tick::at(at), at };
        let since = self.since.map(begin);
        let from = match (self.success, since) {
            (Some(success), Some(since)) if since.at > success.at => since,
            (Some(success), _) => success,
            (None, since) => since?,
        };
        let tick = from.tick.instant();
        // A tick sooner than this is skipped, and is not owed.
        let least = self.server.policy.min_interval.saturating_sub(Duration::from_secs(1));
        let next = |after: Timestamp| {
            let after = after.checked_add(SignedDuration::try_from(least).ok()?).ok()?;
            self.server.next_tick_after(after).map(Tick::instant)
        };
        let first = next(tick)?;
        // As it nearly always is: nothing has been owed since.
        if self.is_under_way || now <= first {
            return None;
        }
        // Intervals may be uneven, as on working days only: the longer two of those that begin with the
        // success, or with the tick after it.
        let second = next(first)?;
        let limit = second.duration_since(tick).max(next(second)?.duration_since(first));
        let jitter = SignedDuration::try_from(self.server.jitter).ok()?;
        let stale_at = from.at.checked_add(limit).ok()?.checked_add(jitter).ok()?;
        let shown = shown(self.success.map_or(from.at, |it| it.at), &self.server.policy.time_zone);
        (now > stale_at).then(|| Trouble {
            kind: TroubleKind::Stale,
            since: stale_at,
            rotations: 0,
            reason: Some(
                format!(
                    "no rotation has succeeded since {shown}, for more than two intervals of the schedule"
                )
                .into(),
            ),
        })
    }
}

#[cfg(test)]
mod tests;
