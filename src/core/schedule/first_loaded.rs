//! Since when a schedule counts: what was not in force when a tick came was not missed.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::naming::ServerId;
use crate::schedule::Schedule;

/// When a schedule of a server was first loaded, as far as that is known: after one moment, and at
/// the latest at another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstLoaded {
    /// It was not in the configuration then.
    pub after: Timestamp,
    /// It was in the configuration then.
    pub by: Timestamp,
}

impl FirstLoaded {
    /// Nothing is known: it may have been in force for ever, or for no time.
    pub const UNKNOWN: Self = Self { after: Timestamp::MIN, by: Timestamp::MAX };

    /// It was loaded at this very moment.
    #[must_use]
    pub fn at(moment: Timestamp) -> Self {
        Self { after: moment, by: moment }
    }

    /// What it and another record of the same schedule say together. Where they contradict each
    /// other, the schedule went and came back: the later one holds.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let both = Self { after: self.after.max(other.after), by: self.by.min(other.by) };
        if both.after <= both.by {
            both
        } else if self.after > other.after {
            self
        } else {
            other
        }
    }

    /// The same, as a clock that shows `now` may believe it: what lies ahead was written under a
    /// clock that was wrong.
    #[must_use]
    pub fn believed_at(self, now: Timestamp) -> Self {
        let after = if self.after > now { Timestamp::MIN } else { self.after };
        Self { after, by: self.by.min(now) }
    }
}

/// A schedule of a server: the number, the expression, the zone. The texts are a fleet's, not one
/// server's.
pub type ScheduleKey = (ServerId, Arc<str>, Arc<str>);

/// By what a schedule of a server is known in a record. Spaces and letters that mean the same are
/// the same.
#[must_use]
pub fn key(server: ServerId, schedule: &Schedule) -> ScheduleKey {
    let (text, zone) = schedule.key();
    (server, Arc::clone(text), Arc::clone(zone))
}

/// When each schedule was first loaded. Clones share it until one of them changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirstLoadedTimes(Arc<BTreeMap<ScheduleKey, FirstLoaded>>);

impl FromIterator<(ScheduleKey, FirstLoaded)> for FirstLoadedTimes {
    fn from_iter<I: IntoIterator<Item = (ScheduleKey, FirstLoaded)>>(times: I) -> Self {
        Self(Arc::new(times.into_iter().collect()))
    }
}

impl FirstLoadedTimes {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> &BTreeMap<ScheduleKey, FirstLoaded> {
        &self.0
    }

    /// When this one was.
    #[must_use]
    pub fn of(&self, server: ServerId, schedule: &Schedule) -> FirstLoaded {
        self.0.get(&key(server, schedule)).copied().unwrap_or(FirstLoaded::UNKNOWN)
    }
}

/// The book of the present configuration: what a start finds out and a reload changes.
impl FirstLoadedTimes {
    /// Of schedules that are in the configuration at `now`; since when is not known.
    #[must_use]
    pub fn found(present: impl IntoIterator<Item = ScheduleKey>, now: Timestamp) -> Self {
        let loaded = FirstLoaded { after: Timestamp::MIN, by: now };
        present.into_iter().map(|key| (key, loaded)).collect()
    }

    /// Adds what a record says that was kept until `heard`. A schedule that it does not have was not
    /// there then.
    pub fn recall(&mut self, recorded: &Self, heard: Option<Timestamp>, now: Timestamp) {
        let absent = heard.filter(|heard| *heard <= now).map_or(Timestamp::MIN, |heard| heard);
        for (key, loaded) in Arc::make_mut(&mut self.0) {
            *loaded = match recorded.0.get(key) {
                Some(record) => loaded.and(record.believed_at(now)),
                None if absent <= loaded.by => {
                    FirstLoaded { after: loaded.after.max(absent), ..*loaded }
                }
                None => *loaded,
            };
        }
    }

    /// Puts the schedules of another configuration in place: those that stay are as before, those
    /// that come are loaded `now`, those that go are forgotten.
    pub fn reload(&mut self, present: impl IntoIterator<Item = ScheduleKey>, now: Timestamp) {
        let loaded = |key: &ScheduleKey| self.0.get(key).copied().unwrap_or(FirstLoaded::at(now));
        *self =
            present.into_iter().map(|key| (loaded(&key), key)).map(|(it, key)| (key, it)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).unwrap()
    }

    fn between(after: i64, by: i64) -> FirstLoaded {
        FirstLoaded { after: at(after), by: at(by) }
    }

    #[test]
    fn two_records_of_one_schedule_say_more_than_each() {
        assert_eq!(between(1, 9).and(between(3, 20)), between(3, 9));
        assert_eq!(FirstLoaded::UNKNOWN.and(between(3, 20)), between(3, 20));
        // Loaded by 5, and again after 7: it came back.
        assert_eq!(between(1, 5).and(between(7, 8)), between(7, 8));
        assert_eq!(between(7, 8).and(between(1, 5)), between(7, 8));
    }

    fn named(schedule: &str) -> ScheduleKey {
        (ServerId::new(1), schedule.into(), "Etc/UTC".into())
    }

    #[test]
    fn a_start_takes_what_is_recorded_and_dates_what_is_new_after_the_records_end() {
        let recorded = FirstLoadedTimes::from_iter([(named("old"), between(2, 2))]);
        let mut book = FirstLoadedTimes::found([named("old"), named("new")], at(9));
        book.recall(&recorded, Some(at(7)), at(9));
        assert_eq!(book.0[&named("old")], between(2, 2));
        assert_eq!(book.0[&named("new")], between(7, 9));
        // A new store knows nothing of what was before.
        let mut book = FirstLoadedTimes::found([named("old")], at(9));
        book.recall(&FirstLoadedTimes::default(), None, at(9));
        assert_eq!(book.0[&named("old")], FirstLoaded { after: Timestamp::MIN, by: at(9) });
        // Nor does one that a clock wrote which was ahead.
        book.recall(&FirstLoadedTimes::default(), Some(at(100)), at(9));
        assert_eq!(book.0[&named("old")], FirstLoaded { after: Timestamp::MIN, by: at(9) });
    }

    #[test]
    fn a_reload_dates_what_comes_keeps_what_stays_and_forgets_what_goes() {
        let mut book = FirstLoadedTimes::from_iter([
            (named("stays"), between(1, 2)),
            (named("goes"), between(1, 2)),
        ]);
        book.reload([named("stays"), named("comes")], at(5));
        let expected = [(named("stays"), between(1, 2)), (named("comes"), between(5, 5))];
        assert_eq!(*book.all(), expected.into());
        book.reload([named("goes")], at(6));
        assert_eq!(book.0[&named("goes")], between(6, 6), "its return starts anew");
        // What was loaded while the store was away stays so when it is back.
        book.recall(&FirstLoadedTimes::default(), Some(at(3)), at(8));
        assert_eq!(book.0[&named("goes")], between(6, 6));
    }

    #[test]
    fn what_a_wrong_clock_wrote_is_not_believed() {
        assert_eq!(between(1, 2).believed_at(at(5)), between(1, 2));
        assert_eq!(between(1, 9).believed_at(at(5)), between(1, 5));
        let unknown = FirstLoaded { after: Timestamp::MIN, by: at(5) };
        assert_eq!(between(8, 9).believed_at(at(5)), unknown);
    }
}
