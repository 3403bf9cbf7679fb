//! `snapring discover`

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::call::Outcome;
use crate::cli::error::CommandError;
use crate::cli::setup::{PATIENCE, know_tokens, locate, no_account, warn_in_short};
use crate::cli::table::{lines, table};
use crate::cli::{ConfigArgument, ConfigFile, Exit, console, progress};
use crate::clock::Clock;
use crate::config::starting::{Form, NewServer, text};
use crate::config::types::Settings;
use crate::config::{self, Loaded};
use crate::coverage::{AccountServer, Coverage, NamedServer};
use crate::discovery::{Lookalikes, NewNames};
use crate::foreign::ForeignText;
use crate::naming::ServerId;
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::provider::connect::connect;
use crate::provider::settings::ApiSettings;
use crate::readable;
use crate::telemetry::{self, Deeds};
use crate::wording::listed;

/// How many names of the group of new servers are tried.
const GROUP_NAMES: usize = 9;

/// List the servers of the account that have no policy, and write a configuration for them.
///
/// Asks the provider for the servers of the account and for its snapshots, and changes nothing there. It works
/// before anything is configured: without a configuration file, the token comes from $SNAPRING_TOKEN.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Write a configuration for these servers to a new file, or with `-` to standard output. If you have a
    /// configuration already, the file contains only the new servers, for `include`. An existing file is never
    /// overwritten
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    write: Option<PathBuf>,
    /// Exit with 1 if a server has no policy, or if that cannot be found out: for cron and CI
    #[arg(long)]
    missing: bool,
    /// The account to ask; needed if there are several
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

/// What the provider says of the account.
struct Account {
    servers: Vec<AccountServer>,
    /// Whether these are all of its servers.
    is_whole: bool,
    /// Whose the snapshots of each server look like, if they could be listed.
    snapshots: Option<BTreeMap<ServerId, Lookalikes>>,
}

#[derive(Serialize)]
struct DiscoverAnswer<'a> {
    /// Whether all servers of the account are known.
    complete: bool,
    account_servers: usize,
    uncovered: Vec<UncoveredServer<'a>>,
    missing: Vec<NamedServer>,
}

/// A server that has no policy.
#[derive(Serialize)]
struct UncoveredServer<'a> {
    server_id: ServerId,
    name: &'a ForeignText,
    status: Option<&'a ForeignText>,
    location: Option<&'a ForeignText>,
    snapshots: Option<&'a Lookalikes>,
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let path = configuration(&arguments.config.file);
    let loaded = config::read_before_servers(path.as_deref())?;
    let Loaded { settings, warnings, .. } = loaded;
    // Without a server, what is missing is about to be written.
    if !settings.servers.is_empty() {
        warn_in_short(&warnings);
    }
    let log = &settings.log;
    let (zone, verbose) = (settings.common_zone(), arguments.config.verbose);
    telemetry::begin_for_command(log.format, &log.level, zone, verbose, Deeds::Looks)?;
    let target = arguments.write.as_deref().map(Target::of).transpose()?;
    let clock = Clock::system();
    know_tokens(&settings);
    // Unique among the servers of all accounts.
    let taken: Vec<String> = settings.servers.iter().map(|it| it.name.clone()).collect();
    let (settings, is_one_of_several) = of_one_account(settings, arguments.account.as_deref())?;
    let whose = settings.api.account;
    // Where it is needed, or was given.
    let named = match is_one_of_several || arguments.account.is_some() {
        true => format!(" --account {whose}"),
        false => String::new(),
    };
    let client = connect(&settings.api, clock, progress::activities().clone())?;
    let account = ask(&client, arguments.missing).await?;
    let configured = settings.servers.iter().map(|server| (server.id, server.name.as_str()));
    let coverage = Coverage::of(configured, &account.servers);
    let coverage = if is_one_of_several { coverage.of_account(whose) } else { coverage };
    let known: HashSet<ServerId> = settings.servers.iter().map(|server| server.id).collect();
    let has_policy = |id: ServerId| known.contains(&id) || settings.cover_of(id.account).is_some();
    let uncovered: Vec<&AccountServer> =
        account.servers.iter().filter(|server| !has_policy(server.id)).collect();
    let mut names = NewNames::other_than(taken);
    let uncovered: Vec<New<'_>> = uncovered
        .into_iter()
        .map(|server| New { server, name: names.name(server.id, &server.name) })
        .collect();
    match (&target, arguments.json) {
        (Some(Target::StandardOutput), _) => {}
        (_, true) => console::print_json(&answer(&settings, &account, &uncovered))?,
        (_, false) => {
            console::print(&told(&settings, &account, &uncovered, &coverage, is_one_of_several))?
        }
    }
    let is_found = arguments.missing && (!uncovered.is_empty() || !account.is_whole);
    if let Some(target) = target {
        write(&target, path.as_deref(), &account, uncovered)?;
    } else if !arguments.json && !uncovered.is_empty() {
        console::note(&format!(
            "next: `snapring discover{named} --write FILE` writes a configuration for them"
        ));
    }
    Ok(if is_found || account.snapshots.is_none() { Exit::Trouble } else { Exit::Well })
}

