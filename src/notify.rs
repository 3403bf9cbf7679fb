//! Notices: who fails is told to the services that `[[notify]]` names, once a change.
//!
//! [`transitions`] decides which reports are news, [`message`] puts into words what goes out together,
//! [`format`](mod@format) gives it the form that a service takes, and `delivery`, one task per target,
//! carries it through [`http`]. A rotation only puts its news into a bounded queue, and never waits.

pub(crate) mod delivery;
pub(crate) mod format;
pub mod http;
pub(crate) mod instance;
pub(crate) mod message;
mod reminders;
pub(crate) mod told;
pub(crate) mod transitions;
pub(crate) mod webhook;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::cover::Cover;
use crate::coverage::CoverProblem;
use crate::health::Trouble;
use crate::naming::{Account, ServerId, Subject};
use crate::notify::delivery::{Delivery, Destination};
use crate::notify::format::Format;
use crate::notify::http::Post;
use crate::notify::reminders::Reminders;
use crate::notify::told::{Record, ToldBook};
use crate::notify::transitions::{Notice, NoticeKind, NoticeSubject, States};
use crate::notify::webhook::Webhook;
use crate::report::{LastOfServer, Report};
use crate::server::Server;
use crate::status::counts::Counts;
use crate::status::undelivered::{DeliveryState, Refused};
use crate::store::place::{Access, Place};
use crate::store::told::TargetKey;

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

/// Who is told, and of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Audience<'a> {
    /// The targets.
    pub targets: &'a [NotifySettings],
    /// All servers. One that is disabled fails at nothing.
    pub servers: &'a [Arc<Server>],
    /// The policies for servers of an account that have no table.
    pub covers: &'a [Cover],
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
    told: ToldBook,
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

#[derive(Clone)]
struct Target {
    settings: NotifySettings,
    destination: watch::Sender<Destination>,
    queue: mpsc::Sender<Notice>,
    lost: Arc<AtomicU64>,
    record: Record,
    delivered: DeliveryState,
    reminders: Reminders,
    /// To be cancelled when it is not in the configuration any more.
    gone: CancellationToken,
}

