//! Which reports are news: a change for the worse or the better, not each tick of a long trouble.
//!
//! A server fails or it does not; the account's token is refused or it is not. A refused token fails
//! the rotations of every server, and it is the account's trouble, told once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::naming::{ServerId, Tick};
use crate::report::{Report, RotationOutcome, ServerHealth};

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeKind {
    /// Rotations began to fail.
    Failure,
    /// They are well again.
    Recovery,
    /// A rotation went well, as the one before.
    Success,
    /// Somebody wants to know whether notices arrive.
    Test,
}

impl NoticeKind {
    /// The word in the configuration and in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Recovery => "recovery",
            Self::Success => "success",
            Self::Test => "test",
        }
    }
}

/// Whose state has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeSubject {
    /// The account: its token.
    Account,
    /// One server.
    Server {
        /// The provider's number.
        id: ServerId,
        /// Its name in the configuration.
        name: String,
    },
}

/// A stretch of failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailingSince {
    /// When the first rotation failed; `None`: before this process began.
    pub since: Option<Timestamp>,
    /// How many rotations failed, as far as this process has seen.
    pub failed: u32,
}

/// What fails at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failing {
    /// How many servers.
    pub servers: usize,
    /// Whether the account's token is refused.
    pub account: bool,
}

impl Failing {
    /// Whether nothing does.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about; never [`NoticeKind::Test`].
    pub event: NoticeKind,
    /// Whose state has changed.
    pub subject: NoticeSubject,
    /// When the rotation ended that it was seen in.
    pub at: Timestamp,
    /// That rotation's tick.
    pub tick: Tick,
    /// How that rotation ended.
    pub outcome: RotationOutcome,
    /// Of a failure why, of all else what was done.
    pub words: String,
    /// Of a failure the one that begins, of a recovery the one that is over.
    pub trouble: Option<FailingSince>,
    /// What fails after this.
    pub failing: Failing,
}

/// Who fails. Only servers that are configured count.
#[derive(Debug, Clone, Default)]
pub(crate) struct States {
    configured: BTreeSet<ServerId>,
    failing: BTreeMap<ServerId, FailingSince>,
    account: Option<FailingSince>,
}

impl States {
    /// States of these servers. `last_known` says how each one's last rotation ended, whether well,
    /// so that a restart neither repeats a failure nor loses a recovery. Rotations that were
    /// skipped or that a shutdown broke off are not to be counted there.
    #[must_use]
    pub(crate) fn new(
        configured: impl IntoIterator<Item = ServerId>,
        last_known: impl IntoIterator<Item = (ServerId, bool)>,
    ) -> Self {
        let configured: BTreeSet<ServerId> = configured.into_iter().collect();
        let before = FailingSince { since: None, failed: 0 };
        let failing = last_known
            .into_iter()
            .filter(|(server, good)| !good && configured.contains(server))
            .map(|(server, _)| (server, before))
            .collect();
        Self { configured, failing, account: None }
    }

    /// From now on these are the servers. What is not among them is forgotten.
    pub(crate) fn configure(&mut self, configured: impl IntoIterator<Item = ServerId>) {
        self.configured = configured.into_iter().collect();
        self.failing.retain(|server, _| self.configured.contains(server));
    }

    /// What fails now.
    #[must_use]
    pub(crate) fn failing(&self) -> Failing {
        Failing { servers: self.failing.len(), account: self.account.is_some() }
    }

    /// The news in a report of a rotation that ended at `now`.
    pub(crate) fn take(&mut self, report: &Report, now: Timestamp) -> Vec<Notice> {
        if !self.configured.contains(&report.server_id) {
            return Vec::new();
        }
        let server = || NoticeSubject::Server { id: report.server_id, name: report.server.clone() };
        let begun = FailingSince { since: Some(now), failed: 1 };
        let mut news = Vec::new();
        match ServerHealth::after(report.outcome, report.known_cause) {
            ServerHealth::Unknown => {}
            ServerHealth::TokenRefused => match &mut self.account {
                Some(trouble) => trouble.failed = trouble.failed.saturating_add(1),
                None => {
                    self.account = Some(begun);
                    news.push((NoticeKind::Failure, NoticeSubject::Account, Some(begun)));
                }
            },
            ServerHealth::Bad => match self.failing.get_mut(&report.server_id) {
                Some(trouble) => trouble.failed = trouble.failed.saturating_add(1),
                None => {
                    self.failing.insert(report.server_id, begun);
                    news.push((NoticeKind::Failure, server(), Some(begun)));
                }
            },
            ServerHealth::Good => {
                if let Some(over) = self.account.take() {
                    news.push((NoticeKind::Recovery, NoticeSubject::Account, Some(over)));
                }
                news.push(match self.failing.remove(&report.server_id) {
                    Some(over) => (NoticeKind::Recovery, server(), Some(over)),
                    None => (NoticeKind::Success, server(), None),
                });
            }
        }
        let failing = self.failing();
        let notice = |(event, subject, trouble)| Notice {
            event,
            subject,
            at: now,
            tick: report.tick,
            outcome: report.outcome,
            words: match event {
                NoticeKind::Failure => report.reason.clone().unwrap_or_else(|| report.words()),
                _ => report.words(),
            },
            trouble,
            failing,
        };
        news.into_iter().map(notice).collect()
    }
}

#[cfg(test)]
mod tests;
