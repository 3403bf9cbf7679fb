//! Takes one target its notices, in their order: waits a little for what belongs together, tries
//! again what may pass, gives up in bounded time, and tells the log what became of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::call::Outcome;
use crate::clock::Clock;
use crate::moment::shown;
use crate::notify::NotifySettings;
use crate::notify::format::Format;
use crate::notify::http::{Message, Post};
use crate::notify::instance::Instance;
use crate::notify::message::{Bundle, bundles};
use crate::notify::reminders::Reminders;
use crate::notify::told::Record;
use crate::notify::transitions::{Notice, NoticeKind};
use crate::notify::webhook::Webhook;
use crate::provider::retry_after::retry_after;
use crate::provider::transport::TransportError;
use crate::provider::wall_at;
use crate::report::milliseconds;
use crate::status::counts::{Counts, NoticeOutcome};
use crate::status::undelivered::{DeliveryState, Refused};

/// How long to wait for more after a first notice: what befalls a whole fleet is told at once.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// How long one try may take, connecting included.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// How often one bundle is tried again.
const RETRIES: usize = 7;

/// Waits between tries grow from this, each twice the one before.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// How long one bundle may take altogether. What comes meanwhile waits, and goes out together.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(600);

/// The most notices that are put together at once.
const TOGETHER: usize = 16 * 1024;

/// Where notices go to, and in which form.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Destination {
    to: Webhook,
    format: Format,
    instance: Instance,
    remind: Duration,
}

impl Destination {
    pub(super) fn of(settings: &NotifySettings) -> Self {
        Self {
            to: settings.url.clone(),
            format: settings.format,
            instance: Instance::of(settings.instance.as_deref()),
            remind: settings.remind,
        }
    }
}

/// One target's way out.
pub(super) struct Delivery {
    /// As the configuration in force says it.
    pub(super) destination: watch::Receiver<Destination>,
    pub(super) post: Arc<dyn Post>,
    pub(super) clock: Clock,
    pub(super) counts: Counts,
    /// Closed when the target is gone or snapring ends: then what is there goes out at once.
    pub(super) queue: mpsc::Receiver<Notice>,
    /// How many did not fit into the queue.
    pub(super) lost: Arc<AtomicU64>,
    /// What the target was told.
    pub(super) record: Record,
    /// Whether the target got its last notices.
    pub(super) delivered: DeliveryState,
    /// Of what it is to be reminded.
    pub(super) reminders: Reminders,
    /// Set when the target is not in the configuration any more: nothing is retried then.
    pub(super) gone: CancellationToken,
    /// Set when nothing is waited for any more.
    pub(super) stop: CancellationToken,
}

/// What became of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tried {
    /// Its class.
    pub outcome: Outcome,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// What the service said, or why it said nothing; nothing of the address.
    pub words: String,
    /// How long it asked to wait.
    wait: Option<Duration>,
}

/// How far a bundle is.
#[derive(Debug, Clone, Copy)]
enum Progress<'a> {
    Delivered,
    /// It is tried again, until then.
    Retried(Timestamp),
    /// For this reason.
    GivenUp(&'a str),
}

/// Posts once.
pub(crate) async fn attempt(
    post: &dyn Post,
    clock: &Clock,
    format: Format,
    to: &Webhook,
    message: &Message,
) -> Tried {
    // One that was answered while snapring was stopped must not be sent again.
    let answer = clock.timeout_while_running(TIMEOUT, post.post(message)).await;
    match answer.unwrap_or(Err(TransportError::Timeout(TIMEOUT))) {
        Err(error) => {
            let words = to.redact(&error.to_string());
            Tried { outcome: Outcome::Transport, status: None, words, wait: None }
        }
        Ok(answer) => {
            let (outcome, words) = format.understand(&answer, to);
            let asked = answer.retry_after.as_deref();
            let wait = asked.and_then(|text| retry_after(text, clock.now().wall));
            Tried { outcome, status: Some(answer.status), words, wait }
        }
    }
}

