use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::AbortOnDropHandle;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;
use crate::testing::stage::{Stage, server};

/// What a test may take; far more than it does.
const LONG: Duration = Duration::from_secs(60);

struct Listening {
    address: SocketAddr,
    _stage: Stage,
    _task: AbortOnDropHandle<()>,
}

impl Listening {
    async fn within(bounds: Bounds) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        Self::at(address, bounds).await
    }

    async fn at(address: SocketAddr, bounds: Bounds) -> Self {
        let clock = Clock::system();
        let stage = Stage::start(clock.clone(), &server(101, "web-01", "")).await;
        let view = stage.view();
        let task = tokio::spawn(async move {
            match listen_within(
                bounds,
                address,
                router(view, Hosts::default(), MetricsScope::default()),
                clock,
            )
            .await {}
        });
        Self { address, _stage: stage, _task: AbortOnDropHandle::new(task) }
    }

    async fn connect(&self) -> TcpStream {
        let clock = Clock::system();
        loop {
            if let Ok(stream) = TcpStream::connect(self.address).await {
                return stream;
            }
            clock.sleep(Duration::from_millis(10)).await;
        }
    }

    /// The whole answer to one request.
    async fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = self.connect().await;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = Clock::system().timeout(LONG, stream.read_to_string(&mut answer)).await;
        read.expect("an answer").unwrap();
        answer
    }
}

#[tokio::test]
async fn it_speaks_http_to_whoever_comes() {
    let listening = Listening::within(BOUNDS).await;
    let answer = listening.ask("GET", "/livez").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"));
    let head = listening.ask("HEAD", "/").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("content-length: "), "{head}");
    let refused = listening.ask("POST", "/").await;
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
    assert!(refused.contains("allow: GET,HEAD\r\n"), "{refused}");
    assert!(listening.ask("GET", "/nothing").await.starts_with("HTTP/1.1 404 "));
    assert!(listening.ask("nonsense", "").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn who_is_addressed_by_another_name_shows_nothing_but_its_health() {
    let listening = Listening::within(BOUNDS).await;
    let ask = async |path: &str, host: &str| {
        let mut stream = listening.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    for path in ["/", "/metrics", "/api/v1/status", "/nothing"] {
        let answer = ask(path, "evil.example:9187").await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{path}: {answer}");
        assert!(answer.contains("`hosts` in [http]") && !answer.contains("web-01"), "{answer}");
        assert!(!ask(path, &listening.address.to_string()).await.starts_with("HTTP/1.1 421 "));
    }
    assert!(ask("/livez", "evil.example").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn those_who_are_silent_or_read_nothing_keep_no_one_out_for_long() {
    let bounds = Bounds {
        connections: 2,
        patience: Duration::from_millis(200),
        lifetime: Duration::from_millis(400),
        ..BOUNDS
    };
    let listening = Listening::within(bounds).await;
    // One never ends its request, one asks without an end and reads nothing: all places are taken.
    let mut silent = listening.connect().await;
    silent.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let greedy = listening.connect().await;
    let (_unread, mut asks) = greedy.into_split();
    let asking = AbortOnDropHandle::new(tokio::spawn(async move {
        while asks.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.is_ok() {}
    }));
    let answer = listening.ask("GET", "/livez").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Clock::system().timeout(LONG, asking).await.expect("the greedy one is cut off").unwrap();
}

#[tokio::test]
async fn many_silent_ones_delay_nobody() {
    let listening = Listening::within(BOUNDS).await;
    let mut silent = Vec::new();
    for _ in 0..2 * BOUNDS.connections {
        silent.push(listening.connect().await);
    }
    // Without waiting for anybody's patience to end.
    let soon = BOUNDS.patience / 2;
    let answer = Clock::system().timeout(soon, listening.ask("GET", "/livez")).await;
    assert!(answer.expect("an answer").starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn pages_that_stay_open_take_no_place_from_a_probe() {
    let listening = Listening::within(BOUNDS).await;
    let mut open = Vec::new();
    for _ in 0..2 * BOUNDS.connections {
        let mut stream = listening.connect().await;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut beginning = [0; 12];
        let read = stream.read_exact(&mut beginning);
        Clock::system().timeout(LONG, read).await.expect("an answer").unwrap();
        assert_eq!(&beginning, b"HTTP/1.1 200");
        open.push(stream);
    }
    let soon = BOUNDS.patience / 2;
    let answer = Clock::system().timeout(soon, listening.ask("GET", "/livez")).await;
    assert!(answer.expect("an answer").starts_with("HTTP/1.1 200 "));
}

/// Keeps what is said of listening.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Said {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Words(String);
        impl tracing::field::Visit for Words {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut words = Words(String::new());
        event.record(&mut words);
        if words.0.contains("listen") {
            self.0.lock().unwrap().push(words.0);
        }
    }
}

#[tokio::test]
async fn a_taken_port_is_told_once_and_tried_until_it_is_free() {
    let said = Said::default();
    // Of two, so that each thread is asked whether anybody listens.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(said.clone()));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let bounds = Bounds { again: Duration::from_millis(20), ..BOUNDS };
    let listening = Listening::at(address, bounds).await;
    // Long enough for several tries.
    Clock::system().sleep(Duration::from_millis(200)).await;
    let told = said.0.lock().unwrap().clone();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&format!("cannot listen on {address}: ")), "{told:?}");
    assert!(told[0].contains("(is another snapring running?); rotations continue"), "{told:?}");

    drop(taken);
    assert!(listening.ask("GET", "/livez").await.starts_with("HTTP/1.1 200 "));
    let told = said.0.lock().unwrap().clone();
    assert_eq!(told[1..], [format!("listening on http://{address}/")]);
}
