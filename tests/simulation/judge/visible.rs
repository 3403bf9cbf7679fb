//! S8: what goes wrong is seen by the operator. The judge forms its own opinion of each server from what has
//! happened in its world, and compares it with state, metrics and exit codes. What notices say is compared
//! in `notices.rs`.
//!
//! Where it cannot know (a skip that could have two causes, a clock that was set) it has no opinion until
//! something certain happens.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use snapring::moment::Moment;
use snapring::report::{PastRotation, Report};

use crate::judge::Judge;
use crate::judge::notices::{Told, WrittenDown};
use crate::policy::SimPolicy;

/// How long after a store is well again a try may come.
const STORE_TRIES: Duration = Duration::from_secs(90);

/// How long a store that does not work may stay unnoticed after something is to be written.
const STORE_FAILS: Duration = Duration::from_secs(60);

/// As a person would set `status --max-age`.
pub const MAX_AGE: Duration = Duration::from_secs(26 * 3600);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sure {
    #[default]
    No,
    Yes,
    Unclear,
}

/// What a rotation's end says of its server, in the judge's opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    Well,
    Bad(&'static str),
    /// A tick was skipped that should have run.
    Hindered,
    PerhapsHindered,
    Nothing,
    Anything,
}

/// Whether a server is in trouble by how its rotations ended.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    pub trouble: Sure,
    /// The state's word, where it is certain.
    pub word: Option<&'static str>,
    skips: u32,
    perhaps_skips: u32,
    /// Since when it is as it is: uptime.
    pub since: Duration,
}

impl Standing {
    pub fn hears(&mut self, says: Says, now: Duration) {
        let before = self.trouble;
        match says {
            Says::Nothing => {}
            Says::Well => *self = Self::default(),
            Says::Bad(word) => {
                (self.trouble, self.word) = (Sure::Yes, Some(word));
                (self.skips, self.perhaps_skips) = (0, 0);
            }
            Says::Hindered => {
                self.skips += 1;
                if self.skips >= 2 {
                    (self.trouble, self.word) = (Sure::Yes, Some("skipped"));
                } else if self.perhaps_skips > 0 {
                    self.doubt();
                }
            }
            Says::PerhapsHindered => {
                self.perhaps_skips += 1;
                if self.skips + self.perhaps_skips >= 2 {
                    self.doubt();
                }
            }
            Says::Anything => self.doubt(),
        }
        if before != self.trouble || says == Says::Well {
            self.since = now;
        }
    }

    /// Nothing is certain until the next rotation.
    pub fn unclear() -> Self {
        Self { trouble: Sure::Unclear, ..Self::default() }
    }

    fn doubt(&mut self) {
        self.word = None;
        if self.trouble == Sure::No {
            self.trouble = Sure::Unclear;
        }
    }
}

/// What an operator should see of one server.
#[derive(Debug, Clone, Default)]
pub struct Opinion {
    pub shown: Standing,
    /// The last success, by the daemon's clock: tick and end. `None`: none, or it is not known of.
    success: Option<(Timestamp, Timestamp)>,
    last: Option<Timestamp>,
    counts: BTreeMap<&'static str, u64>,
    /// When its schedule, zone or `enabled` was changed, or it came back, by the daemon's clock.
    edited_at: Option<Timestamp>,
    /// It was out of the configuration in this life: what the daemon still knows of it is not certain.
    was_out: bool,
    /// The newest that a snapshot of its own may be, by the provider's clock.
    newest: Option<Timestamp>,
}

/// A rotation that the database has.
#[derive(Debug, Clone)]
struct Stored {
    tick: Timestamp,
    ended_at: Timestamp,
    says: Says,
    /// As notices have it: a refused token is the account's trouble.
    tells: Says,
}

