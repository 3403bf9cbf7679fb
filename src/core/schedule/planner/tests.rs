use std::collections::HashSet;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn schedule(text: &str) -> Schedule {
    Schedule::parse(text, TimeZone::UTC).unwrap()
}

/// A clock of two hands.
#[derive(Clone, Copy)]
struct Hands(Moment);

impl Hands {
    fn at(wall: &str) -> Self {
        Self(Moment { wall: wall.parse().unwrap(), uptime: Duration::ZERO })
    }

    fn run(&mut self, span: Duration) -> Moment {
        self.0.uptime += span;
        self.0.wall += SignedDuration::try_from(span).unwrap();
        self.0
    }

    fn step(&mut self, hours: i64) {
        self.0.wall += SignedDuration::from_hours(hours);
    }
}

/// The ticks of this many minutes of half-second polls.
fn ticks(planner: &mut Planner, hands: &mut Hands, minutes: u64) -> Vec<String> {
    (0..minutes * 120)
        .flat_map(|_| planner.poll(hands.run(Duration::from_millis(500))).due)
        .map(|due| due.tick.to_string())
        .collect()
}

fn planner(text: &str, hands: &Hands) -> Planner {
    let mut planner = Planner::new(hands.0);
    planner.set([schedule(text)], hands.0);
    planner
}

#[test]
fn a_schedule_fires_at_its_ticks_and_not_for_the_past() {
    let mut hands = Hands::at("2026-11-23T12:00:00Z");
    let mut planner = planner("*/5 * * * *", &hands);
    let expected = ["2026-11-23T12:05:00Z", "2026-11-23T12:10:00Z"];
    assert_eq!(ticks(&mut planner, &mut hands, 10), expected);
}

#[test]
fn a_machine_that_slept_has_one_late_tick_and_then_goes_on() {
    let mut hands = Hands::at("2026-11-23T12:00:30Z");
    let mut planner = planner("0 * * * *", &hands);
    hands.step(9);
    let poll = planner.poll(hands.run(Duration::from_millis(500)));
    assert_eq!(poll.step, Some(SignedDuration::from_hours(9)));
    let [due] = poll.due.as_slice() else { panic!("{poll:?}") };
    assert_eq!(due.tick.to_string(), "2026-11-23T21:00:00Z");
    assert_eq!((due.missed, due.late.as_secs()), (8, 30));
    assert_eq!(ticks(&mut planner, &mut hands, 60), ["2026-11-23T22:00:00Z"]);
}

#[test]
fn a_clock_set_back_an_hour_repeats_nothing_and_goes_on_after_that_hour() {
    let mut hands = Hands::at("2026-11-23T12:00:00Z");
    let mut planner = planner("*/30 * * * *", &hands);
    assert_eq!(ticks(&mut planner, &mut hands, 61).len(), 2); // until 13:01
    hands.step(-1);
    assert_eq!(ticks(&mut planner, &mut hands, 60), Vec::<String>::new());
    assert_eq!(ticks(&mut planner, &mut hands, 30), ["2026-11-23T13:30:00Z"]);
}

#[test]
fn a_clock_set_back_to_before_the_start_fires_what_was_not_lived_through() {
    let mut hands = Hands::at("2026-11-23T12:15:00Z");
    let mut planner = planner("*/30 * * * *", &hands);
    assert_eq!(ticks(&mut planner, &mut hands, 30), ["2026-11-23T12:30:00Z"]);
    hands.step(-1); // 11:45
    let expected = ["2026-11-23T12:00:00Z", "2026-11-23T13:00:00Z"];
    assert_eq!(ticks(&mut planner, &mut hands, 80), expected);
}

#[test]
fn a_clock_ten_years_ahead_that_is_put_right_goes_on_at_once() {
    let mut hands = Hands::at("2036-01-01T00:00:00Z");
    let mut planner = planner("*/5 * * * *", &hands);
    assert_eq!(ticks(&mut planner, &mut hands, 5).len(), 1);
    hands.0.wall = "2026-11-23T12:00:00Z".parse().unwrap();
    let expected = ["2026-11-23T12:05:00Z", "2026-11-23T12:10:00Z"];
    assert_eq!(ticks(&mut planner, &mut hands, 10), expected);
}

