//! When a person, or a service manager, asks a command to end: after what is under way, and when asked
//! a second time at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use signal_hook::consts::signal::{SIGINT, SIGTERM};
use signal_hook::flag;
use tokio_util::sync::CancellationToken;

use crate::cli::error::CommandError;
use crate::cli::{Exit, console};
use crate::clock::Clock;
use crate::daemon::signals::{self, LAST_WORDS, Signal, Signals};

/// How long a command that is to end waits for somebody to read its output, at least. At most twice as long.
const UNREAD_FOR: Duration = Duration::from_secs(5);

/// What a command has been asked.
#[derive(Debug, Clone, Default)]
pub(super) struct StopSignals {
    /// Cancelled once it is to start nothing new.
    pub asked: CancellationToken,
    at_once: CancellationToken,
}

impl StopSignals {
    /// Listens for those who ask.
    ///
    /// # Errors
    /// As for [`catch_signals`].
    pub(super) fn listen() -> Result<Self, CommandError> {
        let mut signals = catch_signals()?;
        let stop = Self::default();
        let Self { asked, at_once } = stop.clone();
        tokio::spawn(async move {
            while let Some(signal) = signals.next().await {
                if signal == Signal::End && asked.is_cancelled() {
                    at_once.cancel();
                    // Whoever waits for an answer at the terminal hears nothing else.
                    Clock::system().sleep(LAST_WORDS).await;
                    std::process::exit(1);
                } else if signal == Signal::End {
                    console::note("stopping after the current step; a second signal stops at once");
                    asked.cancel();
                    tokio::spawn(end_if_unread());
                }
            }
        });
        Ok(stop)
    }

    /// Does this, unless it is asked to end at once: then it is broken off where it stands, and what
    /// that leaves in the log is left.
    ///
    /// # Errors
    /// [`CommandError::Quiet`] when it was broken off.
    pub(super) async fn unless_at_once<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, CommandError> {
        self.at_once.run_until_cancelled(work).await.ok_or(CommandError::Quiet(Exit::Trouble))
    }
}

/// Ends a command that was asked to end, and whose output nobody reads: that may take for ever.
async fn end_if_unread() {
    let (clock, mut before) = (Clock::system(), false);
    loop {
        clock.sleep(UNREAD_FOR).await;
        let writes = console::WRITES.load(Ordering::Relaxed);
        if before && writes {
            std::process::exit(1);
        }
        before = writes;
    }
}

/// The signals as they come; from here on they do nothing by themselves. But while data is being written, those that
/// ask the command to end do: its reader may never take the data, and nothing else is left to do.
///
/// # Errors
/// [`CommandError::Failed`] when the system refuses.
pub(super) fn catch_signals() -> Result<Signals, CommandError> {
    let end_while_writing = |signal| flag::register_conditional_default(signal, &console::WRITES);
    end_while_writing(SIGTERM)
        .and_then(|_| end_while_writing(SIGINT))
        .and_then(|_| signals::listen())
        .map_err(|problem| CommandError::Failed(format!("cannot catch signals: {problem}")))
}
