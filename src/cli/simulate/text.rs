//! A rehearsal for people.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Group, Start};
use crate::cli::sentence::{self, from_to};
use crate::policy::Rule;
use crate::readable::{servers, span};
use crate::rehearsal::{Broken, Course, Day, Kept, Reach, Rehearsed, Scenario};
use crate::report::RotationOutcome;
use crate::retention::Reason;
use crate::ring::Holder;
use crate::server::Server;

/// As many columns as a strip may have.
const COLUMNS: i64 = 60;

/// What a column may stand for, in hours.
const COLUMN_HOURS: [i64; 10] = [1, 2, 3, 6, 12, 24, 48, 168, 720, 8_760];

pub(super) fn tell(
    groups: &[Group],
    rehearsed: &Rehearsed,
    scenario: &Scenario,
    start: Start,
    per_minute: Option<NonZeroU32>,
    has_days: bool,
) -> String {
    let mut text: String =
        groups.iter().map(|group| of_group(group, scenario, start, has_days)).collect();
    text.push_str(&calls(groups, rehearsed, scenario, per_minute));
    for group in groups {
        for (server, broken) in
            group.broken.iter().filter(|(_, broken)| !broken.is_empty()).take(10)
        {
            for promise in broken {
                let zone = &server.policy.time_zone;
                text.push_str(&format!("{}: {}\n", server.name, broken_promise(promise, zone)));
            }
        }
        let more = group.broken.iter().filter(|(_, broken)| !broken.is_empty()).count();
        if more > 10 {
            text.push_str(&format!("… and {} with the same policy\n", servers(more - 10)));
        }
    }
    text
}

fn of_group(group: &Group, scenario: &Scenario, start: Start, has_days: bool) -> String {
    let Some(first) = group.courses.first() else { return String::new() };
    let server = &first.server;
    let policy = &server.policy;
    let mut text = format!(
        "{}, keep = {}: {}{}\n",
        sentence::schedule(server),
        sentence::keep(&policy.keep),
        server.name,
        match group.courses.len() - 1 {
            0 => String::new(),
            others => format!(" and {} with the same policy", servers(others)),
        }
    );
    let from = match start {
        Start::Listed if group.courses.len() > 1 => {
            format!("the snapshots that each server has now; the days are those of {}", server.name)
        }
        Start::Listed => format!("the snapshots that {} has now", server.name),
        Start::Empty => "no snapshots".to_owned(),
    };
    text.push_str(&format!(
        "from {} to {}, starting with {from}\n",
        local(scenario.from, &policy.time_zone),
        local(scenario.to, &policy.time_zone)
    ));
    let assumed = assumed(scenario, server);
    if !assumed.is_empty() {
        text.push_str(&format!("assuming: {}\n", assumed.join("; ")));
    }
    text.push('\n');
    if has_days {
        text.push_str(&strips(first));
    }
    text.push_str(&summary(group, first));
    text.push('\n');
    text
}

/// What the scenario assumes beyond what is usual.
fn assumed(scenario: &Scenario, server: &Server) -> Vec<String> {
    let zone = &server.policy.time_zone;
    let mut assumed = Vec::new();
    let [takes, timeout] = [scenario.snapshot_takes, server.completion_timeout]
        .map(|it| span(SignedDuration::try_from(it).unwrap_or(SignedDuration::MAX)));
    if scenario.snapshot_takes >= server.completion_timeout {
        assumed.push(format!(
            "a snapshot takes {takes}, and `completion_timeout` is {timeout}, so every rotation fails"
        ));
    }
    if scenario.foreign > 0 {
        assumed
            .push(format!("{} foreign snapshots per server, or as many as fit", scenario.foreign));
    }
    for outage in &scenario.outages {
        let (from, to) = (local(outage.from, zone), local(outage.to, zone));
        assumed.push(format!("the provider is down from {from} to {to}"));
    }
    if scenario.fail_per_10_000 > 0 {
        let share = f64::from(scenario.fail_per_10_000) / 100.0;
        assumed.push(format!("{share}% of the snapshots fail"));
    }
    assumed
}

