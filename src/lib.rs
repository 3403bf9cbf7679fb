//! snapring keeps a ring of snapshots for every server of a VPS.org account.

pub mod api;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod exclusion;
pub mod hooks;
pub mod naming;
pub mod plan;
pub mod policy;
pub mod ring;
pub mod rotate;
pub mod sandbox;
pub mod schedule;
pub mod snapshot;
pub mod telemetry;
