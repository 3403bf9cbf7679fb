//! What became of a rotation.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::manual::Person;
use crate::naming::{ServerId, SnapshotId, Tick};

/// How a rotation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RotationOutcome {
    /// A snapshot was made and the ring pruned.
    Rotated,
    /// The tick's snapshot was there already; the ring was pruned.
    Adopted,
    /// Nothing was to be done: too soon, disabled, or still running.
    Skipped,
    /// No slot, and none that may be freed.
    Blocked,
    /// Anything else.
    Failed,
}

impl RotationOutcome {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Rotated, Self::Adopted, Self::Skipped, Self::Blocked, Self::Failed];

    /// The outcome of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }

    /// The word in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::Adopted => "adopted",
            Self::Skipped => "skipped",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
        }
    }

    /// Those that count as success: the tick's snapshot exists and the ring is as the policy wants it.
    pub const GOOD: [Self; 2] = [Self::Rotated, Self::Adopted];

    /// Whether it counts as success.
    #[must_use]
    pub fn is_good(self) -> bool {
        Self::GOOD.contains(&self)
    }
}

/// What became of one rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How it ended.
    pub outcome: RotationOutcome,
    /// Of which server.
    pub server_id: ServerId,
    /// Its name in the configuration.
    pub server: String,
    /// For which tick.
    pub tick: Tick,
    /// The snapshot that it created.
    pub created: Option<String>,
    /// The snapshots that it deleted.
    pub deleted: Vec<String>,
    /// Their ids: several snapshots may have one name.
    #[serde(skip)]
    pub deleted_ids: BTreeSet<SnapshotId>,
    /// How many API calls it cost.
    pub api_calls: u32,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// How long each step took, in milliseconds, in order.
    pub steps: Vec<(&'static str, u64)>,
    /// Why it did not end well, or what else there is to say.
    pub reason: Option<String>,
    /// The cause, if it is not the server itself. That of a failure has been told where it arose; a skip
    /// without one is as the policy or a person has it.
    #[serde(skip)]
    pub known_cause: Option<KnownCause>,
}

/// What ended a rotation's task before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokenOffBy {
    /// A second request to end. What was left at the provider, in words.
    Request(String),
    /// A fault in snapring, in words.
    Fault(String),
}

/// What makes rotations end without success through no fault of their servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KnownCause {
    /// The account's token was refused.
    Token,
    /// snapring is ending.
    Shutdown,
    /// The tick was skipped, and not because of the policy: another process has the server, it is being
    /// restored, the rotation before still runs, or a clock was wrong.
    Hindered,
}

impl KnownCause {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Shutdown => "shutdown",
            Self::Hindered => "hindered",
        }
    }

    /// The cause of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Token, Self::Shutdown, Self::Hindered].into_iter().find(|it| it.as_str() == word)
    }
}

impl Report {
    /// A rotation that ended before its first step.
    #[must_use]
    pub fn without_steps(
        outcome: RotationOutcome,
        server_id: ServerId,
        server: &str,
        tick: Tick,
        reason: String,
    ) -> Self {
        Self {
            outcome,
            server_id,
            server: server.to_owned(),
            tick,
            created: None,
            deleted: Vec::new(),
            deleted_ids: BTreeSet::new(),
            api_calls: 0,
            duration_ms: 0,
            steps: Vec::new(),
            reason: Some(reason),
            known_cause: None,
        }
    }

    /// A rotation whose task did not come to its end. What it had done is in the events of its calls.
    #[must_use]
    pub fn broken_off(server_id: ServerId, server: &str, tick: Tick, by: BrokenOffBy) -> Self {
        let (reason, known_cause) = match by {
            BrokenOffBy::Request(left) => {
                let reason = format!("interrupted by a second signal: {left}");
                (reason, Some(KnownCause::Shutdown))
            }
            BrokenOffBy::Fault(fault) => {
                (format!("a bug in snapring interrupted the rotation: {fault}"), None)
            }
        };
        let outcome = RotationOutcome::Failed;
        Self { known_cause, ..Self::without_steps(outcome, server_id, server, tick, reason) }
    }

