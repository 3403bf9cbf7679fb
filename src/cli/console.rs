//! Talking to a person or a program: data on standard output, the rest on standard error.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::cli::error::CommandError;
use crate::cli::{ConfigArgument, Exit, progress};
use crate::foreign::ForeignText;
use crate::telemetry;

/// How long data waits for what was said before it, so that both stand in this order on a terminal.
const ORDER: Duration = Duration::from_secs(1);

/// Whether data is being written. See [`catch_signals`](crate::cli::shutdown::catch_signals).
pub(super) static WRITES: AtomicBool = AtomicBool::new(false);

/// Writes data; the only way to standard output. A reader that has gone (`| head`) ends the command quietly.
///
/// # Errors
/// When it cannot be written: [`CommandError::Quiet`] if the reader has gone.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    let _room = progress::pause();
    telemetry::flush(Some(ORDER));
    let mut out = std::io::stdout().lock();
    WRITES.store(true, Ordering::Relaxed);
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .and_then(|()| out.flush());
    WRITES.store(false, Ordering::Relaxed);
    written.map_err(|problem| match problem.kind() {
        ErrorKind::BrokenPipe => CommandError::Quiet(Exit::Trouble),
        _ => CommandError::Failed(format!("standard output cannot be written: {problem}")),
    })
}

/// Writes data for programs.
///
/// # Errors
/// As for [`print()`].
pub(super) fn print_json(value: &impl Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|problem| CommandError::Failed(problem.to_string()))?;
    print(&text)
}

/// Says something beside the data, and does not wait for it to be read.
pub(super) fn note(text: &str) {
    telemetry::standard_error().put(format!("{text}\n").as_bytes());
}

/// Says what a person should know.
pub(super) fn warning(text: &str) {
    note(&with_priority(4, text, telemetry::stderr_is_the_journal()));
}

/// Says what went wrong; the text says already that it is a mistake. [`CommandError::report`] is the one
/// that calls it.
pub(super) fn mistake(text: &str) {
    note(&with_priority(3, text, telemetry::stderr_is_the_journal()));
}

/// A text that says that it is a mistake.
pub(super) fn labelled(text: &str, colours: bool) -> String {
    let label = if colours { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
    format!("{label}: {text}")
}

/// Each line as the journal likes it, if that is where it goes: `journalctl -p err` then finds it.
fn with_priority(priority: u8, text: &str, journal: bool) -> String {
    if !journal {
        return text.to_owned();
    }
    let line = |line: &str| format!("<{priority}>{line}");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Whether standard error is a person's, who has not asked for the log.
#[must_use]
pub(super) fn is_for_a_person(arguments: &ConfigArgument) -> bool {
    telemetry::is_for_a_person(arguments.verbose)
}

/// Whether standard error takes colours: a terminal, and no `$NO_COLOR`.
#[must_use]
pub(super) fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// What a person has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The word that was asked for.
    Confirmed,
    /// Something else: why nothing is done.
    Declined(String),
}

impl Answer {
    /// Only `expected` itself means yes.
    fn of(line: Option<&str>, expected: &str) -> Self {
        let Some(line) = line else {
            return Self::Declined("no answer was given".to_owned());
        };
        match line.trim() {
            typed if typed == expected => Self::Confirmed,
            "" => Self::Declined("the answer was empty".to_owned()),
            typed => {
                let typed = ForeignText::excerpt(typed, ANSWER_CHARACTERS);
                Self::Declined(format!("the answer was {typed:?}, not {expected:?}"))
            }
        }
    }
}

/// How much of an answer is repeated.
const ANSWER_CHARACTERS: usize = 40;

/// Asks a person on a terminal; only `expected` itself means yes.
///
/// # Errors
/// [`CommandError::Usage`] when standard input is not a terminal.
pub(super) fn confirm(question: &str, expected: &str) -> Result<Answer, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::Usage(
            "confirmation required, but stdin is not a terminal; pass --yes".to_owned(),
        ));
    }
    let _room = progress::pause();
    telemetry::flush(None);
    let _ = write!(std::io::stderr(), "{question} ");
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    let line = read.is_ok_and(|bytes| bytes > 0).then_some(line.as_str());
    Ok(Answer::of(line, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_answers_something_else_is_told_what_was_read() {
        let declined = |text: &str| Answer::Declined(text.to_owned());
        assert_eq!(Answer::of(Some("web-01 \n"), "web-01"), Answer::Confirmed);
        let mistyped = declined("the answer was \"web-1\", not \"web-01\"");
        assert_eq!(Answer::of(Some("web-1\n"), "web-01"), mistyped);
        assert_eq!(Answer::of(Some("\n"), "yes"), declined("the answer was empty"));
        assert_eq!(Answer::of(None, "yes"), declined("no answer was given"));
    }

    #[test]
    fn each_line_has_its_priority_in_the_journal_and_none_elsewhere() {
        assert_eq!(with_priority(3, "error: x\n  hint: y", true), "<3>error: x\n<3>  hint: y");
        assert_eq!(with_priority(3, "error: x\n  hint: y", false), "error: x\n  hint: y");
    }
}
