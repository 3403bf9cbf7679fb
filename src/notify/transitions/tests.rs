//! Which reports are news.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::health::{Age, RotationHistory};
use crate::notify::tests::{DB, WEB, at, ended, hindered, refused};
use crate::report::{KnownCause, PastRotation};

/// What a letter of a story comes to.
fn report(server: ServerId, letter: char) -> Report {
    match letter {
        'r' => ended(server, RotationOutcome::Rotated),
        'a' => ended(server, RotationOutcome::Adopted),
        's' => ended(server, RotationOutcome::Skipped),
        'h' => hindered(server),
        'b' => ended(server, RotationOutcome::Blocked),
        'f' => ended(server, RotationOutcome::Failed),
        't' => refused(server, KnownCause::Token),
        _ => refused(server, KnownCause::Shutdown),
    }
}

/// What a story of one letter a report comes to, a server's news as `failure`, the account's as
/// `account failure`.
fn told(states: &mut States, story: &str) -> Vec<String> {
    let mut told = Vec::new();
    for (minute, letter) in story.chars().filter(|it| *it != ' ').enumerate() {
        let server = if letter.is_uppercase() { DB } else { WEB };
        let report = report(server, letter.to_ascii_lowercase());
        let news = states.take(&report, at(i64::try_from(minute).unwrap()));
        for notice in news.iter().filter(|it| !it.goes_on) {
            let whose = match &notice.subject {
                NoticeSubject::Account(_) => "account",
                NoticeSubject::Cover(_) => "cover",
                NoticeSubject::Server { name, .. } => name,
            };
            told.push(format!("{whose} {}", notice.event.as_str()));
        }
    }
    told.retain(|it| !it.ends_with("success"));
    told
}

#[rstest]
#[case::one_failure_not_one_a_tick("rfff", &["web failure"])]
#[case::one_recovery("rffrr", &["web failure", "web recovery"])]
#[case::what_was_there_already_is_well_too("fa", &["web failure", "web recovery"])]
#[case::another_way_to_fail_is_no_news("fbfb", &["web failure"])]
#[case::the_first_rotation_of_all_may_fail("b", &["web failure"])]
#[case::skipping_changes_nothing("fssf ssr ss", &["web failure", "web recovery"])]
#[case::skipping_is_no_recovery("fss", &["web failure"])]
#[case::each_server_for_itself("fFrR", &["web failure", "db failure", "web recovery", "db recovery"])]
#[case::a_refused_token_is_the_accounts("tTtT", &["account failure"])]
#[case::and_recovers_once("tTtT rR", &["account failure", "account recovery"])]
#[case::a_shutdown_is_nobodys_failure("rxX", &[])]
#[case::nor_the_end_of_one("fxr", &["web failure", "web recovery"])]
#[case::a_token_hides_no_failure("ftf r", &["web failure", "account failure", "account recovery", "web recovery"])]
#[case::a_failing_server_says_nothing_of_the_token("tTf", &["account failure", "web failure"])]
#[case::one_skip_is_chance("rh r", &[])]
#[case::two_in_a_row_are_told_once("rhhhh r", &["web failure", "web recovery"])]
#[case::skips_of_a_failing_server_are_no_news("fhhh r", &["web failure", "web recovery"])]
#[case::one_skip_while_the_token_is_refused("th r", &["account failure", "account recovery"])]
fn a_change_is_told_once(#[case] story: &str, #[case] expected: &[&str]) {
    let mut states = States::new([WEB, DB], []);
    assert_eq!(told(&mut states, story), expected);
}

fn last_of(server: ServerId, letters: &str) -> LastOfServer {
    let past = |(minute, letter)| PastRotation::of(&report(server, letter), at(minute));
    LastOfServer::of(server, (-9..).zip(letters.chars()).map(past).collect())
}

#[test]
fn a_restart_neither_repeats_a_failure_nor_loses_the_recovery() {
    let mut states = States::new([WEB, DB], [last_of(WEB, "rf"), last_of(DB, "fr")]);
    assert_eq!(states.failing(), Failing { servers: 1, accounts: 0, covers: 0 });
    assert_eq!(told(&mut states, "ff F"), ["db failure"]);
    let [news] = states.take(&ended(WEB, RotationOutcome::Rotated), at(9)).try_into().unwrap();
    assert_eq!(news.event, NoticeKind::Recovery);
    assert_eq!(news.trouble, Some(FailingSince { since: None, failed: 2 }));
}

