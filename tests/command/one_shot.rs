//! The commands that run once.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use snapring::call::Operation;

use crate::machine::{JSON_LOG, Machine, SERVERS, TOKEN, WEB, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_ends_every_command_with_78() {
    let machine = Machine::with_servers().await;
    machine.configure("[[server]]\nid = 101\nschedule = \"0 0 30 2 *\"\nkeep = 9\n");
    for arguments in [&["check"][..], &["run"], &["plan"], &["list"], &["rotate", "--all"]] {
        let (code, out, errors) = machine.run(arguments);
        assert_eq!((code, out.as_str()), (78, ""), "{arguments:?}");
        assert!(errors.contains("never occurs") && errors.contains("9 slots of 5"), "{errors}");
    }
    let (code, out, _) = machine.run(&["check", "--json"]);
    assert_eq!(code, 78);
    assert_eq!(json(&out)["problems"][0]["line"], 8);
    let (code, _, errors) = machine.run(&["check", "--config", "/no/such/file"]);
    assert_eq!(code, 78);
    assert!(errors.contains("/no/such/file: the configuration cannot be read"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_daemon_does_not_start() {
    let machine = Machine::with_servers().await;
    let output = machine.command(&["run"]).env_remove("SNAPRING_TOKEN").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let checked = machine.command(&["check"]).env_remove("SNAPRING_TOKEN").output().unwrap();
    assert_eq!(checked.status.code(), Some(78), "as a run would");
    let errors = String::from_utf8(checked.stderr).unwrap();
    assert!(errors.contains("error: there is no API token"), "{errors}");
    assert!(errors.contains("hint: `snapring run` does not start without a token"), "{errors}");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("there is no API token: set `token_file`"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_says_what_rotate_then_does() {
    let machine = Machine::with_servers().await;
    for (name, hours) in [
        ("snapring-20260101T030000Z", 90),
        ("by-hand", 80),
        ("snapring-20260102T030000Z", 70),
        ("snapring-20260103T030000Z", 60),
    ] {
        machine.add(WEB, name, hours);
    }
    let (code, out, _) = machine.run(&["plan", "web", "--json"]);
    assert_eq!(code, 0);
    let plan = json(&out);
    assert_eq!(plan[0]["action"], "create");
    assert_eq!(plan[0]["deletes"][0]["name"], "snapring-20260101T030000Z");
    let (_, text, _) = machine.run(&["plan", "web", "--at", "2027-01-01T12:00"]);
    assert!(text.contains("create snapring-20270102T030000Z, delete 1"), "{text}");
    assert!(text.contains("foreign, never deleted"), "{text}");
    assert_eq!(machine.rows(WEB).len(), 4, "a plan changes nothing");

    let (code, out, errors) = machine.run(&["rotate", "101", "--json"]);
    assert_eq!(code, 0, "{errors}");
    let report = json(&out);
    assert_eq!(report[0]["outcome"], "rotated");
    assert_eq!(report[0]["deleted"][0], "snapring-20260101T030000Z");
    assert_eq!(errors, "", "the answer says it all");
}

#[tokio::test(flavor = "multi_thread")]
async fn rotate_ends_with_1_when_one_of_them_fails() {
    let machine = Machine::with_servers().await;
    machine.fault("create:fails,server=102");
    let (code, out, _) = machine.run(&["rotate", "--all"]);
    assert_eq!(code, 1);
    assert!(out.contains("rotated") && out.contains("the provider failed to create"), "{out}");
    assert_eq!(machine.rows(WEB).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn list_shows_whose_each_snapshot_is() {
    let machine = Machine::with_servers().await;
    machine.add(WEB, "by-hand", 26);
    machine.add(WEB, "snapring-20260101T030000Z", 2);
    let (code, out, _) = machine.run(&["list", "web"]);
    assert_eq!(code, 0);
    assert!(out.contains("web (101): 2 of 5 slots taken, 3 free"), "{out}");
    assert!(out.contains("by-hand") && out.contains("foreign") && out.contains("1d 2h"), "{out}");
    let answer = json(&machine.run(&["list", "--json"]).1);
    assert_eq!(answer[0]["snapshots"][1]["holder"], "managed");
    assert_eq!(answer[0]["snapshots"][1]["tick"], "2026-01-01T03:00:00Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn list_and_plan_mark_the_older_snapshots_of_a_tick() {
    let machine = Machine::with_servers().await;
    let [old, new] = [26, 2].map(|hours| machine.add(WEB, "snapring-20260101T030000Z", hours));
    let (_, out, _) = machine.run(&["list", "web"]);
    assert_eq!(out.matches(&format!("managed, duplicate of {new}")).count(), 1, "{out}");
    let (_, out, _) = machine.run(&["plan", "web"]);
    assert!(out.contains(&format!("{new} is a newer snapshot of the same tick")), "{out}");
    let warning =
        format!("warning: 2 snapshots of the tick 2026-01-01 03:00:00 UTC: {old} and {new}");
    assert!(out.contains(&warning), "{out}");
    for command in ["list", "plan"] {
        let answer = json(&machine.run(&[command, "web", "--json"]).1);
        let marked = [0, 1].map(|nth| answer[0]["snapshots"][nth]["duplicate"].clone());
        assert_eq!(marked, [true, false], "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_hand_create_delete_and_restore() {
    let machine = Machine::with_servers().await;
    let (code, out, _) = machine.run(&["create", "web", "--name", "before-upgrade"]);
    assert_eq!(code, 0);
    assert!(out.contains("before-upgrade completed"), "{out}");
    let id = machine.rows(WEB)[0].id.to_string();

    let (code, _, errors) = machine.run(&["delete", &id]);
    assert_eq!(code, 2);
    assert!(errors.contains("before-upgrade of server web (101): completed"), "{errors}");
    assert!(errors.contains("pass --yes"), "{errors}");
    assert_eq!(machine.rows(WEB).len(), 1);

    let (code, out, errors) =
        machine.run(&["restore", "latest", "web", "--snapshot-first", "--yes", "--no-wait"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("is being restored from before-upgrade"), "{out}");
    assert!(errors.contains("Server web (101) will be stopped"), "{errors}");
    assert_eq!(machine.sandbox.provider().count(Operation::Restore), 1);
    assert!(machine.names(WEB)[1].starts_with("snapring-2"), "{:?}", machine.names(WEB));

    // The restore reads it.
    let (code, _, errors) = machine.run(&["delete", &id, "--yes"]);
    assert_eq!((code, machine.rows(WEB).len()), (1, 2), "{errors}");
    let other = machine.add(WEB, "another", 1).to_string();
    let (code, _, errors) = machine.run(&["delete", &other, "--yes"]);
    assert_eq!((code, machine.rows(WEB).len()), (0, 2), "{errors}");
    let (code, _, errors) = machine.run(&["delete", &other, "--yes"]);
    assert_eq!(code, 1);
    assert!(errors.contains("the account has no snapshot"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_snapshots_are_deleted_at_once_and_one_that_cannot_be_holds_none_of_the_others() {
    let machine = Machine::with_servers().await;
    let ids: Vec<u64> =
        (0..3).map(|nth| machine.add(WEB, &format!("by-hand-{nth}"), 9 - nth)).collect();
    let [first, second, third] = [0, 1, 2].map(|nth: usize| ids[nth].to_string());
    let (code, out, errors) = machine.run(&["delete", &first, "999", "--yes"]);
    assert_eq!((code, out.as_str(), machine.rows(WEB).len()), (1, "", 3), "{errors}");
    assert!(errors.contains("the account has no snapshot 999"), "nothing is deleted: {errors}");
    let all = ["delete", &first, &second, &third, &first];
    let (code, _, errors) = machine.run(&all);
    assert_eq!((code, machine.rows(WEB).len()), (2, 3), "{errors}");
    assert!(errors.contains("After this, server web (101) has no completed snapshot."), "{errors}");
    machine.fault("delete:status=403,times=1");
    let (code, out, errors) = machine.run(&[&all[..], &["--yes"]].concat());
    assert_eq!((code, machine.rows(WEB).len()), (1, 1), "{out} {errors}");
    assert!(errors.contains("error: the provider does not allow this for this server"), "{errors}");
    assert!(!out.contains(&format!("deleted {first}")), "{out}");
    assert!(
        out.contains(&format!("deleted {second} ")) && out.contains(&format!("deleted {third} "))
    );
    let (_, acts, _) = machine.run(&["history", "--manual", "--json"]);
    let acts_seen = json(&acts);
    let outcomes: Vec<_> =
        acts_seen.as_array().unwrap().iter().map(|act| act["outcome"].clone()).collect();
    assert_eq!(outcomes, ["done", "done", "failed"], "{acts}");
}

/// A timer mails what a command writes. What only looks writes its answer, and warnings.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_a_command_logs_events_only_where_they_are_asked_for() {
    let machine = Machine::with_servers().await;
    machine.sandbox.provider().options_mut().restore = Duration::from_millis(100);
    let id = machine.add(WEB, "by-hand", 5).to_string();
    let other = machine.add(WEB, "another", 4).to_string();
    for command in [
        "rotate web",
        "create web --name mine",
        &format!("delete {id} --yes"),
        &format!("restore {other} --yes"),
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let (code, _, errors) = machine.run(&arguments);
        assert_eq!(code, 0, "{command}: {errors}");
        assert!(!errors.contains('{') && !errors.contains("INFO"), "{command}: {errors}");
    }
    for command in ["list", "plan", "status", "check --online", "simulate --days 3", "history"] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let (_, out, errors) = machine.run(&arguments);
        assert!(!errors.contains("\"event\""), "{command}: {errors}");
        let expected = command == "history" || !out.is_empty();
        assert!(expected, "{command}: {errors}");
    }
    for command in ["list", "rotate"] {
        let (_, _, errors) = machine.run(&[command, "web", "-v"]);
        assert!(errors.contains(" INFO web: list: ok") && !errors.contains('{'), "{errors}");
    }
    machine.configure(&format!("{SERVERS}{JSON_LOG}"));
    let (_, _, errors) = machine.run(&["rotate", "web"]);
    assert!(errors.contains("\"event\":\"api\""), "{errors}");
    let (_, _, errors) = machine.run(&["list"]);
    assert_eq!(errors, "", "it only looks");
}

/// One line says what is wrong, however many servers it concerns.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_told_once_with_its_place_and_what_to_do() {
    let machine = Machine::with_servers().await;
    let token = machine.path("token");
    std::fs::write(&token, "vps_another").unwrap();
    let file = token.display();
    machine.configure_api(&format!("token_file = \"{file}\""), SERVERS);
    for command in ["list", "plan", "status", "check --online", "create web --name x"] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let (code, _, errors) = machine.run(&arguments);
        assert_eq!(code, 1, "{command}: {errors}");
        let refused = format!("error: the provider refused the token of {file} (401): ");
        assert_eq!(errors.matches(&refused).count(), 1, "{command}: {errors}");
        assert!(errors.contains("hint: replace it with a token"), "{command}: {errors}");
        assert!(!errors.contains("after a restart"), "{command}: {errors}");
    }
    let (code, out, errors) = machine.run(&["rotate", "--all"]);
    assert_eq!(code, 1, "{errors}");
    assert!(out.contains(&format!("the provider refused the token of {file} (401)")), "{out}");
    assert_eq!(errors.matches("hint: replace it with a token").count(), 1, "{errors}");
    let (_, out, _) = machine.run(&["check", "--online"]);
    assert!(!out.contains(": good") && out.contains("but the provider refused the token"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_by_hand_is_believed_once_listings_do_not_show_it() {
    let machine = Machine::with_servers().await;
    let id = machine.add(WEB, "by-hand", 1).to_string();
    machine.fault("delete:ignored,times=1");
    let (code, out, errors) = machine.run(&["delete", &id, "--yes"]);
    assert_eq!((code, out.as_str(), machine.rows(WEB).len()), (1, "", 1), "{errors}");
    assert!(errors.contains("confirmed the deletion of by-hand, but still lists it"), "{errors}");
    let (code, out, errors) = machine.run(&["delete", &id, "--yes"]);
    assert_eq!((code, machine.rows(WEB).len()), (0, 0), "{errors}");
    assert_eq!(out, format!("deleted {id} by-hand\n"));
}

/// The provider lists it later than `settle` says.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_by_hand_is_waited_for_and_then_no_rotation_waits_for_it() {
    let machine = Machine::with_servers().await;
    machine.fault("create:late=4s,times=1");
    let (code, out, errors) = machine.run(&["create", "web", "--name", "before-upgrade"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("before-upgrade completed"), "{out}");
    let (code, out, errors) = machine.run(&["rotate", "web", "--json"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("\"create\"") && !out.contains("earlier_create"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_takes_no_snapshot_by_hand_and_a_pinned_one_is_not_deleted() {
    let machine = Machine::with_servers().await;
    let ids: Vec<u64> =
        (0..5).map(|nth| machine.add(WEB, &format!("by-hand-{nth}"), 9 - nth)).collect();
    let (code, _, errors) = machine.run(&["create", "web", "--name", "one-more"]);
    assert_eq!(code, 1);
    let full = format!(
        "nothing was created: the server has 5 slots, and 5 snapshots: by-hand-0 ({})",
        ids[0]
    );
    assert!(errors.contains(&full) && errors.contains("`snapring delete ID`"), "{errors}");
    assert_eq!(machine.sandbox.provider().count(Operation::Create), 0);

    machine.configure(
        &SERVERS.replace("name = \"web\"", &format!("name = \"web\"\npin = [{}]", ids[0])),
    );
    let (code, _, errors) = machine.run(&["delete", &ids[0].to_string(), "--yes"]);
    assert_eq!(code, 2);
    assert!(errors.contains("is pinned"), "{errors}");
    assert_eq!(machine.rows(WEB).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_explained_and_ends_with_2() {
    let machine = Machine::with_servers().await;
    let cases: [(&[&str], &str); 9] = [
        (&["plan", "nobody"], "it has web (101), db (102)"),
        (&["rotate"], "required"),
        (&["plan", "--at", "someday"], "is not a time. Write 2026-11-24T03:00"),
        (&["create", "web", "--name", "with space"], "' ' is not allowed"),
        (&["create", "web", "--name", "snapring-20260101T030000Z"], "a rotation would delete it"),
        (&["delete", "-5"], "unexpected argument"),
        (&["delete", "abc"], "not a snapshot's id, see `snapring list`"),
        (&["restore", "web"], "`snapring restore latest web` takes its newest snapshot"),
        (&["sandbox", "--fault", "list:explode"], "\"explode\" is no effect"),
    ];
    for (arguments, expected) in cases {
        let (code, out, errors) = machine.run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
    let (code, _, errors) = machine.run(&["sandbox", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, 2);
    assert!(errors.contains("loopback addresses only"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_a_bad_night_and_tells_why_each_snapshot_is_there() {
    let machine = Machine::with_servers().await;
    // <!-- demo --> in the README.
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let typed =
        readme.lines().find_map(|line| line.strip_prefix("cargo run --release -- ")).unwrap();
    let arguments: Vec<&str> = typed.split(' ').collect();
    let (code, out, errors) = machine.run(&arguments);
    assert_eq!(code, 0, "{errors}");
    for expected in [
        // Its answer was lost, its snapshot failed, its slots were full.
        "there is one, not two",
        "no old one was deleted",
        "deleted none of the foreign ones",
        "web-01   rotated",
        "db-01    rotated",
        "before-the-upgrade",
        "foreign, never deleted",
        "ever had more than",
    ] {
        assert!(out.contains(expected), "{expected} is missing:\n{out}");
    }
    let failed = out.lines().filter(|line| line.contains("db-01    failed")).count();
    assert_eq!(failed, 1, "{out}");
    assert_eq!(machine.sandbox.provider().calls().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_whose_port_is_taken_does_not_begin() {
    let machine = Machine::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, out, errors) = machine.run(&["demo", "--seconds", "1", "--listen", &address]);
    assert_eq!((code, out.as_str()), (1, ""), "{errors}");
    let expected = format!("error: cannot listen on {address}: Address already in use");
    assert!(errors.starts_with(&expected) && errors.contains("the port is taken"), "{errors}");
    drop(taken);
    let (code, out, errors) = machine.run(&["demo", "--seconds", "1", "--listen", &address]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains(&format!("Watch them on http://{address}/ meanwhile.")), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_says_how_to_reach_it_and_hides_nothing_it_does() {
    use std::io::{BufRead, BufReader};
    let machine = Machine::with_servers().await;
    let mut command =
        machine.command(&["sandbox", "--servers", "2", "--fault", "create:status=500"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || tokio::task::block_in_place(|| lines.next().unwrap().unwrap());
    let base_url = line();
    let token = line().replace("SNAPRING_TOKEN=", "");
    assert_eq!(line(), "servers: 101 (web-01), 102 (db-01)");
    std::fs::write(
        machine.path("config.toml"),
        format!("[api]\n{base_url}\nretries = 0\nsettle = \"0s\"\n{SERVERS}"),
    )
    .unwrap();
    let rotated =
        machine.command(&["rotate", "web"]).env("SNAPRING_TOKEN", &token).output().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let out = String::from_utf8(rotated.stdout).unwrap();
    assert!(
        out.contains(
            "could not create the snapshot: the provider answered 500 (internal server error)"
        ),
        "{out}"
    );
    assert!(!token.is_empty() && token != TOKEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_get_pages_and_completions_without_any_configuration() {
    let machine = Machine::new().await;
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, rest) = machine.run(&["completions", shell]);
        assert_eq!((code, rest.as_str()), (0, ""));
        for word in ["rotate", "snapshot-first", "config"] {
            assert!(script.contains(word), "{shell} knows no {word}");
        }
    }
    let (code, page, _) = machine.run(&["man"]);
    assert!(code == 0 && page.contains(".SH \"EXIT STATUS\""), "{page}");
    let (_, page, _) = machine.run(&["man", "check"]);
    assert!(page.contains(".TH SNAPRING-CHECK 1"), "{page}");
    let pages = machine.path("pages");
    std::fs::create_dir(&pages).unwrap();
    assert_eq!(machine.run(&["man", "--directory", pages.to_str().unwrap()]).0, 0);
    let (_, printed, _) = machine.run(&["man", "snapring.toml"]);
    assert_eq!(std::fs::read_to_string(pages.join("snapring.toml.5")).unwrap(), printed);
    let (code, _, rest) = machine.run(&["man", "chekc"]);
    assert!(code == 2 && rest.contains("snapring-check"), "{rest}");
}

/// A script that keeps the output must learn that it has none; a pager that was left need not.
#[tokio::test(flavor = "multi_thread")]
async fn output_that_cannot_be_written_is_an_error_unless_its_reader_has_gone() {
    let machine = Machine::with_servers().await;
    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["plan"],
        &["plan", "--json"],
        &["history"],
        &["history", "--json"],
        &["check"],
        &["check", "--json"],
        &["list"],
        &["list", "--json"],
        &["simulate", "--days", "3"],
        &["man"],
        &["completions", "bash"],
        &["rotate", "web"],
        &["rotate", "web", "--json"],
    ] {
        let run = |out: Stdio| {
            let mut command = machine.command(arguments);
            command.stdout(out).stderr(Stdio::piped());
            let output = command.spawn().unwrap().wait_with_output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (code, errors) = run(full.into());
        assert_eq!(code, Some(1), "{arguments:?}: {errors}");
        let says = "error: standard output cannot be written: No space left on device";
        assert!(errors.contains(says), "{arguments:?}: {errors}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, errors) = run(writer.into());
        assert_eq!(code, Some(1), "{arguments:?}: {errors}");
        assert!(!errors.contains("standard output"), "{arguments:?}: {errors}");
    }
}

/// `| sleep 999`: nothing is left to do, so one signal is enough.
#[rstest::rstest]
#[case(Signal::SIGTERM)]
#[case(Signal::SIGINT)]
#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_output_is_not_read_ends_when_it_is_asked_to(#[case] signal: Signal) {
    let machine = Machine::with_servers().await;
    let (reader, mut writer) = std::io::pipe().unwrap();
    let room = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).unwrap();
    writer.write_all(&vec![b'x'; usize::try_from(room).unwrap()]).unwrap();
    let mut command = machine.command(&["rotate", "web", "--json"]);
    let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    let is_recorded = || machine.run(&["history"]).1.contains("rotated");
    machine.until("the rotation", is_recorded).await;
    // The last thing that it does before it writes.
    machine.clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(child.try_wait().unwrap(), None);
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    let mut end = None;
    machine
        .until("its end", || {
            end = child.try_wait().unwrap();
            end.is_some()
        })
        .await;
    assert_eq!(end.unwrap().signal(), Some(signal as i32));
    drop(reader);
}

/// The signal came before there was something to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_asked_to_end_does_not_wait_for_ever_for_a_reader() {
    let machine = Machine::with_snapshots_of(Duration::from_secs(600)).await;
    machine.configure(crate::machine::SERVERS);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let room = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).unwrap();
    writer.write_all(&vec![b'x'; usize::try_from(room).unwrap()]).unwrap();
    let mut command = machine.command(&["rotate", "web", "--json"]);
    let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    machine
        .until("the create", || {
            machine.sandbox.provider().count(snapring::call::Operation::Create) == 1
        })
        .await;
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let mut end = None;
    machine
        .until("its end", || {
            end = child.try_wait().unwrap();
            end.is_some()
        })
        .await;
    assert_eq!(end.unwrap().code(), Some(1));
    drop(reader);
}
