//! `snapring history`

use std::io;

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use crate::cli::error::CommandError;
use crate::cli::setup::Setup;
use crate::cli::table::{lines, table};
use crate::cli::{ConfigArgument, Exit, console};
use crate::naming::ServerId;
use crate::readable::span;
use crate::regular_file;
use crate::report::PastRotation;
use crate::report::RotationOutcome;
use crate::store::place::Place;
use crate::store::{self, HistoryFilter};

/// How long a person waits for a database that may be away.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);

/// Show past rotations, the newest first.
///
/// Reads what the daemon keeps (see [store] in snapring.toml(5)), whether it runs or not, and asks
/// the provider nothing. Rotations of the last 90 days are there.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Ids or names of servers, of today's configuration or of the past; none: all
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,
    /// Only those that ended so: rotated, adopted, skipped, blocked or failed; may be given again
    #[arg(long, value_name = "OUTCOME", value_parser = parse_outcome, value_delimiter = ',')]
    outcome: Vec<RotationOutcome>,
    /// Only those that ended in this span of time, say 7d, or since this time, say
    /// 2026-11-24T03:00:00Z
    #[arg(long, value_name = "SPAN|TIME", value_parser = parse_since)]
    since: Option<Since>,
    /// At most so many; 0: all
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

/// Where the past begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Ago(SignedDuration),
    Instant(Timestamp),
}

fn parse_outcome(word: &str) -> Result<RotationOutcome, String> {
    RotationOutcome::parse(word).ok_or_else(|| {
        let known = RotationOutcome::ALL.map(RotationOutcome::as_str);
        format!("a rotation ends as one of {}", known.join(", "))
    })
}

fn parse_since(text: &str) -> Result<Since, String> {
    if let Ok(instant) = text.parse() {
        return Ok(Since::Instant(instant));
    }
    let ago = humantime::parse_duration(text).ok();
    ago.and_then(|ago| SignedDuration::try_from(ago).ok()).map(Since::Ago).ok_or_else(|| {
        "neither a span of time nor a time; write 90m, 26h or 7d, or 2026-11-24T03:00:00Z"
            .to_owned()
    })
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let setup = Setup::read(&arguments.config)?;
    let place = setup.store();
    if let Some(text) = unreadable(&place) {
        return Err(CommandError::Failed(text));
    }
    let filter = filter(&arguments, &setup);
    let read = store::read(&place, &filter);
    let answer = setup.clock.timeout(PATIENCE, read).await;
    let read = answer.ok_or_else(|| CommandError::Failed(format!("{place} gave no answer")))?;
    let rotations = read.map_err(|problem| {
        CommandError::Failed(match problem.is_empty_store() {
            true => format!("{place} holds no history: neither the daemon nor `snapring rotate` has written to it yet"),
            false => format!("cannot read the history in {place}: {problem}"),
        })
    })?;
    if arguments.json {
        console::print_json(&rotations)?;
    } else if rotations.is_empty() {
        console::note(&format!("no such rotation in {place}"));
    } else {
        console::print(&told(&rotations))?;
    }
    Ok(Exit::Well)
}

/// The names and ids that were given. One that is in the configuration is found under the names that
/// it had before, too.
fn filter(arguments: &Arguments, setup: &Setup) -> HistoryFilter {
    let now = setup.clock.now().wall;
    let mut filter = HistoryFilter {
        outcomes: arguments.outcome.clone(),
        since: arguments.since.map(|since| match since {
            Since::Instant(instant) => instant,
            Since::Ago(ago) => now.saturating_sub(ago).unwrap_or(Timestamp::MIN),
        }),
        limit: (arguments.limit > 0).then_some(arguments.limit),
        ..HistoryFilter::default()
    };
    for given in &arguments.servers {
        let servers = &setup.settings.servers;
        let number = given.parse().map(ServerId).ok();
        let known = servers.iter().find(|server| server.name == *given).map(|server| server.id);
        match known.or(number) {
            Some(id) => filter.ids.push(id),
            None => filter.names.push(given.clone()),
        }
    }
    filter
}

/// Why there is nothing to be read there, with what to do.
fn unreadable(place: &Place) -> Option<String> {
    let file = match place {
        Place::Server(_) => return None,
        Place::Memory => {
            return Some(
                "the history is in the daemon's memory only, and ends with it\n\
                 hint: to keep it, put this into the configuration and start the daemon again:\n\
                 [store]\n\
                 url = \"sqlite:///var/lib/snapring/snapring.db\""
                    .to_owned(),
            );
        }
        Place::File(file) => file,
    };
    let problem = regular_file::open(file).err()?;
    let hint = match problem.kind() {
        io::ErrorKind::PermissionDenied => "\nhint: run this as root, or as the service's user",
        io::ErrorKind::NotFound => {
            "\nhint: the daemon creates it when it starts, `snapring rotate` with its first rotation; with \
             another configuration, or without systemd, it is elsewhere: see [store] in snapring.toml(5)"
        }
        _ => "",
    };
    Some(format!("cannot read the history in {place}: {problem}{hint}"))
}

fn told(rotations: &[PastRotation]) -> String {
    let header = ["when", "server", "tick", "outcome", "made", "deleted", "took", "reason"];
    let mut table = table(&header);
    for it in rotations {
        table.add_row([
            it.ended_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            it.server.clone(),
            it.tick.to_string(),
            it.outcome.as_str().to_owned(),
            it.created.clone().unwrap_or_else(|| "-".to_owned()),
            if it.deleted.is_empty() { "-".to_owned() } else { it.deleted.join(" ") },
            took(it.duration_ms),
            it.reason.clone().unwrap_or_default(),
        ]);
    }
    lines(&table)
}

fn took(duration_ms: u64) -> String {
    match i64::try_from(duration_ms) {
        Ok(ms) if ms >= 1000 => span(SignedDuration::from_millis(ms)),
        _ => format!("{duration_ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_begins_at_a_time_or_a_span_ago() {
        assert_eq!(parse_since("7d"), Ok(Since::Ago(SignedDuration::from_hours(7 * 24))));
        let instant = "2026-11-24T03:00:00Z";
        assert_eq!(parse_since(instant), Ok(Since::Instant(instant.parse().unwrap())));
        assert!(parse_since("yesterday").unwrap_err().contains("7d"));
        assert!(parse_outcome("faild").unwrap_err().contains("failed"));
    }

    #[test]
    fn what_cannot_be_read_says_what_to_do() {
        assert!(unreadable(&Place::Memory).unwrap().contains("[store]"));
        let directory = tempfile::tempdir().unwrap();
        let nothing = Place::File(directory.path().join("none.db"));
        assert!(unreadable(&nothing).unwrap().contains("hint: the daemon creates it"));
    }

    #[test]
    fn a_rotation_is_one_line() {
        let rotation = PastRotation {
            ended_at: "2026-11-24T03:04:10.9Z".parse().unwrap(),
            server_id: ServerId(7),
            server: "web".to_owned(),
            tick: crate::naming::Tick::at("2026-11-24T03:00:00Z".parse().unwrap()),
            outcome: RotationOutcome::Failed,
            created: Some("snapring-20261124T030000Z".to_owned()),
            deleted: Vec::new(),
            api_calls: 3,
            duration_ms: 250_900,
            steps: Vec::new(),
            reason: Some("it did not complete".to_owned()),
            cause: None,
        };
        let text = told(&[rotation]);
        assert_eq!(
            text.lines().nth(1).unwrap(),
            "2026-11-24 03:04:10Z  web     2026-11-24T03:00:00Z  failed   \
             snapring-20261124T030000Z  -        4m 10s  it did not complete"
        );
    }
}
