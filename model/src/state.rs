//! One state of the model.

use std::time::Duration;

use jiff::Timestamp;
use snapring_core::moment::Moment;
use snapring_core::replica::{Answer, Database, HolderId, Order, Replica, Row};

use crate::fleet::{Failovers, Fleet};

/// The present. Time passes by making everything else older, and what is older than this is cut to zero.
pub const NOW: Moment =
    Moment { wall: Timestamp::constant(20, 0), uptime: Duration::from_secs(20) };

/// A moment of both clocks.
pub fn moment(uptime: Duration) -> Moment {
    Moment { wall: Timestamp::UNIX_EPOCH + uptime, uptime }
}

/// A statement under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Statement {
    pub order: Order,
    pub sent_at: Moment,
    /// What the database answered, once it has carried it out.
    pub carried_out: Option<(Database, Answer)>,
}

/// One replica, with what is under way around it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    pub replica: Replica,
    pub statement: Option<Statement>,
    /// A statement that was given up, and may still be carried out.
    pub stray: Option<Order>,
    /// A rotation has looked, for this holding.
    pub look: Option<HolderId>,
    /// The age in units of the newest change of the current holding, until it is surely listed.
    pub change: Option<u32>,
    /// The same of its holdings before.
    pub change_before: Option<u32>,
    /// The database that answered last. Only for the variant that needs it.
    pub answered_by: Option<Database>,
}

impl Node {
    pub fn started(replica: Replica) -> Self {
        Self {
            replica,
            statement: None,
            stray: None,
            look: None,
            change: None,
            change_before: None,
            answered_by: None,
        }
    }

    /// A holding has ended, so its changes are those of an earlier one.
    pub fn end_holding(&mut self) {
        self.change_before = youngest(self.change.take(), self.change_before);
    }
}

/// The lower age.
pub fn youngest(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    one.into_iter().chain(other).min()
}

/// What must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// A change was sent after another holding had looked.
    SentLate,
    /// A look did not show a change of another holding.
    Missed,
}

/// One state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub nodes: Vec<Node>,
    pub row: Row,
    /// The row in the copy that a failover would switch to.
    pub copy: Row,
    pub database: Database,
    pub failovers_left: Failovers,
    /// How old the row is by the database's clock, in units. Only for the variant that needs it.
    pub age_by_database: u32,
    /// Who looked last.
    pub looked_last: Option<usize>,
    pub broken: Option<Broken>,
    /// The last step took over a row that had lapsed.
    pub just_taken_lapsed: bool,
}

impl State {
    pub fn new(fleet: &Fleet, nodes: Vec<Node>) -> Self {
        let database = Database {
            timeline: 1,
            started_at: Timestamp::UNIX_EPOCH,
            is_in_recovery: false,
            connection: 0,
        };
        Self {
            nodes,
            row: Row::default(),
            copy: Row::default(),
            database,
            failovers_left: fleet.faults.failovers,
            age_by_database: 0,
            looked_last: None,
            broken: None,
            just_taken_lapsed: false,
        }
    }

    /// The row changes. The copy learns of it with the next commit, or later.
    pub fn commit(&mut self, fleet: &Fleet, row: Row) {
        if !fleet.faults.lag {
            self.copy = self.row;
        }
        self.row = row;
        self.age_by_database = 0;
    }
}
