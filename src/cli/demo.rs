//! `snapring demo`

mod bad_night;

use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::cli::demo::bad_night::BadNight;
use crate::cli::error::CommandError;
use crate::cli::sentence::sentence;
use crate::cli::setup::begin_logging;
use crate::cli::shutdown::StopSignals;
use crate::cli::table::{lines, table};
use crate::cli::{Exit, console};
use crate::clock::Clock;
use crate::config;
use crate::config::types::Settings;
use crate::daemon::scheduler::CronScheduler;
use crate::daemon::{Daemon, Dependencies};
use crate::memory::RingMemory;
use crate::naming::ServerId;
use crate::observe::listener::serve_on;
use crate::plan::forecast::Plan;
use crate::plan::{AskedBy, Step};
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::provider::connect::seed;
use crate::provider::credentials::Credentials;
use crate::provider::http::HttpTransport;
use crate::readable::age;
use crate::report::Report;
use crate::ring::Ring;
use crate::sandbox::http::Sandbox;
use crate::sandbox::provider::Options;
use crate::server::Server;
use crate::wording::slots_taken;

/// An hour passes in five seconds.
const SPEED: u32 = 720;

/// Three rings: one shared with foreign snapshots, one dense, one slow.
const CONFIGURATION: &str = r#"
[[server]]
id = 101
name = "web-01"
schedule = "0 * * * *"
keep = 3

[[server]]
id = 102
name = "db-01"
schedule = "*/30 * * * *"
keep = { last = 2, hourly = 2 }

[[server]]
id = 103
name = "mail-01"
schedule = "0 */2 * * *"
keep = 2
jitter = "10m"
"#;

/// Watch three servers rotate on a built-in provider, an hour every five seconds.
///
/// It shows one night in which three things go wrong, and what snapring does about each; less than 30 seconds show
/// fewer. It needs no configuration and no token, and touches nothing of yours.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How long to watch
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Show the status page there meanwhile, like 127.0.0.1:9187
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let shutdown = StopSignals::listen()?.asked;
    let page = match arguments.listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let clock = Clock::accelerated(evening(Clock::system().now().wall), SPEED);
    let begun = clock.now().wall;
    let lasts = Duration::from_secs(arguments.seconds) * SPEED;
    let night = BadNight::of(SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX));
    let sandbox = start_sandbox(&clock).await?;
    let settings = settings(&sandbox)?;
    begin_logging(&settings, "off")?;
    let wrong = night.announcement();
    let introduction =
        introduction(arguments.seconds, wrong, page.as_ref(), &settings.servers, begun);
    console::print(&introduction)?;
    let reports = night.clone();
    let on_report = move |report: &Report, at| {
        // If the reader is gone, the demo still ends in time.
        let _ = console::print(&tell(report, at));
        if let Some(explanation) = reports.explain(report) {
            let _ = console::print(&aside(explanation));
        }
    };
    let dependencies = Dependencies::in_process(clock.clone(), Box::new(on_report));
    let scheduler = Box::<CronScheduler>::default();
    let account = client(&settings, &sandbox, &clock)?;
    let daemon =
        Daemon::start(&settings, account, dependencies, scheduler).await.map_err(trouble)?;
    let _serving = page.map(|page| {
        let serving = serve_on(page, daemon.view(), Clock::system());
        AbortOnDropHandle::new(tokio::spawn(serving))
    });
    tokio::select! {
        () = clock.sleep(lasts) => {}
        () = go_wrong(&night, &sandbox, &clock, begun) => {}
        () = shutdown.cancelled() => {}
    }
    daemon.finish().await;
    let client = client(&settings, &sandbox, &clock)?;
    let passed = clock.now().wall.duration_since(begun).as_secs() / 60;
    console::print(&format!(
        "\n{} h {} min have passed on the demo's clock. This is what exists now, and why:",
        passed / 60,
        passed % 60
    ))?;
    for server in &settings.servers {
        console::print(&show(&client, server, &clock).await?)?;
    }
    let peak = sandbox.provider().peak();
    console::print(&format!(
        "\nNo server ever had more than {peak} of 5 snapshots.\n\
         Next: write a configuration (see config.example.toml), then `snapring check` and `snapring plan`."
    ))?;
    Ok(Exit::Well)
}

/// The last time it was 21:05, so that an hour of the demo always brings the same ticks.
fn evening(now: Timestamp) -> Timestamp {
    let now = now.to_zoned(TimeZone::UTC);
    let today = now.date().at(21, 5, 0, 0).to_zoned(TimeZone::UTC);
    match today {
        Ok(today) if today <= now => today.timestamp(),
        Ok(today) => today.timestamp() - SignedDuration::from_hours(24),
        Err(_) => now.timestamp(),
    }
}

