//! `snapring sandbox`

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::cli::error::CommandError;
use crate::cli::shutdown::StopSignals;
use crate::cli::{Exit, console, parse_span};
use crate::clock::Clock;
use crate::naming::{Prefix, ServerId, Tick};
use crate::provider::connect::seed;
use crate::sandbox::faults::{EFFECTS, Fault};
use crate::sandbox::http::{HELP, Sandbox, show_token};
use crate::sandbox::provider::{Options, Provider};

/// Run a simulated provider on loopback, to practise on.
///
/// It keeps state, follows the provider's rules, and fails in the ways that you ask for. Prints its address
/// and a token. Stop it with Ctrl-C.
#[derive(Debug, Args)]
#[command(after_long_help = help())]
pub(super) struct Arguments {
    /// A loopback address; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How many servers the account has; their ids begin at 101
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    servers: u64,
    /// Snapshots per server
    #[arg(long, value_name = "N", default_value_t = 5)]
    cap: u32,
    /// Managed snapshots that each server already has, one per day
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    filled: u32,
    /// How long a snapshot takes: a duration, or a range
    #[arg(long, value_name = "DURATION[..DURATION]", default_value = "3s..10s", value_parser = parse_spans)]
    completion: RangeInclusive<Duration>,
    /// How long a restore takes
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = parse_span)]
    restore: Duration,
    /// Rows per page of a listing
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    page_size: Option<u32>,
    /// Give listings as a bare array
    #[arg(long)]
    bare_array: bool,
    /// Inject a fault (can be repeated); --help explains
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
    /// Seed of random durations and chances, to repeat a run
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

fn help() -> String {
    format!(
        "A fault is OPERATION:EFFECT[,CONDITION...]\n\
         operations: list, create, restore, delete, servers, account, any\n\
         conditions: times=N, after=N, server=ID, chance=0.2\n\
         effects:\n{EFFECTS}\n\n\
         examples: --fault create:status=429,retry-after=30,times=2 --fault list:torn,chance=0.1\n\n{HELP}"
    )
}

fn parse_spans(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let (least, most) = (parse_span(least)?, parse_span(most)?);
    if most < least {
        return Err("the second duration is shorter than the first".to_owned());
    }
    Ok(least..=most)
}

/// Gives each server the snapshots that daily rotations would have left, the newest a day old.
fn fill(provider: &mut Provider, snapshots: u32, now: Timestamp) {
    let Ok(prefix) = "snapring".parse::<Prefix>() else { return };
    let servers: Vec<ServerId> = provider.servers().iter().map(|(id, _)| *id).collect();
    for days in (1..=snapshots).rev() {
        let tick = Tick::at(now - SignedDuration::from_hours(24 * i64::from(days)));
        for server in &servers {
            provider.add_snapshot(*server, &prefix.name(tick), "completed", tick.instant());
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let seed = arguments.seed.unwrap_or_else(seed);
    let token = SecretString::from(format!("vps_sandbox_{seed:016x}"));
    let options = Options {
        cap: arguments.cap,
        completion: arguments.completion,
        restore: arguments.restore,
        page_size: arguments.page_size.and_then(|rows| usize::try_from(rows).ok()),
        bare_array: arguments.bare_array,
        ..Options::new(arguments.servers, token, seed)
    };
    let shutdown = StopSignals::listen()?.asked;
    let clock = Clock::system();
    let now = clock.now().wall;
    let sandbox = Sandbox::start(options, clock, arguments.listen).await.map_err(|problem| {
        CommandError::Usage(format!("cannot listen on {}: {problem}", arguments.listen))
    })?;
    fill(&mut sandbox.provider(), arguments.filled, now);
    for fault in arguments.faults {
        sandbox.provider().add_fault(fault);
    }
    let shown: Vec<String> = sandbox
        .provider()
        .servers()
        .iter()
        .take(10)
        .map(|(id, name)| format!("{id} ({name})"))
        .collect();
    let more = if arguments.servers > 10 { ", …" } else { "" };
    console::print(&format!(
        "base_url = \"http://{address}/api/v1/\"\nSNAPRING_TOKEN={token}\nservers: {servers}{more}\n\
         faults and state: curl http://{address}/_sandbox/",
        address = sandbox.address(),
        token = show_token(&sandbox),
        servers = shown.join(", ")
    ))?;
    shutdown.cancelled().await;
    Ok(Exit::Well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_sandbox_has_what_daily_rotations_would_have_left() {
        let token = SecretString::from("vps_test");
        let mut provider = Provider::new(Options::new(2, token, 1));
        let now = "2026-11-23T03:00:00.5Z".parse().unwrap();
        fill(&mut provider, 2, now);
        for server in [ServerId::new(101), ServerId::new(102)] {
            let rows = provider.snapshots(server, now);
            let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
            assert_eq!(names, ["snapring-20261121T030000Z", "snapring-20261122T030000Z"]);
            assert!(rows.iter().all(|row| row.status == "completed"));
        }
    }
}
