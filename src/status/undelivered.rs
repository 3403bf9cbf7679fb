//! Which webhooks did not accept their last notices. That ends with the next notice that one accepts.

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
    /// How many were given up since then.
    pub notices: u64,
    /// What the service answered last, or why there was no answer.
    pub answer: Option<String>,
}

impl Undelivered {
    /// For a person.
    #[must_use]
    pub fn words(&self, zone: &TimeZone) -> String {
        let answer = self.answer.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        format!(
            "notices to {} have not been delivered since {}{answer}; `snapring notify-test` shows whether it \
             accepts them now",
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
    undelivered: Option<Undelivered>,
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
        all.webhooks.insert(number, Webhook { to, undelivered: None });
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
        for Webhook { to, undelivered } in self.lock().webhooks.values() {
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
        self.change(|it| it.undelivered = None);
    }

    /// These notices, to be sent at that time, were given up.
    pub fn gave_up(&self, notices: u64, at: Timestamp, answer: Option<String>) {
        self.change(|it| {
            let (since, before) =
                it.undelivered.as_ref().map_or((at, 0), |known| (known.since, known.notices));
            let notices = notices.saturating_add(before);
            it.undelivered = Some(Undelivered { to: it.to.clone(), since, notices, answer });
        });
    }

    /// It has another address, which has refused nothing so far. What is owed is sent there.
    pub fn moves(&self, to: String) {
        self.change(|it| *it = Webhook { to, undelivered: None });
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
