//! What the programs in `targets/` share: processes that are watched from outside, a provider, and
//! tables.
#![allow(clippy::disallowed_methods, reason = "the machine's own time is what is measured")]

pub mod account;
pub mod binary;
pub mod daemon;
pub mod peer;
pub mod process;
pub mod table;
