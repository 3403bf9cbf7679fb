//! What the page may fetch: from its daemon, and from nowhere else.

use serde_json::Value;

use crate::browser::Browser;
use crate::stage::{of_all_kinds, until};

#[tokio::test]
async fn nothing_is_asked_of_another_host_and_nothing_of_the_page_breaks_its_own_policy() {
    let stage = of_all_kinds().await;
    let browser = Browser::open().await;
    browser.go(&stage.page("")).await;
    // A refresh, too.
    browser.run("window.asOf = document.getElementById('refreshed').textContent").await;
    browser
        .until("a refresh", "return document.getElementById('refreshed').textContent !== asOf")
        .await;

    assert_eq!(browser.run("return violations").await, Value::Array(vec![]));
    assert_eq!(browser.log("browser").await, Vec::<Value>::new(), "the console's log");
    let ours = stage.page("");
    let asked = asked(&browser, &ours).await;
    assert!(asked.len() >= 2, "the page and a refresh: {asked:?}");
    for address in &asked {
        assert!(address.starts_with(&ours) || address.starts_with("data:"), "{address}");
    }

    // The same watch sees what the policy is there to stop.
    browser
        .run(
            "const script = document.createElement('script');
             script.textContent = 'window.intruded = true';
             document.body.append(script);
             document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.1:9/x.png\">');
             document.body.insertAdjacentHTML('beforeend', '<p id=styled style=\"color: red\">x</p>');",
        )
        .await;
    browser.until("the violations are told", "return violations.length >= 3").await;
    assert_eq!(browser.run("return window.intruded === undefined").await, true);
    until("the console tells, too", async || {
        (!browser.log("browser").await.is_empty()).then_some(())
    })
    .await;
}

/// The addresses that the browser has asked for on the page's behalf.
async fn asked(browser: &Browser, page: &str) -> Vec<String> {
    let mut asked = Vec::new();
    for entry in browser.log("performance").await {
        let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
        let message = &message["message"];
        let parameters = &message["params"];
        let is_ours = parameters["documentURL"].as_str().is_some_and(|it| it.starts_with(page));
        if message["method"] == "Network.requestWillBeSent" && is_ours {
            asked.push(parameters["request"]["url"].as_str().unwrap().to_owned());
        }
    }
    asked
}
