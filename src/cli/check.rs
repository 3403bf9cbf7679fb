//! `snapring check`

mod effective;
mod online;
mod permissions;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::check::online::{Slots, Token, ask};
use crate::cli::error::CommandError;
use crate::cli::selection::Selection;
use crate::cli::sentence::sentence;
use crate::cli::setup::{Lacks, PATIENCE, Setup, covered, last_rotations, locate, quiesced};
use crate::cli::table::{Narrow, Table, lines};
use crate::cli::{ConfigArgument, Exit, console, progress};
use crate::clock::Clock;
use crate::config;
use crate::config::types::Settings;
use crate::coverage::Coverage;
use crate::naming::{ServerId, Tick};
use crate::paths::SERVICE_DIRECTORY;
use crate::policy::Keep;
use crate::provider::clients::Clients;
use crate::provider::connect::{connect, explain, locate_credentials};
use crate::provider::{http, proxy};
use crate::readable;
use crate::rotation::lock::Quiesced;
use crate::schedule::Schedule;
use crate::server::Server;
use crate::store::place::Place;
use crate::telemetry::{self, Deeds, LogSettings};
use crate::vanished::Vanished;

/// Of more servers, only those with a mistake are listed.
const LISTED: usize = 50;

/// How many policies are told in a sentence.
const POLICIES_SHOWN: usize = 20;

/// How many of each server's next ticks are shown.
const TICKS_SHOWN: usize = 3;

/// Check the configuration: show every mistake and warning, and each server's schedule in words with its next
/// ticks.
///
/// Exits with 78 if the configuration is invalid or the token is missing, because `snapring run` would not
/// start.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Also ask the provider what the token may do, and how many slots of each server are taken
    #[arg(long)]
    online: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print only mistakes and warnings
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    /// Check before a reload: the running daemon already has its token, so none is needed here
    #[arg(long, conflicts_with = "online")]
    for_reload: bool,
    /// Show which value holds for each key of each server, and where it was written
    #[arg(long, conflicts_with_all = ["online", "quiet", "for_reload"])]
    effective: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    config: ConfigArgument,
}

/// The columns. A narrow terminal shows fewer ticks.
const COLUMNS: [(&str, Narrow); 6] = [
    ("id", Narrow::Stays),
    ("server", Narrow::Stays),
    ("schedule", Narrow::Below),
    ("next tick", Narrow::Stays),
    ("second tick", Narrow::Out(1)),
    ("third tick", Narrow::Out(2)),
];

/// Where the account stands.
const AFTER_SERVER: usize = 2;

#[derive(Serialize)]
struct CheckAnswer<'a> {
    file: String,
    good: bool,
    problems: Vec<Value>,
    /// Problems that belong to no line of the file.
    #[serde(skip)]
    remarks: Vec<CheckFinding>,
    /// What the provider did not show, in words; empty if it was not asked or all is well.
    #[serde(skip)]
    unknown: &'static str,
    servers: Vec<ServerAnswer<'a>>,
    policies: Vec<PolicyAnswer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    /// What each further account's token may do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more_tokens: Vec<Token>,
    /// Which servers have no policy, and which policies no server. `None`: that was not found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<Coverage>,
}

/// What servers with the same schedules and the same `keep` come to.
#[derive(Serialize)]
struct PolicyAnswer<'a> {
    policy: String,
    servers: Vec<&'a str>,
}

#[derive(Serialize)]
struct ServerAnswer<'a> {
    server_id: ServerId,
    server: &'a str,
    enabled: bool,
    schedules: Vec<ScheduleAnswer<'a>>,
    next_ticks: Vec<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<Slots>,
}

#[derive(Serialize, Clone)]
struct ScheduleAnswer<'a> {
    schedule: &'a str,
    /// What it says, like "every day at 03:00".
    words: Option<String>,
}

/// What a person should know, though the configuration is good.
#[derive(Debug)]
struct CheckFinding {
    severity: &'static str,
    message: String,
    hint: Option<String>,
}

impl CheckFinding {
    fn warning(message: String, hint: &str) -> Self {
        Self { severity: "warning", message, hint: Some(hint.to_owned()) }
    }

    fn error(message: String) -> Self {
        Self { severity: "error", message, hint: None }
    }