impl Delivery {
    /// Ends when its queue is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            let mut notices = vec![first];
            let queue = &mut self.queue;
            let collect = async {
                while notices.len() < TOGETHER {
                    match queue.recv().await {
                        Some(notice) => notices.push(notice),
                        None => return,
                    }
                }
            };
            let _ = self.clock.timeout(WINDOW, collect).await;
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                self.counts.notices_ended(lost, NoticeOutcome::Lost);
                let Destination { to, format, .. } = &*self.destination.borrow();
                tracing::warn!(
                    event = "notice",
                    to = %to,
                    format = format.as_str(),
                    lost,
                    "{lost} notices to {to} were lost because it is too slow"
                );
            }
            let remind = self.destination.borrow().remind;
            for mut bundle in bundles(notices, self.clock.now().wall, lost, remind) {
                if matches!(bundle.event, NoticeKind::Recovery | NoticeKind::Success) {
                    for notice in &mut bundle.notices {
                        notice.failure_untold = self.record.take_failure(notice.subject.of());
                    }
                }
                let is_for_it = self.destination.borrow().format.tells(&bundle);
                if !is_for_it || self.deliver(&bundle).await {
                    bundle.notices.iter().for_each(|notice| self.is_told(notice));
                } else {
                    bundle.notices.iter().for_each(|notice| self.record.is_untold(notice));
                }
            }
        }
    }

    /// From now on the target is reminded of what it was told goes on.
    fn is_told(&self, notice: &Notice) {
        let (of, now) = (notice.subject.of(), self.clock.now());
        match notice.event {
            NoticeKind::Failure | NoticeKind::Reminder => {
                self.reminders.told(of, now.uptime);
                self.record.told(of, now.wall);
            }
            NoticeKind::Recovery => self.record.over(of),
            NoticeKind::Success | NoticeKind::Test => {}
        }
    }

    /// Whether the target has it.
    async fn deliver(&mut self, bundle: &Bundle) -> bool {
        let begun = self.clock.now().uptime;
        let clock = self.clock.clone();
        let passed = || clock.now().uptime.saturating_sub(begun);
        let mut tries = 0;
        let waits: Vec<_> = backoff::doubling(FIRST_WAIT, GIVE_UP_AFTER).take(RETRIES).collect();
        let mut waits = waits.into_iter();
        let mut last = None;
        let mut destination;
        let ending = "snapring stopped before it could be sent";
        let gave_up = loop {
            destination = self.destination.borrow_and_update().clone();
            let Destination { to, format, instance, .. } = &destination;
            let message = format.message(to, bundle, instance);
            let trying = attempt(&*self.post, &clock, *format, to, &message);
            let Some(tried) = self.unless_stopped(trying).await else { break ending };
            tries += 1;
            let tried = last.insert(tried);
            if tried.outcome == Outcome::Ok {
                let progress = Progress::Delivered;
                self.tell(&destination, bundle, last.as_ref(), tries, passed(), progress);
                return true;
            }
            // What was tried has nothing to say of an address that was corrected meanwhile.
            if self.destination.has_changed().unwrap_or(false) {
                continue;
            }
            if !tried.outcome.may_pass() {
                break "retrying would not help";
            }
            let gone = "the webhook is not in the configuration any more";
            if self.gone.is_cancelled() {
                break gone;
            }
            let Some(own) = waits.next() else { break "it was tried often enough already" };
            let wait = own.max(tried.wait.unwrap_or_default());
            let left = GIVE_UP_AFTER.saturating_sub(passed());
            if wait > left {
                break "there is no time for another attempt";
            }
            let longest = left.min(wait + waits.as_slice().iter().sum::<Duration>());
            let now = clock.now();
            let progress = Progress::Retried(wall_at(now.uptime.saturating_add(longest), now));
            self.tell(&destination, bundle, last.as_ref(), tries, passed(), progress);
            if self.unless_stopped(self.wait(wait)).await.is_none() {
                break ending;
            }
            if self.gone.is_cancelled() {
                break gone;
            }
        };
        let progress = Progress::GivenUp(gave_up);
        self.tell(&destination, bundle, last.as_ref(), tries, passed(), progress);
        false
    }

    /// Waits before another try, unless there is another address meanwhile, or none any more.
    async fn wait(&self, span: Duration) {
        let mut destination = self.destination.clone();
        let changed = async {
            if destination.changed().await.is_err() {
                // snapring ends, and nobody is left who could correct it.
                self.gone.cancelled().await;
            }
        };
        let _ = self.clock.timeout(span, self.gone.run_until_cancelled(changed)).await;
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.stop.run_until_cancelled(work).await
    }

    fn tell(
        &self,
        Destination { to, format, .. }: &Destination,
        bundle: &Bundle,
        tried: Option<&Tried>,
        tries: u32,
        took: Duration,
        progress: Progress<'_>,
    ) {
        macro_rules! event {
            ($level:ident, $($message:tt)*) => {
                tracing::$level!(
                    event = "notice",
                    outcome = tried.map(|it| it.outcome.as_str()),
                    status = tried.and_then(|it| it.status),
                    notice = bundle.event.as_str(),
                    to = %to,
                    format = format.as_str(),
                    about = bundle.notices.len(),
                    attempt = tries,
                    duration_ms = milliseconds(took),
                    $($message)*
                )
            };
        }
        let notices = u64::try_from(bundle.notices.len()).unwrap_or(u64::MAX);
        let answer = tried.map(|it| it.words.clone());
        let refused = Refused { notices, at: bundle.at, answer: answer.clone() };
        let what = bundle.title();
        let says = answer.map(|it| format!("{it}; ")).unwrap_or_default();
        match progress {
            Progress::Delivered => {
                self.counts.notices_ended(notices, NoticeOutcome::Ok);
                self.delivered.accepted();
                event!(info, "told {to}: {what}");
            }
            Progress::Retried(until) => {
                let is_known = self.delivered.is_retrying();
                self.delivered.retries(refused, until);
                if !is_known {
                    let zone = bundle.notices.first().map_or(TimeZone::UTC, |it| it.zone.clone());
                    event!(
                        warn,
                        until = %until,
                        "could not deliver a notice to {to} yet ({says}retrying until {}): {what}",
                        shown(until, &zone)
                    );
                }
            }
            Progress::GivenUp(why) => {
                self.counts.notices_ended(notices, NoticeOutcome::Failed);
                self.delivered.gave_up(refused);
                event!(error, "could not deliver a notice to {to} ({says}{why}): {what}");
            }
        }
    }
}
