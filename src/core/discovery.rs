//! What is known of a server that has no policy yet: whose its snapshots look like, and how to call it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Serialize;

use crate::foreign::{ForeignText, is_shown};
use crate::naming::{Prefix, ServerId};

/// How many characters of a name are used. A configuration takes 100, and a number may be added.
const LONGEST_NAME: usize = 70;

/// Whose the snapshots of a server look like. Only a policy can say whose they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lookalikes {
    /// How many snapshots there are.
    pub count: usize,
    /// How many have names as snapring gives them, by prefix.
    pub like_snapring: BTreeMap<Prefix, usize>,
}

impl Lookalikes {
    /// There are no snapshots.
    #[must_use]
    pub const fn none() -> Self {
        Self { count: 0, like_snapring: BTreeMap::new() }
    }

    /// Takes in one more snapshot.
    pub fn add(&mut self, name: &ForeignText) {
        self.count += 1;
        if let Some(prefix) = name.managed_prefix() {
            *self.like_snapring.entry(prefix).or_default() += 1;
        }
    }

    /// How many are not named like any snapshot of snapring.
    #[must_use]
    pub fn others(&self) -> usize {
        self.count.saturating_sub(self.like_snapring.values().sum())
    }

    /// How many a policy with this prefix would manage.
    #[must_use]
    pub fn of_prefix(&self, prefix: &str) -> usize {
        let own = self.like_snapring.iter().find(|(known, _)| known.as_str() == prefix);
        own.map_or(0, |(_, count)| *count)
    }
}

impl fmt::Display for Lookalikes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count;
        if count == 0 {
            return out.write_str("none");
        }
        if self.like_snapring.is_empty() {
            return write!(out, "{count} (not snapring's)");
        }
        write!(out, "{count} (")?;
        for (nth, (prefix, named)) in self.like_snapring.iter().enumerate() {
            let separator = if nth > 0 { ", " } else { "" };
            match *named == count {
                true => write!(out, "named {prefix}-…")?,
                false => write!(out, "{separator}{named} named {prefix}-…")?,
            }
        }
        match self.others() {
            0 => out.write_str(")"),
            others => write!(out, ", {others} other)"),
        }
    }
}

/// Gives servers names that a configuration accepts, each once.
#[derive(Debug, Default)]
pub struct NewNames {
    taken: HashSet<String>,
}

impl NewNames {
    /// Names other than these.
    pub fn other_than(taken: impl IntoIterator<Item = String>) -> Self {
        Self { taken: taken.into_iter().collect() }
    }

    /// The name that the provider knows, as far as it can be used; with the id where that makes it unique.
    pub fn name(&mut self, id: ServerId, name: &ForeignText) -> String {
        let usual = usual_name(id);
        let known = usable(&name.to_string()).unwrap_or_else(|| usual.clone());
        let numbered = format!("{known}-{id}");
        let further = (2_u64..).map(|nth| format!("{usual}-{nth}"));
        let free = [known, numbered, usual.clone()]
            .into_iter()
            .chain(further)
            .find(|name| !self.taken.contains(name))
            .unwrap_or(usual);
        self.taken.insert(free.clone());
        free
    }
}

/// How a server is called if no name is given.
fn usual_name(id: ServerId) -> String {
    format!("server-{id}")
}

/// A name without what commands, tables and files could take for something else.
fn usable(name: &str) -> Option<String> {
    // A pattern in an argument, or a character that could not be shown.
    let is_odd = |it: char| !is_shown(it) || matches!(it, '*' | '?' | '[' | ']' | '\u{fffd}');
    let cleaned: String = name.chars().map(|it| if is_odd(it) { '-' } else { it }).collect();
    let short: String = cleaned.trim().chars().take(LONGEST_NAME).collect();
    let short = short.trim();
    let looks_like_an_id = short.bytes().all(|byte| byte.is_ascii_digit());
    let says_something = short.chars().any(char::is_alphanumeric);
    (says_something && !looks_like_an_id).then(|| short.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn snapshots_are_counted_by_whose_they_look_like() {
        let of = |names: &[&str]| {
            let mut found = Lookalikes::default();
            names.iter().for_each(|name| found.add(&(*name).into()));
            found
        };
        assert_eq!(of(&[]).to_string(), "none");
        assert_eq!(of(&["by-hand"]).to_string(), "1 (not snapring's)");
        let own = "snapring-20261123T030000Z";
        assert_eq!(of(&[own]).to_string(), "1 (named snapring-…)");
        let mixed = of(&[own, "nightly-20261122T030000Z", own, "snapring-20261340T030000Z"]);
        assert_eq!(mixed.to_string(), "4 (1 named nightly-…, 2 named snapring-…, 1 other)");
        assert_eq!((mixed.of_prefix("snapring"), mixed.of_prefix("snap")), (2, 0));
        assert_eq!(mixed.others(), 1);
    }

    #[test]
    fn a_name_is_taken_as_it_is_if_it_can_be_and_each_is_given_once() {
        let mut names = NewNames::other_than(["db".to_owned()]);
        for (id, known, given) in [
            (1, "web-01", "web-01"),
            (2, "db", "db-2"),
            (3, "web-01", "web-01-3"),
            (4, "", "server-4"),
            (5, "12345", "server-5"),
            (6, " a\tb\u{202e} ", "a b-"),
            (7, "\u{1b}[31m*", "--31m-"),
            (8, "***", "server-8"),
            (9, "say \"hi\\\"", "say \"hi\\\""),
            (10, "server-4", "server-4-10"),
            (11, "Größe 日本", "Größe 日本"),
        ] {
            assert_eq!(names.name(ServerId::new(id), &known.into()), given, "{known:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_server_is_called_its_name_is_new_short_and_shown(
            known in prop::collection::vec("(\\PC|\\p{C}|\\s|[a-z0-9*]){0,120}|a|1", 1..12),
        ) {
            let mut names = NewNames::default();
            let mut given = HashSet::new();
            for (id, known) in (1..).zip(&known) {
                let name = names.name(ServerId::new(id), &known.as_str().into());
                prop_assert!(given.insert(name.clone()), "{name:?} twice");
                prop_assert!(name.chars().count() <= 100 && name.chars().all(is_shown), "{name:?}");
                prop_assert_eq!(name.trim(), name.as_str());
                prop_assert!(!name.bytes().all(|byte| byte.is_ascii_digit()), "{name:?}");
            }
        }
    }
}
