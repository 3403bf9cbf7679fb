//! A check as Nagios and its kin run it: one line, performance data, an exit code from 0 to 3.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cli::error::CommandError;
use crate::cli::status::text::common_zone;
use crate::observe::status_document::{ServerRecord, ServerState, StatusDocument};
use crate::readable;

/// How far the provider's clock may be ahead of this machine's.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

/// How many servers in trouble are listed, one per line.
const SHOWN: usize = 50;

/// What a check comes to, in the order of its exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// 0.
    Ok,
    /// 1.
    Warning,
    /// 2.
    Critical,
    /// 3.
    Unknown,
}

impl Level {
    /// The exit code.
    #[must_use]
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// What a person must hear of first.
    fn weight(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unknown => 1,
            Self::Warning => 2,
            Self::Critical => 3,
        }
    }
}

/// A check that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// What it came to.
    pub level: Level,
    /// The line, and further ones about servers.
    pub words: String,
}

impl Check {
    /// Nothing could be found out.
    #[must_use]
    pub(crate) fn unknown(error: &CommandError) -> Self {
        let reason = one_line(&error.to_string());
        let words = format!("SNAPRING UNKNOWN - the state of the servers is unknown: {reason}");
        Self { level: Level::Unknown, words }
    }
}

/// Whether every enabled server has had a success within `max_age`. `unanswered`: who should have been able to
/// say so, and was not.
#[must_use]
pub(crate) fn check(document: &StatusDocument, unanswered: &[String], max_age: Duration) -> Check {
    let enabled: Vec<&ServerRecord> =
        document.servers.iter().filter(|server| server.state != ServerState::Disabled).collect();
    let ages = enabled.iter().filter_map(|server| {
        Some((age(server.last_success_at?, document.at), server.name.as_str()))
    });
    let oldest = ages.max();
    let mut findings: Vec<(Level, String)> =
        enabled.iter().filter_map(|server| judge(server, document.at, max_age)).collect();
    findings.extend(unanswered.iter().map(|problem| (Level::Warning, problem.clone())));
    let not_resumed = document.not_resumed.iter();
    findings.extend(not_resumed.map(|it| (Level::Warning, it.words_with_server())));
    let of_cover = document.account.as_ref().and_then(|it| it.cover_problem.as_deref());
    findings.extend(of_cover.map(|problem| (Level::Warning, problem.to_owned())));
    if let Some(daemon) = &document.daemon {
        if !daemon.alive {
            findings.push((Level::Critical, "the scheduler of the daemon has stalled".to_owned()));
        }
        if let Some(reason) = &daemon.configuration_refused {
            findings.push((Level::Warning, format!("the last reload was rejected: {reason}")));
        }
        if let Some(problem) = daemon.store.problem() {
            findings.push((Level::Warning, problem));
        }
        let zone = common_zone(&document.servers);
        let undelivered = daemon.undelivered_notices.iter();
        findings.extend(undelivered.map(|it| (Level::Warning, it.words(&zone))));
    }
    findings.sort_by_key(|(level, _)| std::cmp::Reverse(level.weight()));
    let level = findings.first().map_or(Level::Ok, |(level, _)| *level);
    let summary = match findings.as_slice() {
        [] => match oldest {
            Some((age, name)) => format!(
                "{}, the oldest success {} ago ({name})",
                readable::servers(enabled.len()),
                readable::span(age)
            ),
            None => readable::servers(enabled.len()),
        },
        [(_, only)] => only.clone(),
        [(_, first), others @ ..] => format!("{first}, and {} more", others.len()),
    };
    let trouble = enabled.iter().filter(|server| server.state.is_trouble()).count();
    let seconds = max_age.as_secs();
    let oldest = oldest.map_or(String::new(), |(age, _)| {
        format!(" oldest_success={}s;;{seconds};0", age.as_secs().max(0))
    });
    let mut words = format!(
        "SNAPRING {} - {} | servers={} trouble={trouble};0{oldest}",
        level.as_str(),
        one_line(&summary),
        enabled.len()
    );
    if findings.len() > 1 {
        for (level, finding) in findings.iter().take(SHOWN) {
            words.push_str(&format!("\n{}: {}", level.as_str(), one_line(finding)));
        }
    }
    Check { level, words }
}

fn judge(server: &ServerRecord, now: Timestamp, max_age: Duration) -> Option<(Level, String)> {
    let name = &server.name;
    let reason = server
        .trouble
        .as_ref()
        .and_then(|trouble| trouble.reason.as_deref())
        .map_or(String::new(), |reason| format!(" ({reason})"));
    let allowed = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
    match server.last_success_at.map(|at| age(at, now)) {
        Some(age) if age < -CLOCKS_APART => {
            let ahead = readable::span(-age);
            let words = format!("{name}: the last success is {ahead} ahead of now: check clocks");
            Some((Level::Unknown, words))
        }
        Some(age) if age > allowed => {
            let words = format!("{name}: the last success was {} ago{reason}", readable::span(age));
            Some((Level::Critical, words))
        }
        None if server.state.is_trouble() => {
            Some((Level::Critical, format!("{name}: no success yet{reason}")))
        }
        None => {
            let waiting = server.waiting.as_ref().map(|waiting| waiting.reason.as_str());
            let words = waiting.unwrap_or("no success is known yet");
            Some((Level::Unknown, format!("{name}: {words}")))
        }
        Some(_) if server.state.is_trouble() => {
            Some((Level::Warning, format!("{name}: {}{reason}", server.state.as_str())))
        }
        Some(_) => None,
    }
}

fn age(at: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(at)
}

/// What would end the line, or begin performance data, cannot stand in it.
fn one_line(text: &str) -> String {
    text.replace(['\n', '|'], " ")
}

#[cfg(test)]
mod tests;
