//! The client: the provider's endpoints with everything that stands around a call.
//!
//! Each call waits for its turn, carries the token, is bounded, is classed and leaves one event.
//! Listings and deletes are tried again here; a create and a restore are sent once, since what
//! must be looked at before a second try is the caller's business.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use crate::backoff;
use crate::call::{CallError, Failure, Operation, Outcome};
use crate::clock::Clock;
use crate::moment::Moment;
use crate::naming::ServerId;
use crate::plan::{Creation, Deletion};
use crate::provider::admission::{Admission, Admitted, Urgency};
use crate::provider::body::{self, AccountServer, TokenInfo};
use crate::provider::call_context::CallContext;
use crate::provider::call_event::{CallEvent, CallSubject};
use crate::provider::credentials::Credentials;
use crate::provider::exchange::Call;
use crate::provider::last_seen::LastSeen;
use crate::provider::metrics::CallMetrics;
use crate::provider::pagination::PageReader;
use crate::provider::pending_changes::PendingChanges;
use crate::provider::settings::ApiSettings;
use crate::provider::shared_listing::SharedListing;
use crate::provider::transport::{Method, TornBody, Transport};
use crate::snapshot::{Listing, Snapshot};

/// More pages than any account has; past it, `next` leads in circles.
pub(super) const MAX_PAGES: usize = 1000;

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What the provider makes of the account's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenState {
    /// No call has been answered yet.
    Untried,
    /// A call succeeded, and none was refused since.
    Accepted,
    /// A call was refused, and such a one has not succeeded since.
    Refused,
}

/// One account at the provider.
pub struct Client {
    pub(super) transport: Box<dyn Transport>,
    base: Url,
    pub(super) clock: Clock,
    pub(super) credentials: Credentials,
    pub(super) admission: Admission,
    retries: u32,
    /// For what the account's token was refused, if that has not succeeded since.
    pub(super) refused: Mutex<Option<Operation>>,
    /// Whether the account's token was ever accepted.
    pub(super) accepted: AtomicBool,
    pub(super) metrics: CallMetrics,
    pub(super) pending_changes: PendingChanges,
    pub(super) shared_listing: SharedListing,
    pub(super) last_seen: LastSeen,
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
            refused: Mutex::default(),
            accepted: AtomicBool::new(false),
            metrics: CallMetrics::default(),
            pending_changes: PendingChanges::default(),
            shared_listing: SharedListing::default(),
            last_seen: LastSeen::default(),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    /// The same, for the account that another one was for: what that knows of its servers stays known,
    /// what the provider asked the account to wait for is waited for, and their calls are counted
    /// together.
    #[must_use]
    pub fn in_place_of(self, before: &Self) -> Self {
        Self {
            metrics: before.metrics.clone(),
            pending_changes: before.pending_changes.clone(),
            last_seen: before.last_seen.clone(),
            admission: self.admission.beside(&before.admission),
            ..self
        }
    }

    /// Whether this server was ever listed.
    #[must_use]
    pub fn has_seen(&self, server: ServerId) -> bool {
        self.last_seen.know(server)
    }

    /// Forgets what other servers had.
    pub fn keep_only(&self, keep: impl Fn(ServerId) -> bool) {
        self.last_seen.keep_only(keep);
    }

    /// What its calls, and those of the clients that it counts with, came to.
    #[must_use]
    pub fn metrics(&self) -> &CallMetrics {
        &self.metrics
    }

    /// What the provider makes of the token.
    #[must_use]
    pub fn token_state(&self) -> TokenState {
        if self.refused.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            TokenState::Refused
        } else if self.accepted.load(Ordering::Relaxed) {
            TokenState::Accepted
        } else {
            TokenState::Untried
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
        if let Err(error) = self.credentials.refresh(self.clock.now().uptime) {
            tracing::warn!(event = "token", "the token could not be read again: {error}");
        }
    }

