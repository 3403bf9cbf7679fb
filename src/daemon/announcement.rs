//! Shows commands what this daemon tells of, so that they leave it to the daemon.

use std::sync::{Mutex, PoisonError};

use crate::config::types::Settings;
use crate::notify::coverage;
use crate::rotation::lock::{Exclusion, Presence};
use crate::store::place::Place;

/// What is shown at present.
pub(super) struct Announcement {
    exclusion: Exclusion,
    store: Place,
    presence: Mutex<Option<Presence>>,
}

impl Announcement {
    /// Shows nothing yet.
    pub(super) fn new(exclusion: Exclusion, store: Place) -> Self {
        Self { exclusion, store, presence: Mutex::default() }
    }

    /// Shows that these settings are in force.
    pub(super) fn show(&self, settings: &Settings) {
        let mut presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the next one is taken: it may be the same place.
        drop(presence.take());
        // Without a history that lasts, the daemon hears nothing of other processes.
        let Some(coverage) = coverage(&settings.notify, &settings.servers, &self.store) else {
            return;
        };
        match self.exclusion.daemon_is_here(&coverage) {
            Ok(shown) => *presence = Some(shown),
            Err(problem) => tracing::warn!(
                event = "lock",
                "commands cannot see that this daemon runs, so `rotate` may send the same notices: {problem}"
            ),
        }
    }
}