/// A server that has no policy, and how a configuration calls it.
struct New<'a> {
    server: &'a AccountServer,
    name: String,
}

/// The configuration as far as it is about one account, and whether there are others.
///
/// # Errors
/// [`CommandError::Usage`] when there is no such account, or several and none is named.
fn of_one_account(
    settings: Settings,
    named: Option<&str>,
) -> Result<(Settings, bool), CommandError> {
    // That of [api] is one even without a server.
    let all: Vec<&ApiSettings> = match settings.servers.is_empty() {
        true => [&settings.api].into_iter().chain(&settings.more_accounts).collect(),
        false => settings.accounts().collect(),
    };
    let chosen = match (named, all.as_slice()) {
        (None, [one]) => one,
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|it| it.account.name()).collect();
            return Err(CommandError::Usage(format!(
                "there are several accounts: {}\nhint: name one with --account NAME",
                listed(&names)
            )));
        }
        (Some(name), all) => {
            let named = all.iter().find(|it| it.account.name() == name);
            named.ok_or_else(|| no_account(name, all.iter().copied()))?
        }
    };
    let (api, is_one_of_several) = (ApiSettings::clone(chosen), all.len() > 1);
    let own = settings.servers.iter().filter(|it| it.id.account == api.account);
    let servers = own.cloned().collect();
    Ok((Settings { api, servers, more_accounts: Vec::new(), ..settings }, is_one_of_several))
}

/// The configuration that there is. One that is named must exist.
fn configuration(argument: &ConfigFile) -> Option<PathBuf> {
    let variable = std::env::var_os("SNAPRING_CONFIG").filter(|it| !it.is_empty());
    let is_named = argument.config.is_some() || variable.is_some();
    Some(locate(argument)).filter(|path| is_named || path.symlink_metadata().is_ok())
}

/// Asks for the servers, and for all snapshots. If the token may not list servers, those that have snapshots
/// are known. `is_check`: then that is not enough.
async fn ask(client: &Client, is_check: bool) -> Result<Account, CommandError> {
    let give_up_at = client.clock().now().uptime.saturating_add(PATIENCE);
    let scope = CallContext::until(give_up_at);
    let listed = match client.servers(&scope).await {
        Ok(servers) => Some(servers),
        Err(problem) if problem.outcome() == Some(Outcome::Forbidden) => None,
        Err(problem) => return Err(problem.into()),
    };
    client.serves(listed.as_ref().map_or(0, Vec::len));
    let snapshots = client.list_account(&scope).await.map(|(snapshots, _)| {
        let mut found: BTreeMap<ServerId, Lookalikes> = BTreeMap::new();
        for snapshot in &snapshots {
            found.entry(snapshot.server).or_default().add(&snapshot.name);
        }
        found
    });
    let Some(servers) = listed else {
        let snapshots = snapshots?;
        let text = "the token may not list servers (403), so only servers that have snapshots are known, and \
                    not their names. A server without snapshots is not shown";
        match is_check {
            true => CommandError::Failed(format!("{text}, and --missing cannot tell")).report(),
            false => console::warning(&format!("warning: {text}")),
        }
        let nameless = |id: &ServerId| AccountServer {
            id: *id,
            name: ForeignText::default(),
            status: None,
            location: None,
        };
        let servers = snapshots.keys().map(nameless).collect();
        return Ok(Account { servers, is_whole: false, snapshots: Some(snapshots) });
    };
    let snapshots = snapshots
        .inspect_err(|problem| {
            let text = format!("the snapshots are unknown: {}", problem.explained());
            CommandError::Failed(text).report();
        })
        .ok();
    Ok(Account { servers, is_whole: true, snapshots })
}

