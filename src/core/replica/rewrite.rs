//! Times and numbers of a replica, rewritten by the model.
//!
//! The model explores all behaviours, without an end in time. It keeps the number of states finite by
//! shifting times and renaming numbers after each step. Nothing else uses this.

use std::time::Duration;

use super::held::Held;
use super::row::{Database, HolderId, Term, Version};
use super::{Ending, Replica, State};
use crate::moment::Moment;

/// What the model does with each value. It changes nothing by default.
#[doc(hidden)]
pub trait Rewrite {
    fn moment(&mut self, _moment: &mut Moment) {}
    fn uptime(&mut self, _uptime: &mut Duration) {}
    fn version(&mut self, _version: &mut Version) {}
    fn holding(&mut self, _holder: &mut HolderId, _term: &mut Term) {}
    fn database(&mut self, _database: &mut Database) {}
}

impl Replica {
    /// Rewrites all that this replica remembers.
    #[doc(hidden)]
    pub fn rewrite(&mut self, by: &mut dyn Rewrite) {
        if let Some(asked_at) = &mut self.asked_at {
            by.uptime(asked_at);
        }
        if let Some(known) = &mut self.known {
            by.database(&mut known.database);
            by.uptime(&mut known.since);
        }
        match &mut self.state {
            State::Away | State::Ending(Ending::Done) => {}
            State::Watching(watch) => {
                by.version(&mut watch.row.version);
                by.uptime(&mut watch.since);
            }
            State::Asking(claim) => {
                by.holding(&mut claim.holder, &mut claim.term);
            }
            State::Grace(held, until) => {
                by.uptime(until);
                rewrite_held(by, held);
            }
            State::Holding(held) | State::Ending(Ending::Calls(held) | Ending::Releasing(held)) => {
                rewrite_held(by, held);
            }
            State::Ending(Ending::Settling(held, settled_at)) => {
                by.uptime(settled_at);
                rewrite_held(by, held);
            }
        }
    }
}

fn rewrite_held(by: &mut dyn Rewrite, held: &mut Held) {
    by.holding(&mut held.holder, &mut held.term);
    by.moment(&mut held.heard);
}
