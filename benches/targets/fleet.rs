//! A fleet whose servers are all due at once: the daemon and the scripts of `peers/`, each on a
//! sandbox of its own, and what it cost, in one table.
#![allow(clippy::disallowed_methods, reason = "the machine's own time is what is measured")]

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use comfy_table::Table;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use snapring_benches::account::{Account, KEEP};
use snapring_benches::daemon::Configured;
use snapring_benches::table::{machine, mib, table};
use snapring_benches::{binary, peer};

/// Measures what a rotation costs when all servers are due at once.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many servers; each number gives a row for each program
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000, 10_000])]
    servers: Vec<u64>,
    /// What is measured
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Who::Snapring, Who::Bash, Who::Python])]
    who: Vec<Who>,
    /// The scripts are not run with more servers
    #[arg(long, default_value_t = 1000)]
    scripts_up_to: u64,
    /// How long a snapshot takes
    #[arg(long, default_value = "3s..10s")]
    completion: String,
    /// How long an answer takes
    #[arg(long, default_value = "50ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// Requests of the daemon under way at once
    #[arg(long, default_value_t = 64)]
    in_flight: u32,
    /// Servers that a script rotates at once
    #[arg(long, default_value_t = 64)]
    at_once: u32,
    /// Between two looks of a script for its snapshot
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    poll: Duration,
    /// Rows that the sandbox puts on a page
    #[arg(long, default_value_t = 1000)]
    page_size: u32,
    /// How long a row may take
    #[arg(long, default_value = "30m", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Which snapring; without it, a release build is made
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    Snapring,
    Bash,
    Python,
}

/// What a program's run came to, beyond what the provider saw of it.
struct Run {
    /// When the servers were due.
    tick: Timestamp,
    cpu: Duration,
    idle_kib: Option<u64>,
    peak_kib: u64,
    sandbox_cpu: Duration,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let binary = binary::given_or_built(arguments.binary.as_deref())?;
    let mut table = table(&[
        "program",
        "servers",
        "rotated",
        "calls per rotation",
        "tick to first call, s",
        "tick to last create, s",
        "ideal, s",
        "tick to last delete, s",
        "CPU, s",
        "idle MiB",
        "peak MiB",
        "sandbox's CPU, s",
    ]);
    let measured = measure(&arguments, &binary, &mut table);
    println!("{}.", machine()?);
    println!(
        "Answers take {}, snapshots {}; pages of {} rows. snapring: {} requests at once; scripts: {} \
         servers at once, each looked at every {}.\n",
        humantime::format_duration(arguments.latency),
        arguments.completion,
        arguments.page_size,
        arguments.in_flight,
        arguments.at_once,
        humantime::format_duration(arguments.poll)
    );
    println!("{table}");
    ensure!(measured?, "not every server was rotated");
    Ok(())
}

/// Fills the table; whether every server was rotated.
fn measure(arguments: &Arguments, binary: &Path, table: &mut Table) -> Result<bool> {
    let mut all_rotated = true;
    for &servers in &arguments.servers {
        for &who in &arguments.who {
            if who != Who::Snapring && servers > arguments.scripts_up_to {
                continue;
            }
            eprintln!("{who:?}, {servers} servers");
            let account = account(arguments, binary, servers)?;
            let run = match who {
                Who::Snapring => snapring(arguments, binary, &account)?,
                Who::Bash => script(arguments, "rotate.sh", &account)?,
                Who::Python => script(arguments, "rotate.py", &account)?,
            };
            let (row, rotated) = row(arguments, who, &account, &run)?;
            table.add_row(row);
            all_rotated &= rotated;
        }
    }
    Ok(all_rotated)
}

fn account(arguments: &Arguments, binary: &Path, servers: u64) -> Result<Account> {
    let latency = format!("any:latency={}", humantime::format_duration(arguments.latency));
    let page_size = arguments.page_size.to_string();
    let options =
        ["--completion", &arguments.completion, "--page-size", &page_size, "--fault", &latency];
    Account::open(binary, servers, &options)
}

