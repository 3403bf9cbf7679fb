//! The built command, as a user runs it, against the sandbox over real HTTP.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

mod client;
mod daemon;
mod killed;
mod machine;
mod one_shot;
