//! What a configuration says once it has been found good: every value here is valid.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::notify::format::Format;
use crate::notify::transitions::Event;
use crate::notify::webhook::Webhook;
use crate::provider::transport::arrives_within;
use crate::server::Server;
use crate::store::place::Place;

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How the provider is reached.
    pub api: ApiSettings,
    /// The servers, in the order of the file; ids and names are unique.
    pub servers: Vec<Arc<Server>>,
    /// Who may look.
    pub http: HttpSettings,
    /// Where the history is kept; `None`: where the daemon's surroundings say.
    pub store: Option<Place>,
    /// How logs are written.
    pub log: LogSettings,
    /// Who is told; no two have one address.
    pub notify: Vec<Notify>,
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// Ends in a slash; https, or http to a loopback address.
    pub base_url: Url,
    /// Where the token stands; `None`: `$CREDENTIALS_DIRECTORY/snapring-token`, else `$SNAPRING_TOKEN`.
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
    /// How long after it was given up, or after the end of its process, a create may still show up
    /// in a listing.
    #[must_use]
    pub fn shows_up_within(&self) -> Duration {
        arrives_within(self.timeout).saturating_add(self.settle)
    }
}

/// `[http]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where to listen; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The form of a line.
    pub format: LogFormat,
    /// A filter in tracing's syntax.
    pub level: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal if that is where standard error goes, text on a terminal, else JSON.
    Auto,
    /// Native entries of the journal.
    Journald,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// `[[notify]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Where to. A secret, but for its host.
    pub url: Webhook,
    /// Of what; at least one.
    pub on: Vec<Event>,
    /// In which form.
    pub format: Format,
}
