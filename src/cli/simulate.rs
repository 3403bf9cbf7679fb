//! `snapring simulate`

mod picture;
mod text;

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::activity::{Activity, Begun};
use crate::cli::at::At;
use crate::cli::error::CommandError;
use crate::cli::selection::Selection;
use crate::cli::setup::{Setup, rings_within};
use crate::cli::{ConfigArgument, Exit, console, parse_span, progress};
use crate::naming::ServerId;
use crate::policy::{Policy, Rule};
use crate::readable;
use crate::rehearsal::{
    Beginning, Broken, Course, Day, Outage, Reach, Rehearsed, Run, Scenario, ideal,
    rehearse_telling,
};
use crate::report::RotationOutcome;
use crate::server::Server;
use crate::snapshot::Snapshot;

/// Run the configuration in virtual time: which snapshots exist each day, and how far back one could go.
///
/// Nothing is changed anywhere. It starts from the snapshots that the servers have now; if the provider
/// cannot be asked, or with --offline or --from, it starts from none. Servers with equal policies are shown
/// once.
///
/// Exits with 1 when a policy cannot keep what it promises: a rule of `keep` is never filled, rotations are
/// blocked, or there is no new snapshot for more than twice the interval of the schedule.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// How many days, from 1 to 3660
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3660))]
    days: u32,
    /// Begin at this time, for example `tomorrow`, 2026-11-24 (in the time zone of the first server) or
    /// 2026-11-24T03:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = At::future)]
    from: Option<At>,
    /// Do not ask the provider: start without any snapshot
    #[arg(long)]
    offline: bool,
    /// What if a snapshot takes this long to complete?
    #[arg(long, value_name = "DURATION", value_parser = parse_span, default_value = "10m")]
    snapshot_takes: Duration,
    /// What if foreign snapshots hold this many slots of each server?
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100))]
    foreign: u32,
    /// What if the provider is down from FROM to TO? In the time zone of the first server; may be repeated
    #[arg(long, value_name = "FROM..TO", value_parser = parse_outage)]
    outage: Vec<(At, At)>,
    /// What if this share of all snapshots fails, say 5%?
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value = "0%")]
    fail: Share,
    /// Which snapshots fail: a different number makes different snapshots fail
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Leave out the line for each day
    #[arg(long, short, conflicts_with = "json")]
    summary: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw it, too: each snapshot as a bar from its creation to its deletion
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgument,
}

const EXAMPLES: &str = "Examples:
  snapring simulate                          the next 90 days of every policy
  snapring simulate web-01 --days 365        a year of one server
  snapring simulate --foreign 2              do the policies still work beside two foreign snapshots?
  snapring simulate --outage 2026-12-24T00:00..2026-12-26T12:00
                                             what is lost when the provider is down?";

fn parse_outage(text: &str) -> Result<(At, At), String> {
    let wrong = || "not FROM..TO; write 2026-12-24T00:00..2026-12-26T12:00".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    Ok((At::future(from)?, At::future(to)?))
}

/// A share in ten thousandths.
#[derive(Debug, Clone, Copy)]
struct Share(u32);

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}%", f64::from(self.0) / 100.0)
    }
}

fn parse_share(text: &str) -> Result<Share, String> {
    let wrong = || format!("{text:?} is not a share from 0% to 100%; write 5% or 0.5%");
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let percent: f64 = number.trim().parse().map_err(|_| wrong())?;
    if !(0.0..=100.0).contains(&percent) {
        return Err(wrong());
    }
    // At most 10,000.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(Share((percent * 100.0).round() as u32))
}

/// Servers with the same policy, and what became of each.
struct Group {
    /// The first has its days.
    courses: Vec<Course>,
    broken: Vec<(Arc<Server>, Vec<Broken>)>,
    /// Rules that are not filled, though nothing went wrong: they need longer.
    needs_longer: Vec<Rule>,
}

/// Runs the command.
///
/// # Errors
/// When it could not go on.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, CommandError> {
    let mut setup = Setup::read_to_look(&arguments.config)?;
    // What a server without a table would have.
    let examples = setup.settings.covers.iter().map(|cover| Arc::new(cover.example()));
    setup.settings.servers.extend(examples);
    let servers: Vec<Arc<Server>> =
        setup.select(&arguments.selection)?.into_iter().filter(|server| server.enabled).collect();
    let Some(first) = servers.first() else {
        return Err(CommandError::Usage("none of these servers is enabled".to_owned()));
    };
    let scenario = scenario(&arguments, first, &setup)?;
    let (snapshots, start) = snapshots(&arguments, &setup, &servers).await;
    let (groups, rehearsed) = play(&servers, snapshots, &scenario);
    if let Some(file) = &arguments.svg {
        write(file, &picture::svg(&groups))?;
    }
    let per_minute = NonZeroU32::new(setup.settings.api.requests_per_minute);
    if arguments.json {
        console::print_json(&json(&groups, &rehearsed, &scenario))?;
    } else {
        let has_days = !arguments.summary;
        let shown = text::tell(&groups, &rehearsed, &scenario, start, per_minute, has_days);
        console::print(shown.trim_end())?;
    }
    let is_kept =
        groups.iter().all(|group| group.broken.iter().all(|(_, broken)| broken.is_empty()));
    Ok(if is_kept { Exit::Well } else { Exit::Trouble })
}

