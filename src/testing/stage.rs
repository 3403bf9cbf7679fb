//! Daemons and servers to look at, for tests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::clock::Clock;
use crate::config;
use crate::config::types::Settings;
use crate::daemon::scheduler::{CronScheduler, Scheduler};
use crate::daemon::view::{ServerView, View};
use crate::daemon::{Daemon, Dependencies};
use crate::health::Ended;
use crate::naming::{SnapshotId, Tick};
use crate::provider::client::Client;
use crate::provider::credentials::Credentials;
use crate::report::{Report, RotationOutcome};
use crate::ring::Holder;
use crate::sandbox::in_memory::InMemory;
use crate::sandbox::provider::{Options, Provider};
use crate::snapshot::Status;
use crate::status::{RingSeen, ServerStatus, SlotSeen};

/// A daemon on a provider in memory.
pub(crate) struct Stage {
    pub(crate) clock: Clock,
    pub(crate) memory: InMemory,
    pub(crate) daemon: Daemon,
    reports: Arc<Mutex<Vec<Report>>>,
}

impl Stage {
    pub(crate) async fn start(clock: Clock, text: &str) -> Self {
        Self::start_with(clock, text, Box::<CronScheduler>::default()).await
    }

    pub(crate) async fn start_with(
        clock: Clock,
        text: &str,
        scheduler: Box<dyn Scheduler>,
    ) -> Self {
        let token = || SecretString::from("vps_test");
        let provider = Provider::new(Options::new(5, token(), 1));
        let memory = InMemory::new(provider, clock.clone(), Duration::from_secs(30));
        let settings = settings(text);
        let transport = Box::new(memory.clone());
        let credentials = Credentials::known(token());
        let client = Client::new(transport, &settings.api, credentials, clock.clone(), 1);
        let reports = Arc::<Mutex<Vec<Report>>>::default();
        let told = Arc::clone(&reports);
        let on_report = move |report: &Report, _| told.lock().unwrap().push(report.clone());
        let dependencies = Dependencies::in_process(clock.clone(), Box::new(on_report));
        let daemon = Daemon::start(&settings, client, dependencies, scheduler).await.unwrap();
        Self { clock, memory, daemon, reports }
    }

    pub(crate) fn view(&self) -> View {
        self.daemon.view()
    }

    pub(crate) fn fault(&self, fault: &str) {
        self.memory.provider.lock().unwrap().add_fault(fault.parse().unwrap());
    }

    /// Rotates all enabled servers, and waits until this many rotations have ended in all. What the
    /// start owes may come to the same tick, and is skipped then.
    pub(crate) async fn rotate(&self, ended: usize) {
        self.daemon.rotate_all().await;
        let count = || {
            let reports = self.reports.lock().unwrap();
            reports.iter().filter(|it| it.outcome != RotationOutcome::Skipped).count()
        };
        while count() < ended {
            self.clock.sleep(Duration::from_secs(1)).await;
        }
    }
}

pub(crate) fn settings(text: &str) -> Settings {
    config::parse("test.toml", text).unwrap_or_else(|it| panic!("{}", it.render(false))).settings
}

/// A `[[server]]`.
pub(crate) fn server(id: u64, name: &str, lines: &str) -> String {
    format!("[[server]]\nid = {id}\nname = {name:?}\nschedule = \"0 3 * * *\"\nkeep = 3\n{lines}\n")
}

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Noon of the day of all tests.
pub(crate) fn noon() -> Timestamp {
    time("2026-11-23T12:00:00Z")
}

pub(crate) fn ended(at: &str, outcome: RotationOutcome, reason: &str) -> Ended {
    let reason = (!reason.is_empty()).then(|| reason.into());
    Ended { tick: Tick::at(time(at)), at: time(at), outcome, reason, cause: None }
}

/// A server of which this is remembered, and nothing else known.
pub(crate) fn row(name: &str, lines: &str, remembered: &[Ended]) -> ServerView {
    numbered(101, name, lines, remembered)
}

pub(crate) fn numbered(id: u64, name: &str, lines: &str, remembered: &[Ended]) -> ServerView {
    let mut status = ServerStatus::default();
    remembered.iter().for_each(|ended| status.remember(ended));
    let server = Arc::clone(&settings(&server(id, name, lines)).servers[0]);
    ServerView::of(server, status, None, None, noon())
}

/// A slot that holds a snapshot.
pub(crate) fn slot(id: u64, name: &str, holder: Holder, status: Status, at: &str) -> SlotSeen {
    SlotSeen {
        id: SnapshotId(id),
        other_name: (!matches!(holder, Holder::Managed(_))).then(|| name.into()),
        holder,
        status,
        created_at: time(at),
        size_mb: Some(4856),
    }
}

/// One of ours, of this second.
pub(crate) fn managed(id: u64, at: &str, status: Status) -> SlotSeen {
    let tick = Tick::at(time(at));
    slot(
        id,
        &format!("snapring-{}", tick.instant().strftime("%Y%m%dT%H%M%SZ")),
        Holder::Managed(tick),
        status,
        at,
    )
}

pub(crate) fn ring(slots: Vec<SlotSeen>) -> RingSeen {
    RingSeen { at: noon(), prefix: "snapring".parse().unwrap(), slots }
}
