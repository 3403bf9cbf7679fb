//! Which servers of an account have a policy, and which policies have no server.

use std::collections::HashSet;
use std::fmt;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::foreign::ForeignText;
use crate::moment::shown;
use crate::naming::{Account, ServerId};

/// How many servers are named.
const NAMED: usize = 5;

/// What was listed longer ago than this says nothing.
const LISTED_WITHIN: SignedDuration = SignedDuration::from_hours(25);

/// One of the account's servers, as far as snapring uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountServer {
    /// The provider's number.
    pub id: ServerId,
    /// Its name at the provider.
    pub name: ForeignText,
    /// Its state in the provider's words.
    pub status: Option<ForeignText>,
    /// Where it is, in the provider's words.
    pub location: Option<ForeignText>,
}

/// How the configured servers of an account and those that it has go together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Servers of the account that have no policy, with their names at the provider.
    pub uncovered: NamedServers,
    /// Servers that are configured, and that the account does not have.
    pub missing: NamedServers,
}

/// Servers, the first few of which are named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedServers {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub first: Vec<NamedServer>,
}

/// A server and its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedServer {
    /// The provider's number.
    pub id: ServerId,
    /// Its name.
    pub name: String,
    /// Its account, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

impl Coverage {
    /// Compares the configured servers of an account with those that it has.
    pub fn of<'a>(
        configured: impl IntoIterator<Item = (ServerId, &'a str)>,
        account: &[AccountServer],
    ) -> Self {
        let known: HashSet<ServerId> = account.iter().map(|server| server.id).collect();
        let mut has_policy = HashSet::new();
        let mut missing = NamedServers::default();
        for (id, name) in configured {
            has_policy.insert(id);
            if !known.contains(&id) {
                missing.add(id, || name.to_owned());
            }
        }
        let mut uncovered = NamedServers::default();
        for server in account.iter().filter(|server| !has_policy.contains(&server.id)) {
            uncovered.add(server.id, || server.name.to_string());
        }
        Self { uncovered, missing }
    }

    /// The same of one account among several: what it says names the account.
    #[must_use]
    pub fn of_account(mut self, account: Account) -> Self {
        for server in self.uncovered.first.iter_mut().chain(&mut self.missing.first) {
            server.account = Some(account.name().to_owned());
        }
        self
    }

    fn add(&mut self, other: Self) {
        for (all, more) in
            [(&mut self.uncovered, other.uncovered), (&mut self.missing, other.missing)]
        {
            all.count += more.count;
            all.first.extend(more.first);
            all.first.truncate(NAMED);
        }
    }

    /// Whether each server has a policy, and each policy a server.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.uncovered.count == 0 && self.missing.count == 0
    }

    /// What a person should know, a sentence for each.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        self.uncovered_finding().into_iter().chain(self.missing_finding()).collect()
    }

    /// That servers of the account have no policy.
    #[must_use]
    pub fn uncovered_finding(&self) -> Option<String> {
        let it = &self.uncovered;
        match it.count {
            0 => None,
            1 => Some(format!("1 server of {} has no policy: {it}", it.whose())),
            count => Some(format!("{count} servers of {} have no policy: {it}", it.whose())),
        }
    }

    /// That configured servers are not in the account.
    #[must_use]
    pub fn missing_finding(&self) -> Option<String> {
        let it = &self.missing;
        match it.count {
            0 => None,
            1 => Some(format!("1 configured server is not in {}: {it}", it.whose())),
            count => Some(format!("{count} configured servers are not in {}: {it}", it.whose())),
        }
    }
}

/// Why a `cover` does not know the servers of its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoverProblem {
    /// Whose.
    pub account: Account,
    /// Since when, as far as this process knows.
    pub since: Timestamp,
    /// A sentence without its full stop.
    pub words: String,
}

/// What the provider last said of the servers of an account.
#[derive(Debug, Clone, Default)]
pub struct AccountServers {
    listed: Option<(Timestamp, Vec<AccountServer>)>,
    problem: Option<String>,
    /// Since when there is no list with a server in it, if that was asked for.
    unknown_since: Option<Timestamp>,
}

