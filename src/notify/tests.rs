//! The whole of it on a paused clock, with a post of memory; and what the tests below share.

use std::collections::VecDeque;
use std::future::pending;

use super::*;
use crate::config;
use crate::config::types::Settings;
use crate::health::{Age, RotationHistory};
use crate::naming::Tick;
use crate::notify::http::{Message, PostAnswer, Posting};
use crate::provider::transport::TransportError;
use crate::report::{KnownCause, PastRotation, RotationOutcome, Stretch};
use crate::status::counts::Counts;
use crate::store::told::{Told, ToldState};
use crate::testing::notes::Notes;

pub(crate) const WEB: ServerId = ServerId::new(101);
pub(crate) const DB: ServerId = ServerId::new(102);

/// So many minutes after three.
pub(crate) fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_795_662_000 + 60 * minute).unwrap()
}

/// A report of this outcome, as rotations make them.
pub(crate) fn ended(server: ServerId, outcome: RotationOutcome) -> Report {
    let name = match server {
        WEB => "web".to_owned(),
        DB => "db".to_owned(),
        other => format!("server-{other}"),
    };
    let mut report =
        Report::without_steps(outcome, server, &name, Tick::at(at(0)), "why".to_owned());
    if outcome.is_good() {
        report.reason = None;
        report.created = Some("snapring-20261126T030000Z".to_owned());
    }
    report
}

pub(crate) fn because(report: Report, reason: &str) -> Report {
    Report { reason: Some(reason.to_owned()), ..report }
}

/// A tick that was skipped because another process has the server.
pub(crate) fn hindered(server: ServerId) -> Report {
    let reason =
        "another snapring process on this machine is working on it: `snapring create`, pid 811";
    let report = because(ended(server, RotationOutcome::Skipped), reason);
    Report { known_cause: Some(KnownCause::Hindered), ..report }
}

/// A rotation that failed for a cause of the account's.
pub(crate) fn refused(server: ServerId, cause: KnownCause) -> Report {
    let reason =
        "could not list the snapshots: the provider refused the token (401): Invalid token.";
    let report = because(ended(server, RotationOutcome::Failed), reason);
    Report { known_cause: Some(cause), ..report }
}

/// What a service of memory does with one letter.
#[derive(Clone)]
enum Reply {
    Status(u16, Option<&'static str>, &'static str),
    Broken,
    Hang,
}

const TAKEN: Reply = Reply::Status(200, None, "OK");

/// Services of memory: what comes for a host is done with its letters in turn, and then they are
/// taken, but for hosts that always hang.
struct Services {
    clock: Clock,
    replies: Mutex<VecDeque<Reply>>,
    /// When, to which path of which host, and what for.
    seen: Mutex<Vec<(Duration, String, String)>>,
}

impl Services {
    fn new(clock: &Clock, replies: &[Reply]) -> Arc<Self> {
        let replies = Mutex::new(replies.iter().cloned().collect());
        Arc::new(Self { clock: clock.clone(), replies, seen: Mutex::default() })
    }

    /// All letters to a host so far, as `seconds path title`.
    fn seen(&self, host: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let to = seen.iter().filter_map(|(when, to, what)| {
            let path = to.strip_prefix(host)?;
            Some(format!("{} {path} {what}", when.as_secs()))
        });
        to.collect()
    }
}

impl Post for Services {
    fn post<'a>(&'a self, letter: &'a Message) -> Posting<'a> {
        Box::pin(async {
            let url = letter.to.expose();
            let title =
                letter.body.lines().find_map(|line| line.trim().strip_prefix("\"title\": "));
            let title = title.or(letter.body.lines().next()).unwrap_or_default();
            let what = title.trim_matches([',', '"']).replace("snapring on here: ", "");
            let to = format!("{}{}", url.host_str().unwrap(), url.path());
            self.seen.lock().unwrap().push((self.clock.now().uptime, to, what));
            let reply = if url.host_str() == Some("hangs.example") {
                Reply::Hang
            } else {
                self.replies.lock().unwrap().pop_front().unwrap_or(TAKEN)
            };
            match reply {
                Reply::Hang => pending().await,
                Reply::Broken => Err(TransportError::Connection("refused".into())),
                Reply::Status(status, retry_after, body) => {
                    let retry_after = retry_after.map(str::to_owned);
                    Ok(PostAnswer { status, retry_after, body: body.into() })
                }
            }
        })
    }
}

const SERVERS: &str = "[defaults]\nschedule = \"0 3 * * *\"\nkeep = 2\n[[server]]\nid = 101\n\
                       [[server]]\nid = 102\n";

pub(crate) fn settings(notify: &str) -> Settings {
    let text = format!("{SERVERS}{notify}");
    config::parse("test.toml", &text).unwrap_or_else(|it| panic!("{}", it.render(false))).settings
}

fn to(host: &str, lines: &str) -> String {
    format!("[[notify]]\nurl = \"https://{host}/key\"\ninstance = \"here\"\n{lines}\n")
}

struct Stage {
    clock: Clock,
    services: Arc<Services>,
    notices: Notices,
    counts: Counts,
    notes: Notes,
    _listening: (tracing::Dispatch, tracing::subscriber::DefaultGuard),
}

impl Stage {
    fn new(notify: &str, replies: &[Reply]) -> Self {
        Self::going_on(notify, replies, &[])
    }

    fn going_on(
        notify: &str,
        replies: &[Reply],
        last_known: &[(ServerId, RotationOutcome)],
    ) -> Self {
        Self::after(notify, replies, last_known, ToldBook::none())
    }

