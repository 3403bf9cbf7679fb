//! The provider asks to wait (429): a command says until when, and a daemon's `status` and page show it.

use std::net::TcpListener;

use nix::sys::signal::Signal;

use crate::foreign_text::get;
use crate::machine::{Machine, json};

const SERVER: &str = "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 1 1 *\"\nkeep = 3\n\
                      timezone = \"Europe/Berlin\"\n";

/// Beside the log, which is there for programs.
fn is_told(line: &str) -> bool {
    !line.starts_with('{') && line.contains("throttled by the provider until ")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_that_waits_long_says_until_when() {
    let machine = Machine::new().await;
    machine.configure(SERVER);
    machine.fault("any:status=429,retry-after=120");
    let commands: [&[&str]; 6] = [
        &["list"],
        &["plan"],
        &["status"],
        &["check", "--online"],
        &["rotate", "web"],
        &["create", "web", "--name", "mine"],
    ];
    for command in commands {
        let mut running = machine.start(machine.command(command), |_, _| {});
        let told = || running.log().lines().filter(|line| is_told(line)).count();
        machine.until("the wait", || told() > 0).await;
        let log = running.log();
        let line = log.lines().find(|line| is_told(line)).unwrap();
        assert!(line.contains(" CE"), "in the zone of the server: {line}");
        assert_eq!(told(), 1, "{command:?}: {log}");
        running.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_wait_is_not_told() {
    let machine = Machine::new().await;
    machine.configure(SERVER);
    machine.fault("list:status=429,retry-after=1,times=1");
    let (code, _, errors) = machine.run(&["list"]);
    assert_eq!((code, errors.lines().any(is_told)), (0, false), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_page_of_a_daemon_show_the_wait_of_the_account_and_of_a_server() {
    for (asked, whose) in [(600, "account"), (86_400, "server")] {
        let machine = Machine::new().await;
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        machine.configure(&format!("[http]\nlisten = \"{listen}\"\n{SERVER}"));
        machine.fault(&format!("create:status=429,retry-after={asked},times=1"));
        let mut daemon = machine.daemon();
        machine.until("it to live", || machine.run(&["health"]).0 == 0).await;
        assert!(!machine.run(&["status"]).1.contains("throttling"));
        daemon.signal(Signal::SIGUSR1);
        machine.until("the event", || !daemon.events("throttled").is_empty()).await;
        let event = &daemon.events("throttled")[0];
        let document = json(&machine.run(&["status", "--json"]).1);
        let [account, server] =
            [&document["daemon"]["throttled_until"], &document["servers"][0]["throttled_until"]];
        let text = machine.run(&["status"]).1;
        let page = get(&listen, "/").await;
        if whose == "account" {
            assert!(server.is_null(), "{document}");
            assert_eq!(account, &event["until"]);
            let words = "the provider is throttling the account (429): no calls are sent until ";
            assert!(text.starts_with(&format!("1 server: 1 waiting\n{words}")), "{text}");
            assert!(page.contains(&words[4..]), "{page}");
        } else {
            assert_eq!(server, &event["until"]);
            let words = "the provider is throttling this server (429) until ";
            assert!(text.contains(words), "{text}");
            assert!(page.contains(&words[4..]), "{page}");
        }
        daemon.kill();
    }
}
