//! Tables of snapshots and what is kept of them, and where periods begin in every zone and year.

use rstest::rstest;

use super::*;
use crate::testing::calendar;

mod borg;
mod properties;
mod reach;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

/// Candidates with ids from 1 in the order given.
fn made_at(times: &[&str]) -> Vec<Candidate> {
    let times: Vec<Timestamp> = times.iter().map(|time| time.parse().unwrap()).collect();
    numbered(&times)
}

fn numbered(times: &[Timestamp]) -> Vec<Candidate> {
    (1..).zip(times).map(|(id, time)| Candidate { id: SnapshotId(id), at: *time }).collect()
}

fn kept(candidates: &[Candidate], keep: &Keep, zone: &TimeZone) -> BTreeSet<u64> {
    retain(candidates, keep, zone)
        .iter()
        .filter(|verdict| verdict.keeps())
        .map(|verdict| verdict.id.0)
        .collect()
}

/// Whether a rule counts two snapshots as one period: then its second slot is left for a third one, from long
/// before.
fn share_a_period(rule: Rule, one: Timestamp, other: Timestamp, zone: &TimeZone) -> bool {
    let long_before = "1970-01-01T00:00:00Z".parse().unwrap();
    kept(&numbered(&[long_before, one, other]), &only(rule, 2), zone).contains(&1)
}

fn only(rule: Rule, count: u32) -> Keep {
    let mut keep = Keep::default();
    let key = match rule {
        Rule::Last => &mut keep.last,
        Rule::Hourly => &mut keep.hourly,
        Rule::Daily => &mut keep.daily,
        Rule::Weekly => &mut keep.weekly,
        Rule::Monthly => &mut keep.monthly,
        Rule::Yearly => &mut keep.yearly,
    };
    *key = count;
    keep
}

#[rstest]
#[case::last(Keep { last: 2, ..Keep::default() }, "UTC", &[3, 4])]
#[case::more_than_there_are(Keep { last: 9, ..Keep::default() }, "UTC", &[1, 2, 3, 4])]
#[case::days_begin_in_the_zone(Keep { daily: 2, ..Keep::default() }, "UTC", &[2, 4])]
#[case::days_in_berlin(Keep { daily: 2, ..Keep::default() }, "Europe/Berlin", &[1, 4])]
#[case::what_last_keeps_does_not_count_for_daily(Keep { last: 1, daily: 1, ..Keep::default() }, "UTC", &[2, 4])]
#[case::the_oldest_until_the_rule_is_filled(Keep { last: 1, monthly: 2, ..Keep::default() }, "UTC", &[1, 4])]
#[case::which_fills_one_slot_only(Keep { daily: 4, ..Keep::default() }, "UTC", &[1, 2, 4])]
#[case::two_unfilled_rules_have_one_oldest(Keep { last: 1, weekly: 1, monthly: 1, ..Keep::default() }, "UTC", &[1, 4])]
fn rules_keep_the_newest_of_each_period(
    #[case] keep: Keep,
    #[case] zone_name: &str,
    #[case] expected: &[u64],
) {
    let candidates = made_at(&[
        "2026-03-09T22:30:00Z", // the 9th in Berlin too
        "2026-03-09T23:30:00Z", // the 10th in Berlin
        "2026-03-10T10:00:00Z",
        "2026-03-10T12:00:00Z",
    ]);
    assert_eq!(
        kept(&candidates, &keep, &zone(zone_name)),
        expected.iter().copied().collect::<BTreeSet<_>>()
    );
}

/// What `keep` says of snapshots, newest first.
fn reasons(times: &[&str], keep: Keep) -> Vec<String> {
    let verdicts = retain(&made_at(times), &keep, &TimeZone::UTC);
    let said = |verdict: &Verdict| match &verdict.reason {
        Some(reason) => reason.to_string(),
        None => "deleted".to_owned(),
    };
    verdicts.iter().map(said).collect()
}

#[test]
fn reasons_name_the_rule_the_slot_and_the_period() {
    let nights = [
        "2024-12-31T03:00:00Z",
        "2025-12-31T03:00:00Z",
        "2026-01-02T03:00:00Z",
        "2026-01-03T02:00:00Z",
        "2026-01-04T02:00:00Z",
        "2026-01-04T03:00:00Z",
        "2026-01-04T04:00:00Z",
    ];
    let keep = Keep { last: 1, hourly: 1, daily: 1, weekly: 1, monthly: 1, yearly: 1 };
    assert_eq!(
        reasons(&nights, keep),
        [
            "last (1 of 1)",
            "hourly (1 of 1): newest of 2026-01-04 03h",
            "deleted",
            "daily (1 of 1): newest of 2026-01-03",
            "deleted",
            "monthly (1 of 1): newest of 2025-12",
            "weekly (1 of 1): newest of 2025-W01"
        ]
    );
    assert_eq!(
        reasons(&nights[2..], keep),
        [
            "last (1 of 1)",
            "hourly (1 of 1): newest of 2026-01-04 03h",
            "deleted",
            "daily (1 of 1): newest of 2026-01-03",
            "oldest, until weekly is filled"
        ]
    );
}

