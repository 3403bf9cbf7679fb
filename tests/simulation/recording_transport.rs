//! The network, recording_transport: the judge sees what goes over it, people meddle while it is read, and the
//! process dies on it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use snapring::clock::Clock;
use snapring::provider::transport::{Method, Request, ResponseFuture, Transport};
use snapring::sandbox::in_memory::InMemory;
use tokio_util::sync::CancellationToken;

use crate::faults::{by_hand, exchange};
use crate::judge::{Judge, parameter};

/// Where the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// Counted among the creates, or among all calls.
    pub at_create: bool,
    pub nth: u64,
    /// Before the provider has it, or after its answer.
    pub before: bool,
    /// So many turns of the scheduler later: at any point where something is awaited.
    pub turns: u32,
    /// The create is on its way, and reaches the provider that much later.
    pub strays: Option<Duration>,
}

/// Lets the judge see what goes over the network.
pub struct Watched {
    pub inner: InMemory,
    pub judge: Arc<Mutex<Judge>>,
    /// The daemon's clock.
    pub clock: Clock,
    pub truth: Clock,
    pub dies_at: Option<Death>,
    pub death: CancellationToken,
    /// How likely somebody works on a server's snapshots just after a call about them.
    pub meddling: f64,
    pub random: Mutex<StdRng>,
}

impl Watched {
    async fn die_if_it_is_time(&self, request: &Request, before: bool) {
        let Some(death) = self.dies_at.filter(|death| death.before == before) else { return };
        let nth = {
            let judge = self.judge.lock().unwrap();
            if death.at_create { judge.creates } else { judge.exchanges }
        };
        if nth != death.nth || (death.at_create && request.method != Method::Post) {
            return;
        }
        let now = self.truth.now().wall;
        self.judge.lock().unwrap().note(|| format!("{now} dies at request {nth}"));
        if let Some(span) = death.strays {
            self.judge.lock().unwrap().tell(|| format!("    dies, the create arrives in {span:?}"));
            self.inner.send_and_die(request.clone(), span);
        }
        if death.turns == 0 {
            self.death.cancel();
            return std::future::pending().await;
        }
        let end = self.death.clone();
        tokio::spawn(async move {
            for _ in 0..death.turns {
                tokio::task::yield_now().await;
            }
            end.cancel();
        });
        if death.strays.is_some() {
            // It is sent already.
            std::future::pending().await
        }
    }

    /// Between two pages of a listing, say, or between a listing and what rests on it.
    fn meddle(&self, server: Option<u64>) {
        let mut random = self.random.lock().unwrap();
        if !random.random_bool(self.meddling) {
            return;
        }
        let server = server.or_else(|| self.judge.lock().unwrap().any_server(&mut random));
        if let Some(server) = server {
            let now = self.truth.now().wall;
            let meddle = if random.random_bool(0.5) { exchange } else { by_hand };
            meddle(&self.inner.provider, &self.judge, server, now, &mut random);
        }
    }
}

/// What the metrics call it.
fn operation(request: &Request) -> &'static str {
    match request.method {
        Method::Post => "create",
        Method::Delete => "delete",
        Method::Get if request.path.starts_with("account/") => "account",
        Method::Get => "list",
    }
}

/// Whether the account's token is refused: a 401 or 403 of a server is that server's alone.
fn is_refusal(request: &Request, status: Option<u16>) -> bool {
    operation(request) == "account" && matches!(status, Some(401 | 403))
}

/// A request under way is over however its future ends.
struct UnderWay<'a> {
    recording_transport: &'a Watched,
    changes: Option<u64>,
    /// Which request of its world it is.
    number: u64,
    is_answered: bool,
    operation: &'static str,
    /// What it was answered with.
    status: Option<u16>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut judge = self.recording_transport.judge.lock().unwrap();
        // What the end of the process drops is dropped in no fixed order: tokio spreads its tasks by
        // numbers that it counts for all runtimes together.
        if !self.is_answered && judge.is_running {
            let now = self.recording_transport.truth.now().wall;
            judge.note(|| format!("{now} request {} is dropped", self.number));
        }
        if judge.is_running {
            let now = self.recording_transport.truth.now().uptime;
            judge.counted(self.operation, self.status, now);
        }
        judge.ended(self.changes, self.recording_transport.inner.provider.lock().unwrap().acts());
    }
}

impl Transport for Watched {
    fn exchange(&self, request: Request) -> ResponseFuture<'_> {
        Box::pin(async move {
            let sent_at = self.clock.now();
            let (changes, number) = {
                let mut judge = self.judge.lock().unwrap();
                (judge.sent(&request, sent_at), judge.exchanges)
            };
            let mut under_way = UnderWay {
                recording_transport: self,
                changes,
                number,
                is_answered: false,
                operation: operation(&request),
                status: None,
            };
            self.die_if_it_is_time(&request, true).await;
            let answer = self.inner.exchange(request.clone()).await;
            self.die_if_it_is_time(&request, false).await;
            under_way.is_answered = true;
            under_way.status = answer.as_ref().ok().map(|answer| answer.status);
            {
                let mut judge = self.judge.lock().unwrap();
                let now = self.truth.now().wall;
                judge.note(|| format!("{now} an answer"));
                let about = changes.or_else(|| parameter(&request.path, "server_id"));
                let moments = [sent_at, self.clock.now()];
                let refused = is_refusal(&request, under_way.status);
                if refused {
                    judge.visible.told.token_is_refused(self.truth.now().uptime);
                }
                judge.answered(number, &request, about, moments, &answer);
            }
            self.meddle(changes.or_else(|| parameter(&request.path, "server_id")));
            answer
        })
    }
}
