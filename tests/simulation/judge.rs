//! The independent judge: sees every request and answer, every change at the provider and every
//! report, and knows nothing of how the product decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use snapring::api::failure::Operation;
use snapring::api::transport::{Exchange, Method, Request, Response, Transport, TransportError};
use snapring::clock::{Clock, Moment};
use snapring::naming::ServerId;
use snapring::rotate::report::Report;
use snapring::sandbox::in_memory::InMemory;
use snapring::sandbox::provider::{Act, Row};
use tokio_util::sync::CancellationToken;

use crate::oracle::{is_managed, kept};
use crate::policy::SimPolicy;

/// The contract's limit for what a delete may rest on.
const FRESH: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Seen {
    asked_at: Moment,
    ids: BTreeSet<u64>,
    /// Of all servers: a filter may have been ignored.
    rows: u64,
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
}

/// The call at which the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// Counted among the creates, or among all calls.
    pub at_create: bool,
    pub nth: u64,
    /// Before the provider has it, or after its answer.
    pub before: bool,
}

#[derive(Debug, Default)]
pub struct Judge {
    rings: BTreeMap<u64, Ring>,
    acts_seen: usize,
    /// The daemon's clock was set back; a daemon that starts after that cannot know of ticks whose
    /// snapshots were pruned.
    pub clock_went_back: bool,
    pub violations: Vec<String>,
    pub story: Option<Vec<String>>,
    pub exchanges: u64,
    pub creates: u64,
    /// Where the process dies.
    pub dies_at: Option<Death>,
    pub outcomes: BTreeMap<String, u64>,
}

fn age(then: Moment, now: Moment) -> Duration {
    let wall = now.wall.as_millisecond() - then.wall.as_millisecond();
    Duration::from_millis(u64::try_from(wall).unwrap_or(0))
        .max(now.uptime.saturating_sub(then.uptime))
}

impl Judge {
    pub fn policies(&mut self, policies: &[SimPolicy]) {
        for policy in policies {
            self.rings.entry(policy.id).or_default().policies.push(policy.clone());
        }
    }

