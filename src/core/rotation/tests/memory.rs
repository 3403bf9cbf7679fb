//! What one rotation has seen and done holds in the next ones.

use std::time::Duration;

use jiff::SignedDuration;

use super::table::{Stage, tick, words};
use crate::memory::RingMemory;
use crate::moment::Moment;
use crate::rotation::Next;

/// One server, night after night, always at the same tick: what is listed says what there is.
#[derive(Default)]
struct Nights {
    memory: RingMemory,
    uptime: Duration,
    /// What the last rotation said of the ring.
    remarks: Vec<String>,
}

impl Nights {
    /// One rotation, begun so long after the last one: what it did, in words, after each event. It is
    /// broken off where the events end.
    fn rotate(&mut self, after: Duration, begin: &str, events: &[&str]) -> Vec<String> {
        self.uptime += after;
        let wall = tick().instant() + SignedDuration::try_from(self.uptime).unwrap();
        let now = Moment { wall, uptime: self.uptime };
        let (mut stage, first) = Stage::begin_at(begin, self.memory.clone(), now);
        let mut done = vec![words(&first)];
        for event in events {
            let (passed, event) = event.strip_prefix("+1m ").map_or((0, *event), |it| (60, it));
            stage.pass(Duration::from_secs(passed));
            let next = stage.next(stage.event(event));
            done.push(words(&next));
            if matches!(next, Next::End(_)) {
                break;
            }
        }
        self.uptime = stage.now.uptime;
        self.remarks = stage.rotation().take_remarks().iter().map(|it| format!("{it:?}")).collect();
        self.memory = stage.rotation().memory().clone();
        done
    }

    fn night(&mut self, events: &[&str]) -> Vec<String> {
        self.rotate(DAY, "", events)
    }

    /// Three further nights with this listing are all blocked, for a reason with these words.
    fn stay_blocked(&mut self, listing: &str, words: &str, restarts: bool) {
        for _ in 0..3 {
            if restarts {
                self.restart();
            }
            let done = self.night(&[listing]);
            let blocked = last(&done);
            assert!(blocked.starts_with("blocked") && blocked.contains(words), "{done:?}");
        }
    }

    /// Another process goes on, which has what was kept.
    fn restart(&mut self) {
        self.memory = self.memory.without_uptime();
    }
}

const DAY: Duration = Duration::from_hours(24);

fn last(done: &[String]) -> &str {
    done.last().unwrap()
}

/// The provider makes something else than what it was asked for, night after night.
#[test]
fn one_restore_point_is_given_up_for_a_snapshot_that_comes_under_another_name_and_no_second_one() {
    for restarts in [false, true] {
        let mut nights = Nights::default();
        let done = nights.night(&[
            "listed c c c c c",
            "deleted",
            "listed - c c c c",
            "recorded",
            "created-as other-name",
            "+1m listed - c c c c y",
        ]);
        assert_eq!(done[1], "delete 1");
        assert!(
            last(&done).contains("was requested, but the answer is about other-name (99)"),
            "{done:?}"
        );
        nights.stay_blocked("listed - c c c c y", "other-name (99) may be snapring", restarts);
        // Somebody has deleted it.
        let done = nights.night(&[
            "listed c c c c",
            "recorded",
            "created",
            "+1m listed c c c c own",
            "deleted",
            "deleted",
        ]);
        assert_eq!(last(&done), "rotated, made, deleted 1 2");
    }
}

#[test]
fn one_that_is_seen_under_another_name_while_it_is_made_is_not_taken_for_the_ticks() {
    let mut nights = Nights::default();
    let done = nights.night(&["listed c c c", "recorded", "created", "+1m listed c c c x~"]);
    assert!(
        last(&done).starts_with("failed") && last(&done).contains("the provider created SNAPRING-"),
        "{done:?}"
    );
}

/// Killed after its create was sent, before the answer: what appeared meanwhile may be the answer.
#[test]
fn what_has_appeared_while_no_process_was_there_is_not_paid_for_twice() {
    let mut nights = Nights::default();
    let done = nights.night(&["listed c c c c c", "deleted", "listed - c c c c", "recorded"]);
    assert_eq!(last(&done), "create 1");
    nights.restart();
    let done = nights.rotate(Duration::from_mins(1), "", &["listed - c c c c H"]);
    assert!(
        last(&done).starts_with("blocked") && last(&done).contains("by-hand-5 (6) may be snapring"),
        "{done:?}"
    );
}

