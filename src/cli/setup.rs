//! What most commands begin with: the configuration, the account, the rings of servers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::call::CallError;
use crate::cli::error::{CommandError, refusal};
use crate::cli::selection::Selection;
use crate::cli::{ConfigArgument, ConfigFile, Exit, console, progress};
use crate::clock::Clock;
use crate::config::problem::{Problem, in_short, log_warnings};
use crate::config::types::Settings;
use crate::config::{self, Loaded};
use crate::cover::CoveredServers;
use crate::coverage::{AccountServers, CoverProblem};
use crate::naming::{Account, ServerId};
use crate::notify::coverage;
use crate::pins::Pins;
use crate::polling::CompletionTimes;
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::provider::clients::Clients;
use crate::provider::connect::{connect, locate_credentials};
use crate::provider::settings::ApiSettings;
use crate::readable;
use crate::report::LastOfServer;
use crate::ring::Ring;
use crate::rotation::Context;
use crate::rotation::hooks::Processes;
use crate::rotation::lock::{
    Broken, Busy, Exclusion, Quiesced, RestoreUnderWay, any_is_quiesced, any_is_restored,
};
use crate::rotation::memories::Memories;
use crate::server::Server;
use crate::status::Statuses;
use crate::store::place::Place;
use crate::store::{self, ServerMemories};
use crate::telemetry::{self, Deeds, Form, LogFormat, LogSettings};
use crate::wording::listed;

/// A configuration that was found good, and the clock.
pub(super) struct Setup {
    /// Where it was read from.
    pub path: PathBuf,
    /// What it says.
    pub settings: Settings,
    /// The machine's clock.
    pub clock: Clock,
    /// Servers that a `cover` adds and that may be missing.
    pub lacks: Lacks,
}

/// Servers that a `cover` adds and that may be missing.
#[derive(Debug, Clone, Default)]
pub(super) struct Lacks {
    /// Whose servers are not known.
    pub unlisted: Vec<CoverProblem>,
    /// Servers that were rotated lately and are not listed any more.
    lately: Vec<String>,
}

impl Lacks {
    /// Whether none are.
    #[must_use]
    pub(super) fn is_nothing(&self) -> bool {
        self.unlisted.is_empty() && self.lately.is_empty()
    }

    /// For a person, a sentence for each.
    #[must_use]
    pub(super) fn findings(&self) -> Vec<String> {
        let unlisted = self.unlisted.iter().map(|it| it.words.clone());
        unlisted.chain(self.lately.iter().cloned()).collect()
    }
}

impl Setup {
    /// Reads the configuration and begins to log. Warnings are printed.
    ///
    /// # Errors
    /// As for [`load`] and [`begin_logging`].
    pub(super) fn read(argument: &ConfigArgument) -> Result<Self, CommandError> {
        Self::read_for(argument, Deeds::Changes)
    }

    /// The same for a command that shows something and changes nothing: its log is short.
    ///
    /// # Errors
    /// As for [`Setup::read`].
    pub(super) fn read_to_look(argument: &ConfigArgument) -> Result<Self, CommandError> {
        Self::read_for(argument, Deeds::Looks)
    }

    fn read_for(argument: &ConfigArgument, deeds: Deeds) -> Result<Self, CommandError> {
        let (path, loaded) = load(&argument.file)?;
        warn_in_short(&loaded.warnings);
        let settings = loaded.settings;
        let LogSettings { format, level, calls } = &settings.log;
        let zone = settings.common_zone();
        telemetry::begin_for_command(*format, level, zone, argument.verbose, deeds)?;
        // --verbose asks for each call.
        if !calls && !argument.verbose {
            telemetry::log_calls_at_debug();
        }
        progress::shows_times_of(&settings.servers);
        know_tokens(&settings);
        Ok(Self { path, settings, clock: Clock::system(), lacks: Lacks::default() })
    }

