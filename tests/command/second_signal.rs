//! What a second signal leaves.

use std::time::Duration;

use nix::sys::signal::Signal;
use snapring::call::Operation;

use crate::machine::{JSON_LOG, Machine};

/// Forty servers that look together: S7 holds for their shared listing too.
async fn second_signal(first: &str, rotate: bool) {
    let machine = Machine::with(|options| {
        *options = snapring::sandbox::provider::Options::new(
            40,
            secrecy::SecretString::from(crate::machine::TOKEN),
            1,
        );
        options.completion = Duration::from_secs(3600)..=Duration::from_secs(3600);
    })
    .await;
    let servers: String = (101..141)
        .map(|id| {
            format!(
                "[[server]]\nid = {id}\nkeep = 3\nschedule = \"0 3 1 1 *\"\ncatch_up = \"0s\"\n"
            )
        })
        .collect();
    machine.configure_api(
        "settle = \"0s\"\nretries = 1\ntimeout = \"60s\"",
        &format!("{servers}{JSON_LOG}"),
    );
    machine.fault(first);
    let arguments: &[&str] = if rotate { &["rotate", "--all"] } else { &["run"] };
    let mut daemon = machine.start(machine.command(arguments), |_, _| {});
    machine
        .until("a call under way", || machine.sandbox.provider().count(Operation::List) > 0)
        .await;
    daemon.signal(Signal::SIGTERM);
    machine.until("the first one to be heard", || daemon.log().contains("stopping")).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(1));
    assert_eq!(
        daemon.events("api").len(),
        machine.sandbox.provider().calls().len(),
        "{}",
        daemon.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_leaves_the_event_of_the_shared_listing_of_a_daemon() {
    for _ in 0..5 {
        second_signal("list:hang", false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_leaves_the_event_of_the_shared_listing_of_a_person() {
    for _ in 0..5 {
        second_signal("list:hang", true).await;
    }
}
