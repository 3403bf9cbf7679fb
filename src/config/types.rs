//! What a configuration says once it has been found good: every value here is valid.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use url::Url;

use crate::naming::{Prefix, ServerId, SnapshotId};
use crate::policy::Keep;
use crate::schedule::Schedule;

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How the provider is reached.
    pub api: ApiSettings,
    /// The servers, in the order of the file; ids and names are unique.
    pub servers: Vec<Arc<Server>>,
    /// How logs are written.
    pub log: LogSettings,
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
    /// How long a create whose answer never came may take to show up in a listing.
    pub settle: Duration,
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
    /// Text on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// `[[server]]`, with what `[defaults]` gave it.
#[derive(Debug, Clone)]
pub struct Server {
    /// The provider's number.
    pub id: ServerId,
    /// How logs and tables call it.
    pub name: String,
    /// Whether its ticks do anything.
    pub enabled: bool,
    /// When its ticks are; at least one schedule.
    pub schedules: Vec<Schedule>,
    /// What its snapshots are described with.
    pub description: String,
    /// The span in which a tick starts, at a point that server and tick decide.
    pub jitter: Duration,
    /// How old a missed tick may be to run late; zero: never.
    pub catch_up: Duration,
    /// How long a snapshot may stay in progress.
    pub completion_timeout: Duration,
    /// What runs around a create.
    pub hooks: Option<Hooks>,
    /// What a plan depends on.
    pub policy: Policy,
}

/// What decides which snapshots come and go.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What this server's managed names begin with.
    pub prefix: Prefix,
    /// How many snapshots retention keeps.
    pub keep: Keep,
    /// Where days, weeks and months begin.
    pub time_zone: TimeZone,
    /// The provider's limit for this server.
    pub cap: u32,
    /// Slots always left free for snapshots made by hand.
    pub reserve: u32,
    /// Ids never deleted.
    pub pinned: BTreeSet<SnapshotId>,
    /// A tick sooner than this after the last managed snapshot is skipped.
    pub min_interval: Duration,
}

/// `[server.hooks]`: argument vectors, run without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Runs before the create; empty: none.
    pub before: Vec<String>,
    /// Runs whenever `before` was started; empty: none.
    pub after: Vec<String>,
    /// How long each may take.
    pub timeout: Duration,
}
