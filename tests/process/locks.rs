//! One server, several processes: whatever their environment, whatever becomes of the lock files, one
//! works on it and the others wait. A restore holds its server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::SignedDuration;
use nix::sys::signal::Signal;
use snapring::call::Operation;

use crate::machine::{Daemon, Machine, WEB, json};

/// Once a year: nothing falls due by itself.
const RARE: &str = "[log]\nformat = \"json\"\n[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 1 1 *\"\nkeep = 3\ncatch_up = \"0s\"\n";

/// A machine on which every rotation stops in its `before` hook until the file `go` is there.
async fn with_a_barrier() -> Machine {
    let machine = Machine::new().await;
    let go = machine.path("go");
    let hook = format!("until test -e {}; do sleep 0.05; done", go.display());
    let hooks = format!("[server.hooks]\nbefore = [\"sh\", \"-c\", \"{hook}\"]\n");
    machine.configure(&format!("{RARE}{hooks}"));
    machine
}

/// Waits until a rotation has claimed the server. It ends no earlier than its hook.
async fn stands_in_its_hook(machine: &Machine) {
    machine.until("the look", || machine.sandbox.provider().count(Operation::List) > 0).await;
}

fn go(machine: &Machine) {
    std::fs::write(machine.path("go"), "").unwrap();
}

/// The names of what was created, in order.
fn created(machine: &Machine) -> Vec<String> {
    let provider = machine.sandbox.provider();
    let creates = provider.acts().iter().filter(|act| act.operation == Operation::Create);
    creates.map(|act| act.row.name.clone()).collect()
}

/// Waits until a process says that it waits; no other call may have been made by then.
async fn waits(machine: &Machine, process: &Daemon, for_whom: &str) {
    machine.until("the wait", || process.log().contains("is working on it")).await;
    assert!(process.log().contains(for_whom), "{for_whom}: {}", process.log());
    assert_eq!(machine.sandbox.provider().count(Operation::List), 1, "{}", process.log());
}

/// The first one stands in its hook. The second one waits, then both do what they were asked, one
/// after the other.
async fn one_after_the_other(machine: &Machine, mut first: Daemon, second: Command) {
    let mut second = machine.start(second, |_, _| {});
    waits(machine, &second, &format!("pid {}", first.pid())).await;
    go(machine);
    assert_eq!(first.ended().await.code(), Some(0), "{}", first.log());
    assert_eq!(second.ended().await.code(), Some(0), "{}", second.log());
    assert_eq!((first.rotations("rotated"), second.rotations("rotated")), (1, 1));
    let names = created(machine);
    assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
}

