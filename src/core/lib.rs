//! What snapring decides, and none of what it does: no network, no disk, no clock, no log.
//!
//! Time is always a parameter. The dependencies of this crate are what keeps it so.
//!
//! - [`naming`], [`snapshot`], [`ring`]: what is there, and whose it is
//! - [`foreign`]: text from outside, and how it is shown
//! - [`server`], [`policy`], [`retention`]: what is wanted
//! - [`coverage`], [`discovery`]: which servers have a policy, and what is known of the others
//! - [`cover`]: servers that have a policy without a table of their own
//! - [`schedule`], [`timetable`]: when
//! - [`plan`], [`pins`]: what to create and delete
//! - [`polling`], [`completion`]: how to wait for a snapshot
//! - [`call`], [`answer`], [`patience`]: how a call to the provider ended, what that means, what is retried
//! - [`rotation`], [`report`]: a rotation from its first look to its end, and what became of it
//! - [`replica`]: which of several machines may change something
//! - [`health`]: whether a server is in trouble
//! - [`vanished`]: servers that the configuration does not name any more
//! - [`restore`], [`manual`]: what a restore reads and when it has ended; what people do by hand
//! - [`wording`]: lists and numbers in sentences

pub mod answer;
pub mod call;
pub mod completion;
pub mod cover;
pub mod coverage;
pub mod discovery;
pub mod foreign;
pub mod health;
pub mod manual;
pub mod memory;
pub mod moment;
pub mod naming;
pub mod other_prefix;
pub mod patience;
pub mod pins;
pub mod plan;
pub mod policy;
pub mod polling;
pub mod rehearsal;
pub mod replica;
pub mod report;
pub mod restore;
pub mod retention;
pub mod ring;
pub mod rotation;
pub mod schedule;
pub mod server;
pub mod snapshot;
#[cfg(test)]
mod testing;
pub mod timetable;
pub mod vanished;
pub mod wording;
