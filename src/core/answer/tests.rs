use std::collections::BTreeMap;

use super::*;

const OPERATIONS: [Operation; 6] = [
    Operation::List,
    Operation::Create,
    Operation::Restore,
    Operation::Delete,
    Operation::Servers,
    Operation::Account,
];
const UNDERSTOOD: Body = Body::Understood { has_next: false, rows: Some(2) };

fn headers(age: &str, link: &str, content_range: &str) -> Headers {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Headers {
        age: some(age).into_iter().collect(),
        link: some(link).into_iter().collect(),
        content_range: some(content_range),
        redirect: None,
        ..Headers::default()
    }
}

/// Each status from 100 to 999 of an operation, as runs of one class and one verdict.
fn table(operation: Operation, body: Body) -> Vec<String> {
    let mut runs: Vec<(u16, u16, String)> = Vec::new();
    for status in 100..1000 {
        let judgement = judge(operation, status, &Headers::default(), body);
        let meaning = format!("{} {:?}", judgement.outcome.as_str(), judgement.verdict);
        match runs.last_mut() {
            Some((_, last, said)) if *said == meaning => *last = status,
            _ => runs.push((status, status, meaning)),
        }
    }
    runs.into_iter()
        .map(|(first, last, meaning)| {
            if first == last {
                format!("{first} {meaning}")
            } else {
                format!("{first}-{last} {meaning}")
            }
        })
        .collect()
}

/// The statuses without a class of their own are the same for all that is read, and for all that changes.
#[test]
fn every_status_has_its_class_and_its_verdict_for_each_operation() {
    let read = [
        "300-400 rejected NotDone",
        "401 unauthorized NotDone",
        "402 rejected NotDone",
        "403 forbidden NotDone",
        "404 not_found NotDone",
        "405-407 rejected NotDone",
        "408-409 busy NotDone",
        "410-422 rejected NotDone",
        "423 busy NotDone",
        "424 rejected NotDone",
        "425 busy NotDone",
        "426-428 rejected NotDone",
        "429 throttled NotDone",
        "430-499 rejected NotDone",
        "500-599 server_error NotDone",
        "600-999 malformed Incomplete",
    ];
    let changed: Vec<String> = read
        .iter()
        .map(|row| match *row {
            row if ["busy", "throttled", "server_error"].iter().any(|word| row.contains(word)) => {
                row.replace("NotDone", "Unknown")
            }
            row => row.replace("Incomplete", "Unknown"),
        })
        .collect();
    let deleted: Vec<String> = changed
        .iter()
        .map(|row| row.replace("404 not_found NotDone", "404 not_found Done"))
        .collect();
    let read: Vec<String> = read.map(str::to_owned).to_vec();
    let good = BTreeMap::from([
        (
            "list",
            (
                vec!["100-199 malformed Incomplete", "200 ok Done", "201-299 malformed Incomplete"],
                &read,
            ),
        ),
        (
            "servers",
            (
                vec!["100-199 malformed Incomplete", "200 ok Done", "201-299 malformed Incomplete"],
                &read,
            ),
        ),
        (
            "account",
            (
                vec!["100-199 malformed Incomplete", "200 ok Done", "201-299 malformed Incomplete"],
                &read,
            ),
        ),
        (
            "create",
            (
                vec!["100-200 malformed Unknown", "201 ok Done", "202-299 malformed Unknown"],
                &changed,
            ),
        ),
        (
            "restore",
            (
                vec!["100-199 malformed Unknown", "200 ok Done", "201-299 malformed Unknown"],
                &changed,
            ),
        ),
        (
            "delete",
            (
                vec!["100-203 malformed Unknown", "204 ok Done", "205-299 malformed Unknown"],
                &deleted,
            ),
        ),
    ]);
    for operation in OPERATIONS {
        let (good, bad) = &good[operation.as_str()];
        let expected: Vec<&str> =
            good.iter().copied().chain(bad.iter().map(String::as_str)).collect();
        assert_eq!(table(operation, UNDERSTOOD), expected, "{operation:?}");
    }
}

#[test]
fn a_body_that_is_torn_or_unclear_spoils_the_documented_status_and_no_other() {
    for operation in OPERATIONS {
        let of = |status, body| judge(operation, status, &Headers::default(), body);
        for status in 100..1000 {
            let spoilt = of(status, Body::Unclear);
            if status == documented(operation) {
                assert_eq!(spoilt.outcome, Outcome::Malformed, "{operation:?}");
                let verdict =
                    if operation.changes() { Verdict::Unknown } else { Verdict::Incomplete };
                assert_eq!(spoilt.verdict, verdict, "{operation:?}");
            } else {
                assert_eq!(spoilt, of(status, UNDERSTOOD), "{operation:?} {status}");
            }
        }
    }
}