#[derive(Debug, Default)]
pub struct Visible {
    pub servers: BTreeMap<u64, Opinion>,
    pub told: Told,
    /// Nothing is compared before the daemon has started, nor while it shuts down.
    pub stopping: bool,
    life_began: Option<Moment>,
    /// Its clock was set in this life, or was wrong from the start.
    pub clock_was_set: bool,
    /// The store of this machine outlives the process.
    pub persists: bool,
    stored: BTreeMap<u64, Vec<Stored>>,
    /// How the rotations of this life ended, of which the store has not been told yet.
    unstored: BTreeMap<(u64, Timestamp, Timestamp), (Says, Says)>,
    /// Since when the store is as it is (uptime), and whether it works.
    store: (Duration, Sure),
    /// When something was last to be written.
    wrote_at: Duration,
    /// The last create that the store has of a server's memory, by the true clock.
    remembered_at: BTreeMap<u64, Timestamp>,
    /// Calls that have ended, by operation and class where the status alone decides it.
    calls: BTreeMap<&'static str, u64>,
    classes: BTreeMap<&'static str, u64>,
    last_call: Duration,
    pub looks: u64,
}

/// What the operator sees at one moment.
pub struct Seen {
    pub document: String,
    pub metrics: String,
    pub page: Option<String>,
    pub exits: Option<(u8, u8)>,
    /// The daemon's clock and the true one.
    pub at: Moment,
    pub truly: Moment,
    /// Servers that are in the configuration, and enabled.
    pub enabled: Vec<u64>,
    pub out: Option<u64>,
}

fn class(status: u16) -> Option<&'static str> {
    Some(match status {
        408 | 409 | 423 | 425 => "busy",
        429 => "throttled",
        500..=599 => "server_error",
        401 => "unauthorized",
        _ => return None,
    })
}

impl Judge {
    /// A process begins. `reads`: whether it can read what earlier ones have written; `told`: what they have written of
    /// what each service was told.
    pub fn life_begins(
        &mut self,
        at: Moment,
        clock_is_right: bool,
        reads: Sure,
        store: Sure,
        told: &WrittenDown,
    ) {
        let visible = &mut self.visible;
        visible.stopping = false;
        visible.life_began = Some(at);
        visible.clock_was_set = !clock_is_right;
        visible.unstored.clear();
        (visible.calls, visible.classes) = Default::default();
        (visible.last_call, visible.wrote_at) = Default::default();
        visible.store = (Duration::ZERO, store);
        if !visible.persists {
            visible.stored.clear();
        }
        if reads != Sure::Yes {
            // What earlier ones have learnt may come back later, or never.
            self.rings.values_mut().for_each(|ring| ring.surely_seen_completed.clear());
        }
        let ids: Vec<u64> = self.rings.keys().copied().collect();
        let odd_clock = self.clock_went_back || visible.clock_was_set;
        let told = (reads == Sure::Yes && !odd_clock).then_some(told);
        visible.told.life_begins(told, reads != Sure::No);
        for id in ids {
            let mut tells = Standing::default();
            let mut opinion = Opinion::default();
            let mut known: Vec<Stored> = visible.stored.get(&id).cloned().unwrap_or_default();
            match reads {
                Sure::Yes if !odd_clock => {
                    known.sort_by_key(|it| (it.ended_at, it.tick));
                    for stored in known {
                        opinion.shown.hears(stored.says, Duration::ZERO);
                        tells.hears(stored.tells, Duration::ZERO);
                        if stored.says == Says::Well {
                            opinion.success = Some((stored.tick, stored.ended_at));
                        }
                        opinion.last = Some(stored.ended_at);
                    }
                }
                Sure::No => {}
                _ if known.is_empty() => {}
                _ => {
                    opinion.shown.hears(Says::Anything, Duration::ZERO);
                    tells.hears(Says::Anything, Duration::ZERO);
                }
            }
            visible.told.server_begins(id, &tells, told.is_some());
            visible.servers.insert(id, opinion);
        }
    }

    /// The store of the machine breaks, or is well again.
    pub fn store_is(&mut self, works: Sure, now: Duration) {
        self.visible.store = (now, works);
    }

