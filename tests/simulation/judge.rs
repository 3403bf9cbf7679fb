//! The independent judge: sees every request and answer, every change at the provider and every
//! report, and knows nothing of how the product decides.

pub mod notices;
mod peace;
mod unclear;
pub mod visible;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value;
use snapring::call::Operation;
use snapring::moment::Moment;
use snapring::provider::transport::{Method, Request, Response, TransportError};
use snapring::report::Report;
use snapring::sandbox::provider::{Act, StoredSnapshot};

use crate::digests::{Record, act_line, answer_line, method, report_line, request_line};
use crate::judge::peace::{Peace, another_is_near};
use crate::judge::unclear::Unclear;
use crate::judge::visible::Visible;
use crate::oracle::{is_managed, kept, newest, one_per_tick, tick_in};
use crate::policy::SimPolicy;

/// The contract's limit for what a delete may rest on.
const FRESH: Duration = Duration::from_secs(60);

/// The longest wait that one call's answer asks of the whole account.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// How long an act may come after the listing that it rests on: that, and the request's timeout.
const EVIDENCE: SignedDuration = SignedDuration::from_secs(60 + 30);

#[derive(Debug, Clone)]
struct Seen {
    asked_at: Moment,
    ids: BTreeSet<u64>,
    /// Those of them that it shows as completed.
    completed: BTreeSet<u64>,
    /// Of all servers: a filter may have been ignored.
    rows: u64,
    /// It is of the account, and may have been read for others only.
    together: bool,
}

/// A listing of the account, while its pages come in.
#[derive(Debug)]
struct Together {
    asked_at: Moment,
    /// Server and snapshot of each row, and whether it is completed.
    rows: Vec<(u64, u64, bool)>,
    pages: u32,
    /// Something was changed since its first page: between two pages a row may have been lost.
    disturbed: bool,
}

#[derive(Debug, Default)]
struct Ring {
    policies: Vec<SimPolicy>,
    /// Good listings that were delivered, newest last.
    listings: VecDeque<Seen>,
    /// Pages of a listing that is being read.
    reading: Option<Seen>,
    changes_in_flight: u32,
    /// Deletions since the last report.
    pending: Vec<Act>,
    /// Names that the daemon itself deleted. One that the provider lost or a person removed may be
    /// made again for its tick: then it is not a second one.
    pruned: BTreeSet<String>,
    changed_by_hand: Option<Timestamp>,
    unclear: Unclear,
    /// Calls since the last report: a rotation is under way.
    calls_under_way: u32,
    /// Ticks that may still be run late since the daemon last woke.
    late_runs_left: u32,
    last_late_run: Option<Timestamp>,
    /// When the last rotation ended.
    ended_at: Option<Timestamp>,
    /// The last ones: a delete that strays arrives after its rotation has ended.
    rotations: VecDeque<Rotation>,
    /// Shown as completed by any listing, and by one of its own in a rotation that came to its end.
    perhaps_seen_completed: BTreeSet<u64>,
    /// Since when it has been sure of each.
    surely_seen_completed: BTreeMap<u64, Timestamp>,
    /// What its own creates have made, by id and whatever its name, since one of them was completed.
    made: BTreeSet<u64>,
    /// What it has given up for a new one since then.
    spent: Option<Spent>,
}

/// What a server has given up for a new snapshot that has not come.
#[derive(Debug)]
struct Spent {
    /// How many of its own it had before the first went, without what has been made since.
    had: u32,
    given_up: BTreeSet<u64>,
}

impl Ring {
    /// By what the provider really has: has one of its own been completed?
    fn heed_success(&mut self, before: &[StoredSnapshot]) {
        let managed = |row: &StoredSnapshot| {
            self.policies.iter().any(|policy| is_managed(&policy.prefix, &row.name))
        };
        let is_success = |row: &StoredSnapshot| {
            row.status == "completed" && self.made.contains(&row.id.0) && managed(row)
        };
        // What was set to failed or removed by hand was completed, if a listing has shown it so.
        let was_success = !self.made.is_disjoint(&self.perhaps_seen_completed);
        if was_success || before.iter().any(is_success) {
            self.made.clear();
            self.spent = None;
        }
    }