#[test]
fn an_answer_that_is_a_part_or_too_old_is_no_listing_whatever_its_body_says() {
    let next = "<https://api.example/snapshots/?page=2>; rel=\"next\"";
    let cases = [
        (headers("", "", ""), ""),
        (headers("0", "", ""), ""),
        (headers("60", "", ""), ""),
        (headers("61", "", ""), "stale: a cache has kept this answer for 61 s"),
        (headers("0, 600", "", ""), "stale: a cache has kept this answer for 600 s"),
        (headers("99999999999999999999999", "", ""), "stale: a cache"),
        (headers("-1", "", ""), "stale: its `Age` cannot be read"),
        (headers("soon", "", ""), "stale: its `Age` cannot be read"),
        (headers("", next, ""), "incomplete: `Link`"),
        (headers("", "<a>; rel=prev, <b>; title=\"x, y\"; REL=Next", ""), "incomplete: `Link`"),
        (headers("", "<a>; rel=\"last next\"", ""), "incomplete: `Link`"),
        (headers("", "<a?rel=next,rel=next>; rel=prev", ""), ""),
        (headers("", "<a>; title=\"; rel=next\"; rel=last", ""), ""),
        (headers("", "", "items 0-99/250"), "incomplete: `Content-Range`"),
    ];
    for (headers, expected) in cases {
        let judgement = judge(Operation::List, 200, &headers, UNDERSTOOD);
        let objection = judgement.objection.unwrap_or_default();
        assert!(objection.starts_with(expected), "{headers:?}: {objection}");
        assert_eq!(objection.is_empty(), expected.is_empty(), "{headers:?}: {objection}");
        let verdict = if expected.is_empty() { Verdict::Done } else { Verdict::Incomplete };
        assert_eq!(judgement.verdict, verdict, "{headers:?}");
        // A change is not listed, and not cached.
        let created = judge(Operation::Create, 201, &headers, UNDERSTOOD);
        assert_eq!((created.verdict, created.age), (Verdict::Done, Duration::ZERO), "{headers:?}");
    }
}

#[test]
fn a_header_that_names_another_number_of_rows_or_a_stale_copy_makes_it_no_listing() {
    let total = |text: &str| Headers { total: vec![text.to_owned()], ..Headers::default() };
    let warning = |text: &str| Headers { warning: vec![text.to_owned()], ..Headers::default() };
    for (headers, expected) in [
        (total("2"), ""),
        (total(" 2 "), ""),
        (total("4"), "incomplete: a header says that there are 4 rows, and 2 were listed"),
        (total("1"), "incomplete: "),
        (total("many"), "incomplete: "),
        (warning("110 - \"Response is Stale\""), "stale: `Warning`"),
        (warning("199 - \"x\", 112 cache \"Disconnected\""), "stale: `Warning`"),
        (warning("299 - \"Deprecated\""), ""),
    ] {
        let judgement = judge(Operation::List, 200, &headers, UNDERSTOOD);
        let objection = judgement.objection.unwrap_or_default();
        assert!(objection.starts_with(expected), "{headers:?}: {objection}");
        assert_eq!(objection.is_empty(), expected.is_empty(), "{headers:?}: {objection}");
    }
    // Of a page before the last, or of what is no list, it says nothing.
    for (has_next, rows) in [(true, Some(2)), (false, None)] {
        let body = Body::Understood { has_next, rows };
        assert_eq!(judge(Operation::List, 200, &total("4"), body).verdict, Verdict::Done);
    }
}

#[test]
fn a_next_page_that_the_body_names_too_is_followed() {
    let headers = headers("", "<https://api.example/?page=2>; rel=next", "");
    let judgement =
        judge(Operation::List, 200, &headers, Body::Understood { has_next: true, rows: None });
    assert_eq!(judgement.verdict, Verdict::Done);
}

#[test]
fn the_age_of_a_believed_answer_is_given() {
    let age = |text| judge(Operation::List, 200, &headers(text, "", ""), UNDERSTOOD).age;
    assert_eq!([age(""), age("30"), age("12, 30")], [0, 30, 30].map(Duration::from_secs));
}
