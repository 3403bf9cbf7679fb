//! What `status` prints for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::selection::InState;
use crate::cli::status::findings::{About, Finding};
use crate::cli::table::{Narrow, Table, lines};
use crate::moment::{shown, shown_today};
use crate::observe::status_document::{
    RingStatus, ServerRecord, ServerState, StatusDocument, Totals,
};
use crate::readable;
use crate::report::RotationOutcome;

/// A fleet with more servers is folded: those in trouble have rows, the others are counted.
const FOLDED: usize = 50;

/// How many servers without a success are named.
const NAMED: usize = 3;

/// The columns: a narrow terminal loses first what changes least.
const COLUMNS: [(&str, Narrow); 7] = [
    ("server", Narrow::Stays),
    ("state", Narrow::Stays),
    ("last success", Narrow::Stays),
    ("next tick", Narrow::Out(2)),
    ("slots", Narrow::Out(1)),
    ("listed", Narrow::Out(3)),
    ("last error", Narrow::Below),
];

/// The summary, what else there is to say, and the servers in the given states. `whole`: a row for each, however
/// many there are.
#[must_use]
pub(super) fn text(
    document: &StatusDocument,
    findings: &[Finding],
    in_state: &InState,
    whole: bool,
) -> String {
    let mut text = format!("{}\n", summary(document));
    if let Some(finding) = without_success(&document.servers) {
        text.push_str(&format!("{finding}\n"));
    }
    for finding in findings.iter().filter(|it| it.about == About::Daemon) {
        text.push_str(&format!("{}\n", finding.words));
    }
    let rows = document.servers.iter().filter(|server| in_state.takes(server.state));
    let rows: Vec<&ServerRecord> = rows.collect();
    // Those in a state that was asked for have rows.
    let is_folded = !whole && !in_state.is_given() && rows.len() > FOLDED;
    let in_trouble = rows.iter().filter(|server| server.state.is_trouble()).count();
    let shown = if is_folded { in_trouble.min(FOLDED) } else { rows.len() };
    let (rows, folded) = rows.split_at(shown);
    if document.daemon_unknown && rows.iter().any(|server| server.next.is_some()) {
        text.push_str(
            "it is not known whether a daemon is running (no [http] `listen`); ticks need one\n",
        );
    }
    if !rows.is_empty() {
        let mut table = Table::new(COLUMNS);
        for server in rows {
            table.add_row(row(server, document.at));
        }
        text.push_str(&lines(&table));
        for server in rows {
            text.push_str(&under_way(server, document.at));
        }
    }
    if is_folded {
        text.push_str(&rest(folded));
    }
    text
}

/// The one line that matters.
#[must_use]
pub(super) fn summary(document: &StatusDocument) -> String {
    let totals = &document.totals;
    let servers = if totals.servers == 1 { "server" } else { "servers" };
    let mut text = format!("{} {servers}", readable::count(totals.servers));
    if totals.servers > 0 {
        text.push_str(&format!(": {}", counts(totals)));
    }
    let enabled = document.servers.iter().filter(|it| it.state != ServerState::Disabled);
    let oldest = enabled.filter_map(|it| Some((it.last_success_at?, &it.name))).min();
    if let Some((at, name)) = oldest {
        let age = readable::age(at, document.at);
        text.push_str(&format!("; oldest success {age} ago ({name})"));
    }
    text
}

/// The servers that the oldest success says nothing of. Where no server has one, the states have said it.
fn without_success(servers: &[ServerRecord]) -> Option<String> {
    let enabled = servers.iter().filter(|it| it.state != ServerState::Disabled);
    let (with, without): (Vec<_>, Vec<_>) = enabled.partition(|it| it.last_success_at.is_some());
    if with.is_empty() || without.is_empty() {
        return None;
    }
    let named: Vec<&str> = without.iter().take(NAMED).map(|it| it.name.as_str()).collect();
    let more = match without.len() - named.len() {
        0 => String::new(),
        more => format!(" and {} more", readable::count(more)),
    };
    Some(format!("no success is known of {}{more}", named.join(", ")))
}

/// How many are how: those that are well first, then the worst.
fn counts(totals: &Totals) -> String {
    let others = ServerState::ALL.into_iter().filter(|state| *state != ServerState::Ok);
    let counted = [ServerState::Ok].into_iter().chain(others);
    let counted = counted.map(|state| (totals.count(state), state.as_str()));
    let words: Vec<String> = counted
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{} {word}", readable::count(count)))
        .collect();
    words.join(", ")
}

