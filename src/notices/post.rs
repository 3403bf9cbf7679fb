//! One letter to one webhook, and what it answers.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;

use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;

use crate::api::transport::TransportError;
use crate::notices::webhook::Webhook;

/// The most that is read of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// A POST, ready to go.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// Where to.
    pub to: Webhook,
    /// Headers; their values are one line each.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl fmt::Debug for Letter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Letter({}, {} bytes)", self.to, self.body.len())
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header as it stood there.
    pub retry_after: Option<String>,
    /// How the body begins.
    pub body: String,
}

/// The future of one letter.
pub type Posting<'a> = Pin<Box<dyn Future<Output = Result<Answer, TransportError>> + Send + 'a>>;

/// Carries letters. An implementation follows no redirect and tries nothing twice; how long it may
/// take is seen to by who calls it.
pub trait Post: Send + Sync {
    /// Posts one letter.
    fn post<'a>(&'a self, letter: &'a Letter) -> Posting<'a>;
}

/// Over the network. It knows nothing of the account and its token.
#[derive(Default)]
pub struct HttpPost {
    /// Made when the first letter goes: to read the system's TLS roots takes a while.
    client: OnceLock<Result<reqwest::Client, String>>,
}

impl HttpPost {
    async fn send(&self, letter: &Letter) -> Result<Answer, TransportError> {
        let client =
            self.client.get_or_init(connect).as_ref().map_err(|reason| connection(reason))?;
        let mut request = client.post(letter.to.expose().clone()).body(letter.body.clone());
        for (name, value) in &letter.headers {
            // By bytes: a name in a title may hold any letter.
            request = request.header(*name, value.as_bytes());
        }
        let mut answer = request.send().await.map_err(|error| connection(&chain(error)))?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|it| it.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        // The status is what counts: an answer that breaks off is no failure.
        while let Ok(Some(chunk)) = answer.chunk().await {
            let room = MAX_ANSWER_BYTES.saturating_sub(body.len());
            body.extend(chunk.iter().take(room));
            if chunk.len() >= room {
                break;
            }
        }
        Ok(Answer { status, retry_after, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

impl Post for HttpPost {
    fn post<'a>(&'a self, letter: &'a Letter) -> Posting<'a> {
        Box::pin(self.send(letter))
    }
}

fn connect() -> Result<reqwest::Client, String> {
    // Fails only when a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("snapring/", env!("CARGO_PKG_VERSION")))
        // A 301 would turn the POST into a GET, and tell another host.
        .redirect(Policy::none())
        // Notices are rare, and a connection that was closed meanwhile costs a try.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(chain)
}

fn connection(reason: &str) -> TransportError {
    TransportError::Connection(reason.to_owned())
}

/// The causes, without the address.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}
