//! One letter to one webhook, and what it answers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;

use crate::clock::Clock;
use crate::foreign::ForeignText;
use crate::notify::webhook::Webhook;
use crate::provider::http::{build, chain, client_builder};
use crate::provider::transport::TransportError;

/// The most that is read of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// How long the body of an answer may take: its status has said what counts.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// A POST, ready to go.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub to: Webhook,
    /// Headers; their values are one line each.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl fmt::Debug for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Message({}, {} bytes)", self.to, self.body.len())
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header as it stood there.
    pub retry_after: Option<String>,
    /// How the body begins.
    pub body: ForeignText,
}

/// The future of one letter.
pub type Posting<'a> =
    Pin<Box<dyn Future<Output = Result<PostAnswer, TransportError>> + Send + 'a>>;

/// Carries letters. An implementation follows no redirect and tries nothing twice; how long it may
/// take is seen to by who calls it.
pub trait Post: Send + Sync {
    /// Posts one letter.
    fn post<'a>(&'a self, message: &'a Message) -> Posting<'a>;
}

/// Over the network. It knows nothing of the account and its token.
pub(crate) struct HttpPost {
    clock: Clock,
    /// Made when the first letter goes: to read the system's TLS roots takes a while.
    client: OnceLock<Result<reqwest::Client, ForeignText>>,
}

impl HttpPost {
    /// Ready to post; connects to nothing yet.
    #[must_use]
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, client: OnceLock::new() }
    }

    async fn send(&self, message: &Message) -> Result<PostAnswer, TransportError> {
        let client = self.client.get_or_init(connect).as_ref().map_err(connection)?;
        let mut request = client.post(message.to.expose().clone()).body(message.body.clone());
        for (name, value) in &message.headers {
            // By bytes: a name in a title may hold any letter.
            request = request.header(*name, value.as_bytes());
        }
        let mut answer = request.send().await.map_err(|error| connection(&causes(error)))?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|it| it.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        let read = async {
            // One that breaks off is no failure.
            while let Ok(Some(chunk)) = answer.chunk().await {
                let room = MAX_ANSWER_BYTES.saturating_sub(body.len());
                body.extend(chunk.iter().take(room));
                if chunk.len() >= room {
                    return;
                }
            }
        };
        let _ = self.clock.timeout(BODY_TIMEOUT, read).await;
        Ok(PostAnswer { status, retry_after, body: (&*String::from_utf8_lossy(&body)).into() })
    }
}

impl Post for HttpPost {
    fn post<'a>(&'a self, message: &'a Message) -> Posting<'a> {
        Box::pin(self.send(message))
    }
}

fn connect() -> Result<reqwest::Client, ForeignText> {
    // Notices are rare, and a connection that was closed meanwhile costs a try.
    build(client_builder().pool_max_idle_per_host(0))
}

fn connection(reason: &ForeignText) -> TransportError {
    TransportError::Connection(reason.clone())
}

/// The causes, without the address.
fn causes(error: reqwest::Error) -> ForeignText {
    chain(&error.without_url())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes, and keeps the connection open. What it got.
    async fn exchange(answer: &'static str, title: &str) -> (Vec<u8>, PostAnswer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"the body") {
                let mut buffer = [0; 1024];
                let length = stream.read(&mut buffer).await.unwrap();
                got.extend_from_slice(&buffer[..length]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            (got, stream)
        });
        let message = Message {
            to: Webhook::parse(&format!("http://{address}/key")).unwrap(),
            headers: vec![("Title", title.to_owned())],
            body: "the body".to_owned(),
        };
        let answer = HttpPost::new(Clock::system()).post(&message).await.unwrap();
        (server.await.unwrap().0, answer)
    }

    #[tokio::test]
    async fn a_title_goes_out_in_utf_8() {
        let (got, answer) = exchange("HTTP/1.1 204 No Content\r\n\r\n", "web-Ä ✓ failed").await;
        let got = String::from_utf8(got).unwrap();
        assert!(got.starts_with("POST /key HTTP/1.1\r\n"), "{got}");
        assert!(got.contains("title: web-Ä ✓ failed\r\n"), "{got}");
        assert_eq!(answer, PostAnswer { status: 204, retry_after: None, body: "".into() });
    }

    #[tokio::test]
    async fn an_answer_whose_body_never_ends_is_an_answer() {
        let head = "HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 999\r\n\r\nslow";
        let (_, answer) = exchange(head, "x").await;
        assert_eq!((answer.status, answer.retry_after.as_deref()), (429, Some("7")));
        assert_eq!(answer.body, "slow");
    }
}
