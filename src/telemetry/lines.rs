//! The form of a log line: text for people, JSON for machines. journald's is in `journal_entry`.

use std::fmt::{self, Debug, Write};
use std::io::IsTerminal;

use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, layer};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Clock;
use crate::foreign::is_shown;
use crate::telemetry::line_writer::LineWriter;
use crate::telemetry::stderr_is_the_journal;

// Internal errors are written with a macro that panics when standard error has gone.

pub(super) fn text_lines<S: Subscriber + for<'span> LookupSpan<'span>>(
    writer: LineWriter,
    zone: TimeZone,
) -> impl Layer<S> {
    let terminal = std::io::stderr().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    // The journal has a time of its own.
    let time = (!stderr_is_the_journal()).then(|| (Clock::system(), zone));
    layer()
        .with_writer(writer)
        .with_ansi(colours)
        .event_format(TextLine { time })
        .log_internal_errors(false)
}

/// A line for people: the time, the level and the message. The message says what the fields do.
struct TextLine {
    time: Option<(Clock, TimeZone)>,
}

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if let Some((clock, zone)) = &self.time {
            let now = clock.now().wall.to_zoned(zone.clone());
            write!(out, "{} ", now.strftime("%Y-%m-%d %H:%M:%S%.3f %Z"))?;
        }
        let level = *event.metadata().level();
        match colour(level).filter(|_| out.has_ansi_escapes()) {
            Some(colour) => write!(out, "\u{1b}[{colour}m{level:>5}\u{1b}[0m ")?,
            None => write!(out, "{level:>5} ")?,
        }
        let mut message = Message::default();
        event.record(&mut message);
        // A library may say something in fields alone.
        let Message { message, fields } = message;
        let text = if message.is_empty() { fields.trim_start() } else { &message };
        let shown =
            |it: char| if is_shown(it) || it == '\n' { it } else { char::REPLACEMENT_CHARACTER };
        writeln!(out, "{}", text.chars().map(shown).collect::<String>())
    }
}

fn colour(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => Some(31),
        Level::WARN => Some(33),
        Level::INFO => Some(32),
        _ => None,
    }
}

#[derive(Default)]
struct Message {
    message: String,
    fields: String,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _: fmt::Result = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
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

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// The time is that of the servers' zone, and what the message says is not said again in fields.
    #[test]
    fn a_line_for_people_has_the_time_the_level_and_the_message_only() {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let writer = LineWriter::start(pipe, |_| {});
        let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
        let lines = tracing_subscriber::registry().with(text_lines(writer.clone(), tokyo));
        tracing::subscriber::with_default(lines, || {
            tracing::warn!(event = "rotation", outcome = "failed", "web-01 failed: \u{1b}[2J why");
        });
        assert!(writer.flush(None));
        let mut line = [0; 200];
        let length = reader.read(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line[..length]).into_owned();
        assert!(line.ends_with(" JST  WARN web-01 failed: \u{fffd}[2J why\n"), "{line:?}");
        assert!(!line.contains("event"), "{line}");
    }
}
