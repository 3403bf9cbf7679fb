//! The forms, as docs/NOTICES.md shows them, and what answers mean.

use rstest::rstest;

use super::*;
use crate::naming::Subject;
use crate::notify::message::bundles;
use crate::notify::tests::{DB, WEB, at, because, ended, refused};
use crate::notify::transitions::States;
use crate::report::{KnownCause, Report};

const REMIND: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

const PAGE: &str = include_str!("../../../docs/NOTICES.md");

/// All that goes out of reports that come ten minutes apart.
fn told(reports: &[Report]) -> Vec<Bundle> {
    let mut states = States::new([WEB, DB], []);
    let mut notices = Vec::new();
    for (nth, report) in reports.iter().enumerate() {
        let news = states.take(report, at(10 * i64::try_from(nth).unwrap()));
        notices.extend(news.into_iter().filter(|it| !it.goes_on));
    }
    let last = at(10 * i64::try_from(reports.len() - 1).unwrap());
    bundles(notices, last + jiff::SignedDuration::from_secs(10), 0, REMIND)
}

fn here() -> Instance {
    Instance::named("backup-1")
}

/// What is told again of it a day later.
fn reminder() -> Bundle {
    let mut states = States::new([WEB, DB], []);
    for minute in [0, 30, 60] {
        states.take(&failed(), at(minute));
    }
    let day = at(24 * 60);
    let reminder = states.of_ongoing(NoticeKind::Reminder, Subject::Server(WEB), day).unwrap();
    bundles(vec![reminder], day + jiff::SignedDuration::from_secs(10), 0, REMIND).pop().unwrap()
}

fn failed() -> Report {
    let reason = "could not list the snapshots: no answer within 30s";
    because(ended(WEB, RotationOutcome::Failed), reason)
}

fn good() -> Report {
    ended(WEB, RotationOutcome::Rotated)
}

fn recovery() -> Bundle {
    told(&[failed(), failed(), failed(), good()]).pop().unwrap()
}

/// As it goes over the wire, as far as a receiver cares.
fn shown(message: &Message) -> String {
    let headers = message.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
    let path = message.to.expose().path();
    format!("POST {path}\n{}\n{}", headers.collect::<String>(), message.body.trim_end())
}

#[rstest]
#[case::a_failure("json", "https://hooks.example/snapring", told(&[failed()]))]
#[case::a_recovery("json", "https://hooks.example/snapring", vec![recovery()])]
#[case::a_token("json", "https://hooks.example/snapring", told(&[refused(WEB, KnownCause::Token)]))]
#[case::a_reminder("json", "https://hooks.example/snapring", vec![reminder()])]
#[case::ntfy("ntfy", "https://ntfy.example/topic", told(&[failed()]))]
#[case::healthchecks("healthchecks", "https://hc.example/uuid", told(&[failed()]))]
#[case::slack("slack", "https://hooks.example/services/T0/B0/X", told(&[failed()]))]
#[case::several("slack", "https://hooks.example/services/T0/B0/X", told(&[failed(), ended(DB, RotationOutcome::Blocked)]))]
fn the_page_shows_what_goes_out(
    #[case] format: &str,
    #[case] to: &str,
    #[case] bundles: Vec<Bundle>,
) {
    let format = Format::ALL.into_iter().find(|it| it.as_str() == format).unwrap();
    let [bundle] = bundles.try_into().unwrap();
    let shown = shown(&format.message(&Webhook::parse(to).unwrap(), &bundle, &here()));
    assert!(
        PAGE.contains(&format!("```http\n{shown}\n```\n")),
        "docs/NOTICES.md does not show this:\n{shown}"
    );
}

/// Users cannot rely on a field that the page does not describe.
#[test]
fn the_page_describes_every_field_of_the_document() {
    let document: serde_json::Value =
        serde_json::from_str(&document(&recovery(), &here())).unwrap();
    let fields = document.as_object().unwrap().keys();
    let entry = document["subjects"][0].as_object().unwrap().keys();
    let known = fields.len() + entry.len();
    for field in fields.chain(entry) {
        assert!(PAGE.contains(&format!("| `{field}` | ")), "`{field}` is not described");
    }
    let rows = PAGE.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, known + Format::ALL.len(), "a row for each field and each format, no more");
}

#[test]
fn a_document_lists_a_hundred_and_counts_the_rest() {
    let [bundle] = told(&[failed()]).try_into().unwrap();
    let notices = vec![bundle.notices[0].clone(); 130];
    let document: serde_json::Value =
        serde_json::from_str(&document(&Bundle { notices, ..bundle }, &here())).unwrap();
    assert_eq!(document["subjects"].as_array().unwrap().len(), 100);
    assert_eq!(document["more"], 30);
}

