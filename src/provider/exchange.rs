//! One call, whole: it waits for its turn, carries the token, is classed, and leaves one event.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use url::Url;

use crate::call::{CallError, Failure, Operation, Outcome};
use crate::clock::Clock;
use crate::moment::Moment;
use crate::provider::admission::{Admission, Admitted, Urgency};
use crate::provider::body;
use crate::provider::call_context::CallContext;
use crate::provider::call_event::{CallEvent, CallSubject};
use crate::provider::credentials::{Credentials, redact};
use crate::provider::metrics::CallMetrics;
use crate::provider::pending_changes::PendingChanges;
use crate::provider::retry;
use crate::provider::retry_after::retry_after;
use crate::provider::settings::ApiSettings;
use crate::provider::token_state::{TokenHistory, TokenState};
use crate::provider::transport::{Method, Request, TornBody, Transport};

/// The oldest listing that anything may be created or deleted on the strength of.
pub(super) const EVIDENCE_MAX_AGE: Duration = Duration::from_secs(60);

/// One request, before it has its turn.
pub(crate) struct Call<'a> {
    pub(crate) operation: Operation,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) subject: CallSubject,
    pub(crate) attempt: u32,
    /// The listing that a change rests on.
    pub(crate) seen: Option<Moment>,
    pub(crate) scope: &'a CallContext,
}

