use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use rstest::rstest;
use tower::ServiceExt;

use super::*;
use crate::clock::Clock;
use crate::daemon::scheduler::{DueWork, Scheduler, Work};
use crate::observe::status_document::StatusFilter;
use crate::testing::stage::{Stage, noon, server};

async fn stage() -> Stage {
    let text = server(101, "web-01", "") + &server(102, "db-01", "enabled = false");
    Stage::start(Clock::simulated(noon()), &text).await
}

async fn ask(stage: &Stage, method: Method, path: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let answer = router(stage.view(), Hosts::default(), MetricsScope::default())
        .oneshot(request)
        .await
        .unwrap();
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

#[rstest]
#[case("/", "text/html; charset=utf-8")]
#[case("/livez", "text/plain; charset=utf-8")]
#[case("/readyz", "text/plain; charset=utf-8")]
#[case("/metrics", "text/plain; version=0.0.4; charset=utf-8")]
#[case("/api/v1/status", "application/json")]
#[tokio::test(start_paused = true)]
async fn each_path_answers_get_and_head_and_nothing_that_could_change_anything(
    #[case] path: &str,
    #[case] content_type: &str,
) {
    let stage = stage().await;
    stage.rotate(1).await;
    let (status, headers, body) = ask(&stage, Method::GET, path).await;
    assert_eq!((status, headers[CONTENT_TYPE].to_str().unwrap()), (StatusCode::OK, content_type));
    assert!(!body.is_empty());
    assert_eq!(headers[CACHE_CONTROL], "no-store");
    assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert!(!body.contains("vps_test"), "the token is nowhere");
    assert_eq!(headers.contains_key(CONTENT_SECURITY_POLICY), path == "/");

    let (status, headers, body) = ask(&stage, Method::HEAD, path).await;
    assert_eq!((status, headers[CONTENT_TYPE].to_str().unwrap()), (StatusCode::OK, content_type));
    assert_eq!(body, "");

    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        let (status, ..) = ask(&stage, method.clone(), path).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
}

#[rstest]
#[case("/favicon.ico", StatusCode::NOT_FOUND, "there are /, /livez")]
#[case("/api/v1/status/", StatusCode::NOT_FOUND, "/api/v1/status\n")]
#[case(
    "/?state=odd",
    StatusCode::BAD_REQUEST,
    "state is one of failed, blocked, skipped, stale, waiting, ok, disabled"
)]
#[case("/?page=0", StatusCode::BAD_REQUEST, "page is a number from 1")]
#[case("/?page=-1", StatusCode::BAD_REQUEST, "page is a number from 1")]
#[case("/?page=18446744073709551616", StatusCode::BAD_REQUEST, "page is a number from 1")]
#[case(
    "/api/v1/status?serve=web",
    StatusCode::BAD_REQUEST,
    "\"serve\" is not q, state, view or page"
)]
#[tokio::test(start_paused = true)]
async fn what_there_is_not_is_told_with_what_there_is(
    #[case] path: &str,
    #[case] status: StatusCode,
    #[case] words: &str,
) {
    let (told, headers, body) = ask(&stage().await, Method::GET, path).await;
    assert_eq!(told, status);
    assert!(body.contains(words), "{body}");
    assert_eq!(headers[CONTENT_TYPE], "text/plain; charset=utf-8");
}

#[tokio::test(start_paused = true)]
async fn a_query_is_read_as_forms_write_it() {
    let query = Query::read("q=web+01%2F%C3%A4&state=&page=2").unwrap();
    let filter = StatusFilter { words: "web 01/ä".to_owned(), state: None };
    assert_eq!(query, Query { filter, page: 2, is_table: false });
    assert_eq!(Query::read("").unwrap().page, 1);
    let stage = stage().await;
    let (.., body) = ask(&stage, Method::GET, "/api/v1/status?q=DB&state=disabled").await;
    let document: StatusDocument = serde_json::from_str(&body).unwrap();
    assert_eq!((document.servers.len(), document.totals.servers), (1, 2));
    assert_eq!(document.servers[0].name, "db-01");
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_once_the_provider_has_accepted_the_token_and_not_when_it_refuses_it() {
    let stage = stage().await;
    let (status, _, body) = ask(&stage, Method::GET, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "the provider has not answered yet\n");
    stage.rotate(1).await;
    assert_eq!(ask(&stage, Method::GET, "/readyz").await.2, "ok\n");

    stage.fault("any:status=401");
    stage.rotate(2).await;
    let (status, _, body) = ask(&stage, Method::GET, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "the provider refuses the token\n");
    // A new start would not help.
    assert_eq!(ask(&stage, Method::GET, "/livez").await.0, StatusCode::OK);
    let (.., page) = ask(&stage, Method::GET, "/").await;
    assert!(page.contains("The provider has refused the token since 20"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_is_not_in_force_is_told_and_the_daemon_lives_on() {
    let stage = stage().await;
    stage.rotate(1).await;
    stage.daemon.refuse("line 3: no such key");
    let (status, _, body) = ask(&stage, Method::GET, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "the last reload was rejected: line 3: no such key\n");
    assert_eq!(ask(&stage, Method::GET, "/livez").await.0, StatusCode::OK);
    let (.., page) = ask(&stage, Method::GET, "/").await;
    assert!(page.contains("is still in use: the last reload was rejected at 20"), "{page}");
    assert!(page.contains(": line 3: no such key"), "{page}");
    let (.., metrics) = ask(&stage, Method::GET, "/metrics").await;
    assert!(metrics.contains("\nsnapring_config_last_reload_successful 0\n"));
}

/// Wakes no task.
struct Asleep;

impl Scheduler for Asleep {
    fn start(
        &mut self,
        _: std::sync::Arc<dyn DueWork>,
    ) -> Work<'_, Result<(), crate::daemon::scheduler::SchedulerError>> {
        Box::pin(async { Ok(()) })
    }

    fn stop(&mut self) -> Work<'_, ()> {
        Box::pin(async {})
    }
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_stands_still_does_not_live() {
    let clock = Clock::simulated(noon());
    let stage = Stage::start_with(clock, &server(101, "web-01", ""), Box::new(Asleep)).await;
    stage.clock.sleep(Duration::from_secs(3600)).await;
    let (status, _, body) = ask(&stage, Method::GET, "/livez").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "the scheduler has stalled\n");
    let (.., page) = ask(&stage, Method::GET, "/").await;
    assert!(page.contains("The scheduler has stalled"));
}
