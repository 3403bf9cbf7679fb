//! Which path shows what. Only GET and HEAD, and nothing is cached.

use axum::Router;
use axum::extract::{RawQuery, Request, State as Shared};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::daemon::view::View;
use crate::observe::health::Obstacles;
use crate::observe::hosts::Hosts;
use crate::observe::query::Query;
use crate::observe::status_document::{DaemonStatus, Found, StatusDocument};
use crate::observe::{metrics, page, text_format};
use crate::status::MetricsScope;

/// All paths.
pub(super) fn router(view: View, hosts: Hosts, scope: MetricsScope) -> Router {
    Router::new()
        .route("/", get(front_page))
        .route(
            "/metrics",
            get(async move |Shared(view), headers| show_metrics(&view, &headers, scope)),
        )
        .route("/api/v1/status", get(status))
        .fallback(async || text(StatusCode::NOT_FOUND, PATHS.to_owned()))
        .layer(from_fn_with_state(hosts, refuse_other_hosts))
        // They show nothing, and are asked by whatever name.
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(view)
}

const OTHER_HOST: &str = "unknown host name: use an IP address or localhost, or add the \
                          name to `hosts` in [http]\n";

const PATHS: &str = "not found; there are /, /livez, /readyz, /metrics and /api/v1/status\n";

async fn refuse_other_hosts(
    Shared(hosts): Shared<Hosts>,
    request: Request,
    next: Next,
) -> Response {
    if hosts.are_meant_by(request.headers()) {
        return next.run(request).await;
    }
    text(StatusCode::MISDIRECTED_REQUEST, OTHER_HOST.to_owned())
}

async fn livez(Shared(view): Shared<View>) -> Response {
    health(&Obstacles::to_life(&view))
}

async fn readyz(Shared(view): Shared<View>) -> Response {
    health(&Obstacles::to_work(&view))
}

fn show_metrics(view: &View, headers: &HeaderMap, scope: MetricsScope) -> Response {
    match metrics::render(view, scope) {
        Ok(metrics) if text_format::openmetrics_is_asked_for(headers) => {
            answer(StatusCode::OK, metrics::CONTENT_TYPE, metrics)
        }
        Ok(metrics) => {
            let metrics = text_format::of_openmetrics(&metrics);
            answer(StatusCode::OK, text_format::CONTENT_TYPE, metrics)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn status(Shared(view): Shared<View>, RawQuery(query): RawQuery) -> Response {
    let query = match Query::read(query.as_deref().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
    };
    let found = Found::among(view.rows(), &query.filter);
    let document = StatusDocument::of(&found, Some(DaemonStatus::of(&view)), view.now())
        .with_account(view.account())
        .with_not_resumed(view.not_resumed())
        .with_restores(view.restores());
    match serde_json::to_string(&document) {
        Ok(json) => answer(StatusCode::OK, "application/json", json),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn front_page(Shared(view): Shared<View>, RawQuery(query): RawQuery) -> Response {
    let query = match Query::read(query.as_deref().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => return text(StatusCode::BAD_REQUEST, problem),
    };
    match page::render(&view, &query) {
        Ok(page) => {
            let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", page);
            if let Ok(policy) = HeaderValue::from_str(page::content_security_policy()) {
                response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            }
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn health(obstacles: &Obstacles) -> Response {
    let status =
        if obstacles.are_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, obstacles.words())
}

fn text(status: StatusCode, words: String) -> Response {
    answer(status, "text/plain; charset=utf-8", words)
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let headers: [(HeaderName, &'static str); 4] = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let headers: HeaderMap =
        headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests;
