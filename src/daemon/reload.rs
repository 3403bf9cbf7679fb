//! Reads the configuration again. If anything is wrong with it, the old one stays in force.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};

use crate::clock::Clock;
use crate::config::problem::log_warnings;
use crate::config::types::Settings;
use crate::config::{self, ConfigError};
use crate::daemon::Daemon;
use crate::daemon::announcement::Announcement;
use crate::daemon::covering::{Changed, Covering};
use crate::daemon::listeners::Listeners;
use crate::daemon::run::Connect;
use crate::provider::client::Client;
use crate::provider::connect::{ConnectError, locate_credentials};

/// How long the configuration may take to be read, and the token and the TLS roots together: longer than any
/// file system that works, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the new configuration is not put in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// The next start would fail.
    #[error("{0}")]
    Token(String),
    /// The claims between processes are made in its name.
    #[error("a new `base_url` takes effect after a restart")]
    BaseUrl,
    #[error("an account of the new configuration does not work: {0}")]
    Connect(#[from] ConnectError),
    #[error(
        "it could not be read within {}; is its file system available?",
        humantime::format_duration(PATIENCE)
    )]
    TooSlow,
    #[error("reading it failed: {0}")]
    Panicked(#[from] JoinError),
}

/// What a reload needs.
pub(super) struct Reload {
    /// The file that it reads.
    pub(super) configuration: PathBuf,
    /// What the daemon started with, but for its servers: some of it holds until the next start.
    pub(super) started_with: Settings,
    pub(super) connect: Connect,
    pub(super) announcement: Announcement,
    pub(super) covering: Covering,
}

impl Reload {
    /// Puts what the file says now in force.
    pub(super) async fn reload(
        self: &Arc<Self>,
        daemon: &Daemon,
        listeners: &Listeners,
        clock: &Clock,
    ) -> Result<(), ReloadError> {
        let read = self.read(daemon, clock).await;
        let (settings, clients) = read.inspect_err(|reason| {
            tracing::error!(event = "reload", "the old configuration is still in use: {reason}");
            daemon.refuse(&reason.to_string());
        })?;
        let settings = self.covering.reload(settings);
        listeners.reload(daemon, &settings, clients);
        self.announcement.show(&settings);
        Ok(())
    }

    /// Puts the servers in force that a list of them brought.
    pub(super) fn cover(&self, daemon: &Daemon, listeners: &Listeners, changed: &Changed) {
        listeners.put_in_force(&changed.settings, || daemon.put_in_force(&changed.settings, None));
        self.announcement.show(&changed.settings);
    }

    /// What the file says now, with clients of the accounts that are new or whose settings have changed.
    async fn read(
        self: &Arc<Self>,
        daemon: &Daemon,
        clock: &Clock,
    ) -> Result<(Settings, Vec<Client>), ReloadError> {
        let this = Arc::clone(self);
        let files = aside(clock, move || config::read_files(&this.configuration)).await??;
        // Here, not aside: memory that another thread has used is given back later.
        let loaded = config::parse_files(files)?;
        log_warnings("reload", &loaded.warnings);
        let settings = loaded.settings;
        let before = &self.started_with;
        let named = settings.accounts().filter(|it| it.token_file.is_some());
        let accounts: Vec<_> = named.cloned().collect();
        let tokens =
            move || accounts.iter().try_for_each(|it| locate_credentials(it).token().map(|_| ()));
        aside(clock, tokens).await?.map_err(|problem| ReloadError::Token(problem.to_string()))?;
        let mut changed = Vec::new();
        for new in settings.accounts() {
            match daemon.account(new.account) {
                Some(old) if old.base_url != new.base_url => return Err(ReloadError::BaseUrl),
                Some(old) if old == *new => {}
                _ => changed.push(new.clone()),
            }
        }
        if settings.api.base_url != before.api.base_url {
            return Err(ReloadError::BaseUrl);
        }
        let this = Arc::clone(self);
        let connect = move || changed.iter().map(|it| (this.connect)(it)).collect::<Result<_, _>>();
        let clients = aside(clock, connect).await??;
        for (section, changed) in [
            ("[http]", settings.http != before.http),
            ("[store]", settings.store != before.store),
            ("[log]", settings.log != before.log),
        ] {
            if changed {
                tracing::warn!(
                    event = "reload",
                    "changes of {section} take effect after a restart"
                );
            }
        }
        Ok((settings, clients))
    }
}

impl Listeners {
    /// Puts other settings in force, for the daemon and for those who hear of its rotations.
    pub fn reload(&self, daemon: &Daemon, settings: &Settings, clients: Vec<Client>) {
        self.put_in_force(settings, || daemon.reload(settings, clients));
    }

    fn put_in_force(&self, settings: &Settings, in_the_daemon: impl FnOnce()) {
        self.notices.reload(settings.audience());
        in_the_daemon();
        self.store.reload(&settings.servers);
    }
}

/// Does this outside the runtime's threads: a file system can hang.
async fn aside<T: Send + 'static>(
    clock: &Clock,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ReloadError> {
    let done = clock.timeout(PATIENCE, spawn_blocking(work)).await;
    Ok(done.ok_or(ReloadError::TooSlow)??)
}
