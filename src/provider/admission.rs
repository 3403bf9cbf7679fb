//! Who may send a request, and when: the number of requests under way, the rate, and what the provider
//! has asked the account to wait for. All clients of an account share one.
//!
//! A create or a delete rests on a listing that grows old, so it goes before listings: of those,
//! only one at a time waits in the line. A changing call then waits for at most one listing
//! beside the changing calls before it, however many servers are due.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::provider::throttle::{Caller, News, Throttle, Waits};

/// How often a call in the background looks whether it may be sent.
const LOOK_FOR_IDLE_EVERY: Duration = Duration::from_secs(1);

/// What a request is for, as far as the line is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It changes something on the strength of a listing.
    Change,
    /// It only looks.
    Look,
    /// Nothing waits for what it looks at.
    Background,
}

/// The line that every request of an account goes through. Clones are the same line.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    clock: Clock,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// One look at a time may stand in the line.
    looks: tokio::sync::Mutex<()>,
    /// The line itself: its head waits for the gate, the pace and a free place.
    line: tokio::sync::Mutex<()>,
    gate: Mutex<Gate>,
    /// A place was freed, or there are more. Only the head of the line waits for it.
    freed: Notify,
}

#[derive(Debug)]
struct Gate {
    max_in_flight: usize,
    under_way: usize,
    /// A call in the background is under way. It has a place of its own, so no other call waits for its end.
    is_background: bool,
    /// A call is under way that was sent alone.
    is_probing: bool,
    /// Between the beginnings of two requests; zero: no limit.
    pace: Duration,
    /// In the clock's uptime.
    next_start: Duration,
    throttle: Throttle,
}

/// What the head of the line does next.
enum Step {
    Go(Admitted),
    Sleep(Duration),
    AwaitPlace,
}

/// The right to have one request under way; ends when it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Admitted {
    shared: Arc<Shared>,
    is_probe: bool,
    is_background: bool,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut gate = self.shared.gate();
        if self.is_background {
            gate.is_background = false;
            return;
        }
        gate.under_way -= 1;
        gate.is_probing &= !self.is_probe;
        drop(gate);
        self.shared.freed.notify_one();
    }
}

impl Admitted {
    /// The provider has answered, and did not ask to wait.
    pub(super) fn was_not_throttled(&self) {
        if self.is_probe {
            self.shared.gate().throttle.probe_passed();
        }
    }
}

impl Shared {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// A line for `max_in_flight` requests at once and `requests_per_minute` (0: no limit).
    #[must_use]
    pub(super) fn new(clock: Clock, max_in_flight: NonZeroUsize, requests_per_minute: u32) -> Self {
        let gate = Gate {
            max_in_flight: max_in_flight.get(),
            under_way: 0,
            is_background: false,
            is_probing: false,
            pace: Duration::from_secs(60).checked_div(requests_per_minute).unwrap_or_default(),
            next_start: Duration::ZERO,
            throttle: Throttle::default(),
        };
        let shared = Shared {
            looks: tokio::sync::Mutex::default(),
            line: tokio::sync::Mutex::default(),
            gate: Mutex::new(gate),
            freed: Notify::new(),
        };
        Self { clock, shared: Arc::new(shared) }
    }

    /// The line that the account has already, with this one's limits from now on.
    #[must_use]
    pub(super) fn beside(self, other: &Self) -> Self {
        let (max_in_flight, pace) = {
            let gate = self.shared.gate();
            (gate.max_in_flight, gate.pace)
        };
        let mut gate = other.shared.gate();
        (gate.max_in_flight, gate.pace) = (max_in_flight, pace);
        drop(gate);
        other.shared.freed.notify_one();
        Self { clock: self.clock, shared: Arc::clone(&other.shared) }
    }

    /// Waits for one's turn.
    #[cfg(test)]
    pub(super) async fn admit(&self, urgency: Urgency) -> Admitted {
        self.admit_telling(urgency, |_| ()).await
    }

    /// Waits for one's turn. May be dropped at any time; the turn then goes to the next one. `tell` is called
    /// with the uptime until which the provider has asked to wait, each time that this call is the one
    /// that everybody else waits behind. What it gives is kept during the wait.
    pub(super) async fn admit_telling<T>(
        &self,
        urgency: Urgency,
        tell: impl Fn(Duration) -> T,
    ) -> Admitted {
        let _only_look = match urgency {
            Urgency::Look => Some(self.shared.looks.lock().await),
            Urgency::Change => None,
            Urgency::Background => return self.admit_when_idle().await,
        };
        let _head_of_the_line = self.shared.line.lock().await;
        loop {
            match self.step() {
                Step::Go(admitted) => return admitted,
                Step::Sleep(span) => {
                    let _told = tell(self.closed_until());
                    self.clock.sleep(span).await;
                }
                Step::AwaitPlace => self.shared.freed.notified().await,
            }
        }
    }

