//! `[[notify]]` over real HTTP: what services get of a daemon that fails and recovers, and
//! `snapring notify-test`.

use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use wiremock::matchers::{any, basic_auth, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::machine::{Machine, TOKEN};
use crate::status::get;

/// The secret part of every address here.
pub const KEY: &str = "T0-not-to-be-seen";

const DENSE: &str = "[[server]]\nid = 101\nname = \"web\"\nschedule = \"*/2 * * * * *\"\nkeep = 3\n\
                     min_interval = \"0s\"\n";

pub async fn service() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    server
}

pub fn notify(server: &MockServer, lines: &str) -> String {
    format!("[[notify]]\nurl = \"{}/{KEY}\"\ninstance = \"here\"\n{lines}\n", server.uri())
}

pub fn text(request: &Request) -> String {
    String::from_utf8(request.body.clone()).unwrap()
}

/// From here on it answers with this status, and has received nothing.
async fn answers(server: &MockServer, status: u16) {
    server.reset().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(status)).mount(server).await;
}

async fn documents(server: &MockServer) -> Vec<Value> {
    let requests = server.received_requests().await.unwrap();
    requests.iter().map(|it| serde_json::from_slice(&it.body).unwrap()).collect()
}

/// Waits until a service has got so many.
pub async fn got(machine: &Machine, server: &MockServer, count: usize) {
    for _ in 0..3000 {
        if server.received_requests().await.unwrap().len() >= count {
            return;
        }
        machine.clock.sleep(Duration::from_millis(20)).await;
    }
    panic!("{count} notices did not come");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_three_ticks_is_told_of_once_and_its_recovery_once() {
    let (hook, check) = (service().await, service().await);
    let machine = Machine::with_snapshots_of(Duration::from_millis(100)).await;
    machine.fault("list:status=503");
    let targets = notify(&hook, "") + &notify(&check, "format = \"healthchecks\"");
    machine.configure_api("retries = 0\nsettle = \"0s\"", &format!("{DENSE}{targets}"));
    let mut daemon = machine.daemon();
    machine.until("three failed ticks", || daemon.rotations("failed") >= 3).await;
    got(&machine, &hook, 1).await;
    machine.sandbox.provider().faults().clear();
    machine.until("a good one", || daemon.rotations("rotated") >= 1).await;
    got(&machine, &hook, 2).await;
    machine.until("more of them", || daemon.rotations("rotated") >= 3).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));

    let told = documents(&hook).await;
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!((&told[0]["event"], &told[1]["event"]), (&"failure".into(), &"recovery".into()));
    assert_eq!(told[0]["title"], "snapring on here: web failed");
    assert_eq!(told[0]["instance"], "here");
    let reason = told[0]["subjects"][0]["message"].as_str().unwrap();
    assert!(reason.contains("503 (service unavailable)"), "{reason}");
    let over = &told[1]["subjects"][0];
    assert_eq!(over["failing_since"], told[0]["subjects"][0]["failing_since"]);
    // Not one that the end of the daemon broke off.
    let by_fault = |it: &&Value| it["reason"].to_string().contains("503");
    let failed = daemon.events("rotation").iter().filter(by_fault).count() as u64;
    assert!(failed >= 3 && over["failed_rotations"] == failed, "{failed}: {over}");

    let pings = check.received_requests().await.unwrap();
    let paths: Vec<&str> = pings.iter().map(|it| it.url.path()).collect();
    assert_eq!(paths[0], format!("/{KEY}/fail"));
    assert!(paths.len() >= 2 && paths[1..].iter().all(|it| *it == format!("/{KEY}")), "{paths:?}");

    let events = daemon.events("notice");
    assert_eq!(events.len(), told.len() + pings.len(), "one for each: {events:#?}");
    assert!(events.iter().all(|it| it["outcome"] == "ok" && it["attempt"] == 1), "{events:#?}");
    assert_eq!(events.iter().filter(|it| it["to"] == hook.uri()).count(), told.len());
    assert!(!daemon.log().contains(KEY), "{}", daemon.log());
    for request in hook.received_requests().await.unwrap().iter().chain(&pings) {
        let said = format!("{:?}{}", request.headers, text(request));
        assert!(!said.contains(TOKEN) && request.headers.get("authorization").is_none(), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_one_notice_an_account_and_what_waits_goes_out_at_the_end() {
    let (first, second) = (service().await, service().await);
    let machine = Machine::new().await;
    machine.fault("list:status=401");
    machine.fault("account:status=401");
    let servers: String = (101..=103)
        .map(|id| format!("[[server]]\nid = {id}\nschedule = \"*/2 * * * * *\"\nkeep = 2\n"))
        .collect();
    let target = notify(&first, "format = \"slack\"");
    machine.configure(&format!("{servers}{target}"));
    let mut daemon = machine.daemon();
    machine.until("two ticks of all", || daemon.rotations("failed") >= 6).await;
    machine.configure(&format!("{servers}{target}{}", notify(&second, "")));
    daemon.signal(Signal::SIGHUP);
    machine.until("the reload", || !daemon.events("reload").is_empty()).await;
    machine.sandbox.provider().faults().clear();
    machine.until("a good one of each", || daemon.rotations("rotated") >= 3).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));

    let told: Vec<String> = first.received_requests().await.unwrap().iter().map(text).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("*snapring on here: the API token was refused*"), "{told:?}");
    assert!(told[1].contains("*snapring on here: the API token is accepted again*"), "{told:?}");
    let told = documents(&second).await;
    assert_eq!(told.len(), 2, "it came with the reload, and is told what fails: {told:#?}");
    for (document, event) in told.iter().zip(["failure", "recovery"]) {
        assert_eq!((&document["event"], &document["more"]), (&event.into(), &0.into()));
        assert_eq!(document["subjects"][0]["subject"], "account");
    }
    assert_eq!(daemon.events("notice").len(), 4);
}

