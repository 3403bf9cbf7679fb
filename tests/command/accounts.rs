//! Two accounts in one configuration, each with a provider of its own: the same numbers of servers and snapshots
//! mean different ones.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use snapring::call::Operation;
use snapring::naming::ServerId;
use snapring::sandbox::http::Sandbox;
use snapring::sandbox::provider::Options;

use crate::foreign_text::get;
use crate::machine::{Machine, TOKEN, WEB, json};

const OTHER_TOKEN: &str = "vps_of_another_account_0815";
const DB: ServerId = ServerId::new(102);

/// A machine, and the provider of its second account.
struct Two {
    machine: Machine,
    other: Sandbox,
}

impl Two {
    async fn new() -> Self {
        let machine = Machine::new().await;
        let mut options = Options::new(3, SecretString::from(OTHER_TOKEN), 1);
        options.completion = Duration::from_millis(300)..=Duration::from_millis(300);
        let listen = "127.0.0.1:0".parse().unwrap();
        let other = Sandbox::start(options, machine.clock.clone(), listen).await.unwrap();
        std::fs::write(machine.path("b.token"), OTHER_TOKEN).unwrap();
        let two = Self { machine, other };
        two.configure("");
        two
    }

    fn configure(&self, more: &str) {
        let (address, token) = (self.other.address(), self.machine.path("b.token"));
        self.machine.configure(&format!(
            "[[account]]\nname = \"customer-b\"\nbase_url = \"http://{address}/api/v1/\"\ntoken_file = {token:?}\n\
             settle = \"1s\"\nretries = 1\ntimeout = \"5s\"\n\
             [defaults]\nschedule = \"0 3 1 1 *\"\nkeep = 3\ncatch_up = \"0s\"\n\
             [[server]]\nid = 101\nname = \"web\"\n[[server]]\nid = 102\nname = \"db\"\n\
             [[server]]\nid = 101\nname = \"b-web\"\naccount = \"customer-b\"\n{more}"
        ));
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let (code, out, errors) = self.machine.run(arguments);
        assert!(!out.contains(OTHER_TOKEN) && !errors.contains(OTHER_TOKEN), "{out}{errors}");
        (code, out, errors)
    }

