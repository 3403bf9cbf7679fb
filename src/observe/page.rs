//! The page for people: one document with everything in it, whose facts need no script.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ring::digest::{SHA256, digest};
use url::form_urlencoded;

use crate::coverage::AccountStatus;
use crate::daemon::view::View;
use crate::manual::{ManualAct, ManualOutcome};
use crate::moment::shown;
use crate::observe::query::Query;
use crate::observe::status_document::{
    DaemonStatus, Found, RingStatus, ServerRecord, ServerState, SnapshotStatus, Totals,
};
use crate::provider::token_state::TokenState;
use crate::readable;
use crate::report::RotationOutcome;
use crate::rotation::lock::Quiesced;
use crate::server::common_zone;

/// Servers on one page: what a person can look through, and a browser draws at once.
const ON_A_PAGE: usize = 60;

/// The same as rows of a table.
const IN_A_TABLE: usize = 1000;

/// A ring of more slots is drawn without them, since they could not be told apart.
const MOST_DRAWN: u32 = 60;

/// How far from the timeline's ends its marks stay, in hundredths of its length.
const MARGIN: f64 = 2.0;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Lets the page's own style, script and icon in, and nothing else.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// Tells a browser where the page's parts may come from.
#[must_use]
pub(super) fn content_security_policy() -> &'static str {
    &POLICY
}

/// The page, now.
///
/// # Errors
/// Never: text can always be written to a string.
pub(super) fn render(view: &View, query: &Query) -> Result<String, askama::Error> {
    let found = Found::among(view.rows(), &query.filter);
    let zone = common_zone(found.rows.iter().map(|(_, row)| row.server.as_ref()));
    let mut page = Page::of(found, &DaemonStatus::of(view), query, view.now());
    let (not_resumed, account) = (view.not_resumed(), view.account());
    let others = [
        (!not_resumed.is_empty(), "A server is still quiesced"),
        (account.cover_problem.is_some(), "The servers of an account cannot be listed"),
    ];
    let other = others.iter().find(|(is_so, _)| *is_so);
    if let Some((_, words)) = other.filter(|_| page.headline.class != "bad") {
        page.headline = Headline { words: (*words).to_owned(), class: "bad" };
    }
    let fact = |it: &Quiesced| Fact { words: it.words_with_server(), is_bad: true };
    page.daemon.extend(not_resumed.iter().map(fact));
    let restores = view.restores().into_iter();
    page.daemon.extend(restores.map(|it| Fact { words: it.words(&zone), is_bad: false }));
    page.daemon.extend(account_facts(&account, &zone));
    page.render()
}

#[derive(Template)]
#[template(path = "page.html", config = "src/observe/page/askama.toml")]
struct Page {
    now: Timestamp,
    now_whole: String,
    version: &'static str,
    style: &'static str,
    script: &'static str,
    headline: Headline,
    daemon: Vec<Fact>,
    search: String,
    totals: Totals,
    choices: Vec<Choice>,
    is_table: bool,
    /// The address of the other view.
    other_view: String,
    servers: Vec<ServerCard>,
    tables: Vec<StateTable>,
    pages: Pages,
    manual: Vec<ManualMark>,
}

/// One act of a person.
struct ManualMark {
    time: Time,
    by: String,
    words: String,
    is_bad: bool,
}

impl ManualMark {
    fn of(act: &ManualAct, now: Timestamp, zone: &TimeZone) -> Self {
        let is_bad = matches!(act.outcome, ManualOutcome::Failed | ManualOutcome::Unknown);
        let time = Time::of(act.ended_at, now, zone);
        Self { time, by: act.by.to_string(), words: act.words(), is_bad }
    }
}

/// The one sentence that matters.
struct Headline {
    words: String,
    class: &'static str,
}

struct Fact {
    words: String,
    is_bad: bool,
}

struct Choice {
    value: &'static str,
    count: usize,
    is_chosen: bool,
}

