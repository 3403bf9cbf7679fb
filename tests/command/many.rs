//! Many servers: chosen by pattern, group and state; shown in few lines, on terminals of any width.

use std::fmt::Write;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{User, getuid};
use rstest::rstest;
use serde_json::Value;
use snapring::naming::ServerId;

use crate::machine::{Machine, SERVERS, WEB, json};
use crate::status::get;
use crate::terminal::Watched;

/// Two of each customer, and a group of databases.
const CUSTOMERS: [&str; 12] = [
    "cust01-web",
    "cust01-db",
    "cust02-web",
    "cust02-db",
    "cust03-web",
    "cust03-db",
    "cust04-web",
    "cust04-db",
    "cust05-web",
    "cust05-db",
    "cust06-web",
    "cust06-db",
];

fn tables(names: &[impl AsRef<str>]) -> String {
    let mut text = "[defaults]\nschedule = \"0 3 1 1 *\"\nkeep = 3\n[group.databases]\n".to_owned();
    for (nth, name) in names.iter().enumerate() {
        let name = name.as_ref();
        let group = if name.ends_with("-db") { "group = \"databases\"\n" } else { "" };
        writeln!(text, "[[server]]\nid = {}\nname = \"{name}\"\n{group}", nth + 101).unwrap();
    }
    text
}

async fn machine_of(names: &[impl AsRef<str>]) -> Machine {
    let servers = names.iter().enumerate();
    let servers: Vec<_> = servers
        .map(|(nth, name)| (ServerId::new(nth as u64 + 101), name.as_ref().to_owned()))
        .collect();
    let machine = Machine::with(|options| {
        options.servers = servers;
        options.completion = Duration::from_millis(100)..=Duration::from_millis(100);
    })
    .await;
    machine.configure(&tables(names));
    machine
}

