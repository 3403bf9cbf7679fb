//! The daemon under a journal: entries with fields, and what becomes of them without one.
//!
//! The journal's socket stands at a fixed place. So the daemon gets a mount namespace in which that
//! place is a directory of the test's; nothing in the product knows of it.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;

use crate::machine::{Daemon, JSON_LOG, Machine, TOKEN};

/// Every two seconds, one kept.
const BUSY: &str = "[[server]]\nid = 101\nname = \"web\"\nschedule = \"*/2 * * * * *\"\nkeep = 1\n\
                    min_interval = \"0s\"\n";

const PAGE: &str = include_str!("../../docs/LOGGING.md");

/// An entry as journald would take it apart.
type Entry = HashMap<String, String>;

/// Takes one entry in the native protocol apart; nothing else may be in it.
fn read_entry(mut bytes: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').expect("a line has an end");
        let line = std::str::from_utf8(&bytes[..end]).unwrap();
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => {
                bytes = &bytes[end + 1..];
                (name, value.to_owned())
            }
            None => {
                let rest = &bytes[end + 1..];
                let length =
                    usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
                let value = String::from_utf8(rest[8..8 + length].to_vec()).unwrap();
                assert_eq!(rest[8 + length], b'\n');
                bytes = &rest[8 + length + 1..];
                (line, value)
            }
        };
        let sane = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(name.bytes().all(sane) && !name.starts_with('_'), "journald would drop {name}");
        assert!(entry.insert(name.to_owned(), value).is_none(), "{name} is there twice");
    }
    entry
}

/// What listens in journald's place.
struct Journal {
    entries: Arc<Mutex<Vec<Entry>>>,
    path: std::path::PathBuf,
}

impl Journal {
    fn of(machine: &Machine) -> Self {
        std::fs::create_dir_all(machine.path("journal")).unwrap();
        Self { entries: Arc::default(), path: machine.path("journal/socket") }
    }

    fn begin(&self) {
        let socket = UnixDatagram::bind(&self.path).unwrap();
        let entries = Arc::clone(&self.entries);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while let Ok(length) = socket.recv(&mut buffer) {
                if buffer[..length] == *b"end" {
                    return;
                }
                entries.lock().unwrap().push(read_entry(&buffer[..length]));
            }
        });
    }

    /// It goes away, as when it is stopped: first the place, so that nothing is sent to a closed one.
    fn end(&self) {
        let socket = UnixDatagram::unbound().unwrap();
        let gone = self.path.with_extension("gone");
        std::fs::rename(&self.path, &gone).unwrap();
        socket.send_to(b"end", &gone).unwrap();
    }

    fn entries(&self, event: &str) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap();
        let is_one = |entry: &&Entry| entry.get("SNAPRING_EVENT").is_some_and(|it| it == event);
        entries.iter().filter(is_one).cloned().collect()
    }
}

/// A command with the journal's socket in the machine's directory. `None` where a process may not have a mount
/// namespace (in some containers); CI must not be such a place.
fn beside_the_journal(machine: &Machine, arguments: &[&str]) -> Option<Command> {
    let may = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI can make no mount namespace");
        eprintln!("not tested: no mount namespace can be made here");
        return None;
    }
    let place = "mount -t tmpfs none /run && mkdir /run/systemd && ln -s \"$JOURNAL\" /run/systemd/journal \
                 && exec \"$0\" \"$@\"";
    let plain = machine.command(arguments);
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", place]).arg(plain.get_program()).args(plain.get_args());
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("JOURNAL", machine.path("journal"));
    Some(command)
}

/// The daemon with standard error in a file that `JOURNAL_STREAM` calls the journal.
fn daemon_of_systemd(machine: &Machine) -> Option<Daemon> {
    let command = beside_the_journal(machine, &["run"])?;
    Some(machine.start(command, |command, log| {
        let stream = log.metadata().unwrap();
        command.env("JOURNAL_STREAM", format!("{}:{}", stream.dev(), stream.ino()));
    }))
}

