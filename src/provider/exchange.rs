//! One call, whole: it waits for its turn, carries the token, is classed, and leaves one event.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::call::{CallError, Failure, Operation, Outcome};
use crate::moment::Moment;
use crate::provider::admission::{Admitted, Urgency};
use crate::provider::body;
use crate::provider::call_context::CallContext;
use crate::provider::call_event::{CallEvent, CallSubject};
use crate::provider::client::Client;
use crate::provider::credentials::redact;
use crate::provider::retry_after::retry_after;
use crate::provider::transport::{Method, Request, TornBody};

/// The oldest listing that anything may be created or deleted on the strength of.
pub const EVIDENCE_MAX_AGE: Duration = Duration::from_secs(60);

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

impl Client {
    /// One exchange: waits for its turn, sends, classes, and tells the log. `understand` reads a
    /// 2xx; what it cannot read makes the answer malformed. Also says when it was sent.
    pub(crate) async fn exchange<T>(
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
        self.exchange_in_turn(turn, call, understand).await
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
    pub(crate) async fn exchange_in_turn<T>(
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
                        self.accepted(operation);
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
                    self.backoff().take(tries).last().unwrap_or_default()
                };
                self.admission.close_for(failure.retry_after.unwrap_or_else(own_guess));
            }
            Outcome::Unauthorized if !is_shared && self.is_news(failure.operation) => {
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

    /// Whether this is the first refusal since the token was good: one alarm an account.
    fn is_news(&self, operation: Operation) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let first = refused.is_none();
        *refused = Some(operation);
        first
    }

    /// A token may be good for looking and too weak for creating: only what was refused clears it.
    fn accepted(&self, operation: Operation) {
        self.accepted.store(true, Ordering::Relaxed);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if *refused == Some(operation) {
            *refused = None;
            tracing::info!(
                event = "alarm",
                outcome = "ok",
                "the account's token is accepted again"
            );
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
