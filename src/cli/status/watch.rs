//! `snapring status --watch`: the status of the daemon, refreshed in place.

use std::io::IsTerminal;
use std::time::Duration;

use terminal_size::{Height, Width, terminal_size_of};
use unicode_width::UnicodeWidthStr;

use crate::cli::error::CommandError;
use crate::cli::setup::Setup;
use crate::cli::shutdown::catch_signals;
use crate::cli::status::findings::findings;
use crate::cli::status::gather::{Gathered, PATH, chosen, read};
use crate::cli::status::text::{common_zone, text};
use crate::cli::status::{Arguments, DAEMON_WITHIN};
use crate::cli::{Exit, console};
use crate::daemon::signals::Signal;
use crate::moment::{shown, shown_today};
use crate::observe::client::ask;
use crate::observe::status_document::StatusDocument;

/// How often it is refreshed.
const EVERY: Duration = Duration::from_secs(2);

/// To the upper left corner.
const HOME: &str = "\u{1b}[H";

/// Clears the screen.
const CLEAR: &str = "\u{1b}[2J";

/// Clears the rest of a line.
const CLEAR_LINE: &str = "\u{1b}[K";

/// Clears all below.
const CLEAR_BELOW: &str = "\u{1b}[J";

/// Shows it until the command is asked to end.
///
/// # Errors
/// When there is no terminal, no daemon to ask, or no such server.
pub(super) async fn watch(arguments: &Arguments) -> Result<Exit, CommandError> {
    if !std::io::stdout().is_terminal() {
        let text = "--watch needs a terminal\nhint: without one, run `snapring status` again";
        return Err(CommandError::Usage(text.to_owned()));
    }
    let setup = Setup::read(&arguments.config)?;
    // Those that a `cover` adds the daemon knows.
    let is_covering = !setup.settings.covers.is_empty();
    let servers = if is_covering { Vec::new() } else { setup.select(&arguments.selection)? };
    let Some(address) = setup.settings.http.listen else {
        let text = "--watch asks the running daemon, but `listen` in [http] is not set";
        return Err(CommandError::Usage(text.to_owned()));
    };
    let is_wanted: std::collections::HashSet<_> = servers.iter().map(|it| it.id).collect();
    let mut signals = catch_signals()?;
    let mut last: Option<Gathered> = None;
    let zone = setup.settings.common_zone();
    let now = setup.clock.now().wall;
    let since = shown_today(now, now, &zone);
    let none_yet =
        format!("no answer from the daemon yet (asking {address} since {since}); Ctrl-C stops\n");
    console::print(&format!("{CLEAR}{HOME}{none_yet}{CLEAR_BELOW}"))?;
    loop {
        let started = setup.clock.now().uptime;
        let look = async {
            match ask(address, PATH, DAEMON_WITHIN, &setup.clock).await {
                Ok((status, body)) if status.is_success() && is_covering => {
                    chosen(&body, arguments).map_err(|it| it.to_string())
                }
                Ok((status, body)) if status.is_success() => {
                    read(&body, |row| is_wanted.contains(&row.id)).map_err(|it| it.to_string())
                }
                Ok((status, _)) => Err(format!("{address} answered {status}")),
                Err(problem) => Err(problem.to_string()),
            }
        };
        let show = |last: Option<&Gathered>, problem: Option<String>| {
            let shown = match last {
                Some(gathered) => {
                    let (document, findings) = (&gathered.document, findings(gathered, None));
                    let text = text(document, &findings, &arguments.in_state, arguments.all);
                    screen(document, problem, &text)
                }
                None => format!("{none_yet}{}\n", problem.unwrap_or_default()),
            };
            console::print(&format!("{HOME}{}{CLEAR_BELOW}", fitted(&shown, size())))
        };
        let mut look = std::pin::pin!(look);
        let looked = loop {
            tokio::select! {
                looked = &mut look => break looked,
                () = setup.clock.sleep(EVERY) => {
                    show(last.as_ref(), Some("still waiting for its answer".to_owned()))?;
                }
                () = end(&mut signals) => return Ok(Exit::Well),
            }
        };
        let problem = match looked {
            Ok(document) => {
                last = Some(Gathered { document, unanswered: Vec::new() });
                None
            }
            Err(problem) => Some(problem),
        };
        show(last.as_ref(), problem)?;
        let next = started.saturating_add(EVERY);
        tokio::select! {
            () = setup.clock.sleep(next.saturating_sub(setup.clock.now().uptime)) => {}
            () = end(&mut signals) => return Ok(Exit::Well),
        }
    }
}

/// Until the command is asked to end.
async fn end(signals: &mut crate::daemon::signals::Signals) {
    while let Some(signal) = signals.next().await {
        if signal == Signal::End {
            return;
        }
    }
}

fn screen(last: &StatusDocument, problem: Option<String>, text: &str) -> String {
    let mut screen = String::new();
    if let Some(problem) = problem {
        screen.push_str(&format!("the daemon does not answer: {problem}\n"));
    }
    let zone = common_zone(&last.servers);
    screen.push_str(&format!("as of {}; Ctrl-C stops\n", shown(last.at, &zone)));
    screen.push_str(text);
    screen
}

fn size() -> Option<(usize, usize)> {
    let (Width(width), Height(height)) = terminal_size_of(std::io::stdout())?;
    Some((width.into(), height.into()))
}

/// As much as a terminal of this width and height shows without scrolling.
fn fitted(text: &str, size: Option<(usize, usize)>) -> String {
    let (width, height) = size.unwrap_or((usize::MAX, usize::MAX));
    let mut left = height.saturating_sub(2);
    let mut shown = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let rows = line.width().div_ceil(width.max(1)).max(1);
        if rows > left {
            let more = lines.count() + 1;
            shown.push_str(&format!("… and {more} more lines{CLEAR_LINE}\n"));
            break;
        }
        left -= rows;
        shown.push_str(&format!("{line}{CLEAR_LINE}\n"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_nothing_scrolls() {
        let text = "one\ntwo\na line of twenty-two ch\nfour\nfive\n";
        let lines = |size| fitted(text, size).replace(CLEAR_LINE, "");
        assert_eq!(lines(None), text);
        assert_eq!(lines(Some((80, 7))), text);
        assert_eq!(lines(Some((80, 5))), "one\ntwo\na line of twenty-two ch\n… and 2 more lines\n");
        assert_eq!(
            lines(Some((10, 5))),
            "one\ntwo\n… and 3 more lines\n",
            "a long line takes three"
        );
    }
}
