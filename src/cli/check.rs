//! `snapring check`

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::api::client::Client;
use crate::api::credentials::Credentials;
use crate::api::failure::Outcome;
use crate::api::scope::Scope;
use crate::cli::setup::{
    Chatter, Refusal, begin_logging, connect, explain, locate, locate_credentials, rings,
};
use crate::cli::table::{lines, table};
use crate::cli::{ConfigArgument, Exit, console};
use crate::clock::Clock;
use crate::config;
use crate::config::types::{Server, Settings};
use crate::naming::{ServerId, Tick};
use crate::schedule::Schedule;

/// How many of each server's next ticks are shown.
const TICKS_SHOWN: usize = 3;

/// Read the configuration: every mistake and warning, and the next ticks of each server.
///
/// Ends with 78 when the configuration is bad.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Ask the provider too: what the token may do, and each server's slots
    #[arg(long)]
    online: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Say nothing but what is wrong
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Serialize)]
struct Answer<'a> {
    file: String,
    good: bool,
    problems: Vec<serde_json::Value>,
    servers: Vec<ServerAnswer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<TokenAnswer>,
}

#[derive(Serialize)]
struct ServerAnswer<'a> {
    server_id: ServerId,
    server: &'a str,
    enabled: bool,
    next_ticks: Vec<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<OnlineAnswer>,
}

#[derive(Serialize)]
struct TokenAnswer {
    name: String,
    permissions: Vec<String>,
}

#[derive(Serialize, Default)]
struct OnlineAnswer {
    taken: Option<u32>,
    free: Option<u32>,
    others: Option<u32>,
    error: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// How it ended, when not well.
pub async fn run(arguments: Arguments) -> Result<Exit, Exit> {
    let path = locate(&arguments.config);
    let clock = Clock::system();
    let loaded = match config::read(&path) {
        Ok(loaded) => loaded,
        Err(error) if arguments.json => {
            console::print_json(&Answer {
                file: path.display().to_string(),
                good: false,
                problems: error.to_json(),
                servers: Vec::new(),
                token: None,
            })?;
            return Err(Exit::Configuration);
        }
        Err(error) => {
            console::mistake(error.render(console::colours()).trim_end());
            return Err(Exit::Configuration);
        }
    };
    let settings = &loaded.settings;
    let mut warnings = loaded.warnings.clone();
    let credentials = locate_credentials(&settings.api);
    if !credentials.are_systemds() {
        warnings.extend(config::token_file_warnings(&loaded));
    }
    let no_token = missing_token(settings, &credentials);
    if !arguments.json {
        for warning in &warnings {
            console::warning(&warning.render(console::colours()));
        }
        if let Some(words) = &no_token {
            console::warning(&format!("warning: {words}"));
        }
    }
    let mut exit = Exit::Well;
    let now = clock.now().wall;
    let mut answer = Answer {
        file: path.display().to_string(),
        good: true,
        problems: warnings
            .iter()
            .map(config::Problem::to_json)
            .chain(no_token.map(|words| json!({ "severity": "warning", "message": words })))
            .collect(),
        servers: offline(&settings.servers, now),
        token: None,
    };
    if arguments.online {
        begin_logging(settings, Chatter::Quiet.level(settings))?;
        exit = ask(settings, clock, &mut answer).await?;
    }
    if arguments.json {
        console::print_json(&answer)?;
    } else if !arguments.quiet {
        console::print(&tell(settings, &answer))?;
    }
    Ok(exit)
}

/// What a run would say of the token, where it is not to be in a `token_file`, whose state is told
/// already.
fn missing_token(settings: &Settings, credentials: &Credentials) -> Option<String> {
    let told = settings.api.token_file.is_some() && !credentials.are_systemds();
    if told { None } else { credentials.token().err().map(explain) }
}

fn offline(servers: &[Arc<Server>], now: Timestamp) -> Vec<ServerAnswer<'_>> {
    // Most servers of a fleet have their schedules in common, and to compute a tick takes a while.
    let mut known: BTreeMap<&[Schedule], Vec<Timestamp>> = BTreeMap::new();
    let mut answers = Vec::with_capacity(servers.len());
    for server in servers {
        let ticks = known.entry(&server.schedules).or_insert_with(|| next_ticks(server, now));
        answers.push(ServerAnswer {
            server_id: server.id,
            server: &server.name,
            enabled: server.enabled,
            next_ticks: ticks.clone(),
            online: None,
        });
    }
    answers
}

