//! The store on SQLite, and on PostgreSQL where SNAPRING_TEST_POSTGRES names a database.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use jiff::SignedDuration;

use super::*;
use crate::config;
use crate::health::{RotationHistory, TroubleKind};
use crate::manual::{ManualAction, Person};
use crate::naming::{Account, SnapshotId, Subject, Tick};
use crate::report::{KnownCause, Stretch};
use crate::schedule::first_loaded::FirstLoaded;
use crate::store::connection::{Answer, Connection, Written};
use crate::store::database::MIGRATIONS;
use crate::store::place::Address;
use crate::store::told::{TargetKey, ToldState};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn clock() -> Clock {
    Clock::simulated(at("2026-11-25T12:00:00Z"))
}

/// A place of its own for a test.
struct Ground {
    place: Place,
    directory: tempfile::TempDir,
}

impl Ground {
    fn file() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { place: Place::File(directory.path().join("snapring.db")), directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("snapring.db")
    }

    /// Each database there is: a test that takes all of them holds on each.
    async fn all() -> Vec<Self> {
        let mut all = vec![Self::file()];
        if let Some(url) = std::env::var_os("SNAPRING_TEST_POSTGRES") {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let url = url.into_string().unwrap();
            let server = Place::Server(Address::parse(&url).unwrap());
            let nth = NEXT.fetch_add(1, Ordering::Relaxed);
            let schema = format!("snapring_test_{}_{nth}", std::process::id());
            let mut database = Database::open(&server, Access::Read).await.unwrap();
            database.execute(format!("CREATE SCHEMA {schema}")).await.unwrap();
            database.close().await;
            let separator = if url.contains('?') { '&' } else { '?' };
            let url = format!("{url}{separator}options=-csearch_path%3D{schema}");
            let place = Place::Server(Address::parse(&url).unwrap());
            all.push(Self { place, directory: tempfile::tempdir().unwrap() });
        }
        all
    }

    fn open(&self) -> Store {
        Store::open(self.place.clone(), clock())
    }

    async fn database(&self) -> Database {
        Database::open(&self.place, Access::Write).await.unwrap()
    }

    /// What is in the directory, in order.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn report(server: u64, outcome: RotationOutcome) -> Report {
    Report {
        outcome,
        server_id: ServerId::new(server),
        server: format!("web-{server}"),
        tick: Tick::at(at("2026-11-25T03:00:00Z")),
        created: outcome.is_good().then(|| "snapring-20261125T030000Z".to_owned()),
        deleted: vec!["a, b".to_owned(), "\"c\"".to_owned()],
        deleted_ids: BTreeSet::new(),
        api_calls: 7,
        duration_ms: 1234,
        steps: vec![("list", 12), ("create", 1200)],
        reason: (!outcome.is_good()).then(|| "the API said no".to_owned()),
        known_cause: None,
    }
}

fn because(report: Report, reason: &str) -> Report {
    Report { reason: Some(reason.to_owned()), ..report }
}

