//! How an API call ended: the classes that logs, metrics and decisions share.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::answer::Verdict;

/// What is asked of the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// `GET /snapshots/`
    List,
    /// `POST /snapshots/`
    Create,
    /// `POST /snapshots/{id}/restore/`
    Restore,
    /// `DELETE /snapshots/{id}/`
    Delete,
    /// `GET /servers/`
    Servers,
    /// `GET /account/me/`
    Account,
}

impl Operation {
    /// The word in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Create => "create",
            Self::Restore => "restore",
            Self::Delete => "delete",
            Self::Servers => "servers",
            Self::Account => "account",
        }
    }

    /// What it is to do, after "could not".
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::List => "list the snapshots",
            Self::Create => "create the snapshot",
            Self::Restore => "start the restore",
            Self::Delete => "delete the snapshot",
            Self::Servers => "list the servers",
            Self::Account => "ask about the account",
        }
    }

    /// Whether it changes which snapshots there are, or what they hold.
    #[must_use]
    pub fn changes(self) -> bool {
        match self {
            Self::Create | Self::Restore | Self::Delete => true,
            Self::List | Self::Servers | Self::Account => false,
        }
    }
}

/// The class of an answer, or of its absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// 2xx as documented.
    Ok,
    /// 2xx, but torn or not to be understood.
    Malformed,
    /// 400, and any 3xx or 4xx without a class of its own.
    Rejected,
    /// 401.
    Unauthorized,
    /// 403: not this, or not of this server.
    Forbidden,
    /// 404.
    NotFound,
    /// 408, 409, 423, 425: not now.
    Busy,
    /// 429.
    Throttled,
    /// 5xx.
    ServerError,
    /// No answer: timeout, reset, refused, DNS, TLS.
    Transport,
}

impl Outcome {
    /// The word in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Malformed => "malformed",
            Self::Rejected => "rejected",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Busy => "busy",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Transport => "transport",
        }
    }

    /// The class that a status alone decides; a 2xx may turn out [`Outcome::Malformed`].
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            408 | 409 | 423 | 425 => Self::Busy,
            429 => Self::Throttled,
            300..=499 => Self::Rejected,
            500..=599 => Self::ServerError,
            // Not a status of HTTP: the bytes cannot be trusted.
            _ => Self::Malformed,
        }
    }

    /// Whether the same call may succeed if it is made again a little later.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Self::Malformed
            | Self::Busy
            | Self::Throttled
            | Self::ServerError
            | Self::Transport => true,
            Self::Ok | Self::Rejected | Self::Unauthorized | Self::Forbidden | Self::NotFound => {
                false
            }
        }
    }
}

/// An API call that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was asked.
    pub operation: Operation,
    /// The class; never [`Outcome::Ok`].
    pub outcome: Outcome,
    /// The HTTP status, when there was one.
    pub status: Option<u16>,
    /// The provider's own words, or what went wrong; never holds the token.
    pub message: String,
    /// Where the token is, if that is what was refused.
    pub token_place: Option<String>,
    /// How long the provider asked to wait, for [`Outcome::Throttled`].
    pub retry_after: Option<Duration>,
    /// Whether the provider may have received it. `false` only if that is certain: there was no
    /// connection.
    pub was_sent: bool,
}

impl Failure {
    /// Why, without what could not be done.
    #[must_use]
    pub fn cause(&self) -> String {
        let Some(place) = &self.token_place else {
            return cause(self.outcome, self.status, &self.message);
        };
        let status = self.status.map(|status| format!(" ({status})")).unwrap_or_default();
        let words = without_full_stop(&self.message);
        format!("the provider refused the token of {place}{status}: {words}")
    }

    /// What is known of what was asked for.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.was_sent { Verdict::of(self.operation, self.outcome) } else { Verdict::NotDone }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "could not {}: {}", self.operation.in_words(), self.cause())
    }
}

/// How a call failed, in words: what the provider answered, and what it says.
#[must_use]
pub fn cause(outcome: Outcome, status: Option<u16>, message: &str) -> String {
    let message = without_full_stop(message);
    match answer(outcome, status) {
        Some(answer) if message.is_empty() => answer,
        Some(answer) => format!("{answer}: {message}"),
        None => message.to_owned(),
    }
}

/// The provider's sentence, as a part of a longer one. An ellipsis stays.
fn without_full_stop(message: &str) -> &str {
    let message = message.trim_end();
    match message.strip_suffix('.') {
        Some(words) if !words.ends_with('.') => words,
        _ => message,
    }
}

/// What the provider answered, without what it says. `None` if it did not answer.
fn answer(outcome: Outcome, status: Option<u16>) -> Option<String> {
    Some(match (outcome, status) {
        (Outcome::Transport, _) => return None,
        (Outcome::Malformed, Some(status)) => {
            format!("the provider's answer ({status}) cannot be used")
        }
        (Outcome::Unauthorized, Some(status)) => {
            format!("the provider refused the token ({status})")
        }
        (Outcome::Unauthorized, None) => "the provider refused the token".to_owned(),
        (_, Some(status)) => match in_words(status) {
            "" => format!("the provider answered {status}"),
            words => format!("the provider answered {status} ({words})"),
        },
        (_, None) => "the provider's answer cannot be used".to_owned(),
    })
}

/// What HTTP calls a status.
fn in_words(status: u16) -> &'static str {
    match status {
        400 => "bad request",
        403 => "forbidden",
        404 => "not found",
        408 => "request timeout",
        409 => "conflict",
        423 => "locked",
        425 => "too early",
        429 => "too many requests",
        500 => "internal server error",
        502 => "bad gateway",
        503 => "service unavailable",
        504 => "gateway timeout",
        _ => "",
    }
}

