//! Where events go: to the journal as native fields, or to standard error, as text for people or one
//! JSON object a line for machines.

mod journal_entry;
mod journald;
mod line_writer;
mod lines;
mod sentences;
mod socket;

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::tz::TimeZone;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, registry};

use crate::paths::JOURNAL_SOCKET;
use crate::telemetry::journald::{JournalOnly, Journald};
use crate::telemetry::line_writer::LineWriter;
use crate::telemetry::lines::{json_lines, text_lines};
use crate::telemetry::sentences::Sentences;
use crate::telemetry::socket::Socket;

/// The variable that overrides the configured level.
pub(crate) const FILTER_VARIABLE: &str = "SNAPRING_LOG";

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The form of a line.
    pub format: LogFormat,
    /// A filter in tracing's syntax.
    pub level: String,
    /// Whether each call that goes well is worth a line at level info.
    pub calls: bool,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal if that is where standard error goes, text on a terminal, else JSON.
    Auto,
    /// Native entries of the journal.
    Journald,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// A level or filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{from} is not a log filter ({reason}); write a level like \"info\", or \"warn,snapring=debug\""
)]
pub(crate) struct FilterError {
    from: String,
    reason: String,
}

/// For whom events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For the journal.
    Journald,
    /// For machines.
    Json,
    /// For people.
    Text,
}

impl Form {
    /// What a format comes to where this process writes.
    #[must_use]
    pub(crate) fn of(format: LogFormat) -> Self {
        match format {
            LogFormat::Journald => Self::Journald,
            LogFormat::Json => Self::Json,
            LogFormat::Text => Self::Text,
            LogFormat::Auto if stderr_is_the_journal() => Self::Journald,
            LogFormat::Auto if std::io::stderr().is_terminal() => Self::Text,
            LogFormat::Auto => Self::Json,
        }
    }

    /// The same for a command that runs once: a person or a script reads its standard error, so it is never JSON
    /// unless the configuration says so.
    fn of_command(format: LogFormat) -> Self {
        match Self::of(format) {
            Self::Json if format == LogFormat::Auto => Self::Text,
            form => form,
        }
    }
}

/// Whether `text` is a filter in tracing's syntax.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check_filter(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    // A bare word that is no level would be taken for a target's name, and silence all others.
    for word in text.split(',').map(str::trim).filter(|word| !word.contains(['=', '['])) {
        if !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(format!("{word:?} is none of {}", LEVELS.join(", ")));
        }
    }
    EnvFilter::try_new(text).map(|_| ()).map_err(|error| error.to_string())
}

/// What a command that runs once does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deeds {
    /// It changes something, or may: its log is wanted when a timer starts it.
    Changes,
    /// It shows something, and its answer is all that is wanted.
    Looks,
}

/// In place of events, sentences from this level on.
type SentencesFrom = Option<LevelFilter>;

/// Begins to write events. Once a process; a second call changes nothing. `zone`: that of the times in a log for
/// people.
///
/// # Errors
/// When the variable or the level is not a filter.
pub(crate) fn begin(format: LogFormat, level: &str, zone: TimeZone) -> Result<(), FilterError> {
    begin_in(Form::of(format), level, zone, None)
}

/// The same for a command that runs once. It writes sentences in place of events, unless `verbose` or
/// `$SNAPRING_LOG` asks for events, or the configuration names their form and standard error is no terminal. A
/// command that only looks writes no more than warnings.
///
/// # Errors
/// As for [`begin`].
pub(crate) fn begin_for_command(
    format: LogFormat,
    level: &str,
    zone: TimeZone,
    verbose: bool,
    deeds: Deeds,
) -> Result<(), FilterError> {
    let asks_for_events = verbose || filter_of_the_environment().is_some();
    let form = Form::of_command(format);
    let has_a_form = format != LogFormat::Auto || form == Form::Journald;
    let (level, sentences) = match deeds {
        _ if asks_for_events => (level, None),
        Deeds::Looks if form == Form::Journald => ("warn", None),
        Deeds::Looks => (level, Some(LevelFilter::WARN)),
        Deeds::Changes if has_a_form && !std::io::stderr().is_terminal() => (level, None),
        Deeds::Changes => (level, Some(LevelFilter::INFO)),
    };
    begin_in(form, level, zone, sentences)
}

/// Whether a person reads standard error, who has not asked for events.
#[must_use]
pub(crate) fn is_for_a_person(verbose: bool) -> bool {
    !verbose && filter_of_the_environment().is_none() && std::io::stderr().is_terminal()
}

fn filter_of_the_environment() -> Option<String> {
    std::env::var(FILTER_VARIABLE).ok().filter(|text| !text.trim().is_empty())
}

