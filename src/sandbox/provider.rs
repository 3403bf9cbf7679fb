//! The provider as a state machine: what it has, and what it answers. No I/O, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::Headers;
use crate::call::Operation;
use crate::naming::{ServerId, SnapshotId, is_name_character};
use crate::sandbox::faults::{Effect, Fault, Faults, HeaderName};
use crate::sandbox::rows::Rows;
pub use crate::sandbox::rows::StoredSnapshot;
pub use crate::sandbox::strays::StrayId;
use crate::sandbox::strays::{Delivery, Strays};

/// Where the API begins.
pub const BASE_PATH: &str = "/api/v1/";

/// How many calls the journal keeps.
const JOURNAL: usize = 100_000;

/// How the provider is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The account's servers.
    pub servers: Vec<(ServerId, String)>,
    /// Snapshots per server.
    pub cap: u32,
    /// The one good token.
    pub token: SecretString,
    /// How long a snapshot takes, at the least and at the most.
    pub completion: RangeInclusive<Duration>,
    /// How long a restore takes.
    pub restore: Duration,
    /// Rows of a page; `None`: all on one.
    pub page_size: Option<usize>,
    /// Listings begin with the oldest snapshot.
    pub oldest_first: bool,
    /// Listings are a bare array.
    pub bare_array: bool,
    /// Listings hold other servers' rows too.
    pub ignore_filter: bool,
    /// Each snapshot has a lower id than the one before.
    pub ids_fall: bool,
    /// A request is carried out even if its client has closed the connection, as a server behind a
    /// proxy does.
    pub serves_closed_connections: bool,
    /// Draws the spans, and the faults that have a chance.
    pub seed: u64,
}

impl Options {
    /// So many servers, as the documentation describes the provider, with snapshots of 3 to 10
    /// minutes.
    #[must_use]
    pub fn new(servers: u64, token: SecretString, seed: u64) -> Self {
        let known = ["web-01", "db-01", "mail-01"];
        let name = |nth: u64| match usize::try_from(nth).ok().and_then(|nth| known.get(nth)) {
            Some(name) => (*name).to_owned(),
            None => format!("server-{}", 101 + nth),
        };
        Self {
            servers: (0..servers).map(|nth| (ServerId::new(101 + nth), name(nth))).collect(),
            cap: 5,
            token,
            completion: Duration::from_secs(180)..=Duration::from_secs(600),
            restore: Duration::from_secs(600),
            page_size: None,
            oldest_first: false,
            bare_array: false,
            ignore_filter: false,
            ids_fall: false,
            serves_closed_connections: true,
            seed,
        }
    }
}

/// A request as the provider sees it.
#[derive(Debug, Clone)]
pub struct Question {
    /// `GET`, `POST`, `DELETE`, or another.
    pub method: String,
    /// The path, from the root.
    pub path: String,
    /// The query, without its question mark.
    pub query: String,
    /// The token that came with it.
    pub token: Option<SecretString>,
    /// The body.
    pub body: Vec<u8>,
}

/// What the provider answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// What caches and paging say in headers.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    fn json(status: u16, body: &impl Serialize) -> Self {
        // Maps of other keys than text, which alone could fail, are in no answer.
        Self::text(status, serde_json::to_vec(body).unwrap_or_default())
    }

    fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let headers = Headers::default();
        Self { status, retry_after: None, location: None, headers, body: body.into() }
    }

    fn detail(status: u16, words: &str) -> Self {
        Self::json(status, &json!({ "detail": words }))
    }
}

/// One call, for the journal.
#[derive(Debug, Clone, Serialize)]
pub struct RecordedCall {
    /// Counts up from 0.
    pub number: u64,
    /// When it came.
    pub at: Timestamp,
    /// What was asked; `None`: nothing that the API has.
    pub operation: Option<Operation>,
    /// About which server, where one can tell.
    pub server: Option<ServerId>,
    /// The name or number of the snapshot.
    pub snapshot: Option<String>,
    /// What was answered, though `hang-after` may have kept it back; `None`: nothing.
    pub status: Option<u16>,
    /// Whether the provider did what it was asked to.
    pub acted: bool,
    /// What was made to go wrong.
    pub faults: Vec<String>,
}

/// How often something was asked, however long ago.
#[derive(Debug, Clone, Serialize)]
pub struct Tally {
    /// How many calls came in.
    pub calls: u64,
    /// When the first one came.
    pub first_at: Timestamp,
    /// When the last one came.
    pub last_at: Timestamp,
}

/// A change that a call made, for the tests that judge it.
#[derive(Debug, Clone)]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// Create or delete.
    pub operation: Operation,
    /// The snapshot, as it was made or as it was before it went.
    pub row: StoredSnapshot,
    /// What its server really had just before, oldest first.
    pub before: Vec<StoredSnapshot>,
    /// When the client sent it, if it reached the provider late.
    pub stray_since: Option<Timestamp>,
}

/// What will befall a call that has come in.
#[derive(Debug)]
pub struct RequestFate {
    effects: Vec<Effect>,
    number: u64,
}