/// No tick is near, and there are no reminders: nothing else would make up for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_daemon_could_not_tell_the_next_one_tells_at_once_and_once() {
    let (machine, hook) = (Machine::new().await, MockServer::start().await);
    let target = notify(&hook, "format = \"json\"\nremind = \"0s\"");
    let rare = DENSE.replace("*/2 * * * * *", "0 3 1 1 *");
    machine.configure_api("retries = 0\nsettle = \"0s\"", &format!("{rare}{target}"));
    answers(&hook, 404).await;
    machine.fault("list:status=503");
    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGUSR1);
    machine
        .until("it to be given up", || daemon.log().contains("could not deliver a notice to"))
        .await;
    daemon.kill();

    answers(&hook, 200).await;
    let mut daemon = machine.daemon();
    got(&machine, &hook, 1).await;
    let told = documents(&hook).await;
    assert_eq!((told.len(), &told[0]["event"]), (1, &"failure".into()), "{told:#?}");
    assert_eq!(told[0]["subjects"][0]["failed_rotations"], 1);
    machine.until("that to be known", || daemon.log().contains("told http")).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));

    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    machine.sandbox.provider().faults().clear();
    daemon.signal(Signal::SIGUSR1);
    machine.until("the end", || daemon.rotations("rotated") == 1).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    let told = documents(&hook).await;
    assert_eq!((told.len(), &told[1]["event"]), (2, &"recovery".into()), "{told:#?}");
    let text = told[1]["text"].as_str().unwrap();
    assert!(!text.contains("No notice of the failure"), "{text}");
}

