//! `restore` from what it shows to the end of the restore, and what it leaves when something goes wrong.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use jiff::SignedDuration;
use nix::pty::openpty;
use nix::sys::signal::Signal;
use snapring::call::Operation;

use crate::machine::{JSON_LOG, Machine, WEB, json};

/// No daemon runs: nothing falls due by itself.
const HOURLY: &str = "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 * * * *\"\nkeep = 3\ncatch_up = \
     \"0s\"\n\
                    timezone = \"Europe/Berlin\"\n";

/// A machine whose restores take this long.
async fn machine(restore: Duration) -> Machine {
    let machine = Machine::with(|options| {
        options.completion = Duration::from_millis(300)..=Duration::from_millis(300);
        options.restore = restore;
    })
    .await;
    machine.configure(HOURLY);
    machine
}

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(2);

/// A managed snapshot of a tick so many hours ago: its id and its name.
fn managed(machine: &Machine, hours: i64) -> (u64, String) {
    let at = machine.clock.now().wall - SignedDuration::from_hours(hours);
    let name = at.strftime("snapring-%Y%m%dT%H0000Z").to_string();
    (machine.add(WEB, &name, hours), name)
}

fn restores(machine: &Machine) -> usize {
    machine.sandbox.provider().count(Operation::Restore)
}

fn creates(machine: &Machine) -> usize {
    machine.sandbox.provider().count(Operation::Create)
}

fn lose_the_history(machine: &Machine) {
    for file in ["snapring.db", "snapring.db-wal", "snapring.db-shm"] {
        let _ = std::fs::remove_file(machine.path(file));
    }
}

fn deleted(machine: &Machine) -> Vec<u64> {
    machine.sandbox.provider().deleted().map(|row| row.id.0).collect()
}

