//! What can happen, and what it leads to.

use jiff::Timestamp;
use snapring_core::moment::Moment;
use snapring_core::replica::{
    Answer, Beat, Event, HolderId, Order, Remark, Row, Stage, Taken, Version,
};

use crate::canonical;
use crate::fleet::{Failovers, Fleet, units};
use crate::state::{Broken, NOW, Node, State, Statement, youngest};
use crate::variant::Without;

/// A number that no holder has. The canonical form gives it a small one.
const FRESH: HolderId = HolderId(u128::MAX);

/// Something that happens. The number is the replica's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A unit of time passes. The replicas of these bits sleep.
    Pass { asleep: u8 },
    /// A replica notices the time. Until then it is frozen.
    Wake(usize),
    /// The database carries out a statement.
    CarryOut(usize),
    /// The answer arrives.
    Answer(usize),
    /// The statement is given up, or its answer is lost.
    GiveUp(usize),
    /// A statement that was given up is carried out.
    CarryOutStray(usize),
    /// A rotation begins: it lists.
    Look(usize),
    /// A rotation sends a change.
    Send(usize),
    /// A process is asked to end.
    End(usize),
    /// Its calls have ended.
    CallsEnd(usize),
    /// A process crashes, or has ended, and starts again.
    Restart(usize),
    /// The copy learns of everything that was committed.
    Replicate,
    /// The copy becomes the database.
    FailOver,
    /// The database's wall clock jumps forward.
    JumpDatabaseClock,
}

/// What can happen in a state.
pub fn possible(fleet: &Fleet, state: &State, actions: &mut Vec<Action>) {
    if state.broken.is_some() {
        return;
    }
    let faults = &fleet.faults;
    for (number, node) in state.nodes.iter().enumerate() {
        possible_at(fleet, node, number, actions);
    }
    let masks = if faults.sleeps { 1 << state.nodes.len() } else { 1 };
    actions.extend((0..masks).map(|asleep| Action::Pass { asleep }));
    if state.failovers_left != Failovers::None {
        actions.push(Action::FailOver);
    }
    if faults.lag {
        actions.push(Action::Replicate);
    }
    if faults.database_clock {
        actions.push(Action::JumpDatabaseClock);
    }
}

fn possible_at(fleet: &Fleet, node: &Node, number: usize, actions: &mut Vec<Action>) {
    let stage = node.replica.stage();
    if waking_matters(node) {
        actions.push(Action::Wake(number));
    }
    match &node.statement {
        Some(Statement { carried_out: None, .. }) => {
            actions.extend([Action::CarryOut(number), Action::GiveUp(number)]);
        }
        Some(_) => actions.extend([Action::Answer(number), Action::GiveUp(number)]),
        None => {}
    }
    if node.stray.is_some() {
        actions.push(Action::CarryOutStray(number));
    }
    if node.replica.may_look(NOW).is_some() {
        actions.push(Action::Look(number));
    }
    if may_send(fleet, node) {
        actions.push(Action::Send(number));
    }
    if fleet.faults.releases {
        match stage {
            Stage::Ending if node.replica.has_ended() => actions.push(Action::Restart(number)),
            Stage::Ending => actions.push(Action::CallsEnd(number)),
            Stage::Holding => actions.push(Action::End(number)),
            Stage::Grace if fleet.without == Without::NoReleaseInGrace => {
                actions.push(Action::End(number));
            }
            _ => {}
        }
    }
    if fleet.faults.crashes && !node.replica.has_ended() {
        actions.push(Action::Restart(number));
    }
}

fn waking_matters(node: &Node) -> bool {
    let mut woken = node.replica.clone();
    let order = woken.next(Event::Woken, NOW, FRESH);
    order.is_some() || woken != node.replica
}

/// Whether the rotation that has looked can send a change.
fn may_send(fleet: &Fleet, node: &Node) -> bool {
    let Some(looked) = node.look else { return false };
    match fleet.without {
        // It goes on until the replica has noticed that it lost the row.
        Without::CheckBeforeSend => node.replica.may_send(looked, long_ago()),
        Without::EndOfRotationWithTerm => {
            node.replica.holds(NOW).is_some_and(|holding| node.replica.may_send(holding, NOW))
        }
        _ => node.replica.may_send(looked, NOW),
    }
}

