//! The form of a log line: text for people, JSON for machines. journald's is in `journal_entry`.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::telemetry::line_writer::LineWriter;
use crate::telemetry::stderr_is_the_journal;

// Internal errors are written with a macro that panics when standard error has gone.

pub(super) fn text_lines<S: Subscriber + for<'span> LookupSpan<'span>>(
    writer: LineWriter,
) -> Box<dyn Layer<S> + Send + Sync> {
    let terminal = std::io::stderr().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let text = layer()
        .with_writer(writer)
        .with_ansi(colours)
        .with_target(false)
        .log_internal_errors(false);
    // The journal has a time of its own.
    if stderr_is_the_journal() { text.without_time().boxed() } else { text.boxed() }
}

pub(super) fn json_lines<S>(writer: LineWriter) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    layer()
        .with_writer(writer)
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_current_span(false)
        .with_span_list(false)
        .log_internal_errors(false)
}
