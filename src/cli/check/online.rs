//! What the provider says to a configuration: of the token, and of each server.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::call::{CallError, Outcome};
use crate::cli::Exit;
use crate::cli::check::{CheckAnswer, CheckFinding, ServerAnswer};
use crate::cli::error::{NEW_TOKEN, refusal};
use crate::cli::plan::foretell;
use crate::cli::setup::{memories, rings};
use crate::clock::Clock;
use crate::config::types::Settings;
use crate::coverage::{AccountServer, AccountStatus, Coverage, NamedServers, unknown};
use crate::foreign::ForeignText;
use crate::memory::RingMemory;
use crate::naming::{Account, ServerId, SnapshotId};
use crate::other_prefix::OtherPrefix;
use crate::plan::{Squeeze, Step};
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::provider::clients::Clients;
use crate::ring::Ring;
use crate::server::Server;
use crate::store::place::Place;

/// Who the token is.
#[derive(Serialize)]
pub(super) struct Token {
    /// Whose it is, unless that is the account of `[api]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) account: Option<String>,
    pub(super) name: ForeignText,
    pub(super) permissions: Vec<ForeignText>,
}

/// A server's slots, or why they are not known.
#[derive(Serialize, Default)]
pub(super) struct Slots {
    pub(super) taken: Option<u32>,
    pub(super) free: Option<u32>,
    pub(super) others: Option<u32>,
    /// How many snapshots that `keep` asks for have no slot.
    pub(super) squeezed: Option<u32>,
    /// What the provider calls the server, if that is not its name in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name_at_provider: Option<ForeignText>,
    pub(super) error: Option<String>,
}

