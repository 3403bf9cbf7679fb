//! `snapring status`

pub(crate) mod nagios;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hyper::StatusCode;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::error::CommandError;
use crate::cli::setup::{Setup, locate, report_failures, rings, rings_at_once};
use crate::cli::table::{lines, table};
use crate::cli::{ConfigArgument, Exit, console, parse_span, progress};
use crate::clock::Clock;
use crate::config;
use crate::coverage::{AccountServers, AccountStatus};
use crate::daemon::view::ServerView;
use crate::moment::{shown, shown_today};
use crate::naming::ServerId;
use crate::observe::client::{NoAnswer, ask};
use crate::observe::status_document::{
    Found, ServerRecord, StatusDocument, StatusFilter, Totals, VERSION,
};
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::readable;
use crate::ring::Ring;
use crate::server::Server;
use crate::status::{RingSeen, ServerStatus, Statuses};
use crate::store::place::Place;
use crate::store::{self, HistoryFilter, StoreError};

/// How long the daemon, or the store, may take to answer a person.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long each may take to answer a check: the daemon, else the store, else the provider. Monitoring
/// systems give up after 10 seconds, and then nobody knows why.
const DAEMON_WITHIN: Duration = Duration::from_secs(3);
const STORE_WITHIN: Duration = Duration::from_secs(2);
const PROVIDER_WITHIN: Duration = Duration::from_secs(3);

/// Among how many acts by hand a restore is looked for that left its server broken.
const MANUAL_ACTS: u32 = 1000;

/// Show how each server is doing: last success, next tick, slots, last error.
///
/// Asks the running daemon at `[http] listen`, even if the rest of the configuration has become invalid.
/// Without a daemon, asks the provider for snapshots and the store for past rotations. Exits with 1 if any
/// server is in trouble.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Ids or names of servers [default: all]
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "max_age")]
    json: bool,
    /// Act as a Nagios check: print a line with performance data, one more line per further problem, and exit
    /// with 0 OK, 1 WARNING if a server is in trouble, 2 CRITICAL if a last success is older than this, 3
    /// UNKNOWN. Answers within 10 seconds: asks the daemon, else the store, else the provider once
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    max_age: Option<Duration>,
    #[command(flatten)]
    config: ConfigArgument,
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let gathered = gather(&arguments).await;
    if let Some(max_age) = arguments.max_age {
        let check = match gathered {
            Ok(Gathered { document, unanswered, .. }) => {
                nagios::check(&document, &unanswered, max_age)
            }
            // The check goes on: it says that it knows nothing.
            Err(error) => {
                error.report();
                nagios::Check::unknown(&error)
            }
        };
        console::print(&check.words)?;
        return Ok(Exit::Check(check.level));
    }
    let Gathered { document, is_whole, .. } = gathered?;
    if arguments.json {
        console::print_json(&document)?;
    } else {
        console::print(&text(&document))?;
    }
    Ok(if is_whole { exit_of(&document) } else { Exit::Trouble })
}

fn exit_of(document: &StatusDocument) -> Exit {
    let alive = document.daemon.as_ref().is_none_or(|daemon| daemon.alive && daemon.store.up);
    let trouble = document.servers.iter().any(|server| server.state.is_trouble());
    if alive && !trouble { Exit::Well } else { Exit::Trouble }
}

/// The code that `status` exits with if the daemon answers with this: alone, and with `--max-age`. `None`
/// if the answer cannot be read.
#[must_use]
pub fn exit_codes(answer: &str, max_age: Duration) -> Option<(u8, u8)> {
    let document = read(answer.as_bytes(), |_| true).ok()?;
    let check = nagios::check(&document, &[], max_age);
    Some((exit_of(&document).code(), check.level.code()))
}

/// What could be found out.
struct Gathered {
    document: StatusDocument,
    /// Whether that is all that was asked for.
    is_whole: bool,
    /// Who should have answered and did not, in words.
    unanswered: Vec<String>,
}

