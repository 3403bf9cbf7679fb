//! What is a schedule, and what becomes of it where clocks are changed.

use rstest::rstest;

use super::*;
use crate::testing::calendar;
use walk::{Expression, Walk};

mod properties;
mod walk;

fn schedule(text: &str, zone: &str) -> Schedule {
    Schedule::parse(text, TimeZone::get(zone).unwrap()).unwrap()
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The occurrences from `from` on, as the clock on the wall shows them.
fn occurrences(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = schedule(text, zone);
    let mut at = instant(from);
    let mut shown = Vec::new();
    for _ in 0..count {
        at = schedule.next_after(at).unwrap();
        shown.push(at.to_zoned(schedule.zone().clone()).strftime("%m-%d %H:%M %Z").to_string());
    }
    shown
}

#[rstest]
#[case::gap_daily("30 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z",
    &["03-28 03:00 CEST", "03-29 02:30 CEST"])]
#[case::hour_before_the_gap("30 1 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z",
    &["03-28 01:30 CET", "03-29 01:30 CEST"])]
#[case::gap_list("30 2,14 * * *", "Europe/Berlin", "2027-03-27T18:00:00Z",
    &["03-28 03:00 CEST", "03-28 14:30 CEST", "03-29 02:30 CEST"])]
#[case::fold_daily("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
    &["10-25 02:30 CEST", "10-26 02:30 CET"])]
#[case::fold_list("0,30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
    &["10-25 02:00 CEST", "10-25 02:30 CEST", "10-26 02:00 CET"])]
#[case::fold_interval("*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
    &["10-25 02:00 CEST", "10-25 02:30 CEST", "10-25 02:00 CET", "10-25 02:30 CET"])]
#[case::london_midnight("0 0 * * *", "Europe/London", "2026-10-24T12:00:00Z",
    &["10-25 00:00 BST", "10-26 00:00 GMT"])]
#[case::london_gap("30 1 * * *", "Europe/London", "2027-03-27T12:00:00Z",
    &["03-28 02:00 BST", "03-29 01:30 BST"])]
#[case::lord_howe_gap_of_half_an_hour("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00:00Z",
    &["10-04 02:30 +11", "10-05 02:15 +11"])]
#[case::lord_howe_fold("45 1 * * *", "Australia/Lord_Howe", "2027-04-02T20:00:00Z",
    &["04-04 01:45 +11", "04-05 01:45 +1030"])]
#[case::sydney_gap("30 2 * * *", "Australia/Sydney", "2026-10-02T20:00:00Z",
    &["10-04 03:00 AEDT", "10-05 02:30 AEDT"])]
#[case::new_year("30 0 1 1 *", "Pacific/Auckland", "2026-06-01T00:00:00Z",
    &["01-01 00:30 NZDT", "01-01 00:30 NZDT"])]
#[case::seconds_first("15 30 2 * * *", "Etc/UTC", "2026-06-01T00:00:00Z", &["06-01 02:30 UTC"])]
#[case::sunday_is_seven_too("0 3 * * 7", "Etc/UTC", "2026-11-23T00:00:00Z", &["11-29 03:00 UTC"])]
#[case::either_day_suffices("0 3 1 * mon", "Etc/UTC", "2026-11-24T00:00:00Z",
    &["11-30 03:00 UTC", "12-01 03:00 UTC", "12-07 03:00 UTC"])]
fn ticks_around_what_clocks_do(
    #[case] text: &str,
    #[case] zone: &str,
    #[case] from: &str,
    #[case] expected: &[&str],
) {
    assert_eq!(occurrences(text, zone, from, expected.len()), expected);
}

#[rstest]
#[case("* * * *", ScheduleError::Fields(4))]
#[case("@daily", ScheduleError::Fields(1))]
#[case("0 0 0 1 1 * 2027", ScheduleError::Fields(7))]
#[case("0 0 30 2 *", ScheduleError::Never)]
// No day of the week at all, and 48 times: took croner seconds.
#[case("0,1,2,3,4,5,6,7,8,9,10,11 2,14,15,16 * * +", ScheduleError::Never)]
fn what_is_no_schedule_is_refused(#[case] text: &str, #[case] error: ScheduleError) {
    assert_eq!(Schedule::parse(text, TimeZone::UTC).unwrap_err(), error);
}