/// Seen from here, nothing has aged.
pub fn long_ago() -> Moment {
    Moment { wall: Timestamp::MIN, uptime: units(0) }
}

/// Carries out an action that is possible.
pub fn carry_out(fleet: &Fleet, state: &mut State, action: Action) {
    state.just_taken_lapsed = false;
    match action {
        Action::Pass { asleep } => pass(fleet, state, asleep),
        Action::Wake(number) => deliver(state, number, Event::Woken, NOW),
        Action::CarryOut(number) => {
            let Some(order) = state.nodes[number].statement.as_ref().map(|it| it.order) else {
                return;
            };
            let answer = carry_out_statement(fleet, state, order);
            let carried_out = Some((state.database, answer));
            if let Some(statement) = &mut state.nodes[number].statement {
                statement.carried_out = carried_out;
            }
            if order == Order::Read {
                // A later answer only makes the replica wait longer.
                self::answer(fleet, state, number);
            }
        }
        Action::Answer(number) => answer(fleet, state, number),
        Action::GiveUp(number) => {
            give_up(fleet, &mut state.nodes[number]);
            deliver(state, number, Event::NotAnswered, NOW);
        }
        Action::CarryOutStray(number) => {
            if let Some(order) = state.nodes[number].stray.take() {
                carry_out_statement(fleet, state, order);
            }
        }
        Action::Look(number) => look(state, number),
        Action::Send(number) => {
            // S3, S6: what it sends rests on a look that was not the last one.
            if state.looked_last != Some(number) {
                state.broken = Some(Broken::SentLate);
            }
            state.nodes[number].change = Some(0);
        }
        Action::End(number) => end(fleet, state, number),
        Action::CallsEnd(number) => {
            let node = &state.nodes[number];
            let wait = node.change.map_or(0, |age| fleet.arrival + 1 - age);
            let wait = if fleet.without == Without::ListedBeforeRelease { 0 } else { wait };
            let settled_at = NOW.uptime + units(wait);
            deliver(state, number, Event::CallsEnded { settled_at }, NOW);
        }
        Action::Restart(number) => restart(fleet, state, number),
        Action::Replicate => state.copy = state.row,
        Action::FailOver => {
            state.row = state.copy;
            state.failovers_left = state.failovers_left.after_one();
            if fleet.without != Without::WatchAnewAfterFailover {
                state.database.timeline += 1;
            }
            if fleet.without == Without::WatchersOwnClock {
                state.age_by_database = fleet.lease;
            }
        }
        Action::JumpDatabaseClock => state.age_by_database = fleet.lease,
    }
}

fn pass(fleet: &Fleet, state: &mut State, asleep: u8) {
    let older = |change: Option<u32>| change.map(|age| age + 1).filter(|age| *age <= fleet.arrival);
    for (number, node) in state.nodes.iter_mut().enumerate() {
        let is_asleep = asleep & (1 << number) != 0;
        let wall = !(is_asleep && fleet.without == Without::TrustByWallClock);
        canonical::make_older(node, !is_asleep, wall);
        node.change = older(node.change);
        node.change_before = older(node.change_before);
    }
    if fleet.faults.database_clock || fleet.without == Without::WatchersOwnClock {
        state.age_by_database = (state.age_by_database + 1).min(fleet.lease);
    }
}

/// What the statement does to the row. Each is one SQL statement.
fn carry_out_statement(fleet: &Fleet, state: &mut State, order: Order) -> Answer {
    let row = state.row;
    match order {
        Order::Read => Answer::Read(row),
        Order::TakeOver { seen, holder } => {
            let matches = row.version == seen;
            if matches {
                let version =
                    Version { holder: Some(holder), term: seen.term.next(), beat: Beat(0) };
                state.commit(fleet, Row { version, released: false });
            }
            Answer::TookOver(matches)
        }
        Order::Renew { holder, term } => {
            let is_mine = row.version.holder == Some(holder) && row.version.term == term;
            let matches = (is_mine || fleet.without == Without::HolderInRenewal) && !row.released;
            if matches {
                let beat = Beat(row.version.beat.0 + 1);
                state.commit(fleet, Row { version: Version { beat, ..row.version }, ..row });
            }
            Answer::Renewed(matches)
        }
        Order::Release { holder, term } => {
            let matches = row.version.holder == Some(holder) && row.version.term == term;
            if matches {
                state.commit(fleet, Row { released: true, ..row });
            }
            Answer::Released(matches)
        }
    }
}

