//! What goes out at once: one piece of news reads as a message, many as a list that stays short.

use std::fmt::Write;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::foreign::is_shown;
use crate::moment::shown;
use crate::naming::Account;
use crate::notify::instance::Instance;
use crate::notify::transitions::{
    Failing, FailingSince, Notice, NoticeKind, NoticeSubject, SeenBy,
};
use crate::readable;
use crate::report::RotationOutcome;

/// How many are listed in a text.
const LISTED: usize = 20;

/// What a recovery says if the failure before it was never told.
const UNTOLD: &str = "No notice of the failure could be delivered";

/// How long the reason of one in a list may be, in characters.
const REASON_IN_A_LIST: usize = 120;

/// How long a reason that stands alone may be, in characters.
const REASON_ALONE: usize = 600;

/// How long a text may be, in bytes: ntfy makes an attachment of what is longer than 4096.
pub(crate) const MAX_TEXT_BYTES: usize = 3800;

/// News of one kind that go out together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// What they are about.
    pub event: NoticeKind,
    /// When it is told.
    pub at: Timestamp,
    /// At least one, but for a test; of each subject one.
    pub notices: Vec<Notice>,
    /// What fails after the last of all news that are known.
    pub failing: Failing,
    /// How many notices to this target were lost before, since they did not fit.
    pub lost: u64,
    /// How often this target is reminded of trouble that goes on; zero: never.
    pub remind: Duration,
}

impl Bundle {
    /// Tells nothing but that notices arrive.
    #[must_use]
    pub fn test(at: Timestamp) -> Self {
        let failing = Failing::default();
        let (notices, remind) = (Vec::new(), Duration::ZERO);
        Self { event: NoticeKind::Test, at, notices, failing, lost: 0, remind }
    }

    /// In a few words, for who knows which machine it is.
    #[must_use]
    pub fn title(&self) -> String {
        format!("snapring: {}", self.news())
    }

    /// In a few words, with the machine's name.
    #[must_use]
    pub(crate) fn title_of(&self, instance: &Instance) -> String {
        format!("{instance}: {}", self.news())
    }

    fn news(&self) -> String {
        let mut subjects = Vec::new();
        let mut accounts = self.accounts();
        if let Some(first) = accounts.next() {
            let more = accounts.count();
            let (tokens, is) = match (more, first) {
                (0, Account::API) => ("the API token".to_owned(), ["was", "is"]),
                (0, account) => (format!("the API token of {account}"), ["was", "is"]),
                (more, _) => (format!("the API tokens of {} accounts", more + 1), ["were", "are"]),
            };
            let [was, is] = is;
            subjects.push(match self.event {
                NoticeKind::Failure => format!("{tokens} {was} refused"),
                NoticeKind::Reminder => format!("{tokens} {is} still refused"),
                _ => format!("{tokens} {is} accepted again"),
            });
        }
        let mut covers = self.covers();
        if let Some(first) = covers.next() {
            let whose = match covers.count() {
                0 => first.in_words(),
                more => format!("{} accounts", more + 1),
            };
            let knows = match self.event {
                NoticeKind::Failure => "does not know",
                NoticeKind::Reminder => "still does not know",
                _ => "knows",
            };
            let again = if self.event == NoticeKind::Recovery { " again" } else { "" };
            subjects.push(format!("`cover` {knows} the servers of {whose}{again}"));
        }
        let verb = match self.event {
            NoticeKind::Failure => "failed",
            NoticeKind::Reminder => "are still in trouble",
            NoticeKind::Recovery => "recovered",
            NoticeKind::Success => "rotated",
            NoticeKind::Test => "",
        };
        let mut servers = self.servers();
        match (servers.next(), servers.count()) {
            (None, _) => {}
            (Some((notice, name)), 0) => {
                let verb = match self.event {
                    NoticeKind::Failure => verb_of_failure(notice),
                    NoticeKind::Reminder => verb_of_reminder(notice),
                    _ => verb,
                };
                subjects.push(format!("{} {verb}", one_line(name)));
            }
            (Some(_), more) => subjects.push(format!("{} servers {verb}", more + 1)),
        }
        if subjects.is_empty() {
            subjects.push("a test".to_owned());
        }
        subjects.join(", ")
    }

