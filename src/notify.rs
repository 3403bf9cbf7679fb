//! Notices: who fails is told to the services that `[[notify]]` names, once a change.
//!
//! [`transitions`] decides which reports are news, [`message`] puts into words what goes out together,
//! [`format`](mod@format) gives it the form that a service takes, and `delivery`, one task per target,
//! carries it through [`http`]. A rotation only puts its news into a bounded queue: it waits for
//! nobody.

pub(crate) mod delivery;
pub(crate) mod format;
pub mod http;
pub(crate) mod instance;
pub(crate) mod message;
mod reminders;
pub(crate) mod transitions;
pub(crate) mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::health::Trouble;
use crate::naming::ServerId;
use crate::notify::delivery::Delivery;
use crate::notify::format::Format;
use crate::notify::http::Post;
use crate::notify::instance::Instance;
use crate::notify::reminders::Reminders;
use crate::notify::transitions::{Notice, NoticeKind, NoticeSubject, States};
use crate::notify::webhook::Webhook;
use crate::report::{LastOfServer, Report};
use crate::server::Server;
use crate::status::counts::Counts;

/// `[[notify]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySettings {
    /// Where to. A secret, but for its host.
    pub url: Webhook,
    /// Of what; at least one.
    pub on: Vec<NoticeKind>,
    /// In which form.
    pub format: Format,
    /// How often it is reminded of trouble that goes on; zero: never.
    pub remind: Duration,
    /// How notices call this machine; `None`: as the kernel does.
    pub instance: Option<String>,
}

/// How often a target is reminded, unless it says otherwise.
pub(crate) const REMIND: Duration = Duration::from_secs(24 * 3600);

/// How many notices may wait for one target while it takes none.
const QUEUE: usize = 4096;

/// How often it is looked whether a reminder is due.
const REMIND_LOOK_EVERY: Duration = Duration::from_secs(10);

/// How long what is queued may take when snapring ends.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Tells the targets of the configuration in force.
pub(crate) struct Notices {
    inner: Mutex<Inner>,
    clock: Clock,
    post: Arc<dyn Post>,
    counts: Counts,
    deliveries: TaskTracker,
    stop: CancellationToken,
}

struct Inner {
    states: States,
    targets: Vec<Target>,
}

impl Inner {
    fn tell(&self, notice: &Notice) {
        for target in &self.targets {
            target.tell(notice);
        }
    }
}

struct Target {
    settings: NotifySettings,
    queue: mpsc::Sender<Notice>,
    lost: Arc<AtomicU64>,
    untold: Untold,
    reminders: Reminders,
}

/// Of whose failure a target could not be told; `None` stands for the account. Clones share it.
#[derive(Debug, Clone, Default)]
struct Untold(Arc<Mutex<BTreeSet<Option<ServerId>>>>);

impl Untold {
    fn add(&self, notice: &Notice) {
        self.subjects().insert(notice.subject.server());
    }

    /// Whether it was there.
    fn remove(&self, notice: &Notice) -> bool {
        self.subjects().remove(&notice.subject.server())
    }

