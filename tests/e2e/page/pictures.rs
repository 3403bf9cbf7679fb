//! The picture in the README.

use std::process::Command;

use crate::browser::Browser;
use crate::stage::{Stage, server};

/// Midnight so many days ago, as `YYYYMMDD` and as `YYYY-MM-DD`.
fn days_ago(days: u32) -> (String, String) {
    let date = |form: &str| {
        let day = format!("{days} days ago");
        let told = Command::new("date").args(["--utc", "--date", &day, form]).output();
        String::from_utf8(told.expect("date").stdout).expect("text").trim().to_owned()
    };
    (date("+%Y%m%d"), date("+%Y-%m-%d"))
}

#[tokio::test]
async fn a_fleet_with_a_ladder_of_snapshots_and_one_that_fails() {
    let names = ["web-01", "db-01", "mail-01", "shop-01", "files-01", "build-01"];
    let mut stage = Stage::set(names.len());
    for (id, _) in (101..).zip(names) {
        for days in [8, 2, 1] {
            let (stamp, date) = days_ago(days);
            let name = format!("snapring-{stamp}T030000Z");
            stage.snapshot(id, &name, Some(&format!("{date}T03:00:09Z")));
        }
    }
    let (_, date) = days_ago(40);
    let pinned = stage.snapshot(102, "before-upgrade", Some(&format!("{date}T14:12:00Z")));
    stage.faults("create:fails,server=103");
    let keep = "keep = { daily = 2, weekly = 2 }";
    let lines = |id: u64| match id {
        102 => format!("{keep}\npin = [{pinned}]"),
        _ => keep.to_owned(),
    };
    let servers: Vec<String> =
        (101..).zip(names).map(|(id, name)| server(id, name, &lines(id))).collect();
    stage.configure("0 3 * * *", &servers);
    stage.start().await;
    stage.rotate_all();
    stage.until_are("failed", 1).await;
    stage.until_are("ok", 5).await;
    let browser = Browser::open().await;
    browser.prefer("light").await;
    browser.resize(1200, 860).await;
    browser.go(&stage.page("")).await;
    // Two rows, and nothing cut off.
    let bottom = "return Math.ceil(document.querySelector('article:nth-child(4)')
        .getBoundingClientRect().bottom) + 6";
    let bottom = browser.run(bottom).await.as_u64().expect("pixels");
    browser.resize(1200, u32::try_from(bottom).expect("it fits")).await;
    browser.picture("readme.png", false).await;
    assert_eq!(browser.text("article h2").await, "mail-01");
    assert_eq!(browser.texts("article.ok").await.len(), 5);
}