    /// Reads the configuration and begins to log, for a daemon: where the log is for programs,
    /// mistakes and warnings are events in it, so that none stands among them as loose text.
    ///
    /// # Errors
    /// As for [`Setup::read`]; a quiet one where the log has the mistakes.
    pub(super) fn read_as_daemon(argument: &ConfigFile) -> Result<Self, CommandError> {
        let path = locate(argument);
        let loaded = match config::read(&path) {
            Ok(loaded) => loaded,
            // What it says of the log is not known.
            Err(error) if Form::of(LogFormat::Auto) == Form::Text => return Err(error.into()),
            Err(error) => {
                telemetry::begin(LogFormat::Auto, "info", TimeZone::UTC)?;
                tracing::error!(event = "config", "the configuration is bad: {error}");
                return Err(CommandError::Quiet(Exit::Configuration));
            }
        };
        let Loaded { settings, warnings, .. } = loaded;
        begin_logging(&settings, &settings.log.level)?;
        if Form::of(settings.log.format) == Form::Text {
            warn_in_short(&warnings);
        } else {
            log_warnings("config", &warnings);
        }
        Ok(Self { path, settings, clock: Clock::system(), lacks: Lacks::default() })
    }

    /// The same with the servers that a `cover` gives a policy to. Where an account cannot be listed, a warning says
    /// so, and the servers that the history knows stand for them.
    ///
    /// # Errors
    /// As for [`Setup::client_of`].
    pub(super) async fn covered(self) -> Result<Self, CommandError> {
        Ok(self.covered_within(PATIENCE).await?.0)
    }

    /// The same if the provider answers within this time; and the warnings.
    ///
    /// # Errors
    /// As for [`Setup::covered`].
    pub(super) async fn covered_within(
        self,
        within: Duration,
    ) -> Result<(Self, Vec<String>), CommandError> {
        let (settings, lacks) = covered(&self.settings, &self.clock, within).await?;
        let findings = lacks.findings();
        findings.iter().for_each(|it| console::warning(&format!("warning: {it}")));
        progress::shows_times_of(&settings.servers);
        Ok((Self { settings, lacks, ..self }, findings))
    }

    /// How a command ends that was asked about all servers, or some of them, and is otherwise well.
    #[must_use]
    pub(super) fn exit(&self, exit: Exit, selection: &Selection) -> Exit {
        let is_about_named_ones = !selection.servers().is_empty();
        match exit {
            Exit::Well if !self.lacks.is_nothing() && !is_about_named_ones => Exit::Trouble,
            exit => exit,
        }
    }

    /// The account of a server, ready to be called.
    ///
    /// # Errors
    /// [`CommandError::Configuration`] when there is no token, [`CommandError::Failed`] when TLS does
    /// not work.
    pub(super) fn client_of(&self, server: ServerId) -> Result<Client, CommandError> {
        self.client_with(self.settings.account_of(server))
    }

    /// The accounts of these servers, ready to be called.
    ///
    /// # Errors
    /// As for [`Setup::client_of`].
    pub(super) fn clients_of(&self, servers: &[Arc<Server>]) -> Result<Clients, CommandError> {
        self.clients_with(servers, ApiSettings::clone)
    }

    /// The same with other settings.
    fn clients_with(
        &self,
        servers: &[Arc<Server>],
        settings: impl Fn(&ApiSettings) -> ApiSettings,
    ) -> Result<Clients, CommandError> {
        let is_theirs = |it: &&ApiSettings| servers.iter().any(|of| of.id.account == it.account);
        let accounts = self.settings.accounts().filter(is_theirs);
        let clients = accounts.map(|it| self.client_with(&settings(it)));
        Ok(Clients::new(clients.collect::<Result<Vec<_>, _>>()?))
    }

    /// Every account, or the one of this name, ready to be called.
    ///
    /// # Errors
    /// As for [`Setup::client_of`]; [`CommandError::Usage`] when there is no such account.
    pub(super) fn accounts(&self, named: Option<&str>) -> Result<Clients, CommandError> {
        let chosen = named.map(|name| self.account(name)).transpose()?;
        let accounts = self
            .settings
            .accounts()
            .filter(|it| chosen.is_none_or(|account| it.account == account));
        let clients = accounts.map(|it| self.client_with(it));
        Ok(Clients::new(clients.collect::<Result<Vec<_>, _>>()?))
    }

