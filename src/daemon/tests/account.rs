//! The list of the account's servers: what it costs, and that nothing depends on it.

use jiff::tz::TimeZone;

use super::*;
use crate::call::Operation;
use crate::daemon::account::keep_listing_servers;
use crate::daemon::covering::{Changed, Covering};

pub(super) const MINUTE: Duration = Duration::from_secs(60);

fn asked(stage: &Stage) -> usize {
    stage.memory.provider.lock().unwrap().count(Operation::Servers)
}

/// Lets the daemon ask for this long.
async fn ask_for(daemon: &Daemon, stage: &Stage, span: Duration) {
    let covering =
        Covering::new(settings(&server(101, "schedule = \"0 3 * * *\"")), Default::default());
    cover_for(daemon, &covering, stage, span).await;
}

/// The same, and puts the servers in force that a `cover` adds.
pub(super) async fn cover_for(daemon: &Daemon, covering: &Covering, stage: &Stage, span: Duration) {
    let clock = stage.clock.clone();
    let put_in_force = |changed: Changed| daemon.put_in_force(&changed.settings, None);
    tokio::select! {
        never = keep_listing_servers(daemon, covering, put_in_force, &clock) => match never {},
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

const COVER: &str = "[api]\nsettle = \"20s\"\ncover = \"nightly\"\n[group.nightly]\nschedule = \"0 */3 * * *\"\nkeep = 3\n";

/// A daemon that covers the account, and what it does.
pub(super) async fn covering(stage: &Stage, servers: &str) -> (Daemon, Covering) {
    let covering = Covering::new(settings(&format!("{COVER}{servers}")), Default::default());
    let daemon = stage.start(&covering.settings()).await;
    (daemon, covering)
}

#[tokio::test(start_paused = true)]
async fn each_server_of_a_covered_account_is_rotated_and_new_ones_within_the_hour() {
    let stage = Stage::at("2026-11-23T11:30:00Z");
    let own = server(102, "name = \"db\"\nschedule = \"0 3 * * *\"");
    let (daemon, covering) = covering(&stage, &own).await;
    assert_eq!(daemon.outlook().0, 1);
    cover_for(&daemon, &covering, &stage, 40 * MINUTE).await;
    assert_eq!(daemon.outlook().0, 3);
    assert!(daemon.view().account().coverage.unwrap().is_whole());
    let mut told = stage.told();
    told.sort();
    assert_eq!(told, ["101 rotated", "103 rotated"], "102 has a schedule of its own");
    stage.memory.provider.lock().unwrap().add_server(ServerId::new(104), "new");
    cover_for(&daemon, &covering, &stage, 3 * 60 * MINUTE).await;
    assert!(stage.told().contains(&"104 rotated".to_owned()), "{:?}", stage.told());
    daemon.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_covered_server_that_is_deleted_at_the_provider_troubles_no_other_and_is_forgotten() {
    let stage = Stage::at("2026-11-23T11:30:00Z");
    let (daemon, covering) = covering(&stage, "").await;
    cover_for(&daemon, &covering, &stage, 5 * MINUTE).await;
    assert_eq!(daemon.outlook().0, 3);
    stage.memory.provider.lock().unwrap().remove_server(ServerId::new(103));
    cover_for(&daemon, &covering, &stage, 6 * 60 * MINUTE).await;
    let told = stage.told();
    let of = |it: &str| told.iter().filter(|report| *report == it).count();
    assert_eq!((of("101 rotated"), of("102 rotated")), (2, 2), "{told:?}");
    assert_eq!(of("103 failed"), 1, "until two lists lack it: {told:?}");
    let after: Vec<_> =
        told.iter().filter(|it| it.starts_with("103")).skip(of("103 failed")).collect();
    assert!(after.iter().all(|it| *it == "103 skipped"), "{told:?}");
    assert_eq!(daemon.outlook().0, 3, "it is shown for a day");
    cover_for(&daemon, &covering, &stage, 24 * 60 * MINUTE).await;
    assert_eq!(daemon.outlook().0, 2);
    daemon.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_covered_account_that_cannot_be_listed_is_asked_again_soon_and_that_is_seen() {
    let stage = Stage::at("2026-11-23T12:01:00Z");
    stage.memory.provider.lock().unwrap().add_fault("servers:status=503,times=4".parse().unwrap());
    let (daemon, covering) = covering(&stage, "").await;
    cover_for(&daemon, &covering, &stage, MINUTE / 10).await;
    let account = daemon.view().account();
    assert!(account.cover_problem.is_some(), "{account:?}");
    let findings = account.findings(&TimeZone::UTC);
    assert!(findings[0].contains("`cover` gives no policy to new ones"), "{findings:?}");
    assert!(findings[0].contains(" (since 2026-11-23 12:01:"), "{findings:?}");
    assert!(daemon.outlook().0 == 0);
    cover_for(&daemon, &covering, &stage, 15 * MINUTE).await;
    assert_eq!(daemon.outlook().0, 3, "long before the next hour");
    assert_eq!(daemon.view().account().cover_problem, None);
    daemon.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_list_forgets_no_covered_server() {
    let stage = Stage::at("2026-11-23T11:30:00Z");
    let (daemon, covering) = covering(&stage, "").await;
    cover_for(&daemon, &covering, &stage, 5 * MINUTE).await;
    stage.memory.provider.lock().unwrap().add_fault("servers:status=403".parse().unwrap());
    cover_for(&daemon, &covering, &stage, 30 * 60 * MINUTE).await;
    assert_eq!(daemon.outlook().0, 3);
    assert!(daemon.view().account().cover_problem.unwrap().contains("403"));
    let told = stage.told();
    assert_eq!(told.iter().filter(|it| *it == "103 rotated").count(), 10, "{told:?}");
    daemon.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_covers_an_account_takes_effect_at_once() {
    let stage = Stage::at("2026-11-23T12:05:00Z");
    let own = server(102, "schedule = \"0 3 * * *\"");
    let covering = Covering::new(settings(&own), Default::default());
    let daemon = stage.start(&covering.settings()).await;
    cover_for(&daemon, &covering, &stage, 10 * MINUTE).await;
    assert_eq!(daemon.outlook().0, 1);
    let in_force = covering.reload(settings(&format!("{COVER}{own}")));
    daemon.reload(&in_force, None);
    cover_for(&daemon, &covering, &stage, MINUTE).await;
    assert_eq!(daemon.outlook().0, 3);
    let without = covering.reload(settings(&own));
    daemon.reload(&without, None);
    assert_eq!(daemon.outlook().0, 1, "and no longer covering it, too");
    daemon.finish().await;
}