async fn gather(arguments: &Arguments) -> Result<Gathered, CommandError> {
    let setup = match Setup::read_to_look(&arguments.config) {
        Ok(setup) => setup,
        Err(error) => return despite_a_bad_configuration(arguments, &error).await,
    };
    let servers = setup.select(&arguments.servers)?;
    let (mut unanswered, mut runs) = (Vec::new(), true);
    if let Some(address) = setup.settings.http.listen {
        let asks = progress::doing(format!("asking the daemon at {address}"));
        let answer = ask(address, "/api/v1/status", arguments.daemon_within(), &setup.clock).await;
        drop(asks);
        match answer {
            Ok((status, body)) if status.is_success() => {
                let wanted: HashSet<ServerId> = servers.iter().map(|server| server.id).collect();
                let document = read(&body, |row| wanted.contains(&row.id))?;
                let told = document.servers.len();
                if told < servers.len() {
                    console::warning(&format!(
                        "the daemon knows only {told} of {} servers; reload it after you change the \
                             configuration",
                        servers.len()
                    ));
                }
                return Ok(Gathered { document, is_whole: told == servers.len(), unanswered });
            }
            Err(problem @ NoAnswer::Nobody(_)) => {
                unanswered.push(format!("no daemon is running: {problem}"));
                runs = false;
            }
            Ok((status, _)) => unanswered.push(format!("the daemon: {address} answered {status}")),
            Err(problem) => unanswered.push(format!("the daemon: {problem}")),
        }
        unanswered.iter().for_each(|problem| console::warning(problem));
    }
    let gathered = without_daemon(&setup, &servers, arguments.max_age.is_some(), unanswered).await;
    gathered.map(|gathered| if runs { gathered } else { gathered.without_next_ticks() })
}

impl Gathered {
    /// Nothing starts while no daemon runs.
    fn without_next_ticks(mut self) -> Self {
        self.document.servers.iter_mut().for_each(|server| server.next = None);
        self
    }
}

impl Arguments {
    fn daemon_within(&self) -> Duration {
        if self.max_age.is_some() { DAEMON_WITHIN } else { PATIENCE }
    }
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
    let answer = ask(address, "/api/v1/status", patience, &Clock::system()).await;
    let Ok((StatusCode::OK, body)) = answer else {
        return Err(told("the configuration is bad, and no daemon answers"));
    };
    let named = |row: &ServerRecord| {
        let id = row.id.to_string();
        arguments.servers.is_empty()
            || arguments.servers.iter().any(|name| *name == row.name || *name == id)
    };
    let mut document = read(&body, named)?;
    if let Some(daemon) = &mut document.daemon {
        daemon
            .configuration_refused
            .get_or_insert_with(|| format!("`snapring check -c {}` shows why", path.display()));
    }
    Ok(Gathered { document, is_whole: false, unanswered: Vec::new() })
}

/// The daemon's answer, as far as it is about the servers that are asked for.
fn read(
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
    let known = document.servers.len();
    document.servers.retain(is_wanted);
    // It says nothing of a choice of servers.
    document.account = document.account.filter(|_| document.servers.len() == known);
    document.totals = Totals::of(document.servers.iter().map(|server| server.state));
    Ok(document)
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
            let client = setup.client()?;
            let rings = rings(&client, &asked).await;
            if servers.len() == setup.settings.servers.len() {
                account = Some(account_status(setup, &client).await);
            }
            rings
        }
    };
    let mut rows = Vec::new();
    let (mut answered, mut first_failure, mut failed) = (known.len(), None, Vec::new());
    let mut add = |server: &Arc<Server>, ring: Option<&Ring>| {
        let now = setup.clock.now().wall;
        let tick = server.next_tick_after(now).filter(|_| server.enabled);
        let ring = ring.map(RingSeen::of);
        let status = ServerStatus { ring, ..statuses.of(server.id) };
        let next = tick.map(|tick| (tick, server.starts_at(tick)));
        rows.push(ServerView::of(Arc::clone(server), status, None, next, now));
    };
    known.iter().for_each(|server| add(server, None));
    for (server, ring) in rings {
        let ring = ring
            .inspect(|_| answered += 1)
            .map_err(|problem| {
                let error = CommandError::of_server(server, &problem);
                first_failure.get_or_insert(error);
                failed.push((server, problem));
            })
            .ok();
        add(server, ring.as_ref());
    }
    report_failures(&failed);
    if let Some(error) = first_failure.filter(|_| answered == 0) {
        return Err(CommandError::Told { exit: error.exit(), text: error.to_string() });
    }
    let found = Found::among(rows, &StatusFilter::default());
    let document =
        StatusDocument { account, ..StatusDocument::of(&found, None, setup.clock.now().wall) };
    Ok(Gathered { document, is_whole: answered == servers.len(), unanswered })
}

/// Whether all servers of the account have a policy.
async fn account_status(setup: &Setup, client: &Client) -> AccountStatus {
    let scope = CallContext::until(setup.clock.now().uptime.saturating_add(PATIENCE));
    let mut known = AccountServers::default();
    match client.servers_at_once(&scope).await {
        Ok(servers) => known.listed(servers, setup.clock.now().wall),
        Err(problem) => {
            known.not_listed(problem.explained());
        }
    }
    let configured = setup.settings.servers.iter();
    known.status(configured.map(|it| (it.id, it.name.as_str())), setup.clock.now().wall)
}

