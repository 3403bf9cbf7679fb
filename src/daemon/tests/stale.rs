//! Servers whose last success is too old although no rotation ended badly.

use super::account::{MINUTE, cover_for, covering};
use super::*;
use crate::daemon::listeners::Listeners;
use crate::daemon::stale::tell_what_no_report_shows;
use crate::health::{ServerHealth, TroubleKind};
use crate::notify::http::PostAnswer;
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

/// Who hears of what this daemon does.
fn listeners(settings: &Settings, stage: &Stage, post: Arc<dyn Post>) -> Listeners {
    let clock = stage.clock.clone();
    let manager = ServiceManager::from_environment(|_| None);
    Listeners {
        service: ServiceStatus::new(manager, None, clock.clone()),
        store: Store::open(Place::Memory, clock.clone()),
        notices: Notices::start(
            settings.audience(),
            [],
            ToldBook::none(),
            clock,
            post,
            Counts::default(),
        ),
    }
}

/// A service that takes all, and what it was told.
#[derive(Default)]
struct Taking(Mutex<Vec<String>>);

impl Taking {
    fn titles(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Post for Taking {
    fn post<'a>(&'a self, message: &'a Message) -> Posting<'a> {
        let title = message.headers.iter().find(|(name, _)| *name == "Title");
        self.0.lock().unwrap().extend(title.map(|(_, title)| title.clone()));
        let taken = PostAnswer { status: 200, retry_after: None, body: "".into() };
        Box::pin(async { Ok(taken) })
    }
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
    let listeners = listeners(&settings, &stage, hanging);
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
        never = tell_what_no_report_shows(&daemon, &listeners, &clock) => match never {},
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

/// One list that fails is no news: it is asked for again, soon. What lasts is told, and that it is over.
#[tokio::test(start_paused = true)]
async fn a_cover_that_does_not_know_its_servers_for_long_is_told() {
    let stage = Stage::at("2026-11-23T11:30:00Z");
    let told = Arc::new(Taking::default());
    let notify =
        "[[notify]]\nurl = \"https://hook.example/x\"\ninstance = \"here\"\nformat = \"ntfy\"\n";
    let (daemon, covering) = covering(&stage, notify).await;
    let listeners = listeners(&covering.settings(), &stage, Arc::clone(&told) as Arc<dyn Post>);
    let pass = async |minutes: u32| {
        let looking = tell_what_no_report_shows(&daemon, &listeners, &stage.clock);
        let listing = cover_for(&daemon, &covering, &stage, minutes * MINUTE);
        tokio::select! {
            never = looking => match never {},
            () = listing => {}
        }
    };
    let provider = || stage.memory.provider.lock().unwrap();
    pass(5).await;
    provider().add_fault("servers:status=503".parse().unwrap());
    pass(10).await;
    provider().faults().clear();
    pass(120).await;
    assert_eq!(told.titles(), Vec::<String>::new(), "that is no news");
    provider().add_fault("servers:status=503".parse().unwrap());
    pass(30).await;
    provider().faults().clear();
    pass(10).await;
    let does_not = "snapring on here: `cover` does not know the servers of the account";
    let knows = "snapring on here: `cover` knows the servers of the account again";
    assert_eq!(told.titles(), [does_not, knows]);
    daemon.finish().await;
}
