//! Events go to the journal; what it does not take goes where they would go without one.

use std::time::Duration;

use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::telemetry::journal_entry::entry;
use crate::telemetry::line_writer::LineWriter;
use crate::telemetry::report_lost;
use crate::telemetry::socket::{Sent, Socket};

/// How long the last lines may take to be written, so that the report counts them. A standard error that
/// works, or fails, needs far less; one that is stuck is not waited for.
const SETTLES_WITHIN: Duration = Duration::from_millis(100);

/// A layer that writes to the journal, with another one for when that does not work.
pub(super) struct Journald<L> {
    socket: Socket,
    fallback: LineWriter,
    layer: L,
}

impl<L> Journald<L> {
    /// `layer` writes to `fallback` what the journal does not take; it gets events only, not
    /// of spans.
    #[must_use]
    pub(super) fn new(socket: Socket, fallback: LineWriter, layer: L) -> Self {
        Self { socket, fallback, layer }
    }

    /// Says that the journal is back, and what became of the entries that it did not take.
    fn report_return(&self, missed: u64) {
        self.fallback.flush(Some(SETTLES_WITHIN));
        let lost = self.fallback.take_unreported();
        if lost == 0 {
            tracing::info!(
                event = "journal",
                missed,
                "the journal accepts entries again; {missed} went to standard error"
            );
        } else {
            tracing::warn!(
                event = "journal",
                missed,
                lost,
                "the journal accepts entries again; of {missed} that it did not accept, {lost} are lost \
                     because standard error failed too"
            );
        }
    }
}

impl<S: Subscriber, L: Layer<S>> Layer<S> for Journald<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // What is said in here comes back to this very function.
        match self.socket.send(&entry(event)) {
            Sent::Written => {
                // Of what was queued for it while the journal was away.
                let lost = self.fallback.take_unreported();
                if lost > 0 {
                    report_lost(lost);
                }
            }
            Sent::WrittenAgain { missed } => self.report_return(missed),
            Sent::StillRefused => self.layer.on_event(event, context),
            Sent::Refused(reason) => {
                tracing::warn!(
                    event = "journal",
                    "the journal at {} accepts no entries ({reason}); they go to standard error until it \
                         does",
                    self.socket.path().display()
                );
                self.layer.on_event(event, context);
            }
        }
    }
}

/// A layer that writes to the journal. What that does not take is not said elsewhere.
pub(super) struct JournalOnly(pub(super) Socket);

impl<S: Subscriber> Layer<S> for JournalOnly {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let _ = self.0.send(&entry(event));
    }
}
