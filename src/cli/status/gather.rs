//! What `status` shows: from the daemon, else from the store and the provider.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hyper::StatusCode;

use crate::call::CallError;
use crate::cli::error::CommandError;
use crate::cli::selection::{Candidate, InState};
use crate::cli::setup::{
    PATIENCE as LOOK_PATIENCE, Setup, locate, report_failures, rings, rings_at_once,
};
use crate::cli::status::{Arguments, PATIENCE};
use crate::cli::{console, progress};
use crate::clock::Clock;
use crate::config;
use crate::coverage::{AccountServers, AccountStatus};
use crate::daemon::view::ServerView;
use crate::naming::{Account, ServerId};
use crate::observe::client::{NoAnswer, ask};
use crate::observe::status_document::{
    Found, ServerRecord, ServerState, StatusDocument, StatusFilter, Totals, VERSION, state,
};
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::provider::clients::Clients;
use crate::ring::Ring;
use crate::rotation::lock::Quiesced;
use crate::server::Server;
use crate::status::{RingSeen, ServerStatus, Statuses};
use crate::store::place::Place;
use crate::store::{self, HistoryFilter, StoreError};

/// How long the store and the provider may take to answer a check: monitoring systems give up after 10 seconds, and
/// then the reason is unknown.
const STORE_WITHIN: Duration = Duration::from_secs(2);
const PROVIDER_WITHIN: Duration = Duration::from_secs(3);

/// Among how many acts by hand a restore is looked for that left its server broken.
const MANUAL_ACTS: u32 = 1000;

/// Where the daemon shows it.
pub(super) const PATH: &str = "/api/v1/status";

/// What could be found out.
pub(super) struct Gathered {
    pub document: StatusDocument,
    /// Who should have answered and did not, or not of each server, in words. A daemon that should answer and does
    /// not may rotate nothing.
    pub unanswered: Vec<String>,
}

/// Asks the daemon, else the store and the provider.
///
/// # Errors
/// When none of them answers, or there are no such servers.
pub(super) async fn gather(arguments: &Arguments) -> Result<Gathered, CommandError> {
    let setup = match Setup::read_to_look(&arguments.config) {
        Ok(setup) => setup,
        Err(error) => return despite_a_bad_configuration(arguments, &error).await,
    };
    // Which servers a `cover` adds the daemon knows, else the provider.
    let is_covering = !setup.settings.covers.is_empty();
    let mut servers = if is_covering { Vec::new() } else { setup.select(&arguments.selection)? };
    let (mut unanswered, mut runs) = (Vec::new(), Runs::Perhaps);
    if let Some(address) = setup.settings.http.listen {
        let asks = progress::doing(format!("asking the daemon at {address}"));
        let answer = ask(address, PATH, arguments.daemon_within(), &setup.clock).await;
        drop(asks);
        match answer {
            Ok((status, body)) if status.is_success() && is_covering => {
                let document = chosen(&body, arguments)?;
                return Ok(Gathered { document, unanswered });
            }
            Ok((status, body)) if status.is_success() => {
                let wanted: HashSet<ServerId> = servers.iter().map(|server| server.id).collect();
                let document = read(&body, |row| wanted.contains(&row.id))?;
                let told = document.servers.len();
                if told < servers.len() {
                    let problem = format!(
                        "the daemon knows only {told} of {} servers; reload it after you change the \
                             configuration",
                        servers.len()
                    );
                    console::warning(&problem);
                    unanswered.push(problem);
                }
                return Ok(Gathered { document, unanswered });
            }
            Err(problem @ NoAnswer::Nobody(_)) => {
                unanswered.push(format!("no daemon is running: {problem}"));
                runs = Runs::No;
            }
            // Something listens there.
            Ok((status, _)) => {
                unanswered.push(format!("the daemon: {address} answered {status}"));
                runs = Runs::Yes;
            }
            Err(problem) => {
                unanswered.push(format!("the daemon: {problem}"));
                runs = Runs::Yes;
            }
        }
        unanswered.iter().for_each(|problem| console::warning(problem));
    }
    let mut setup = setup;
    if is_covering {
        let within = if arguments.max_age.is_some() { PROVIDER_WITHIN } else { LOOK_PATIENCE };
        let (covered, problems) = setup.covered_within(within).await?;
        setup = covered;
        unanswered.extend(problems);
        servers = setup.select(&arguments.selection)?;
    }
    let mut gathered =
        without_daemon(&setup, &servers, arguments.max_age.is_some(), unanswered).await?;
    match runs {
        Runs::Yes => {}
        // Nothing starts while no daemon runs.
        Runs::No => gathered.document.servers.iter_mut().for_each(|server| server.next = None),
        Runs::Perhaps => gathered.document.daemon_unknown = !setup.shows_daemon(),
    }
    Ok(gathered)
}

