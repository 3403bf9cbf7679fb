//! What goes into a replica and what comes out.

use std::time::Duration;

use super::row::{Database, HolderId, Row, Term, Version};
use crate::moment::Moment;

/// A statement for the database. Exactly one [`Event::Answered`] or [`Event::NotAnswered`] must follow
/// it. Each statement is a transaction of its own, and its answer includes the [`Database`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Read the row. If there is none, insert one without a holder first.
    Read,
    /// Set this holder, the term after the seen one, beat 0 and not released, if the row still has the
    /// seen version.
    TakeOver {
        /// What must still be there, all three parts of it.
        seen: Version,
        /// The new holder.
        holder: HolderId,
    },
    /// Count the beat up, if the row has this holder and term and is not released.
    Renew {
        /// The holder.
        holder: HolderId,
        /// The term.
        term: Term,
    },
    /// Mark the row as released, if it has this holder and term.
    Release {
        /// The holder.
        holder: HolderId,
        /// The term.
        term: Term,
    },
}

/// What the database said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To [`Order::Read`].
    Read(Row),
    /// To [`Order::TakeOver`]: whether the row was changed.
    TookOver(bool),
    /// To [`Order::Renew`]: whether the row was changed.
    Renewed(bool),
    /// To [`Order::Release`]: whether the row was changed.
    Released(bool),
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time has passed. See [`Replica::next_wake`](super::Replica::next_wake).
    Woken,
    /// The statement was answered.
    Answered {
        /// A moment just before it was sent.
        sent_at: Moment,
        /// A moment after the answer came, before this call.
        answered_at: Moment,
        /// The database that answered.
        database: Database,
        /// The answer.
        answer: Answer,
    },
    /// The statement failed or was given up. It may have been carried out, and may still be.
    NotAnswered,
    /// The process was asked to end. Nothing new is started from now on.
    EndAsked,
    /// After [`Event::EndAsked`]: every call under way has ended.
    CallsEnded {
        /// From this uptime on, a listing shows what became of every create that was sent. The row is
        /// not released before.
        settled_at: Duration,
    },
}

/// What a replica is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It does not know the row: the database has not answered, or it has just lost the row.
    Away,
    /// It watches a row that another one holds.
    Watching,
    /// It has asked for the row.
    Asking,
    /// It has the row, and waits for what the holder before it may have sent.
    Grace,
    /// It has the row and does the work.
    Holding,
    /// It finishes what is under way and starts nothing.
    Ending,
}

/// What a row was like when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taken {
    /// Nobody held it.
    Free,
    /// Its holder had not renewed it.
    Lapsed,
}

/// Why a holding ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The database has not answered for a lease.
    NotHeard,
    /// The row is no longer this replica's.
    NotMine,
}

/// Something to log, and to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remark {
    /// This replica has the row.
    TookOver {
        /// Its term.
        term: Term,
        /// What the row was like.
        taken: Taken,
        /// It looks after this span.
        looks_in: Duration,
    },
    /// A holding ended before the process did.
    Lost {
        /// Its term.
        term: Term,
        /// Why.
        why: Loss,
    },
    /// Another database answered than before.
    OtherDatabase,
}