fn begin_in(
    form: Form,
    level: &str,
    zone: TimeZone,
    sentences: SentencesFrom,
) -> Result<(), FilterError> {
    let (from, text) = match filter_of_the_environment() {
        Some(text) => (format!("${FILTER_VARIABLE}"), text),
        None => ("[log] level".to_owned(), level.to_owned()),
    };
    if let Err(reason) = check_filter(&text) {
        return Err(FilterError { from, reason });
    }
    // The scheduler's own steps are not logged, unless the filter asks for them. What a
    // database says is told by the store's events, once.
    let filter = EnvFilter::try_new(format!("tokio_cron_scheduler=warn,sqlx=off,{text}"))
        .map_err(|error| FilterError { from, reason: error.to_string() })?;
    let filtered = registry().with(filter);
    let lines = standard_error().clone();
    if let Some(level) = sentences.filter(|_| form != Form::Journald) {
        let _ = registry().with(level).with(Sentences(lines)).try_init();
        return Ok(());
    }
    let sentences = sentences.map(|_| Sentences(lines.clone()));
    let started = match form {
        Form::Text => filtered.with(text_lines(lines, zone)).try_init(),
        Form::Json => filtered.with(json_lines(lines)).try_init(),
        Form::Journald => match Socket::to(Path::new(JOURNAL_SOCKET)) {
            Ok(socket) => {
                let layer = json_lines(lines.clone());
                filtered.with(sentences).with(Journald::new(socket, lines, layer)).try_init()
            }
            // Without a single file more than the log will fail.
            Err(_) => filtered.with(json_lines(lines)).try_init(),
        },
    };
    // Already begun: the one from before goes on.
    if started.is_ok() {
        IS_IN_THE_JOURNAL.store(form == Form::Journald, Ordering::Relaxed);
    }
    Ok(())
}

/// From now on, calls that go well are logged at level debug.
pub(crate) fn log_calls_at_debug() {
    CALLS_AT_DEBUG.store(true, Ordering::Relaxed);
}

/// Whether they are.
#[must_use]
pub(crate) fn logs_calls_at_debug() -> bool {
    CALLS_AT_DEBUG.load(Ordering::Relaxed)
}

static CALLS_AT_DEBUG: AtomicBool = AtomicBool::new(false);

/// Says something in the log, and in the journal of this machine too if the log goes elsewhere: what a person did
/// at a terminal is found there. Without a journal, the log has it.
pub(crate) fn in_the_journal_too(say: impl Fn()) {
    say();
    if IS_IN_THE_JOURNAL.load(Ordering::Relaxed) {
        return;
    }
    if let Ok(socket) = Socket::to(Path::new(JOURNAL_SOCKET)) {
        tracing::subscriber::with_default(registry().with(JournalOnly(socket)), say);
    }
}

/// Whether events go to the journal, as far as it takes them.
static IS_IN_THE_JOURNAL: AtomicBool = AtomicBool::new(false);

static STANDARD_ERROR: OnceLock<LineWriter> = OnceLock::new();

/// The only way to standard error, for the log and for everything else that is said there.
pub(crate) fn standard_error() -> &'static LineWriter {
    STANDARD_ERROR.get_or_init(|| LineWriter::start(std::io::stderr(), report_lost))
}

/// Waits until standard error has taken what was said, at most for `patience` if there is one. Whether it
/// has.
pub(crate) fn flush(patience: Option<Duration>) -> bool {
    STANDARD_ERROR.get().is_none_or(|lines| lines.flush(patience))
}

/// How many lines standard error did not take since the start.
#[must_use]
pub(crate) fn lost_lines() -> u64 {
    STANDARD_ERROR.get().map_or(0, LineWriter::lost)
}

fn report_lost(lost: u64) {
    let lines = if lost == 1 { "line was" } else { "lines were" };
    tracing::warn!(
        event = "log",
        lost,
        "{lost} log {lines} lost here: standard error did not take them"
    );
}

/// Whether what is written to standard error ends up in the journal: systemd says of which stream
/// that is so, and it may have been redirected since.
#[must_use]
pub(crate) fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(std::io::stderr().as_fd())
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of all events that the sources in a directory say.
    fn events_below(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                events_below(&path, found);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let said = text.split("#[cfg(test)]").next().unwrap();
                found.extend(
                    said.split("event = \"")
                        .skip(1)
                        .map(|it| it.split('"').next().unwrap().to_owned()),
                );
            }
        }
    }

    #[test]
    fn the_page_on_logging_knows_every_event_and_no_other() {
        let page = include_str!("../docs/LOGGING.md");
        let (_, events) = page.split_once("| `event` | says |").unwrap();
        let (events, _) = events.split_once("## Fields").unwrap();
        let listed: BTreeSet<String> = events
            .lines()
            .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
            .collect();
        let mut said = BTreeSet::new();
        events_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut said);
        assert!(said.len() > 10, "{said:?}");
        assert_eq!(listed, said);
    }
}
