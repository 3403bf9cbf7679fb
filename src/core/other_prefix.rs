//! Foreign snapshots whose names snapring would have given under another prefix.
//!
//! They may be the server's own from before a change of its prefix, another snapring's, or another
//! tool's. Names cannot tell which, so they stay foreign until a person lists the prefix.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::naming::Prefix;
use crate::ring::{Holder, Ring};

/// How many are named.
const NAMED: usize = 6;

/// The foreign snapshots of a server that have one such prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OtherPrefix {
    /// The prefix.
    pub prefix: Prefix,
    /// Their names and ids, oldest first.
    pub snapshots: Vec<String>,
}

impl OtherPrefix {
    /// Those of a ring.
    #[must_use]
    pub fn all_in(ring: &Ring) -> Vec<Self> {
        let mut found: BTreeMap<Prefix, Vec<String>> = BTreeMap::new();
        for slot in ring.slots().iter().filter(|slot| slot.holder == Holder::Foreign) {
            if let Some(prefix) = slot.snapshot.name.managed_prefix() {
                let named = format!("{} ({})", slot.snapshot.name, slot.snapshot.id);
                found.entry(prefix).or_default().push(named);
            }
        }
        found.into_iter().map(|(prefix, snapshots)| Self { prefix, snapshots }).collect()
    }

    /// The same where their names have been listed.
    #[must_use]
    pub(crate) fn way_out_in_short(&self) -> String {
        let (count, prefix) = (self.snapshots.len(), &self.prefix);
        let (looks, they) = if count == 1 { ("looks", "it is") } else { ("look", "they are") };
        format!(
            "{count} {looks} like snapring's under the prefix {prefix}: if {they} this server's, \
             set adopt_prefix = [\"{prefix}\"]"
        )
    }

    /// What makes them managed.
    #[must_use]
    pub fn way_out(&self) -> String {
        format!(
            "if they are this server's own, from before a change of `prefix`, write adopt_prefix = [\"{}\"] \
             in its [[server]]: retention then counts and deletes them like its own. If another snapring or \
             another tool creates them, leave this as it is",
            self.prefix
        )
    }
}

impl fmt::Display for OtherPrefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, snapshots } = self;
        let named: Vec<&str> = snapshots.iter().take(NAMED).map(String::as_str).collect();
        let more = snapshots.len().saturating_sub(NAMED);
        let (looks, is) = match snapshots.len() {
            1 => ("looks", "It counts as foreign and is never deleted"),
            _ => ("look", "They count as foreign and are never deleted"),
        };
        write!(out, "{}", named.join(", "))?;
        if more > 0 {
            write!(out, " and {more} more")?;
        }
        write!(out, " {looks} like snapring's under the prefix {prefix}. {is}")
    }
}
