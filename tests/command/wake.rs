//! How soon after its tick a lone server's first request is sent.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use snapring::config;
use snapring::naming::{ServerId, Tick};

use crate::machine::{Daemon, Machine, WEB};

const DB: ServerId = ServerId::new(102);

/// Both are due every second. A tick always falls at about the same point between two of the
/// daemon's polls; jitter moves each start to another point.
const SERVERS: &str = "[defaults]\nschedule = \"* * * * * *\"\nkeep = 3\nmin_interval = \"0s\"\n\
                       [[server]]\nid = 101\nname = \"web\"\n\
                       [[server]]\nid = 102\nname = \"db\"\njitter = \"900ms\"\n";

/// How many starts of each server are measured, and how many of them must be prompt.
///
/// Without the timer a start waits for the next poll, 0 to 500 ms, so one in ten of those with
/// jitter is prompt. The probability
/// that 8 of 14 are is below 1 in 10,000.
const STARTS: usize = 14;
const PROMPT: usize = 8;

/// The time from each tick to the first request for it, by the sandbox's record.
fn first_requests(
    machine: &Machine,
    daemon: &Daemon,
    server: ServerId,
) -> BTreeMap<Tick, SignedDuration> {
    let events = daemon.events("api");
    let of_server =
        events.iter().filter(|event| event["server_id"].as_u64() == Some(server.number));
    let provider = machine.sandbox.provider();
    let calls = provider.calls().iter().filter(|call| call.server == Some(server));
    let mut first = BTreeMap::new();
    // One event for each call; those of one server come one after the other.
    for (event, call) in of_server.zip(calls) {
        let Some(tick) = event["tick"].as_str() else { continue };
        let tick = Tick::at(tick.parse::<Timestamp>().unwrap());
        first.entry(tick).or_insert_with(|| call.at.duration_since(tick.instant()));
    }
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_wait_for_the_next_poll() {
    let machine = Machine::with_snapshots_of(std::time::Duration::from_millis(50)).await;
    machine.configure(SERVERS);
    let text = std::fs::read_to_string(machine.path("config.toml")).unwrap();
    let servers = config::parse("config.toml", &text).unwrap().settings.servers;
    let daemon = machine.daemon();
    let measured = |server| first_requests(&machine, &daemon, server);
    machine
        .until("the starts", || measured(WEB).len() >= STARTS && measured(DB).len() >= STARTS)
        .await;
    for server in servers {
        let since_start = |(tick, since_tick): (Tick, SignedDuration)| {
            since_tick - server.starts_at(tick).duration_since(tick.instant())
        };
        let mut late: Vec<_> = measured(server.id).into_iter().map(since_start).collect();
        late.sort();
        eprintln!("{}: {late:?}", server.name);
        assert!(!late[0].is_negative(), "{}: too early: {late:?}", server.name);
        let prompt = late.iter().filter(|it| **it <= SignedDuration::from_millis(50)).count();
        assert!(prompt >= PROMPT, "{}: {prompt} prompt starts: {late:?}", server.name);
    }
}
