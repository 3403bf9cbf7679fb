//! What most commands begin with: the configuration, the account, the servers that were named.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::call::CallError;
use crate::cli::{ConfigArgument, Exit, console};
use crate::clock::Clock;
use crate::config::problem::log_warnings;
use crate::config::types::Settings;
use crate::config::{self, Loaded};
use crate::naming::ServerId;
use crate::pins::Pins;
use crate::polling::CompletionTimes;
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::provider::connect::{ConnectError, connect};
use crate::ring::Ring;
use crate::rotation::Context;
use crate::rotation::hooks::Processes;
use crate::rotation::lock::{Exclusion, LockError};
use crate::server::Server;
use crate::status::Statuses;
use crate::store::place::Place;
use crate::telemetry::LogFormat;
use crate::telemetry::{self, Form};

/// A configuration that was found good, and the clock.
pub struct Setup {
    /// Where it was read from.
    pub path: PathBuf,
    /// What it says.
    pub settings: Settings,
    /// The machine's clock.
    pub clock: Clock,
}

/// How much a command says in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// What the configuration says.
    AsConfigured,
    /// To a person at a terminal only what went wrong; elsewhere as configured.
    Quiet,
}

impl Verbosity {
    /// The level that it comes to.
    #[must_use]
    pub fn level(self, settings: &Settings) -> &str {
        match self {
            Self::Quiet if std::io::stderr().is_terminal() => "error",
            Self::Quiet | Self::AsConfigured => &settings.log.level,
        }
    }
}

/// Why a command cannot go on.
#[derive(Debug)]
pub struct Refusal {
    exit: Exit,
    words: String,
}

impl Refusal {
    /// Says it to whoever gave the command.
    #[must_use]
    pub fn print(self) -> Exit {
        console::error(&self.words);
        self.exit
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.words)
    }
}

impl From<ConnectError> for Refusal {
    fn from(problem: ConnectError) -> Self {
        let exit = if problem.is_configuration() { Exit::Configuration } else { Exit::Trouble };
        Self { exit, words: problem.to_string() }
    }
}

impl From<LockError> for Refusal {
    fn from(problem: LockError) -> Self {
        Self { exit: Exit::Trouble, words: problem.to_string() }
    }
}

impl Setup {
    /// Reads the configuration and begins to log. Mistakes and warnings are printed.
    ///
    /// # Errors
    /// [`Exit::Configuration`] when it is bad.
    pub fn read(argument: &ConfigArgument, verbosity: Verbosity) -> Result<Self, Exit> {
        let (path, loaded) = load(argument)?;
        for warning in &loaded.warnings {
            console::warning(&warning.render(console::colours()));
        }
        let settings = loaded.settings;
        begin_logging(&settings, verbosity.level(&settings))?;
        Ok(Self { path, settings, clock: Clock::system() })
    }

    /// Reads the configuration and begins to log, for a daemon: where the log is for programs,
    /// mistakes and warnings are events in it, so that none stands among them as loose text.
    ///
    /// # Errors
    /// As for [`Setup::read`].
    pub fn read_as_daemon(argument: &ConfigArgument) -> Result<Self, Exit> {
        let path = locate(argument);
        let loaded = match config::read(&path) {
            Ok(loaded) => loaded,
            Err(error) => {
                // What it says of the log is not known.
                if Form::of(LogFormat::Auto) == Form::Text {
                    console::mistake(error.render(console::colours()).trim_end());
                } else {
                    telemetry::begin(LogFormat::Auto, "info").map_err(bad_filter)?;
                    tracing::error!(event = "config", "the configuration is bad: {error}");
                }
                return Err(Exit::Configuration);
            }
        };
        let Loaded { settings, warnings, .. } = loaded;
        begin_logging(&settings, &settings.log.level)?;
        if Form::of(settings.log.format) == Form::Text {
            for warning in &warnings {
                console::warning(&warning.render(console::colours()));
            }
        } else {
            log_warnings("config", &warnings);
        }
        Ok(Self { path, settings, clock: Clock::system() })
    }

    /// The account, ready to be called.
    ///
    /// # Errors
    /// [`Exit::Configuration`] when there is no token, [`Exit::Trouble`] when TLS does not work.
    pub fn client(&self) -> Result<Client, Refusal> {
        Ok(connect(&self.settings.api, self.clock.clone())?)
    }

    /// What a rotation needs of the world; `shutdown` ends it.
    ///
    /// # Errors
    /// As for [`Setup::client`].
    pub fn context(&self, shutdown: CancellationToken) -> Result<Context, Refusal> {
        Ok(Context {
            client: Arc::new(self.client()?),
            exclusion: self.exclusion()?,
            hooks: Arc::new(Processes { clock: self.clock.clone() }),
            spans: self.settings.api.create_spans(),
            pins: Pins::default(),
            statuses: Statuses::default(),
            completion_times: CompletionTimes::default(),
            shutdown,
        })
    }

