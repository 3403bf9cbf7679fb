//! The sandbox over real HTTP, on loopback only: broken connections really break.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{
    AGE, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, LINK,
    LOCATION, RETRY_AFTER, WARNING,
};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{delete, get};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;
use url::Url;

use crate::clock::Clock;
use crate::naming::{ServerId, SnapshotId};
use crate::sandbox::faults::Fault;
use crate::sandbox::provider::{BASE_PATH, Options, Provider, Question, Reply};
use crate::sandbox::strays::later;

/// A sandbox that listens; it ends when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    shared: Shared,
    address: SocketAddr,
    token: SecretString,
    _listening: AbortOnDropHandle<()>,
}

#[derive(Debug, Clone)]
struct Shared {
    provider: Arc<Mutex<Provider>>,
    clock: Clock,
}

impl Shared {
    fn provider(&self) -> MutexGuard<'_, Provider> {
        self.provider.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sandbox {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the address is not of loopback, or is taken.
    pub async fn start(options: Options, clock: Clock, listen: SocketAddr) -> io::Result<Self> {
        if !listen.ip().is_loopback() {
            let words = "the sandbox listens on loopback addresses only, like 127.0.0.1:0";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        }
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let token = options.token.clone();
        let mut provider = Provider::new(options);
        provider.set_origin(format!("http://{address}"));
        let shared = Shared { provider: Arc::new(Mutex::new(provider)), clock };
        let listening = AbortOnDropHandle::new(tokio::spawn(accept(listener, shared.clone())));
        Ok(Self { shared, address, token, _listening: listening })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `base_url` is to be.
    ///
    /// # Errors
    /// Never, for an address that is listened on.
    pub fn base_url(&self) -> Result<Url, url::ParseError> {
        Url::parse(&format!("http://{}{BASE_PATH}", self.address))
    }

    /// The token that it takes.
    #[must_use]
    pub fn token(&self) -> &SecretString {
        &self.token
    }

    /// The provider itself, to look into and to change by hand.
    pub fn provider(&self) -> MutexGuard<'_, Provider> {
        self.shared.provider()
    }
}

async fn accept(listener: TcpListener, shared: Shared) {
    let router = router(shared.clone());
    let half_close = shared.provider().options_mut().serves_closed_connections;
    // They end with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, router.clone(), half_close));
                }
                // Out of file descriptors: some will be free again.
                Err(_) => shared.clock.sleep(std::time::Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The connection is to be closed without an answer.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("closed by request")]
struct Closed;

async fn serve(stream: TcpStream, router: Router, half_close: bool) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            let answer: Result<_, Infallible> = router.oneshot(request.map(Body::new)).await;
            match answer {
                Ok(answer) if answer.extensions().get::<Closed>().is_none() => Ok(answer),
                // hyper closes the connection without a word.
                _ => Err(Closed),
            }
        }
    });
    // Ends with an error when a connection was made to break, which is what was wanted.
    let _ = http1::Builder::new()
        .half_close(half_close)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/_sandbox/", get(help))
        .route(
            "/_sandbox/faults",
            get(list_faults).post(add_faults).put(add_faults).delete(end_faults),
        )
        .route("/_sandbox/calls", get(calls).delete(forget_calls))
        .route("/_sandbox/tallies", get(tallies))
        .route("/_sandbox/state", get(state))
        .route("/_sandbox/token", axum::routing::put(set_token))
        .route("/_sandbox/snapshots", axum::routing::post(add_snapshot))
        .route("/_sandbox/snapshots/{id}", delete(remove_snapshot).put(set_status))
        .fallback(api)
        .with_state(shared)
}