/// Whether a daemon runs.
enum Runs {
    Yes,
    No,
    /// It cannot be asked.
    Perhaps,
}

/// What the daemon says, which goes on by a configuration that was good. The file's mistakes are told
/// first.
async fn despite_a_bad_configuration(
    arguments: &Arguments,
    error: &CommandError,
) -> Result<Gathered, CommandError> {
    error.report();
    let told = |text: &str| CommandError::Told { exit: error.exit(), text: text.to_owned() };
    let path = locate(&arguments.config.file);
    let Some(address) = config::listen_in(&path) else {
        return Err(told("the configuration is bad"));
    };
    let patience = arguments.daemon_within();
    let _asks = progress::doing(format!("asking the daemon at {address}"));
    let answer = ask(address, PATH, patience, &Clock::system()).await;
    let Ok((StatusCode::OK, body)) = answer else {
        return Err(told("the configuration is bad, and no daemon answers"));
    };
    let mut document = chosen(&body, arguments)?;
    if let Some(daemon) = &mut document.daemon {
        daemon
            .configuration_refused
            .get_or_insert_with(|| format!("`snapring check -c {}` shows why", path.display()));
    }
    Ok(Gathered { document, unanswered: Vec::new() })
}

/// The daemon's answer, as far as it is about those of its servers that are asked for.
///
/// # Errors
/// As for [`read`], and when there are no such servers.
pub(super) fn chosen(body: &[u8], arguments: &Arguments) -> Result<StatusDocument, CommandError> {
    let mut document = read(body, |_| true)?;
    let candidates: Vec<_> = document.servers.iter().map(Candidate::of_record).collect();
    let chosen = arguments.selection.among(&candidates, "the running daemon")?;
    retain(&mut document, |row| chosen.contains(&row.id));
    Ok(document)
}

/// The daemon's answer, as far as it is about the servers that are asked for.
pub(super) fn read(
    body: &[u8],
    is_wanted: impl Fn(&ServerRecord) -> bool,
) -> Result<StatusDocument, CommandError> {
    let mut document: StatusDocument = serde_json::from_slice(body).map_err(|problem| {
        CommandError::Failed(format!("the daemon's answer cannot be understood: {problem}"))
    })?;
    if document.version != VERSION {
        let text = "the daemon is another version of snapring; restart it after an upgrade";
        return Err(CommandError::Failed(text.to_owned()));
    }
    for row in &mut document.servers {
        row.id.account = row.account.as_deref().and_then(Account::named).unwrap_or_default();
    }
    retain(&mut document, is_wanted);
    Ok(document)
}

fn retain(document: &mut StatusDocument, is_wanted: impl Fn(&ServerRecord) -> bool) {
    let known = document.servers.len();
    document.servers.retain(is_wanted);
    // It says nothing of a choice of servers.
    document.account = document.account.take().filter(|_| document.servers.len() == known);
    document.totals = Totals::of(document.servers.iter().map(|server| server.state));
}