impl AccountServers {
    /// They were listed.
    pub fn listed(&mut self, servers: Vec<AccountServer>, at: Timestamp) {
        let is_unknown = servers.is_empty();
        let unknown_since = is_unknown.then(|| self.unknown_since.unwrap_or(at));
        *self = Self { listed: Some((at, servers)), problem: None, unknown_since };
    }

    /// They could not be listed, for this reason. Whether that is news.
    pub fn not_listed(&mut self, problem: String, at: Timestamp) -> bool {
        self.unknown_since.get_or_insert(at);
        self.problem.replace(problem).is_none()
    }

    /// What a `cover` of this account lacks.
    #[must_use]
    pub fn cover_problem(&self, account: Account) -> Option<CoverProblem> {
        let words = match &self.problem {
            Some(problem) => not_covered(account, problem),
            None => empty_list(account),
        };
        self.unknown_since.map(|since| CoverProblem { account, since, words })
    }

    /// What that says of the configured servers.
    pub fn status<'a>(
        &self,
        configured: impl IntoIterator<Item = (ServerId, &'a str)>,
        now: Timestamp,
    ) -> AccountStatus {
        let is_recent = |at: Timestamp| now.duration_since(at) <= LISTED_WITHIN;
        let listed = self.listed.as_ref().filter(|(at, _)| is_recent(*at));
        AccountStatus {
            listed_at: listed.map(|(at, _)| *at),
            coverage: listed.map(|(_, servers)| Coverage::of(configured, servers)),
            problem: self.problem.clone(),
            problem_since: self.unknown_since,
            is_partial: false,
            cover_problem: None,
        }
    }
}

/// Whether all servers of an account have a policy, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountStatus {
    /// When the provider last listed its servers, unless that is too long ago.
    pub listed_at: Option<Timestamp>,
    /// What that says of the configured ones.
    pub coverage: Option<Coverage>,
    /// Why they could not be listed when last tried.
    pub problem: Option<String>,
    /// Since when that, or what `cover_problem` says, has been so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem_since: Option<Timestamp>,
    /// Whether there is an account of which nothing is known.
    #[serde(default)]
    pub is_partial: bool,
    /// That servers of an account with a `cover` may not be rotated, because it could not be listed when last tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cover_problem: Option<String>,
}

impl AccountStatus {
    /// Of several accounts together.
    #[must_use]
    pub fn together(accounts: impl IntoIterator<Item = (Account, Self)>) -> Self {
        let accounts: Vec<_> = accounts.into_iter().collect();
        let are_several = accounts.len() > 1;
        let mut all = Self::default();
        for (account, one) in accounts {
            all.listed_at = all.listed_at.into_iter().chain(one.listed_at).min();
            let of_account = |problem: String| match account.label() {
                None => problem,
                Some(name) => format!("account {name}: {problem}"),
            };
            // Of several problems, one is told.
            let is_unknown = one.coverage.is_none() && one.problem.is_some();
            let comes_first = one.cover_problem.is_some() || all.problem.is_none() || is_unknown;
            if all.cover_problem.is_none() && comes_first {
                all.problem_since = one.problem_since;
            }
            all.cover_problem = all.cover_problem.or(one.cover_problem);
            let problem = one.problem.map(of_account);
            match one.coverage {
                Some(coverage) => {
                    let coverage = match are_several || account.label().is_some() {
                        true => coverage.of_account(account),
                        false => coverage,
                    };
                    all.coverage.get_or_insert_default().add(coverage);
                }
                None if problem.is_some() => {
                    all.is_partial = true;
                    all.problem = None;
                }
                None => {}
            }
            all.problem = all.problem.or(problem);
        }
        all
    }

