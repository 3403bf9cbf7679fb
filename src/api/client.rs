//! The client: the provider's endpoints with everything that stands around a call.
//!
//! Each call waits for its turn, carries the token, is bounded, is classed and leaves one event.
//! Listings and deletes are tried again here; a create and a restore are sent once, since what
//! must be looked at before a second try is the caller's business.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::api::admission::{Admission, Urgency};
use crate::api::body::{self, Page, ServerRow, TokenInfo};
use crate::api::credentials::{Credentials, redact};
use crate::api::failure::{CallError, Failure, Operation, Outcome};
use crate::api::record::{Record, Subject};
use crate::api::transport::{Method, Request, TornBody, Transport};
use crate::clock::{Clock, Moment};
use crate::config::types::{ApiSettings, Server};
use crate::naming::{ServerId, SnapshotId, Tick};
use crate::plan::{Creation, Deletion};
use crate::snapshot::{Listing, Snapshot};

/// The oldest listing that anything may be created or deleted on the strength of.
pub const EVIDENCE_MAX_AGE: Duration = Duration::from_secs(60);

/// More pages than any account has; past it, `next` leads in circles.
const MAX_PAGES: usize = 1000;

/// More snapshots than any account has; bounds what a listing may take of the memory.
const MAX_ROWS: usize = 1_000_000;

/// The longest that a `Retry-After` is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// On whose behalf calls are made, and how long they may be tried.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The server and its name in the configuration.
    pub server: Option<(ServerId, String)>,
    /// The rotation's tick.
    pub tick: Option<Tick>,
    /// In the clock's uptime: nothing is waited for or tried again past it.
    pub give_up_at: Option<Duration>,
    /// Set when snapring shuts down: nothing new is sent then.
    pub shutdown: CancellationToken,
    calls: Arc<AtomicU32>,
}

impl Scope {
    /// On behalf of a configured server.
    #[must_use]
    pub fn of(server: &Server, shutdown: CancellationToken) -> Self {
        Self::of_server(server.id, server.name.clone(), shutdown)
    }

    /// On behalf of any server.
    #[must_use]
    pub fn of_server(id: ServerId, name: String, shutdown: CancellationToken) -> Self {
        Self { server: Some((id, name)), shutdown, ..Self::default() }
    }

    /// How many calls were sent.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn subject(&self) -> Subject {
        Subject {
            server_id: self.server.as_ref().map(|(id, _)| *id),
            server: self.server.as_ref().map(|(_, name)| name.clone()),
            tick: self.tick,
            ..Subject::default()
        }
    }
}

/// One account at the provider.
pub struct Client {
    transport: Box<dyn Transport>,
    base: Url,
    clock: Clock,
    credentials: Credentials,
    admission: Admission,
    retries: u32,
    /// The account's token was refused and no call has succeeded since.
    refused: AtomicBool,
    random: Mutex<StdRng>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Client")
            .field("base", &self.base.as_str())
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// One request, before it has its turn.
struct Call<'a> {
    operation: Operation,
    method: Method,
    path: String,
    body: Option<Vec<u8>>,
    subject: Subject,
    attempt: u32,
    /// The listing that a change rests on.
    seen: Option<Moment>,
    scope: &'a Scope,
}