impl<'a> Call<'a> {
    /// One that changes nothing.
    pub(crate) fn get(
        operation: Operation,
        path: String,
        attempt: u32,
        scope: &'a CallContext,
    ) -> Self {
        let subject = scope.subject();
        Self {
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
}

/// The way to one account: everything that one call needs. Clones are the same way.
#[derive(Clone)]
pub(crate) struct Exchange {
    transport: Arc<dyn Transport>,
    base: Url,
    clock: Clock,
    credentials: Arc<Credentials>,
    token: Arc<TokenHistory>,
    admission: Admission,
    retries: u32,
    metrics: CallMetrics,
    pending_changes: PendingChanges,
    random: Arc<Mutex<StdRng>>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Exchange")
            .field("base", &self.base.as_str())
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

impl Exchange {
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        settings: &ApiSettings,
        credentials: Credentials,
        clock: Clock,
        seed: u64,
    ) -> Self {
        let ApiSettings { max_in_flight, requests_per_minute, .. } = *settings;
        Self {
            transport: transport.into(),
            base: settings.base_url.clone(),
            admission: Admission::new(clock.clone(), max_in_flight, requests_per_minute),
            clock,
            credentials: credentials.into(),
            token: Arc::default(),
            retries: settings.retries,
            metrics: CallMetrics::default(),
            pending_changes: PendingChanges::default(),
            random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
        }
    }

    /// See [`Client::in_place_of`](crate::provider::client::Client::in_place_of).
    pub(crate) fn in_place_of(self, before: &Self) -> Self {
        Self {
            metrics: before.metrics.clone(),
            pending_changes: before.pending_changes.clone(),
            admission: self.admission.beside(&before.admission),
            ..self
        }
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn metrics(&self) -> &CallMetrics {
        &self.metrics
    }

    pub(crate) fn pending_changes(&self) -> &PendingChanges {
        &self.pending_changes
    }

    /// Further tries after a first one failed.
    pub(crate) fn retries(&self) -> u32 {
        self.retries
    }

    pub(crate) fn token_state(&self) -> TokenState {
        self.token.state()
    }

    pub(crate) fn random(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Reads the token again. If that fails, the one from before stays in use.
    pub(crate) async fn refresh_token(&self) {
        if let Err(error) = Arc::clone(&self.credentials).refresh_in_time(&self.clock).await {
            tracing::warn!(event = "token", "the token could not be read again: {error}");
        }
    }

    /// Whether a wait of this span would end before the scope's time is up.
    pub(crate) fn has_time(&self, scope: &CallContext, wait: Duration) -> bool {
        let then = self.clock.now().uptime.saturating_add(wait);
        scope.give_up_at.is_none_or(|end| then < end)
    }

    /// Waits, unless snapring shuts down meanwhile.
    pub(crate) async fn pause(&self, scope: &CallContext, span: Duration) -> Result<(), CallError> {
        tokio::select! {
            biased;
            () = scope.shutdown.cancelled() => Err(CallError::Interrupted),
            () = self.clock.sleep(span) => Ok(()),
        }
    }

    /// One exchange: waits for its turn, sends, classes, and tells the log. `understand` reads a
    /// 2xx; what it cannot read makes the answer malformed. Also says when it was sent.
    pub(crate) async fn send<T>(
        &self,
        call: Call<'_>,
        understand: impl FnOnce(u16, Result<Vec<u8>, TornBody>, &mut CallEvent<'_>) -> Result<T, String>,
    ) -> Result<(T, Moment), CallError> {
        let turn = match call.seen {
            None => self.turn(Urgency::Look, call.scope).await?,
            Some(seen) => {
                // Whoever's listing grows too old in the line leaves it, and takes nobody's turn.
                let age = seen.age_at(self.clock.now());
                let left = EVIDENCE_MAX_AGE.checked_sub(age).ok_or(CallError::Stale(age))?;
                let turn = self.turn(Urgency::Change, call.scope);
                self.clock.timeout(left, turn).await.ok_or(CallError::Stale(EVIDENCE_MAX_AGE))??
            }
        };
        self.send_in_turn(turn, call, understand).await
    }

    /// Waits for one's turn to send.
    pub(crate) async fn turn(
        &self,
        urgency: Urgency,
        scope: &CallContext,
    ) -> Result<Admitted<'_>, CallError> {
        tokio::select! {
            biased;
            () = scope.shutdown.cancelled() => Err(CallError::Interrupted),
            () = self.time_is_up(scope) => Err(CallError::OutOfTime),
            turn = self.admission.admit(urgency) => Ok(turn),
        }
    }

    /// The same, once it is one's turn.
    pub(crate) async fn send_in_turn<T>(
        &self,
        _turn: Admitted<'_>,
        call: Call<'_>,
        understand: impl FnOnce(u16, Result<Vec<u8>, TornBody>, &mut CallEvent<'_>) -> Result<T, String>,
    ) -> Result<(T, Moment), CallError> {
        let Call { operation, method, path, body, subject, attempt, seen, scope } = call;
        let token =
            self.credentials.token().map_err(|error| CallError::NoToken(error.to_string()))?;
        // As late as can be: the wait for the turn may have been long.
        let sent_at = self.clock.now();
        if let Some(age) =
            seen.map(|seen| seen.age_at(sent_at)).filter(|age| *age > EVIDENCE_MAX_AGE)
        {
            return Err(CallError::Stale(age));
        }
        if operation == Operation::Delete
            && subject.snapshot_id.is_some_and(|snapshot| scope.pins.hold(snapshot))
        {
            return Err(CallError::Pinned);
        }
        scope.count_call();
        let _change = operation.changes().then(|| self.pending_changes.begin());
        let mut record = CallEvent::begin(operation, subject, attempt, &self.clock, &self.metrics);
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
                        record.end(Outcome::Ok, Some(answer.status), "");
                        self.token.accepted(operation);
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
                        .and_then(|text| retry_after(&text, sent_at.wall));
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
        self.heed(&failure, attempt, scope);
        Err(failure.into())
    }

    /// What a failure means for everyone on the account.
    fn heed(&self, failure: &Failure, attempt: u32, scope: &CallContext) {
        // A token that may list single servers only is none the worse for it.
        let is_shared = failure.operation == Operation::List && scope.server.is_none();
        match failure.outcome {
            Outcome::Throttled => {
                let own_guess = || {
                    let tries = usize::try_from(attempt).unwrap_or(usize::MAX);
                    retry::backoff(self).take(tries).last().unwrap_or_default()
                };
                self.admission.close_for(failure.retry_after.unwrap_or_else(own_guess));
            }
            Outcome::Unauthorized if !is_shared && self.token.is_news(failure.operation) => {
                tracing::error!(
                    event = "alarm",
                    outcome = failure.outcome.as_str(),
                    status = failure.status,
                    "the account's token was refused ({}): check that it is valid and may manage \
                     snapshots; {}",
                    failure.message,
                    self.credentials.how_to_renew()
                );
            }
            _ => {}
        }
    }

    /// Ends when the scope's time is up.
    pub(crate) async fn time_is_up(&self, scope: &CallContext) {
        match scope.give_up_at {
            Some(end) => self.clock.sleep(end.saturating_sub(self.clock.now().uptime)).await,
            None => std::future::pending().await,
        }
    }
}
