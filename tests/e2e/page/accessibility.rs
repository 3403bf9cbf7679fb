//! What axe-core finds, and whether all fits a narrow screen.

use serde_json::Value;

use crate::browser::Browser;
use crate::stage::{given, of_all_kinds};

/// The narrowest screen that WCAG asks for.
const NARROW: u32 = 320;

async fn violations(browser: &Browser) -> Vec<String> {
    let axe = std::fs::read_to_string(given("AXE")).expect("axe-core");
    browser.run(&axe).await;
    // All its rules, the best practices too.
    let found = browser.resolve("axe.run(document, { resultTypes: ['violations'] })").await;
    assert!(found["passes"].as_array().is_some_and(|it| it.len() > 15), "it has looked");
    let found = found["violations"].as_array().expect("a list").iter();
    found
        .map(|it| {
            let nodes = it["nodes"].as_array().expect("a list").iter();
            let nodes: Vec<&str> = nodes.filter_map(|it| it["html"].as_str()).take(3).collect();
            format!("{}: {} {nodes:?}", it["id"], it["help"])
        })
        .collect()
}

#[tokio::test]
async fn axe_finds_nothing_light_dark_or_narrow_and_nothing_scrolls_sideways() {
    let stage = of_all_kinds().await;
    let browser = Browser::open().await;
    let mut papers = Vec::new();
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", NARROW), ("dark", NARROW)] {
        browser.prefer(scheme).await;
        browser.resize(width, 900).await;
        browser.go(&stage.page("")).await;
        let found = violations(&browser).await;
        assert!(found.is_empty(), "{scheme}, {width} px: {found:#?}");
        let sizes = browser.run("return [document.documentElement.scrollWidth, innerWidth]").await;
        assert_eq!(sizes, serde_json::json!([width, width]), "{scheme}: it scrolls sideways");
        // What sticks out of a card is cut off, and not to be scrolled to.
        let fits = "return [...document.querySelectorAll('article')]
            .every((it) => it.scrollWidth <= it.clientWidth)";
        assert_eq!(
            browser.run(fits).await,
            true,
            "{scheme}, {width} px: a card's words are cut off"
        );
        let labelled = "return [...document.querySelectorAll('input, select')]
            .every((it) => it.labels.length === 1)";
        assert_eq!(browser.run(labelled).await, true, "a placeholder is no label");
        papers.push(browser.run("return getComputedStyle(document.body).backgroundColor").await);
        let kind = if width == NARROW { "narrow" } else { "wide" };
        browser.picture(&format!("{scheme}-{kind}.png"), true).await;
    }
    assert_ne!(papers[0], papers[1], "dark is another paper than light");

    // A search without a result, which has other things on it.
    browser.go(&stage.page("?q=nothing")).await;
    assert_eq!(violations(&browser).await, Vec::<String>::new());

    // The same look finds what is wrong.
    browser.go(&stage.page("")).await;
    browser
        .run("document.querySelector('h2').style.color = getComputedStyle(document.body).backgroundColor")
        .await;
    let broken = "document.querySelector('label').replaceWith(document.querySelector('input'))";
    browser.run(broken).await;
    assert_ne!(violations(&browser).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_long_name_without_a_break_fits_a_narrow_screen() {
    let mut stage = crate::stage::Stage::set(1);
    // As long as a name may be.
    let name = "a-server-".repeat(12)[..100].to_owned();
    stage.snapshot(101, &"x".repeat(40), None);
    stage.configure("0 3 * * *", &[crate::stage::server(101, &name, "")]);
    stage.start().await;
    stage.rotate_all();
    stage.until_are("ok", 1).await;
    let browser = Browser::open().await;
    browser.resize(NARROW, 900).await;
    browser.go(&stage.page("")).await;
    let width = browser.run("return document.documentElement.scrollWidth").await;
    assert_eq!(width, Value::from(NARROW));
    let article =
        "const it = document.querySelector('article'); return it.scrollWidth <= it.clientWidth";
    assert_eq!(browser.run(article).await, true, "the name is cut off");
}