    /// Every snapshot of one server.
    ///
    /// # Errors
    /// When no complete listing could be had, for whatever reason.
    pub async fn list(&self, server: ServerId, scope: &CallContext) -> Result<Listing, CallError> {
        let (mut snapshots, asked_at) = self.list_all(Some(server), scope).await?;
        // The filter may have been ignored.
        snapshots.retain(|snapshot| snapshot.server == server);
        let listing = Listing::complete(server, snapshots, asked_at);
        self.last_seen.saw(&listing);
        Ok(listing)
    }

    /// Every snapshot of the account, and when they were asked for.
    ///
    /// # Errors
    /// As for [`Client::list`].
    pub async fn list_account(
        &self,
        scope: &CallContext,
    ) -> Result<(Vec<Snapshot>, Moment), CallError> {
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
        scope: &CallContext,
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
            subject: CallSubject { snapshot: Some(creation.name().to_owned()), ..scope.subject() },
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
        self.last_seen.made(snapshot.server, snapshot.id);
        Ok(snapshot)
    }

    /// Deletes one snapshot; one that is not there is deleted. Tried again until the provider has
    /// given a clear answer or the listing has become too old.
    ///
    /// # Errors
    /// When it may still be there.
    pub async fn delete(&self, deletion: &Deletion, scope: &CallContext) -> Result<(), CallError> {
        let mut tries = self.tries();
        // Of a try that may have been carried out; one that was throttled has changed nothing.
        let mut unknown = None;
        loop {
            let error = match self.delete_once(deletion, tries.attempt, scope).await {
                Ok(()) => {
                    if let Some((server, _)) = &scope.server {
                        self.last_seen.deleted(*server, deletion.snapshot());
                    }
                    return Ok(());
                }
                Err(error) if error.outcome() == Some(Outcome::NotFound) => return Ok(()),
                // An answer that cannot be understood calls for a look, not for another try.
                Err(error) if error.outcome() == Some(Outcome::Malformed) => return Err(error),
                // Not sent this time, or refused: that says nothing of the try before, which may have
                // been carried out. To believe it could cost another snapshot.
                Err(error)
                    if matches!(error, CallError::Stale(_) | CallError::Pinned)
                        || error.outcome() == Some(Outcome::Rejected) =>
                {
                    return Err(unknown.unwrap_or(error));
                }
                Err(error) => error,
            };
            if matches!(error.outcome(), Some(Outcome::ServerError | Outcome::Transport)) {
                unknown = Some(error.clone());
            }
            self.wait_to_try_again(&mut tries, error, scope).await?;
        }
    }

