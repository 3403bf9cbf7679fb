//! How news read.

use proptest::prelude::*;

use super::*;
use crate::coverage::CoverProblem;
use crate::health::{Trouble, TroubleKind};
use crate::naming::{Account, ServerId, Subject};
use crate::notify::tests::{DB, WEB, at, because, ended, refused, settings};
use crate::notify::transitions::States;
use crate::report::{KnownCause, Report};

const REMIND: Duration = Duration::from_secs(24 * 3600);

/// The bundles of reports that come a minute apart, as titles with texts.
fn read(servers: u64, reports: &[Report]) -> Vec<String> {
    let mut states = States::new((1..=servers).map(ServerId::new).chain([WEB, DB]), []);
    let mut notices = Vec::new();
    for (minute, report) in reports.iter().enumerate() {
        let news = states.take(report, at(i64::try_from(minute).unwrap()));
        notices.extend(news.into_iter().filter(|it| !it.goes_on));
    }
    let told = |it: &Bundle| format!("{}\n{}", it.title(), it.text());
    bundles(notices, at(999), 0, REMIND).iter().map(told).collect()
}

fn failed(server: ServerId, reason: &str) -> Report {
    because(ended(server, RotationOutcome::Failed), reason)
}

/// Short, long, of several lines, of nothing.
const REASONS: &[&str] =
    &["x", "", "a\nb\u{7}.", "...", concat!("é🞶", "the provider answered 503: ä", "👩‍👩‍👧")];

#[test]
fn one_server_alone_reads_as_a_message() {
    let blocked = because(ended(DB, RotationOutcome::Blocked), "5 of 5 slots are taken by a, b.");
    let blocked_again = blocked.clone();
    let down = || failed(WEB, "could not list the snapshots: no answer within 30s");
    let good = || ended(WEB, RotationOutcome::Rotated);
    let token = |server| refused(server, KnownCause::Token);
    let cases = [
        ("one fails, a minute later another is blocked", vec![down(), blocked.clone()]),
        ("one is blocked", vec![blocked.clone()]),
        ("three ticks fail, two go well", vec![down(), down(), down(), good(), good()]),
        ("one of two recovers", vec![down(), blocked, good()]),
        ("the token is refused", vec![token(WEB), token(DB)]),
        ("and accepted again", vec![token(WEB), token(DB), ended(WEB, RotationOutcome::Adopted)]),
        ("a failure beside a refused token", vec![token(WEB), failed(DB, "before hook: exit 1")]),
    ];
    let shown = |(case, reports): (&str, Vec<Report>)| {
        format!("## {case}\n{}\n", read(0, &reports).join("\n\n"))
    };
    let reminded = |reports: &[Report], of| {
        let mut states = States::new([WEB, DB], []);
        for (minute, report) in reports.iter().enumerate() {
            states.take(report, at(i64::try_from(minute).unwrap()));
        }
        let of: Vec<Subject> = of;
        let notices = of
            .into_iter()
            .map(|it| states.of_ongoing(NoticeKind::Reminder, it, at(24 * 60)).unwrap())
            .collect();
        let bundle = bundles(notices, at(24 * 60), 0, REMIND).pop().unwrap();
        format!("{}\n{}", bundle.title(), bundle.text())
    };
    insta::assert_snapshot!(
        "reminders",
        [
            reminded(&[down(), down(), down()], vec![Subject::Server(WEB)]),
            reminded(&[down(), blocked_again.clone()], vec![Subject::Server(DB)]),
            reminded(&[token(WEB), token(DB)], vec![Subject::Account(Account::API)]),
            reminded(
                &[down(), blocked_again, token(DB)],
                vec![Subject::Server(WEB), Subject::Server(DB), Subject::Account(Account::API)]
            ),
        ]
        .join("\n\n")
    );
    insta::assert_snapshot!(cases.map(shown).join("\n"));
}

/// A `cover` that does not know its servers, and a restore that has left one broken.
#[test]
fn trouble_that_no_rotation_shows_reads_as_a_message() {
    let mut states = States::new([WEB, DB], []);
    states.configure([WEB, DB], [Account::API]);
    let words =
        "the servers of the account cannot be listed, so `cover` gives no policy to new ones: 403";
    let problem = CoverProblem { account: Account::API, since: at(0), words: words.to_owned() };
    let cover = states.take_cover(&problem, at(0), at(15)).unwrap();
    let servers = settings("").servers;
    let server = servers.iter().find(|it| it.id == WEB).unwrap();
    let reason = "a restore failed, and the provider shows the server as \"error\"";
    let broken = Trouble {
        kind: TroubleKind::Failed,
        since: at(0),
        rotations: 0,
        reason: Some(reason.into()),
    };
    let restore = states.take_standing(server, &broken, at(15)).unwrap();
    let day = at(24 * 60);
    let reminders = [Subject::Cover(Account::API), Subject::Server(WEB)]
        .map(|of| states.of_ongoing(NoticeKind::Reminder, of, day).unwrap());
    let (listed, is_news) = states.take_listed(Account::API, day);
    assert!(is_news);
    let recovered = states.take(&ended(WEB, RotationOutcome::Rotated), day);
    let read = |notices: Vec<Notice>| {
        let told = |it: &Bundle| format!("{}\n{}\n", it.title(), it.text());
        bundles(notices, day, 0, REMIND).iter().map(told).collect::<String>()
    };
    let [cover_on, restore_on] = reminders;
    insta::assert_snapshot!(
        [
            read(vec![cover.clone()]),
            read(vec![restore.clone()]),
            read(vec![cover, restore]),
            read(vec![cover_on]),
            read(vec![restore_on]),
            read(vec![listed]),
            read(recovered),
        ]
        .join("\n")
    );
}

