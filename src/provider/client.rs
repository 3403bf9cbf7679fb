//! The client: the provider's endpoints with everything that stands around a call.
//!
//! Each call waits for its turn, carries the token, is bounded, is classed and leaves one event.
//! Listings and deletes are tried again here; a create and a restore are sent once, since what
//! must be looked at before a second try is the caller's business.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::activity::Activities;
use crate::answer::Verdict;
use crate::call::{CallError, Operation, Outcome};
use crate::clock::Clock;
use crate::completion::Sharing;
use crate::coverage::AccountServer;
use crate::moment::Moment;
use crate::naming::{Account, ServerId};
use crate::plan::{Creation, Deletion};
use crate::provider::body::{self, TokenInfo};
use crate::provider::call_context::CallContext;
use crate::provider::call_event::{CallEvent, CallSubject};
use crate::provider::credentials::Credentials;
pub use crate::provider::exchange::Throttled;
use crate::provider::exchange::{Call, Content, Exchange};
use crate::provider::last_seen::LastSeen;
use crate::provider::metrics::CallMetrics;
use crate::provider::pagination;
use crate::provider::retry::{self, Tries};
use crate::provider::settings::ApiSettings;
use crate::provider::shared_listing::{SharedListing, When};
use crate::provider::token_state::TokenState;
use crate::provider::transport::{Method, TornBody, Transport};
use crate::snapshot::{Listing, Snapshot};