fn next_ticks(server: &Server, now: Timestamp) -> Vec<Timestamp> {
    let next = |from: &Timestamp| server.next_tick_after(*from).map(Tick::instant);
    std::iter::successors(next(&now), next).take(TICKS_SHOWN).collect()
}

/// Asks the provider about the token and each server.
async fn ask(settings: &Settings, clock: Clock, answer: &mut Answer<'_>) -> Result<Exit, Exit> {
    let client = connect(&settings.api, clock).map_err(Refusal::print)?;
    let scope = Scope::default();
    match client.account(&scope).await {
        Ok(info) => {
            answer.token = Some(TokenAnswer { name: info.name, permissions: info.permissions });
        }
        Err(problem) => {
            console::error(&format!("the token: {problem}"));
            return Ok(Exit::Trouble);
        }
    }
    let mut exit = Exit::Well;
    for ((server, ring), row) in
        rings(&client, &settings.servers).await.into_iter().zip(&mut answer.servers)
    {
        let online = match ring {
            Ok(ring) => OnlineAnswer {
                taken: Some(ring.taken()),
                free: Some(server.policy.cap.saturating_sub(ring.taken())),
                others: Some(ring.held_by_others()),
                error: None,
            },
            Err(problem) => {
                exit = Exit::Trouble;
                let gone = problem.outcome() == Some(Outcome::NotFound);
                OnlineAnswer {
                    error: Some(problem.to_string() + &hint(&client, gone).await),
                    ..OnlineAnswer::default()
                }
            }
        };
        row.online = Some(online);
    }
    // A number that the provider does not know may list as empty instead of as 404.
    if let Ok(known) = client.servers(&scope).await {
        for row in &mut answer.servers {
            if !known.iter().any(|server| server.id == row.server_id)
                && let Some(online) = &mut row.online
                && online.error.is_none()
            {
                exit = Exit::Trouble;
                online.error = Some(format!("the account has no such server{}", names(&known)));
            }
        }
    }
    Ok(exit)
}

async fn hint(client: &Client, gone: bool) -> String {
    if !gone {
        return String::new();
    }
    match client.servers(&Scope::default()).await {
        Ok(known) => names(&known),
        Err(_) => String::new(),
    }
}

fn names(known: &[crate::api::body::ServerRow]) -> String {
    let shown: Vec<String> =
        known.iter().take(10).map(|row| format!("{} ({})", row.id, row.name)).collect();
    let more = if known.len() > shown.len() { ", …" } else { "" };
    format!("; it has {}{more}", shown.join(", "))
}

fn tell(settings: &Settings, answer: &Answer<'_>) -> String {
    let count = answer.servers.len();
    let noun = if count == 1 { "server" } else { "servers" };
    let mut text = format!("{}: good, {count} {noun}\n", answer.file);
    if let Some(token) = &answer.token {
        text.push_str(&format!(
            "token {:?}: permissions {}\n",
            token.name,
            if token.permissions.is_empty() {
                "none named".to_owned()
            } else {
                token.permissions.join(", ")
            }
        ));
    }
    let online = answer.servers.iter().any(|row| row.online.is_some());
    let mut header = vec!["id", "server", "schedule", "next ticks", "", ""];
    if online {
        header.push("slots");
    }
    let mut table = table(&header);
    for (server, row) in settings.servers.iter().zip(&answer.servers) {
        let schedules: Vec<&str> = server.schedules.iter().map(|it| it.text()).collect();
        let mut cells = vec![server.id.to_string(), server.name.clone(), schedules.join(" | ")];
        cells.extend((0..TICKS_SHOWN).map(|nth| match row.next_ticks.get(nth) {
            _ if !server.enabled => {
                if nth == 0 {
                    "disabled".to_owned()
                } else {
                    String::new()
                }
            }
            Some(tick) => local(server, *tick),
            None => String::new(),
        }));
        if let Some(online) = &row.online {
            cells.push(match online {
                OnlineAnswer { error: Some(error), .. } => error.clone(),
                OnlineAnswer { taken, free, others, .. } => format!(
                    "{} taken ({} not the ring's), {} free",
                    taken.unwrap_or_default(),
                    others.unwrap_or_default(),
                    free.unwrap_or_default()
                ),
            });
        }
        table.add_row(cells);
    }
    text.push_str(&lines(&table));
    text
}

/// A tick as the clock on the wall of the policy's zone shows it.
fn local(server: &Server, tick: Timestamp) -> String {
    tick.to_zoned(server.policy.time_zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string()
}