impl std::error::Error for Failure {}

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was made, for the last time, and failed.
    #[error("{0}")]
    Failed(#[from] Failure),
    /// It was not sent: the listing that it rests on has become too old.
    #[error("the listing is {} s old, which is too old to act on; list again", .0.as_secs())]
    Stale(Duration),
    /// It was not sent: the snapshot is now pinned or foreign, or a restore needs it.
    #[error("the snapshot is now pinned or foreign, or a restore needs it")]
    Pinned,
    /// It was not sent: snapring is shutting down.
    #[error("interrupted by a shutdown")]
    Interrupted,
    /// It was not sent: its turn did not come within the time allowed.
    #[error("the provider gave no turn for this within the time allowed")]
    OutOfTime,
    /// It was not sent: the provider asked to wait for longer than the time allowed.
    #[error("throttled by the provider until {0}")]
    Throttled(String),
    /// It was not sent: there is no token.
    #[error("{0}")]
    NoToken(String),
}

impl CallError {
    /// The class, when the call was made.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Failed(failure) => Some(failure.outcome),
            Self::Stale(_)
            | Self::Pinned
            | Self::Interrupted
            | Self::OutOfTime
            | Self::Throttled(_)
            | Self::NoToken(_) => None,
        }
    }

    /// The error for a person, with what its class means where that is not plain.
    #[must_use]
    pub fn explained(&self) -> String {
        let Self::Failed(failure) = self else { return self.to_string() };
        match (failure.operation, failure.outcome) {
            (Operation::Create, Outcome::NotFound) => {
                format!(
                    "the account has no server with this id; `snapring check --online` lists those it has: {failure}"
                )
            }
            // Says nothing of the server: one that does not exist has an empty listing.
            (Operation::List | Operation::Servers | Operation::Account, Outcome::NotFound) => {
                format!(
                    "this is not the provider's API, or it has moved; check `base_url`: {failure}"
                )
            }
            (
                Operation::List | Operation::Create | Operation::Restore | Operation::Delete,
                Outcome::Forbidden,
            ) => {
                format!("the provider does not allow this for this server: {failure}")
            }
            _ => failure.to_string(),
        }
    }

    /// Whether the provider asks to send it again later.
    #[must_use]
    pub fn is_put_off(&self) -> bool {
        matches!(self.outcome(), Some(Outcome::Busy | Outcome::Throttled))
    }

    /// Why, without what could not be done: for a sentence that says that itself.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::Failed(failure) => failure.cause(),
            _ => self.to_string(),
        }
    }

    /// The same for a sentence that says itself until when is waited.
    #[must_use]
    pub fn cause_without_a_time(&self) -> String {
        match self.outcome() {
            Some(Outcome::Throttled) => self.in_short(),
            _ => self.cause(),
        }
    }

    /// The same where there is room for a few words only.
    #[must_use]
    pub fn in_short(&self) -> String {
        let Self::Failed(failure) = self else { return self.to_string() };
        answer(failure.outcome, failure.status)
            .unwrap_or_else(|| "the provider did not answer".to_owned())
    }

    /// What is known of what was asked for.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Failed(failure) => failure.verdict(),
            _ => Verdict::NotDone,
        }
    }

    /// The status of the answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Failed(failure) => failure.status,
            _ => None,
        }
    }

    /// Whether the answer was a redirect.
    #[must_use]
    pub fn is_redirect(&self) -> bool {
        self.status().is_some_and(|status| (300..400).contains(&status))
    }

    /// How long the provider asked to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed(failure) => failure.retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        Operation::Create,
        Outcome::Busy,
        Some(409),
        "could not create the snapshot: the provider answered 409 (conflict): x"
    )]
    #[case(
        Operation::List,
        Outcome::ServerError,
        Some(599),
        "could not list the snapshots: the provider answered 599: x"
    )]
    #[case(
        Operation::Delete,
        Outcome::Unauthorized,
        Some(401),
        "could not delete the snapshot: the provider refused the token (401): x"
    )]
    #[case(
        Operation::List,
        Outcome::Malformed,
        Some(200),
        "could not list the snapshots: the provider's answer (200) cannot be used: x"
    )]
    #[case(Operation::Restore, Outcome::Transport, None, "could not start the restore: x")]
    fn a_failure_is_a_sentence(
        #[case] operation: Operation,
        #[case] outcome: Outcome,
        #[case] status: Option<u16>,
        #[case] expected: &str,
    ) {
        let failure = Failure {
            operation,
            outcome,
            status,
            message: "x".to_owned(),
            token_place: None,
            retry_after: None,
            was_sent: true,
        };
        assert_eq!(failure.to_string(), expected);
        let refused = Failure { token_place: Some("/etc/snapring/token".into()), ..failure };
        assert!(
            refused.cause().starts_with("the provider refused the token of /etc/snapring/token")
        );
    }

    #[rstest]
    #[case("Invalid token.", "the provider answered 400 (bad request): Invalid token")]
    #[case("wait...", "the provider answered 400 (bad request): wait...")]
    #[case(".", "the provider answered 400 (bad request)")]
    fn a_full_stop_of_the_provider_does_not_stand_within_a_sentence(
        #[case] message: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(cause(Outcome::Rejected, Some(400), message), expected);
    }

    /// Classes are for fields and programs.
    #[test]
    fn no_sentence_has_a_word_that_only_programs_know() {
        let statuses = (100..600).map(Some).chain([None]);
        for status in statuses {
            let outcome = status.map_or(Outcome::Transport, Outcome::of_status);
            let cause = cause(outcome, status, "x");
            assert!(!cause.contains('_') && !cause.contains("transport"), "{cause}");
            assert!(status.is_none_or(|it| cause.contains(&it.to_string())), "{cause}");
        }
    }
}
