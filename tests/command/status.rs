//! `status` and `health`: with a daemon, without one, and with one that does not answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;
use sqlx::Connection;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::machine::{Machine, WEB};

const SERVERS: &str = "[defaults]\nschedule = \"0 3 1 1 *\"\nkeep = 3\n\
                       [[server]]\nid = 101\nname = \"web\"\n[[server]]\nid = 102\nname = \"db\"\n";

/// A machine whose daemon is to listen at an address that is free.
async fn machine() -> (Machine, SocketAddr) {
    let machine = Machine::new().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    machine.configure(&format!("[http]\nlisten = \"{address}\"\n{SERVERS}"));
    (machine, address)
}

fn line<'a>(table: &'a str, server: &str) -> &'a str {
    table.lines().find(|line| line.starts_with(server)).unwrap_or_else(|| panic!("{table}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_daemon_it_is_asked() {
    let (machine, _) = machine().await;
    machine.fault("create:fails,server=102");
    let daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    assert_eq!(machine.run(&["health"]), (0, "ok\n".to_owned(), String::new()));
    daemon.signal(Signal::SIGUSR1);
    let both = || daemon.rotations("rotated") == 1 && daemon.rotations("failed") == 1;
    machine.until("both to end", both).await;
    assert_eq!(machine.run(&["health", "--ready"]).0, 0);

    let (code, out, errors) = machine.run(&["status"]);
    assert_eq!((code, errors.as_str()), (1, ""), "one has failed");
    assert!(line(&out, "web").contains(" ok "), "{out}");
    let db = line(&out, "db");
    assert!(db.contains(" failed ") && db.contains("the provider failed to create"), "{out}");
    assert!(out.find("\ndb") < out.find("\nweb"), "trouble first: {out}");

    assert_eq!(machine.run(&["status", "web"]).0, 0, "that one is well");
    let (code, out, _) = machine.run(&["status", "--json", "102"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["totals"]["failed"]), (1, &1.into()));
    assert_eq!(document["servers"][0]["name"], "db");
    assert_eq!(document["daemon"]["alive"], true);

    let (code, out, _) = machine.run(&["status", "--max-age", "26h", "web"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("SNAPRING OK - 1 server, the oldest success "), "{out}");
    let (code, out, _) = machine.run(&["status", "--max-age", "26h"]);
    assert_eq!(code, 2);
    assert!(out.starts_with("SNAPRING CRITICAL - db: no success yet (the provider"), "{out}");
    assert!(out.contains(" | servers=2 trouble=1;0 oldest_success="), "{out}");

    machine.fault("any:status=401");
    daemon.signal(Signal::SIGUSR1);
    machine.until("the refusal", || machine.run(&["health", "--ready"]).0 == 1).await;
    let (_, out, _) = machine.run(&["health", "--ready"]);
    assert_eq!(out, "the provider refuses the token\n");
    assert_eq!(machine.run(&["health"]).0, 0, "a new start would not help");
    let (_, out, _) = machine.run(&["status"]);
    let day = machine.clock.now().wall.strftime("%Y-").to_string();
    assert!(out.contains(&format!("The provider has refused the token since {day}")), "{out}");
}

/// A snapshot of another installation is no success of this one, and how old it is counts all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_not_shown_as_a_rotation_that_succeeded() {
    let machine = Machine::new().await;
    machine.configure(SERVERS);
    let at = machine.clock.now().wall - jiff::SignedDuration::from_hours(5);
    machine.add(WEB, &at.strftime("snapring-%Y%m%dT%H%M%SZ").to_string(), 5);
    machine.fault("create:fails,times=1");
    assert_eq!(machine.run(&["rotate", "web"]).0, 1);
    let (code, out, _) = machine.run(&["status", "web"]);
    assert_eq!(code, 1, "{out}");
    assert!(line(&out, "web").contains(" failed  snapshot 5h ago "), "{out}");
    let (_, out, _) = machine.run(&["status", "--json", "web"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["servers"][0]["last_success_is_snapshot"], true, "{out}");
    let (_, out, _) = machine.run(&["status", "--max-age", "3h", "web"]);
    let says =
        "web: no rotation is known to have succeeded, and the newest snapshot was started 5h";
    assert!(out.contains(says), "{out}");

    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    let (_, out, _) = machine.run(&["status", "web"]);
    assert!(!out.contains("snapshot "), "{out}");
}

#[rstest]
#[case::a_mistake("keep = \"all\"", "`keep` is a number or a table")]
#[case::no_toml("keep 3", "this is not TOML")]
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_can_be_asked_though_its_file_is_bad_by_now(
    #[case] line_in_it: &str,
    #[case] mistake: &str,
) {
    let (machine, address) = machine().await;
    let daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("both to end", || daemon.rotations("rotated") == 2).await;
    machine.configure(&format!("[http]\nlisten = \"{address}\"\n{SERVERS}{line_in_it}\n"));
    assert_eq!(machine.run(&["health"]), (0, "ok\n".to_owned(), String::new()));
    let (code, out, errors) = machine.run(&["status", "web"]);
    assert_eq!(code, 1, "not all is well: {errors}");
    assert!(errors.contains(mistake), "{errors}");
    assert!(line(&out, "web").contains(" ok ") && !out.contains("\ndb"), "{out}");
    let (code, out, _) = machine.run(&["status", "--max-age", "26h"]);
    assert_eq!(code, 1);
    assert!(out.starts_with("SNAPRING WARNING - the last reload was rejected: `snapring"), "{out}");

    drop(daemon);
    let (code, out, errors) = machine.run(&["status"]);
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(errors.contains(mistake), "{errors}");
    let (code, out, _) = machine.run(&["status", "--max-age", "26h"]);
    assert_eq!(code, 3);
    assert!(out.ends_with("the configuration is bad, and no daemon answers\n"), "{out}");
    assert_eq!(machine.run(&["health"]).0, 1);
}

/// Before any listing shows the snapshot: the create's answer has.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_under_way_and_its_snapshot_are_shown_in_the_zone_of_the_policy() {
    let machine = Machine::with_snapshots_of(Duration::from_secs(3600)).await;
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    machine.configure(&format!(
        "[http]\nlisten = \"{address}\"\n[[server]]\nid = 101\nname = \"web\"\nkeep = 3\n\
         schedule = \"0 3 1 1 *\"\ntimezone = \"Europe/Berlin\"\njitter = \"10m\"\n"
    ));
    let mut daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    machine.fault("list:hang,after=1");
    daemon.signal(Signal::SIGUSR1);
    let created = |it: &Value| it["operation"] == "create" && it["outcome"] == "ok";
    machine.until("the create", || daemon.events("api").iter().any(created)).await;
    let name = machine.names(WEB).pop().unwrap();
    let (_, out, _) = machine.run(&["status", "--json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    let server = &document["servers"][0];
    let snapshot = &server["ring"]["snapshots"][0];
    assert_eq!((&snapshot["name"], &snapshot["status"]), (&name.into(), &"in_progress".into()));
    assert!(server["under_way"]["since"].is_string(), "{out}");
    assert_eq!(server["timezone"], "Europe/Berlin");
    assert!(get(address, "/").contains(" is in progress, for "));

    let (_, out, _) = machine.run(&["status"]);
    let web = line(&out, "web  ");
    assert!(web.contains("-01-01 03:00:00 CET (starts 03:0"), "{out}");
    assert!(web.contains("1 of 5") && web.contains("s ago"), "{out}");
    let now = line(&out, "web: a rotation has been running for ");
    assert!(now.contains(" since ") && now.contains(") in progress for "), "{out}");
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_learns_of_what_a_person_rotated_by_hand() {
    let (machine, _) = machine().await;
    machine.fault("create:fails,server=101,times=1");
    let daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("the failure", || daemon.rotations("failed") == 1).await;
    let (code, out, _) = machine.run(&["status", "--max-age", "26h", "web"]);
    assert_eq!(code, 2, "{out}");

    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{out} {errors}");
    let (_, history, _) = machine.run(&["history", "web", "--outcome", "rotated,failed"]);
    assert_eq!(history.lines().count(), 4, "{history}");
    machine.until("it to be known", || machine.run(&["status", "web"]).0 == 0).await;
    let (_, out, _) = machine.run(&["status", "--json", "web"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    let names = || document["servers"][0]["ring"]["snapshots"].as_array().unwrap().iter();
    let shown: Vec<&Value> = names().map(|snapshot| &snapshot["name"]).collect();
    assert_eq!(shown, machine.names(WEB).iter().collect::<Vec<_>>());
    assert_eq!(daemon.events("heard").len(), 1);
}

pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// S8: a notice that was given up is seen wherever a person or a program looks, until the webhook accepts one.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_refuses_notices_is_seen_everywhere_until_it_accepts_one() {
    let machine = Machine::new().await;
    machine.fault("list:status=503,times=2");
    let hook = MockServer::start().await;
    let refuses = ResponseTemplate::new(404).set_body_string("no\nsuch hook T0-not-to-be-seen");
    Mock::given(any()).respond_with(refuses).mount(&hook).await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dense = "[[server]]\nid = 101\nname = \"web\"\nkeep = 3\nschedule = \"*/2 * * * * *\"\n\
                 min_interval = \"0s\"\n";
    let notify = format!("[[notify]]\nurl = \"{}/T0-not-to-be-seen\"\n", hook.uri());
    let http = format!("[http]\nlisten = \"{free}\"\n");
    machine.configure_api("settle = \"1s\"\nretries = 0", &format!("{http}{dense}{notify}"));
    let daemon = machine.daemon();
    let given_up = || daemon.events("notice").iter().any(|it| it["outcome"] == "not_found");
    machine.until("it to be given up", given_up).await;
    machine.until("a good rotation", || daemon.rotations("rotated") >= 1).await;

    let words = format!("notices to {} have not been delivered since ", hook.uri());
    let (code, out, errors) = machine.run(&["status"]);
    assert_eq!(code, 1, "{out} {errors}");
    assert!(line(&out, "web").contains(" ok "), "{out}");
    assert!(out.contains(&words) && out.contains("(404: no such hook ["), "{out}");
    let (code, check, _) = machine.run(&["status", "--max-age", "26h"]);
    assert_eq!(code, 1, "{check}");
    assert!(check.starts_with(&format!("SNAPRING WARNING - {words}")), "{check}");
    let (code, json, _) = machine.run(&["status", "--json"]);
    let document: Value = serde_json::from_str(&json).unwrap();
    let undelivered = &document["daemon"]["undelivered_notices"][0];
    assert_eq!((code, &undelivered["to"]), (1, &hook.uri().into()), "{json}");
    let page = get(free, "/");
    assert!(page.contains("Notices are not delivered") && page.contains(&words[1..]), "{page}");
    let metrics = get(free, "/metrics");
    let gauge = format!("\nsnapring_notices_undelivered{{to=\"{}\"}} ", hook.uri());
    assert!(metrics.contains(&gauge) && !metrics.contains(&format!("{gauge}0\n")), "{metrics}");
    for shown in [&out, &check, &json, &page, &metrics] {
        assert!(!shown.contains("T0-not"), "{shown}");
    }

    // The recovery is owed, and comes with the next success.
    hook.reset().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&hook).await;
    machine.until("it to be accepted", || machine.run(&["status"]).0 == 0).await;
    let metrics = get(free, "/metrics");
    assert!(metrics.contains(&format!("{gauge}0\n")), "{metrics}");
    assert!(get(free, "/").contains("All is well"));
}

/// A person's `rotate` waits for a snapshot that never comes, and has the server meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_another_process_holds_for_two_ticks_is_in_trouble_everywhere() {
    let machine = Machine::with_snapshots_of(Duration::from_secs(3600)).await;
    let hook = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&hook).await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dense = "[[server]]\nid = 101\nname = \"web\"\nkeep = 3\nschedule = \"*/2 * * * * *\"\n\
                 min_interval = \"0s\"\n";
    let notify = format!("[[notify]]\nurl = \"{}\"\n", hook.uri());
    machine.configure(&format!("[http]\nlisten = \"{free}\"\n{dense}{notify}"));
    let mut holder = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("the create", || machine.names(WEB).len() == 1).await;
    let daemon = machine.daemon();
    machine.until("two ticks", || daemon.rotations("skipped") >= 2).await;

    let pid = format!("`snapring rotate`, pid {}, since ", holder.pid());
    let (code, out, errors) = machine.run(&["status"]);
    assert_eq!(code, 1, "{out} {errors}");
    let web = line(&out, "web");
    assert!(web.contains(" skipped ") && web.contains(&pid), "{out}");
    let (code, out, _) = machine.run(&["status", "--max-age", "26h"]);
    assert_eq!(code, 2, "{out}");
    assert!(out.contains("no success yet") && out.contains(&pid), "{out}");
    let (_, out, _) = machine.run(&["status", "--json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["servers"][0]["state"], "skipped");
    assert_eq!(document["totals"]["skipped"], 1);
    let metrics = get(free, "/metrics");
    assert!(metrics.contains("\nsnapring_trouble{server=\"web\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\nsnapring_stale{server=\"web\"} "), "{metrics}");
    let levels: Vec<Value> =
        daemon.events("rotation").iter().take(2).map(|it| it["level"].clone()).collect();
    assert_eq!(levels, ["INFO", "WARN"]);

    let mut notices = Vec::new();
    while notices.is_empty() {
        machine.clock.sleep(Duration::from_millis(100)).await;
        notices = hook.received_requests().await.unwrap();
    }
    let notice: Value = serde_json::from_slice(&notices[0].body).unwrap();
    let title = notice["title"].as_str().unwrap();
    assert!(title.ends_with(": web was skipped twice"), "{title}");
    assert!(notice["subjects"][0]["message"].as_str().unwrap().contains(&pid), "{notice}");

    // A daemon that starts now knows of it.
    drop(daemon);
    machine.configure(&format!("[http]\nlisten = \"{free}\"\n{SERVERS}"));
    let _daemon = machine.daemon();
    machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
    let (code, out, _) = machine.run(&["status", "web"]);
    assert!(code == 1 && line(&out, "web").contains(" skipped "), "{out}");
    holder.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_the_provider_is_asked() {
    let (machine, address) = machine().await;
    machine.add(WEB, "snapring-20261101T030000Z", 30);
    let (code, out, errors) = machine.run(&["status"]);
    assert_eq!(code, 1, "a daemon should run");
    let expected = format!("no daemon is running: connection refused: {address}");
    assert!(errors.contains(&expected), "{errors}");
    let web = line(&out, "web");
    assert!(web.contains("1d 6h ago") && web.contains("1 of 5"), "{out}");
    assert!(!out.contains("03:00:00"), "no tick will run: {out}");
    let (code, out, _) = machine.run(&["status", "--max-age", "31h", "web"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains(&format!("SNAPRING WARNING - {expected}")), "{out}");
    assert_eq!(machine.run(&["status", "--max-age", "29h", "web"]).0, 2);
    let (code, out, _) = machine.run(&["status", "--max-age", "29h", "db"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("UNKNOWN: db: "), "nothing is known of it: {out}");

    // What was not found out is not well.
    machine.fault("list:status=404,server=102");
    let (code, out, errors) = machine.run(&["status"]);
    assert_eq!(code, 1, "{out}");
    assert!(errors.contains("db: "), "{errors}");
    assert!(line(&out, "web").contains("1 of 5"), "{out}");

    let (code, out, errors) = machine.run(&["health"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains(&format!("connection refused: {address}")), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_does_not_answer_is_not_waited_for_without_end() {
    let machine = Machine::new().await;
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    machine.configure(&format!("[http]\nlisten = \"{address}\"\n{SERVERS}"));
    let (code, _, errors) = machine.run(&["health", "--timeout", "200ms"]);
    assert_eq!(code, 1);
    assert!(errors.contains(&format!("{address} did not answer within 200ms")), "{errors}");
}

/// Monitoring systems wait for 10 seconds.
fn in_time(machine: &Machine, max_age: &str) -> (i32, String, String) {
    let begun = machine.clock.now().uptime;
    let answer = machine.run(&["status", "--max-age", max_age]);
    let took = machine.clock.now().uptime.saturating_sub(begun);
    assert!(took < Duration::from_secs(10), "{took:?}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_work_is_in_the_exit_code_though_all_servers_are_well() {
    let (machine, address) = machine().await;
    for (store, expected) in [("sqlite::memory:", 0), ("sqlite:///nonexistent/x.db", 1)] {
        let http = format!("[http]\nlisten = \"{address}\"\n");
        machine.configure(&format!("[store]\nurl = \"{store}\"\n{http}{SERVERS}"));
        let mut daemon = machine.daemon();
        machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
        daemon.signal(Signal::SIGUSR1);
        machine.until("both to end", || daemon.rotations("rotated") == 2).await;
        let broken = usize::from(expected == 1);
        machine.until("the store", || daemon.told("store") == broken).await;
        let (code, out, errors) = machine.run(&["status"]);
        assert_eq!(code, expected, "{out}{errors}");
        daemon.signal(Signal::SIGTERM);
        daemon.ended().await;
    }
}

/// Keeps the store's file to itself.
pub async fn lock(file: &std::path::Path) -> sqlx::AnyConnection {
    sqlx::any::install_default_drivers();
    let address = format!("sqlite://{}?mode=rwc", file.display());
    let mut connection = sqlx::AnyConnection::connect(&address).await.unwrap();
    for statement in [
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA journal_mode = WAL",
        "CREATE TABLE x (y BIGINT)",
        "BEGIN EXCLUSIVE",
        "INSERT INTO x VALUES (1)",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_beside_a_daemon_that_hangs_goes_by_the_store() {
    let machine = Machine::new().await;
    machine.configure(SERVERS);
    assert_eq!(machine.run(&["rotate", "--all"]).0, 0);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    machine.configure(&format!("[http]\nlisten = \"{address}\"\n{SERVERS}"));
    // Nobody asks the provider: the store knows.
    machine.fault("any:hang");
    let (code, out, _) = in_time(&machine, "26h");
    assert_eq!(code, 1, "{out}");
    let expected = format!("SNAPRING WARNING - the daemon: {address} did not answer within 3s | ");
    assert!(out.starts_with(&expected), "{out}");
    let (code, out, _) = in_time(&machine, "0s");
    assert_eq!(code, 2, "{out}");
    drop(silent);
    let (code, out, _) = in_time(&machine, "26h");
    assert_eq!(code, 1, "{out}");
    let expected = "SNAPRING WARNING - no daemon is running: connection refused: ";
    assert!(out.starts_with(expected), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_answers_in_time_though_daemon_store_and_provider_hang() {
    let machine = Machine::new().await;
    machine.configure(SERVERS);
    assert_eq!(machine.run(&["rotate", "--all"]).0, 0);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let locked = lock(&machine.path("snapring.db")).await;
    machine.configure_api(
        "retries = 8\ntimeout = \"60s\"",
        &format!("[http]\nlisten = \"{address}\"\n{SERVERS}"),
    );
    // Only the store hangs: the provider's listing has the successes.
    let (code, out, errors) = in_time(&machine, "26h");
    assert_eq!(code, 1, "{out}{errors}");
    assert!(out.contains("did not answer within 3s, and 1 more"), "{out}");
    assert!(out.contains("past rotations are unknown"), "{out}");

    machine.fault("any:hang");
    let (code, out, errors) = in_time(&machine, "26h");
    assert_eq!(code, 3, "{out}{errors}");
    let expected = "SNAPRING UNKNOWN - the state of the servers is unknown: ";
    assert!(out.starts_with(expected), "{out}");
    assert!(out.contains("web: ") || out.contains("db: "), "{out}");
    assert!(errors.contains(&format!("{address} did not answer within 3s")), "{errors}");

    // With retries and 503s, too.
    machine.sandbox.provider().faults().clear();
    machine.fault("any:status=503");
    assert_eq!(in_time(&machine, "26h").0, 3);
    drop(locked);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_to_ask_health_says_how_to_make_one() {
    let machine = Machine::new().await;
    machine.configure(SERVERS);
    let (code, _, errors) = machine.run(&["health"]);
    assert_eq!(code, 2);
    assert!(errors.contains("hint: set `listen` in [http], and restart the daemon"), "{errors}");
    // `status` has another way, and nothing to warn of.
    let (code, _, errors) = machine.run(&["status"]);
    assert_eq!(code, 0);
    assert!(!errors.contains("warning"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_cannot_be_made_is_unknown() {
    let (machine, _) = machine().await;
    machine.fault("any:status=500");
    let (code, out, _) = machine.run(&["status", "--max-age", "26h"]);
    assert_eq!(code, 3);
    let expected = "SNAPRING UNKNOWN - the state of the servers is unknown: web: could not list the snapshots: the provider answered 500 (internal server error)";
    assert!(out.starts_with(expected), "{out}");
    let (code, out, errors) = machine.run(&["status", "--max-age", "26h", "nobody"]);
    assert_eq!((code, out.lines().count()), (3, 1), "{out}");
    assert!(out.contains("is unknown: there is no server \"nobody\""), "{out}");
    assert!(errors.starts_with("error: there is no server \"nobody\""), "{errors}");
    machine.configure("nonsense");
    assert_eq!(machine.run(&["status", "--max-age", "26h"]).0, 3);
    assert_eq!(machine.run(&["status"]).0, 78);
}

/// `listen` in [http] is not set: whether a daemon runs is known from its lock alone.
#[tokio::test(flavor = "multi_thread")]
async fn next_ticks_are_not_promised_where_no_daemon_is_known_to_run() {
    let machine = Machine::new().await;
    machine.configure(SERVERS);
    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    let says = "it is not known whether a daemon is running";
    let (code, out, _) = machine.run(&["status"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains(says), "{out}");
    let document: Value = serde_json::from_str(&machine.run(&["status", "--json"]).1).unwrap();
    assert_eq!(document["daemon_unknown"], true, "{document}");
    // The server that never had a success is named.
    assert!(line(&out, "2 servers").ends_with("s ago (web)"), "{out}");
    assert!(out.contains("\nno success is known of db\n"), "{out}");

    let daemon = machine.daemon();
    machine.until("it to be seen", || !machine.run(&["status"]).1.contains(says)).await;
    let document: Value = serde_json::from_str(&machine.run(&["status", "--json"]).1).unwrap();
    assert!(document["servers"][0]["next"].is_object(), "{document}");
    assert!(document.get("daemon_unknown").is_none(), "{document}");
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_rotation_is_told_with_when_and_what_comes_next() {
    let machine = Machine::with_snapshots_of(Duration::from_secs(3600)).await;
    machine.configure(SERVERS);
    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("the creates", || !machine.rows(WEB).is_empty()).await;
    let answered = |it: &Value| it["operation"] == "create" && it["server"] == "web";
    machine.until("the answer", || daemon.events("api").iter().any(answered)).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    let (_, out, _) = machine.run(&["status"]);
    assert!(line(&out, "web  ").contains(" waiting "), "{out}");
    for says in
        ["its last rotation ended at 20", "interrupted", "still in progress", "no second snapshot"]
    {
        assert!(out.contains(says), "{says}: {out}");
    }
    assert!(!out.contains("no rotation is known"), "{out}");
}