impl RequestFate {
    /// How long the answer takes.
    #[must_use]
    pub fn latency(&self) -> Duration {
        let latency = |effect: &Effect| match effect {
            Effect::Latency(span) => *span,
            _ => Duration::ZERO,
        };
        // Not `sum`, which panics past the longest span.
        self.effects.iter().map(latency).fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Never an answer, and no act.
    #[must_use]
    pub fn hangs(&self) -> bool {
        self.has(&Effect::Hang)
    }

    /// Never an answer to what was done.
    #[must_use]
    pub fn hangs_after(&self) -> bool {
        self.has(&Effect::HangAfter)
    }

    /// The connection closes before the body's end.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.has(&Effect::Torn)
    }

    /// How much later the request reaches the provider, whether or not the client still waits.
    #[must_use]
    pub fn stray(&self) -> Option<Duration> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Stray(span) => Some(*span),
            _ => None,
        })
    }

    fn has(&self, effect: &Effect) -> bool {
        self.effects.contains(effect)
    }
}

/// A restore under way.
#[derive(Debug, Clone, Copy)]
struct Restoring {
    /// From when on the list of servers shows it.
    shown_from: Timestamp,
    /// `None`: it does not end by itself.
    until: Option<Timestamp>,
    /// Afterwards the server is in no state to be used.
    fails: bool,
}

/// The provider.
#[derive(Debug)]
pub struct Provider {
    options: Options,
    /// How links in answers begin.
    origin: String,
    rows: Rows,
    names: BTreeMap<ServerId, String>,
    restoring: BTreeMap<ServerId, Restoring>,
    /// What the list of servers says of those that are not `active`.
    states: BTreeMap<ServerId, String>,
    next_id: u64,
    random: StdRng,
    faults: Faults,
    journal: VecDeque<RecordedCall>,
    received: u64,
    /// By operation.
    tallies: BTreeMap<&'static str, Tally>,
    /// Each change that a call made.
    acts: Vec<Act>,
    /// The most snapshots that each server ever had at once.
    peaks: BTreeMap<ServerId, usize>,
    /// Requests that have not reached it yet.
    strays: Strays,
}