/// Nothing but an earlier picture is written over.
fn write(file: &Path, svg: &str) -> Result<(), CommandError> {
    if std::fs::read(file).is_ok_and(|there| !there.is_empty() && !there.starts_with(b"<svg")) {
        let name = file.display();
        return Err(CommandError::Usage(format!(
            "{name} exists and is not a picture; name another file"
        )));
    }
    std::fs::write(file, svg).map_err(|error| {
        CommandError::Failed(format!("{} cannot be written: {error}", file.display()))
    })
}

fn scenario(
    arguments: &Arguments,
    first: &Server,
    setup: &Setup,
) -> Result<Scenario, CommandError> {
    let zone = &first.policy.time_zone;
    let now = setup.clock.now().wall;
    let instant = |at: At| {
        let no_such_time =
            || CommandError::Usage("no such time in the server's time zone".to_owned());
        at.within(zone, now).ok_or_else(no_such_time)
    };
    let from = arguments.from.map_or(Ok(now), instant)?;
    let days = jiff::Span::new().days(arguments.days);
    let to = from.to_zoned(zone.clone()).checked_add(days).map_err(|_| {
        CommandError::Usage("the end of these days lies beyond the year 9999".to_owned())
    })?;
    let to = to.timestamp();
    let mut outages = Vec::new();
    for (begin, end) in &arguments.outage {
        let outage = Outage { from: instant(*begin)?, to: instant(*end)? };
        if outage.to <= outage.from {
            return Err(CommandError::Usage(format!(
                "--outage {} to {}: the end does not come after the beginning",
                text::local(outage.from, zone),
                text::local(outage.to, zone)
            )));
        }
        outages.push(outage);
    }
    let api = &setup.settings.api;
    Ok(Scenario {
        from,
        to,
        snapshot_takes: arguments.snapshot_takes,
        foreign: arguments.foreign,
        outages,
        fail_per_10_000: arguments.fail.0,
        seed: arguments.seed,
        settle: api.settle,
        retries: api.retries,
        page: PAGE,
    })
}

/// The provider does not say how many snapshots a page of a listing has. This is what others of its kind have.
const PAGE: usize = 100;

/// What a rehearsal starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// What the provider listed.
    Listed,
    /// Nothing.
    Empty,
}

/// How long the provider is asked, and how much longer for each server.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_PER_SERVER: Duration = Duration::from_millis(50);

type Snapshots = HashMap<ServerId, Vec<Snapshot>>;

async fn snapshots(
    arguments: &Arguments,
    setup: &Setup,
    servers: &[Arc<Server>],
) -> (Snapshots, Start) {
    if arguments.offline || arguments.from.is_some() {
        return (Snapshots::new(), Start::Empty);
    }
    let nothing = |problem: String| {
        console::note(&format!(
            "the provider cannot be asked, so every server starts without snapshots: {problem}"
        ));
        (Snapshots::new(), Start::Empty)
    };
    let clients = match setup.clients_of(servers) {
        Ok(clients) => clients,
        Err(error) => return nothing(error.to_string()),
    };
    let patience =
        PATIENCE + PATIENCE_PER_SERVER * u32::try_from(servers.len()).unwrap_or(u32::MAX);
    let mut listed = Snapshots::new();
    for (server, ring) in rings_within(&clients, servers, patience).await {
        match ring {
            Ok(ring) => listed.insert(server.id, ring.listing().snapshots.clone()),
            Err(error) => return nothing(format!("{}: {}", server.name, error.explained())),
        };
    }
    (listed, Start::Listed)
}

/// Shows how much of the virtual time has passed.
struct TimePassed {
    shown: Begun,
    from: Timestamp,
    seconds: i64,
    percent: Cell<u8>,
}

impl TimePassed {
    fn of(scenario: &Scenario) -> Self {
        let (from, seconds) = (scenario.from, scenario.to.duration_since(scenario.from).as_secs());
        let shown = progress::activities().begin(None, Self::activity(seconds, 0));
        Self { shown, from, seconds, percent: Cell::new(0) }
    }

    fn activity(seconds: i64, done: u8) -> Activity {
        let span = readable::span(SignedDuration::from_secs(seconds));
        Activity::Percent { what: format!("simulating {span}"), done }
    }

    fn reached(&self, now: Timestamp) {
        let passed = now.duration_since(self.from).as_secs();
        let percent = passed.saturating_mul(100).checked_div(self.seconds).unwrap_or_default();
        let percent = u8::try_from(percent).unwrap_or_default();
        if self.percent.replace(percent) != percent {
            self.shown.becomes(Self::activity(self.seconds, percent));
        }
    }
}

