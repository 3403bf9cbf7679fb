//! Which reports are news: a change for the worse or the better, not each tick of a long trouble.
//!
//! A server is in trouble or it is not, as [`RotationHistory`] has it; an account's token is refused or it is
//! not. A refused token fails the rotations of all servers of the account, and it is the account's trouble, told
//! once. So is a list of servers that a `cover` needs and that cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::coverage::CoverProblem;
use crate::health::{Ended, Evidence, RotationHistory, Trouble, TroubleKind};
use crate::naming::{Account, ServerId, Subject, Tick};
use crate::report::{KnownCause, LastOfServer, PastRotation, Report, RotationOutcome, Stretch};
use crate::server::{Server, common_zone};

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeKind {
    /// A server is in trouble, or the account.
    Failure,
    /// That was told some time ago, and is still so.
    Reminder,
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
            Self::Reminder => "reminder",
            Self::Recovery => "recovery",
            Self::Success => "success",
            Self::Test => "test",
        }
    }
}

/// Whose state has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeSubject {
    /// An account: its token.
    Account(Account),
    /// The list by which a `cover` finds the servers of an account.
    Cover(Account),
    /// One server.
    Server {
        /// The provider's number.
        id: ServerId,
        /// Its name in the configuration.
        name: String,
    },
}

impl NoticeSubject {
    /// The same without a name.
    #[must_use]
    pub fn of(&self) -> Subject {
        match self {
            Self::Account(account) => Subject::Account(*account),
            Self::Cover(account) => Subject::Cover(*account),
            Self::Server { id, .. } => Subject::Server(*id),
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
    /// How many accounts' tokens are refused.
    pub accounts: usize,
    /// How many accounts with a `cover` do not list their servers.
    pub covers: usize,
}

impl Failing {
    /// Whether nothing does.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// What shows how a subject stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenBy {
    /// A rotation.
    Rotation(Tick, RotationOutcome),
    /// The time: the last success is too old.
    Age,
    /// A restore that left the server broken.
    Restore,
    /// The list of an account's servers.
    List,
}

impl SeenBy {
    /// The rotation, if it was one.
    #[must_use]
    pub fn rotation(self) -> Option<(Tick, RotationOutcome)> {
        match self {
            Self::Rotation(tick, outcome) => Some((tick, outcome)),
            Self::Age | Self::Restore | Self::List => None,
        }
    }
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about; never [`NoticeKind::Test`].
    pub event: NoticeKind,
    /// Whose state has changed.
    pub subject: NoticeSubject,
    /// In which its times are shown to people.
    pub zone: TimeZone,
    /// When it was seen, at the end of a rotation if it was one.
    pub at: Timestamp,
    /// What showed it.
    pub seen_by: SeenBy,
    /// Of a failure why, of a reminder the last reason, of all else what was done.
    pub words: String,
    /// Of a failure the one that begins, of a reminder the one that goes on, of a recovery the one that is
    /// over.
    pub trouble: Option<FailingSince>,
    /// What fails after this.
    pub failing: Failing,
    /// Of a failure: it began earlier. Only targets that it could not be delivered to then get it.
    pub goes_on: bool,
    /// Of a recovery: the failure could not be told to this target.
    pub failure_untold: bool,
}

/// Trouble that goes on: all that a reminder says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ongoing {
    since: FailingSince,
    subject: NoticeSubject,
    seen_by: SeenBy,
    /// The last reason.
    words: String,
}

impl Ongoing {
    /// As a past rotation shows it; `since`: of all that ended like it.
    fn known(since: FailingSince, subject: NoticeSubject, past: &PastRotation) -> Self {
        let report = past.report();
        Self {
            since,
            subject,
            seen_by: SeenBy::Rotation(past.tick, past.outcome),
            words: report.reason.clone().unwrap_or_else(|| report.words()),
        }
    }
}

/// In which zone times are shown.
#[derive(Debug, Clone)]
struct Zones {
    of_servers: BTreeMap<ServerId, TimeZone>,
    common: TimeZone,
}

impl Default for Zones {
    fn default() -> Self {
        Self { of_servers: BTreeMap::new(), common: TimeZone::UTC }
    }
}

impl Zones {
    fn of(&self, subject: &NoticeSubject) -> TimeZone {
        let own = match subject {
            NoticeSubject::Server { id, .. } => self.of_servers.get(id),
            NoticeSubject::Account(_) | NoticeSubject::Cover(_) => None,
        };
        own.unwrap_or(&self.common).clone()
    }
}

/// Who fails. Only servers that are configured count.
#[derive(Debug, Clone, Default)]
pub(crate) struct States {
    configured: BTreeSet<ServerId>,
    zones: Zones,
    histories: BTreeMap<ServerId, RotationHistory>,
    failing: BTreeMap<ServerId, Ongoing>,
    accounts: BTreeMap<Account, Ongoing>,
    covers: BTreeMap<Account, Ongoing>,
    /// Accounts with a `cover`.
    covered: BTreeSet<Account>,
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
        let is_configured = |it: &LastOfServer| states.configured.contains(&it.server_id);
        let last_known: Vec<LastOfServer> = last_known.into_iter().filter(is_configured).collect();
        let of_account = |it: &LastOfServer| it.server_id.account;
        let accounts: BTreeSet<Account> = last_known.iter().map(of_account).collect();
        for account in accounts {
            let own = last_known.iter().filter(|it| it.server_id.account == account);
            let ongoing = account_of(account, &own.collect::<Vec<_>>());
            states.accounts.extend(ongoing.map(|it| (account, it)));
        }
        for last in last_known {
            // Rotations that were only refused with the token say nothing of their server.
            let last = last.own();
            let history = RotationHistory::known(&last);
            let bad = last.rotations.iter().rev().find(|it| {
                let evidence = Evidence::of(it.outcome, it.cause);
                matches!(evidence, Evidence::Bad | Evidence::Hindered)
            });
            if let (Some(trouble), Some(past)) = (history.trouble(), bad) {
                let is_known = last.failed.is_some() || trouble.kind == TroubleKind::Skipped;
                let since = FailingSince {
                    since: is_known.then_some(trouble.since),
                    failed: if is_known { trouble.rotations } else { 0 },
                };
                let name = past.server.clone();
                let subject = NoticeSubject::Server { id: last.server_id, name };
                states.failing.insert(last.server_id, Ongoing::known(since, subject, past));
            }
            states.histories.insert(last.server_id, history);
        }
        states
    }