    /// Waits until nothing else stands in the line and a call can be sent at once. It never stands in the line
    /// itself, and takes no place in it: what is sent while it hangs does not wait for it.
    async fn admit_when_idle(&self) -> Admitted {
        loop {
            // Those who wait for a lock have it before those who try.
            if let (Ok(_), Ok(_)) = (self.shared.looks.try_lock(), self.shared.line.try_lock())
                && let Some(admitted) = self.beside_the_line()
            {
                return admitted;
            }
            self.clock.sleep(LOOK_FOR_IDLE_EVERY).await;
        }
    }

    /// The place for one call in the background, if a call could be sent now. After a back-off, other calls try
    /// first.
    fn beside_the_line(&self) -> Option<Admitted> {
        let now = self.clock.now().uptime;
        let mut gate = self.shared.gate();
        let is_open = gate.throttle.closed_until().max(gate.next_start) <= now;
        let has_place = gate.under_way < gate.max_in_flight && !gate.is_background;
        if !is_open || !has_place || gate.throttle.is_careful() {
            return None;
        }
        gate.is_background = true;
        gate.next_start = now.saturating_add(gate.pace);
        let shared = Arc::clone(&self.shared);
        Some(Admitted { shared, is_probe: false, is_background: true })
    }

    fn step(&self) -> Step {
        let now = self.clock.now().uptime;
        let mut gate = self.shared.gate();
        let opens_at = gate.throttle.closed_until().max(gate.next_start);
        let is_probe = gate.throttle.is_careful();
        if opens_at > now {
            return Step::Sleep(opens_at.saturating_sub(now));
        }
        if gate.under_way >= gate.max_in_flight || (is_probe && gate.is_probing) {
            return Step::AwaitPlace;
        }
        gate.under_way += 1;
        gate.is_probing |= is_probe;
        gate.next_start = now.saturating_add(gate.pace);
        let shared = Arc::clone(&self.shared);
        Step::Go(Admitted { shared, is_probe, is_background: false })
    }

    /// A call was throttled. See [`Throttle::throttled`].
    pub(super) fn throttled(
        &self,
        caller: Caller,
        asked: Option<Duration>,
        guess: Duration,
    ) -> News {
        let now = self.clock.now().uptime;
        self.shared.gate().throttle.throttled(caller, asked, guess, now)
    }

    /// Until when the whole account waits, in uptime.
    pub(super) fn closed_until(&self) -> Duration {
        self.shared.gate().throttle.closed_until()
    }

    /// Who has to wait now. See [`Throttle::waits`].
    pub(super) fn waits(&self) -> Waits {
        self.shared.gate().throttle.waits(self.clock.now().uptime)
    }