    /// A completed one is given up for a new one. Whether it is one too many.
    fn gives_up(&mut self, act: &Act) -> Option<String> {
        let managed = |policy: &SimPolicy, row: &StoredSnapshot| {
            is_managed(&policy.prefix, &row.name) && !policy.pins.contains(&row.id.0)
        };
        let count = |which: &dyn Fn(&StoredSnapshot) -> bool| {
            u32::try_from(act.before.iter().filter(|row| which(row)).count()).unwrap()
        };
        let had = self
            .policies
            .iter()
            .map(|policy| count(&|row| managed(policy, row) && !self.made.contains(&row.id.0)));
        let had = had.max().unwrap_or(0);
        let spent = self.spent.get_or_insert(Spent { had, given_up: BTreeSet::new() });
        // What people have added since then needs room too.
        let given_up = u32::try_from(spent.given_up.len()).unwrap();
        spent.had = spent.had.max(had + given_up);
        spent.given_up.insert(act.row.id.0);
        let allowed = self.policies.iter().map(|policy| {
            let others = count(&|row| !managed(policy, row) && !self.made.contains(&row.id.0));
            (spent.had + 1).saturating_sub(policy.cap.saturating_sub(policy.reserve.max(others)))
        });
        let allowed = allowed.max().unwrap_or(0).max(1);
        (spent.given_up.len() > allowed as usize).then(|| {
            format!(
                "{} is given up as number {} for {allowed} slots since the last success",
                act.row.name,
                spent.given_up.len()
            )
        })
    }
}

impl Ring {
    /// A good listing was delivered.
    fn listed(&mut self, seen: Seen) {
        self.perhaps_seen_completed.extend(&seen.completed);
        self.listings.push_back(seen);
        if self.listings.len() > 8 {
            self.listings.pop_front();
        }
    }
}

/// Since when the daemon runs, or has had its clock stepped: what was due before was missed.
#[derive(Debug, Clone, Copy)]
struct Wake {
    /// By the daemon's clock.
    at: Timestamp,
    truly_at: Timestamp,
}

/// A rotation as far as its deletions are judged by it.
#[derive(Debug)]
struct Rotation {
    began: Timestamp,
    ended: Timestamp,
    /// The name of its tick's snapshot.
    own_name: String,
    /// Deleted before its own snapshot was there.
    victims: u32,
    /// How many of those it needed.
    allowed: u32,
}

/// A rotation that has ended.
#[derive(Debug)]
pub struct Told {
    pub at: Timestamp,
    pub server: u64,
    pub tick: Timestamp,
    pub outcome: &'static str,
}

#[derive(Debug, Default)]
pub struct Judge {
    rings: BTreeMap<u64, Ring>,
    together: Option<Together>,
    acts_seen: usize,
    /// The daemon's clock was set back; a daemon that starts after that cannot know of ticks whose
    /// snapshots were pruned.
    pub clock_went_back: bool,
    pub violations: Vec<String>,
    pub record: Record,
    /// Between the start and the end of a process.
    pub is_running: bool,
    /// A process knows what earlier ones remembered.
    pub remembers: bool,
    pub exchanges: u64,
    pub creates: u64,
    woke: Option<Wake>,
    /// Until when (uptime) the provider asked the account to wait.
    closed_until: Duration,
    /// The same for calls of one kind about one server, or about the account.
    held_until: BTreeMap<Kind, Duration>,
    peace: Option<Peace>,
    pub reports: Vec<Told>,
    /// What the operator should see.
    pub visible: Visible,
    /// Servers that another process has claimed.
    pub held: BTreeSet<u64>,
}

fn age(then: Moment, now: Moment) -> Duration {
    let wall = now.wall.as_millisecond() - then.wall.as_millisecond();
    Duration::from_millis(u64::try_from(wall).unwrap_or(0))
        .max(now.uptime.saturating_sub(then.uptime))
}