    /// In a process that begins when others have told what is in the book.
    fn after(
        notify: &str,
        replies: &[Reply],
        last_known: &[(ServerId, RotationOutcome)],
        told: ToldBook,
    ) -> Self {
        let clock = Clock::simulated(at(0));
        let services = Services::new(&clock, replies);
        let last_known = last_known.iter().map(|(server_id, outcome)| {
            let past = PastRotation::of(&ended(*server_id, *outcome), at(0));
            LastOfServer::of(*server_id, vec![past])
        });
        let post = Arc::clone(&services) as Arc<dyn Post>;
        let counts = Counts::default();
        let notices = Notices::start(
            settings(notify).audience(),
            last_known,
            told,
            clock.clone(),
            post,
            counts.clone(),
        );
        let notes = Notes::default();
        let listening = notes.listen();
        Self { clock, services, notices, counts, notes, _listening: listening }
    }

    fn ended(&self, server: ServerId, outcome: RotationOutcome) {
        self.notices.on_report(&ended(server, outcome), self.clock.now().wall);
    }

    async fn pass(&self, seconds: u64) {
        self.clock.sleep(Duration::from_secs(seconds)).await;
    }

    /// The log's events of notices, as `level outcome message`.
    fn told(&self) -> Vec<String> {
        let all = self.notes.of("notice");
        let line = all.iter().map(|(level, fields)| {
            let outcome = fields.get("outcome").map_or("-", String::as_str);
            format!("{level} {outcome} {}", fields["message"])
        });
        line.collect()
    }
}

use RotationOutcome::{Failed, Rotated};

/// S8: what a webhook did not accept is shown until it accepts one. The recovery is owed, so the next success sends it.
#[tokio::test(start_paused = true)]
async fn a_webhook_that_refuses_is_shown_until_it_accepts_a_notice() {
    let no = |status| Reply::Status(status, None, "gone");
    let stage = Stage::new(&to("one.example", ""), &[no(404), no(302), no(410)]);
    let shown = || stage.counts.webhooks().undelivered();
    assert_eq!(shown(), []);
    stage.ended(WEB, Failed);
    stage.pass(60).await;
    let [first] = shown().try_into().unwrap();
    assert_eq!((first.to.as_str(), first.notices), ("https://one.example", 1));
    assert_eq!(first.answer.as_deref(), Some("404: gone"));
    for notices in 2..=3 {
        stage.ended(WEB, Rotated);
        stage.pass(60).await;
        let [next] = shown().try_into().unwrap();
        assert_eq!((next.notices, next.since), (notices, first.since));
    }
    assert_eq!(stage.counts.webhooks().counts(), BTreeMap::from([(first.to, 3)]));
    stage.ended(WEB, Rotated);
    stage.pass(60).await;
    assert_eq!(shown(), []);
    let seen = said(&stage, "one.example");
    assert_eq!(seen, ["web failed", "web recovered", "web recovered", "web recovered"]);
    // Nothing is owed any more.
    stage.ended(WEB, Rotated);
    stage.pass(60).await;
    assert_eq!(said(&stage, "one.example").len(), 4);
}

/// S8: it is shown and logged from the first failed attempt on, not only once it is given up.
#[tokio::test(start_paused = true)]
async fn a_notice_that_is_retried_is_shown_until_it_is_delivered() {
    let busy = Reply::Status(503, None, "busy");
    let stage = Stage::new(&to("one.example", ""), &[busy.clone(), busy.clone(), TAKEN, busy]);
    stage.ended(WEB, Failed);
    let warned = "WARN server_error could not deliver a notice to https://one.example yet (503: busy; retrying until \
                  2026-11-26 03:04:24 UTC): snapring: web failed";
    for seconds in [11, 4] {
        stage.pass(seconds).await;
        let [shown] = stage.counts.webhooks().undelivered().try_into().unwrap();
        assert_eq!((shown.notices, shown.answer.as_deref()), (1, Some("503: busy")));
        assert_eq!(shown.retried_until, Some(at(4) + Duration::from_secs(24)));
        assert!(
            shown
                .words(&jiff::tz::TimeZone::UTC)
                .contains("; retrying until 2026-11-26 03:04:24 UTC")
        );
        assert_eq!(stage.told(), [warned], "once");
    }
    assert_eq!(stage.notes.of("notice")[0].1["until"], "2026-11-26T03:04:24Z");
    stage.pass(5).await;
    assert_eq!(stage.counts.webhooks().undelivered(), []);
    assert_eq!(stage.told()[1..], ["INFO ok told https://one.example: snapring: web failed"]);
    stage.ended(WEB, Rotated);
    stage.pass(11).await;
    assert!(stage.told()[2].starts_with("WARN"), "the next is shown, too: {:?}", stage.told());
}

