//! `cover`: servers of the account that have a policy without a table of their own.

use serde_json::Value;
use snapring::naming::ServerId;

use crate::machine::{Machine, WEB, json};
use crate::notices::{notify, service};
use crate::status::get;

const MAIL: ServerId = ServerId::new(103);

/// All servers of the account, but for the database, have the policy of a group.
const COVER: &str = "cover = \"everything\"\nsettle = \"1s\"\nretries = 1\ntimeout = \"5s\"";
const SERVERS: &str = "[http]\nlisten = \"LISTEN\"\n\
                       [group.everything]\nschedule = \"0 3 * * *\"\nkeep = 3\n\
                       [[server]]\nid = 102\nname = \"db\"\nschedule = \"0 5 * * *\"\nkeep = 2\n";

async fn machine(listen: &str) -> Machine {
    let machine = Machine::new().await;
    machine.configure_api(COVER, &SERVERS.replace("LISTEN", listen));
    machine
}

/// An address that is free.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_take_covered_servers_as_they_take_configured_ones() {
    let machine = machine(&free_address()).await;
    let (code, out, errors) = machine.run(&["check"]);
    assert_eq!(code, 0, "{errors}");
    assert!(
        out.contains(
            "each server of the account without a [[server]] has the policy of group everything: every day at 03:00 \
             UTC; keeps 3; "
        ),
        "{out}"
    );
    let (code, out, errors) = machine.run(&["check", "--online"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("good, 3 servers\n") && !errors.contains("no policy"), "{out}{errors}");

    let (code, _, errors) = machine.run(&["rotate", "mail-*"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!((machine.rows(MAIL).len(), machine.rows(WEB).len()), (1, 0));
    let (code, out, _) = machine.run(&["list", "--group", "everything", "--json"]);
    assert_eq!(code, 0);
    assert_eq!(json(&out).as_array().unwrap().len(), 2, "{out}");
    let (code, out, _) = machine.run(&["plan", "101"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("web-01 (101), tick "), "{out}");
    let (code, _, errors) = machine.run(&["restore", "latest", "mail-01", "--yes", "--no-wait"]);
    assert_eq!(code, 0, "{errors}");
    let (code, out, errors) = machine.run(&["discover", "--missing"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "3 servers in the account: each has a policy\n"),
        "{errors}"
    );
    let (code, out, _) = machine.run(&["simulate", "--days", "3"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("a server of group everything"), "{out}");
    let (code, _, errors) = machine.run(&["rotate", "web-99"]);
    assert_eq!(code, 2);
    assert!(errors.contains("it has db (102), web-01 (101), mail-01 (103)"), "{errors}");
}

/// Without a daemon, two lists are never compared.
#[tokio::test(flavor = "multi_thread")]
async fn a_timer_says_which_servers_are_not_listed_any_more() {
    let machine = machine(&free_address()).await;
    assert_eq!(machine.run(&["rotate", "--all"]).0, 0);
    machine.sandbox.provider().remove_server(MAIL);
    let says = "warning: mail-01 (103) is not in the account's list of servers any more, so it is not rotated. Its last \
                rotation ended at ";
    for command in [&["rotate", "--all"][..], &["list"], &["plan"], &["status"]] {
        let (code, _, errors) = machine.run(command);
        assert!(code == 1 && errors.contains(says), "{command:?}: {code} {errors}");
    }
    let (code, out, _) = machine.run(&["status", "--max-age", "26h"]);
    assert!(code == 1 && out.contains("mail-01 (103) is not in the account's list"), "{out}");

    machine.sandbox.provider().remove_server(WEB);
    machine.sandbox.provider().remove_server(ServerId::new(102));
    let says = "the list of servers of the account is empty, so it is not believed";
    for command in [&["rotate", "--all"][..], &["list"], &["status"]] {
        let (code, _, errors) = machine.run(command);
        assert!(code == 1 && errors.contains(says), "{command:?}: {code} {errors}");
    }
    let (code, out, _) = machine.run(&["rotate", "mail-01"]);
    assert!(code == 1 && out.contains("mail-01"), "it has its policy all the same: {out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_listed_is_said_and_the_configured_servers_are_served() {
    let machine = machine(&free_address()).await;
    machine.fault("servers:status=403");
    let (code, out, errors) = machine.run(&["list", "db"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.starts_with("db (102): 0 of 5 slots taken"), "{out}");
    assert!(errors.contains("so `cover` gives no policy to new ones"), "{errors}");
    let (code, _, errors) = machine.run(&["check", "--online"]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("error: the servers of the account cannot be listed"), "{errors}");
    // Servers may be missing, unless they are named.
    for arguments in
        [&["list"][..], &["plan"], &["rotate", "--all"], &["list", "--group", "everything"]]
    {
        assert!(machine.run(arguments).0 > 0, "{arguments:?}");
    }
    assert_eq!(machine.run(&["rotate", "db"]).0, 0);
    machine.configure_api(
        COVER,
        SERVERS.split("[[server]]").next().unwrap().replace("LISTEN", &free_address()).as_str(),
    );
    let (code, out, errors) = machine.run(&["status"]);
    assert!(code == 1 && errors.contains("`cover` gives no policy to new ones"), "{out}{errors}");
    assert_eq!(machine.run(&["rotate", "--all"]).0, 1);
    let (code, out, _) = machine.run(&["status", "--max-age", "26h"]);
    assert!(code >= 1, "{out}");
    assert!(out.contains("`cover` gives no policy to new ones"), "{out}");
}

/// A group that may have servers is no wrong usage, and the webhooks are told as of a server that fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_timer_whose_servers_cannot_be_listed_says_so_to_the_webhooks_too() {
    let (machine, hook) = (Machine::new().await, service().await);
    let group = SERVERS.split("[[server]]").next().unwrap().replace("LISTEN", &free_address());
    let notify = notify(&hook, "format = \"json\"");
    machine.configure_api(COVER, &format!("{group}{notify}"));
    machine.fault("servers:status=403");
    for arguments in [["rotate", "--group", "everything"], ["rotate", "--group", "everything"]] {
        let (code, _, errors) = machine.run(&arguments);
        assert_eq!(code, 1, "{errors}");
        assert!(errors.contains("hint: servers may be missing, see the warning above"), "{errors}");
    }
    let told = async || {
        let all = hook.received_requests().await.unwrap().into_iter();
        all.map(|it| serde_json::from_slice::<Value>(&it.body).unwrap()).collect::<Vec<_>>()
    };
    let [failure] = told().await.try_into().unwrap();
    assert_eq!((&failure["event"], &failure["unlisted_accounts"]), (&"failure".into(), &1.into()));
    assert_eq!(failure["subjects"][0]["subject"], "cover");
    let title = failure["title"].as_str().unwrap();
    assert!(title.ends_with("`cover` does not know the servers of the account"), "{title}");
    machine.sandbox.provider().faults().clear();
    assert_eq!(machine.run(&["rotate", "--group", "everything"]).0, 0);
    let all = told().await;
    assert_eq!((all.len(), &all[1]["event"]), (2, &"recovery".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_finds_new_servers_after_a_reload_and_remembers_them_over_a_restart() {
    let listen = free_address();
    let machine = machine(&listen).await;
    let mut daemon = machine.daemon();
    let servers = || {
        let (_, out, _) = machine.run(&["status", "--json"]);
        let names = json(&out)["servers"].as_array().unwrap().clone();
        names.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let log = |daemon: &crate::machine::Daemon| daemon.log();
    machine
        .until("the servers to be known", || {
            log(&daemon).contains("policy of group everything: web-01")
        })
        .await;
    assert_eq!(servers(), ["db", "mail-01", "web-01"]);
    machine.sandbox.provider().add_server(ServerId::new(104), "new-01");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    machine
        .until("the new one to be known", || {
            log(&daemon).contains("policy of group everything: new-01")
        })
        .await;
    assert_eq!(servers().len(), 4);
    let (code, _, errors) = machine.run(&["rotate", "new-01"]);
    assert_eq!(code, 0, "{errors}");
    daemon.signal(nix::sys::signal::Signal::SIGUSR1);
    machine
        .until("every server to be rotated", || {
            !machine.rows(WEB).is_empty() && !machine.rows(MAIL).is_empty()
        })
        .await;
    machine
        .until("that to be written down", || {
            log(&daemon).matches("event\":\"rotation\"").count() >= 4
        })
        .await;
    // A table that goes, for example with an included file, is not replaced without a word.
    let whole = SERVERS.replace("LISTEN", &listen);
    machine.configure_api(COVER, whole.split("[[server]]").next().unwrap());
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    let says =
        "db (102) has no [[server]] any more: as db-01, it has the policy of group everything now";
    machine.until("the warning", || log(&daemon).contains(says)).await;
    let address = listen.parse().unwrap();
    let listed = |it: u8| {
        let series = format!("\nsnapring_cover_listed{{account=\"default\"}} {it}\n");
        get(address, "/metrics").contains(&series)
    };
    assert!(listed(1));
    machine.configure_api(COVER, &whole);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.ended().await;

    machine.fault("servers:status=503");
    let daemon = machine.daemon();
    machine
        .until("the start", || log(&daemon).contains("ready: watching the ticks of 4 servers"))
        .await;
    assert!(!log(&daemon).contains("not in the configuration any more"), "{}", log(&daemon));
    machine.until("the failed list", || log(&daemon).contains("so `cover` gives no policy")).await;
    let (code, out, _) = machine.run(&["status"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("`cover` gives no policy to new ones"), "{out}");
    assert!(listed(0));
    let page = get(address, "/");
    assert!(page.contains("The servers of an account cannot be listed"), "{page}");
}