/// A person's standard error is not the journal.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_does_by_hand_is_in_the_journal_and_nothing_else_of_that_command() {
    let machine = Machine::new().await;
    let journal = Journal::of(&machine);
    journal.begin();
    machine.configure(&format!("{BUSY}{JSON_LOG}"));
    let arguments = ["create", "web", "--name", "before-upgrade"];
    let Some(command) = beside_the_journal(&machine, &arguments) else { return };
    let mut create = machine.start(command, |_, _| {});
    assert_eq!(create.ended().await.code(), Some(0), "{}", create.log());
    machine.until("its entry", || journal.entries("manual").len() == 1).await;
    let entry = journal.entries("manual").remove(0);
    assert_eq!(journal.entries.lock().unwrap().len(), 1);
    let id = machine.rows(crate::machine::WEB)[0].id.to_string();
    for (field, value) in [
        ("ACTION", "create"),
        ("OUTCOME", "done"),
        ("SERVER", "web"),
        ("SNAPSHOT", "before-upgrade"),
        ("SNAPSHOT_ID", &id),
    ] {
        assert_eq!(entry[&format!("SNAPRING_{field}")], value);
    }
    let says = format!("create before-upgrade ({id}) of web: done");
    assert!(entry["MESSAGE"].ends_with(&says), "{entry:?}");
    assert!(entry.contains_key("SNAPRING_UID"), "{entry:?}");
    for field in entry.keys().filter_map(|name| name.strip_prefix("SNAPRING_")) {
        let field = format!("`{}`", field.to_lowercase());
        assert!(PAGE.contains(&field), "docs/LOGGING.md does not know {field}");
    }
    assert_eq!(create.told("manual"), 1, "{}", create.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_and_rotation_is_one_entry_with_its_fields() {
    let machine = Machine::new().await;
    let journal = Journal::of(&machine);
    journal.begin();
    machine.configure(BUSY);
    machine.fault("list:status=500,times=1");
    let Some(mut daemon) = daemon_of_systemd(&machine) else { return };
    machine.until("three rotations", || journal.entries("rotation").len() >= 3).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    let ended = |entry: &Entry| entry["MESSAGE"] == "stopped";
    machine.until("the last words", || journal.entries("daemon").iter().any(ended)).await;

    assert_eq!(journal.entries("api").len(), machine.sandbox.provider().calls().len());
    assert_eq!(daemon.log(), "", "all of it is in the journal");

    let all = journal.entries.lock().unwrap().clone();
    for entry in &all {
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "snapring");
        assert!(!entry["MESSAGE"].is_empty());
        assert!(!format!("{entry:?}").contains(TOKEN), "the token is shown");
        for field in entry.keys().filter_map(|name| name.strip_prefix("SNAPRING_")) {
            let field = format!("`{}`", field.to_lowercase());
            assert!(PAGE.contains(&field), "docs/LOGGING.md does not know {field}");
        }
    }
    let create =
        journal.entries("api").into_iter().find(|it| it["SNAPRING_OPERATION"] == "create").unwrap();
    let name = &create["SNAPRING_SNAPSHOT"];
    assert_eq!(create["MESSAGE"], format!("web: create {name}: ok"));
    for (field, value) in [
        ("OUTCOME", "ok"),
        ("STATUS", "201"),
        ("SERVER_ID", "101"),
        ("SERVER", "web"),
        ("ATTEMPT", "1"),
    ] {
        assert_eq!(create[&format!("SNAPRING_{field}")], value);
    }
    for field in ["SNAPSHOT_ID", "TICK", "DURATION_MS"] {
        assert!(create.contains_key(&format!("SNAPRING_{field}")), "{create:?}");
    }
    assert_eq!(create["PRIORITY"], "6");

    // The first attempt of a listing failed and was made again.
    let failed =
        journal.entries("api").into_iter().find(|it| it["SNAPRING_OUTCOME"] != "ok").unwrap();
    assert_eq!(
        (failed["SNAPRING_OUTCOME"].as_str(), failed["PRIORITY"].as_str()),
        ("server_error", "4")
    );
    assert!(
        failed["MESSAGE"]
            .starts_with("web: list: the provider answered 500 (internal server error): "),
        "{failed:?}"
    );

    let rotated = journal
        .entries("rotation")
        .into_iter()
        .find(|it| it.contains_key("SNAPRING_DELETED"))
        .unwrap();
    let (made, gone) = (&rotated["SNAPRING_CREATED"], &rotated["SNAPRING_DELETED"]);
    assert_eq!(rotated["MESSAGE"], format!("web rotated, created {made}, deleted {gone}"));
    assert_eq!(
        (rotated["PRIORITY"].as_str(), rotated["SNAPRING_OUTCOME"].as_str()),
        ("5", "rotated")
    );
    for field in ["SERVER_ID", "SERVER", "TICK", "API_CALLS", "DURATION_MS"] {
        assert!(rotated.contains_key(&format!("SNAPRING_{field}")), "{rotated:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_events_go_to_standard_error_and_come_back_to_it() {
    let machine = Machine::new().await;
    let journal = Journal::of(&machine);
    journal.begin();
    machine.configure(BUSY);
    let Some(mut daemon) = daemon_of_systemd(&machine) else { return };
    machine.until("a rotation", || !journal.entries("rotation").is_empty()).await;
    journal.end();
    machine.until("rotations on standard error", || daemon.rotations("rotated") >= 2).await;
    assert_eq!(daemon.events("journal").len(), 1, "said once");
    let words = daemon.events("journal")[0]["message"].as_str().unwrap().to_owned();
    assert!(
        words.contains("the journal at /run/systemd/journal/socket accepts no entries"),
        "{words}"
    );

    journal.begin();
    machine.until("the journal's return", || !journal.entries("journal").is_empty()).await;
    let back = &journal.entries("journal")[0];
    let lines = daemon.log().lines().count();
    assert_eq!(back["SNAPRING_MISSED"], lines.to_string());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    let ended = |entry: &Entry| entry["MESSAGE"] == "stopped";
    machine.until("the last words", || journal.entries("daemon").iter().any(ended)).await;
    let told = journal.entries("api").len() + daemon.events("api").len();
    assert_eq!(told, machine.sandbox.provider().calls().len(), "not one call's event is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_one_error_of_the_journal_with_every_mistake() {
    let machine = Machine::new().await;
    let journal = Journal::of(&machine);
    journal.begin();
    machine
        .configure("[log]\nlevel = 5\n[[server]]\nid = 101\nkeep = 9\nschedule = \"0 3 * * *\"\n");
    let Some(mut daemon) = daemon_of_systemd(&machine) else { return };
    assert_eq!(daemon.ended().await.code(), Some(78));
    machine.until("the event", || !journal.entries("config").is_empty()).await;
    let entries = journal.entries("config");
    assert_eq!((entries.len(), entries[0]["PRIORITY"].as_str()), (1, "3"));
    let words = &entries[0]["MESSAGE"];
    assert!(words.contains("`level` must be") && words.contains("ask for 9 slots of 5"), "{words}");
}

/// A redirected standard error is not the journal, whatever the variable says.
#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_a_log_is_one_json_object_a_line_from_the_first_to_the_last() {
    let machine = Machine::new().await;
    machine.configure("[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 * * *\"\nkeep = 5\n");
    let mut command = machine.command(&["run"]);
    command.env("JOURNAL_STREAM", "1:1");
    let mut daemon = machine.start(command, |_, _: &File| {});
    machine.until("ready", || !daemon.events("daemon").is_empty()).await;
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    let text = daemon.log();
    for line in text.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    let warning = &daemon.events("config")[0];
    assert_eq!(warning["level"], "WARN");
    let words = warning["message"].as_str().unwrap();
    assert!(words.contains("config.toml:10:8: `keep` and `reserve` use all 5 slots"), "{words}");
}