/// The answer arrives, as the variant has the replica see it.
fn answer(fleet: &Fleet, state: &mut State, number: usize) {
    let node = &mut state.nodes[number];
    let Some(Statement { sent_at, carried_out: Some((database, answer)), .. }) =
        node.statement.take()
    else {
        return;
    };
    let (mut sent_at, mut answered_at, mut database, mut seen_at) = (sent_at, NOW, database, NOW);
    let is_read = matches!(answer, Answer::Read(_));
    match fleet.without {
        Without::TrustFromQuestion => sent_at = answered_at,
        Without::FinalEndOfTrust if answer == Answer::Renewed(true) => seen_at = sent_at,
        Without::WatchFromAnswer if is_read => answered_at = sent_at,
        Without::WatchersOwnClock if is_read => {
            let age = units(state.age_by_database);
            answered_at = crate::state::moment(answered_at.uptime - age);
        }
        Without::CareWithTakeOverByOtherDatabase => {
            if let (Answer::TookOver(_), Some(before)) = (answer, node.answered_by) {
                database = before;
            }
            node.answered_by = Some(database);
        }
        _ => {}
    }
    let event = Event::Answered { sent_at, answered_at, database, answer };
    deliver(state, number, event, seen_at);
}

/// The replica takes an event, and its order is sent.
fn deliver(state: &mut State, number: usize, event: Event, at: Moment) {
    let node = &mut state.nodes[number];
    let before = node.replica.holds(long_ago());
    let order = node.replica.next(event, at, FRESH);
    for remark in node.replica.take_remarks() {
        if matches!(remark, Remark::TookOver { taken: Taken::Lapsed, .. }) {
            state.just_taken_lapsed = true;
        }
    }
    if before.is_some() && node.replica.holds(long_ago()) != before {
        node.end_holding();
    }
    if let Some(order) = order {
        node.statement = Some(Statement { order, sent_at: NOW, carried_out: None });
    }
}

/// The statement may still be carried out, unless it was.
fn give_up(fleet: &Fleet, node: &mut Node) {
    let Some(statement) = node.statement.take() else { return };
    if fleet.faults.strays && statement.carried_out.is_none() && statement.order != Order::Read {
        node.stray = Some(statement.order);
    }
}

fn look(state: &mut State, number: usize) {
    let misses = state.nodes.iter().enumerate().any(|(other, node)| {
        // A process knows what it sent in the same holding.
        let change = if other == number { None } else { node.change };
        youngest(change, node.change_before).is_some()
    });
    if misses {
        state.broken = Some(Broken::Missed);
    }
    let node = &mut state.nodes[number];
    node.look = node.replica.may_look(NOW);
    state.looked_last = Some(number);
}

fn end(fleet: &Fleet, state: &mut State, number: usize) {
    let replica = &state.nodes[number].replica;
    if replica.stage() == Stage::Grace {
        // Only without the rule. The replica does not do this, so the model does it here.
        let (holder, term) = (replica.holds(NOW), replica.term(NOW));
        if let (Some(holder), Some(term)) = (holder, term) {
            carry_out_statement(fleet, state, Order::Release { holder, term });
        }
        return restart(fleet, state, number);
    }
    deliver(state, number, Event::EndAsked, NOW);
}

fn restart(fleet: &Fleet, state: &mut State, number: usize) {
    let node = &mut state.nodes[number];
    give_up(fleet, node);
    node.end_holding();
    *node = Node {
        stray: node.stray,
        change_before: node.change_before,
        ..Node::started(fleet.started())
    };
}
