//! What people do by hand: who created, deleted or restored what, and what became of it.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::health::{NotRestored, RESTORE_AGAIN};
use crate::naming::{ServerId, SnapshotId};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManualAction {
    /// `snapring create`.
    Create,
    /// `snapring delete`.
    Delete,
    /// `snapring restore`.
    Restore,
}

impl ManualAction {
    const ALL: [Self; 3] = [Self::Create, Self::Delete, Self::Restore];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Restore => "restore",
        }
    }

    /// The action of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManualOutcome {
    /// It was done, and the provider shows it.
    Done,
    /// The provider is doing it; its end was not waited for.
    Started,
    /// It was not done.
    Failed,
    /// It may have been done: the answer was lost, or the command was killed.
    Unknown,
}

impl ManualOutcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Done, Self::Started, Self::Failed, Self::Unknown];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Started => "started",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// The outcome of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The user id of the process.
    pub uid: u32,
    /// The name of that user, if the system knows one.
    pub user: Option<String>,
    /// Who called sudo, as sudo says.
    pub sudo_user: Option<String>,
}

impl fmt::Display for Person {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) => out.write_str(user)?,
            None => write!(out, "uid {}", self.uid)?,
        }
        match &self.sudo_user {
            Some(caller) => write!(out, " (sudo: {caller})"),
            None => Ok(()),
        }
    }
}

/// One create, delete or restore by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualAct {
    /// When it was confirmed.
    pub started_at: Timestamp,
    /// When it ended, or was last heard of.
    pub ended_at: Timestamp,
    /// Of which server.
    pub server_id: ServerId,
    /// Its name in the configuration of that time.
    pub server: String,
    /// What was done.
    pub action: ManualAction,
    /// What became of it.
    pub outcome: ManualOutcome,
    /// The snapshot that was created, deleted, or restored from.
    pub snapshot_id: Option<SnapshotId>,
    /// Its name.
    pub snapshot: Option<String>,
    /// The snapshot that a restore has taken first.
    pub safety_id: Option<SnapshotId>,
    /// Its name.
    pub safety: Option<String>,
    /// Who did it.
    #[serde(flatten)]
    pub by: Person,
    /// Why it did not end well, or what else there is to say.
    pub reason: Option<String>,
    /// The process that did it: with the time it tells one act from another.
    #[serde(skip)]
    pub pid: u32,
}

/// How the reason begins of a restore that left its server broken. One that was refused changed nothing.
pub const NOT_RESTORED: &str = "the restore failed: ";

impl ManualAct {
    /// What a restore says of its server's health: `None` where it is none, or changed nothing.
    #[must_use]
    pub fn not_restored(&self) -> Option<Option<NotRestored>> {
        let reason = self.reason.as_deref().filter(|it| it.starts_with(NOT_RESTORED));
        match (self.action, self.outcome, reason) {
            (ManualAction::Restore, ManualOutcome::Failed, Some(reason)) => {
                let reason = format!("{reason}. {RESTORE_AGAIN}");
                let (since, source) = (self.ended_at, self.snapshot_id);
                Some(Some(NotRestored { since, reason: reason.into(), source }))
            }
            (ManualAction::Restore, ManualOutcome::Done | ManualOutcome::Started, _) => Some(None),
            _ => None,
        }
    }

    /// The act in one sentence, without who and when.
    #[must_use]
    pub fn words(&self) -> String {
        let server = &self.server;
        let name = match (&self.snapshot, self.snapshot_id) {
            (Some(name), Some(id)) => format!("{name} ({id})"),
            (Some(name), None) => name.clone(),
            (None, Some(id)) => id.to_string(),
            (None, None) => "a snapshot".to_owned(),
        };
        let mut words = match self.action {
            ManualAction::Create => format!("create {name} of {server}"),
            ManualAction::Delete => format!("delete {name} of {server}"),
            ManualAction::Restore => format!("restore {server} from {name}"),
        };
        if let Some(safety) = &self.safety {
            words.push_str(&format!(", after creating {safety}"));
        }
        words.push_str(&format!(": {}", self.outcome.as_str()));
        if let Some(reason) = &self.reason {
            words.push_str(&format!(": {reason}"));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_told_with_what_was_taken_first_and_why_it_failed() {
        let act = ManualAct {
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
            server_id: ServerId::new(101),
            server: "web".to_owned(),
            action: ManualAction::Restore,
            outcome: ManualOutcome::Failed,
            snapshot_id: Some(SnapshotId(801)),
            snapshot: Some("good".to_owned()),
            safety_id: Some(SnapshotId(805)),
            safety: Some("snapring-20261123T030000Z".to_owned()),
            by: Person {
                uid: 0,
                user: Some("root".to_owned()),
                sudo_user: Some("anna".to_owned()),
            },
            reason: Some("the provider refused".to_owned()),
            pid: 1,
        };
        assert_eq!(
            act.words(),
            "restore web from good (801), after creating snapring-20261123T030000Z: failed: the provider refused"
        );
        assert_eq!(act.by.to_string(), "root (sudo: anna)");
        let nobody = Person { uid: 4711, user: None, sudo_user: None };
        assert_eq!(nobody.to_string(), "uid 4711");
    }
}
