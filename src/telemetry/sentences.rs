//! Events for a person at a terminal: what must be known is a sentence, and nothing else is shown.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::telemetry::line_writer::LineWriter;

/// The command says these itself, in its result and while it waits.
const SAID_BY_THE_COMMAND: [&str; 5] = ["alarm", "api", "manual", "rotation", "throttled"];

/// What a person should know of these although nothing is wrong.
const WORTH_KNOWING: [&str; 3] = ["hook", "ring", "settle"];

/// A layer that writes sentences.
pub(super) struct Sentences(pub(super) LineWriter);

impl<S: Subscriber> Layer<S> for Sentences {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::INFO || !event.metadata().target().starts_with("snapring") {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        if let Some(sentence) = said.sentence(level) {
            self.0.put(format!("{sentence}\n").as_bytes());
        }
    }
}

#[derive(Default)]
struct Said {
    event: String,
    message: String,
}

impl Said {
    fn sentence(&self, level: Level) -> Option<String> {
        let Self { event, message } = self;
        let is_news = level < Level::INFO || WORTH_KNOWING.contains(&event.as_str());
        if !is_news || SAID_BY_THE_COMMAND.contains(&event.as_str()) {
            return None;
        }
        Some(match level {
            Level::ERROR => format!("error: {message}"),
            Level::WARN => format!("warning: {message}"),
            _ => message.clone(),
        })
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            value.clone_into(&mut self.event);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _: fmt::Result = write!(self.message, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_call(Level::WARN, "api", None)]
    #[case::a_rotation(Level::ERROR, "rotation", None)]
    #[case::a_refused_token(Level::ERROR, "alarm", None)]
    #[case::what_this_person_did(Level::WARN, "manual", None)]
    #[case::what_went_wrong(Level::ERROR, "hook", Some("error: web: x"))]
    #[case::what_a_person_should_know(Level::WARN, "lock", Some("warning: web: x"))]
    #[case::what_is_going_on(Level::INFO, "ring", Some("web: x"))]
    #[case::a_detail(Level::INFO, "token", None)]
    fn warnings_are_sentences_and_details_are_not_shown(
        #[case] level: Level,
        #[case] event: &str,
        #[case] expected: Option<&str>,
    ) {
        let said = Said { event: event.to_owned(), message: "web: x".to_owned() };
        assert_eq!(said.sentence(level).as_deref(), expected);
    }
}
