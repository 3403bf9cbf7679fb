//! Seen at a glance: what a person, a monitoring system and an orchestrator are shown of a running
//! daemon, over HTTP.
//!
//! Read-only and without secrets. Everything here looks through a
//! [`View`](crate::daemon::view::View), which cannot change anything.

pub mod client;
pub mod health;
pub mod listener;
pub mod metrics;
pub mod page;
pub mod query;
pub mod routes;
pub mod status_document;