/// A person's own snapshot, made between two nights, is none of it.
#[test]
fn what_a_person_makes_later_squeezes_the_ring_as_ever() {
    let mut nights = Nights::default();
    let done = nights.night(&["listed c c c", "recorded", "uncreated rejected", "listed c c c"]);
    assert!(
        last(&done).starts_with(
            "failed: could not create the snapshot: the provider answered 400 (bad request)"
        ),
        "{done:?}"
    );
    let done = nights.night(&["listed c c c H H"]);
    assert_eq!(last(&done), "delete 1");
}

#[test]
fn an_error_that_is_reported_for_a_moment_costs_nothing() {
    for restarts in [false, true] {
        let mut nights = Nights::default();
        let done = nights.night(&[
            "listed c c c",
            "recorded",
            "created",
            "+1m listed c c c own",
            "deleted",
        ]);
        assert_eq!(last(&done), "rotated, made, deleted 1");
        if restarts {
            nights.restart();
        }
        // All of them read as failed, for ten minutes.
        let mut events = vec!["listed - f f", "recorded", "created"];
        events.extend(["+1m listed - f f own~"; 10]);
        events.push("+1m listed - f f own");
        assert_eq!(last(&nights.night(&events)), "rotated, made");
    }
}

/// Who remembers nothing needs two listings, five minutes apart.
#[test]
fn one_that_failed_is_deleted_when_a_later_listing_agrees() {
    let mut nights = Nights::default();
    let done = nights.rotate(DAY, "next=24h", &["listed c c c c f", "waited"]);
    assert_eq!(done[1..], ["wait 5m", "look 0s+200ms pages"]);
    // At once it is as before; a minute later too.
    nights.restart();
    let done = nights.rotate(Duration::from_mins(1), "next=24h", &["listed c c c c f"]);
    assert_eq!(last(&done), "wait 4m");
    let done = nights.rotate(Duration::from_mins(4), "next=24h", &["listed c c c c f"]);
    assert_eq!(last(&done), "delete 5");
    // What recovers between is good again.
    let mut nights = Nights::default();
    nights.rotate(DAY, "next=24h", &["listed c c c c f"]);
    nights.rotate(Duration::from_mins(2), "next=24h", &["listed c c c c p"]);
    let done = nights.rotate(Duration::from_mins(4), "next=24h", &["listed c c c c f"]);
    assert_eq!(last(&done), "wait 5m");
    // There is no time for it before the next tick: nothing else is given up in its place.
    let mut nights = Nights::default();
    let done = nights.rotate(Duration::ZERO, "next=4m", &["listed c c c c f"]);
    assert!(
        last(&done)
            .starts_with("failed: all slots are taken, and one snapshot is listed as failed"),
        "{done:?}"
    );
}

#[test]
fn a_delete_that_did_nothing_is_told_by_the_next_rotation() {
    for restarts in [false, true] {
        let mut nights = Nights::default();
        let done = nights.night(&[
            "listed c c c",
            "recorded",
            "created",
            "+1m listed c c c own",
            "deleted",
        ]);
        assert_eq!(last(&done), "rotated, made, deleted 1");
        if restarts {
            nights.restart();
        }
        // It is asked for again, and not counted again.
        let done = nights.night(&[
            "listed c c c c",
            "recorded",
            "created",
            "+1m listed c c c c own",
            "deleted",
            "deleted",
        ]);
        assert!(
            last(&done)
                .starts_with("failed, made, deleted 2: the provider confirmed the deletion of"),
            "{done:?}"
        );
        let done =
            nights.night(&["listed - - c c", "recorded", "created", "+1m listed - - c c own"]);
        assert_eq!(last(&done), "rotated, made");
    }
}

/// The listing before the create was settled, and there was none after it.
#[test]
fn a_create_without_a_listing_after_it_is_not_forgotten() {
    for unclear in ["malformed", "server-error", "busy", "transport"] {
        let mut nights = Nights::default();
        let unclear = format!("uncreated {unclear}");
        nights.night(&["listed - c c c H", "recorded", &unclear, "unlisted not-found"]);
        let done = nights.night(&["listed - c c c H y"]);
        assert!(last(&done).starts_with("blocked"), "{done:?}");
        assert!(last(&done).contains("other-name (99) may be snapring's own"), "{done:?}");
    }
}

