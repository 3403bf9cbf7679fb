//! What the provider makes of the account's token, as far as calls have shown.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::call::Operation;
use crate::naming::Account;

/// What the provider makes of the account's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// No call has been answered yet.
    Untried,
    /// A call succeeded, and none was refused since.
    Accepted,
    /// A call was refused, and such a one has not succeeded since.
    Refused,
}

/// What calls have shown.
#[derive(Debug, Default)]
pub(crate) struct TokenHistory {
    account: Account,
    /// For what the token was refused, if that has not succeeded since, and since when.
    refused: Mutex<Option<(Operation, Timestamp)>>,
    /// Whether it was ever accepted.
    accepted: AtomicBool,
    /// When the account's own call was last made because a server's was refused, in uptime, and whether
    /// that was refused too.
    pub(crate) account_was_refused: tokio::sync::Mutex<Option<(Duration, bool)>>,
}

impl TokenHistory {
    pub(crate) fn of(account: Account) -> Self {
        Self { account, ..Self::default() }
    }

    pub(crate) fn state(&self) -> TokenState {
        if self.refused_since().is_some() {
            TokenState::Refused
        } else if self.accepted.load(Ordering::Relaxed) {
            TokenState::Accepted
        } else {
            TokenState::Untried
        }
    }

    /// Since when the token has been refused, if it is.
    pub(crate) fn refused_since(&self) -> Option<Timestamp> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.map(|(_, since)| since)
    }

    /// Whether this is the first refusal since the token was good: one alarm an account.
    pub(crate) fn is_news(&self, operation: Operation, now: Timestamp) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let first = refused.is_none();
        *refused = Some((operation, refused.map_or(now, |(_, since)| since)));
        first
    }

    /// A token may be good for looking and too weak for creating: only what was refused clears it, or the
    /// account's own call, which is made when a server's call is refused.
    pub(crate) fn accepted(&self, operation: Operation) {
        self.accepted.store(true, Ordering::Relaxed);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let is_cleared = |(of, _)| of == operation || operation == Operation::Account;
        if refused.is_some_and(is_cleared) {
            *refused = None;
            tracing::info!(
                event = "alarm",
                account = self.account.label(),
                outcome = "ok",
                "the token of {} is accepted again",
                self.account.in_words()
            );
        }
    }
}