    /// The database has taken this.
    pub fn stored(
        &mut self,
        rotations: &[PastRotation],
        memories: impl Iterator<Item = u64>,
        now: Timestamp,
    ) {
        for id in memories {
            self.visible.remembered_at.insert(id, now);
        }
        for rotation in rotations {
            let (server, tick) = (rotation.server_id.number, rotation.tick.instant());
            let ended_at = Timestamp::from_millisecond(rotation.ended_at.as_millisecond()).unwrap();
            let key = (server, tick, ended_at);
            let Some((says, tells)) = self.visible.unstored.remove(&key) else {
                if !self.visible.stopping {
                    self.violated("S8", format!("the history has what did not happen: {key:?}"));
                }
                continue;
            };
            let stored = self.visible.stored.entry(server).or_default();
            stored.push(Stored { tick, ended_at, says, tells });
        }
    }

    /// Whether what the last rotation of a server has learnt outlives the process.
    pub fn is_remembered(&self, server: u64, learnt_at: Option<Timestamp>) -> bool {
        let at = self.visible.remembered_at.get(&server);
        self.remembers && at.is_some_and(|at| learnt_at.is_none_or(|learnt| *at >= learnt))
    }

    /// A server leaves the configuration, or comes back; or its schedule is changed.
    pub fn is_edited(&mut self, server: u64, is_out: bool, forgets: bool, at: Timestamp) {
        let opinion = self.visible.servers.entry(server).or_default();
        opinion.edited_at = Some(opinion.edited_at.map_or(at, |before| before.max(at)));
        if is_out {
            opinion.was_out = true;
            opinion.shown = Standing::unclear();
        }
        if forgets {
            self.visible.told.forgets(server);
        }
    }

    /// A call has ended, by this status if it was answered.
    pub fn counted(&mut self, operation: &'static str, status: Option<u16>, now: Duration) {
        self.visible.last_call = now;
        *self.visible.calls.entry(operation).or_default() += 1;
        if let Some(class) = status.and_then(class) {
            *self.visible.classes.entry(class).or_default() += 1;
        }
    }

    /// What the end of a rotation says.
    fn says(&self, report: &Report, is_near: bool, is_held: bool) -> Says {
        let server = report.server_id.number;
        let tick = report.tick.instant();
        let Some(ring) = self.rings.get(&server) else { return Says::Anything };
        // Edited while it ran: any of its policies may have been in force.
        let is_tick = |policy: &SimPolicy| {
            !policy.ticks(tick - SignedDuration::from_secs(1), tick).is_empty()
        };
        let recent = || ring.policies.iter().rev().take(3);
        match report.outcome.as_str() {
            "rotated" | "adopted" => Says::Well,
            _ if self.visible.stopping => Says::Anything,
            "blocked" => Says::Bad("blocked"),
            "failed" => Says::Bad("failed"),
            // What a person asked for is no tick. Once it has begun, a skip says what it would of a tick.
            _ if !recent().any(is_tick) && report.api_calls == 0 => Says::Nothing,
            _ if !recent().any(is_tick) => Says::PerhapsHindered,
            _ if recent().any(|policy| !policy.enabled) => Says::PerhapsHindered,
            _ if is_held && report.api_calls == 0 => Says::Hindered,
            _ if is_near => Says::PerhapsHindered,
            _ if recent().count() > 1 => Says::PerhapsHindered,
            _ => Says::Hindered,
        }
    }

    /// A rotation has ended: `at` by the daemon's clock.
    pub fn seen_to_end(
        &mut self,
        report: &Report,
        at: Timestamp,
        now: Moment,
        near: bool,
        held: bool,
    ) {
        let server = report.server_id.number;
        let says = self.says(report, near, held);
        // The answer may have been to a listing that was shared with it.
        let took = Duration::from_millis(report.duration_ms) + Duration::from_secs(70);
        let refused = self.visible.told.token_was_refused_since(now.uptime.saturating_sub(took));
        let visible = &mut self.visible;
        visible.wrote_at = now.uptime;
        let millisecond = Timestamp::from_millisecond(at.as_millisecond()).unwrap();
        let tells = match says {
            Says::Bad(_) if refused => Says::Anything,
            says => says,
        };
        visible.unstored.insert((server, report.tick.instant(), millisecond), (says, tells));
        let opinion = visible.servers.entry(server).or_default();
        opinion.shown.hears(says, now.uptime);
        opinion.last = Some(at);
        *opinion.counts.entry(report.outcome.as_str()).or_default() += 1;
        if says == Says::Well {
            opinion.success = Some((report.tick.instant(), at));
        }
        let ended = (report.tick.instant(), report.outcome.as_str());
        visible.told.rotation_ended(server, ended, says, refused, now.uptime);
    }

