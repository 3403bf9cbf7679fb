//! `rotate` as a timer runs it: what it tells the services of `[[notify]]`, and when it leaves that to a daemon.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::machine::{JSON_LOG, Machine, WEB};
use crate::notices::{KEY, got, notify, service, text};

const YEARLY: &str = "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 1 1 *\"\nkeep = 2\n\
                      [[server]]\nid = 102\nname = \"db\"\nschedule = \"0 3 1 1 *\"\nkeep = 2\n";

/// All documents, as `event server outcome`.
async fn told(hook: &MockServer) -> Vec<String> {
    let requests = hook.received_requests().await.unwrap();
    let document = |body: &[u8]| {
        let document: Value = serde_json::from_slice(body).unwrap();
        let servers = document["subjects"].as_array().unwrap().iter();
        let names: Vec<&str> = servers.map(|it| it["server"].as_str().unwrap()).collect();
        format!("{} {}", document["event"].as_str().unwrap(), names.join("+"))
    };
    requests.iter().map(|it| document(&it.body)).collect()
}

fn fail(machine: &Machine) {
    machine.fault("list:status=503");
}

fn heal(machine: &Machine) {
    machine.sandbox.provider().faults().clear();
}

fn configure(machine: &Machine, notify: &str) {
    machine.configure_api("settle = \"0s\"\nretries = 0", &format!("{YEARLY}{notify}{JSON_LOG}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_tells_a_failure_once_and_not_each_night_and_the_recovery_once() {
    let (machine, hook) = (Machine::new().await, service().await);
    configure(&machine, &notify(&hook, "format = \"json\""));
    assert_eq!(machine.run(&["rotate", "--all"]).0, 0);
    assert_eq!(told(&hook).await, Vec::<String>::new(), "all is well: no news");
    fail(&machine);
    for _ in 0..3 {
        assert_eq!(machine.run(&["rotate", "--all"]).0, 1);
    }
    // In the order in which they failed.
    let all = told(&hook).await;
    assert!(["failure db+web", "failure web+db"].contains(&all[0].as_str()), "{all:?}");
    assert_eq!(all.len(), 1, "once: {all:?}");
    // One of them in a run of its own.
    heal(&machine);
    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    let all = told(&hook).await;
    assert_eq!(all[1..], ["recovery web"]);
    let (code, _, errors) = machine.run(&["rotate", "--all"]);
    assert_eq!(code, 0, "{errors}");
    let last = hook.received_requests().await.unwrap().pop().unwrap();
    let document: Value = serde_json::from_slice(&last.body).unwrap();
    assert_eq!((&document["event"], &document["instance"]), (&"recovery".into(), &"here".into()));
    let over = &document["subjects"][0];
    assert_eq!((&over["server"], &over["failed_rotations"]), (&"db".into(), &3.into()));
    assert!(over["failing_since"].is_string(), "the store knows since when: {over}");
    assert_eq!(told(&hook).await.len(), 3);
    assert!(errors.contains("\"event\":\"notice\"") && !errors.contains(KEY), "{errors}");

    fail(&machine);
    assert_eq!(machine.run(&["rotate", "--all", "--no-notify"]).0, 1);
    assert_eq!(told(&hook).await.len(), 3, "as asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_told_is_in_the_log_and_in_the_exit_code_and_takes_seconds_only() {
    let (machine, refuses) = (Machine::new().await, MockServer::start().await);
    let no =
        ResponseTemplate::new(200).set_body_string("{\"ok\":false,\"msg\":\"no such monitor\"}");
    Mock::given(any()).respond_with(no).mount(&refuses).await;
    configure(&machine, &notify(&refuses, "on = [\"success\"]\nformat = \"json\""));
    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 1, "{errors}");
    assert!(out.contains("rotated"), "the rotation succeeded: {out}");
    assert!(
        errors.contains("could not deliver a notice to") && errors.contains("no such monitor"),
        "{errors}"
    );

    // A service that takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let hangs = format!(
        "[[notify]]\nurl = \"http://{address}/{KEY}\"\non = [\"success\"]\nformat = \"json\"\n"
    );
    configure(&machine, &hangs);
    let begun = machine.clock.now().uptime;
    let (code, _, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 1, "{errors}");
    let took = machine.clock.now().uptime.saturating_sub(begun);
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(errors.contains("could not deliver a notice to") && !errors.contains(KEY), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_daemon_only_the_daemon_tells() {
    let (machine, hook) = (Machine::new().await, service().await);
    configure(&machine, &notify(&hook, "format = \"json\""));
    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    fail(&machine);
    let (code, _, errors) = machine.run(&["rotate", "web", "--notify"]);
    assert_eq!(code, 1);
    assert!(errors.contains("notices are left to the daemon that runs"), "{errors}");
    machine.until("the daemon to hear of it", || !daemon.events("heard").is_empty()).await;
    got(&machine, &hook, 1).await;
    machine.until("its notice", || !daemon.events("notice").is_empty()).await;
    assert_eq!(told(&hook).await, ["failure web"]);

    // Once the daemon has ended in order, and so has written what it told, the next run tells by itself, and that is
    // no news.
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().await.success());
    assert_eq!(machine.run(&["rotate", "web"]).0, 1);
    assert_eq!(told(&hook).await.len(), 1);
    heal(&machine);
    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    assert_eq!(told(&hook).await, ["failure web", "recovery web"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_is_told_on_the_terminal_only() {
    let (machine, hook) = (Machine::new().await, service().await);
    configure(&machine, &notify(&hook, "format = \"json\""));
    fail(&machine);
    let run = |arguments: &[&str]| {
        let terminal = openpty(None, None).unwrap();
        let slave: OwnedFd = terminal.slave;
        let mut command = machine.command(arguments);
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let mut child = command.spawn().unwrap();
        drop(command);
        // Read until the last one has closed it, which is an error of a terminal.
        let mut master = std::fs::File::from(terminal.master);
        let _ = std::io::copy(&mut master, &mut std::io::sink());
        child.wait().unwrap().code()
    };
    assert_eq!(tokio::task::block_in_place(|| run(&["rotate", "web"])), Some(1));
    assert_eq!(told(&hook).await, Vec::<String>::new());
    // The other one has not failed yet.
    assert_eq!(tokio::task::block_in_place(|| run(&["rotate", "db", "--notify"])), Some(1));
    assert_eq!(told(&hook).await, ["failure db"]);
    assert_eq!(machine.rows(WEB).len(), 0);
}

/// Nothing is known of the run before: silence would be worse than saying it again.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_that_lasts_each_run_tells_its_failures() {
    let (machine, hook) = (Machine::new().await, service().await);
    let store = "[store]\nurl = \"sqlite::memory:\"\n";
    configure(&machine, &format!("{store}{}", notify(&hook, "format = \"json\"")));
    fail(&machine);
    for _ in 0..2 {
        assert_eq!(machine.run(&["rotate", "web"]).0, 1);
    }
    assert_eq!(told(&hook).await, ["failure web", "failure web"]);
    heal(&machine);
    assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    assert_eq!(told(&hook).await.len(), 2, "a recovery of what nobody knows");
}

/// `remind` would tell of it a day later; this timer has none.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_could_not_tell_is_told_by_the_next_or_its_recovery_admits_it() {
    let (machine, hook) = (Machine::new().await, MockServer::start().await);
    let down = Mock::given(any()).respond_with(ResponseTemplate::new(404)).mount_as_scoped(&hook);
    let down = down.await;
    configure(&machine, &notify(&hook, "format = \"json\"\nremind = \"0s\""));
    fail(&machine);
    let (code, _, errors) = machine.run(&["rotate", "--all"]);
    assert_eq!(code, 1);
    assert!(errors.contains("could not deliver a notice to"), "{errors}");
    drop(down);
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&hook).await;
    // One goes on failing, the other one recovers.
    for _ in 0..2 {
        assert_eq!(machine.run(&["rotate", "web"]).0, 1);
    }
    heal(&machine);
    for _ in 0..2 {
        assert_eq!(machine.run(&["rotate", "db"]).0, 0);
        assert_eq!(machine.run(&["rotate", "web"]).0, 0);
    }
    let took = told(&hook).await;
    assert_eq!(took[1..], ["failure web", "recovery db", "recovery web"], "each once: {took:?}");
    let requests = hook.received_requests().await.unwrap();
    let admits = |nth: usize| text(&requests[nth]).contains("No notice of the failure could be");
    assert!(admits(2) && !admits(3), "{took:?}");
}

/// A recovery that no run could tell would leave the service believing in trouble for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_could_not_be_told_is_told_by_the_next_good_run() {
    let (machine, hook) = (Machine::new().await, MockServer::start().await);
    configure(&machine, &notify(&hook, "format = \"json\""));
    for (is_up, is_well, expected) in [
        (true, false, "failure web"),
        (false, true, ""),
        (true, true, "recovery web"),
        (true, true, ""),
    ] {
        hook.reset().await;
        let status = if is_up { 200 } else { 404 };
        Mock::given(any()).respond_with(ResponseTemplate::new(status)).mount(&hook).await;
        if is_well {
            heal(&machine)
        } else {
            fail(&machine)
        }
        let (code, _, errors) = machine.run(&["rotate", "web"]);
        assert_eq!(code, i32::from(!is_up || !is_well), "{errors}");
        let took = if is_up { told(&hook).await.concat() } else { String::new() };
        assert_eq!(took, expected);
    }
}

/// Told twice is better than never.
#[rstest]
#[case::has_another_server("id = 102", "id = 103")]
#[case::has_it_disabled("id = 102", "id = 102\nenabled = false")]
#[case::tells_somebody_else(KEY, "another")]
#[case::tells_other_things("instance =", "on = [\"recovery\"]\ninstance =")]
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_does_not_surely_tell_the_same_is_not_relied_on(
    #[case] here: &str,
    #[case] there: &str,
) {
    let (machine, hook) = (Machine::new().await, service().await);
    let target = notify(&hook, "format = \"json\"");
    let text = format!("{YEARLY}{target}{JSON_LOG}");
    assert!(text.contains(here));
    let api = "settle = \"0s\"\nretries = 0";
    machine.configure_api(api, &text.replace(here, there));
    let daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    machine.configure_api(api, &text);
    fail(&machine);
    let (code, _, errors) = machine.run(&["rotate", "db"]);
    assert_eq!(code, 1, "{errors}");
    let requests = hook.received_requests().await.unwrap();
    assert!(requests.iter().any(|it| it.url.path() == format!("/{KEY}")), "{errors}");
    // Once it has the same configuration, it tells.
    daemon.signal(Signal::SIGHUP);
    machine.until("the reload", || !daemon.events("reload").is_empty()).await;
    heal(&machine);
    let (_, _, errors) = machine.run(&["rotate", "db"]);
    assert!(errors.contains("notices are left to the daemon that runs"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_to_a_daemon_that_is_stopped() {
    let (machine, hook) = (Machine::new().await, service().await);
    configure(&machine, &notify(&hook, "format = \"json\""));
    let daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    fail(&machine);
    daemon.signal(Signal::SIGSTOP);
    let (code, _, errors) = machine.run(&["rotate", "web"]);
    daemon.signal(Signal::SIGCONT);
    assert_eq!(code, 1, "{errors}");
    assert_eq!(told(&hook).await, ["failure web"]);
}
