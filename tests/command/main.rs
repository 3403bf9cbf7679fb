//! The built command, as a user runs it, against the sandbox over real HTTP.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod adoption;
mod check;
mod client;
mod daemon;
mod foreign_text;
mod history;
mod interrupted;
mod journal;
mod killed;
mod late_requests;
mod machine;
mod notices;
mod one_shot;
mod second_signal;
mod service;
mod status;
mod waits;
mod wake;