#[test]
fn the_hour_that_autumn_repeats_is_two_hours() {
    let candidates = made_at(&["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"]);
    let keep = Keep { hourly: 2, ..Keep::default() };
    assert_eq!(kept(&candidates, &keep, &zone("Europe/Berlin")), BTreeSet::from([1, 2]));
}

#[test]
fn a_day_that_the_clock_goes_back_into_is_one_day() {
    // In St. John's clocks went back at 00:01: Saturday, a minute of Sunday, Saturday again.
    let candidates = made_at(&[
        "2010-11-07T02:29:30Z", // Saturday 23:59:30
        "2010-11-07T02:30:30Z", // Sunday 00:00:30
        "2010-11-07T02:31:30Z", // Saturday 23:01:30
    ]);
    let zone = zone("America/St_Johns");
    assert_eq!(kept(&candidates, &only(Rule::Daily, 1), &zone), BTreeSet::from([3]));
    assert_eq!(kept(&candidates, &only(Rule::Daily, 2), &zone), BTreeSet::from([2, 3]));
    assert!(share_a_period(Rule::Daily, candidates[0].at, candidates[2].at, &zone));
}

#[test]
fn a_long_absence_drops_nothing() {
    let candidates = made_at(&["2019-01-01T00:00:00Z", "2020-01-01T00:00:00Z"]);
    let keep = Keep { daily: 2, ..Keep::default() };
    assert_eq!(kept(&candidates, &keep, &TimeZone::UTC).len(), 2);
}

/// Three hundred turns of the year, a snapshot a day from Christmas Eve to 8 January.
#[test]
fn weeks_at_new_year_are_iso_weeks() {
    assert_eq!(calendar::iso_week(calendar::new_year(2027)), (2026, 53), "the calendar itself");
    for year in 1900..2200 {
        let days: Vec<i64> = (-8..8).map(|day| calendar::new_year(year) + day).collect();
        let noons: Vec<Timestamp> =
            days.iter().map(|day| Timestamp::from_second(day * 86_400 + 43_200).unwrap()).collect();
        let mut weeks: Vec<(i64, String)> = days
            .iter()
            .map(|day| {
                let (iso_year, week) = calendar::iso_week(*day);
                (*day, format!("{iso_year}-W{week:02}"))
            })
            .collect();
        weeks.reverse();
        weeks.dedup_by(|later, kept| later.1 == kept.1);
        let verdicts = retain(&numbered(&noons), &only(Rule::Weekly, 9), &TimeZone::UTC);
        let seen: Vec<(i64, String)> = verdicts
            .iter()
            .filter_map(|verdict| match &verdict.reason {
                Some(Reason::Newest { period, .. }) => {
                    Some((days[verdict.id.0 as usize - 1], period.clone()))
                }
                _ => None,
            })
            .collect();
        assert_eq!(seen, weeks);
    }
}

/// The first second at which a zone's clocks show a day, or a later one where they skip it.
fn first_second_of(day: i64, zone: &TimeZone) -> i64 {
    let shown = |second: i64| {
        let at = Timestamp::from_second(second).unwrap();
        (second + i64::from(zone.to_offset(at).seconds())).div_euclid(86_400)
    };
    let (mut before, mut within) = ((day - 2) * 86_400, (day + 2) * 86_400);
    while within - before > 1 {
        let middle = before + (within - before) / 2;
        if shown(middle) < day { before = middle } else { within = middle }
    }
    within
}

/// In every zone that there is: the second before midnight is another day, the one after is not.
#[test]
fn periods_begin_with_the_first_second_of_a_local_day_in_every_zone() {
    let days: Vec<(i64, Vec<Rule>)> = vec![
        (calendar::new_year(2027), vec![Rule::Daily, Rule::Monthly, Rule::Yearly]),
        (calendar::new_year(2028) + 31, vec![Rule::Daily, Rule::Monthly]), // 1 February
        (calendar::new_year(2028) + 60, vec![Rule::Daily, Rule::Monthly]), // 1 March of a leap year
        (calendar::new_year(2029), vec![Rule::Daily, Rule::Weekly, Rule::Monthly, Rule::Yearly]),
        (calendar::new_year(2026) + 326, vec![Rule::Daily, Rule::Weekly]), // Monday 23 November
    ];
    for name in jiff::tz::db().available() {
        let zone = TimeZone::get(name.as_str()).unwrap();
        for (day, begun) in &days {
            let first = first_second_of(*day, &zone);
            let seconds = [first - 1, first, first + 1];
            let [before, at, after] = seconds.map(|it| Timestamp::from_second(it).unwrap());
            for rule in [Rule::Daily, Rule::Weekly, Rule::Monthly, Rule::Yearly] {
                let share = share_a_period(rule, before, at, &zone);
                assert_eq!(share, !begun.contains(&rule), "{name} {rule:?} at {at}");
                assert!(share_a_period(rule, at, after, &zone), "{name} {rule:?} after {at}");
            }
        }
    }
}