/// The daemon, from a little before a tick until every rotation has ended.
fn snapring(arguments: &Arguments, binary: &Path, account: &Account) -> Result<Run> {
    // The looks of the start are over by then, and not among what is measured.
    let lead = Duration::from_secs(10) + 3 * Duration::from_millis(account.servers);
    let tick = Timestamp::from_second((Timestamp::now() + lead).as_second())?;
    let schedule = tick.to_zoned(TimeZone::UTC).strftime("%S %M %H * * *").to_string();
    let api = format!("max_in_flight = {}\nsettle = \"2s\"", arguments.in_flight);
    let daemon = Configured::write(account, &schedule, &api)?.start(binary)?;
    let until_the_tick = tick.duration_since(Timestamp::now());
    let rest = until_the_tick - SignedDuration::from_secs(1);
    sleep(Duration::try_from(rest).context("it was ready too late for the tick")?);
    account.forget_calls()?;
    let (cpu, sandbox_cpu) = (daemon.process.cpu()?, account.process.cpu()?);
    let idle_kib = Some(daemon.process.resident_kib()?);
    daemon.wait_for_rotations(account.servers, arguments.patience)?;
    Ok(Run {
        tick,
        cpu: daemon.process.cpu()? - cpu,
        idle_kib,
        peak_kib: daemon.process.peak_kib()?,
        sandbox_cpu: account.process.cpu()? - sandbox_cpu,
    })
}

/// A script, from its start, which cron would make at the tick, to its end.
fn script(arguments: &Arguments, name: &str, account: &Account) -> Result<Run> {
    let sandbox_cpu = account.process.cpu()?;
    let tick = Timestamp::now();
    let ended =
        peer::start(name, account, arguments.at_once, arguments.poll)?.watch_to_the_end()?;
    if !ended.status.success() {
        eprintln!("{name}: {}", ended.status);
    }
    Ok(Run {
        tick,
        cpu: ended.cpu,
        idle_kib: None,
        peak_kib: ended.peak_kib,
        sandbox_cpu: account.process.cpu()? - sandbox_cpu,
    })
}

/// A row of the table, and whether every server was rotated.
fn row(
    arguments: &Arguments,
    who: Who,
    account: &Account,
    run: &Run,
) -> Result<(Vec<String>, bool)> {
    let tallies = account.tallies()?;
    let rotated = account.rotated_since(run.tick)?;
    let calls: u64 = tallies.values().map(|tally| tally.calls).sum();
    let after_tick = |instant: Timestamp| instant.duration_since(run.tick).as_secs_f64();
    let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let last = |operation| tallies.get(operation).map(|tally| after_tick(tally.last_at));
    let first = tallies.values().map(|tally| tally.first_at).min().map(after_tick);
    // One look at all, page after page, and the creates, each place taken again as soon as it is free.
    let pages = (account.servers * u64::from(KEEP)).div_ceil(u64::from(arguments.page_size));
    let rounds = pages + account.servers.div_ceil(u64::from(arguments.in_flight));
    let ideal = arguments.latency.as_secs_f64() * rounds as f64;
    let row = vec![
        match who {
            Who::Snapring => "snapring".to_owned(),
            Who::Bash => "bash, curl, jq".to_owned(),
            Who::Python => "Python, requests".to_owned(),
        },
        account.servers.to_string(),
        rotated.to_string(),
        format!("{:.2}", calls as f64 / account.servers as f64),
        seconds(first),
        seconds(last("create")),
        seconds(Some(ideal)),
        seconds(last("delete")),
        format!("{:.2}", run.cpu.as_secs_f64()),
        run.idle_kib.map_or("-".to_owned(), mib),
        mib(run.peak_kib),
        format!("{:.2}", run.sandbox_cpu.as_secs_f64()),
    ];
    Ok((row, rotated as u64 == account.servers))
}
