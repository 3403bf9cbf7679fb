//! Creates that the kernel delivers after their process gave them up, or is gone: a network of the
//! test's own, in which the packets that carry requests to the provider are dropped for a while.
//!
//! Each test runs itself again in a network namespace. Where that or iptables is not allowed it is
//! skipped with a message, unless `SNAPRING_TEST_NETWORK=required`.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use nix::sys::signal::Signal;
use snapring::call::Operation;
use snapring::naming::{Prefix, Tick};

use crate::machine::{Daemon, Machine, WEB};

const VARIABLE: &str = "SNAPRING_TEST_NETWORK";
const IPTABLES: &str = "/usr/sbin/iptables";

/// Whether this is the run within a network of its own. The first run starts that one and expects it
/// to pass.
fn in_own_network(test: &str) -> bool {
    let setting = std::env::var(VARIABLE).unwrap_or_default();
    if setting == "inside" {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        return true;
    }
    let possible = Command::new("unshare").args(["--net", IPTABLES, "-L", "-n"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        assert_ne!(setting, "required", "no network namespace with iptables can be had");
        // Past the test runner, which shows only what failed.
        let words = format!("skipped: {test} needs root, unshare and {IPTABLES}\n");
        std::io::stderr().write_all(words.as_bytes()).unwrap();
        return false;
    }
    let output = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("late_requests::{test}"), "--nocapture"])
        .env(VARIABLE, "inside")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// A server that has missed a tick. With `set`, the network goes away just before the create.
struct Stage {
    machine: Machine,
    missed: String,
}

impl Stage {
    /// `hooks` gets the machine, and gives the lines of the server's hooks.
    async fn with(api: &str, hooks: impl FnOnce(&Machine) -> String) -> Self {
        let machine = Machine::new().await;
        let now = machine.clock.now().wall.as_second();
        let tick = jiff::Timestamp::from_second((now - 3600) / 60 * 60).unwrap();
        let prefix: Prefix = "snapring".parse().unwrap();
        let name = |days: i64| prefix.name(Tick::at(tick - SignedDuration::from_hours(24 * days)));
        machine.add(WEB, &name(1), 25);
        let at = tick.to_zoned(TimeZone::UTC);
        let (minute, hour, hooks) = (at.minute(), at.hour(), hooks(&machine));
        machine.configure_api(
            api,
            &format!(
                "[[server]]\nid = 101\nname = \"web\"\nschedule = \"{minute} {hour} * * *\"\n\
                 timezone = \"Etc/UTC\"\nkeep = 3\n{hooks}"
            ),
        );
        Self { machine, missed: name(0) }
    }

    async fn set(api: &str) -> Self {
        Self::with(api, |machine| {
            // Once: the next process has a hook too.
            let (cut, port) = (machine.path("cut"), machine.sandbox.address().port());
            // A create has a connection of its own, which must come about: only what carries a
            // request is lost.
            let request = format!("-p tcp --dport {port} -m length --length 100:65535");
            let drop = format!("{IPTABLES} -A INPUT {request} -j DROP");
            let hook = format!("test -e {0} || {{ : > {0}; exec {drop}; }}", cut.display());
            format!("[server.hooks]\nbefore = [\"/bin/sh\", \"-c\", \"{hook}\"]\n")
        })
        .await
    }

    /// A daemon that has sent the create of the missed tick into the void.
    async fn daemon_that_has_sent_its_create(&self) -> Daemon {
        let daemon = self.machine.daemon();
        let cut = self.machine.path("cut");
        self.machine.until("the create", || cut.exists() && self.unread_bytes() > 0).await;
        daemon
    }