#[tokio::test(start_paused = true)]
async fn what_another_address_refused_is_not_shown_after_a_reload() {
    let gone = Reply::Status(404, None, "");
    let stage = Stage::new(&to("old.example", ""), &[gone.clone(), gone]);
    stage.ended(WEB, Failed);
    stage.pass(60).await;
    assert_eq!(stage.counts.webhooks().undelivered().len(), 1);
    let new = settings(&to("new.example", ""));
    stage.notices.reload(new.audience());
    assert_eq!(stage.counts.webhooks().undelivered(), []);
    // What is owed is sent there, and that it refuses it is shown.
    stage.pass(60).await;
    assert_eq!(stage.counts.webhooks().undelivered()[0].to, "https://new.example");
    stage.notices.reload(Settings { notify: Vec::new(), ..new }.audience());
    assert_eq!(stage.counts.webhooks().undelivered(), []);
    assert!(stage.counts.webhooks().counts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_after_a_window_and_what_comes_within_it_goes_along() {
    let stage = Stage::new(&to("one.example", ""), &[]);
    stage.ended(WEB, Failed);
    stage.pass(5).await;
    stage.ended(DB, Failed);
    stage.pass(4).await;
    assert_eq!(stage.services.seen("one.example"), Vec::<String>::new());
    stage.pass(60).await;
    stage.ended(WEB, Failed);
    stage.pass(60).await;
    stage.ended(WEB, Rotated);
    stage.pass(60).await;
    stage.ended(WEB, Rotated);
    stage.pass(60).await;
    assert_eq!(
        stage.services.seen("one.example"),
        ["10 /key 2 servers failed", "139 /key web recovered"]
    );
    assert_eq!(
        stage.told(),
        [
            "INFO ok told https://one.example: snapring: 2 servers failed",
            "INFO ok told https://one.example: snapring: web recovered"
        ]
    );
    let (_, fields) = &stage.notes.of("notice")[0];
    let field = |name| fields[name].as_str();
    assert_eq!(
        (field("notice"), field("to"), field("format"), field("about"), field("attempt")),
        ("failure", "https://one.example", "json", "2", "1")
    );
}

#[tokio::test(start_paused = true)]
async fn each_is_told_what_it_asked_for() {
    let notify = [
        to("both.example", ""),
        to("bad.example", "on = [\"failure\"]"),
        to("good.example", "on = [\"success\"]"),
        to("all.example", "on = [\"failure\", \"recovery\", \"success\"]"),
    ];
    let stage = Stage::new(&notify.concat(), &[]);
    for outcome in [Rotated, Failed, Failed, Rotated] {
        stage.ended(WEB, outcome);
        stage.pass(20).await;
    }
    let seen = |host: &str| stage.services.seen(host).join(", ");
    assert_eq!(seen("both.example"), "30 /key web failed, 70 /key web recovered");
    assert_eq!(seen("bad.example"), "30 /key web failed");
    assert_eq!(seen("good.example"), "10 /key web rotated, 70 /key web rotated");
    assert_eq!(
        seen("all.example"),
        "10 /key web rotated, 30 /key web failed, 70 /key web recovered"
    );
}

#[tokio::test(start_paused = true)]
async fn a_check_is_pinged_well_only_while_nothing_fails() {
    let stage = Stage::new(&to("hc.example", "format = \"healthchecks\""), &[]);
    let story = [(WEB, Rotated), (WEB, Failed), (DB, Failed), (WEB, Rotated), (WEB, Rotated)];
    for (server, outcome) in story {
        stage.ended(server, outcome);
        stage.pass(20).await;
    }
    // Within one window: one is well again, the other one fails right after.
    stage.ended(DB, Rotated);
    stage.ended(WEB, Failed);
    stage.pass(20).await;
    stage.ended(WEB, Rotated);
    stage.pass(20).await;
    stage.ended(DB, Rotated);
    stage.pass(20).await;
    assert_eq!(
        stage.services.seen("hc.example"),
        [
            "10 /key web rotated",
            "30 /key/fail web failed",
            "50 /key/fail db failed",
            "110 /key/fail web failed",
            "130 /key web recovered",
            "150 /key db rotated"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_when_the_service_says_and_what_will_not_is_not() {
    let throttled = Reply::Status(429, Some("90"), "slow down");
    let replies = [Reply::Broken, Reply::Status(503, None, ""), throttled, TAKEN];
    let stage = Stage::new(&to("one.example", ""), &replies);
    stage.ended(WEB, Failed);
    stage.pass(300).await;
    let seen = stage.services.seen("one.example");
    let expected = [10, 12, 16, 106].map(|second| format!("{second} /key web failed"));
    assert_eq!(seen, expected);
    assert_eq!(stage.notes.of("notice").len(), 2, "one event while it is retried, not one a try");
    assert_eq!(stage.notes.of("notice")[1].1["attempt"], "4");

    let no = Reply::Status(404, None, "no\nteam /key");
    let stage = Stage::new(&to("one.example", ""), &[no]);
    stage.ended(WEB, Failed);
    stage.pass(3600).await;
    assert_eq!(stage.services.seen("one.example").len(), 1);
    assert_eq!(
        stage.told(),
        [
            "ERROR not_found could not deliver a notice to https://one.example (404: no team […]; retrying would not \
                 help): snapring: web failed"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn tries_and_time_are_bounded_and_the_next_notice_has_its_own() {
    let down = vec![Reply::Status(500, None, ""); 8];
    let stage = Stage::new(&to("one.example", ""), &down);
    stage.ended(WEB, Failed);
    stage.pass(1200).await;
    let seconds = |seen: Vec<String>| -> Vec<u64> {
        seen.iter().map(|it| it.split(' ').next().unwrap().parse().unwrap()).collect()
    };
    let tried = seconds(stage.services.seen("one.example"));
    assert_eq!(tried, [10, 12, 16, 24, 40, 72, 136, 264]);
    stage.ended(WEB, Rotated);
    stage.pass(60).await;
    assert_eq!(stage.services.seen("one.example").last().unwrap(), "1210 /key web recovered");
    let told = stage.told();
    assert!(told[1].contains("(500; it was tried often enough already)"), "{told:?}");
    assert_eq!(told.len(), 3);

    // An hour is longer than anything waits for.
    let later = Reply::Status(429, Some("3600"), "");
    let stage = Stage::new(&to("one.example", ""), &[later]);
    stage.ended(WEB, Failed);
    stage.pass(7200).await;
    assert_eq!(stage.services.seen("one.example").len(), 1);
    assert!(stage.told()[0].contains("there is no time for another attempt"), "{:?}", stage.told());
}

/// The service is away for longer than anything is tried.
#[tokio::test(start_paused = true)]
async fn a_failure_that_could_not_be_told_is_told_at_the_next_failing_tick() {
    let down = vec![Reply::Status(503, None, ""); 8];
    let stage =
        Stage::new(&(to("one.example", "") + &to("two.example", "")), &[&down[..], &down].concat());
    // A failing tick each 30 seconds for 11 minutes: both services are given up after 264 seconds.
    for _ in 0..22 {
        stage.ended(WEB, Failed);
        stage.pass(30).await;
    }
    let told = |host: &str| {
        let seen = stage.services.seen(host);
        seen.iter().skip(8).cloned().collect::<Vec<_>>()
    };
    assert_eq!(told("one.example"), ["280 /key web failed"], "once");
    assert_eq!(told("two.example"), ["280 /key web failed"]);
    stage.ended(WEB, Rotated);
    stage.pass(30).await;
    assert_eq!(told("one.example")[1..], ["670 /key web recovered"]);
}

#[tokio::test(start_paused = true)]
async fn the_recovery_of_what_could_not_be_told_says_so() {
    let down = vec![Reply::Status(503, None, ""); 8];
    let stage = Stage::new(&to("one.example", "format = \"ntfy\""), &down);
    stage.ended(WEB, Failed);
    stage.pass(1200).await;
    for outcome in [Rotated, Failed, Rotated] {
        stage.ended(WEB, outcome);
        stage.pass(60).await;
    }
    let seen: Vec<String> = stage.services.seen("one.example").into_iter().skip(8).collect();
    let untold: Vec<bool> =
        seen.iter().map(|it| it.contains("No notice of the failure could be delivered.")).collect();
    assert_eq!(untold, [true, false, false], "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_says_no_is_not_delivered_whatever_the_status_says() {
    let busy = Reply::Status(200, None, "{\"ok\":false,\"error\":\"ratelimited\"}");
    let no = Reply::Status(200, None, "{\"ok\":false,\"msg\":\"Monitor not found\"}");
    let stage = Stage::new(&to("one.example", ""), &[busy, no]);
    stage.ended(WEB, Failed);
    stage.pass(60).await;
    assert_eq!(stage.services.seen("one.example").len(), 2, "what may pass is tried again");
    assert_eq!(
        stage.told()[1..],
        [
            "ERROR rejected could not deliver a notice to https://one.example (200: {\"ok\":false,\"msg\":\"Monitor not \
             found\"}; retrying would not help): snapring: web failed"
        ]
    );
    stage.ended(WEB, Failed);
    stage.pass(60).await;
    assert_eq!(stage.told().len(), 3, "it is told at the next failing tick");
}

#[tokio::test(start_paused = true)]
async fn healthchecks_says_ok_to_what_it_ignores() {
    let limited = Reply::Status(200, None, "OK (rate limited)");
    let unknown = Reply::Status(200, None, "OK (not found)");
    let stage = Stage::new(&to("hc.example", "format = \"healthchecks\""), &[limited, unknown]);
    stage.ended(WEB, Rotated);
    stage.pass(60).await;
    assert_eq!(stage.services.seen("hc.example").len(), 2);
    let told = stage.told();
    assert!(
        told[1].starts_with("ERROR not_found could not deliver a notice to https://hc.example"),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_holds_no_other_up_and_its_own_notices_keep_their_order() {
    let stage = Stage::new(&(to("hangs.example", "") + &to("one.example", "")), &[]);
    for outcome in [Failed, Rotated, Failed] {
        stage.ended(WEB, outcome);
        stage.pass(30).await;
    }
    assert_eq!(stage.services.seen("one.example").len(), 3);
    stage.pass(1200).await;
    let seen = stage.services.seen("hangs.example");
    let first = |what: &str| seen.iter().position(|it| it.ends_with(what)).unwrap();
    let last = |what: &str| seen.iter().rposition(|it| it.ends_with(what)).unwrap();
    assert!(first("web recovered") > first("web failed"), "{seen:?}");
    assert!(last("web failed") > last("web recovered"), "the second failure: {seen:?}");
    let told = stage.told();
    let of = |host: &str| told.iter().filter(|it| it.contains(host)).count();
    assert_eq!((of("hangs.example"), of("one.example")), (3 + 3, 3), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_counted_and_told() {
    let stage = Stage::new(&to("hangs.example", "on = [\"success\"]"), &[]);
    stage.ended(WEB, Rotated);
    stage.pass(15).await;
    for _ in 0..QUEUE + 7 {
        stage.ended(WEB, Rotated);
    }
    stage.pass(1200).await;
    let told = stage.told();
    let lost = "WARN - 7 notices to https://hangs.example were lost because it is too slow";
    assert_eq!(told.iter().filter(|it| *it == lost).count(), 1, "{told:?}");
    let given_up = told.iter().filter(|it| it.starts_with("ERROR")).count();
    assert_eq!(given_up, 2, "one rotation, and then the last of all the others: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_no_window_and_a_few_seconds_for_a_slow_service() {
    let stage = Stage::new(&(to("hangs.example", "") + &to("one.example", "")), &[]);
    stage.ended(WEB, Failed);
    let begun = stage.clock.now().uptime;
    stage.notices.end().await;
    assert_eq!(stage.clock.now().uptime.saturating_sub(begun), GRACE);
    assert_eq!(stage.services.seen("one.example"), ["0 /key web failed"]);
    let mut told = stage.told();
    told.sort();
    assert_eq!(
        told,
        [
            "ERROR - could not deliver a notice to https://hangs.example (snapring stopped before it could be sent): \
             snapring: web failed",
            "INFO ok told https://one.example: snapring: web failed"
        ]
    );
    stage.ended(WEB, Rotated);
    stage.pass(60).await;
    assert_eq!(stage.services.seen("one.example").len(), 1, "nothing is told after the end");
}

#[tokio::test(start_paused = true)]
async fn a_reload_takes_targets_up_and_lets_others_go_after_what_they_are_owed() {
    let stage = Stage::new(&(to("stays.example", "") + &to("goes.example", "")), &[]);
    stage.ended(WEB, Failed);
    let on = "on = [\"failure\", \"recovery\", \"success\"]";
    let then = to("comes.example", "") + &to("stays.example", on);
    let then = settings(&then);
    stage.notices.reload(then.audience());
    stage.pass(20).await;
    stage.ended(WEB, Rotated);
    stage.pass(20).await;
    stage.ended(WEB, Rotated);
    stage.pass(20).await;
    let seen = |host: &str| stage.services.seen(host).join(", ");
    assert_eq!(seen("goes.example"), "0 /key web failed");
    assert_eq!(seen("comes.example"), "10 /key web failed, 30 /key web recovered");
    let stays = "10 /key web failed, 30 /key web recovered, 50 /key web rotated";
    assert_eq!(seen("stays.example"), stays);
    let without = to("stays.example", on) + "[[server]]\nid = 103\nenabled = false\n";
    let without = settings(&without);
    stage.notices.reload(without.audience());
    stage.ended(ServerId::new(103), Failed);
    stage.pass(20).await;
    assert_eq!(seen("stays.example"), stays, "what is disabled fails at nothing");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_knows_what_failed_tells_the_recovery() {
    let stage = Stage::going_on(&to("one.example", ""), &[], &[(WEB, Failed), (DB, Rotated)]);
    stage.ended(WEB, Failed);
    stage.ended(WEB, Rotated);
    stage.ended(DB, Rotated);
    stage.pass(60).await;
    assert_eq!(stage.services.seen("one.example"), ["10 /key web recovered"]);
}

const HOUR: u64 = 3600;

/// The second half of each line that a host got: what is said, without when.
fn said(stage: &Stage, host: &str) -> Vec<String> {
    stage
        .services
        .seen(host)
        .iter()
        .map(|it| it.split_once(" /key ").unwrap().1.to_owned())
        .collect()
}

/// Lets hours pass while reminders are watched, as in the daemon.
async fn watched(stage: &Stage, seconds: u64) {
    let watched = stage.notices.keep_reminding();
    let _ = stage.clock.timeout(Duration::from_secs(seconds), watched).await;
}

#[tokio::test(start_paused = true)]
async fn trouble_that_goes_on_is_repeated_by_the_clock_until_it_is_over() {
    let notify = to("day.example", "")
        + &to("hour.example", "remind = \"1h\"")
        + &to("never.example", "remind = \"0s\"")
        + &to("good.example", "on = [\"recovery\"]\nremind = \"1h\"");
    let stage = Stage::new(&notify, &[]);
    // No further tick comes: nothing but the clock can say so.
    stage.ended(WEB, Failed);
    watched(&stage, 50 * HOUR).await;
    assert_eq!(said(&stage, "never.example"), ["web failed"]);
    assert_eq!(said(&stage, "day.example"), ["web failed", "web still fails", "web still fails"]);
    let hourly = stage.services.seen("hour.example");
    assert!((48..=50).contains(&hourly.len()), "{}: {hourly:?}", hourly.len());
    stage.ended(WEB, Rotated);
    watched(&stage, 50 * HOUR).await;
    assert_eq!(said(&stage, "day.example").last().unwrap(), "web recovered");
    assert_eq!(said(&stage, "good.example"), ["web recovered"]);
    assert_eq!(said(&stage, "hour.example").len(), hourly.len() + 1, "nothing after the recovery");
    let event = &stage.notes.of("notice")[4].1["notice"];
    assert_eq!(event, "reminder");
}

/// No rotation of it ends at all.
#[tokio::test(start_paused = true)]
async fn a_server_whose_last_success_is_too_old_is_repeated_too() {
    let stage = Stage::new(&to("day.example", ""), &[]);
    let server = settings("").servers.remove(0);
    let since = Some(at(-10 * 24 * 60));
    let age = Age { server: &server, success: None, since, is_under_way: false };
    let health = RotationHistory::default().health(&age, at(0));
    for _ in 0..3 {
        stage.notices.on_standing(&server, health.trouble().unwrap(), stage.clock.now().wall);
        stage.pass(60).await;
    }
    watched(&stage, 25 * HOUR).await;
    let name = "server-101";
    assert_eq!(
        said(&stage, "day.example"),
        [format!("{name} has had no success for too long"), format!("{name} still has no success")]
    );
}

#[tokio::test(start_paused = true)]
async fn servers_that_failed_minutes_apart_are_one_reminder_and_the_token_is_reminded_of() {
    let stage = Stage::new(&to("day.example", ""), &[]);
    stage.ended(WEB, Failed);
    stage.pass(900).await;
    stage.ended(DB, Failed);
    stage.pass(900).await;
    let refused = refused(DB, KnownCause::Token);
    stage.notices.on_report(&refused, stage.clock.now().wall);
    watched(&stage, 30 * HOUR).await;
    assert_eq!(
        said(&stage, "day.example")[3..],
        ["the API token is still refused, 2 servers are still in trouble"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_reminder_is_for_those_who_were_told_and_is_tried_again_within_the_hour() {
    // The failure is never delivered.
    let down = vec![Reply::Status(503, None, ""); 8];
    let stage = Stage::new(&to("day.example", ""), &down);
    stage.ended(WEB, Failed);
    watched(&stage, 30 * HOUR).await;
    assert_eq!(said(&stage, "day.example"), vec!["web failed"; 8], "it was not told: no reminder");

    // The first reminder is not delivered.
    let replies = [&[TAKEN][..], &down].concat();
    let stage = Stage::new(&to("day.example", ""), &replies);
    stage.ended(WEB, Failed);
    watched(&stage, 26 * HOUR).await;
    let seen = said(&stage, "day.example");
    assert_eq!(seen.len(), 1 + 8 + 1, "{seen:?}");
    assert_eq!(seen.last().unwrap(), "web still fails");
}

/// A timer's run: what it looked at and still fails is told again a day after the beginning, if that has passed
/// since the run before.
#[tokio::test(start_paused = true)]
async fn a_single_run_reminds_if_a_reminder_fell_due_since_the_run_before() {
    for (hours, ran, reminded) in [(23_i64, 23, true), (30, 5, false), (47, 23, true)] {
        let clock = Clock::simulated(at(0));
        let before = at(-60 * ran);
        let past = PastRotation::of(&ended(WEB, Failed), before);
        let stretch = Stretch { since: at(-60 * hours), rotations: 2 };
        let web =
            LastOfServer { failed: Some(stretch), ..LastOfServer::of(WEB, vec![past.clone()]) };
        let db = LastOfServer { failed: Some(stretch), ..LastOfServer::of(DB, vec![past]) };
        let services = Services::new(&clock, &[]);
        let settings = settings(&(to("day.example", "") + &to("never.example", "remind = \"0s\"")));
        let post = Arc::clone(&services) as Arc<dyn Post>;
        let notices = Notices::start(
            settings.audience(),
            [web, db],
            ToldBook::none(),
            clock.clone(),
            post,
            Counts::default(),
        );
        notices.on_report(&ended(WEB, Failed), clock.now().wall);
        notices.remind_since(&BTreeMap::from([(Subject::Server(WEB), before)]));
        notices.end().await;
        let expected = if reminded { vec!["0 /key web still fails"] } else { Vec::new() };
        assert_eq!(services.seen("day.example"), expected, "{hours}");
        assert_eq!(services.seen("never.example"), Vec::<String>::new());
    }
}

/// What has lasted for 30 hours was told by the process before, and is told again 18 hours later: neither at
/// once nor never, however often it is started.
#[tokio::test(start_paused = true)]
async fn a_restart_neither_repeats_nor_forgets_a_reminder() {
    let clock = Clock::simulated(at(0));
    let past = PastRotation::of(&ended(WEB, Failed), at(-5));
    let stretch = Stretch { since: at(-30 * 60), rotations: 9 };
    let last = LastOfServer { failed: Some(stretch), ..LastOfServer::of(WEB, vec![past]) };
    let services = Services::new(&clock, &[]);
    let settings = settings(&to("day.example", ""));
    let start = || {
        let post = Arc::clone(&services) as Arc<dyn Post>;
        Notices::start(
            settings.audience(),
            [last.clone()],
            ToldBook::none(),
            clock.clone(),
            post,
            Counts::default(),
        )
    };
    for _ in 0..3 {
        let notices = start();
        let _ = clock.timeout(Duration::from_secs(5 * HOUR), notices.keep_reminding()).await;
        notices.end().await;
    }
    assert_eq!(services.seen("day.example"), Vec::<String>::new());
    let notices = start();
    let _ = clock.timeout(Duration::from_secs(5 * HOUR), notices.keep_reminding()).await;
    let seen = services.seen("day.example");
    let [reminder] = <[String; 1]>::try_from(seen).unwrap();
    let second: u64 = reminder.split(' ').next().unwrap().parse().unwrap();
    assert!((18 * HOUR..18 * HOUR + 60).contains(&second), "{second}");
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_reminders_and_takes_another_interval_up() {
    let stage = Stage::new(&to("one.example", ""), &[]);
    stage.ended(WEB, Failed);
    stage.pass(60).await;
    let then = settings(&(to("one.example", "remind = \"2h\"") + &to("two.example", "")));
    stage.notices.reload(then.audience());
    watched(&stage, 3 * HOUR).await;
    assert_eq!(said(&stage, "one.example"), ["web failed", "web still fails"]);
    watched(&stage, 40 * HOUR).await;
    assert_eq!(said(&stage, "two.example"), ["web failed", "web still fails"], "a day apart");
    let mut without = settings(&(to("one.example", "remind = \"2h\"") + "[[server]]\nid = 103\n"));
    without.servers.remove(0);
    let before = said(&stage, "one.example").len();
    stage.notices.reload(without.audience());
    watched(&stage, 10 * HOUR).await;
    assert_eq!(said(&stage, "one.example").len(), before, "who left is not reminded of");
}

/// A store of memory: what one process has told is known to the next.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Told>>);

impl Kept {
    fn book(&self) -> ToldBook {
        let kept = self.clone();
        let keep = move |of, state: Option<ToldState>| {
            let mut kept = kept.0.lock().unwrap();
            match state {
                Some(state) => kept.insert(of, state),
                None => kept.remove(&of),
            };
        };
        let known = Some(Arc::new(self.0.lock().unwrap().clone()));
        ToldBook { known, keep: Arc::new(keep) }
    }
}

/// Without reminders there is nothing else that could make up for it.
#[tokio::test(start_paused = true)]
async fn a_failure_that_was_not_told_is_told_after_a_restart_and_one_that_was_is_not() {
    let notify = to("one.example", "remind = \"0s\"") + &to("two.example", "remind = \"0s\"");
    let kept = Kept::default();
    let gone = Reply::Status(410, None, "");
    let stage = Stage::after(&notify, &[TAKEN, gone], &[], kept.book());
    stage.ended(WEB, Failed);
    stage.pass(60).await;
    stage.notices.end().await;
    let took: Vec<_> = ["one.example", "two.example"].map(|it| stage.services.seen(it)).concat();
    assert_eq!(took, ["10 /key web failed"; 2]);
    let given_up = stage.told().iter().find(|it| it.contains("ERROR")).cloned().unwrap();
    let (owed, told) = match given_up.contains("one.example") {
        true => ("one.example", "two.example"),
        false => ("two.example", "one.example"),
    };

    for expected in [&["10 /key web failed"][..], &[]] {
        let stage = Stage::after(&notify, &[], &[(WEB, Failed)], kept.book());
        stage.notices.tell_owed();
        stage.pass(60).await;
        stage.ended(WEB, Failed);
        stage.pass(60).await;
        stage.notices.end().await;
        assert_eq!(stage.services.seen(owed), expected);
        assert_eq!(stage.services.seen(told), Vec::<String>::new());
    }
    let stage = Stage::after(&notify, &[], &[(WEB, Failed)], kept.book());
    stage.notices.tell_owed();
    stage.ended(WEB, Rotated);
    stage.pass(60).await;
    for host in [owed, told] {
        assert_eq!(stage.services.seen(host), ["10 /key web recovered"]);
    }
    assert_eq!(*kept.0.lock().unwrap(), Told::new());
}

/// The server is well by then, so nothing but the store knows that there was something to tell.
#[tokio::test(start_paused = true)]
async fn what_was_retried_when_the_process_ended_is_shown_and_told_by_the_next() {
    let notify = to("one.example", "format = \"ntfy\"\nremind = \"0s\"");
    for is_killed in [false, true] {
        let kept = Kept::default();
        let down = vec![Reply::Status(503, None, ""); 99];
        let stage = Stage::after(&notify, &down, &[], kept.book());
        stage.ended(WEB, Failed);
        stage.pass(20).await;
        stage.ended(WEB, Rotated);
        stage.pass(5).await;
        if !is_killed {
            stage.notices.end().await;
        }

        let next = Stage::after(&notify, &[], &[(WEB, Rotated)], kept.book());
        next.notices.tell_owed();
        next.pass(60).await;
        let shown = || next.counts.webhooks().undelivered();
        assert_eq!(
            shown().iter().map(|it| (it.notices, it.since)).collect::<Vec<_>>(),
            [(1, at(0))]
        );
        next.ended(WEB, Rotated);
        next.pass(60).await;
        let [seen] = <[String; 1]>::try_from(next.services.seen("one.example")).unwrap();
        assert!(seen.ends_with(". No notice of the failure could be delivered."), "{seen}");
        assert_eq!(shown(), []);
        assert_eq!(*kept.0.lock().unwrap(), Told::new());
    }
}

/// As a process does that is killed before its notice goes out.
#[tokio::test(start_paused = true)]
async fn a_failure_that_a_process_took_with_it_is_told_by_the_next_or_its_recovery_admits_it() {
    let notify = to("one.example", "format = \"ntfy\"\nremind = \"0s\"");
    for outcome in [Failed, Rotated] {
        let stage = Stage::after(&notify, &[], &[(WEB, Failed)], Kept::default().book());
        stage.ended(WEB, outcome);
        stage.pass(60).await;
        let [seen] = <[String; 1]>::try_from(stage.services.seen("one.example")).unwrap();
        let admits = seen.contains("No notice of the failure could be delivered.");
        assert_eq!(admits, outcome == Rotated, "{seen}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_was_not_told_is_told_with_the_next_good_rotation_also_after_a_restart() {
    let kept = Kept::default();
    let notify = to("one.example", "on = [\"failure\", \"recovery\", \"success\"]");
    let gone = Reply::Status(410, None, "");
    let stage = Stage::after(&notify, &[TAKEN, gone], &[], kept.book());
    stage.notices.on_report(&refused(WEB, KnownCause::Token), at(0));
    stage.ended(DB, Failed);
    stage.pass(60).await;
    stage.ended(DB, Rotated);
    stage.pass(60).await;
    stage.notices.end().await;
    assert_eq!(stage.services.seen("one.example").len(), 2, "and the recoveries were refused");
    let stage = Stage::after(&notify, &[], &[(DB, Rotated), (WEB, Rotated)], kept.book());
    stage.ended(DB, Rotated);
    stage.pass(60).await;
    stage.ended(DB, Rotated);
    stage.pass(60).await;
    assert_eq!(
        said(&stage, "one.example"),
        ["the API token is accepted again, db recovered", "db rotated"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_corrected_address_is_used_for_what_waits_and_for_what_was_given_up() {
    // Nobody answers at the old address, and it is tried again and again.
    let stage =
        Stage::new(&(to("other.example", "on = [\"success\"]") + &to("hangs.example", "")), &[]);
    stage.ended(WEB, Failed);
    stage.pass(40).await;
    let then = settings(&(to("other.example", "on = [\"success\"]") + &to("right.example", "")));
    stage.notices.reload(then.audience());
    stage.pass(30).await;
    assert_eq!(said(&stage, "right.example"), ["web failed"]);
    let tried = stage.services.seen("hangs.example").len();
    stage.ended(WEB, Rotated);
    stage.pass(600).await;
    assert_eq!(said(&stage, "right.example"), ["web failed", "web recovered"]);
    assert_eq!(stage.services.seen("hangs.example").len(), tried, "nothing more goes there");

    // It was refused at once, and given up.
    let stage = Stage::new(&to("wrong.example", ""), &[Reply::Status(404, None, "")]);
    stage.ended(WEB, Failed);
    stage.pass(60).await;
    let then = settings(&to("right.example", ""));
    stage.notices.reload(then.audience());
    stage.pass(60).await;
    assert_eq!(said(&stage, "right.example"), ["web failed"], "not only at the next failing tick");

    // It recovers, and the address is corrected before that goes out.
    let ntfy = "format = \"ntfy\"";
    let stage = Stage::new(&to("wrong.example", ntfy), &[Reply::Status(404, None, "")]);
    stage.ended(WEB, Failed);
    stage.pass(60).await;
    stage.ended(WEB, Rotated);
    let then = settings(&to("right.example", ntfy));
    stage.notices.reload(then.audience());
    stage.pass(60).await;
    let [seen] = <[String; 1]>::try_from(stage.services.seen("right.example")).unwrap();
    assert!(seen.contains("No notice of the failure could be delivered."), "{seen}");
}

/// One that was removed while a failure was retried gets nothing late; added again, it is told what fails, and then
/// that it is over.
#[tokio::test(start_paused = true)]
async fn a_webhook_that_is_removed_and_added_again_is_never_told_a_failure_after_its_recovery() {
    let (stays, back) = (to("stays.example", "on = [\"success\"]"), to("back.example", ""));
    let both = settings(&(stays.clone() + &back));
    let busy = Reply::Status(503, None, "busy");
    let stage = Stage::new(&(stays.clone() + &back), &[busy.clone(), busy]);
    stage.ended(WEB, Failed);
    stage.pass(11).await;
    stage.notices.reload(settings(&stays).audience());
    stage.pass(30).await;
    let before = said(&stage, "back.example").len();
    stage.notices.reload(both.audience());
    stage.pass(30).await;
    stage.ended(WEB, Rotated);
    stage.pass(900).await;
    assert_eq!(
        said(&stage, "back.example")[before..],
        ["web failed", "web failed", "web recovered"]
    );
    assert!(stage.told().iter().any(|it| it.contains("is not in the configuration any more")));
}

const COVERED: &str = "[api]\ncover = \"all\"\n[group.all]\nkeep = 2\n";

fn unlisted(minutes: i64) -> CoverProblem {
    CoverProblem {
        account: Account::API,
        since: at(minutes),
        words: "the servers of the account cannot be listed: 403".to_owned(),
    }
}

/// S8: a `cover` that does not know its servers is told as a server's trouble is, also over restarts.
#[tokio::test(start_paused = true)]
async fn a_cover_that_does_not_know_its_servers_is_told_once_reminded_of_and_told_to_be_over() {
    let kept = Kept::default();
    let notify = format!("{COVERED}{}", to("one.example", ""));
    let stage = Stage::after(&notify, &[], &[], kept.book());
    stage.notices.on_cover(Account::API, None);
    stage.notices.on_cover(Account::API, Some(&unlisted(-15)));
    for _ in 0..9 {
        stage.pass(60).await;
        stage.notices.on_cover(Account::API, Some(&unlisted(-15)));
    }
    let failed = "`cover` does not know the servers of the account";
    assert_eq!(said(&stage, "one.example"), [failed]);
    stage.notices.end().await;

    let stage = Stage::after(&notify, &[], &[], kept.book());
    stage.notices.on_cover(Account::API, Some(&unlisted(1)));
    watched(&stage, 25 * HOUR).await;
    let still = "`cover` still does not know the servers of the account";
    assert_eq!(said(&stage, "one.example"), [still], "it was told by the process before");
    stage.notices.end().await;

    let stage = Stage::after(&notify, &[], &[], kept.book());
    stage.notices.on_cover(Account::API, None);
    stage.pass(60).await;
    stage.notices.on_cover(Account::API, None);
    stage.pass(60).await;
    let over = "`cover` knows the servers of the account again";
    assert_eq!(said(&stage, "one.example"), [over]);

    let stage = Stage::new(&notify, &[]);
    stage.notices.on_cover(Account::API, Some(&unlisted(0)));
    stage.notices.reload(settings(&to("one.example", "")).audience());
    assert!(stage.notices.inner().states.failing().is_nothing(), "nothing is covered any more");
}
