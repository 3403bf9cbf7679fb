//! One listing of the account in the place of many of its servers'.
//!
//! Each caller that needs a listing says when it may come at the earliest and at the latest. At the first
//! latest moment, all callers whose earliest moment has passed are served together: by one listing of the
//! account if that costs fewer calls than one for each, else each by its own. A shared listing is requested
//! after all its callers have asked, so it contains their own changes.
//!
//! Sharing only saves calls. If a listing of the account fails, takes long or cannot be relied on, each
//! caller asks alone, and sharing is not tried for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::ExponentialBackoff;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::answer::LISTING_MAX_AGE;
use crate::backoff;
use crate::call::{CallError, Operation, Outcome};
use crate::clock::Clock;
use crate::completion::Sharing;
use crate::moment::Moment;
use crate::naming::ServerId;
use crate::provider::admission::Admitted;
use crate::provider::call_context::CallContext;
use crate::provider::exchange::Exchange;
use crate::provider::last_seen::LastSeen;
use crate::provider::pagination::{self, MAX_PAGES, PageReader, read_page};
use crate::provider::retry::Tries;
use crate::snapshot::{Listing, Snapshot};

/// At a tick thousands come, which takes them longer than [`GATHER`](crate::polling::GATHER): as long as another one
/// comes within such a span, the next span is waited for, [`STREAM_SPANS`] times at most.
const STREAM: Duration = Duration::from_millis(20);
const STREAM_SPANS: usize = 40;

/// With fewer servers, asking for each costs little, and no answer about one depends on others.
const LEAST: usize = 8;

/// How long a listing of the account may take, its later tries included, from its first turn on: the
/// longer, the more servers it serves, which would take long one by one too; at most half of the time
/// that it may be relied on.
const READING_MIN: Duration = Duration::from_secs(10);
const READING_A_SERVER: Duration = Duration::from_millis(10);
const READING_MAX: Duration = Duration::from_secs(30);
const _: () = assert!(2 * READING_MAX.as_secs() <= LISTING_MAX_AGE.as_secs());

/// After one that could not be used, sharing is not tried for so long; twice as long after each
/// further one in a row.
const DOUBT_MIN: Duration = Duration::from_secs(30);
const DOUBT_MAX: Duration = Duration::from_secs(600);

/// For how long the number of pages is taken for known.
const PAGES_KNOWN: Duration = Duration::from_mins(60);

/// When to look, in the clock's uptime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// Not before.
    pub earliest: Duration,
    /// Not later, if the provider's line allows; what lies between is for sharing with others.
    pub latest: Duration,
}

/// Those who wait to look, and what is known of listings of the account.
#[derive(Debug)]
pub(super) struct SharedListing {
    exchange: Exchange,
    last_seen: LastSeen,
    state: Mutex<Queue>,
    /// Somebody has come whose latest moment is before the one that is waited for.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// How many servers are looked at in all.
    servers: usize,
    waiting: Vec<Waiter>,
    /// How many have ever come to wait.
    came: u64,
    /// The first latest moment of those who wait.
    next: Option<Duration>,
    /// A task serves those who wait.
    is_driven: bool,
    /// Of the listing of the account that was read last, and until when that is taken for known.
    pages: usize,
    pages_until: Duration,
    doubts: Option<ExponentialBackoff>,
    doubted_until: Duration,
}

#[derive(Debug)]
struct Waiter {
    server: ServerId,
    when: When,
    sharing: Sharing,
    /// `None`: ask alone.
    answer: oneshot::Sender<Option<Listing>>,
}

/// Every snapshot of the account.
struct Whole {
    of_server: HashMap<ServerId, Vec<Snapshot>>,
    asked_at: Moment,
    pages: usize,
}

/// What came of reading the account.
enum Read {
    Whole(Whole),
    /// To ask for each server costs fewer calls than all the pages.
    TooManyPages(usize),
    /// It would take too long, or it cannot be told whether rows are missing: the provider does not
    /// count them, or this program has changed something between two pages.
    Doubtful,
}

