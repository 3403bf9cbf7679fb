//! What a provider can do to names, clocks, states and deletes, and what a clock can do to ticks: no
//! restore point is lost to it.

use jiff::SignedDuration;
use nix::sys::signal::Signal;
use rstest::rstest;
use snapring::call::Operation;
use snapring::naming::{Prefix, Tick};

use crate::machine::{Daemon, Machine, WEB, skipped};

/// One server that keeps so many.
async fn machine(keep: u32) -> Machine {
    let machine = Machine::new().await;
    machine.configure(&format!(
        "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 * * *\"\nkeep = {keep}\n"
    ));
    machine
}

/// Managed snapshots, a day apart, the newest a day old: their ids, oldest first.
fn fill(machine: &Machine, count: i64) -> Vec<u64> {
    let prefix: Prefix = "snapring".parse().unwrap();
    let name =
        |hours| prefix.name(Tick::at(machine.clock.now().wall - SignedDuration::from_hours(hours)));
    (1..=count).rev().map(|days| machine.add(WEB, &name(24 * days), 24 * days)).collect()
}

fn ids(machine: &Machine) -> Vec<u64> {
    let mut ids: Vec<u64> = machine.rows(WEB).iter().map(|row| row.id.0).collect();
    ids.sort_unstable();
    ids
}

async fn daemon(machine: &Machine) -> Daemon {
    let daemon = machine.daemon();
    machine.until("a start", || daemon.told("daemon") > 0).await;
    daemon
}

/// Rotates as a person asks the daemon to; the outcome and the reason.
async fn rotated(machine: &Machine, daemon: &Daemon) -> (String, String) {
    let ended = daemon.events("rotation").len();
    daemon.signal(Signal::SIGUSR1);
    machine.until("the end of a rotation", || daemon.events("rotation").len() > ended).await;
    let last = daemon.events("rotation").pop().unwrap();
    let text = |key: &str| last[key].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("reason"))
}

/// The provider's clock is set, or one row has a wrong date. The ring is full all the time.
#[rstest]
#[case::the_provider_is_set_back(Some("create:skew=-10h"))]
#[case::by_years(Some("create:skew=-90000h"))]
#[case::it_is_ahead_for_once(Some("create:skew=30h,times=1"))]
#[case::by_years_for_once(Some("create:skew=90000h,times=1"))]
#[case::one_row_is_dated_2099(None)]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_last_is_never_the_victim(#[case] fault: Option<&str>) {
    let machine = machine(5).await;
    let old = fill(&machine, 5);
    match fault {
        Some(fault) => machine.fault(fault),
        None => {
            let mut provider = machine.sandbox.provider();
            let name = provider.snapshots(WEB, machine.clock.now().wall)[0].name.clone();
            provider.remove_snapshot(snapring::naming::SnapshotId(old[0]));
            provider.add_snapshot(WEB, &name, "completed", "2099-01-01T00:00:00Z".parse().unwrap());
        }
    }
    for _ in 0..3 {
        let (exit, out, err) = machine.run(&["rotate", "web"]);
        assert_eq!(exit, 0, "{out}{err}");
        let provider = machine.sandbox.provider();
        let made = provider.acts().iter().filter(|act| act.operation == Operation::Create);
        let newest = made.map(|act| act.row.id).next_back().unwrap();
        drop(provider);
        assert!(machine.rows(WEB).iter().any(|row| row.id == newest), "{out}");
    }
    // One for each.
    assert_eq!(machine.sandbox.provider().deleted().count(), 3);
}

/// Each tick fails, and none of them costs another restore point.
#[rstest]
#[case::a_daemon(true)]
#[case::a_command_each_time(false)]
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_renames_costs_one_restore_point(#[case] by_daemon: bool) {
    let machine = machine(5).await;
    let old = fill(&machine, 5);
    machine.fault("create:renames");
    if by_daemon {
        let daemon = daemon(&machine).await;
        let (outcome, reason) = rotated(&machine, &daemon).await;
        assert!(
            outcome == "failed"
                && reason.contains("was requested, but the answer is about snapring-"),
            "{reason}"
        );
        for _ in 0..3 {
            let (outcome, reason) = rotated(&machine, &daemon).await;
            assert!(
                outcome == "blocked" && reason.contains("may be snapring's own"),
                "{outcome} {reason}"
            );
        }
    } else {
        for _ in 0..4 {
            assert_eq!(machine.run(&["rotate", "web"]).0, 1);
        }
    }
    let gone: Vec<u64> = machine.sandbox.provider().deleted().map(|row| row.id.0).collect();
    assert_eq!(gone, old[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_is_reported_for_a_moment_costs_nothing() {
    let machine = machine(3).await;
    fill(&machine, 3);
    let daemon = daemon(&machine).await;
    assert_eq!(rotated(&machine, &daemon).await.0, "rotated");
    let before = ids(&machine);
    machine.fault("list:reads-failed");
    rotated(&machine, &daemon).await;
    rotated(&machine, &daemon).await;
    let lost: Vec<u64> = before.iter().filter(|id| !ids(&machine).contains(id)).copied().collect();
    // The policy keeps three, and new ones were made.
    assert!(lost.len() <= 1, "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_does_nothing_is_told_by_the_rotation_that_a_person_asked_for() {
    let machine = machine(3).await;
    let old = fill(&machine, 3);
    machine.fault("delete:ignored,times=1");
    let daemon = daemon(&machine).await;
    // USR1: it looks once more. That of the schedule is told by the next one (core/rotation/tests/memory.rs).
    let (outcome, reason) = rotated(&machine, &daemon).await;
    assert!(outcome == "failed" && reason.contains("still lists it"), "{outcome} {reason}");
    assert!(ids(&machine).contains(&old[0]));
    assert_eq!(rotated(&machine, &daemon).await.0, "rotated");
    assert!(!ids(&machine).contains(&old[0]));
}

/// With a clock of its own, by faketime.
#[tokio::test(flavor = "multi_thread")]
async fn ticks_that_have_run_do_not_run_again_when_the_clock_was_set_back_meanwhile() {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    if !std::path::Path::new(LIBRARY).exists() {
        skipped("ticks_that_have_run_do_not_run_again…", LIBRARY);
        return;
    }
    let machine = Machine::new().await;
    machine.configure(
        "[[server]]\nid = 101\nname = \"web\"\nschedule = \"*/2 * * * * *\"\nkeep = 1\nmin_interval = \"0s\"\n",
    );
    let with_clock = |offset: &str| {
        let mut command = machine.command(&["run"]);
        command
            .env("LD_PRELOAD", LIBRARY)
            .env("FAKETIME", offset)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        machine.start(command, |_, _| {})
    };
    let mut ahead = with_clock("+20s");
    machine.until("three rotations", || ahead.rotations("rotated") >= 3).await;
    ahead.signal(Signal::SIGTERM);
    assert!(ahead.ended().await.success());
    let latest = ahead.events("rotation").last().unwrap()["tick"].as_str().unwrap().to_owned();

    let behind = with_clock("+0s");
    machine.until("two rotations", || behind.rotations("rotated") >= 2).await;
    let ticks = behind.events("rotation");
    let ran = |outcome: &str| -> Vec<String> {
        let those = ticks.iter().filter(|it| it["outcome"] == outcome);
        those.map(|it| it["tick"].as_str().unwrap().to_owned()).collect()
    };
    assert!(ran("rotated").iter().all(|tick| *tick > latest), "{latest} {:?}", ran("rotated"));
    let skipped = ran("skipped");
    assert!(!skipped.is_empty() && skipped.iter().all(|tick| *tick <= latest), "{skipped:?}");
}
