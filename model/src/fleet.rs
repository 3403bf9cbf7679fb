//! What is explored.

use std::time::Duration;

use snapring_core::replica::{Replica, Timing};
use stateright::{Model, Property};

use crate::canonical;
use crate::recovery;
use crate::state::{Broken, Node, State};
use crate::step::{self, Action};
use crate::variant::Without;

/// One unit of the model's time.
pub const UNIT: Duration = Duration::from_secs(1);

/// How many units something takes.
pub fn units(count: u32) -> Duration {
    UNIT * count
}

/// How many times the database can fail over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failovers {
    /// Never.
    None,
    /// At most once.
    Once,
    /// Without a limit.
    Any,
}

impl Failovers {
    /// How many are left after one more.
    pub fn after_one(self) -> Self {
        if self == Self::Any { Self::Any } else { Self::None }
    }
}

/// What can happen besides time, delays, lost answers and frozen processes.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// How many times the database fails over to a copy that lacks the last commit.
    pub failovers: Failovers,
    /// The copy lacks any number of the newest commits.
    pub lag: bool,
    /// Replicas are asked to end, and release the row.
    pub releases: bool,
    /// Replicas crash and start again.
    pub crashes: bool,
    /// A statement that was given up is carried out later.
    pub strays: bool,
    /// Machines sleep: the uptime stands still while time passes.
    pub sleeps: bool,
    /// The database's wall clock jumps forward.
    pub database_clock: bool,
}

impl Faults {
    /// Only time, delays, lost answers and frozen processes.
    pub const NONE: Self = Self {
        failovers: Failovers::None,
        lag: false,
        releases: false,
        crashes: false,
        strays: false,
        sleeps: false,
        database_clock: false,
    };
}

/// A fleet of replicas, and what can happen to it.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// How many replicas.
    pub replicas: usize,
    /// How long the holder is trusted, in units. The watch is as long: the model's clocks run at one
    /// speed, so it needs no quarter more.
    pub lease: u32,
    /// How long a change can take from its send until it is listed, in units.
    pub arrival: u32,
    /// What can happen.
    pub faults: Faults,
    /// The rule that is left out.
    pub without: Without,
    /// Replicas in other places make no other state. That halves the work, but a counterexample is hard
    /// to read, because the numbers of its replicas change.
    pub interchangeable: bool,
    /// Also check that a replica alone comes to hold the row from every state.
    pub recovers: bool,
}

impl Fleet {
    /// The spans of its replicas.
    pub fn timing(&self) -> Timing {
        let mut timing = Timing {
            lease: units(self.lease),
            pace: UNIT,
            watch: units(self.lease),
            grace: units(self.arrival),
            proof: units(self.lease + self.arrival),
        };
        match self.without {
            Without::Grace => timing.grace = Duration::ZERO,
            Without::LastUnitOfGrace => timing.grace -= UNIT,
            Without::LastUnitOfProof => timing.proof -= UNIT,
            // Longer than the checks of the recovery last.
            Without::TakeOverOfLapsed => timing.watch = units(18),
            Without::ProofAfterFreeRow => timing.proof = Duration::ZERO,
            _ => {}
        }
        timing
    }

    /// A replica that has just started.
    pub fn started(&self) -> Replica {
        Replica::new(self.timing())
    }
}

impl Model for Fleet {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = || Node::started(self.started());
        let nodes = (0..self.replicas).map(|_| node()).collect();
        vec![canonical::canonical(self, State::new(self, nodes))]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        step::possible(self, state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        step::carry_out(self, &mut next, action);
        let next = canonical::canonical(self, next);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always(SENT_LATE, |_, state| state.broken != Some(Broken::SentLate)),
            Property::<Self>::always(MISSED, |_, state| state.broken != Some(Broken::Missed)),
            Property::<Self>::sometimes("a lapsed row is taken over", |_, state| {
                state.just_taken_lapsed
            }),
        ];
        if self.recovers {
            properties.push(Property::<Self>::always(RECOVERS, recovery::recovers));
        }
        properties
    }
}

/// No change of a holding is sent after another holding has looked.
pub const SENT_LATE: &str = "no change is sent after a later holder has looked";
/// What a holding looks at shows every change of the holdings before it.
pub const MISSED: &str = "a look shows every change that other holders have sent";
/// From every state, a replica that is alone comes to hold the row.
pub const RECOVERS: &str = "a replica that is alone comes to hold the row";