    /// A snapshot may be the newest of its server's own.
    pub fn may_be_newest(&mut self, server: u64, created_at: Timestamp) {
        let opinion = self.visible.servers.entry(server).or_default();
        opinion.newest = opinion.newest.max(Some(created_at));
    }

    /// Compares what the operator sees with the judge's own opinion.
    pub fn looks(&mut self, seen: &Seen) {
        self.visible.looks += 1;
        let wrong = self.compared(seen);
        for what in wrong {
            self.violated("S8", format!("{} {what}", seen.truly.wall));
        }
        for what in self.visible.told.missing(&seen.enabled, seen.truly.uptime) {
            self.violated("S8", format!("{} {what}", seen.truly.wall));
        }
        let counts = ["ok", "failed", "lost"].map(|outcome| {
            number(&seen.metrics, &format!("snapring_notices_total{{outcome=\"{outcome}\"}}"))
        });
        if let Some(what) = self.visible.told.miscounted(counts, seen.truly.uptime) {
            self.violated("S8", format!("{} {what}", seen.truly.wall));
        }
    }

    fn compared(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        let document: Value = match serde_json::from_str(&seen.document) {
            Ok(document) => document,
            Err(problem) => return vec![format!("the status document is no JSON: {problem}")],
        };
        let none = Vec::new();
        let rows = document["servers"].as_array().unwrap_or(&none);
        let row = |id: u64| rows.iter().find(|row| row["id"].as_u64() == Some(id));
        let (mut in_trouble, mut all_well, mut all_young) = (false, true, true);
        let mut is_old = false;
        for (id, opinion) in &self.visible.servers {
            if seen.out == Some(*id) {
                continue;
            }
            let Some(row) = row(*id) else {
                wrong.push(format!("{id} is not in the status document"));
                continue;
            };
            let state = row["state"].as_str().unwrap_or_default();
            let name = format!("server-{id}");
            let metric = |name: &str| number(&seen.metrics, name);
            let trouble = metric(&format!("snapring_trouble{{server=\"{name}\"}}"));
            let stale = metric(&format!("snapring_stale{{server=\"{name}\"}}"));
            if !seen.enabled.contains(id) {
                if state != "disabled" || trouble.is_some() || stale.is_some() {
                    wrong.push(format!(
                        "{id} is disabled, and shown as {state}, {trouble:?}, {stale:?}"
                    ));
                }
                continue;
            }
            let is_stale = self.is_stale(*id, opinion, seen);
            let is_under_way = !row["under_way"].is_null();
            let expected = match (opinion.shown.trouble, is_stale) {
                (Sure::Yes, _) => Sure::Yes,
                (Sure::No, Sure::No) => Sure::No,
                (_, Sure::Yes) if !is_under_way => Sure::Yes,
                _ => Sure::Unclear,
            };
            let differs = |shown: Option<f64>, expected: Sure| match expected {
                Sure::Yes => shown != Some(1.0),
                Sure::No => shown != Some(0.0),
                Sure::Unclear => shown.is_none(),
            };
            if differs(trouble, expected) {
                wrong.push(format!(
                    "{id}: snapring_trouble is {trouble:?}: {expected:?} {opinion:?}"
                ));
            }
            if differs(stale, is_stale) {
                wrong.push(format!("{id}: snapring_stale is {stale:?}: {is_stale:?} {opinion:?}"));
            }
            let is_bad = ["failed", "blocked", "skipped", "stale"].contains(&state);
            let word = opinion.shown.word.filter(|_| opinion.shown.trouble == Sure::Yes);
            if (is_bad && expected == Sure::No)
                || (!is_bad && expected == Sure::Yes)
                || word.is_some_and(|word| word != state)
            {
                wrong.push(format!("{id} is shown as {state}: {expected:?} {opinion:?}"));
            }
            if is_bad != row["trouble"]["reason"].is_string() {
                wrong.push(format!("{id} is {state}, for the reason {}", row["trouble"]));
            }
            if let Some(page) = &seen.page
                && !page.contains(&name)
            {
                wrong.push(format!("the page does not show {name}"));
            }
            in_trouble |= expected == Sure::Yes;
            all_well &= expected == Sure::No;
            match opinion.success.filter(|_| !opinion.was_out) {
                Some((_, at)) => {
                    let age = seen.at.wall.duration_since(at);
                    let allowed = SignedDuration::try_from(MAX_AGE).unwrap();
                    is_old |= age > allowed + SignedDuration::from_secs(1);
                    all_young &= age < allowed && !age.is_negative();
                    let shown =
                        format!("snapring_last_success_timestamp_seconds{{server=\"{name}\"}}");
                    self.is_the_time(&mut wrong, seen, &shown, at);
                }
                None => all_young = false,
            }
            if !opinion.was_out {
                if let Some(at) = opinion.last {
                    let shown =
                        format!("snapring_last_rotation_timestamp_seconds{{server=\"{name}\"}}");
                    self.is_the_time(&mut wrong, seen, &shown, at);
                }
                for outcome in ["rotated", "adopted", "skipped", "blocked", "failed"] {
                    let shown = metric(&format!(
                        "snapring_rotations_total{{server=\"{name}\",outcome=\"{outcome}\"}}"
                    ));
                    let count = opinion.counts.get(outcome).copied().unwrap_or_default();
                    if shown != Some(count as f64) {
                        wrong.push(format!("{id} had {count} {outcome}, shown are {shown:?}"));
                    }
                }
            }
        }
        self.compare_calls(&mut wrong, seen);
        let store = self.compare_store(&mut wrong, seen, &document);
        let Some((plain, check)) = seen.exits else {
            wrong.push("`status` cannot read the document".to_owned());
            return wrong;
        };
        let undelivered = self.visible.told.undelivered(seen.truly.uptime);
        let is_bad = in_trouble || store == Sure::No || undelivered == Sure::Yes;
        let is_good = all_well && store == Sure::Yes && undelivered == Sure::No;
        let plain_is_wrong = match () {
            () if is_bad => plain != 1,
            () if is_good => plain != 0,
            () => ![0, 1].contains(&plain),
        };
        if plain_is_wrong {
            wrong.push(format!(
                "`status` exits with {plain}: trouble {in_trouble}, store {store:?}, undelivered \
                 {undelivered:?}"
            ));
        }
        let check_is_wrong = match () {
            // Clocks that are wrong are told of first.
            () if is_old => check != 2,
            () if is_bad => check == 0,
            () if is_good && all_young => check != 0,
            () => false,
        };
        if check_is_wrong {
            wrong.push(format!(
                "`status --max-age` exits with {check}: old {is_old}, trouble {in_trouble}, store {store:?}"
            ));
        }
        wrong
    }