/// Everything that is not the sandbox's own: the provider's API.
async fn api(State(shared): State<Shared>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let token = head
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(SecretString::from);
    let Ok(body) = to_bytes(body, 1024 * 1024).await else { return closed() };
    let question = Question {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        token,
        body: body.to_vec(),
    };
    let now = || shared.clock.now().wall;
    let fate = shared.provider().receive(&question, now());
    if fate.hangs() {
        std::future::pending::<()>().await;
    }
    let (latency, is_torn) = (fate.latency(), fate.is_torn());
    // Half of the latency lies before the act, half after.
    shared.clock.sleep(latency / 2).await;
    let reply = match fate.stray() {
        Some(span) => {
            let now = now();
            let delivery = shared.provider().hold_back(question, fate, now, later(now, span));
            let shared = shared.clone();
            // Of its own: when the client closes the connection, this future is dropped.
            let arrival =
                tokio::spawn(async move { delivery.reply(&shared.provider, &shared.clock).await });
            arrival.await.unwrap_or(None)
        }
        None => {
            let reply = shared.provider().answer(&question, &fate, now());
            if fate.hangs_after() {
                std::future::pending::<()>().await;
            }
            reply
        }
    };
    shared.clock.sleep(latency / 2).await;
    match reply {
        Some(reply) if is_torn => torn(reply),
        Some(reply) => whole(reply),
        None => closed(),
    }
}

fn closed() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Closed);
    response
}

fn whole(reply: Reply) -> Response<Body> {
    let Reply { status, retry_after, location, headers: said, body } = reply;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let headers = response.headers_mut();
    if status != 204 {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let once =
        [(RETRY_AFTER, retry_after), (LOCATION, location), (CONTENT_RANGE, said.content_range)];
    let once = once.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let often = said.age.into_iter().map(|value| (AGE, value));
    let often = often.chain(said.link.into_iter().map(|value| (LINK, value)));
    let often = often.chain(said.warning.into_iter().map(|value| (WARNING, value)));
    let total = HeaderName::from_static("x-total-count");
    let often = often.chain(said.total.into_iter().map(|value| (total.clone(), value)));
    for (name, value) in once.chain(often) {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(name, value);
        }
    }
    response
}

/// The head promises the whole body; half of it comes, then the connection breaks.
fn torn(reply: Reply) -> Response<Body> {
    let length = reply.body.len().max(2);
    let half = Bytes::copy_from_slice(reply.body.get(..length / 2).unwrap_or_default());
    let pieces = futures_util::stream::unfold(Some(half), |half| async {
        match half {
            Some(half) => Some((Ok(half), None)),
            None => {
                // hyper writes in this turn. An error without it would close the connection
                // before anything was sent, as a drop does.
                tokio::task::yield_now().await;
                Some((Err(Closed), None))
            }
        }
    });
    let mut response = whole(Reply { body: Vec::new(), ..reply });
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    *response.body_mut() = Body::from_stream(pieces);
    response
}

/// How the sandbox is worked while it runs.
pub const HELP: &str = "\
The sandbox, while it runs (no token needed, loopback only):

  curl URL/_sandbox/state                              every snapshot there is
  curl URL/_sandbox/calls                              the last 100,000 calls that came in
  curl URL/_sandbox/tallies                            how many came in of each kind, and when
  curl URL/_sandbox/calls -X DELETE                    count and list those from now on
  curl URL/_sandbox/faults                             the faults in force
  curl URL/_sandbox/faults -d 'create:status=429,retry-after=5,times=1'
  curl URL/_sandbox/faults -X DELETE                   remove all faults
  curl URL/_sandbox/snapshots -d '{\"server_id\": 101, \"name\": \"by-hand\"}'
                                                       (also \"status\", \"created_at\")
  curl URL/_sandbox/snapshots/801 -X DELETE            as if removed by hand
  curl URL/_sandbox/snapshots/801 -X PUT -d '{\"status\": \"failed\"}'
  curl URL/_sandbox/token -X PUT -d vps_another         as if the old one had been revoked
";

async fn help() -> &'static str {
    HELP
}

type Answer = Result<Response<Body>, (StatusCode, String)>;

fn said(value: &Value) -> Response<Body> {
    ([(CONTENT_TYPE, "application/json")], format!("{value:#}\n")).into_response()
}

fn refused(words: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, format!("{}\n", words.into()))
}

async fn list_faults(State(shared): State<Shared>) -> String {
    shared.provider().faults().iter().map(|fault| format!("{fault}\n")).collect()
}