#[test]
fn a_clock_that_jumps_ten_years_ahead_and_back_goes_on_and_repeats_nothing() {
    let mut hands = Hands::at("2026-11-23T12:01:00Z");
    let mut planner = planner("* * * * * *", &hands);
    let ten_years = 10 * 365 * 24;
    hands.step(ten_years);
    let poll = planner.poll(hands.run(Duration::from_millis(500)));
    assert_eq!((poll.due.len(), poll.due[0].missed), (1, COUNTED));
    hands.step(-ten_years);
    let fired = ticks(&mut planner, &mut hands, 1);
    assert!(fired.len() >= 59, "{fired:?}");
    assert_eq!(fired.iter().collect::<HashSet<_>>().len(), fired.len());
}

#[test]
fn a_runtime_blocked_over_a_due_second_is_late_once() {
    let mut hands = Hands::at("2026-11-23T02:59:58Z");
    let mut planner = planner("0 3 * * *", &hands);
    let poll = planner.poll(hands.run(Duration::from_secs(3)));
    assert_eq!(poll.due[0].late.as_secs(), 1);
    assert_eq!(planner.poll(hands.run(Duration::from_secs(3))), Poll::default());
}

#[test]
fn three_hundred_schedules_on_one_second_all_fire() {
    let mut hands = Hands::at("2026-11-23T02:59:59Z");
    let zones = jiff::tz::db().available().take(300).map(|name| name.to_string());
    let schedules: Vec<Schedule> = zones
        .map(|zone| Schedule::parse("*/15 * * * *", TimeZone::get(&zone).unwrap()).unwrap())
        .collect();
    let mut planner = Planner::new(hands.0);
    planner.set(schedules, hands.0);
    assert_eq!(planner.poll(hands.run(Duration::from_secs(1))).due.len(), 300);
}

#[rstest]
#[case::kept("0 * * * *", &["2026-11-23T13:00:00Z"])]
#[case::edited_to_one_in_the_past("30 11 * * *", &[])]
fn a_reload_fires_nothing_and_loses_nothing(#[case] after: &str, #[case] expected: &[&str]) {
    let mut hands = Hands::at("2026-11-23T12:30:00Z");
    let mut planner = planner("0 * * * *", &hands);
    // Due, but not polled yet, when the reload comes.
    hands.run(Duration::from_secs(1800));
    planner.set([schedule(after)], hands.0);
    assert_eq!(ticks(&mut planner, &mut hands, 1), expected);
}

#[test]
fn a_tick_at_the_very_instant_where_a_step_ends_comes() {
    let mut hands = Hands::at("2026-11-23T12:00:00Z");
    let mut planner = planner("0 * * * *", &hands);
    hands.step(3);
    let poll = planner.poll(hands.0);
    assert_eq!(poll.due[0].tick.to_string(), "2026-11-23T15:00:00Z");
    assert_eq!(planner.poll(hands.run(Duration::from_secs(60))).due, []);
}

#[test]
fn a_jump_into_time_lived_through_fires_the_latest_tick_from_before_it() {
    let mut hands = Hands::at("2026-11-23T12:05:00Z");
    let mut planner = planner("0 * * * *", &hands);
    assert_eq!(ticks(&mut planner, &mut hands, 60), ["2026-11-23T13:00:00Z"]); // until 13:05
    hands.step(-5);
    assert_eq!(planner.poll(hands.0).due, []); // 08:05
    hands.step(5);
    let [due] = &planner.poll(hands.0).due[..] else { panic!("one tick") };
    assert_eq!((due.tick.to_string().as_str(), due.missed), ("2026-11-23T12:00:00Z", 3));
}

#[rstest]
#[case::that_a_poll_has_seen(true)]
#[case::that_no_poll_has_seen(false)]
fn a_schedule_loaded_after_a_step_back_has_not_lived_through_what_others_have(#[case] seen: bool) {
    let mut hands = Hands::at("2026-11-23T10:00:00Z");
    let mut planner = planner("0 0 * * *", &hands);
    planner.poll(hands.run(Duration::from_secs(3 * 3600)));
    hands.step(-1);
    if seen {
        planner.poll(hands.0);
    }
    let new = schedule("*/20 * * * *");
    planner.set([schedule("0 0 * * *"), new.clone()], hands.0); // 12:00
    let next = planner.next_tick(&new).map(|tick| tick.to_string());
    assert_eq!(next.as_deref(), Some("2026-11-23T12:20:00Z"));
    let expected = ["2026-11-23T12:20:00Z", "2026-11-23T12:40:00Z"];
    assert_eq!(ticks(&mut planner, &mut hands, 41), expected);
}

