//! snapring keeps a ring of snapshots for every server of a VPS.org account.
//!
//! From tick to report: [`schedule`] says that a tick is due, [`daemon`] starts a rotation,
//! [`rotation`] carries it out through [`provider`] and asks [`plan`] at each step what comes next.
//! What decides is in the crate `snapring_core`, re-exported here.
//!
//! - [`cli`]: one file per command
//! - [`observe`]: what a running daemon shows: page, JSON, metrics, health
//! - [`daemon`]: scheduler, signals, resume, reload, service status
//! - [`config`]: one TOML file in, settings out
//! - [`sandbox`]: the stand-in provider
//! - [`notify`]: who is told what
//! - [`rotation`]: carries out what core decides: hooks, lock, the rotation event
//! - [`store`]: history and first-loaded times
//! - [`provider`]: the VPS.org API
//! - [`telemetry`]: where events go
//! - [`status`]: what is known of each server
//! - [`activity`]: what is under way and takes time
//! - [`clock`], [`backoff`], [`paths`], [`regular_file`], [`handed_over`], [`readable`], [`interner`]: what all of them
//!   share

pub use snapring_core::{
    answer, call, completion, cover, coverage, discovery, foreign, health, manual, memory, moment,
    naming, other_prefix, patience, pins, plan, policy, polling, rehearsal, report, restore,
    retention, ring, schedule, server, snapshot, timetable, vanished, wording,
};

pub mod activity;
mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
mod handed_over;
mod interner;
pub mod notify;
pub mod observe;
mod paths;
pub mod provider;
mod readable;
mod regular_file;
pub mod rotation;
pub mod sandbox;
pub mod status;
pub mod store;
mod telemetry;
#[cfg(test)]
mod testing;
