//! The forms that services take, and what their answers mean.

mod refusal;

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use crate::call::Outcome;
use crate::foreign::ForeignText;
use crate::naming::{ServerId, Tick};
use crate::notify::http::{Message, PostAnswer};
use crate::notify::instance::Instance;
use crate::notify::message::Bundle;
use crate::notify::transitions::{Notice, NoticeKind, NoticeSubject};
use crate::notify::webhook::Webhook;
use crate::report::RotationOutcome;

/// How a notice is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// snapring's own document.
    Json,
    /// A message to a topic of ntfy.
    Ntfy,
    /// A ping of a check of healthchecks.io.
    Healthchecks,
    /// An incoming webhook of Slack.
    Slack,
}

/// The version of the document: grows when a field goes or changes its meaning, not when one comes.
const VERSION: u32 = 1;

/// How many subjects the document lists.
const SUBJECTS: usize = 100;

/// How much of an answer is repeated, in characters.
const EXCERPT: usize = 120;

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::Ntfy, Self::Healthchecks, Self::Slack];

    /// The format of a service that is known by its host.
    #[must_use]
    pub fn of_service(webhook: &Webhook) -> Option<Self> {
        let url = webhook.expose();
        let host = url.host_str()?;
        let is_of = |domain: &str| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if is_of("hc-ping.com") || is_of("healthchecks.io") {
            Some(Self::Healthchecks)
        } else if is_of("ntfy.sh") {
            Some(Self::Ntfy)
        } else if is_of("hooks.slack.com") {
            Some(Self::Slack)
        } else {
            // Discord takes Slack's form at an address of its own.
            let is_discord = is_of("discord.com") || is_of("discordapp.com");
            (is_discord && url.path().ends_with("/slack")).then_some(Self::Slack)
        }
    }

    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ntfy => "ntfy",
            Self::Healthchecks => "healthchecks",
            Self::Slack => "slack",
        }
    }

    /// Whether a target of this format gets such news. A check represents the whole fleet:
    /// it is well only while nothing fails.
    #[must_use]
    pub fn tells(self, bundle: &Bundle) -> bool {
        let good = matches!(bundle.event, NoticeKind::Recovery | NoticeKind::Success);
        !(self == Self::Healthchecks && good && !bundle.failing.is_nothing())
    }

    /// The news as this format has them.
    #[must_use]
    pub(crate) fn message(self, to: &Webhook, bundle: &Bundle, instance: &Instance) -> Message {
        let to = to.clone();
        let plain = ("Content-Type", "text/plain; charset=utf-8".to_owned());
        let json = ("Content-Type", "application/json".to_owned());
        match self {
            Self::Json => Message { to, headers: vec![json], body: document(bundle, instance) },
            Self::Ntfy => {
                let (priority, tags) = match bundle.event {
                    NoticeKind::Failure => ("high", "rotating_light"),
                    NoticeKind::Reminder => ("default", "warning"),
                    NoticeKind::Recovery => ("default", "white_check_mark"),
                    NoticeKind::Success => ("low", "white_check_mark"),
                    NoticeKind::Test => ("default", "bell"),
                };
                let headers = vec![
                    plain,
                    ("Title", bundle.title_of(instance)),
                    ("Priority", priority.to_owned()),
                    ("Tags", tags.to_owned()),
                ];
                Message { to, headers, body: bundle.text() }
            }
            Self::Healthchecks => {
                let to = match bundle.event {
                    NoticeKind::Failure | NoticeKind::Reminder => to.below("fail"),
                    NoticeKind::Recovery | NoticeKind::Success => to,
                    // Is noted, and changes nothing of the check's state.
                    NoticeKind::Test => to.below("log"),
                };
                let body = format!("{}\n\n{}\n", bundle.title_of(instance), bundle.text());
                Message { to, headers: vec![plain], body }
            }
            Self::Slack => {
                let sign = match bundle.event {
                    NoticeKind::Failure => ":rotating_light:",
                    NoticeKind::Reminder => ":warning:",
                    NoticeKind::Recovery | NoticeKind::Success => ":white_check_mark:",
                    NoticeKind::Test => ":bell:",
                };
                let (title, text) = (escaped(&bundle.title_of(instance)), escaped(&bundle.text()));
                let text = format!("{sign} *{title}*\n{text}");
                let body = serde_json::json!({ "text": text }).to_string();
                Message { to, headers: vec![json], body }
            }
        }
    }

    /// What an answer means: its class, and in words what the service said.
    #[must_use]
    pub fn understand(self, answer: &PostAnswer, to: &Webhook) -> (Outcome, String) {
        let said = ForeignText::excerpt(&to.redact(&answer.body.to_string()), EXCERPT);
        let outcome = Outcome::of_status(answer.status);
        let outcome = match outcome {
            // healthchecks.io says OK to whatever looks like a check's address.
            Outcome::Ok if self == Self::Healthchecks && said.contains("(not found)") => {
                Outcome::NotFound
            }
            Outcome::Ok if self == Self::Healthchecks && said.contains("(rate limited)") => {
                Outcome::Throttled
            }
            Outcome::Ok => {
                let refused = answer.body.decide(|body| refusal::in_body(body, self));
                refused.unwrap_or(Outcome::Ok)
            }
            other => other,
        };
        let mut words = answer.status.to_string();
        if !said.is_empty() {
            let _ = write!(words, ": {said}");
        }
        (outcome, words)
    }
}