impl Client {
    /// A client over `transport`. `seed` draws the jitter of what is tried again.
    #[must_use]
    pub fn new(
        transport: Box<dyn Transport>,
        settings: &ApiSettings,
        credentials: Credentials,
        clock: Clock,
        seed: u64,
    ) -> Self {
        Self {
            transport,
            base: settings.base_url.clone(),
            admission: Admission::new(
                clock.clone(),
                settings.max_in_flight,
                settings.requests_per_minute,
            ),
            clock,
            credentials,
            retries: settings.retries,
            refused: AtomicBool::new(false),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    /// The clock that its time is measured by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Further tries after a first one failed.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// Reads the token again, so that a new one takes effect with the next rotation. What is wrong
    /// with it is logged; the token from before stays in use.
    pub fn refresh_token(&self) {
        if let Err(error) = self.credentials.refresh() {
            tracing::warn!(event = "token", "the token could not be read again: {error}");
        }
    }

    /// Every snapshot of one server.
    ///
    /// # Errors
    /// When no complete listing could be had, for whatever reason.
    pub async fn list(&self, server: ServerId, scope: &Scope) -> Result<Listing, CallError> {
        let (mut snapshots, asked_at) = self.list_all(Some(server), scope).await?;
        // The filter may have been ignored.
        snapshots.retain(|snapshot| snapshot.server == server);
        Ok(Listing::complete(server, snapshots, asked_at))
    }

    /// Every snapshot of the account, and when they were asked for.
    ///
    /// # Errors
    /// As for [`Client::list`].
    pub async fn list_account(&self, scope: &Scope) -> Result<(Vec<Snapshot>, Moment), CallError> {
        self.list_all(None, scope).await
    }

    /// Creates one snapshot. Sent once: after [`Outcome::Malformed`], [`Outcome::ServerError`] or
    /// [`Outcome::Transport`] nobody knows whether it was made.
    ///
    /// # Errors
    /// When it was not sent, or the answer is anything but the new snapshot.
    pub async fn create(
        &self,
        creation: &Creation,
        description: &str,
        attempt: u32,
        scope: &Scope,
    ) -> Result<Snapshot, CallError> {
        let mut body = json!({ "server_id": creation.server(), "name": creation.name() });
        if !description.is_empty()
            && let Some(object) = body.as_object_mut()
        {
            object.insert("description".to_owned(), description.into());
        }
        let call = Call {
            operation: Operation::Create,
            method: Method::Post,
            path: "snapshots/".to_owned(),
            body: Some(body.to_string().into_bytes()),
            subject: Subject { snapshot: Some(creation.name().to_owned()), ..scope.subject() },
            attempt,
            seen: Some(creation.seen()),
            scope,
        };
        let (snapshot, _) = self
            .exchange(call, |_, body, record| {
                let snapshot = body::created(&body.map_err(|torn| torn.to_string())?)?;
                if snapshot.server != creation.server() || snapshot.name != creation.name() {
                    return Err("the answer is about another snapshot".to_owned());
                }
                record.name_snapshot(snapshot.id);
                Ok(snapshot)
            })
            .await?;
        Ok(snapshot)
    }

    /// Deletes one snapshot; one that is not there is deleted. Tried again until the provider has
    /// given a clear answer or the listing has become too old.
    ///
    /// # Errors
    /// When it may still be there.
    pub async fn delete(&self, deletion: &Deletion, scope: &Scope) -> Result<(), CallError> {
        let mut tries = self.tries();
        loop {
            let error = match self.delete_once(deletion, tries.attempt, scope).await {
                Ok(()) => return Ok(()),
                Err(error) if error.outcome() == Some(Outcome::NotFound) => return Ok(()),
                // An answer that cannot be understood calls for a look, not for another try.
                Err(error) if error.outcome() == Some(Outcome::Malformed) => return Err(error),
                Err(error) => error,
            };
            self.wait_to_try_again(&mut tries, error, scope).await?;
        }
    }

    /// Overwrites a server with one of its snapshots. Sent once.
    ///
    /// # Errors
    /// When the provider did not say that it has begun.
    pub async fn restore(&self, snapshot: &Snapshot, scope: &Scope) -> Result<(), CallError> {
        let call = Call {
            operation: Operation::Restore,
            method: Method::Post,
            path: format!("snapshots/{}/restore/", snapshot.id),
            body: None,
            subject: Subject {
                snapshot_id: Some(snapshot.id),
                snapshot: Some(snapshot.name.clone()),
                ..scope.subject()
            },
            attempt: 1,
            seen: None,
            scope,
        };
        let understood = |_, body: Result<Vec<u8>, TornBody>, _: &mut Record<'_>| {
            let body = body.map_err(|torn| torn.to_string())?;
            serde_json::from_slice::<serde_json::Value>(&body)
                .map(|_| ())
                .map_err(|error| format!("not the JSON that was expected: {error}"))
        };
        self.exchange(call, understood).await.map(|_| ())
    }

    /// Who the token is: harmless, and allowed to every active token.
    ///
    /// # Errors
    /// When the provider does not say.
    pub async fn account(&self, scope: &Scope) -> Result<TokenInfo, CallError> {
        let mut tries = self.tries();
        loop {
            let call =
                self.look(Operation::Account, "account/me/".to_owned(), tries.attempt, scope);
            let read = |_, body: Result<Vec<u8>, TornBody>, _: &mut Record<'_>| {
                body::token_info(&body.map_err(|torn| torn.to_string())?)
            };
            let error = match self.exchange(call, read).await {
                Ok((info, _)) => return Ok(info),
                Err(error) => error,
            };
            self.wait_to_try_again(&mut tries, error, scope).await?;
        }
    }

