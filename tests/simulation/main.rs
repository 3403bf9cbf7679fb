//! Weeks of rotations on a virtual clock against a provider that misbehaves by a seed, with an
//! independent judge of the safety rules.
//!
//! The daemon, its timetable, rotations and client are the real ones; only the network, the clock
//! and what wakes the daemon are not. A run is decided by its seed alone. `SNAPRING_SIM_SEEDS=N` runs
//! so many seeds on all cores, `SNAPRING_SIM_SEED=S` replays one with its whole story.
//! `SNAPRING_SIM_DIGESTS=FILE` writes a digest of each story; see `digests`.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::disallowed_methods)]

mod calendar;
mod database;
mod digests;
mod faults;
mod isolation;
mod judge;
mod machine;
mod oracle;
mod policy;
mod recording_transport;
mod webhooks;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use digests::Record;
use world::Tally;

/// How many seeds `cargo test` runs.
const SEEDS: u64 = 24;

/// How many worlds `cargo test` lives through twice.
const TWICE: u64 = 24;

/// After so many bad seeds the others are not run.
const ENOUGH: usize = 5;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| {
        text.trim().parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text:?}"))
    })
}

/// Runs the seeds on all cores; gives those that went wrong, with what did.
fn on_all_cores(
    default: u64,
    run: impl Fn(u64) -> Vec<String> + Sync,
) -> (u64, Vec<(u64, Vec<String>)>) {
    let first = number("SNAPRING_SIM_FIRST").unwrap_or(0);
    let seeds = number("SNAPRING_SIM_SEEDS").unwrap_or(default);
    let next = AtomicU64::new(first);
    let bad = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + seeds || bad.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    let wrong = run(seed);
                    if !wrong.is_empty() {
                        bad.lock().unwrap().push((seed, wrong));
                    }
                }
            });
        }
    });
    (seeds, bad.into_inner().unwrap())
}

fn expect_none(bad: &[(u64, Vec<String>)], test: &str) {
    for (seed, wrong) in bad {
        eprintln!(
            "seed {seed}:\n  {}\n  the whole story: SNAPRING_SIM_SEED={seed} cargo test --release \
             --test simulation {test} -- --nocapture",
            wrong.join("\n  ")
        );
    }
    assert!(bad.is_empty(), "{} seeds broke a rule", bad.len());
}

#[test]
fn simulation_no_seed_breaks_a_safety_rule() {
    if let Some(seed) = number("SNAPRING_SIM_SEED") {
        let outcome = world::run(seed, Record::story());
        eprintln!("{}", outcome.record.story.unwrap().join("\n"));
        assert_eq!(outcome.violations, Vec::<String>::new());
        return;
    }
    let total = Mutex::new(Tally::default());
    let begun = std::time::Instant::now();
    let (seeds, bad) = on_all_cores(SEEDS, |seed| {
        let outcome = world::run(seed, Record::default());
        total.lock().unwrap().add(&outcome.tally);
        outcome.violations
    });
    eprintln!("{seeds} seeds in {:.0?}: {}", begun.elapsed(), total.lock().unwrap());
    expect_none(&bad, "no_seed");
}

/// What a failing seed prints is worth nothing unless it can be told again.
#[test]
fn simulation_a_seed_is_always_the_same_story() {
    let [one, two] = [(); 2].map(|()| world::run(3, Record::story()).record.story.unwrap());
    let differs = one.iter().zip(&two).position(|(one, two)| one != two);
    let differs = differs.map(|line| (&one[line], &two[line]));
    assert_eq!((differs, one.len()), (None, two.len()));
}

#[test]
fn simulation_one_servers_trouble_holds_no_other_up() {
    if let Some(seed) = number("SNAPRING_SIM_SEED") {
        let (differences, record) = isolation::differences(seed, Record::story());
        eprintln!("{}", record.story.unwrap().join("\n"));
        assert_eq!(differences, Vec::<String>::new());
        return;
    }
    let (_, bad) = on_all_cores(TWICE, |seed| isolation::differences(seed, Record::default()).0);
    expect_none(&bad, "one_servers_trouble");
}
