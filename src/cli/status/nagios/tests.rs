use jiff::SignedDuration;
use rstest::rstest;

use super::*;
use crate::cli::status::findings::tests::{of, undelivered};
use crate::observe::status_document::{
    DaemonStatus, Found, StatusDocument, StatusFilter, StoreStatus,
};
use crate::report::RotationOutcome;
use crate::testing::stage::{ended, noon, numbered};

/// A day and two hours.
const DAY: Duration = Duration::from_secs(26 * 3600);

/// A server by its history: `ok 3h`, `failed 3h ok 30h`, each with how long ago it ended.
pub(in crate::cli::status) fn document(servers: &[(&str, &str)]) -> StatusDocument {
    let rows = servers.iter().zip(101..).map(|((name, history), id)| {
        let words: Vec<&str> = history.split_whitespace().collect();
        let mut remembered: Vec<_> = words
            .chunks(2)
            .filter(|chunk| chunk.len() == 2)
            .map(|chunk| {
                let ago = humantime::parse_duration(chunk[1]).unwrap();
                let at = (noon() - SignedDuration::try_from(ago).unwrap()).to_string();
                match chunk[0] {
                    "ok" => ended(&at, RotationOutcome::Rotated, ""),
                    "failed" => ended(&at, RotationOutcome::Failed, "broke | off\nat once"),
                    "blocked" => ended(&at, RotationOutcome::Blocked, "no room"),
                    other => panic!("{other}"),
                }
            })
            .collect();
        remembered.reverse();
        let line = if history.contains("disabled") { "enabled = false" } else { "" };
        numbered(id, name, line, &remembered)
    });
    StatusDocument::of(&Found::among(rows.collect(), &StatusFilter::default()), None, noon())
}

#[rstest]
#[case::all_well(&[("web", "ok 3h"), ("db", "ok 25h")], Level::Ok,
    "SNAPRING OK - 2 servers, the oldest success 1d 1h ago (db) | servers=2 trouble=0;0 \
         oldest_success=90000s;;93600;0")]
#[case::as_old_as_allowed(&[("web", "ok 26h")], Level::Ok,
    "SNAPRING OK - 1 server, the oldest success 1d 2h ago (web) | servers=1 trouble=0;0 \
         oldest_success=93600s;;93600;0")]
#[case::none_at_all(&[], Level::Ok, "SNAPRING OK - 0 servers | servers=0 trouble=0;0")]
#[case::one_failed_lately(&[("web", "failed 1h ok 25h")], Level::Warning,
    "SNAPRING WARNING - web: failed (broke   off at once) | servers=1 trouble=1;0 \
         oldest_success=90000s;;93600;0")]
#[case::too_old(&[("web", "failed 1h ok 27h")], Level::Critical,
    "SNAPRING CRITICAL - web: the last success was 1d 3h ago (broke   off at once) | servers=1 \
         trouble=1;0 oldest_success=97200s;;93600;0")]
#[case::too_old_and_nothing_told(&[("web", "ok 27h")], Level::Critical,
    "SNAPRING CRITICAL - web: the last success was 1d 3h ago | servers=1 trouble=0;0 \
         oldest_success=97200s;;93600;0")]
#[case::never(&[("web", "blocked 1h")], Level::Critical,
    "SNAPRING CRITICAL - web: no success yet (no room) | servers=1 trouble=1;0")]
#[case::nothing_known(&[("web", "")], Level::Unknown,
    "SNAPRING UNKNOWN - web: no rotation is known | servers=1 trouble=0;0")]
#[case::disabled_ones_do_not_count(&[("web", "ok 1h"), ("old", "disabled")], Level::Ok,
    "SNAPRING OK - 1 server, the oldest success 1h ago (web) | servers=1 trouble=0;0 \
         oldest_success=3600s;;93600;0")]
