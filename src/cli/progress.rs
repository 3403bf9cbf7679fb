//! What a command waits for, shown to a person while the command says nothing else.
//!
//! `cli::main` watches every command. After three seconds of silence, a terminal shows a line that is renewed in
//! its place. A pipe, a file or the journal gets a plain line when something changes, and every 30 seconds. With
//! `--json` and `--quiet` nothing is shown.
//!
//! How to use it:
//! - The calls of a client from `Setup::client` are shown by themselves.
//! - Anything else that may take seconds: `let _waits = progress::doing("reading the history");`. With a server:
//!   `progress::activities().begin(Some(&subject), Activity::…)`. It is shown until it is dropped.
//! - Many servers: `progress::count(servers.len())`, then `progress::counts(outcome)` for each that has ended.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use terminal_size::{Width, terminal_size_of};
use tokio_util::task::AbortOnDropHandle;
use unicode_width::UnicodeWidthChar;

use crate::activity::{Activities, Activity, Begun, UnderWay};
use crate::clock::{Clock, monotonic_us};
use crate::moment::shown_today;
use crate::naming::ServerId;
use crate::readable;
use crate::server::Server;
use crate::telemetry;

/// How long a terminal may be silent: one second less than the three that are promised.
const SILENT_ON_A_TERMINAL: Duration = Duration::from_secs(2);

/// The same elsewhere.
const SILENT_ELSEWHERE: Duration = Duration::from_secs(3);

/// How often a plain line is repeated when nothing changes.
const REPEATED_EVERY: Duration = Duration::from_secs(30);

/// How often the list is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A part of something else is shown in its place once it lasts.
const LASTS: Duration = Duration::from_secs(2);

/// At most this many servers are named.
const FEW: usize = 3;

/// As much of the end of a part must fit, or none of it is shown.
const LEAST_OF_A_TAIL: usize = 12;

/// The width of a terminal that does not say how wide it is.
const USUAL_WIDTH: u16 = 80;

struct Progress {
    clock: Clock,
    activities: Activities,
    facts: Mutex<Facts>,
    /// When data was last printed, or the watch began. Lines on standard error are known there.
    last_us: AtomicU64,
}

/// What the words depend on besides the list.
#[derive(Debug, Default)]
struct Facts {
    zones: HashMap<ServerId, TimeZone>,
    /// How long snapshots of a server usually take.
    usual: HashMap<ServerId, Duration>,
    tally: Option<Tally>,
    is_paused: bool,
}

/// How many servers have ended how.
#[derive(Debug, Default)]
struct Tally {
    servers: usize,
    ended: BTreeMap<&'static str, usize>,
}

static PROGRESS: LazyLock<Progress> = LazyLock::new(|| {
    let clock = Clock::system();
    Progress {
        activities: Activities::watched(clock.clone()),
        clock,
        facts: Mutex::default(),
        last_us: AtomicU64::new(monotonic_us()),
    }
});

/// The list that is shown.
pub(super) fn activities() -> &'static Activities {
    &PROGRESS.activities
}

/// Shows that this is being done until the result is dropped.
pub(super) fn doing(what: impl Into<String>) -> Begun {
    activities().begin(None, Activity::Other(what.into()))
}

/// Shows times in the zones of these servers.
pub(super) fn shows_times_of(servers: &[Arc<Server>]) {
    PROGRESS.facts().zones =
        servers.iter().map(|server| (server.id, server.policy.time_zone.clone())).collect();
}

/// How long the snapshots of a server usually take.
pub(super) fn usually_takes(server: ServerId, span: Duration) {
    PROGRESS.facts().usual.insert(server, span);
}

/// From now on, the line counts this many servers.
pub(super) fn count(servers: usize) {
    PROGRESS.facts().tally = Some(Tally { servers, ..Tally::default() });
}

/// One of the counted servers has ended like this.
pub(super) fn counts(how: &'static str) {
    if let Some(tally) = &mut PROGRESS.facts().tally {
        *tally.ended.entry(how).or_default() += 1;
    }
}

/// All of them have ended.
pub(super) fn stop_counting() {
    PROGRESS.facts().tally = None;
}

/// Shows nothing until the result is dropped: data is printed, or a person is asked.
pub(super) fn pause() -> Paused {
    PROGRESS.hide();
    Paused(())
}

