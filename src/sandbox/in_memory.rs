//! The sandbox behind the client's transport, without a socket: on a virtual clock, days of
//! rotations take no time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use crate::clock::Clock;
use crate::provider::transport::{
    MAX_BODY_BYTES, Method, Request, Response, ResponseFuture, TornBody, Transport, TransportError,
};
use crate::sandbox::provider::{BASE_PATH, Provider, Question, Reply, RequestFate, StrayId};
use crate::sandbox::strays::later;

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

    /// Sends a request for a process that dies at once: the request reaches the provider in `span`.
    pub fn send_and_die(&self, request: Request, span: Duration) {
        let question = question(request);
        let now = self.now();
        let mut provider = self.provider();
        let fate = provider.receive(&question, now);
        if !fate.hangs() {
            provider.hold_back(question, fate, now, later(now, span));
        }
    }

    fn provider(&self) -> MutexGuard<'_, Provider> {
        self.provider.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    async fn carry(&self, question: Question) -> Result<Response, TransportError> {
        let fate = self.provider().receive(&question, self.now());
        if fate.hangs() {
            std::future::pending::<()>().await;
        }
        let (latency, is_torn) = (fate.latency(), fate.is_torn());
        // Half of the latency lies before the act, half after.
        self.clock.sleep(latency / 2).await;
        let reply = match fate.stray() {
            Some(span) => self.wait_for_stray(question, fate, span).await,
            None => {
                let reply = self.provider().answer(&question, &fate, self.now());
                if fate.hangs_after() {
                    std::future::pending::<()>().await;
                }
                reply
            }
        };
        self.clock.sleep(latency / 2).await;
        let reply = reply.ok_or_else(|| {
            TransportError::Connection("the connection closed before the answer".into())
        })?;
        let body = if is_torn {
            Err(TornBody::BrokeOff("the connection closed".into()))
        } else if reply.body.len() > MAX_BODY_BYTES {
            Err(TornBody::TooLong)
        } else {
            Ok(reply.body)
        };
        Ok(Response {
            status: reply.status,
            retry_after: reply.retry_after,
            headers: reply.headers,
            body,
        })
    }

    async fn wait_for_stray(
        &self,
        question: Question,
        fate: RequestFate,
        span: Duration,
    ) -> Option<Reply> {
        let now = self.now();
        let delivery = self.provider().hold_back(question, fate, now, later(now, span));
        let _waiting = Waiting { memory: self, id: delivery.id };
        delivery.reply(&self.provider, &self.clock).await
    }
}

/// Someone waits for the answer to a stray. When that ends, the kernel goes on for at most `timeout`.
struct Waiting<'a> {
    memory: &'a InMemory,
    id: StrayId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let until = later(self.memory.now(), self.memory.timeout);
        self.memory.provider().limit_strays(Some(self.id), until);
    }
}

fn question(request: Request) -> Question {
    let method = match request.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Delete => "DELETE",
    };
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    Question {
        method: method.to_owned(),
        path: format!("{BASE_PATH}{path}"),
        query: query.to_owned(),
        token: Some(SecretString::clone(&request.token)),
        body: request.body.unwrap_or_default(),
    }
}

impl Transport for InMemory {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        Box::pin(async move {
            let carried = self.carry(question(request));
            let answer = self.clock.timeout(self.timeout, carried).await;
            answer.unwrap_or(Err(TransportError::Timeout(self.timeout)))
        })
    }
}