/// Where in a long list the reader is.
struct Pages {
    number: usize,
    last: usize,
    found: usize,
    before: Option<String>,
    after: Option<String>,
}

struct ServerCard {
    /// The id with the account, if that has a name.
    number: String,
    /// Unique on the page.
    anchor: String,
    name: String,
    state: &'static str,
    /// Changes when anything but the passing of time does.
    key: String,
    error: Option<String>,
    last_success: Option<Time>,
    last_success_is_snapshot: bool,
    last_outcome: String,
    last_end: Option<Time>,
    next: Option<Time>,
    /// The tick of the next start, if jitter moves that.
    tick: Option<String>,
    under_way: Option<Time>,
    in_progress: Option<InProgress>,
    throttled: Option<Time>,
    ring: Option<RingCard>,
}

/// Servers in one state, as a table: open if they need attention, else folded.
struct StateTable {
    state: &'static str,
    count: String,
    is_open: bool,
    /// As of a card.
    key: String,
    rows: Vec<ServerRow>,
}

struct ServerRow {
    id: String,
    /// The id with the account, if that has a name.
    number: String,
    name: String,
    last_success: Option<Time>,
    last_success_is_snapshot: bool,
    next: Option<Time>,
    slots: String,
    error: Option<String>,
}

/// The snapshot that the provider is creating.
struct InProgress {
    name: String,
    since: Time,
    usual: String,
}

struct RingCard {
    words: String,
    taken: usize,
    cap: u32,
    dash: String,
    slots: Vec<SlotMark>,
    snapshots: Vec<SnapshotMark>,
    seen: Time,
}

struct SlotMark {
    class: String,
    title: String,
}

struct SnapshotMark {
    name: String,
    holder: String,
    status: String,
    class: String,
    place: String,
    time: Time,
    size: Option<String>,
}

/// A point in time, and how far it is from now.
struct Time {
    at: Timestamp,
    whole: String,
    distance: String,
}

impl Time {
    fn of(at: Timestamp, now: Timestamp, zone: &TimeZone) -> Self {
        let distance = readable::span(now.duration_since(at).abs());
        Self { at, whole: shown(at, zone), distance }
    }
}

impl Page {
    fn of(found: Found, daemon: &DaemonStatus, query: &Query, now: Timestamp) -> Self {
        let Found { totals, rows } = found;
        let pages = Pages::of(rows.len(), query);
        let records: Vec<ServerRecord> = rows
            .iter()
            .skip((pages.number - 1).saturating_mul(on_a_page(query)))
            .take(on_a_page(query))
            .map(|(state, row)| ServerRecord::of(row, *state, Some(daemon.started_at)))
            .collect();
        let (servers, tables) = match query.is_table {
            true => (Vec::new(), StateTable::all(&records, now)),
            false => (records.iter().map(|it| ServerCard::of(it, now)).collect(), Vec::new()),
        };
        let zone_of = |act: &ManualAct| {
            let row = rows.iter().find(|(_, row)| row.server.id == act.server_id);
            row.map_or(TimeZone::UTC, |(_, row)| row.server.policy.time_zone.clone())
        };
        let zone = common_zone(rows.iter().map(|(_, row)| row.server.as_ref()));
        let acts = daemon.manual_acts.iter();
        let manual = acts.map(|act| ManualMark::of(act, now, &zone_of(act))).collect();
        Self {
            now,
            now_whole: shown(now, &zone),
            version: env!("CARGO_PKG_VERSION"),
            style: STYLE,
            script: SCRIPT,
            headline: Headline::of(totals, daemon),
            daemon: facts(daemon, &zone),
            search: query.filter.words.clone(),
            totals,
            choices: ServerState::ALL
                .into_iter()
                .map(|state| Choice {
                    value: state.as_str(),
                    count: totals.count(state),
                    is_chosen: query.filter.state == Some(state),
                })
                .collect(),
            is_table: query.is_table,
            other_view: link(&Query { is_table: !query.is_table, page: 1, ..query.clone() }),
            servers,
            tables,
            pages,
            manual,
        }
    }
}