    fn subjects(&self) -> MutexGuard<'_, BTreeSet<Option<ServerId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notices {
    /// Begins to tell the configured targets; for `last_known` see [`States::new`].
    #[must_use]
    pub(crate) fn start(
        targets: &[NotifySettings],
        servers: &[Arc<Server>],
        last_known: impl IntoIterator<Item = LastOfServer>,
        clock: Clock,
        post: Arc<dyn Post>,
        counts: Counts,
    ) -> Self {
        let states = States::new(watched(servers), last_known);
        let notices = Self {
            inner: Mutex::new(Inner { states, targets: Vec::new() }),
            clock,
            post,
            counts,
            deliveries: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        notices.reload(targets, servers);
        notices.expect_reminders();
        notices
    }

    /// What failed before this process began was told by an earlier one.
    fn expect_reminders(&self) {
        let (inner, now) = (self.inner(), self.clock.now());
        for target in inner.targets.iter().filter(|it| it.is_reminded()) {
            for (of, since) in inner.states.ongoing() {
                target.reminders.told_before(of, since, target.settings.remind, now);
            }
        }
    }

    /// Reminds each target of what it was told of and what goes on, where it is time to. Never waits.
    pub(crate) fn remind(&self) {
        let (inner, now) = (self.inner(), self.clock.now());
        for target in inner.targets.iter().filter(|it| it.is_reminded()) {
            for of in target.reminders.take_due(target.settings.remind, now.uptime) {
                match inner.states.reminder(of, now.wall) {
                    Some(reminder) => target.queue(reminder),
                    None => target.reminders.over(of),
                }
            }
        }
    }

    /// Reminds targets for as long as it is polled. By the clock, not by reports: a server that waits, or has
    /// no ticks any more, sends none.
    pub(crate) async fn keep_reminding(&self) -> Infallible {
        loop {
            self.clock.sleep(REMIND_LOOK_EVERY).await;
            self.remind();
        }
    }

    /// A rotation has ended, at this time. Never waits.
    pub(crate) fn on_report(&self, report: &Report, ended: Timestamp) {
        let mut inner = self.inner();
        for notice in inner.states.take(report, ended) {
            inner.tell(&notice);
        }
    }

    /// A server's last success is too old, as seen at `now`. Gives whether that is news. Never waits.
    pub(crate) fn on_stale(&self, server: &Server, trouble: &Trouble, now: Timestamp) -> bool {
        let mut inner = self.inner();
        let notice = inner.states.take_stale(server, trouble, now);
        notice.inspect(|notice| inner.tell(notice)).is_some_and(|notice| !notice.goes_on)
    }

    /// Puts another configuration in force. A target that stays keeps its queue; one that goes is
    /// still told what was in it.
    pub(crate) fn reload(&self, targets: &[NotifySettings], servers: &[Arc<Server>]) {
        let mut inner = self.inner();
        inner.states.configure(watched(servers));
        let mut before = std::mem::take(&mut inner.targets);
        for settings in targets {
            let same = |it: &Target| {
                it.settings.url == settings.url
                    && it.settings.format == settings.format
                    && it.settings.instance == settings.instance
            };
            let target = match before.iter().position(same) {
                Some(at) => Target { settings: settings.clone(), ..before.swap_remove(at) },
                None => self.target(settings),
            };
            inner.targets.push(target);
        }
    }

    /// Reminds of what failed before and after a single run, if a reminder fell due since the run before it.
    /// `before`: when each subject was last looked at; nobody is reminded of one that this run did not look at.
    pub(crate) fn remind_since(&self, before: &BTreeMap<Option<ServerId>, Timestamp>) {
        let (inner, now) = (self.inner(), self.clock.now().wall);
        for (of, since) in inner.states.ongoing() {
            let (Some(since), Some(before)) = (since, before.get(&of)) else { continue };
            let Some(reminder) = inner.states.reminder(of, now) else { continue };
            for target in inner.targets.iter().filter(|it| it.is_reminded()) {
                if reminders::fell_due(target.settings.remind, since, *before, now) {
                    target.queue(reminder.clone());
                }
            }
        }
    }

    /// Lets what is queued go out, for at most [`GRACE`]; tells the log what did not. Nothing is
    /// told after this.
    pub(crate) async fn end(&self) {
        self.inner().targets.clear();
        self.deliveries.close();
        if self.clock.timeout(GRACE, self.deliveries.wait()).await.is_none() {
            self.stop.cancel();
            self.deliveries.wait().await;
        }
    }

    fn target(&self, settings: &NotifySettings) -> Target {
        let (sender, queue) = mpsc::channel(QUEUE);
        let lost = Arc::<AtomicU64>::default();
        let (untold, reminders) = (Untold::default(), Reminders::default());
        let delivery = Delivery {
            to: settings.url.clone(),
            format: settings.format,
            instance: Instance::of(settings.instance.as_deref()),
            post: Arc::clone(&self.post),
            clock: self.clock.clone(),
            counts: self.counts.clone(),
            queue,
            lost: Arc::clone(&lost),
            untold: untold.clone(),
            reminders: reminders.clone(),
            stop: self.stop.clone(),
        };
        self.deliveries.spawn(delivery.run());
        Target { settings: settings.clone(), queue: sender, lost, untold, reminders }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disabled server rotates nothing and fails at nothing.
fn watched(servers: &[Arc<Server>]) -> impl Iterator<Item = ServerId> {
    servers.iter().filter(|server| server.enabled).map(|server| server.id)
}

impl Target {
    /// Whether it wants to be reminded.
    fn is_reminded(&self) -> bool {
        !self.settings.remind.is_zero() && self.settings.on.contains(&NoticeKind::Failure)
    }

    fn tell(&self, notice: &Notice) {
        if matches!(notice.event, NoticeKind::Recovery | NoticeKind::Success) {
            self.reminders.over(notice.subject.server());
        }
        let Some(notice) = wanted(&self.settings, notice) else { return };
        if notice.goes_on && !self.untold.remove(&notice) {
            return;
        }
        self.queue(notice);
    }

    fn queue(&self, notice: Notice) {
        match self.queue.try_send(notice) {
            Ok(()) => {}
            // Reported by the delivery task, once it is free.
            Err(TrySendError::Full(notice)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                if notice.event == NoticeKind::Failure {
                    self.untold.add(&notice);
                }
            }
            Err(TrySendError::Closed(notice)) => {
                let to = &self.settings.url;
                let notice = notice.event.as_str();
                tracing::error!(
                    event = "notice",
                    to = %to,
                    notice,
                    "a fault in snapring ended what carries notices to {to}"
                );
            }
        }
    }
}

/// The news as the target asked for them. Who asked for successes and not for recoveries is told of
/// one as of any other good rotation.
fn wanted(settings: &NotifySettings, notice: &Notice) -> Option<Notice> {
    if settings.on.contains(&notice.event) {
        return Some(notice.clone());
    }
    let as_success = notice.event == NoticeKind::Recovery
        && notice.subject != NoticeSubject::Account
        && settings.on.contains(&NoticeKind::Success);
    as_success.then(|| Notice { event: NoticeKind::Success, trouble: None, ..notice.clone() })
}

#[cfg(test)]
mod tests;