/// A line for each day: what exists at its end, by age.
fn strips(course: &Course) -> String {
    let of_ring = |kept: &&Kept| matches!(kept.holder, Holder::Managed(_));
    // At the very end of the day, the newest of a column's span is in it.
    let age = |day: &Day, kept: &Kept| (day.end.duration_since(kept.at).as_secs() - 1).max(0);
    let ages = course
        .days
        .iter()
        .flat_map(|day| day.snapshots.iter().filter(of_ring).map(move |kept| age(day, kept)));
    let oldest_hours = ages.max().unwrap_or_default() / 3_600;
    let usual_hours = course.intervals().min().unwrap_or_default().as_hours();
    let fits = |hours: &&i64| oldest_hours / **hours < COLUMNS && **hours >= usual_hours.min(720);
    let hours = COLUMN_HOURS.iter().find(fits).copied().unwrap_or(8_760);
    let mut used: Vec<char> = Vec::new();
    let mut lines = String::new();
    let mut has_digits = false;
    for day in &course.days {
        let mut cells: BTreeMap<i64, Vec<char>> = BTreeMap::new();
        for kept in day.snapshots.iter().filter(of_ring) {
            cells.entry(age(day, kept) / 3_600 / hours).or_default().push(letter(kept));
        }
        let columns = cells.last_key_value().map_or(0, |(last, _)| *last + 1);
        let cell = |column: i64| match cells.get(&column).map(Vec::as_slice) {
            None => '.',
            Some([one]) => *one,
            Some(several) => char::from_digit(u32::try_from(several.len()).unwrap_or(9).min(9), 10)
                .unwrap_or('9'),
        };
        let strip: String = (0..columns).map(cell).collect();
        used.extend(cells.values().flatten());
        has_digits |= cells.values().any(|cell| cell.len() > 1);
        let others = day.snapshots.len() - day.snapshots.iter().filter(of_ring).count();
        let others =
            if others > 0 { format!("  +{others} foreign or pinned") } else { String::new() };
        lines.push_str(&format!("{}  {strip}{others}\n", day.date));
    }
    used.sort_unstable();
    used.dedup();
    let legend: Vec<String> = LEGEND
        .iter()
        .filter(|(letter, _)| used.contains(letter))
        .map(|(letter, meaning)| format!("{letter} {meaning}"))
        .collect();
    let column = match hours {
        24 => "a day".to_owned(),
        hours if hours % 24 == 0 => format!("{} days", hours / 24),
        1 => "an hour".to_owned(),
        hours => format!("{hours} hours"),
    };
    let title = "the newest on the left; a column is";
    if legend.is_empty() {
        return "no snapshot at the end of any day\n\n".to_owned();
    }
    let digits = if has_digits { "; a digit: several snapshots" } else { "" };
    format!("end of day  {title} {column}\n{lines}\n{}{digits}\n\n", legend.join(", "))
}

const LEGEND: [(char, &str); 9] = [
    ('L', "last"),
    ('H', "hourly"),
    ('D', "daily"),
    ('W', "weekly"),
    ('M', "monthly"),
    ('Y', "yearly"),
    ('o', "oldest (until every rule is filled)"),
    ('p', "in progress or failed"),
    ('x', "to be deleted"),
];

fn letter(kept: &Kept) -> char {
    match &kept.reason {
        Some(Reason::Newest { rule, .. }) => match rule {
            Rule::Last => 'L',
            Rule::Hourly => 'H',
            Rule::Daily => 'D',
            Rule::Weekly => 'W',
            Rule::Monthly => 'M',
            Rule::Yearly => 'Y',
        },
        Some(Reason::Oldest { .. }) => 'o',
        None if !kept.completed => 'p',
        None => 'x',
    }
}

fn summary(group: &Group, first: &Course) -> String {
    let courses = &group.courses;
    let policy = &first.server.policy;
    let most = courses.iter().map(|it| it.most_kept).max().unwrap_or_default();
    let slots = policy.keep.total();
    let mut lines = vec![(
        "keeps",
        format!("at most {most}; `keep` has {slots} of the server's {} slots", policy.cap),
    )];
    if let Some(reach) = joined(courses).filter(|_| most > 1) {
        let typical = Reach { worst_s: reach.typical_s, best_s: reach.typical_s, ..reach };
        let since = match first.filled {
            Some(filled) => format!(
                "since {}, when every rule was filled for the first time",
                local(filled, &policy.time_zone)
            ),
            None => "less in the first days; not every rule was ever filled".to_owned(),
        };
        lines.push((
            "reaches back",
            format!("{}, typically {} ({since})", from_to(reach), from_to(typical)),
        ));
    }
    if !group.needs_longer.is_empty() {
        let rules = sentence::rules(&group.needs_longer);
        lines.push((
            "needs longer",
            format!("{rules}: not filled within this time, even if nothing goes wrong"),
        ));
    }
    let gap = courses.iter().map(|it| it.largest_gap_s).max().unwrap_or_default();
    lines.push((
        "largest gap",
        format!("{} between two neighbouring snapshots", span(SignedDuration::from_secs(gap))),
    ));
    lines.push(("ticks", ticks(courses)));
    let full = courses.iter().map(|it| it.full_days).max().unwrap_or_default();
    let days = first.days.len();
    lines.push(("full", format!("every slot is taken at the end of {full} of {days} days")));
    let mut text = String::new();
    for (what, said) in lines {
        text.push_str(&format!("{what:<14}{said}\n"));
    }
    for (reason, times) in reasons(courses) {
        text.push_str(&format!("{times:>6} times  {reason}\n"));
    }
    text
}

