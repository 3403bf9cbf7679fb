//! Seen at a glance: what a person, a monitoring system and an orchestrator are shown of a running
//! daemon, over HTTP.
//!
//! Read-only and without secrets. Everything here looks through a
//! [`View`](crate::daemon::view::View), which cannot change anything.

pub(crate) mod client;
mod health;
pub(crate) mod hosts;
pub(crate) mod listener;
mod metrics;
mod page;
mod process;
mod query;
mod routes;
pub(crate) mod status_document;
mod text_format;
