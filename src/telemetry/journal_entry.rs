//! One event as one entry of the journal, in the bytes of journald's native protocol.
//!
//! Every field of an event becomes `SNAPRING_<NAME>`, so that `journalctl SNAPRING_OUTCOME=throttled`
//! finds it; the message becomes `MESSAGE`. The time is the journal's own affair.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// What all fields of ours begin with.
pub(super) const PREFIX: &str = "SNAPRING_";

/// What `journalctl -t` asks for.
pub(super) const IDENTIFIER: &str = "snapring";

/// journald drops a field with a longer name.
const MAX_NAME_BYTES: usize = 64;

/// The entry of an event, ready to be sent.
#[must_use]
pub(super) fn entry(event: &Event<'_>) -> Vec<u8> {
    let metadata = event.metadata();
    let mut fields = Fields::default();
    event.record(&mut fields);
    let mut bytes = fields.bytes;
    if !fields.has_message {
        put(&mut bytes, "MESSAGE", metadata.name());
    }
    put(&mut bytes, "PRIORITY", priority(*metadata.level(), fields.kind));
    put(&mut bytes, "SYSLOG_IDENTIFIER", IDENTIFIER);
    put(&mut bytes, &name("target"), metadata.target());
    bytes
}

/// What an event is about, as far as its priority depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum FieldKind {
    /// A library's.
    #[default]
    Foreign,
    /// An API call.
    Call,
    /// Anything else that snapring says: what a person wants to know of a day.
    News,
}

/// syslog's number. `journalctl -p notice` shows a day without its API calls.
fn priority(level: Level, kind: FieldKind) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO if kind == FieldKind::News => "5",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// Writes fields as they come.
#[derive(Default)]
struct Fields {
    bytes: Vec<u8>,
    has_message: bool,
    kind: FieldKind,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => {
                self.has_message = true;
                put(&mut self.bytes, "MESSAGE", value);
                return;
            }
            "event" => self.kind = if value == "api" { FieldKind::Call } else { FieldKind::News },
            _ => {}
        }
        put(&mut self.bytes, &name(field.name()), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // A value that cannot be written is as good as an empty one.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

/// The journal's name of a field: capitals, digits and underscores.
fn name(field: &str) -> String {
    let sane = |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_uppercase() } else { '_' };
    PREFIX.chars().chain(field.chars().map(sane)).take(MAX_NAME_BYTES).collect()
}

/// `NAME=value`, or, for a value of several lines, the name and the value with its length before it:
/// no value can be taken for a field.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    /// Keeps the entries of what is said.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(String::from_utf8(entry(event)).unwrap());
        }
    }

    /// The lines of the entries of all that is said meanwhile.
    fn entries(say: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(kept.clone()), say);
        let entries = kept.0.lock().unwrap();
        entries.clone()
    }

    #[test]
    fn fields_stand_under_the_prefix_and_what_is_not_there_is_left_out() {
        let absent: Option<u16> = None;
        let entries = entries(|| {
            tracing::warn!(
                event = "api",
                server_id = 101,
                status = absent,
                http.x = true,
                "slow down"
            );
        });
        assert_eq!(
            entries[0].lines().collect::<Vec<_>>(),
            [
                "MESSAGE=slow down",
                "SNAPRING_EVENT=api",
                "SNAPRING_SERVER_ID=101",
                "SNAPRING_HTTP_X=true",
                "PRIORITY=4",
                "SYSLOG_IDENTIFIER=snapring",
                "SNAPRING_TARGET=snapring::telemetry::journal_entry::tests",
            ]
        );
    }

    #[test]
    fn a_value_of_several_lines_forges_no_field() {
        let entries = entries(|| tracing::info!(reason = "one\nSNAPRING_OUTCOME=ok", "two\nlines"));
        let length = |text: &str| (text.len() as u64).to_le_bytes().map(char::from);
        let field = |name: &str, value: &str| {
            format!("{name}\n{}{value}\n", length(value).iter().collect::<String>())
        };
        let expected =
            field("MESSAGE", "two\nlines") + &field("SNAPRING_REASON", "one\nSNAPRING_OUTCOME=ok");
        assert!(entries[0].starts_with(&expected), "{:?}", entries[0]);
    }

    #[test]
    fn calls_are_quieter_than_the_news_of_the_day() {
        let said = entries(|| {
            tracing::error!(event = "rotation", "e");
            tracing::warn!(event = "api", "w");
            tracing::info!(event = "rotation", "i");
            tracing::info!(event = "api", "i");
            tracing::info!("a library's");
            tracing::debug!(event = "settle", "d");
        });
        let priority = |entry: &String| {
            entry
                .lines()
                .find_map(|line| line.strip_prefix("PRIORITY=").map(str::to_owned))
                .unwrap()
        };
        assert_eq!(said.iter().map(priority).collect::<String>(), "345667");
    }

    #[test]
    fn an_event_without_a_message_says_where_it_comes_from() {
        let entries = entries(|| {
            tracing::info!(a_name_that_is_far_too_long_for_the_journal_to_take_it_in_at_all = 1)
        });
        assert!(
            entries[0].contains("\nMESSAGE=event src/telemetry/journal_entry.rs:"),
            "{}",
            entries[0]
        );
        let longest =
            entries[0].lines().filter_map(|line| line.split_once('=')).map(|it| it.0.len()).max();
        assert_eq!(longest, Some(MAX_NAME_BYTES));
    }
}
