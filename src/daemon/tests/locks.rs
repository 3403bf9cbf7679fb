//! Ticks of servers that another process works on, or that are being restored.

use tempfile::TempDir;

use super::*;
use crate::call::Operation;
use crate::health::{ServerHealth, TroubleKind};
use crate::naming::SnapshotId;
use crate::rotation::lock::RestoreAnswer;
use crate::testing::notes::Notes;

const WEB: ServerId = ServerId::new(101);

/// A machine with one daemon, and the lock files that other processes use.
struct Shared {
    stage: Stage,
    directory: TempDir,
    daemon: Option<Daemon>,
}

impl Shared {
    async fn at(begin: &str, schedule: &str) -> Self {
        let stage = Stage::at(begin);
        let directory = tempfile::tempdir().unwrap();
        let mut shared = Self { stage, directory, daemon: None };
        let line = format!("schedule = \"{schedule}\"\ntimezone = \"Europe/Berlin\"");
        let settings = settings(&server(101, &line));
        let stage = &shared.stage;
        let client = Client::new(
            Box::new(stage.memory.clone()),
            &settings.api,
            Credentials::known(SecretString::from(TOKEN)),
            stage.clock.clone(),
            1,
        );
        let reports = Arc::clone(&stage.reports);
        let on_report = move |report: &Report, _| reports.lock().unwrap().push(report.clone());
        let dependencies = Dependencies {
            exclusion: shared.process(),
            ..Dependencies::in_process(stage.clock.clone(), Box::new(on_report))
        };
        let scheduler = Box::<CronScheduler>::default();
        let daemon = Daemon::start(&settings, client, dependencies, scheduler).await.unwrap();
        shared.daemon = Some(daemon);
        shared
    }

    /// What another process claims servers with.
    fn process(&self) -> Exclusion {
        let lock_file = self.directory.path().join("rotation.lock");
        Exclusion::on_machine(&lock_file, "account", &self.stage.clock).unwrap()
    }

    /// What `snapring restore` notes before it sends the restore, and leaves behind.
    async fn restore(&self) {
        let claim = self.process().claim(WEB).unwrap();
        let answer = RestoreAnswer::Confirmed;
        claim.restore_begins((SnapshotId(801), &"snapring-x".into()), None, answer).await.unwrap();
    }

    async fn seconds(&self, seconds: u64) {
        self.stage.clock.sleep(Duration::from_secs(seconds)).await;
    }

    /// When each snapshot was created, and its name.
    fn created(&self) -> Vec<(String, String)> {
        let provider = self.stage.memory.provider.lock().unwrap();
        let creates = provider.acts().iter().filter(|act| act.operation == Operation::Create);
        let shown = |act: &crate::sandbox::provider::Act| {
            (act.at.strftime("%H:%M:%S").to_string(), act.row.name.clone())
        };
        creates.map(shown).collect()
    }

    fn reason(&self, nth: usize) -> String {
        self.stage.reports.lock().unwrap()[nth].reason.clone().unwrap_or_default()
    }
}

