//! `snapring create`

use clap::Args;

use crate::cli::by_hand::{self, CreateProgress, OfAccount, Wanted};
use crate::cli::error::CommandError;
use crate::cli::manual::Recording;
use crate::cli::recorder::{self, Recorder};
use crate::cli::setup::Setup;
use crate::cli::shutdown::StopSignals;
use crate::cli::{ConfigArgument, Exit, completions, console, usual};
use crate::manual::{ManualAction, ManualOutcome};
use crate::naming::{ServerId, is_name_character};
use crate::restore::describing_broken;
use crate::rotation::lock::Broken;

/// Create a snapshot by hand and wait until it is completed.
///
/// Rotations count it and never delete it. If a failed restore has left the server broken, the command says so, and
/// `restore latest` never takes the snapshot. The history and the journal record who has created it.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Id or name of a server in the configuration
    #[arg(value_name = "SERVER", add = completions::servers())]
    server: String,
    /// Its name: letters, digits, hyphens, underscores
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// Do not wait until it is completed
    #[arg(long)]
    no_wait: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    of_account: OfAccount,
    #[command(flatten)]
    config: ConfigArgument,
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a name has at least one character".to_owned());
    }
    match text.chars().find(|character| !is_name_character(*character)) {
        Some(bad) => Err(format!("{bad:?} is not allowed: letters, digits, hyphens, underscores")),
        None => Ok(text.to_owned()),
    }
}

fn of_broken_server(setup: &Setup, server: ServerId, broken: &Broken) -> String {
    format!(
        "warning: a restore of {} failed, and the provider shows the server as {:?}. The new snapshot contains the \
         broken server. `snapring restore latest` never takes it",
        by_hand::called(setup, server),
        broken.state
    )
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let setup = Setup::read(&arguments.config)?.covered().await?;
    let server = setup.find(&arguments.server, arguments.of_account.name())?.id;
    let client = setup.client_of(server)?;
    let Arguments { name, description, no_wait, json, .. } = arguments;
    let stop = StopSignals::listen()?;
    let asked = stop.asked.clone();
    let progress = CreateProgress::default();
    by_hand::check_name(&setup, server, &name)?;
    let servers: Vec<_> = setup.server(server).cloned().into_iter().collect();
    usual::look_up(&setup, &servers);
    let recorder = Recorder::begin(&setup);
    let wanted = (None, name.clone());
    let recording = Recording::begin(&setup, &recorder, ManualAction::Create, server, wanted).await;
    let create = async {
        let exclusion = setup.exclusion("create")?;
        let claim = by_hand::claim(&setup, &exclusion, server, asked.clone()).await?;
        if let Some((_, text)) = by_hand::restoring(&setup, &client, &claim, server).await {
            return Err(CommandError::Failed(text));
        }
        let description = match by_hand::broken(&setup, &client, &claim).await {
            None => description,
            Some(broken) => {
                console::warning(&of_broken_server(&setup, server, &broken));
                describing_broken(&description)
            }
        };
        let wanted = Wanted { server, name: &name, description: &description, wait: !no_wait };
        by_hand::create(&setup, &client, &claim, &wanted, asked, &progress).await
    };
    let made = match stop.unless_at_once(create).await {
        Ok(made) => made,
        Err(broken_off) => {
            console::note(&format!("interrupted: {}", progress.words(&name)));
            Err(broken_off)
        }
    };
    let (outcome, id) = progress.outcome();
    id.into_iter().for_each(|id| recording.is_of(id));
    let (outcome, reason) = match &made {
        Ok(_) if no_wait => (outcome, None),
        Ok(_) => (ManualOutcome::Done, None),
        Err(problem) => (outcome, problem.reason(|| progress.words(&name))),
    };
    recording.is(&setup, &recorder, outcome, reason);
    let is_recorded = recorder.end().await;
    let made = made?;
    if json {
        console::print_json(&made)?;
    } else {
        console::print(&format!("{} {} {}", made.id, made.name, made.status))?;
    }
    recorder::fails_unless(is_recorded)
}
