//! What people do by hand is in the history, with who did it.

use std::time::Duration;

use jiff::SignedDuration;
use nix::sys::signal::Signal;
use serde_json::Value;
use snapring::call::Operation;

use crate::machine::{Machine, WEB, json};

const RARE: &str =
    "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 1 1 *\"\nkeep = 3\ncatch_up = \"0s\"\n";

async fn machine() -> Machine {
    let machine = Machine::with(|options| {
        options.completion = Duration::from_millis(300)..=Duration::from_millis(300);
        options.restore = Duration::from_secs(2);
    })
    .await;
    machine.configure(RARE);
    machine
}

fn history(machine: &Machine, arguments: &[&str]) -> Vec<Value> {
    let (code, out, errors) = machine.run(&[&["history", "--json"], arguments].concat());
    assert_eq!(code, 0, "{errors}");
    json(&out).as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_deletes_and_restores_are_in_the_history_with_who_did_them() {
    let machine = machine().await;
    let run = |arguments: &[&str]| {
        let mut command = machine.command(arguments);
        let output = command.env("SUDO_USER", "anna").output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, errors) = run(&["create", "web", "--name", "before-upgrade"]);
    assert_eq!(code, 0, "{errors}");
    let id = machine.rows(WEB)[0].id.0;
    let source = id.to_string();
    let (code, errors) = run(&["restore", &source, "--snapshot-first", "--yes"]);
    assert_eq!(code, 0, "{errors}");
    let safety = machine.rows(WEB).pop().unwrap();
    let (code, errors) = run(&["delete", &source, "--yes"]);
    assert_eq!(code, 0, "{errors}");
    assert!(!errors.contains("missing in the history"), "{errors}");

    let acts = history(&machine, &["--manual"]);
    let told = |it: &Value| format!("{} {}", it["action"], it["outcome"]).replace('"', "");
    let told: Vec<String> = acts.iter().map(told).collect();
    assert_eq!(told, ["delete done", "restore done", "create done"]);
    let uid = nix::unistd::getuid().as_raw();
    for act in &acts {
        assert_eq!((&act["kind"], &act["server"]), (&"manual".into(), &"web".into()), "{act}");
        assert_eq!((&act["uid"], &act["sudo_user"]), (&uid.into(), &"anna".into()), "{act}");
        assert_eq!((&act["snapshot_id"], &act["snapshot"]), (&id.into(), &"before-upgrade".into()));
        let times = |field: &str| act[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(times("ended_at") >= times("started_at"), "{act}");
    }
    assert_eq!(acts[1]["safety_id"], safety.id.0, "{}", acts[1]);
    assert_eq!(acts[1]["safety"], safety.name, "{}", acts[1]);
    // The rotation that took it is there too.
    let all = history(&machine, &[]);
    let rotations: Vec<&Value> = all.iter().filter(|it| it["kind"] == "rotation").collect();
    assert_eq!((all.len(), rotations.len()), (4, 1));
    assert_eq!(rotations[0]["created"], safety.name);
    assert_eq!(history(&machine, &["--outcome", "done"]).len(), 3);
    assert_eq!(history(&machine, &["--outcome", "rotated"]).len(), 1);
    assert_eq!(history(&machine, &["--limit", "2"]).len(), 2);
    assert_eq!(history(&machine, &["--manual", "w*"]).len(), 3);
    assert_eq!(machine.run(&["history", "--manual", "nobody"]).0, 2);
    let (_, out, _) = machine.run(&["history", "--manual"]);
    assert!(out.contains("restore from before-upgrade") && out.contains("(sudo: anna)"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_or_is_not_known_is_recorded_with_why() {
    let machine = machine().await;
    let id = machine.add(WEB, "by-hand", 30).to_string();
    for (fault, arguments, outcome, why) in [
        (
            "create:status=400",
            &["create", "web", "--name", "x"][..],
            "failed",
            "could not create the snapshot: the provider answered 400 (bad request)",
        ),
        ("delete:status=403", &["delete", &id, "--yes"], "failed", "does not allow this"),
        ("delete:ignored", &["delete", &id, "--yes"], "unknown", "still lists it"),
        ("restore:status=400", &["restore", &id, "--yes"], "failed", "nothing was restored"),
        ("restore:status=503", &["restore", &id, "--yes"], "unknown", "it is not known whether"),
    ] {
        machine.fault(&format!("{fault},times=1"));
        let (code, _, errors) = machine.run(arguments);
        assert_eq!(code, 1, "{fault}: {errors}");
        let act = &history(&machine, &["--manual", "--limit", "1"])[0];
        assert_eq!(act["outcome"], outcome, "{fault}: {act}");
        assert!(act["reason"].as_str().unwrap().contains(why), "{fault}: {act}");
    }
    // Nobody has confirmed it.
    let before = history(&machine, &["--manual"]).len();
    assert_eq!(machine.run(&["delete", &id]).0, 2);
    assert_eq!(history(&machine, &["--manual"]).len(), before);
}

/// It was written when it began.
#[tokio::test(flavor = "multi_thread")]
async fn an_act_whose_command_was_killed_is_recorded_as_not_known() {
    let machine = machine().await;
    let id = machine.add(WEB, "by-hand", 30).to_string();
    machine.fault("restore:hang");
    let mut restore = machine.start(machine.command(&["restore", &id, "--yes"]), |_, _| {});
    machine
        .until("the restore", || machine.sandbox.provider().count(Operation::Restore) == 1)
        .await;
    let is_recorded =
        || machine.run(&["history", "--manual"]).1.contains("the restore was sent, and");
    machine.until("its record", is_recorded).await;
    restore.kill();
    let act = &history(&machine, &["--manual"])[0];
    assert_eq!((&act["action"], &act["outcome"]), (&"restore".into(), &"unknown".into()));
    assert!(act["reason"].as_str().unwrap().contains("did not report how it ended"), "{act}");
}

/// It was killed while it waited for another command, before anything was sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_killed_while_it_waited_is_recorded_as_not_sent() {
    let machine = machine().await;
    let id = machine.add(WEB, "by-hand", 30).to_string();
    machine.fault("create:hang");
    let _create = machine.start(machine.command(&["create", "web", "--name", "x"]), |_, _| {});
    machine.until("the create", || machine.sandbox.provider().count(Operation::Create) == 1).await;
    let mut restore = machine.start(machine.command(&["restore", &id, "--yes"]), |_, _| {});
    let acts = || machine.run(&["history", "--manual"]).1;
    machine.until("its record", || acts().contains("restore from by-hand")).await;
    restore.kill();
    let acts = history(&machine, &["--manual"]);
    // On a slow machine the create may have ended meanwhile, and is the newest then.
    let act = acts.iter().find(|act| act["action"] == "restore").unwrap();
    assert!(act["reason"].as_str().unwrap().starts_with("nothing had been sent"), "{act}");
    assert_eq!(machine.sandbox.provider().count(Operation::Restore), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_is_interrupted_says_and_records_what_is_left() {
    let machine = machine().await;
    let id = machine.add(WEB, "by-hand", 30).to_string();
    machine.fault("delete:status=409");
    let mut delete = machine.start(machine.command(&["delete", &id, "--yes"]), |_, _| {});
    machine.until("a wait", || delete.log().contains("checking again in")).await;
    assert!(delete.log().contains(" at the latest. Ctrl-C stops"), "until when: {}", delete.log());
    delete.signal(Signal::SIGINT);
    assert_eq!(delete.ended().await.code(), Some(1));
    let says = format!("interrupted: it is not known whether by-hand ({id}) was deleted");
    assert!(delete.log().contains(&says), "{}", delete.log());
    let act = &history(&machine, &["--manual"])[0];
    assert_eq!(act["outcome"], "unknown", "{act}");
    assert!(act["reason"].as_str().unwrap().contains(&says), "{act}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_without_an_answer_says_until_when_it_was_looked_for() {
    let machine = machine().await;
    machine.configure_api("settle = \"1s\"\nretries = 1\ntimeout = \"1s\"", RARE);
    machine.fault("create:hang");
    let (code, _, errors) = machine.run(&["create", "web", "--name", "x"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("no answer within 1s; x was not listed by "), "{errors}");
    assert!(errors.contains("hint: look again with `snapring list` before you retry"), "{errors}");
}

/// The same column said nothing of both: of what is never deleted, and of what goes next.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_says_what_is_never_deleted_and_what_goes_next() {
    let machine = machine().await;
    machine.configure(&RARE.replace("keep = 3", "keep = 1"));
    machine.add(WEB, "by-hand", 72);
    for age in [48, 24] {
        let at = machine.clock.now().wall - jiff::SignedDuration::from_hours(age);
        machine.add(WEB, &at.strftime("snapring-%Y%m%dT%H%M%SZ").to_string(), age);
    }
    let at = machine.clock.now().wall - jiff::SignedDuration::from_hours(12);
    let failed = at.strftime("snapring-%Y%m%dT%H%M%SZ").to_string();
    machine.sandbox.provider().add_snapshot(WEB, &failed, "failed", at);
    let of_failed = "no: deleted once it has been listed as failed for 5 minutes";
    let kept = |out: &str, name: &str| {
        let row = out.lines().find(|line| line.contains(name)).unwrap_or_default();
        row.trim_end().to_owned()
    };
    let (code, out, errors) = machine.run(&["list", "web"]);
    assert_eq!(code, 0, "{errors}");
    assert!(kept(&out, &failed).ends_with(of_failed), "{out}");
    let ends: Vec<&str> =
        ["never deleted", "no: deleted at the next rotation", "last (1 of 1)"].into();
    let rows = out.lines().filter(|line| line.contains("completed"));
    let are_so = rows.zip(&ends).filter(|(row, end)| row.trim_end().ends_with(**end)).count();
    assert_eq!(are_so, 3, "{out}");

    // The table that closes a rotation has the same column.
    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{out} {errors}");
    assert!(kept(&out, &failed).ends_with(of_failed), "{out}");
    assert!(kept(&out, "by-hand").ends_with("never deleted"), "{out}");
}

/// The page and the document of a daemon that runs, in memory of nothing but its store.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_shows_what_people_did_and_who() {
    let machine = machine().await;
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    machine.configure(&format!("[http]\nlisten = \"{listen}\"\n{RARE}"));
    let daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    let before = machine.clock.now().wall;
    let (code, _, errors) = machine.run(&["create", "web", "--name", "before-upgrade"]);
    assert_eq!(code, 0, "{errors}");
    let shown = || {
        let (_, out, _) = machine.run(&["status", "--json"]);
        json(&out)["daemon"]["manual_acts"][0].clone()
    };
    machine.until("it to be shown", || shown()["action"] == "create").await;
    let act = shown();
    assert_eq!((&act["outcome"], &act["snapshot"]), (&"done".into(), &"before-upgrade".into()));
    let ended: jiff::Timestamp = act["ended_at"].as_str().unwrap().parse().unwrap();
    assert!(ended > before - SignedDuration::from_secs(1), "{act}");
    drop(daemon);
}

/// The store is broken: what was done is said, and so is that nobody will find it in the history.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_but_cannot_be_recorded_fails_and_says_what_was_done() {
    let machine = machine().await;
    assert_eq!(machine.run(&["create", "web", "--name", "first"]).0, 0);
    let id = machine.rows(WEB)[0].id.0.to_string();
    let store = machine.path("snapring.db");
    std::fs::remove_file(&store).unwrap();
    std::fs::create_dir(&store).unwrap();
    for (arguments, done) in [
        (&["create", "web", "--name", "second"][..], "second completed"),
        (&["rotate", "web"], "rotated"),
        (&["restore", &id, "--yes", "--no-wait"], "is being restored from first"),
    ] {
        let (code, out, errors) = machine.run(arguments);
        assert_eq!(code, 1, "{arguments:?}: {out} {errors}");
        assert!(out.contains(done), "{arguments:?}: {out}");
        assert!(errors.contains("missing from the history"), "{arguments:?}: {errors}");
        let says = "error: this was done at the provider, but the history does not show it";
        assert!(errors.contains(says), "{arguments:?}: {errors}");
    }
}
