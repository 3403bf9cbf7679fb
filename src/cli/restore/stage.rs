//! How far a restore is, for what is said and recorded when it is broken off.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::manual::ManualOutcome;

/// How far it is. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<Mutex<State>>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    stage: Stage,
    /// Until when the server is held, once the restore was sent.
    held_until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing was changed.
    #[default]
    Nothing,
    /// The rotation that takes a snapshot first has begun.
    TakingASnapshot,
    /// It was refused.
    Refused,
    /// It was sent, and it is not known whether the provider has begun.
    Perhaps,
    /// The provider has begun.
    Begun,
    /// The server is at rest again.
    Ended,
    /// The provider has given up.
    Failed,
}

impl Progress {
    pub(super) fn is(&self, stage: Stage) {
        self.state().stage = stage;
    }

    pub(super) fn stage(&self) -> Stage {
        self.state().stage
    }

    /// It is being sent, and its server is held until then at the latest.
    pub(super) fn is_sent(&self, held_until: Timestamp) {
        *self.state() = State { stage: Stage::Perhaps, held_until: Some(held_until) };
    }

    pub(super) fn held_until(&self) -> Option<Timestamp> {
        self.state().held_until
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    /// What is recorded if the restore ends here.
    pub(super) fn outcome(self) -> ManualOutcome {
        match self {
            Self::Nothing | Self::TakingASnapshot | Self::Refused | Self::Failed => {
                ManualOutcome::Failed
            }
            Self::Perhaps => ManualOutcome::Unknown,
            Self::Begun => ManualOutcome::Started,
            Self::Ended => ManualOutcome::Done,
        }
    }
}