    /// What a person should know, a sentence for each.
    #[must_use]
    pub fn findings(&self, zone: &TimeZone) -> Vec<String> {
        let known = self.coverage.iter().flat_map(Coverage::findings);
        if let Some(problem) = self.cover_problem_at(zone) {
            return known.chain([problem]).collect();
        }
        let problem = self.problem.iter().filter(|_| self.coverage.is_none() || self.is_partial);
        let problem = problem.map(|it| self.with_time(unknown(Account::API, it), zone));
        known.chain(problem).collect()
    }

    /// What `cover_problem` says, and since when it has been so.
    #[must_use]
    pub fn cover_problem_at(&self, zone: &TimeZone) -> Option<String> {
        self.cover_problem.clone().map(|it| self.with_time(it, zone))
    }

    fn with_time(&self, problem: String, zone: &TimeZone) -> String {
        match self.problem_since {
            Some(since) => format!("{problem} (since {})", shown(since, zone)),
            None => problem,
        }
    }
}

/// That the servers of the account could not be listed, for this reason.
#[must_use]
pub fn unknown(account: Account, problem: &str) -> String {
    let whose = account.in_words();
    format!("it is not known whether each server of {whose} has a policy: {problem}")
}

/// That an account with a `cover` has an empty list of servers.
#[must_use]
pub fn empty_list(account: Account) -> String {
    let whose = account.in_words();
    format!(
        "the list of servers of {whose} is empty, so it is not believed: `cover` gives no policy to new ones, and those \
         known before are still rotated"
    )
}

/// That servers without a table may not be rotated, for this reason.
#[must_use]
pub fn not_covered(account: Account, problem: &str) -> String {
    let whose = account.in_words();
    format!(
        "the servers of {whose} cannot be listed, so `cover` gives no policy to new ones: {problem}"
    )
}

impl NamedServers {
    /// The account that they are in, if they are known to be in one.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        let first = self.first.first()?.account.as_deref();
        let is_one = self.first.iter().all(|it| it.account.as_deref() == first);
        first.filter(|_| is_one && self.count == self.first.len())
    }

    fn whose(&self) -> String {
        match self.account() {
            Some(name) => format!("account {name}"),
            None if self.first.iter().any(|it| it.account.is_some()) => "the accounts".to_owned(),
            None => "the account".to_owned(),
        }
    }

    pub(crate) fn add(&mut self, id: ServerId, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(NamedServer { id, name: name(), account: None });
        }
    }
}

