//! What an answer says: whether what was asked for was done, and whether a listing is whole and fresh.

use std::time::Duration;

use crate::call::{Operation, Outcome};
use crate::foreign::ForeignText;

/// The oldest listing on the strength of which anything is created or deleted.
pub const LISTING_MAX_AGE: Duration = Duration::from_secs(60);

/// What is known of what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was done. For a read: the answer is complete.
    Done,
    /// It was not done.
    NotDone,
    /// A change that may have been carried out, or may still be. Only a listing shows.
    Unknown,
    /// A read whose answer is not the whole truth.
    Incomplete,
}

impl Verdict {
    /// Of a call that was sent and ended like this.
    #[must_use]
    pub fn of(operation: Operation, outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Done,
            // What is not there need not be deleted.
            Outcome::NotFound if operation == Operation::Delete => Self::Done,
            Outcome::Rejected | Outcome::Unauthorized | Outcome::Forbidden | Outcome::NotFound => {
                Self::NotDone
            }
            // A proxy may say so after the provider has carried it out.
            Outcome::Malformed
            | Outcome::Busy
            | Outcome::Throttled
            | Outcome::ServerError
            | Outcome::Transport
                if operation.changes() =>
            {
                Self::Unknown
            }
            Outcome::Malformed => Self::Incomplete,
            Outcome::Busy | Outcome::Throttled | Outcome::ServerError | Outcome::Transport => {
                Self::NotDone
            }
        }
    }
}

/// The headers that say how far an answer may be believed, as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Each `Age`: the seconds since a cache received the answer.
    pub age: Vec<String>,
    /// Each `Link`.
    pub link: Vec<String>,
    /// `Content-Range`.
    pub content_range: Option<String>,
    /// Each header that says how many rows there are in all, like `X-Total-Count`.
    pub total: Vec<String>,
    /// Each `Warning`.
    pub warning: Vec<String>,
    /// The host that `Location` names. It is only shown.
    pub redirect: Option<ForeignText>,
}

/// What could be made of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// It is torn, or not what is documented.
    Unclear,
    /// It is as documented.
    Understood {
        /// It names a next page.
        has_next: bool,
        /// How many rows there are with this page, in a list.
        rows: Option<usize>,
    },
}

/// What an answer comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The class for logs and metrics.
    pub outcome: Outcome,
    /// What is known of what was asked for.
    pub verdict: Verdict,
    /// Why status or headers make the answer unusable, although its body may be understood.
    pub objection: Option<String>,
    /// How old the answer already was when it came.
    pub age: Duration,
}

/// The status that the provider's documentation promises for success.
#[must_use]
pub fn documented(operation: Operation) -> u16 {
    match operation {
        Operation::Create => 201,
        Operation::Delete => 204,
        Operation::List | Operation::Restore | Operation::Servers | Operation::Account => 200,
    }
}

/// Judges an answer. `body` matters only for the documented status.
#[must_use]
pub fn judge(operation: Operation, status: u16, headers: &Headers, body: Body) -> Judgement {
    let age = if operation.changes() { Some(Duration::ZERO) } else { headers.age() };
    let class = Outcome::of_status(status);
    let objection = match class {
        Outcome::Ok => objection(operation, status, headers, age, body),
        Outcome::Malformed => Some(format!("{status} is not a status of HTTP")),
        _ => None,
    };
    let is_usable = objection.is_none() && body != Body::Unclear;
    let outcome = if class == Outcome::Ok && !is_usable { Outcome::Malformed } else { class };
    let verdict = Verdict::of(operation, outcome);
    Judgement { outcome, verdict, objection, age: age.unwrap_or_default() }
}

/// Why a 2xx is not what it seems.
fn objection(
    operation: Operation,
    status: u16,
    headers: &Headers,
    age: Option<Duration>,
    body: Body,
) -> Option<String> {
    let documented = documented(operation);
    if status != documented {
        let word = operation.as_str();
        return Some(format!("the answer to {word} is {documented}, not {status}"));
    }
    if operation.changes() {
        return None;
    }
    if headers.content_range.is_some() {
        return Some("incomplete: `Content-Range` says that this is a part of it".to_owned());
    }
    if let Body::Understood { has_next: false, rows } = body {
        if headers.name_a_next_page() {
            return Some("incomplete: `Link` names a next page".to_owned());
        }
        let total = headers.total.iter().find(|total| {
            rows.is_some_and(|rows| total.trim().parse::<usize>().ok() != Some(rows))
        });
        if let (Some(total), Some(rows)) = (total, rows) {
            let total = ForeignText::from(total.as_str());
            return Some(format!(
                "incomplete: a header says that there are {total} rows, and {rows} were listed"
            ));
        }
    }
    if headers.warn_of_staleness() {
        return Some("stale: `Warning` says that a cache has kept this answer".to_owned());
    }
    match age {
        None => Some("stale: its `Age` cannot be read".to_owned()),
        Some(age) if age > LISTING_MAX_AGE => Some(format!(
            "stale: a cache has kept this answer for {} s, and {} s is the most",
            age.as_secs(),
            LISTING_MAX_AGE.as_secs()
        )),
        Some(_) => None,
    }
}

impl Headers {
    /// The largest `Age`; `None` if one is not a number of seconds.
    fn age(&self) -> Option<Duration> {
        let mut oldest = Duration::ZERO;
        for text in self.age.iter().flat_map(|line| line.split(',')) {
            let text = text.trim();
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            oldest = oldest.max(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
        }
        Some(oldest)
    }

    /// Whether some `Warning` has one of the codes of a stale answer, 110 to 113 (RFC 7234).
    fn warn_of_staleness(&self) -> bool {
        let warnings = self.warning.iter().flat_map(|line| line.split(','));
        let code = |warning: &str| warning.split_ascii_whitespace().next()?.parse::<u16>().ok();
        warnings.filter_map(code).any(|code| (110..=113).contains(&code))
    }

    /// Whether some `Link` has the relation `next` (RFC 8288).
    fn name_a_next_page(&self) -> bool {
        self.link.iter().any(|line| parameters(line).any(|parameter| is_next(&parameter)))
    }
}

/// The parameters of all links on a line: what stands between `;` and `,` outside quotes and addresses.
fn parameters(line: &str) -> impl Iterator<Item = String> {
    let (mut found, mut piece) = (Vec::new(), String::new());
    let (mut in_quotes, mut in_address) = (false, false);
    for character in line.chars() {
        match character {
            '"' if !in_address => in_quotes = !in_quotes,
            '<' if !in_quotes => in_address = true,
            '>' if !in_quotes => in_address = false,
            ';' | ',' if !in_quotes && !in_address => {
                found.push(std::mem::take(&mut piece));
                continue;
            }
            _ => {}
        }
        piece.push(character);
    }
    found.push(piece);
    found.into_iter()
}

fn is_next(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, value)| {
        name.trim().eq_ignore_ascii_case("rel")
            && value
                .trim()
                .trim_matches('"')
                .split_ascii_whitespace()
                .any(|relation| relation.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests;