/// What the provider says, and what the store remembers. For a check the provider is asked only about servers
/// whose last success the store does not know.
async fn without_daemon(
    setup: &Setup,
    servers: &[Arc<Server>],
    is_check: bool,
    mut unanswered: Vec<String>,
) -> Result<Gathered, CommandError> {
    let within = if is_check { STORE_WITHIN } else { PATIENCE };
    let statuses = remembered(setup, within, &mut unanswered).await;
    let now = setup.clock.now().wall;
    for (server, broken) in setup.broken(servers, "status").await {
        statuses.set_broken(server.id, broken.seen(now));
    }
    // Nothing is expected of a disabled one.
    let is_known = |server: &Server| {
        is_check && (!server.enabled || statuses.of(server.id).last_success().is_some())
    };
    let (known, asked): (Vec<_>, Vec<_>) =
        servers.iter().cloned().partition(|server| is_known(server));
    let mut account = None;
    let rings = match (asked.is_empty(), is_check) {
        (true, _) => Vec::new(),
        (false, true) => rings_at_once(setup, &asked, PROVIDER_WITHIN).await?,
        (false, false) => {
            let clients = setup.clients_of(&asked)?;
            let rings = rings(&clients, &asked).await;
            if servers.len() == setup.settings.servers.len() {
                account = Some(account_status(setup, &clients).await);
            }
            rings
        }
    };
    let restores = setup.restores(servers, "status").await;
    let mut rows = Vec::new();
    let (mut answered, mut failures) = (known.len(), Vec::new());
    let mut add = |server: &Arc<Server>, ring: Option<&Ring>, unseen: Option<&CallError>| {
        let now = setup.clock.now().wall;
        let tick = server.next_tick_after(now).filter(|_| server.enabled);
        let ring = ring.map(RingSeen::of);
        let status = ServerStatus { ring, ..statuses.of(server.id) };
        let next = tick.map(|tick| (tick, server.starts_at(tick)));
        let row =
            ServerView::of(Arc::clone(server), status, None, next, now).with_restores(&restores);
        rows.push(ServerView { unseen: unseen.map(|it| it.explained().into()), ..row });
    };
    known.iter().for_each(|server| add(server, None, None));
    for (server, ring) in rings {
        match ring {
            Ok(ring) => {
                answered += 1;
                add(server, Some(&ring), None);
            }
            Err(problem) => {
                add(server, None, Some(&problem));
                failures.push((server, problem));
            }
        }
    }
    report_failures(&failures);
    // In a check, each of them is waiting.
    if !is_check {
        let words =
            failures.iter().map(|(server, it)| CommandError::of_server(server, it).to_string());
        unanswered.extend(words);
    }
    // A check would take what the store remembers for the present. A person is told, and sees it.
    if let Some((server, problem)) = failures.first().filter(|_| is_check && answered == 0) {
        let error = CommandError::of_server(server, problem);
        return Err(CommandError::Told { exit: error.exit(), text: error.to_string() });
    }
    // Nothing runs an owed hook while no daemon does.
    let mut not_resumed = setup.quiesced("status").await;
    let is_asked = |it: &Quiesced| servers.iter().any(|server| server.id == it.server_id);
    not_resumed.retain(|it| !it.rotated || is_asked(it));
    let found = Found::among(rows, &StatusFilter::default());
    let document =
        StatusDocument { account, ..StatusDocument::of(&found, None, setup.clock.now().wall) }
            .with_not_resumed(not_resumed)
            .with_restores(restores);
    Ok(Gathered { document, unanswered })
}

/// Whether all servers of the accounts have a policy.
async fn account_status(setup: &Setup, clients: &Clients) -> AccountStatus {
    let of_account = async |client: &Client| {
        let scope = CallContext::until(setup.clock.now().uptime.saturating_add(PATIENCE));
        let mut known = AccountServers::default();
        match client.servers_at_once(&scope).await {
            Ok(servers) => known.listed(servers, setup.clock.now().wall),
            Err(problem) => {
                known.not_listed(problem.explained(), setup.clock.now().wall);
            }
        }
        let account = client.whose();
        let own = setup.settings.servers.iter().filter(|it| it.id.account == account);
        let configured = own.map(|it| (it.id, it.name.as_str()));
        let status = known.status(configured, setup.clock.now().wall);
        // It was seen just now.
        (account, AccountStatus { problem_since: None, ..status })
    };
    AccountStatus::together(join_all(clients.all().map(|client| of_account(client))).await)
}

