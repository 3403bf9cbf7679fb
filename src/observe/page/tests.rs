use rstest::rstest;

use super::*;
use crate::daemon::view::ServerView;
use crate::naming::SnapshotId;
use crate::observe::status_document::StatusFilter;
use crate::report::RotationOutcome;
use crate::ring::Holder;
use crate::snapshot::Status;
use crate::testing::stage::{ended, managed, noon, numbered, ring, row, slot, time};

fn query(words: &str, state: Option<ServerState>, page: usize) -> Query {
    Query { filter: StatusFilter { words: words.to_owned(), state }, page, is_table: false }
}

fn page(rows: Vec<ServerView>, query: &Query) -> String {
    let found = Found::among(rows, &query.filter);
    Page::of(found, &DaemonStatus::well(), query, noon()).render().unwrap()
}

fn good(at: &str) -> crate::health::Ended {
    ended(at, RotationOutcome::Rotated, "")
}

/// What stands between two texts, each time.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Vec<&'a str> {
    text.split(begin).skip(1).map(|rest| rest.split_once(end).unwrap().0).collect()
}

#[test]
fn the_policy_lets_the_style_and_the_script_of_the_page_in_and_there_are_no_others() {
    let page = page(vec![row("web-01", "", &[])], &query("", None, 1));
    let policy = content_security_policy();
    for (tag, directive) in [("style", "style-src"), ("script", "script-src")] {
        let texts = between(&page, &format!("<{tag}>"), &format!("</{tag}>"));
        assert_eq!(texts.len(), 1, "{tag}");
        let hash = STANDARD.encode(digest(&SHA256, texts[0].as_bytes()));
        assert!(policy.contains(&format!("{directive} 'sha256-{hash}';")), "{tag}: {policy}");
    }
    assert!(policy.starts_with("default-src 'none';"));
    for loose in ["unsafe", "*", "http"] {
        assert!(!policy.contains(loose), "{policy}");
    }
    // What the policy would keep from working.
    for barred in [" style=", " onclick=", " onload=", "<img", "<link rel=\"stylesheet\""] {
        assert!(!page.contains(barred), "{barred}");
    }
}

#[test]
fn what_comes_from_outside_is_text() {
    let evil = "<script>alert('&')</script>\"";
    let mut row = row(evil, "", &[ended("2026-11-23T03:00:00Z", RotationOutcome::Failed, evil)]);
    let foreign = slot(1, evil, Holder::Foreign, Status::Completed, "2026-11-22T03:00:00Z");
    row.status.ring = Some(ring(vec![foreign]));
    let page = page(vec![row], &query(evil, None, 1));
    assert_eq!(page.matches("<script>").count(), 1, "the page's own");
    // Name, reason, slot, snapshot, and the search box.
    assert!(page.matches("&#60;script&#62;").count() >= 5);
    assert_eq!(between(&page, "name=\"q\" value=\"", "\"")[0].matches("&#34;").count(), 1);
}

#[test]
fn what_people_did_by_hand_is_shown_with_who_and_bad_ends_stand_out() {
    let act = |outcome, reason: Option<&str>| ManualAct {
        started_at: time("2026-11-23T03:00:00Z"),
        ended_at: noon() - jiff::SignedDuration::from_hours(1),
        server_id: crate::naming::ServerId::new(101),
        server: "web-01".to_owned(),
        action: crate::manual::ManualAction::Delete,
        outcome,
        snapshot_id: Some(SnapshotId(801)),
        snapshot: Some("<b>by-hand</b>".to_owned()),
        safety_id: None,
        safety: None,
        by: crate::manual::Person { uid: 0, user: Some("root".to_owned()), sudo_user: None },
        reason: reason.map(str::to_owned),
        pid: 1,
    };
    let acts = vec![act(ManualOutcome::Done, None), act(ManualOutcome::Failed, Some("refused"))];
    let shown = DaemonStatus { manual_acts: acts, ..DaemonStatus::well() };
    let query = query("", None, 1);
    let found = Found::among(vec![row("web-01", "", &[])], &query.filter);
    let page = Page::of(found, &shown, &query, noon()).render().unwrap();
    let section = between(&page, "<section id=\"manual\"", "</section>")[0];
    let lines = between(section, "<li", "</li>");
    assert!(
        lines[0].ends_with(
            "1h</time> ago, root: delete &#60;b&#62;by-hand&#60;/b&#62; (801) of web-01: done"
        ),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with(" class=\"bad\">") && lines[1].ends_with(": failed: refused"),
        "{lines:?}"
    );
}