/// See [`pause`].
#[must_use]
pub(super) struct Paused(());

impl Drop for Paused {
    fn drop(&mut self) {
        PROGRESS.last_us.store(monotonic_us(), Ordering::Relaxed);
        PROGRESS.facts().is_paused = false;
    }
}

/// Shows what is under way until the result is dropped.
pub(super) fn show() -> Shown {
    PROGRESS.last_us.store(monotonic_us(), Ordering::Relaxed);
    let is_dumb = std::env::var("TERM").is_ok_and(|terminal| terminal == "dumb");
    let task = if std::io::stderr().is_terminal() && !is_dumb {
        tokio::spawn(PROGRESS.renew())
    } else {
        tokio::spawn(PROGRESS.repeat())
    };
    Shown { _task: AbortOnDropHandle::new(task) }
}

/// See [`show`].
#[must_use]
pub(super) struct Shown {
    _task: AbortOnDropHandle<()>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        PROGRESS.hide();
    }
}

impl Progress {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silent_for(&self) -> Duration {
        let last = self.last_us.load(Ordering::Relaxed);
        let since_data = Duration::from_micros(monotonic_us().saturating_sub(last));
        since_data.min(telemetry::standard_error().silent_for())
    }

    /// Removes the line. None is shown until `is_paused` is taken back.
    fn hide(&self) {
        self.facts().is_paused = true;
        telemetry::standard_error().set_footer(None);
    }

    /// Hands the line over, unless nothing is to be shown. Whether it was.
    fn write(&self, write: impl FnOnce(Line)) -> bool {
        let under_way = self.activities.under_way();
        // Held meanwhile, so that nothing is shown after `hide`.
        let facts = self.facts();
        if !facts.is_paused {
            write(Line::of(&under_way, &facts, self.clock.now().wall));
        }
        !facts.is_paused
    }

    /// On a terminal.
    async fn renew(&self) {
        let mut is_shown = false;
        for turn in 0_usize.. {
            self.clock.sleep(LOOK_EVERY).await;
            is_shown &= telemetry::standard_error().has_footer();
            if !is_shown && self.silent_for() < SILENT_ON_A_TERMINAL {
                continue;
            }
            let mark = ["-", "\\", "|", "/"].get(turn / 2 % 4).copied().unwrap_or_default();
            is_shown = self.write(|line| {
                let row = line.row(width().saturating_sub(2));
                telemetry::standard_error().set_footer(Some(&format!("{mark} {row}")));
            });
        }
    }

    /// Elsewhere.
    async fn repeat(&self) {
        let mut last = String::new();
        loop {
            self.clock.sleep(LOOK_EVERY).await;
            let silent = self.silent_for();
            if silent < SILENT_ELSEWHERE {
                continue;
            }
            self.write(|line| {
                if line.kind != last || silent >= REPEATED_EVERY {
                    telemetry::standard_error().put(format!("{}\n", line.text()).as_bytes());
                    last = line.kind;
                }
            });
        }
    }
}

fn width() -> usize {
    let width = terminal_size_of(std::io::stderr()).map_or(USUAL_WIDTH, |(Width(width), _)| width);
    // Some terminals begin a new row after the last column.
    usize::from(width.max(20)).saturating_sub(1)
}

/// How many columns a text takes.
fn columns(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}

/// As much of a text as there is room for, with a sign that something is missing.
fn fitting(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut taken = 0;
    let fits = |character: &char| {
        taken += character.width().unwrap_or_default();
        taken < width
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// One thing that is waited for. What matters most comes first in its words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    words: String,
    /// What is shown only as far as there is room.
    tail: String,
    /// For how long. Of a text that is too long, this stays.
    suffix: String,
}

impl Part {
    fn text(&self) -> String {
        format!("{}{}{}", self.words, self.tail, self.suffix)
    }

    /// Without the tail.
    fn least(&self) -> usize {
        columns(&self.words) + columns(&self.suffix)
    }

    fn fitting(&self, width: usize) -> String {
        let room = width.saturating_sub(columns(&self.suffix));
        let tail = if room > columns(&self.words) { self.tail.as_str() } else { "" };
        format!("{}{}", fitting(&format!("{}{tail}", self.words), room), self.suffix)
    }
}

/// What is shown.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// The same text without what changes all the time.
    kind: String,
    parts: Vec<Part>,
    /// How many servers are done.
    counts: Option<Part>,
    /// Each server is named, so a row without room for everything leaves the counts out.
    names_each: bool,
}

