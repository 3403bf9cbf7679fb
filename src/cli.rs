//! The command line: one file a command, and what they share.

mod at;
mod by_hand;
mod check;
mod completions;
mod config_schema;
mod console;
mod create;
mod delete;
mod demo;
mod discover;
mod error;
mod exit;
mod health;
mod history;
mod list;
mod man;
mod manual;
mod notify_test;
mod plan;
mod progress;
mod recorder;
mod restore;
mod resumed;
mod rotate;
mod run;
mod sandbox;
mod selection;
mod sentence;
mod setup;
mod shutdown;
mod simulate;
mod status;
mod table;
mod usual;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::error::CommandError;
use crate::cli::exit::EXIT_CODES;
pub(crate) use crate::cli::exit::Exit;
pub use crate::cli::status::exit_codes as exit_codes_of_status;
use crate::foreign;
use crate::provider::proxy;
use crate::telemetry;

/// Takes snapshots of VPS.org servers on a schedule and deletes its own old ones.
///
/// At each tick of a server's schedule, snapring creates a named snapshot, waits until it is completed, and
/// deletes those that `keep` no longer needs. So the server stays under the provider's limit. It deletes only
/// snapshots that it created.
#[derive(Debug, Parser)]
#[command(
    name = "snapring",
    version,
    after_help = after_help()
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    Discover(discover::Arguments),
    Plan(plan::Arguments),
    Simulate(simulate::Arguments),
    Rotate(rotate::Arguments),
    List(list::Arguments),
    Status(status::Arguments),
    Health(health::Arguments),
    History(history::Arguments),
    Create(create::Arguments),
    Delete(delete::Arguments),
    Restore(restore::Arguments),
    Resumed(resumed::Arguments),
    NotifyTest(notify_test::Arguments),
    Sandbox(sandbox::Arguments),
    Demo(demo::Arguments),
    Completions(completions::Arguments),
    ConfigSchema(config_schema::Arguments),
    Man(man::Arguments),
}

/// What a newcomer types first.
const EXAMPLES: &[(&str, &str)] = &[
    ("snapring demo", "watch three servers rotate within seconds; nothing needed"),
    ("snapring discover", "list the servers of the account that have no policy"),
    ("snapring check", "read the configuration, show the next ticks"),
    ("snapring plan", "what the next rotation would create and delete, and why"),
    ("snapring simulate", "what your policies keep over the next 90 days"),
];

fn after_help() -> String {
    let examples: String =
        EXAMPLES.iter().map(|(command, text)| format!("  {command:28} {text}\n")).collect();
    let codes: Vec<String> =
        EXIT_CODES.iter().map(|(code, text)| format!("{code} {text}")).collect();
    format!("Start with:\n{examples}\nExit codes: {}.", codes.join("; "))
}

/// A span of time in an argument.
fn parse_span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is not a duration; write for example 26h or 90s"))
}

/// Which configuration.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// The configuration file [default: $SNAPRING_CONFIG, else /etc/snapring/config.toml]
    #[arg(long, short, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
}

/// What most commands that run once have.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgument {
    #[command(flatten)]
    pub file: ConfigFile,
    /// Show the log on the terminal too: each call to the provider and what became of it
    #[arg(long, short)]
    pub verbose: bool,
}

impl Command {
    async fn run(self) -> Result<Exit, CommandError> {
        match self {
            Self::Run(arguments) => run::run(arguments).await,
            Self::Check(arguments) => check::run(arguments).await,
            Self::Discover(arguments) => discover::run(arguments).await,
            Self::Plan(arguments) => plan::run(arguments).await,
            Self::Simulate(arguments) => simulate::run(arguments).await,
            Self::Rotate(arguments) => rotate::run(arguments).await,
            Self::List(arguments) => list::run(arguments).await,
            Self::Status(arguments) => status::run(arguments).await,
            Self::Health(arguments) => health::run(arguments).await,
            Self::History(arguments) => history::run(arguments).await,
            Self::Create(arguments) => create::run(arguments).await,
            Self::Delete(arguments) => delete::run(arguments).await,
            Self::Restore(arguments) => restore::run(arguments).await,
            Self::Resumed(arguments) => resumed::run(arguments).await,
            Self::NotifyTest(arguments) => notify_test::run(arguments).await,
            Self::Sandbox(arguments) => sandbox::run(arguments).await,
            Self::Demo(arguments) => demo::run(arguments).await,
            Self::Completions(arguments) => completions::run(arguments).await,
            Self::ConfigSchema(arguments) => config_schema::run(arguments).await,
            Self::Man(arguments) => man::run(arguments).await,
        }
    }
}