impl SharedListing {
    fn state(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All who may be served at this time. Nobody is left without a task that serves.
    fn take_due(&self, now: Duration) -> Vec<Waiter> {
        let mut state = self.state();
        state.waiting.retain(|waiting| !waiting.answer.is_closed());
        let (due, waiting) =
            std::mem::take(&mut state.waiting).into_iter().partition(|it| it.when.earliest <= now);
        state.waiting = waiting;
        state.next = first_latest(&state.waiting);
        due
    }

    /// They could not be served now, and may be later.
    fn put_back(&self, patient: Vec<Waiter>) {
        let mut state = self.state();
        state.waiting.extend(patient);
        state.next = first_latest(&state.waiting);
    }

    /// Waits until no more callers come at the same time.
    async fn stream(&self, clock: &Clock) {
        for _ in 0..STREAM_SPANS {
            let came = self.state().came;
            clock.sleep(STREAM).await;
            if self.state().came == came {
                return;
            }
        }
    }

    /// When the next ones are to be served; `None`, and the task is over, when none waits.
    fn next(&self) -> Option<Duration> {
        let mut state = self.state();
        state.is_driven = state.next.is_some();
        state.next
    }

    /// Whether a listing of the account costs less than one for each of these, and can be relied on:
    /// several pages cannot while something is being changed.
    fn is_worth_it(&self, due: &[Waiter], now: Duration, is_quiet: bool) -> bool {
        let state = self.state();
        let pages = if now < state.pages_until { state.pages } else { 1 };
        let served = served(due, pages);
        let can_be = now >= state.doubted_until && (is_quiet || pages <= 1);
        can_be && served >= LEAST && served > pages
    }

    fn trust(&self, pages: usize, now: Duration) {
        let mut state = self.state();
        (state.pages, state.doubts) = (pages, None);
        state.pages_until = now.saturating_add(PAGES_KNOWN);
    }

    fn doubt(&self, now: Duration) {
        let mut state = self.state();
        let waits = state.doubts.get_or_insert_with(|| backoff::doubling(DOUBT_MIN, DOUBT_MAX));
        let span = waits.next().unwrap_or(DOUBT_MAX);
        state.doubted_until = now.saturating_add(span);
    }
}

fn first_latest(waiting: &[Waiter]) -> Option<Duration> {
    waiting.iter().map(|waiting| waiting.when.latest).min()
}

/// How many of these a listing of the account with this many pages would serve.
fn served(due: &[Waiter], pages: usize) -> usize {
    due.iter().filter(|waiting| pages <= 1 || waiting.sharing == Sharing::Pages).count()
}

/// How long a listing of the account for these may take.
fn may_take(due: &[Waiter]) -> Duration {
    let servers = u32::try_from(due.len()).unwrap_or(u32::MAX);
    READING_A_SERVER.saturating_mul(servers).clamp(READING_MIN, READING_MAX)
}

impl SharedListing {
    pub(super) fn new(exchange: Exchange, last_seen: LastSeen) -> Self {
        Self { exchange, last_seen, state: Mutex::default(), sooner: Notify::new() }
    }

    /// See [`Client::serves`](crate::provider::client::Client::serves).
    pub(super) fn serves(&self, servers: usize) {
        self.state().servers = servers;
    }

    /// How many servers are known.
    pub(super) fn servers(&self) -> usize {
        self.state().servers
    }

    pub(super) fn shares(&self) -> bool {
        self.state().servers >= LEAST
    }

    /// Every snapshot of one server, asked for by itself.
    pub(super) async fn list(
        &self,
        server: ServerId,
        scope: &CallContext,
    ) -> Result<Listing, CallError> {
        let (mut snapshots, asked_at) =
            pagination::snapshots(&self.exchange, Some(server), self.servers(), scope).await?;
        // The filter may have been ignored.
        snapshots.retain(|snapshot| snapshot.server == server);
        let listing = Listing::complete(server, snapshots, asked_at);
        self.last_seen.saw(&listing, true);
        Ok(listing)
    }