/// Three of the four have broken since they were completed. The whole one is not given up for them.
#[test]
fn what_has_broken_is_not_kept_in_place_of_what_is_whole() {
    for restarts in [false, true] {
        let mut nights = Nights::default();
        // The server keeps three.
        nights.night(&["listed c c c", "recorded", "created", "+1m listed c c c"]);
        let done = nights.rotate(Duration::from_hours(1), "", &["listed c f f", "recorded"]);
        assert_eq!(last(&done), "create 1");
        if restarts {
            nights.restart();
        }
        // At first it may be an error of a moment.
        let night = ["listed c f f", "recorded", "created", "+1m listed c f f own", "deleted"];
        let done = nights.night(&night);
        assert_eq!(done[4..], ["delete 2", "rotated, made, deleted 2"], "{done:?}");
        let told =
            nights.remarks.iter().filter(|it| it.contains("does not count for `keep`")).count();
        assert_eq!(told, 2, "{:?}", nights.remarks);
    }
}

/// The tick is caught up with after a restart, and there is room for one more.
#[test]
fn a_tick_whose_snapshot_may_have_another_name_is_not_made_a_second_time() {
    for restarts in [false, true] {
        let mut nights = Nights::default();
        let first = ["listed - c c c", "recorded", "created-as other-name", "+1m listed - c c c y"];
        let tick_at = nights.uptime + DAY;
        nights.night(&first);
        if restarts {
            nights.restart();
        }
        nights.uptime = tick_at;
        let done = nights.rotate(Duration::ZERO, "", &["listed - c c c y"]);
        assert!(
            last(&done).starts_with("skipped: other-name (99) may be the snapshot"),
            "{done:?}"
        );
        let done = nights.night(&["listed - c c c y", "recorded"]);
        assert_eq!(last(&done), "create 1", "of the next tick");
    }
}

/// Night after night, by the provider: each would be foreign and squeeze the ring.
#[test]
fn what_was_renamed_after_it_was_made_costs_no_restore_point() {
    let squeezed = "listed - - c c H H y";
    for restarts in [false, true] {
        let mut nights = Nights::default();
        nights.night(&["listed - c c c H", "recorded", "created", "+1m listed - c c c H own"]);
        if restarts {
            nights.restart();
        }
        let done = nights.night(&[squeezed]);
        let blocked = last(&done);
        assert!(blocked.starts_with("blocked") && blocked.contains("may be snapring's own"));
        // A person has pinned it, or deleted it.
        let done = nights.night(&["listed - - c c H H H"]);
        assert_eq!(last(&done), "delete 3");
    }
    assert_eq!(last(&Nights::default().night(&["listed - - c c H H H"])), "delete 3");
}

/// The clock was set back while no process was there.
#[test]
fn a_tick_that_has_run_does_not_run_again_unless_the_clock_was_years_ahead() {
    let succeeded = |seconds_ahead: i64| {
        let mut memory = RingMemory::default();
        let then = tick().instant() + SignedDuration::from_secs(seconds_ahead);
        memory.succeeded(crate::naming::Tick::at(then));
        Nights { memory, ..Nights::default() }
    };
    let hours = |hours: i64| hours * 3600;
    for (ahead, skips) in [
        (-1, false),
        (0, true),
        (hours(10), true),
        (hours(48), true),
        (hours(49), false),
        (hours(90_000), false),
    ] {
        let done = succeeded(ahead).rotate(Duration::ZERO, "", &["listed c c"]);
        assert_eq!(last(&done).starts_with("skipped: the tick of"), skips, "{ahead} {done:?}");
    }
    // And the tick that runs then has the last word.
    let mut memory = succeeded(hours(90_000)).memory;
    memory.succeeded(tick());
    assert_eq!(memory.has_run(tick()), Some(tick()));
}

/// The ring holds more than the policy asks for, and no create comes to its end.
#[test]
fn unfinished_snapshots_cost_one_restore_point_however_many_ticks_fail() {
    for restarts in [false, true] {
        let mut nights = Nights::default();
        let done = nights.night(&[
            "listed c c c c c",
            "deleted",
            "listed - c c c c",
            "recorded",
            "created",
            "+1m listed - c c c c own!",
        ]);
        assert!(
            last(&done).starts_with("failed, deleted 1") || last(&done).contains("failed"),
            "{done:?}"
        );
        nights.stay_blocked("listed - c c c c p", "made room for a new snapshot before", restarts);
        // A person has deleted the unfinished one.
        let done = nights.night(&[
            "listed - c c c c",
            "recorded",
            "created",
            "+1m listed - c c c c own",
            "deleted",
        ]);
        assert!(last(&done).starts_with("delete"), "{done:?}");
    }
}