/// Asks each account's provider about the token and each server.
pub(super) async fn ask(
    clients: &Clients,
    settings: &Settings,
    answer: &mut CheckAnswer<'_>,
) -> Exit {
    let scope = CallContext::default();
    let mut asked = HashSet::new();
    for client in clients.all() {
        match client.account(&scope).await {
            Ok(info) => {
                let account = client.whose().label().map(str::to_owned);
                let token = Token { account, name: info.name, permissions: info.permissions };
                match client.whose() {
                    Account::API => answer.token = Some(token),
                    _ => answer.more_tokens.push(token),
                }
                asked.insert(client.whose());
            }
            Err(problem) => {
                answer.unknown = match problem.outcome() {
                    Some(Outcome::Unauthorized | Outcome::Forbidden) => {
                        "the provider refused the token"
                    }
                    _ => "the provider could not be asked",
                };
                answer.remarks.push(unasked(&problem, settings, client.whose()));
            }
        }
    }
    let is_asked = |server: &ServerId| asked.contains(&server.account);
    let servers: Vec<_> = settings.servers.iter().filter(|it| is_asked(&it.id)).cloned().collect();
    if servers.is_empty() {
        return Exit::Trouble;
    }
    let rings = rings(clients, &servers).await;
    let rows = answer.servers.iter_mut().filter(|row| is_asked(&row.server_id));
    for ((server, ring), row) in rings.iter().zip(rows) {
        row.online = Some(match ring {
            Ok(ring) => Slots {
                taken: Some(ring.taken()),
                free: Some(server.policy.cap.saturating_sub(ring.taken())),
                others: Some(ring.held_by_others()),
                squeezed: Some(server.policy.squeezed_by(ring.held_by_others())),
                ..Slots::default()
            },
            Err(problem) => Slots { error: Some(problem.explained()), ..Slots::default() },
        });
    }
    let mut of_accounts = Vec::new();
    for client in clients.all().filter(|it| asked.contains(&it.whose())) {
        match client.servers(&scope).await {
            Ok(known) => {
                of_accounts.push((client.whose(), compare(&known, client, settings, answer)))
            }
            // That is told already.
            Err(_) if settings.cover_of(client.whose()).is_some() => {}
            Err(problem) => {
                let text = unknown(client.whose(), &problem.explained());
                let hint = "the list of servers is used only to find such servers and wrong ids; rotations do \
                     not need it";
                answer.remarks.push(CheckFinding::warning(text, hint));
            }
        }
    }
    answer.coverage = AccountStatus::together(of_accounts).coverage;
    if let Some(finding) = answer.coverage.as_ref().and_then(Coverage::uncovered_finding) {
        let uncovered = answer.coverage.as_ref().map(|it| &it.uncovered);
        let account = match uncovered.and_then(NamedServers::account) {
            _ if clients.all().nth(1).is_none() => String::new(),
            Some(name) => format!(" --account {name}"),
            None => " --account NAME".to_owned(),
        };
        let hint = format!(
            "`snapring discover{account}` lists them; with --write FILE it writes a configuration for them"
        );
        answer.remarks.push(CheckFinding::warning(finding, &hint));
    }
    let refused = rings.iter().find_map(|(_, ring)| ring.as_ref().err().and_then(refusal));
    if let Some(failure) = refused {
        answer.unknown = "the provider refused the token";
        let hint = Some(NEW_TOKEN.to_owned());
        answer.remarks.push(CheckFinding { hint, ..CheckFinding::error(failure.cause()) });
    }
    // What the token is refused for is told once, not for each server.
    let rows = || answer.servers.iter().filter(|row| is_asked(&row.server_id));
    let errors = rings.iter().zip(rows()).filter_map(|((_, ring), row)| {
        let error = row.online.as_ref()?.error.as_ref()?;
        let is_told = ring.as_ref().is_err_and(|problem| refusal(problem).is_some());
        (!is_told).then(|| CheckFinding::error(format!("{}: {error}", row.server)))
    });
    let errors: Vec<_> = errors.collect();
    if !errors.is_empty() && answer.unknown.is_empty() {
        let problems = rings.iter().filter(|(_, ring)| ring.is_err()).count();
        answer.unknown = match problems {
            0 => "not every server is as the configuration says",
            all if all == rings.len() => "the provider did not say how many slots are taken",
            _ => "the provider did not say how many slots are taken of every server",
        };
    }
    answer.remarks.extend(errors);
    let good = |row: &ServerAnswer<'_>| row.online.as_ref().is_some_and(|it| it.error.is_none());
    let listed: Vec<(&Server, &Ring)> = rings
        .iter()
        .zip(answer.servers.iter().filter(|row| is_asked(&row.server_id)))
        .filter(|(_, row)| good(row))
        .filter_map(|((server, ring), _)| Some((server.as_ref(), ring.as_ref().ok()?)))
        .collect();
    let clock = Clock::system();
    let now = clock.now().wall;
    let ids: Vec<ServerId> = listed.iter().map(|(server, _)| server.id).collect();
    let store = Place::of_command(settings.store.as_ref(), |name| std::env::var_os(name));
    let memories = memories(&store, &clock, &ids).await;
    for (server, ring) in &listed {
        let memory = memories.get(&server.id).cloned().unwrap_or_default();
        answer.remarks.extend(of_ring(server, ring, &memory, now));
    }
    answer.remarks.extend(astray(&listed));
    if listed.len() == answer.servers.len() { Exit::Well } else { Exit::Trouble }
}

/// Compares the servers of an account with those that are configured. Names configured ones that it does not
/// have: their listings may be empty; and those that have another name there.
fn compare(
    known: &[AccountServer],
    client: &Client,
    settings: &Settings,
    answer: &mut CheckAnswer<'_>,
) -> AccountStatus {
    let account = client.whose();
    let called: HashMap<ServerId, &ForeignText> =
        known.iter().map(|server| (server.id, &server.name)).collect();
    for row in answer.servers.iter_mut().filter(|row| row.server_id.account == account) {
        let Some(online) = &mut row.online else { continue };
        match called.get(&row.server_id) {
            None => {
                let names = names(known);
                online.error = Some(format!("{} has no such server{names}", account.in_words()));
            }
            Some(name) if **name != *row.server => {
                online.name_at_provider = Some((*name).clone());
                answer.remarks.extend(has_the_name_of_another(row, name, known));
            }
            Some(_) => {}
        }
    }
    let own = settings.servers.iter().filter(|server| server.id.account == account);
    let configured = own.map(|server| (server.id, server.name.as_str()));
    let coverage = Some(Coverage::of(configured, known));
    AccountStatus { coverage, ..AccountStatus::default() }
}