fn play(
    servers: &[Arc<Server>],
    mut snapshots: Snapshots,
    scenario: &Scenario,
) -> (Vec<Group>, Rehearsed) {
    let mut alike: HashMap<&Policy, Vec<(usize, &Arc<Server>)>> = HashMap::new();
    let mut group_of = Vec::with_capacity(servers.len());
    let mut count = 0;
    for server in servers {
        let known = alike.entry(&server.policy).or_default();
        let same = known.iter().find(|(_, other)| {
            other.schedules == server.schedules && other.jitter == server.jitter
        });
        let group = same.map_or(count, |(group, _)| *group);
        if group == count {
            known.push((group, server));
            count += 1;
        }
        group_of.push(group);
    }
    let mut shown = vec![false; count];
    let beginnings = servers.iter().zip(&group_of).map(|(server, group)| Beginning {
        server: Arc::clone(server),
        snapshots: snapshots.remove(&server.id).unwrap_or_default(),
        in_detail: shown.get_mut(*group).is_some_and(|shown| !std::mem::replace(shown, true)),
    });
    let passed = TimePassed::of(scenario);
    let mut rehearsed = rehearse_telling(beginnings.collect(), scenario, |now| passed.reached(now));
    drop(passed);
    let _compares = progress::doing("working out what the policies can keep at best");
    let mut groups: Vec<Group> = std::iter::repeat_with(|| Group {
        courses: Vec::new(),
        broken: Vec::new(),
        needs_longer: Vec::new(),
    })
    .take(count)
    .collect();
    for (course, group) in std::mem::take(&mut rehearsed.courses).into_iter().zip(group_of) {
        if let Some(group) = groups.get_mut(group) {
            group.courses.push(course);
        }
    }
    for group in &mut groups {
        let Some(first) = group.courses.first() else { continue };
        // What the policy can do at all is the same for all of them, but for when jitter starts them.
        let ideal = ideal(&first.server, scenario.from, scenario.to, usize::MAX);
        let unfilled = |rule: &Rule| group.courses.iter().any(|it| it.unfilled.contains(rule));
        group.needs_longer = ideal.unfilled.iter().copied().filter(unfilled).collect();
        let broken = |course: &Course| {
            (Arc::clone(&course.server), course.broken_promises(&ideal, scenario.to))
        };
        group.broken = group.courses.iter().map(broken).collect();
    }
    (groups, rehearsed)
}

#[derive(Serialize)]
struct Answer<'a> {
    from: Timestamp,
    to: Timestamp,
    policies: Vec<GroupAnswer<'a>>,
    calls: Calls,
}

#[derive(Serialize)]
struct Calls {
    total: u64,
    per_day: f64,
    busiest_minute: Option<Timestamp>,
    calls_in_busiest_minute: u32,
}

#[derive(Serialize)]
struct GroupAnswer<'a> {
    policy: String,
    keep: String,
    servers: Vec<CourseAnswer<'a>>,
    /// Of the first server.
    days: &'a [Day],
    needs_longer: &'a [Rule],
}

#[derive(Serialize)]
struct CourseAnswer<'a> {
    server_id: ServerId,
    server: &'a str,
    ticks: usize,
    outcomes: HashMap<&'static str, usize>,
    most_kept: u32,
    reach: Option<Reach>,
    filled: Option<Timestamp>,
    largest_gap_s: i64,
    full_days: u32,
    broken_promises: &'a [Broken],
    not_rotated: Vec<&'a Run>,
}

fn json<'a>(groups: &'a [Group], rehearsed: &Rehearsed, scenario: &Scenario) -> Answer<'a> {
    let course =
        |(course, (_, broken)): (&'a Course, &'a (Arc<Server>, Vec<Broken>))| CourseAnswer {
            server_id: course.server.id,
            server: &course.server.name,
            ticks: course.runs.len(),
            outcomes: RotationOutcome::ALL
                .into_iter()
                .map(|outcome| (outcome.as_str(), course.count(outcome)))
                .collect(),
            most_kept: course.most_kept,
            reach: course.reach(),
            filled: course.filled,
            largest_gap_s: course.largest_gap_s,
            full_days: course.full_days,
            broken_promises: broken,
            not_rotated: course.runs.iter().filter(|run| !run.outcome.is_good()).collect(),
        };
    let group = |group: &'a Group| {
        let first = group.courses.first()?;
        Some(GroupAnswer {
            policy: crate::cli::sentence::schedule(&first.server),
            keep: crate::cli::sentence::keep(&first.server.policy.keep),
            servers: group.courses.iter().zip(&group.broken).map(course).collect(),
            days: &first.days,
            needs_longer: &group.needs_longer,
        })
    };
    let busiest = rehearsed.busiest_minute();
    Answer {
        from: scenario.from,
        to: scenario.to,
        policies: groups.iter().filter_map(group).collect(),
        calls: Calls {
            total: rehearsed.calls_in_all(),
            per_day: text::calls_per_day(rehearsed, scenario),
            busiest_minute: busiest.map(|(minute, _)| minute),
            calls_in_busiest_minute: busiest.map_or(0, |(_, calls)| calls),
        },
    }
}
