//! What a configuration says once it has been found good: every value here is valid.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::notify::NotifySettings;
use crate::provider::settings::ApiSettings;
use crate::server::Server;
use crate::status::MetricsScope;
use crate::store::place::Place;
use crate::telemetry::LogSettings;

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
    pub notify: Vec<NotifySettings>,
    /// Which of the secrets are in files of their own.
    pub secrets_in_files: SecretsInFiles,
}

/// Which secrets a configuration keeps in files of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretsInFiles {
    /// How many addresses of webhooks.
    pub webhooks: usize,
    /// Whether the address of the store is.
    pub store: bool,
}

/// `[http]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where to listen; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// By which names it may be addressed, besides those of loopback and all addresses.
    pub hosts: Vec<String>,
    /// Which servers the metrics have series of.
    pub metrics: MetricsScope,
}
