//! What unit tests share.

pub(crate) mod notes;
pub(crate) mod stage;