    /// The account of this name.
    ///
    /// # Errors
    /// [`CommandError::Usage`] when there is none.
    pub(super) fn account(&self, name: &str) -> Result<Account, CommandError> {
        account(&self.settings, name)
    }

    /// The same with other settings.
    fn client_with(&self, api: &ApiSettings) -> Result<Client, CommandError> {
        Ok(connect(api, self.clock.clone(), progress::activities().clone())?)
    }

    /// What a rotation of a server needs of the world; `shutdown` ends it. `command`: which command rotates.
    ///
    /// # Errors
    /// As for [`Setup::client_of`] and [`Setup::exclusion`].
    pub(super) fn context(
        &self,
        command: &'static str,
        server: ServerId,
        shutdown: CancellationToken,
    ) -> Result<Context, CommandError> {
        Ok(Context {
            client: Arc::new(self.client_of(server)?),
            exclusion: self.exclusion(command)?,
            hooks: Arc::new(Processes::new(self.clock.clone())),
            spans: self.settings.account_of(server).create_spans(),
            pins: Pins::default(),
            statuses: Statuses::default(),
            completion_times: CompletionTimes::default(),
            memories: Memories::default(),
            on_step: None,
            shutdown,
        })
    }

    /// Where the daemon keeps what has been.
    #[must_use]
    pub(super) fn store(&self) -> Place {
        Place::of_command(self.settings.store.as_ref(), |name| std::env::var_os(name))
    }

    /// Whether a daemon with this configuration runs on this machine, and learns of what is done from the store.
    #[must_use]
    pub(super) fn has_daemon(&self, exclusion: &Exclusion) -> bool {
        let Settings { notify, servers, .. } = &self.settings;
        coverage(notify, servers, &self.store()).is_some_and(|it| exclusion.has_daemon(&it))
    }

    /// Says that a daemon will show what was just recorded, if one runs.
    pub(super) fn note_a_daemon(&self, exclusion: &Exclusion) {
        if self.has_daemon(exclusion) {
            console::note("a daemon is running: its status shows this within 10 seconds");
        }
    }

    /// Whether a daemon with this configuration surely runs here, for a command that changes nothing. Only one
    /// with a history that lasts can be seen.
    #[must_use]
    pub(super) fn shows_daemon(&self) -> bool {
        let is_coverage_known = self.store() != Place::Memory;
        is_coverage_known && self.exclusion("status").is_ok_and(|it| self.has_daemon(&it))
    }

    /// What the daemon remembers of these servers. Nothing where its store cannot be read: then each
    /// rule takes its cautious branch.
    pub(super) async fn memories(&self, servers: &[Arc<Server>]) -> ServerMemories {
        let ids: Vec<ServerId> = servers.iter().map(|server| server.id).collect();
        memories(&self.store(), &self.clock, &ids).await
    }

    /// The claims that keep rotations apart on this machine, for this command.
    ///
    /// # Errors
    /// [`CommandError::Failed`] when there is a service whose lock cannot be used: two rotations of one
    /// server could then overlap.
    pub(super) fn exclusion(&self, command: &'static str) -> Result<Exclusion, CommandError> {
        exclusion(&self.settings, &self.clock, command)
    }

    /// Servers that were left quiesced, and whether this configuration rotates them.
    pub(super) async fn quiesced(&self, command: &'static str) -> Vec<Quiesced> {
        quiesced(&self.settings, &self.clock, command).await
    }

    /// Which of these servers are being restored.
    pub(super) async fn restores(
        &self,
        servers: &[Arc<Server>],
        command: &'static str,
    ) -> Vec<RestoreUnderWay> {
        let Some(exclusion) = self.exclusion_of_restores(command) else { return Vec::new() };
        exclusion.restores(servers.iter().map(AsRef::as_ref), self.clock.now().wall).await
    }