/// A command for this name would change another server than the provider's panel shows under it.
fn has_the_name_of_another(
    row: &ServerAnswer<'_>,
    name: &ForeignText,
    known: &[AccountServer],
) -> Option<CheckFinding> {
    let ServerAnswer { server, server_id, .. } = row;
    let other = known.iter().find(|it| it.name == **server)?;
    let message = format!(
        "{server} ({server_id}): the provider calls this server {name}, and calls server {} {server}",
        other.id
    );
    let hint = format!(
        "`snapring restore latest {server}` would overwrite server {server_id}; compare `id` and `name`"
    );
    Some(CheckFinding::warning(message, &hint))
}

/// Why nothing could be asked: only a refusal is the token's fault.
fn unasked(problem: &CallError, settings: &Settings, account: Account) -> CheckFinding {
    let of_account = settings.accounts().find(|it| it.account == account);
    let base_url = &of_account.unwrap_or(&settings.api).base_url;
    let CallError::Failed(failure) = problem else {
        return CheckFinding::error(format!("{base_url}: {problem}"));
    };
    let message = match failure.outcome {
        Outcome::Unauthorized | Outcome::Forbidden => {
            let hint = Some(NEW_TOKEN.to_owned());
            return CheckFinding { hint, ..CheckFinding::error(failure.cause()) };
        }
        Outcome::NotFound => format!("`base_url` {base_url} is not the provider's API (404)"),
        Outcome::Transport => format!("{base_url} cannot be reached: {}", failure.message),
        _ => format!("{base_url}: {}", failure.cause()),
    };
    CheckFinding::error(message)
}

/// A server whose next rotation would find no room, or too little for its `keep`; foreign snapshots of it that
/// look like snapring's.
fn of_ring(server: &Server, ring: &Ring, memory: &RingMemory, now: Timestamp) -> Vec<CheckFinding> {
    let tick = server.next_tick_after(now).filter(|_| server.enabled);
    let step = tick.map(|tick| foretell(server, ring, tick, memory, now).step);
    let name = &server.name;
    if let Some(Step::Blocked(blocked)) = &step {
        // It names the snapshots that look like snapring's, too.
        let problem = format!("{name}: its next rotation would be blocked: {}", blocked.problem());
        return vec![CheckFinding::warning(problem, &blocked.advice())];
    }
    let others = OtherPrefix::all_in(ring);
    let squeeze = step.and_then(|_| Squeeze::of(ring, &server.policy)).map(|squeeze| {
        let hint = format!("`snapring list {name}` shows them; delete some, or lower `keep`");
        CheckFinding {
            severity: "warning",
            message: format!("{name}: {squeeze}"),
            // Where some look like snapring's own, the next warning says what to do.
            hint: others.is_empty().then_some(hint),
        }
    });
    let finding =
        |other: &OtherPrefix| CheckFinding::warning(format!("{name}: {other}"), &other.way_out());
    squeeze.into_iter().chain(others.iter().map(finding)).collect()
}

/// Pins of snapshots that their server does not have.
fn astray(listed: &[(&Server, &Ring)]) -> Vec<CheckFinding> {
    let homes: HashMap<SnapshotId, &Server> = listed
        .iter()
        .flat_map(|(server, ring)| ring.listing().snapshots.iter().map(|row| (row.id, *server)))
        .collect();
    let mut remarks = Vec::new();
    for (server, _) in listed {
        for pin in &server.policy.pinned {
            let elsewhere = match homes.get(pin) {
                Some(home) if home.id == server.id => continue,
                Some(home) => format!("; server {} ({}) has it", home.id, home.name),
                None => String::new(),
            };
            remarks.push(CheckFinding::warning(
                format!(
                    "{}: pin {pin}: server {} has no such snapshot{elsewhere}",
                    server.name, server.id
                ),
                &format!("`snapring list {}` shows those that it has", server.name),
            ));
        }
    }
    remarks
}

fn names(known: &[AccountServer]) -> String {
    let shown: Vec<String> =
        known.iter().take(10).map(|row| format!("{} ({})", row.id, row.name)).collect();
    let more = if known.len() > shown.len() { ", …" } else { "" };
    format!("; it has {}{more}", shown.join(", "))
}