/// The command in a session of its own, without a state directory.
fn in_session(machine: &Machine, session: &str, arguments: &[&str]) -> Command {
    let mut command = machine.command(arguments);
    command.env_remove("STATE_DIRECTORY");
    for variable in ["XDG_RUNTIME_DIR", "TMPDIR", "HOME"] {
        let directory = machine.path(&format!("{session}-{variable}"));
        std::fs::create_dir_all(&directory).unwrap();
        command.env(variable, directory);
    }
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_different_sessions_keep_out_of_each_others_way() {
    let machine = with_a_barrier().await;
    let first = machine.start(in_session(&machine, "one", &["rotate", "web"]), |_, _| {});
    stands_in_its_hook(&machine).await;
    let second = in_session(&machine, "two", &["rotate", "web"]);
    one_after_the_other(&machine, first, second).await;
}

/// The first one knows of a state directory, the second one does not.
#[tokio::test(flavor = "multi_thread")]
async fn processes_with_different_lock_directories_see_each_other_all_the_same() {
    let machine = with_a_barrier().await;
    let first = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    stands_in_its_hook(&machine).await;
    let second = in_session(&machine, "two", &["rotate", "web"]);
    one_after_the_other(&machine, first, second).await;
}

fn remove_lock_files(directory: &Path) {
    let mut count = 0;
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("rotation.lock") {
            std::fs::remove_file(path).unwrap();
            count += 1;
        }
    }
    assert!(count > 0, "there are no lock files");
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_files_that_are_removed_while_they_are_held_let_nobody_in() {
    let machine = with_a_barrier().await;
    let first = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    stands_in_its_hook(&machine).await;
    remove_lock_files(machine.directory.path());
    one_after_the_other(&machine, first, machine.command(&["rotate", "web"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_lock_files_were_removed_uses_those_that_others_use() {
    let machine = with_a_barrier().await;
    let daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    // That of the start.
    machine.until("the look", || machine.sandbox.provider().count(Operation::List) == 1).await;
    remove_lock_files(machine.directory.path());
    let mut person = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("a look", || machine.sandbox.provider().count(Operation::List) == 2).await;
    daemon.signal(Signal::SIGUSR1);
    let waits = || daemon.log().contains("is working on it: `snapring rotate`, pid");
    machine.until("the daemon's wait", waits).await;
    assert_eq!(machine.sandbox.provider().count(Operation::List), 2);
    go(&machine);
    assert_eq!(person.ended().await.code(), Some(0));
    machine.until("the daemon's rotation", || daemon.rotations("rotated") == 1).await;
    assert_eq!(created(&machine).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_names_of_the_loopback_address_are_one_account() {
    let machine = with_a_barrier().await;
    let first = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    stands_in_its_hook(&machine).await;
    let text = std::fs::read_to_string(machine.path("config.toml")).unwrap();
    let other = machine.path("localhost.toml");
    std::fs::write(&other, text.replace("127.0.0.1", "LocalHost")).unwrap();
    let mut second = machine.command(&["rotate", "web"]);
    second.env("SNAPRING_CONFIG", other);
    one_after_the_other(&machine, first, second).await;
}

/// Of several that draw their tick in one second, each makes a snapshot of its own.
#[tokio::test(flavor = "multi_thread")]
async fn rotations_that_are_asked_for_at_once_each_make_a_snapshot() {
    let machine = Machine::with_snapshots_of(Duration::ZERO).await;
    machine.configure(RARE);
    let start = || machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    let mut all: Vec<Daemon> = (0..4).map(|_| start()).collect();
    for rotation in &mut all {
        assert_eq!(rotation.ended().await.code(), Some(0), "{}", rotation.log());
        assert_eq!(rotation.rotations("rotated"), 1, "{}", rotation.log());
    }
    let mut names = created(&machine);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4, "{names:?}");
}

/// Two machines have no lock in common.
#[tokio::test(flavor = "multi_thread")]
async fn a_tick_that_another_machine_has_used_is_not_adopted_for_a_person() {
    let machine = Machine::with_snapshots_of(Duration::ZERO).await;
    machine.configure(RARE);
    let now = machine.clock.now().wall;
    let used = (0..5).map(|second| {
        let tick = now + SignedDuration::from_secs(second);
        let name = tick.strftime("snapring-%Y%m%dT%H%M%SZ").to_string();
        machine.sandbox.provider().add_snapshot(WEB, &name, "completed", now);
        name
    });
    let used: Vec<String> = used.collect();
    // The ring is full: the rotation makes room, and may not take its own tick's snapshot for done.
    let (code, out, errors) = machine.run(&["rotate", "web", "--json"]);
    assert_eq!(code, 0, "{errors}");
    let report = json(&out)[0].clone();
    assert_eq!(report["outcome"], "rotated", "{report}");
    assert!(!used.contains(&report["created"].as_str().unwrap().to_owned()), "{report}");
}

/// A configuration whose only tick comes in some seconds; its name in full.
fn tick_in(machine: &Machine, seconds: i64) -> String {
    let tick = machine.clock.now().wall + SignedDuration::from_secs(seconds);
    let schedule = tick.strftime("%S %M %H %d %m *").to_string();
    machine.configure(&RARE.replace("0 3 1 1 *", &schedule));
    tick.strftime("snapring-%Y%m%dT%H%M%SZ").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_waits_for_a_create_by_hand_and_names_it() {
    let machine = Machine::new().await;
    let name = tick_in(&machine, 4);
    let create = machine.command(&["create", "web", "--name", "by-hand"]);
    let mut create = machine.start(create, |_, _| {});
    machine.until("the create", || machine.rows(WEB).len() == 1).await;
    create.signal(Signal::SIGSTOP);
    let daemon = machine.daemon();
    let says = format!("is working on it: `snapring create`, pid {}, since", create.pid());
    machine.until("the tick's wait", || daemon.log().contains(&says)).await;
    assert_eq!((daemon.told("rotation"), created(&machine).len()), (0, 1), "{}", daemon.log());
    create.signal(Signal::SIGCONT);
    assert_eq!(create.ended().await.code(), Some(0));
    machine.until("the rotation", || daemon.told("rotation") == 1).await;
    assert_eq!(daemon.rotations("rotated"), 1, "{}", daemon.log());
    assert_eq!(created(&machine), ["by-hand", &name]);
}

/// What a killed process has left does not pass for the one that has the server now.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_command_is_not_named() {
    let machine = with_a_barrier().await;
    let create = machine.command(&["create", "web", "--name", "by-hand"]);
    machine.sandbox.provider().options_mut().completion =
        Duration::from_secs(3600)..=Duration::from_secs(3600);
    let mut create = machine.start(create, |_, _| {});
    machine.until("the create", || machine.rows(WEB).len() == 1).await;
    create.kill();
    // The next one cannot say anything of itself.
    let records = machine.path("rotation.creates");
    let mut files = records.read_dir().unwrap().map(|it| it.unwrap().path());
    let note = files.find(|path| path.extension().is_some_and(|it| it == "owner")).unwrap();
    let text = std::fs::read_to_string(&note).unwrap();
    assert!(text.contains("create"), "{text}");
    let rotation = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("its note", || std::fs::read_to_string(&note).is_ok_and(|it| it != text)).await;
    std::fs::write(&note, &text).unwrap();
    let third = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("the wait", || third.log().contains("is working on it")).await;
    let log = third.log();
    assert!(log.contains(&format!("pid {}", rotation.pid())), "{log}");
    assert!(!log.contains("snapring create"), "{log}");
}

/// Lets the time pass that a restore may take.
fn the_restore_is_over(machine: &Machine) {
    let mut count = 0;
    for entry in machine.path("rotation.creates").read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "restore") {
            let text = std::fs::read_to_string(&path).unwrap();
            let deadline = text.split(' ').nth(1).unwrap();
            std::fs::write(&path, text.replacen(deadline, "1", 1)).unwrap();
            count += 1;
        }
    }
    assert_eq!(count, 1, "restores that are noted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_keeps_its_snapshots_and_its_server_until_it_is_over() {
    let machine = Machine::new().await;
    let made: Vec<u64> = [("snapring-20260101T030000Z", 90), ("snapring-20260102T030000Z", 70)]
        .iter()
        .map(|(name, hours)| machine.add(WEB, name, *hours))
        .chain([machine.add(WEB, "by-hand", 60)])
        .collect();
    machine.configure(RARE);
    let source = made[0].to_string();
    let (code, _, errors) =
        machine.run(&["restore", &source, "--snapshot-first", "--yes", "--no-wait"]);
    assert_eq!(code, 0, "{errors}");
    let safety = machine.rows(WEB).last().unwrap().clone();
    let says = format!("created before restoring snapshot {source}");
    assert_eq!(safety.description.as_deref(), Some(says.as_str()), "{}", safety.name);

    // The next rotation would delete the source: the ring has one place for a managed snapshot.
    let name = tick_in(&machine, 3);
    let text = std::fs::read_to_string(machine.path("config.toml")).unwrap();
    std::fs::write(
        machine.path("config.toml"),
        text.replace("keep = 3", "keep = 1\nmin_interval = \"0s\""),
    )
    .unwrap();
    let daemon = machine.daemon();
    let says = format!("the server is being restored from snapshot {source} (snapring-20260101T");
    machine.until("the tick's wait", || daemon.log().contains(&says)).await;

    for id in [&source, &safety.id.0.to_string()] {
        let (code, _, errors) = machine.run(&["delete", id, "--yes"]);
        assert_eq!(code, 1, "{errors}");
        assert!(
            errors.contains("is not deleted: web (101): the server is being restored"),
            "{errors}"
        );
    }
    let create = ["create", "web", "--name", "another"];
    for arguments in [&create[..], &["restore", &made[1].to_string(), "--yes", "--no-wait"]] {
        let (code, _, errors) = machine.run(arguments);
        assert_eq!(code, 1, "{errors}");
        assert!(errors.contains("nothing else starts until that has ended"), "{errors}");
    }
    let (code, out, _) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 1);
    assert!(
        out.contains("skipped") && out.contains("nothing else starts until that has ended"),
        "{out}"
    );
    // What the restore does not need may go.
    let (code, _, errors) = machine.run(&["delete", &made[2].to_string(), "--yes"]);
    assert_eq!(code, 0, "{errors}");
    {
        let provider = machine.sandbox.provider();
        let deleted: Vec<u64> = provider.deleted().map(|row| row.id.0).collect();
        assert_eq!(deleted, [made[2]]);
        assert_eq!(provider.count(Operation::Restore), 1);
    }
    assert_eq!((daemon.told("rotation"), created(&machine).len()), (0, 1), "{}", daemon.log());

    machine.sandbox.provider().restore_ends(WEB);
    the_restore_is_over(&machine);
    machine.until("the rotation", || daemon.told("rotation") == 1).await;
    assert_eq!(daemon.rotations("rotated"), 1, "{}", daemon.log());
    assert_eq!(created(&machine)[1], name);
}

/// The rotation that it waits for would prune it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_waits_to_restore_from_is_not_deleted_meanwhile() {
    let machine = Machine::new().await;
    let made: Vec<u64> = (1..4)
        .map(|day| machine.add(WEB, &format!("snapring-2026010{day}T030000Z"), 100 - day))
        .collect();
    machine.configure(RARE);
    let span = Duration::from_secs(6);
    machine.sandbox.provider().options_mut().completion = span..=span;
    let rotation = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("its create", || created(&machine).len() == 1).await;
    let source = made[0].to_string();
    let (code, out, errors) = machine.run(&["restore", &source, "--yes", "--no-wait"]);
    assert_eq!(code, 0, "{out} {errors} {}", rotation.log());
    assert!(errors.contains("is working on it"), "it has waited: {errors}");
    assert_eq!(machine.sandbox.provider().count(Operation::Restore), 1);
    assert!(machine.rows(WEB).iter().any(|row| row.id.0 == made[0]), "{}", rotation.log());
}

/// Two people want to restore the same server. One of them gives up.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_gives_up_takes_no_protection_from_another() {
    let machine = Machine::new().await;
    let made: Vec<u64> = (1..4)
        .map(|day| machine.add(WEB, &format!("snapring-2026010{day}T030000Z"), 100 - day))
        .collect();
    machine.configure(RARE);
    let span = Duration::from_secs(12);
    machine.sandbox.provider().options_mut().completion = span..=span;
    let rotation = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("its create", || created(&machine).len() == 1).await;
    let source = made[0].to_string();
    let waits = || {
        let restore = ["restore", &source, "--yes", "--no-wait"];
        machine.start(machine.command(&restore), |_, _| {})
    };
    let (mut first, mut second) = (waits(), waits());
    for process in [&first, &second] {
        machine.until("the wait", || process.log().contains("is working on it")).await;
    }
    first.signal(Signal::SIGINT);
    assert_eq!(first.ended().await.code(), Some(1), "{}", first.log());
    assert_eq!(second.ended().await.code(), Some(0), "{} {}", second.log(), rotation.log());
    assert_eq!(machine.sandbox.provider().count(Operation::Restore), 1);
    assert!(machine.rows(WEB).iter().any(|row| row.id.0 == made[0]), "{}", rotation.log());
}

/// The list of servers does not tell which of two restores without an answer has begun.
#[tokio::test(flavor = "multi_thread")]
async fn two_restores_without_an_answer_keep_the_snapshots_of_both() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    let both = ["snapring-20260101T030000Z", "snapring-20260102T030000Z"]
        .map(|name| machine.add(WEB, name, 90).to_string());
    machine.fault("restore:status=503,times=2");
    machine.fault("servers:status=403");
    for id in &both {
        assert_eq!(machine.run(&["restore", id, "--yes", "--no-wait"]).0, 1);
    }
    for id in &both {
        let (code, _, errors) = machine.run(&["delete", id, "--yes"]);
        assert_eq!((code, machine.rows(WEB).len()), (1, 2), "{errors}");
        assert!(errors.contains("is not deleted: "), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_not_answered_holds_its_server_and_one_that_was_refused_does_not() {
    for (fault, is_held) in [
        ("restore:status=400", false),
        ("restore:status=401", false),
        ("restore:status=404", false),
        ("restore:status=503", true),
        ("restore:status-after=502", true),
        ("restore:drop-after", true),
        ("restore:torn", true),
    ] {
        let machine = Machine::new().await;
        machine.configure(RARE);
        let source = machine.add(WEB, "snapring-20260101T030000Z", 90).to_string();
        machine.fault(&format!("{fault},times=1"));
        // The list of servers does not tell either.
        machine.fault("servers:status=403");
        let (code, _, errors) = machine.run(&["restore", &source, "--yes", "--no-wait"]);
        assert_eq!(code, 1, "{fault}: {errors}");
        let left = match is_held {
            true => "it is not known whether the restore has started",
            false => "nothing was restored, the server was not changed",
        };
        assert!(errors.contains(left), "{fault}: {errors}");
        machine.sandbox.provider().restore_ends(WEB);
        let (code, out, errors) = machine.run(&["rotate", "web"]);
        assert_eq!(code, i32::from(is_held), "{fault}: {out} {errors}");
        let says = "that the provider did not confirm; nothing else starts until";
        assert_eq!(out.contains(says), is_held, "{fault}: {out}");
        // A person may decide to send another one, and is told that nothing holds it back.
        let (code, _, errors) = machine.run(&["restore", &source, "--yes", "--no-wait"]);
        assert_eq!(code, 0, "{fault}: {errors}");
        let says = "did not confirm, may still be running. This restore is sent anyway";
        assert_eq!(errors.contains(says), is_held, "{fault}: {errors}");
        assert!(!errors.contains("nothing else starts"), "{fault}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_end_the_provider_shows_holds_its_server_no_longer() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    let source = machine.add(WEB, "snapring-20260101T030000Z", 90).to_string();
    let (code, _, errors) = machine.run(&["restore", &source, "--yes", "--no-wait"]);
    assert_eq!(code, 0, "{errors}");
    let create = ["create", "web", "--name", "by-hand", "--no-wait"];
    let (code, _, errors) = machine.run(&create);
    assert_eq!(code, 1, "{errors}");
    machine.sandbox.provider().restore_ends(WEB);
    // The list of servers cannot be read: nothing is known.
    machine.fault("servers:status=403,times=1");
    assert_eq!(machine.run(&create).0, 1);
    let (code, _, errors) = machine.run(&create);
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("web (101): the restore has ended"), "{errors}");
    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_not_confirmed_can_be_asked_for_again() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    let source = machine.add(WEB, "snapring-20260101T030000Z", 90).to_string();
    machine.fault("restore:status=503,times=1");
    assert_eq!(machine.run(&["restore", &source, "--yes", "--no-wait"]).0, 1);
    let (code, _, errors) = machine.run(&["restore", &source, "--yes", "--no-wait"]);
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("which the provider did not confirm"), "{errors}");
    let (code, _, errors) = machine.run(&["restore", &source, "--yes", "--no-wait"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("the server is being restored from"), "{errors}");
    assert_eq!(machine.sandbox.provider().count(Operation::Restore), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_restore_that_is_refused_does_not_hide_the_first_one() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    let [first, second] = ["snapring-20260101T030000Z", "snapring-20260102T030000Z"]
        .map(|name| machine.add(WEB, name, 90).to_string());
    machine.fault("restore:drop-after,times=1");
    machine.fault("servers:status=403");
    assert_eq!(machine.run(&["restore", &first, "--yes", "--no-wait"]).0, 1);
    let (code, _, errors) = machine.run(&["restore", &second, "--yes", "--no-wait"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("not in a state that can be restored"), "{errors}");
    let (code, _, errors) = machine.run(&["delete", &first, "--yes"]);
    assert_eq!(code, 1, "{errors}");
    let (code, _, errors) = machine.run(&["delete", &second, "--yes"]);
    assert_eq!(code, 0, "{errors}");
}

/// A restore that was killed while it was being sent may have begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_killed_holds_its_server() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    let source = machine.add(WEB, "snapring-20260101T030000Z", 90).to_string();
    machine.fault("restore:hang");
    let mut restore =
        machine.start(machine.command(&["restore", &source, "--yes", "--no-wait"]), |_, _| {});
    machine
        .until("the restore", || machine.sandbox.provider().count(Operation::Restore) == 1)
        .await;
    restore.kill();
    let (code, _, errors) = machine.run(&["delete", &source, "--yes"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("may be in the middle of a restore"), "{errors}");
    assert_eq!(machine.rows(WEB).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_a_lock_file_hangs_nothing_and_is_named() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    let pipe = machine.path("rotation.lock.0");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (code, _, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{errors}");
    let says = format!("{}: this is not a regular file", pipe.display());
    assert!(errors.contains(&says), "{errors}");
}
