//! What the service manager or a person says by signals.

use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

/// How long calls that a second [`Signal::End`] breaks off may take to leave their events.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(2);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TERM, INT: end.
    End,
    /// HUP: read the configuration again.
    Reload,
    /// USR1: rotate every server now.
    RotateAll,
}

/// The signals as they come.
pub struct Signals(signal_hook_tokio::Signals);

/// Begins to catch signals; from here on they do nothing by themselves.
///
/// # Errors
/// When the system refuses.
pub(crate) fn listen() -> io::Result<Signals> {
    // XFSZ would kill: where it is caught, a write past a limit fails like one to a full disk.
    signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGXFSZ]).map(Signals)
}

impl Signals {
    /// The next one.
    pub async fn next(&mut self) -> Option<Signal> {
        loop {
            match self.0.next().await? {
                SIGTERM | SIGINT => return Some(Signal::End),
                SIGHUP => return Some(Signal::Reload),
                SIGUSR1 => return Some(Signal::RotateAll),
                _ => {}
            }
        }
    }
}
