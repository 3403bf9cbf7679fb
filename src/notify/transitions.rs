//! Which reports are news: a change for the worse or the better, not each tick of a long trouble.
//!
//! A server is in trouble or it is not, as [`RotationHistory`] has it; the account's token is refused or
//! it is not. A refused token fails the rotations of every server, and it is the account's trouble, told
//! once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::health::{Ended, Evidence, RotationHistory, Trouble, TroubleKind};
use crate::naming::{ServerId, Tick};
use crate::report::{LastOfServer, Report, RotationOutcome};
use crate::server::Server;

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeKind {
    /// A server is in trouble, or the account.
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

impl NoticeSubject {
    /// The server; none of the account.
    #[must_use]
    pub fn server(&self) -> Option<ServerId> {
        match self {
            Self::Account => None,
            Self::Server { id, .. } => Some(*id),
        }
    }
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
    /// When it was seen, at the end of a rotation if it was one.
    pub at: Timestamp,
    /// That rotation; none where the last success is too old.
    pub rotation: Option<(Tick, RotationOutcome)>,
    /// Of a failure why, of all else what was done.
    pub words: String,
    /// Of a failure the one that begins, of a recovery the one that is over.
    pub trouble: Option<FailingSince>,
    /// What fails after this.
    pub failing: Failing,
    /// Of a failure: it began earlier. Only targets that could not be told then are told of it.
    pub goes_on: bool,
    /// Of a recovery: the failure could not be told to this target.
    pub failure_untold: bool,
}

/// Who fails. Only servers that are configured count.
#[derive(Debug, Clone, Default)]
pub(crate) struct States {
    configured: BTreeSet<ServerId>,
    histories: BTreeMap<ServerId, RotationHistory>,
    failing: BTreeMap<ServerId, FailingSince>,
    account: Option<FailingSince>,
}

impl States {
    /// States of these servers. `last_known`: how their last rotations ended, so that a restart neither
    /// repeats a failure nor loses a recovery.
    #[must_use]
    pub(crate) fn new(
        configured: impl IntoIterator<Item = ServerId>,
        last_known: impl IntoIterator<Item = LastOfServer>,
    ) -> Self {
        let mut states = Self { configured: configured.into_iter().collect(), ..Self::default() };
        let before = FailingSince { since: None, failed: 0 };
        for LastOfServer { server_id, rotations } in last_known {
            if !states.configured.contains(&server_id) {
                continue;
            }
            // Rotations that were only refused with the token say nothing of their server.
            let own = |it: &Ended| Evidence::of(it.outcome, it.cause) != Evidence::TokenRefused;
            let history = states.histories.entry(server_id).or_default();
            for ended in rotations.iter().map(Ended::from).filter(own) {
                history.ended(&ended);
            }
            if history.trouble().is_some() {
                states.failing.insert(server_id, before);
            }
        }
        states
    }

    /// From now on these are the servers. What is not among them is forgotten.
    pub(crate) fn configure(&mut self, configured: impl IntoIterator<Item = ServerId>) {
        self.configured = configured.into_iter().collect();
        self.histories.retain(|server, _| self.configured.contains(server));
        self.failing.retain(|server, _| self.configured.contains(server));
    }

    /// What fails now.
    #[must_use]
    pub(crate) fn failing(&self) -> Failing {
        Failing { servers: self.failing.len(), account: self.account.is_some() }
    }

    /// That a server's last success is too old.
    pub(crate) fn take_stale(
        &mut self,
        server: &Server,
        trouble: &Trouble,
        now: Timestamp,
    ) -> Option<Notice> {
        if !self.configured.contains(&server.id) || trouble.kind != TroubleKind::Stale {
            return None;
        }
        let begun = FailingSince { since: Some(trouble.since), failed: 0 };
        let goes_on = self.failing.contains_key(&server.id);
        let begun = *self.failing.entry(server.id).or_insert(begun);
        Some(Notice {
            event: NoticeKind::Failure,
            subject: NoticeSubject::Server { id: server.id, name: server.name.clone() },
            at: now,
            rotation: None,
            words: trouble.reason.as_deref().unwrap_or_default().to_owned(),
            trouble: Some(begun),
            failing: self.failing(),
            goes_on,
            failure_untold: false,
        })
    }

    /// The news in a report of a rotation that ended at `now`, and the failure that goes on in it.
    pub(crate) fn take(&mut self, report: &Report, now: Timestamp) -> Vec<Notice> {
        if !self.configured.contains(&report.server_id) {
            return Vec::new();
        }
        let server = || NoticeSubject::Server { id: report.server_id, name: report.server.clone() };
        let (mut news, mut goes_on) = (Vec::new(), false);
        let evidence = Evidence::of(report.outcome, report.known_cause);
        if evidence == Evidence::TokenRefused {
            let begun = FailingSince { since: Some(now), failed: 1 };
            match &mut self.account {
                Some(trouble) => {
                    trouble.failed = trouble.failed.saturating_add(1);
                    goes_on = true;
                }
                None => self.account = Some(begun),
            }
            news.push((NoticeKind::Failure, NoticeSubject::Account, self.account));
        } else {
            let history = self.histories.entry(report.server_id).or_default();
            let before = history.trouble().map_or(0, |trouble| trouble.rotations);
            history.ended(&Ended::of(report, now));
            match (history.trouble(), self.failing.get_mut(&report.server_id)) {
                (Some(trouble), Some(known)) => {
                    let more = trouble.rotations.saturating_sub(before);
                    known.failed = known.failed.saturating_add(more);
                    if more > 0 {
                        goes_on = true;
                        news.push((NoticeKind::Failure, server(), Some(*known)));
                    }
                }
                (Some(trouble), None) => {
                    let begun =
                        FailingSince { since: Some(trouble.since), failed: trouble.rotations };
                    self.failing.insert(report.server_id, begun);
                    news.push((NoticeKind::Failure, server(), Some(begun)));
                }
                (None, _) => {}
            }
        }
        if evidence == Evidence::Good {
            if let Some(over) = self.account.take() {
                news.push((NoticeKind::Recovery, NoticeSubject::Account, Some(over)));
            }
            news.push(match self.failing.remove(&report.server_id) {
                Some(over) => (NoticeKind::Recovery, server(), Some(over)),
                None => (NoticeKind::Success, server(), None),
            });
        }
        let failing = self.failing();
        let notice = |(event, subject, trouble)| Notice {
            event,
            subject,
            at: now,
            rotation: Some((report.tick, report.outcome)),
            words: match event {
                NoticeKind::Failure => report.reason.clone().unwrap_or_else(|| report.words()),
                _ => report.words(),
            },
            trouble,
            failing,
            goes_on,
            failure_untold: false,
        };
        news.into_iter().map(notice).collect()
    }
}

#[cfg(test)]
mod tests;