impl Headline {
    /// The icon's colour, so that a tab among many shows how things are.
    fn colour(&self) -> &'static str {
        match self.class {
            "good" => "17693a",
            "bad" => "a4161a",
            _ => "55585e",
        }
    }

    fn of(totals: Totals, daemon: &DaemonStatus) -> Self {
        let bad = |words: String| Self { words, class: "bad" };
        let of = |count: usize, words: &str| {
            format!("{count} of {} {words}", readable::servers(totals.servers))
        };
        if !daemon.alive {
            return bad("The scheduler has stalled".to_owned());
        }
        match (totals.in_trouble(), totals.waiting) {
            (0, _) if daemon.token == TokenState::Refused => {
                bad("The provider refuses the token".to_owned())
            }
            (0, _) if daemon.configuration_refused.is_some() => {
                bad("The last reload was rejected".to_owned())
            }
            (0, _) if !daemon.store.up => bad("The store is not working".to_owned()),
            (0, _) if !daemon.undelivered_notices.is_empty() => {
                bad("Notices are not delivered".to_owned())
            }
            (0, 0) if totals.servers == totals.disabled => {
                Self { words: "No server is enabled".to_owned(), class: "" }
            }
            (0, 0) => Self { words: "All is well".to_owned(), class: "good" },
            (0, waiting) => Self { words: of(waiting, "not rotated since the start"), class: "" },
            (trouble, _) => bad(of(trouble, "in trouble")),
        }
    }
}

fn facts(daemon: &DaemonStatus, zone: &TimeZone) -> Vec<Fact> {
    let good = |words: String| Fact { words, is_bad: false };
    let bad = |words: String| Fact { words, is_bad: true };
    let mut facts = vec![good(format!("Running since {}", shown(daemon.started_at, zone)))];
    let several = &daemon.accounts;
    match daemon.token {
        TokenState::Accepted if several.is_empty() => facts.push(good("Token accepted".to_owned())),
        TokenState::Accepted => {
            facts.push(good(format!("The tokens of {} accounts are accepted", several.len())));
        }
        TokenState::Untried => facts.push(good("Token not tried yet".to_owned())),
        TokenState::Refused => facts.extend(daemon.refused_token(zone).map(bad)),
    }
    facts.extend(several.iter().flat_map(|it| it.problems(zone)).map(bad));
    let read_at = shown(daemon.configuration_read_at, zone);
    facts.push(match &daemon.configuration_refused {
        None => good(format!("Configuration read at {read_at}")),
        Some(_) => {
            let rejected = daemon.rejected_reload(zone).unwrap_or_default();
            bad(format!("The configuration read at {read_at} is still in use: {rejected}"))
        }
    });
    if let Some(until) = daemon.throttled_until
        && several.is_empty()
    {
        let until = shown(until, zone);
        facts.push(bad(format!(
            "The provider is throttling the account (429): no calls are sent until {until}"
        )));
    }
    if let Some(problem) = daemon.store.problem() {
        facts.push(bad(problem.replacen('t', "T", 1)));
    }
    let undelivered = daemon.undelivered_notices.iter();
    facts.extend(undelivered.map(|it| bad(it.words(zone).replacen('n', "N", 1))));
    facts
}

/// Servers without a policy, and policies without a server.
fn account_facts(account: &AccountStatus, zone: &TimeZone) -> Vec<Fact> {
    let fact = |words: String| {
        let (first, rest) = words.split_at(words.ceil_char_boundary(1));
        Fact { words: format!("{}{rest}", first.to_uppercase()), is_bad: true }
    };
    account.findings(zone).into_iter().map(fact).collect()
}

fn on_a_page(query: &Query) -> usize {
    if query.is_table { IN_A_TABLE } else { ON_A_PAGE }
}

