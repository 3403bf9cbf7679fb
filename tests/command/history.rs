//! What the daemon keeps of the past, and what `history` shows of it.

use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use serde_json::Value;
use snapring::naming::{Prefix, ServerId, Tick};

use crate::machine::{Machine, WEB};

/// Ticks once a year.
const RARE: &str = "[defaults]\nschedule = \"0 0 1 1 *\"\nkeep = 3\n\
                    [[server]]\nid = 101\nname = \"web\"\n[[server]]\nid = 999\nname = \"gone\"\n";

fn json(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn history_shows_what_was_while_the_daemon_runs_and_afterwards() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    let (code, _, errors) = machine.run(&["history"]);
    assert_eq!(code, 1);
    assert!(
        errors.contains("snapring.db") && errors.contains("hint: the daemon creates it"),
        "{errors}"
    );

    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGUSR1);
    let ended = || (daemon.rotations("rotated"), daemon.rotations("failed")) == (1, 1);
    machine.until("both", ended).await;
    let made = machine.names(WEB)[0].clone();
    // The look of a start may have found the rotation under way, and left it alone.
    let shown = || machine.run(&["history", "--json", "--outcome", "rotated,failed"]);
    machine.until("the store has both", || json(&shown().1).len() == 2).await;

    let (code, out, errors) = machine.run(&["history", "web", "--outcome", "rotated"]);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "1 rotation: 1 rotated");
    assert!(lines[1].starts_with("WHEN") && lines[1].ends_with("REASON"), "{out}");
    assert!(lines[2].contains("web") && lines[2].contains("rotated"), "{out}");
    assert!(lines[2].contains(&made) && lines.len() == 3, "{out}");

    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    let rows = json(&machine.run(&["history", "--json", "--outcome", "failed", "--since", "1h"]).1);
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["server"], &rows[0]["server_id"]), (&"gone".into(), &999.into()));
    assert!(rows[0]["reason"].as_str().is_some_and(|it| !it.is_empty()), "{rows:?}");
    let all = json(&machine.run(&["history", "--json"]).1);
    let rotated = all.iter().find(|row| row["server"] == "web").unwrap();
    assert_eq!(rotated["created"], made);
    assert!(rotated["steps"].as_array().is_some_and(|it| !it.is_empty()), "{rotated}");
    assert_eq!(json(&machine.run(&["history", "--json", "--limit", "1"]).1).len(), 1);

    // By the number, by a name of the past, and by one that nobody ever had.
    let renamed = RARE.replace("web", "www");
    machine.configure(&renamed);
    for name in ["101", "web", "www"] {
        let rows = json(&machine.run(&["history", "--json", "--outcome", "rotated", name]).1);
        assert_eq!(rows.len(), 1, "{name}");
    }
    let (code, out, errors) = machine.run(&["history", "nobody"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        errors.contains("there is no server \"nobody\" in ")
            && errors.contains("nor in its history"),
        "{errors}"
    );
    let (code, out, errors) = machine.run(&["history", "www", "--outcome", "blocked"]);
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(errors.contains("no such rotation"), "{errors}");
    assert_eq!(machine.run(&["history", "--outcome", "faild"]).0, 2);
    assert_eq!(machine.run(&["history", "--since", "recently"]).0, 2);
    for since in ["yesterday", "today", "26h", "2026-01-01"] {
        assert_eq!(machine.run(&["history", "--since", since]).0, 0, "{since}");
    }
}

