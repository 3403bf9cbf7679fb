//! What a daemon needs while it has nothing to do, and how quickly it starts, beside what it may need.
#![allow(clippy::disallowed_methods, reason = "the machine's own time is what is measured")]

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use snapring_benches::account::Account;
use snapring_benches::binary;
use snapring_benches::daemon::Configured;
use snapring_benches::table::{machine, mib, table};

/// Measures the footprint of a daemon that has nothing to do.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many servers few are
    #[arg(long, default_value_t = 10)]
    few: u64,
    /// How many servers many are
    #[arg(long, default_value_t = 100_000)]
    many: u64,
    /// How many servers there are when the start is timed
    #[arg(long, default_value_t = 10_000)]
    starting: u64,
    /// How long idle CPU is measured
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    idle: Duration,
    /// Which snapring; without it, a release build is made
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

const FIRST_MINUTE: Duration = Duration::from_secs(70);

/// A daemon that waits for a tick that is far away.
struct Idle {
    /// After it has looked at each server once, and has been idle for a while.
    resident_kib: u64,
    /// Of one core, in percent.
    cpu: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let binary = binary::given_or_built(arguments.binary.as_deref())?;
    let Arguments { few, many, starting, .. } = arguments;
    let mut table = table(&["what", "at most", "measured"]);
    let mut tell = |what: String, target: &str, measured: String| {
        eprintln!("{what}: {measured}");
        table.add_row([what, target.to_owned(), measured]);
    };
    tell("binary".to_owned(), "12 MiB", format!("{} MiB", mib(binary.metadata()?.len() / 1024)));
    let ready = median_of(5, || ready_after(&binary, starting))?;
    let what = format!("from exec to ready, {starting} servers");
    tell(what, "300 ms", format!("{} ms", ready.as_millis()));
    let check = median_of(3, || check(&binary, many))?;
    let what = format!("`check` of {many} servers");
    tell(what, "2 s", format!("{:.2} s", check.as_secs_f64()));

    let with_few = idle(&arguments, &binary, few)?;
    let with_many = idle(&arguments, &binary, many)?;
    let what = format!("idle memory with {few} servers");
    tell(what, "15 MiB", format!("{} MiB", mib(with_few.resident_kib)));
    let more_kib = with_many.resident_kib as f64 - with_few.resident_kib as f64;
    let each = format!("{:.2} KiB", more_kib / (many - few) as f64);
    tell(format!("for each further one of {many}"), "1.5 KiB", each);
    for (servers, idle) in [(few, with_few), (many, with_many)] {
        let what = format!("idle CPU with {servers} servers");
        tell(what, "0.1 % of a core", format!("{:.3} %", idle.cpu));
    }
    println!("{}.\n\n{table}", machine()?);
    Ok(())
}

/// A configuration of so many servers, whose next tick is half a day away.
fn configured(account: &Account) -> Result<Configured> {
    let far_away = Timestamp::now() + SignedDuration::from_hours(12);
    let schedule = far_away.to_zoned(TimeZone::UTC).strftime("%M %H * * *").to_string();
    Configured::write(account, &schedule, "max_in_flight = 64\nsettle = \"20s\"")
}

fn account(binary: &Path, servers: u64) -> Result<Account> {
    Account::open(binary, servers, &["--page-size", "1000"])
}

fn ready_after(binary: &Path, servers: u64) -> Result<Duration> {
    let account = account(binary, servers)?;
    Ok(configured(&account)?.start(binary)?.ready_after)
}

fn check(binary: &Path, servers: u64) -> Result<Duration> {
    let account = account(binary, servers)?;
    let configured = configured(&account)?;
    let mut command = configured.command(binary, "check");
    let begun = Instant::now();
    ensure!(command.status()?.success(), "the configuration is refused");
    Ok(begun.elapsed())
}

fn idle(arguments: &Arguments, binary: &Path, servers: u64) -> Result<Idle> {
    let account = account(binary, servers)?;
    let daemon = configured(&account)?.start(binary)?;
    wait_for_the_looks(&account)?;
    // A minute after the start it lists the servers of the account and looks for stale ones. That is not idle.
    sleep(FIRST_MINUTE);
    let cpu = daemon.process.cpu()?;
    sleep(arguments.idle);
    let (resident_kib, cpu) = (daemon.process.resident_kib()?, daemon.process.cpu()? - cpu);
    let cpu = 100.0 * cpu.as_secs_f64() / arguments.idle.as_secs_f64();
    Ok(Idle { resident_kib, cpu })
}

/// Waits until calls have come, and then none for a while.
fn wait_for_the_looks(account: &Account) -> Result<()> {
    let calls = || -> Result<u64> { Ok(account.tallies()?.values().map(|it| it.calls).sum()) };
    let mut before = 0;
    loop {
        sleep(Duration::from_secs(5));
        let now = calls()?;
        if now > 0 && now == before {
            return Ok(());
        }
        before = now;
    }
}

fn median_of(times: usize, measure: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let mut measured =
        std::iter::repeat_with(measure).take(times).collect::<Result<Vec<Duration>>>()?;
    measured.sort_unstable();
    Ok(measured[times / 2])
}