#[test]
fn a_step_that_a_reload_saw_first_is_told_of_by_the_next_poll() {
    let mut hands = Hands::at("2026-11-23T12:00:00Z");
    let mut planner = planner("0 * * * *", &hands);
    hands.step(-1);
    planner.set([schedule("0 * * * *")], hands.0);
    assert!(planner.must_be_polled(hands.0));
    assert_eq!(planner.poll(hands.0).step, Some(SignedDuration::from_hours(-1)));
    assert_eq!(planner.poll(hands.0), Poll::default());
}

#[test]
fn a_poll_is_asked_for_by_a_tick_a_step_and_half_a_minute() {
    let mut hands = Hands::at("2026-11-23T12:00:00Z");
    let mut planner = planner("0 * * * *", &hands);
    assert!(!planner.must_be_polled(hands.0));
    assert!(!planner.must_be_polled(hands.run(Duration::from_secs(29))));
    assert!(planner.must_be_polled(hands.run(Duration::from_secs(1))));
    planner.poll(hands.0);
    assert!(!planner.must_be_polled(hands.0));
    hands.0.wall = "2026-11-23T12:59:55Z".parse().unwrap();
    assert!(planner.must_be_polled(hands.0), "a step");
    planner.poll(hands.0);
    assert!(!planner.must_be_polled(hands.run(Duration::from_secs(4))));
    assert!(planner.must_be_polled(hands.run(Duration::from_secs(1))), "13:00");
}

#[rstest]
#[case::two_seconds(2_000, false)]
#[case::more(2_001, true)]
#[case::two_seconds_back(-2_000, false)]
#[case::more_back(-2_001, true)]
fn a_clock_is_taken_for_stepped_when_it_is_more_than_two_seconds_off(
    #[case] off_ms: i64,
    #[case] stepped: bool,
) {
    let mut hands = Hands::at("2026-11-23T12:00:00Z");
    let mut planner = planner("0 * * * *", &hands);
    hands.0.wall += SignedDuration::from_millis(off_ms);
    let step = planner.poll(hands.run(Duration::from_secs(1))).step;
    assert_eq!(step, stepped.then_some(SignedDuration::from_millis(off_ms)));
}

#[test]
fn a_machine_that_naps_for_days_and_is_then_set_back_repeats_nothing() {
    let mut hands = Hands::at("2026-11-23T12:00:30Z");
    let mut planner = planner("* * * * *", &hands);
    let mut seen = HashSet::new();
    for _ in 0..200 {
        hands.0.wall += SignedDuration::from_secs(3); // asleep
        let poll = planner.poll(hands.run(Duration::from_secs(57)));
        assert!(poll.due.iter().all(|due| seen.insert(due.tick)));
    }
    hands.step(-3);
    assert_eq!(ticks(&mut planner, &mut hands, 179), Vec::<String>::new());
}

#[test]
fn five_hundred_reloads_neither_fire_nor_lose_a_tick() {
    let mut hands = Hands::at("2026-11-23T12:00:00Z");
    let mut planner = planner("*/5 * * * *", &hands);
    let mut fired = Vec::new();
    for count in 0..500_u64 {
        // Now and then with a tick come that no poll has seen yet.
        let now = hands.run(Duration::from_millis(7_300));
        planner.set([schedule("*/5 * * * *"), schedule(&format!("{} 1 * * *", count % 60))], now);
        fired.extend(planner.poll(hands.0).due);
    }
    assert_eq!(fired.len(), 12, "{fired:?}"); // 500 times 7.3 s are an hour and 50 s
}

/// Three hundred million looks, if a poll looked at every schedule.
#[test]
fn polls_between_ticks_do_not_look_at_the_two_thousand_schedules_that_wait() {
    let mut hands = Hands::at("2026-11-30T00:00:00Z");
    let texts = (0..2_000).map(|n| format!("{} {} {} 12 *", n % 60, n / 60 % 24, 2 + n / 1440));
    let mut planner = Planner::new(hands.0);
    planner.set(texts.map(|text| schedule(&text)), hands.0);
    assert_eq!(planner.entries.len(), 2_000);
    for _ in 0..170_000 {
        assert!(planner.poll(hands.run(Duration::from_secs(1))).due.is_empty());
    }
    assert_eq!(planner.earliest().unwrap().to_string(), "2026-12-02T00:00:00Z");
}