async fn add_faults(State(shared): State<Shared>, body: String) -> Answer {
    let faults: Vec<Fault> = body
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(refused)?;
    let mut provider = shared.provider();
    for fault in faults {
        provider.add_fault(fault);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn end_faults(State(shared): State<Shared>) -> StatusCode {
    shared.provider().faults().clear();
    StatusCode::NO_CONTENT
}

async fn calls(State(shared): State<Shared>) -> Response<Body> {
    let provider = shared.provider();
    said(&json!({ "count": provider.calls().len(), "calls": provider.calls() }))
}

async fn forget_calls(State(shared): State<Shared>) -> StatusCode {
    shared.provider().forget_calls();
    StatusCode::NO_CONTENT
}

async fn tallies(State(shared): State<Shared>) -> Response<Body> {
    said(&json!(shared.provider().tallies()))
}

async fn state(State(shared): State<Shared>) -> Response<Body> {
    let now = shared.clock.now().wall;
    let mut provider = shared.provider();
    let servers: Vec<Value> = provider
        .servers()
        .to_vec()
        .into_iter()
        .map(|(id, name)| json!({ "id": id, "name": name, "snapshots": provider.snapshots(id, now) }))
        .collect();
    let answer = json!({
        "now": now,
        "servers": servers,
        "peak": provider.peak(),
        "deleted": provider.deleted().collect::<Vec<_>>(),
    });
    said(&answer)
}

async fn add_snapshot(State(shared): State<Shared>, body: String) -> Answer {
    let body: Value = serde_json::from_str(&body).map_err(|error| refused(error.to_string()))?;
    let server = body.get("server_id").and_then(Value::as_u64).map(ServerId::new);
    let name = body.get("name").and_then(Value::as_str);
    let (Some(server), Some(name)) = (server, name) else {
        return Err(refused("say which: {\"server_id\": 101, \"name\": \"by-hand\"}"));
    };
    let status = body.get("status").and_then(Value::as_str).unwrap_or("completed");
    let created_at = match body.get("created_at") {
        None => shared.clock.now().wall,
        Some(time) => match time.as_str().and_then(|time| time.parse().ok()) {
            Some(time) => time,
            None => {
                return Err(refused(format!("{time} is not a time like \"2026-11-23T03:00:00Z\"")));
            }
        },
    };
    let mut provider = shared.provider();
    if !provider.has_server(server) {
        return Err(refused(format!("there is no server {server}")));
    }
    let id = provider.add_snapshot(server, name, status, created_at);
    Ok(said(&json!({ "id": id })))
}

async fn remove_snapshot(State(shared): State<Shared>, Path(id): Path<u64>) -> StatusCode {
    match shared.provider().remove_snapshot(SnapshotId(id)) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::NOT_FOUND,
    }
}

async fn set_status(State(shared): State<Shared>, Path(id): Path<u64>, body: String) -> Answer {
    let body: Value = serde_json::from_str(&body).map_err(|error| refused(error.to_string()))?;
    let Some(status) = body.get("status").and_then(Value::as_str) else {
        return Err(refused("say which: {\"status\": \"failed\"}"));
    };
    match shared.provider().set_status(SnapshotId(id), status) {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err((StatusCode::NOT_FOUND, format!("there is no snapshot {id}\n"))),
    }
}

async fn set_token(State(shared): State<Shared>, body: String) -> Answer {
    let token = body.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused("say which: vps_another"));
    }
    shared.provider().options_mut().token = SecretString::from(token);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Shows the token; for the person who started the sandbox.