/// As from a timer of systemd's: no daemon has ever run here.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_without_any_daemon_begins_the_history() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    let (code, _, errors) = machine.run(&["rotate", "web"]);
    assert!(code == 0 && !errors.contains("missing"), "{errors}");
    let rows = json(&machine.run(&["history", "--json"]).1);
    assert_eq!((rows.len(), &rows[0]["outcome"]), (1, &"rotated".into()));
    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    let rows = json(&machine.run(&["history", "--json"]).1);
    assert_eq!(rows.len(), 1, "{}", daemon.log());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_in_memory_only_says_what_to_do() {
    let machine = Machine::new().await;
    machine.configure(&format!("[store]\nurl = \"sqlite::memory:\"\n{RARE}"));
    let (code, out, errors) = machine.run(&["history"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        errors.contains("only in the memory of the daemon") && errors.contains("[store]"),
        "{errors}"
    );
    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(!machine.path("snapring.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_the_stores_address_is_shown_nowhere() {
    let machine = Machine::new().await;
    let store = "[store]\nurl = \"postgres://anna:s3cret@127.0.0.1:1/rings\"\n";
    machine.configure(&format!("{store}{RARE}"));
    let (code, out, errors) = machine.run(&["history"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(errors.contains("postgres://127.0.0.1:1/rings"), "{errors}");
    assert!(!errors.contains("s3cret") && !errors.contains("anna"), "{errors}");
    let mut daemon = machine.daemon();
    machine.until("told", || daemon.told("store") == 1).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("rotations go on", || daemon.rotations("rotated") == 1).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(!daemon.log().contains("s3cret"), "{}", daemon.log());

    for wrong in ["postgres://anna:s3cret@host:no/rings", "anna:s3cret@host/rings", "s3cret"] {
        machine.configure(&format!("[store]\nurl = \"{wrong}\"\n{RARE}"));
        let (code, out, errors) = machine.run(&["check"]);
        assert_eq!(code, 78);
        assert!(errors.contains("`url` is") || out.contains("`url` is"), "{out}{errors}");
        assert!(!format!("{out}{errors}").contains("s3cret"), "{out}{errors}");
    }
}

/// From daily to hourly, while the daemon is away, with a ring whose newest tick is one of both.
#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_edited_while_the_daemon_was_away_fires_only_where_nothing_is_remembered() {
    let machine = Machine::new().await;
    let hour = machine.clock.now().wall.as_second() / 3600 - 3;
    let tick = Timestamp::from_second(hour * 3600).unwrap();
    let prefix: Prefix = "snapring".parse().unwrap();
    machine.add(WEB, &prefix.name(Tick::at(tick)), 3);
    let server = |schedule: &str| {
        format!(
            "[log]\nlevel = \"debug\"\n[[server]]\nid = 101\nkeep = 3\nschedule = \"{schedule}\"\n"
        )
    };
    // Not due in the few seconds of a life here.
    let daily = server(&format!("0 {} * * *", hour % 24));
    let minute = (machine.clock.now().wall + SignedDuration::from_mins(30)).as_second() / 60 % 60;
    // Also at the tick's own minute, so that the ring speaks for it.
    let hourly =
        server(&if minute == 0 { "0 * * * *".into() } else { format!("0,{minute} * * * *") });
    let life = async |text: &str| {
        machine.configure(text);
        let mut daemon = machine.daemon();
        machine.until("a look", || !daemon.events("resume").is_empty()).await;
        let nothing = daemon.log().contains("nothing was missed");
        if !nothing {
            machine.until("its end", || daemon.told("rotation") == 1).await;
        }
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.ended().await.code(), Some(0));
        machine.rows(WEB).len()
    };
    assert_eq!(life(&daily).await, 1, "in force, and nothing missed");
    assert_eq!(life(&hourly).await, 1, "edited: nothing fires");
    assert_eq!(life(&hourly).await, 1, "nor at the start after that");
    std::fs::remove_file(machine.path("snapring.db")).unwrap();
    assert_eq!(life(&hourly).await, 2, "a lost store: the ring tells, as ever");
    assert!(machine.rows(ServerId::new(102)).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_costs_no_rotation_and_is_put_aside() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    let mut damaged = b"SQLite format 3\0".to_vec();
    damaged.resize(9000, 0x5a);
    std::fs::write(machine.path("snapring.db"), damaged).unwrap();
    let mut daemon = machine.daemon();
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGUSR1);
    machine.until("it rotates", || daemon.rotations("rotated") == 1).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    let told = daemon.events("store");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["message"].as_str().unwrap().contains("was renamed to"), "{told:?}");
    assert_eq!(json(&machine.run(&["history", "--json", "--outcome", "rotated"]).1).len(), 1);
}

/// S8: the provider answers 204, and the row stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_listed_is_not_called_deleted() {
    let machine = Machine::new().await;
    machine.configure_api("settle = \"1s\"", &RARE.replace("keep = 3", "keep = 2"));
    for age in [72, 48] {
        let at = machine.clock.now().wall - SignedDuration::from_hours(age);
        machine.add(WEB, &at.strftime("snapring-%Y%m%dT%H%M%SZ").to_string(), age);
    }
    let oldest = machine.names(WEB)[0].clone();
    machine.fault("delete:ignored,times=1");
    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 1, "{out}{errors}");
    assert!(!out.contains("deleted snapring"), "{out}");
    let confirmed = format!("the provider confirmed the deletion of {oldest} but still lists it");
    assert!(out.contains(&confirmed) && out.contains("3 of 5"), "{out}");
    let rows = json(&machine.run(&["history", "--json"]).1);
    assert_eq!(rows[0]["deleted"].as_array().map(Vec::len), Some(0), "{rows:?}");

    let (code, out, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{out}{errors}");
    assert!(out.contains(&format!("deleted {oldest}\n")) && out.contains("2 of 5"), "{out}");
    let (_, out, _) = machine.run(&["history", "--limit", "1"]);
    assert!(out.contains(&oldest) && !out.contains("not confirmed"), "{out}");
}