/// How servers stood when a daemon last wrote it down. Without that, the rings tell what they can.
async fn remembered(setup: &Setup, within: Duration, unanswered: &mut Vec<String>) -> Statuses {
    let place = setup.store();
    if place == Place::Memory {
        return Statuses::default();
    }
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
            return statuses;
        }
        Some(Err(problem)) => problem.to_string(),
        None => "no answer".to_owned(),
    };
    let text = format!("past rotations are unknown: {place}: {words}");
    console::warning(&text);
    if is_begun {
        unanswered.push(text);
    }
    Statuses::default()
}

fn text(document: &StatusDocument) -> String {
    let mut text = String::new();
    if let Some(daemon) = &document.daemon {
        if !daemon.alive {
            text.push_str("the scheduler of the daemon has stalled\n");
        }
        if let Some(reason) = &daemon.configuration_refused {
            text.push_str(&format!("the last reload was rejected: {reason}\n"));
        }
        if let Some(until) = daemon.throttled_until {
            text.push_str(&format!(
                "the provider is throttling the account (429): no calls are sent until {}\n",
                shown(until, &common_zone(&document.servers))
            ));
        }
        if let Some(problem) = daemon.store.problem() {
            text.push_str(&format!("{problem}\n"));
        }
    }
    if let Some(account) = &document.account {
        account.findings().iter().for_each(|finding| text.push_str(&format!("{finding}\n")));
    }
    let header = ["server", "state", "last success", "next tick", "slots", "listed", "last error"];
    let mut table = table(&header);
    for server in &document.servers {
        table.add_row(row(server, document.at));
    }
    text.push_str(&lines(&table));
    for server in &document.servers {
        text.push_str(&under_way(server, document.at));
    }
    text
}

/// The time zone of what concerns the account.
fn common_zone(servers: &[ServerRecord]) -> TimeZone {
    let mut zones = servers.iter().map(|server| &server.timezone);
    match (zones.next(), servers.first()) {
        (Some(first), Some(server)) if zones.all(|zone| zone == first) => server.zone(),
        _ => TimeZone::UTC,
    }
}

/// What is going on with a server now.
fn under_way(server: &ServerRecord, now: Timestamp) -> String {
    let rotation = server.under_way.map(|rotation| {
        let since = shown_today(rotation.since, now, &server.zone());
        format!(
            "a rotation has been running for {} since {since}",
            readable::age(rotation.since, now)
        )
    });
    let snapshot = server.in_progress().map(|it| {
        let passed = readable::age(it.created_at, now);
        format!("{} ({}) in progress for {passed}{}", it.name, it.id, server.usually_done())
    });
    let all: Vec<String> = rotation.into_iter().chain(snapshot).collect();
    if all.is_empty() { String::new() } else { format!("{}: {}\n", server.name, all.join("; ")) }
}

fn row(server: &ServerRecord, now: Timestamp) -> [String; 7] {
    let none = || "-".to_owned();
    let ago = |at| format!("{} ago", readable::age(at, now));
    [
        server.name.clone(),
        server.state.as_str().to_owned(),
        server.last_success_at.map_or_else(none, ago),
        server.next.map_or_else(none, |next| {
            let wait = readable::span(next.starts_at.duration_since(now));
            let tick = shown(next.tick, &server.zone());
            if next.starts_at == next.tick {
                return format!("{tick} (in {wait})");
            }
            let start = next.starts_at.to_zoned(server.zone()).strftime("%H:%M:%S");
            format!("{tick} (starts {start}, in {wait})")
        }),
        server.ring.as_ref().map_or_else(none, |ring| {
            let others = ring.foreign + ring.pinned;
            let others = if others > 0 { format!(", {others} not managed") } else { String::new() };
            format!("{} of {}{others}", ring.snapshots.len(), ring.cap)
        }),
        server.ring.as_ref().map_or_else(none, |ring| ago(ring.seen_at)),
        throttled(server)
            .into_iter()
            .chain(last_error(server))
            .reduce(|one, other| format!("{one}; {other}"))
            .unwrap_or_else(none),
    ]
}

fn throttled(server: &ServerRecord) -> Option<String> {
    let until = shown(server.throttled_until?, &server.zone());
    Some(format!("the provider is throttling this server (429) until {until}"))
}

fn last_error(server: &ServerRecord) -> Option<String> {
    let Some(trouble) = &server.trouble else {
        return server.waiting.as_ref().map(|waiting| waiting.reason.clone());
    };
    let reason = trouble.reason.as_deref().unwrap_or("reason unknown");
    Some(match trouble.rotations {
        0 | 1 => reason.to_owned(),
        more => format!("{reason} ({more} times)"),
    })
}