impl Line {
    fn of(under_way: &[UnderWay], facts: &Facts, now: Timestamp) -> Self {
        let mut picked = picked(under_way, now);
        let throttled = |it: &&UnderWay| matches!(it.activity, Activity::Throttled { .. });
        let account_waits = picked.iter().any(|it| it.server.is_none() && throttled(it));
        let in_all = facts.tally.as_ref().map_or(0, |tally| tally.servers);
        if account_waits {
            // Whatever else waits, waits for that. A second time would be of no use.
            let waits = |it: &UnderWay| {
                matches!(it.activity, Activity::Queue | Activity::Step(_) | Activity::Retry { .. })
            };
            picked.retain(|it| it.server.is_none() || !waits(it));
        }
        let mut groups = if in_all > FEW || picked.len() > FEW {
            picked.retain(|it| it.server.is_none());
            let common = if account_waits { None } else { common_trouble(under_way, facts, now) };
            let of_account = picked.into_iter().map(|it| Group { names: Vec::new(), it });
            of_account.chain(common).collect()
        } else {
            Group::all_of(&picked, facts, now)
        };
        groups.sort_by_key(|group| !group.is_trouble());
        let mut kinds: Vec<String> =
            groups.iter().map(|group| group.words(None, facts, now).text()).collect();
        let mut parts: Vec<Part> =
            groups.iter().map(|group| group.words(Some(group.it.passed), facts, now)).collect();
        let tally = facts.tally.as_ref().filter(|tally| tally.servers > 1);
        let counts = tally.map(|tally| tally.words(under_way));
        if parts.is_empty() && counts.is_none() {
            let words = "still working".to_owned();
            kinds.push(words.clone());
            parts.push(Part { words, ..Part::default() });
        }
        Self { kind: kinds.join("; "), parts, counts, names_each: in_all <= FEW }
    }

    /// All of it.
    fn text(&self) -> String {
        self.parts.iter().chain(&self.counts).map(Part::text).collect::<Vec<_>>().join("; ")
    }

    /// As much as one row has room for: the words of each part, then the tails of the last ones, because several
    /// servers mostly wait for one reason; the tail of the counts comes last.
    fn row(&self, width: usize) -> String {
        let has_room = columns(&self.text()) <= width;
        let leaves_counts_out = self.names_each && !self.parts.is_empty() && !has_room;
        let counts = self.counts.iter().filter(|_| !leaves_counts_out);
        let all: Vec<&Part> = self.parts.iter().chain(counts).collect();
        let least: usize = all.iter().map(|part| part.least() + 2).sum();
        let mut left = (width + 2).saturating_sub(least);
        let mut widths: Vec<usize> = all.iter().map(|part| part.least()).collect();
        let tails = (0..self.parts.len()).rev().chain(self.parts.len()..all.len());
        for nth in tails {
            if let (Some(part), Some(width)) = (all.get(nth), widths.get_mut(nth)) {
                let tail = columns(&part.tail);
                // A few letters of it say nothing.
                let given = if tail > left && left < LEAST_OF_A_TAIL { 0 } else { tail.min(left) };
                *width += given;
                left -= given;
            }
        }
        let texts = all.iter().zip(widths).map(|(part, wanted)| part.fitting(wanted.min(width)));
        fitting(&texts.collect::<Vec<_>>().join("; "), width)
    }
}

/// Servers that wait for the same.
struct Group<'a> {
    names: Vec<&'a str>,
    /// What one of them waits for.
    it: &'a UnderWay,
}