/// S8: it is shown from the first failed attempt on, and the next daemon tells it, though the server is well by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_is_retried_is_shown_and_outlasts_the_daemon() {
    let (machine, hook) = (Machine::new().await, MockServer::start().await);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let http = format!("[http]\nlisten = \"{free}\"\n");
    let rare = DENSE.replace("*/2 * * * * *", "0 3 1 1 *");
    let target = notify(&hook, "format = \"json\"");
    machine.configure_api("retries = 0\nsettle = \"0s\"", &format!("{http}{rare}{target}"));
    answers(&hook, 503).await;
    machine.fault("list:status=503");
    let mut daemon = machine.daemon();
    machine.until("ready", || machine.run(&["health"]).0 == 0).await;
    daemon.signal(Signal::SIGUSR1);
    let warned = || daemon.events("notice").iter().filter(|it| it["level"] == "WARN").count();
    machine.until("the first attempt", || warned() == 1).await;
    machine.sandbox.provider().faults().clear();
    daemon.signal(Signal::SIGUSR1);
    machine.until("the server to be well", || daemon.rotations("rotated") == 1).await;
    let untold = format!("notices to {} have not been delivered since ", hook.uri());
    let (code, out, _) = machine.run(&["status"]);
    assert!(code == 1 && out.contains(&untold) && out.contains("; retrying until "), "{out}");
    let (code, out, _) = machine.run(&["status", "--max-age", "26h"]);
    assert!(code == 1 && out.starts_with(&format!("SNAPRING WARNING - {untold}")), "{out}");
    let metrics = get(free, "/metrics");
    let gauge = format!("\nsnapring_notices_undelivered{{to=\"{}\"}} 1\n", hook.uri());
    assert!(metrics.contains(&gauge), "{metrics}");
    assert_eq!(warned(), 1);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));

    answers(&hook, 200).await;
    let daemon = machine.daemon();
    machine.until("ready", || machine.run(&["health"]).0 == 0).await;
    let (code, out, _) = machine.run(&["status"]);
    assert!(code == 1 && out.contains(&untold), "{out}");
    daemon.signal(Signal::SIGUSR1);
    got(&machine, &hook, 1).await;
    let [told] = documents(&hook).await.try_into().unwrap();
    assert_eq!(told["event"], "recovery", "{told:#}");
    let text = told["text"].as_str().unwrap();
    assert!(text.contains("No notice of the failure could be delivered"), "{text}");
    machine.until("that to be known", || machine.run(&["status"]).0 == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notify_test_tells_each_and_says_what_it_answered() {
    let (good, bad, elsewhere) = (service().await, MockServer::start().await, service().await);
    let said = format!("no such hook: /{KEY}");
    let refusal = ResponseTemplate::new(404).set_body_string(said);
    Mock::given(any()).respond_with(refusal).mount(&bad).await;
    let redirects = MockServer::start().await;
    let redirect = ResponseTemplate::new(307).insert_header("location", elsewhere.uri());
    Mock::given(any()).respond_with(redirect).mount(&redirects).await;
    let machine = Machine::new().await;

    let all = notify(&good, "format = \"ntfy\"");
    machine.configure(&format!("{DENSE}{all}"));
    let (code, out, errors) = machine.run(&["notify-test"]);
    assert_eq!(code, 0, "{out}{errors}");
    assert!(out.contains(&good.uri()) && out.contains("ntfy") && !out.contains(KEY), "{out}");
    let [letter] = good.received_requests().await.unwrap().try_into().unwrap();
    assert_eq!(letter.headers["title"], "snapring on here: a test");
    assert_eq!(text(&letter), "This is a test: notices of snapring arrive here.");
    assert!(letter.headers["user-agent"].to_str().unwrap().starts_with("snapring/"));

    let all = all + &notify(&bad, "format = \"slack\"") + &notify(&redirects, "");
    machine.configure(&format!("{DENSE}{all}"));
    let (code, out, errors) = machine.run(&["notify-test", "--json"]);
    assert_eq!(code, 1, "{errors}");
    let rows: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(rows[0]["outcome"], "ok");
    assert_eq!((&rows[1]["status"], &rows[1]["outcome"]), (&404.into(), &"not_found".into()));
    assert_eq!(rows[1]["answer"], "404: no such hook: [webhook]");
    assert_eq!(rows[2]["outcome"], "rejected");
    assert!(!format!("{out}{errors}").contains(KEY), "{out}{errors}");
    assert_eq!(elsewhere.received_requests().await.unwrap().len(), 0, "redirects lead nowhere");

    machine.configure(DENSE);
    let (code, _, errors) = machine.run(&["notify-test"]);
    assert_eq!(code, 1);
    assert!(errors.contains("there is no [[notify]] in"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_the_address_is_used_and_never_shown() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path(format!("/{KEY}")))
        .and(basic_auth("me", "hunter2"))
        .respond_with(ResponseTemplate::new(200))
        .mount(&server)
        .await;
    let machine = Machine::new().await;
    let address = server.uri().replace("http://", "http://me:hunter2@");
    let target = |rest: &str| format!("{DENSE}[[notify]]\nurl = \"{address}/{KEY}\"\n{rest}");
    machine.configure(&target(""));
    let (code, out, errors) = machine.run(&["notify-test"]);
    assert_eq!(code, 0, "{out}{errors}");
    assert!(!out.contains("hunter2") && out.contains(&server.uri()), "{out}");

    machine.configure(&target("format = \"pager\"\nretries = 3\n"));
    for arguments in [&["check"][..], &["check", "--json"], &["notify-test"], &["run"]] {
        let (code, out, errors) = machine.run(arguments);
        let said = format!("{out}{errors}");
        assert_eq!(code, 78, "{said}");
        assert!(said.contains("there is no format"), "{said}");
        assert!(!said.contains("hunter2") && !said.contains(KEY), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_told_without_the_address() {
    let machine = Machine::new().await;
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let target = format!("[[notify]]\nurl = \"http://127.0.0.1:{port}/{KEY}\"\n");
    machine.configure(&format!("{DENSE}{target}"));
    let (code, out, errors) = machine.run(&["notify-test"]);
    assert_eq!(code, 1, "{errors}");
    assert!(out.contains("not delivered") && out.contains("refused"), "{out}");
    assert!(!format!("{out}{errors}").contains(KEY), "{out}{errors}");
}
