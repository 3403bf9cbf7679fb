//! `snapring resumed`

use clap::Args;

use crate::cli::error::CommandError;
use crate::cli::setup::Setup;
use crate::cli::{ConfigArgument, Exit, completions, console};
use crate::rotation::lock::Quiesced;

/// Say that you have resumed a server whose `after` hook is owed.
///
/// If snapring was killed after a `before` hook and the `after` hook fails or is gone, the server may still be
/// quiesced. Its rotations then end as failed until an `after` hook succeeds. Resume the server by hand, and
/// run this. The next rotation ends the trouble that `status` shows. A server that is not in the configuration any
/// more has its name or id from before.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The id or name of the server
    #[arg(value_name = "SERVER", add = completions::servers())]
    server: String,
    #[command(flatten)]
    config: ConfigArgument,
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let setup = Setup::read(&arguments.config)?;
    let exclusion = setup.exclusion("resumed")?;
    let wanted = &arguments.server;
    let is_it = |it: &Quiesced| it.server == *wanted || it.server_id.number.to_string() == *wanted;
    let mut found = exclusion.all_quiesced().await;
    found.retain(is_it);
    match found.as_slice() {
        [] => {
            console::note(&format!("{wanted}: no after hook is owed, so there is nothing to do"));
            Ok(Exit::Well)
        }
        [Quiesced { server_id, server, snapshot, .. }] => {
            let claim = exclusion
                .claim(*server_id)
                .map_err(|busy| CommandError::Failed(format!("{server}: {busy}")))?;
            claim.is_awake().await;
            console::print(&format!(
                "{server} ({}): noted as resumed after the before hook of {snapshot}",
                server_id.number
            ))?;
            Ok(Exit::Well)
        }
        _ => Err(CommandError::Usage(format!(
            "{wanted} is a server in several accounts; use its name"
        ))),
    }
}
