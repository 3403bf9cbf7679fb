//! What must hold of everything that comes from outside. Each module is one target's oracle; the
//! programs in `targets/` hand it whatever libFuzzer thinks of. A broken promise is a panic.

pub mod config;
pub mod cron;
pub mod error;
pub mod listing;
pub mod name;
pub mod retry_after;

/// A line that may stand in a log: one, of no more than `most` characters, that controls no terminal.
fn assert_one_line(line: &str, most: usize) {
    assert!(!line.is_empty(), "says nothing");
    assert!(!line.chars().any(char::is_control), "holds a control character: {line:?}");
    let length = line.chars().count();
    assert!(length <= most, "is {length} characters long");
}
