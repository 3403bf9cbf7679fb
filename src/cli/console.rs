//! Talking to a person or a program: data on standard output, the rest on standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::cli::Exit;

/// Writes data. A reader that has gone (`| head`) ends the command quietly.
///
/// # Errors
/// [`Exit::Trouble`] when nothing can be written any more.
pub fn print(text: &str) -> Result<(), Exit> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .and_then(|()| out.flush())
        .map_err(|_| Exit::Trouble)
}

/// Writes data for programs.
///
/// # Errors
/// As for [`print()`].
pub fn print_json(value: &impl Serialize) -> Result<(), Exit> {
    let text = serde_json::to_string_pretty(value).map_err(|problem| {
        error(&problem.to_string());
        Exit::Trouble
    })?;
    print(&text)
}

/// Says something beside the data.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Says what went wrong.
pub fn error(text: &str) {
    let label = if colours() { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
    note(&format!("{label}: {text}"));
}

/// Whether standard error takes colours: a terminal, and no `$NO_COLOR`.
#[must_use]
pub fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// Asks a person on a terminal; only `answer` itself means yes.
///
/// # Errors
/// [`Exit::Usage`] when nobody can be asked: standard input is not a terminal.
pub fn confirm(question: &str, answer: &str) -> Result<bool, Exit> {
    if !std::io::stdin().is_terminal() {
        error("this needs an answer, and nobody is at the terminal; say --yes if you are sure");
        return Err(Exit::Usage);
    }
    let _ = write!(std::io::stderr(), "{question} ");
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    Ok(read.is_ok() && line.trim() == answer)
}