#[rstest]
#[case(0, 1, 1, None, None)]
#[case(60, 1, 1, None, None)]
#[case(61, 1, 2, None, Some("/?page=2"))]
#[case(130, 2, 3, Some("/?page=1"), Some("/?page=3"))]
#[case(130, 3, 3, Some("/?page=2"), None)]
// Of a fleet that has shrunk meanwhile.
#[case(130, usize::MAX, 3, Some("/?page=2"), None)]
fn the_pages_have_bounds(
    #[case] found: usize,
    #[case] asked: usize,
    #[case] last: usize,
    #[case] before: Option<&str>,
    #[case] after: Option<&str>,
) {
    let pages = Pages::of(found, &query("", None, asked));
    assert_eq!((pages.number, pages.last, pages.found), (asked.min(last), last, found));
    assert_eq!((pages.before.as_deref(), pages.after.as_deref()), (before, after));
}

#[test]
fn a_page_shows_its_part_and_its_links_keep_what_was_asked_for() {
    let rows = || (1..=130).map(|id| numbered(id, &format!("web-{id:03} &"), "", &[])).collect();
    let asked = query("web &", Some(ServerState::Waiting), 2);
    assert!(!page(rows(), &asked).contains("<article"), "no name holds that");
    let asked = query("web", Some(ServerState::Waiting), 2);
    let page = page(rows(), &asked);
    let shown = between(&page, "<article id=\"server-", "\"");
    assert_eq!((shown.len(), shown[0], shown[59]), (60, "61", "120"));
    assert!(page.contains("/?q=web&#38;state=waiting&#38;page=3"), "{page}");
    assert_eq!(Pages::of(130, &query("a&b=c", None, 1)).after.unwrap(), "/?q=a%26b%3Dc&page=2");
}

#[rstest]
#[case::well(&["ok"], |_: &mut DaemonStatus| {}, "All is well", "good")]
#[case::fresh(&["ok", "fresh"], |_: &mut DaemonStatus| {}, "1 of 2 servers not rotated since the start", "")]
#[case::failed(&["ok", "failed"], |_: &mut DaemonStatus| {}, "1 of 2 servers in trouble", "bad")]
#[case::none(&[], |_: &mut DaemonStatus| {}, "No server is enabled", "")]
#[case::stuck(&["failed"], |it: &mut DaemonStatus| it.alive = false, "The scheduler has stalled", "bad")]
#[case::token(&["ok"], |it: &mut DaemonStatus| it.token = TokenState::Refused, "The provider refuses the \
     token", "bad")]
#[case::store(&["ok"], |it: &mut DaemonStatus| it.store.up = false, "The store is not working", "bad")]
#[case::configuration(&["ok"], |it: &mut DaemonStatus| it.configuration_refused = Some("line 3".to_owned()),
    "The last reload was rejected", "bad")]
fn the_headline_is_the_one_thing_to_know(
    #[case] servers: &[&str],
    #[case] change: fn(&mut DaemonStatus),
    #[case] words: &str,
    #[case] class: &str,
) {
    let mut daemon = DaemonStatus::well();
    change(&mut daemon);
    let states = servers.iter().map(|server| match *server {
        "ok" => ServerState::Ok,
        "failed" => ServerState::Failed,
        _ => ServerState::Waiting,
    });
    let headline = Headline::of(Totals::of(states), &daemon);
    assert_eq!((headline.words.as_str(), headline.class), (words, class));
}

