//! `snapring run`

use std::sync::Arc;

use clap::Args;
use tokio_util::task::AbortOnDropHandle;

use crate::activity::Activities;
use crate::cli::error::CommandError;
use crate::cli::setup::Setup;
use crate::cli::shutdown::catch_signals;
use crate::cli::{ConfigFile, Exit};
use crate::daemon::{self, Process, Shutdown};
use crate::notify::http::HttpPost;
use crate::observe::hosts::Hosts;
use crate::observe::listener::listen;
use crate::provider::connect::connect;
use crate::rotation::hooks::Processes;

/// Run the daemon: rotate each server on its schedule.
///
/// TERM or INT: start nothing new, let API calls under way finish, exit with 0; a second signal exits at
/// once. HUP: reload the configuration, and keep the old one if the new one is invalid. USR1: rotate every
/// enabled server now.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

/// Whether this is the first process of a container or of the machine, which inherits what other
/// processes leave behind.
fn is_first_process() -> bool {
    std::process::id() == 1
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let signals = catch_signals()?;
    let Setup { path, settings, clock, .. } = Setup::read_as_daemon(&arguments.config)?;
    let hooks = Processes::new(clock.clone());
    let _reaping = is_first_process().then(|| {
        let (children, clock) = (hooks.children(), clock.clone());
        AbortOnDropHandle::new(tokio::spawn(async move { children.reap_others(&clock).await }))
    });
    let dependencies = Process {
        configuration: path,
        variable: |name| std::env::var_os(name),
        signals,
        connect: Box::new({
            let clock = clock.clone();
            // Nobody watches a daemon: it has a log.
            move |api| connect(api, clock.clone(), Activities::default())
        }),
        hooks: Arc::new(hooks),
        post: Arc::new(HttpPost::new(clock.clone())),
        observe: Box::new({
            let (clock, scope) = (clock.clone(), settings.http.metrics);
            move |address, hosts, view| {
                Box::pin(listen(address, Hosts::new(hosts), scope, view, clock))
            }
        }),
        clock,
    };
    match daemon::run(settings, dependencies).await {
        Ok(Shutdown::Whole) => Ok(Exit::Well),
        Ok(Shutdown::BrokenOff) => Err(CommandError::Quiet(Exit::Trouble)),
        // A daemon's word is its log.
        Err(problem) => {
            tracing::error!(event = "daemon", "{problem}");
            let is_configuration = problem.is_configuration();
            let exit = if is_configuration { Exit::Configuration } else { Exit::Trouble };
            Err(CommandError::Quiet(exit))
        }
    }
}