    /// In whole sentences; at most [`MAX_TEXT_BYTES`] long.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = match self.notices.as_slice() {
            [] => "This is a test: notices of snapring arrive here.".to_owned(),
            [alone] => sentences(alone, self.remind),
            several => list(several),
        };
        let others = self.failing.servers;
        match self.event {
            NoticeKind::Failure | NoticeKind::Reminder if self.notices.len() == 1 && others > 1 => {
                let _ = write!(text, " {others} servers are failing in total.");
            }
            NoticeKind::Recovery if others > 0 => {
                let (s, verb) = if others == 1 { ("", "fails") } else { ("s", "fail") };
                let _ = write!(text, "{}{others} server{s} still {verb}.", self.gap());
            }
            _ => {}
        }
        if self.lost > 0 {
            let _ = write!(text, "{}Notices lost before this one: {}.", self.gap(), self.lost);
        }
        text
    }

    fn gap(&self) -> &'static str {
        if self.notices.len() > 1 { "\n" } else { " " }
    }

    fn accounts(&self) -> impl Iterator<Item = Account> {
        self.notices.iter().filter_map(|it| match it.subject {
            NoticeSubject::Account(account) => Some(account),
            NoticeSubject::Cover(_) | NoticeSubject::Server { .. } => None,
        })
    }

    fn covers(&self) -> impl Iterator<Item = Account> {
        self.notices.iter().filter_map(|it| match it.subject {
            NoticeSubject::Cover(account) => Some(account),
            NoticeSubject::Account(_) | NoticeSubject::Server { .. } => None,
        })
    }

    fn servers(&self) -> impl Iterator<Item = (&Notice, &str)> {
        self.notices.iter().filter_map(|it| match &it.subject {
            NoticeSubject::Server { name, .. } => Some((it, name.as_str())),
            NoticeSubject::Account(_) | NoticeSubject::Cover(_) => None,
        })
    }
}

/// What goes out, in this order. Failures go before reminders, these before recoveries and these before
/// successes, unless one subject's own story is another one: that one is told in its order. Of reminders of
/// one subject, and of successes of one server, the last is told.
#[must_use]
pub(crate) fn bundles(
    notices: Vec<Notice>,
    at: Timestamp,
    mut lost: u64,
    remind: Duration,
) -> Vec<Bundle> {
    let Some(failing) = notices.last().map(|last| last.failing) else { return Vec::new() };
    let mut rounds: Vec<Vec<Notice>> = Vec::new();
    let mut round: Vec<Notice> = Vec::new();
    for notice in notices {
        let told = round.iter().rposition(|it| it.subject == notice.subject);
        match told.and_then(|at| round.get_mut(at)) {
            Some(before)
                if before.event == notice.event
                    && matches!(notice.event, NoticeKind::Success | NoticeKind::Reminder) =>
            {
                *before = notice;
            }
            Some(before) if before.event >= notice.event => {
                rounds.push(std::mem::take(&mut round));
                round.push(notice);
            }
            _ => round.push(notice),
        }
    }
    rounds.push(round);
    let mut bundles = Vec::new();
    for mut round in rounds {
        for event in
            [NoticeKind::Failure, NoticeKind::Reminder, NoticeKind::Recovery, NoticeKind::Success]
        {
            let (notices, others) = round.into_iter().partition(|it| it.event == event);
            round = others;
            let notices: Vec<Notice> = notices;
            if !notices.is_empty() {
                let lost = std::mem::take(&mut lost);
                bundles.push(Bundle { event, at, notices, failing, lost, remind });
            }
        }
    }
    bundles
}

impl Notice {
    /// A time in its text.
    fn shown(&self, at: Timestamp) -> String {
        shown(at, &self.zone)
    }
}

