//! The real connection to the provider.

use std::error::Error;
use std::ffi::OsString;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AGE, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    LINK, LOCATION, RETRY_AFTER, WARNING,
};
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::answer::Headers;
use crate::foreign::ForeignText;
use crate::provider::transport::{
    MAX_BODY_BYTES, Method, Request, Response, ResponseFuture, TornBody, Transport, TransportError,
};
use crate::provider::{certificates, proxy};

/// What all HTTP clients of snapring have in common.
pub fn client_builder() -> reqwest::ClientBuilder {
    // Fails only when a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("snapring/", env!("CARGO_PKG_VERSION")))
        // A 301 would turn a POST into a GET, and carry secrets to wherever it points.
        .redirect(Policy::none())
}

/// HTTPS to one base address (or HTTP, when that is a loopback address).
pub struct HttpTransport {
    reads: reqwest::Client,
    /// With a connection of its own for each request. If a kept one turns out to be closed after the
    /// request was written, it is unknown whether the provider has it. Made when it is needed: each client
    /// reads all of the system's TLS roots.
    changes: OnceLock<reqwest::Client>,
    timeout: Duration,
    base: Url,
    connects_to: Option<String>,
}

impl HttpTransport {
    /// A transport to `base`, which ends in a slash; `timeout` bounds one request, connect
    /// included.
    ///
    /// # Errors
    /// When the system offers no usable TLS roots.
    pub fn new(base: Url, timeout: Duration) -> Result<Self, TransportError> {
        Ok(Self {
            reads: client(&base, timeout, usize::MAX)?,
            changes: OnceLock::new(),
            connects_to: address(&base, |name| std::env::var_os(name)),
            base,
            timeout,
        })
    }

    fn changes(&self) -> Result<&reqwest::Client, TransportError> {
        if let Some(client) = self.changes.get() {
            return Ok(client);
        }
        let client = client(&self.base, self.timeout, 0)?;
        Ok(self.changes.get_or_init(|| client))
    }

    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let url = self
            .base
            .join(&request.path)
            .ok()
            // A path can lead below the base only.
            .filter(|url| url.as_str().starts_with(self.base.as_str()))
            .ok_or_else(|| TransportError::NotSent("not a path of the API".into()))?;
        let (client, method) = match request.method {
            Method::Get => (&self.reads, reqwest::Method::GET),
            Method::Post => (self.changes()?, reqwest::Method::POST),
            Method::Delete => (self.changes()?, reqwest::Method::DELETE),
        };
        let mut outgoing = client
            .request(method, url)
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, bearer(&request.token)?);
        if let Some(body) = request.body {
            outgoing = outgoing.header(CONTENT_TYPE, "application/json").body(body);
        }
        let mut answer = outgoing.send().await.map_err(|error| self.failed(&error))?;
        let status = answer.status().as_u16();
        let retry_after = texts(answer.headers(), &RETRY_AFTER).next();
        let headers = Headers {
            age: texts(answer.headers(), &AGE).collect(),
            link: texts(answer.headers(), &LINK).collect(),
            content_range: texts(answer.headers(), &CONTENT_RANGE).next(),
            total: TOTALS.iter().flat_map(|name| texts(answer.headers(), name)).collect(),
            warning: texts(answer.headers(), &WARNING).collect(),
            redirect: texts(answer.headers(), &LOCATION)
                .next()
                .and_then(|location| Some(answer.url().join(&location).ok()?.host_str()?.into())),
        };
        let body = read_body(&mut answer).await;
        Ok(Response { status, retry_after, headers, body })
    }
}

fn client(
    base: &Url,
    timeout: Duration,
    idle_connections: usize,
) -> Result<reqwest::Client, TransportError> {
    let mut builder = client_builder()
        .timeout(timeout)
        .pool_max_idle_per_host(idle_connections)
        // The timeout ends the wait; this ends what the kernel does with a request that was
        // written, even when the process is gone. See `transport::arrives_within`.
        .tcp_user_timeout(timeout);
    if base.scheme() == "http" {
        // Without TLS a proxy would read the token.
        builder = builder.no_proxy();
    }
    build(builder).map_err(TransportError::NotSent)
}

