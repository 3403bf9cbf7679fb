//! `snapring config-schema`

use clap::Args;

use crate::cli::error::CommandError;
use crate::cli::{Exit, console};
use crate::config;

/// Print a JSON Schema of the configuration, for editors.
///
/// The package installs it as /usr/share/snapring/config.schema.json. An editor with TOML support uses it if
/// the first line of the file is: #:schema file:///usr/share/snapring/config.schema.json
#[derive(Debug, Args)]
pub(super) struct Arguments {}

/// Runs the command.
///
/// # Errors
/// [`CommandError::Quiet`] when nothing can be written.
pub(super) async fn run(_: Arguments) -> Result<Exit, CommandError> {
    console::print_json(&config::schema())?;
    Ok(Exit::Well)
}
