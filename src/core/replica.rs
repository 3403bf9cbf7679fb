//! One replica of a fleet, as a state machine: who may change something at the provider.
//!
//! The replicas of a fleet share one row in a database. One of them holds it, and only this one sends
//! changes. The others watch the row, and one takes it over when the holder has not renewed it for too
//! long. There is no I/O here, and no clock: [`Replica::next`] takes an [`Event`] and the time, and
//! returns the next [`Order`].
//!
//! What must never happen is that a holder sends a change after its successor has looked at the
//! provider. Each rule that prevents it is in one place:
//!
//! | rule | place |
//! | --- | --- |
//! | renew | `renewed`: a holder that finds another row has lost it at once |
//! | trust | [`held`] and `expire`: it ends a lease after the last answered statement was sent, and for good |
//! | watch | [`watch`]: a row must be unchanged for long enough, on one database |
//! | take over, take what is free | `due`: only the row that was seen |
//! | grace | `looks_from`: what others sent is listed before anything is looked at |
//! | look, send | [`Replica::may_look`], [`Replica::may_send`]: while trusted, and for the holding that looked |
//! | release | `end_asked`, `release_is_due`: once everything that was sent is listed |
//! | unclear answer | `not_answered` |
//!
//! The crate `snapring-model` tries all behaviours of two replicas with this code.

mod held;
mod message;
mod rewrite;
mod row;
#[cfg(test)]
mod tests;
mod timing;
mod watch;

use std::time::Duration;

use self::held::Held;
pub use self::message::{Answer, Event, Loss, Order, Remark, Stage, Taken};
pub use self::rewrite::Rewrite;
pub use self::row::{Beat, Database, HolderId, Row, Term, Version};
pub use self::timing::Timing;
use self::watch::{Known, Watch};
use crate::moment::Moment;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Away,
    Watching(Watch),
    Asking(Claim),
    /// Until this uptime.
    Grace(Held, Duration),
    Holding(Held),
    Ending(Ending),
}

/// A take-over that was not answered yet. It is nobody's until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Claim {
    holder: HolderId,
    term: Term,
    taken: Taken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Ending {
    /// Calls are under way.
    Calls(Held),
    /// The row can be released from this uptime on.
    Settling(Held, Duration),
    /// The release was sent.
    Releasing(Held),
    /// The process may exit.
    Done,
}

/// One replica of one fleet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replica {
    timing: Timing,
    state: State,
    known: Option<Known>,
    /// A statement is under way.
    is_asking: bool,
    /// The uptime of the last order.
    asked_at: Option<Duration>,
    remarks: Vec<Remark>,
}