    /// Where the daemon keeps what has been.
    #[must_use]
    pub fn store(&self) -> Place {
        Place::of_command(self.settings.store.as_ref(), |name| std::env::var_os(name))
    }

    /// The claims that keep rotations apart on this machine.
    ///
    /// # Errors
    /// [`Exit::Trouble`] when there is a service whose lock cannot be used: two rotations of one
    /// server could then overlap.
    pub fn exclusion(&self) -> Result<Exclusion, Refusal> {
        let account = self.settings.api.base_url.as_str();
        Ok(Exclusion::of_this_machine(account, &self.clock, |name| std::env::var_os(name))?)
    }

    /// The servers that were named, by id or name, in the order of the configuration; all of them
    /// when none was.
    ///
    /// # Errors
    /// [`Exit::Usage`] when one is not in the configuration.
    pub fn select(&self, named: &[String]) -> Result<Vec<Arc<Server>>, Exit> {
        for name in named {
            self.find(name)?;
        }
        let wanted = |server: &&Arc<Server>| {
            named.is_empty() || named.iter().any(|name| answers_to(server, name))
        };
        Ok(self.settings.servers.iter().filter(wanted).cloned().collect())
    }

    /// The one server of this id or name.
    ///
    /// # Errors
    /// [`Exit::Usage`] when it is not in the configuration.
    pub fn find(&self, name: &str) -> Result<&Arc<Server>, Exit> {
        self.settings.servers.iter().find(|server| answers_to(server, name)).ok_or_else(|| {
            let known: Vec<_> = self
                .settings
                .servers
                .iter()
                .take(10)
                .map(|server| format!("{} ({})", server.name, server.id))
                .collect();
            let more = if self.settings.servers.len() > known.len() { ", …" } else { "" };
            console::error(&format!(
                "there is no server {name:?} in {}\nhint: it has {}{more}",
                self.path.display(),
                known.join(", ")
            ));
            Exit::Usage
        })
    }

    /// The configured server of this number.
    #[must_use]
    pub fn server(&self, id: ServerId) -> Option<&Arc<Server>> {
        self.settings.servers.iter().find(|server| server.id == id)
    }
}

fn answers_to(server: &Server, name: &str) -> bool {
    server.name == name || name.parse() == Ok(server.id.0)
}

/// The configuration that the argument or the environment names.
#[must_use]
pub fn locate(argument: &ConfigArgument) -> PathBuf {
    config::locate(argument.config.as_deref(), std::env::var_os("SNAPRING_CONFIG").as_deref())
}

/// Finds and reads the configuration; prints every mistake.
///
/// # Errors
/// [`Exit::Configuration`] when it is bad.
pub fn load(argument: &ConfigArgument) -> Result<(PathBuf, Loaded), Exit> {
    let path = locate(argument);
    match config::read(&path) {
        Ok(loaded) => Ok((path, loaded)),
        Err(error) => {
            console::mistake(error.render(console::colours()).trim_end());
            Err(Exit::Configuration)
        }
    }
}

/// Begins to log.
///
/// # Errors
/// [`Exit::Usage`] when `$SNAPRING_LOG` is not a filter.
pub fn begin_logging(settings: &Settings, level: &str) -> Result<(), Exit> {
    telemetry::begin(settings.log.format, level).map_err(bad_filter)
}

fn bad_filter(problem: telemetry::FilterError) -> Exit {
    console::error(&problem.to_string());
    Exit::Usage
}

/// How long a person waits for a look, however long the provider asks to wait.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The ring of each server, as the provider lists it; all are asked at once, and the client sees to
/// how many requests are under way.
pub async fn rings<'s>(
    client: &Client,
    servers: &'s [Arc<Server>],
) -> Vec<(&'s Arc<Server>, Result<Ring, CallError>)> {
    let give_up_at = client.clock().now().uptime.saturating_add(PATIENCE);
    let ring = async |server: &'s Arc<Server>| {
        let mut scope = CallContext::of(server, CancellationToken::new());
        scope.give_up_at = Some(give_up_at);
        let listing = client.list(server.id, &scope).await;
        (server, listing.map(|listing| Ring::of(listing, &server.policy)))
    };
    join_all(servers.iter().map(ring)).await
}

/// The rings that could be had; the others' failures are printed, and make it
/// [`Exit::Trouble`].
pub async fn rings_or_trouble<'s>(
    client: &Client,
    servers: &'s [Arc<Server>],
) -> (Vec<(&'s Arc<Server>, Ring)>, Exit) {
    let mut exit = Exit::Well;
    let mut good = Vec::with_capacity(servers.len());
    for (server, ring) in rings(client, servers).await {
        match ring {
            Ok(ring) => good.push((server, ring)),
            Err(problem) => {
                console::error(&format!("{}: {problem}", server.name));
                exit = Exit::Trouble;
            }
        }
    }
    (good, exit)
}