    /// Which of these servers a restore has left broken.
    pub(super) async fn broken<'a>(
        &self,
        servers: &'a [Arc<Server>],
        command: &'static str,
    ) -> Vec<(&'a Server, Broken)> {
        let Some(exclusion) = self.exclusion_of_restores(command) else { return Vec::new() };
        exclusion.broken_among(servers.iter().map(AsRef::as_ref)).await
    }

    /// `None`: no restore is noted on this machine.
    fn exclusion_of_restores(&self, command: &'static str) -> Option<Exclusion> {
        let is_noted = any_is_restored(|name| std::env::var_os(name));
        is_noted.then(|| self.exclusion(command).ok()).flatten()
    }

    /// Warns of those that are being restored, and of those that a restore has left broken: they are not rotated as
    /// planned.
    pub(super) async fn warn_of_restores(&self, servers: &[Arc<Server>], command: &'static str) {
        let restores = self.restores(servers, command).await;
        for restore in &restores {
            let server = self.server(restore.server_id);
            let zone = server.map_or(TimeZone::UTC, |it| it.policy.time_zone.clone());
            console::warning(&format!("warning: {}", restore.words(&zone)));
        }
        // What is said of a broken one is to restore it.
        let is_restored = |it: &Server| restores.iter().any(|of| of.server_id == it.id);
        let broken = self.broken(servers, command).await;
        for (server, broken) in broken.into_iter().filter(|(it, _)| !is_restored(it)) {
            let why = Busy::Broken(broken.state);
            console::warning(&format!("warning: {} ({}): {why}", server.name, server.id));
        }
    }

    /// The time zone that all servers have, else UTC: for times that concern no single one.
    #[must_use]
    pub(super) fn common_zone(&self) -> TimeZone {
        self.settings.common_zone()
    }

    /// The configured server of this number.
    #[must_use]
    pub(super) fn server(&self, id: ServerId) -> Option<&Arc<Server>> {
        self.settings.servers.iter().find(|server| server.id == id)
    }
}

/// Servers that were left quiesced, and whether a configuration rotates them.
pub(super) async fn quiesced(
    settings: &Settings,
    clock: &Clock,
    command: &'static str,
) -> Vec<Quiesced> {
    if !any_is_quiesced(|name| std::env::var_os(name)) {
        return Vec::new();
    }
    let Ok(exclusion) = exclusion(settings, clock, command) else { return Vec::new() };
    let mut found = exclusion.all_quiesced().await;
    for it in &mut found {
        let server = settings.servers.iter().find(|server| server.id == it.server_id);
        let may_be_covered = || settings.cover_of(it.server_id.account).is_some();
        it.rotated = !it.is_unrotated(server.map(AsRef::as_ref), may_be_covered);
    }
    found
}

fn exclusion(
    settings: &Settings,
    clock: &Clock,
    command: &'static str,
) -> Result<Exclusion, CommandError> {
    let address = settings.api.base_url.as_str();
    let variable = |name: &str| std::env::var_os(name);
    let exclusion = Exclusion::of_this_machine(address, command, clock, variable)?;
    exclusion.serves(&settings.more_accounts);
    Ok(exclusion)
}

/// Knows the token of each account, so that none is shown if a hook or a provider repeats it: also those that this
/// command does not use. One that cannot be read cannot be recognised.
pub(super) fn know_tokens(settings: &Settings) {
    for account in settings.accounts() {
        let _ = locate_credentials(account).token();
    }
}

/// The account of this name.
///
/// # Errors
/// [`CommandError::Usage`] when there is none.
pub(super) fn account(settings: &Settings, name: &str) -> Result<Account, CommandError> {
    let account = Account::named(name);
    let is_known = |account: &Account| settings.accounts().any(|it| it.account == *account);
    account.filter(is_known).ok_or_else(|| no_account(name, settings.accounts()))
}

/// That an account is not among those that there are.
pub(super) fn no_account<'s>(
    name: &str,
    known: impl Iterator<Item = &'s ApiSettings>,
) -> CommandError {
    let known: Vec<&str> = known.map(|it| it.account.name()).collect();
    CommandError::Usage(format!("there is no account {name:?}\nhint: there is {}", listed(&known)))
}

/// A covered server that is not listed any more is trouble if its last rotation was not longer ago: a day, and an hour
/// for a day that has 25.
const LATELY: SignedDuration = SignedDuration::from_hours(25);

