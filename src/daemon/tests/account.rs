//! The list of the account's servers: what it costs, and that nothing depends on it.

use super::*;
use crate::call::Operation;
use crate::daemon::account::keep_listing_servers;

const MINUTE: Duration = Duration::from_secs(60);

fn asked(stage: &Stage) -> usize {
    stage.memory.provider.lock().unwrap().count(Operation::Servers)
}

/// Lets the daemon ask for this long.
async fn ask_for(daemon: &Daemon, stage: &Stage, span: Duration) {
    let clock = stage.clock.clone();
    tokio::select! {
        never = keep_listing_servers(daemon, &clock) => match never {},
        () = stage.clock.sleep(span) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn the_servers_are_asked_for_once_an_hour_and_a_reload_changes_what_they_say() {
    let stage = Stage::at("2026-11-23T12:00:00Z");
    let nightly = |id| server(id, "schedule = \"0 3 * * *\"");
    let daemon = stage.start(&settings(&(nightly(101) + &nightly(999)))).await;
    assert_eq!(daemon.view().account(), Default::default(), "nothing is known");
    ask_for(&daemon, &stage, 5 * 60 * MINUTE - MINUTE).await;
    assert_eq!(asked(&stage), 5);
    let account = daemon.view().account();
    let coverage = account.coverage.unwrap();
    assert_eq!((coverage.uncovered.count, coverage.missing.count), (2, 1));
    assert!(account.listed_at.is_some() && account.problem.is_none());

    daemon.reload(&settings(&(nightly(101) + &nightly(102) + &nightly(103))), None);
    assert!(daemon.view().account().coverage.unwrap().is_whole(), "without a call");
    assert_eq!(asked(&stage), 5);
    stage.pass(26).await;
    assert_eq!(daemon.view().account().coverage, None, "that was more than a day ago");
    daemon.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_may_not_list_servers_is_asked_once_a_day_and_rotates_as_ever() {
    let stage = Stage::at("2026-11-23T12:00:00Z");
    stage.memory.provider.lock().unwrap().add_fault("servers:status=403".parse().unwrap());
    let daemon = stage.start(&settings(&server(101, "schedule = \"0 * * * *\""))).await;
    ask_for(&daemon, &stage, 47 * 60 * MINUTE).await;
    assert_eq!(asked(&stage), 2);
    let account = daemon.view().account();
    assert!(account.problem.unwrap().contains("403") && account.coverage.is_none());
    assert_eq!(
        daemon.view().accounts()[0].token,
        crate::provider::token_state::TokenState::Accepted
    );
    daemon.finish().await;
    let told = stage.told();
    assert!(told.len() >= 46 && told.iter().all(|it| it == "101 rotated"), "{told:?}");
}

/// One request at a time, and those for the servers are never answered: each rotation starts at its tick.
#[tokio::test(start_paused = true)]
async fn a_list_that_never_comes_delays_no_rotation_and_is_no_trouble_of_a_server() {
    let stage = Stage::at("2026-11-23T11:59:30Z");
    stage.memory.provider.lock().unwrap().add_fault("servers:hang".parse().unwrap());
    let api = "[api]\nmax_in_flight = 1\n";
    let text = api.to_owned() + &server(101, "schedule = \"0 * * * *\"");
    let daemon = stage.start(&settings(&text)).await;
    ask_for(&daemon, &stage, 6 * 60 * MINUTE).await;
    assert!(asked(&stage) >= 5, "{}", asked(&stage));
    let late: Vec<i64> = stage
        .memory
        .provider
        .lock()
        .unwrap()
        .calls()
        .iter()
        .filter(|call| call.operation == Some(Operation::Create))
        .map(|call| call.at.as_second() % 3600)
        .collect();
    assert!(late.len() >= 6 && late.iter().all(|seconds| *seconds <= 2), "{late:?}");
    let row = &daemon.view().rows()[0];
    assert!(row.health.trouble().is_none(), "{row:?}");
    daemon.finish().await;
    assert!(stage.told().iter().all(|it| it == "101 rotated"), "{:?}", stage.told());
}