/// What the planner should do, told without its queue and in unbounded memory.
struct Model {
    schedule: Schedule,
    lived: Vec<(Timestamp, Timestamp)>,
    fired: HashSet<Timestamp>,
    /// Where the present stretch began, and how far it has come.
    stretch: (Timestamp, Timestamp),
    wall: Timestamp,
}

impl Model {
    /// The tick that a poll at `wall` owes, the clock having been stepped before that or not.
    fn poll(&mut self, wall: Timestamp, stepped: bool) -> Option<Timestamp> {
        let before = self.wall;
        self.wall = wall;
        if stepped {
            self.lived.push(self.stretch);
            self.stretch = (wall, wall);
        }
        let mut owed = None;
        let mut at = before;
        while let Some(tick) = self.schedule.next_after(at).filter(|tick| *tick <= wall) {
            at = tick;
            let lived = self.lived.iter().any(|(from, to)| (*from..=*to).contains(&tick));
            if !lived && !self.fired.contains(&tick) {
                owed = Some(tick);
            }
        }
        self.stretch.1 = self.stretch.1.max(wall);
        self.fired.extend(owed);
        owed
    }
}

proptest! {
    // Each case is a life of its own.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    /// Fewer steps than the planner tells apart: it does what the model does, tick for tick.
    #[test]
    fn it_fires_what_a_model_of_the_rules_fires(
        moves in prop::collection::vec(
            (1..40_u64, 0..900_u64, prop_oneof![-20_000..-9_i64, 10..20_000_i64]), 1..8,
        ),
        text in prop::sample::select(vec!["*/10 * * * *", "0 * * * *", "7,50 */2 * * *", "*/20 * * * * *"]),
    ) {
        let mut hands = Hands::at("2026-11-23T12:00:00Z");
        let mut planner = planner(text, &hands);
        let wall = hands.0.wall;
        let mut model = Model {
            schedule: schedule(text),
            lived: Vec::new(),
            fired: HashSet::new(),
            stretch: (wall, wall),
            wall,
        };
        for (polls, seconds, step) in moves {
            for _ in 0..polls {
                let now = hands.run(Duration::from_secs(seconds));
                let due: Vec<_> = planner.poll(now).due.iter().map(|due| due.tick.instant()).collect();
                prop_assert_eq!(due, Vec::from_iter(model.poll(now.wall, false)));
            }
            hands.0.wall += SignedDuration::from_secs(step);
            let due: Vec<_> = planner.poll(hands.0).due.iter().map(|due| due.tick.instant()).collect();
            prop_assert_eq!(due, Vec::from_iter(model.poll(hands.0.wall, true)));
        }
    }

    /// Whatever the clock does and however often, no schedule yields one tick twice; and while it
    /// does nothing strange, ticks only go forward.
    #[test]
    fn no_tick_comes_twice(
        moves in prop::collection::vec(
            (0..900_u64, prop_oneof![2 => Just(0_i64), 1 => -2..=2_i64, 2 => -9_000..9_000_i64], any::<bool>()),
            1..300,
        ),
        text in prop::sample::select(vec!["*/10 * * * *", "0 * * * *", "0 0 * * *", "*/20 * * * * *"]),
    ) {
        let mut hands = Hands::at("2026-11-23T12:00:00Z");
        let mut planner = planner(text, &hands);
        let mut seen = HashSet::new();
        let mut last = None;
        for (seconds, step, reload) in moves {
            hands.0.wall += SignedDuration::from_secs(step);
            if step != 0 {
                last = None;
            }
            let now = hands.run(Duration::from_secs(seconds));
            if reload {
                planner.set([schedule(text)], now);
            }
            for due in planner.poll(now).due {
                prop_assert!(due.tick.instant() <= now.wall);
                prop_assert!(seen.insert(due.tick), "{} came twice", due.tick);
                prop_assert!(last.is_none_or(|last| due.tick > last));
                last = Some(due.tick);
            }
            prop_assert!(planner.earliest().is_some_and(|next| next > now.wall));
        }
    }
}
