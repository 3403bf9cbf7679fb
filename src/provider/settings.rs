//! How the account is reached.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use snapring_core::rotation::CreateSpans;
use url::{Host, Url};

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
    /// The one that all servers have, else UTC: for messages that concern no single one.
    pub zone: TimeZone,
}

impl ApiSettings {
    /// How long a create may take to show up in a listing.
    #[must_use]
    pub fn create_spans(&self) -> CreateSpans {
        let shows_up_within = arrives_within(self.timeout).saturating_add(self.settle);
        CreateSpans { settle: self.settle, shows_up_within }
    }
}

/// What tells providers apart: the same for all ways to write an address.
pub(crate) fn one_address(base_url: &str) -> String {
    let Ok(mut url) = Url::parse(base_url) else { return base_url.to_owned() };
    let host = match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.').to_owned(),
        Some(Host::Ipv4(address)) if address.is_loopback() => "localhost".to_owned(),
        Some(Host::Ipv6(address)) if address.is_loopback() => "localhost".to_owned(),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) | None => return url.to_string(),
    };
    if url.set_host(Some(&host)).is_err() {
        return base_url.to_owned();
    }
    url.to_string()
}
