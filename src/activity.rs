//! What is under way and takes time, for the person who runs a command.
//!
//! Code that waits, or works for long, says so and keeps what it gets until it is done:
//!
//! ```ignore
//! let _waits = client.activities().begin(Some(server), Activity::Other("running the hook".to_owned()));
//! ```
//!
//! Calls to the provider are on the list by themselves: no client of a command can be made without one
//! (`provider::connect`). `cli::progress` shows the list. The daemon's list is not shown, and stays empty.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::naming::ServerId;

/// The server that something is about, with its name in the configuration.
pub type Subject = (ServerId, String);

/// Something that takes time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// A request is under way. Attempts are counted from 1.
    Call {
        /// Which attempt it is.
        attempt: u32,
        /// How many there are at most.
        attempts: u32,
    },
    /// A call has failed and is tried again.
    Retry {
        /// Which attempt comes next.
        attempt: u32,
        /// How many there are at most.
        attempts: u32,
        /// When.
        at: Timestamp,
        /// How the last one failed.
        why: String,
    },
    /// A call waits for others before it.
    Queue,
    /// A call waits because the provider asked for it (429).
    Throttled {
        /// Until then.
        until: Timestamp,
    },
    /// The provider is creating a snapshot.
    Snapshot,
    /// A step of a rotation, which consists of calls and waits.
    Step(String),
    /// A long computation.
    Percent {
        /// What is computed.
        what: String,
        /// How much of it is done.
        done: u8,
    },
    /// Anything else, in words.
    Other(String),
}

/// One thing that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// `None`: it is about the whole account, or about this machine.
    pub server: Option<Subject>,
    /// What it is.
    pub activity: Activity,
    /// For how long.
    pub passed: Duration,
}

/// The list of what is under way. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Activities(Option<Arc<Watched>>);

#[derive(Debug)]
struct Watched {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    entries: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    server: Option<Subject>,
    activity: Activity,
    since: Duration,
}

/// Keeps something on the list until it is dropped.
#[derive(Debug, Default)]
#[must_use]
pub struct Begun(Option<(Arc<Watched>, u64)>);

impl Activities {
    /// A list that is shown. The default list is not, and stays empty.
    #[must_use]
    pub fn watched(clock: Clock) -> Self {
        Self(Some(Arc::new(Watched { clock, state: Mutex::default() })))
    }

    /// Whether it is shown.
    #[must_use]
    pub fn are_watched(&self) -> bool {
        self.0.is_some()
    }

    /// Something begins. What begins within something else about the same server is a part of it.
    pub fn begin(&self, server: Option<&Subject>, activity: Activity) -> Begun {
        let Some(watched) = &self.0 else { return Begun::default() };
        let since = watched.clock.now().uptime;
        let mut state = watched.state();
        state.begun += 1;
        let number = state.begun;
        state.entries.insert(number, Entry { server: server.cloned(), activity, since });
        Begun(Some((Arc::clone(watched), number)))
    }

    /// All that is under way, in the order in which it began.
    #[must_use]
    pub fn under_way(&self) -> Vec<UnderWay> {
        let Some(watched) = &self.0 else { return Vec::new() };
        let now = watched.clock.now().uptime;
        let under_way = |entry: &Entry| UnderWay {
            server: entry.server.clone(),
            activity: entry.activity.clone(),
            passed: now.saturating_sub(entry.since),
        };
        watched.state().entries.values().map(under_way).collect()
    }
}

impl Begun {
    /// It has come further.
    pub fn becomes(&self, activity: Activity) {
        let Some((watched, number)) = &self.0 else { return };
        if let Some(entry) = watched.state().entries.get_mut(number) {
            entry.activity = activity;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some((watched, number)) = &self.0 {
            watched.state().entries.remove(number);
        }
    }
}

impl Watched {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_begun_is_listed_with_its_age_until_it_is_dropped() {
        let clock = clock();
        let activities = Activities::watched(clock.clone());
        let web = (ServerId::new(101), "web".to_owned());
        let snapshot = activities.begin(Some(&web), Activity::Snapshot);
        clock.sleep(Duration::from_secs(60)).await;
        let call = activities.begin(Some(&web), Activity::Call { attempt: 1, attempts: 5 });
        clock.sleep(Duration::from_secs(2)).await;
        call.becomes(Activity::Call { attempt: 2, attempts: 5 });
        let seen = activities.under_way();
        let ages: Vec<u64> = seen.iter().map(|it| it.passed.as_secs()).collect();
        assert_eq!(ages, [62, 2]);
        assert_eq!(seen[1].activity, Activity::Call { attempt: 2, attempts: 5 });
        drop(snapshot);
        assert_eq!(activities.under_way().len(), 1);
        drop(call);
        assert_eq!(activities.under_way(), []);
    }

    #[test]
    fn a_list_that_nobody_watches_stays_empty() {
        let activities = Activities::default();
        let begun = activities.begin(None, Activity::Queue);
        begun.becomes(Activity::Other("more".to_owned()));
        assert_eq!(activities.under_way(), []);
    }
}