    /// For programs, with the fields of a problem that has a line.
    fn to_json(&self, file: &str) -> Value {
        let Self { severity, message, hint } = self;
        json!({
            "severity": severity, "file": file, "line": null, "column": null, "message": message, "hint": hint,
        })
    }

    fn print(&self) {
        let hint = self.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        let text = format!("{}{hint}", self.message);
        match self.severity {
            "error" => CommandError::Failed(text).report(),
            _ => console::warning(&format!("warning: {text}")),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    if arguments.selection.is_given() && !arguments.effective {
        let text = "SERVER and --group need --effective: `check` reads the whole configuration";
        return Err(CommandError::Usage(text.to_owned()));
    }
    let path = locate(&arguments.config.file);
    let clock = Clock::system();
    let read = match arguments.effective {
        true => config::read_with_origins(&path).map(|(loaded, it)| (loaded, Some(it))),
        false => config::read(&path).map(|loaded| (loaded, None)),
    };
    let loaded = match read {
        Ok((loaded, Some(origins))) => {
            let setup = Setup { path, settings: loaded.settings, clock, lacks: Lacks::default() };
            let Arguments { selection, json, .. } = arguments;
            return effective::tell(&setup, &loaded.warnings, &origins, &selection, json);
        }
        Ok((loaded, None)) => loaded,
        Err(error) if arguments.json => {
            console::print_json(&CheckAnswer {
                file: path.display().to_string(),
                good: false,
                problems: error.to_json(),
                remarks: Vec::new(),
                unknown: "",
                servers: Vec::new(),
                policies: Vec::new(),
                token: None,
                more_tokens: Vec::new(),
                coverage: None,
            })?;
            return Ok(Exit::Configuration);
        }
        Err(error) => return Err(error.into()),
    };
    let settings = &loaded.settings;
    let (mut unusable, mut of_token_files) = (Vec::new(), Vec::new());
    let (mut is_good, mut ignored) = (true, Vec::new());
    for account in settings.accounts() {
        let credentials = locate_credentials(account);
        let problem = credentials.token().err().filter(|_| !arguments.for_reload).map(explain);
        let told = match credentials.are_systemds() {
            true => None,
            false => config::token_file_problem(&loaded, account, problem.as_deref()),
        };
        let is_told = told.is_some();
        of_token_files.extend(told);
        is_good &= problem.is_none();
        unusable.extend(problem.filter(|_| !is_told));
        ignored.extend(credentials.ignored_variable(|name| std::env::var_os(name)));
    }
    let proxy = proxy::mistake(|name| std::env::var_os(name));
    let of_secrets = config::secrets_warning(&path, &loaded);
    let is_asked = arguments.online && is_good && proxy.is_none();
    let mut with_covered = settings.clone();
    let mut uncovered = Vec::new();
    if is_asked {
        let LogSettings { format, level, .. } = &settings.log;
        let (zone, verbose) = (settings.common_zone(), arguments.config.verbose);
        telemetry::begin_for_command(*format, level, zone, verbose, Deeds::Looks)?;
        let (settings, lacks) = covered(settings, &clock, PATIENCE).await?;
        with_covered = settings;
        uncovered.extend(lacks.findings().into_iter().map(CheckFinding::error));
        progress::shows_times_of(&with_covered.servers);
    }
    let settings = &with_covered;
    let mut answer = CheckAnswer {
        file: path.display().to_string(),
        good: is_good && proxy.is_none(),
        problems: Vec::new(),
        remarks: proxy.map(CheckFinding::error).into_iter().collect(),
        unknown: "",
        servers: offline(&settings.servers, clock.now().wall),
        policies: policies(&settings.servers, clock.now().wall),
        token: None,
        more_tokens: Vec::new(),
        coverage: None,
    };
    answer.remarks.extend(unusable.into_iter().map(|problem| CheckFinding {
        hint: Some(config::NO_TOKEN_NO_RUN.to_owned()),
        ..CheckFinding::error(problem)
    }));
    answer.remarks.extend(ignored.into_iter().map(|message| {
        CheckFinding::warning(message, "unset it, or remove `token_file` from [api] to use it")
    }));
    let in_the_file: Vec<_> =
        loaded.warnings.iter().chain(&of_token_files).chain(&of_secrets).collect();
    answer.problems.extend(in_the_file.iter().map(|it| it.to_json()));
    answer.remarks.extend(missing_hooks(&settings.servers));
    answer.remarks.extend(permissions::changeable(&loaded.files, &settings.servers));
    answer.remarks.extend(missing_directory(settings.store.as_ref()));
    answer.remarks.extend(unfit_store(settings.store.as_ref()));
    answer.remarks.extend(missing_certificates(settings));
    answer.remarks.extend(vanished(settings, &clock).await);
    let not_resumed = quiesced(settings, &clock, "check").await;
    let remark = |it: &Quiesced| CheckFinding {
        severity: "warning",
        message: it.words_with_server(),
        hint: None,
    };
    answer.remarks.extend(not_resumed.iter().filter(|it| !it.rotated).map(remark));
    let is_covered = uncovered.is_empty();
    answer.remarks.extend(uncovered);
    let mut exit = if answer.good { Exit::Well } else { Exit::Configuration };
    if !arguments.json {
        for problem in in_the_file {
            console::warning(&problem.render(console::colours()));
        }
    }
    if is_asked {
        let connect = |it| connect(it, clock.clone(), progress::activities().clone());
        let clients = settings.accounts().map(connect).collect::<Result<Vec<_>, _>>()?;
        let asked = ask(&Clients::new(clients), settings, &mut answer).await;
        exit = if is_covered { asked } else { Exit::Trouble };
    }
    if arguments.json {
        let remarks = answer.remarks.iter().map(|it| it.to_json(&answer.file));
        let remarks: Vec<_> = remarks.collect();
        answer.problems.extend(remarks);
        console::print_json(&answer)?;
        return Ok(exit);
    }
    answer.remarks.iter().for_each(CheckFinding::print);
    if !arguments.quiet {
        console::print(&tell(settings, &answer, clock.now().wall))?;
    }
    Ok(exit)
}

/// A store's file without a directory. systemd creates the service's when the service starts.
fn missing_directory(store: Option<&Place>) -> Option<CheckFinding> {
    let Some(Place::File(file)) = store else { return None };
    let folder = file.parent().filter(|folder| *folder != Path::new(SERVICE_DIRECTORY))?;
    let problem = match folder.metadata() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        Err(error) => error.to_string(),
        Ok(it) if !it.is_dir() => "it is not a directory".to_owned(),
        Ok(_) => return None,
    };
    Some(CheckFinding::warning(
        format!("[store]: the directory {} cannot be used: {problem}", folder.display()),
        "create it: without it, snapring keeps no history, and after a restart it remembers less",
    ))
}

/// What stands where the store's file should be.
fn unfit_store(store: Option<&Place>) -> Option<CheckFinding> {
    let place = Place::of_command(store, |name| std::env::var_os(name));
    let problem = place.obstacle()?;
    Some(CheckFinding::warning(
        format!("[store]: {place} cannot be used: {problem}"),
        "name another file: without it, snapring keeps no history, and after a restart it remembers less",
    ))
}

/// Servers that were rotated lately and are not in the configuration. Where the history cannot be read, other
/// commands say so.
async fn vanished(settings: &Settings, clock: &Clock) -> Vec<CheckFinding> {
    let known = last_rotations(settings, clock).await;
    let now = clock.now().wall;
    let is_configured = |id: ServerId| {
        settings.servers.iter().any(|server| server.id == id)
            || settings.cover_of(id.account).is_some()
    };
    let hint = "if that is a mistake, look for an included file that is missing";
    let vanished = Vanished::among(&known, is_configured, now);
    vanished
        .words(&settings.common_zone())
        .map(|words| CheckFinding::warning(words, hint))
        .collect()
}

/// What TLS needs, if it is used.
fn missing_certificates(settings: &Settings) -> Option<CheckFinding> {
    let is_used = settings.api.base_url.scheme() == "https"
        || settings.notify.iter().any(|target| target.url.expose().scheme() == "https");
    let problem = is_used.then(|| http::build(http::client_builder()).err()).flatten()?;
    Some(CheckFinding::warning(
        format!("no https connection can be made on this machine: {problem}"),
        "without one, snapring can neither reach the provider nor send notices",
    ))
}

/// Hooks that cannot be run here, or that others can change. The configuration may be for another machine.
fn missing_hooks(servers: &[Arc<Server>]) -> Vec<CheckFinding> {
    let hooks = servers.iter().filter_map(|server| server.hooks.as_deref());
    let programs: BTreeSet<&Path> = hooks
        .flat_map(|hooks| [hooks.before.first(), hooks.after.first()])
        .flatten()
        .map(Path::new)
        .collect();
    programs.into_iter().filter_map(|program| unfit(program, std::env::var_os("PATH"))).collect()
}

fn unfit(program: &Path, path: Option<OsString>) -> Option<CheckFinding> {
    let shown = program.display();
    let cannot_be_run = |problem: &str| {
        Some(CheckFinding::warning(
            format!("the hook {shown} cannot be run on this machine: {problem}"),
            "a rotation whose hook cannot be run fails",
        ))
    };
    // A name alone is looked for as the system does it.
    let is_name = !program.as_os_str().as_bytes().contains(&b'/');
    let file = if is_name {
        let folders = path.unwrap_or_else(|| "/bin:/usr/bin".into());
        let mut found = std::env::split_paths(&folders).map(|folder| folder.join(program));
        match found.find(|file| file.is_file()) {
            Some(file) => file,
            None => return cannot_be_run("it is in no directory of PATH; write its whole path"),
        }
    } else {
        program.to_owned()
    };
    match std::fs::metadata(&file) {
        Err(error) => cannot_be_run(&error.to_string()),
        Ok(it) if !it.is_file() => cannot_be_run("it is not a file"),
        Ok(it) if it.permissions().mode() & 0o111 == 0 => cannot_be_run("it is not executable"),
        Ok(_) => None,
    }
}

fn offline(servers: &[Arc<Server>], now: Timestamp) -> Vec<ServerAnswer<'_>> {
    // Most servers of a fleet have their schedules in common, and to compute a tick takes a while.
    let mut known: BTreeMap<&[Schedule], (Vec<ScheduleAnswer<'_>>, Vec<Timestamp>)> =
        BTreeMap::new();
    let mut answers = Vec::with_capacity(servers.len());
    for server in servers {
        let (schedules, ticks) = known.entry(&server.schedules).or_insert_with(|| {
            let schedule = |it| ScheduleAnswer { schedule: Schedule::text(it), words: it.words() };
            (server.schedules.iter().map(schedule).collect(), next_ticks(server, now))
        });
        answers.push(ServerAnswer {
            server_id: server.id,
            server: &server.name,
            enabled: server.enabled,
            schedules: schedules.clone(),
            next_ticks: ticks.clone(),
            online: None,
        });
    }
    answers
}

fn policies(servers: &[Arc<Server>], now: Timestamp) -> Vec<PolicyAnswer<'_>> {
    let mut places: BTreeMap<&[Schedule], HashMap<Keep, usize>> = BTreeMap::new();
    let mut policies: Vec<PolicyAnswer<'_>> = Vec::new();
    for server in servers.iter().filter(|server| server.enabled) {
        let of_schedule = places.entry(&server.schedules).or_default();
        let place = *of_schedule.entry(server.policy.keep).or_insert(policies.len());
        match policies.get_mut(place) {
            Some(known) => known.servers.push(&server.name),
            None => policies
                .push(PolicyAnswer { policy: sentence(server, now), servers: vec![&server.name] }),
        }
    }
    policies
}