impl<'a> Group<'a> {
    /// Servers that wait for the provider in the same way are one group. What they do themselves has its own time.
    fn all_of(picked: &[&'a UnderWay], facts: &Facts, now: Timestamp) -> Vec<Self> {
        let mut groups: Vec<(String, Self)> = Vec::new();
        for it in picked {
            let names: Vec<&str> = it.server.iter().map(|(_, name)| name.as_str()).collect();
            let kind = words(it, None, facts, now).text();
            let waits = matches!(it.activity, Activity::Queue) || asks(it);
            let alike = groups.iter_mut().find(|(known, group)| {
                waits && *known == kind && !names.is_empty() && !group.names.is_empty()
            });
            match alike {
                Some((_, group)) => group.names.extend(names),
                None => groups.push((kind, Self { names, it })),
            }
        }
        for (_, group) in &mut groups {
            group.names.sort_unstable();
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    fn words(&self, passed: Option<Duration>, facts: &Facts, now: Timestamp) -> Part {
        let part = words(self.it, passed, facts, now);
        let whose = match self.names.len() {
            0 => String::new(),
            few if few <= FEW => format!("{}: ", self.names.join(", ")),
            many => format!("{} servers: ", grouped(many)),
        };
        Part { words: format!("{whose}{}", part.words), ..part }
    }

    fn is_trouble(&self) -> bool {
        self.names.is_empty()
            || match self.it.activity {
                Activity::Retry { .. } | Activity::Throttled { .. } => true,
                Activity::Call { attempt, .. } => attempt > 1,
                _ => false,
            }
    }
}

/// Whether the provider is waited for.
fn asks(it: &UnderWay) -> bool {
    let activity = &it.activity;
    matches!(activity, Activity::Call { .. } | Activity::Retry { .. } | Activity::Throttled { .. })
}

/// What most servers of a fleet wait for, if the provider does not answer as usual.
fn common_trouble<'a>(
    under_way: &'a [UnderWay],
    facts: &Facts,
    now: Timestamp,
) -> Option<Group<'a>> {
    let troubled = under_way.iter().filter(|it| it.server.is_some() && asks(it) && lasts(it, now));
    let troubled: Vec<&UnderWay> = troubled.collect();
    let groups = Group::all_of(&troubled, facts, now);
    groups.into_iter().max_by_key(|group| (group.names.len(), group.it.passed))
}

/// For each server, and for the account, the part that lasts, or else the whole that it belongs to.
fn picked<'a>(under_way: &'a [UnderWay], now: Timestamp) -> Vec<&'a UnderWay> {
    let mut of_subjects: Vec<(Option<ServerId>, Vec<&UnderWay>)> = Vec::new();
    for it in under_way {
        let id = it.server.as_ref().map(|(id, _)| *id);
        let has_room = of_subjects.len() <= FEW + 1 || id.is_none();
        match of_subjects.iter_mut().find(|(known, _)| *known == id) {
            Some((_, entries)) => entries.push(it),
            // Of a fleet, only what concerns the account is told.
            None if has_room => of_subjects.push((id, vec![it])),
            None => {}
        }
    }
    // The account comes first.
    of_subjects.sort_by_key(|(id, _)| id.is_some());
    let pick = |(_, entries): (Option<ServerId>, Vec<&'a UnderWay>)| {
        entries.iter().rev().find(|it| lasts(it, now)).or(entries.first()).copied()
    };
    of_subjects.into_iter().filter_map(pick).collect()
}

fn lasts(it: &UnderWay, now: Timestamp) -> bool {
    let is_later = |at: Timestamp| at.duration_since(now) > SignedDuration::from_secs(1);
    it.passed >= LASTS
        || match it.activity {
            Activity::Call { attempt, .. } => attempt > 1,
            Activity::Retry { at, .. } => is_later(at),
            Activity::Throttled { until } => is_later(until),
            _ => false,
        }
}

impl Tally {
    /// `312 of 10,000 servers: 300 rotated, 12 failed, 8 in progress`.
    fn words(&self, under_way: &[UnderWay]) -> Part {
        let ended: usize = self.ended.values().sum();
        let in_progress: BTreeSet<ServerId> = under_way
            .iter()
            .filter(|it| !matches!(it.activity, Activity::Queue | Activity::Step(_)))
            .filter_map(|it| it.server.as_ref().map(|(id, _)| *id))
            .collect();
        let mut ended_like: Vec<_> = self.ended.iter().collect();
        ended_like.sort_by_key(|(_, count)| Reverse(**count));
        let mut parts: Vec<String> =
            ended_like.iter().map(|(how, count)| format!("{} {how}", grouped(**count))).collect();
        if !in_progress.is_empty() {
            parts.push(format!("{} in progress", grouped(in_progress.len())));
        }
        let colon = if parts.is_empty() { "" } else { ": " };
        Part {
            words: format!("{} of {} servers", grouped(ended), grouped(self.servers)),
            tail: format!("{colon}{}", parts.join(", ")),
            suffix: String::new(),
        }
    }
}

