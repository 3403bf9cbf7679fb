//! What the targets of notices were told and are owed, kept so that it outlasts the process that tells them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};

use crate::naming::Subject;

/// A target, by a digest of its address: the address is a secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey(Arc<str>);

impl TargetKey {
    /// The target at this address.
    #[must_use]
    pub fn of(address: &str) -> Self {
        Self::from(URL_SAFE_NO_PAD.encode(digest(&SHA256, address.as_bytes())))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for TargetKey {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for TargetKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Whose trouble a target was notified of.
pub type ToldOf = (TargetKey, Subject);

/// What a target knows of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToldState {
    /// It was notified then.
    Told(Timestamp),
    /// The failure was to be sent then, and was not delivered.
    Owed(Timestamp),
}

impl ToldState {
    /// When it was told, or should have been.
    #[must_use]
    pub fn at(self) -> Timestamp {
        match self {
            Self::Told(at) | Self::Owed(at) => at,
        }
    }
}

/// The trouble that targets were to be notified of, until they were notified of its end.
pub type Told = BTreeMap<ToldOf, ToldState>;

/// What is to be written; `None` if it is over.
pub type ToldChanges = BTreeMap<ToldOf, Option<ToldState>>;