fn sentences(notice: &Notice, remind: Duration) -> String {
    let words = cut(&notice.words, REASON_ALONE);
    match (notice.event, &notice.subject) {
        (NoticeKind::Failure, NoticeSubject::Account(_)) => format!(
            "{words}. No server of the account is rotated until the provider accepts a token. This is reported \
             once, not per server."
        ),
        (NoticeKind::Failure, NoticeSubject::Server { .. } | NoticeSubject::Cover(_)) => {
            let what = match notice.seen_by {
                SeenBy::Rotation(tick, RotationOutcome::Skipped) => {
                    let tick = notice.shown(tick.instant());
                    format!("The rotation for {tick} was skipped, and the one before, too: {words}")
                }
                SeenBy::Rotation(tick, _) => {
                    let tick = notice.shown(tick.instant());
                    format!("The rotation for {tick} {}: {words}", verb_of_failure(notice))
                }
                SeenBy::Age => format!("The last success is too old: {words}"),
                SeenBy::Restore | SeenBy::List => capitalised(&words),
            };
            if remind.is_zero() {
                return format!("{what}. Further failures are not reported.");
            }
            let remind = SignedDuration::try_from(remind).unwrap_or(SignedDuration::MAX);
            format!(
                "{what}. A reminder follows after {} if this continues.",
                readable::span(remind)
            )
        }
        (NoticeKind::Reminder, subject) => {
            let subject = match subject {
                NoticeSubject::Account(_) => "The token has been refused",
                NoticeSubject::Cover(_) => "That has been so",
                NoticeSubject::Server { .. } => "It has been in trouble",
            };
            let lasts = notice.trouble.map_or_else(String::new, |it| lasts(it, notice));
            let effect = match notice.subject {
                NoticeSubject::Account(_) => " No server of the account is rotated until then.",
                NoticeSubject::Cover(_) | NoticeSubject::Server { .. } => "",
            };
            format!("{subject} {lasts}. The last reason: {words}.{effect}")
        }
        (NoticeKind::Recovery, NoticeSubject::Account(_)) => {
            format!("Rotations continue. {}", over(notice)).trim_end().to_owned()
        }
        (NoticeKind::Recovery, NoticeSubject::Cover(_)) => {
            format!("The provider lists them. {}", over(notice)).trim_end().to_owned()
        }
        (NoticeKind::Recovery, NoticeSubject::Server { .. }) => {
            format!("{} {}", went_well(notice, &words), over(notice)).trim_end().to_owned()
        }
        (NoticeKind::Success | NoticeKind::Test, _) => went_well(notice, &words),
    }
}

fn capitalised(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

fn went_well(notice: &Notice, words: &str) -> String {
    let tick =
        notice.seen_by.rotation().map(|(tick, _)| format!(" for {}", notice.shown(tick.instant())));
    let tick = tick.unwrap_or_default();
    format!("The rotation{tick} succeeded: {words}.")
}

/// What a server in trouble does, after its name.
fn verb_of_failure(notice: &Notice) -> &'static str {
    match notice.seen_by {
        SeenBy::Rotation(_, RotationOutcome::Blocked) => "is blocked",
        SeenBy::Rotation(_, RotationOutcome::Skipped) => "was skipped twice",
        SeenBy::Rotation(..) | SeenBy::List => "failed",
        SeenBy::Age => "has had no success for too long",
        SeenBy::Restore => "was not restored",
    }
}

/// What a server does that is in trouble for long, after its name.
fn verb_of_reminder(notice: &Notice) -> &'static str {
    match notice.seen_by {
        SeenBy::Rotation(_, RotationOutcome::Blocked) => "is still blocked",
        SeenBy::Rotation(_, RotationOutcome::Skipped) => "is still skipped",
        SeenBy::Rotation(..) | SeenBy::List => "still fails",
        SeenBy::Age => "still has no success",
        SeenBy::Restore => "is still broken after a restore",
    }
}

/// Since when trouble lasts: `since …, for 3h. 3 rotations failed`.
fn lasts(trouble: FailingSince, notice: &Notice) -> String {
    let failed = match trouble.failed {
        0 => String::new(),
        1 => ". 1 rotation failed".to_owned(),
        more => format!(". {more} rotations failed"),
    };
    match trouble.since {
        Some(since) => {
            format!("since {}, for {}{failed}", notice.shown(since), span(since, notice.at))
        }
        None => format!("since before snapring last started{failed}"),
    }
}