#[rstest]
#[case("0 0 29 2 *", true)]
#[case("0 0 29 2 +sun", true)]
#[case("0 0 29 2 +sun#5", true)]
#[case("0 0 L * +fri", true)]
#[case("0 0 30 2 *", false)]
#[case("0 0 31 4,6,9,11 *", false)]
#[case("0 0 30 * +mon#1", false)]
fn a_rare_day_is_a_day(#[case] text: &str, #[case] occurs: bool) {
    let found = Schedule::parse(text, TimeZone::UTC);
    assert_eq!(found.err(), (!occurs).then_some(ScheduleError::Never));
    // Croner need not look for it, which would take seconds.
    assert_eq!(has_a_day(&CronParser::new().parse(text).unwrap()), occurs);
}

#[rstest]
#[case("60 3 * * *")]
#[case("0 24 * * *")]
#[case("0 3 * * funday")]
#[case("0 3 32 * *")]
#[case("0,, 3 * * *")]
#[case("0 3 * * 8")]
fn a_field_that_cannot_be_read_is_refused(#[case] text: &str) {
    assert!(matches!(Schedule::parse(text, TimeZone::UTC), Err(ScheduleError::Syntax(_))));
}

#[test]
fn schedules_are_the_same_when_they_mean_the_same_text_in_the_same_zone() {
    assert_eq!(schedule("0  3 * * MON", "Europe/Berlin"), schedule("0 3 * * mon", "Europe/Berlin"));
    assert_ne!(schedule("0 3 * * *", "Europe/Berlin"), schedule("0 3 * * *", "Europe/Paris"));
    let east =
        |hours| Schedule::parse("0 3 * * *", TimeZone::fixed(jiff::tz::offset(hours))).unwrap();
    assert_eq!(east(1), east(1));
    assert_ne!(east(1), east(5));
}

#[test]
fn schedules_have_one_order_and_show_what_they_are() {
    let [three, four] = ["0 3 * * *", "0 4 * * *"].map(|text| schedule(text, "Etc/UTC"));
    assert_eq!(three.partial_cmp(&four), Some(Ordering::Less));
    assert_eq!(four.cmp(&three), Ordering::Greater);
    assert_eq!(format!("{three:?} {}", four.text()), "Schedule(0 3 * * * Etc/UTC) 0 4 * * *");
}

#[test]
fn what_is_wrong_with_a_field_is_said_in_plain_words() {
    let words = |text| Schedule::parse(text, TimeZone::UTC).unwrap_err().to_string();
    assert_eq!(words("60 3 * * *"), "cannot be read: minute 60 is not in 0-59");
    assert_eq!(words("60 3 0 * * *"), "cannot be read: second 60 is not in 0-59");
    assert_eq!(words("0 3,25 * * *"), "cannot be read: hour 25 is not in 0-23");
    assert_eq!(words("0 3 * * 8"), "cannot be read: day of week 8 is not in 0-7 or sun-sat");
    assert_eq!(
        words("0 20-25 * * *"),
        "cannot be read: hour \"20-25\": range out of bounds; it is in 0-23"
    );
    assert_eq!(words("0 3 * x *"), "cannot be read: month \"x\" is not in 1-12 or jan-dec");
    assert_eq!(
        words("*/0 3 * * *"),
        "cannot be read: minute \"*/0\": step cannot be zero; it is in 0-59"
    );
    let long = format!("0 {} * * *", "x".repeat(10_000));
    assert!(words(&long).len() < 100, "{}", words(&long));
    assert_eq!(words("@daily"), "has 1 field; a schedule has 5, or 6 with seconds first");
    assert_eq!(words("0,, 3 * * *"), "cannot be read: a comma has no value next to it");
}