impl Provider {
    /// A provider without snapshots.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let random = StdRng::seed_from_u64(options.seed);
        let names = options.servers.iter().cloned().collect();
        Self {
            options,
            names,
            origin: "http://sandbox.invalid".to_owned(),
            rows: Rows::default(),
            restoring: BTreeMap::new(),
            states: BTreeMap::new(),
            next_id: 801,
            random,
            faults: Faults::default(),
            journal: VecDeque::new(),
            received: 0,
            tallies: BTreeMap::new(),
            acts: Vec::new(),
            peaks: BTreeMap::new(),
            strays: Strays::default(),
        }
    }

    /// How links in answers begin: `http://127.0.0.1:1234`.
    pub fn set_origin(&mut self, origin: String) {
        self.origin = origin;
    }

    /// What goes wrong.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.faults
    }

    /// Makes something go wrong.
    pub fn add_fault(&mut self, fault: Fault) {
        self.faults.add(fault);
    }

    /// The account's servers.
    #[must_use]
    pub fn servers(&self) -> &[(ServerId, String)] {
        &self.options.servers
    }

    /// Whether the account has this server.
    #[must_use]
    pub fn has_server(&self, server: ServerId) -> bool {
        self.names.contains_key(&server)
    }

    /// The calls, oldest first; only the last ones of very many.
    #[must_use]
    pub fn calls(&self) -> &VecDeque<RecordedCall> {
        &self.journal
    }

    /// As if no call had come in yet, as far as the journal and the tallies know.
    pub fn forget_calls(&mut self) {
        self.journal.clear();
        self.tallies.clear();
    }

    /// How it is set up; may be changed at any time.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// How many calls of an operation came in.
    #[must_use]
    pub fn count(&self, operation: Operation) -> usize {
        self.journal.iter().filter(|call| call.operation == Some(operation)).count()
    }

    /// How often each operation was asked for; `other`: what the API does not have. Unlike
    /// [`Self::calls`] it forgets nothing.
    #[must_use]
    pub fn tallies(&self) -> &BTreeMap<&'static str, Tally> {
        &self.tallies
    }

    /// The changes that calls made, oldest first.
    #[must_use]
    pub fn acts(&self) -> &[Act] {
        &self.acts
    }

    /// The snapshots that calls deleted.
    pub fn deleted(&self) -> impl Iterator<Item = &StoredSnapshot> {
        let deleted = |act: &&Act| act.operation == Operation::Delete;
        self.acts.iter().filter(deleted).map(|act| &act.row)
    }

    /// The most snapshots that any server ever had at once.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peaks.values().copied().max().unwrap_or(0)
    }

    /// The snapshots that a server really has, oldest first.
    #[must_use]
    pub fn snapshots(&mut self, server: ServerId, now: Timestamp) -> Vec<StoredSnapshot> {
        self.let_time_pass(now);
        self.real_of(server).cloned().collect()
    }

    /// A snapshot made by hand, past every limit.
    pub fn add_snapshot(
        &mut self,
        server: ServerId,
        name: &str,
        status: &str,
        created_at: Timestamp,
    ) -> SnapshotId {
        let id = self.new_id();
        self.insert(StoredSnapshot {
            id,
            server,
            name: name.to_owned(),
            status: status.to_owned(),
            created_at,
            description: None,
            becomes: None,
            listed_from: Timestamp::MIN,
            lingers_until: None,
        })
    }

    /// From now on no listing shows what was written about the snapshots that there are.
    pub fn forget_descriptions(&mut self) {
        self.rows.forget_descriptions();
    }

    /// Removes a snapshot by hand; whether it was there.
    pub fn remove_snapshot(&mut self, id: SnapshotId) -> bool {
        self.rows.remove(id)
    }

    /// Gives a snapshot any status by hand; whether it was there.
    pub fn set_status(&mut self, id: SnapshotId, status: &str) -> bool {
        self.rows.set_status(id, status)
    }

    /// A call has come in: draws what befalls it.
    pub fn receive(&mut self, question: &Question, now: Timestamp) -> RequestFate {
        self.let_time_pass(now);
        let (operation, server, snapshot) = self.about(question);
        let effects = self.faults.befall(operation, server, &mut self.random);
        let faults = effects.iter().map(ToString::to_string).collect();
        let number = self.received;
        self.received += 1;
        let word = operation.map_or("other", Operation::as_str);
        let first = Tally { calls: 0, first_at: now, last_at: now };
        let tally = self.tallies.entry(word).or_insert(first);
        tally.calls += 1;
        tally.last_at = now;
        let call = RecordedCall {
            number,
            at: now,
            operation,
            server,
            snapshot,
            status: None,
            acted: false,
            faults,
        };
        self.journal.push_back(call);
        if self.journal.len() > JOURNAL {
            self.journal.pop_front();
        }
        RequestFate { effects, number }
    }

    /// Does what was asked, as far as the fate lets it. `None`: the connection closes without an
    /// answer.
    pub fn answer(
        &mut self,
        question: &Question,
        fate: &RequestFate,
        now: Timestamp,
    ) -> Option<Reply> {
        self.let_time_pass(now);
        self.carry_out(question, fate, now)
    }

    /// Holds a received request back until `due`. Then it is carried out, whatever has become of the
    /// client. Its answer comes with the [`Delivery`].
    pub fn hold_back(
        &mut self,
        question: Question,
        fate: RequestFate,
        now: Timestamp,
        due: Timestamp,
    ) -> Delivery {
        let id = StrayId(fate.number);
        self.strays.add(id, question, fate, now, due)
    }

    /// Loses the requests held back (or one of them) that are due later than `until`. That is how the
    /// kernel gives up on a connection (`TCP_USER_TIMEOUT`).
    pub fn limit_strays(&mut self, id: Option<StrayId>, until: Timestamp) {
        self.strays.limit(id, until);
    }

    /// A restore of a server begins, by whatever hand: while it lasts, nothing can be created.
    pub fn restore_begins(&mut self, server: ServerId, now: Timestamp) {
        let until = now.checked_add(self.options.restore).unwrap_or(Timestamp::MAX);
        let restoring = Restoring { shown_from: now, until: Some(until), fails: false };
        self.restoring.insert(server, restoring);
    }

    /// The restore of a server ends now.
    pub fn restore_ends(&mut self, server: ServerId) {
        self.restoring.remove(&server);
    }

    /// Whether a server is being restored.
    #[must_use]
    pub fn is_restoring(&self, server: ServerId) -> bool {
        self.restoring.contains_key(&server)
    }

    /// Gives a server another state than `active` by hand.
    pub fn set_server_state(&mut self, server: ServerId, state: &str) {
        self.states.insert(server, state.to_owned());
    }

    /// The account gets another server.
    pub fn add_server(&mut self, server: ServerId, name: &str) {
        self.options.servers.push((server, name.to_owned()));
        self.names.insert(server, name.to_owned());
    }

    /// A server is deleted at the provider, with its snapshots.
    pub fn remove_server(&mut self, server: ServerId) {
        self.options.servers.retain(|(id, _)| *id != server);
        self.names.remove(&server);
        let ids: Vec<SnapshotId> = self.rows.of_server(server).map(|row| row.id).collect();
        for id in ids {
            self.rows.remove(id);
        }
    }

    /// Lets everything happen that is due by `now`, each at its own time.
    pub fn let_time_pass(&mut self, now: Timestamp) {
        while let Some((due, stray)) = self.strays.pop_due(now) {
            self.change_by_itself(due);
            let known = self.acts.len();
            let reply = self.carry_out(&stray.question, &stray.fate, due);
            for act in self.acts.iter_mut().skip(known) {
                act.stray_since = Some(stray.sent_at);
            }
            stray.deliver(reply);
        }
        self.change_by_itself(now);
    }

    fn change_by_itself(&mut self, now: Timestamp) {
        self.rows.let_time_pass(now);
        let states = &mut self.states;
        self.restoring.retain(|server, restore| {
            let goes_on = restore.until.is_none_or(|until| until > now);
            if !goes_on && restore.fails {
                states.insert(*server, "error".to_owned());
            } else if !goes_on && states.get(server).is_some_and(|state| state == "error") {
                // It has been overwritten as a whole.
                states.remove(server);
            }
            goes_on
        });
    }

    fn carry_out(
        &mut self,
        question: &Question,
        fate: &RequestFate,
        now: Timestamp,
    ) -> Option<Reply> {
        let instead = fate.effects.iter().find_map(|effect| match effect {
            Effect::Status(status, wait) => {
                let words = format!("{status} by request");
                Some(Some(Reply { retry_after: wait.clone(), ..Reply::detail(*status, &words) }))
            }
            Effect::DropBefore => Some(None),
            _ => None,
        });
        let (reply, acted) = match instead {
            Some(reply) => (reply, false),
            None => {
                let reply = self.act(question, &fate.effects, now);
                let acted = reply.status < 300;
                (spoil(with_headers(reply, &fate.effects), &fate.effects), acted)
            }
        };
        let back = usize::try_from(self.received - fate.number).unwrap_or(usize::MAX);
        let place = self.journal.len().checked_sub(back);
        if let Some(call) = place.and_then(|place| self.journal.get_mut(place)) {
            call.status = reply.as_ref().map(|reply| reply.status);
            call.acted = acted;
        }
        reply
    }

    fn about(&self, question: &Question) -> (Option<Operation>, Option<ServerId>, Option<String>) {
        let segments: Vec<&str> = question
            .path
            .strip_prefix(BASE_PATH)
            .unwrap_or_default()
            .trim_end_matches('/')
            .split('/')
            .collect();
        let of_snapshot = |id: &str| {
            let id = SnapshotId(id.parse().ok()?);
            self.rows.get(id).map(|row| row.server)
        };
        match (question.method.as_str(), segments.as_slice()) {
            ("GET", ["snapshots"]) => {
                let server = parameter(&question.query, "server_id");
                (
                    Some(Operation::List),
                    server.and_then(|id| id.parse().ok()).map(ServerId::new),
                    None,
                )
            }
            ("POST", ["snapshots"]) => {
                let body: Value = serde_json::from_slice(&question.body).unwrap_or_default();
                let server = body.get("server_id").and_then(Value::as_u64).map(ServerId::new);
                let name = body.get("name").and_then(Value::as_str).map(str::to_owned);
                (Some(Operation::Create), server, name)
            }
            ("DELETE", ["snapshots", id]) => {
                (Some(Operation::Delete), of_snapshot(id), Some((*id).to_owned()))
            }
            ("POST", ["snapshots", id, "restore"]) => {
                (Some(Operation::Restore), of_snapshot(id), Some((*id).to_owned()))
            }
            ("GET", ["servers"]) => (Some(Operation::Servers), None, None),
            ("GET", ["account", "me"]) => (Some(Operation::Account), None, None),
            _ => (None, None, None),
        }
    }

    fn act(&mut self, question: &Question, effects: &[Effect], now: Timestamp) -> Reply {
        let (operation, ..) = self.about(question);
        if !question.path.starts_with(BASE_PATH) {
            return Reply::detail(404, "Not found.");
        }
        if !question.path.ends_with('/') {
            let location = Some(format!("{}/", question.path));
            return Reply { location, ..Reply::text(301, "") };
        }
        let given = question.token.as_ref().map(ExposeSecret::expose_secret);
        if given != Some(self.options.token.expose_secret()) {
            return Reply::detail(401, "Invalid token.");
        }
        let segment = question.path.trim_start_matches(BASE_PATH).split('/').nth(1);
        let id = segment.and_then(|id| id.parse().ok()).map(SnapshotId);
        match (operation, id) {
            (Some(Operation::List), _) => self.list(question, effects, now),
            (Some(Operation::Create), _) => self.create(&question.body, effects, now),
            (Some(Operation::Delete), Some(id)) => self.delete(id, effects, now),
            (Some(Operation::Restore), Some(id)) => self.restore(id, effects, now),
            (Some(Operation::Servers), _) => self.list_servers(question, effects, now),
            (Some(Operation::Account), _) => Reply::json(
                200,
                &json!({
                    "account": { "email": "sandbox@example.org", "first_name": "Sandbox" },
                    "token": { "name": "sandbox", "permissions": ["snapshots:read", "snapshots:write"] },
                }),
            ),
            _ if is_known(&question.path) => Reply::detail(405, "Method not allowed."),
            _ => Reply::detail(404, "Not found."),
        }
    }

    fn list(&self, question: &Question, effects: &[Effect], now: Timestamp) -> Reply {
        let asked = match parameter(&question.query, "server_id").map(|id| id.parse()) {
            Some(Err(_)) => {
                return Reply::json(400, &json!({ "server_id": ["Enter a number."] }));
            }
            Some(Ok(id)) => Some(ServerId::new(id)),
            None => None,
        };
        let wanted = asked.filter(|_| !self.options.ignore_filter);
        let listed = |row: &&StoredSnapshot| {
            row.listed_from <= now && row.lingers_until.is_none_or(|until| until > now)
        };
        // Newest first, as in the documentation's example.
        let mut rows: Vec<&StoredSnapshot> = match wanted {
            Some(server) => self.rows.of_server(server).rev().filter(listed).collect(),
            None => self.rows.all().rev().filter(listed).collect(),
        };
        if self.options.oldest_first {
            rows.reverse();
        }
        if self.options.bare_array {
            return Reply::json(200, &self.show_all(&rows, effects));
        }
        let page = self.page_of(rows.len(), question, effects, "snapshots/");
        let shown = self.show_all(rows.get(page.rows).unwrap_or_default(), effects);
        Reply::json(200, &Listed { count: page.count, links: page.links, results: shown })
    }

    /// Which of this many rows are on the page that is asked for. The links keep the filters.
    fn page_of(
        &self,
        rows: usize,
        question: &Question,
        effects: &[Effect],
        path: &str,
    ) -> PageOfList {
        let count = rows + usize::from(effects.contains(&Effect::WrongCount));
        let Some(size) = self.options.page_size.map(|size| size.max(1)) else {
            return PageOfList { count, links: None, rows: 0..rows };
        };
        let page =
            parameter(&question.query, "page").and_then(|page| page.parse().ok()).unwrap_or(1);
        let first = size.saturating_mul(page - usize::from(page > 0)).min(rows);
        let last = first.saturating_add(size).min(rows);
        let link = |page: usize| {
            let filters = url::form_urlencoded::parse(question.query.as_bytes());
            let mut query = url::form_urlencoded::Serializer::new(format!("page={page}"));
            query.extend_pairs(filters.filter(|(key, _)| key != "page"));
            let foreign = effects.contains(&Effect::ForeignNext);
            let origin = if foreign { "http://elsewhere.invalid" } else { &self.origin };
            format!("{origin}{BASE_PATH}{path}?{}", query.finish())
        };
        let links = Links {
            next: (last < rows).then(|| link(page + 1)),
            previous: (page > 1).then(|| link(page - 1)),
        };
        PageOfList { count, links: Some(links), rows: first..last }
    }

    fn create(&mut self, body: &[u8], effects: &[Effect], now: Timestamp) -> Reply {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
            return Reply::detail(400, "JSON parse error.");
        };
        let Some(server) = body.get("server_id").and_then(Value::as_u64).map(ServerId::new) else {
            return Reply::json(400, &json!({ "server_id": ["A valid integer is required."] }));
        };
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if name.is_empty() || !name.chars().all(is_name_character) {
            return Reply::json(
                400,
                &json!({ "name": ["Use letters, numbers, hyphens and underscores."] }),
            );
        }
        if !self.has_server(server) {
            return Reply::detail(404, "No such server.");
        }
        if self.restoring.contains_key(&server) {
            return Reply::detail(409, "The server is being restored.");
        }
        let taken = self.real_of(server).count();
        if taken >= self.options.cap as usize {
            return Reply::detail(400, "This snapshot cannot be created.");
        }
        let description = body.get("description").and_then(Value::as_str).map(str::to_owned);
        let spans = (
            self.options.completion.start().as_millis(),
            self.options.completion.end().as_millis(),
        );
        let span = self.random.random_range(spans.0..=spans.1.max(spans.0));
        let done = now
            .checked_add(SignedDuration::from_millis(i64::try_from(span).unwrap_or(i64::MAX)))
            .unwrap_or(Timestamp::MAX);
        let becomes = if effects.contains(&Effect::NeverCompletes) {
            None
        } else if effects.contains(&Effect::Fails) {
            Some((done, Some("failed")))
        } else if effects.contains(&Effect::Vanishes) {
            Some((done, None))
        } else {
            Some((done, Some("completed")))
        };
        let renamed = effects.contains(&Effect::Renames);
        let skew = effects.iter().find_map(|effect| match effect {
            Effect::Skew(by) => now.checked_add(*by).ok(),
            _ => None,
        });
        let row = StoredSnapshot {
            id: self.new_id(),
            server,
            name: if renamed { name.to_ascii_lowercase() } else { name },
            status: "in_progress".to_owned(),
            created_at: skew.unwrap_or(now),
            description,
            becomes,
            listed_from: late(effects, now).unwrap_or(now),
            lingers_until: None,
        };
        self.insert(row.clone());
        let message =
            "Snapshot is being created. This may take 3-10 minutes depending on server size.";
        let reply = Reply::json(201, &Created { snapshot: self.show(&row), message });
        self.note_act(Operation::Create, row, now);
        reply
    }

    fn delete(&mut self, id: SnapshotId, effects: &[Effect], now: Timestamp) -> Reply {
        let Some(row) = self.real(id).cloned() else {
            return Reply::detail(404, "No such snapshot.");
        };
        if row.status == "in_progress" {
            return Reply::detail(409, "The snapshot is in progress.");
        }
        if effects.contains(&Effect::Ignored) {
            return Reply::text(204, "");
        }
        self.note_act(Operation::Delete, row, now);
        let linger = effects.iter().find_map(|effect| match effect {
            Effect::Linger(span) => now.checked_add(*span).ok(),
            _ => None,
        });
        match linger {
            Some(until) => self.rows.linger(id, until),
            None => {
                self.rows.remove(id);
            }
        }
        Reply::text(204, "")
    }

    fn restore(&mut self, id: SnapshotId, effects: &[Effect], now: Timestamp) -> Reply {
        let Some(row) = self.real(id).cloned() else {
            return Reply::detail(404, "No such snapshot.");
        };
        if row.status != "completed" || self.restoring.contains_key(&row.server) {
            return Reply::detail(400, "The server is not in a state that can be restored.");
        }
        self.restore_begins(row.server, now);
        if let Some(restore) = self.restoring.get_mut(&row.server) {
            restore.fails = effects.contains(&Effect::Fails);
            if effects.contains(&Effect::NeverCompletes) {
                restore.until = None;
            }
            restore.shown_from = late(effects, now).unwrap_or(now);
        }
        Reply::json(
            200,
            &json!({
                "status": "success",
                "message": "Server is being restored from snapshot. This may take 5-15 minutes.",
                "snapshot": { "id": row.id, "name": row.name, "created_at": row.created_at },
                "server": { "id": row.server, "name": self.server_name(row.server), "status": "restoring" },
            }),
        )
    }

    fn list_servers(&self, question: &Question, effects: &[Effect], now: Timestamp) -> Reply {
        let status_of = |id: &ServerId| {
            let is_shown = |it: &&Restoring| it.shown_from <= now;
            match self.restoring.get(id).filter(is_shown) {
                Some(_) => "restoring",
                None => self.states.get(id).map_or("active", String::as_str),
            }
        };
        let wanted = |name, value: &str| {
            parameter(&question.query, name).is_none_or(|wanted| wanted == value)
        };
        let servers: Vec<&(ServerId, String)> = self
            .options
            .servers
            .iter()
            .filter(|(id, _)| wanted("status", status_of(id)) && wanted("location", location(*id)))
            .collect();
        let row = |(id, name): &&(ServerId, String)| {
            json!({
                "id": id,
                "name": name,
                "hostname": format!("{name}.example.com"),
                "status": status_of(id),
                "ip_address": "203.0.113.10",
                "location": location(*id),
                "plan": { "name": "sandbox" },
                "os": { "name": "Debian" },
                "created_at": "2025-01-01T00:00:00Z",
                "updated_at": "2025-01-01T00:00:00Z",
            })
        };
        if self.options.bare_array {
            return Reply::json(200, &servers.iter().map(row).collect::<Vec<Value>>());
        }
        let page = self.page_of(servers.len(), question, effects, "servers/");
        let shown = servers.get(page.rows).unwrap_or_default();
        let results: Vec<Value> = shown.iter().map(row).collect();
        Reply::json(200, &Listed { count: page.count, links: page.links, results })
    }

    fn new_id(&mut self) -> SnapshotId {
        let nth = self.next_id;
        self.next_id += 1;
        SnapshotId(if self.options.ids_fall { 1_000_000_000 - nth } else { nth })
    }

    fn insert(&mut self, row: StoredSnapshot) -> SnapshotId {
        let (id, server) = (row.id, row.server);
        self.rows.insert(row);
        let count = self.real_of(server).count();
        let peak = self.peaks.entry(server).or_default();
        *peak = (*peak).max(count);
        id
    }

    fn note_act(&mut self, operation: Operation, row: StoredSnapshot, at: Timestamp) {
        let mut before: Vec<StoredSnapshot> = self.real_of(row.server).cloned().collect();
        if operation == Operation::Create {
            before.retain(|other| other.id != row.id);
        }
        before.sort_by_key(|row| (row.created_at, row.id));
        self.acts.push(Act { at, operation, row, before, stray_since: None });
    }

    /// What a server really has: not what only lingers.
    fn real_of(&self, server: ServerId) -> impl Iterator<Item = &StoredSnapshot> {
        self.rows.of_server(server).filter(|row| row.lingers_until.is_none())
    }

    fn real(&self, id: SnapshotId) -> Option<&StoredSnapshot> {
        self.rows.get(id).filter(|row| row.lingers_until.is_none())
    }

    fn server_name(&self, server: ServerId) -> &str {
        self.names.get(&server).map_or("", String::as_str)
    }

    fn show_all<'a>(&'a self, rows: &[&'a StoredSnapshot], effects: &[Effect]) -> Vec<Shown<'a>> {
        let reads_failed = effects.contains(&Effect::ReadsFailed);
        let show = |row: &&'a StoredSnapshot| match self.show(row) {
            Shown { status: "completed", .. } if reads_failed => {
                Shown { status: "error", ..self.show(row) }
            }
            shown => shown,
        };
        rows.iter().map(show).collect()
    }

    fn show<'a>(&'a self, row: &'a StoredSnapshot) -> Shown<'a> {
        Shown {
            id: row.id,
            server: Owner { id: row.server, name: self.server_name(row.server) },
            name: &row.name,
            status: &row.status,
            size_mb: (row.status == "completed").then_some(4096 + row.id.0),
            created_at: row.created_at,
            description: row.description.as_deref(),
        }
    }
}