impl Account {
    fn snapshots_of(&self, server: &AccountServer) -> Option<&Lookalikes> {
        static NONE: Lookalikes = Lookalikes::none();
        let all = self.snapshots.as_ref()?;
        Some(all.get(&server.id).unwrap_or(&NONE))
    }
}

fn answer<'a>(
    settings: &Settings,
    account: &'a Account,
    uncovered: &[New<'a>],
) -> DiscoverAnswer<'a> {
    let row = |New { server, .. }: &New<'a>| UncoveredServer {
        server_id: server.id,
        name: &server.name,
        status: server.status.as_ref(),
        location: server.location.as_ref(),
        snapshots: account.snapshots_of(server),
    };
    let ids: HashSet<ServerId> = account.servers.iter().map(|it| it.id).collect();
    let is_missing = |id| account.is_whole && !ids.contains(&id);
    let missing = settings.servers.iter().filter(|server| is_missing(server.id));
    DiscoverAnswer {
        complete: account.is_whole,
        account_servers: account.servers.len(),
        uncovered: uncovered.iter().map(row).collect(),
        missing: missing
            .map(|server| NamedServer { id: server.id, name: server.name.clone(), account: None })
            .collect(),
    }
}

fn told(
    settings: &Settings,
    account: &Account,
    uncovered: &[New<'_>],
    coverage: &Coverage,
    is_one_of_several: bool,
) -> String {
    let count = readable::servers(account.servers.len());
    let whose = match is_one_of_several {
        true => format!("account {}", settings.api.account),
        false => "the account".to_owned(),
    };
    let known = match account.is_whole {
        true => format!("in {whose}"),
        false => format!("with snapshots in {whose}"),
    };
    let mut text = match (uncovered.len(), settings.servers.is_empty()) {
        _ if account.servers.is_empty() => format!("no servers {known}\n"),
        (0, _) => format!("{count} {known}: each has a policy\n"),
        (_, true) => format!("{count} {known}, none has a policy\n"),
        (without, false) => format!("{count} {known}, {without} without a policy\n"),
    };
    if let Some(finding) = coverage.missing_finding().filter(|_| account.is_whole) {
        text.push_str(&format!("{finding}\n"));
    }
    if uncovered.is_empty() {
        return text;
    }
    let mut table = table(&["id", "name", "status", "location", "snapshots"]);
    for New { server, name } in uncovered {
        let words = |it: Option<&ForeignText>| match it {
            Some(it) if !it.is_empty() => it.to_string(),
            _ => "-".to_owned(),
        };
        table.add_row([
            server.id.to_string(),
            match words(Some(&server.name)) {
                known if known == "-" || known == *name => known,
                known => format!("{known} (written as {name})"),
            },
            words(server.status.as_ref()),
            words(server.location.as_ref()),
            account.snapshots_of(server).map_or("unknown".to_owned(), ToString::to_string),
        ]);
    }
    text.push('\n');
    text.push_str(&lines(&table));
    text
}

/// Where a configuration is written to.
enum Target {
    StandardOutput,
    NewFile(PathBuf),
}

impl Target {
    /// # Errors
    /// [`CommandError::Usage`] if something is there. Nothing has been asked then.
    fn of(argument: &Path) -> Result<Self, CommandError> {
        if argument == Path::new("-") {
            return Ok(Self::StandardOutput);
        }
        if argument.symlink_metadata().is_ok() {
            return Err(exists(argument));
        }
        Ok(Self::NewFile(argument.to_owned()))
    }
}

fn exists(file: &Path) -> CommandError {
    CommandError::Usage(format!(
        "{} exists, and `discover` overwrites nothing\nhint: name a new file, or write to standard output with \
         --write -",
        file.display()
    ))
}

fn write(
    target: &Target,
    path: Option<&Path>,
    account: &Account,
    uncovered: Vec<New<'_>>,
) -> Result<(), CommandError> {
    if uncovered.is_empty() {
        console::note("nothing was written: each server of the account has a policy");
        return Ok(());
    }
    let servers: Vec<NewServer<'_>> = uncovered
        .into_iter()
        .map(|New { server, name }| NewServer {
            server,
            name,
            snapshots: account.snapshots_of(server),
        })
        .collect();
    let written = good_text(path, &servers)?;
    let file = match target {
        Target::StandardOutput => return console::print(&written),
        Target::NewFile(file) => file,
    };
    create(file, &written)?;
    let count = readable::servers(servers.len());
    console::note(&format!("created {} with {count}", file.display()));
    console::note(&next_step(path, file, &servers));
    Ok(())
}

/// A text that is good together with what is configured: this is tried, not assumed.
fn good_text(path: Option<&Path>, servers: &[NewServer<'_>]) -> Result<String, CommandError> {
    let groups: Vec<String> = (1..=GROUP_NAMES)
        .map(|nth| if nth == 1 { "discovered".to_owned() } else { format!("discovered-{nth}") })
        .collect();
    let forms: Vec<Form<'_>> = match path {
        None => vec![Form::Whole],
        Some(_) => {
            std::iter::once(Form::Servers).chain(groups.iter().map(|it| Form::Group(it))).collect()
        }
    };
    let mut last = None;
    for form in forms {
        let text = text(servers, form);
        match config::read_with(path, "the new file", &text) {
            Ok(_) => return Ok(text),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or(CommandError::Quiet(Exit::Trouble), CommandError::from))
}

/// Creates a file that was not there.
fn create(path: &Path, text: &str) -> Result<(), CommandError> {
    let failed = |problem: std::io::Error| {
        let hint = match problem.kind() {
            ErrorKind::NotFound => "\nhint: create its directory first",
            _ => "",
        };
        CommandError::Failed(format!("{} cannot be written: {problem}{hint}", path.display()))
    };
    let mut file = File::create_new(path).map_err(|problem| match problem.kind() {
        ErrorKind::AlreadyExists => exists(path),
        _ => failed(problem),
    })?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|problem| {
        // It is this command's own, and only a part of it is there.
        let _ = fs::remove_file(path);
        failed(problem)
    })
}

fn next_step(path: Option<&Path>, file: &Path, servers: &[NewServer<'_>]) -> String {
    let Some(path) = path else {
        return format!("next: `snapring check --config {}`", file.display());
    };
    let configured = config::read(path).map(|loaded| loaded.settings.servers).unwrap_or_default();
    let is_read = |new: &NewServer<'_>| configured.iter().any(|it| it.id == new.server.id);
    if servers.iter().all(is_read) {
        return "next: `snapring check`, then reload the daemon if one is running".to_owned();
    }
    let whole = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    format!(
        "next: add it to {path}: write include = [{whole:?}] at the beginning, or add the file to the list that \
         is there; then `snapring check`",
        path = path.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_to_be_there_meanwhile_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("new.toml");
        create(&file, "first").unwrap();
        let refused = create(&file, "second").unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
        assert_eq!(fs::read_to_string(&file).unwrap(), "first");
        let nowhere = directory.path().join("no/such/new.toml");
        let refused = create(&nowhere, "text").unwrap_err().to_string();
        assert!(refused.contains("no/such/new.toml cannot be written: No such file"), "{refused}");
        assert!(refused.contains("hint: create its directory first"), "{refused}");
    }
}