impl Notices {
    /// Begins to tell the configured targets; for `last_known` see [`States::new`].
    #[must_use]
    pub(crate) fn start(
        audience: Audience<'_>,
        last_known: impl IntoIterator<Item = LastOfServer>,
        told: ToldBook,
        clock: Clock,
        post: Arc<dyn Post>,
        counts: Counts,
    ) -> Self {
        let states = States::new(watched(audience.servers), last_known);
        let notices = Self {
            inner: Mutex::new(Inner { states, targets: Vec::new() }),
            clock,
            post,
            counts,
            told,
            deliveries: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        notices.take_up(audience);
        notices.recall();
        notices
    }

    /// What failed before this process began was told by an earlier one, as far as the store does not say
    /// otherwise.
    fn recall(&self) {
        let (inner, now) = (self.inner(), self.clock.now());
        for target in inner.targets.iter().filter(|it| it.wants(NoticeKind::Failure)) {
            if let Some(known) = &self.told.known {
                target.record.recall(known, inner.states.ongoing(), |of| inner.states.has(of));
                if let Some((notices, at)) = target.record.owed() {
                    target.delivered.gave_up(Refused { notices, at, answer: None });
                }
            }
            for (of, since) in inner.states.ongoing() {
                if target.record.may_know(of) {
                    let is_sure = self.told.known.is_some();
                    target.reminders.told_before(of, since, target.settings.remind, now, is_sure);
                }
            }
        }
    }

    /// Tells each target at once of the failures that it is owed by an earlier process. Never waits.
    pub(crate) fn tell_owed(&self) {
        let (inner, now) = (self.inner(), self.clock.now().wall);
        inner.targets.iter().for_each(|target| target.tell_owed(&inner.states, now));
    }

    /// Reminds each target of trouble that it knows and that continues, when it is time. Never waits.
    pub(crate) fn remind(&self) {
        let (inner, now) = (self.inner(), self.clock.now());
        for target in inner.targets.iter().filter(|it| it.is_reminded()) {
            for of in target.reminders.take_due(target.settings.remind, now.uptime) {
                match inner.states.of_ongoing(NoticeKind::Reminder, of, now.wall) {
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

    /// A server is in trouble that no rotation has shown, as seen at `now`. Gives whether that is news. Never waits.
    pub(crate) fn on_standing(&self, server: &Server, trouble: &Trouble, now: Timestamp) -> bool {
        let mut inner = self.inner();
        let notice = inner.states.take_standing(server, trouble, now);
        notice.is_some_and(|notice| self.tell_standing(&inner, &notice))
    }

    /// A `cover` does not know the servers of its account, or knows them. Never waits.
    pub(crate) fn on_cover(&self, account: Account, problem: Option<&CoverProblem>) {
        let (mut inner, now) = (self.inner(), self.clock.now().wall);
        let of = Subject::Cover(account);
        if let Some(problem) = problem {
            let told = inner.targets.iter().filter_map(|it| it.record.told_at(of));
            let since = told.fold(problem.since, Timestamp::min);
            if let Some(notice) = inner.states.take_cover(problem, since, now) {
                self.tell_standing(&inner, &notice);
            }
        } else {
            let (notice, is_news) = inner.states.take_listed(account, now);
            let is_told = |it: &&Target| is_news || it.record.owes_recovery(of);
            inner.targets.iter().filter(is_told).for_each(|target| target.tell(&notice));
        }
    }

    /// Tells of trouble that is looked at, not reported, unless the target knows it from an earlier process. Gives
    /// whether it is new to this one.
    fn tell_standing(&self, inner: &Inner, notice: &Notice) -> bool {
        let (of, now) = (notice.subject.of(), self.clock.now());
        for target in &inner.targets {
            if !notice.goes_on && target.record.believes(of) {
                let since = notice.trouble.and_then(|it| it.since);
                target.reminders.told_before(of, since, target.settings.remind, now, true);
            } else {
                target.tell(notice);
            }
        }
        !notice.goes_on
    }

    /// Puts another configuration in force. A target that stays keeps its queue. So does one in whose place
    /// there is another address, where none has this one: it was corrected, and what waits goes to the new
    /// one. One that goes gets what was in its queue, once: nothing is retried, so nothing reaches it late. One that
    /// comes is told of all that fails.
    pub(crate) fn reload(&self, audience: Audience<'_>) {
        let now = self.clock.now().wall;
        for target in self.take_up(audience) {
            let inner = self.inner();
            target.record.owes_all(inner.states.ongoing().map(|(of, _)| of));
            target.tell_owed(&inner.states, now);
        }
    }

    /// Puts targets and servers in force. Gives the targets that are new.
    fn take_up(&self, audience: Audience<'_>) -> Vec<Target> {
        let Audience { targets, servers, covers } = audience;
        let (mut inner, now) = (self.inner(), self.clock.now().wall);
        inner.states.configure(watched(servers), covers.iter().map(Cover::account));
        inner.states.show_times_of(servers);
        let mut before: Vec<Option<Target>> =
            std::mem::take(&mut inner.targets).into_iter().map(Some).collect();
        let mut stay: Vec<Option<Target>> = targets
            .iter()
            .map(|settings| {
                let same = |it: &Option<Target>| {
                    it.as_ref().is_some_and(|it| it.settings.url == settings.url)
                };
                before.iter().position(same).and_then(|at| before.get_mut(at)?.take())
            })
            .collect();
        for (stays, before) in stay.iter_mut().zip(&mut before) {
            *stays = stays.take().or_else(|| before.take());
        }
        for target in before.iter().flatten() {
            target.record.ends();
            target.delivered.ends();
            target.gone.cancel();
        }
        let mut new = Vec::new();
        for (settings, stays) in targets.iter().zip(stay) {
            let target = match stays {
                Some(target) => target.with(settings, &inner.states, now),
                None => {
                    let target = self.target(settings);
                    new.push(target.clone());
                    target
                }
            };
            target.record.watch_only(|of| inner.states.has(of));
            inner.targets.push(target);
        }
        new
    }

    /// Reminds of what failed before and after a single run, if a reminder fell due since the run before it.
    /// `before`: when each subject was last looked at; there is no reminder of one that this run did not look at.
    pub(crate) fn remind_since(&self, before: &BTreeMap<Subject, Timestamp>) {
        let (inner, now) = (self.inner(), self.clock.now().wall);
        for (of, since) in inner.states.ongoing() {
            let (Some(since), Some(before)) = (since, before.get(&of)) else { continue };
            let reminder = inner.states.of_ongoing(NoticeKind::Reminder, of, now);
            let Some(reminder) = reminder else { continue };
            for target in inner.targets.iter().filter(|it| it.is_reminded()) {
                if target.record.may_know(of)
                    && reminders::fell_due(target.settings.remind, since, *before, now)
                {
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
        let (destination, destinations) = watch::channel(Destination::of(settings));
        let record = Record::new(key(settings), &self.told);
        let reminders = Reminders::default();
        let delivered = self.counts.webhooks().add(settings.url.to_string());
        let gone = CancellationToken::new();
        let delivery = Delivery {
            destination: destinations,
            post: Arc::clone(&self.post),
            clock: self.clock.clone(),
            counts: self.counts.clone(),
            queue,
            lost: Arc::clone(&lost),
            record: record.clone(),
            delivered: delivered.clone(),
            reminders: reminders.clone(),
            gone: gone.clone(),
            stop: self.stop.clone(),
        };
        self.deliveries.spawn(delivery.run());
        let settings = settings.clone();
        Target { settings, destination, queue: sender, lost, record, delivered, reminders, gone }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of which servers who is told, as one word: two processes with the same word tell the same of what they both
/// learn from this store. `None`: it does not outlast a process.
#[must_use]
pub(crate) fn coverage(
    targets: &[NotifySettings],
    servers: &[Arc<Server>],
    store: &Place,
) -> Option<String> {
    if *store == Place::Memory {
        return None;
    }
    let mut servers: Vec<ServerId> = watched(servers).collect();
    servers.sort_unstable();
    let targets = targets.iter().map(|it| (it.url.expose().as_str(), &it.on, it.format));
    let targets: Vec<_> = targets.collect();
    let store = store.to_url(Access::Read)?;
    // A digest: the addresses are secrets.
    let all = TargetKey::of(&format!("{servers:?} {targets:?} {}", store.expose_secret()));
    Some(format!("{all:?}"))
}

/// A disabled server rotates nothing and fails at nothing.
fn watched(servers: &[Arc<Server>]) -> impl Iterator<Item = ServerId> {
    servers.iter().filter(|server| server.enabled).map(|server| server.id)
}

/// How the store calls a target.
fn key(settings: &NotifySettings) -> TargetKey {
    TargetKey::of(settings.url.expose().as_str())
}

impl Target {
    /// The same one with other settings: what waits, and what is owed, goes where they say.
    fn with(self, settings: &NotifySettings, states: &States, now: Timestamp) -> Self {
        self.record.moves(key(settings));
        if self.settings.url != settings.url {
            self.delivered.moves(settings.url.to_string());
        }
        let is_moved = self.destination.send_if_modified(|destination| {
            let before = std::mem::replace(destination, Destination::of(settings));
            before != *destination
        });
        let target = Self { settings: settings.clone(), ..self };
        if is_moved {
            target.tell_owed(states, now);
        }
        target
    }

    fn wants(&self, event: NoticeKind) -> bool {
        self.settings.on.contains(&event)
    }

    /// Whether it wants to be reminded.
    fn is_reminded(&self) -> bool {
        !self.settings.remind.is_zero() && self.wants(NoticeKind::Failure)
    }

    fn tell(&self, notice: &Notice) {
        let (of, mut notice) = (notice.subject.of(), notice.clone());
        match notice.event {
            NoticeKind::Recovery | NoticeKind::Success => {
                self.reminders.over(of);
                let account = of.account();
                if self.record.take_recovery(Subject::Account(account)) {
                    let (event, subject) = (NoticeKind::Recovery, NoticeSubject::Account(account));
                    self.put(Notice { event, subject, trouble: None, ..notice.clone() });
                }
                if self.record.take_recovery(of) {
                    notice.event = NoticeKind::Recovery;
                }
            }
            NoticeKind::Failure if !notice.goes_on => self.record.begins(of),
            _ => {}
        }
        self.put(notice);
    }

    /// Queues it, if it is wanted and not known.
    fn put(&self, notice: Notice) {
        let of = notice.subject.of();
        if notice.event == NoticeKind::Recovery && !self.wants(NoticeKind::Recovery) {
            self.record.over(of);
        }
        let Some(notice) = wanted(&self.settings, &notice) else { return };
        if !notice.goes_on || self.record.take_failure(of) {
            self.queue(notice);
        }
    }

    /// The failures that it is owed and that go on.
    fn tell_owed(&self, states: &States, now: Timestamp) {
        for of in self.record.failures() {
            // Of what is over by now, the recovery is on its way, and admits it.
            if let Some(failure) = states.of_ongoing(NoticeKind::Failure, of, now)
                && self.record.take_failure(of)
            {
                self.queue(failure);
            }
        }
    }

    fn queue(&self, notice: Notice) {
        if notice.event == NoticeKind::Failure {
            self.record.owes(notice.subject.of(), notice.at);
        }
        match self.queue.try_send(notice) {
            Ok(()) => {}
            // Reported by the delivery task, once it is free.
            Err(TrySendError::Full(notice)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                self.record.is_untold(&notice);
            }
            Err(TrySendError::Closed(notice)) => {
                let to = &self.settings.url;
                let notice = notice.event.as_str();
                tracing::error!(
                    event = "notice",
                    to = %to,
                    notice,
                    "a bug in snapring stopped the delivery of notices to {to}"
                );
            }
        }
    }
}

/// The news as the target asked for them. A target that asked for successes and not for recoveries gets a
/// recovery as a success.
fn wanted(settings: &NotifySettings, notice: &Notice) -> Option<Notice> {
    if settings.on.contains(&notice.event) {
        return Some(notice.clone());
    }
    let as_success = notice.event == NoticeKind::Recovery
        && matches!(notice.subject, NoticeSubject::Server { .. })
        && settings.on.contains(&NoticeKind::Success);
    as_success.then(|| Notice { event: NoticeKind::Success, trouble: None, ..notice.clone() })
}

#[cfg(test)]
mod tests;