/// The address of what is asked for.
fn link(query: &Query) -> String {
    let start = "/?";
    let mut link = form_urlencoded::Serializer::for_suffix(start.to_owned(), start.len());
    if !query.filter.words.is_empty() {
        link.append_pair("q", &query.filter.words);
    }
    if let Some(state) = query.filter.state {
        link.append_pair("state", state.as_str());
    }
    if query.is_table {
        link.append_pair("view", "table");
    }
    link.append_pair("page", &query.page.to_string());
    link.finish()
}

impl Pages {
    fn of(found: usize, query: &Query) -> Self {
        let last = found.div_ceil(on_a_page(query)).max(1);
        let number = query.page.clamp(1, last);
        let link = |page: usize| link(&Query { page, ..query.clone() });
        Self {
            number,
            last,
            found,
            before: (number > 1).then(|| link(number - 1)),
            after: (number < last).then(|| link(number + 1)),
        }
    }
}

impl StateTable {
    /// The servers by state, in their order.
    fn all(records: &[ServerRecord], now: Timestamp) -> Vec<Self> {
        let groups = records.chunk_by(|one, other| one.state == other.state);
        let table = |records: &[ServerRecord]| {
            let state = records.first()?.state;
            let mut hasher = DefaultHasher::new();
            records.iter().for_each(|record| key(record).hash(&mut hasher));
            Some(Self {
                state: state.as_str(),
                count: readable::count(records.len()),
                is_open: state.is_trouble(),
                key: format!("{:016x}", hasher.finish()),
                rows: records.iter().map(|record| ServerRow::of(record, now)).collect(),
            })
        };
        groups.filter_map(table).collect()
    }
}

fn number(server: &ServerRecord) -> String {
    match &server.account {
        None => server.id.to_string(),
        Some(account) => format!("{} in {account}", server.id),
    }
}

impl ServerRow {
    fn of(server: &ServerRecord, now: Timestamp) -> Self {
        let zone = server.zone();
        let time = |at| Time::of(at, now, &zone);
        Self {
            id: server.id.to_string(),
            number: number(server),
            name: server.name.clone(),
            last_success: server.last_success_at.map(time),
            last_success_is_snapshot: server.last_success_is_snapshot,
            next: server.next.map(|next| time(next.starts_at)),
            slots: server.ring.as_ref().map_or_else(|| "not seen yet".to_owned(), words),
            error: error(server),
        }
    }
}

/// What is wrong with a server, how often in a row and since when.
fn error(server: &ServerRecord) -> Option<String> {
    let trouble = server.trouble.as_ref()?;
    let reason = trouble.reason.as_deref().unwrap_or("reason unknown");
    Some(match trouble.rotations {
        0 | 1 => reason.to_owned(),
        more => {
            let since = shown(trouble.since, &server.zone());
            format!("{more} rotations without success since {since}; the last: {reason}")
        }
    })
}

impl ServerCard {
    fn of(server: &ServerRecord, now: Timestamp) -> Self {
        let zone = server.zone();
        let time = |at| Time::of(at, now, &zone);
        let last = server.last_rotation.as_ref();
        let error = error(server);
        Self {
            number: number(server),
            anchor: match &server.account {
                None => server.id.to_string(),
                Some(account) => format!("{account}-{}", server.id),
            },
            name: server.name.clone(),
            state: server.state.as_str(),
            key: key(server),
            last_success: server.last_success_at.map(time),
            last_success_is_snapshot: server.last_success_is_snapshot,
            last_outcome: last.map_or_else(
                || none_known(server),
                |last| match &last.reason {
                    Some(reason) if error.is_none() || last.outcome == RotationOutcome::Skipped => {
                        format!("{}: {reason}", last.outcome.as_str())
                    }
                    _ => last.outcome.as_str().to_owned(),
                },
            ),
            error,
            last_end: last.map(|last| time(last.ended_at)),
            next: server.next.map(|next| time(next.starts_at)),
            tick: server
                .next
                .filter(|next| next.tick != next.starts_at)
                .map(|next| shown(next.tick, &zone)),
            under_way: server.under_way.map(|under_way| time(under_way.since)),
            in_progress: server.in_progress().map(|it| InProgress {
                name: it.name.clone(),
                since: time(it.created_at),
                usual: server.usually_done(),
            }),
            throttled: server.throttled_until.map(time),
            ring: server.ring.as_ref().map(|ring| RingCard::of(ring, now, &zone)),
        }
    }
}

