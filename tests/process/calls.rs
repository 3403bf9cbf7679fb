//! Providers, proxies and caches that answer as no documentation says. Judged by what the sandbox did.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use snapring::call::Operation;

use crate::machine::{JSON_LOG, Machine, SERVERS, WEB};

/// How long a command took, by the machine's clock.
fn timed(machine: &Machine, arguments: &[&str]) -> (Duration, (i32, String, String)) {
    let begun = machine.clock.now().uptime;
    let ended = machine.run(arguments);
    (machine.clock.now().uptime - begun, ended)
}

fn acts(machine: &Machine, operation: Operation) -> usize {
    machine.sandbox.provider().acts().iter().filter(|act| act.operation == operation).count()
}

/// A machine on which commands log each call.
async fn logging() -> Machine {
    let machine = Machine::new().await;
    machine.configure(&format!("{JSON_LOG}{SERVERS}"));
    machine
}

fn calls(machine: &Machine, operation: Operation) -> usize {
    machine.sandbox.provider().count(operation)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_on_a_part_of_a_listing_or_on_an_old_one() {
    let odd = [
        ("status-after=206", "the answer to list is 200, not 206"),
        ("header=link:<http://127.0.0.1/?page=2>; rel=\"next\"", "`Link` names a next page"),
        ("header=content-range:items 0-4/9", "`Content-Range` says"),
        ("header=age:600", "a cache has kept this answer for 600 s"),
    ];
    for (fault, words) in odd {
        let machine = logging().await;
        for days in 1..=5 {
            let made = machine.clock.now().wall - jiff::SignedDuration::from_hours(24 * days);
            machine.add(WEB, &format!("snapring-{}", made.strftime("%Y%m%dT030000Z")), 24 * days);
        }
        machine.fault(&format!("list:{fault}"));
        let (code, _, error) = machine.run(&["rotate", "web"]);
        assert_eq!(code, 1, "{fault}: {error}");
        assert!(error.contains(words), "{fault}: {error}");
        assert_eq!(machine.sandbox.provider().acts().len(), 0, "{fault}: {error}");
    }
}

/// S3: listings lag, and the answer says that it was not done.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_is_carried_out_and_answered_as_refused_for_now_is_made_once() {
    let mut commands = Vec::new();
    for status in [408, 409, 423, 425, 429, 503] {
        let machine = Machine::new().await;
        machine.configure_api(
            "settle = \"4s\"\nretries = 2\ntimeout = \"5s\"",
            &format!("{JSON_LOG}{SERVERS}"),
        );
        machine.fault(&format!("create:status-after={status},times=1"));
        machine.fault("create:late=3s,times=1");
        commands.push(thread::spawn(move || {
            let ended = machine.command(&["rotate", "web"]).output().unwrap();
            (status, machine, ended)
        }));
    }
    for command in commands {
        let (status, machine, ended) = tokio::task::block_in_place(|| command.join().unwrap());
        let error = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(acts(&machine, Operation::Create), 1, "{status}: {error}");
        assert_eq!(calls(&machine, Operation::Create), 1, "{status}: {error}");
        assert!(ended.status.success(), "{status}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_provider_is_asked_again_beyond_the_retries() {
    let machine = logging().await;
    machine.fault("create:status=409,times=3");
    let (code, _, error) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("the provider answered 409 (conflict)"), "{error}");
    assert_eq!((calls(&machine, Operation::Create), acts(&machine, Operation::Create)), (4, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_that_is_throttled_for_a_day_fails_at_once_and_holds_no_other_up() {
    let machine = logging().await;
    machine.fault("create:status=429,retry-after=86400,server=101");
    let (took, (code, _, error)) = timed(&machine, &["rotate", "--all"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("throttled by the provider until 2"), "{error}");
    assert!(took < Duration::from_secs(60), "{took:?}: {error}");
    let provider = machine.sandbox.provider();
    let made: Vec<u64> = provider.acts().iter().map(|act| act.row.server.number).collect();
    assert_eq!(made, [102], "{error}");
    let of_web = |call: &&snapring::sandbox::provider::RecordedCall| {
        call.operation == Some(Operation::Create) && call.server == Some(WEB)
    };
    assert_eq!(provider.calls().iter().filter(of_web).count(), 1);
}

/// Reads requests off a connection and answers each; ends when `answer` gives nothing.
fn serve(mut stream: TcpStream, mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>>) {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(length) = whole_request(&read) {
            let request: Vec<u8> = read.drain(..length).collect();
            let Some(answer) = answer(&request) else { return };
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => read.extend_from_slice(&buffer[..length]),
        }
    }
}

/// How long the first request is, if all of it has been read.
fn whole_request(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    let body = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let length: usize = head + body.unwrap_or(0);
    (read.len() >= length).then_some(length)
}

/// Each GET brings rows that were never seen before and names a next page; how many were asked for.
fn endless_listing(rows: usize, padding: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pages = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pages);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let pages = Arc::clone(&counted);
            thread::spawn(move || {
                serve(stream.unwrap(), |_| {
                    let page = pages.fetch_add(1, Ordering::SeqCst);
                    let row = |nth: usize| {
                        serde_json::json!({
                            "id": page * rows + nth + 1, "server": {"id": 101, "name": "web"},
                            "name": "by-hand", "status": "completed", "size_mb": null,
                            "created_at": "2026-01-15T18:30:00Z", "description": " ".repeat(padding)
                        })
                    };
                    let rows: Vec<_> = (0..rows).map(row).collect();
                    let next = format!("http://{address}/api/v1/snapshots/?page={}", page + 2);
                    let body = serde_json::json!({"next": next, "results": rows}).to_string();
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
                    Some(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes())
                });
            });
        }
    });
    (address, pages)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_does_not_end_is_given_up_soon() {
    for (rows, padding, at_most, words) in [
        (1, 0, 51, "the pages do not end after 50"),
        (2, 2_000_000, 4, "longer than 8 MiB"),
        (400, 0, 4, "more than 1000 rows"),
    ] {
        let machine = Machine::new().await;
        let (address, pages) = endless_listing(rows, padding);
        let api = format!("[api]\nbase_url = \"http://{address}/api/v1/\"\nretries = 4\n");
        std::fs::write(machine.path("config.toml"), api + JSON_LOG + SERVERS).unwrap();
        let (code, _, error) = machine.run(&["rotate", "web"]);
        assert_eq!(code, 1, "{error}");
        assert!(error.contains(words), "{error}");
        let asked = pages.load(Ordering::SeqCst);
        assert!(asked <= at_most, "{asked} pages of {rows} rows: {error}");
    }
}

/// What a proxy does to a change.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// It closes a kept connection instead of passing a change on.
    ClosesKept,
    /// Nobody listens any more once a listing was answered.
    StopsListening,
}

