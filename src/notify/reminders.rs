//! When a target is reminded of trouble that it knows and that continues.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::moment::Moment;
use crate::naming::Subject;

/// The longest time until a reminder that could not be delivered is due again.
const AGAIN_AFTER: Duration = Duration::from_secs(3600);

/// Of trouble that began so short a time before a start, the process before may not have been able to tell: notices
/// are gathered for a while and tried again for some minutes.
const MAY_BE_UNTOLD: Duration = Duration::from_secs(15 * 60);

/// What is due within this part of the interval goes out with what is due now: a fleet's servers fail minutes
/// apart, and are one message.
const TOGETHER: u32 = 24;

/// Whether a reminder fell due between two looks at trouble that lasts since then. A run that a timer starts each
/// day may come a little early, so what is nearly due is due.
pub(super) fn fell_due(
    every: Duration,
    since: Timestamp,
    before: Timestamp,
    now: Timestamp,
) -> bool {
    let early = (every / TOGETHER).as_millis();
    let count = |at: Timestamp| {
        let lasted = Duration::try_from(at.duration_since(since)).unwrap_or_default();
        (lasted.as_millis() + early).checked_div(every.as_millis()).unwrap_or(0)
    };
    count(now) > count(before)
}

/// Which trouble a target was notified of, and when. Clones share it. Times are uptimes: a
/// clock that is set neither hurries nor delays a reminder.
#[derive(Debug, Clone, Default)]
pub(super) struct Reminders(Arc<Mutex<BTreeMap<Subject, Told>>>);

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Duration,
    /// How much of the interval had passed then: after a restart reminders keep to their times.
    passed: Duration,
    /// When the last reminder was queued that is not yet known to have been delivered.
    queued: Option<Duration>,
}

impl Told {
    fn due(&self, every: Duration) -> Duration {
        let due = self.at.saturating_add(every.saturating_sub(self.passed));
        match self.queued {
            Some(queued) => due.max(queued.saturating_add(every.min(AGAIN_AFTER))),
            None => due,
        }
    }
}

impl Reminders {
    /// The target has the failure, or a reminder of it.
    pub(super) fn told(&self, of: Subject, uptime: Duration) {
        let told = Told { at: uptime, passed: Duration::ZERO, queued: None };
        self.lock().insert(of, told);
    }

    /// An earlier process sent a notice of it. The next reminder comes a whole number of intervals after `since`, so
    /// that neither many restarts nor a single one changes when it comes. Unless it `is_sure` that it was told, it is
    /// due at once where the trouble is so fresh that the process may have ended before its notice was delivered.
    pub(super) fn told_before(
        &self,
        of: Subject,
        since: Option<Timestamp>,
        every: Duration,
        now: Moment,
        is_sure: bool,
    ) {
        let lasted = since.map(|since| now.wall.duration_since(since));
        let lasted = lasted.and_then(|it| Duration::try_from(it).ok()).unwrap_or_default();
        let passed = match every.as_millis() {
            0 => 0,
            every if !is_sure && since.is_some() && lasted < MAY_BE_UNTOLD => every,
            every => lasted.as_millis() % every,
        };
        let passed = Duration::from_millis(u64::try_from(passed).unwrap_or(0));
        self.lock().insert(of, Told { at: now.uptime, passed, queued: None });
    }

    /// It is over.
    pub(super) fn over(&self, of: Subject) {
        self.lock().remove(&of);
    }

    /// Of whom the target is to be reminded now.
    pub(super) fn take_due(&self, every: Duration, uptime: Duration) -> Vec<Subject> {
        let mut all = self.lock();
        if every.is_zero() || !all.values().any(|told| told.due(every) <= uptime) {
            return Vec::new();
        }
        let until = uptime.saturating_add(every / TOGETHER);
        let due = all.iter_mut().filter(|(_, told)| told.due(every) <= until);
        due.map(|(of, told)| {
            told.queued = Some(uptime);
            *of
        })
        .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Subject, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::ServerId;
    use crate::notify::tests::at;

    const WEB: Subject = Subject::Server(ServerId::new(1));

    #[test]
    fn what_a_process_may_not_have_told_before_it_ended_is_due_at_once() {
        let day = Duration::from_secs(24 * 3600);
        let now = Moment { wall: at(600), uptime: Duration::from_secs(5) };
        let due_if = |since, every, is_sure| {
            let reminders = Reminders::default();
            reminders.told_before(WEB, Some(since), every, now, is_sure);
            reminders.take_due(every, now.uptime)
        };
        let due = |since, every| due_if(since, every, false);
        assert_eq!(due_if(at(599), day, true), [], "it was told");
        assert_eq!(due(at(599), day), [WEB]);
        assert_eq!(due(at(586), day), [WEB]);
        assert_eq!(due(at(584), day), []);
        assert_eq!(due(at(599), Duration::ZERO), [], "never");
    }

    #[test]
    fn a_run_each_night_reminds_each_night_though_it_is_a_minute_early_or_late() {
        let day = Duration::from_secs(24 * 3600);
        let nights: Vec<Timestamp> = [0, 1439, 2882, 4318, 5760].into_iter().map(at).collect();
        for pair in nights.windows(2) {
            assert!(fell_due(day, nights[0], pair[0], pair[1]), "{pair:?}");
        }
        // By hand in between: once a day all the same.
        assert!(!fell_due(day, at(0), at(1440), at(1500)));
        assert!(!fell_due(day, at(0), at(1500), at(2500)));
        assert!(fell_due(day, at(0), at(2500), at(2880)));
        assert!(!fell_due(Duration::ZERO, at(0), at(0), at(9999)), "never");
    }
}