fn none_known(server: &ServerRecord) -> String {
    server.waiting.as_ref().map_or("none known", |waiting| &waiting.reason).to_owned()
}

fn key(server: &ServerRecord) -> String {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(server).unwrap_or_default().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

impl RingCard {
    fn of(ring: &RingStatus, now: Timestamp, zone: &TimeZone) -> Self {
        let free = usize::try_from(ring.free).unwrap_or_default();
        let taken = ring
            .snapshots
            .iter()
            .map(|it| SlotMark { class: class(it), title: format!("{}, {}", it.name, it.holder) });
        let free = std::iter::repeat_with(|| SlotMark {
            class: "free".to_owned(),
            title: "free".to_owned(),
        })
        .take(free);
        let slots = if ring.cap <= MOST_DRAWN { taken.chain(free).collect() } else { Vec::new() };
        let oldest = ring.snapshots.first().map_or(now, |snapshot| snapshot.created_at);
        let mark = |snapshot: &SnapshotStatus| SnapshotMark {
            name: snapshot.name.clone(),
            holder: match &snapshot.kept {
                Some(reason) => format!("{}, kept: {reason}", snapshot.holder),
                None => snapshot.holder.clone(),
            },
            status: snapshot.status.replace('_', " "),
            class: class(snapshot),
            place: format!("{:.1}%", place(snapshot.created_at, oldest, now)),
            time: Time::of(snapshot.created_at, now, zone),
            size: snapshot.size_mb.map(|size| readable::size(Some(size)).replace(' ', "\u{a0}")),
        };
        Self {
            words: words(ring),
            taken: ring.snapshots.len(),
            cap: ring.cap,
            dash: format!("0.9 {}", f64::from(ring.cap) - 0.9),
            slots,
            snapshots: ring.snapshots.iter().map(mark).collect(),
            seen: Time::of(ring.seen_at, now, zone),
        }
    }
}

/// How many slots hold what, in words.
fn words(ring: &RingStatus) -> String {
    let kinds = [(ring.managed, "managed"), (ring.foreign, "foreign"), (ring.pinned, "pinned")];
    let mut words: Vec<String> = kinds
        .into_iter()
        .filter(|(count, kind)| *count > 0 || *kind == "managed")
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect();
    words.push(match ring.reserve {
        0 => format!("{} free", ring.free),
        reserve => format!("{} free ({reserve} reserved)", ring.free),
    });
    words.extend(ring.squeeze());
    match ring.duplicate_ticks {
        0 => {}
        1 => words.push("duplicates of 1 tick".to_owned()),
        ticks => words.push(format!("duplicates of {ticks} ticks")),
    }
    words.join(", ")
}

fn class(snapshot: &SnapshotStatus) -> String {
    match snapshot.status.as_str() {
        "completed" => snapshot.holder.clone(),
        "in_progress" => format!("{} in_progress", snapshot.holder),
        _ => format!("{} broken", snapshot.holder),
    }
}

/// Where between the oldest snapshot and now one stands, in hundredths of the line.
fn place(at: Timestamp, oldest: Timestamp, now: Timestamp) -> f64 {
    let whole = now.duration_since(oldest).as_secs_f64().max(1.0);
    let part = at.duration_since(oldest).as_secs_f64() / whole;
    MARGIN + part.clamp(0.0, 1.0) * (100.0 - 2.0 * MARGIN)
}

impl fmt::Debug for Page {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Page").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
