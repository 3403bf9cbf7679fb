//! What the provider asked the account, and calls of single servers, to wait for. No clock: times are
//! uptimes that are passed in.
//!
//! A wait of up to [`LONGEST_WAIT`] is the account's. A longer one may be about one server only, so it
//! holds that server's call, and the account goes on after a back-off of its own with one call at a time,
//! until one of them is not throttled. A shorter one is treated like that once it is known to be the server's own: it
//! is throttled again, although others were not after the account had waited.

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

/// The calls of one server that a limit is about: those that only look, or those that change something.
type Kind = (ServerId, bool);

impl Caller {
    fn kind(self) -> Option<Kind> {
        Some((self.server?, self.operation.changes()))
    }
}

/// A server whose short waits may be its own.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    /// When the account had waited for it for the first time.
    waited_until: Duration,
    /// A call of the same kind for somebody else was sent after that, and was not throttled.
    others_passed: bool,
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

/// How long others wait at most before one call probes for them, if the limit is known to be one server's own.
const PROBE_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Closed for the whole account until then.
    closed_until: Duration,
    /// Of this the log knows.
    told_until: Duration,
    /// One call at a time, after a wait that doubles with each of them that is throttled.
    careful: Option<Duration>,
    holds: HashMap<Option<ServerId>, Hold>,
    /// Servers that were throttled last time.
    suspects: HashMap<Kind, Suspect>,
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

    /// A call that was sent then was answered and was not throttled.
    pub(super) fn passed(&mut self, caller: Caller, sent: Duration) {
        let changes = caller.operation.changes();
        for ((server, its), suspect) in &mut self.suspects {
            let is_other = caller.server != Some(*server) && *its == changes;
            suspect.others_passed |= is_other && sent >= suspect.waited_until;
        }
        if let Some(own) = caller.kind() {
            self.suspects.remove(&own);
        }
    }

    /// Whether the limit is this server's own. Once it is known to be, it stays so until one of its calls passes.
    fn is_its_own(&mut self, caller: Caller, until: Duration) -> bool {
        let Some(kind) = caller.kind() else { return false };
        // What the first wait has shown stays: the answer to another server's call may come after this one.
        let suspect = Suspect { waited_until: until, others_passed: false };
        self.suspects.entry(kind).or_insert(suspect).others_passed
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
        if span <= LONGEST_WAIT && !self.is_its_own(caller, until) {
            let was_open = self.closed_until <= now;
            self.close_until(until);
            let account = (was_open || self.is_worth_telling(until, now)).then_some(until);
            self.told_until = account.unwrap_or(self.told_until);
            return News { account, caller: None };
        }
        // Others were not throttled: they need not back off as this server's own tries do.
        let first = if span <= LONGEST_WAIT { guess.min(PROBE_AFTER) } else { guess };
        let span = self.careful.map_or(first, |last| last.saturating_mul(2)).min(LONGEST_WAIT);
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
    fn a_short_wait_is_the_servers_own_once_others_pass_and_it_does_not() {
        let mut throttle = Throttle::default();
        let web = caller(Operation::List, 101, THREE);
        let db = caller(Operation::List, 102, THREE);
        let (asked, guess) = (Some(seconds(25)), seconds(1));
        assert_eq!(throttle.throttled(web, asked, guess, seconds(0)).account, Some(seconds(25)));
        // Sent before the wait, or of another kind: this says nothing of the wait.
        throttle.passed(db, seconds(24));
        throttle.passed(caller(Operation::Create, 102, THREE), seconds(25));
        assert_eq!(throttle.throttled(web, asked, guess, seconds(25)).account, Some(seconds(50)));
        // Both were sent together after the first wait, and this answer came last.
        throttle.passed(db, seconds(25));
        for now in [50, 75, 100] {
            let news = throttle.throttled(web, asked, guess, seconds(now));
            assert_eq!(news, News { account: None, caller: Some(seconds(now + 25)) }, "{now}");
            assert_eq!(throttle.held_until(web, seconds(now)), Some(seconds(now + 25)));
            assert_eq!(throttle.held_until(db, seconds(now)), None);
            assert!(throttle.closed_until() <= seconds(now + 2), "one call probes for the others");
            throttle.probe_passed();
        }
        // A call of its own passes: what comes then may be the account's again.
        throttle.passed(web, seconds(130));
        assert_eq!(throttle.throttled(web, asked, guess, seconds(131)).account, Some(seconds(156)));
    }

    #[test]
    fn a_limit_of_the_account_stays_the_accounts() {
        let mut throttle = Throttle::default();
        let of = |server| caller(Operation::Create, server, THREE);
        for (nth, server) in [101, 102, 101, 102, 101].into_iter().enumerate() {
            let now = seconds(60 * u64::try_from(nth).unwrap());
            let news = throttle.throttled(of(server), Some(seconds(60)), seconds(1), now);
            assert_eq!(news.account, Some(now + seconds(60)), "{nth}");
        }
        assert!(throttle.waits(seconds(299)).servers.is_empty());
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
