//! All of it with a keyboard alone.

use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::key::Key;

use crate::browser::Browser;
use crate::stage::{Stage, of_all_kinds, server, until};

/// Far more than a person would press.
const PRESSES: usize = 20;

const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';

async fn press(browser: &Browser, keys: &str) {
    let mut actions = KeyActions::new("keyboard".to_owned());
    for value in keys.chars() {
        actions = actions.then(KeyAction::Down { value }).then(KeyAction::Up { value });
    }
    browser.client.perform_actions(actions).await.expect("the keys are pressed");
}

/// Goes on from one thing to the next until one is such as a script says.
async fn tab_to(browser: &Browser, what: &str, is_there: &str) {
    for _ in 0..PRESSES {
        press(browser, &TAB.to_string()).await;
        let script = format!("const here = document.activeElement; return {is_there}");
        if browser.run(&script).await == true {
            let outline = "const style = getComputedStyle(document.activeElement);
                return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2";
            assert_eq!(browser.run(outline).await, true, "{what}: one sees where one is");
            return;
        }
    }
    panic!("{what}: not reached by {PRESSES} presses of Tab");
}

async fn until_at(browser: &Browser, query: &str) {
    until(&format!("the page at {query}"), async || {
        let address = browser.client.current_url().await.ok()?;
        (address.query().unwrap_or_default() == query).then_some(())
    })
    .await;
    browser.until("it is all there", "return document.readyState === 'complete'").await;
}

#[tokio::test]
async fn the_first_thing_skips_to_the_servers() {
    assert_eq!([char::from(Key::Tab), char::from(Key::Enter)], [TAB, ENTER]);
    let stage = of_all_kinds().await;
    let browser = Browser::open().await;
    browser.go(&stage.page("")).await;
    press(&browser, &TAB.to_string()).await;
    assert_eq!(
        browser.run("return document.activeElement.textContent").await,
        "Skip to the servers"
    );
    let seen = "return document.activeElement.getBoundingClientRect().left >= 0";
    assert_eq!(browser.run(seen).await, true);
    press(&browser, &ENTER.to_string()).await;
    browser.until("one is there", "return document.activeElement.id === 'servers'").await;
}

#[tokio::test]
async fn servers_are_searched_chosen_and_paged_through() {
    let mut stage = Stage::set(130);
    let name =
        |id: u64| if id.is_multiple_of(2) { format!("web-{id}") } else { format!("db-{id}") };
    let line = |id: u64| if id < 105 { "enabled = false" } else { "" };
    let servers: Vec<String> = (101..=230).map(|id| server(id, &name(id), line(id))).collect();
    stage.configure("0 3 * * *", &servers);
    stage.start().await;
    let browser = Browser::open().await;
    browser.go(&stage.page("")).await;
    assert_eq!(browser.texts("article").await.len(), 60);

    tab_to(&browser, "the search box", "here.name === 'q'").await;
    press(&browser, "web-").await;
    press(&browser, &ENTER.to_string()).await;
    until_at(&browser, "q=web-&state=").await;
    assert_eq!(browser.text("#pages").await.split('\n').next(), Some("Page 1 of 2, 65 servers"));

    tab_to(&browser, "the next page", "here.rel === 'next'").await;
    press(&browser, &ENTER.to_string()).await;
    until_at(&browser, "q=web-&page=2").await;
    assert_eq!(browser.texts("article").await.len(), 5);
    assert_eq!(browser.run("return document.querySelector('[name=q]').value").await, "web-");
    tab_to(&browser, "the page before", "here.rel === 'prev'").await;
    press(&browser, &ENTER.to_string()).await;
    until_at(&browser, "q=web-&page=1").await;

    tab_to(&browser, "the state", "here.name === 'state'").await;
    press(&browser, "dis").await;
    tab_to(&browser, "the button", "here.tagName === 'BUTTON'").await;
    press(&browser, &ENTER.to_string()).await;
    until_at(&browser, "q=web-&state=disabled").await;
    assert_eq!(browser.texts("article h2").await, ["web-102", "web-104"]);

    tab_to(&browser, "the search box", "here.name === 'q'").await;
    // What is in the box is selected when one comes by Tab.
    press(&browser, "nothing").await;
    press(&browser, &ENTER.to_string()).await;
    until_at(&browser, "q=nothing&state=disabled").await;
    tab_to(&browser, "the way back", "here.textContent === 'Show all 130.'").await;
    press(&browser, &ENTER.to_string()).await;
    until_at(&browser, "").await;
    assert_eq!(browser.texts("article").await.len(), 60);
}