/// From when on the provider's lists show what was asked for, if that is later.
fn late(effects: &[Effect], now: Timestamp) -> Option<Timestamp> {
    effects.iter().find_map(|effect| match effect {
        Effect::Late(span) => now.checked_add(*span).ok(),
        _ => None,
    })
}

/// A snapshot as an answer shows it.
#[derive(Serialize)]
struct Shown<'a> {
    id: SnapshotId,
    server: Owner<'a>,
    name: &'a str,
    status: &'a str,
    size_mb: Option<u64>,
    created_at: Timestamp,
    description: Option<&'a str>,
}

#[derive(Serialize)]
struct Owner<'a> {
    id: ServerId,
    name: &'a str,
}

#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    snapshot: Shown<'a>,
    message: &'static str,
}

/// Where a server is: the provider has three places.
fn location(server: ServerId) -> &'static str {
    match server.number % 3 {
        0 => "us-east",
        1 => "eu-central",
        _ => "us-west",
    }
}

/// A part of a list, and how it is linked with the others.
struct PageOfList {
    count: usize,
    links: Option<Links>,
    rows: std::ops::Range<usize>,
}

/// A list, or a page of one.
#[derive(Serialize)]
struct Listed<T> {
    count: usize,
    #[serde(flatten)]
    links: Option<Links>,
    results: Vec<T>,
}

