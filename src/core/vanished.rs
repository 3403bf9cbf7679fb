//! Servers that were rotated lately and that the configuration does not name any more.
//!
//! A daemon that starts cannot compare its configuration with the one before, as a reload does. The history tells:
//! an included file that has gone would otherwise end the snapshots of its servers silently.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::moment::shown;
use crate::naming::ServerId;
use crate::report::LastOfServer;

/// How long after its last rotation such a server is reported. Every schedule that has a tick in each week has one in
/// this time, and one that a person has removed is not reported forever.
const WITHIN: SignedDuration = SignedDuration::from_hours(8 * 24);

/// How many are named.
const NAMED: usize = 5;

/// Servers that the configuration does not name any more, the last rotated first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vanished(Vec<(ServerId, String, Timestamp)>);

impl Vanished {
    /// `known`: what the history knows of each server.
    #[must_use]
    pub fn among(
        known: &[LastOfServer],
        is_configured: impl Fn(ServerId) -> bool,
        now: Timestamp,
    ) -> Self {
        let mut servers: Vec<_> = known
            .iter()
            .filter(|it| !is_configured(it.server_id))
            .filter_map(|it| it.rotations.iter().max_by_key(|rotation| rotation.ended_at))
            .filter(|last| now.duration_since(last.ended_at) <= WITHIN)
            .map(|last| (last.server_id, last.server.clone(), last.ended_at))
            .collect();
        servers.sort_by_key(|(id, _, last)| (std::cmp::Reverse(*last), *id));
        Self(servers)
    }

    /// Each of them and its name.
    pub fn servers(&self) -> impl Iterator<Item = (ServerId, &str)> {
        self.0.iter().map(|(id, name, _)| (*id, name.as_str()))
    }

    /// The same in two parts: those whose last rotation ended after this time, and the others.
    #[must_use]
    pub fn split(self, after: Timestamp) -> (Self, Self) {
        let (lately, before) = self.0.into_iter().partition(|(_, _, last)| *last > after);
        (Self(lately), Self(before))
    }

    /// A sentence for each of the first ones, and one for the others.
    pub fn words(&self, zone: &TimeZone) -> impl Iterator<Item = String> {
        self.words_of("the configuration", zone)
    }

    /// The same of servers that have their policy by a `cover`, and are not listed.
    pub fn words_of_unlisted(&self, zone: &TimeZone) -> impl Iterator<Item = String> {
        self.words_of("the account's list of servers", zone)
    }

    fn words_of(&self, place: &'static str, zone: &TimeZone) -> impl Iterator<Item = String> {
        let named = self.0.iter().take(NAMED).map(move |(id, name, last)| {
            format!(
                "{name} ({id}) is not in {place} any more, so it is not rotated. Its last rotation ended at {}",
                shown(*last, zone)
            )
        });
        let others = self.0.len().saturating_sub(NAMED);
        let others = (others > 0).then(|| {
            format!(
                "{others} more servers that were rotated in the last 8 days are not in {place} any more"
            )
        });
        named.chain(others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::Tick;
    use crate::report::{BrokenOffBy, PastRotation, Report};

    fn last(id: u64, at: &str) -> LastOfServer {
        let at: Timestamp = at.parse().unwrap();
        let by = BrokenOffBy::Request("x".to_owned());
        let report = Report::broken_off(ServerId::new(id), "web", Tick::at(at), by);
        LastOfServer::of(ServerId::new(id), vec![PastRotation::of(&report, at)])
    }

    #[test]
    fn a_server_that_was_rotated_lately_and_is_not_configured_is_named() {
        let known = [
            last(1, "2026-11-29T03:00:00Z"),
            last(2, "2026-11-28T03:00:00Z"),
            last(3, "2026-11-29T03:00:00Z"),
            last(4, "2026-11-20T03:00:00Z"),
        ];
        let now = "2026-11-30T03:00:00Z".parse().unwrap();
        let found = Vanished::among(&known, |id| id == ServerId::new(1), now);
        let words: Vec<String> = found.words(&TimeZone::UTC).collect();
        assert_eq!(words.len(), 2, "{words:?}");
        assert!(words[0].starts_with("web (3) is not in the configuration any more"), "{words:?}");
        assert!(words[1].ends_with("ended at 2026-11-28 03:00:00 UTC"), "{words:?}");
    }

    #[test]
    fn of_many_some_are_named_and_the_others_are_counted() {
        let known: Vec<_> = (0..40).map(|id| last(id, "2026-11-29T03:00:00Z")).collect();
        let now = "2026-11-30T03:00:00Z".parse().unwrap();
        let words: Vec<String> =
            Vanished::among(&known, |_| false, now).words(&TimeZone::UTC).collect();
        assert_eq!(words.len(), NAMED + 1);
        assert!(words[NAMED].starts_with("35 more servers"), "{words:?}");
    }
}