    /// The same if the server is still quiesced, for this reason: then the rotation has failed, whatever it did.
    #[must_use]
    pub fn of_quiesced_server(self, problem: &str) -> Self {
        let own = self.reason.filter(|_| !self.outcome.is_good());
        let own = own.map(|own| format!("; {}: {own}", self.outcome.as_str()));
        let reason = Some(format!("{problem}{}", own.unwrap_or_default()));
        Self { outcome: RotationOutcome::Failed, reason, known_cause: None, ..self }
    }

    /// The outcome and all that was done, in words.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = self.outcome.as_str().to_owned();
        if let Some(created) = &self.created {
            words.push_str(&format!(", created {created}"));
        }
        if !self.deleted.is_empty() {
            words.push_str(&format!(", deleted {}", self.deleted.join(" ")));
        }
        if let Some(reason) = &self.reason {
            words.push_str(&format!(": {reason}"));
        }
        words
    }
}

/// A rotation that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PastRotation {
    /// When it ended.
    pub ended_at: Timestamp,
    /// Of which server.
    pub server_id: ServerId,
    /// Its name in the configuration of that time.
    pub server: String,
    /// For which tick.
    pub tick: Tick,
    /// How it ended.
    pub outcome: RotationOutcome,
    /// The snapshot that it created.
    pub created: Option<String>,
    /// The snapshots that it deleted.
    pub deleted: Vec<String>,
    /// How many API calls it cost.
    pub api_calls: u32,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// How long each step took, in milliseconds, in order.
    pub steps: Vec<(String, u64)>,
    /// Why it did not end well, or what else there is to say.
    pub reason: Option<String>,
    /// What kept it from success, if that is not the server itself.
    pub cause: Option<KnownCause>,
    /// Who ran it by hand, if anybody did and it is known.
    #[serde(flatten)]
    pub by: Option<Person>,
}

impl PastRotation {
    /// What its report said, but for the steps.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            outcome: self.outcome,
            server_id: self.server_id,
            server: self.server.clone(),
            tick: self.tick,
            created: self.created.clone(),
            deleted: self.deleted.clone(),
            deleted_ids: BTreeSet::new(),
            api_calls: self.api_calls,
            duration_ms: self.duration_ms,
            steps: Vec::new(),
            reason: self.reason.clone(),
            known_cause: self.cause,
        }
    }

    /// What a report says, once the rotation has ended.
    #[must_use]
    pub fn of(report: &Report, ended_at: Timestamp) -> Self {
        Self {
            ended_at,
            server_id: report.server_id,
            server: report.server.clone(),
            tick: report.tick,
            outcome: report.outcome,
            created: report.created.clone(),
            deleted: report.deleted.clone(),
            api_calls: report.api_calls,
            duration_ms: report.duration_ms,
            steps: report.steps.iter().map(|(name, ms)| ((*name).to_owned(), *ms)).collect(),
            reason: report.reason.clone(),
            cause: report.known_cause,
            by: None,
        }
    }
}

/// The rotations of one server that its health depends on: the last one, the last good and the last bad
/// one, and the last two skips that the policy does not ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastOfServer {
    /// Whose.
    pub server_id: ServerId,
    /// Oldest first; at least one.
    pub rotations: Vec<PastRotation>,
    /// Those that ended badly since the last good one, if there are any.
    pub failed: Option<Stretch>,
    /// The same of those that failed because the account's token was refused.
    pub refused: Option<Stretch>,
}

impl LastOfServer {
    /// The same without what says nothing of the server: rotations that failed with the account's token.
    #[must_use]
    pub fn own(mut self) -> Self {
        self.rotations.retain(|it| it.cause != Some(KnownCause::Token));
        Self { refused: None, ..self }
    }

    /// Of rotations alone, where it is not known since when they end so.
    #[must_use]
    pub fn of(server_id: ServerId, rotations: Vec<PastRotation>) -> Self {
        Self { server_id, rotations, failed: None, refused: None }
    }
}

/// Rotations in a row that ended badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// When the first one ended.
    pub since: Timestamp,
    /// How many there are.
    pub rotations: u32,
}

/// Whole milliseconds.
#[must_use]
pub fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