#[derive(Serialize)]
struct NoticeJson<'a> {
    version: u32,
    instance: &'a str,
    event: NoticeKind,
    at: Timestamp,
    title: String,
    text: String,
    subjects: Vec<Entry<'a>>,
    more: usize,
    failing_servers: usize,
    token_refused: bool,
    unlisted_accounts: usize,
    lost: u64,
}

#[derive(Serialize)]
struct Entry<'a> {
    subject: &'static str,
    /// Not of the account of `[api]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    server_id: Option<ServerId>,
    server: Option<&'a str>,
    at: Timestamp,
    tick: Option<Tick>,
    outcome: Option<RotationOutcome>,
    message: &'a str,
    failing_since: Option<Timestamp>,
    failed_rotations: u32,
}

fn document(bundle: &Bundle, instance: &Instance) -> String {
    let document = NoticeJson {
        version: VERSION,
        instance: instance.as_str(),
        event: bundle.event,
        at: bundle.at,
        title: bundle.title_of(instance),
        text: bundle.text(),
        subjects: bundle.notices.iter().take(SUBJECTS).map(entry).collect(),
        more: bundle.notices.len().saturating_sub(SUBJECTS),
        failing_servers: bundle.failing.servers,
        token_refused: bundle.failing.accounts > 0,
        unlisted_accounts: bundle.failing.covers,
        lost: bundle.lost,
    };
    // Numbers and texts always have a JSON.
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

fn entry(notice: &Notice) -> Entry<'_> {
    let (subject, server_id, server) = match &notice.subject {
        NoticeSubject::Account(_) => ("account", None, None),
        NoticeSubject::Cover(_) => ("cover", None, None),
        NoticeSubject::Server { id, name } => ("server", Some(*id), Some(name.as_str())),
    };
    let account = match &notice.subject {
        NoticeSubject::Account(account) | NoticeSubject::Cover(account) => account,
        NoticeSubject::Server { id, .. } => &id.account,
    };
    Entry {
        subject,
        account: account.label(),
        server_id,
        server,
        at: notice.at,
        tick: notice.seen_by.rotation().map(|(tick, _)| tick),
        outcome: notice.seen_by.rotation().map(|(_, outcome)| outcome),
        message: &notice.words,
        failing_since: notice.trouble.and_then(|it| it.since),
        failed_rotations: notice.trouble.map_or(0, |it| it.failed),
    }
}

/// The three characters that mean something to Slack.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
