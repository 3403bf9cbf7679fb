//! What is true after any events.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Pass { uptime: u64, wall: i64 },
    Answer { succeeds: bool, row: Row, database: u32, sent_before: u64 },
    NotAnswered,
    EndAsked,
    CallsEnded { settled_in: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any_row = (0..3_u128, 0..3_u64, 0..2_u64, any::<bool>())
        .prop_map(|(holder, term, beat, released)| Row { released, ..row(holder, term, beat) });
    let answer = (prop::bool::weighted(0.9), any_row, 1..3_u32, 0..6_000_u64);
    let step = prop_oneof![
        6 => (0..12_000_u64, -1_000..60_000_i64)
            .prop_map(|(uptime, wall)| Step::Pass { uptime, wall: wall.min(12_000) }),
        8 => answer.prop_map(|(succeeds, row, database, sent_before)| Step::Answer {
            succeeds, row, database: if database == 2 && row.released { 2 } else { 1 }, sent_before
        }),
        1 => Just(Step::NotAnswered),
        1 => prop::bool::weighted(0.1).prop_map(|ends| if ends { Step::EndAsked } else { Step::NotAnswered }),
        1 => (0..20_000_u64).prop_map(|settled_in| Step::CallsEnded { settled_in }),
    ];
    prop::collection::vec(step, 1..80)
}

/// Carries out a step. Without a statement under way there is nothing to answer.
fn carry_out(bench: &mut Bench, asked: Option<Order>, step: Step) -> Option<Event> {
    Some(match (step, asked) {
        (Step::Pass { uptime, wall }, _) => {
            bench.now.uptime += ms(uptime);
            bench.now.wall += SignedDuration::from_millis(wall);
            Event::Woken
        }
        (Step::Answer { succeeds, row, database: number, sent_before }, Some(asked)) => {
            let answer = match asked {
                Order::Read => Answer::Read(row),
                Order::TakeOver { .. } => Answer::TookOver(succeeds),
                Order::Renew { .. } => Answer::Renewed(succeeds),
                Order::Release { .. } => Answer::Released(succeeds),
            };
            let (sent_at, answered_at) = (bench.now.before(ms(sent_before)), bench.now);
            Event::Answered { sent_at, answered_at, database: database(number), answer }
        }
        (Step::NotAnswered, Some(_)) => Event::NotAnswered,
        (Step::EndAsked, _) => Event::EndAsked,
        (Step::CallsEnded { settled_in }, _) => {
            Event::CallsEnded { settled_at: bench.now.uptime + ms(settled_in) }
        }
        (Step::Answer { .. } | Step::NotAnswered, None) => return None,
    })
}

proptest! {
    #[test]
    fn it_waits_for_something_and_sends_only_what_it_may(steps in steps()) {
        let mut bench = Bench::new();
        let mut asked = None;
        let mut has_ended = false;
        for step in steps {
            let Some(event) = carry_out(&mut bench, asked, step) else { continue };
            if matches!(event, Event::Answered { .. } | Event::NotAnswered) {
                asked = None;
            }
            let order = bench.next(event);
            prop_assert!(order.is_none() || asked.is_none(), "one statement at a time");
            asked = order.or(asked);
            let (replica, now) = (&bench.replica, bench.now);
            // Whoever wakes it in a loop sleeps in between.
            prop_assert!(replica.next_wake().is_none_or(|at| at > now.uptime));
            prop_assert!(replica.next_wake().is_some() || asked.is_some() || replica.has_ended());
            if let Some(holding) = replica.may_look(now) {
                prop_assert!(replica.may_send(holding, now));
                prop_assert_eq!(replica.stage(), Stage::Holding);
            }
            prop_assert_eq!(replica.holds(now).is_some(), !replica.trust_left(now).is_zero());
            prop_assert!(replica.has_ended() || !has_ended);
            has_ended = replica.has_ended();
        }
    }
}
