//! Listens where `[http] listen` says, and bounds what those who connect may take up.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::clock::Clock;
use crate::daemon::view::View;
use crate::observe::routes::router;

/// What those who connect may take up.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Connections at once; more wait.
    connections: usize,
    /// How long one may be silent between its requests, or take to send one's head.
    patience: Duration,
    /// How long one may last: who reads slowly gives way to others at last.
    lifetime: Duration,
    /// Between two tries to listen where somebody else does.
    again: Duration,
}

const BOUNDS: Bounds = Bounds {
    connections: 64,
    patience: Duration::from_secs(30),
    lifetime: Duration::from_mins(10),
    again: Duration::from_secs(10),
};

/// Listens, for as long as it is polled. What hinders it is told, and hinders nothing else.
pub(crate) async fn listen(address: SocketAddr, view: View, clock: Clock) -> Infallible {
    listen_within(BOUNDS, address, view, clock).await
}

async fn listen_within(
    bounds: Bounds,
    address: SocketAddr,
    view: View,
    clock: Clock,
) -> Infallible {
    let listener = bind(address, bounds.again, &clock).await;
    accept(bounds, listener, view, clock).await
}

/// The same where it listens already.
pub(crate) async fn serve_on(listener: TcpListener, view: View, clock: Clock) -> Infallible {
    accept(BOUNDS, listener, view, clock).await
}

async fn accept(bounds: Bounds, listener: TcpListener, view: View, clock: Clock) -> Infallible {
    let router = router(view);
    let places = Arc::new(Semaphore::new(bounds.connections));
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                let clock = clock.clone();
                // Pages that stay open keep half of the places at most: a probe finds one at once.
                let may_stay = places.available_permits() >= bounds.connections / 2;
                connections.spawn(async move {
                    let service = serve(stream, router, bounds.patience, may_stay);
                    clock.timeout(bounds.lifetime, service).await;
                    drop(place);
                });
            }
            // Out of file descriptors: some will be free again.
            Err(_) => clock.sleep(Duration::from_millis(100)).await,
        }
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
        "cannot listen on {address}: {problem}{}; rotations go on, and it is tried again every {}",
        if taken { " (is another snapring running?)" } else { "" },
        humantime::format_duration(again)
    );
}

async fn serve(stream: TcpStream, router: Router, patience: Duration, may_stay: bool) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    // Ends with an error when the other side breaks off.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .keep_alive(may_stay)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[cfg(test)]
mod tests;