    /// The notice of continuing trouble of a server, or of an account; `None` if there is no trouble.
    pub(crate) fn of_ongoing(
        &self,
        event: NoticeKind,
        of: Subject,
        now: Timestamp,
    ) -> Option<Notice> {
        let ongoing = match of {
            Subject::Server(server) => self.failing.get(&server),
            Subject::Account(account) => self.accounts.get(&account),
            Subject::Cover(account) => self.covers.get(&account),
        };
        Some(self.notice(event, ongoing?.clone(), now))
    }

    /// The notice of trouble that continues.
    fn notice(&self, event: NoticeKind, ongoing: Ongoing, at: Timestamp) -> Notice {
        let Ongoing { since, subject, seen_by, words } = ongoing;
        Notice {
            event,
            zone: self.zones.of(&subject),
            subject,
            at,
            seen_by,
            words,
            trouble: Some(since),
            failing: self.failing(),
            goes_on: false,
            failure_untold: false,
        }
    }

    /// All that fails, and since when.
    pub(crate) fn ongoing(&self) -> impl Iterator<Item = (Subject, Option<Timestamp>)> + '_ {
        let all = self.failing.values().chain(self.accounts.values()).chain(self.covers.values());
        all.map(|it| (it.subject.of(), it.since.since))
    }

    /// Whether this is a server that is configured, or the account of one.
    pub(crate) fn has(&self, of: Subject) -> bool {
        match of {
            Subject::Server(server) => self.configured.contains(&server),
            Subject::Account(account) => self.has_account(account),
            Subject::Cover(account) => self.covered.contains(&account),
        }
    }

    fn has_account(&self, account: Account) -> bool {
        // Servers are in order, those of one account together.
        let first = self.configured.range(ServerId { account, number: 0 }..).next();
        first.is_some_and(|it| it.account == account)
    }

    /// From now on these are the servers, and the accounts with a `cover`. What is not among them is forgotten.
    pub(crate) fn configure(
        &mut self,
        configured: impl IntoIterator<Item = ServerId>,
        covered: impl IntoIterator<Item = Account>,
    ) {
        self.configured = configured.into_iter().collect();
        self.covered = covered.into_iter().collect();
        self.covers.retain(|account, _| self.covered.contains(account));
        self.histories.retain(|server, _| self.configured.contains(server));
        self.failing.retain(|server, _| self.configured.contains(server));
        let mut accounts = std::mem::take(&mut self.accounts);
        accounts.retain(|account, _| self.has_account(*account));
        self.accounts = accounts;
    }

    /// From now on, times are shown in the zones of these servers, and what concerns the account in the one that
    /// they have in common.
    pub(crate) fn show_times_of(&mut self, servers: &[Arc<Server>]) {
        let zone = |it: &Arc<Server>| (it.id, it.policy.time_zone.clone());
        let common = common_zone(servers.iter().map(AsRef::as_ref));
        self.zones = Zones { of_servers: servers.iter().map(zone).collect(), common };
    }

    /// What fails now.
    #[must_use]
    pub(crate) fn failing(&self) -> Failing {
        Failing {
            servers: self.failing.len(),
            accounts: self.accounts.len(),
            covers: self.covers.len(),
        }
    }

    /// That a server is in trouble that no rotation has shown.
    pub(crate) fn take_standing(
        &mut self,
        server: &Server,
        trouble: &Trouble,
        now: Timestamp,
    ) -> Option<Notice> {
        if !self.configured.contains(&server.id) {
            return None;
        }
        let seen_by = match trouble.kind {
            TroubleKind::Stale => SeenBy::Age,
            _ if trouble.is_of_restore() => SeenBy::Restore,
            _ => return None,
        };
        let goes_on = self.failing.contains_key(&server.id);
        let ongoing = self.failing.entry(server.id).or_insert_with(|| Ongoing {
            since: FailingSince { since: Some(trouble.since), failed: 0 },
            subject: NoticeSubject::Server { id: server.id, name: server.name.clone() },
            seen_by,
            words: trouble.reason.as_deref().unwrap_or_default().to_owned(),
        });
        let ongoing = ongoing.clone();
        Some(Notice { goes_on, ..self.notice(NoticeKind::Failure, ongoing, now) })
    }

    /// That a `cover` does not know the servers of its account. `since`: as far as anybody knows.
    pub(crate) fn take_cover(
        &mut self,
        problem: &CoverProblem,
        since: Timestamp,
        now: Timestamp,
    ) -> Option<Notice> {
        let account = problem.account;
        if !self.covered.contains(&account) {
            return None;
        }
        let known = self.covers.get(&account).map(|it| it.since);
        let ongoing = Ongoing {
            since: known.unwrap_or(FailingSince { since: Some(since), failed: 0 }),
            subject: NoticeSubject::Cover(account),
            seen_by: SeenBy::List,
            words: problem.words.clone(),
        };
        self.covers.insert(account, ongoing.clone());
        let goes_on = known.is_some();
        Some(Notice { goes_on, ..self.notice(NoticeKind::Failure, ongoing, now) })
    }

    /// That a `cover` knows the servers of its account, and whether it did not before.
    pub(crate) fn take_listed(&mut self, account: Account, now: Timestamp) -> (Notice, bool) {
        let over = self.covers.remove(&account);
        let subject = NoticeSubject::Cover(account);
        let notice = Notice {
            event: NoticeKind::Recovery,
            zone: self.zones.of(&subject),
            subject,
            at: now,
            seen_by: SeenBy::List,
            words: String::new(),
            trouble: over.as_ref().map(|it| it.since),
            failing: self.failing(),
            goes_on: false,
            failure_untold: false,
        };
        (notice, over.is_some())
    }

    /// The news in a report of a rotation that ended at `now`, and the failure that goes on in it.
    pub(crate) fn take(&mut self, report: &Report, now: Timestamp) -> Vec<Notice> {
        if !self.configured.contains(&report.server_id) {
            return Vec::new();
        }
        let server = || NoticeSubject::Server { id: report.server_id, name: report.server.clone() };
        let account = report.server_id.account;
        let (mut news, mut goes_on) = (Vec::new(), false);
        let evidence = Evidence::of(report.outcome, report.known_cause);
        let reason = || report.reason.clone().unwrap_or_else(|| report.words());
        let seen_by = SeenBy::Rotation(report.tick, report.outcome);
        let ongoing = |since, subject| Ongoing { since, subject, seen_by, words: reason() };
        if evidence == Evidence::TokenRefused {
            let known = self.accounts.get(&account).map(|it| it.since);
            let since = FailingSince {
                since: known.map_or(Some(now), |it| it.since),
                failed: known.map_or(0, |it| it.failed).saturating_add(1),
            };
            goes_on = known.is_some();
            let subject = NoticeSubject::Account(account);
            self.accounts.insert(account, ongoing(since, subject.clone()));
            news.push((NoticeKind::Failure, subject, Some(since)));
        } else {
            let history = self.histories.entry(report.server_id).or_default();
            let before = history.trouble().map_or(0, |trouble| trouble.rotations);
            history.ended(&Ended::of(report, now));
            match (history.trouble(), self.failing.get_mut(&report.server_id)) {
                (Some(trouble), Some(known)) => {
                    let more = trouble.rotations.saturating_sub(before);
                    if more > 0 {
                        goes_on = true;
                        let failed = known.since.failed.saturating_add(more);
                        *known = ongoing(FailingSince { failed, ..known.since }, server());
                        news.push((NoticeKind::Failure, server(), Some(known.since)));
                    }
                }
                (Some(trouble), None) => {
                    let begun =
                        FailingSince { since: Some(trouble.since), failed: trouble.rotations };
                    self.failing.insert(report.server_id, ongoing(begun, server()));
                    news.push((NoticeKind::Failure, server(), Some(begun)));
                }
                (None, _) => {}
            }
        }
        if evidence == Evidence::Good {
            if let Some(over) = self.accounts.remove(&account) {
                news.push((
                    NoticeKind::Recovery,
                    NoticeSubject::Account(account),
                    Some(over.since),
                ));
            }
            news.push(match self.failing.remove(&report.server_id) {
                Some(over) => (NoticeKind::Recovery, server(), Some(over.since)),
                None => (NoticeKind::Success, server(), None),
            });
        }
        let failing = self.failing();
        let notice = |(event, subject, trouble)| Notice {
            event,
            zone: self.zones.of(&subject),
            subject,
            at: now,
            seen_by,
            words: match event {
                NoticeKind::Failure => reason(),
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

/// An account's trouble as past rotations of its servers show it: the token was refused after the last good
/// rotation of any of them.
fn account_of(account: Account, last_known: &[&LastOfServer]) -> Option<Ongoing> {
    let all = || last_known.iter().flat_map(|it| &it.rotations);
    let well = all().filter(|it| it.outcome.is_good()).map(|it| it.ended_at).max();
    let is_after = |at: Timestamp| well.is_none_or(|well| at > well);
    let refused = |it: &&PastRotation| it.cause == Some(KnownCause::Token) && is_after(it.ended_at);
    let past = all().filter(refused).max_by_key(|it| it.ended_at)?;
    let stretches = || last_known.iter().filter_map(|it| it.refused);
    let since = stretches().map(|it: Stretch| it.since).filter(|at| is_after(*at)).min();
    let failed = stretches().map(|it| it.rotations).fold(0, u32::saturating_add);
    Some(Ongoing::known(FailingSince { since, failed }, NoticeSubject::Account(account), past))
}

#[cfg(test)]
mod tests;