/// Settings with the servers that a `cover` gives a policy to, and why some of these may be missing. `within`: how long
/// the provider may take.
///
/// # Errors
/// As for [`Setup::client_of`].
pub(super) async fn covered(
    settings: &Settings,
    clock: &Clock,
    within: Duration,
) -> Result<(Settings, Lacks), CommandError> {
    let (mut servers, mut lacks) = (CoveredServers::default(), Lacks::default());
    if settings.covers.is_empty() {
        return Ok((settings.clone(), lacks));
    }
    let now = clock.now();
    for cover in &settings.covers {
        let of_account = settings.accounts().find(|it| it.account == cover.account());
        let Some(api) = of_account else { continue };
        let client = connect(api, clock.clone(), progress::activities().clone())?;
        let scope = CallContext::until(now.uptime.saturating_add(within));
        let mut known = AccountServers::default();
        match client.servers(&scope).await {
            Ok(listed) => {
                servers.listed(api.account, &listed, |_| false, now.wall);
                known.listed(listed, now.wall);
            }
            Err(problem) => {
                known.not_listed(problem.explained(), now.wall);
            }
        }
        lacks.unlisted.extend(known.cover_problem(api.account));
    }
    let known = last_rotations(settings, clock).await;
    let before = settings.covered_before(&known, now.wall).into_iter();
    let is_unlisted = |id: ServerId| lacks.unlisted.iter().any(|it| it.account == id.account);
    servers.remember(before.filter(|(id, _)| is_unlisted(*id)));
    let covered = settings.with_covered(&servers);
    // A timer has no second list to wait for. It says so each time, and ends badly once.
    let lately = now.wall.checked_sub(LATELY).unwrap_or(Timestamp::MIN);
    let (lately, earlier) = covered.uncovered_before(&known, now.wall).split(lately);
    let zone = covered.common_zone();
    lacks.lately.extend(lately.words_of_unlisted(&zone));
    earlier.words_of_unlisted(&zone).for_each(|it| console::warning(&format!("warning: {it}")));
    Ok((covered, lacks))
}

/// What the history knows of each server. Nothing where it cannot be read: other commands say so.
pub(super) async fn last_rotations(settings: &Settings, clock: &Clock) -> Vec<LastOfServer> {
    let place = Place::of_command(settings.store.as_ref(), |name| std::env::var_os(name));
    if place == Place::Memory || !place.may_be_there() {
        return Vec::new();
    }
    let _reads = progress::doing("reading the history");
    let last = clock.timeout(STORE_PATIENCE, store::read_last(&place, clock.now().wall)).await;
    last.and_then(Result::ok).unwrap_or_default()
}

/// What is remembered of servers in this place. Nothing where it cannot be read in time.
pub(super) async fn memories(place: &Place, clock: &Clock, servers: &[ServerId]) -> ServerMemories {
    if !place.may_be_there() {
        return ServerMemories::new();
    }
    let _waits = progress::doing(format!("reading the history in {place}"));
    let read = clock.timeout(STORE_PATIENCE, store::read_memories(place, servers)).await;
    read.and_then(Result::ok).unwrap_or_default()
}

/// The configuration that the argument or the environment names.
#[must_use]
pub(super) fn locate(argument: &ConfigFile) -> PathBuf {
    config::locate(argument.config.as_deref(), std::env::var_os("SNAPRING_CONFIG").as_deref())
}

/// Prints warnings of a configuration, a line each.
pub(super) fn warn_in_short(warnings: &[Problem]) {
    in_short(warnings).for_each(|line| console::warning(&format!("warning: {line}")));
}

/// Finds and reads the configuration.
///
/// # Errors
/// [`CommandError::Mistakes`] when it is bad.
pub(super) fn load(argument: &ConfigFile) -> Result<(PathBuf, Loaded), CommandError> {
    let path = locate(argument);
    let loaded = config::read(&path)?;
    Ok((path, loaded))
}

