//! `snapring notify-test`

use clap::Args;
use futures_util::future::join_all;
use serde::Serialize;

use crate::call::Outcome;
use crate::cli::error::CommandError;
use crate::cli::setup::Setup;
use crate::cli::table::{lines, table};
use crate::cli::{ConfigArgument, Exit, console, progress};
use crate::clock::Clock;
use crate::notify::NotifySettings;
use crate::notify::delivery::attempt;
use crate::notify::http::HttpPost;
use crate::notify::instance::Instance;
use crate::notify::message::Bundle;

/// Send a test notice to each `[[notify]]` of the configuration, and show the answers.
///
/// Only the host of an address is shown. A healthchecks check logs the test without changing its state. Exits
/// with 1 unless every notice was accepted.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Serialize)]
struct Row {
    to: String,
    format: &'static str,
    on: Vec<&'static str>,
    outcome: Outcome,
    status: Option<u16>,
    answer: String,
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let setup = Setup::read(&arguments.config)?;
    let targets = &setup.settings.notify;
    if targets.is_empty() {
        return Err(CommandError::Failed(format!(
            "there is no [[notify]] in {}\nhint: write one with url = \"https://…\"; \
             snapring.toml(5) says more",
            setup.path.display()
        )));
    }
    let post = HttpPost::new(setup.clock.clone());
    let sends = progress::doing("sending the test notices");
    let rows = join_all(targets.iter().map(|target| test(&post, &setup.clock, target))).await;
    drop(sends);
    if arguments.json {
        console::print_json(&rows)?;
    } else {
        console::print(&tell(&rows))?;
    }
    let good = rows.iter().all(|row| row.outcome == Outcome::Ok);
    Ok(if good { Exit::Well } else { Exit::Trouble })
}

async fn test(post: &HttpPost, clock: &Clock, target: &NotifySettings) -> Row {
    let instance = Instance::of(target.instance.as_deref());
    let message = target.format.message(&target.url, &Bundle::test(clock.now().wall), &instance);
    let tried = attempt(post, clock, target.format, &target.url, &message).await;
    Row {
        to: target.url.to_string(),
        format: target.format.as_str(),
        on: target.on.iter().map(|event| event.as_str()).collect(),
        outcome: tried.outcome,
        status: tried.status,
        answer: tried.words,
    }
}

fn tell(rows: &[Row]) -> String {
    let mut table = table(&["notify", "format", "on", "test", "answer"]);
    for row in rows {
        table.add_row([
            row.to.clone(),
            row.format.to_owned(),
            row.on.join(" "),
            if row.outcome == Outcome::Ok { "delivered" } else { "not delivered" }.to_owned(),
            row.answer.clone(),
        ]);
    }
    lines(&table)
}
