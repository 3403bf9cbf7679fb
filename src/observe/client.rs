//! Asks a daemon that listens on this machine how it is, as commands do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;

/// More than the status of a hundred thousand servers.
const MOST: usize = 1 << 30;

/// Why a daemon did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// Nobody listens there.
    #[error("connection refused: {0}")]
    Nobody(SocketAddr),
    /// There was no whole answer in time.
    #[error("{0} did not answer within {wait}", wait = humantime::format_duration(*.1))]
    TooLate(SocketAddr, Duration),
    /// Something else.
    #[error("{0} did not answer: {1}")]
    Broken(SocketAddr, String),
}

/// Asks for a path of the daemon that listens on `address`.
///
/// # Errors
/// When there was no whole answer within `patience`.
pub(crate) async fn ask(
    address: SocketAddr,
    path: &str,
    patience: Duration,
    clock: &Clock,
) -> Result<(StatusCode, Bytes), NoAnswer> {
    let address = reachable(address);
    match clock.timeout(patience, exchange(address, path)).await {
        Some(answer) => answer,
        None => Err(NoAnswer::TooLate(address, patience)),
    }
}

async fn exchange(address: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), NoAnswer> {
    let broken = |problem: &dyn std::fmt::Display| NoAnswer::Broken(address, problem.to_string());
    let stream = TcpStream::connect(address).await.map_err(|problem| match problem.kind() {
        std::io::ErrorKind::ConnectionRefused => NoAnswer::Nobody(address),
        _ => broken(&problem),
    })?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|problem| broken(&problem))?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .body(Body::empty())
        .map_err(|problem| broken(&problem))?;
    let answer = sender.send_request(request).await.map_err(|problem| broken(&problem))?;
    let status = answer.status();
    let body = to_bytes(Body::new(answer.into_body()), MOST).await;
    Ok((status, body.map_err(|problem| broken(&problem))?))
}

/// Who listens on all addresses listens on loopback too.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
