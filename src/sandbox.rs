//! A stand-in for the provider's API: stateful, faithful to its documentation, with faults on
//! request.
//!
//! [`provider`] is the provider as a state machine without I/O, `rows` what it has, [`strays`] what is
//! still on its way to it, [`faults`] says what goes wrong,
//! [`http`] serves both on loopback, and [`in_memory`] puts them behind the client's transport
//! without a socket, so that weeks pass in no time.

pub mod faults;
pub mod http;
pub mod in_memory;
pub mod provider;
mod rows;
mod strays;
