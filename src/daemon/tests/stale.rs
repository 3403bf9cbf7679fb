//! Servers whose last success is too old although no rotation ended badly.

use super::*;
use crate::daemon::listeners::Listeners;
use crate::daemon::stale::tell_of_stale_servers;
use crate::health::{ServerHealth, TroubleKind};
use crate::notify::told::ToldBook;
use crate::status::counts::Counts;
use crate::store::Store;
use crate::store::place::Place;
use crate::testing::notes::Notes;

/// Missed ticks do not run.
const DAILY: &str = "schedule = \"0 3 * * *\"\ntimezone = \"Europe/Berlin\"\ncatch_up = \"0s\"";

fn health(daemon: &Daemon) -> ServerHealth {
    daemon.view().rows().remove(0).health
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_sleeps_through_its_ticks_leaves_a_server_in_trouble() {
    let notes = Notes::default();
    let _listening = notes.listen();
    let stage = Stage::at("2026-11-23T01:00:00Z");
    let settings = settings(&server(101, DAILY));
    let daemon = stage.start(&settings).await;
    let clock = stage.clock.clone();
    let hanging = Arc::new(Hanging(Arc::default()));
    let listeners = Listeners {
        service: ServiceStatus::new(
            ServiceManager::from_environment(|_| None),
            None,
            clock.clone(),
        ),
        store: Store::open(Place::Memory, clock.clone()),
        notices: Notices::start(
            &[],
            &settings.servers,
            [],
            ToldBook::none(),
            clock.clone(),
            hanging,
            Counts::default(),
        ),
    };
    let watching = async {
        assert_eq!(health(&daemon), ServerHealth::Waiting);
        stage.pass(2).await;
        assert_eq!(health(&daemon), ServerHealth::Ok);
        // It is awake for a few minutes at noon.
        for _ in 0..2 {
            clock.step(SignedDuration::from_hours(24));
            clock.sleep(Duration::from_secs(300)).await;
        }
        assert_eq!(stage.told(), ["101 rotated"]);
        assert_eq!(notes.of("stale").len(), 1, "once");
        let health = health(&daemon);
        let trouble = health.trouble().unwrap();
        assert_eq!((trouble.kind, trouble.rotations), (TroubleKind::Stale, 0));
        assert!(daemon.view().rows()[0].is_stale);
        let reason = trouble.reason.as_deref().unwrap();
        assert!(reason.starts_with("no rotation has succeeded since 2026-11-23 03:0"), "{reason}");
    };
    tokio::select! {
        never = tell_of_stale_servers(&daemon, &listeners, &clock) => match never {},
        () = watching => {}
    }
    let (level, fields) = notes.of("stale").remove(0);
    assert_eq!(level.to_string(), "WARN");
    assert!(fields["message"].starts_with("server-101: no rotation has succeeded since"));
    daemon.shutdown().await;
}

/// A schedule owes nothing from before it was in force.
#[tokio::test(start_paused = true)]
async fn a_tighter_schedule_is_no_trouble_when_it_comes_into_force() {
    let stage = Stage::at("2026-11-23T01:00:00Z");
    let monthly = settings(&server(101, "schedule = \"0 3 23 * *\""));
    let daemon = stage.start(&monthly).await;
    stage.pass(24 * 10).await;
    assert_eq!((stage.told().len(), health(&daemon)), (1, ServerHealth::Ok));
    let daily = settings(&server(101, DAILY));
    daemon.reload(&daily, None);
    assert_eq!(health(&daemon), ServerHealth::Ok, "ten days old");
    stage.pass(24).await;
    assert_eq!((stage.told().len(), health(&daemon)), (2, ServerHealth::Ok));
    daemon.shutdown().await;
}
