//! Requests that reach the provider late.
//!
//! The kernel goes on delivering what a process has written, even when the process has given up or
//! was killed. So a stray outlives the client that sent it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::sandbox::provider::{Provider, Question, Reply, RequestFate};

/// Tells strays apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StrayId(pub(super) u64);

/// `None` inside: the connection closes without an answer.
type Answer = Arc<OnceLock<Option<Reply>>>;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Stray {
    pub(super) question: Question,
    pub(super) fate: RequestFate,
    pub(super) sent_at: Timestamp,
    answer: Answer,
}

impl Stray {
    /// Answers the client, if it still waits.
    pub(super) fn deliver(self, reply: Option<Reply>) {
        // Nothing else sets it.
        let _ = self.answer.set(reply);
    }
}

/// All of them, in the order in which they arrive.
#[derive(Debug, Default)]
pub(super) struct Strays(BTreeMap<(Timestamp, StrayId), Stray>);

impl Strays {
    pub(super) fn add(
        &mut self,
        id: StrayId,
        question: Question,
        fate: RequestFate,
        sent_at: Timestamp,
        due: Timestamp,
    ) -> Delivery {
        let answer = Answer::default();
        let delivery = Delivery { id, due, answer: Arc::clone(&answer) };
        self.0.insert((due, id), Stray { question, fate, sent_at, answer });
        delivery
    }

    /// The first one that is due by `now`.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, Stray)> {
        let first = self.0.first_entry().filter(|first| first.key().0 <= now)?;
        let ((due, _), stray) = first.remove_entry();
        Some((due, stray))
    }

    pub(super) fn limit(&mut self, only: Option<StrayId>, until: Timestamp) {
        let is_meant = |id: StrayId| only.is_none_or(|only| only == id);
        self.0.retain(|(due, id), _| *due <= until || !is_meant(*id));
    }
}

/// What the client has of its stray.
#[derive(Debug)]
pub struct Delivery {
    /// Which one.
    pub id: StrayId,
    due: Timestamp,
    answer: Answer,
}

impl Delivery {
    /// Waits until the request has reached the provider, and gives its answer (`None`: the connection
    /// closes without one). Never ends if the request was lost.
    pub async fn reply(self, provider: &Mutex<Provider>, clock: &Clock) -> Option<Reply> {
        loop {
            let now = clock.now().wall;
            provider.lock().unwrap_or_else(PoisonError::into_inner).let_time_pass(now);
            if let Some(reply) = self.answer.get() {
                return reply.clone();
            }
            match Duration::try_from(self.due.duration_since(now)) {
                // The wall clock may have been set back meanwhile, so look again afterwards.
                Ok(wait) if !wait.is_zero() => clock.sleep(wait).await,
                _ => return std::future::pending().await,
            }
        }
    }
}

/// `span` after `now`.
pub(super) fn later(now: Timestamp, span: Duration) -> Timestamp {
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, ToSpan};
    use secrecy::SecretString;

    use super::*;
    use crate::call::Operation;
    use crate::naming::ServerId;
    use crate::provider::transport::{Method, Request, Transport, TransportError};
    use crate::sandbox::in_memory::InMemory;
    use crate::sandbox::provider::Options;

    const SERVER: ServerId = ServerId::new(101);

    fn noon() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    /// A provider with these faults, and a client with a timeout of 30 s.
    fn memory(faults: &[&str]) -> (InMemory, Clock) {
        let mut provider =
            Provider::new(Options::new(1, SecretString::from("vps_test".to_owned()), 1));
        for fault in faults {
            provider.add_fault(fault.parse().unwrap());
        }
        let clock = Clock::simulated(noon());
        (InMemory::new(provider, clock.clone(), Duration::from_secs(30)), clock)
    }

    fn create(name: &str) -> Request {
        let body = serde_json::json!({ "server_id": SERVER, "name": name }).to_string();
        Request {
            method: Method::Post,
            path: "snapshots/".to_owned(),
            body: Some(body.into_bytes()),
            token: SecretString::from("vps_test".to_owned()),
        }
    }

    /// What arrived within ten minutes: after how many seconds, and when that was sent.
    fn arrived(memory: &InMemory) -> Vec<(i64, Option<i64>)> {
        let mut provider = memory.provider.lock().unwrap();
        provider.let_time_pass(noon() + 10.minutes());
        let since = |at: Timestamp| at.duration_since(noon()).as_secs();
        provider.acts().iter().map(|act| (since(act.at), act.stray_since.map(since))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_still_waits_gets_the_answer() {
        let (memory, clock) = memory(&["create:stray=25s"]);
        let answer = memory.exchange(create("a")).await.unwrap();
        assert_eq!(answer.status, 201);
        assert_eq!(clock.now().wall, noon() + SignedDuration::from_secs(25));
        assert_eq!(arrived(&memory), [(25, Some(0))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stray_arrives_at_its_time_though_the_client_has_given_up() {
        let (memory, clock) = memory(&["create:stray=58s"]);
        let answer = memory.exchange(create("a")).await;
        assert!(matches!(answer, Err(TransportError::Timeout(_))), "{answer:?}");
        let now = clock.now().wall;
        assert_eq!(now, noon() + SignedDuration::from_secs(30));
        assert_eq!(memory.provider.lock().unwrap().snapshots(SERVER, now).len(), 0);
        assert_eq!(arrived(&memory), [(58, Some(0))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stray_is_lost_that_would_arrive_too_long_after_the_client_gave_up() {
        let (memory, _) = memory(&["create:stray=61s"]);
        memory.exchange(create("a")).await.unwrap_err();
        assert_eq!(arrived(&memory), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_dropped_has_given_up_too() {
        let (memory, clock) = memory(&["create:stray=34s,times=1", "create:stray=36s"]);
        for name in ["in-time", "too-late"] {
            let waiting = memory.exchange(create(name));
            assert!(clock.timeout(Duration::from_secs(5), waiting).await.is_none());
        }
        assert_eq!(arrived(&memory), [(34, Some(0))]);
    }

    #[tokio::test(start_paused = true)]
    async fn strays_arrive_in_order_and_are_answered_as_of_then() {
        let (memory, _) = memory(&["create:stray=20s,times=1", "create:stray=10s,times=1"]);
        memory.provider.lock().unwrap().options_mut().cap = 1;
        let [slow, fast, one_more] = ["slow", "fast", "one-more"].map(create);
        let (slow, fast) = tokio::join!(memory.exchange(slow), memory.exchange(fast));
        assert_eq!((slow.unwrap().status, fast.unwrap().status), (400, 201));
        assert_eq!(memory.exchange(one_more).await.unwrap().status, 400);
        assert_eq!(arrived(&memory), [(10, Some(0))]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_dead_process_sent_is_limited_as_a_whole() {
        let (memory, _) = memory(&[]);
        for seconds in [31, 30, 0] {
            memory.send_and_die(create("a"), Duration::from_secs(seconds));
        }
        let until = noon() + SignedDuration::from_secs(30);
        memory.provider.lock().unwrap().limit_strays(None, until);
        assert_eq!(arrived(&memory), [(0, Some(0)), (30, Some(0))]);
        let provider = memory.provider.lock().unwrap();
        assert_eq!(provider.count(Operation::Create), 3);
        let acted = provider.calls().iter().map(|call| call.acted);
        assert_eq!(acted.collect::<Vec<_>>(), [false, true, true]);
    }
}