    fn is_the_time(&self, wrong: &mut Vec<String>, seen: &Seen, name: &str, at: Timestamp) {
        let shown = number(&seen.metrics, name);
        let differs = |shown: f64| (shown - at.as_millisecond() as f64 / 1000.0).abs() > 0.002;
        if shown.is_none_or(differs) {
            wrong.push(format!("{name} is {shown:?}, and should be {at}"));
        }
    }

    /// Every call that has ended is counted, and no other.
    fn compare_calls(&self, wrong: &mut Vec<String>, seen: &Seen) {
        // At the very moment of an answer it may not be counted yet.
        if seen.truly.uptime.saturating_sub(self.visible.last_call) < Duration::from_secs(1) {
            return;
        }
        for (operation, count) in &self.visible.calls {
            let is_of = |line: &str| line.contains(&format!("operation=\"{operation}\""));
            let shown = sum(&seen.metrics, "snapring_api_requests_total{", is_of);
            if shown != *count as f64 {
                wrong.push(format!("{count} calls {operation} have ended, shown are {shown}"));
            }
        }
        for class in ["busy", "throttled", "server_error", "unauthorized"] {
            let count = self.visible.classes.get(class).copied().unwrap_or_default();
            let is_of = |line: &str| line.contains(&format!("outcome=\"{class}\""));
            let shown = sum(&seen.metrics, "snapring_api_requests_total{", is_of);
            // A 403 of the account itself counts as the refused token that it is.
            let fits = shown == count as f64 || (class == "unauthorized" && shown > count as f64);
            if !fits {
                wrong.push(format!("{count} calls ended as {class}, shown are {shown}"));
            }
        }
    }

