//! `snapring man`

mod commands;
mod configuration;
mod page;

use std::path::PathBuf;

use clap::Args;

use crate::cli::man::page::ManPage;
use crate::cli::{Exit, console};

/// Print a manual page as man reads it; for packages.
///
/// Packages have the pages installed already. Without one: snapring man | man -l -
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which one: snapring, snapring.toml, or a command
    #[arg(value_name = "PAGE", default_value = "snapring")]
    page: String,
    /// Write all pages into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    directory: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Usage`] when there is no such page, [`Exit::Trouble`] when one cannot be written.
pub fn run(arguments: Arguments) -> Result<Exit, Exit> {
    let pages = pages();
    let Some(directory) = arguments.directory else {
        let wanted = [arguments.page.clone(), format!("snapring-{}", arguments.page)];
        let Some(page) = pages.iter().find(|page| wanted.contains(&page.name)) else {
            let known: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
            console::error(&format!(
                "there is no page {:?}\nhint: there are {}",
                arguments.page,
                known.join(", ")
            ));
            return Err(Exit::Usage);
        };
        console::print(&page.text)?;
        return Ok(Exit::Well);
    };
    for page in pages {
        let path = directory.join(page.file());
        std::fs::write(&path, page.text).map_err(|problem| {
            console::error(&format!("{}: {problem}", path.display()));
            Exit::Trouble
        })?;
    }
    Ok(Exit::Well)
}

/// All of them.
fn pages() -> Vec<ManPage> {
    let mut pages = commands::pages();
    pages.push(configuration::page());
    pages
}

#[cfg(test)]
mod tests;
