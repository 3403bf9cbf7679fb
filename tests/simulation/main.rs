//! Weeks of rotations on a virtual clock against a provider that misbehaves by a seed, with an
//! independent judge of the safety rules.
//!
//! The daemon, its timetable, rotations and client are the real ones; only the network, the clock
//! and what wakes the daemon are not. A run is decided by its seed alone. `SNAPRING_SIM_SEEDS=N` runs
//! so many seeds on all cores, `SNAPRING_SIM_SEED=S` replays one with its whole story.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::print_stderr)]

mod judge;
mod oracle;
mod policy;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use world::Tally;

/// How many seeds `cargo test` runs.
const SEEDS: u64 = 60;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| {
        text.trim().parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text:?}"))
    })
}

#[test]
fn no_seed_breaks_a_safety_rule() {
    if let Some(seed) = number("SNAPRING_SIM_SEED") {
        let outcome = world::run(seed, true);
        eprintln!("{}", outcome.story.join("\n"));
        assert_eq!(outcome.violations, Vec::<String>::new());
        return;
    }
    let first = number("SNAPRING_SIM_FIRST").unwrap_or(0);
    let seeds = number("SNAPRING_SIM_SEEDS").unwrap_or(SEEDS);
    let next = Arc::new(AtomicU64::new(first));
    let total = Arc::new(Mutex::new(Tally::default()));
    let bad = Arc::new(Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let threads: Vec<_> = (0..workers)
        .map(|_| {
            let (next, total, bad) = (Arc::clone(&next), Arc::clone(&total), Arc::clone(&bad));
            std::thread::spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + seeds || bad.lock().unwrap().len() >= 5 {
                        return;
                    }
                    let outcome = world::run(seed, false);
                    total.lock().unwrap().add(&outcome.tally);
                    if !outcome.violations.is_empty() {
                        bad.lock().unwrap().push((seed, outcome.violations));
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a simulated world does not panic");
    }
    eprintln!("{seeds} seeds: {}", total.lock().unwrap());
    let bad = bad.lock().unwrap();
    for (seed, violations) in bad.iter() {
        eprintln!(
            "seed {seed}:\n  {}\n  the whole story: SNAPRING_SIM_SEED={seed} cargo test --release \
             --test simulation -- --nocapture",
            violations.join("\n  ")
        );
    }
    assert!(bad.is_empty(), "{} seeds broke a rule", bad.len());
}