/// The values of a field of the rows that a command prints as JSON, sorted.
fn named(out: &str, field: &str) -> Vec<String> {
    let rows = json(out);
    let rows = rows.as_array().unwrap().iter();
    let mut names: Vec<_> = rows.map(|row| row[field].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[rstest]
#[case::pattern(&["cust03-*"], &["cust03-db", "cust03-web"])]
#[case::pattern_and_name(&["cust0[12]-web", "cust05-db", "101"], &["cust01-web", "cust02-web", "cust05-db"])]
#[case::group(&["--group", "databases", "cust0[12]*"], &["cust01-db", "cust02-db"])]
#[tokio::test(flavor = "multi_thread")]
async fn every_command_takes_patterns_and_groups(
    #[case] chosen: &[&str],
    #[case] expected: &[&str],
) {
    let machine = machine_of(&CUSTOMERS).await;
    let json_of = |command: &[&str]| {
        let arguments: Vec<&str> =
            command.iter().chain(chosen).chain(&["--json"]).copied().collect();
        let (code, out, errors) = machine.run(&arguments);
        assert_eq!(code, 0, "{command:?}: {errors}");
        out
    };
    for command in ["rotate", "list", "plan"] {
        assert_eq!(named(&json_of(&[command]), "server"), expected, "{command}");
    }
    let mut names: Vec<String> = named(&json_of(&["history", "--limit", "0"]), "server");
    names.dedup();
    assert_eq!(names, expected);
    let status = json(&json_of(&["status"]));
    assert_eq!(named(&status["servers"].to_string(), "name"), expected);
    assert_eq!(status["totals"]["servers"], expected.len());
    let effective = json(&json_of(&["check", "--effective"]));
    assert_eq!(named(&effective["servers"].to_string(), "server"), expected);
    let simulated = json_of(&["simulate", "--offline", "--days", "3", "--from", "2026-12-31"]);
    for name in CUSTOMERS {
        let is_in = simulated.contains(&format!("\"{name}\""));
        assert_eq!(is_in, expected.contains(&name), "{name}: {simulated}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_matches_nothing_ends_with_2_and_the_nearest_names() {
    let machine = machine_of(&CUSTOMERS).await;
    for command in [
        &["rotate"][..],
        &["list"],
        &["plan"],
        &["status"],
        &["history"],
        &["simulate", "--offline"],
        &["check", "--effective"],
    ] {
        // History needs one to look into.
        if command == ["history"] {
            assert_eq!(machine.run(&["rotate", "cust01-web"]).0, 0);
        }
        let usage = |more: &[&str], expected: &str| {
            let arguments: Vec<&str> = command.iter().chain(more).copied().collect();
            let (code, out, errors) = machine.run(&arguments);
            assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {errors}");
            assert!(errors.contains(expected), "{arguments:?}: {errors}");
        };
        usage(&["cust02-wbe"], "hint: the nearest names are cust02-web (103), ");
        usage(&["cust07-*"], "no server matches \"cust07-*\"");
        usage(&["--group", "database"], "hint: the only group with servers is databases");
        usage(
            &["*-web", "--group", "databases"],
            "none of these servers is in the group databases",
        );
    }
    let (code, _, errors) = machine.run(&["check", "cust01-*"]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("need --effective"), "{errors}");
    // Where one server is meant, a pattern is none.
    let (code, _, errors) = machine.run(&["create", "cust01-*", "--name", "mine"]);
    assert_eq!(code, 2, "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_failed_can_be_chosen_as_the_daemon_or_the_store_knows() {
    let machine = machine_of(&CUSTOMERS).await;
    machine.fault("create:status=400,server=102,times=1");
    machine.fault("create:status=400,server=103,times=2");
    assert_eq!(machine.run(&["rotate", "--all"]).0, 1);
    let (code, out, errors) = machine.run(&["plan", "--state", "failed", "--json"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(named(&out, "server"), ["cust01-db", "cust02-web"], "as the store knows");
    let (code, out, errors) = machine.run(&["rotate", "--state", "failed", "--json"]);
    assert_eq!(code, 1, "{errors}");
    assert_eq!(named(&out, "server"), ["cust01-db", "cust02-web"]);

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    machine.configure(&format!("[http]\nlisten = \"{free}\"\n{}", tables(&CUSTOMERS)));
    let _daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    let (code, out, _) = machine.run(&["status", "--state", "failed"]);
    assert_eq!(code, 1);
    let rows: Vec<&str> = out.lines().filter(|it| it.starts_with("cust")).collect();
    assert!(rows.len() == 1 && rows[0].starts_with("cust02-web"), "{out}");
    assert!(out.starts_with("12 servers: 11 ok, 1 failed; oldest success "), "of all: {out}");
    let (code, out, _) = machine.run(&["rotate", "--state", "failed,blocked", "--json"]);
    assert_eq!((code, named(&out, "server")), (0, vec!["cust02-web".to_owned()]));
    let none_failed = || machine.run(&["status", "--state", "failed"]).0 == 0;
    machine.until("the daemon to know", none_failed).await;
    for command in ["rotate", "list", "plan"] {
        let (code, out, errors) = machine.run(&[command, "--state", "failed", "--json"]);
        assert_eq!((code, json(&out)), (0, Value::Array(Vec::new())), "{errors}");
        assert!(errors.contains("none of these servers is in the state failed"), "{errors}");
    }
    assert_eq!(machine.run(&["list", "--state", "faild"]).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_server_is_rotated_only_by_its_own_name() {
    let machine = machine_of(&CUSTOMERS).await;
    let disabled = "name = \"cust01-web\"\nenabled = false";
    machine.configure(&tables(&CUSTOMERS).replace("name = \"cust01-web\"", disabled));
    let (code, out, _) = machine.run(&["rotate", "cust01-*", "--json"]);
    assert_eq!((code, named(&out, "server")), (0, vec!["cust01-db".to_owned()]));
    let (code, out, _) = machine.run(&["rotate", "cust01-web", "--json"]);
    assert_eq!((code, &json(&out)[0]["outcome"]), (1, &"skipped".into()));
    let (code, _, errors) = machine.run(&["rotate", "cust01-we*"]);
    assert_eq!(code, 2, "{errors}");
}

/// A tenth of a second more or less says nothing; how many lines there are does.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_thousand_servers_the_status_is_a_few_lines_even_if_the_provider_is_down() {
    let kind = |nth: usize| match nth {
        0..12 => "bad",
        12..42 => "good",
        _ => "web",
    };
    let names: Vec<String> = (0..2000).map(|nth| format!("{}-{nth:04}", kind(nth))).collect();
    let machine = machine_of(&names).await;
    let tables = tables(&names);
    machine.configure_api(
        "settle = \"1s\"\nretries = 0\ntimeout = \"30s\"\nmax_in_flight = 64",
        &tables,
    );
    assert_eq!(machine.run(&["rotate", "good-*"]).0, 0);
    machine.fault("create:status=400");
    assert_eq!(machine.run(&["rotate", "bad-*"]).0, 1);
    machine.sandbox.provider().faults().clear();

    let (code, out, errors) = machine.run(&["status"]);
    assert_eq!(code, 1, "{errors}");
    let lines: Vec<&str> = out.lines().collect();
    let summary = "2,000 servers: 30 ok, 12 failed, 1,958 waiting; oldest success ";
    assert!(lines[0].starts_with(summary), "{}", lines[0]);
    assert_eq!(lines.iter().filter(|it| it.starts_with("bad-")).count(), 12, "{out}");
    let rest =
        "not shown: 30 ok, 1,958 waiting; --all shows every server, --state those in one state";
    assert_eq!((lines.last(), lines.len()), (Some(&rest), 17), "{out}");

    let (code, out, _) = machine.run(&["check"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("\n2,000 servers without a mistake are not listed; --json has them all\n"),
        "{out}"
    );
    assert!(out.lines().count() < 10, "{out}");

    // Down, it is still known what was: in as few lines.
    machine.fault("any:status=503");
    let (code, out, errors) = machine.run(&["status", "--all"]);
    assert_eq!(code, 1);
    // What is not seen now is not called ok.
    let summary = "2,000 servers: 12 failed, 1,988 waiting; oldest success ";
    assert!(out.starts_with(summary), "{out}");
    assert_eq!(
        out.lines()
            .filter(|it| ["bad-", "good-", "web-"].iter().any(|kind| it.starts_with(kind)))
            .count(),
        2000,
        "a row for each"
    );
    assert!(errors.contains("error: 2,000 servers: "), "{errors}");
    assert!(errors.lines().filter(|it| !it.starts_with('{')).count() < 5, "{errors}");
    let (_, out, _) = machine.run(&["status", "--json", "good-*"]);
    let document = json(&out);
    assert_eq!(document["servers"].as_array().unwrap().len(), 30, "complete");
    assert!(document["servers"][0]["last_success_at"].is_string(), "{out}");
    let (code, out, errors) = machine.run(&["list", "web-1*"]);
    assert_eq!((code, out.trim()), (1, ""));
    assert!(errors.contains("error: 1,000 servers: ") && errors.contains("503"), "{errors}");
    let (code, _, errors) = machine.run(&["list", "god-0013"]);
    assert_eq!(code, 2);
    assert!(errors.contains("hint: the nearest names are good-0013 ("), "{errors}");
}

/// No daemon, and a provider that is down: the store has something to say.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_knows_is_shown_though_the_provider_is_down() {
    let machine = Machine::with_servers().await;
    assert_eq!(machine.run(&["rotate", "--all"]).0, 0);
    machine.fault("any:status=503");
    let (code, out, errors) = machine.run(&["status"]);
    assert_eq!(code, 1, "{errors}");
    assert!(out.starts_with("2 servers: 2 waiting; oldest success "), "{out}");
    let unseen = |it: &&str| it.contains("ago") && it.contains("could not be listed: ");
    assert_eq!(out.lines().filter(unseen).count(), 2, "{out}");
    assert!(errors.contains("web: ") && errors.contains("db: "), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_refreshed_in_place_until_it_is_interrupted() {
    let machine = Machine::with_servers().await;
    let usage = |arguments: &[&str], expected: &str| {
        let (code, out, errors) = machine.run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    };
    usage(&["status", "--watch"], "--watch needs a terminal");
    usage(&["status", "--watch", "--json"], "cannot be used with");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    machine.configure(&format!("[http]\nlisten = \"{free}\"\n{SERVERS}"));
    let mut daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    let mut watch = Watched::on_a_terminal_of(&machine, &["status", "--watch"], 80);
    machine.clock.sleep(Duration::from_secs(3)).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("both to end", || daemon.rotations("rotated") == 2).await;
    machine.clock.sleep(Duration::from_secs(3)).await;
    daemon.kill();
    machine.clock.sleep(Duration::from_secs(3)).await;
    watch.signal(Signal::SIGINT);
    assert!(watch.run_for(Duration::from_secs(30)).await, "it ends");
    assert_eq!(watch.code(), Some(0));
    let (text, _) = watch.seen();
    let screens: Vec<&str> = text.split("\u{1b}[H").skip(1).collect();
    assert!(screens.len() >= 4, "{text:?}");
    assert!(screens[0].contains("no answer from the daemon yet (asking "), "{text:?}");
    assert!(screens[1].contains("2 servers: 2 waiting"), "{text:?}");
    assert!(screens.iter().any(|it| it.contains("2 servers: 2 ok; oldest success ")), "{text:?}");
    let last = screens.last().unwrap();
    assert!(last.contains("the daemon does not answer: ") && last.contains("2 ok"), "{last:?}");
    assert_eq!(text.matches("\u{1b}[2J").count(), 1, "cleared once, then written over");
}

#[rstest]
#[case(&["status"])]
#[case(&["history"])]
#[case(&["list"])]
#[case(&["check"])]
#[case(&["check", "--online"])]
#[tokio::test(flavor = "multi_thread")]
async fn no_line_of_a_table_is_longer_than_the_terminal(#[case] command: &[&str]) {
    let machine = Machine::new().await;
    // With a policy for each server: a warning is a sentence, and not cut.
    let third = "[[server]]\nid = 103\nname = \"mail\"\n";
    machine.configure(&format!("{}{third}", SERVERS.replace("\"web\"", "\"web-server-01\"")));
    machine.add(WEB, "by-hand-before-the-upgrade", 5);
    machine.fault("create:status=400,server=102,times=1");
    assert_eq!(machine.run(&["rotate", "--all"]).0, 1);
    let created = machine.names(WEB).pop().unwrap();
    let mut wide = String::new();
    for columns in [80, 300] {
        let mut watched = Watched::on_a_terminal_of(&machine, command, columns);
        assert!(watched.run_for(Duration::from_secs(60)).await);
        let (text, _) = watched.seen();
        assert!(text.contains("web-server-01"), "{text}");
        if ["history", "list"].contains(&command[0]) {
            assert!(text.contains(&created), "never cut: {text}");
        }
        // The sentences of `check` are not a table.
        let table = text.split("\r\n\r\n").next().unwrap();
        let table = if command[0] == "list" { text.as_str() } else { table };
        let widest = table.lines().filter(|it| !it.contains('\u{1b}') && !it.contains(": good, "));
        let widest = widest.map(|line| line.trim_end().chars().count()).max().unwrap();
        if columns == 80 {
            assert!(widest <= 80, "{widest}: {text}");
        }
        wide = text;
    }
    assert!(!wide.contains("not shown at this width"), "{wide}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_squeezed_ring_is_seen_everywhere() {
    let machine = Machine::new().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    machine.configure(&format!("[http]\nlisten = \"{free}\"\n{SERVERS}"));
    for nth in 0..4 {
        machine.add(WEB, &format!("by-hand-{nth}"), 9 - nth);
    }
    let (_, out, _) = machine.run(&["list"]);
    let words =
        "squeezed: beside 4 foreign or pinned, there is room for 1 of the 3 that `keep` asks for";
    assert_eq!(out.matches(words).count(), 1, "{out}");
    let listed = json(&machine.run(&["list", "web", "--json"]).1);
    assert_eq!((&listed[0]["keep"], &listed[0]["squeezed"]), (&3.into(), &2.into()));
    let (_, out, _) = machine.run(&["check", "--online"]);
    let policy = out.lines().find(|line| line.contains("; keeps 3; ")).unwrap();
    let fewer = "; now fewer on one of them, because its ring is squeezed";
    assert!(policy.ends_with(fewer), "{policy}");
    let (_, out, _) = machine.run(&["check"]);
    assert!(out.contains("; keeps 3; ") && !out.contains("squeezed"), "not asked: {out}");
    let squeezed = "4 of 5, 4 foreign, squeezed: room for 1 of 3";
    let (_, out, _) = machine.run(&["status"]);
    assert!(out.contains(squeezed), "without a daemon: {out}");

    let daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("both to end", || daemon.rotations("rotated") == 2).await;
    let (_, out, _) = machine.run(&["status"]);
    assert!(out.contains("5 of 5, 4 foreign, squeezed: room for 1 of 3"), "{out}");
    let document = json(&machine.run(&["status", "web", "--json"]).1);
    assert_eq!(document["servers"][0]["ring"]["squeezed"], 2);
    assert!(get(free, "/").contains("squeezed: room for 1 of 3"));
    let metrics = get(free, "/metrics");
    for line in [
        "snapring_squeezed{server=\"web\"} 2",
        "snapring_squeezed{server=\"db\"} 0",
        "snapring_fleet_squeezed 1",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_counts_what_it_shows_and_names_who_rotated_by_hand() {
    let machine = Machine::with_servers().await;
    machine.fault("create:status=400,server=102,times=1");
    assert_eq!(machine.run(&["rotate", "--all"]).0, 1);
    assert_eq!(machine.run(&["create", "web", "--name", "mine"]).0, 0);
    let user =
        User::from_uid(getuid()).unwrap().map_or_else(|| format!("uid {}", getuid()), |it| it.name);
    let (code, out, _) = machine.run(&["history"]);
    assert_eq!(code, 0);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "2 rotations: 1 rotated, 1 failed; 1 by hand: 1 done");
    let by_hand =
        lines.iter().filter(|it| it.contains(&format!(" {user} ")) || it.ends_with(&user));
    assert_eq!(by_hand.count(), 3, "{out}");
    let (_, out, _) = machine.run(&["history", "--limit", "1", "--outcome", "rotated,failed"]);
    assert!(out.starts_with("2 rotations: 1 rotated, 1 failed; the newest 1 are shown\n"), "{out}");
    let rows = json(&machine.run(&["history", "--json"]).1);
    for row in rows.as_array().unwrap() {
        assert_eq!(row["uid"], getuid().as_raw(), "{row}");
    }
    // What the daemon rotates is nobody's.
    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("both to end", || daemon.told("rotation") == 2).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    let rows = json(&machine.run(&["history", "--json"]).1);
    let of_nobody = rows.as_array().unwrap().iter().filter(|row| row.get("uid").is_none());
    assert_eq!(of_nobody.count(), 2, "{rows}");
    let (_, out, _) = machine.run(&["history", "--outcome", "rotated", "w?b"]);
    assert!(out.starts_with("2 rotations: 2 rotated\n"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_log_of_a_fleet_are_as_short_as_asked_for() {
    let names: Vec<String> = (1..=25).map(|nth| format!("web-{nth:02}")).collect();
    let machine = machine_of(&names).await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let short = format!(
        "[http]\nlisten = \"{free}\"\nmetrics = \"fleet\"\n[log]\nformat = \"json\"\ncalls = false\n{}",
        tables(&names)
    );
    machine.configure(&short);
    machine.fault("create:status=400,server=125");
    let daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("all to end", || daemon.told("rotation") == 25).await;
    let metrics = get(free, "/metrics");
    let of_servers = metrics.lines().filter(|it| it.starts_with("snapring_trouble{")).count();
    assert_eq!(of_servers, 20, "{metrics}");
    assert!(metrics.contains("\nsnapring_trouble{server=\"web-25\"} 1\n"), "the worst: {metrics}");
    assert!(metrics.contains("\nsnapring_fleet_servers{state=\"ok\"} 24\n"), "{metrics}");
    let calls = daemon.events("api");
    assert!(calls.iter().all(|it| it["level"] == "WARN"), "{calls:?}");
    assert_eq!(calls.len(), 1, "the call that failed");
    assert!(metrics.contains("snapring_api_requests_total{"), "counted all the same");
    drop(daemon);

    // At level debug, and if a person asks for each call, they are there.
    let listed = |arguments: &[&str]| machine.run(arguments).2.matches("\"event\":\"api\"").count();
    assert_eq!((listed(&["list", "web-01"]), listed(&["list", "web-01", "-v"])), (0, 1));
    machine.configure(&short.replace("calls = false", "calls = false\nlevel = \"debug\""));
    assert!(listed(&["rotate", "web-01"]) > 1);
}

/// What a shell gets for the words so far.
fn completed(machine: &Machine, words: &[&str]) -> Vec<String> {
    let mut arguments = vec!["--", "snapring"];
    arguments.extend(words);
    let mut command = machine.command(&arguments);
    let index = words.len().to_string();
    command
        .env("SNAPRING_COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", index);
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(|it| it.trim().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_offer_servers_groups_outcomes_and_states() {
    let machine = machine_of(&CUSTOMERS).await;
    let offers = |words: &[&str], expected: &[&str]| {
        assert_eq!(completed(&machine, words), expected, "{words:?}");
    };
    offers(&["rotate", "cust03-"], &["cust03-web", "cust03-db"]);
    offers(&["list", "--group", ""], &["databases"]);
    offers(&["status", "--state", "bl"], &["blocked"]);
    offers(&["history", "--outcome", "ro"], &["rotated"]);
    // Another configuration, or a bad one.
    std::fs::write(machine.path("other.toml"), "nonsense").unwrap();
    let other = machine.path("other.toml");
    offers(&["list", "-c", other.to_str().unwrap(), "cust03-"], &[]);

    for shell in ["bash", "zsh", "fish"] {
        let (code, script, errors) = machine.run(&["completions", shell]);
        assert_eq!(code, 0, "{errors}");
        assert!(!script.contains("SNAPRING_COMPLETE"), "without asking: {script}");
        assert!(script.contains("outcome"), "{script}");
        let (code, script, errors) = machine.run(&["completions", shell, "--dynamic"]);
        assert_eq!(code, 0, "{errors}");
        assert!(script.contains("SNAPRING_COMPLETE"), "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_programs_each_problem_with_its_place_and_each_server_with_its_ticks() {
    let machine = Machine::with_servers().await;
    let answer = json(&machine.run(&["check", "--json"]).1);
    assert_eq!(answer["good"], true);
    for (server, name) in answer["servers"].as_array().unwrap().iter().zip(["web", "db"]) {
        assert_eq!(server["server"], name);
        assert_eq!(server["schedules"][0]["words"], "every day at 03:00");
        assert_eq!(server["next_ticks"].as_array().unwrap().len(), 3);
    }
    machine.configure(&SERVERS.replace("keep = 3", "keep = 5\nkep = 3"));
    let (code, out, _) = machine.run(&["check", "--json"]);
    assert_eq!(code, 78);
    let answer = json(&out);
    assert_eq!(answer["good"], false);
    let problem = &answer["problems"][0];
    for field in ["severity", "file", "line", "column", "message", "hint"] {
        assert!(!problem[field].is_null(), "{field}: {problem}");
    }
    assert_eq!((&problem["severity"], &problem["column"]), (&"error".into(), &1.into()));
    // What stands in no line has the same fields.
    machine.configure(&format!("[store]\nurl = \"sqlite:///no/such/x.db\"\n{SERVERS}"));
    let answer = json(&machine.run(&["check", "--json"]).1);
    let problem = &answer["problems"][0];
    assert_eq!((&problem["severity"], &problem["line"]), (&"warning".into(), &Value::Null));
    assert!(problem["file"].is_string() && problem["message"].is_string(), "{problem}");
}
