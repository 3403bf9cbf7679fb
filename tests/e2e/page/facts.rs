//! What the page says, with scripts and without.

use fantoccini::Locator;

use crate::browser::Browser;
use crate::stage::{MARKUP, of_all_kinds};

#[tokio::test]
async fn the_page_tells_how_each_server_is_with_scripts_and_without() {
    let stage = of_all_kinds().await;
    for browser in [Browser::open().await, Browser::without_scripts().await] {
        browser.go(&stage.page("")).await;
        tells_all(&browser).await;
    }
}

#[tokio::test]
async fn as_a_table_each_server_is_a_row_and_those_in_trouble_are_open() {
    let stage = of_all_kinds().await;
    for browser in [Browser::open().await, Browser::without_scripts().await] {
        browser.go(&stage.page("?view=table")).await;
        let open = browser.texts("details[open] th[scope=row]").await;
        assert_eq!(open, ["shop-01", "build-01"]);
        let groups = browser.texts("details summary").await;
        assert_eq!(groups, ["1 failed", "1 blocked", "1 waiting", "3 ok", "1 disabled"]);
        let rows = browser.client.find_all(Locator::Css("tbody tr")).await.unwrap();
        assert_eq!(rows.len(), 7, "the folded ones are there, too");
    }
}

async fn tells_all(browser: &Browser) {
    assert_eq!(browser.text("#headline").await, "2 of 7 servers in trouble");
    assert_eq!(browser.client.title().await.unwrap(), "2 of 7 servers in trouble · snapring");
    let facts = browser.text("#daemon").await;
    assert!(facts.contains("Token accepted"), "{facts}");

    // Those in trouble first, the worst before the rest; then by name.
    let names = browser.texts("article h2").await;
    let expected = ["shop-01", "build-01", "files-01", MARKUP, "db-01", "web-01", "old-01"];
    assert_eq!(names, expected, "a name that looks like HTML is text, too");
    let states = browser.texts("article .state").await;
    assert_eq!(states, ["failed", "blocked", "waiting", "ok", "ok", "ok", "disabled"]);
    let broken = browser.client.find_all(Locator::Css("article img, article i")).await.unwrap();
    assert!(broken.is_empty(), "markup from outside has become elements");

    // Why, in words.
    let error = browser.text("#server-102 .error").await;
    assert!(error.starts_with("the provider failed to create snapring-"), "{error}");
    let error = browser.text("#server-103 .error").await;
    assert!(error.starts_with("no room: 5 of 5 slots are taken"), "{error}");
    assert!(
        error.contains(
            "foreign by-hand-<i>1</i> (801), by-hand-<i>2</i> (802), by-hand-<i>3</i> (803)"
        ),
        "{error}"
    );
    assert_eq!(browser.texts(".error").await.len(), 2);

    // The ring, as a drawing with a name and in words.
    for (id, words, drawn) in [
        (102, "1 managed, 4 free", "1 broken, 4 free"),
        (103, "0 managed, 5 foreign, 0 free, squeezed: room for 0 of 4", "5 foreign"),
        (104, "1 managed, 4 free", "1 in_progress, 4 free"),
        (105, "1 managed, 1 pinned, 3 free", "1 pinned, 1 managed, 3 free"),
    ] {
        let article = format!("#server-{id}");
        let fact = browser.text(&format!("{article} dl div:nth-child(4) dd")).await;
        assert_eq!(fact, words, "{id}");
        let ring = browser.client.find(Locator::Css(&format!("{article} svg.ring"))).await.unwrap();
        assert_eq!(ring.attr("aria-label").await.unwrap().as_deref(), Some(words), "{id}");
        for part in drawn.split(", ") {
            let (count, class) = part.split_once(' ').unwrap();
            let selector = format!("{article} svg.ring circle.{class}");
            let slots = browser.client.find_all(Locator::Css(&selector)).await.unwrap();
            assert_eq!(slots.len().to_string(), count, "{id} {class}");
        }
    }

    // The snapshots with their ages, oldest first.
    let snapshots = browser.texts("#server-105 .snapshots li").await;
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots[0].starts_with("before-upgrade pinned, "), "{snapshots:?}");
    assert!(snapshots[0].contains("d") && snapshots[0].contains(" old"), "{snapshots:?}");
    assert!(snapshots[1].starts_with("snapring-"), "{snapshots:?}");
    let unfinished = browser.text("#server-104 .snapshots").await;
    assert!(unfinished.contains("managed, in progress, "), "{unfinished}");
    let under_way = browser.text("#server-104 .under-way").await;
    assert!(under_way.starts_with("A rotation is under way, for "), "{under_way}");

    // What was and what comes.
    let facts = browser.text("#server-101 dl").await;
    assert!(facts.contains("rotated, "), "{facts}");
    assert!(facts.contains("03:00:00 UTC, in "), "{facts}");
    let facts = browser.text("#server-106 dl").await;
    assert!(facts.contains("Next tick\nnone"), "{facts}");
}
