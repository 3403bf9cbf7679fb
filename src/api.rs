//! The provider.
pub mod transport;
