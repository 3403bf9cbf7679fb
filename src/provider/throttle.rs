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

/// Who has to wait, and until when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Waits {
    /// Everyone on the account.
    pub(super) account: Option<Duration>,
    /// Single servers.
    pub(super) servers: HashMap<ServerId, Duration>,
}

#[derive(Debug)]
struct Hold {
    caller: Caller,
    until: Duration,
}

/// Who has to wait after a call was throttled and until when, for the log. `None` if that was known before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Everyone on the account.
    pub(super) account: Option<Duration>,
    /// This caller.
    pub(super) caller: Option<Duration>,
}

/// A wait that is told although one was told before, if it ends that much later.
const WORTH_TELLING: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Closed for the whole account until then.
    closed_until: Duration,
    /// Of this the log knows.
    told_until: Duration,
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
    ) -> News {
        let span = asked.unwrap_or(guess);
        let until = now.saturating_add(span);
        if span <= LONGEST_WAIT {
            let was_open = self.closed_until <= now;
            self.close_until(until);
            let account = (was_open || self.is_worth_telling(until, now)).then_some(until);
            self.told_until = account.unwrap_or(self.told_until);
            return News { account, caller: None };
        }
        let span = self.careful.map_or(guess, |last| last.saturating_mul(2)).min(LONGEST_WAIT);
        self.careful = Some(span);
        let opens_at = now.saturating_add(span);
        self.close_until(opens_at);
        let account = self.is_worth_telling(opens_at, now).then_some(opens_at);
        self.told_until = account.unwrap_or(self.told_until);
        self.holds.retain(|_, hold| hold.until > now);
        let before = self.holds.insert(caller.server, Hold { caller, until });
        News { account, caller: before.is_none().then_some(until) }
    }

    /// Until when this caller has to wait by itself, if it has to. A rotation that was throttled may still
    /// look what became of its call; a later one does not begin.
    pub(super) fn held_until(&self, caller: Caller, now: Duration) -> Option<Duration> {
        let hold = self.holds.get(&caller.server).filter(|hold| hold.until > now)?;
        let is_meant = hold.caller.operation == caller.operation || hold.caller.tick != caller.tick;
        is_meant.then_some(hold.until)
    }

    /// Who has to wait now, and until when.
    pub(super) fn waits(&self, now: Duration) -> Waits {
        let held = self.holds.iter().filter(|(_, hold)| hold.until > now);
        Waits {
            account: Some(self.closed_until).filter(|until| *until > now),
            servers: held.filter_map(|(server, hold)| Some(((*server)?, hold.until))).collect(),
        }
    }

    fn close_until(&mut self, until: Duration) {
        self.closed_until = self.closed_until.max(until);
    }

    fn is_worth_telling(&self, until: Duration, now: Duration) -> bool {
        until > self.told_until.max(now).saturating_add(WORTH_TELLING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn caller(operation: Operation, server: u64, tick: &str) -> Caller {
        let tick = Some(Tick::at(tick.parse().unwrap()));
        Caller { operation, server: Some(ServerId::new(server)), tick }
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
        let until = |at| News { account: Some(seconds(at)), caller: None };
        assert_eq!(asked(5, 10), until(15));
        assert_eq!(asked(30, 12), News::default(), "closed already, and not much longer");
        assert_eq!(asked(20, 42), until(62), "open since then");
        assert_eq!(asked(900, 50), until(950), "much longer");
        assert_eq!(asked(5, 60), News::default(), "shorter");
        assert_eq!(asked(900, 910), until(1810));
        assert!(!throttle.is_careful());
        assert_eq!(throttle.closed_until(), seconds(1810));
        assert_eq!(throttle.held_until(web, seconds(911)), None);
    }

    #[test]
    fn a_longer_wait_holds_that_servers_call_and_its_later_rotations() {
        let mut throttle = Throttle::default();
        let web = caller(Operation::Create, 101, THREE);
        let news = throttle.throttled(web, Some(DAY), seconds(1), seconds(10));
        assert_eq!(news, News { account: None, caller: Some(seconds(86_410)) });
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
        let waits = throttle.waits(seconds(10));
        assert_eq!(waits.account, Some(seconds(11)));
        assert_eq!(waits.servers, HashMap::from([(ServerId::new(101), seconds(86_410))]));
        assert_eq!(throttle.waits(seconds(11)).account, None);
        assert_eq!(throttle.waits(seconds(86_410)), Waits::default());
        let again = throttle.throttled(web, Some(DAY), seconds(1), seconds(20));
        assert_eq!(again, News::default());
    }

    #[test]
    fn calls_that_are_sent_alone_come_ever_more_rarely_until_one_passes() {
        let mut throttle = Throttle::default();
        let (mut now, mut waits, mut told) = (Duration::ZERO, Vec::new(), Vec::new());
        for server in 101..115 {
            let one = caller(Operation::List, server, THREE);
            let news = throttle.throttled(one, Some(DAY), seconds(1), now);
            told.extend(news.account.map(|until| (until - now).as_secs()));
            waits.push((throttle.closed_until() - now).as_secs());
            now = throttle.closed_until();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
        assert_eq!(told, [32, 64, 128, 256, 512, 900, 900, 900, 900], "what is longer than 30 s");
        throttle.probe_passed();
        assert!(!throttle.is_careful());
        throttle.throttled(caller(Operation::List, 200, THREE), Some(DAY), seconds(1), now);
        assert_eq!(throttle.closed_until(), now + seconds(1));
    }
}