/// Lets the incidents of the night happen. Never ends: the demo does.
async fn go_wrong(night: &BadNight, sandbox: &Sandbox, clock: &Clock, begun: Timestamp) {
    while let Some(after) = night.next_after() {
        let passed = clock.now().wall.duration_since(begun);
        clock.sleep(Duration::try_from(after - passed).unwrap_or_default()).await;
        let now = clock.now().wall;
        let announcement = night.begin(&mut sandbox.provider(), now);
        if let Some(text) = announcement {
            let _ = console::print(&format!("{}  {text}", time(now)));
        }
    }
    std::future::pending::<()>().await;
}

fn time(now: Timestamp) -> String {
    now.strftime("%a %H:%M").to_string()
}

/// Words about the line before.
fn aside(words: &str) -> String {
    format!("                    → {words}")
}

fn trouble(problem: impl Display) -> CommandError {
    CommandError::Failed(format!("the demo cannot go on: {problem}"))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, CommandError> {
    TcpListener::bind(address).await.map_err(|problem| {
        let taken = problem.kind() == io::ErrorKind::AddrInUse;
        let hint = "\nhint: the port is taken; port 0 stands for any that is free";
        CommandError::Failed(format!(
            "cannot listen on {address}: {problem}{}",
            if taken { hint } else { "" }
        ))
    })
}

async fn start_sandbox(clock: &Clock) -> Result<Sandbox, CommandError> {
    let seed = seed();
    let token = SecretString::from(format!("vps_demo_{seed:016x}"));
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sandbox = Sandbox::start(Options::new(3, token, seed), clock.clone(), listen)
        .await
        .map_err(trouble)?;
    let now = clock.now().wall;
    let before = |hours: i64| now.checked_sub(SignedDuration::from_hours(hours)).unwrap_or(now);
    let mut provider = sandbox.provider();
    for (name, hours) in [("before-the-upgrade", 60), ("pre-migration", 20)] {
        provider.add_snapshot(ServerId::new(101), name, "completed", before(hours));
    }
    drop(provider);
    Ok(sandbox)
}

fn settings(sandbox: &Sandbox) -> Result<Settings, CommandError> {
    let text =
        format!("[api]\nbase_url = \"http://{}/api/v1/\"\n{CONFIGURATION}", sandbox.address());
    let loaded = config::parse("the demo", &text).map_err(trouble)?;
    Ok(loaded.settings)
}

fn client(settings: &Settings, sandbox: &Sandbox, clock: &Clock) -> Result<Client, CommandError> {
    let transport =
        HttpTransport::new(settings.api.base_url.clone(), settings.api.timeout).map_err(trouble)?;
    let credentials = Credentials::known(sandbox.token().clone());
    Ok(Client::new(Box::new(transport), &settings.api, credentials, clock.clone(), seed()))
}

fn introduction(
    seconds: u64,
    wrong: &str,
    page: Option<&TcpListener>,
    servers: &[Arc<Server>],
    now: Timestamp,
) -> String {
    let page = page
        .and_then(|page| page.local_addr().ok())
        .map_or(String::new(), |address| format!("Watch them on http://{address}/ meanwhile.\n"));
    let policies: String = servers
        .iter()
        .map(|server| format!("  {}: {}\n", server.name, sentence(server, now)))
        .collect();
    format!(
        "Three servers at a built-in provider, for {seconds} s. An hour passes in 5 s, and a snapshot takes 3 to 10\n\
         minutes. web-01 already has two foreign snapshots: they were created by hand or by another tool, and snapring never\n\
         deletes those. {wrong}\n\
         {policies}{page}"
    )
}

fn tell(report: &Report, now: Timestamp) -> String {
    format!("{}  {:<8} {}", time(now), report.server, report.words())
}

async fn show(client: &Client, server: &Server, clock: &Clock) -> Result<String, CommandError> {
    let listing = client.list(server.id, &CallContext::default()).await.map_err(trouble)?;
    let now = clock.now().wall;
    let ring = Ring::of(listing, &server.policy);
    let tick = server.next_tick_after(now).ok_or(CommandError::Quiet(Exit::Trouble))?;
    let memory = RingMemory::default();
    let plan =
        Plan::forecast(&ring, &server.policy, tick, AskedBy::Schedule, &memory, tick.instant());
    let mut table = table(&["snapshot", "whose", "status", "age", "at the next rotation"]);
    for fate in &plan.fates {
        let snapshot = &fate.slot.snapshot;
        let verb = if fate.goes { "deleted" } else { "kept" };
        table.add_row([
            snapshot.name.to_string(),
            fate.slot.holder.as_str().to_owned(),
            snapshot.status.to_string(),
            age(snapshot.created_at, now),
            format!("{verb}: {}", fate.why),
        ]);
    }
    let next = match &plan.step {
        Step::Blocked(blocked) => blocked.to_string(),
        _ => format!("next: {}", server.policy.prefix.name(plan.tick)),
    };
    let taken = slots_taken(ring.taken(), server.policy.cap);
    Ok(format!("\n{}, {taken}, {next}\n{}", server.name, lines(&table)))
}