/// The limit is there for the memory that each of them takes.
#[rstest]
#[case::as_many_as_are_taken_apart("0,30", 24, 2)]
#[case::one_more("1,2,3,4,5,6,7", 7, 14)]
fn up_to_forty_eight_listed_times_are_daily_times_which_the_fold_does_not_repeat(
    #[case] minutes: &str,
    #[case] hours: u32,
    #[case] in_the_fold: usize,
) {
    let hours: Vec<String> = (0..hours).map(|hour| hour.to_string()).collect();
    let schedule = schedule(&format!("{minutes} {} * * *", hours.join(",")), "Europe/Berlin");
    let fold = instant("2026-10-24T23:59:59Z")..instant("2026-10-25T01:59:59Z"); // 02:00 to 03:00, twice
    let ticks = walked(&schedule, fold.start, fold.end);
    assert_eq!(ticks.count(), in_the_fold);
}

#[test]
fn a_search_that_does_not_lead_ahead_is_begun_anew_an_hour_later() {
    let noon = instant("2026-11-23T12:00:00Z");
    let [hour, day] = [1, 24].map(|hours| noon + SignedDuration::from_hours(hours));
    assert_eq!(ahead_of(noon, |_| Some(day)), Some(day));
    assert_eq!(ahead_of(noon, |_| None), None);
    for stuck in [noon - SignedDuration::from_secs(1), noon] {
        let find = |from| if from < hour { Some(stuck) } else { Some(day) };
        assert_eq!(ahead_of(noon, find), Some(day));
        assert_eq!(ahead_of(noon, |_| Some(stuck)), None);
    }
}

const ZONES: [&str; 20] = [
    "Etc/UTC",
    "Europe/Berlin",
    "Europe/London",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Asia/Beirut",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "America/Asuncion",
    "Europe/Dublin",
    "Antarctica/Troll",
];

/// The ten years that the searches are tried in.
const FROM: i64 = 1_767_225_600; // 2026-01-01
const TO: i64 = 2_082_758_400; // 2036-01-01

/// The ticks after an instant, up to another and including it.
fn walked(schedule: &Schedule, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
    std::iter::successors(schedule.next_after(from), |tick| schedule.next_after(*tick))
        .take_while(move |tick| *tick <= to)
}

/// Where clocks are changed in a zone: when, and from which minute of the day to which.
struct Change {
    at: Timestamp,
    shown_before: i64,
    shown_after: i64,
}

fn changes(zone: &TimeZone) -> Vec<Change> {
    let minutes = |at: Timestamp| {
        let shown = at.as_second() + i64::from(zone.to_offset(at).seconds());
        shown.div_euclid(60)
    };
    zone.following(Timestamp::from_second(FROM).unwrap())
        .map(|transition| transition.timestamp())
        .take_while(|at| at.as_second() < TO)
        .map(|at| Change {
            at,
            shown_before: minutes(at - SignedDuration::from_mins(1)) + 1,
            shown_after: minutes(at),
        })
        .filter(|change| change.shown_before != change.shown_after)
        .collect()
}

/// `minute hour` of a minute counted from whatever midnight.
fn at_minute(minute: i64) -> String {
    format!("{} {}", minute.rem_euclid(60), minute.div_euclid(60).rem_euclid(24))
}

#[test]
fn daily_ticks_come_once_a_day_through_every_gap_and_fold_of_ten_years() {
    let mut met = 0;
    for name in ZONES {
        let zone = TimeZone::get(name).unwrap();
        for Change { at, shown_before, shown_after } in changes(&zone) {
            met += 1;
            let (begin, end) = (shown_before.min(shown_after), shown_before.max(shown_after));
            for minute in [begin - 1, begin, i64::midpoint(begin, end), end - 1, end] {
                let text = format!("{} * * *", at_minute(minute));
                let schedule = schedule(&text, name);
                let around = |hours| at + SignedDuration::from_hours(hours);
                let ticks: Vec<Timestamp> = walked(&schedule, around(-50), around(50)).collect();
                let days: Vec<_> =
                    ticks.iter().map(|tick| tick.to_zoned(zone.clone()).date()).collect();
                let one_a_day = days.windows(2).all(|pair| pair[0].tomorrow().unwrap() == pair[1]);
                assert!(one_a_day && days.len() >= 4, "{name} {text}: {days:?}");
                let is_moved = (begin..end).contains(&minute);
                if is_moved && shown_before < shown_after {
                    assert!(ticks.contains(&at), "{name} {text}: not at the gap's end {at}");
                }
                if is_moved && shown_before > shown_after {
                    let first = at - SignedDuration::from_mins(shown_before - minute);
                    assert!(ticks.contains(&first), "{name} {text}: not at first in the fold");
                }
            }
        }
    }
    assert!(met > 200, "{met}");
}