    /// The account's servers.
    ///
    /// # Errors
    /// When the provider does not say, or not all of them.
    pub async fn servers(&self, scope: &Scope) -> Result<Vec<ServerRow>, CallError> {
        let mut tries = self.tries();
        loop {
            let error = match self.servers_once(tries.attempt, scope).await {
                Ok(servers) => return Ok(servers),
                Err(error) => error,
            };
            self.wait_to_try_again(&mut tries, error, scope).await?;
        }
    }

    async fn list_all(
        &self,
        server: Option<ServerId>,
        scope: &Scope,
    ) -> Result<(Vec<Snapshot>, Moment), CallError> {
        let mut tries = self.tries();
        loop {
            let error = match self.list_once(server, tries.attempt, scope).await {
                Ok(listed) => return Ok(listed),
                Err(error) => error,
            };
            self.wait_to_try_again(&mut tries, error, scope).await?;
        }
    }

    /// Reads all pages, from the first on: a listing that failed half way is not gone on with.
    async fn list_once(
        &self,
        server: Option<ServerId>,
        attempt: u32,
        scope: &Scope,
    ) -> Result<(Vec<Snapshot>, Moment), CallError> {
        let mut reading = Reading::default();
        let mut path =
            server.map_or("snapshots/".to_owned(), |id| format!("snapshots/?server_id={id}"));
        let mut asked_at = None;
        for _ in 0..MAX_PAGES {
            let call = self.look(Operation::List, path, attempt, scope);
            let read = |_, body: Result<Vec<u8>, TornBody>, _: &mut Record<'_>| {
                let body = body.map_err(|torn| torn.to_string())?;
                reading.take(body::page(&body, &self.base)?)
            };
            let (next, sent_at) = self.exchange(call, read).await?;
            let asked_at = *asked_at.get_or_insert(sent_at);
            match next {
                Some(query) => path = format!("snapshots/?{query}"),
                None => return Ok((reading.snapshots, asked_at)),
            }
        }
        Err(incomplete(Operation::List, "the pages do not end"))
    }

    async fn servers_once(&self, attempt: u32, scope: &Scope) -> Result<Vec<ServerRow>, CallError> {
        let mut servers = Vec::new();
        let mut path = "servers/".to_owned();
        for _ in 0..MAX_PAGES {
            let call = self.look(Operation::Servers, path, attempt, scope);
            let read = |_, body: Result<Vec<u8>, TornBody>, _: &mut Record<'_>| {
                body::servers(&body.map_err(|torn| torn.to_string())?, &self.base)
            };
            let ((rows, next), _) = self.exchange(call, read).await?;
            servers.extend(rows);
            match next {
                Some(query) => path = format!("servers/?{query}"),
                None => return Ok(servers),
            }
        }
        Err(incomplete(Operation::Servers, "the pages do not end"))
    }

    async fn delete_once(
        &self,
        deletion: &Deletion,
        attempt: u32,
        scope: &Scope,
    ) -> Result<(), CallError> {
        let call = Call {
            operation: Operation::Delete,
            method: Method::Delete,
            path: format!("snapshots/{}/", deletion.snapshot()),
            body: None,
            subject: Subject {
                snapshot_id: Some(deletion.snapshot()),
                snapshot: Some(deletion.name().to_owned()),
                ..scope.subject()
            },
            attempt,
            seen: Some(deletion.seen()),
            scope,
        };
        let read = |status, _: Result<Vec<u8>, TornBody>, _: &mut Record<'_>| match status {
            204 => Ok(()),
            other => Err(format!("a delete is answered with 204, not {other}")),
        };
        self.exchange(call, read).await.map(|_| ())
    }

    fn look<'a>(
        &self,
        operation: Operation,
        path: String,
        attempt: u32,
        scope: &'a Scope,
    ) -> Call<'a> {
        let subject = scope.subject();
        Call {
            operation,
            method: Method::Get,
            path,
            body: None,
            subject,
            attempt,
            seen: None,
            scope,
        }
    }

    fn tries(&self) -> Tries {
        Tries { attempt: 1, backoff: Box::new(self.backoff()) }
    }

    /// Waits before another try; gives the error back when it would not mend, or when the tries or
    /// the time are used up.
    async fn wait_to_try_again(
        &self,
        tries: &mut Tries,
        error: CallError,
        scope: &Scope,
    ) -> Result<(), CallError> {
        let passing = error.outcome().is_some_and(Outcome::may_pass);
        let wait = tries.backoff.next().unwrap_or(BACKOFF_MAX);
        if !passing || tries.attempt > self.retries || !self.has_time(scope, wait) {
            return Err(error);
        }
        tries.attempt += 1;
        self.pause(scope, wait).await
    }

    /// The waits between tries: exponential, with jitter, from 1 s to 30 s.
    pub fn backoff(&self) -> impl Iterator<Item = Duration> + use<> {
        let seed = self.random.lock().unwrap_or_else(PoisonError::into_inner).random();
        ExponentialBuilder::new()
            .with_min_delay(BACKOFF_MIN)
            .with_max_delay(BACKOFF_MAX)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(seed)
            .build()
            .map(|wait| wait.min(BACKOFF_MAX))
    }

    /// Whether a wait of this span would end before the scope's time is up.
    #[must_use]
    pub fn has_time(&self, scope: &Scope, wait: Duration) -> bool {
        let then = self.clock.now().uptime.saturating_add(wait);
        scope.give_up_at.is_none_or(|end| then < end)
    }

    /// Waits, unless snapring shuts down meanwhile.
    ///
    /// # Errors
    /// [`CallError::Interrupted`].
    pub async fn pause(&self, scope: &Scope, span: Duration) -> Result<(), CallError> {
        tokio::select! {
            () = scope.shutdown.cancelled() => Err(CallError::Interrupted),
            () = self.clock.sleep(span) => Ok(()),
        }
    }

    /// One exchange: waits for its turn, sends, classes, and tells the log. `understand` reads a
    /// 2xx; what it cannot read makes the answer malformed. Also says when it was sent.
    async fn exchange<T>(
        &self,
        call: Call<'_>,
        understand: impl FnOnce(u16, Result<Vec<u8>, TornBody>, &mut Record<'_>) -> Result<T, String>,
    ) -> Result<(T, Moment), CallError> {
        let Call { operation, method, path, body, subject, attempt, seen, scope } = call;
        let urgency = if seen.is_some() { Urgency::Change } else { Urgency::Look };
        let _turn = tokio::select! {
            biased;
            () = scope.shutdown.cancelled() => return Err(CallError::Interrupted),
            () = self.time_is_up(scope) => return Err(CallError::OutOfTime),
            turn = self.admission.admit(urgency) => turn,
        };
        let token =
            self.credentials.token().map_err(|error| CallError::NoToken(error.to_string()))?;
        // As late as can be: the wait for the turn may have been long.
        let sent_at = self.clock.now();
        if let Some(age) =
            seen.map(|seen| seen.age_at(sent_at)).filter(|age| *age > EVIDENCE_MAX_AGE)
        {
            return Err(CallError::Stale(age));
        }
        scope.calls.fetch_add(1, Ordering::Relaxed);
        let mut record = Record::begin(operation, subject, attempt, &self.clock);
        let request = Request { method, path, body, token: token.clone() };
        let failure = match self.transport.exchange(request).await {
            Err(error) => Failure {
                operation,
                outcome: Outcome::Transport,
                status: None,
                message: redact(&error.to_string(), &token),
                retry_after: None,
            },
            Ok(answer) => match Outcome::of_status(answer.status) {
                Outcome::Ok => match understand(answer.status, answer.body, &mut record) {
                    Ok(value) => {
                        record.end(Outcome::Ok, Some(answer.status), operation.as_str());
                        self.accepted();
                        return Ok((value, sent_at));
                    }
                    Err(reason) => Failure {
                        operation,
                        outcome: Outcome::Malformed,
                        status: Some(answer.status),
                        message: redact(&reason, &token),
                        retry_after: None,
                    },
                },
                outcome => {
                    let words = match &answer.body {
                        Ok(body) => body::error_message(body),
                        Err(torn) => torn.to_string(),
                    };
                    let retry_after = answer
                        .retry_after
                        .filter(|_| outcome == Outcome::Throttled)
                        .and_then(|text| retry_after(&text, sent_at));
                    Failure {
                        operation,
                        outcome,
                        status: Some(answer.status),
                        message: redact(&words, &token),
                        retry_after,
                    }
                }
            },
        };
        record.end(failure.outcome, failure.status, &failure.message);
        self.heed(&failure, attempt);
        Err(failure.into())
    }

    /// What a failure means for everyone on the account.
    fn heed(&self, failure: &Failure, attempt: u32) {
        match failure.outcome {
            Outcome::Throttled => {
                let own_guess = || {
                    let tries = usize::try_from(attempt).unwrap_or(usize::MAX);
                    self.backoff().take(tries).last().unwrap_or(BACKOFF_MIN)
                };
                self.admission.close_for(failure.retry_after.unwrap_or_else(own_guess));
            }
            Outcome::Unauthorized if !self.refused.swap(true, Ordering::Relaxed) => {
                tracing::error!(
                    event = "alarm",
                    outcome = failure.outcome.as_str(),
                    status = failure.status,
                    "the account's token was refused ({}): check that it is valid and may manage \
                     snapshots; it is read again before each rotation",
                    failure.message
                );
            }
            _ => {}
        }
    }

    fn accepted(&self) {
        if self.refused.swap(false, Ordering::Relaxed) {
            tracing::info!(
                event = "alarm",
                outcome = "ok",
                "the account's token is accepted again"
            );
        }
    }

    async fn time_is_up(&self, scope: &Scope) {
        match scope.give_up_at {
            Some(end) => self.clock.sleep(end.saturating_sub(self.clock.now().uptime)).await,
            None => std::future::pending().await,
        }
    }
}