fn both(at: &str, name: &str) -> (String, String) {
    (at.to_owned(), name.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_tick_waits_for_what_another_process_does_and_runs_as_soon_as_it_can() {
    let shared = Shared::at("2026-11-23T01:59:00Z", "0 3 * * *").await;
    let claim = shared.process().claim(WEB).unwrap();
    shared.seconds(60 + 600).await;
    assert_eq!(shared.stage.told(), Vec::<String>::new(), "it waits");
    drop(claim);
    shared.stage.pass(1).await;
    assert_eq!(shared.stage.told(), ["101 rotated"]);
    let created = shared.created();
    assert!(created[0].0.as_str() < "02:10:05", "{created:?}");
    assert_eq!(created[0].1, "snapring-20261123T020000Z", "its own tick");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_is_overtaken_by_the_next_one_while_it_waits_is_skipped_and_says_why() {
    let shared = Shared::at("2026-11-23T00:59:00Z", "0 * * * *").await;
    let claim = shared.process().claim(WEB).unwrap();
    shared.seconds(60 + 90 * 60).await;
    assert_eq!(shared.stage.told(), ["101 skipped"]);
    let reason = shared.reason(0);
    assert!(reason.contains("another snapring process on this machine"), "{reason}");
    drop(claim);
    shared.seconds(20 * 60).await;
    assert_eq!(shared.stage.told(), ["101 skipped", "101 rotated"]);
    assert_eq!(shared.created()[0].1, "snapring-20261123T020000Z");
}

/// One skip may be chance. From the second in a row on the server is in trouble, until a rotation ends well.
#[tokio::test(start_paused = true)]
async fn a_server_that_another_process_holds_for_two_ticks_is_in_trouble() {
    let notes = Notes::default();
    let _listening = notes.listen();
    let shared = Shared::at("2026-11-23T00:59:00Z", "0 * * * *").await;
    let row = || shared.daemon.as_ref().unwrap().view().rows().remove(0);
    let claim = shared.process().claim(WEB).unwrap();
    shared.seconds(90 * 60).await;
    assert_eq!(shared.stage.told(), ["101 skipped"]);
    assert_eq!(row().health, ServerHealth::Waiting);
    shared.stage.pass(1).await;
    assert_eq!(shared.stage.told(), ["101 skipped"; 2]);
    let health = row().health;
    let trouble = health.trouble().unwrap();
    assert_eq!((trouble.kind, trouble.rotations), (TroubleKind::Skipped, 2));
    assert_eq!(trouble.since.to_string().get(..16), Some("2026-11-23T02:00"));
    let reason = trouble.reason.as_deref().unwrap();
    assert!(reason.contains("another snapring process on this machine"), "{reason}");
    drop(claim);
    shared.seconds(20 * 60).await;
    assert_eq!(shared.stage.told(), ["101 skipped", "101 skipped", "101 rotated"]);
    assert_eq!(row().health, ServerHealth::Ok);
    let levels: Vec<String> =
        notes.of("rotation").iter().map(|(level, _)| level.to_string()).collect();
    assert_eq!(levels, ["INFO", "WARN", "INFO"]);
}

/// A person who asks is told at once, and no tick is lost.
#[tokio::test(start_paused = true)]
async fn what_a_person_asks_for_while_a_rotation_runs_is_no_trouble() {
    let shared = Shared::at("2026-11-23T12:00:00Z", "0 3 * * *").await;
    let daemon = shared.daemon.as_ref().unwrap();
    for _ in 0..4 {
        daemon.rotate_all().await;
        shared.seconds(2).await;
    }
    assert_eq!(shared.stage.told(), ["101 skipped"; 3]);
    assert_eq!(daemon.view().rows()[0].health, ServerHealth::Waiting);
    shared.stage.pass(1).await;
    assert_eq!(daemon.view().rows()[0].health, ServerHealth::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_wait() {
    let mut shared = Shared::at("2026-11-23T01:59:00Z", "0 3 * * *").await;
    let _claim = shared.process().claim(WEB).unwrap();
    shared.seconds(120).await;
    shared.daemon.take().unwrap().shutdown().await;
    assert_eq!(shared.stage.told(), ["101 failed"]);
    let report = shared.stage.reports.lock().unwrap()[0].clone();
    assert_eq!(report.known_cause, Some(crate::report::KnownCause::Shutdown), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn no_rotation_starts_while_the_server_is_being_restored() {
    let shared = Shared::at("2026-11-23T01:59:00Z", "0 3 * * *").await;
    shared.seconds(30).await;
    shared.restore().await;
    shared.stage.pass(1).await;
    assert_eq!(shared.stage.told(), ["101 rotated"]);
    let created = shared.created();
    // The restore began at 01:59:30.
    assert!(("02:29:30".."02:29:45").contains(&created[0].0.as_str()), "{created:?}");
    assert_eq!(created[0].1, "snapring-20261123T020000Z");
    let provider = shared.stage.memory.provider.lock().unwrap();
    let calls = provider.calls().iter().filter(|call| call.server == Some(WEB));
    let early = calls.filter(|call| {
        let at = call.at.strftime("%H:%M:%S").to_string();
        ("02:00:00".."02:29:30").contains(&at.as_str())
    });
    assert_eq!(early.count(), 0);
}

/// The command that has restored was killed: the daemon sees the end itself.
#[tokio::test(start_paused = true)]
async fn a_tick_waits_for_a_restore_only_until_the_list_of_servers_shows_its_end() {
    let shared = Shared::at("2026-11-23T01:59:00Z", "0 3 * * *").await;
    shared.seconds(30).await;
    shared.restore().await;
    let provider = || shared.stage.memory.provider.lock().unwrap();
    provider().restore_begins(WEB, shared.stage.clock.now().wall);
    // Looks come each 15 s from 02:00:00 on. The one at 02:05:15 gets a copy from before the restore, and the one
    // that must confirm it does not.
    shared.seconds(331).await;
    provider().restore_ends(WEB);
    shared.seconds(15).await;
    provider().restore_begins(WEB, shared.stage.clock.now().wall);
    shared.seconds(590).await;
    assert_eq!(shared.stage.told(), Vec::<String>::new(), "it waits");
    assert_eq!(provider().count(Operation::Create), 0);
    shared.stage.pass(1).await;
    assert_eq!(shared.stage.told(), ["101 rotated"]);
    let created = shared.created();
    // Restored until 02:15:16.
    assert!(("02:15:16".."02:15:40").contains(&created[0].0.as_str()), "{created:?}");
    assert_eq!(created[0].1, "snapring-20261123T020000Z", "its own tick");
}

/// Nothing of a rotation depends on it.
#[tokio::test(start_paused = true)]
async fn where_servers_cannot_be_listed_a_restore_holds_its_server_for_as_long_as_one_can_take() {
    for fault in ["servers:status=403", "servers:hang", "servers:garbage"] {
        let shared = Shared::at("2026-11-23T01:59:00Z", "0 3 * * *").await;
        shared.seconds(30).await;
        shared.restore().await;
        shared.stage.memory.provider.lock().unwrap().add_fault(fault.parse().unwrap());
        shared.stage.pass(1).await;
        assert_eq!(shared.stage.told(), ["101 rotated"], "{fault}");
        let created = shared.created();
        assert!(("02:29:30".."02:30:30").contains(&created[0].0.as_str()), "{fault}: {created:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_is_due_again_before_the_restore_is_over_is_skipped_and_says_why() {
    let shared = Shared::at("2026-11-23T01:59:00Z", "*/20 * * * *").await;
    shared.seconds(30).await;
    shared.restore().await;
    shared.stage.pass(1).await;
    let told = shared.stage.told();
    assert_eq!(told[..2], ["101 skipped", "101 rotated"], "{told:?}");
    let expected = "the server is being restored from snapshot 801 (snapring-x); nothing else starts \
                    until that has ended, at the latest at 2026-11-23 03:29:30 CET";
    assert_eq!(shared.reason(0), expected);
    assert_eq!(shared.created()[0].1, "snapring-20261123T022000Z");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_asks_the_daemon_for_has_the_tick_of_when_the_server_was_free() {
    let shared = Shared::at("2026-11-23T12:00:00Z", "0 3 * * *").await;
    let claim = shared.process().claim(WEB).unwrap();
    shared.daemon.as_ref().unwrap().rotate_all().await;
    shared.seconds(100).await;
    drop(claim);
    shared.stage.pass(1).await;
    assert_eq!(shared.stage.told(), ["101 rotated"]);
    let created = shared.created();
    let expected = both("12:01:41", "snapring-20261123T120141Z");
    assert_eq!(created, [expected]);
}