/// One account at the provider.
pub struct Client {
    exchange: Exchange,
    shared_listing: Arc<SharedListing>,
    last_seen: LastSeen,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Client").field(&self.exchange).finish()
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
        let exchange = Exchange::new(transport, settings, credentials, clock, seed);
        Self::over(exchange, LastSeen::default())
    }

    fn over(exchange: Exchange, last_seen: LastSeen) -> Self {
        let shared_listing = SharedListing::new(exchange.clone(), last_seen.clone()).into();
        Self { exchange, shared_listing, last_seen }
    }

    /// The same, for the account that another one was for: what that knows of its servers stays known,
    /// what the provider asked the account to wait for is waited for, and their calls are counted
    /// together.
    #[must_use]
    pub fn in_place_of(self, before: &Self) -> Self {
        Self::over(self.exchange.in_place_of(&before.exchange), before.last_seen.clone())
    }

    /// The same account, with its calls and waits on this list.
    #[must_use]
    pub fn watched_by(&self, activities: Activities) -> Self {
        Self::over(self.exchange.clone().watched_by(activities), self.last_seen.clone())
    }

    /// Whose client it is.
    #[must_use]
    pub fn whose(&self) -> Account {
        self.exchange.whose()
    }

    /// The same, with its calls counted beside those of another account's client.
    #[must_use]
    pub fn counted_beside(self, other: &Self) -> Self {
        Self::over(self.exchange.counted_beside(other.metrics()), self.last_seen)
    }

    /// The list of what is under way on behalf of those who use this client.
    #[must_use]
    pub fn activities(&self) -> &Activities {
        self.exchange.activities()
    }

    /// What the provider has asked to wait for (429), as of now.
    #[must_use]
    pub fn throttled(&self) -> Throttled {
        self.exchange.throttled()
    }

    /// So many servers are looked at: few of them share nothing.
    pub fn serves(&self, servers: usize) {
        self.shared_listing.serves(servers);
    }

    /// Whether looks that come together may share a listing of the account.
    #[must_use]
    pub fn shares_listings(&self) -> bool {
        self.shared_listing.shares()
    }

    /// Every snapshot of one server, asked for in the given time.
    ///
    /// # Errors
    /// As for [`Client::list`].
    pub async fn look(
        &self,
        server: ServerId,
        scope: &CallContext,
        when: When,
        sharing: Sharing,
    ) -> Result<Listing, CallError> {
        self.shared_listing.look(server, scope, when, sharing).await
    }

    /// Whether this server was ever listed in one answer.
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
        self.exchange.metrics()
    }

    /// What the provider makes of the token.
    #[must_use]
    pub fn token_state(&self) -> TokenState {
        self.exchange.token_state()
    }

    /// Since when the provider has refused the token, if it does.
    #[must_use]
    pub fn token_refused_since(&self) -> Option<Timestamp> {
        self.exchange.token_refused_since()
    }

    /// The clock that its time is measured by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.exchange.clock()
    }

    /// Further tries after a first one failed.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.exchange.retries()
    }

    /// Reads the token again, so that a new one takes effect with the next rotation. What is wrong
    /// with it is logged; the token from before stays in use.
    pub async fn refresh_token(&self) {
        self.exchange.refresh_token().await;
    }

    /// Every snapshot of one server.
    ///
    /// # Errors
    /// When no complete listing could be had, for whatever reason.
    pub async fn list(&self, server: ServerId, scope: &CallContext) -> Result<Listing, CallError> {
        self.shared_listing.list(server, scope).await
    }

    /// Every snapshot of the account, and when they were asked for.
    ///
    /// # Errors
    /// As for [`Client::list`].
    pub async fn list_account(
        &self,
        scope: &CallContext,
    ) -> Result<(Vec<Snapshot>, Moment), CallError> {
        pagination::snapshots(&self.exchange, None, self.shared_listing.servers(), scope).await
    }

    /// Creates one snapshot. Sent once: [`CallError::verdict`] says whether it may have been made.
    ///
    /// # Errors
    /// When it was not sent, or the answer is anything but a snapshot of the server. Its name may be
    /// another one than was asked for.
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
            .exchange
            .send(call, |body, record| {
                let body = body.map_err(|torn| torn.to_string())?;
                let snapshot = body::created(&body, self.whose())?;
                if snapshot.server != creation.server() {
                    return Err("the answer is about another server".to_owned());
                }
                record.name_snapshot(snapshot.id);
                Ok(snapshot.into())
            })
            .await?;
        self.last_seen.made(snapshot.server, snapshot.id);
        Ok(snapshot)
    }

    /// Deletes one snapshot; one that is not there is deleted. Tried again after errors of the server or
    /// the connection, until the listing has become too old. One that is put off is for the caller to
    /// look for first.
    ///
    /// # Errors
    /// When it may still be there.
    pub async fn delete(&self, deletion: &Deletion, scope: &CallContext) -> Result<(), CallError> {
        let mut tries = Tries::begin(&self.exchange);
        // Of a try that may have been carried out.
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
                // These call for a look, not for another try.
                Err(error)
                    if matches!(
                        error.outcome(),
                        Some(Outcome::Malformed | Outcome::Busy | Outcome::Throttled)
                    ) =>
                {
                    return Err(error);
                }
                // Not sent this time, or refused: that says nothing of the try before, which may have
                // been carried out. To believe it could cost another snapshot.
                Err(error)
                    if matches!(
                        error,
                        CallError::Stale(_) | CallError::Pinned | CallError::Throttled(_)
                    ) || error.outcome() == Some(Outcome::Rejected) =>
                {
                    return Err(unknown.unwrap_or(error));
                }
                Err(error) => error,
            };
            if error.verdict() == Verdict::Unknown {
                unknown = Some(error.clone());
            }
            // Whatever ends the tries: one of them may have been carried out.
            tries.wait(&self.exchange, error, scope).await.map_err(|error| {
                if error.verdict() == Verdict::Unknown {
                    error
                } else {
                    unknown.clone().unwrap_or(error)
                }
            })?;
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
                snapshot: Some(snapshot.name.to_string()),
                ..scope.subject()
            },
            attempt: 1,
            seen: None,
            scope,
        };
        let understood = |body: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| {
            let body = body.map_err(|torn| torn.to_string())?;
            serde_json::from_slice::<serde_json::Value>(&body)
                .map(|_| Content::from(()))
                .map_err(|error| format!("not the JSON that was expected: {error}"))
        };
        self.exchange.send(call, understood).await.map(|_| ())
    }

    /// Who the token is: harmless, and allowed to every active token.
    ///
    /// # Errors
    /// When the provider does not say.
    pub async fn account(&self, scope: &CallContext) -> Result<TokenInfo, CallError> {
        let mut tries = Tries::begin(&self.exchange);
        loop {
            let error = match self.exchange.account(tries.attempt, scope).await {
                Ok(info) => return Ok(info),
                Err(error) => error,
            };
            tries.wait(&self.exchange, error, scope).await?;
        }
    }

    /// The account's servers, by number.
    ///
    /// # Errors
    /// When the provider does not say, or not all of them.
    pub async fn servers(&self, scope: &CallContext) -> Result<Vec<AccountServer>, CallError> {
        pagination::servers(&self.exchange, scope).await
    }

    /// The same, tried once.
    ///
    /// # Errors
    /// As for [`Client::servers`].
    pub async fn servers_at_once(
        &self,
        scope: &CallContext,
    ) -> Result<Vec<AccountServer>, CallError> {
        pagination::servers_once(&self.exchange, 1, scope).await
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
        // 204 has no body.
        let read = |_: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| Ok(Content::from(()));
        self.exchange.send(call, read).await.map(|_| ())
    }

    /// The waits between tries: exponential, with jitter, from 1 s to 30 s.
    pub fn backoff(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        retry::backoff(&self.exchange)
    }

    /// Waits, unless snapring shuts down meanwhile.
    ///
    /// # Errors
    /// [`CallError::Interrupted`].
    pub async fn pause(&self, scope: &CallContext, span: Duration) -> Result<(), CallError> {
        self.exchange.pause(scope, span).await
    }
}
