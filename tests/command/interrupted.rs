//! Ctrl-C in `rotate` and `create`: what is left is said, and the next command goes on from there.

use std::time::Duration;

use nix::sys::signal::Signal;
use snapring::call::Operation;

use crate::machine::{Daemon, Machine, WEB};

const SERVER: &str = "[log]\nformat = \"json\"\n[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 1 \
     1 *\"\n\
                      timezone = \"Europe/Berlin\"\nkeep = 3\n";

/// A machine whose snapshots are completed by the test.
async fn machine() -> Machine {
    let machine = Machine::with_snapshots_of(Duration::from_secs(3600)).await;
    machine.configure(SERVER);
    machine
}

/// Runs this until it has created a snapshot, and interrupts it. Gives the snapshot's name with its id.
async fn interrupted_in_progress(machine: &Machine, command: &[&str]) -> (Daemon, String) {
    let before = machine.rows(WEB).len();
    let mut running = machine.start(machine.command(command), |_, _| {});
    machine.until("the create", || machine.rows(WEB).len() > before).await;
    // Its answer has come, too.
    let answered = |it: &Daemon| {
        it.log().contains("\"operation\":\"create\"") || it.log().contains("is being created")
    };
    machine.until("the answer", || answered(&running)).await;
    running.signal(Signal::SIGINT);
    assert_eq!(running.ended().await.code(), Some(1), "{}", running.log());
    let row = machine.rows(WEB).pop().unwrap();
    (running, format!("{} ({})", row.name, row.id))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_interrupted_is_continued_by_the_next_one() {
    let machine = machine().await;
    for age in [72, 48, 24] {
        let at = machine.clock.now().wall - jiff::SignedDuration::from_hours(age);
        machine.add(WEB, &at.strftime("snapring-%Y%m%dT%H%M%SZ").to_string(), age);
    }
    let (first, unfinished) = interrupted_in_progress(&machine, &["rotate", "web"]).await;
    let told = &first.events("rotation")[0];
    let reason = told["reason"].as_str().unwrap();
    assert!(
        reason.starts_with(&format!(
            "interrupted: {unfinished} is still in progress. Run `snapring rotate web` again before 2"
        )),
        "{reason}"
    );
    assert!(reason.ends_with("it creates no second snapshot"), "{reason}");
    assert!(reason.contains(" CE"), "in the zone of the policy: {reason}");

    // Interrupted once more, it is still the same.
    let mut second = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    let says = format!("continuing with {unfinished}");
    machine.until("what it continues with", || second.log().contains(&says)).await;
    second.signal(Signal::SIGINT);
    assert_eq!(second.ended().await.code(), Some(1));
    let reason = second.events("rotation")[0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(&unfinished), "{reason}");

    let mut third = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("what it continues with", || third.log().contains(&says)).await;
    let id = machine.rows(WEB).pop().unwrap().id;
    machine.sandbox.provider().set_status(id, "completed");
    assert_eq!(third.ended().await.code(), Some(0), "{}", third.log());
    let report = third.events("rotation").pop().unwrap();
    assert_eq!(report["outcome"], "adopted");
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.starts_with(&format!("continued with {unfinished}")), "{reason}");
    assert!(
        report["deleted"].as_str().is_some_and(|it| !it.contains(',')),
        "one is pruned: {report}"
    );
    assert_eq!(machine.rows(WEB).len(), 3);
    assert_eq!(machine.sandbox.provider().count(Operation::Create), 1);
    // Now a person gets a new one again.
    let mut fourth = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine
        .until("another create", || machine.sandbox.provider().count(Operation::Create) == 2)
        .await;
    fourth.kill();
}

/// Without a store nothing is remembered: the names tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_continued_without_a_store_too() {
    let machine = machine().await;
    machine.configure(&format!("[store]\nurl = \"sqlite::memory:\"\n{SERVER}"));
    let (_, unfinished) = interrupted_in_progress(&machine, &["rotate", "web"]).await;
    let mut second = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    let says = format!("continuing with {unfinished}");
    machine.until("what it continues with", || second.log().contains(&says)).await;
    second.kill();
    assert_eq!(machine.sandbox.provider().count(Operation::Create), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_by_a_rotation_that_is_interrupted_before_its_create() {
    let machine = machine().await;
    machine.fault("list:hang,times=1");
    let mut rotation = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("the look", || machine.sandbox.provider().count(Operation::List) == 1).await;
    rotation.signal(Signal::SIGINT);
    assert_eq!(rotation.ended().await.code(), Some(1));
    let reason = &rotation.events("rotation")[0]["reason"];
    assert_eq!(*reason, "interrupted: no snapshot was created; the next rotation starts over");
}

/// Carried out, and not answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_answer_is_unknown_is_said_to_be_and_found_by_the_next_rotation() {
    let machine = machine().await;
    machine.configure_api("settle = \"1s\"\nretries = 1\ntimeout = \"2s\"", SERVER);
    machine.fault("create:hang-after,times=1");
    let mut rotation = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("the create", || machine.rows(WEB).len() == 1).await;
    // Nothing answers the looks that follow, so that it stays unknown.
    machine.fault("list:hang");
    rotation.signal(Signal::SIGINT);
    assert_eq!(rotation.ended().await.code(), Some(1));
    let name = machine.names(WEB).pop().unwrap();
    let reason = rotation.events("rotation")[0]["reason"].as_str().unwrap().to_owned();
    let expected = format!(
        "interrupted: it is not known whether {name} was created; the next rotation looks for it before it \
         creates anything"
    );
    assert_eq!(reason, expected);
    machine.sandbox.provider().faults().clear();
    let mut second = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine
        .until("what it continues with", || {
            second.log().contains(&format!("continuing with {name}"))
        })
        .await;
    second.kill();
    assert_eq!(machine.sandbox.provider().count(Operation::Create), 1);
}

