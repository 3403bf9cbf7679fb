//! The provider's API: what is asked, what the answers mean, what is tried again.
//!
//! [`client`] is the whole of it for the rest of the program. Below it, [`transport`] is the seam to
//! the network, [`body`] and [`failure`] give bytes and statuses a meaning, [`admission`] says who
//! may send when, and [`record`] writes the one event that each call leaves.

pub mod admission;
pub mod body;
pub mod client;
pub mod credentials;
pub mod failure;
pub mod http;
pub mod record;
pub mod transport;