/// The history keeps few rotations of a long trouble, and since when it lasts.
#[test]
fn a_restart_knows_since_when_servers_and_the_token_are_in_trouble() {
    let stretch = |minute, rotations| Some(Stretch { since: at(minute), rotations });
    let web = LastOfServer { failed: stretch(-500, 7), ..last_of(WEB, "rf") };
    let db = LastOfServer { refused: stretch(-8, 3), ..last_of(DB, "rttt") };
    let states = States::new([WEB, DB], [web, db]);
    assert_eq!(states.failing(), Failing { servers: 1, accounts: 1, covers: 0 });
    let reminder = states.of_ongoing(NoticeKind::Reminder, Subject::Server(WEB), at(9)).unwrap();
    assert_eq!(reminder.trouble, Some(FailingSince { since: Some(at(-500)), failed: 7 }));
    assert_eq!((reminder.event, reminder.words.as_str()), (NoticeKind::Reminder, "why"));
    let reminder =
        states.of_ongoing(NoticeKind::Reminder, Subject::Account(Account::API), at(9)).unwrap();
    assert_eq!(reminder.subject, NoticeSubject::Account(Account::API));
    assert_eq!(reminder.trouble, Some(FailingSince { since: Some(at(-8)), failed: 3 }));
    assert_eq!(
        states.of_ongoing(NoticeKind::Reminder, Subject::Server(DB), at(9)),
        None,
        "its own rotations are well"
    );

    let mut after = States::new([WEB, DB], [last_of(WEB, "tr"), last_of(DB, "t")]);
    assert_eq!(
        after.failing().accounts,
        0,
        "a later success of any server ends the account's trouble"
    );
    assert_eq!(told(&mut after, "t"), ["account failure"]);
}

#[test]
fn a_reminder_has_the_last_reason_and_all_failed_rotations() {
    let mut states = States::new([WEB], []);
    let failed =
        |reason| crate::notify::tests::because(ended(WEB, RotationOutcome::Failed), reason);
    states.take(&failed("one"), at(1));
    states.take(&failed("two"), at(2));
    let reminder = states.of_ongoing(NoticeKind::Reminder, Subject::Server(WEB), at(3)).unwrap();
    assert_eq!((reminder.words.as_str(), reminder.at), ("two", at(3)));
    assert_eq!(reminder.trouble, Some(FailingSince { since: Some(at(1)), failed: 2 }));
    states.take(&ended(WEB, RotationOutcome::Rotated), at(4));
    assert_eq!(states.of_ongoing(NoticeKind::Reminder, Subject::Server(WEB), at(5)), None);
}

/// What was skipped since, and a shutdown, hide no failure that came before them.
#[rstest]
#[case("rfs", 1)]
#[case("rfx", 1)]
#[case("rh", 0)]
#[case("rhh", 1)]
#[case("rt", 0)]
fn a_restart_knows_who_was_in_trouble(#[case] before: &str, #[case] failing: usize) {
    let states = States::new([WEB], [last_of(WEB, before), last_of(DB, "f")]);
    assert_eq!(states.failing().servers, failing);
}

#[test]
fn a_success_that_is_too_old_is_told_once_and_so_is_the_recovery() {
    let text = crate::testing::stage::server(WEB.number, "web", "");
    let server = crate::testing::stage::settings(&text).servers.remove(0);
    let mut states = States::new([WEB], []);
    let age = Age { server: &server, success: None, since: Some(at(0)), is_under_way: false };
    let days = |days: i64| RotationHistory::default().health(&age, at(days * 24 * 60));
    assert_eq!(days(2), crate::health::ServerHealth::Waiting);
    let health = days(3);
    let stale = health.trouble().unwrap();
    let news = states.take_standing(&server, stale, at(9)).unwrap();
    assert_eq!((news.event, news.seen_by), (NoticeKind::Failure, SeenBy::Age));
    assert_eq!(news.trouble, Some(FailingSince { since: Some(stale.since), failed: 0 }));
    assert!(news.words.starts_with("no rotation has succeeded since"), "{}", news.words);
    assert!(states.take_standing(&server, stale, at(10)).unwrap().goes_on);
    assert_eq!(told(&mut states, "sf r"), ["web recovery"], "a failure is no news any more");
    states.configure([DB], []);
    assert_eq!(states.take_standing(&server, stale, at(11)), None, "not configured");
}

