//! Times and numbers of a replica, rewritten by the model.
//!
//! The model explores all behaviours, without an end in time. It keeps the number of states finite by
//! shifting times and renaming numbers after each step. Nothing else uses this.

use std::time::Duration;

use super::held::Held;
use super::row::{Database, HolderId, Term, Version};
use super::timing::Timing;
use super::{Ending, Replica, State};
use crate::moment::Moment;

/// What the model does with each value. A time that is older than `matters_for` may be replaced by any
/// other that is.
#[doc(hidden)]
pub trait Rewrite {
    fn moment(&mut self, moment: &mut Moment, matters_for: Duration);
    fn uptime(&mut self, uptime: &mut Duration, matters_for: Duration);
    fn version(&mut self, version: &mut Version);
    fn holder(&mut self, holder: &mut HolderId);
    fn term(&mut self, term: &mut Term);
    fn database(&mut self, database: &mut Database);
}

impl Replica {
    /// Rewrites all that this replica remembers.
    #[doc(hidden)]
    pub fn rewrite(&mut self, by: &mut dyn Rewrite) {
        let timing = self.timing;
        if let Some(asked_at) = &mut self.asked_at {
            by.uptime(asked_at, timing.pace);
        }
        if let Some(known) = &mut self.known {
            by.database(&mut known.database);
            by.uptime(&mut known.since, timing.proof);
        }
        match &mut self.state {
            State::Away | State::Ending(Ending::Done) => {}
            State::Watching(watch) => {
                by.version(&mut watch.row.version);
                by.uptime(&mut watch.since, timing.watch);
            }
            State::Asking(claim) => {
                by.holder(&mut claim.holder);
                by.term(&mut claim.term);
            }
            State::Grace(held, until) => {
                rewrite_held(by, held, &timing);
                by.uptime(until, Duration::ZERO);
            }
            State::Holding(held) | State::Ending(Ending::Calls(held) | Ending::Releasing(held)) => {
                rewrite_held(by, held, &timing);
            }
            State::Ending(Ending::Settling(held, settled_at)) => {
                rewrite_held(by, held, &timing);
                by.uptime(settled_at, Duration::ZERO);
            }
        }
    }
}

fn rewrite_held(by: &mut dyn Rewrite, held: &mut Held, timing: &Timing) {
    by.holder(&mut held.holder);
    by.term(&mut held.term);
    by.moment(&mut held.heard, timing.lease);
}
