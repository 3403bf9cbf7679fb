//! What the provider asked the account, and calls of single servers, to wait for. No clock: times are
//! uptimes that are passed in.
//!
//! A wait of up to [`LONGEST_WAIT`] is the account's. A longer one may be about one server only, so it
//! holds that server's call, and the account goes on after a back-off of its own with one call at a time,
//! until one of them is not throttled.

use std::collections::HashMap;
use std::time::Duration;

use crate::call::Operation;
use crate::naming::{ServerId, Tick};
use crate::patience::LONGEST_WAIT;

/// On whose behalf a call is made, as far as waits are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) operation: Operation,
    /// `None`: the account.
    pub(super) server: Option<ServerId>,
    pub(super) tick: Option<Tick>,
}

#[derive(Debug)]
struct Hold {
    caller: Caller,
    until: Duration,
}

/// Who has to wait after a call was throttled, for the log. `None` if that was known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Everyone on the account, until then.
    Account(Duration),
    /// This caller, until then.
    Caller(Duration),
}

#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Closed for the whole account until then.
    closed_until: Duration,
    /// One call at a time, after a wait that doubles with each of them that is throttled.
    careful: Option<Duration>,
    holds: HashMap<Option<ServerId>, Hold>,
}

impl Throttle {
    pub(super) fn closed_until(&self) -> Duration {
        self.closed_until
    }

    /// Whether calls may only be sent one at a time.
    pub(super) fn is_careful(&self) -> bool {
        self.careful.is_some()
    }

    /// A call that was sent alone was not throttled.
    pub(super) fn probe_passed(&mut self) {
        self.careful = None;
    }

    /// A call was throttled: `asked` is the provider's `Retry-After`, `guess` is used without one.
    pub(super) fn throttled(
        &mut self,
        caller: Caller,
        asked: Option<Duration>,
        guess: Duration,
        now: Duration,
    ) -> Option<News> {
        let span = asked.unwrap_or(guess);
        let until = now.saturating_add(span);
        if span <= LONGEST_WAIT {
            let was_open = self.closed_until <= now;
            self.close_until(until);
            return was_open.then_some(News::Account(until));
        }
        let span = self.careful.map_or(guess, |last| last.saturating_mul(2)).min(LONGEST_WAIT);
        self.careful = Some(span);
        self.close_until(now.saturating_add(span));
        self.holds.retain(|_, hold| hold.until > now);
        let before = self.holds.insert(caller.server, Hold { caller, until });
        before.is_none().then_some(News::Caller(until))
    }

    /// Until when this caller has to wait by itself, if it has to. A rotation that was throttled may still
    /// look what became of its call; a later one does not begin.
    pub(super) fn held_until(&self, caller: Caller, now: Duration) -> Option<Duration> {
        let hold = self.holds.get(&caller.server).filter(|hold| hold.until > now)?;
        let is_meant = hold.caller.operation == caller.operation || hold.caller.tick != caller.tick;
        is_meant.then_some(hold.until)
    }

    fn close_until(&mut self, until: Duration) {
        self.closed_until = self.closed_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn caller(operation: Operation, server: u64, tick: &str) -> Caller {
        let tick = Some(Tick::at(tick.parse().unwrap()));
        Caller { operation, server: Some(ServerId(server)), tick }
    }

    fn seconds(span: u64) -> Duration {
        Duration::from_secs(span)
    }

    const THREE: &str = "2026-11-23T03:00:00Z";
    const NINE: &str = "2026-11-23T09:00:00Z";

    #[test]
    fn up_to_fifteen_minutes_are_the_accounts_and_are_told_once() {
        let mut throttle = Throttle::default();
        let web = caller(Operation::Create, 101, THREE);
        let mut asked =
            |span: u64, now| throttle.throttled(web, Some(seconds(span)), seconds(1), seconds(now));
        assert_eq!(asked(900, 10), Some(News::Account(seconds(910))));
        assert_eq!(asked(5, 20), None, "shorter, and closed already");
        assert_eq!(asked(900, 910), Some(News::Account(seconds(1810))));
        assert!(!throttle.is_careful());
        assert_eq!(throttle.closed_until(), seconds(1810));
        assert_eq!(throttle.held_until(web, seconds(911)), None);
    }

    #[test]
    fn a_longer_wait_holds_that_servers_call_and_its_later_rotations() {
        let mut throttle = Throttle::default();
        let web = caller(Operation::Create, 101, THREE);
        let news = throttle.throttled(web, Some(DAY), seconds(1), seconds(10));
        assert_eq!(news, Some(News::Caller(seconds(86_410))));
        assert!(throttle.is_careful());
        assert_eq!(throttle.closed_until(), seconds(11));
        let held = |operation, server, tick| {
            throttle.held_until(caller(operation, server, tick), seconds(12)).is_some()
        };
        assert!(held(Operation::Create, 101, THREE));
        assert!(!held(Operation::List, 101, THREE), "it looks what became of its create");
        assert!(held(Operation::List, 101, NINE), "the next one makes no room in vain");
        assert!(!held(Operation::Create, 102, THREE) && !held(Operation::List, 102, NINE));
        assert_eq!(throttle.held_until(web, seconds(86_410)), None);
        assert_eq!(throttle.throttled(web, Some(DAY), seconds(1), seconds(20)), None);
    }

    #[test]
    fn calls_that_are_sent_alone_come_ever_more_rarely_until_one_passes() {
        let mut throttle = Throttle::default();
        let (mut now, mut waits) = (Duration::ZERO, Vec::new());
        for server in 101..115 {
            let one = caller(Operation::List, server, THREE);
            throttle.throttled(one, Some(DAY), seconds(1), now);
            waits.push((throttle.closed_until() - now).as_secs());
            now = throttle.closed_until();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
        throttle.probe_passed();
        assert!(!throttle.is_careful());
        throttle.throttled(caller(Operation::List, 200, THREE), Some(DAY), seconds(1), now);
        assert_eq!(throttle.closed_until(), now + seconds(1));
    }
}