    pub fn by_hand(&mut self, server: u64, at: Timestamp, what: String) {
        self.rings.entry(server).or_default().changed_by_hand = Some(at);
        self.tell(|| format!("{at} by hand on {server}: {what}"));
    }

    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(line());
        }
    }

    fn violated(&mut self, rule: &str, what: String) {
        self.tell(|| format!("VIOLATION {rule}: {what}"));
        self.violations.push(format!("{rule}: {what}"));
    }

    /// The process is gone, and with it whatever it had under way.
    pub fn crashed(&mut self) {
        for ring in self.rings.values_mut() {
            ring.listings.clear();
            ring.reading = None;
            ring.changes_in_flight = 0;
            ring.pending.clear();
        }
        self.tell(|| "the process is gone".to_owned());
    }

    /// A request is about to leave. Gives the server whose change is under way.
    fn sent(&mut self, request: &Request, now: Moment) -> Option<u64> {
        self.exchanges += 1;
        self.tell(|| format!("{} -> {:?} {}", now.wall, request.method, request.path));
        match request.method {
            Method::Get => None,
            Method::Post => {
                self.creates += 1;
                let body: Value = serde_json::from_slice(request.body.as_deref()?).ok()?;
                let server = body["server_id"].as_u64()?;
                let ring = self.rings.get(&server)?;
                let cap = ring.policies.last().map_or(0, |policy| policy.cap) as usize;
                let fresh =
                    ring.listings.iter().rev().find(|seen| age(seen.asked_at, now) <= FRESH);
                match fresh {
                    None => {
                        self.violated("S4", format!("a create for {server} rests on no listing"))
                    }
                    Some(seen) if seen.ids.len() >= cap => {
                        self.violated(
                            "S4",
                            format!("a create for {server} though no slot was free"),
                        );
                    }
                    Some(_) => {}
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
                    Some(server) => self.begin_change(server),
                }
                server
            }
        }
    }

    fn begin_change(&mut self, server: u64) {
        let ring = self.rings.entry(server).or_default();
        ring.changes_in_flight += 1;
        if ring.changes_in_flight > 1 {
            self.violated("S6", format!("two changes of {server} at once"));
        }
    }

    fn answered(
        &mut self,
        request: &Request,
        sent_at: Moment,
        answer: &Result<Response, TransportError>,
    ) {
        self.tell(|| match answer {
            Ok(response) => format!(
                "    <- {}{}",
                response.status,
                if response.body.is_err() { " torn" } else { "" }
            ),
            Err(error) => format!("    <- {error}"),
        });
        let (Method::Get, Ok(Response { status: 200, body: Ok(body), .. })) =
            (request.method, answer)
        else {
            return;
        };
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        let parameter = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
        };
        let Some(server) = parameter("server_id") else { return };
        let Ok(page) = serde_json::from_slice::<Value>(body) else { return };
        let Some(rows) = page.as_array().or_else(|| page["results"].as_array()) else { return };
        let ring = self.rings.entry(server).or_default();
        let first = parameter("page").unwrap_or(1) == 1;
        if first {
            ring.reading = Some(Seen { asked_at: sent_at, ids: BTreeSet::new(), rows: 0 });
        }
        let Some(reading) = &mut ring.reading else { return };
        reading.rows += rows.len() as u64;
        let own = rows.iter().filter(|row| row["server"]["id"].as_u64() == Some(server));
        reading.ids.extend(own.filter_map(|row| row["id"].as_u64()));
        if page["next"].is_string() {
            return;
        }
        let Some(seen) = ring.reading.take() else { return };
        if page["count"].as_u64().is_some_and(|count| count != seen.rows) {
            return;
        }
        ring.listings.push_back(seen);
        if ring.listings.len() > 8 {
            ring.listings.pop_front();
        }
    }

    /// What calls have changed at the provider since the last look.
    pub fn examine(&mut self, acts: &[Act]) {
        let new: Vec<Act> = acts.iter().skip(self.acts_seen).cloned().collect();
        self.acts_seen = acts.len();
        for act in new {
            self.tell(|| {
                format!(
                    "{} {:?} {} {} ({})",
                    act.at, act.operation, act.row.id, act.row.name, act.row.status
                )
            });
            match act.operation {
                Operation::Create => self.created(&act),
                _ => self.deleted(act),
            }
        }
    }

    fn created(&mut self, act: &Act) {
        let server = act.row.server.0;
        if act.before.iter().any(|row| row.name == act.row.name) {
            self.violated("S3", format!("{} exists twice", act.row.name));
        }
        let ring = self.rings.entry(server).or_default();
        if ring.pruned.contains(&act.row.name) && !self.clock_went_back {
            self.violated("S3", format!("{} was created, pruned, and created again", act.row.name));
        }
    }

    fn deleted(&mut self, act: Act) {
        let Row { id, server, name, status, .. } = &act.row;
        let policy = self.rings.get(&server.0).and_then(|ring| ring.policies.last().cloned());
        let Some(policy) = policy else {
            self.violated("S1", format!("{name} of a server that is not ours was deleted"));
            return;
        };
        if !is_managed(&policy.prefix, name) || policy.pins.contains(&id.0) {
            self.violated("S1", format!("{name} ({id}) is foreign or pinned, and was deleted"));
        }
        if status != "completed" && status != "failed" {
            self.violated("S2", format!("{name} was {status} when it was deleted"));
        }
        let newest = act
            .before
            .iter()
            .filter(|row| row.status == "completed" && is_managed(&policy.prefix, &row.name))
            .max_by_key(|row| (row.created_at, row.id));
        if newest.is_some_and(|newest| newest.id == *id) {
            self.violated("S2", format!("{name} was the newest completed one, and was deleted"));
        }
        let ring = self.rings.entry(server.0).or_default();
        ring.pruned.insert(name.clone());
        ring.pending.push(act);
    }

    pub fn reported(&mut self, report: &Report, acts: &[Act]) {
        self.examine(acts);
        self.tell(|| {
            format!(
                "report {}: {} {:?} {:?}",
                report.server_id,
                report.outcome.as_str(),
                report.tick,
                report.reason
            )
        });
        *self.outcomes.entry(report.outcome.as_str().to_owned()).or_default() += 1;
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
        let ring = self.rings.entry(report.server_id.0).or_default();
        let pending = std::mem::take(&mut ring.pending);
        let Some(policy) = ring.policies.last().cloned() else { return };
        let policies = ring.policies.clone();
        let touched = ring.changed_by_hand;
        let stamp = report.tick.instant().strftime("%Y%m%dT%H%M%SZ");
        let own_name = format!("{}-{stamp}", policy.prefix);
        let mut victims = 0;
        let mut allowed = 0;
        for act in pending {
            let quiet = touched.is_none_or(|touched| {
                act.at.duration_since(touched).as_secs()
                    > i64::try_from(report.duration_ms / 1000).unwrap() + 120
            });
            let managed = |row: &&Row| {
                is_managed(&policy.prefix, &row.name) && !policy.pins.contains(&row.id.0)
            };
            let own_is_there =
                act.before.iter().any(|row| row.name == own_name && row.status == "completed");
            if own_is_there {
                let candidates: Vec<(u64, Timestamp)> = act
                    .before
                    .iter()
                    .filter(managed)
                    .filter(|row| row.status == "completed")
                    .map(|row| (row.id.0, row.created_at))
                    .collect();
                let asked_for = |policy: &SimPolicy| {
                    kept(&candidates, policy.keep, &policy.time_zone()).contains(&act.row.id.0)
                };
                if quiet && act.row.status == "completed" && policies.iter().all(asked_for) {
                    self.violated(
                        "retention",
                        format!("{} was asked for, and was pruned", act.row.name),
                    );
                }
                continue;
            }
            if victims == 0 {
                let ours = u32::try_from(act.before.iter().filter(managed).count()).unwrap();
                let others = u32::try_from(act.before.len()).unwrap() - ours;
                let room = policy.cap.saturating_sub(policy.reserve.max(others));
                allowed = (ours + 1).saturating_sub(room);
            }
            victims += 1;
            if quiet && victims > allowed {
                self.violated(
                    "S2",
                    format!("{} is victim {victims} for {allowed} slots", act.row.name),
                );
            }
        }
    }

    /// Faults have ended, and each server has had a tick since: L1.
    pub fn at_peace(&mut self, server: u64, rows: &[Row], now: Timestamp) {
        let Some(policy) = self.rings.get(&server).and_then(|ring| ring.policies.last().cloned())
        else {
            return;
        };
        let managed: Vec<&Row> = rows
            .iter()
            .filter(|row| is_managed(&policy.prefix, &row.name) && !policy.pins.contains(&row.id.0))
            .collect();
        let others = u32::try_from(rows.len() - managed.len()).unwrap();
        let room = policy.cap.saturating_sub(policy.reserve.max(others));
        // One that is the newest and alone in its room is not given up for a new one.
        if room < 2 {
            return;
        }
        let shown = || {
            let each: Vec<String> =
                rows.iter().map(|row| format!("{} {} {}", row.id, row.name, row.status)).collect();
            format!(
                "server {server} keeps {:?} of {}, has {}",
                policy.keep,
                policy.cap,
                each.join(", ")
            )
        };
        if managed.iter().any(|row| row.status == "failed") {
            let words = format!("a failed one is left: {}", shown());
            self.violated("L1", words);
        }
        let completed: Vec<(u64, Timestamp)> = managed
            .iter()
            .filter(|row| row.status == "completed")
            .map(|row| (row.id.0, row.created_at))
            .collect();
        let newest = completed.iter().map(|(_, at)| *at).max();
        // The longest distance of two ticks is a week.
        if newest.is_none_or(|newest| now.duration_since(newest).as_hours() > 7 * 24 + 3) {
            let words = format!("no fresh one: {}", shown());
            self.violated("L1", words);
        }
        let keep = kept(&completed, policy.keep, &policy.time_zone());
        if keep.len() != completed.len() {
            let words = format!("more than the policy asks for: {}", shown());
            self.violated("L1", words);
        }
    }
}