#[must_use]
pub fn show_token(sandbox: &Sandbox) -> &str {
    sandbox.token.expose_secret()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;
    use crate::provider::http::HttpTransport;
    use crate::provider::transport::{Method, Request, TornBody, Transport, TransportError};

    async fn sandbox(fault: &str) -> Sandbox {
        let options = Options::new(1, SecretString::from("vps_test".to_owned()), 1);
        let listen = "127.0.0.1:0".parse().unwrap();
        let sandbox = Sandbox::start(options, Clock::system(), listen).await.unwrap();
        let then = "2026-11-23T12:00:00Z".parse().unwrap();
        sandbox.provider().add_snapshot(ServerId::new(101), "by-hand", "completed", then);
        sandbox.provider().add_fault(fault.parse().unwrap());
        sandbox
    }

    fn request(sandbox: &Sandbox, method: Method, path: &str) -> Request {
        Request { method, path: path.to_owned(), body: None, token: sandbox.token().clone() }
    }

    fn transport(sandbox: &Sandbox) -> HttpTransport {
        HttpTransport::new(sandbox.base_url().unwrap(), Duration::from_secs(20)).unwrap()
    }

    #[rstest]
    #[case(Method::Get, "snapshots/", "list:torn")]
    #[case(Method::Delete, "snapshots/801/", "delete:torn")]
    #[tokio::test]
    async fn a_torn_answer_has_a_head_and_breaks_off_in_its_body(
        #[case] method: Method,
        #[case] path: &str,
        #[case] fault: &str,
    ) {
        let sandbox = sandbox(fault).await;
        let request = request(&sandbox, method, path);
        let response = transport(&sandbox).exchange(request).await.unwrap();
        assert_eq!(response.status, 200);
        assert!(matches!(response.body, Err(TornBody::BrokeOff(_))), "{:?}", response.body);
    }

    #[rstest]
    #[case("delete:drop-before", 1)]
    #[case("delete:drop-after", 0)]
    #[tokio::test]
    async fn a_dropped_answer_has_no_head_and_says_nothing_of_the_act(
        #[case] fault: &str,
        #[case] left: usize,
    ) {
        let sandbox = sandbox(fault).await;
        let request = request(&sandbox, Method::Delete, "snapshots/801/");
        let answer = transport(&sandbox).exchange(request).await;
        assert!(matches!(answer, Err(TransportError::Connection(_))), "{answer:?}");
        let now = "2026-11-23T12:00:01Z".parse().unwrap();
        assert_eq!(sandbox.provider().snapshots(ServerId::new(101), now).len(), left);
    }

    #[rstest]
    #[case(Duration::from_millis(100), None)]
    #[case(Duration::from_secs(20), Some(204))]
    #[tokio::test]
    async fn a_stray_arrives_whether_or_not_the_client_still_waits(
        #[case] timeout: Duration,
        #[case] expected: Option<u16>,
    ) {
        let sandbox = sandbox("delete:stray=600ms").await;
        let transport = HttpTransport::new(sandbox.base_url().unwrap(), timeout).unwrap();
        let request = request(&sandbox, Method::Delete, "snapshots/801/");
        let answer = transport.exchange(request).await;
        assert_eq!(answer.ok().map(|answer| answer.status), expected);
        drop(transport);
        assert_eq!(sandbox.provider().acts().len(), usize::from(expected.is_some()));
        sandbox.shared.clock.sleep(Duration::from_secs(1)).await;
        // It was carried out without anyone looking.
        let acts: Vec<_> = sandbox.provider().acts().to_vec();
        let [act] = &acts[..] else { panic!("{acts:?}") };
        let late = act.at.duration_since(act.stray_since.unwrap());
        assert_eq!(late.as_millis(), 600);
    }

    #[tokio::test]
    async fn a_delete_can_be_answered_with_garbage() {
        let sandbox = sandbox("delete:garbage").await;
        let request = request(&sandbox, Method::Delete, "snapshots/801/");
        let response = transport(&sandbox).exchange(request).await.unwrap();
        assert_eq!(response.status, 200);
        assert!(response.body.unwrap().starts_with(b"<html>"));
    }

    #[tokio::test]
    async fn a_token_changed_by_hand_is_the_only_good_one() {
        let sandbox = sandbox("restore:hang").await;
        let change = axum::http::Request::put("/_sandbox/token");
        let change = change.body(Body::from("vps_another\n")).unwrap();
        let answer = router(sandbox.shared.clone()).oneshot(change).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        for (token, status) in [("vps_test", 401), ("vps_another", 200)] {
            let request = Request {
                token: SecretString::from(token),
                ..request(&sandbox, Method::Get, "snapshots/")
            };
            assert_eq!(transport(&sandbox).exchange(request).await.unwrap().status, status);
        }
    }
}