/// What a recovery ends.
fn over(notice: &Notice) -> String {
    let mut text = notice.trouble.map_or_else(String::new, |it| broken(it, notice.at));
    if notice.failure_untold {
        let _ = write!(text, " {UNTOLD}.");
    }
    text.trim_start().to_owned()
}

fn broken(trouble: FailingSince, now: Timestamp) -> String {
    let failed = match trouble.failed {
        0 => String::new(),
        1 => "; 1 rotation failed".to_owned(),
        more => format!("; {more} rotations failed"),
    };
    match trouble.since {
        Some(since) => format!("It was in trouble for {}{failed}.", span(since, now)),
        None if trouble.failed == 0 => {
            "It was in trouble since before snapring last started.".to_owned()
        }
        None => format!("It was in trouble since before snapring last started{failed} since then."),
    }
}

/// Whole seconds, and of what lasted an hour or longer whole minutes.
fn span(since: Timestamp, now: Timestamp) -> humantime::FormattedDuration {
    let seconds = u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0);
    let rounded = if seconds >= 3600 { seconds / 60 * 60 } else { seconds };
    humantime::format_duration(Duration::from_secs(rounded))
}

fn list(notices: &[Notice]) -> String {
    let mut text = String::new();
    let mut shown = 0;
    for notice in notices.iter().take(LISTED) {
        let line = line(notice);
        // Room for what follows the list.
        if text.len() + line.len() + 200 > MAX_TEXT_BYTES {
            break;
        }
        text.push_str(&line);
        text.push('\n');
        shown += 1;
    }
    match notices.len() - shown {
        0 => {}
        more => {
            let _ = write!(text, "and {more} more");
        }
    }
    text.trim_end().to_owned()
}

fn line(notice: &Notice) -> String {
    let name = match &notice.subject {
        NoticeSubject::Account(Account::API) => "the account",
        NoticeSubject::Account(account) => &format!("the account {account}"),
        NoticeSubject::Cover(account) => &format!("`cover` of {}", account.in_words()),
        NoticeSubject::Server { name, .. } => name,
    };
    let said = match (notice.event, notice.trouble) {
        (NoticeKind::Recovery, Some(FailingSince { since: Some(since), .. })) => {
            format!("well again after {}", span(since, notice.at))
        }
        (NoticeKind::Recovery, _) => "well again".to_owned(),
        (NoticeKind::Reminder, trouble) => {
            let since = trouble.and_then(|it| it.since);
            let lasts = since.map(|since| format!(" for {}", span(since, notice.at)));
            let lasts = lasts.unwrap_or_default();
            let failed = match trouble.map_or(0, |it| it.failed) {
                0 => String::new(),
                1 => ", 1 rotation failed".to_owned(),
                more => format!(", {more} rotations failed"),
            };
            format!("in trouble{lasts}{failed}: {}", cut(&notice.words, REASON_IN_A_LIST))
        }
        (NoticeKind::Failure, _) => {
            let how = match notice.seen_by {
                SeenBy::Restore | SeenBy::List => "",
                SeenBy::Age => "stale: ",
                SeenBy::Rotation(_, outcome) => &format!("{}: ", outcome.as_str()),
            };
            format!("{how}{}", cut(&notice.words, REASON_IN_A_LIST))
        }
        _ => cut(&notice.words, REASON_IN_A_LIST),
    };
    let untold = if notice.failure_untold { format!(". {UNTOLD}") } else { String::new() };
    format!("- {}: {said}{untold}", one_line(name))
}

/// A bounded line.
fn cut(text: &str, characters: usize) -> String {
    let line = one_line(text);
    let line = line.trim_end_matches('.');
    match line.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// Without line breaks and other control characters, as a header needs it.
fn one_line(text: &str) -> String {
    let blank = |it: char| if is_shown(it) { it } else { ' ' };
    text.chars().map(blank).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests;
