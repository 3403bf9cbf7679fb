//! Another protocol: no holder, but a claim for each server and tick. It does not work.
//!
//! A replica inserts a claim for the tick. If that succeeds it lists, and creates the snapshot if none
//! is listed. Nothing limits how long the replica may act on its claim, or how old the database is
//! that granted it.

use stateright::{Model, Property};

/// Two replicas, one server, one tick.
#[derive(Debug, Clone, Copy)]
pub struct Claims {
    /// The database can lose the last commit.
    pub failovers: bool,
    /// A claim without a snapshot is given to another replica. Without this, a replica that crashes
    /// takes the tick with it.
    pub lapse: bool,
}

/// How far a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Idle,
    Claimed,
    /// It has listed, and there was no snapshot of the tick.
    Looked,
    /// It has sent the create.
    Sent,
    /// The create was carried out, and is listed.
    Created,
    /// Another replica's snapshot was listed.
    Found,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    replicas: [Step; 2],
    claim: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Claim(usize),
    Look(usize),
    Send(usize),
    Create(usize),
    FailOver,
    Lapse,
}

/// S3.
pub const ONE_CREATE: &str = "at most one create per server and tick";

impl Model for Claims {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { replicas: [Step::Idle; 2], claim: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for number in 0..state.replicas.len() {
            actions.push(match state.replicas[number] {
                Step::Idle if state.claim.is_none() => Action::Claim(number),
                Step::Claimed => Action::Look(number),
                Step::Looked => Action::Send(number),
                Step::Sent => Action::Create(number),
                Step::Idle | Step::Created | Step::Found => continue,
            });
        }
        if self.failovers && state.claim.is_some() {
            actions.push(Action::FailOver);
        }
        if self.lapse && state.claim.is_some() {
            actions.push(Action::Lapse);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Claim(number) => {
                next.claim = Some(number);
                next.replicas[number] = Step::Claimed;
            }
            Action::Look(number) => {
                let is_listed = state.replicas.contains(&Step::Created);
                next.replicas[number] = if is_listed { Step::Found } else { Step::Looked };
            }
            Action::Send(number) => next.replicas[number] = Step::Sent,
            Action::Create(number) => next.replicas[number] = Step::Created,
            Action::FailOver | Action::Lapse => next.claim = None,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::<Self>::always(ONE_CREATE, |_, state| {
            let sent = |step: &&Step| matches!(step, Step::Sent | Step::Created);
            state.replicas.iter().filter(sent).count() < 2
        })]
    }
}