fn one_line_says_it(#[case] servers: &[(&str, &str)], #[case] level: Level, #[case] line: &str) {
    let check = check(&of(document(servers)), DAY);
    assert_eq!(check, Check { level, words: line.to_owned() });
}

#[test]
fn a_check_that_could_not_be_made_says_why_in_one_line() {
    let check = Check::unknown(&CommandError::Usage("there is no server x\nhint: y | z".into()));
    let words = "SNAPRING UNKNOWN - the state of the servers is unknown: there is no server x \
                 hint: y   z";
    assert_eq!(check, Check { level: Level::Unknown, words: words.to_owned() });
}

/// A clock was ahead when it was written down, or is behind now.
#[test]
fn a_success_that_is_ahead_of_now_says_nothing() {
    for (ahead, level) in [(60, Level::Ok), (3 * 3600, Level::Unknown)] {
        let mut document = document(&[("web", "ok 0s")]);
        document.at = noon() - SignedDuration::from_secs(ahead);
        let check = check(&of(document), DAY);
        assert_eq!(check.level, level, "{}", check.words);
        let told = check.words.contains("web: the last success is 3h ahead of now: check clocks");
        assert_eq!(told, level == Level::Unknown, "{}", check.words);
    }
}

#[test]
fn several_findings_are_told_the_worst_first_one_a_line() {
    let document =
        document(&[("fresh", ""), ("warned", "failed 1h ok 2h"), ("gone", "failed 1h ok 99h")]);
    let check = check(&of(document), DAY);
    assert_eq!(check.level, Level::Critical);
    let lines: Vec<&str> = check.words.lines().collect();
    assert!(lines[0].starts_with("SNAPRING CRITICAL - gone: the last success was 4d 3h ago"));
    assert!(lines[0].contains(", and 2 more | servers=3 trouble=2;0"), "{}", lines[0]);
    let levels: Vec<&str> = lines[1..].iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(levels, ["CRITICAL", "WARNING", "UNKNOWN"]);
}

#[test]
fn of_thousands_in_trouble_some_are_told() {
    let names: Vec<String> = (0..200).map(|nth| format!("web-{nth}")).collect();
    let servers: Vec<(&str, &str)> =
        names.iter().map(|name| (name.as_str(), "failed 1h")).collect();
    assert_eq!(check(&of(document(&servers)), DAY).words.lines().count(), 1 + SHOWN);
}

#[rstest]
#[case::scheduler(false, None, true, Level::Critical, "the scheduler of the daemon has stalled")]
#[case::configuration(
    true,
    Some("line 3"),
    true,
    Level::Warning,
    "the last reload was rejected: line 3"
)]
#[case::store(true, None, false, Level::Warning, "2 are missing from `history`")]
#[case::notices(true, None, true, Level::Warning, "notices to https://hooks.example have not been")]
fn a_daemon_in_trouble_is_told_though_all_servers_are_well(
    #[case] alive: bool,
    #[case] refused: Option<&str>,
    #[case] store_is_up: bool,
    #[case] level: Level,
    #[case] words: &str,
) {
    let mut document = document(&[("web", "ok 1h")]);
    document.daemon = Some(DaemonStatus {
        alive,
        configuration_refused: refused.map(str::to_owned),
        store: StoreStatus { up: store_is_up, lost: 2 },
        undelivered_notices: match words.starts_with("notices") {
            true => vec![undelivered()],
            false => Vec::new(),
        },
        ..DaemonStatus::well()
    });
    let check = check(&of(document), DAY);
    assert_eq!(check.level, level);
    assert!(check.words.contains(words), "{}", check.words);
}

#[rstest]
#[case(Level::Ok, 0)]
#[case(Level::Warning, 1)]
#[case(Level::Critical, 2)]
#[case(Level::Unknown, 3)]
fn the_exit_codes_are_those_of_nagios(#[case] level: Level, #[case] code: u8) {
    assert_eq!(level.code(), code);
}