    /// Until when this caller has to wait by itself. See [`Throttle::held_until`].
    pub(super) fn held_until(&self, caller: Caller) -> Option<Duration> {
        self.shared.gate().throttle.held_until(caller, self.clock.now().uptime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Operation;

    const ACCOUNT: Caller = Caller { operation: Operation::List, server: None, tick: None };

    fn seconds(span: u64) -> Duration {
        Duration::from_secs(span)
    }

    fn admission(max_in_flight: usize, requests_per_minute: u32) -> (Clock, Arc<Admission>) {
        let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
        let places = NonZeroUsize::new(max_in_flight).unwrap();
        let admission = Admission::new(clock.clone(), places, requests_per_minute);
        (clock, Arc::new(admission))
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_goes_before_the_looks_that_came_first() {
        let (_, admission) = admission(1, 0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = admission.admit(Urgency::Look).await;
        let mut tasks = Vec::new();
        let names = ["look 1", "look 2", "look 3", "change"];
        for name in names {
            let urgency = if name == "change" { Urgency::Change } else { Urgency::Look };
            let (admission, order) = (Arc::clone(&admission), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let _place = admission.admit(urgency).await;
                order.lock().unwrap().push(name);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        // One look stood in the line already; the others wait behind the change.
        assert_eq!(*order.lock().unwrap(), ["look 1", "change", "look 2", "look 3"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_the_background_waits_until_nothing_else_waits() {
        let (clock, admission) = admission(1, 0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = admission.admit(Urgency::Look).await;
        let mut tasks = Vec::new();
        for (name, urgency) in [
            ("background", Urgency::Background),
            ("look 1", Urgency::Look),
            ("look 2", Urgency::Look),
            ("change", Urgency::Change),
        ] {
            let (admission, order) = (Arc::clone(&admission), Arc::clone(&order));
            let clock = clock.clone();
            tasks.push(tokio::spawn(async move {
                let _place = admission.admit(urgency).await;
                order.lock().unwrap().push(name);
                clock.sleep(seconds(90)).await;
            }));
            tokio::task::yield_now().await;
        }
        clock.sleep(seconds(5)).await;
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["look 1", "change", "look 2", "background"]);
    }

    /// S9: with one place, a list of servers that hangs would hold every rotation up.
    #[tokio::test(start_paused = true)]
    async fn what_is_in_the_background_holds_nothing_up_however_long_it_takes() {
        let (clock, admission) = admission(1, 0);
        let begun = clock.now().uptime;
        let hangs = admission.admit(Urgency::Background).await;
        let second = clock.timeout(seconds(5), admission.admit(Urgency::Background)).await;
        assert!(second.is_none(), "a second one");
        let before = clock.now().uptime;
        let look = admission.admit(Urgency::Look).await;
        let beside = clock.timeout(seconds(5), admission.admit(Urgency::Change)).await;
        assert!(beside.is_none(), "the limit holds for the others");
        drop(look);
        let change = admission.admit(Urgency::Change).await;
        assert_eq!(clock.now().uptime - before, seconds(5), "only the one that waited for a place");
        drop((change, hangs));
        drop(admission.admit(Urgency::Background).await);
        assert!(clock.now().uptime - begun < seconds(20));
        // Not the call that tries whether the account is open again: that would hold others up, too.
        admission.throttled(ACCOUNT, Some(seconds(86_400)), seconds(2));
        clock.sleep(seconds(3)).await;
        let tries = clock.timeout(seconds(30), admission.admit(Urgency::Background)).await;
        assert!(tries.is_none());
        admission.admit(Urgency::Look).await.was_not_throttled();
        drop(admission.admit(Urgency::Background).await);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_ceiling_start_in_a_minute() {
        let (clock, admission) = admission(8, 6);
        let begun = clock.now().uptime;
        for _ in 0..7 {
            drop(admission.admit(Urgency::Look).await);
        }
        assert_eq!(clock.now().uptime - begun, Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_holds_everyone_and_never_opens_early() {
        let (clock, admission) = admission(8, 0);
        admission.throttled(ACCOUNT, Some(seconds(30)), seconds(1));
        admission.throttled(ACCOUNT, Some(seconds(5)), seconds(1));
        let begun = clock.now().uptime;
        let (one, two) =
            tokio::join!(admission.admit(Urgency::Look), admission.admit(Urgency::Change));
        drop((one, two));
        assert_eq!(clock.now().uptime - begun, Duration::from_secs(30));
    }

    /// A reload that changes `[api]`: rotations that go on with the old client and those that begin with
    /// the new one keep the new limit together.
    #[tokio::test(start_paused = true)]
    async fn clients_of_one_account_have_one_limit_and_a_changed_one_is_for_all() {
        let (clock, old) = admission(2, 0);
        let one = old.admit(Urgency::Look).await;
        let two = old.admit(Urgency::Look).await;
        let limit = NonZeroUsize::new(3).unwrap();
        let new = Admission::new(clock.clone(), limit, 0).beside(&old);
        let three = new.admit(Urgency::Look).await;
        for admission in [&*old, &new] {
            let waits = clock.timeout(seconds(5), admission.admit(Urgency::Change)).await;
            assert!(waits.is_none(), "a fourth one");
        }
        let newer = Admission::new(clock.clone(), NonZeroUsize::MIN, 0).beside(&new);
        drop((one, two));
        let waits = clock.timeout(seconds(5), old.admit(Urgency::Change)).await;
        assert!(waits.is_none(), "a second one, though there is one place by now");
        drop(three);
        let only = clock.timeout(seconds(5), old.admit(Urgency::Change)).await;
        assert!(only.is_some());
        assert!(clock.timeout(seconds(5), newer.admit(Urgency::Change)).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_wait_of_hours_for_one_server_calls_go_out_alone_until_one_passes() {
        let (clock, admission) = admission(8, 0);
        admission.throttled(ACCOUNT, Some(seconds(86_400)), seconds(2));
        let begun = clock.now().uptime;
        let probe = admission.admit(Urgency::Look).await;
        assert_eq!(clock.now().uptime - begun, seconds(2));
        let second = clock.timeout(seconds(5), admission.admit(Urgency::Change)).await;
        assert!(second.is_none(), "while the first one is not answered");
        // It ended without an answer, which says nothing.
        drop(probe);
        let probe = admission.admit(Urgency::Look).await;
        probe.was_not_throttled();
        let all = clock.timeout(seconds(5), admission.admit(Urgency::Change)).await;
        assert!(all.is_some());
    }
}