#[test]
fn a_recovery_knows_how_long_it_was_broken_and_how_often() {
    let mut states = States::new([WEB, DB], []);
    states.take(&ended(WEB, RotationOutcome::Failed), at(1));
    states.take(&ended(DB, RotationOutcome::Failed), at(2));
    states.take(&ended(WEB, RotationOutcome::Blocked), at(61));
    let [news] = states.take(&ended(WEB, RotationOutcome::Rotated), at(121)).try_into().unwrap();
    assert_eq!(news.trouble, Some(FailingSince { since: Some(at(1)), failed: 2 }));
    assert_eq!(news.failing, Failing { servers: 1, accounts: 0, covers: 0 }, "the other one");
    let [news] = states.take(&ended(WEB, RotationOutcome::Rotated), at(122)).try_into().unwrap();
    assert_eq!((news.event, news.trouble), (NoticeKind::Success, None));
}

#[test]
fn a_server_that_leaves_is_forgotten_and_its_last_report_is_no_news() {
    let mut states = States::new([WEB, DB], []);
    assert_eq!(told(&mut states, "fF"), ["web failure", "db failure"]);
    states.configure([DB], []);
    assert_eq!(states.failing(), Failing { servers: 1, accounts: 0, covers: 0 });
    assert_eq!(told(&mut states, "f r"), Vec::<String>::new());
    states.configure([WEB, DB], []);
    assert_eq!(told(&mut states, "r f R"), ["web failure", "db recovery"]);
}

fn stories() -> impl Strategy<Value = Vec<(u64, char)>> {
    let letter = prop::sample::select("raasbfffhhhttx".chars().collect::<Vec<_>>());
    prop::collection::vec((1..=4_u64, letter), 0..120)
}

proptest! {
    /// For every subject, whatever comes: failure, recovery, failure, … and it begins with a failure.
    #[test]
    fn failure_and_recovery_alternate(story in stories(), reload in 0..120_usize) {
        // The first two are of one account, the others of another.
        let id = |number| ServerId {
            account: if number > 2 { Account::named("other").unwrap() } else { Account::API },
            number,
        };
        let servers = || (1..=4).map(id);
        let mut states = States::new(servers(), []);
        let mut bad: BTreeMap<Subject, bool> = BTreeMap::new();
        for (minute, (server, letter)) in story.into_iter().enumerate() {
            if minute == reload {
                states.configure(servers().filter(|id| id.number != 4), []);
                bad.remove(&Subject::Server(id(4)));
            }
            let server = id(server);
            let report = report(server, letter);
            let news = states.take(&report, at(i64::try_from(minute).unwrap()));
            for notice in news.iter().filter(|it| !it.goes_on) {
                prop_assert_eq!(notice.subject.of().account(), server.account, "another account's");
                let was_bad = bad.insert(notice.subject.of(), notice.event == NoticeKind::Failure).unwrap_or(false);
                prop_assert_eq!(was_bad, notice.event == NoticeKind::Recovery, "{:?}", notice);
                prop_assert_eq!(notice.event == NoticeKind::Success, notice.trouble.is_none());
            }
            let failing = |is_server: bool| {
                let is_such = |of: &Subject| matches!(of, Subject::Server(_)) == is_server;
                bad.iter().filter(|(of, bad)| is_such(of) && **bad).count()
            };
            let (servers, accounts) = (failing(true), failing(false));
            prop_assert_eq!(states.failing(), Failing { servers, accounts, covers: 0 });
            // A good rotation of a known server leaves neither it nor its account in trouble.
            let known = server.number != 4 || minute < reload;
            if known && report.outcome.is_good() {
                prop_assert!(!states.accounts.contains_key(&server.account));
                prop_assert!(!states.failing.contains_key(&server));
            }
        }
    }
}