#[test]
fn slack_is_given_nothing_that_it_takes_for_its_own() {
    let report = because(failed(), "<!channel> & <https://x.example|y>");
    let [bundle] = told(&[report]).try_into().unwrap();
    let message =
        Format::Slack.message(&Webhook::parse("https://x.example/y").unwrap(), &bundle, &here());
    let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
    let text = body["text"].as_str().unwrap();
    assert!(text.contains("&lt;!channel&gt; &amp; &lt;https://x.example|y&gt;"), "{text}");
    assert_eq!(body.as_object().unwrap().len(), 1);
}

#[test]
fn a_title_is_one_line_whatever_a_server_is_called() {
    let mut report = failed();
    report.server = "web\r\nPriority: max".to_owned();
    let [bundle] = told(&[report]).try_into().unwrap();
    let message =
        Format::Ntfy.message(&Webhook::parse("https://x.example/y").unwrap(), &bundle, &here());
    let title = &message.headers.iter().find(|(name, _)| *name == "Title").unwrap().1;
    assert_eq!(title, "snapring on backup-1: web  Priority: max failed");
}

#[rstest]
#[case::json(Format::Json, "/uuid")]
#[case::ntfy(Format::Ntfy, "/uuid")]
#[case::slack(Format::Slack, "/uuid")]
#[case::healthchecks(Format::Healthchecks, "/uuid/log")]
fn a_test_changes_no_checks_state(#[case] format: Format, #[case] path: &str) {
    let to = Webhook::parse("https://x.example/uuid").unwrap();
    let message = format.message(&to, &Bundle::test(at(0)), &here());
    assert_eq!(message.to.expose().path(), path);
    assert!(format!("{message:?}").starts_with("Message(https://x.example, "), "{message:?}");
}

#[rstest]
#[case(Format::Json, 204, "", Outcome::Ok, "204")]
#[case(Format::Json, 301, "", Outcome::Rejected, "301")]
#[case(
    Format::Slack,
    403,
    "invalid_token\n\u{1b}[2J",
    Outcome::Forbidden,
    "403: invalid_token \u{fffd}[2J"
)]
#[case(Format::Slack, 429, "", Outcome::Throttled, "429")]
#[case(
    Format::Ntfy,
    200,
    "{\"id\":\"x\",\"topic\":\"uuid\"}",
    Outcome::Ok,
    "200: {\"id\":\"x\",\"topic\":\"[…]\"}"
)]
#[case(Format::Healthchecks, 200, "OK", Outcome::Ok, "200: OK")]
#[case(Format::Healthchecks, 200, "OK (not found)", Outcome::NotFound, "200: OK (not found)")]
#[case(
    Format::Healthchecks,
    200,
    "OK (rate limited)",
    Outcome::Throttled,
    "200: OK (rate limited)"
)]
#[case(Format::Json, 200, "OK (not found)", Outcome::Ok, "200: OK (not found)")]
fn answers_have_a_class_and_show_nothing_of_the_address(
    #[case] format: Format,
    #[case] status: u16,
    #[case] body: &str,
    #[case] outcome: Outcome,
    #[case] words: &str,
) {
    let to = Webhook::parse("https://x.example/uuid").unwrap();
    let answer = PostAnswer { status, retry_after: None, body: body.into() };
    assert_eq!(format.understand(&answer, &to), (outcome, words.to_owned()));
}

#[rstest::rstest]
#[case("https://hc-ping.com/5c1f", Some(Format::Healthchecks))]
#[case("https://eu.healthchecks.io/ping/5c1f", Some(Format::Healthchecks))]
#[case("https://ntfy.sh/topic", Some(Format::Ntfy))]
#[case("https://hooks.slack.com/services/T0/B1/x", Some(Format::Slack))]
#[case("https://discord.com/api/webhooks/1/x/slack", Some(Format::Slack))]
#[case("https://discord.com/api/webhooks/1/x", None)]
#[case("https://nothc-ping.com/5c1f", None)]
#[case("https://hc-ping.com.evil.example/5c1f", None)]
#[case("https://hooks.example/snapring", None)]
fn a_service_is_known_by_its_host(#[case] address: &str, #[case] known: Option<Format>) {
    assert_eq!(Format::of_service(&Webhook::parse(address).unwrap()), known);
}
