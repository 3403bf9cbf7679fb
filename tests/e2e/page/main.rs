//! The status page of a running daemon, in a real browser, as people and assistive technology meet it.
//! `tests/e2e/page/run` starts it and says what it needs.

mod accessibility;
mod browser;
mod crowd;
mod facts;
mod keyboard;
mod pictures;
mod policy;
mod refresh;
mod stage;