/// A number with commas between its thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// One entry in words, without its server. Without `passed`, what changes all the time is left out.
fn words(it: &UnderWay, passed: Option<Duration>, facts: &Facts, now: Timestamp) -> Part {
    let for_long = |passed: Duration| {
        let span = SignedDuration::from_secs(i64::try_from(passed.as_secs()).unwrap_or(i64::MAX));
        readable::span(span)
    };
    let since = passed.map(for_long);
    let lasting = since.as_ref().map(|span| format!(" for {span}")).unwrap_or_default();
    let in_brackets = since.as_ref().map(|span| format!(" ({span})")).unwrap_or_default();
    let id = it.server.as_ref().map(|(id, _)| *id);
    let (mut tail, mut suffix) = (String::new(), String::new());
    let words = match &it.activity {
        Activity::Call { attempt, attempts } => {
            tail = nth_attempt(*attempt, *attempts);
            format!("waiting for the provider{lasting}")
        }
        Activity::Retry { attempt, attempts, at, why } => {
            let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            let wait = match passed {
                Some(_) => format!(" in {}", for_long(left + Duration::from_millis(999))),
                None => String::new(),
            };
            let attempt = match attempt {
                attempt if attempt <= attempts => format!("attempt {attempt} of {attempts}"),
                attempt => format!("attempt {attempt}"),
            };
            tail = format!(": {why}");
            format!("{attempt}{wait}")
        }
        Activity::Queue => {
            suffix = in_brackets;
            "waiting for other calls".to_owned()
        }
        Activity::Throttled { .. } if passed.is_none() => "throttled".to_owned(),
        Activity::Throttled { until } => {
            let until = shown_today(*until, now, &zone(id, facts));
            format!("throttled by the provider until {until}")
        }
        Activity::Snapshot => {
            let usual = id.and_then(|id| facts.usual.get(&id)).map(|span| {
                let span = SignedDuration::try_from(*span).unwrap_or_default();
                format!(", usually done after {}", readable::span(span))
            });
            tail = usual.unwrap_or_default();
            format!("snapshot in progress{lasting}")
        }
        Activity::Percent { what, .. } if passed.is_none() => what.clone(),
        Activity::Percent { what, done } => {
            suffix = format!(": {done}% done");
            what.clone()
        }
        Activity::Step(what) | Activity::Other(what) => {
            // `looking for NAME until TIME: why`. Beside the end, a count would only raise questions.
            let (what, why) = what.find(": ").map_or((what.as_str(), ""), |at| what.split_at(at));
            why.clone_into(&mut tail);
            if !what.contains(" until ") {
                suffix = in_brackets;
            }
            what.to_owned()
        }
    };
    Part { words, tail, suffix }
}

fn nth_attempt(attempt: u32, attempts: u32) -> String {
    match attempt {
        attempt if attempts <= 1 || attempt == 0 => String::new(),
        attempt if attempt <= attempts => format!(", attempt {attempt} of {attempts}"),
        attempt => format!(", attempt {attempt}"),
    }
}

