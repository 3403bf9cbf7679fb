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

mod accounts;
mod adoption;
mod check;
mod client;
mod cover;
mod daemon;
mod discover;
mod documents;
mod foreign_text;
mod history;
mod interrupted;
mod journal;
mod killed;
mod late_requests;
mod machine;
mod manual;
mod many;
mod notices;
mod one_shot;
mod plain_english;
mod restore;
mod second_signal;
mod service;
mod simulate;
mod status;
mod terminal;
mod timer;
mod waits;
mod wake;
