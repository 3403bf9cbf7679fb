//! A changed prefix: the old snapshots are named, and `adopt_prefix` makes them managed.

use nix::sys::signal::Signal;
use snapring::naming::{Prefix, Tick};

use crate::machine::{Machine, WEB, json};

fn server(lines: &str) -> String {
    format!(
        "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 * * *\"\nkeep = 3\nprefix = \"new\"\n{lines}\n"
    )
}

/// Puts a completed snapshot of this prefix into the ring, so many hours old. Gives its name.
fn add(machine: &Machine, prefix: &str, hours: i64) -> String {
    let at = machine.clock.now().wall - jiff::SignedDuration::from_hours(hours);
    let name = prefix.parse::<Prefix>().unwrap().name(Tick::at(at));
    machine.add(WEB, &name, hours);
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_prefix_is_named_with_the_way_out_which_lets_retention_delete_the_old_ones() {
    let machine = Machine::new().await;
    machine.configure(&server(""));
    let old: Vec<String> = [96, 72, 48, 24].map(|hours| add(&machine, "old", hours)).into();
    let looks = "look like snapring's under the prefix old";
    let way_out = "adopt_prefix = [\"old\"]";

    let (code, _, errors) = machine.run(&["check", "--online"]);
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains(&format!("warning: web: {} (", old[0])), "{errors}");
    assert!(errors.contains(looks) && errors.contains(way_out), "{errors}");
    let (code, out, _) = machine.run(&["plan"]);
    assert!(code == 0 && out.contains(looks) && out.contains(way_out), "{out}");
    assert!(out.contains("create new-") && !out.contains(", delete"), "{out}");
    let (_, out, _) = machine.run(&["plan", "--json"]);
    let warnings = json(&out)[0]["warnings"].clone();
    let warnings = warnings.as_array().unwrap();
    assert!(warnings.iter().any(|it| it.as_str().unwrap().contains(looks)), "{out}");

    let (code, _, errors) = machine.run(&["rotate", "web"]);
    assert_eq!(code, 0, "{errors}");
    let logged = errors.contains(looks) && errors.contains("write adopt_prefix = ");
    assert!(logged, "the first rotation: {errors}");
    let (code, out, _) = machine.run(&["rotate", "web"]);
    assert!(code == 1 && out.contains("blocked") && out.contains(way_out), "{out}");
    assert_eq!(machine.rows(WEB).len(), 5);
    let errors = machine.run(&["check", "--online"]).2;
    assert!(errors.contains("blocked") && errors.contains(way_out), "{errors}");
    assert_eq!(errors.matches("under the prefix old").count(), 1, "once: {errors}");

    machine.configure(&server(way_out));
    let (code, _, errors) = machine.run(&["check", "--online"]);
    let warnings: Vec<&str> = errors.lines().filter(|line| line.contains("warning")).collect();
    let others = "warning: 2 servers of the account have no policy: db-01 (102), mail-01 (103)";
    assert_eq!((code, warnings), (0, vec![others]));
    let (_, out, _) = machine.run(&["list", "web"]);
    assert_eq!(out.matches(" managed ").count(), 5, "{out}");
    let (code, out, errors) = machine.run(&["rotate", "web", "--json"]);
    assert_eq!(code, 0, "{errors}");
    let report = &json(&out)[0];
    assert!(report["created"].as_str().unwrap().starts_with("new-"), "{report}");
    assert_eq!(report["deleted"], serde_json::json!(old[..3]), "the oldest: {report}");
    let left = machine.names(WEB);
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.contains(&old[3]), "{left:?}");
}

/// S1: to the last character, and to the listed prefix.
#[tokio::test(flavor = "multi_thread")]
async fn adoption_takes_exactly_the_names_of_the_listed_prefixes() {
    let machine = Machine::new().await;
    machine.configure(&server("adopt_prefix = [\"old\"]").replace("keep = 3", "keep = 1"));
    let names = ["older-20261001T030000Z", "old-20261001T030000", "Old-20261001T030000Z"];
    for (age, name) in (100..).step_by(24).zip(names) {
        machine.add(WEB, name, age);
    }
    let adopted = add(&machine, "old", 30);
    let (code, out, errors) = machine.run(&["rotate", "web", "--json"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(json(&out)[0]["deleted"], serde_json::json!([adopted]));
    let left = machine.names(WEB);
    assert!(names.iter().all(|name| left.iter().any(|it| it == name)), "{left:?}");
    // A name that rotations would delete is nobody's to give.
    let name = "old-20261101T030000Z";
    let (code, _, errors) = machine.run(&["create", "web", "--name", name]);
    assert!(code == 2 && errors.contains("is named like a managed snapshot"), "{errors}");
}

/// The daemon heeds it from the reload on, and shows the names as they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_adopts() {
    let machine = Machine::new().await;
    let configure = |lines: &str| {
        let text = server(lines).replace("0 3 * * *", "*/2 * * * * *");
        machine.configure(&text.replace("keep = 3", "keep = 2\nmin_interval = \"0s\""));
    };
    configure("");
    let old: Vec<String> = [72, 48, 24].map(|hours| add(&machine, "old", hours)).into();
    let mut daemon = machine.daemon();
    machine.until("three rotations", || daemon.rotations("rotated") >= 3).await;
    let names = machine.names(WEB);
    assert!(old.iter().all(|name| names.contains(name)), "{names:?}");
    let told = daemon.events("ring");
    assert_eq!(told.len(), 1, "the first rotation names them: {told:?}");

    configure("adopt_prefix = [\"old\"]");
    daemon.signal(Signal::SIGHUP);
    let only_new = || machine.names(WEB).iter().all(|it| it.starts_with("new-"));
    machine.until("the old ones go", only_new).await;
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().await.success());
}
