//! A replica that is alone always comes to hold the row.
//!
//! The checker finds states, and this finds what follows from each: all other replicas are dead,
//! nothing goes wrong any more, and a replica must be allowed to look after a bounded time.

use snapring_core::replica::Stage;

use crate::canonical::canonical;
use crate::fleet::Fleet;
use crate::state::State;
use crate::step::{self, Action};

/// Whether each replica that is alone comes to look in time.
pub fn recovers(fleet: &Fleet, state: &State) -> bool {
    // Numbers must stay those of the same replicas.
    let fleet = Fleet { interchangeable: false, ..fleet.clone() };
    (0..state.nodes.len()).all(|number| recovers_alone(&fleet, state.clone(), number))
}

fn recovers_alone(fleet: &Fleet, mut state: State, number: usize) -> bool {
    // Its statement under way has no answer for a unit. Then its own row must lapse, which it watches
    // from the next answer, and it waits for the proof at the longest.
    let enough = 2 * fleet.lease + fleet.lease + fleet.arrival + 4;
    for _ in 0..enough {
        // A unit is enough for all that follows from one event.
        for _ in 0..4 {
            if state.nodes[number].replica.may_look(crate::state::NOW).is_some() {
                return true;
            }
            let action = match (&state.nodes[number].statement, state.nodes[number].replica.stage())
            {
                (Some(statement), _) if statement.carried_out.is_none() => Action::CarryOut(number),
                (Some(_), _) => Action::Answer(number),
                (None, Stage::Ending) => Action::Restart(number),
                (None, _) => Action::Wake(number),
            };
            step::carry_out(fleet, &mut state, action);
            state = canonical(fleet, state);
        }
        step::carry_out(fleet, &mut state, Action::Pass { asleep: 0 });
        state = canonical(fleet, state);
    }
    false
}