fn next_ticks(server: &Server, now: Timestamp) -> Vec<Timestamp> {
    let next = |from: &Timestamp| server.next_tick_after(*from).map(Tick::instant);
    std::iter::successors(next(&now), next).take(TICKS_SHOWN).collect()
}

fn tell(settings: &Settings, answer: &CheckAnswer<'_>, now: Timestamp) -> String {
    let count = answer.servers.len();
    let noun = if count == 1 { "server" } else { "servers" };
    let mut text = match answer.unknown {
        "" if answer.good => format!("{}: good, {count} {noun}\n", answer.file),
        "" => format!("{}: {count} {noun}, but `snapring run` would not start\n", answer.file),
        unknown => format!("{}: no mistakes, {count} {noun}, but {unknown}\n", answer.file),
    };
    for token in answer.token.iter().chain(&answer.more_tokens) {
        let account = token.account.as_ref().map(|name| format!(" of account {name}"));
        text.push_str(&format!(
            "token {:?}{} has the permissions: {}\n",
            token.name,
            account.unwrap_or_default(),
            if token.permissions.is_empty() {
                "none named".to_owned()
            } else {
                token.permissions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
        ));
    }
    let are_several = settings.accounts().nth(1).is_some();
    for account in settings.accounts().filter(|_| are_several) {
        text.push_str(&format!("account {}: {}\n", account.account, account.base_url));
    }
    let online = answer.servers.iter().any(|row| row.online.is_some());
    let mut columns = COLUMNS.to_vec();
    if are_several {
        columns.insert(AFTER_SERVER, ("account", Narrow::Stays));
    }
    if online {
        columns.push(("slots", Narrow::Below));
    }
    let mut table = Table::new(columns);
    let is_fleet = count > LISTED;
    let has_error =
        |row: &ServerAnswer<'_>| row.online.as_ref().is_some_and(|it| it.error.is_some());
    let all = settings.servers.iter().zip(&answer.servers);
    let rows: Vec<_> = all.filter(|(_, row)| !is_fleet || has_error(row)).collect();
    let listed = rows.len();
    for (server, row) in rows {
        let schedule = |it: &ScheduleAnswer<'_>| match &it.words {
            Some(words) => format!("{}: {words}", it.schedule),
            None => it.schedule.to_owned(),
        };
        let schedules: Vec<String> = row.schedules.iter().map(schedule).collect();
        let mut cells = vec![server.id.to_string(), server.name.clone(), schedules.join(" | ")];
        if are_several {
            cells.insert(AFTER_SERVER, server.id.account.name().to_owned());
        }
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
                Slots { error: Some(error), .. } => error.clone(),
                Slots { taken, free, others, name_at_provider, .. } => format!(
                    "{} taken{}, {} free{}",
                    taken.unwrap_or_default(),
                    match others.unwrap_or_default() {
                        0 => String::new(),
                        others => format!(" ({others} foreign or pinned)"),
                    },
                    free.unwrap_or_default(),
                    match name_at_provider {
                        Some(name) => format!("; the provider calls it {name}"),
                        None => String::new(),
                    }
                ),
            });
        }
        table.add_row(cells);
    }
    if listed > 0 {
        text.push_str(&lines(&table));
    }
    for cover in &settings.covers {
        text.push_str(&format!(
            "each server of {} without a [[server]] has the policy of group {}: {}{}\n",
            cover.account().in_words(),
            cover.group(),
            sentence(&cover.example(), now),
            if online { "" } else { ". `check --online` lists these servers" }
        ));
    }
    if is_fleet {
        let others = readable::count(count - listed);
        text.push_str(&format!(
            "{others} servers without a mistake are not listed; --json has them all\n"
        ));
    }
    text.push('\n');
    for PolicyAnswer { policy, servers } in answer.policies.iter().take(POLICIES_SHOWN) {
        let Some((first, others)) = servers.split_first() else { continue };
        let others = match others.len() {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let less = kept_less(servers, answer);
        text.push_str(&format!("{first}{others}: {policy}{less}\n"));
    }
    if let Some(more) = answer.policies.len().checked_sub(POLICIES_SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("… and {more} more policies; --json has them all\n"));
    }
    text
}

/// Where fewer snapshots fit than a policy keeps.
fn kept_less(servers: &[&str], answer: &CheckAnswer<'_>) -> String {
    let is_squeezed = |it: &Slots| it.squeezed.is_some_and(|squeezed| squeezed > 0);
    let squeezed: HashSet<&str> = answer
        .servers
        .iter()
        .filter(|row| row.online.as_ref().is_some_and(is_squeezed))
        .map(|row| row.server)
        .collect();
    match (servers.iter().filter(|name| squeezed.contains(*name)).count(), servers.len()) {
        (0, _) => String::new(),
        (_, 1) => "; now fewer, because the ring is squeezed".to_owned(),
        (1, _) => "; now fewer on one of them, because its ring is squeezed".to_owned(),
        (count, _) => format!("; now fewer on {count} of them, because their rings are squeezed"),
    }
}

/// A tick as the clock on the wall of the policy's zone shows it.
fn local(server: &Server, tick: Timestamp) -> String {
    tick.to_zoned(server.policy.time_zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string()
}
