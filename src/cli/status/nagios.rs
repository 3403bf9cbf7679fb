//! A check as Nagios and its kin run it: one line, performance data, an exit code from 0 to 3.

use std::time::Duration;

use crate::cli::error::CommandError;
use crate::cli::status::findings::{Finding, Level, findings};
use crate::cli::status::gather::Gathered;
use crate::observe::status_document::{ServerRecord, ServerState};
use crate::readable;

/// How many servers in trouble are listed, one per line.
const SHOWN: usize = 50;

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

/// Whether every enabled server has had a success within `max_age`, and all else is well.
#[must_use]
pub(super) fn check(gathered: &Gathered, max_age: Duration) -> Check {
    let document = &gathered.document;
    let enabled: Vec<&ServerRecord> =
        document.servers.iter().filter(|server| server.state != ServerState::Disabled).collect();
    let ages = enabled.iter().filter_map(|server| {
        Some((document.at.duration_since(server.last_success_at?), server.name.as_str()))
    });
    let oldest = ages.max();
    let mut findings = findings(gathered, Some(max_age));
    findings.retain(Finding::is_trouble);
    findings.sort_by_key(|it| std::cmp::Reverse(it.level.weight()));
    let level = findings.first().map_or(Level::Ok, |it| it.level);
    let summary = match findings.as_slice() {
        [] => match oldest {
            Some((age, name)) => format!(
                "{}, the oldest success {} ago ({name})",
                readable::servers(enabled.len()),
                readable::span(age)
            ),
            None => readable::servers(enabled.len()),
        },
        [only] => only.words.clone(),
        [first, others @ ..] => format!("{}, and {} more", first.words, others.len()),
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
        for Finding { level, words: found, .. } in findings.iter().take(SHOWN) {
            words.push_str(&format!("\n{}: {}", level.as_str(), one_line(found)));
        }
    }
    Check { level, words }
}

/// What would end the line, or begin performance data, cannot stand in it.
fn one_line(text: &str) -> String {
    text.replace(['\n', '|'], " ")
}

#[cfg(test)]
pub(super) mod tests;