/// How often a call was tried, and the waits to come.
struct Tries {
    attempt: u32,
    backoff: Box<dyn Iterator<Item = Duration> + Send>,
}

/// A listing while its pages come in.
#[derive(Default)]
struct Reading {
    snapshots: Vec<Snapshot>,
    seen: BTreeSet<SnapshotId>,
    queries: BTreeSet<String>,
    count: Option<u64>,
}

impl Reading {
    /// Takes a page in; gives the next page's query. Fails when the pages do not belong together.
    fn take(&mut self, page: Page) -> Result<Option<String>, String> {
        if self.snapshots.len() + page.snapshots.len() > MAX_ROWS {
            return Err(format!("more than {MAX_ROWS} rows"));
        }
        for snapshot in page.snapshots {
            if !self.seen.insert(snapshot.id) {
                return Err(format!(
                    "snapshot {} is listed twice: the listing changed while it was read",
                    snapshot.id
                ));
            }
            self.snapshots.push(snapshot);
        }
        if self.count.is_some() && page.count.is_some() && self.count != page.count {
            return Err("`count` changed from page to page".to_owned());
        }
        self.count = self.count.or(page.count);
        if let Some(query) = page.next_query {
            if !self.queries.insert(query.clone()) {
                return Err("`next` leads back to a page that was read".to_owned());
            }
            return Ok(Some(query));
        }
        let rows = self.snapshots.len() as u64;
        match self.count {
            Some(count) if count != rows => {
                Err(format!("`count` says {count}, but {rows} rows were listed"))
            }
            _ => Ok(None),
        }
    }
}

fn incomplete(operation: Operation, message: &str) -> CallError {
    let message = message.to_owned();
    Failure { operation, outcome: Outcome::Malformed, status: None, message, retry_after: None }
        .into()
}

/// `Retry-After`: seconds, or a date of HTTP. `None` when it is neither.
fn retry_after(text: &str, now: Moment) -> Option<Duration> {
    let text = text.trim();
    let span = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(SystemTime::from(now.wall)).unwrap_or_default()
        }
    };
    Some(span.min(RETRY_AFTER_MAX))
}