    /// Overwrites a server with one of its snapshots. Sent once.
    ///
    /// # Errors
    /// When the provider did not say that it has begun.
    pub async fn restore(&self, snapshot: &Snapshot, scope: &CallContext) -> Result<(), CallError> {
        let call = Call {
            operation: Operation::Restore,
            method: Method::Post,
            path: format!("snapshots/{}/restore/", snapshot.id),
            body: None,
            subject: CallSubject {
                snapshot_id: Some(snapshot.id),
                snapshot: Some(snapshot.name.clone()),
                ..scope.subject()
            },
            attempt: 1,
            seen: None,
            scope,
        };
        let understood = |_, body: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| {
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
    pub async fn account(&self, scope: &CallContext) -> Result<TokenInfo, CallError> {
        let mut tries = self.tries();
        loop {
            let call =
                self.glance(Operation::Account, "account/me/".to_owned(), tries.attempt, scope);
            let read = |_, body: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| {
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
    pub async fn servers(&self, scope: &CallContext) -> Result<Vec<AccountServer>, CallError> {
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
        scope: &CallContext,
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
        scope: &CallContext,
    ) -> Result<(Vec<Snapshot>, Moment), CallError> {
        let mut reading = PageReader::default();
        let mut query = server.map(|id| format!("server_id={id}"));
        let mut asked_at = None;
        for _ in 0..MAX_PAGES {
            let turn = self.turn(Urgency::Look, scope).await?;
            let (next, sent_at) =
                self.read_page(turn, query.as_deref(), &mut reading, attempt, scope).await?;
            let asked_at = *asked_at.get_or_insert(sent_at);
            if next.is_none() {
                return Ok((reading.snapshots, asked_at));
            }
            query = next;
        }
        Err(incomplete(Operation::List, "the pages do not end"))
    }

    /// Reads one page of a listing; gives the next one's query, and when this one was sent for.
    pub(crate) async fn read_page(
        &self,
        turn: Admitted<'_>,
        query: Option<&str>,
        reading: &mut PageReader,
        attempt: u32,
        scope: &CallContext,
    ) -> Result<(Option<String>, Moment), CallError> {
        let path = query.map_or("snapshots/".to_owned(), |query| format!("snapshots/?{query}"));
        let call = self.glance(Operation::List, path, attempt, scope);
        let read = |_, body: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| {
            let body = body.map_err(|torn| torn.to_string())?;
            reading.take(body::page(&body, &self.base)?)
        };
        self.exchange_in_turn(turn, call, read).await
    }

    async fn servers_once(
        &self,
        attempt: u32,
        scope: &CallContext,
    ) -> Result<Vec<AccountServer>, CallError> {
        let mut servers = Vec::new();
        let mut path = "servers/".to_owned();
        for _ in 0..MAX_PAGES {
            let call = self.glance(Operation::Servers, path, attempt, scope);
            let read = |_, body: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| {
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
        scope: &CallContext,
    ) -> Result<(), CallError> {
        let call = Call {
            operation: Operation::Delete,
            method: Method::Delete,
            path: format!("snapshots/{}/", deletion.snapshot()),
            body: None,
            subject: CallSubject {
                snapshot_id: Some(deletion.snapshot()),
                snapshot: Some(deletion.name().to_owned()),
                ..scope.subject()
            },
            attempt,
            seen: Some(deletion.seen()),
            scope,
        };
        let read = |status, _: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| match status {
            204 => Ok(()),
            other => Err(format!("a delete is answered with 204, not {other}")),
        };
        self.exchange(call, read).await.map(|_| ())
    }

    fn glance<'a>(
        &self,
        operation: Operation,
        path: String,
        attempt: u32,
        scope: &'a CallContext,
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

    pub(super) fn tries(&self) -> Tries {
        Tries { attempt: 1, backoff: Box::new(self.backoff()) }
    }

    /// Waits before another try; gives the error back when it would not mend, or when the tries or
    /// the time are used up.
    pub(super) async fn wait_to_try_again(
        &self,
        tries: &mut Tries,
        error: CallError,
        scope: &CallContext,
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
        backoff::with_jitter(BACKOFF_MIN, BACKOFF_MAX, seed)
    }

    /// Whether a wait of this span would end before the scope's time is up.
    #[must_use]
    pub fn has_time(&self, scope: &CallContext, wait: Duration) -> bool {
        let then = self.clock.now().uptime.saturating_add(wait);
        scope.give_up_at.is_none_or(|end| then < end)
    }

    /// Waits, unless snapring shuts down meanwhile.
    ///
    /// # Errors
    /// [`CallError::Interrupted`].
    pub async fn pause(&self, scope: &CallContext, span: Duration) -> Result<(), CallError> {
        tokio::select! {
            biased;
            () = scope.shutdown.cancelled() => Err(CallError::Interrupted),
            () = self.clock.sleep(span) => Ok(()),
        }
    }
}

/// How often a call was tried, and the waits to come.
pub(super) struct Tries {
    pub(super) attempt: u32,
    backoff: Box<dyn Iterator<Item = Duration> + Send>,
}

fn incomplete(operation: Operation, message: &str) -> CallError {
    let message = message.to_owned();
    Failure { operation, outcome: Outcome::Malformed, status: None, message, retry_after: None }
        .into()
}
