//! Promises of the built command against the real kernel: full pipes, stopped processes, clocks, locks, a
//! provider that misbehaves. What happened is read from the sandbox's record of what it did.
//!
//! A scenario that needs a tool or rights that are missing is skipped, with a message.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod calls;
#[allow(dead_code, reason = "shared with tests/command, which uses the rest")]
#[path = "../command/machine.rs"]
mod machine;

mod hooks;
mod locks;
mod logs;
mod rings;
