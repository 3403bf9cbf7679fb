//! The provider's API: what is asked, what the answers mean, what is tried again.
//!
//! [`client`] is the whole of it for the rest of the program, with a [`call_context`] that says on whose
//! behalf; [`clients`] are those of all accounts. Its [`shared_listing`] lets servers that are looked at together share one listing. Below it,
//! [`exchange`] makes one call, [`transport`] is the seam to the network, [`body`] and
//! [`retry_after`] give bytes a meaning, [`pagination`] puts pages together, [`admission`]
//! and [`throttle`] say who may send when, and [`call_event`] writes the one event that each call leaves.

mod admission;
pub mod body;
pub mod call_context;
mod call_event;
pub(crate) mod certificates;
pub mod client;
pub mod clients;
pub(crate) mod connect;
pub mod credentials;
mod exchange;
pub mod http;
mod last_seen;
pub(crate) mod metrics;
mod pagination;
mod pending_changes;
pub(crate) mod proxy;
mod retry;
pub mod retry_after;
pub mod settings;
pub(crate) mod shared_listing;
mod throttle;
pub(crate) mod token_state;
pub mod transport;

pub(crate) use exchange::wall_at;