/// A second Ctrl-C says what is left as well, and speaks of hooks only where there are some.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_says_what_is_left_and_speaks_of_configured_hooks_only() {
    for has_hooks in [false, true] {
        let machine = machine().await;
        // The after hook keeps the first Ctrl-C waiting; without one, a call does.
        let hooks =
            "[server.hooks]\nbefore = [\"true\"]\nafter = [\"sleep\", \"600\"]\ntimeout = \"1h\"\n";
        machine.configure(&format!("{SERVER}{}", if has_hooks { hooks } else { "" }));
        let mut rotation = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
        machine.until("the create", || machine.rows(WEB).len() == 1).await;
        machine.until("its answer", || rotation.log().contains("\"operation\":\"create\"")).await;
        if !has_hooks {
            machine.fault("list:hang");
            let looks = machine.sandbox.provider().count(Operation::List);
            machine
                .until("a look", || machine.sandbox.provider().count(Operation::List) > looks)
                .await;
        }
        rotation.signal(Signal::SIGINT);
        machine
            .until("the first one to be heard", || rotation.log().contains("stopping after"))
            .await;
        rotation.signal(Signal::SIGINT);
        assert_eq!(rotation.ended().await.code(), Some(1));
        let row = machine.rows(WEB).pop().unwrap();
        let told = rotation.events("rotation");
        let reason = told[0]["reason"].as_str().unwrap();
        assert!(reason.starts_with("interrupted by a second signal"), "{reason}");
        assert!(
            reason.contains(&format!("{} ({}) is still in progress", row.name, row.id)),
            "{reason}"
        );
        assert_eq!(reason.contains("hook"), has_hooks, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_by_hand_that_is_interrupted_says_what_is_left() {
    let machine = machine().await;
    let create = ["create", "web", "--name", "before-upgrade"];
    let (first, unfinished) = interrupted_in_progress(&machine, &create).await;
    let says = format!("error: interrupted: {unfinished} is still in progress at the provider");
    assert!(first.log().contains(&says), "{}", first.log());

    machine.fault("list:hang,times=1");
    let looks = machine.sandbox.provider().count(Operation::List);
    let mut second = machine.start(machine.command(&create), |_, _| {});
    machine.until("the look", || machine.sandbox.provider().count(Operation::List) > looks).await;
    second.signal(Signal::SIGINT);
    assert_eq!(second.ended().await.code(), Some(1));
    assert!(second.log().contains("error: interrupted: nothing was created"), "{}", second.log());

    // Twice: it is said all the same.
    machine.fault("create:hang-after,times=1");
    let mut third = machine.start(machine.command(&create), |_, _| {});
    machine.until("the create", || machine.rows(WEB).len() == 2).await;
    third.signal(Signal::SIGINT);
    machine.until("the first one to be heard", || third.log().contains("stopping after")).await;
    third.signal(Signal::SIGINT);
    assert_eq!(third.ended().await.code(), Some(1));
    let says = "interrupted: it is not known whether before-upgrade was created";
    assert!(third.log().contains(says), "{}", third.log());
}

/// It was killed, and a person repeats it: the second one says what the first has left.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_by_hand_says_what_an_earlier_one_has_left() {
    let machine = machine().await;
    machine.add(WEB, "old", 30);
    let at = machine.clock.now().wall.strftime("snapring-%Y%m%dT%H%M%SZ").to_string();
    machine.add(WEB, &at, 0);
    let create = ["create", "web", "--name", "before-upgrade", "--no-wait"];
    let mut first = machine.start(machine.command(&create[..4]), |_, _| {});
    machine.until("the create", || first.log().contains("is being created")).await;
    first.kill();
    assert!(!first.log().contains("warning"), "neither old nor by hand: {}", first.log());
    let id = machine.rows(WEB).pop().unwrap().id;
    let (code, _, errors) = machine.run(&create);
    assert_eq!(code, 0, "{errors}");
    let has = "warning: web (101) already has";
    let says = format!("{has} before-upgrade ({id}), in_progress, created ");
    assert!(errors.contains(&says), "{errors}");
    assert!(errors.contains(" ago, perhaps by an earlier `create`"), "{errors}");
    assert_eq!(errors.matches("warning").count(), 1, "{errors}");

    // Killed before its answer came, and not listed yet.
    machine.fault("create:hang,times=1");
    let creates = || machine.sandbox.provider().count(Operation::Create);
    let before = creates();
    let lost = ["create", "web", "--name", "lost"];
    let mut killed = machine.start(machine.command(&lost), |_, _| {});
    machine.until("the create", || creates() > before).await;
    killed.kill();
    let (code, _, errors) = machine.run(&["create", "web", "--name", "another", "--no-wait"]);
    assert_eq!(code, 0, "{errors}");
    let may_appear = "warning: the snapshot of an earlier create of web (101) is not listed, but may still appear; this \
                      command creates one more";
    assert!(errors.contains(may_appear), "{errors}");

    // With a full ring, too.
    let (code, _, errors) = machine.run(&create);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains(&format!("{has} another (")), "{errors}");
    assert!(errors.contains("nothing was created: the server has 5 slots"), "{errors}");
}