impl fmt::Display for NamedServers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One account is named before the list.
        let is_one = self.account().is_some();
        for (nth, NamedServer { id, name, account }) in self.first.iter().enumerate() {
            let comma = if nth > 0 { ", " } else { "" };
            let account = account.as_ref().filter(|_| !is_one);
            let account = account.map(|name| format!(" in {name}")).unwrap_or_default();
            match name.is_empty() {
                true => write!(out, "{comma}{id}{account}")?,
                false => write!(out, "{comma}{name} ({id}{account})")?,
            }
        }
        match self.count.saturating_sub(self.first.len()) {
            0 => Ok(()),
            more => write!(out, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::account_servers as account;

    #[test]
    fn each_server_without_a_policy_and_each_policy_without_a_server_is_counted() {
        let account = account(&[(101, "web"), (102, "db\u{1b}[31m"), (103, "")]);
        let configured = [(ServerId::new(101), "web-01"), (ServerId::new(999), "gone")];
        let coverage = Coverage::of(configured, &account);
        assert_eq!((coverage.uncovered.count, coverage.missing.count), (2, 1));
        assert_eq!(
            coverage.findings(),
            [
                "2 servers of the account have no policy: db\u{fffd}[31m (102), 103",
                "1 configured server is not in the account: gone (999)"
            ]
        );
        assert!(!coverage.is_whole());
        let all = [(ServerId::new(101), "a"), (ServerId::new(102), "b"), (ServerId::new(103), "c")];
        let whole = Coverage::of(all, &account);
        assert!(whole.is_whole() && whole.findings().is_empty());
    }

    #[test]
    fn a_list_counts_for_a_day_and_a_failure_is_news_once() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let mut servers = AccountServers::default();
        let configured = || [(ServerId::new(101), "web")];
        let findings = |servers: &AccountServers, now: &str| {
            servers.status(configured(), at(now)).findings(&TimeZone::UTC)
        };
        assert!(findings(&servers, "2026-11-23T12:00:00Z").is_empty(), "nothing is known yet");
        assert!(servers.not_listed("forbidden".to_owned(), at("2026-11-22T12:00:00Z")));
        assert!(!servers.not_listed("forbidden again".to_owned(), at("2026-11-22T18:00:00Z")));
        let unknown = findings(&servers, "2026-11-23T12:00:00Z");
        assert!(
            unknown[0].ends_with("has a policy: forbidden again (since 2026-11-22 12:00:00 UTC)"),
            "{unknown:?}"
        );
        servers.listed(account(&[(102, "db")]), at("2026-11-23T12:00:00Z"));
        assert!(
            servers.not_listed("503".to_owned(), at("2026-11-24T11:00:00Z")),
            "it was listed meanwhile"
        );
        let known = findings(&servers, "2026-11-24T12:00:00Z");
        assert_eq!(known.len(), 2, "what was listed a day ago still counts: {known:?}");
        assert!(
            findings(&servers, "2026-11-24T13:00:01Z")[0]
                .ends_with("503 (since 2026-11-24 11:00:00 UTC)")
        );
        assert_eq!(servers.status(configured(), at("2026-11-24T13:00:01Z")).coverage, None);
    }

    #[test]
    fn several_accounts_are_told_together_and_what_is_unknown_is_said() {
        let at: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let (mut one, mut other) = (AccountServers::default(), AccountServers::default());
        one.listed(account(&[(101, "web"), (102, "db")]), at);
        let b = Account::named("b").unwrap();
        let together = |other: &AccountServers| {
            AccountStatus::together([
                (Account::API, one.status([(ServerId::new(101), "web")], at)),
                (b, other.status([], at)),
            ])
        };
        assert_eq!(
            together(&other).findings(&TimeZone::UTC),
            ["1 server of account default has no policy: db (102)"]
        );
        other.not_listed("forbidden".to_owned(), at);
        let findings = together(&other).findings(&TimeZone::UTC);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[1].contains("has a policy: account b: forbidden (since "), "{findings:?}");
        let id = ServerId { account: b, number: 102 };
        other
            .listed(vec![AccountServer { id, name: "x".into(), status: None, location: None }], at);
        assert_eq!(
            together(&other).findings(&TimeZone::UTC),
            ["2 servers of the accounts have no policy: db (102 in default), x (102 in b)"]
        );
    }

    #[test]
    fn what_concerns_one_account_of_several_names_it() {
        let at: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let b = Account::named("b").unwrap();
        let (mut one, mut other) = (AccountServers::default(), AccountServers::default());
        one.listed(account(&[(101, "web")]), at);
        other.listed(Vec::new(), at);
        let missing = ServerId { account: b, number: 7 };
        let all = AccountStatus::together([
            (Account::API, one.status([(ServerId::new(101), "web")], at)),
            (b, other.status([(missing, "gone")], at)),
        ]);
        assert_eq!(
            all.findings(&TimeZone::UTC),
            ["1 configured server is not in account b: gone (7)"]
        );
        let alone = AccountStatus::together([(Account::API, one.status([], at))]);
        assert_eq!(
            alone.findings(&TimeZone::UTC),
            ["1 server of the account has no policy: web (101)"]
        );
        assert!(unknown(b, "503").contains("each server of account b has a policy: 503"));
    }

    #[test]
    fn only_the_first_few_of_many_are_named() {
        let many: Vec<(u64, &str)> = (1..=2000).map(|id| (id, "web")).collect();
        let coverage = Coverage::of([], &account(&many));
        assert_eq!(coverage.uncovered.first.len(), NAMED);
        let finding = coverage.uncovered_finding().unwrap();
        assert!(
            finding.starts_with("2000 servers of the account have no policy: web (1), web (2)")
        );
        assert!(finding.ends_with("web (5) and 1995 more"), "{finding}");
    }
}
