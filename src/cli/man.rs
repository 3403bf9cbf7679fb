//! `snapring man`

mod commands;
mod configuration;
mod page;

use std::path::PathBuf;

use clap::Args;

use crate::cli::error::CommandError;
use crate::cli::man::page::ManPage;
use crate::cli::{Exit, console};

/// Print a manual page in the format of man.
///
/// The package installs all pages. Without it: snapring man | man -l -
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which page: snapring, snapring.toml, or a command
    #[arg(value_name = "PAGE", default_value = "snapring")]
    page: String,
    /// Write all pages into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    directory: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// [`CommandError::Usage`] if there is no such page, [`CommandError::Failed`] if one cannot be
/// written.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let pages = pages();
    let Some(directory) = arguments.directory else {
        let wanted = [arguments.page.clone(), format!("snapring-{}", arguments.page)];
        let Some(page) = pages.iter().find(|page| wanted.contains(&page.name)) else {
            let known: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
            return Err(CommandError::Usage(format!(
                "there is no page {:?}\nhint: the pages are {}",
                arguments.page,
                known.join(", ")
            )));
        };
        console::print(&page.text)?;
        return Ok(Exit::Well);
    };
    for page in pages {
        let path = directory.join(page.file());
        std::fs::write(&path, page.text)
            .map_err(|problem| CommandError::Failed(format!("{}: {problem}", path.display())))?;
    }
    Ok(Exit::Well)
}

/// All pages.
fn pages() -> Vec<ManPage> {
    let mut pages = commands::pages();
    pages.push(configuration::page());
    pages
}

#[cfg(test)]
mod tests;