#[derive(Serialize)]
struct Links {
    next: Option<String>,
    previous: Option<String>,
}

/// What a cache or a gateway adds to an answer.
fn with_headers(mut reply: Reply, effects: &[Effect]) -> Reply {
    for effect in effects {
        let Effect::Header(name, value) = effect else { continue };
        let headers = &mut reply.headers;
        match name {
            HeaderName::Age => headers.age.push(value.clone()),
            HeaderName::Link => headers.link.push(value.clone()),
            HeaderName::Total => headers.total.push(value.clone()),
            HeaderName::Warning => headers.warning.push(value.clone()),
            HeaderName::ContentRange => headers.content_range = Some(value.clone()),
        }
    }
    reply
}

/// What becomes of a good answer on its way.
fn spoil(reply: Reply, effects: &[Effect]) -> Option<Reply> {
    for effect in effects {
        match effect {
            Effect::DropAfter => return None,
            // Only the status says that it is not the whole.
            Effect::StatusAfter(206, _) => return Some(Reply { status: 206, ..reply }),
            Effect::StatusAfter(status, wait) => {
                let words = format!("{status} after the act, by request");
                let reply = Reply::detail(*status, &words);
                return Some(Reply { retry_after: wait.clone(), ..reply });
            }
            Effect::Torn => return Some(with_a_body(reply)),
            Effect::Empty => return Some(Reply { body: Vec::new(), ..with_a_body(reply) }),
            Effect::Garbage => {
                return Some(Reply {
                    body: b"<html><h1>Bad gateway</h1></html>".to_vec(),
                    ..with_a_body(reply)
                });
            }
            Effect::Huge => {
                return Some(Reply { body: vec![b' '; 9 * 1024 * 1024], ..with_a_body(reply) });
            }
            _ => {}
        }
    }
    Some(reply)
}

