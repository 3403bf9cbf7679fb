//! Each transition as a row: what happened, and what is done next.

mod memory;
mod report;
mod stories;
mod table;
mod whatever_happens;