/// Over all servers of a policy.
fn joined(courses: &[Course]) -> Option<Reach> {
    let reaches: Vec<Reach> = courses.iter().filter_map(Course::reach).collect();
    Some(Reach {
        worst_s: reaches.iter().map(|it| it.worst_s).min()?,
        typical_s: reaches.first()?.typical_s,
        best_s: reaches.iter().map(|it| it.best_s).max()?,
    })
}

fn ticks(courses: &[Course]) -> String {
    let all: usize = courses.iter().map(|it| it.runs.len()).sum();
    let each: Vec<String> = RotationOutcome::ALL
        .into_iter()
        .map(|outcome| (outcome, courses.iter().map(|it| it.count(outcome)).sum::<usize>()))
        .filter(|(_, count)| *count > 0)
        .map(|(outcome, count)| format!("{count} {}", outcome.as_str()))
        .collect();
    let of_all = match courses.len() {
        0 | 1 => String::new(),
        many => format!(" of {}", servers(many)),
    };
    format!("{all}{of_all}: {}", if each.is_empty() { "none".to_owned() } else { each.join(", ") })
}

/// Why rotations did not end well, the most frequent reason first. Names and numbers in them differ from one
/// rotation to the next, so those that end alike and begin alike are one.
fn reasons(courses: &[Course]) -> Vec<(String, usize)> {
    let mut counted: BTreeMap<String, (usize, String, bool)> = BTreeMap::new();
    let runs = courses.iter().flat_map(|it| &it.runs).filter(|run| !run.outcome.is_good());
    for run in runs {
        let reason = run.reason.clone().unwrap_or_default();
        let said = format!("{}: {reason}", run.outcome.as_str());
        let kind: String = said.chars().take_while(|it| !it.is_ascii_digit()).collect();
        let (times, first, differ) = counted.entry(kind).or_insert((0, said.clone(), false));
        *times += 1;
        *differ |= *first != said;
    }
    let told = |(times, said, differ)| {
        let said = if differ { format!("the first of them: {said}") } else { said };
        (said, times)
    };
    let mut counted: Vec<(String, usize)> = counted.into_values().map(told).collect();
    counted.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    counted.truncate(5);
    counted
}

pub(super) fn calls_per_day(rehearsed: &Rehearsed, scenario: &Scenario) -> f64 {
    let days = scenario.to.duration_since(scenario.from).as_secs_f64() / 86_400.0;
    // No more calls than a float counts exactly.
    #[expect(clippy::cast_precision_loss)]
    let calls = rehearsed.calls_in_all() as f64;
    (calls / days * 10.0).round() / 10.0
}

fn calls(
    groups: &[Group],
    rehearsed: &Rehearsed,
    scenario: &Scenario,
    per_minute: Option<NonZeroU32>,
) -> String {
    let zone = groups.first().and_then(|it| it.courses.first());
    let zone = zone.map_or(TimeZone::UTC, |course| course.server.policy.time_zone.clone());
    let mut text = format!("API calls: {} per day", calls_per_day(rehearsed, scenario));
    if let Some((minute, calls)) = rehearsed.busiest_minute() {
        text.push_str(&format!("; {calls} in the busiest minute, {}", local(minute, &zone)));
        match per_minute {
            Some(most) if calls > most.get() => text.push_str(&format!(
                "; requests_per_minute = {most} spreads them over {} minutes",
                calls.div_ceil(most.get())
            )),
            Some(most) => text.push_str(&format!("; requests_per_minute = {most} allows that")),
            None => {}
        }
    }
    text.push('\n');
    text
}

fn broken_promise(broken: &Broken, zone: &TimeZone) -> String {
    match broken {
        Broken::NeverFilled { rule } => {
            format!(
                "`{}` is never filled, because others hold slots or rotations do not succeed. Lower `keep`, \
                 or free slots",
                rule.as_str()
            )
        }
        Broken::Blocked { times, first, reason } => format!(
            "blocked {times} times, first on {}: {}",
            local(first.instant(), zone),
            reason.as_deref().unwrap_or("no reason")
        ),
        Broken::Gap { seconds, after, interval_s } => {
            let [gap, interval] =
                [seconds, interval_s].map(|it| span(SignedDuration::from_secs(*it)));
            let after = match after {
                Some(tick) => format!("after {}", local(tick.instant(), zone)),
                None => "from the start".to_owned(),
            };
            format!(
                "no rotation succeeded for {gap} {after}; its ticks are at most {interval} apart"
            )
        }
    }
}

pub(super) fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string()
}