impl Command {
    /// Whether a person may be told what it waits for. Not if it writes for programs, nor if it lasts and says
    /// itself what happens.
    fn shows_progress(&self, arguments: &ArgMatches) -> bool {
        let lasts = matches!(self, Self::Run(_) | Self::Sandbox(_) | Self::Demo(_));
        let is_for_programs = |arguments: &ArgMatches| {
            let is_set = |flag| matches!(arguments.try_get_one::<bool>(flag), Ok(Some(true)));
            // What runs a check may take standard error for its answer. A person at a terminal waits.
            let is_check = arguments.try_contains_id("max_age").unwrap_or_default();
            let is_check = is_check && !std::io::stderr().is_terminal();
            is_set("json") || is_set("quiet") || is_set("watch") || is_check
        };
        !lasts && !arguments.subcommand().is_some_and(|(_, of_it)| is_for_programs(of_it))
    }
}

/// How long standard error is waited for: by a daemon, which must exit even if its log is not read, and
/// after a panic.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The standard library's message is written by the thread that panics, which would wait until it is read.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = Backtrace::capture();
        let text = format!("thread '{}' {panic}", thread.name().unwrap_or("<unnamed>"));
        console::note(&match backtrace.status() {
            BacktraceStatus::Captured => format!("{text}\n{backtrace}"),
            _ => text,
        });
        telemetry::flush(Some(LAST_LINES));
    }));
}

/// Masks the secrets that snapring, or a library of it, takes from the environment. Hooks have the
/// environment too, and may show it. The token is masked where it is read.
fn mask_the_environment(variable: impl Fn(&str) -> Option<OsString>) {
    if let Some(password) = variable("PGPASSWORD").and_then(|it| it.into_string().ok()) {
        foreign::mask(&password, "[password]");
    }
    proxy::mask_passwords(variable);
}

/// Runs the command that the arguments name, and says why it could not go on. clap itself ends the
/// process with 2 on wrong usage.
#[must_use]
pub fn main() -> ExitCode {
    report_panics();
    // The environment and the memory may hold the token: other processes of this user cannot read them.
    let _ = nix::sys::prctl::set_dumpable(false);
    mask_the_environment(|name| std::env::var_os(name));
    completions::answer();
    let arguments = Cli::command().get_matches();
    let Cli { command } = Cli::from_arg_matches(&arguments).unwrap_or_else(|error| error.exit());
    let is_daemon = matches!(command, Command::Run(_));
    let shows_progress = command.shows_progress(&arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match &runtime {
        Ok(runtime) => runtime.block_on(async {
            let _shown = shows_progress.then(progress::show);
            command.run().await
        }),
        Err(problem) => Err(CommandError::Failed(format!("cannot start: {problem}"))),
    };
    let exit = ended.unwrap_or_else(|error| {
        error.report();
        error.exit()
    });
    if !is_daemon {
        // A person may read it in a pager. A second signal still ends the command: the runtime is there.
        telemetry::flush(None);
    }
    if let Ok(runtime) = runtime {
        // Time for a call that is broken off to leave its event. A hook's reader or a resolver thread
        // may still block; the work is done.
        runtime.shutdown_timeout(Duration::from_millis(300));
    }
    telemetry::flush(Some(LAST_LINES));
    exit.into()
}
