//! Who may send a request, and when: so many under way at once, so many a minute, and nobody while
//! the provider has asked the account to wait.
//!
//! A create or a delete rests on a listing that grows old, so it goes before listings: of those,
//! only one at a time stands in the line. A changing call then waits for at most one listing
//! beside the changing calls before it, however many servers are due.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock::Clock;

/// What a request is for, as far as the line is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It changes something on the strength of a listing.
    Change,
    /// It only looks.
    Look,
}

/// The line that every request of an account goes through. Clones are the same line.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    clock: Clock,
    /// One look at a time may stand in the line.
    looks: Arc<tokio::sync::Mutex<()>>,
    /// The line itself: its head waits for the gate, the pace and a free place.
    line: Arc<tokio::sync::Mutex<()>>,
    under_way: Arc<Semaphore>,
    /// Between the beginnings of two requests; zero: no limit.
    pace: Duration,
    gate: Arc<Mutex<Gate>>,
}

/// In the clock's uptime.
#[derive(Debug, Default)]
struct Gate {
    /// Closed for the whole account until then, since the provider asked for it.
    closed_until: Duration,
    next_start: Duration,
}

/// The right to have one request under way; ends when it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Admitted<'a>(
    #[expect(dead_code, reason = "held for its drop")] SemaphorePermit<'a>,
);

impl Admission {
    /// A line for `max_in_flight` requests at once and `requests_per_minute` (0: no limit).
    #[must_use]
    pub(super) fn new(clock: Clock, max_in_flight: NonZeroUsize, requests_per_minute: u32) -> Self {
        Self {
            clock,
            looks: Arc::default(),
            line: Arc::default(),
            under_way: Semaphore::new(max_in_flight.get().min(Semaphore::MAX_PERMITS)).into(),
            pace: Duration::from_secs(60).checked_div(requests_per_minute).unwrap_or_default(),
            gate: Arc::default(),
        }
    }

    /// The same, for an account that has another line already: what the provider asked one of them to
    /// wait for holds both, and none begins before it may after the other.
    #[must_use]
    pub(super) fn beside(self, other: &Self) -> Self {
        Self { gate: Arc::clone(&other.gate), ..self }
    }

    /// Waits for one's turn. May be dropped at any time; the turn then goes to the next one.
    pub(super) async fn admit(&self, urgency: Urgency) -> Admitted<'_> {
        let _only_look = match urgency {
            Urgency::Look => Some(self.looks.lock().await),
            Urgency::Change => None,
        };
        let _head_of_the_line = self.line.lock().await;
        loop {
            let wait = self.time_to_wait();
            if !wait.is_zero() {
                self.clock.sleep(wait).await;
                continue;
            }
            // The gate may close while a place becomes free; then it is waited for again.
            if let Ok(place) = self.under_way.acquire().await
                && self.start()
            {
                return Admitted(place);
            }
        }
    }

    /// Closes the gate for the whole account for `span` from now, unless it is closed for longer.
    pub(super) fn close_for(&self, span: Duration) {
        let until = self.clock.now().uptime.saturating_add(span);
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.closed_until = gate.closed_until.max(until);
    }

    fn time_to_wait(&self) -> Duration {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.closed_until.max(gate.next_start).saturating_sub(self.clock.now().uptime)
    }

    /// Notes the beginning of a request, if the gate is open.
    fn start(&self) -> bool {
        let now = self.clock.now().uptime;
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let open = gate.closed_until.max(gate.next_start) <= now;
        if open {
            gate.next_start = now.saturating_add(self.pace);
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        admission.close_for(Duration::from_secs(30));
        admission.close_for(Duration::from_secs(5));
        let begun = clock.now().uptime;
        let (one, two) =
            tokio::join!(admission.admit(Urgency::Look), admission.admit(Urgency::Change));
        drop((one, two));
        assert_eq!(clock.now().uptime - begun, Duration::from_secs(30));
    }
}