/// Begins to log.
///
/// # Errors
/// [`CommandError::Usage`] when `$SNAPRING_LOG` is not a filter.
pub(super) fn begin_logging(settings: &Settings, level: &str) -> Result<(), CommandError> {
    if !settings.log.calls {
        telemetry::log_calls_at_debug();
    }
    Ok(telemetry::begin(settings.log.format, level, settings.common_zone())?)
}

/// How long the store is waited for, which costs history and caution, but no rotation.
pub(super) const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a person waits for a look, however long the provider asks to wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// The ring of each server, as the provider lists it; all are asked at once, and each account's client sees
/// to how many requests are under way.
pub(super) async fn rings<'s>(
    clients: &Clients,
    servers: &'s [Arc<Server>],
) -> Vec<(&'s Arc<Server>, Result<Ring, CallError>)> {
    rings_within(clients, servers, PATIENCE).await
}

/// The same with one attempt for each, within a short time in all.
///
/// # Errors
/// As for [`Setup::client_of`].
pub(super) async fn rings_at_once<'s>(
    setup: &Setup,
    servers: &'s [Arc<Server>],
    within: Duration,
) -> Result<Vec<(&'s Arc<Server>, Result<Ring, CallError>)>, CommandError> {
    let once = |api: &ApiSettings| ApiSettings {
        retries: 0,
        timeout: api.timeout.min(within),
        ..api.clone()
    };
    Ok(rings_within(&setup.clients_with(servers, once)?, servers, within).await)
}

/// The same, given up after this span.
pub(super) async fn rings_within<'s>(
    clients: &Clients,
    servers: &'s [Arc<Server>],
    within: Duration,
) -> Vec<(&'s Arc<Server>, Result<Ring, CallError>)> {
    let ring = async |server: &'s Arc<Server>, client: &Client| {
        let mut scope = CallContext::of(server, CancellationToken::new());
        scope.give_up_at = Some(client.clock().now().uptime.saturating_add(within));
        let listing = client.list(server.id, &scope).await;
        progress::counts(if listing.is_ok() { "listed" } else { "failed" });
        (server, listing.map(|listing| Ring::of(listing, &server.policy)))
    };
    progress::count(servers.len());
    let rings = servers.iter().filter_map(|server| {
        let client = clients.of(server.id.account)?;
        Some(ring(server, client))
    });
    let rings = join_all(rings).await;
    progress::stop_counting();
    rings
}

/// The rings that could be had; the others' failures are printed, and make it
/// [`Exit::Trouble`]. The command goes on with the rest.
pub(super) async fn rings_or_trouble<'s>(
    clients: &Clients,
    servers: &'s [Arc<Server>],
) -> (Vec<(&'s Arc<Server>, Ring)>, Exit) {
    let (mut good, mut failed) = (Vec::with_capacity(servers.len()), Vec::new());
    for (server, ring) in rings(clients, servers).await {
        match ring {
            Ok(ring) => good.push((server, ring)),
            Err(problem) => failed.push((server, problem)),
        }
    }
    let exit = if failed.is_empty() { Exit::Well } else { Exit::Trouble };
    report_failures(&failed);
    (good, exit)
}

/// How many servers with the same problem are told one by one.
const ONE_BY_ONE: usize = 3;

/// Says why servers could not be listed: what many have in common once. A token that is refused is refused for all
/// of its account.
pub(super) fn report_failures(failed: &[(&Arc<Server>, CallError)]) {
    let mut refused = BTreeSet::new();
    let mut by_problem: BTreeMap<String, Vec<&Server>> = BTreeMap::new();
    for (server, problem) in failed {
        match refusal(problem) {
            Some(_) if !refused.insert(server.id.account) => {}
            Some(_) => CommandError::from(problem.clone()).report(),
            None => by_problem.entry(problem.explained()).or_default().push(server),
        }
    }
    for (problem, servers) in by_problem {
        if servers.len() <= ONE_BY_ONE {
            servers.iter().for_each(|server| CommandError::of_server(server, &problem).report());
        } else {
            let count = readable::count(servers.len());
            CommandError::Failed(format!("{count} servers: {problem}")).report();
        }
    }
}
