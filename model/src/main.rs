//! Explores a fleet of the given size: see `model/README.md`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use snapring_model::fleet::{Failovers, Faults, Fleet};
use snapring_model::variant::Without;
use stateright::{Checker, Model};

const USAGE: &str = "\
usage: snapring-model [--replicas N] [--lease UNITS] [--arrival UNITS] [--threads N] [--minutes N]
                      [--readable] [--recovers] [FAULT...]
FAULT: failover (one), failovers, lag, releases, crashes, strays, sleeps";

fn main() -> ExitCode {
    let Some((fleet, threads, limit)) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    println!("{fleet:?}");
    #[allow(clippy::disallowed_methods, reason = "it measures itself")]
    let started = Instant::now();
    let checker = fleet.checker().threads(threads).timeout(limit).spawn_bfs().join();
    let took = started.elapsed();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{states} states, {} steps, depth {depth}, {took:.1?}", checker.state_count());
    let mut is_well = took < limit;
    for (name, path) in checker.discoveries() {
        if checker.discovery_classification(name).to_string() == "counterexample" {
            is_well = false;
            println!("{name}: {:#?}", path.into_actions());
        } else {
            println!("{name}: found by {:?}", path.into_actions());
        }
    }
    if took >= limit {
        println!("stopped before everything was explored");
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The fleet, how many threads, and after how long to stop.
fn arguments() -> Option<(Fleet, usize, Duration)> {
    let mut fleet = Fleet {
        replicas: 2,
        lease: 2,
        arrival: 1,
        faults: Faults::NONE,
        without: Without::Nothing,
        interchangeable: true,
        recovers: false,
    };
    let (mut threads, mut limit) = (1, Duration::from_mins(600));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next()?.parse::<u32>().ok();
        match argument.as_str() {
            "--replicas" => fleet.replicas = number()? as usize,
            "--lease" => fleet.lease = number()?,
            "--arrival" => fleet.arrival = number()?,
            "--threads" => threads = number()? as usize,
            "--minutes" => limit = Duration::from_mins(number()?.into()),
            "--readable" => fleet.interchangeable = false,
            "--recovers" => fleet.recovers = true,
            "failover" => fleet.faults.failovers = Failovers::Once,
            "failovers" => fleet.faults.failovers = Failovers::Any,
            "lag" => fleet.faults.lag = true,
            "releases" => fleet.faults.releases = true,
            "crashes" => fleet.faults.crashes = true,
            "strays" => fleet.faults.strays = true,
            "sleeps" => fleet.faults.sleeps = true,
            _ => return None,
        }
    }
    Some((fleet, threads, limit))
}
