//! One call: it waits for its turn, is sent with the token, its answer gets a class, and one event is logged.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use url::Url;

use crate::activity::{Activities, Activity, Begun, Subject};
use crate::answer::{self, Body, LISTING_MAX_AGE};
use crate::call::{CallError, Failure, Operation, Outcome};
use crate::clock::Clock;
use crate::moment::Moment;
use crate::naming::{Account, ServerId};
use crate::patience::LONGEST_WAIT;
use crate::provider::admission::{Admission, Admitted, Urgency};
use crate::provider::body::{self, TokenInfo};
use crate::provider::call_context::CallContext;
use crate::provider::call_event::{CallEvent, CallSubject};
use crate::provider::credentials::Credentials;
use crate::provider::metrics::CallMetrics;
use crate::provider::pending_changes::PendingChanges;
use crate::provider::retry;
use crate::provider::retry_after::retry_after;
use crate::provider::settings::ApiSettings;
use crate::provider::throttle::{Caller, News, Waits};
use crate::provider::token_state::{TokenHistory, TokenState};
use crate::provider::transport::{Method, Request, Response, TornBody, Transport, TransportError};

/// How often the account is asked whether it is refused too, at most.
const ASK_ACCOUNT_EVERY: Duration = Duration::from_mins(1);

/// What the provider has asked to wait for, as of now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Throttled {
    /// Until when no calls of the account are sent.
    pub account: Option<Timestamp>,
    /// Until when those of single servers are not.
    pub servers: HashMap<ServerId, Timestamp>,
}

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

/// What a body says.
pub(crate) struct Content<T> {
    pub(crate) value: T,
    /// It names a next page.
    pub(crate) has_next: bool,
    /// How many rows a list has with this page.
    pub(crate) rows: Option<usize>,
}