#[test]
fn intervals_run_through_every_gap_and_both_passes_of_every_fold_of_ten_years() {
    for name in ZONES {
        let schedule = schedule("*/15 * * * *", name);
        for change in changes(schedule.zone()) {
            let around = |hours| change.at + SignedDuration::from_hours(hours);
            let ticks: Vec<Timestamp> = walked(&schedule, around(-3), around(3)).collect();
            assert_eq!(ticks.len(), 24, "{name} at {}: {ticks:?}", change.at);
            let quarter = SignedDuration::from_mins(15);
            assert!(ticks.windows(2).all(|pair| pair[1].duration_since(pair[0]) == quarter));
        }
    }
}

/// Expressions that have to do with a change of clocks.
fn around_a_change(change: &Change) -> Vec<String> {
    let (begin, end) =
        (change.shown_before.min(change.shown_after), change.shown_before.max(change.shown_after));
    let hour = |ahead: i64| (begin.div_euclid(60) + ahead).rem_euclid(24);
    let day = begin.div_euclid(24 * 60);
    let within = at_minute(i64::midpoint(begin, end));
    vec![
        format!("{within} * * *"),
        format!("{within} * * {}", calendar::weekday(day)),
        format!("17,42 {} * * *", (end - 1).div_euclid(60).rem_euclid(24)),
        format!("0,30 {},{},{} * * *", hour(-1), hour(0), hour(1)),
        format!("15 {}-{} * * *", hour(0).min(21), hour(0).min(21) + 2),
        format!("*/20 {} * * *", hour(0)),
        "0 */2 * * *".to_owned(),
    ]
}

/// A schedule without a next tick would never run again.
#[rstest]
#[case::samoa("0 3 * * *", "Pacific/Apia", "2011-12-28T13:00:00Z", &["12-29 03:00 -10", "12-31 03:00 \
     +14", "01-01 03:00 +14"])]
#[case::at_its_end("0 0 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", &["12-29 00:00 -10", "12-31 00:00 \
     +14", "01-01 00:00 +14"])]
#[case::weekly("0 3 * * fri", "Pacific/Apia", "2011-12-24T00:00:00Z", &["01-06 03:00 +14", "01-13 03:00 \
     +14", "01-20 03:00 +14"])]
#[case::kwajalein("0 3 * * *", "Pacific/Kwajalein", "1993-08-19T16:00:00Z", &["08-20 03:00 -12", "08-22 \
     03:00 +12", "08-23 03:00 +12"])]
fn a_day_that_a_zone_leaves_out_ends_no_schedule(
    #[case] text: &str,
    #[case] zone: &str,
    #[case] from: &str,
    #[case] expected: &[&str],
) {
    assert_eq!(occurrences(text, zone, from, 3), expected);
}

/// Where a search goes wrong is around a change, so both are tried from every half hour there.
#[test]
fn both_searches_agree_with_a_walk_wherever_they_begin_around_a_change() {
    for name in ZONES {
        let zone = TimeZone::get(name).unwrap();
        for change in changes(&zone).iter().take(2) {
            let around = |hours| change.at + SignedDuration::from_hours(hours);
            let walk = Walk::over(&zone, around(-30), around(30));
            for text in around_a_change(change) {
                let schedule = schedule(&text, name);
                let ticks = Vec::from_iter(walk.ticks(&Expression::read(&text)));
                for halves in -4..8 {
                    let from = around(0) + SignedDuration::from_mins(30 * halves);
                    let after = ticks.partition_point(|tick| *tick <= from);
                    if let Some(next) = ticks.get(after) {
                        assert_eq!(schedule.next_after(from), Some(*next), "{name} {text} {from}");
                    }
                    if let Some(latest) = ticks[..after].last() {
                        assert_eq!(schedule.latest_at(from), Some(*latest), "{name} {text} {from}");
                    }
                }
            }
        }
    }
}
