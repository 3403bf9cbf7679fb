//! The client over real HTTP, where the answers are nobody's idea of an API.

use std::time::Duration;

use secrecy::SecretString;
use snapring::call::Outcome;
use snapring::clock::Clock;
use snapring::config;
use snapring::naming::ServerId;
use snapring::provider::call_context::CallContext;
use snapring::provider::client::Client;
use snapring::provider::credentials::Credentials;
use snapring::provider::http::HttpTransport;
use snapring::provider::transport::{Method, Request, Transport, TransportError};
use snapring::ring::Ring;
use wiremock::matchers::{any, header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::machine::TOKEN;

async fn client(server: &MockServer) -> Client {
    client_of(&server.uri())
}

fn client_of(address: &str) -> Client {
    let text = format!(
        "[api]\nbase_url = \"{address}/api/v1/\"\nretries = 0\n[[server]]\nid = 1\nkeep = 1\nschedule = \"0 3 * * *\"\n"
    );
    let api = config::parse("test.toml", &text).unwrap().settings.api;
    let transport = HttpTransport::new(api.base_url.clone(), Duration::from_secs(5)).unwrap();
    let token = Credentials::known(SecretString::from(TOKEN));
    Client::new(Box::new(transport), &api, token, Clock::system(), 1)
}

/// The class of a listing that is answered so, and the message.
async fn listing_answered(answer: ResponseTemplate) -> (Outcome, String) {
    let server = MockServer::start().await;
    Mock::given(path("/api/v1/snapshots/")).respond_with(answer).mount(&server).await;
    let client = client(&server).await;
    // Less than the shortest wait before another attempt.
    let scope = CallContext::until(client.clock().now().uptime + Duration::from_secs(1));
    let error = client.list(ServerId::new(1), &scope).await.unwrap_err();
    (error.outcome().unwrap(), error.to_string())
}

#[tokio::test]
async fn a_listing_asks_as_documented_and_reads_every_page() {
    let server = MockServer::start().await;
    let row = |id: u64| {
        serde_json::json!({"id": id, "server": {"id": 1, "name": "web"}, "name": "n", "status": "completed",
                           "size_mb": null, "created_at": "2025-01-15T18:30:00Z"})
    };
    let first = serde_json::json!({"count": 2, "next": "http://elsewhere.invalid/api/v1/snapshots/?page=2", "results": [row(1)]});
    let second = serde_json::json!({"count": 2, "next": null, "results": [row(2)]});
    Mock::given(method("GET"))
        .and(path("/api/v1/snapshots/"))
        .and(query_param("server_id", "1"))
        .and(header("authorization", format!("Bearer {TOKEN}").as_str()))
        .respond_with(ResponseTemplate::new(200).set_body_json(first))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .and(query_param("page", "2"))
        .respond_with(ResponseTemplate::new(200).set_body_json(second))
        .expect(1)
        .mount(&server)
        .await;
    let listing =
        client(&server).await.list(ServerId::new(1), &CallContext::default()).await.unwrap();
    assert_eq!(listing.snapshots.len(), 2);
}

/// The row of another tool may have any name, or none.
#[tokio::test]
async fn a_snapshot_without_a_name_takes_a_slot_and_is_not_snaprings() {
    let server = MockServer::start().await;
    let row = |id: u64, name: Option<&str>| {
        serde_json::json!({"id": id, "server": {"id": 1}, "name": name, "status": "completed",
                           "created_at": "2025-01-15T18:30:00Z"})
    };
    let rows = serde_json::json!([row(1, Some("snapring-20250115T183000Z")), row(2, None)]);
    let answer = ResponseTemplate::new(200).set_body_json(rows);
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let listing =
        client(&server).await.list(ServerId::new(1), &CallContext::default()).await.unwrap();
    let text = "[[server]]\nid = 1\nkeep = 1\nschedule = \"0 3 * * *\"\n";
    let policy = config::parse("test.toml", text).unwrap().settings.servers[0].policy.clone();
    let ring = Ring::of(listing, &policy);
    assert_eq!((ring.taken(), ring.held_by_others()), (2, 1));
    let holders: Vec<_> =
        ring.slots().iter().map(|it| (it.snapshot.id.0, it.holder.as_str())).collect();
    assert_eq!(holders, [(1, "managed"), (2, "foreign")]);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_token_goes_nowhere_else() {
    let elsewhere = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).expect(0).mount(&elsewhere).await;
    for status in [301, 302, 307, 308] {
        let to = format!("{}/secret-path", elsewhere.uri());
        let answer = ResponseTemplate::new(status).insert_header("location", to);
        let (outcome, message) = listing_answered(answer).await;
        assert_eq!(outcome, Outcome::Rejected);
        let says = "it redirects to 127.0.0.1, which snapring does not follow";
        assert_eq!(
            message,
            format!("could not list the snapshots: the provider answered {status}: {says}")
        );
    }
}

#[tokio::test]
async fn a_token_that_the_provider_repeats_is_taken_out_of_the_message() {
    let body = serde_json::json!({ "detail": format!("bad token {TOKEN}\nfake line") });
    let (outcome, message) = listing_answered(ResponseTemplate::new(403).set_body_json(body)).await;
    assert_eq!(outcome, Outcome::Forbidden);
    assert_eq!(
        message,
        "could not list the snapshots: the provider answered 403 (forbidden): bad token [token] fake line"
    );
}

#[tokio::test]
async fn each_answer_has_its_class() {
    let cases = [
        (200, Outcome::Malformed),
        (202, Outcome::Malformed),
        (204, Outcome::Malformed),
        (206, Outcome::Malformed),
        (400, Outcome::Rejected),
        (401, Outcome::Unauthorized),
        (402, Outcome::Rejected),
        (403, Outcome::Forbidden),
        (404, Outcome::NotFound),
        (408, Outcome::Busy),
        (409, Outcome::Busy),
        (423, Outcome::Busy),
        (425, Outcome::Busy),
        (422, Outcome::Rejected),
        (429, Outcome::Throttled),
        (500, Outcome::ServerError),
        (503, Outcome::ServerError),
        (999, Outcome::Malformed),
    ];
    for (status, expected) in cases {
        let answer = ResponseTemplate::new(status).set_body_string("<html>what?</html>");
        assert_eq!(listing_answered(answer).await.0, expected, "{status}");
    }
}

#[tokio::test]
async fn the_headers_that_speak_against_a_listing_are_read() {
    let whole = || ResponseTemplate::new(200).set_body_string("[]");
    let cases = [
        (whole().append_header("Age", "5").append_header("Age", "61"), "stale"),
        (
            whole().append_header("Link", "<?a>; rel=prev").append_header("Link", "<?b>; rel=next"),
            "`Link`",
        ),
        (whole().append_header("Content-Range", "items 0-1/2"), "`Content-Range`"),
        (whole().append_header("Age", "5, 120"), "stale"),
    ];
    for (answer, words) in cases {
        let (outcome, message) = listing_answered(answer).await;
        assert_eq!(outcome, Outcome::Malformed);
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn a_request_without_a_connection_was_certainly_not_sent() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for base in [format!("http://{closed}/"), "https://nowhere.invalid/".to_owned()] {
        let transport = HttpTransport::new(base.parse().unwrap(), Duration::from_secs(20)).unwrap();
        let token = SecretString::from(TOKEN);
        let request = Request { method: Method::Post, path: "x/".to_owned(), body: None, token };
        let error = transport.exchange(request).await.unwrap_err();
        assert!(matches!(error, TransportError::NotSent(_)), "{base}: {error:?}");
    }
}

#[tokio::test]
async fn a_body_larger_than_eight_mebibytes_is_not_read() {
    let answer = ResponseTemplate::new(200).set_body_bytes(vec![b' '; 9 << 20]);
    let (outcome, message) = listing_answered(answer).await;
    assert_eq!(outcome, Outcome::Malformed);
    assert!(message.contains("longer than 8 MiB"), "{message}");
}

#[tokio::test]
async fn nobody_listening_is_a_failure_of_transport_that_says_so() {
    let client = client_of("http://127.0.0.1:1");
    let error = client.list(ServerId::new(1), &CallContext::default()).await.unwrap_err();
    assert_eq!(error.outcome(), Some(Outcome::Transport), "{error}");
}
