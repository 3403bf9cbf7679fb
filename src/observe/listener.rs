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

/// Connections at once; more wait.
const CONNECTIONS: usize = 64;

/// How long a connection may be silent between its requests, or take to send one's head.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection may last: who reads slowly gives way to others at last.
const LIFETIME: Duration = Duration::from_mins(10);

/// Between two tries to listen where somebody else does.
const AGAIN: Duration = Duration::from_secs(10);

/// Listens, for as long as it is polled. What hinders it is told, and hinders nothing else.
pub async fn listen(address: SocketAddr, view: View, clock: Clock) -> Infallible {
    let listener = bind(address, &clock).await;
    let router = router(view);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                let clock = clock.clone();
                connections.spawn(async move {
                    clock.timeout(LIFETIME, serve(stream, router)).await;
                    drop(place);
                });
            }
            // Out of file descriptors: some will be free again.
            Err(_) => clock.sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn bind(address: SocketAddr, clock: &Clock) -> TcpListener {
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
            tell(address, &problem);
            told = true;
        }
        clock.sleep(AGAIN).await;
    }
}

/// With the port that was given, where any was asked for.
fn shown(listener: &TcpListener, address: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(address)
}

fn tell(address: SocketAddr, problem: &io::Error) {
    tracing::error!(
        event = "http",
        "cannot listen on {address}: {problem}; rotations go on, and it is tried again every {}",
        humantime::format_duration(AGAIN)
    );
}

async fn serve(stream: TcpStream, router: Router) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    // Ends with an error when the other side breaks off.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
