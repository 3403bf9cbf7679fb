//! The daemon.
pub mod clockwork;
pub mod signals;
pub mod timetable;
