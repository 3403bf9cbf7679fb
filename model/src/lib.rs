//! A model of several replicas and the row that they share, which a model checker explores completely.
//!
//! The replicas are `snapring_core::replica::Replica`, the code that runs in production. The rest is
//! written here: the row, the database, the provider, time, and everything that can go wrong.
//!
//! - [`fleet`]: what is explored
//! - [`variant`]: the rule that is left out
//! - [`state`]: one state
//! - [`step`]: what can happen, and what it leads to
//! - [`canonical`]: what keeps the number of states finite
//! - [`recovery`]: a replica alone always comes to hold the row
//! - [`claims`]: another protocol, which does not work

pub mod canonical;
pub mod claims;
pub mod fleet;
pub mod recovery;
pub mod state;
pub mod step;
pub mod variant;