/// The zone of the server, or the one that all servers have.
fn zone(server: Option<ServerId>, facts: &Facts) -> TimeZone {
    let own = server.and_then(|id| facts.zones.get(&id));
    let common = || {
        let mut all = facts.zones.values();
        let first = all.next()?;
        all.all(|zone| zone == first).then_some(first)
    };
    own.or_else(common).cloned().unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: &str = "2026-11-23T02:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn of(server: Option<u64>, activity: Activity, seconds: u64) -> UnderWay {
        let server = server.map(|id| (ServerId::new(id), format!("web-{id}")));
        UnderWay { server, activity, passed: Duration::from_secs(seconds) }
    }

    fn facts() -> Facts {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let mut facts = Facts::default();
        facts.zones.insert(ServerId::new(1), berlin);
        facts
    }

    fn shown(under_way: &[UnderWay], facts: &Facts) -> String {
        Line::of(under_way, facts, now()).text()
    }

    #[rstest]
    #[case(Activity::Call { attempt: 1, attempts: 1 }, "waiting for the provider for 5s")]
    #[case(Activity::Call { attempt: 2, attempts: 5 }, "waiting for the provider for 5s, attempt 2 of 5")]
    #[case(Activity::Call { attempt: 7, attempts: 5 }, "waiting for the provider for 5s, attempt 7")]
    #[case(
        Activity::Retry { attempt: 3, attempts: 5, at: now() + SignedDuration::from_secs(4), why: "the provider answered 503".into() },
        "attempt 3 of 5 in 4s: the provider answered 503"
    )]
    #[case(
        Activity::Throttled { until: "2026-11-23T02:20:15Z".parse().unwrap() },
        "throttled by the provider until 03:20:15 CET"
    )]
    #[case(Activity::Percent { what: "simulating 90 days".into(), done: 43 }, "simulating 90 days: 43% done")]
    fn what_is_waited_for_is_said_with_its_server(#[case] activity: Activity, #[case] text: &str) {
        assert_eq!(shown(&[of(Some(1), activity, 5)], &facts()), format!("web-1: {text}"));
    }

    #[test]
    fn a_snapshot_in_progress_is_shown_with_how_long_it_usually_takes_if_that_is_known() {
        let mut facts = facts();
        let snapshot = [of(Some(1), Activity::Snapshot, 240)];
        assert_eq!(shown(&snapshot, &facts), "web-1: snapshot in progress for 4m");
        facts.usual.insert(ServerId::new(1), Duration::from_secs(360));
        let expected = "web-1: snapshot in progress for 4m, usually done after 6m";
        assert_eq!(shown(&snapshot, &facts), expected);
    }

    #[test]
    fn a_call_within_a_step_is_shown_once_it_lasts() {
        let within = |attempt, seconds| {
            let step = of(Some(1), Activity::Snapshot, 60);
            shown(&[step, of(Some(1), Activity::Call { attempt, attempts: 5 }, seconds)], &facts())
        };
        assert_eq!(within(1, 1), "web-1: snapshot in progress for 1m");
        assert_eq!(within(1, 2), "web-1: waiting for the provider for 2s, attempt 1 of 5");
        assert_eq!(within(2, 0), "web-1: waiting for the provider for 0s, attempt 2 of 5");
    }

    #[test]
    fn a_fleet_is_one_line_of_counts_with_what_the_account_waits_for() {
        let mut facts = facts();
        let ended = BTreeMap::from([("failed", 2), ("rotated", 3310)]);
        facts.tally = Some(Tally { servers: 10_000, ended });
        let mut under_way: Vec<UnderWay> =
            (1..=8).map(|id| of(Some(id), Activity::Call { attempt: 1, attempts: 5 }, 1)).collect();
        under_way.extend((9..=20).map(|id| of(Some(id), Activity::Queue, 9)));
        let counts = "3,312 of 10,000 servers: 3,310 rotated, 2 failed, 8 in progress";
        assert_eq!(shown(&under_way, &facts), counts);
        let until = "2026-11-23T02:20:15Z".parse().unwrap();
        under_way.push(of(None, Activity::Throttled { until }, 1));
        let expected = format!("throttled by the provider until 03:20:15 CET; {counts}");
        assert_eq!(shown(&under_way, &facts), expected);
    }

    #[test]
    fn what_only_counts_on_is_no_change() {
        let line = |seconds, done| {
            let what = "simulating".to_owned();
            let under_way = [
                of(None, Activity::Percent { what, done }, seconds),
                of(Some(1), Activity::Snapshot, seconds),
            ];
            Line::of(&under_way, &facts(), now()).kind
        };
        assert_eq!(line(3, 1), line(90, 50));
        let other = [of(Some(1), Activity::Other("running the before hook".into()), 3)];
        assert_ne!(line(3, 1), Line::of(&other, &facts(), now()).kind);
    }

    #[test]
    fn a_command_that_says_nothing_of_what_it_does_is_still_working() {
        assert_eq!(shown(&[], &facts()), "still working");
    }

    #[test]
    fn a_line_is_no_longer_than_the_terminal_is_wide() {
        assert_eq!(fitting("waiting", 7), "waiting");
        assert_eq!(fitting("waiting", 4), "wai…");
        assert_eq!(fitting("日本語", 5), "日本…");
        assert_eq!(fitting("日本語", 4), "日…");
    }

    /// The end of a row is what a narrow terminal loses.
    #[test]
    fn what_matters_stays_in_a_row_of_80_columns() {
        let why = "the provider answered 503 (service unavailable)".to_owned();
        let at = now() + SignedDuration::from_secs(4);
        let retry =
            |id| of(Some(id), Activity::Retry { attempt: 3, attempts: 5, at, why: why.clone() }, 5);
        let what = format!("looking for snapring-20261123T020000Z until 03:20:15 CET: {why}");
        let long = of(Some(1), Activity::Step(what), 5);
        let row = |under_way: &[UnderWay]| Line::of(under_way, &facts(), now()).row(77);
        assert_eq!(
            row(&[retry(1)]),
            "web-1: attempt 3 of 5 in 4s: the provider answered 503 (service unavailable)"
        );
        assert_eq!(
            row(&[long]),
            "web-1: looking for snapring-20261123T020000Z until 03:20:15 CET: the provide…"
        );
        // Of several, those in trouble come first. Then there is a sign that there are more.
        let short = |id| of(Some(id), Activity::Snapshot, 240);
        assert_eq!(
            row(&[short(1), short(2), retry(3)]),
            "web-3: attempt 3 of 5 in 4s; web-1: snapshot in progress for 4m; web-2: snap…"
        );
    }

    #[test]
    fn an_outage_is_told_once_with_the_attempt_and_the_next_one() {
        let why = "the provider answered 503 (service unavailable)".to_owned();
        let at = |seconds| now() + SignedDuration::from_secs(seconds);
        let retry = |id, attempt, seconds| {
            let why = why.clone();
            of(Some(id), Activity::Retry { attempt, attempts: 5, at: at(seconds), why }, 1)
        };
        let mut facts = facts();
        let row = |under_way: &[UnderWay], facts: &Facts| Line::of(under_way, facts, now()).row(77);
        facts.tally = Some(Tally { servers: 2, ended: BTreeMap::new() });
        assert_eq!(
            row(&[retry(1, 2, 8), retry(2, 2, 8)], &facts),
            "web-1, web-2: attempt 2 of 5 in 8s: the provider answered 503 (service unava…"
        );
        assert_eq!(
            row(&[retry(1, 2, 8), retry(2, 3, 4)], &facts),
            "web-1: attempt 2 of 5 in 8s; web-2: attempt 3 of 5 in 4s: the provider answe…"
        );
        facts.tally = Some(Tally { servers: 9000, ended: BTreeMap::from([("listed", 1000)]) });
        let many: Vec<UnderWay> = (1..=8).map(|id| retry(id, 2 + u32::from(id == 8), 8)).collect();
        assert_eq!(
            row(&many, &facts),
            "7 servers: attempt 2 of 5 in 8s: the provider answer…; 1,000 of 9,000 servers"
        );
    }

    #[test]
    fn what_is_too_long_alone_still_says_for_how_long() {
        let what = format!("another process is working on it since {}", "20:14:30 UTC, ".repeat(9));
        let row = Line::of(&[of(Some(1), Activity::Other(what), 5)], &facts(), now()).row(60);
        assert_eq!(row.chars().count(), 60, "{row}");
        assert!(row.ends_with("… (5s)"), "{row}");
    }

    /// Whatever a server waits for itself, it waits until then.
    #[test]
    fn a_wait_of_the_account_is_the_only_time_in_the_line() {
        let until = "2026-11-23T02:20:15Z".parse().unwrap();
        let step = "trying again after 03:20:25 CET: the provider answered 429".to_owned();
        let under_way = [
            of(None, Activity::Throttled { until }, 1),
            of(Some(1), Activity::Step(step), 9),
            of(Some(2), Activity::Queue, 9),
        ];
        assert_eq!(shown(&under_way, &facts()), "throttled by the provider until 03:20:15 CET");
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!([7, 999, 1000, 1_234_567].map(grouped), ["7", "999", "1,000", "1,234,567"]);
    }
}