fn servers(schedules: &[&str]) -> Vec<Arc<Server>> {
    let tables: Vec<String> = (1..)
        .zip(schedules)
        .map(|(id, schedule)| format!("[[server]]\nid = {id}\nkeep = 3\nschedule = {schedule:?}\n"))
        .collect();
    config::parse("test.toml", &tables.join("\n")).unwrap().settings.servers
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_was_recorded_is_read_again_whole_newest_first_and_as_asked_for() {
    for ground in Ground::all().await {
        let store = ground.open();
        let ended = at("2026-11-25T11:00:00.123Z");
        let reports = [
            report(1, RotationOutcome::Rotated),
            report(2, RotationOutcome::Failed),
            report(u64::MAX, RotationOutcome::Skipped),
            because(report(1, RotationOutcome::Blocked), "a\0b 🞶 'q'"),
        ];
        for (report, minute) in reports.iter().zip(0..) {
            store.record(report, ended + SignedDuration::from_mins(minute));
        }
        let all = store.history(HistoryFilter::default()).await.unwrap();
        let mut expected: Vec<PastRotation> = reports
            .iter()
            .zip(0..)
            .map(|(report, minute)| {
                PastRotation::of(report, ended + SignedDuration::from_mins(minute))
            })
            .collect();
        expected[3].reason = Some("a b 🞶 'q'".to_owned());
        expected.reverse();
        assert_eq!(all, expected);

        let ids = async |filter| {
            let rows = store.history(filter).await.unwrap();
            rows.iter().map(|it| it.server_id.number).collect::<Vec<_>>()
        };
        let none = HistoryFilter::default;
        assert_eq!(ids(HistoryFilter { limit: Some(2), ..none() }).await, [1, u64::MAX]);
        let since = Some(ended + SignedDuration::from_mins(2));
        assert_eq!(ids(HistoryFilter { since, ..none() }).await, [1, u64::MAX]);
        assert_eq!(
            ids(HistoryFilter { ids: vec![ServerId::new(u64::MAX)], ..none() }).await,
            [u64::MAX]
        );
        let names = vec!["web-2".to_owned()];
        assert_eq!(ids(HistoryFilter { names: names.clone(), ..none() }).await, [2]);
        let both = HistoryFilter { ids: vec![ServerId::new(1)], names, ..none() };
        assert_eq!(ids(both.clone()).await, [1, 2, 1]);
        let outcomes = vec![RotationOutcome::Failed, RotationOutcome::Blocked];
        assert_eq!(ids(HistoryFilter { outcomes, ..both }).await, [1, 2]);

        let last = store.last_of_each_server().await;
        let found = |id: u64| {
            let of_server = last.iter().find(|it| it.server_id.number == id).unwrap();
            let outcomes = of_server.rotations.iter().map(|it| it.outcome.as_str());
            outcomes.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(last.len(), 3);
        assert_eq!((found(1), found(2)), ("rotated blocked".to_owned(), "failed".to_owned()));

        store.close(LONG).await;
        assert_eq!(read(&ground.place, &none()).await.unwrap(), expected, "in the next life too");
        assert_eq!(store.health().lost(), 0);
    }
}

/// Of a long trouble few rotations are kept, and since when it lasts.
#[tokio::test]
async fn a_start_finds_since_when_and_how_often_rotations_have_failed() {
    let letter = |letter| match letter {
        'r' => report(1, RotationOutcome::Rotated),
        'f' => report(1, RotationOutcome::Failed),
        'b' => report(1, RotationOutcome::Blocked),
        't' => {
            Report { known_cause: Some(KnownCause::Token), ..report(1, RotationOutcome::Failed) }
        }
        'x' => {
            Report { known_cause: Some(KnownCause::Shutdown), ..report(1, RotationOutcome::Failed) }
        }
        _ => report(1, RotationOutcome::Skipped),
    };
    let other = report;
    let begin = at("2026-11-25T03:00:01Z");
    let stretch = |hour, rotations| {
        Some(Stretch { since: begin + SignedDuration::from_hours(hour), rotations })
    };
    for ground in Ground::all().await {
        for (story, failed, refused) in [
            ("rr", None, None),
            ("frfpbxf", stretch(2, 3), None),
            ("ffttf", stretch(0, 3), stretch(2, 2)),
            ("tttrt", None, stretch(4, 1)),
            ("rbtt", stretch(1, 1), stretch(2, 2)),
            ("ffr", None, None),
        ] {
            ground.database().await.execute("DELETE FROM snapring_rotation").await.unwrap();
            let store = ground.open();
            for (hour, report) in (0..).zip(story.chars().map(letter)) {
                store.record(&report, begin + SignedDuration::from_hours(hour));
                // Another server's successes say nothing of this one.
                let well = other(9, RotationOutcome::Rotated);
                store.record(&well, begin + SignedDuration::from_hours(hour));
            }
            let all = store.last_of_each_server().await;
            let last = all.iter().find(|it| it.server_id == ServerId::new(1)).unwrap();
            assert_eq!((last.failed, last.refused), (failed, refused), "{story}");
            let trouble = RotationHistory::known(last);
            let expected =
                failed.map_or(0, |it| it.rotations) + refused.map_or(0, |it| it.rotations);
            assert_eq!(trouble.trouble().map_or(0, |it| it.rotations), expected, "{story}");
            let own = RotationHistory::known(&last.clone().own());
            let expected = failed.map_or(0, |it| it.rotations);
            assert_eq!(own.trouble().map_or(0, |it| it.rotations), expected, "{story}: its own");
            store.close(LONG).await;
        }
    }
}

/// What was skipped by the policy, or by a shutdown, hides none of the rest.
#[tokio::test]
async fn a_start_finds_the_rotations_that_tell_whether_servers_are_in_trouble() {
    let caused = |outcome, cause| Report { known_cause: cause, ..report(1, outcome) };
    let letter = |letter| match letter {
        'r' => report(1, RotationOutcome::Rotated),
        'f' => report(1, RotationOutcome::Failed),
        'b' => report(1, RotationOutcome::Blocked),
        'x' => caused(RotationOutcome::Failed, Some(KnownCause::Shutdown)),
        'h' => caused(RotationOutcome::Skipped, Some(KnownCause::Hindered)),
        _ => report(1, RotationOutcome::Skipped),
    };
    for ground in Ground::all().await {
        for (story, kept, trouble) in [
            ("rrr", "r", None),
            ("rpxp", "rp", None),
            ("rffbpxp", "rbp", Some(TroubleKind::Blocked)),
            ("rhphhp", "rhhp", Some(TroubleKind::Skipped)),
            ("hhrhp", "hrhp", None),
            ("hhhf", "hhf", Some(TroubleKind::Failed)),
        ] {
            ground.database().await.execute("DELETE FROM snapring_rotation").await.unwrap();
            let store = ground.open();
            let mut hour = at("2026-11-25T03:00:01Z");
            for report in story.chars().map(letter) {
                store.record(&report, hour);
                hour += SignedDuration::from_hours(1);
            }
            let [last] = store.last_of_each_server().await.try_into().unwrap();
            assert_eq!(last.rotations.len(), kept.len(), "{story}: {last:?}");
            for (past, kept) in last.rotations.iter().zip(kept.chars().map(letter)) {
                assert_eq!((past.outcome, past.cause), (kept.outcome, kept.known_cause), "{story}");
            }
            let mut history = RotationHistory::default();
            last.rotations.iter().for_each(|past| history.ended(&past.into()));
            assert_eq!(history.trouble().map(|it| it.kind), trouble, "{story}");
            store.close(LONG).await;
        }
    }
}

#[tokio::test]
async fn what_a_clock_that_was_ahead_wrote_does_not_hide_what_came_after_it() {
    for ground in Ground::all().await {
        let store = ground.open();
        store.record(&report(1, RotationOutcome::Rotated), at("2036-11-25T03:00:01Z"));
        store.record(&report(1, RotationOutcome::Adopted), at("2026-11-24T03:00:01Z"));
        store.record(&report(1, RotationOutcome::Failed), at("2026-11-25T03:00:01Z"));
        store.record(&report(2, RotationOutcome::Rotated), at("2036-11-25T03:00:01Z"));
        let last = store.last_of_each_server().await;
        assert_eq!(last.len(), 1, "{last:?}");
        let outcomes: Vec<_> = last[0].rotations.iter().map(|it| it.outcome).collect();
        assert_eq!(outcomes, [RotationOutcome::Adopted, RotationOutcome::Failed]);
        store.close(LONG).await;
        assert_eq!(read_last(&ground.place, at("2026-11-25T12:00:00Z")).await.unwrap(), last);
    }
}

#[tokio::test]
async fn ten_thousand_servers_that_end_at_once_are_all_recorded() {
    for ground in Ground::all().await {
        let store = ground.open();
        for id in 1..=10_000 {
            store.record(&report(id, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
        }
        store.close(LONG).await;
        let rows = read(&ground.place, &HistoryFilter::default()).await.unwrap();
        assert_eq!((rows.len(), store.health().lost()), (10_000, 0));
    }
}

#[tokio::test]
async fn what_does_not_fit_is_counted_and_nobody_waits_for_it() {
    let ground = Ground::file();
    let store = ground.open();
    // The task has had no turn yet.
    for id in 0..QUEUE as u64 + 5 {
        store.record(&report(id, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    }
    assert_eq!(store.health().lost(), 5);
    store.close(LONG).await;
    assert_eq!(read(&ground.place, &HistoryFilter::default()).await.unwrap().len(), QUEUE);
}

#[tokio::test]
async fn a_schedule_is_dated_when_it_comes_and_forgotten_when_it_goes() {
    for ground in Ground::all().await {
        let life = async |hour: i64, before: &[&str], after: Option<&[&str]>| {
            let clock =
                Clock::simulated(at("2026-11-25T00:00:00Z") + SignedDuration::from_hours(hour));
            let store = Store::open(ground.place.clone(), clock.clone());
            let known = store.begin(&servers(before)).await;
            clock.step(SignedDuration::from_mins(30));
            if let Some(after) = after {
                store.reload(&servers(after));
            }
            store.close(LONG).await;
            let of = |servers: Vec<Arc<Server>>| {
                let loaded = known.of(ServerId::new(1), &servers[0].schedules[0]);
                let minute =
                    |it: Timestamp| it.duration_since(at("2026-11-25T00:00:00Z")).as_mins();
                (loaded.after != Timestamp::MIN).then(|| (minute(loaded.after), minute(loaded.by)))
            };
            of(servers(before))
        };
        let daily = ["0 3 * * *"];
        let hourly = ["0 * * * *"];
        // A new store cannot know since when.
        assert_eq!(life(1, &daily, None).await, None);
        assert_eq!(life(2, &daily, None).await, None);
        // Edited while the daemon was away: after it was last written, and before the start.
        assert_eq!(life(4, &hourly, None).await, Some((150, 240)));
        assert_eq!(life(5, &hourly, Some(&daily)).await, Some((150, 240)));
        // By a reload: that very moment, since when it was gone before.
        assert_eq!(life(7, &daily, None).await, Some((330, 330)));
        assert_eq!(life(8, &hourly, None).await, Some((450, 480)), "its return starts anew");
    }
}

#[tokio::test]
async fn a_large_fleets_schedules_come_and_go_within_one_transaction_each() {
    for ground in Ground::all().await {
        let key = |id| (ServerId::new(id), "0 3 * * *".into(), "Etc/UTC".into());
        let now = at("2026-11-25T12:00:00Z");
        let none = FirstLoadedTimes::default();
        let many = FirstLoadedTimes::found((1..=10_030).map(key), now);
        let few = FirstLoadedTimes::found((5000..=5002).map(key), at("2026-11-25T13:00:00Z"));
        let mut database = ground.database().await;
        for (before, after) in [(&none, &many), (&many, &few)] {
            database.write(of(&[], Some((before, after)), now)).await.unwrap();
            let (recorded, heard) = database.schedules().await.unwrap();
            assert_eq!((recorded.all().len(), heard), (after.all().len(), Some(now)));
            assert_eq!(recorded.all()[&key(5001)].by, after.all()[&key(5001)].by);
        }
    }
}

/// Log lines of this thread, and so of the tasks of a test's runtime.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Told {
    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let told = Self::default();
        let writer = told.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        (told, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is written in one transaction, but for what is remembered.
fn of<'a>(
    rotations: &'a [PastRotation],
    schedules: Option<(&'a FirstLoadedTimes, &'a FirstLoadedTimes)>,
    at: Timestamp,
) -> Written<'a> {
    static NONE: (LazyLock<ServerMemories>, ToldChanges) =
        (LazyLock::new(ServerMemories::new), ToldChanges::new());
    Written { rotations, memories: &NONE.0, told: &NONE.1, schedules, at }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let clock = Clock::system();
    for _ in 0..3000 {
        if so() {
            return;
        }
        clock.sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn a_damaged_file_is_put_aside_and_a_new_one_begun() {
    let (told, _guard) = Told::listen();
    let ground = Ground::file();
    std::fs::write(ground.path(), b"SQLite format 3\0, and then nothing that is one").unwrap();
    let store = ground.open();
    let known = store.begin(&servers(&["0 3 * * *"])).await;
    assert_eq!(known.all().len(), 1);
    store.record(&report(1, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    store.close(LONG).await;
    assert_eq!(read(&ground.place, &HistoryFilter::default()).await.unwrap().len(), 1);
    let damaged = "snapring.db.damaged-20261125T120000Z";
    assert_eq!(ground.files(), ["snapring.db", damaged]);
    let kept = std::fs::read(ground.directory.path().join(damaged)).unwrap();
    assert!(kept.starts_with(b"SQLite format 3"));
    assert_eq!(told.lines().iter().filter(|line| line.contains("was renamed")).count(), 1);
    assert!(
        ground.database().await.schedules().await.unwrap().0.all().len() == 1,
        "the book is in it"
    );
}

/// `url` names something else by mistake.
#[tokio::test]
async fn a_file_that_never_was_a_database_is_left_where_it_is_and_told_of() {
    let (told, _guard) = Told::listen();
    let ground = Ground::file();
    let dear = b"no database at all, but perhaps dear to somebody";
    std::fs::write(ground.path(), dear).unwrap();
    let store = ground.open();
    store.record(&report(1, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    until("told of", || told.lines().iter().any(|line| line.contains("not a database"))).await;
    store.close(LONG).await;
    assert_eq!(ground.files(), ["snapring.db"]);
    assert_eq!(std::fs::read(ground.path()).unwrap(), dear);
}

#[tokio::test]
async fn a_file_that_is_damaged_in_the_middle_is_put_aside_too() {
    let ground = Ground::file();
    let store = ground.open();
    for id in 1..=500 {
        store.record(&report(id, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    }
    store.close(LONG).await;
    let mut bytes = std::fs::read(ground.path()).unwrap();
    // All but the header and the list of tables.
    bytes[4096..].fill(0x5a);
    std::fs::write(ground.path(), bytes).unwrap();

    let store = ground.open();
    store.record(&report(1, RotationOutcome::Failed), at("2026-11-25T04:00:01Z"));
    store.close(LONG).await;
    let rows = read(&ground.place, &HistoryFilter::default()).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert!(ground.files().iter().any(|name| name.contains(".damaged-")));
}

#[tokio::test]
async fn a_locked_file_costs_nothing_once_it_is_free_again_and_is_told_of_twice() {
    let (told, _guard) = Told::listen();
    let ground = Ground::file();
    let store = ground.open();
    assert!(store.history(HistoryFilter::default()).await.unwrap().is_empty());
    let mut holder = ground.database().await;
    holder.execute("BEGIN IMMEDIATE").await.unwrap();
    store.record(&report(1, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    until("broken", || !store.health().is_up()).await;
    let trouble = store.history(HistoryFilter::default()).await.unwrap_err();
    assert!(trouble.to_string().contains("not working"), "{trouble}");
    assert!(store.last_of_each_server().await.is_empty());
    holder.execute("ROLLBACK").await.unwrap();
    until("well again", || store.health().is_up()).await;
    assert_eq!(store.history(HistoryFilter::default()).await.unwrap().len(), 1);
    assert_eq!(store.health().lost(), 0);
    store.close(LONG).await;
    let lines = told.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("ERROR") && lines[0].contains("locked"), "{lines:?}");
    assert!(lines[1].contains("works again: 0 rotations are missing"), "{lines:?}");
}

/// A connection on which nothing can be written: what SQLite answers is what it would for a file
/// system that is full, or mounted read-only. tests/e2e/store has the real ones.
#[rstest::rstest]
#[case::full("PRAGMA max_page_count = 1", "full")]
#[case::read_only("PRAGMA query_only = ON", "readonly")]
#[tokio::test]
async fn a_store_that_takes_nothing_keeps_what_it_has(
    #[case] tuning: &'static str,
    #[case] words: &str,
) {
    let (told, _guard) = Told::listen();
    let ground = Ground::file();
    let store = ground.open();
    store.record(&report(1, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    store.close(LONG).await;

    let place = ground.place.clone();
    let connect = move || -> Answer<'static, Box<dyn Connection>> {
        let place = place.clone();
        Box::pin(async move {
            let mut database = Database::open(&place, Access::Write).await?;
            database.execute(tuning).await?;
            Ok(Box::new(database) as Box<dyn Connection>)
        })
    };
    let store = Store::open_with(ground.place.clone(), Arc::new(connect), clock());
    for id in 1..=100 {
        let report = because(report(id, RotationOutcome::Failed), &"x".repeat(4000));
        store.record(&report, at("2026-11-25T04:00:01Z"));
    }
    until("broken", || !told.lines().is_empty()).await;
    store.close(LONG).await;
    assert_eq!(store.health().lost(), 100);
    let lines = told.lines();
    assert!(lines[0].contains("does not work") && lines[0].contains(words), "{lines:?}");
    assert!(lines[1].contains("100 rotations could not be written"), "{lines:?}");
    assert_eq!(lines.len(), 2);
    // Its connection ends in a thread of its own.
    until("nothing is put aside", || ground.files() == ["snapring.db"]).await;
    assert_eq!(read(&ground.place, &HistoryFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_place_where_no_file_can_be_is_told_of_and_the_store_goes_on_without() {
    let (told, _guard) = Told::listen();
    let directory = tempfile::tempdir().unwrap();
    let place = Place::File(directory.path().join("no such directory/snapring.db"));
    let store = Store::open(place, clock());
    let book = store.begin(&servers(&["0 3 * * *"])).await;
    let loaded = book.of(ServerId::new(1), &servers(&["0 3 * * *"])[0].schedules[0]);
    assert_eq!(loaded.after, Timestamp::MIN, "the ring tells, as without a store");
    store.close(LONG).await;
    assert!(told.lines()[0].contains("unable to open database file"), "{:?}", told.lines());
}

#[tokio::test]
async fn a_row_that_the_database_refuses_costs_only_itself() {
    let ground = Ground::file();
    let mut database = ground.database().await;
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON snapring_rotation WHEN NEW.server_id = 7
                   BEGIN SELECT RAISE(ABORT, 'on purpose'); END";
    database.execute(trigger).await.unwrap();
    database.close().await;
    let store = ground.open();
    for id in 1..=60 {
        store.record(&report(id, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    }
    assert_eq!(store.history(HistoryFilter::default()).await.unwrap().len(), 59);
    assert_eq!(store.health().lost(), 1);
    store.close(LONG).await;
}

#[tokio::test]
async fn what_is_old_goes_in_portions_and_the_rest_stays() {
    for ground in Ground::all().await {
        let mut database = ground.database().await;
        let now = at("2026-11-25T12:00:00Z");
        let rows: Vec<PastRotation> = (0..1500)
            .map(|minute| {
                let ended = now - SignedDuration::from_mins(minute);
                PastRotation::of(&report(1, RotationOutcome::Rotated), ended)
            })
            .collect();
        database.write(of(&rows, None, now)).await.unwrap();
        database.write(of(&rows, None, now)).await.unwrap();
        let limit = now - SignedDuration::from_mins(299);
        let mut gone = Vec::new();
        for _ in 0..3 {
            gone.push(database.prune(limit).await.unwrap());
        }
        assert_eq!(gone, [1000, 200, 0]);
        let left = database.history(&HistoryFilter::default()).await.unwrap();
        assert_eq!((left.len(), left[299].ended_at), (300, limit), "written twice, there once");
    }
}

#[tokio::test]
async fn a_store_in_memory_works_as_long_as_it_lives_and_does_not_grow_for_ever() {
    let store = Store::open(Place::Memory, clock());
    store.begin(&servers(&["0 3 * * *"])).await;
    store.record(&report(1, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    assert_eq!(store.last_of_each_server().await.len(), 1);
    store.close(LONG).await;

    let mut database = Database::open(&Place::Memory, Access::Write).await.unwrap();
    let now = at("2026-11-25T12:00:00Z");
    let row = |second| {
        let ended = now - SignedDuration::from_secs(second);
        PastRotation::of(&report(1, RotationOutcome::Rotated), ended)
    };
    let rows: Vec<_> = (0..20_100).map(row).collect();
    database.write(of(&rows, None, now)).await.unwrap();
    assert_eq!(database.prune(Timestamp::MIN).await.unwrap(), 99);
}

#[tokio::test]
async fn reading_beside_a_writer_sees_what_was_written_and_at_rest_leaves_no_file_behind() {
    let ground = Ground::file();
    let store = ground.open();
    store.record(&report(1, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    store.history(HistoryFilter::default()).await.unwrap();
    let before = ground.files();
    assert_eq!(before, ["snapring.db", "snapring.db-shm", "snapring.db-wal"]);
    assert_eq!(read(&ground.place, &HistoryFilter::default()).await.unwrap().len(), 1);
    assert_eq!(ground.files(), before);
    store.record(&report(2, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    store.close(LONG).await;

    assert_eq!(ground.files(), ["snapring.db"]);
    assert_eq!(read(&ground.place, &HistoryFilter::default()).await.unwrap().len(), 2);
    assert_eq!(ground.files(), ["snapring.db"]);
}

#[tokio::test]
async fn another_process_adds_to_what_a_daemon_keeps_or_begins_it() {
    for ground in Ground::all().await {
        let row =
            |server, when| PastRotation::of(&report(server, RotationOutcome::Rotated), at(when));
        let (beside, at_rest) = (row(2, "2026-11-25T04:00:00Z"), row(3, "2026-11-25T05:00:00Z"));
        add(
            &ground.place,
            std::slice::from_ref(&beside),
            &ServerMemories::new(),
            at("2026-11-25T05:00:00Z"),
        )
        .await
        .unwrap();
        let begun = read(&ground.place, &HistoryFilter::default()).await.unwrap();
        assert_eq!(begun, std::slice::from_ref(&beside));

        let store = ground.open();
        store.record(&report(1, RotationOutcome::Rotated), at("2026-11-25T03:00:00Z"));
        assert_eq!(store.history(HistoryFilter::default()).await.unwrap().len(), 2);
        let heard = async || {
            let mut database = Database::open(&ground.place, Access::Read).await.unwrap();
            let heard = database.schedules().await.unwrap().1.unwrap();
            database.close().await;
            heard
        };
        let heard_before = heard().await;
        // Twice, as when the first answer was lost.
        for _ in 0..2 {
            add(
                &ground.place,
                std::slice::from_ref(&beside),
                &ServerMemories::new(),
                at("2026-11-25T05:00:00Z"),
            )
            .await
            .unwrap();
        }
        let all = store.history(HistoryFilter::default()).await.unwrap();
        assert_eq!((&all[0], all.len()), (&beside, 2));
        assert_eq!(heard().await, heard_before, "of the daemon that says nothing");
        store.close(LONG).await;

        let files = ground.files();
        add(
            &ground.place,
            std::slice::from_ref(&at_rest),
            &ServerMemories::new(),
            at("2026-11-25T05:00:00Z"),
        )
        .await
        .unwrap();
        assert_eq!(ground.files(), files);
        assert_eq!(read(&ground.place, &HistoryFilter::default()).await.unwrap()[0], at_rest);
    }
}

/// SQLite would go on with the file that has no name any more, without an error.
#[tokio::test]
async fn a_file_that_is_removed_or_replaced_under_the_daemon_is_opened_again() {
    let ground = Ground::file();
    let (told, _guard) = Told::listen();
    let store = ground.open();
    let history = async || store.history(HistoryFilter::default()).await.unwrap().len();
    store.record(&report(1, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    assert_eq!(history().await, 1);
    let copy = ground.directory.path().join("copy");
    std::fs::copy(ground.path(), &copy).unwrap();
    for file in ground.files().iter().filter(|file| file.starts_with("snapring.db")) {
        std::fs::remove_file(ground.directory.path().join(file)).unwrap();
    }
    store.record(&report(2, RotationOutcome::Rotated), at("2026-11-25T03:00:02Z"));
    assert_eq!(history().await, 1, "in a new file");
    assert_eq!(read(&ground.place, &HistoryFilter::default()).await.unwrap().len(), 1);
    std::fs::rename(&copy, ground.path()).unwrap();
    store.record(&report(3, RotationOutcome::Rotated), at("2026-11-25T03:00:03Z"));
    store.close(LONG).await;
    let rows = read(&ground.place, &HistoryFilter::default()).await.unwrap();
    assert_eq!(rows[0].server_id, ServerId::new(3), "{rows:?}");
    let warned = told.lines().iter().filter(|it| it.contains("removed or replaced")).count();
    assert_eq!(warned, 2, "{:?}", told.lines());
}

/// The service's user could not write what root has begun there.
#[tokio::test]
async fn nothing_is_begun_in_a_directory_of_another_user() {
    let ground = Ground::file();
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    std::os::unix::fs::chown(ground.directory.path(), Some(4711), None).unwrap();
    let row = PastRotation::of(&report(1, RotationOutcome::Rotated), at("2026-11-25T03:00:00Z"));
    let now = at("2026-11-25T05:00:00Z");
    add(&ground.place, &[row], &ServerMemories::new(), now).await.unwrap();
    assert_eq!(ground.files(), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_never_written_is_told_from_what_cannot_be_read() {
    let ground = Ground::file();
    std::fs::write(ground.path(), b"").unwrap();
    assert!(read(&ground.place, &HistoryFilter::default()).await.unwrap_err().is_empty_store());
    std::fs::write(ground.path(), vec![b'x'; 5000]).unwrap();
    let trouble = read(&ground.place, &HistoryFilter::default()).await.unwrap_err();
    assert!(
        !trouble.is_empty_store() && trouble.to_string().contains("not a database"),
        "{trouble}"
    );
}

#[tokio::test]
async fn a_file_of_a_newer_snapring_is_left_as_it_is() {
    let (told, _guard) = Told::listen();
    let ground = Ground::file();
    let mut database = ground.database().await;
    let newer = "INSERT INTO snapring_migrations
                   (version, description, success, checksum, execution_time)
                 VALUES (99, 'of the future', 1, x'00', 0)";
    database.execute(newer).await.unwrap();
    database.close().await;
    let store = ground.open();
    store.record(&report(1, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    store.close(LONG).await;
    assert!(
        told.lines()[0].contains("created by a newer version of snapring"),
        "{:?}",
        told.lines()
    );
    until("it is left as it is", || ground.files() == ["snapring.db"]).await;
}

#[test]
fn a_disabled_servers_schedule_is_not_in_force() {
    let text = "[[server]]\nid = 1\nkeep = 3\nschedule = \"0 3 * * FRI\"\nenabled = false\n";
    let parse = |text: &str| config::parse("test.toml", text).unwrap().settings.servers;
    assert!(keys(&parse(text)).is_empty());
    let enabled = keys(&parse(&text.replace("false", "true")));
    assert_eq!(enabled, [(ServerId::new(1), "0 3 * * fri".into(), "Etc/UTC".into())]);
    let known = FirstLoadedTimes::found(enabled, at("2026-11-25T12:00:00Z"));
    let loaded = FirstLoaded { after: Timestamp::MIN, by: at("2026-11-25T12:00:00Z") };
    assert_eq!(known.of(ServerId::new(1), &parse(text)[0].schedules[0]), loaded);
}

#[tokio::test]
async fn a_database_that_hangs_holds_a_start_up_for_a_moment_only() {
    let (told, _guard) = Told::listen();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://anna@{}/rings", silent.local_addr().unwrap());
    let place = Place::Server(Address::parse(&url).unwrap());
    let store = Store::open(place, Clock::accelerated(at("2026-11-25T12:00:00Z"), 20));
    let servers = servers(&["0 3 * * *"]);
    let known = store.begin(&servers).await;
    let loaded = known.of(ServerId::new(1), &servers[0].schedules[0]);
    assert_eq!(loaded.after, Timestamp::MIN, "the start goes on, and the ring tells");
    assert!(
        loaded.by < at("2026-11-25T12:00:10Z"),
        "a reload does not take it for new: {loaded:?}"
    );
    assert!(told.lines().is_empty(), "it has not even been given up");
    store.record(&report(1, RotationOutcome::Rotated), at("2026-11-25T03:00:01Z"));
    until("it is told", || told.lines().iter().any(|it| it.contains("did not answer"))).await;
    store.close(LONG).await;
    assert_eq!(store.health().lost(), 1);
}

#[tokio::test]
async fn what_is_remembered_of_servers_outlives_the_daemon_and_is_shared_with_commands() {
    for ground in Ground::all().await {
        let memory = |id: u64| {
            let mut memory = RingMemory::default();
            memory.strayed(SnapshotId(id));
            memory
        };
        let store = ground.open();
        for id in 1..=120 {
            store.remember(ServerId::new(id), &memory(0));
            store.remember(ServerId::new(id), &memory(id));
        }
        let known = store.memories(vec![ServerId::new(7), ServerId::new(999)]).await.unwrap();
        assert_eq!(known, ServerMemories::from([(ServerId::new(7), memory(7))]));
        store.close(LONG).await;

        let theirs = ServerMemories::from([(ServerId::new(7), memory(70))]);
        add(&ground.place, &[], &theirs, at("2026-11-25T05:00:00Z")).await.unwrap();
        let read =
            read_memories(&ground.place, &[ServerId::new(7), ServerId::new(8)]).await.unwrap();
        assert_eq!(read[&ServerId::new(7)], memory(70));
        let store = ground.open();
        let all = store.memories(Vec::new()).await.unwrap();
        assert_eq!(
            (all.len(), &all[&ServerId::new(7)], &all[&ServerId::new(120)]),
            (120, &memory(70), &memory(120))
        );
        store.close(LONG).await;
    }
}

fn act(server: u64, minute: i64, outcome: ManualOutcome) -> ManualAct {
    let started_at = at("2026-11-25T03:00:00.123Z") + SignedDuration::from_mins(minute);
    ManualAct {
        started_at,
        ended_at: started_at + SignedDuration::from_secs(30),
        server_id: ServerId::new(server),
        server: format!("web-{server}"),
        action: ManualAction::Restore,
        outcome,
        snapshot_id: Some(SnapshotId(u64::MAX)),
        snapshot: Some("by-hand".to_owned()),
        safety_id: None,
        safety: None,
        by: Person { uid: u32::MAX, user: None, sudo_user: Some("anna".to_owned()) },
        reason: Some("the API said \"no\"".to_owned()),
        pid: 4711,
    }
}

#[tokio::test]
async fn what_people_did_is_read_as_it_was_written_and_an_act_is_one_row() {
    for ground in Ground::all().await {
        let begun = act(1, 0, ManualOutcome::Unknown);
        let done = ManualAct {
            ended_at: begun.ended_at + SignedDuration::from_mins(9),
            outcome: ManualOutcome::Done,
            safety_id: Some(SnapshotId(7)),
            safety: Some("snapring-x".to_owned()),
            reason: None,
            ..begun.clone()
        };
        let failed = act(2, 5, ManualOutcome::Failed);
        let beside = ManualAct { pid: 4712, ..begun.clone() };
        // No daemon has ever run here.
        for acts in [vec![begun], vec![failed.clone(), done.clone()], vec![beside.clone()]] {
            add_manual(&ground.place, &acts).await.unwrap();
        }
        let read = async |filter| read_manual(&ground.place, &filter).await.unwrap();
        let none = HistoryFilter::default;
        assert_eq!(read(none()).await, [done.clone(), failed.clone(), beside]);
        let outcomes = vec![ManualOutcome::Failed, ManualOutcome::Started];
        let filter = HistoryFilter { manual_outcomes: outcomes, ..none() };
        assert_eq!(read(filter).await, vec![failed.clone()]);
        let filter = HistoryFilter { names: vec!["web-2".to_owned()], ..none() };
        assert_eq!(read(filter).await, [failed]);
        let store = ground.open();
        let filter = HistoryFilter { limit: Some(1), ..none() };
        assert_eq!(store.manual(filter).await.unwrap(), [done]);
        assert_eq!(store.history(none()).await.unwrap(), [], "none of them is a rotation");
        store.close(LONG).await;
        let limit = at("2026-11-25T03:06:00Z");
        let mut database = ground.database().await;
        database.prune(limit).await.unwrap();
        database.close().await;
        assert_eq!(read(none()).await.len(), 1, "what is old goes");
    }
}

/// As an earlier release made it, and as a daemon of that release goes on using it.
async fn older(ground: &Ground) {
    let mut database = ground.database().await;
    for table in ["rotation", "schedule", "heard", "memory", "told", "manual", "by"] {
        database.execute(format!("DROP TABLE snapring_{table}")).await.unwrap();
    }
    for (_, _, text) in &MIGRATIONS[..3] {
        let lines = text.lines().filter(|line| !line.starts_with("--"));
        let text = lines.collect::<Vec<_>>().join("\n");
        for statement in text.split(';').filter(|it| it.contains("CREATE")) {
            database.execute(statement).await.unwrap();
        }
    }
    database.execute("DELETE FROM snapring_migrations WHERE version > 3").await.unwrap();
    database.close().await;
}

#[tokio::test]
async fn a_store_from_before_manual_acts_is_read_and_takes_them() {
    for ground in Ground::all().await {
        older(&ground).await;
        let rotation = report(1, RotationOutcome::Rotated);
        let past = PastRotation::of(&rotation, at("2026-11-25T03:00:00Z"));
        let now = at("2026-11-25T05:00:00Z");
        add(&ground.place, &[past], &ServerMemories::new(), now).await.unwrap();
        let none = HistoryFilter::default;
        assert_eq!(read(&ground.place, &none()).await.unwrap().len(), 1);
        assert_eq!(read_manual(&ground.place, &none()).await.unwrap(), []);
        let done = act(1, 0, ManualOutcome::Done);
        add_manual(&ground.place, std::slice::from_ref(&done)).await.unwrap();
        assert_eq!(read_manual(&ground.place, &none()).await.unwrap(), [done]);
        assert_eq!(read(&ground.place, &none()).await.unwrap().len(), 1, "nothing is lost");
    }
}

/// The service of the release before would not start with tables that it does not know, and could not write a
/// file of root's.
#[tokio::test]
async fn a_command_changes_no_tables_and_makes_no_file_where_a_service_has_its_own() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let ground = Ground::file();
    let done = act(1, 0, ManualOutcome::Done);
    let add = async || add_manual(&ground.place, std::slice::from_ref(&done)).await;
    std::os::unix::fs::chown(ground.directory.path(), Some(4711), None).unwrap();
    assert!(add().await.is_err(), "it is said that it is missing");
    assert_eq!(ground.files(), Vec::<String>::new());
    older(&ground).await;
    let files = ground.files();
    let error = add().await.unwrap_err().to_string();
    assert!(error.contains("restart it after an upgrade"), "{error}");
    assert_eq!(ground.files(), files);
    // The service has started anew.
    ground.database().await.close().await;
    add().await.unwrap();
    assert_eq!(ground.files(), files);
    assert_eq!(read_manual(&ground.place, &HistoryFilter::default()).await.unwrap(), [done]);
}

#[tokio::test]
async fn what_is_to_be_remembered_waits_for_a_store_that_does_not_work() {
    let ground = Ground::file();
    std::fs::create_dir(ground.path()).unwrap();
    let store = ground.open();
    store.remember(ServerId::new(1), &RingMemory::default());
    until("broken", || !store.health().is_up()).await;
    assert!(store.memories(Vec::new()).await.is_none());
    std::fs::remove_dir(ground.path()).unwrap();
    until("well again", || store.health().is_up()).await;
    assert_eq!(store.memories(Vec::new()).await.unwrap().len(), 1);
    store.close(LONG).await;
}

#[tokio::test]
async fn what_targets_were_told_outlives_the_daemon_and_is_shared_with_commands() {
    for ground in Ground::all().await {
        let (one, two) = (TargetKey::of("https://one.example/key"), TargetKey::of("https://two/"));
        let web = Subject::Server(ServerId::new(101));
        let (account, other) = (Subject::Account(Account::API), Subject::Account(other()));
        let then = ToldState::Told(at("2026-11-25T03:00:10Z"));
        let later = ToldState::Owed(at("2026-11-26T03:00:10Z"));
        let store = ground.open();
        assert_eq!(store.told().await, Some(BTreeMap::new()));
        let keep = store.keeps_told();
        keep((one.clone(), web), Some(then));
        keep((one.clone(), account), Some(then));
        keep((one.clone(), other), Some(then));
        keep((two.clone(), web), Some(then));
        store.close(LONG).await;

        let changes = BTreeMap::from([((one.clone(), web), Some(later)), ((two, web), None)]);
        add_told(&ground.place, &changes).await.unwrap();
        let known = BTreeMap::from([
            ((one.clone(), account), then),
            ((one.clone(), other), then),
            ((one.clone(), web), later),
        ]);
        assert_eq!(read_told(&ground.place).await.unwrap(), known);

        let store = ground.open();
        assert_eq!(store.told().await, Some(known));
        store.keeps_told()((one.clone(), web), None);
        store.keeps_told()((one.clone(), account), None);
        store.close(LONG).await;
        let known = BTreeMap::from([((one, other), then)]);
        assert_eq!(read_told(&ground.place).await.unwrap(), known);
    }
}

fn other() -> Account {
    Account::named("customer-b").unwrap()
}

/// The provider's numbers are unique within an account only.
#[tokio::test]
async fn one_number_in_two_accounts_is_two_servers() {
    for ground in Ground::all().await {
        let ours = ServerId::new(7);
        let theirs = ServerId { account: other(), number: 7 };
        let of = |server_id, outcome| Report { server_id, ..report(7, outcome) };
        let ended = at("2026-11-25T03:00:10Z");
        let store = ground.open();
        store.record(&of(ours, RotationOutcome::Rotated), ended);
        store.record(&of(theirs, RotationOutcome::Failed), ended);
        let memory = |id| {
            let mut memory = RingMemory::default();
            memory.strayed(SnapshotId(id));
            memory
        };
        store.remember(ours, &memory(1));
        store.remember(theirs, &memory(2));
        store.close(LONG).await;

        let store = ground.open();
        let ids = HistoryFilter { ids: vec![theirs], ..HistoryFilter::default() };
        let rows = store.history(ids).await.unwrap();
        assert_eq!(rows.iter().map(|it| it.server_id).collect::<Vec<_>>(), [theirs]);
        let last = store.last_of_each_server().await;
        let failed: Vec<_> = last.iter().map(|it| (it.server_id, it.failed.is_some())).collect();
        assert_eq!(failed, [(ours, false), (theirs, true)]);
        let known = store.memories(vec![theirs]).await.unwrap();
        assert_eq!(known, ServerMemories::from([(theirs, memory(2))]));
        store.close(LONG).await;
    }
}