impl<T> From<T> for Content<T> {
    fn from(value: T) -> Self {
        Self { value, has_next: false, rows: None }
    }
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
    account: Account,
    zone: TimeZone,
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
    activities: Activities,
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
            account: settings.account,
            zone: settings.zone.clone(),
            transport: transport.into(),
            base: settings.base_url.clone(),
            admission: Admission::new(clock.clone(), max_in_flight, requests_per_minute),
            clock,
            credentials: credentials.into(),
            token: Arc::new(TokenHistory::of(settings.account)),
            retries: settings.retries,
            metrics: CallMetrics::default().of_account(settings.account),
            pending_changes: PendingChanges::default(),
            random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
            activities: Activities::default(),
        }
    }

    /// Whose it is.
    pub(crate) fn whose(&self) -> Account {
        self.account
    }

    /// The same, with its calls counted beside those of another account.
    pub(crate) fn counted_beside(self, other: &CallMetrics) -> Self {
        Self { metrics: other.of_account(self.account), ..self }
    }

    /// The same, with its calls and waits on this list.
    pub(crate) fn watched_by(self, activities: Activities) -> Self {
        Self { activities, ..self }
    }

    pub(crate) fn activities(&self) -> &Activities {
        &self.activities
    }

    /// What the provider has asked to wait for, as of now.
    pub(crate) fn throttled(&self) -> Throttled {
        let now = self.clock.now();
        let Waits { account, servers } = self.admission.waits();
        Throttled {
            account: account.map(|until| wall_at(until, now)),
            servers: servers.into_iter().map(|(id, until)| (id, wall_at(until, now))).collect(),
        }
    }

    /// A call waits until then.
    fn throttled_until(&self, server: Option<&Subject>, until: Duration) -> Begun {
        let until = wall_at(until, self.clock.now());
        self.activities.begin(server, Activity::Throttled { until })
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

    pub(crate) fn token_refused_since(&self) -> Option<Timestamp> {
        self.token.refused_since()
    }

    pub(crate) fn random(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Reads the token again. If that fails, the one from before stays in use.
    pub(crate) async fn refresh_token(&self) {
        if let Err(error) = Arc::clone(&self.credentials).refresh_in_time(&self.clock).await {
            tracing::warn!(event = "token", "cannot read the token again: {error}");
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

    /// One exchange: waits for its turn, sends, classes, and tells the log. `understand` reads the
    /// body of the documented status; what it cannot read makes the answer malformed. Also says of when
    /// the answer is: of a cached one, before it was asked for.
    pub(crate) async fn send<T>(
        &self,
        call: Call<'_>,
        understand: impl FnOnce(
            Result<Vec<u8>, TornBody>,
            &mut CallEvent<'_>,
        ) -> Result<Content<T>, String>,
    ) -> Result<(T, Moment), CallError> {
        let turn = match call.seen {
            None => self.turn(call.operation, call.scope).await?,
            Some(seen) => {
                // A call whose listing becomes too old while it waits gives up and takes no turn.
                let age = seen.age_at(self.clock.now());
                let left = LISTING_MAX_AGE.checked_sub(age).ok_or(CallError::Stale(age))?;
                let turn = self.turn(call.operation, call.scope);
                self.clock.timeout(left, turn).await.ok_or(CallError::Stale(LISTING_MAX_AGE))??
            }
        };
        self.send_in_turn(turn, call, understand).await
    }

    /// Waits for one's turn to send. Fails at once if the provider has asked to wait for longer than there
    /// is time.
    pub(crate) async fn turn(
        &self,
        operation: Operation,
        scope: &CallContext,
    ) -> Result<Admitted, CallError> {
        // Creates and deletes are decided by a listing, which must not become too old. A restore is not.
        let urgency = match operation {
            Operation::Create | Operation::Delete => Urgency::Change,
            _ if scope.in_background => Urgency::Background,
            _ => Urgency::Look,
        };
        let held_until = || self.admission.held_until(caller(operation, scope));
        let _queues = self.activities.begin(scope.server.as_ref(), Activity::Queue);
        // Shown only while the whole account waits. A wait for `requests_per_minute` is shown as a queue.
        let closed = |until| {
            let is_closed = until > self.clock.now().uptime;
            is_closed.then(|| self.throttled_until(None, until))
        };
        loop {
            self.time_allows(operation, scope)?;
            if let Some(until) = held_until() {
                let _waits = self.throttled_until(scope.server.as_ref(), until);
                self.pause(scope, until.saturating_sub(self.clock.now().uptime)).await?;
            }
            let turn = tokio::select! {
                biased;
                () = scope.shutdown.cancelled() => return Err(CallError::Interrupted),
                () = self.time_is_up(scope) => return Err(CallError::OutOfTime),
                turn = self.admission.admit_telling(urgency, closed) => turn,
            };
            // The provider may have asked this caller to wait while it stood in the line.
            if held_until().is_none() {
                return Ok(turn);
            }
        }
    }

    /// Whether there is time for what the provider has asked this caller or the account to wait.
    pub(crate) fn time_allows(
        &self,
        operation: Operation,
        scope: &CallContext,
    ) -> Result<(), CallError> {
        let now = self.clock.now();
        let held = self.admission.held_until(caller(operation, scope));
        let opens_at = self.admission.closed_until().max(held.unwrap_or_default());
        // A call without a deadline does not wait for hours either.
        let end = scope.give_up_at.unwrap_or(now.uptime.saturating_add(LONGEST_WAIT));
        if opens_at > now.uptime && opens_at > end {
            return Err(CallError::Throttled(scope.shown(
                wall_at(opens_at, now),
                now.wall,
                &self.zone,
            )));
        }
        Ok(())
    }

    /// The same, once it is one's turn.
    pub(crate) async fn send_in_turn<T>(
        &self,
        turn: Admitted,
        call: Call<'_>,
        understand: impl FnOnce(
            Result<Vec<u8>, TornBody>,
            &mut CallEvent<'_>,
        ) -> Result<Content<T>, String>,
    ) -> Result<(T, Moment), CallError> {
        let Call { operation, method, path, body, subject, attempt, seen, scope } = call;
        let token =
            self.credentials.token().map_err(|error| CallError::NoToken(error.to_string()))?;
        // Read as late as possible: the wait for the turn may have been long.
        let sent_at = self.clock.now();
        if let Some(age) =
            seen.map(|seen| seen.age_at(sent_at)).filter(|age| *age > LISTING_MAX_AGE)
        {
            return Err(CallError::Stale(age));
        }
        if operation == Operation::Delete && is_protected(&subject, scope) {
            return Err(CallError::Pinned);
        }
        scope.count_call();
        let _change = operation.changes().then(|| self.pending_changes.begin());
        let mut record = CallEvent::begin(operation, subject, attempt, &self.clock, &self.metrics);
        let request = Request { method, path, body, token };
        let attempts = self.retries.saturating_add(1);
        let activity = Activity::Call { attempt, attempts };
        let asks = self.activities.begin(scope.server.as_ref(), activity);
        let answer = self.transport.exchange(request).await;
        drop(asks);
        let mut failure = match answer {
            Err(error) => Failure {
                operation,
                outcome: Outcome::Transport,
                status: None,
                message: error.to_string(),
                token_place: None,
                retry_after: None,
                was_sent: !matches!(error, TransportError::NotSent(_)),
            },
            Ok(answer) => match self.read(operation, answer, &mut record, understand, sent_at) {
                Ok((value, status, age)) => {
                    turn.was_not_throttled();
                    record.end(Outcome::Ok, Some(status), "");
                    self.token.accepted(operation);
                    return Ok((value, sent_at.before(age)));
                }
                Err(failure) => failure,
            },
        };
        if failure.status.is_some() && failure.outcome != Outcome::Throttled {
            turn.was_not_throttled();
        }
        let news = self.heed(&mut failure, attempt, scope);
        record.end(failure.outcome, failure.status, &failure.message);
        drop(turn);
        if matches!(failure.outcome, Outcome::Forbidden | Outcome::Unauthorized)
            && let Some(is_refused) = self.account_is_refused(scope).await
        {
            failure.outcome = if is_refused { Outcome::Unauthorized } else { Outcome::Forbidden };
        }
        self.tell(&failure, news, scope);
        let is_the_tokens = match failure.outcome {
            Outcome::Unauthorized => true,
            Outcome::Forbidden => operation == Operation::Account,
            _ => false,
        };
        failure.token_place = is_the_tokens.then(|| self.credentials.place());
        Err(failure.into())
    }

    /// A call on behalf of a server was refused or forbidden: whether the account's own call is refused as
    /// well, which every active token may make. Asked at most once a minute for all servers. `None`: it was
    /// not asked.
    fn account_is_refused<'a>(
        &'a self,
        scope: &'a CallContext,
    ) -> Pin<Box<dyn Future<Output = Option<bool>> + Send + 'a>> {
        let Some(_) = &scope.server else { return Box::pin(std::future::ready(None)) };
        let mut scope = scope.clone();
        (scope.server, scope.tick) = (None, None);
        Box::pin(async move {
            let ask = async {
                let mut last = self.token.account_was_refused.lock().await;
                let now = self.clock.now().uptime;
                match *last {
                    Some((at, refused)) if now.saturating_sub(at) < ASK_ACCOUNT_EVERY => refused,
                    _ => {
                        let outcome =
                            self.account(1, &scope).await.err().and_then(|it| it.outcome());
                        let refused =
                            matches!(outcome, Some(Outcome::Unauthorized | Outcome::Forbidden));
                        *last = Some((now, refused));
                        refused
                    }
                }
            };
            tokio::select! {
                biased;
                () = scope.shutdown.cancelled() => None,
                () = self.time_is_up(&scope) => Some(false),
                refused = ask => Some(refused),
            }
        })
    }

    /// Who the token is.
    pub(crate) async fn account(
        &self,
        attempt: u32,
        scope: &CallContext,
    ) -> Result<TokenInfo, CallError> {
        let call = Call::get(Operation::Account, "account/me/".to_owned(), attempt, scope);
        let read = |body: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| {
            body::token_info(&body.map_err(|torn| torn.to_string())?).map(Content::from)
        };
        self.send(call, read).await.map(|(info, _)| info)
    }

    /// What an answer brings, with its status and its age.
    fn read<T>(
        &self,
        operation: Operation,
        answer: Response,
        record: &mut CallEvent<'_>,
        understand: impl FnOnce(
            Result<Vec<u8>, TornBody>,
            &mut CallEvent<'_>,
        ) -> Result<Content<T>, String>,
        sent_at: Moment,
    ) -> Result<(T, u16, Duration), Failure> {
        let Response { status, retry_after: wait, headers, body } = answer;
        let is_documented = status == answer::documented(operation);
        let (content, words) = if is_documented {
            match understand(body, record) {
                Ok(content) => (Some(content), String::new()),
                Err(reason) => (None, reason),
            }
        } else if let Some(host) = headers.redirect.as_ref().filter(|_| status / 100 == 3) {
            (None, format!("it redirects to {host}, which snapring does not follow"))
        } else {
            (
                None,
                body.map_or_else(
                    |torn| torn.to_string(),
                    |body| body::error_message(&body).to_string(),
                ),
            )
        };
        let body = content.as_ref().map_or(Body::Unclear, |content| Body::Understood {
            has_next: content.has_next,
            rows: content.rows,
        });
        let judgement = answer::judge(operation, status, &headers, body);
        match content {
            Some(content) if judgement.outcome == Outcome::Ok => {
                Ok((content.value, status, judgement.age))
            }
            _ => Err(Failure {
                operation,
                outcome: judgement.outcome,
                status: Some(status),
                message: judgement.objection.unwrap_or(words),
                token_place: None,
                retry_after: wait
                    .filter(|_| judgement.outcome == Outcome::Throttled)
                    .and_then(|text| retry_after(&text, sent_at.wall)),
                was_sent: true,
            }),
        }
    }

    /// What a throttled call means for others on the account.
    fn heed(&self, failure: &mut Failure, attempt: u32, scope: &CallContext) -> News {
        if failure.outcome != Outcome::Throttled {
            return News::default();
        }
        let tries = usize::try_from(attempt).unwrap_or(usize::MAX);
        let own_guess = retry::backoff(self).take(tries).last().unwrap_or_default();
        let asked = failure.retry_after;
        let now = self.clock.now();
        let until = wall_at(now.uptime.saturating_add(asked.unwrap_or(own_guess)), now);
        failure.message.push_str(&format!(
            "; throttled by the provider until {}",
            scope.shown(until, now.wall, &self.zone)
        ));
        self.admission.throttled(caller(failure.operation, scope), asked, own_guess)
    }

    /// Tells the log what concerns more than one call, once.
    fn tell(&self, failure: &Failure, news: News, scope: &CallContext) {
        // A token that may only list single servers is not reported for that.
        if failure.outcome == Outcome::Unauthorized
            && scope.server.is_some()
            && self.token.is_news(failure.operation, self.clock.now().wall)
        {
            tracing::error!(
                event = "alarm",
                account = self.account.label(),
                outcome = failure.outcome.as_str(),
                status = failure.status,
                "the provider refused the token of {} ({}): check that it is valid and may manage \
                 snapshots; {}",
                self.credentials.place(),
                failure.message,
                self.credentials.how_to_renew()
            );
        }
        let now = self.clock.now();
        let account = self.account.in_words();
        if let Some(until) = news.caller {
            let subject = scope.subject();
            let whose = subject.server.as_deref().unwrap_or(&account);
            tracing::warn!(
                event = "throttled",
                account = self.account.label(),
                server_id = subject.server_id.map(|id| id.number),
                server = subject.server.as_deref(),
                until = %wall_at(until, now),
                "{whose}: the provider is throttling {} until {}. Other servers continue, with one \
                 call at a time until one succeeds",
                failure.operation.as_str(),
                scope.shown(wall_at(until, now), now.wall, &self.zone)
            );
        }
        if let Some(until) = news.account {
            tracing::warn!(
                event = "throttled",
                account = self.account.label(),
                until = %wall_at(until, now),
                "the provider is throttling {account}: no calls are sent until {}",
                scope.shown(wall_at(until, now), now.wall, &self.zone)
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

/// Whether the configuration that is in force by now protects a snapshot.
fn is_protected(subject: &CallSubject, scope: &CallContext) -> bool {
    let is_pinned = subject.snapshot_id.is_some_and(|snapshot| scope.pins.hold(snapshot));
    let is_foreign = || match (&scope.server, &subject.snapshot) {
        (Some((server, _)), Some(name)) => scope.pins.make_foreign(*server, name),
        _ => false,
    };
    is_pinned || is_foreign()
}

fn caller(operation: Operation, scope: &CallContext) -> Caller {
    Caller { operation, server: scope.server.as_ref().map(|(id, _)| *id), tick: scope.tick }
}

/// The wall time of an uptime to come, in whole seconds, and not before it.
pub(crate) fn wall_at(uptime: Duration, now: Moment) -> Timestamp {
    let wall = now.wall.checked_add(uptime.saturating_sub(now.uptime)).unwrap_or(Timestamp::MAX);
    let round = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    wall.round(round).unwrap_or(wall)
}
