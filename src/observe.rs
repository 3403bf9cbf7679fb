//! Seen at a glance: what a person, a monitoring system and an orchestrator are shown of a running
//! daemon, over HTTP.
//!
//! Read-only and without secrets. Everything here looks through a
//! [`View`], which cannot change anything.

pub(crate) mod client;
mod health;
pub(crate) mod hosts;
pub(crate) mod listener;
mod metrics;
mod page;
mod process;
mod query;
mod routes;
pub(crate) mod status_document;
mod text_format;

use axum::body::{Body, to_bytes};
use axum::http::header::HOST;
use axum::http::{HeaderValue, Request};
use tower::ServiceExt;

use crate::daemon::view::View;
use crate::observe::hosts::Hosts;
use crate::status::MetricsScope;

/// What a GET of this path is answered with on this machine: the status and the body.
pub async fn get(view: View, path: &str) -> (u16, String) {
    let router = routes::router(view, Hosts::default(), MetricsScope::default());
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = path.parse().unwrap_or_default();
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    let answer = match router.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap_or_default();
    (status, String::from_utf8_lossy(&body).into_owned())
}