#[test]
fn a_providers_outage_is_one_message_of_bounded_length() {
    let reports: Vec<Report> = (1..=300)
        .map(|id| failed(ServerId::new(id), &format!("could not list the snapshots: the provider answered 503 (service unavailable): {}", "é".repeat(500))))
        .collect();
    let [text] = read(300, &reports).try_into().unwrap();
    assert!(
        text.starts_with("snapring: 300 servers failed\n- server-1: failed: could not list the snapshots: the provider answered 503 (service unavailable)"),
        "{text}"
    );
    let listed = text.matches("\n- ").count();
    assert!((10..=20).contains(&listed), "{listed}: {text}");
    assert!(text.ends_with(&format!("\nand {} more", 300 - listed)), "{text}");
    assert!(text.len() <= MAX_TEXT_BYTES + 100, "{}", text.len());
}

#[test]
fn a_person_reads_failures_first_and_one_servers_story_in_its_order() {
    let good = |id| ended(id, RotationOutcome::Rotated);
    let story =
        [failed(WEB, "x"), good(WEB), failed(DB, "x"), failed(WEB, "x"), good(ServerId::new(1))];
    let titles: Vec<String> =
        read(1, &story).iter().map(|it| it.lines().next().unwrap().to_owned()).collect();
    assert_eq!(
        titles,
        [
            "snapring: 2 servers failed",
            "snapring: web recovered",
            "snapring: web failed",
            "snapring: server-1 rotated"
        ]
    );
}

#[test]
fn a_failure_says_whether_a_reminder_follows() {
    let mut states = States::new([WEB], []);
    let notices = states.take(&failed(WEB, "x"), at(0));
    let text = |remind| bundles(notices.clone(), at(1), 0, remind).pop().unwrap().text();
    assert!(text(REMIND).ends_with(" A reminder follows after 1d if this continues."));
    assert!(text(Duration::ZERO).ends_with(" Further failures are not reported."));
}

#[test]
fn what_was_lost_is_told_with_the_next_one() {
    let mut states = States::new([WEB], []);
    let notices = states.take(&failed(WEB, "x"), at(0));
    let [bundle] = bundles(notices, at(1), 7, REMIND).try_into().unwrap();
    assert!(bundle.text().ends_with(" Notices lost before this one: 7."), "{}", bundle.text());
}

proptest! {
    /// Nothing is lost but successes that a later one of the same server follows, no subject is
    /// twice in one bundle, each subject's news keep their order, and no text is too long.
    #[test]
    fn bundles_hold_all_news_in_order(
        story in prop::collection::vec((1..=5_u64, 0..4_u8, prop::sample::select(REASONS)), 1..60),
    ) {
        let mut states = States::new((1..=5).map(ServerId::new), []);
        let mut notices = Vec::new();
        for (minute, (server, how, words)) in story.iter().enumerate() {
            let server = ServerId::new(*server);
            let report = match how {
                0 => refused(server, KnownCause::Token),
                1 | 2 => failed(server, &words.repeat(80)),
                _ => ended(server, RotationOutcome::Rotated),
            };
            let news = states.take(&report, at(i64::try_from(minute).unwrap()));
            notices.extend(news.into_iter().filter(|it| !it.goes_on));
        }
        let bundles = bundles(notices.clone(), at(999), 0, REMIND);
        let mut subjects: Vec<NoticeSubject> = notices.iter().map(|it| it.subject.clone()).collect();
        subjects.dedup();
        for subject in subjects {
            let of = |all: &[Notice]| -> Vec<(NoticeKind, Timestamp)> {
                let own = all.iter().filter(|it| it.subject == subject);
                own.map(|it| (it.event, it.at)).collect()
            };
            let mut expected = of(&notices);
            let mut told: Vec<(NoticeKind, Timestamp)> = Vec::new();
            for bundle in &bundles {
                let own = of(&bundle.notices);
                prop_assert!(own.len() <= 1);
                prop_assert!(own.iter().all(|(event, _)| *event == bundle.event));
                told.extend(own);
            }
            let good = |it: &(NoticeKind, Timestamp)| it.0 == NoticeKind::Success;
            prop_assert!(told.iter().all(|it| expected.contains(it)));
            prop_assert_eq!(told.iter().max_by_key(|it| it.1), expected.last());
            prop_assert!(told.is_sorted_by_key(|it| it.1));
            expected.retain(|it| !good(it));
            told.retain(|it| !good(it));
            prop_assert_eq!(told, expected);
        }
        for bundle in &bundles {
            prop_assert!(bundle.text().len() <= MAX_TEXT_BYTES);
            let title = bundle.title();
            prop_assert!(!title.chars().any(char::is_control), "{:?}", title);
        }
    }
}
