//! Where events go: standard error, as text for people or one JSON object a line for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::types::LogFormat;

/// The variable that overrides the configured level.
pub const FILTER_VARIABLE: &str = "SNAPRING_LOG";

/// A level or filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{from} is not a log filter ({reason}); write a level like \"info\", or \"warn,snapring=debug\""
)]
pub struct FilterError {
    from: String,
    reason: String,
}

/// Whether `text` is a filter in tracing's syntax.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_filter(text: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    // A bare word that is no level would be taken for a target's name, and silence all others.
    for word in text.split(',').map(str::trim).filter(|word| !word.contains(['=', '['])) {
        if !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(format!("{word:?} is none of {}", LEVELS.join(", ")));
        }
    }
    EnvFilter::try_new(text).map(|_| ()).map_err(|error| error.to_string())
}

/// Begins to write events. Once a process; a second call changes nothing.
///
/// # Errors
/// When the variable or the level is not a filter.
pub fn begin(format: LogFormat, level: &str) -> Result<(), FilterError> {
    let (from, text) = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.trim().is_empty() => (format!("${FILTER_VARIABLE}"), text),
        _ => ("[log] level".to_owned(), level.to_owned()),
    };
    if let Err(reason) = check_filter(&text) {
        return Err(FilterError { from, reason });
    }
    // The clockwork's own steps are nobody's concern, unless the filter asks for them.
    let filter = EnvFilter::try_new(format!("tokio_cron_scheduler=warn,{text}"))
        .map_err(|error| FilterError { from, reason: error.to_string() })?;
    let terminal = std::io::stderr().is_terminal();
    let text_for_people = match format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    // Internal errors are written with a macro that panics when standard error has gone.
    let started = if text_for_people {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        let text = layer()
            .with_writer(std::io::stderr)
            .with_ansi(colours)
            .with_target(false)
            .log_internal_errors(false);
        registry.with(text).try_init()
    } else {
        let json = layer()
            .with_writer(std::io::stderr)
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_current_span(false)
            .with_span_list(false)
            .log_internal_errors(false);
        registry.with(json).try_init()
    };
    // Already begun: the one from before goes on.
    let _ = started;
    Ok(())
}