/// An answer that a proxy gives in place of the provider's.
#[test]
fn a_create_that_is_refused_in_an_odd_way_is_not_paid_for_twice() {
    let mut nights = Nights::default();
    let done = nights.night(&[
        "listed c c c c c",
        "deleted",
        "listed - c c c c",
        "recorded",
        "uncreated unprocessable",
        "listed - c c c c H",
    ]);
    assert!(last(&done).starts_with("blocked") || last(&done).starts_with("failed"), "{done:?}");
    let done = nights.night(&["listed - c c c c H"]);
    assert!(last(&done).starts_with("blocked"), "{done:?}");
}

#[test]
fn a_delete_that_is_redirected_is_looked_for_before_another_is_deleted() {
    let mut nights = Nights::default();
    let done = nights.night(&[
        "listed c c c c c",
        "undeleted redirected",
        "listed c c c c c",
        "+1m listed c c c c c",
    ]);
    assert!(
        last(&done).starts_with("failed: could not delete the snapshot: the provider answered 302"),
        "{done:?}"
    );
}

/// Else a clock that is set ahead would show that a snapshot has failed for five minutes.
#[test]
fn what_is_read_back_from_where_it_was_kept_does_not_lose_this_processs_own_clock() {
    let mut nights = Nights::default();
    nights.night(&["listed c f", "recorded", "created", "+1m listed c f own", "deleted"]);
    let mut kept = nights.memory.without_uptime();
    assert_ne!(kept, nights.memory);
    kept.keeps_of(&nights.memory);
    assert_eq!(kept, nights.memory);
}

/// The daemon was stopped in the middle of a tick, and a person asks before it starts again: what it began
/// is its own to go on with.
#[test]
fn an_unfinished_snapshot_that_the_schedule_asked_for_is_left_to_the_daemon() {
    let mut nights = Nights::default();
    nights.rotate(Duration::ZERO, "", &["listed c", "recorded", "created", "unlisted interrupted"]);
    let kept = nights.memory.clone();
    for memory in [kept, RingMemory::default()] {
        nights.memory = memory;
        nights.uptime = Duration::from_mins(10);
        // At ten past three: the snapshot of three o'clock.
        let done = nights.rotate(Duration::ZERO, "person", &["listed c ~10m"]);
        assert_eq!(last(&done), "record");
    }
}

/// The schedule was changed meanwhile. What is remembered knows who asked; names alone do not.
#[test]
fn who_asked_for_an_unfinished_snapshot_is_remembered_whatever_the_schedule_says_now() {
    for (begin, is_continued) in [("person", true), ("", false)] {
        let mut nights = Nights::default();
        let events = ["listed c", "recorded", "created", "unlisted interrupted"];
        // At one past three, which is no tick of the schedule any more, or was never one.
        nights.rotate(Duration::from_mins(1), begin, &events);
        nights.restart();
        let done = nights.rotate(Duration::from_mins(10), "person", &["listed c ~10m"]);
        assert_eq!(last(&done).starts_with("look"), is_continued, "{done:?}");
        assert_eq!(last(&done) == "record", !is_continued, "{done:?}");
    }
}

/// Completed at last, it is the last tick that ended well.
#[test]
fn a_continued_snapshot_ends_what_was_asked_for() {
    let mut nights = Nights::default();
    let events = ["listed c", "recorded", "created", "unlisted interrupted"];
    nights.rotate(Duration::from_mins(1), "person", &events);
    let tick = crate::naming::Tick::at(tick().instant() + SignedDuration::from_mins(1));
    assert_eq!(nights.memory.was_asked_for_by_hand(tick), Some(true));
    let done =
        nights.rotate(Duration::from_mins(10), "person", &["listed c ~10m", "+1m listed c =10m"]);
    assert!(last(&done).starts_with("adopted: continued with"), "{done:?}");
    assert_eq!(nights.memory.was_asked_for_by_hand(tick), None);
    assert_eq!(nights.memory.has_run(tick), Some(tick));
}
