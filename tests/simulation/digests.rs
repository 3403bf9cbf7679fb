//! Digests of whole stories, to show that a refactoring changes no behaviour.
//!
//! A digest covers everything that a world's daemon asks, is answered and reports, and everything
//! that happens to it, in order and with times. It does not depend on the names of types.
//! `SNAPRING_SIM_DIGESTS=FILE` writes one line per test and seed: the test, the seed, the digest, and
//! the number of lines in it. With `SNAPRING_SIM_SEED=S` it writes the lines themselves.

use std::sync::Mutex;

use ring::digest::{Context, SHA256};
use snapring::answer::Headers;
use snapring::moment::Moment;
use snapring::provider::transport::{Method, Request, Response, TornBody, TransportError};
use snapring::report::Report;
use snapring::sandbox::provider::{Act, StoredSnapshot};

use crate::machine::TOKEN;
use crate::{isolation, number, on_all_cores, world};

/// How many seeds of each test get a digest.
const SEEDS: u64 = 200;

/// A test's name, and how to run one of its seeds.
type World = (&'static str, fn(u64, Record) -> Record);

const WORLDS: [World; 2] = [
    ("no_seed", |seed, record| world::run(seed, record).record),
    ("one_servers_trouble", |seed, record| isolation::differences(seed, record).1),
];

/// What is recorded of a world.
#[derive(Debug, Default)]
pub struct Record {
    /// The lines that people read.
    pub story: Option<Vec<String>>,
    /// Those lines, and the details that they leave out.
    pub digest: Option<Digest>,
}

impl Record {
    pub fn story() -> Self {
        Self { story: Some(Vec::new()), digest: None }
    }

    fn digest(keep_text: bool) -> Self {
        let text = keep_text.then(String::new);
        let digest = Digest { context: Context::new(&SHA256), lines: 0, text };
        Self { story: None, digest: Some(digest) }
    }
}

/// Hashes lines as they come: the stories of many worlds do not fit into memory.
pub struct Digest {
    context: Context,
    lines: u64,
    /// The lines themselves, if they are wanted.
    text: Option<String>,
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Digest").field("lines", &self.lines).finish_non_exhaustive()
    }
}

impl Digest {
    pub fn add(&mut self, line: &str) {
        let line = line.replace('\n', "\\n") + "\n";
        self.context.update(line.as_bytes());
        self.lines += 1;
        if let Some(text) = &mut self.text {
            text.push_str(&line);
        }
    }

    /// The first half of the SHA-256 has more than enough digits to tell worlds apart.
    fn finish(self) -> String {
        let hash = self.context.finish();
        format!("{} {}", hex(&hash.as_ref()[..8]), self.lines)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every byte of a body.
fn exactly(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) => format!("text {text}"),
        Err(_) => format!("bytes {}", hex(body)),
    }
}

pub fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Delete => "DELETE",
    }
}

// The lines below name every field, so that a new field must be added to them.

pub fn request_line(number: u64, request: &Request, sent_at: Moment) -> String {
    use secrecy::ExposeSecret;
    let Request { method: _, path: _, body, token } = request;
    let token = if token.expose_secret() == TOKEN { "right" } else { "wrong" };
    let body = body.as_deref().map(exactly);
    format!("request {number} uptime={:?} token={token} body={body:?}", sent_at.uptime)
}

pub fn answer_line(
    number: u64,
    request: &Request,
    sent_at: Moment,
    answer: &Result<Response, TransportError>,
) -> String {
    let answer = match answer {
        Ok(Response { status, retry_after, headers, body }) => {
            let Headers { age, link, content_range, total, warning, redirect: _ } = headers;
            let body = match body {
                Ok(body) => exactly(body),
                Err(TornBody::BrokeOff(why)) => format!("broke off: {why}"),
                Err(TornBody::TooLong) => "too long".to_owned(),
            };
            format!(
                "status={status} retry-after={retry_after:?} age={age:?} link={link:?} \
                 content-range={content_range:?} total={total:?} warning={warning:?} body={body}"
            )
        }
        Err(TransportError::Timeout(_)) => "timeout".to_owned(),
        Err(TransportError::Connection(why)) => format!("connection: {why}"),
        Err(TransportError::NotSent(why)) => format!("not sent: {why}"),
    };
    let Moment { wall, uptime } = sent_at;
    let method = method(request.method);
    format!("answer {number} to {method} {} of {wall} {uptime:?}: {answer}", request.path)
}

pub fn report_line(report: &Report) -> String {
    let Report {
        outcome,
        server_id,
        server,
        tick,
        created,
        deleted,
        deleted_ids,
        api_calls,
        duration_ms,
        steps,
        reason,
        known_cause,
    } = report;
    let ids: Vec<u64> = deleted_ids.iter().map(|id| id.0).collect();
    let cause = known_cause.map(|cause| cause.as_str());
    format!(
        "report outcome={} server_id={server_id} server={server} tick={tick} created={created:?} \
         deleted={deleted:?} deleted_ids={ids:?} api_calls={api_calls} duration_ms={duration_ms} \
         steps={steps:?} reason={reason:?} known_cause={cause:?}",
        outcome.as_str()
    )
}

pub fn act_line(act: &Act) -> String {
    let stray_since = act.stray_since.map(|since| since.to_string());
    format!("act stray_since={stray_since:?} {}", row_line(&act.row))
}

pub fn row_line(row: &StoredSnapshot) -> String {
    let StoredSnapshot { id, server, name, status, created_at, description, .. } = row;
    format!("row {id} server={server} {name} {status} {created_at} {description:?}")
}

#[test]
fn digests_are_written_if_a_file_is_named() {
    let Some(file) = std::env::var_os("SNAPRING_SIM_DIGESTS") else {
        eprintln!("SNAPRING_SIM_DIGESTS is not set: no digests are written");
        return;
    };
    if let Some(seed) = number("SNAPRING_SIM_SEED") {
        let texts = WORLDS.map(|(test, run)| {
            let digest = run(seed, Record::digest(true)).digest.unwrap();
            format!("{test} {seed}\n{}", digest.text.unwrap())
        });
        std::fs::write(file, texts.concat()).unwrap();
        return;
    }
    let begun = std::time::Instant::now();
    let lines = Mutex::new(Vec::new());
    for (test, run) in WORLDS {
        on_all_cores(SEEDS, |seed| {
            let digest = run(seed, Record::digest(false)).digest.unwrap().finish();
            lines.lock().unwrap().push((test, seed, digest));
            Vec::new()
        });
        eprintln!("{test}: {:.0?} after the start", begun.elapsed());
    }
    let mut lines = lines.into_inner().unwrap();
    lines.sort();
    let lines: String =
        lines.iter().map(|(test, seed, digest)| format!("{test} {seed} {digest}\n")).collect();
    std::fs::write(file, lines).unwrap();
}