    /// What lies in send queues towards the provider.
    fn unread_bytes(&self) -> u64 {
        let port = format!(":{:04X}", self.machine.sandbox.address().port());
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let queued = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let queue = fields.get(4)?.split_once(':')?.0;
            let sent_to_provider = fields.get(2)?.ends_with(&port) && fields.get(3) == Some(&"01");
            sent_to_provider.then(|| u64::from_str_radix(queue, 16).ok())?
        };
        table.lines().filter_map(queued).sum()
    }

    async fn network_comes_back_after(&self, span: Duration) {
        self.machine.clock.sleep(span).await;
        let back = Command::new(IPTABLES).args(["-F", "INPUT"]).status().unwrap();
        assert!(back.success());
    }

    /// The names of the snapshots that were created, in order.
    fn created(&self) -> Vec<String> {
        let provider = self.machine.sandbox.provider();
        let creates = provider.acts().iter().filter(|act| act.operation == Operation::Create);
        creates.map(|act| act.row.name.clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_daemon_had_sent_is_not_created_again_by_the_next_one() {
    if !in_own_network("what_a_killed_daemon_had_sent_is_not_created_again_by_the_next_one") {
        return;
    }
    let stage = Stage::set("timeout = \"6s\"\nsettle = \"1s\"").await;
    stage.daemon_that_has_sent_its_create().await.kill();
    let next = stage.machine.daemon();
    stage.network_comes_back_after(Duration::from_secs(2)).await;
    stage.machine.until("the create", || !stage.created().is_empty()).await;
    // By then the kernel has given up, and the next process has looked.
    stage.machine.clock.sleep(Duration::from_secs(10)).await;
    assert_eq!(stage.created(), [stage.missed.as_str()], "{}", next.log());
    // Skipped while the owed rotation lasts. There is none if the create arrived before the listing.
    let asked_again = || {
        next.signal(Signal::SIGUSR1);
        next.rotations("rotated") > 0
    };
    stage.machine.until("a rotation", asked_again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_by_hand_waits_for_what_a_killed_daemon_had_sent() {
    if !in_own_network("a_rotation_by_hand_waits_for_what_a_killed_daemon_had_sent") {
        return;
    }
    let stage = Stage::set("timeout = \"6s\"\nsettle = \"1s\"").await;
    stage.daemon_that_has_sent_its_create().await.kill();
    let person = stage.machine.command(&["rotate", "web"]);
    let mut person = stage.machine.start(person, |_, _| {});
    stage.network_comes_back_after(Duration::from_secs(2)).await;
    let status = person.ended().await;
    assert_eq!(status.code(), Some(0), "{}", person.log());
    let created = stage.created();
    assert!(created.len() == 2 && created[0] == stage.missed, "{created:?}: {}", person.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_was_given_up_does_not_arrive_when_the_network_comes_back() {
    if !in_own_network("a_create_that_was_given_up_does_not_arrive_when_the_network_comes_back") {
        return;
    }
    let stage = Stage::set("timeout = \"2s\"\nsettle = \"1s\"").await;
    let daemon = stage.daemon_that_has_sent_its_create().await;
    stage.network_comes_back_after(Duration::from_secs(7)).await;
    stage.machine.until("a rotation", || daemon.told("rotation") > 0).await;
    // With the default of 30 s the kernel sends it again after 12.6 s.
    stage.machine.clock.sleep(Duration::from_secs(8)).await;
    assert_eq!(stage.created(), [stage.missed.as_str()], "{}", daemon.log());
    assert_eq!(daemon.rotations("rotated"), 1, "{}", daemon.log());
    daemon.signal(Signal::SIGTERM);
}

/// What a person creates by hand must not take away what is known of the daemon's create.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_by_hand_does_not_hide_what_a_killed_daemon_had_sent() {
    let api = "timeout = \"15s\"\nsettle = \"1s\"";
    let Stage { machine, missed } = Stage::with(api, |_| String::new()).await;
    machine.fault("create:stray=12s,times=1");
    let records = machine.path("rotation.creates");
    // But for the note of who has the server.
    let is_record = |entry: &std::fs::DirEntry| entry.path().extension().is_none();
    let count = |path: &std::path::Path| {
        path.read_dir().map_or(0, |it| it.flatten().filter(is_record).count())
    };
    let asked = || machine.sandbox.provider().count(Operation::Create) == 1;
    let mut daemon = machine.daemon();
    machine.until("the create", asked).await;
    daemon.kill();
    assert_eq!(count(&records), 2, "`since`, and the create");
    let (code, _, errors) = machine.run(&["create", "web", "--name", "by-hand", "--no-wait"]);
    assert_eq!(code, 0, "{errors}");
    let next = machine.daemon();
    machine.until("the stray", || machine.names(WEB).contains(&missed)).await;
    machine.clock.sleep(Duration::from_secs(6)).await;
    let made = machine.names(WEB).iter().filter(|it| **it == missed).count();
    assert_eq!(made, 1, "{:?}\n{}", machine.names(WEB), next.log());
}