/// The command at a terminal where this is typed: exit code, and what the terminal shows.
fn at_a_terminal(machine: &Machine, arguments: &[&str], typed: &str) -> (i32, String) {
    let terminal = openpty(None, None).unwrap();
    let mut command = machine.command(arguments);
    let slave = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut child = command.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
    drop(command);
    let mut master = File::from(terminal.master);
    master.write_all(typed.as_bytes()).unwrap();
    drop(terminal.slave);
    let mut shown = Vec::new();
    // It ends with an error once nobody has the other side open.
    tokio::task::block_in_place(|| _ = master.read_to_end(&mut shown));
    let code = tokio::task::block_in_place(|| child.wait().unwrap()).code().unwrap();
    (code, String::from_utf8_lossy(&shown).replace('\r', ""))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_what_is_lost_and_wants_the_servers_name() {
    let machine = machine(LONG).await;
    let (id, name) = managed(&machine, 50);
    let newer = machine.add(WEB, "by-hand", 5);
    let restore = ["restore", &id.to_string(), "--no-wait"];
    let (code, shown) = at_a_terminal(&machine, &restore, "yes\n");
    assert_eq!((code, restores(&machine)), (1, 0), "{shown}");
    for expected in [
        "Server web (101) will be stopped and overwritten with this snapshot:".to_owned(),
        format!("  {id} {name}, completed, 4.7 GiB, created 2"),
        " CET (2d 2h ago), managed".to_owned(),
        " CET (5h ago), foreign: created by hand or by another tool".to_owned(),
        "Lost for good: everything written to the server in the last 2d 2h.".to_owned(),
        format!("Newer snapshots of this server:\n  {newer} by-hand, completed"),
        "A restore takes 5 to 15 minutes and cannot be undone.".to_owned(),
        "To go on, type the server's name (web):".to_owned(),
        "nothing was restored: the answer was \"yes\", not \"web\"".to_owned(),
    ] {
        let summer = expected.replace("CET", "CEST");
        assert!(shown.contains(&expected) || shown.contains(&summer), "{expected}:\n{shown}");
    }
    let (code, shown) = at_a_terminal(&machine, &restore, "web\n");
    assert_eq!((code, restores(&machine)), (0, 1), "{shown}");
    assert!(shown.contains("server web (101) is being restored from"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_until_the_restore_has_ended_and_holds_the_server_no_longer() {
    let machine = machine(Duration::from_secs(4)).await;
    let (id, name) = managed(&machine, 50);
    let (code, out, errors) = machine.run(&["restore", &id.to_string(), "--yes"]);
    assert_eq!(code, 0, "{errors}");
    assert!(!machine.sandbox.provider().is_restoring(WEB));
    let says = format!("server web (101) was restored from {name} ({id}) in ");
    assert!(out.starts_with(&says) && out.ends_with(": it is active\n"), "{out}");
    let waits = "web: the provider shows it as restoring (3s)";
    assert!(errors.contains(waits), "{errors}");
    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{out} {errors}");
}

/// A provider may report an error for a moment, so such a snapshot is deleted later than the question could suggest.
#[tokio::test(flavor = "multi_thread")]
async fn the_question_says_when_a_failed_snapshot_is_deleted() {
    let machine = machine(LONG).await;
    let (source, _) = managed(&machine, 50);
    let at = machine.clock.now().wall - SignedDuration::from_hours(10);
    let name = at.strftime("snapring-%Y%m%dT%H%M%SZ").to_string();
    machine.sandbox.provider().add_snapshot(WEB, &name, "failed", at);
    let restore = ["restore", &source.to_string(), "--snapshot-first"];
    let (_, shown) = at_a_terminal(&machine, &restore, "no\n");
    let later = "A later rotation deletes what has been listed as failed for 5 minutes; for now, ";
    assert!(
        shown.contains(later) && shown.contains(&format!("{name} (it failed) is kept.")),
        "{shown}"
    );
    for nth in 0..3 {
        machine.add(WEB, &format!("by-hand-{nth}"), 9 - nth);
    }
    let (_, shown) = at_a_terminal(&machine, &restore, "no\n");
    let waits =
        format!("{name} (it failed) is deleted once it has been listed as failed for 5 minutes.");
    assert!(shown.contains("To make room, ") && shown.contains(&waits), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_change_of_the_prefix_it_says_why_it_finds_nothing_and_what_latest_means() {
    let machine = machine(LONG).await;
    let (id, name) = managed(&machine, 50);
    machine.configure(&format!("{HOURLY}prefix = \"nightly\"\n"));
    let (code, _, errors) = machine.run(&["restore", "--before", "1h", "web", "--yes"]);
    assert_eq!((code, restores(&machine)), (1, 0), "{errors}");
    let looks = format!("{name} ({id}) looks like snapring's under the prefix snapring");
    assert!(errors.contains(&looks), "{errors}");
    assert!(errors.contains("adopt_prefix = [\"snapring\"]"), "{errors}");
    let (_, shown) = at_a_terminal(&machine, &["restore", "latest", "web"], "no\n");
    let whose = "foreign: it looks like snapring's under the prefix snapring";
    assert!(shown.contains(whose), "{shown}");
    let (_, out, _) = machine.run(&["list", "web"]);
    assert!(out.contains(&format!("warning: {looks}")), "{out}");
    // Full of its own under the old name: the advice is to adopt them, not to delete them.
    for nth in 1..5 {
        managed(&machine, 50 + nth);
    }
    let (_, _, errors) = machine.run(&["check", "--online"]);
    let (_, blocked) = errors.split_once("its next rotation would be blocked").unwrap();
    let (_, hint) = blocked.split_once("\nhint: ").unwrap();
    assert!(hint.starts_with("5 look like snapring's under the prefix snapring"), "{errors}");
}

/// The provider's lists are not always up to date.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_listed_late_is_followed_too() {
    let machine = machine(Duration::from_secs(12)).await;
    let (id, _) = managed(&machine, 50);
    machine.fault("restore:late=3s");
    let (code, out, errors) = machine.run(&["restore", &id.to_string(), "--yes"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("was restored from"), "{out} {errors}");
    assert_eq!(machine.run(&["rotate", "web"]).0, 0, "the note has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_servers_cannot_be_listed_it_says_how_long_it_takes_and_where_to_look() {
    let machine = machine(LONG).await;
    let (id, _) = managed(&machine, 50);
    machine.fault("servers:status=403");
    let (code, out, errors) = machine.run(&["restore", &id.to_string(), "--yes"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("server web (101) is being restored from"), "{out}");
    for expected in [
        "the servers cannot be listed: ",
        "A restore takes 5 to 15 minutes: the provider's panel shows when",
        "Rotations of this server wait until the restore has ended, at the latest until ",
    ] {
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
    assert_eq!(machine.run(&["rotate", "web"]).0, 1, "it holds the server");
}

/// The rotation before a second restore could delete what the first one may still read.
#[tokio::test(flavor = "multi_thread")]
async fn while_an_earlier_restore_may_run_no_snapshot_is_taken_before_another() {
    let machine = machine(LONG).await;
    let (id, _) = managed(&machine, 50);
    machine.fault("servers:status=403");
    machine.fault("restore:drop-after,times=1");
    let (code, _, errors) = machine.run(&["restore", &id.to_string(), "--yes"]);
    assert_eq!(code, 1, "{errors}");
    let before = (machine.names(WEB), restores(&machine));
    let (code, _, errors) = machine.run(&["restore", "latest", "web", "--snapshot-first", "--yes"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("restore without `--snapshot-first`"), "{errors}");
    assert_eq!((machine.names(WEB), restores(&machine)), before, "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_waiting_only_and_says_so() {
    let machine = machine(LONG).await;
    let (id, _) = managed(&machine, 50);
    let restore = ["restore", &id.to_string(), "--yes"];
    let mut running = machine.start(machine.command(&restore), |_, _| {});
    machine.until("the wait", || running.log().contains("shows it as restoring")).await;
    running.signal(Signal::SIGINT);
    assert_eq!(running.ended().await.code(), Some(1));
    let log = running.log();
    assert!(log.contains("error: interrupted: the restore continues at the provider"), "{log}");
    let (code, out, _) = machine.run(&["rotate", "web"]);
    assert!(code == 1 && out.contains("the server is being restored from snapshot"), "{out}");
    // Nor is it a secret from who only looks.
    let says = "web (101) is being restored from snapshot";
    for command in ["list", "plan", "status"] {
        let (_, out, errors) = machine.run(&[command]);
        assert!(format!("{out}{errors}").contains(says), "{command}: {out} {errors}");
    }
    let shown = json(&machine.run(&["status", "--json"]).1);
    assert_eq!(shown["restores"][0]["server_id"], 101, "{shown}");
    // Whoever looks next sees the end.
    machine.sandbox.provider().restore_ends(WEB);
    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{out} {errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_no_reason_to_try_again_if_the_restore_has_begun() {
    for fault in ["restore:drop-after", "restore:torn", "restore:status-after=502"] {
        let machine = machine(SHORT).await;
        let (id, _) = managed(&machine, 50);
        machine.fault(&format!("{fault},times=1"));
        let (code, out, errors) = machine.run(&["restore", &id.to_string(), "--yes"]);
        assert_eq!((code, restores(&machine)), (0, 1), "{fault}: {out} {errors}");
        assert!(errors.contains("checking whether the restore has started anyway"), "{errors}");
        assert!(out.contains("was restored from"), "{fault}: {out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_restore_says_that_the_server_was_not_changed_and_what_it_has_taken_first() {
    let machine = machine(LONG).await;
    let (id, _) = managed(&machine, 50);
    machine.fault("restore:status=400");
    let restore = ["restore", &id.to_string(), "--snapshot-first", "--yes"];
    let (code, out, errors) = machine.run(&restore);
    assert_eq!((code, out.as_str()), (1, ""), "{errors}");
    assert!(
        errors.contains("error: nothing was restored, the server was not changed: "),
        "{errors}"
    );
    let taken = machine.rows(WEB).pop().unwrap();
    assert!(errors.contains(&format!("snapshot {} {} is completed", taken.id, taken.name)));
    assert_eq!(machine.run(&["delete", &id.to_string(), "--yes"]).0, 0, "it holds nothing");
}

/// It was not carried out, as the list of servers shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_the_provider_puts_off_is_sent_again_and_holds_nothing_if_it_stays_so() {
    for fault in [
        "restore:status=409,times=2",
        "restore:status=429,retry-after=1,times=1",
        "restore:status=423,times=1",
    ] {
        let machine = machine(SHORT).await;
        let (id, _) = managed(&machine, 50);
        machine.fault(fault);
        let (code, out, errors) = machine.run(&["restore", &id.to_string(), "--yes", "--no-wait"]);
        assert_eq!(code, 0, "{fault}: {errors}");
        assert!(errors.contains("the restore has not started; trying again at "), "{errors}");
        assert!(out.contains("is being restored from"), "{out}");
    }
    let machine = machine(SHORT).await;
    let (id, _) = managed(&machine, 50);
    machine.fault("restore:status=429,retry-after=3600");
    let (code, _, errors) = machine.run(&["restore", &id.to_string(), "--yes"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("nothing was restored, the server was not changed: "), "{errors}");
    assert_eq!(machine.run(&["delete", &id.to_string(), "--yes"]).0, 0, "it holds nothing");
}

/// It holds the state that a person wants to leave.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_first_is_managed_and_neither_latest_nor_before_means_it() {
    let machine = machine(SHORT).await;
    let (_, oldest) = managed(&machine, 80);
    let (id, _) = managed(&machine, 50);
    machine.add(WEB, "good", 5);
    machine.fault("restore:status=400,times=1");
    let (code, _, errors) = machine.run(&["restore", "latest", "web", "--snapshot-first", "--yes"]);
    assert_eq!(code, 1, "{errors}");
    let taken = machine.rows(WEB).pop().unwrap();
    assert!(taken.name.starts_with("snapring-2"), "{}", taken.name);
    let description = taken.description.unwrap();
    assert!(description.starts_with("created before restoring snapshot "), "{description}");

    // Even if the provider forgets descriptions: the history knows.
    machine.sandbox.provider().forget_descriptions();
    let after = (machine.clock.now().wall + SignedDuration::from_hours(1)).to_string();
    for (arguments, expected) in [
        (&["latest", "web"][..], "is being restored from good ("),
        (&["--before", &after, "web"], &format!("({id})")),
        (&["latest", "web", "--before", &after], &format!("({id})")),
    ] {
        let arguments = [&["restore", "--yes", "--no-wait"], arguments].concat();
        let (code, out, errors) = machine.run(&arguments);
        assert_eq!(code, 0, "{errors}");
        assert!(out.contains(expected), "{arguments:?}: {out}");
        assert!(
            errors.contains(&format!(
                "skipped: {} (created by `restore --snapshot-first`)",
                taken.name
            )),
            "{errors}"
        );
        machine.sandbox.provider().restore_ends(WEB);
    }
    // Nothing knows it without a history: a person must say which one is meant.
    std::fs::rename(machine.path("snapring.db"), machine.path("elsewhere.db")).unwrap();
    let (code, _, errors) = machine.run(&["restore", "latest", "web", "--yes", "--no-wait"]);
    assert_eq!(code, 1, "{errors}");
    let good = machine.rows(WEB).into_iter().find(|row| row.name == "good").unwrap().id;
    for expected in [
        format!("it is not known whether {} (created ", taken.name),
        format!("run `snapring restore {}` to use it, or `snapring restore {good}`", taken.id),
    ] {
        assert!(errors.contains(&expected), "{errors}");
    }
    std::fs::rename(machine.path("elsewhere.db"), machine.path("snapring.db")).unwrap();
    // Three are kept: rotations prune it like any other.
    for _ in 0..3 {
        let (code, out, errors) = machine.run(&["rotate", "web"]);
        assert_eq!(code, 0, "{out} {errors}");
    }
    let names = machine.names(WEB);
    assert!(!names.contains(&taken.name) && !names.contains(&oldest), "{names:?}");
    assert!(names.contains(&"good".to_owned()), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_time_in_the_servers_zone_is_the_newest_managed_one_that_is_older() {
    let machine = machine(LONG).await;
    managed(&machine, 80);
    let (id, name) = managed(&machine, 50);
    managed(&machine, 10);
    machine.add(WEB, "by-hand", 40);
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    let at = machine.clock.now().wall - SignedDuration::from_hours(30);
    let local = at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M").to_string();
    for time in [at.to_string(), local] {
        let (code, out, errors) =
            machine.run(&["restore", "--before", &time, "web", "--yes", "--no-wait"]);
        assert_eq!(code, 0, "{errors}");
        assert!(out.contains(&format!("is being restored from {name} ({id})")), "{time}: {out}");
        machine.sandbox.provider().restore_ends(WEB);
        assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    }
    let (code, _, errors) =
        machine.run(&["restore", "--before", "2020-01-01", "web", "--yes", "--no-wait"]);
    assert_eq!(code, 1);
    assert!(
        errors
            .contains("web has no completed managed snapshot from before 2020-01-01 00:00:00 CET"),
        "{errors}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_blocked_or_is_not_configured_is_said_before_anything_is_asked() {
    let machine = machine(LONG).await;
    let id = (0..5).map(|nth| machine.add(WEB, &format!("by-hand-{nth}"), 9 - nth)).min().unwrap();
    let restore = ["restore", &id.to_string(), "--snapshot-first"];
    let (code, shown) = at_a_terminal(&machine, &restore, "web\n");
    assert_eq!((code, creates(&machine), restores(&machine)), (1, 0, 0), "{shown}");
    assert!(shown.contains("no snapshot can be created first, so nothing is restored"), "{shown}");
    assert!(
        shown.contains(&format!("; to be restored, so not deleted: by-hand-0 ({id})")),
        "{shown}"
    );
    assert!(!shown.contains("pin"), "{shown}");
    assert!(!shown.contains("type the server's name"), "{shown}");

    for (lines, why) in [
        ("[[server]]\nid = 102\nschedule = \"0 3 1 1 *\"\nkeep = 3\n", "server 101 is not in"),
        (&format!("{HOURLY}enabled = false\n"), "web is disabled"),
    ] {
        machine.configure(lines);
        let (code, _, errors) = machine.run(&[&restore[..], &["--yes"]].concat());
        assert_eq!((code, creates(&machine), restores(&machine)), (2, 0, 0), "{errors}");
        assert!(errors.contains(why), "{errors}");
    }
}

/// The source is the oldest one, which any other rotation would delete.
#[tokio::test(flavor = "multi_thread")]
async fn room_for_the_snapshot_that_is_taken_first_never_costs_the_source() {
    let machine = machine(SHORT).await;
    machine.configure(&HOURLY.replace("keep = 3", "keep = 5"));
    let made: Vec<u64> = (0..5).map(|nth| managed(&machine, 100 - 10 * nth).0).collect();
    let restore = ["restore", &made[0].to_string(), "--snapshot-first"];
    let (code, shown) = at_a_terminal(&machine, &restore, "no\n");
    assert_eq!((code, deleted(&machine).len()), (1, 0), "{shown}");
    assert!(shown.contains(&format!("To make room, {} snapring-", made[1])), "{shown}");
    let (code, shown) = at_a_terminal(&machine, &restore, "web\n");
    assert_eq!((code, restores(&machine)), (0, 1), "{shown}");
    assert_eq!(deleted(&machine), [made[1]], "{shown}");
    let left: Vec<u64> = machine.rows(WEB).iter().map(|row| row.id.0).collect();
    assert!(left.len() == 5 && left.contains(&made[0]), "{left:?}");
}

/// Nobody was asked about those.
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_a_person_thinks_is_not_deleted_unasked() {
    let machine = machine(LONG).await;
    let made: Vec<u64> = (0..3).map(|nth| managed(&machine, 100 - 10 * nth).0).collect();
    let terminal = openpty(None, None).unwrap();
    let mut command =
        machine.command(&["restore", &made[2].to_string(), "--snapshot-first", "--no-wait"]);
    command.stdin(terminal.slave.try_clone().unwrap());
    let mut running = machine.start_with_stdin(command);
    machine.until("the question", || running.log().contains("type the server's name")).await;
    // Two slots fewer.
    for nth in 0..2 {
        machine.add(WEB, &format!("by-hand-{nth}"), 1);
    }
    File::from(terminal.master.try_clone().unwrap()).write_all(b"web\n").unwrap();
    assert_eq!(running.ended().await.code(), Some(1), "{}", running.log());
    assert!(running.log().contains("have changed since you were asked"), "{}", running.log());
    assert_eq!((deleted(&machine).len(), creates(&machine), restores(&machine)), (0, 0, 0));
}

/// An earlier `rotate` was interrupted: its snapshot holds an older state.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_an_earlier_rotation_has_begun_is_not_taken_for_the_present_state() {
    let machine = machine(SHORT).await;
    let (id, _) = managed(&machine, 50);
    let slow = Duration::from_secs(8);
    machine.sandbox.provider().options_mut().completion = slow..=slow;
    let mut rotation = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("the create", || creates(&machine) == 1).await;
    rotation.signal(Signal::SIGINT);
    assert_eq!(rotation.ended().await.code(), Some(1));
    let quick = Duration::from_millis(300);
    machine.sandbox.provider().options_mut().completion = quick..=quick;
    let restore = ["restore", &id.to_string(), "--snapshot-first", "--yes", "--no-wait"];
    let (code, _, errors) = machine.run(&restore);
    assert_eq!((code, creates(&machine)), (0, 2), "{errors}");
    let rows = machine.rows(WEB);
    let says = |nth: usize| rows[nth].description.as_deref().unwrap_or_default().to_owned();
    assert!(says(rows.len() - 1).starts_with("created before restoring"), "{rows:?}");
    assert!(!says(rows.len() - 2).starts_with("created before restoring"), "{rows:?}");
}

/// Waiting for a list that does not come is not waiting for the restore.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_says_that_the_list_of_servers_cannot_be_read() {
    let machine = machine(SHORT).await;
    let (id, _) = managed(&machine, 50);
    machine.fault("servers:status=503");
    let restore = ["restore", &id.to_string(), "--yes"];
    let mut running = machine.start(machine.command(&restore), |_, _| {});
    let says = "the provider's list of servers cannot be read (the provider answered 503";
    machine.until("what is missing", || running.log().contains(says)).await;
    assert!(running.log().contains("Ctrl-C stops waiting; the restore continues"));
    running.signal(Signal::SIGINT);
    assert_eq!(running.ended().await.code(), Some(1), "{}", running.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_snapshot_is_said_to_be_and_nothing_is_restored() {
    let machine = machine(LONG).await;
    let (id, _) = managed(&machine, 50);
    machine.sandbox.provider().options_mut().completion = LONG..=LONG;
    let restore = ["restore", &id.to_string(), "--snapshot-first", "--yes"];
    for signals in [1, 2] {
        let before = creates(&machine);
        let mut running = machine.start(machine.command(&restore), |_, _| {});
        let in_progress = || creates(&machine) > before || running.log().contains("continuing");
        machine.until("the create", in_progress).await;
        let looks = || machine.sandbox.provider().count(Operation::List);
        let before = looks();
        machine.until("a look after its answer", || looks() > before + 1).await;
        running.signal(Signal::SIGINT);
        if signals == 2 {
            machine.until("the first", || running.log().contains("stopping after")).await;
            running.signal(Signal::SIGINT);
        }
        assert_eq!(running.ended().await.code(), Some(1), "{}", running.log());
        let log = running.log();
        assert!(log.contains("nothing was restored, the server was not changed"), "{log}");
        assert!(log.contains("is still in progress"), "{log}");
        assert_eq!(restores(&machine), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_has_gone_meanwhile_is_not_asked_for() {
    let machine = machine(LONG).await;
    let (id, _) = managed(&machine, 50);
    // The look before the question shows it, the one after it does not.
    let terminal = openpty(None, None).unwrap();
    let mut command = machine.command(&["restore", &id.to_string()]);
    command.stdin(terminal.slave.try_clone().unwrap());
    let mut running = machine.start_with_stdin(command);
    machine.until("the question", || running.log().contains("type the server's name")).await;
    machine.sandbox.provider().remove_snapshot(snapring::naming::SnapshotId(id));
    File::from(terminal.master.try_clone().unwrap()).write_all(b"web\n").unwrap();
    assert_eq!(running.ended().await.code(), Some(1), "{}", running.log());
    assert!(running.log().contains("is not there any more"), "{}", running.log());
    assert_eq!(restores(&machine), 0);
}

/// The provider gives up: that is said at once, and the server is in trouble.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_says_so_and_its_server_is_in_trouble() {
    let machine = machine(SHORT).await;
    let (id, _) = managed(&machine, 2);
    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    assert_eq!(machine.run(&["status"]).0, 0);
    machine.fault("restore:fails");
    let begun = machine.clock.now().uptime;
    let (code, out, errors) = machine.run(&["restore", &id.to_string(), "--yes"]);
    assert_eq!((code, out.as_str()), (1, ""), "{errors}");
    let says = "the restore failed: the provider shows server web (101) as \"error\"";
    assert!(errors.contains(&format!("error: {says}")), "{errors}");
    let took = machine.clock.now().uptime - begun;
    assert!(took < Duration::from_secs(60), "{took:?}");
    let (code, out, errors) = machine.run(&["status"]);
    assert_eq!(code, 1, "{out} {errors}");
    assert!(out.contains(says), "{out}");
    assert!(out.contains("Restore it again"), "{out}");
    // No rotation deletes what a person may need now, and none hides it.
    let before = machine.names(WEB);
    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 1, "{out} {errors}");
    assert!(out.contains("It is not rotated until that changes"), "{out} {errors}");
    assert_eq!(machine.names(WEB), before);
    let (code, out, errors) = machine.run(&["status"]);
    assert_eq!(code, 1, "{out} {errors}");
    assert!(out.contains(says) && out.contains("; its last rotation: "), "{out}");
    // While a person does what that asks for, it is not asked for again.
    machine.sandbox.provider().faults().clear();
    machine.sandbox.provider().options_mut().restore = LONG;
    let restore = machine.command(&["restore", &id.to_string(), "--yes"]);
    let mut running = machine.start(restore, |_, _| {});
    machine.until("the restore", || machine.sandbox.provider().is_restoring(WEB)).await;
    for command in ["status", "list", "plan"] {
        let (_, out, errors) = machine.run(&[command, "web"]);
        let said = format!("{out}{errors}");
        assert!(said.contains("web (101) is being restored from snapshot"), "{command}: {said}");
        assert!(!said.contains("Restore it again"), "{command}: {said}");
        assert!(command != "status" || said.contains("It is being restored now"), "{said}");
    }
    running.signal(Signal::SIGINT);
    running.ended().await;
    machine.sandbox.provider().restore_ends(WEB);
    machine.sandbox.provider().set_server_state(WEB, "error");
    machine.fault("restore:fails");
    // The next restore does not wait for the one that failed.
    let (code, _, errors) = machine.run(&["restore", &id.to_string(), "--yes", "--no-wait"]);
    assert!(!errors.contains("nothing else starts"), "{code} {errors}");
}

/// Nobody follows a restore that was killed: the daemon looks what became of it, and does not wait for the next tick.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_killed_and_then_failed_is_shown_without_a_rotation() {
    let machine = machine(LONG).await;
    let (id, _) = managed(&machine, 2);
    let mut running =
        machine.start(machine.command(&["restore", &id.to_string(), "--yes"]), |_, _| {});
    machine.until("the wait", || running.log().contains("shows it as restoring")).await;
    running.kill();
    machine.sandbox.provider().restore_ends(WEB);
    machine.sandbox.provider().set_server_state(WEB, "error");
    let yearly = HOURLY.replace("0 * * * *", "0 3 1 1 *");
    machine.configure(&format!("{yearly}{JSON_LOG}"));
    let daemon = machine.daemon();
    let says = "a restore failed, and the provider shows the server as \"error\"";
    machine.until("the daemon to see it", || daemon.events("restore").len() == 1).await;
    assert!(daemon.events("restore")[0]["message"].as_str().unwrap().contains(says));
    let (code, out, errors) = machine.run(&["status"]);
    assert!(code == 1 && out.contains(says), "{code} {out} {errors}");
    assert!(!out.contains("is being restored"), "{out}");
    assert_eq!(machine.names(WEB).len(), 1, "and no rotation was needed for that");
}

/// Whether a person has repaired it or a restore has succeeded: the provider shows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_a_restore_left_broken_is_rotated_once_the_provider_shows_it_otherwise() {
    let machine = machine(SHORT).await;
    let (id, _) = managed(&machine, 2);
    machine.fault("restore:fails,times=1");
    assert_eq!(machine.run(&["restore", &id.to_string(), "--yes"]).0, 1);
    assert_eq!(machine.run(&["rotate", "web"]).0, 1);
    // Where the list of servers does not answer, that is not known.
    machine.fault("servers:status=503,times=9");
    assert_eq!(machine.run(&["rotate", "web"]).0, 1);
    machine.sandbox.provider().faults().clear();
    machine.sandbox.provider().set_server_state(WEB, "active");
    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{out} {errors}");
    machine.sandbox.provider().set_server_state(WEB, "error");
    assert_eq!(machine.run(&["rotate", "web"]).0, 0, "no restore of snapring's did that");
}

/// A snapshot of the broken server, made by hand, is the newest one.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_that_failed_latest_means_its_source_which_cannot_be_deleted() {
    let machine = machine(SHORT).await;
    let (id, name) = managed(&machine, 50);
    let (other, _) = managed(&machine, 3);
    machine.fault("restore:fails,times=1");
    assert_eq!(machine.run(&["restore", &id.to_string(), "--yes"]).0, 1);
    let (code, _, errors) = machine.run(&["create", "web", "--name", "of-broken"]);
    assert_eq!(code, 0, "{errors}");
    let says = "warning: a restore of web (101) failed, and the provider shows the server as \"error\". The new snapshot \
                contains the broken server. `snapring restore latest` never takes it";
    assert!(errors.contains(says), "{errors}");

    let (code, _, errors) = machine.run(&["delete", &id.to_string(), "--yes"]);
    assert_eq!((code, deleted(&machine).len()), (1, 0), "{errors}");
    let refuses = format!(
        "error: {name} is not deleted: a restore from it failed, and the provider shows server web (101) as \"error\"\n\
         hint: first restore the server again, or repair it in the provider's panel"
    );
    assert!(errors.contains(&refuses), "{errors}");
    assert_eq!(machine.run(&["delete", &other.to_string(), "--yes"]).0, 0, "any other one can be");
    let before = machine.names(WEB);
    let (code, _, errors) = machine.run(&["restore", "latest", "web", "--snapshot-first", "--yes"]);
    let says = "error: no snapshot of web (101) is created first: a restore of it failed";
    assert!(code == 1 && errors.contains(says), "{errors}");
    assert_eq!(machine.names(WEB), before, "no good one is given up for it");
    for command in ["list", "plan"] {
        let (code, _, errors) = machine.run(&[command, "web"]);
        let says =
            "warning: web (101): a restore failed, and the provider shows the server as \"error\"";
        assert!(code == 0 && errors.contains(says), "{command}: {errors}");
    }
    let newer = managed(&machine, 2);

    let latest = ["restore", "latest", "web", "--yes", "--no-wait"];
    let (code, out, errors) = machine.run(&latest);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains(&format!("is being restored from {name} ({id})")), "{out}");
    let skips = format!(
        "skipped: of-broken (created while the server was broken), {} (newer than the source of the restore that failed)",
        newer.1
    );
    assert!(errors.contains(&skips), "{errors}");

    // Once it is well again, any that shows a server that was well.
    machine.sandbox.provider().restore_ends(WEB);
    machine.sandbox.provider().set_server_state(WEB, "active");
    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    let rotated = machine.rows(WEB).pop().unwrap();
    let of_broken = machine.rows(WEB).into_iter().find(|row| row.name == "of-broken").unwrap();
    assert_eq!(machine.run(&["delete", &rotated.id.to_string(), "--yes"]).0, 0);
    let (code, out, errors) = machine.run(&latest);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains(&format!("is being restored from {} ({})", newer.1, newer.0)), "{out}");
    assert!(
        errors.contains("skipped: of-broken (created while the server was broken)"),
        "{errors}"
    );
    assert!(
        of_broken
            .description
            .is_some_and(|it| it.starts_with("created while the server was broken"))
    );
}

/// The names and descriptions at the provider decide. Where neither tells, a person does.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_history_latest_is_decided_by_what_the_provider_lists() {
    let machine = machine(SHORT).await;
    managed(&machine, 50);
    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{out} {errors}");
    let good = machine.rows(WEB).pop().unwrap();
    machine.fault("restore:status=400,times=1");
    let (code, _, errors) = machine.run(&["restore", "latest", "web", "--snapshot-first", "--yes"]);
    assert_eq!(code, 1, "{errors}");
    let safety = machine.rows(WEB).pop().unwrap();
    lose_the_history(&machine);
    let latest = ["restore", "latest", "web", "--yes", "--no-wait"];
    let (code, out, errors) = machine.run(&latest);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains(&format!("from {} ({})", good.name, good.id)), "{out}");
    let skips = format!("skipped: {} (created by `restore --snapshot-first`)", safety.name);
    assert!(errors.contains(&skips), "{errors}");

    // An empty description is what a provider leaves that keeps none, too.
    machine.sandbox.provider().restore_ends(WEB);
    machine.configure(&format!("{HOURLY}description = \"\"\n"));
    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    let unclear = machine.rows(WEB).pop().unwrap();
    lose_the_history(&machine);
    let at = (machine.clock.now().wall + SignedDuration::from_hours(1)).to_string();
    let before = ["restore", "--before", &at, "web", "--yes", "--no-wait"];
    for command in [&latest[..], &before] {
        let (code, _, errors) = machine.run(command);
        assert_eq!(code, 1, "{errors}");
        let says = format!("it is not known whether {} (created ", unclear.name);
        assert!(errors.contains(&says), "{errors}");
        assert!(
            errors.contains(&format!("run `snapring restore {}` to use it", unclear.id)),
            "{errors}"
        );
        assert!(errors.contains("`snapring list web` shows all"), "{errors}");
    }
    let (_, help, _) = machine.run(&["restore", "--help"]);
    assert!(help.contains("`latest` and `--before` choose a snapshot."), "{help}");
}

/// The history knows of the restore, and the provider still shows what became of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_a_restore_left_broken_is_not_rotated_though_the_state_directory_was_lost() {
    let machine = machine(SHORT).await;
    machine.configure(&format!("{JSON_LOG}{HOURLY}"));
    let (id, _) = managed(&machine, 2);
    machine.fault("restore:fails,times=1");
    assert_eq!(machine.run(&["restore", &id.to_string(), "--yes"]).0, 1);
    let lose_the_note = || {
        let files = machine.path("rotation.creates").read_dir().unwrap();
        let notes = files.map(|it| it.unwrap().path());
        let broken: Vec<_> =
            notes.filter(|it| it.extension().is_some_and(|it| it == "broken")).collect();
        assert_eq!(broken.len(), 1);
        std::fs::remove_file(&broken[0]).unwrap();
    };
    // Each command notes it again, and heeds it.
    lose_the_note();
    let (code, _, errors) = machine.run(&["create", "web", "--name", "hand"]);
    assert!(code == 0 && errors.contains("contains the broken server"), "{errors}");
    lose_the_note();
    let (code, _, errors) = machine.run(&["delete", &id.to_string(), "--yes"]);
    assert!(code == 1 && errors.contains("a restore from it failed"), "{errors}");
    lose_the_note();
    let (_, _, errors) = machine.run(&["restore", "latest", "web"]);
    assert!(errors.contains("skipped: hand ("), "{errors}");
    let before = machine.names(WEB);
    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 1, "{out} {errors}");
    assert!(out.contains("It is not rotated until that changes"), "{out} {errors}");
    // It is noted again, with its source.
    assert_eq!(machine.run(&["delete", &id.to_string(), "--yes"]).0, 1);
    lose_the_note();
    let daemon = machine.daemon();
    machine.until("a start", || daemon.told("daemon") > 0).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("its rotation", || daemon.rotations("failed") == 1).await;
    assert_eq!(machine.names(WEB), before, "{}", daemon.log());

    lose_the_note();
    machine.sandbox.provider().set_server_state(WEB, "active");
    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{out} {errors}");
    assert_eq!(machine.names(WEB).len(), before.len() + 1);
}
