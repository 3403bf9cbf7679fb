//! Events go to the journal; what it does not take goes where they would go without one.

use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::telemetry::entry::entry;
use crate::telemetry::socket::{Sent, Socket};

/// A layer that writes to the journal, with another one for when that does not work.
pub struct Journald<F> {
    socket: Socket,
    fallback: F,
}

impl<F> Journald<F> {
    /// `fallback` writes what the journal does not take; it is told of events only, not of spans.
    #[must_use]
    pub fn new(socket: Socket, fallback: F) -> Self {
        Self { socket, fallback }
    }
}

impl<S: Subscriber, F: Layer<S>> Layer<S> for Journald<F> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // What is said in here comes back to this very function.
        match self.socket.send(&entry(event)) {
            Sent::Written => {}
            Sent::WrittenAgain { missed } => tracing::info!(
                event = "journal",
                missed,
                "the journal takes events again; {missed} went to standard error meanwhile"
            ),
            Sent::StillRefused => self.fallback.on_event(event, context),
            Sent::Refused(reason) => {
                tracing::warn!(
                    event = "journal",
                    "the journal at {} takes no events ({reason}): they go to standard error until \
                     it does",
                    self.socket.path().display()
                );
                self.fallback.on_event(event, context);
            }
        }
    }
}
