//! The sandbox behind the client's transport, without a socket: on a virtual clock, days of
//! rotations take no time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;

use crate::api::transport::{
    Exchange, MAX_BODY_BYTES, Method, Request, Response, TornBody, Transport, TransportError,
};
use crate::clock::Clock;
use crate::sandbox::provider::{BASE_PATH, Provider, Question};

/// A provider in memory.
#[derive(Debug, Clone)]
pub struct InMemory {
    /// The provider; tests look into it.
    pub provider: Arc<Mutex<Provider>>,
    clock: Clock,
    timeout: Duration,
}

impl InMemory {
    /// Carries requests to `provider`; one takes at most `timeout` of `clock`'s time.
    #[must_use]
    pub fn new(provider: Provider, clock: Clock, timeout: Duration) -> Self {
        Self::over(Arc::new(Mutex::new(provider)), clock, timeout)
    }

    /// The same over a provider that others share.
    #[must_use]
    pub fn over(provider: Arc<Mutex<Provider>>, clock: Clock, timeout: Duration) -> Self {
        Self { provider, clock, timeout }
    }

    async fn carry(&self, question: Question) -> Result<Response, TransportError> {
        let provider = || self.provider.lock().unwrap_or_else(PoisonError::into_inner);
        let fate = provider().receive(&question, self.clock.now().wall);
        if fate.hangs() {
            std::future::pending::<()>().await;
        }
        // Half of the latency lies before the act, half after.
        self.clock.sleep(fate.latency() / 2).await;
        let reply = provider().answer(&question, &fate, self.clock.now().wall);
        if fate.hangs_after() {
            std::future::pending::<()>().await;
        }
        self.clock.sleep(fate.latency() / 2).await;
        let reply = reply.ok_or_else(|| {
            TransportError::Connection("the connection closed before the answer".to_owned())
        })?;
        let body = if fate.is_torn() {
            Err(TornBody::BrokeOff("the connection closed".to_owned()))
        } else if reply.body.len() > MAX_BODY_BYTES {
            Err(TornBody::TooLong)
        } else {
            Ok(reply.body)
        };
        Ok(Response { status: reply.status, retry_after: reply.retry_after, body })
    }
}

impl Transport for InMemory {
    fn exchange(&self, request: Request) -> Exchange<'_> {
        let method = match request.method {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        };
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let question = Question {
            method: method.to_owned(),
            path: format!("{BASE_PATH}{path}"),
            query: query.to_owned(),
            token: Some(SecretString::clone(&request.token)),
            body: request.body.unwrap_or_default(),
        };
        Box::pin(async move {
            let answer = self.clock.timeout(self.timeout, self.carry(question)).await;
            answer.unwrap_or(Err(TransportError::Timeout))
        })
    }
}