    fn of_other(&self, server: ServerId) -> usize {
        self.other.provider().snapshots(server, self.machine.clock.now().wall).len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_is_reached_through_its_own_account() {
    let two = Two::new().await;
    let (code, out, errors) = two.run(&["rotate", "--all"]);
    assert_eq!(code, 0, "{out}{errors}");
    assert_eq!((two.machine.rows(WEB).len(), two.machine.rows(DB).len()), (1, 1));
    assert_eq!((two.of_other(WEB), two.of_other(DB)), (1, 0), "102 is no server of the other one");

    let (code, out, _) = two.run(&["list", "--account", "customer-b"]);
    assert!(code == 0 && out.contains("b-web (101)") && !out.contains("db (102)"), "{out}");
    let (code, out, _) = two.run(&["list", "--account", "default", "--json"]);
    assert_eq!((code, json(&out).as_array().map(Vec::len)), (0, Some(2)), "{out}");
    let (code, _, errors) = two.run(&["list", "--account", "customer-c"]);
    assert!(code == 2 && errors.contains("customer-b and default"), "{errors}");

    let (code, out, errors) = two.run(&["status", "--json"]);
    assert_eq!(code, 0, "{errors}");
    let answer = json(&out);
    let accounts: Vec<(&str, &Value)> = answer["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), &row["account"]))
        .collect();
    let named = |name: &str| accounts.iter().find(|(it, _)| *it == name).unwrap().1.as_str();
    assert_eq!((named("web"), named("b-web")), (None, Some("customer-b")), "{out}");
    let (_, out, _) = two.run(&["history", "b-web"]);
    assert!(out.contains("b-web") && !out.contains(" web "), "{out}");
    assert!(out.contains("ACCOUNT") && out.contains("customer-b"), "{out}");
    let (_, out, _) = two.run(&["list"]);
    assert!(out.contains("web (101) in account default: "), "{out}");
    assert!(out.contains("b-web (101) in account customer-b: "), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_two_accounts_have_is_not_guessed_at() {
    let two = Two::new().await;
    let made = two.machine.clock.now().wall;
    let ours = two.machine.add(WEB, "by-hand", 1);
    let theirs = two.other.provider().add_snapshot(WEB, "by-hand", "completed", made).0;
    assert_eq!(ours, theirs);
    let id = ours.to_string();
    for command in [&["delete", id.as_str(), "--yes"], &["restore", id.as_str(), "--yes"]] {
        let (code, _, errors) = two.run(command);
        assert_eq!(code, 2, "{errors}");
        assert!(errors.contains(&format!("several accounts have a snapshot {id}")), "{errors}");
        assert!(errors.contains("default and customer-b"), "{errors}");
    }
    // A server's number is as ambiguous.
    for command in [
        &["restore", "latest", "101", "--yes", "--no-wait"][..],
        &["restore", "--before", "1m", "101", "--yes"],
        &["create", "101", "--name", "x"],
        &["rotate", "101"],
        &["list", "101"],
    ] {
        let (code, _, errors) = two.run(command);
        assert_eq!(code, 2, "{command:?}: {errors}");
        let all = "several accounts have a server 101: web (account default) and b-web (account customer-b)";
        assert!(errors.contains(all), "{command:?}: {errors}");
    }
    let wrong = ["restore", "latest", "b-web", "--account", "default", "--yes"];
    assert_eq!(two.run(&wrong).0, 2, "it is in the other account");
    let (code, out, errors) = two.run(&["list", "101", "--account", "customer-b"]);
    assert!(code == 0 && out.contains("b-web (101)") && !out.contains("db (102)"), "{errors}");
    let (code, _, errors) = two.run(&["delete", &id, "--yes", "--account", "customer-b"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!((two.machine.rows(WEB).len(), two.of_other(WEB)), (1, 0));
    let (_, out, _) = two.run(&["history", "--manual"]);
    assert!(out.contains("b-web"), "{out}");

    two.other.provider().add_snapshot(WEB, "by-hand-too", "completed", made);
    let count = |sandbox: &Sandbox| sandbox.provider().count(Operation::Restore);
    let right = ["restore", "latest", "101", "--account", "customer-b", "--yes", "--no-wait"];
    let (code, _, errors) = two.run(&right);
    assert_eq!(code, 0, "{errors}");
    assert_eq!((count(&two.machine.sandbox), count(&two.other)), (0, 1), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_refused_keeps_nothing_from_the_other() {
    let two = Two::new().await;
    std::fs::write(two.machine.path("b.token"), "vps_dead").unwrap();
    let (code, out, errors) = two.run(&["check", "--online"]);
    assert_eq!(code, 1, "{out}{errors}");
    let place = two.machine.path("b.token").display().to_string();
    assert!(
        errors.contains("the provider refused the token") && errors.contains(&place),
        "{errors}"
    );
    let (code, out, errors) = two.run(&["rotate", "--all"]);
    assert_eq!(code, 1, "{out}{errors}");
    assert_eq!((two.machine.rows(WEB).len(), two.machine.rows(DB).len()), (1, 1));
    // What was not seen is not well, whatever the history says.
    let (code, out, errors) = two.run(&["status", "--json"]);
    assert_eq!(code, 1, "{out}{errors}");
    let servers = json(&out)["servers"].clone();
    let is_named = |row: &&Value| row["name"] == "b-web";
    let row = servers.as_array().unwrap().iter().find(is_named).unwrap();
    assert_ne!(row["state"], "ok", "{row}");
    let (code, out, errors) = two.run(&["list"]);
    assert_eq!(code, 1, "{out}{errors}");
    assert!(out.contains("web (101)") && out.contains("db (102)"), "{out}");

    std::fs::remove_file(two.machine.path("b.token")).unwrap();
    let (code, _, errors) = two.run(&["check"]);
    assert!(code == 78 && errors.contains(&place), "{errors}");
    let (code, out, _) = two.run(&["list", "web"]);
    assert!(code == 0 && out.contains("web (101)"), "it needs no other account's token: {out}");
}

/// S10: a hook of one account's server may know another account's token, and history from before is shown too.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_of_any_account_is_shown() {
    let two = Two::new().await;
    let hook = two.machine.path("hook");
    let token = two.machine.path("b.token").display().to_string();
    std::fs::write(&hook, format!("#!/bin/sh\ncat {token} >&2; exit 3\n")).unwrap();
    let hooks = format!("[server.hooks]\nbefore = [\"sh\", {hook:?}]\n");
    // Only the account of [api] is used.
    two.configure("");
    let text = std::fs::read_to_string(two.machine.path("config.toml")).unwrap();
    let text = text.replace("name = \"db\"\n", &format!("name = \"db\"\n{hooks}"));
    std::fs::write(two.machine.path("config.toml"), text).unwrap();
    let (code, out, errors) = two.run(&["rotate", "db"]);
    assert!(code == 1 && format!("{out}{errors}").contains("[token]"), "{out}{errors}");
    let (_, out, _) = two.run(&["history"]);
    assert!(out.contains("[token]"), "{out}");
    // Written before it was known to be one.
    let stored = format!("UPDATE snapring_rotation SET reason = 'the hook said {OTHER_TOKEN}'");
    let store = format!("sqlite://{}", two.machine.path("snapring.db").display());
    sqlx::any::install_default_drivers();
    let mut connection = <sqlx::AnyConnection as sqlx::Connection>::connect(&store).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(stored)).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    for command in [&["history"][..], &["history", "--json"], &["status"], &["status", "--json"]] {
        let (_, out, errors) = two.run(command);
        assert!(out.contains("[token]"), "{command:?}: {out}{errors}");
    }
}

/// Answers each request with an error that holds the token of another account.
fn repeat_a_token(listener: &std::net::TcpListener) {
    use std::io::{Read, Write};
    for connection in listener.incoming() {
        let mut connection = connection.unwrap();
        let _ = connection.read(&mut [0; 4096]);
        let body = format!("{{\"detail\": \"no {TOKEN}\"}}");
        let length = body.len();
        let head = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        let _ = connection.write_all(format!("{head}{body}").as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn discover_asks_one_account_and_writes_whose_servers_they_are() {
    let two = Two::new().await;
    let (code, _, errors) = two.run(&["discover"]);
    assert!(code == 2 && errors.contains("--account NAME"), "{errors}");
    // What is said names the account, and what is shown is what is written.
    let (_, out, errors) = two.run(&["check", "--online"]);
    let finding = "3 servers of the accounts have no policy: mail-01 (103 in default), db-01 (102 in customer-b)";
    assert!(errors.contains(finding), "{errors}");
    assert!(errors.contains("`snapring discover --account NAME` lists them"), "{errors}");
    assert!(errors.contains("others can read the token file of account customer-b"), "{errors}");
    two.configure("[[server]]\nid = 103\nname = \"db-01\"\n");
    let (code, out_b, errors) = two.run(&["discover", "--account", "customer-b"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out_b.starts_with("3 servers in account customer-b, 2 without a policy\n"), "{out_b}");
    let next = "next: `snapring discover --account customer-b --write FILE`";
    assert!(errors.contains(next), "{errors}");
    assert!(out_b.contains("db-01 (written as db-01-102)"), "{out_b}");
    let (_, written, _) = two.run(&["discover", "--account", "customer-b", "--write", "-"]);
    assert!(written.contains("name = \"db-01-102\""), "{written}");
    let (_, _, errors) = two.run(&["check", "--online"]);
    assert!(errors.contains("2 servers of account customer-b have no policy: "), "{errors}");
    assert!(errors.contains("`snapring discover --account customer-b` lists them"), "{errors}");
    two.configure("");
    let address = two.other.address();
    assert!(out.contains(&format!("account customer-b: http://{address}/api/v1/")), "{out}");
    let header = out.lines().find(|it| it.starts_with("ID ")).unwrap();
    assert!(header.contains("SERVER") && header.contains("ACCOUNT"), "{out}");
    assert!(out.lines().any(|it| it.contains("b-web") && it.contains("customer-b")), "{out}");
    let (code, out, errors) = two.run(&["discover", "--account", "customer-b", "--write", "-"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(out.matches("account = \"customer-b\"").count(), 2, "{out}");
    assert!(!out.contains("id = 101"), "{out}");
    two.configure(&out);
    let (code, out, errors) = two.run(&["check", "--online"]);
    assert_eq!(code, 0, "{out}{errors}");
    let (code, _, errors) = two.run(&["discover", "--account", "customer-b", "--missing"]);
    assert_eq!(code, 0, "{errors}");
    // The provider of one account repeats the token of the other.
    let repeating = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = repeating.local_addr().unwrap();
    std::thread::spawn(move || repeat_a_token(&repeating));
    let config = std::fs::read_to_string(two.machine.path("config.toml")).unwrap();
    let config = config.replace(&two.other.address().to_string(), &address.to_string());
    std::fs::write(two.machine.path("config.toml"), config).unwrap();
    let (code, out, errors) = two.run(&["discover", "--account", "customer-b"]);
    assert!(code == 1 && errors.contains("[token]"), "{out}{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_ready_as_long_as_one_account_is_accepted() {
    let two = Two::new().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    two.configure(&format!("[http]\nlisten = \"{port}\"\n"));
    std::fs::write(two.machine.path("b.token"), "vps_dead").unwrap();
    let daemon = two.machine.daemon();
    let address = port.to_string();
    let listens = || std::net::TcpStream::connect(&address).is_ok();
    two.machine.until("listening", listens).await;
    let ask = async |path: &str| get(&address, path).await;
    let expected = "ok\nthe provider refuses the token of account customer-b\n";
    let mut ready = String::new();
    for _ in 0..1000 {
        ready = ask("/readyz").await;
        if ready == expected {
            break;
        }
        two.machine.clock.sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ready, expected);
    let page = ask("/").await;
    assert!(
        page.contains("The provider has refused the token of account customer-b since "),
        "{page}"
    );
    assert!(page.contains("id=\"server-customer-b-101\"") && page.contains("101 in customer-b"));
    let status = ask("/api/v1/status").await;
    let accounts = &json(&status)["daemon"]["accounts"];
    assert_eq!(accounts[0]["name"], "default", "{accounts}");
    assert_eq!(accounts[1]["token"], "refused", "{accounts}");
    let metrics = ask("/metrics").await;
    let refused = metrics.lines().find(|line| {
        line.starts_with("snapring_api_requests_total") && line.contains("account=\"customer-b\"")
    });
    assert!(refused.is_some_and(|line| line.contains("unauthorized")), "{metrics}");
    let (code, out, _) = two.run(&["status"]);
    assert!(
        out.contains("The provider has refused the token of account customer-b since "),
        "{code} {out}"
    );
    assert!(out.contains("b-web (customer-b)"), "{out}");
    drop(daemon);
}

/// S8: its servers were rotated well before.
#[tokio::test(flavor = "multi_thread")]
async fn servers_of_an_account_that_does_not_answer_are_not_shown_as_well() {
    let two = Two::new().await;
    assert_eq!(two.run(&["rotate", "--all"]).0, 0);
    two.other.provider().add_fault("list:status=503".parse().unwrap());
    let (code, out, errors) = two.run(&["status", "--json"]);
    assert_eq!(code, 1, "{out}{errors}");
    let servers = json(&out)["servers"].clone();
    let row =
        |name: &str| servers.as_array().unwrap().iter().find(|it| it["name"] == name).cloned();
    let (web, other) = (row("web").unwrap(), row("b-web").unwrap());
    assert_eq!((&web["state"], &other["state"]), (&"ok".into(), &"waiting".into()), "{servers}");
    let reason = other["waiting"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("could not be listed: ") && reason.contains("503"), "{reason}");
    assert!(other["last_success_at"].is_string(), "{other}");
}