/// Those of the servers that are in a state, as the daemon says, else the store. All of them if no state is
/// chosen.
///
/// # Errors
/// When neither says anything.
pub(in crate::cli) async fn in_state(
    setup: &Setup,
    mut servers: Vec<Arc<Server>>,
    wanted: &InState,
) -> Result<Vec<Arc<Server>>, CommandError> {
    if !wanted.is_given() {
        return Ok(servers);
    }
    let states = states(setup, &servers).await?;
    let state = |server: &Server| states.get(&server.id).copied().unwrap_or(ServerState::Waiting);
    servers.retain(|server| wanted.takes(state(server)));
    if servers.is_empty() {
        console::note(&format!("none of these servers is in the state {}", wanted.words()));
    }
    Ok(servers)
}

async fn states(
    setup: &Setup,
    servers: &[Arc<Server>],
) -> Result<HashMap<ServerId, ServerState>, CommandError> {
    let mut silent = "`listen` in [http] is not set".to_owned();
    if let Some(address) = setup.settings.http.listen {
        let _asks = progress::doing(format!("asking the daemon at {address}"));
        match ask(address, PATH, PATIENCE, &setup.clock).await {
            Ok((status, body)) if status.is_success() => {
                let document = read(&body, |_| true)?;
                return Ok(document.servers.iter().map(|row| (row.id, row.state)).collect());
            }
            Ok((status, _)) => silent = format!("the daemon at {address} answered {status}"),
            Err(problem) => silent = problem.to_string(),
        }
    }
    let statuses = last_known(setup, PATIENCE).await.map_err(|problem| {
        CommandError::Failed(format!(
            "the states of the servers are unknown: {silent}, and {problem}\n\
             hint: set `listen` in [http] and start the daemon, or name the servers"
        ))
    })?;
    let now = setup.clock.now().wall;
    let known = |server: &Arc<Server>| {
        let row = ServerView::of(Arc::clone(server), statuses.of(server.id), None, None, now);
        (server.id, state(&row))
    };
    Ok(servers.iter().map(known).collect())
}

/// How servers stood when a daemon last wrote it down. Without that, the rings tell what they can.
async fn remembered(setup: &Setup, within: Duration, unanswered: &mut Vec<String>) -> Statuses {
    let place = setup.store();
    if place == Place::Memory {
        return Statuses::default();
    }
    match last_known(setup, within).await {
        Ok(statuses) => statuses,
        Err(NotKnown { words, is_begun }) => {
            if place.is_missing() {
                console::note(&format!("no history yet: {place} does not exist"));
                return Statuses::default();
            }
            let text = format!("past rotations are unknown: {words}");
            console::warning(&text);
            if is_begun {
                unanswered.push(text);
            }
            Statuses::default()
        }
    }
}

/// Why the store says nothing.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub(in crate::cli) struct NotKnown {
    words: String,
    /// Whether there should be something.
    is_begun: bool,
}

pub(in crate::cli) async fn last_known(
    setup: &Setup,
    within: Duration,
) -> Result<Statuses, NotKnown> {
    let place = setup.store();
    let _reads = progress::doing(format!("reading past rotations from {place}"));
    let filter = HistoryFilter { limit: Some(MANUAL_ACTS), ..HistoryFilter::default() };
    let read = async {
        let last = store::read_last(&place, setup.clock.now().wall).await?;
        Ok((last, store::read_manual(&place, &filter).await?))
    };
    let answer: Option<Result<_, StoreError>> = setup.clock.timeout(within, read).await;
    let is_begun =
        place.may_be_there() && !matches!(&answer, Some(Err(problem)) if problem.is_empty_store());
    let words = match answer {
        Some(Ok((last, acts))) => {
            let statuses = Statuses::known(&last);
            statuses.set_manual(acts);
            return Ok(statuses);
        }
        Some(Err(problem)) => problem.to_string(),
        None => "no answer".to_owned(),
    };
    Err(NotKnown { words: format!("{place}: {words}"), is_begun })
}