    /// Whether the store is shown to work, if that is certain.
    fn compare_store(&self, wrong: &mut Vec<String>, seen: &Seen, document: &Value) -> Sure {
        let (since, works) = self.visible.store;
        let now = seen.truly.uptime;
        let expected = match works {
            Sure::Yes if now > since + STORE_TRIES => Sure::Yes,
            Sure::No
                if self.visible.wrote_at > since && now > self.visible.wrote_at + STORE_FAILS =>
            {
                Sure::No
            }
            _ => Sure::Unclear,
        };
        let shown = number(&seen.metrics, "snapring_store_up");
        let in_document = document["daemon"]["store"]["up"].as_bool();
        let is_up = shown == Some(1.0);
        if shown.is_none() || in_document != Some(is_up) {
            wrong.push(format!("snapring_store_up is {shown:?}, in the document {in_document:?}"));
        }
        match expected {
            Sure::Yes if !is_up => wrong.push("the store works, and is not shown so".to_owned()),
            Sure::No if is_up => {
                wrong.push("the store does not work, and is shown as up".to_owned())
            }
            _ => {}
        }
        if expected == Sure::Yes && !self.visible.stopping {
            let old = self.visible.wrote_at + STORE_TRIES < now;
            if old && let Some(missing) = self.visible.unstored.keys().next() {
                wrong.push(format!("the history lacks {missing:?}"));
            }
        }
        if is_up { Sure::Yes } else { Sure::No }
    }

    /// Whether the last success of a server is too old: older than two intervals of its schedule.
    fn is_stale(&self, id: u64, opinion: &Opinion, seen: &Seen) -> Sure {
        let policy = self.rings.get(&id).and_then(|ring| ring.policies.last());
        let (Some(policy), Some(began)) = (policy, self.visible.life_began) else {
            return Sure::Unclear;
        };
        if self.visible.clock_was_set || opinion.was_out {
            return Sure::Unclear;
        }
        let now = seen.at.wall;
        // The daemon has started by then.
        let start = began.wall + SignedDuration::from_secs(10);
        let in_force = opinion.edited_at.map_or(start, |edited| edited.max(start));
        let grace = SignedDuration::from_secs(5);
        match opinion.success {
            Some((tick, at)) if at > in_force => {
                let Some(limit) = policy.two_intervals_after(tick, at) else {
                    return Sure::Unclear;
                };
                let stale_at = limit + policy.jitter();
                match () {
                    () if now > stale_at + grace => Sure::Yes,
                    () if now < stale_at - grace => Sure::No,
                    () => Sure::Unclear,
                }
            }
            _ => {
                let latest = opinion.newest.map_or(in_force, |newest| newest.max(in_force));
                let latest = opinion.success.map_or(latest, |(_, at)| at.max(latest));
                match () {
                    () if now > latest + policy.longest_two_intervals() + policy.jitter() => {
                        Sure::Yes
                    }
                    // No schedule here has two intervals within that.
                    () if !self.visible.persists
                        && now < began.wall + SignedDuration::from_mins(35) =>
                    {
                        Sure::No
                    }
                    () => Sure::Unclear,
                }
            }
        }
    }
}

/// The value of a series.
fn number(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics
        .lines()
        .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The sum of those series whose line begins so.
fn sum(metrics: &str, name: &str, is_of: impl Fn(&str) -> bool) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name) && is_of(line));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
