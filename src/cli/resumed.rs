//! `snapring resumed`

use clap::Args;

use crate::cli::error::CommandError;
use crate::cli::setup::Setup;
use crate::cli::{ConfigArgument, Exit, completions, console};
use crate::rotation::lock::Quiesced;

/// Record that you have resumed a server by hand, because its `after` hook did not.
///
/// A server may stay quiesced if snapring is killed after the `before` hook, and the `after` hook then fails or is not
/// configured any more. Its rotations fail until an `after` hook succeeds, or until you resume the server by hand and
/// run this command. `status` shows the trouble until the next successful rotation. If the server is not in the
/// configuration any more, use its old name or its id.
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
            console::note(&format!(
                "{wanted} is not recorded as quiesced, so there is nothing to do"
            ));
            Ok(Exit::Well)
        }
        [Quiesced { server_id, server, snapshot, .. }] => {
            let claim = exclusion
                .claim(*server_id)
                .map_err(|busy| CommandError::Failed(format!("{server}: {busy}")))?;
            claim.is_awake().await;
            console::print(&format!(
                "{server} ({}) is now recorded as resumed. The before hook of {snapshot} had quiesced it. `status` shows the trouble until the next successful rotation",
                server_id.number
            ))?;
            Ok(Exit::Well)
        }
        _ => Err(CommandError::Usage(format!(
            "{wanted} is a server in several accounts; use its name"
        ))),
    }
}
