//! One HTTP exchange with the provider, and nothing more.
//!
//! What an answer means, what is tried again and what is logged stand above this seam, so that all
//! of it runs unchanged over a real connection and over a provider made of memory.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use secrecy::SecretString;

use crate::answer::Headers;
use crate::foreign::ForeignText;

/// The most that is read of one answer's body, in bytes.
pub const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// The kernel counts TCP_USER_TIMEOUT from the first retransmission, which comes one retransmission
/// timeout after the bytes were written: mostly 0.2 s, and 3 s where the connection itself needed a
/// second attempt (RFC 6298).
const FIRST_RETRANSMISSION: Duration = Duration::from_secs(4);

/// How long after it was given up, or after the end of its process, a request may still reach the
/// provider. The kernel delivers what was written, and what was written is lost for good only when
/// it gives the connection up: [`Transport`] makes it do so after `timeout`.
#[must_use]
pub fn arrives_within(timeout: Duration) -> Duration {
    timeout.saturating_add(FIRST_RETRANSMISSION)
}

/// The methods that the provider's API knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates or restores.
    Post,
    /// Deletes.
    Delete,
}

/// What is asked. `Debug` never shows the token.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query below the base address, without a leading slash: `snapshots/?server_id=1`.
    pub path: String,
    /// A JSON body, if there is one.
    pub body: Option<Vec<u8>>,
    /// The account's token, sent as `Authorization: Bearer`.
    pub token: SecretString,
}

/// What came back: any status, any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header as it stood there.
    pub retry_after: Option<String>,
    /// The headers that say how far it may be believed.
    pub headers: Headers,
    /// The body, at most [`MAX_BODY_BYTES`] long.
    pub body: Result<Vec<u8>, TornBody>,
}

/// The head of an answer came, its body did not, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TornBody {
    /// The connection broke or the time was up before the end.
    #[error("the answer broke off: {0}")]
    BrokeOff(ForeignText),
    /// Longer than [`MAX_BODY_BYTES`].
    #[error("the answer is longer than {} MiB", MAX_BODY_BYTES / (1024 * 1024))]
    TooLong,
}

/// Why there is no answer. The server may have acted all the same, except after [`Self::NotSent`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nothing within the request's timeout.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The connection broke.
    #[error("{0}")]
    Connection(ForeignText),
    /// There was no connection, so nothing was sent: refused, DNS, TLS.
    #[error("{0}")]
    NotSent(ForeignText),
}

/// The future of one answer.
pub type ResponseFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Response, TransportError>> + Send + 'a>>;

/// Carries one request to the provider and brings the answer back.
///
/// An implementation follows no redirect, tries nothing twice, sends the token to no other host
/// than its base address, and delivers nothing later than [`arrives_within`] says.
pub trait Transport: Send + Sync {
    /// One exchange.
    fn exchange(&self, request: Request) -> ResponseFuture<'_>;
}