impl Replica {
    /// A replica that has just started.
    #[must_use]
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            state: State::Away,
            known: None,
            is_asking: false,
            asked_at: None,
            remarks: Vec::new(),
        }
    }

    /// Takes an event and returns the statement to send, if one is due. `fresh` must be random: it
    /// becomes the id of a holding that begins here.
    pub fn next(&mut self, event: Event, now: Moment, fresh: HolderId) -> Option<Order> {
        // First: an answer that comes after the trust has ended must not revive it.
        self.expire(now);
        match event {
            Event::Woken => {}
            Event::Answered { sent_at, answered_at, database, answer } => {
                self.is_asking = false;
                if database.is_in_recovery {
                    // A copy may be behind, so what it says is worth as much as silence.
                    self.not_answered();
                } else {
                    self.answered(sent_at, answered_at, database, answer);
                    self.expire(now);
                }
            }
            Event::NotAnswered => {
                self.is_asking = false;
                self.not_answered();
            }
            Event::EndAsked => self.end_asked(),
            Event::CallsEnded { settled_at } => {
                if let State::Ending(Ending::Calls(held)) = self.state {
                    self.state = State::Ending(Ending::Settling(held, settled_at));
                }
            }
        }
        self.end_grace(now);
        if self.is_asking {
            return None;
        }
        let order = self.due(now, fresh)?;
        self.is_asking = true;
        self.asked_at = Some(now.uptime);
        Some(order)
    }

    /// What it is doing.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.state {
            State::Away => Stage::Away,
            State::Watching(_) => Stage::Watching,
            State::Asking(_) => Stage::Asking,
            State::Grace(..) => Stage::Grace,
            State::Holding(_) => Stage::Holding,
            State::Ending(_) => Stage::Ending,
        }
    }

    /// The holding, while this replica has the row and is trusted. A rotation belongs to the holding
    /// in which it began, and ends with it.
    #[must_use]
    pub fn holds(&self, now: Moment) -> Option<HolderId> {
        self.trusted(now).map(|held| held.holder)
    }

    /// The term, while this replica has the row and is trusted.
    #[must_use]
    pub fn term(&self, now: Moment) -> Option<Term> {
        self.trusted(now).map(|held| held.term)
    }

    /// How much longer it may send changes if the database does not answer again.
    #[must_use]
    pub fn trust_left(&self, now: Moment) -> Duration {
        self.held().map_or(Duration::ZERO, |held| held.trust_left(&self.timing, now))
    }

    /// The uptime at which the grace ends, during the grace.
    #[must_use]
    pub fn grace_until(&self) -> Option<Duration> {
        match self.state {
            State::Grace(_, until) => Some(until),
            _ => None,
        }
    }

    /// The holding for which a rotation may begin now. Nothing that decides may be looked at before:
    /// what earlier holders sent may not be listed yet.
    #[must_use]
    pub fn may_look(&self, now: Moment) -> Option<HolderId> {
        match self.state {
            State::Holding(_) => self.holds(now),
            _ => None,
        }
    }

    /// Whether a rotation of this holding may send a change now.
    ///
    /// The term's number would not do: it can come again. And a rotation of an earlier holding of this
    /// same replica has looked before others may have made changes.
    #[must_use]
    pub fn may_send(&self, holding: HolderId, now: Moment) -> bool {
        match self.state {
            State::Holding(held) | State::Ending(Ending::Calls(held)) => {
                held.holder == holding && held.is_trusted(&self.timing, now)
            }
            _ => false,
        }
    }

    /// Nothing is left to do after [`Event::EndAsked`]: the row is released, or will lapse.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ending(Ending::Done))
    }

    /// The uptime at which [`Event::Woken`] is due. An event before that does no harm.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        let timing = &self.timing;
        let next_order = || match self.state {
            _ if self.is_asking => None,
            State::Asking(_) | State::Ending(Ending::Done) => None,
            State::Watching(watch) => Some(watch.takes_at(timing).min(self.paced())),
            State::Away
            | State::Grace(..)
            | State::Holding(_)
            | State::Ending(Ending::Calls(_) | Ending::Settling(..) | Ending::Releasing(_)) => {
                Some(self.paced())
            }
        };
        let trust_ends = self.held().map(|held| held.heard.uptime + timing.lease);
        let settled_at = match self.state {
            State::Ending(Ending::Settling(_, settled_at)) if !self.is_asking => Some(settled_at),
            _ => None,
        };
        [next_order(), trust_ends, self.grace_until(), settled_at].into_iter().flatten().min()
    }

    /// What is to be logged since the last call.
    pub fn take_remarks(&mut self) -> Vec<Remark> {
        std::mem::take(&mut self.remarks)
    }

    fn held(&self) -> Option<&Held> {
        match &self.state {
            State::Grace(held, _)
            | State::Holding(held)
            | State::Ending(
                Ending::Calls(held) | Ending::Settling(held, _) | Ending::Releasing(held),
            ) => Some(held),
            State::Away | State::Watching(_) | State::Asking(_) | State::Ending(Ending::Done) => {
                None
            }
        }
    }

    fn held_mut(&mut self) -> Option<&mut Held> {
        match &mut self.state {
            State::Grace(held, _)
            | State::Holding(held)
            | State::Ending(
                Ending::Calls(held) | Ending::Settling(held, _) | Ending::Releasing(held),
            ) => Some(held),
            State::Away | State::Watching(_) | State::Asking(_) | State::Ending(Ending::Done) => {
                None
            }
        }
    }

    fn trusted(&self, now: Moment) -> Option<&Held> {
        self.held().filter(|held| held.is_trusted(&self.timing, now))
    }

    /// The end of the trust is the end of the holding. A later renewal could succeed although another
    /// replica has held the row in between, if a failover lost its term.
    fn expire(&mut self, now: Moment) {
        if let Some(held) = self.held()
            && !held.is_trusted(&self.timing, now)
        {
            self.lose(Loss::NotHeard);
        }
    }

    fn lose(&mut self, why: Loss) {
        let Some(term) = self.held().map(|held| held.term) else { return };
        self.remarks.push(Remark::Lost { term, why });
        self.state = match self.state {
            State::Ending(_) => State::Ending(Ending::Done),
            _ => State::Away,
        };
    }

    fn end_grace(&mut self, now: Moment) {
        if let State::Grace(held, until) = self.state
            && now.uptime >= until
        {
            self.state = State::Holding(held);
        }
    }

    fn answered(
        &mut self,
        sent_at: Moment,
        answered_at: Moment,
        database: Database,
        answer: Answer,
    ) {
        let before = self.known;
        let known = Known::after(before, database, answered_at);
        self.known = Some(known);
        let is_same = before.is_some_and(|before| before == known);
        if before.is_some() && !is_same {
            self.remarks.push(Remark::OtherDatabase);
        }
        match answer {
            Answer::Read(row) => self.read(row, is_same, answered_at),
            Answer::TookOver(changed) => {
                self.took_over(changed, is_same, known, sent_at, answered_at);
            }
            Answer::Renewed(changed) => self.renewed(changed, sent_at),
            Answer::Released(_) => self.released(),
        }
    }

    /// Without an answer nothing is known: not the row, not which database it was, and not whether a
    /// take-over or a renewal was carried out. A holding goes on until its trust ends.
    fn not_answered(&mut self) {
        self.known = None;
        if let State::Watching(_) | State::Asking(_) = self.state {
            self.state = State::Away;
        }
    }

    fn read(&mut self, row: Row, is_same_database: bool, answered_at: Moment) {
        self.state = State::Watching(match self.state {
            State::Watching(watch) if is_same_database => watch.after(row, answered_at),
            State::Away | State::Watching(_) => Watch::begin(row, answered_at),
            // Asked to end, or an answer to nothing.
            _ => return,
        });
    }

    fn took_over(
        &mut self,
        changed: bool,
        is_same_database: bool,
        known: Known,
        sent_at: Moment,
        answered_at: Moment,
    ) {
        let State::Asking(claim) = self.state else { return };
        if !changed {
            // Another replica was faster, or the holder is alive.
            self.state = State::Away;
            return;
        }
        let Claim { holder, term, taken } = claim;
        let from = self.looks_from(taken, is_same_database, known, answered_at);
        let looks_in = from.saturating_sub(answered_at.uptime);
        self.remarks.push(Remark::TookOver { term, taken, looks_in });
        self.state = State::Grace(Held { holder, term, heard: sent_at }, from);
    }

    /// When a new holder may look.
    fn looks_from(
        &self,
        taken: Taken,
        is_same_database: bool,
        known: Known,
        answered_at: Moment,
    ) -> Duration {
        match taken {
            // The holder's trust ended before the take-over. What it sent last is listed by then.
            Taken::Lapsed if is_same_database => answered_at.uptime + self.timing.grace,
            // The watch says nothing about the database that answered now: it may have lost renewals.
            Taken::Lapsed => known.since + self.timing.proof,
            // A failover can bring back a row that was free before, and hide its holder. The holder is
            // trusted for a lease after that.
            Taken::Free => known.since + self.timing.proof,
        }
    }

    fn renewed(&mut self, changed: bool, sent_at: Moment) {
        if !changed {
            self.lose(Loss::NotMine);
        } else if let Some(held) = self.held_mut() {
            held.heard = sent_at;
        }
    }

    fn released(&mut self) {
        if let State::Ending(_) = self.state {
            self.state = State::Ending(Ending::Done);
        }
    }

    fn end_asked(&mut self) {
        self.state = State::Ending(match self.state {
            State::Holding(held) => Ending::Calls(held),
            State::Ending(ending) => ending,
            // In its own grace it knows nothing of what others sent, so the row must lapse.
            State::Away | State::Watching(_) | State::Asking(_) | State::Grace(..) => Ending::Done,
        });
    }

    /// The next replica looks at once at what it finds released. So everything that was sent must be
    /// listed by then.
    fn release_is_due(&self, now: Moment) -> bool {
        matches!(self.state, State::Ending(Ending::Settling(_, at)) if now.uptime >= at)
    }

    /// When the next periodic statement is due.
    fn paced(&self) -> Duration {
        self.asked_at.map_or(Duration::ZERO, |at| at + self.timing.pace)
    }

    /// The statement that is due.
    fn due(&mut self, now: Moment, fresh: HolderId) -> Option<Order> {
        let is_paced = now.uptime >= self.paced();
        match self.state {
            State::Watching(watch) if now.uptime >= watch.takes_at(&self.timing) => {
                let seen = watch.row.version;
                let taken = if watch.row.is_free() { Taken::Free } else { Taken::Lapsed };
                self.state = State::Asking(Claim { holder: fresh, term: seen.term.next(), taken });
                Some(Order::TakeOver { seen, holder: fresh })
            }
            State::Away | State::Watching(_) => is_paced.then_some(Order::Read),
            State::Asking(_) | State::Ending(Ending::Done) => None,
            State::Ending(Ending::Settling(held, _)) if self.release_is_due(now) => {
                self.state = State::Ending(Ending::Releasing(held));
                Some(Order::Release { holder: held.holder, term: held.term })
            }
            State::Ending(Ending::Releasing(Held { holder, term, .. })) => {
                is_paced.then_some(Order::Release { holder, term })
            }
            State::Grace(Held { holder, term, .. }, _)
            | State::Holding(Held { holder, term, .. })
            | State::Ending(
                Ending::Calls(Held { holder, term, .. })
                | Ending::Settling(Held { holder, term, .. }, _),
            ) => is_paced.then_some(Order::Renew { holder, term }),
        }
    }
}