/// Lets the judge see what goes over the network, and lets the process die on it.
pub struct Watched {
    pub inner: InMemory,
    pub judge: Arc<Mutex<Judge>>,
    pub clock: Clock,
    pub death: CancellationToken,
}

impl Watched {
    async fn die_if_it_is_time(&self, create: bool, before: bool) {
        let its_time = {
            let judge = self.judge.lock().unwrap();
            judge.dies_at.is_some_and(|death| {
                let nth = if death.at_create { judge.creates } else { judge.exchanges };
                death.before == before && death.nth == nth && (create || !death.at_create)
            })
        };
        if its_time {
            self.death.cancel();
            std::future::pending::<()>().await;
        }
    }
}

/// A change under way ends however its future ends.
struct Change<'a> {
    watched: &'a Watched,
    server: Option<u64>,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut judge = self.watched.judge.lock().unwrap();
        if let Some(ring) = self.server.and_then(|server| judge.rings.get_mut(&server)) {
            ring.changes_in_flight = ring.changes_in_flight.saturating_sub(1);
        }
        judge.examine(self.watched.inner.provider.lock().unwrap().acts());
    }
}

impl Transport for Watched {
    fn exchange(&self, request: Request) -> Exchange<'_> {
        Box::pin(async move {
            let sent_at = self.clock.now();
            let server = self.judge.lock().unwrap().sent(&request, sent_at);
            let _change = Change { watched: self, server };
            let create = request.method == Method::Post;
            self.die_if_it_is_time(create, true).await;
            let answer = self.inner.exchange(request.clone()).await;
            self.die_if_it_is_time(create, false).await;
            self.judge.lock().unwrap().answered(&request, sent_at, &answer);
            answer
        })
    }
}

pub fn server_id(id: u64) -> ServerId {
    ServerId(id)
}
