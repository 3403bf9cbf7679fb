//! How the account is reached.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use snapring_core::rotation::CreateSpans;
use url::Url;

use crate::naming::Account;
use crate::provider::transport::arrives_within;

/// `[api]`, or one `[[account]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// Which account it is.
    pub account: Account,
    /// Ends in a slash; https, or http to a loopback address.
    pub base_url: Url,
    /// Where the token stands; `None`: where [`Credentials::locate`](super::credentials::Credentials::locate)
    /// finds it.
    pub token_file: Option<PathBuf>,
    /// One request, connect included.
    pub timeout: Duration,
    /// Requests under way at once.
    pub max_in_flight: NonZeroUsize,
    /// The user's own ceiling; 0: none.
    pub requests_per_minute: u32,
    /// Further tries after a first one failed.
    pub retries: u32,
    /// How long what the provider has created may take to show up in a listing.
    pub settle: Duration,
}

impl ApiSettings {
    /// How long a create may take to show up in a listing.
    #[must_use]
    pub fn create_spans(&self) -> CreateSpans {
        let shows_up_within = arrives_within(self.timeout).saturating_add(self.settle);
        CreateSpans { settle: self.settle, shows_up_within }
    }
}
