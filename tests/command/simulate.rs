//! `simulate`, and what `check`, `plan` and `list` say of a policy.

use serde_json::Value;

use crate::machine::{Machine, WEB, json};

const POLICY: &str = "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 * * *\"\n\
                      timezone = \"Europe/Berlin\"\nkeep = { last = 2, daily = 1, weekly = 1 }\n";

#[tokio::test(flavor = "multi_thread")]
async fn simulate_shows_each_day_and_what_the_policy_comes_to() {
    let machine = Machine::with_servers().await;
    machine.configure(POLICY);
    let run = |more: &[&str]| {
        machine.run(&[&["simulate", "--offline", "--from", "2026-12-01"], more].concat())
    };
    let (code, out, errors) = run(&["--days", "30"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(out.contains("2026-12-10  LLD.W\n"), "{out}");
    assert!(out.contains("reaches back  3 to 9 days"), "{out}");
    assert!(out.contains("ticks         30: 30 rotated"), "{out}");
    assert_eq!(machine.sandbox.provider().calls().len(), 0, "nothing was asked of the provider");
    assert_eq!(run(&["--days", "30"]).1, out, "the same every time");

    let (code, out, _) = run(&["--days", "30", "--foreign", "2"]);
    assert_eq!(code, 1);
    assert!(out.contains("web: `weekly` is never filled, because others hold slots"), "{out}");
    let (code, out, _) = run(&["--days", "30", "--outage", "2026-12-10..2026-12-14"]);
    assert_eq!(code, 1);
    assert!(
        out.contains(
            "web: no rotation succeeded for 5d after 2026-12-09 03:00 CET; its ticks are at most 1d apart"
        ),
        "{out}"
    );
    let (code, out, _) = run(&["--days", "30", "--fail", "100%", "--json"]);
    assert_eq!(code, 1);
    let answer = json(&out);
    assert_eq!(answer["policies"][0]["servers"][0]["outcomes"]["failed"], 30);
    assert_eq!(answer["policies"][0]["days"].as_array().unwrap().len(), 30);
    let picture = machine.path("rings.svg");
    assert_eq!(run(&["--days", "30", "--svg", picture.to_str().unwrap()]).0, 0);
    let picture = std::fs::read_to_string(picture).unwrap();
    let config = machine.path("config.toml");
    let (code, _, errors) = run(&["--svg", config.to_str().unwrap()]);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("exists and is not a picture"), "{errors}");
    assert!(picture.starts_with("<svg") && picture.matches("<rect").count() > 90, "{picture}");
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_begins_with_the_snapshots_that_there_are() {
    let machine = Machine::with_servers().await;
    machine.configure(POLICY);
    machine.add(WEB, "by-hand", 100);
    let (code, out, _) = machine.run(&["simulate", "--days", "3", "--json"]);
    assert_eq!(code, 0, "{out}");
    let first = &json(&out)["policies"][0]["days"][0]["snapshots"];
    let is_foreign = |it: &Value| it["holder"] == "foreign";
    assert!(first.as_array().unwrap().iter().any(is_foreign), "{first}");
    // Nor is a provider needed.
    machine.fault("list:status=500,chance=1");
    let (code, out, errors) = machine.run(&["simulate", "--days", "3"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("starting with no snapshots"), "{out}");
    assert!(
        errors.contains("every server starts without snapshots: web: could not list the snapshots: the provider answered 500 (internal server error)"),
        "{errors}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_simulated_is_wrong_usage() {
    let machine = Machine::with_servers().await;
    machine.configure(POLICY);
    for (arguments, says) in [
        (&["--days", "0"][..], "0 is not in 1..=3660"),
        (&["--days", "3661"], "3661 is not in 1..=3660"),
        (&["--outage", "2026-12-10"], "write 2026-12-24T00:00..2026-12-26T12:00"),
        (&["--outage", "2026-12-10..2026-12-09"], "the end does not come after the beginning"),
        (&["--outage", "soon..later"], "is not a time"),
        (&["--fail", "101%"], "is not a share from 0% to 100%"),
        (&["--fail", "often"], "is not a share from 0% to 100%"),
        (&["--fail", "5"], "write 5% or 0.5%"),
        (&["--from", "someday"], "is not a time"),
        (&["--snapshot-takes", "long"], "is not a duration; write for example 26h or 90s"),
        (&["nobody"], "there is no server \"nobody\""),
    ] {
        let (code, _, errors) = machine.run(&[&["simulate", "--offline"], arguments].concat());
        assert_eq!(code, 2, "{arguments:?}: {errors}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_plan_and_list_use_the_same_words_for_a_policy() {
    let machine = Machine::with_servers().await;
    machine.configure(POLICY);
    let (_, out, _) = machine.run(&["check"]);
    let sentence = "web: every day at 03:00 Europe/Berlin; keeps 4 (last 2, daily 1, weekly 1); reaches back 3 to 9 days\n";
    assert!(out.ends_with(sentence), "{out}");
    let policies = &json(&machine.run(&["check", "--json"]).1)["policies"];
    assert_eq!(
        policies[0]["policy"],
        "every day at 03:00 Europe/Berlin; keeps 4 (last 2, daily 1, weekly 1); reaches back 3 to 9 days"
    );

    for name in ["20260105T020000Z", "20260106T020000Z", "20260107T020000Z", "20260114T020000Z"] {
        let day: i64 = name[6..8].parse().unwrap();
        machine.add(WEB, &format!("snapring-{name}"), 24 * (400 - day));
    }
    let (_, out, _) = machine.run(&["list", "web"]);
    let kept: Vec<&str> = out.lines().skip(2).filter_map(|line| line.rsplit("  ").next()).collect();
    println!("{kept:?}");
    let (code, out, _) = machine.run(&["plan", "web"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("4 of 5 slots taken now, 4 afterwards"), "{out}");
    assert_eq!(out.matches("\nthen ").count(), 3, "{out}");
    let row = &json(&machine.run(&["plan", "web", "--json"]).1)[0];
    assert_eq!((row["taken_before"].as_u64(), row["taken_after"].as_u64()), (Some(4), Some(4)));
    assert_eq!(row["then"].as_array().unwrap().len(), 3);
}
