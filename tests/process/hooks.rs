//! Hooks that are owed when the process is killed, and what hooks leave behind.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use rstest::rstest;

use crate::machine::{Machine, WEB, skipped};

/// A server whose `before` hook kills snapring, once; each hook writes down that it ran.
async fn machine_with_a_deadly_hook() -> Machine {
    let machine = Machine::new().await;
    let (ran, once) = (machine.path("ran"), machine.path("once"));
    let (ran, once) = (ran.display(), once.display());
    let before = format!(
        "echo before $SNAPRING_SNAPSHOT >> {ran}; test -e {once} || {{ : > {once}; kill -KILL $PPID; }}"
    );
    let after = format!("echo after $SNAPRING_SNAPSHOT $SNAPRING_RESULT >> {ran}");
    machine.configure(&format!(
        "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 * * *\"\nkeep = 3\n[server.hooks]\n\
         before = [\"/bin/sh\", \"-c\", \"{before}\"]\nafter = [\"/bin/sh\", \"-c\", \"{after}\"]\n"
    ));
    machine
}

/// What ran, each with its snapshot and result.
fn ran(machine: &Machine) -> Vec<String> {
    let text = std::fs::read_to_string(machine.path("ran")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// It would quiesce the server again once `after` has run.
#[tokio::test(flavor = "multi_thread")]
async fn a_before_hook_that_outlives_its_killed_process_is_ended_first() {
    let machine = Machine::new().await;
    let ran = machine.path("ran");
    let ran = ran.display();
    let before = format!("echo began >> {ran}; sleep 4; echo quiesced >> {ran}");
    let after = format!("echo awake >> {ran}");
    machine.configure(&format!(
        "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 * * *\"\nkeep = 3\n[server.hooks]\n\
         before = [\"/bin/sh\", \"-c\", \"{before}\"]\nafter = [\"/bin/sh\", \"-c\", \"{after}\"]\n"
    ));
    let mut rotation = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("the hook", || self::ran(&machine) == ["began"]).await;
    rotation.kill();
    let daemon = machine.daemon();
    machine.until("the owed hook", || self::ran(&machine).len() > 1).await;
    // Longer than the first one would have gone on.
    machine.clock.sleep(Duration::from_secs(5)).await;
    assert_eq!(self::ran(&machine), ["began", "awake"], "{}", daemon.log());
}

#[rstest]
#[case::the_next_daemon(&[])]
#[case::the_next_rotation_by_hand(&["rotate", "web"])]
#[case::a_snapshot_by_hand(&["create", "web", "--name", "by-hand"])]
#[tokio::test(flavor = "multi_thread")]
async fn after_runs_first_of_all_when_snapring_was_killed_after_before(#[case] next: &[&str]) {
    let machine = machine_with_a_deadly_hook().await;
    let mut daemon = machine.daemon();
    machine.until("a start", || daemon.told("daemon") > 0).await;
    daemon.signal(Signal::SIGUSR1);
    daemon.ended().await;
    let quiesced = ran(&machine);
    let [before] = quiesced.as_slice() else { panic!("{quiesced:?}") };
    let snapshot = before.strip_prefix("before ").unwrap();
    let owed = format!("after {snapshot} failed");

    if next.is_empty() {
        let daemon = machine.daemon();
        machine.until("the owed hook", || ran(&machine).len() > 1).await;
        machine.until("a word of it", || daemon.log().contains("the after hook has run now")).await;
    } else {
        let (exit, out, err) = machine.run(next);
        assert_eq!(exit, 0, "{out}{err}");
    }
    assert_eq!(ran(&machine)[1], owed);
    // It is owed no more.
    let (exit, out, err) = machine.run(&["rotate", "web"]);
    assert_eq!(exit, 0, "{out}{err}");
    assert_eq!(ran(&machine).iter().filter(|line| **line == owed).count(), 1);
}

/// A machine whose snapring was killed after `before`; its `after` hook fails.
async fn machine_that_stays_quiesced() -> Machine {
    let machine = Machine::new().await;
    configure(&machine, HOOKS);
    let mut killed = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    killed.ended().await;
    // What was killed may still have a create on its way.
    machine.clock.sleep(Duration::from_secs(1)).await;
    machine
}

/// The second `before` does nothing.
const HOOKS: &str = "[server.hooks]\nbefore = [\"/bin/sh\", \"-c\", \"test -e once || { : > once; kill -KILL $PPID; \
                     }\"]\nafter = [\"/bin/sh\", \"-c\", \"test -e well || exit 7\"]\n";

fn configure(machine: &Machine, hooks: &str) {
    let hooks = ["once", "well"].iter().fold(hooks.to_owned(), |hooks, file| {
        let path = machine.path(file).display().to_string();
        hooks
            .replace(&format!("-e {file} "), &format!("-e {path} "))
            .replace(&format!("> {file};"), &format!("> {path};"))
    });
    machine.configure(&format!(
        "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 1 1 *\"\nkeep = 3\n{hooks}"
    ));
}

/// S8: an owed `after` hook that fails, or is gone, is trouble until one succeeds or a person says so.
#[rstest]
#[case::it_fails(HOOKS, "ran, and the after hook failed: it ended with exit status: 7")]
#[case::it_is_gone("", "there is no after hook in the configuration any more")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stays_quiesced_is_in_trouble(#[case] hooks: &str, #[case] words: &str) {
    let machine = machine_that_stays_quiesced().await;
    configure(&machine, hooks);
    let daemon = machine.daemon();
    machine.until("a report", || daemon.rotations("failed") >= 1).await;
    // It is written into the history a moment later.
    machine.until("that to be seen", || machine.run(&["status"]).0 == 1).await;
    let (exit, out, err) = machine.run(&["status"]);
    assert_eq!(exit, 1, "{out}{err}");
    assert!(out.contains(" failed ") && out.contains(words), "{out}");
    drop(daemon);
    // A rotation that resumes nothing does not end it.
    if hooks.is_empty() {
        let (exit, out, err) = machine.run(&["rotate", "web"]);
        assert_eq!(exit, 1, "{out}{err}");
        assert!(out.contains(words), "{out}");
        let (_, out, _) = machine.run(&["history"]);
        assert!(out.contains(words), "{out}");
        let (exit, out, err) = machine.run(&["resumed", "web"]);
        assert_eq!(exit, 0, "{out}{err}");
        assert!(out.starts_with("web (101) is now recorded as resumed"), "{out}");
    } else {
        std::fs::write(machine.path("well"), "").unwrap();
    }
    let (exit, out, err) = machine.run(&["rotate", "web"]);
    assert_eq!(exit, 0, "{out}{err}");
    assert_eq!(machine.run(&["status"]).0, 0);
    let (_, _, err) = machine.run(&["resumed", "web"]);
    assert!(err.contains("web is not recorded as quiesced"), "{err}");
}

/// S8: while no daemon runs, nothing runs the hook.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_status_names_a_server_that_stays_quiesced() {
    let machine = machine_that_stays_quiesced().await;
    let says = "web (101) is still quiesced: the before hook of snapring-";
    let advice = "and the after hook has not run. `snapring rotate web` runs the after hook. If you have resumed the server by \
                  hand, run `snapring resumed web`";
    let (exit, out, err) = machine.run(&["status"]);
    assert_eq!(exit, 1, "{out}{err}");
    assert!(out.contains(says) && out.contains(advice), "{out}");
    let (exit, out, _) = machine.run(&["status", "--json"]);
    assert_eq!(exit, 1, "{out}");
    assert!(out.contains("\"not_resumed\"") && out.contains("\"rotated\": true"), "{out}");
    let (exit, out, _) = machine.run(&["status", "--max-age", "26h"]);
    assert!(exit == 1 && out.contains(says), "{out}");

    let (exit, out, err) = machine.run(&["rotate", "web"]);
    assert_eq!(exit, 1, "{out}{err}");
    let (exit, out, _) = machine.run(&["status"]);
    assert_eq!(exit, 1, "{out}");
    assert!(out.contains(says) && out.contains("and the after hook failed: it ended"), "{out}");
    std::fs::write(machine.path("well"), "").unwrap();
    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    let (exit, out, _) = machine.run(&["status"]);
    assert!(exit == 0 && !out.contains("quiesced"), "{out}");
}

