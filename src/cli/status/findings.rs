//! What `status` makes of what it found out: one list, which its text, its exit code and the check share.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::cli::status::gather::Gathered;
use crate::cli::status::text::common_zone;
use crate::coverage::AccountStatus;
use crate::moment::shown;
use crate::observe::status_document::{DaemonStatus, ServerRecord, ServerState};
use crate::readable;

/// How far the provider's clock may be ahead of this machine's.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

/// How bad something is, in the order of the exit codes of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Worth knowing, and nothing is wrong.
    Ok,
    /// Something is wrong.
    Warning,
    /// Snapshots are missing, or soon will be.
    Critical,
    /// It is not known whether something is wrong.
    Unknown,
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub about: About,
    pub level: Level,
    pub words: String,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// One server. In a table, its row says it.
    Server,
    /// Who should have answered and did not. That is said as it happens.
    Answers,
    /// All else.
    Daemon,
}

impl Finding {
    /// Whether all is not well.
    pub(super) fn is_trouble(&self) -> bool {
        self.level != Level::Ok
    }
}

/// All that there is to say. `max_age`: how old a last success may be; `None`: as the daemon judges it.
pub(super) fn findings(gathered: &Gathered, max_age: Option<Duration>) -> Vec<Finding> {
    let Gathered { document, unanswered } = gathered;
    let servers = document.servers.iter().filter(|it| it.state != ServerState::Disabled);
    let of_server = |server| of_server(server, document.at, max_age);
    let servers = servers.filter_map(of_server).map(about(About::Server));
    let warning = |words: &String| (Level::Warning, words.clone());
    let unanswered = unanswered.iter().map(warning).map(about(About::Answers));
    let zone = common_zone(&document.servers);
    let of_daemon = document.daemon.iter().flat_map(|it| of_daemon(it, &zone));
    let not_resumed = document.not_resumed.iter();
    let not_resumed = not_resumed.map(|it| (Level::Warning, it.words_with_server()));
    let restores = document.restores.iter().map(|it| (Level::Ok, it.words(&zone)));
    let of_account = document.account.iter().flat_map(|it| of_account(it, &zone));
    let others =
        of_daemon.chain(not_resumed).chain(restores).chain(of_account).map(about(About::Daemon));
    servers.chain(unanswered).chain(others).collect()
}

fn about(about: About) -> impl Fn((Level, String)) -> Finding {
    move |(level, words)| Finding { about, level, words }
}

fn of_daemon(daemon: &DaemonStatus, zone: &TimeZone) -> Vec<(Level, String)> {
    let mut found = Vec::new();
    if !daemon.alive {
        found.push((Level::Critical, "the scheduler of the daemon has stalled".to_owned()));
    }
    found.extend(daemon.rejected_reload(zone).map(|words| (Level::Warning, words)));
    // Servers that this affects are in trouble themselves.
    let of_accounts = daemon.accounts.iter().flat_map(|it| it.problems(zone));
    let of_accounts = daemon.refused_token(zone).into_iter().chain(of_accounts);
    found.extend(of_accounts.map(|words| (Level::Ok, words)));
    if let Some(until) = daemon.throttled_until.filter(|_| daemon.accounts.is_empty()) {
        let until = shown(until, zone);
        let words = format!(
            "the provider is throttling the account (429): no calls are sent until {until}"
        );
        found.push((Level::Ok, words));
    }
    found.extend(daemon.store.problem().map(|words| (Level::Warning, words)));
    let undelivered = daemon.undelivered_notices.iter();
    found.extend(undelivered.map(|it| (Level::Warning, it.words(zone))));
    found
}

fn of_account(account: &AccountStatus, zone: &TimeZone) -> Vec<(Level, String)> {
    let is_cover = |words: &String| account.cover_problem_at(zone).as_ref() == Some(words);
    let found = account.findings(zone).into_iter();
    found.map(|it| (if is_cover(&it) { Level::Warning } else { Level::Ok }, it)).collect()
}

fn of_server(
    server: &ServerRecord,
    now: Timestamp,
    max_age: Option<Duration>,
) -> Option<(Level, String)> {
    let name = &server.name;
    let reason = server
        .trouble
        .as_ref()
        .and_then(|trouble| trouble.reason.as_deref())
        .map_or(String::new(), |reason| format!(" ({reason})"));
    let is_trouble = server.state.is_trouble();
    let in_trouble = || (Level::Warning, format!("{name}: {}{reason}", server.state.as_str()));
    let Some(max_age) = max_age else { return is_trouble.then(in_trouble) };
    let allowed = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
    match server.last_success_at.map(|at| now.duration_since(at)) {
        Some(age) if age < -CLOCKS_APART => {
            let ahead = readable::span(-age);
            let words = format!("{name}: the last success is {ahead} ahead of now: check clocks");
            Some((Level::Unknown, words))
        }
        Some(age) if age > allowed => {
            let what = match server.last_success_is_snapshot {
                true => {
                    "no rotation is known to have succeeded, and the newest snapshot was started"
                }
                false => "the last success was",
            };
            let words = format!("{name}: {what} {} ago{reason}", readable::span(age));
            Some((Level::Critical, words))
        }
        None if is_trouble => Some((Level::Critical, format!("{name}: no success yet{reason}"))),
        None => {
            let waiting = server.waiting.as_ref().map(|waiting| waiting.reason.as_str());
            let words = waiting.unwrap_or("no success is known yet");
            Some((Level::Unknown, format!("{name}: {words}")))
        }
        Some(_) => is_trouble.then(in_trouble),
    }
}

#[cfg(test)]
pub(super) mod tests;