/// Calls that a long `Retry-After` counts for together: by method, what is asked about, and which server.
type Kind = (&'static str, String, Option<u64>);

fn kind(request: &Request, server: Option<u64>) -> Kind {
    let about = request.path.split(['/', '?']).next().unwrap_or_default();
    (method(request.method), about.to_owned(), server)
}

impl Judge {
    pub fn policies(&mut self, policies: &[SimPolicy]) {
        for policy in policies {
            self.rings.entry(policy.id).or_default().policies.push(policy.clone());
        }
    }

    pub fn by_hand(&mut self, server: u64, at: Timestamp, what: String) {
        self.rings.entry(server).or_default().changed_by_hand = Some(at);
        self.may_be_newest(server, at);
        self.tell(|| format!("{at} by hand on {server}: {what}"));
    }

    /// Whether a server's policy as it is now would take a snapshot of this name for its own.
    pub fn is_managed(&self, server: u64, name: &str) -> bool {
        let policy = self.rings.get(&server).and_then(|ring| ring.policies.last());
        policy.is_some_and(|policy| is_managed(&policy.prefix, name))
    }

    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        let Record { story, digest } = &mut self.record;
        if story.is_none() && digest.is_none() {
            return;
        }
        let line = line();
        if let Some(digest) = digest {
            digest.add(&line);
        }
        if let Some(story) = story {
            story.push(line);
        }
    }

    /// A detail for the digest alone: people would not want to read it.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(digest) = &mut self.record.digest {
            digest.add(&line());
        }
    }

    /// The daemon has started, its machine has slept, or its clock was stepped: L2 counts anew.
    pub fn woke(&mut self, at: Timestamp, truly_at: Timestamp) {
        self.woke = Some(Wake { at, truly_at });
        for ring in self.rings.values_mut() {
            // One for the ticks that were missed, and one that may have begun before.
            ring.late_runs_left = 1 + u32::from(ring.calls_under_way > 0);
        }
    }

    fn violated(&mut self, rule: &str, what: String) {
        self.tell(|| format!("VIOLATION {rule}: {what}"));
        self.violations.push(format!("{rule}: {what}"));
    }

    /// The process is gone, and with it whatever it had under way.
    pub fn crashed(&mut self) {
        self.together = None;
        self.closed_until = Duration::ZERO;
        self.held_until.clear();
        let ended_at: Vec<(u64, Option<Timestamp>)> =
            self.rings.iter().map(|(id, ring)| (*id, ring.ended_at)).collect();
        for (id, ended_at) in ended_at {
            let is_remembered = self.is_remembered(id, ended_at);
            let ring = self.rings.entry(id).or_default();
            ring.listings.clear();
            ring.reading = None;
            ring.unclear = Unclear::default();
            ring.changes_in_flight = 0;
            ring.calls_under_way = 0;
            ring.pending.clear();
            if !is_remembered {
                ring.surely_seen_completed.clear();
            }
        }
        self.tell(|| "the process is gone".to_owned());
    }

    /// A request is about to leave. Gives the server whose change is under way.
    pub fn sent(&mut self, request: &Request, now: Moment) -> Option<u64> {
        let changes = self.sends(request, now);
        let server = changes.or_else(|| parameter(&request.path, "server_id"));
        let held = self.held_until.get(&kind(request, server)).copied();
        let until = self.closed_until.max(held.unwrap_or_default());
        if now.uptime < until {
            let early = until - now.uptime;
            let what = method(request.method);
            self.violated(
                "429",
                format!("{what} about {server:?} {early:?} before it may be sent"),
            );
        }
        changes
    }

    /// An answer asks to wait: everyone, or, for longer than a quarter of an hour, such calls about the
    /// server.
    fn asked_to_wait(
        &mut self,
        request: &Request,
        server: Option<u64>,
        answer: &Response,
        now: Moment,
    ) {
        let asked = answer.retry_after.as_ref().filter(|_| answer.status == 429);
        let Some(asked) = asked.and_then(|text| text.parse().ok()).map(Duration::from_secs) else {
            return;
        };
        // The provider's word is believed for a day.
        let asked = asked.min(Duration::from_secs(24 * 3600));
        let until = if asked <= LONGEST_WAIT {
            &mut self.closed_until
        } else {
            self.held_until.entry(kind(request, server)).or_default()
        };
        *until = (*until).max(now.uptime + asked);
    }

    fn sends(&mut self, request: &Request, now: Moment) -> Option<u64> {
        self.exchanges += 1;
        let number = self.exchanges;
        self.tell(|| format!("{} -> {} {}", now.wall, method(request.method), request.path));
        self.note(|| request_line(number, request, now));
        match request.method {
            Method::Get => {
                match parameter(&request.path, "server_id") {
                    Some(server) => self.rings.entry(server).or_default().calls_under_way += 1,
                    // It may be on behalf of any of them.
                    None => self.rings.values_mut().for_each(|ring| ring.calls_under_way += 1),
                }
                None
            }
            Method::Post => {
                self.creates += 1;
                let body: Value = serde_json::from_slice(request.body.as_deref()?).ok()?;
                let server = body["server_id"].as_u64()?;
                self.creates_again(server);
                let ring = self.rings.get(&server)?;
                let cap = ring.policies.last().map_or(0, |policy| policy.cap) as usize;
                let fresh: Vec<&Seen> = ring
                    .listings
                    .iter()
                    .rev()
                    .filter(|seen| age(seen.asked_at, now) <= FRESH)
                    .collect();
                // The newest one that was surely its own, and those of the account since.
                let own = fresh.iter().position(|seen| !seen.together);
                let used = &fresh[..own.map_or(fresh.len(), |own| own + 1)];
                if used.is_empty() {
                    self.violated("S4", format!("a create for {server} rests on no listing"));
                } else if used.iter().all(|seen| seen.ids.len() >= cap) {
                    self.violated("S4", format!("a create for {server} though no slot was free"));
                }
                self.begin_change(server);
                Some(server)
            }
            Method::Delete => {
                let id: u64 =
                    request.path.trim_end_matches('/').rsplit('/').next()?.parse().ok()?;
                let holds = |ring: &Ring| {
                    ring.listings
                        .iter()
                        .any(|seen| age(seen.asked_at, now) <= FRESH && seen.ids.contains(&id))
                };
                let server = self.rings.iter().find(|(_, ring)| holds(ring)).map(|(id, _)| *id);
                match server {
                    None => {
                        self.violated("S5", format!("the delete of {id} rests on no fresh listing"))
                    }
                    Some(server) => {
                        let policy = self.rings.get(&server).and_then(|it| it.policies.last());
                        if policy.is_some_and(|policy| policy.pins.contains(&id)) {
                            self.violated("S1", format!("{id} is pinned, and its delete was sent"));
                        }
                        self.begin_change(server);
                    }
                }
                server
            }
        }
    }

    fn begin_change(&mut self, server: u64) {
        if let Some(together) = &mut self.together {
            together.disturbed = true;
        }
        if self.held.contains(&server) {
            self.violated("S6", format!("a change of {server}, which another process has"));
        }
        let ring = self.rings.entry(server).or_default();
        ring.changes_in_flight += 1;
        if ring.changes_in_flight > 1 {
            self.violated("S6", format!("two changes of {server} at once"));
        }
    }

    /// The request is over, however it ended.
    pub fn ended(&mut self, server: Option<u64>, acts: &[Act]) {
        if let Some(ring) = server.and_then(|server| self.rings.get_mut(&server)) {
            ring.changes_in_flight = ring.changes_in_flight.saturating_sub(1);
        }
        self.examine(acts);
    }

    pub fn answered(
        &mut self,
        number: u64,
        request: &Request,
        about: Option<u64>,
        [sent_at, now]: [Moment; 2],
        answer: &Result<Response, TransportError>,
    ) {
        if let Ok(response) = answer {
            self.asked_to_wait(request, about, response, now);
        }
        if let Some(server) = about {
            self.leaves_unclear(server, request, answer, now);
        }
        self.tell(|| match answer {
            Ok(response) => format!(
                "    <- {}{}",
                response.status,
                if response.body.is_err() { " torn" } else { "" }
            ),
            Err(error) => format!("    <- {error}"),
        });
        self.note(|| answer_line(number, request, sent_at, answer));
        let (Method::Get, Ok(Response { status: 200, headers, body: Ok(body), .. })) =
            (request.method, answer)
        else {
            return;
        };
        // The simulated headers: an age in seconds, and paging.
        if headers.content_range.is_some() {
            return;
        }
        let cached = headers.age.first().map_or(0, |age| age.parse().unwrap());
        let asked_at = sent_at.before(Duration::from_secs(cached));
        let Ok(page) = serde_json::from_slice::<Value>(body) else { return };
        let Some(rows) = page.as_array().or_else(|| page["results"].as_array()) else { return };
        // Paging that the body does not speak of.
        if !headers.link.is_empty() && !page["next"].is_string() {
            return;
        }
        let first = parameter(&request.path, "page").unwrap_or(1) == 1;
        let Some(server) = parameter(&request.path, "server_id") else {
            return self.answered_together(&page, rows, first, asked_at);
        };
        let ring = self.rings.entry(server).or_default();
        if first {
            ring.reading = Some(Seen {
                asked_at,
                ids: BTreeSet::new(),
                completed: BTreeSet::new(),
                rows: 0,
                together: false,
            });
        }
        let Some(reading) = &mut ring.reading else { return };
        reading.asked_at = reading.asked_at.earliest(asked_at);
        reading.rows += rows.len() as u64;
        let own = rows.iter().filter(|row| row["server"]["id"].as_u64() == Some(server));
        reading.ids.extend(own.clone().filter_map(|row| row["id"].as_u64()));
        let completed = own.filter(|row| row["status"] == "completed");
        reading.completed.extend(completed.filter_map(|row| row["id"].as_u64()));
        if page["next"].is_string() {
            return;
        }
        let Some(seen) = ring.reading.take() else { return };
        if page["count"].as_u64().is_some_and(|count| count != seen.rows) {
            return;
        }
        ring.listed(seen);
    }

    /// A page of a listing of the account, which is good for every server once it is whole: counted
    /// by the provider, and nothing was changed between two pages.
    fn answered_together(&mut self, page: &Value, rows: &[Value], first: bool, asked_at: Moment) {
        if first {
            let disturbed = self.rings.values().any(|ring| ring.changes_in_flight > 0);
            self.together = Some(Together { asked_at, rows: Vec::new(), pages: 0, disturbed });
        }
        let Some(together) = &mut self.together else { return };
        together.asked_at = together.asked_at.earliest(asked_at);
        let ids = |row: &Value| {
            let is_completed = row["status"] == "completed";
            Some((row["server"]["id"].as_u64()?, row["id"].as_u64()?, is_completed))
        };
        together.rows.extend(rows.iter().filter_map(ids));
        together.pages += 1;
        if page["next"].is_string() {
            return;
        }
        let Some(Together { asked_at, rows, pages, disturbed }) = self.together.take() else {
            return;
        };
        let each: BTreeSet<_> = rows.iter().copied().collect();
        let is_counted = page["count"].as_u64() == Some(each.len() as u64);
        if !is_counted || (pages > 1 && disturbed) {
            return;
        }
        for (id, ring) in &mut self.rings {
            let own = each.iter().filter(|(server, ..)| server == id);
            let ids: BTreeSet<u64> = own.clone().map(|(_, id, _)| *id).collect();
            let completed =
                own.filter(|(.., completed)| *completed).map(|(_, id, _)| *id).collect();
            ring.listed(Seen { asked_at, rows: ids.len() as u64, ids, completed, together: true });
        }
    }

    /// One of the servers, by chance; for whoever wants to do something to any.
    pub fn any_server(&self, random: &mut StdRng) -> Option<u64> {
        let nth = random.random_range(0..self.rings.len().max(1));
        self.rings.keys().nth(nth).copied()
    }

    /// What calls have changed at the provider since the last look.
    pub fn examine(&mut self, acts: &[Act]) {
        let new: Vec<Act> = acts.iter().skip(self.acts_seen).cloned().collect();
        self.acts_seen = acts.len();
        for act in new {
            self.tell(|| {
                format!(
                    "{} {} {} {} ({})",
                    act.at,
                    act.operation.as_str(),
                    act.row.id,
                    act.row.name,
                    act.row.status
                )
            });
            self.note(|| act_line(&act));
            match act.operation {
                Operation::Create => self.created(&act),
                _ => self.deleted(act),
            }
        }
    }

    fn created(&mut self, act: &Act) {
        let server = act.row.server.number;
        self.may_be_newest(server, act.row.created_at);
        let ring = self.rings.entry(server).or_default();
        // Under an adopted prefix it is the same tick's.
        let tick = |row: &StoredSnapshot| tick_in(&ring.policies.last()?.prefix, &row.name);
        let is_its_tick = |row: &StoredSnapshot| {
            row.name == act.row.name || (tick(row).is_some() && tick(row) == tick(&act.row))
        };
        if act.before.iter().any(is_its_tick) {
            self.violated("S3", format!("the tick of {} has a snapshot", act.row.name));
        }
        let ring = self.rings.entry(server).or_default();
        ring.heed_success(&act.before);
        ring.made.insert(act.row.id.0);
        if ring.pruned.contains(&act.row.name) && !self.clock_went_back {
            self.violated("S3", format!("{} was created, pruned, and created again", act.row.name));
        }
        self.late_run(act);
    }

    /// L2: of the ticks that were missed, one is run.
    fn late_run(&mut self, act: &Act) {
        let row = &act.row;
        let ring = self.rings.entry(row.server.number).or_default();
        let tick = ring.policies.last().and_then(|policy| tick_in(&policy.prefix, &row.name));
        let (Some(tick), Some(woke)) = (tick, self.woke) else { return };
        if tick >= woke.at - SignedDuration::from_secs(60) {
            return;
        }
        // Sent before that, and only now at the provider: it was no late run.
        if act.stray_since.is_some_and(|sent| sent < woke.truly_at) {
            return;
        }
        // Made again after somebody took it away, it is the same tick's; S3 judges that.
        if ring.last_late_run == Some(tick) {
            return;
        }
        match ring.late_runs_left.checked_sub(1) {
            Some(left) => (ring.late_runs_left, ring.last_late_run) = (left, Some(tick)),
            None => {
                let words = format!("{} is one missed tick too many since {}", row.name, woke.at);
                self.violated("L2", words);
            }
        }
    }

    fn deleted(&mut self, act: Act) {
        let StoredSnapshot { id, server, name, status, .. } = &act.row;
        let policy = self.rings.get(&server.number).and_then(|ring| ring.policies.last().cloned());
        let Some(policy) = policy else {
            self.violated("S1", format!("{name} of a server that is not ours was deleted"));
            return;
        };
        let policies = &self.rings.entry(server.number).or_default().policies;
        // What strays was sent under an earlier policy.
        let in_force =
            if act.stray_since.is_some() { &policies[..] } else { &policies[policies.len() - 1..] };
        if !in_force.iter().any(|policy| is_managed(&policy.prefix, name)) {
            self.violated("S1", format!("{name} ({id}) is foreign, and was deleted"));
        }
        let completed = act
            .before
            .iter()
            .filter(|row| row.status == "completed" && is_managed(&policy.prefix, &row.name));
        let newest = newest(&policy.prefix, completed);
        // Nobody can see that the one that was newer has just been taken away by hand.
        let touched = self.rings.get(&server.number).and_then(|ring| ring.changed_by_hand);
        // What strays rests on what was seen before it was sent.
        let sent = act.stray_since.unwrap_or(act.at);
        let quiet = touched.is_none_or(|touched| sent.duration_since(touched) > EVIDENCE);
        if quiet && status != "completed" && status != "failed" {
            self.violated("S2", format!("{name} was {status} when it was deleted"));
        }
        // What no listing has ever shown as completed, nobody can know to be.
        let was_seen = self
            .rings
            .get(&server.number)
            .and_then(|ring| ring.surely_seen_completed.get(&id.0))
            .is_some_and(|since| *since <= sent);
        if quiet && was_seen && newest.contains(&id.0) {
            self.violated("S2", format!("{name} was the newest completed one, and was deleted"));
        }
        let ring = self.rings.entry(server.number).or_default();
        ring.heed_success(&act.before);
        // Of two of one name, the other one is still there. Only what takes the last one away makes
        // the name one that must not come again.
        let is_last = !act.before.iter().any(|row| row.name == *name && row.id != *id);
        let ring = self.rings.entry(server.number).or_default();
        if is_last {
            ring.pruned.insert(name.clone());
        }
        ring.pending.push(act);
    }

    /// A rotation has ended, at `at` by the daemon's clock, and left these snapshots.
    pub fn reported_by_then(
        &mut self,
        report: &Report,
        at: Timestamp,
        now: Moment,
        rows: &[StoredSnapshot],
    ) {
        let server = report.server_id.number;
        let policy = self.rings.get(&server).and_then(|ring| ring.policies.last());
        let tick = report.tick.instant();
        let near = policy.is_some_and(|policy| another_is_near(policy, rows, tick, at));
        let held = self.held.contains(&server);
        self.seen_to_end(report, at, now, near, held);
        self.gave_up(report, at);
        if report.outcome.is_good() {
            self.is_a_success(report, now.wall, rows);
        }
    }

    /// What is reported as a success is one: the tick's snapshot is there, unless somebody has been at it.
    fn is_a_success(&mut self, report: &Report, now: Timestamp, rows: &[StoredSnapshot]) {
        let Some(ring) = self.rings.get(&report.server_id.number) else { return };
        let tick = report.tick.instant();
        // A reload may have changed the prefix meanwhile.
        let is_its_own = |row: &&StoredSnapshot| {
            let is_of_tick = |policy: &SimPolicy| tick_in(&policy.prefix, &row.name) == Some(tick);
            row.status == "completed" && ring.policies.iter().any(is_of_tick)
        };
        let took = SignedDuration::from_millis(i64::try_from(report.duration_ms).unwrap());
        let untouched = ring.changed_by_hand.is_none_or(|at| at < now - took);
        if untouched && !rows.iter().any(|row| is_its_own(&row)) {
            let words =
                format!("{} ended as {}, and it is not there", report.server, report.words());
            self.violated("S8", words);
        }
    }

    pub fn reported(&mut self, report: &Report, now: Timestamp, acts: &[Act]) {
        self.examine(acts);
        self.reports.push(Told {
            at: now,
            server: report.server_id.number,
            tick: report.tick.instant(),
            outcome: report.outcome.as_str(),
        });
        self.tell(|| {
            format!(
                "{now} report {}: {} {} {:?}",
                report.server_id,
                report.outcome.as_str(),
                report.tick,
                report.reason
            )
        });
        self.note(|| report_line(report));
        if !report.outcome.is_good() && report.reason.is_none() {
            self.violated(
                "S8",
                format!("{} ended as {} without a reason", report.server, report.outcome.as_str()),
            );
        }
        // Never ran: what is pending belongs to the one that is running.
        if report.api_calls == 0 {
            return;
        }
        let took = SignedDuration::from_millis(i64::try_from(report.duration_ms).unwrap());
        let ring = self.rings.entry(report.server_id.number).or_default();
        let before = ring.ended_at.replace(now);
        if before.is_some_and(|before| now - took < before) {
            let words = format!("{} began {} before {before:?}", report.server, report.tick);
            self.violated("S6", words);
        }
        let ring = self.rings.entry(report.server_id.number).or_default();
        ring.calls_under_way = 0;
        let pending = std::mem::take(&mut ring.pending);
        let Some(policy) = ring.policies.last().cloned() else { return };
        let policies = ring.policies.clone();
        let touched = ring.changed_by_hand;
        let remembers = self.remembers;
        let seen_completed = ring.surely_seen_completed.clone();
        let perhaps_seen = ring.perhaps_seen_completed.clone();
        // An error that the provider reports of one that was completed changes nothing, for a process
        // that knows of it.
        let counts_remembered = |row: &StoredSnapshot| {
            row.status == "completed"
                || (row.status == "failed" && perhaps_seen.contains(&row.id.0))
        };
        let counts_listed = |row: &StoredSnapshot| row.status == "completed";
        let is_good = |row: &StoredSnapshot| {
            counts_listed(row)
                || (remembers && row.status == "failed" && seen_completed.contains_key(&row.id.0))
        };
        let own = ring.listings.iter().filter(|seen| !seen.together);
        let seen: Vec<u64> = own.flat_map(|seen| seen.completed.iter().copied()).collect();
        for id in seen {
            ring.surely_seen_completed.entry(id).or_insert(now);
        }
        let stamp = report.tick.instant().strftime("%Y%m%dT%H%M%SZ");
        let own_name = format!("{}-{stamp}", policy.prefix);
        let began = now - took;
        let mut current = Rotation { began, ended: now, own_name, victims: 0, allowed: 0 };
        let mut earlier = std::mem::take(&mut ring.rotations);
        for act in pending {
            let sent = act.stray_since.unwrap_or(act.at);
            let rotation = if act.stray_since.is_some() && sent < current.began {
                let spans = |it: &&mut Rotation| (it.began..=it.ended).contains(&sent);
                match earlier.iter_mut().find(spans) {
                    Some(rotation) => rotation,
                    // Its process died, and what it had deleted was forgotten then.
                    None => continue,
                }
            } else {
                &mut current
            };
            let quiet = touched.is_none_or(|touched| {
                sent.duration_since(touched).as_secs()
                    > i64::try_from(report.duration_ms / 1000).unwrap() + 120
            });
            // A reload may have come between, with other pins too.
            let managed_by = |policy: &SimPolicy, row: &StoredSnapshot| {
                is_managed(&policy.prefix, &row.name) && !policy.pins.contains(&row.id.0)
            };
            let own_is_there = act
                .before
                .iter()
                .any(|row| row.name == rotation.own_name && row.status == "completed");
            if own_is_there {
                let kept_of = |policy: &SimPolicy, counts: &dyn Fn(&StoredSnapshot) -> bool| {
                    let completed =
                        act.before.iter().filter(|row| managed_by(policy, row) && counts(row));
                    let counted = one_per_tick(&policy.prefix, completed);
                    kept(&counted, policy.keep, &policy.time_zone())
                };
                let asked_for = |policy: &SimPolicy| {
                    let remembered = kept_of(policy, &counts_remembered);
                    let listed = kept_of(policy, &counts_listed);
                    if act.row.status != "failed" {
                        return [&remembered, &listed].iter().all(|it| it.contains(&act.row.id.0));
                    }
                    // Those listed as failed have the slots that whole ones leave free, the newest first.
                    let mut failed: Vec<&StoredSnapshot> = act
                        .before
                        .iter()
                        .filter(|row| row.status == "failed" && remembered.contains(&row.id.0))
                        .collect();
                    failed.sort_by_key(|row| std::cmp::Reverse(tick_in(&policy.prefix, &row.name)));
                    let room = remembered.len().saturating_sub(listed.len());
                    failed.iter().take(room).any(|row| row.id == act.row.id)
                };
                if quiet && is_good(&act.row) && policies.iter().all(asked_for) {
                    self.violated(
                        "retention",
                        format!("{} was asked for, and was pruned", act.row.name),
                    );
                }
                continue;
            }
            if rotation.victims == 0 {
                let needed = |policy: &SimPolicy| {
                    let ours = act.before.iter().filter(|row| managed_by(policy, row)).count();
                    let ours = u32::try_from(ours).unwrap();
                    let others = u32::try_from(act.before.len()).unwrap() - ours;
                    (ours + 1).saturating_sub(policy.cap.saturating_sub(policy.reserve.max(others)))
                };
                rotation.allowed = policies.iter().map(needed).max().unwrap_or(0);
            }
            let is_double = |row: &StoredSnapshot| {
                row.name == act.row.name && row.id != act.row.id && row.status == "completed"
            };
            if quiet && act.row.status == "completed" && !act.before.iter().any(is_double) {
                let ring = self.rings.entry(report.server_id.number).or_default();
                if let Some(words) = ring.gives_up(&act) {
                    self.violated("S2", words);
                }
            }
            rotation.victims += 1;
            let Rotation { victims, allowed, .. } = *rotation;
            if quiet && victims > allowed {
                self.violated(
                    "S2",
                    format!("{} is victim {victims} for {allowed} slots", act.row.name),
                );
            }
        }
        earlier.push_back(current);
        if earlier.len() > 4 {
            earlier.pop_front();
        }
        self.rings.entry(report.server_id.number).or_default().rotations = earlier;
    }
}

/// A number in a path's query.
pub fn parameter(path: &str, name: &str) -> Option<u64> {
    let (_, query) = path.split_once('?')?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
}