/// S8: nothing rotates a server that was taken out, so its `after` hook never runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiesced_server_that_was_taken_out_of_the_configuration_is_told_of() {
    let machine = machine_that_stays_quiesced().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    machine.configure(&format!(
        "[http]\nlisten = \"{free}\"\n[[server]]\nid = 102\nname = \"db\"\nschedule = \"0 3 1 1 *\"\nkeep = 3\n"
    ));
    let words = "web (101) is not rotated, but the before hook of snapring-";
    let hint = "run `snapring resumed web`";
    let (_, out, err) = machine.run(&["check"]);
    assert!(format!("{out}{err}").contains(words), "{out}{err}");
    let (exit, out, err) = machine.run(&["status"]);
    assert_eq!(exit, 1, "{out}{err}");
    assert!(out.contains(words) && out.contains(hint), "{out}");

    let daemon = machine.daemon();
    let is_told = || daemon.events("hook").iter().any(|it| it["level"] == "ERROR");
    machine.until("an error", is_told).await;
    assert!(daemon.log().contains(words), "{}", daemon.log());
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    let (exit, out, _) = machine.run(&["status"]);
    assert_eq!(exit, 1, "{out}");
    assert!(out.contains(words) && !out.contains(" failed "), "{out}");
    let (exit, out, _) = machine.run(&["status", "--json"]);
    assert_eq!(exit, 1);
    assert!(out.contains("\"not_resumed\"") && out.contains("\"web\""), "{out}");

    let (exit, out, err) = machine.run(&["resumed", "101"]);
    assert_eq!(exit, 0, "{out}{err}");
    let is_over = || !machine.run(&["status"]).1.contains(words);
    machine.until("the daemon to see it", is_over).await;
}

/// In a process table of its own, where snapring is the first process.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_process_of_a_container_leaves_no_zombies() {
    let possible =
        Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        skipped("the_first_process_of_a_container_leaves_no_zombies", "root and unshare");
        return;
    }
    let machine = Machine::new().await;
    let seen = machine.path("seen");
    // Leaves a child that ends on its own, and counts the zombies of earlier ones.
    let hook = format!(
        "sleep 0.1 & grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l >> {}",
        seen.display()
    );
    machine.configure(&format!(
        "[[server]]\nid = 101\nname = \"web\"\nschedule = \"*/3 * * * * *\"\nkeep = 2\nmin_interval = \"0s\"\n\
         [server.hooks]\nbefore = [\"/bin/sh\", \"-c\", \"{hook}\"]\n"
    ));
    let inner = machine.command(&["run"]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(inner.get_program());
    command.args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let daemon = machine.start(command, |_, _| {});
    let counts = || std::fs::read_to_string(&seen).unwrap_or_default();
    machine.until("five rotations", || counts().lines().count() >= 5).await;
    // Each look comes seconds after what the rotation before it left has ended.
    let counts = counts();
    assert!(counts.lines().all(|count| count.trim() == "0"), "{counts}{}", daemon.log());
    assert!(!machine.names(WEB).is_empty());
    machine.clock.sleep(Duration::ZERO).await;
}