    fn now(&self) -> Duration {
        self.exchange.clock().now().uptime
    }

    /// Every snapshot of one server, asked for in the given time.
    pub(super) async fn look(
        self: &Arc<Self>,
        server: ServerId,
        scope: &CallContext,
        when: When,
        sharing: Sharing,
    ) -> Result<Listing, CallError> {
        self.exchange.time_allows(Operation::List, scope)?;
        if let Some(answer) = self.wait_with_others(server, scope, when, sharing) {
            // A shutdown is seen to by the task: what is under way is let end.
            let answer = tokio::select! {
                biased;
                () = self.exchange.time_is_up(scope) => return Err(CallError::OutOfTime),
                answer = answer => answer,
            };
            if let Ok(Some(listing)) = answer {
                return Ok(listing);
            }
        }
        let wait = when.earliest.saturating_sub(self.now());
        if !wait.is_zero() {
            self.exchange.pause(scope, wait).await?;
        }
        // Boxed: a fleet that waits to share is not to hold what each would need for itself.
        Box::pin(self.list(server, scope)).await
    }

    /// Joins those who wait to look; `None` where there is nothing to share.
    fn wait_with_others(
        self: &Arc<Self>,
        server: ServerId,
        scope: &CallContext,
        when: When,
        sharing: Sharing,
    ) -> Option<oneshot::Receiver<Option<Listing>>> {
        let mut state = self.state();
        if sharing == Sharing::Alone
            || state.servers < LEAST
            || when.earliest < state.doubted_until
            || scope.shutdown.is_cancelled()
        {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        state.waiting.push(Waiter { server, when, sharing, answer });
        state.came += 1;
        if state.next.is_none_or(|next| when.latest < next) {
            state.next = Some(when.latest);
            self.sooner.notify_one();
        }
        if !state.is_driven {
            state.is_driven = true;
            tokio::spawn(serve(Arc::clone(self), scope.shutdown.clone()));
        }
        Some(answered)
    }

    /// A listing of the account for these, if one can be had in time that can be relied on.
    async fn read_account(&self, due: &[Waiter], shutdown: &CancellationToken) -> Option<Whole> {
        let mut tries = Tries::begin(&self.exchange);
        let mut scope = CallContext::of_account(shutdown.clone());
        let mut left = may_take(due);
        loop {
            // Whoever asks alone waits for a turn too, so this time is not counted.
            scope.give_up_at = None;
            let turn = self.exchange.turn(Operation::List, &scope).await.ok()?;
            let begun = self.now();
            scope.give_up_at = Some(begun.saturating_add(left));
            let reading = self.read_account_once(turn, due, tries.attempt, &scope);
            let may_go_on = match self.exchange.clock().timeout(left, reading).await {
                // A cache has kept it: it may be older than the request.
                Some(Ok(Read::Whole(whole))) if whole.asked_at.uptime < begun => false,
                Some(Ok(Read::Whole(whole))) => {
                    self.trust(whole.pages, self.now());
                    return Some(whole);
                }
                Some(Ok(Read::TooManyPages(pages))) => {
                    self.trust(pages, self.now());
                    return None;
                }
                // What cannot be understood or is not granted twice will not be a third time; and
                // while one waits, so does everyone.
                Some(Err(error)) => {
                    let stays = [Outcome::Malformed, Outcome::Busy, Outcome::Throttled].map(Some);
                    (tries.attempt == 1 || !stays.contains(&error.outcome()))
                        && tries.wait(&self.exchange, error, &scope).await.is_ok()
                }
                Some(Ok(Read::Doubtful)) | None => false,
            };
            let now = self.now();
            left = left.saturating_sub(now.saturating_sub(begun));
            if !may_go_on || left.is_zero() {
                self.doubt(now);
                return None;
            }
        }
    }

    /// Reads all pages, as long as that pays.
    async fn read_account_once(
        &self,
        first_turn: Admitted,
        due: &[Waiter],
        attempt: u32,
        scope: &CallContext,
    ) -> Result<Read, CallError> {
        let quiet = self.exchange.pending_changes().quiet();
        let is_undisturbed =
            || quiet.is_some_and(|quiet| self.exchange.pending_changes().quiet_since(quiet));
        let mut reading = PageReader::new(None, self.servers());
        let begun = self.now();
        let (mut next, mut asked_at) =
            read_page(&self.exchange, first_turn, None, &mut reading, attempt, scope).await?;
        while let Some(query) = next {
            let pages = reading.pages_in_all();
            let spent = self.now().saturating_sub(begun);
            let in_all = |spent: Duration| spent.mul_f64(pages as f64 / reading.pages() as f64);
            if served(due, pages) <= pages {
                return Ok(Read::TooManyPages(pages));
            }
            if !is_undisturbed() || pages > MAX_PAGES || in_all(spent) > may_take(due) {
                return Ok(Read::Doubtful);
            }
            let turn = self.exchange.turn(Operation::List, scope).await?;
            let page_at;
            (next, page_at) =
                read_page(&self.exchange, turn, Some(&query), &mut reading, attempt, scope).await?;
            asked_at = asked_at.earliest(page_at);
        }
        let pages = reading.pages();
        if !reading.is_counted() || (pages > 1 && !is_undisturbed()) {
            return Ok(Read::Doubtful);
        }
        let mut of_server = HashMap::<_, Vec<_>>::new();
        for snapshot in reading.snapshots {
            of_server.entry(snapshot.server).or_default().push(snapshot);
        }
        Ok(Read::Whole(Whole { of_server, asked_at, pages }))
    }
}

/// Serves those who wait until there are none any more, or snapring shuts down.
async fn serve(shared: Arc<SharedListing>, shutdown: CancellationToken) {
    let service = Service(&shared);
    while let Some(next) = shared.next() {
        let wait = next.saturating_sub(shared.now());
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = shared.sooner.notified() => continue,
            () = shared.exchange.clock().sleep(wait) => {}
        }
        shared.stream(shared.exchange.clock()).await;
        let now = shared.now();
        let due = shared.take_due(now);
        let mut whole = None;
        if shared.is_worth_it(&due, now, shared.exchange.pending_changes().quiet().is_some()) {
            whole = shared.read_account(&due, &shutdown).await;
        }
        let Some(whole) = whole else {
            let now = shared.now();
            let (patient, urgent): (Vec<_>, Vec<_>) =
                due.into_iter().partition(|waiting| waiting.when.latest > now);
            shared.put_back(patient);
            // To send may fail here and below: when it is not waited for any more.
            urgent.into_iter().for_each(|waiting| drop(waiting.answer.send(None)));
            continue;
        };
        for Waiter { server, sharing, answer, .. } in due {
            let can_be_served = whole.pages == 1 || sharing == Sharing::Pages;
            let listing = whole
                .listing(server)
                .filter(|listing| can_be_served && shared.last_seen.are_all_in(listing))
                .inspect(|listing| shared.last_seen.saw(listing, whole.pages == 1));
            let _ = answer.send(listing);
        }
    }
    std::mem::forget(service);
}

/// As long as it exists, waiting callers will be served. If it is dropped while some still wait, even by a
/// panic, they are dismissed and ask alone.
struct Service<'a>(&'a SharedListing);

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.waiting, state.next, state.is_driven) = (Vec::new(), None, false);
    }
}

impl Whole {
    /// `None` where no row is the server's: then it is gone, new, or not all of them are shown.
    fn listing(&self, server: ServerId) -> Option<Listing> {
        let rows = self.of_server.get(&server)?.clone();
        Some(Listing::complete(server, rows, self.asked_at))
    }
}

#[cfg(test)]
mod tests;
