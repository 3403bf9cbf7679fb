//! snapring keeps a ring of snapshots for every server of a VPS.org account.
//!
//! The way of a tick: [`schedule`] says that it is due, [`daemon`] starts a rotation, [`rotate`]
//! carries it out through [`api`], asking [`plan`] at each step what comes next. `plan`, `policy`,
//! `ring`, `naming` and `schedule` decide and know nothing of I/O.

pub use snapring_core::{
    completion, moment, naming, pins, plan, policy, polling, report, ring, schedule, server,
    snapshot, timetable,
};

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod exclusion;
pub mod hooks;
pub mod interner;
pub mod notices;
pub mod observe;
pub mod readable;
pub mod rotate;
pub mod sandbox;
pub mod standing;
pub mod store;
pub mod telemetry;
