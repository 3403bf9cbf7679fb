//! What tests see of the log: each event on their thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// An event: its level, and its fields as they are shown.
pub(crate) type Note = (tracing::Level, BTreeMap<&'static str, String>);

/// Notes each event.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<Note>>>);

impl<S: tracing::Subscriber> Layer<S> for Notes {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Fields(BTreeMap<&'static str, String>);
        impl tracing::field::Visit for Fields {
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                self.0.insert(field.name(), value.to_owned());
            }
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.insert(field.name(), format!("{value:?}"));
            }
        }
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push((*event.metadata().level(), fields.0));
    }
}

impl Notes {
    /// Listens to this thread until both are dropped; of two, see `every_call_leaves_exactly_one_event`.
    pub(crate) fn listen(&self) -> (tracing::Dispatch, tracing::subscriber::DefaultGuard) {
        let other = tracing::Dispatch::new(tracing_subscriber::registry());
        let subscriber = tracing_subscriber::registry().with(self.clone());
        (other, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn of(&self, event: &str) -> Vec<Note> {
        let is_one = |fields: &BTreeMap<_, _>| fields.get("event").is_some_and(|it| it == event);
        self.0.lock().unwrap().iter().filter(|(_, fields)| is_one(fields)).cloned().collect()
    }
}
