//! Listens where `[http] listen` says, and bounds what those who connect may take up.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tower::ServiceExt;

use crate::clock::Clock;
use crate::daemon::view::View;
use crate::observe::hosts::Hosts;
use crate::observe::routes::router;
use crate::status::MetricsScope;

/// What those who connect may take up.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Connections at once. For one more, the one that has been silent for longest is closed.
    connections: usize,
    /// How long the head of a request may take, and the silence before it.
    patience: Duration,
    /// How long one may last: a client that reads slowly is disconnected in the end.
    lifetime: Duration,
    /// Between two tries to listen on an address that is in use.
    again: Duration,
}

const BOUNDS: Bounds = Bounds {
    connections: 64,
    patience: Duration::from_secs(5),
    lifetime: Duration::from_mins(10),
    again: Duration::from_secs(10),
};

/// Listens, for as long as it is polled. What hinders it is told, and hinders nothing else.
pub(crate) async fn listen(
    address: SocketAddr,
    hosts: Hosts,
    scope: MetricsScope,
    view: View,
    clock: Clock,
) -> Infallible {
    listen_within(BOUNDS, address, router(view, hosts, scope), clock).await
}

async fn listen_within(
    bounds: Bounds,
    address: SocketAddr,
    router: Router,
    clock: Clock,
) -> Infallible {
    let listener = bind(address, bounds.again, &clock).await;
    accept(bounds, listener, router, clock).await
}

/// The same where it listens already.
pub(crate) async fn serve_on(listener: TcpListener, view: View, clock: Clock) -> Infallible {
    accept(BOUNDS, listener, router(view, Hosts::default(), MetricsScope::default()), clock).await
}

/// A connection, and when it last did something: a number that grows with each connection and request.
struct Connection {
    task: AbortHandle,
    active: Arc<AtomicU64>,
}

async fn accept(bounds: Bounds, listener: TcpListener, router: Router, clock: Clock) -> Infallible {
    let activity = Arc::new(AtomicU64::new(0));
    let mut open: Vec<Connection> = Vec::new();
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while connections.try_join_next().is_some() {}
                open.retain(|it| !it.task.is_finished());
                if open.len() >= bounds.connections {
                    close_the_most_silent(&mut open);
                }
                let active = Arc::new(AtomicU64::new(activity.fetch_add(1, Ordering::Relaxed)));
                let notes = (Arc::clone(&activity), Arc::clone(&active));
                let (router, clock) = (router.clone(), clock.clone());
                let task = connections.spawn(async move {
                    let service = serve(stream, router, bounds.patience, notes);
                    clock.timeout(bounds.lifetime, service).await;
                });
                open.push(Connection { task, active });
            }
            // Out of file descriptors: some will be free again.
            Err(_) => clock.sleep(Duration::from_millis(100)).await,
        }
    }
}

/// So a probe always finds a place, whatever others leave open.
fn close_the_most_silent(open: &mut Vec<Connection>) {
    let silent = open.iter().enumerate().min_by_key(|(_, it)| it.active.load(Ordering::Relaxed));
    if let Some((place, _)) = silent {
        open.swap_remove(place).task.abort();
    }
}

async fn bind(address: SocketAddr, again: Duration, clock: &Clock) -> TcpListener {
    let mut told = false;
    loop {
        let problem = match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(
                    event = "http",
                    "listening on http://{}/",
                    shown(&listener, address)
                );
                return listener;
            }
            Err(problem) => problem,
        };
        if !told {
            tell(address, &problem, again);
            told = true;
        }
        clock.sleep(again).await;
    }
}

/// With the port that was given, where any was asked for.
fn shown(listener: &TcpListener, address: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(address)
}

fn tell(address: SocketAddr, problem: &io::Error, again: Duration) {
    let taken = problem.kind() == io::ErrorKind::AddrInUse;
    tracing::error!(
        event = "http",
        "cannot listen on {address}: {problem}{}; rotations continue, and snapring tries again every {}",
        if taken { " (is another snapring running?)" } else { "" },
        humantime::format_duration(again)
    );
}

async fn serve(
    stream: TcpStream,
    router: Router,
    patience: Duration,
    (activity, active): (Arc<AtomicU64>, Arc<AtomicU64>),
) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        active.store(activity.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        router.clone().oneshot(request.map(Body::new))
    });
    // Ends with an error when the other side breaks off.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[cfg(test)]
mod tests;