#[test]
fn trouble_is_told_with_its_reason_and_since_when_though_a_tick_was_skipped_since() {
    let row = row(
        "web-01",
        "",
        &[
            ended("2026-11-21T03:00:00Z", RotationOutcome::Failed, "first"),
            ended("2026-11-22T03:00:00Z", RotationOutcome::Failed, "the disk is full"),
            ended("2026-11-22T03:10:00Z", RotationOutcome::Skipped, "too soon"),
        ],
    );
    let card = ServerCard::of(&ServerRecord::of(&row, ServerState::Failed, None), noon());
    let error =
        "2 rotations without success since 2026-11-21 03:00:00 UTC; the last: the disk is full";
    assert_eq!(card.error.as_deref(), Some(error));
    assert_eq!(card.last_outcome, "skipped: too soon");
}

#[test]
fn a_card_changes_its_key_with_its_facts_and_not_with_time() {
    let key = |row: &ServerView, now| {
        ServerCard::of(&ServerRecord::of(row, ServerState::Ok, None), now).key
    };
    let at_night = row("web-01", "", &[good("2026-11-23T03:00:00Z")]);
    let later = noon() + jiff::SignedDuration::from_hours(5);
    assert_eq!(key(&at_night, noon()), key(&at_night, later));
    let again = row("web-01", "", &[good("2026-11-23T04:00:00Z")]);
    assert_ne!(key(&at_night, noon()), key(&again, noon()));
}

#[test]
fn a_ring_is_drawn_as_its_slots_in_order_and_told_in_words() {
    let mut row = row("web-01", "reserve = 1\ncap = 6", &[]);
    row.status.ring = Some(ring(vec![
        slot(1, "by-hand", Holder::Foreign, Status::Completed, "2026-11-13T12:00:00Z"),
        slot(2, "kept", Holder::Pinned, Status::Completed, "2026-11-18T12:00:00Z"),
        managed(3, "2026-11-22T03:00:00Z", Status::Failed),
        managed(4, "2026-11-23T12:00:00Z", Status::InProgress),
    ]));
    let card = ServerCard::of(&ServerRecord::of(&row, ServerState::Ok, None), noon()).ring.unwrap();
    let classes: Vec<&str> = card.slots.iter().map(|slot| slot.class.as_str()).collect();
    let expected = ["foreign", "pinned", "managed broken", "managed in_progress", "free", "free"];
    assert_eq!(classes, expected);
    assert_eq!(card.words, "2 managed, 1 foreign, 1 pinned, 2 free (1 reserved)");
    let marks: Vec<(&str, &str, &str)> = card
        .snapshots
        .iter()
        .map(|it| (it.place.as_str(), it.time.distance.as_str(), it.status.as_str()))
        .collect();
    let expected = [
        ("2.0%", "10d", "completed"),
        ("50.0%", "5d", "completed"),
        ("84.8%", "1d 9h", "failed"),
        ("98.0%", "0s", "in progress"),
    ];
    assert_eq!(marks, expected);
}

#[test]
fn a_ring_of_very_many_slots_is_told_and_not_drawn() {
    let mut row = row("web-01", "cap = 1000", &[]);
    row.status.ring = Some(ring(vec![managed(1, "2026-11-23T03:00:00Z", Status::Completed)]));
    let card = ServerCard::of(&ServerRecord::of(&row, ServerState::Ok, None), noon()).ring.unwrap();
    assert!(card.slots.is_empty());
    assert_eq!(card.words, "1 managed, 999 free");
}

#[rstest]
#[case(1, "1 managed, 4 free")]
#[case(2, "2 managed, 3 free, duplicates of 1 tick")]
#[case(3, "3 managed, 2 free, duplicates of 1 tick")]
fn a_ring_says_that_a_tick_has_several_snapshots(#[case] count: u64, #[case] words: &str) {
    let mut row = row("web-01", "", &[]);
    let slots = (1..=count).map(|id| managed(id, "2026-11-23T03:00:00Z", Status::Completed));
    row.status.ring = Some(ring(slots.collect()));
    let card = ServerCard::of(&ServerRecord::of(&row, ServerState::Ok, None), noon()).ring.unwrap();
    assert_eq!(card.words, words);
}

