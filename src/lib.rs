//! snapring keeps a ring of snapshots for every server of a VPS.org account.
//!
//! The way of a tick: [`schedule`] says that it is due, [`daemon`] starts a rotation, [`rotate`]
//! carries it out through [`api`], asking [`plan`] at each step what comes next. `plan`, `policy`,
//! `ring`, `naming` and `schedule` decide and know nothing of I/O.

pub use snapring_core::{
    completion, moment, naming, pins, plan, policy, polling, report, ring, schedule, server,
    snapshot, timetable,
};

pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod interner;
pub mod notify;
pub mod observe;
pub mod paths;
pub mod provider;
pub mod readable;
pub mod rotation;
pub mod sandbox;
pub mod status;
pub mod store;
pub mod telemetry;