/// The servers without a row.
fn rest(folded: &[&ServerRecord]) -> String {
    let totals = Totals::of(folded.iter().map(|server| server.state));
    let mut text = String::new();
    if totals.servers > 0 {
        text.push_str(&format!(
            "not shown: {}; --all shows every server, --state those in one state\n",
            counts(&totals)
        ));
    }
    let is_so = |what: fn(&ServerRecord) -> bool| folded.iter().filter(|it| what(it)).count();
    let facts = [
        (is_so(|it| it.under_way.is_some()), "being rotated"),
        (is_so(|it| it.ring.as_ref().is_some_and(|ring| ring.squeezed > 0)), "squeezed"),
    ];
    for (count, words) in facts.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!("{} of these are {words}\n", readable::count(count)));
    }
    text
}

/// The time zone of what concerns the account.
#[must_use]
pub(super) fn common_zone(servers: &[ServerRecord]) -> TimeZone {
    let mut zones = servers.iter().map(|server| &server.timezone);
    match (zones.next(), servers.first()) {
        (Some(first), Some(server)) if zones.all(|zone| zone == first) => server.zone(),
        _ => TimeZone::UTC,
    }
}

/// What is going on with a server now.
fn under_way(server: &ServerRecord, now: Timestamp) -> String {
    let rotation = server.under_way.map(|rotation| {
        let since = shown_today(rotation.since, now, &server.zone());
        format!(
            "a rotation has been running for {} since {since}",
            readable::age(rotation.since, now)
        )
    });
    let snapshot = server.in_progress().map(|it| {
        let passed = readable::age(it.created_at, now);
        format!("{} ({}) in progress for {passed}{}", it.name, it.id, server.usually_done())
    });
    let all: Vec<String> = rotation.into_iter().chain(snapshot).collect();
    if all.is_empty() { String::new() } else { format!("{}: {}\n", server.name, all.join("; ")) }
}

fn row(server: &ServerRecord, now: Timestamp) -> [String; 7] {
    let none = || "-".to_owned();
    let ago = |at| format!("{} ago", readable::age(at, now));
    [
        match &server.account {
            None => server.name.clone(),
            Some(account) => format!("{} ({account})", server.name),
        },
        server.state.as_str().to_owned(),
        server.last_success_at.map_or_else(none, |at| match server.last_success_is_snapshot {
            true => format!("snapshot {}", ago(at)),
            false => ago(at),
        }),
        server.next.map_or_else(none, |next| {
            let wait = readable::span(next.starts_at.duration_since(now));
            let tick = shown(next.tick, &server.zone());
            if next.starts_at == next.tick {
                return format!("{tick} (in {wait})");
            }
            let start = next.starts_at.to_zoned(server.zone()).strftime("%H:%M:%S");
            format!("{tick} (starts {start}, in {wait})")
        }),
        server.ring.as_ref().map_or_else(none, slots),
        server.ring.as_ref().map_or_else(none, |ring| ago(ring.seen_at)),
        throttled(server)
            .into_iter()
            .chain(last_error(server))
            .reduce(|one, other| format!("{one}; {other}"))
            .unwrap_or_else(none),
    ]
}

fn throttled(server: &ServerRecord) -> Option<String> {
    let until = shown(server.throttled_until?, &server.zone());
    Some(format!("the provider is throttling this server (429) until {until}"))
}

fn last_error(server: &ServerRecord) -> Option<String> {
    let Some(trouble) = &server.trouble else {
        // Not a failure of the server: it was interrupted.
        let interrupted = || {
            let last = server.last_rotation.as_ref()?;
            let is_so = last.outcome == RotationOutcome::Failed && server.under_way.is_none();
            last.reason.clone().filter(|_| is_so)
        };
        return server.waiting.as_ref().map(|it| it.reason.clone()).or_else(interrupted);
    };
    let reason = trouble.reason.as_deref().unwrap_or("reason unknown");
    Some(match trouble.rotations {
        0 | 1 => reason.to_owned(),
        more => format!("{more} rotations without success; the last: {reason}"),
    })
}

/// How many slots are taken, by whose snapshots where they are not all managed.
fn slots(ring: &RingStatus) -> String {
    let mut words = format!("{} of {}", ring.snapshots.len(), ring.cap);
    for (count, whose) in [(ring.foreign, "foreign"), (ring.pinned, "pinned")] {
        if count > 0 {
            words.push_str(&format!(", {count} {whose}"));
        }
    }
    if let Some(squeeze) = ring.squeeze() {
        words.push_str(&format!(", {squeeze}"));
    }
    words
}
