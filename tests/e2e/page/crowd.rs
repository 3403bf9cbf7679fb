//! Ten thousand servers. What it takes is compared with ten, in the same run.

use crate::browser::Browser;
use crate::stage::{Stage, server, until};

/// Servers that a page shows.
const SHOWN: u64 = 60;

/// So many servers, of which as many as a page shows have full rings.
async fn fleet(count: u64) -> Stage {
    let mut stage = Stage::set(usize::try_from(count).expect("it fits"));
    for id in (101..101 + count).take(60) {
        for day in 1..=5 {
            let (name, at) =
                (format!("snapring-2026110{day}T030000Z"), format!("2026-11-0{day}T03:00:00Z"));
            stage.snapshot(id, &name, Some(&at));
        }
    }
    let servers: Vec<String> =
        (101..101 + count).map(|id| server(id, &format!("host-{id:05}.example"), "")).collect();
    stage.configure("0 3 * * *", &servers);
    stage.start().await;
    until("all are listed", async || {
        let metrics = stage.text("metrics");
        let of_ring =
            |line: &&str| line.starts_with("snapring_slots{") && line.contains("state=\"free\"");
        (metrics.lines().filter(of_ring).count() as u64 == count).then_some(())
    })
    .await;
    stage
}

/// Milliseconds from the start of the navigation until all is loaded, the median of several; and how
/// large the document is.
async fn loaded(browser: &Browser, stage: &Stage) -> (f64, usize) {
    let mut times = Vec::new();
    for _ in 0..7 {
        browser.go(&stage.page("")).await;
        let time =
            browser.run("return performance.getEntriesByType('navigation')[0].loadEventEnd").await;
        times.push(time.as_f64().expect("a time"));
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], stage.text("").len())
}

#[tokio::test]
async fn ten_thousand_servers_are_a_page_like_any_other() {
    let browser = Browser::open().await;
    let few = fleet(10).await;
    let (few_ms, few_bytes) = loaded(&browser, &few).await;
    drop(few);

    let many = fleet(10_000).await;
    let (many_ms, many_bytes) = loaded(&browser, &many).await;
    println!(
        "10 servers: {few_ms:.0} ms, {few_bytes} bytes; 10,000: {many_ms:.0} ms, {many_bytes} bytes"
    );
    assert_eq!(browser.texts("article").await.len(), usize::try_from(SHOWN).unwrap());
    assert_eq!(browser.text("#pages span").await, "Page 1 of 167, 10000 servers");
    // Six times as many servers are shown; to look through all may take as long again.
    assert!(many_bytes < 6 * few_bytes, "{many_bytes} bytes, of ten: {few_bytes}");
    assert!(many_ms < 12.0 * few_ms, "{many_ms} ms, of ten: {few_ms} ms");
    browser.picture("ten-thousand.png", false).await;

    // A refresh of which each server shown has news keeps the reader no longer than loading it does.
    browser
        .run(
            "for (const article of document.querySelectorAll('article')) article.dataset.key = '';
             blocked.length = 0;
             window.begun = performance.now();
             window.asOf = document.getElementById('refreshed').textContent;",
        )
        .await;
    browser
        .until("a refresh", "return document.getElementById('refreshed').textContent !== asOf")
        .await;
    let renewed = "return [...document.querySelectorAll('article')].every((it) => it.dataset.key)";
    assert_eq!(browser.run(renewed).await, true);
    let blocked = browser
        .run("return Math.max(0, ...blocked.filter(([at]) => at >= begun).map(([, ms]) => ms))")
        .await;
    let blocked = blocked.as_f64().expect("a time");
    println!("the longest task while it was refreshed: {blocked:.0} ms");
    assert!(blocked < many_ms + 50.0, "a refresh blocked {blocked} ms; loading takes {many_ms} ms");

    // The same watch sees a task that is long.
    browser
        .run(
            "window.begun = performance.now();
             setTimeout(() => { while (performance.now() < begun + 300); });",
        )
        .await;
    browser
        .until("the long task", "return blocked.some(([at, ms]) => at >= begun && ms > 100)")
        .await;

    // It answers: the last one is found by its name.
    browser.go(&many.page("?q=host-10100")).await;
    assert_eq!(browser.texts("article h2").await, ["host-10100.example"]);
    browser.go(&many.page("?page=167")).await;
    assert_eq!(browser.texts("article").await.len(), 40);
}
