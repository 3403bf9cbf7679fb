//! The provider's API: what is asked, what the answers mean, what is tried again.
//!
//! [`client`] is the whole of it for the rest of the program, with a [`call_context`] that says on whose
//! behalf; its [`shared_listing`] lets servers that are looked at together share one listing. Below it,
//! [`exchange`] makes one call, [`transport`] is the seam to the network, [`body`] and
//! [`retry_after`] give bytes a meaning, [`pagination`] puts pages together, [`admission`]
//! says who may send when, and [`call_event`] writes the one event that each call leaves.

pub mod admission;
pub mod body;
pub mod call_context;
pub mod call_event;
pub mod client;
pub mod connect;
pub mod credentials;
pub mod exchange;
pub mod http;
mod last_seen;
pub mod metrics;
pub mod pagination;
mod pending_changes;
mod retry;
pub mod retry_after;
pub mod settings;
pub mod shared_listing;
pub mod token_state;
pub mod transport;
