//! What the little script does: fresh facts under the reader's hands, and the truth when there are none.

use serde_json::Value;

use crate::browser::Browser;
use crate::stage::{Stage, of_all_kinds, server, until};

#[tokio::test]
async fn a_change_appears_without_a_reload_and_under_the_readers_hands() {
    let stage = of_all_kinds().await;
    let browser = Browser::open().await;
    browser.go(&stage.page("")).await;
    // The reader is typing, with a part of the words selected, and has chosen a state.
    browser
        .run(
            "window.stayed = true;
             const select = document.querySelector('select');
             select.value = 'blocked';
             const input = document.querySelector('input');
             input.focus(); input.value = 'web-0'; input.setSelectionRange(1, 3);",
        )
        .await;
    stage.end_faults();
    stage.rotate_all();
    // files-01 is busy with the rotation from before, and goes on to be so.
    stage.until_are("ok", 4).await;
    browser
        .until(
            "the repaired server is shown",
            "return document.querySelector('#server-102 .state').textContent === 'ok'",
        )
        .await;
    assert_eq!(browser.text("#headline").await, "1 of 7 servers in trouble");
    assert_eq!(browser.client.title().await.unwrap(), "1 of 7 servers in trouble · snapring");
    assert_eq!(browser.texts(".error").await.len(), 1);
    let order = browser.texts("article h2").await;
    assert_eq!(order[0], "build-01", "the order is that of a page loaded anew");
    let hands = "const input = document.querySelector('input');
        return [window.stayed === true, document.activeElement === input, input.value,
            input.selectionStart, input.selectionEnd, document.querySelector('select').value].join()";
    assert_eq!(browser.run(hands).await, "true,true,web-0,1,3,blocked");
    // The icon in the tab stays red while one is blocked.
    let icon = "return document.getElementById('icon').href.includes('a4161a')";
    assert_eq!(browser.run(icon).await, true);
    let counts = browser.texts("option").await;
    assert!(counts.contains(&"failed (0)".to_owned()), "{counts:?}");

    // The skipped tick has neither ended what is under way nor become its reason.
    let under_way = browser.text("#server-104 .under-way").await;
    assert!(under_way.starts_with("A rotation is under way"), "{under_way}");

    // Now the reader copies from a server of which nothing changes.
    browser.run("getSelection().selectAllChildren(document.querySelector('#server-106 h2'))").await;
    stage.faults("create:fails,server=101");
    stage.rotate_all();
    browser
        .until(
            "the broken server is shown, and first",
            "return document.querySelector('article').id === 'server-101'",
        )
        .await;
    assert_eq!(browser.run("return getSelection().toString()").await, "old-01");
    assert_eq!(browser.run("return window.stayed").await, true);
}

#[tokio::test]
async fn the_countdown_counts_down() {
    let mut stage = Stage::set(1);
    // So near that it is told in seconds.
    stage.configure("* * * * *", &[server(101, "web-01", "min_interval = \"2h\"")]);
    stage.start().await;
    let browser = Browser::open().await;
    browser.go(&stage.page("")).await;
    let read = "return document.querySelector('[data-until]').textContent";
    let seconds = |words: &Value| {
        let words = words.as_str().unwrap();
        words.strip_prefix("in ").and_then(|it| it.strip_suffix('s')).and_then(|it| it.parse().ok())
    };
    let mut seen: Vec<u32> = Vec::new();
    until("three steps of the countdown", async || {
        let now = seconds(&browser.run(read).await)?;
        if seen.last() != Some(&now) {
            // The next minute's countdown begins above.
            if seen.last().is_some_and(|before| *before < now) {
                seen.clear();
            }
            seen.push(now);
        }
        (seen.len() >= 3).then_some(())
    })
    .await;
    // By itself, and not only when the page is refreshed.
    assert!(seen.is_sorted_by(|before, after| *after < *before && before - after < 6), "{seen:?}");
}

#[tokio::test]
async fn a_daemon_that_is_gone_is_told_and_one_that_is_back_too() {
    let mut stage = Stage::set(1);
    stage.configure("0 3 * * *", &[server(101, "web-01", "")]);
    stage.start().await;
    stage.rotate_all();
    stage.until_are("ok", 1).await;
    let browser = Browser::open().await;
    browser.go(&stage.page("")).await;
    assert_eq!(browser.text("#headline").await, "All is well");
    assert_eq!(browser.text("#unreachable").await, "");

    stage.stop();
    let hidden = "return document.getElementById('unreachable').hidden";
    until("it is told", async || (browser.run(hidden).await == false).then_some(())).await;
    let words = browser.text("#unreachable").await;
    assert!(words.starts_with("snapring cannot be reached since "), "{words}");
    assert!(words.ends_with("What stands here is old."), "{words}");
    assert_eq!(browser.client.title().await.unwrap(), "snapring cannot be reached");
    assert_eq!(browser.text("article h2").await, "web-01", "what was known stays");

    stage.start().await;
    until("it is taken back", async || (browser.run(hidden).await == true).then_some(())).await;
    let title = browser.client.title().await.unwrap();
    assert!(title.ends_with(" · snapring"), "{title}");
    assert_eq!(browser.run("return document.body.className").await, "");
}