/// Makes a client of a builder.
///
/// # Errors
/// When there are no CA certificates, or their files cannot be read.
pub(crate) fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, ForeignText> {
    let variable = |name: &str| std::env::var_os(name);
    certificates::check(variable)?;
    builder.build().map_err(|error| {
        let reason = chain(&error.without_url());
        // The library's words for it do not say where it has looked.
        let is_without = reason.contains("No CA certificates");
        if is_without { certificates::none_found(variable).into() } else { reason }
    })
}

impl Transport for HttpTransport {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        Box::pin(self.send(request))
    }
}

/// The values of a header. Bytes that are no text are shown as such: the header was there.
/// The headers by which APIs say how many rows a list has in all.
const TOTALS: [HeaderName; 3] = [
    HeaderName::from_static("x-total-count"),
    HeaderName::from_static("x-total"),
    HeaderName::from_static("total-count"),
];

fn texts(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

async fn read_body(answer: &mut reqwest::Response) -> Result<Vec<u8>, TornBody> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY_BYTES => {
                return Err(TornBody::TooLong);
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(TornBody::BrokeOff(chain(&error.without_url()))),
        }
    }
}

fn bearer(token: &SecretString) -> Result<HeaderValue, TransportError> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).map_err(|_| {
            TransportError::NotSent(
                "the token contains characters that an HTTP header cannot carry".into(),
            )
        })?;
    value.set_sensitive(true);
    Ok(value)
}

impl HttpTransport {
    fn failed(&self, error: &reqwest::Error) -> TransportError {
        if error.is_timeout() {
            return TransportError::Timeout(self.timeout);
        }
        let cause = chain(error);
        if error.is_connect() {
            return TransportError::NotSent(match &self.connects_to {
                Some(address) => format!("{cause}: {address}").into(),
                None => cause,
            });
        }
        TransportError::Connection(cause)
    }
}

/// Host and port of a base address, unless a proxy may be connected to in its place.
fn address(base: &Url, variable: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    // Calls to http never use a proxy: see `client`.
    if base.scheme() != "http" && proxy::is_set(variable) {
        return None;
    }
    let host = base.host_str()?;
    Some(format!("{host}:{}", base.port_or_known_default()?))
}

/// The causes in plain words, from the second on: the first only says that something failed, and names the URL.
pub(crate) fn chain(error: &dyn Error) -> ForeignText {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.extend(plain(&cause.to_string()));
        next = cause.source();
    }
    if causes.is_empty() { error.to_string().into() } else { causes.join(": ").into() }
}

/// What a library calls a cause, in plain words. `None` if it only says which part of the library failed.
fn plain(cause: &str) -> Option<String> {
    let cause = cause.split(" (os error ").next().unwrap_or(cause);
    let words = match cause {
        "tcp connect error" | "error reading a body from connection" | "connection error" => {
            return None;
        }
        part if part.starts_with("client error (") => return None,
        "Connection refused" => "connection refused",
        "Connection reset by peer" => "the connection was reset",
        "connection closed before message completed" => {
            "the connection was closed before an answer came"
        }
        "end of file before message length reached" => "the connection was closed",
        other => other,
    };
    Some(words.to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("client error (SendRequest)", None)]
    #[case("tcp connect error", None)]
    #[case("Connection refused (os error 111)", Some("connection refused"))]
    #[case(
        "connection closed before message completed",
        Some("the connection was closed before an answer came")
    )]
    #[case("No route to host (os error 113)", Some("No route to host"))]
    fn causes_are_plain(#[case] cause: &str, #[case] words: Option<&str>) {
        assert_eq!(plain(cause).as_deref(), words);
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let base = format!("http://{free}/").parse().unwrap();
        let transport = HttpTransport::new(base, Duration::from_secs(5)).unwrap();
        let path = "snapshots/".to_owned();
        let token = SecretString::from("token");
        let asked = Request { method: Method::Get, path, body: None, token };
        let problem = transport.exchange(asked).await.unwrap_err();
        assert_eq!(problem.to_string(), format!("connection refused: {free}"));
    }

    #[test]
    fn where_a_proxy_is_connected_to_the_address_is_not_named() {
        let base = "https://admin.vps.org/api/v1/".parse().unwrap();
        assert_eq!(address(&base, |_| None).as_deref(), Some("admin.vps.org:443"));
        assert_eq!(address(&base, |name| (name == "HTTPS_PROXY").then(|| "x".into())), None);
    }
}