/// Passes requests on to the sandbox, each on a connection of its own. Configures the machine for it.
fn proxy(machine: &Machine, manner: Manner, api: &str) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, behind) = (listener.local_addr().unwrap(), machine.sandbox.address());
    let text =
        format!("[api]\nbase_url = \"http://{address}/api/v1/\"\n{api}\n{JSON_LOG}{SERVERS}");
    std::fs::write(machine.path("config.toml"), text).unwrap();
    let closed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&closed);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let closed = Arc::clone(&counted);
            let connection = thread::spawn(move || {
                let mut asked = 0;
                serve(stream.unwrap(), |request| {
                    asked += 1;
                    if asked > 1 && !request.starts_with(b"GET") && manner == Manner::ClosesKept {
                        closed.fetch_add(1, Ordering::SeqCst);
                        return None;
                    }
                    let request = String::from_utf8(request.to_vec()).unwrap();
                    let mut onward = TcpStream::connect(behind).unwrap();
                    let one = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
                    onward.write_all(one.as_bytes()).unwrap();
                    let mut answer = Vec::new();
                    onward.read_to_end(&mut answer).unwrap();
                    let text = String::from_utf8(answer).unwrap();
                    Some(text.replacen("connection: close\r\n", "", 1).into_bytes())
                });
            });
            if manner == Manner::StopsListening {
                drop(listener);
                connection.join().unwrap();
                return;
            }
        }
    });
    closed
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_that_are_closed_at_each_create_cost_no_attempt() {
    let machine = logging().await;
    let api = "settle = \"1s\"\nretries = 0\ntimeout = \"5s\"";
    let closed = proxy(&machine, Manner::ClosesKept, api);
    for day in 1..=3 {
        machine.add(WEB, &format!("snapring-2025010{day}T030000Z"), 24 * (9 - day));
    }
    let (code, _, error) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{error}");
    let closed = closed.load(Ordering::SeqCst);
    assert_eq!((calls(&machine, Operation::Create), acts(&machine, Operation::Create)), (1, 1));
    assert_eq!((acts(&machine, Operation::Delete), closed), (1, 0), "{error}");
}

/// `settle` and the timeout are for requests that may arrive. One without a connection cannot.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_without_a_connection_is_not_waited_for() {
    let machine = logging().await;
    let api = "settle = \"40s\"\nretries = 1\ntimeout = \"20s\"";
    proxy(&machine, Manner::StopsListening, api);
    let (took, (code, _, error)) = timed(&machine, &["rotate", "web"]);
    assert_eq!(code, 1, "{error}");
    assert!(
        error.contains("could not create the snapshot: ") && error.contains("attempt 2"),
        "{error}"
    );
    assert!(took < Duration::from_secs(20), "{took:?}: {error}");
    assert_eq!(calls(&machine, Operation::Create), 0);
}

/// Reads a request with its body.
fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).unwrap();
        request.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let of = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
        if length == 0 || body.len() >= of.trim().parse::<usize>().unwrap() {
            return;
        }
    }
}

/// The answer lies in the socket when the daemon goes on, and the time for it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_was_answered_while_the_daemon_was_stopped_is_not_sent_again() {
    let machine = Machine::new().await;
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hook.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let (count, (may_answer, answers)) = (Arc::clone(&requests), std::sync::mpsc::channel());
    let (has_answered, answered) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in hook.incoming() {
            let mut stream = stream.unwrap();
            read_request(&mut stream);
            count.fetch_add(1, Ordering::SeqCst);
            if answers.recv().is_err() {
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            let _ = has_answered.send(());
        }
    });
    let notify = format!("[[notify]]\nurl = \"http://{address}/key\"\n");
    let rare = SERVERS.replace("0 3 * * *", "0 3 1 1 *");
    machine.configure(&format!("{rare}{notify}"));
    machine.fault("create:fails,server=101,times=1");
    let daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("the notice", || requests.load(Ordering::SeqCst) == 1).await;
    daemon.signal(Signal::SIGSTOP);
    for _ in 0..9 {
        may_answer.send(()).unwrap();
    }
    answered.recv().unwrap();
    // Longer than an attempt may take.
    machine.clock.sleep(Duration::from_secs(13)).await;
    daemon.signal(Signal::SIGCONT);
    machine.until("it is told", || daemon.log().contains("\"told ")).await;
    // Longer than it waits before another attempt.
    machine.clock.sleep(Duration::from_secs(5)).await;
    assert_eq!(requests.load(Ordering::SeqCst), 1, "{}", daemon.log());
}
