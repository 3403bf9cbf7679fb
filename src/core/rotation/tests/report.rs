//! What a rotation tells: its report, its remarks, and until when its calls may be tried.

use std::time::Duration;

use super::table::{SETTLE, SHOWS_UP, Stage, error};
use crate::call::Operation;
use crate::report::{KnownCause, Report};
use crate::rotation::{CreateSpans, Next, Remark};

/// Goes through these events, each after a minute, to the end.
fn report(begin: &str, events: &[&str]) -> (Report, Vec<Remark>) {
    let (mut stage, mut next) = Stage::begin(begin);
    for event in events {
        stage.pass(Duration::from_mins(1));
        next = stage.next(stage.event(event));
    }
    let remarks = stage.rotation().take_remarks();
    match next {
        Next::End(report) => (*report, remarks),
        Next::Do(action) => panic!("{action:?} is still to be done"),
    }
}

#[test]
fn a_refused_token_and_a_shutdown_are_no_fault_of_the_server() {
    let cause = |why: &str| report("", &[&format!("unlisted {why}")]).0.known_cause;
    assert_eq!(cause("unauthorized"), Some(KnownCause::Token));
    assert_eq!(cause("interrupted"), Some(KnownCause::Shutdown));
    for own in ["transport", "rejected", "out-of-time", "forbidden", "not-found"] {
        assert_eq!(cause(own), None, "{own}");
    }
}

#[test]
fn each_step_has_its_time_and_all_of_them_the_whole() {
    let events =
        ["listed c c c", "recorded", "created", "listed c c c own~", "listed c c c own", "deleted"];
    let (report, _) = report("", &events);
    let steps = [("list", 60_000), ("create", 120_000), ("wait", 120_000), ("prune", 60_000)];
    assert_eq!((report.steps.as_slice(), report.duration_ms), (&steps[..], 360_000));
}

#[test]
fn what_a_person_should_know_is_said_once() {
    let (_, remarks) =
        report("", &["listed H H H c c", "deleted", "listed H H H c c", "unwaited stale"]);
    assert!(
        matches!(remarks.as_slice(), [Remark::Ring(words), Remark::NotDeleted(name)]
            if words.contains("squeezed") && name == "snapring-20261121T030000Z"),
        "{remarks:?}"
    );
    let (_, remarks) = report("earlier=10m", &["listed c", "unlisted transport"]);
    assert_eq!(remarks, [Remark::EarlierCreate(Duration::from_mins(9))]);
    let (_, remarks) =
        report("", &["listed c", "recorded", "uncreated transport", "unlisted transport"]);
    assert!(
        matches!(remarks.as_slice(), [Remark::MayExist { snapshot, .. }] if snapshot == "snapring-20261123T030000Z")
    );
}

#[test]
fn calls_may_be_tried_for_a_minute_or_until_the_next_start_and_longer_while_it_is_looked_for() {
    let (mut stage, _) = Stage::begin("");
    assert_eq!(stage.rotation().give_up_at(), Duration::from_mins(1));
    let (mut stage, _) = Stage::begin("next=2h");
    assert_eq!(stage.rotation().give_up_at(), Duration::from_hours(2));
    let (mut stage, _) = Stage::begin("");
    for event in ["listed c", "recorded", "uncreated transport"] {
        stage.next(stage.event(event));
    }
    assert_eq!(stage.rotation().give_up_at(), SHOWS_UP + Duration::from_mins(1));
    stage.pass(SHOWS_UP);
    stage.next(stage.event("listed c"));
    // Found out, the time from before holds again.
    assert_eq!(stage.rotation().give_up_at(), Duration::from_mins(1));
}

#[test]
fn a_try_again_must_begin_before_the_time_is_up() {
    let after = |begin: &str| {
        let (mut stage, _) = Stage::begin(begin);
        for event in ["listed c", "recorded"] {
            stage.next(stage.event(event));
        }
        stage.pass(Duration::from_secs(59));
        stage.next(stage.event("uncreated unconnected"))
    };
    assert!(matches!(after("next=61s"), Next::Do(_)));
    assert!(matches!(after("next=60s"), Next::End(_)));
}

#[test]
fn a_deleted_one_is_awaited_for_as_long_as_settle_and_no_longer() {
    let after = |span: Duration| {
        let (mut stage, _) = Stage::begin("");
        for event in ["listed c c c c c", "deleted", "listed c c c c c"] {
            stage.next(stage.event(event));
        }
        stage.pass(span);
        stage.next(stage.event("waited"));
        stage.next(stage.event("listed c c c c c"))
    };
    assert!(matches!(after(SETTLE), Next::Do(_)));
    assert!(matches!(after(SETTLE + Duration::from_millis(1)), Next::End(_)));
}

#[test]
fn how_long_a_create_is_open_depends_on_its_answer() {
    let spans = CreateSpans { settle: SETTLE, shows_up_within: SHOWS_UP };
    for (why, span) in [
        ("out-of-time", Duration::ZERO),
        ("unauthorized", Duration::ZERO),
        ("forbidden", Duration::ZERO),
        ("transport", SHOWS_UP),
        ("server-error", SETTLE),
        ("unconnected", Duration::ZERO),
        ("throttled", SETTLE),
        ("rejected", SETTLE),
    ] {
        assert_eq!(spans.settled_in(&Err(error(Operation::Create, why))), span, "{why}");
    }
}
