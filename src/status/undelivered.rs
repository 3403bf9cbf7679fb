//! Which webhooks did not accept their last notices, from the first failed attempt on. That ends with the next notice
//! that one accepts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::moment::shown;

/// The notices that one webhook did not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undelivered {
    /// The webhook's host. The rest of its address is a secret.
    pub to: String,
    /// When the first of them was to be sent.
    pub since: Timestamp,
    /// How many it did not accept since then.
    pub notices: u64,
    /// What the service answered last, or why there was no answer.
    pub answer: Option<String>,
    /// Until when the last of them is retried; `None`: they were given up.
    #[serde(default)]
    pub retried_until: Option<Timestamp>,
}

impl Undelivered {
    /// For a person.
    #[must_use]
    pub fn words(&self, zone: &TimeZone) -> String {
        let answer = self.answer.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        let next = match self.retried_until {
            Some(until) => format!("retrying until {}", shown(until, zone)),
            None => "`snapring notify-test` shows whether it accepts them now".to_owned(),
        };
        format!(
            "notices to {} have not been delivered since {}{answer}; {next}",
            self.to,
            shown(self.since, zone)
        )
    }
}

/// The webhooks of the configuration in force. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Webhooks(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    added: u64,
    webhooks: BTreeMap<u64, Webhook>,
}

#[derive(Debug)]
struct Webhook {
    to: String,
    given_up: u64,
    undelivered: Option<Undelivered>,
}

impl Webhook {
    fn new(to: String) -> Self {
        Self { to, given_up: 0, undelivered: None }
    }
}

/// Notices that it did not accept when last tried.
#[derive(Debug, Clone)]
pub struct Refused {
    /// How many.
    pub notices: u64,
    /// When they were to be sent.
    pub at: Timestamp,
    /// What the service answered, or why there was no answer.
    pub answer: Option<String>,
}

/// One of them. Clones are the same one.
#[derive(Debug, Clone)]
pub struct DeliveryState {
    all: Webhooks,
    number: u64,
}

impl Webhooks {
    /// Adds one that has got all its notices.
    #[must_use]
    pub fn add(&self, to: String) -> DeliveryState {
        let mut all = self.lock();
        all.added += 1;
        let number = all.added;
        all.webhooks.insert(number, Webhook::new(to));
        DeliveryState { all: self.clone(), number }
    }

    /// Those that did not get their last notices.
    #[must_use]
    pub fn undelivered(&self) -> Vec<Undelivered> {
        self.lock().webhooks.values().filter_map(|it| it.undelivered.clone()).collect()
    }

    /// How many notices each host did not get. Of several webhooks on one host, all together.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for Webhook { to, undelivered, .. } in self.lock().webhooks.values() {
            let count: &mut u64 = counts.entry(to.clone()).or_default();
            *count = count.saturating_add(undelivered.as_ref().map_or(0, |it| it.notices));
        }
        counts
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeliveryState {
    /// It has accepted a notice.
    pub fn accepted(&self) {
        self.change(|it| *it = Webhook::new(std::mem::take(&mut it.to)));
    }

    /// Whether notices that it did not accept are retried.
    #[must_use]
    pub fn is_retrying(&self) -> bool {
        let all = self.all.lock();
        let undelivered = all.webhooks.get(&self.number).and_then(|it| it.undelivered.as_ref());
        undelivered.is_some_and(|it| it.retried_until.is_some())
    }

    /// These are retried until then.
    pub fn retries(&self, refused: Refused, until: Timestamp) {
        self.refused(refused, Some(until));
    }

    /// These were given up.
    pub fn gave_up(&self, refused: Refused) {
        self.refused(refused, None);
    }

    fn refused(&self, Refused { notices, at, answer }: Refused, retried_until: Option<Timestamp>) {
        self.change(|it| {
            let since = it.undelivered.as_ref().map_or(at, |known| known.since);
            let notices = notices.saturating_add(it.given_up);
            if retried_until.is_none() {
                it.given_up = notices;
            }
            let to = it.to.clone();
            it.undelivered = Some(Undelivered { to, since, notices, answer, retried_until });
        });
    }

    /// It has another address, which has refused nothing so far. What is owed is sent there.
    pub fn moves(&self, to: String) {
        self.change(|it| *it = Webhook::new(to));
    }

    /// It is not in the configuration any more.
    pub fn ends(&self) {
        self.all.lock().webhooks.remove(&self.number);
    }

    fn change(&self, change: impl FnOnce(&mut Webhook)) {
        if let Some(webhook) = self.all.lock().webhooks.get_mut(&self.number) {
            change(webhook);
        }
    }
}