/// A 204 cannot have a body, so nothing could go wrong with one: a spoilt one is a 200.
fn with_a_body(reply: Reply) -> Reply {
    if reply.status == 204 { Reply { body: b"{}".to_vec(), status: 200, ..reply } } else { reply }
}

/// Whether the API has this path, for whatever method.
fn is_known(path: &str) -> bool {
    let path = path.strip_prefix(BASE_PATH).and_then(|path| path.strip_suffix('/'));
    let segments: Vec<&str> = path.unwrap_or_default().split('/').collect();
    let is_id = |id: &str| id.parse::<u64>().is_ok();
    match segments.as_slice() {
        ["snapshots" | "servers"] | ["account", "me"] => true,
        ["snapshots", id] | ["snapshots", id, "restore"] => is_id(id),
        _ => false,
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn provider() -> Provider {
        Provider::new(Options::new(2, SecretString::from("vps_test".to_owned()), 1))
    }

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn ask(provider: &mut Provider, method: &str, path: &str, query: &str) -> Reply {
        ask_at(now(), provider, method, path, query)
    }

    fn ask_at(
        now: Timestamp,
        provider: &mut Provider,
        method: &str,
        path: &str,
        query: &str,
    ) -> Reply {
        let question = Question {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            token: Some(SecretString::from("vps_test".to_owned())),
            body: Vec::new(),
        };
        let fate = provider.receive(&question, now);
        provider.answer(&question, &fate, now).unwrap()
    }

    #[rstest]
    #[case("PUT", "/api/v1/snapshots/", 405)]
    #[case("GET", "/api/v1/snapshots/801/", 405)]
    #[case("DELETE", "/api/v1/account/me/", 405)]
    #[case("GET", "/api/v1/backups/", 404)]
    #[case("DELETE", "/api/v1/snapshots/801/", 404)]
    fn a_wrong_method_is_told_from_a_wrong_path(
        #[case] method: &str,
        #[case] path: &str,
        #[case] status: u16,
    ) {
        assert_eq!(ask(&mut provider(), method, path, "").status, status);
    }

    #[rstest]
    #[case("restore:late=5s", ["active", "restoring", "active"])]
    #[case("restore:fails", ["restoring", "restoring", "error"])]
    #[case("restore:never-completes", ["restoring", "restoring", "restoring"])]
    #[case("restore:latency=1s", ["restoring", "restoring", "active"])]
    fn a_restore_is_listed_until_it_ends(#[case] fault: &str, #[case] states: [&str; 3]) {
        let mut provider = provider();
        let id = provider.add_snapshot(ServerId::new(101), "by-hand", "completed", now());
        provider.add_fault(fault.parse().unwrap());
        let path = format!("/api/v1/snapshots/{id}/restore/");
        assert_eq!(ask(&mut provider, "POST", &path, "").status, 200);
        assert_eq!(ask(&mut provider, "POST", &path, "").status, 400, "one at a time");
        let seen = [1, 10, 700].map(|seconds| {
            let later = now() + SignedDuration::from_secs(seconds);
            let servers = ask_at(later, &mut provider, "GET", "/api/v1/servers/", "");
            let body: Value = serde_json::from_slice(&servers.body).unwrap();
            body["results"][0]["status"].as_str().unwrap().to_owned()
        });
        assert_eq!(seen, states);
    }

    #[test]
    fn a_later_restore_that_succeeds_repairs_a_server() {
        let mut provider = provider();
        let id = provider.add_snapshot(ServerId::new(101), "by-hand", "completed", now());
        provider.add_fault("restore:fails,times=1".parse().unwrap());
        let path = format!("/api/v1/snapshots/{id}/restore/");
        let mut at = now();
        for expected in ["error", "active"] {
            assert_eq!(ask_at(at, &mut provider, "POST", &path, "").status, 200);
            at += SignedDuration::from_secs(700);
            let servers = ask_at(at, &mut provider, "GET", "/api/v1/servers/", "");
            let body: Value = serde_json::from_slice(&servers.body).unwrap();
            assert_eq!(body["results"][0]["status"], expected);
        }
    }

    #[test]
    fn servers_are_listed_in_pages_and_by_status_and_location() {
        let mut provider = provider();
        provider.add_server(ServerId::new(103), "mail-01");
        provider.set_server_state(ServerId::new(102), "stopped");
        provider.options.page_size = Some(2);
        let mut list = |query: &str| -> (u64, Vec<u64>, Option<String>) {
            let reply = ask(&mut provider, "GET", "/api/v1/servers/", query);
            let body: Value = serde_json::from_slice(&reply.body).unwrap();
            let rows = body["results"].as_array().unwrap();
            let ids = rows.iter().map(|row| row["id"].as_u64().unwrap()).collect();
            let next = body["next"].as_str().map(str::to_owned);
            (body["count"].as_u64().unwrap(), ids, next)
        };
        let next = format!("http://sandbox.invalid{BASE_PATH}servers/?page=2");
        assert_eq!(list(""), (3, vec![101, 102], Some(next)));
        assert_eq!(list("page=2"), (3, vec![103], None));
        assert_eq!(list("status=stopped"), (1, vec![102], None));
        assert_eq!(
            list(&format!("location={}", location(ServerId::new(103)))),
            (1, vec![103], None)
        );
        provider.remove_server(ServerId::new(101));
        assert!(!provider.has_server(ServerId::new(101)));
    }

    #[test]
    fn a_filter_that_is_no_number_is_refused_instead_of_listing_every_server() {
        let mut provider = provider();
        provider.add_snapshot(ServerId::new(102), "by-hand", "completed", now());
        let reply = ask(&mut provider, "GET", "/api/v1/snapshots/", "server_id=web-01");
        assert_eq!(reply.status, 400);
    }

    #[test]
    fn calls_are_tallied_by_what_they_ask_for() {
        let mut provider = provider();
        for path in ["snapshots/", "snapshots/", "account/me/", "backups/"] {
            ask(&mut provider, "GET", &format!("{BASE_PATH}{path}"), "");
        }
        let tallies = provider.tallies().iter().map(|(word, tally)| (*word, tally.calls));
        assert_eq!(tallies.collect::<Vec<_>>(), [("account", 1), ("list", 2), ("other", 1)]);
    }

    #[test]
    fn the_pages_of_a_listing_are_all_of_it_and_lead_from_one_to_the_next() {
        let mut provider = provider();
        provider.options.page_size = Some(2);
        for nth in 0..5 {
            provider.add_snapshot(ServerId::new(101 + nth % 2), "by-hand", "completed", now());
        }
        let mut page = |query: &str| -> Value {
            let reply = ask(&mut provider, "GET", "/api/v1/snapshots/", query);
            serde_json::from_slice(&reply.body).unwrap()
        };
        let (mut ids, mut query) = (Vec::new(), String::new());
        for links in [(false, true), (true, true), (true, false)] {
            let page = page(&query);
            assert_eq!(page["count"], 5);
            assert_eq!((page["previous"].is_string(), page["next"].is_string()), links);
            ids.extend(page["results"].as_array().unwrap().iter().map(|row| row["id"].clone()));
            query = page["next"].as_str().unwrap_or_default().split('?').skip(1).collect();
        }
        assert_eq!(ids, [805, 804, 803, 802, 801]);
        assert_eq!(page("server_id=102")["results"].as_array().unwrap().len(), 2);
        assert_eq!(page("page=4")["results"].as_array().unwrap().len(), 0);
    }

    #[test]
    fn an_empty_word_for_a_status_is_kept_like_any_other() {
        let mut provider = provider();
        let id = provider.add_snapshot(ServerId::new(101), "by-hand", "completed", now());
        assert!(provider.set_status(id, ""));
        assert_eq!(provider.snapshots(ServerId::new(101), now()).len(), 1);
    }

    #[test]
    fn the_longest_latencies_add_up_without_a_panic() {
        let longest = Fault::new(Operation::List, Effect::Latency(Duration::MAX));
        let fate = RequestFate { effects: vec![longest.effect.clone(), longest.effect], number: 0 };
        assert_eq!(fate.latency(), Duration::MAX);
    }
}