#[test]
fn an_empty_page_says_why() {
    assert!(page(vec![], &query("", None, 1)).contains("The configuration names no server."));
    let none = page(vec![row("web-01", "", &[])], &query("db", None, 1));
    assert!(none.contains("No server is like that. <a href=\"/\">Show all 1.</a>"));
}

#[test]
fn what_the_provider_throttles_is_shown_with_its_end() {
    let until = time("2026-11-23T12:02:00Z");
    let throttled = || ServerView { throttled_until: Some(until), ..row("web-01", "", &[]) };
    let words = "<p class=\"error\">The provider is throttling this server (429) until \
                 <time datetime=\"2026-11-23T12:02:00Z\" title=\"2026-11-23 12:02:00 UTC\">";
    assert!(page(vec![throttled()], &query("", None, 1)).contains(words));
    assert!(!page(vec![row("web-01", "", &[])], &query("", None, 1)).contains("throttling"));
    let found = Found::among(vec![throttled()], &StatusFilter::default());
    let daemon = DaemonStatus { throttled_until: Some(until), ..DaemonStatus::well() };
    let page = Page::of(found, &daemon, &query("", None, 1), noon()).render().unwrap();
    let words = "<li class=\"bad\">The provider is throttling the account (429): no calls are sent until \
                 2026-11-23 12:02:00 UTC</li>";
    assert!(page.contains(words), "{page}");
}

/// Three states: the one in trouble is open, the others are folded, and nothing needs a script.
#[test]
fn as_a_table_those_in_trouble_are_open_and_the_others_are_folded() {
    let failed = [ended("2026-11-23T03:00:00Z", RotationOutcome::Failed, "no <space> left")];
    let mut rows = vec![numbered(7, "shop-01", "", &failed)];
    rows.extend((101..=1500).map(|id| numbered(id, &format!("web-{id}"), "", &[])));
    let well = [good("2026-11-23T03:00:00Z")];
    rows.extend((2001..=2003).map(|id| numbered(id, &format!("db-{id}"), "", &well)));
    let query = |page| Query { is_table: true, ..query("", None, page) };
    let first = page(rows.clone(), &query(1));
    assert!(!first.contains("<article"), "no cards");
    let groups = between(&first, "<details id=\"state-", ">\n<summary>");
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert!(groups[0].starts_with("failed") && groups[0].ends_with(" open"), "{groups:?}");
    assert!(groups[1].starts_with("waiting") && !groups[1].contains(" open"), "{groups:?}");
    assert!(first.contains("no &#60;space&#62; left"), "the reason, as text");
    assert!(first.contains("<a href=\"/?q=7\">shop-01</a>"));
    let shown = between(&first, "<th scope=\"row\">", "</th>").len();
    assert_eq!(shown, 1000, "bounded");
    assert!(first.contains("/?view=table&#38;page=2"), "the other pages are tables, too");
    let second = page(rows, &query(2));
    assert!(second.contains("3 <strong class=\"state\">ok</strong>"), "{second}");
    assert!(second.contains("name=\"view\" value=\"table\""), "a search keeps the view");
    assert!(second.contains("<a href=\"/?page=1\">Show as cards</a>"));
}

#[test]
fn a_squeezed_ring_says_for_how_many_it_has_room() {
    let mut row = row("web-01", "", &[]);
    let foreign =
        |id| slot(id, "by-hand", Holder::Foreign, Status::Completed, "2026-11-13T12:00:00Z");
    row.status.ring = Some(ring((1..=4).map(foreign).collect()));
    let record = ServerRecord::of(&row, ServerState::Ok, None);
    let seen = record.ring.as_ref().unwrap();
    assert_eq!((seen.keep, seen.squeezed), (3, 2));
    let card = ServerCard::of(&record, noon()).ring.unwrap();
    assert_eq!(card.words, "0 managed, 4 foreign, 1 free, squeezed: room for 1 of 3");
}
