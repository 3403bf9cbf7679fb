//! The daemon under a service manager: what it tells, and when.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;

use crate::machine::{Daemon, Machine};

const RARE: &str = "[[server]]\nid = 101\nname = \"web\"\nschedule = \"0 3 1 1 *\"\nkeep = 3\n\
                    catch_up = \"0s\"\n";

/// What listens in systemd's place.
struct Manager(Arc<Mutex<Vec<String>>>);

impl Manager {
    /// The daemon with a service manager that wants a sign of life every minute.
    fn start(machine: &Machine) -> (Self, Daemon) {
        let path = machine.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
                hears.lock().unwrap().extend(text.lines().map(str::to_owned));
            }
        });
        let mut command = machine.command(&["run"]);
        command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "60000000");
        (Self(heard), machine.start(command, |_, _| {}))
    }

    fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, line: &str) -> usize {
        self.heard().iter().filter(|it| *it == line).count()
    }

    fn status(&self) -> String {
        self.heard()
            .iter()
            .rev()
            .find_map(|it| it.strip_prefix("STATUS=").map(str::to_owned))
            .unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_of_the_start_of_rotations_of_reloads_and_of_the_end() {
    let machine = Machine::new().await;
    machine.configure(RARE);
    let (manager, mut daemon) = Manager::start(&machine);
    machine.until("a sign of life", || manager.count("WATCHDOG=1") >= 1).await;
    let heard = manager.heard();
    assert_eq!(heard[0], "READY=1");
    assert!(heard[1].starts_with("STATUS=1 server, next tick 20"), "{}", heard[1]);
    assert!(heard[1].ends_with("-01-01 03:00:00 UTC for web"), "{}", heard[1]);

    daemon.signal(Signal::SIGUSR1);
    machine.until("the rotation", || manager.status().contains(", last: rotated web at 20")).await;

    machine.configure(&RARE.replace("web", "shop"));
    daemon.signal(Signal::SIGHUP);
    machine.until("the reload", || manager.count("READY=1") == 2).await;
    let heard = manager.heard();
    let place = |line: &str| heard.iter().rposition(|it| it.starts_with(line)).unwrap();
    assert_eq!(place("RELOADING=1") + 1, place("MONOTONIC_USEC="));
    assert!(place("MONOTONIC_USEC=") < place("READY=1"));
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let told: f64 = heard[place("MONOTONIC_USEC=")].split_once('=').unwrap().1.parse().unwrap();
    assert!(told > 0.0 && told / 1e6 <= uptime + 1.0, "{told} us at {uptime} s");
    assert!(manager.status().contains("for shop"), "{}", manager.status());

    machine.configure(&RARE.replace("keep = 3", "keep = 30\nretries = 1"));
    daemon.signal(Signal::SIGHUP);
    machine.until("the refusal", || manager.count("READY=1") == 3).await;
    let status = manager.status();
    assert!(
        status.contains("for shop") && status.contains("the old configuration is in use since"),
        "{status}"
    );
    assert!(status.contains("`keep` and `reserve` ask for 30 slots of 5"), "{status}");
    let told = daemon.events("reload").last().unwrap()["message"].as_str().unwrap().to_owned();
    assert!(
        told.contains("`keep` and `reserve` ask for 30") && told.contains("unknown key `retries`"),
        "every mistake: {told}"
    );

    machine.configure(RARE);
    daemon.signal(Signal::SIGHUP);
    machine.until("the mended one", || manager.count("READY=1") == 4).await;
    assert!(!manager.status().contains("the old configuration"), "{}", manager.status());

    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    machine.until("the end", || manager.count("STOPPING=1") == 1).await;
    assert!(manager.status().starts_with("stopping"), "{}", manager.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_never_ready_and_ends_with_78() {
    let machine = Machine::new().await;
    machine.configure(&RARE.replace("keep = 3", "keep = 30"));
    let (manager, mut daemon) = Manager::start(&machine);
    assert_eq!(daemon.ended().await.code(), Some(78));
    assert_eq!(manager.heard(), Vec::<String>::new());
}

/// Which a hook is, and whatever else runs as that user.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_process_of_its_user_can_read_its_memory_and_environment() {
    let machine = Machine::new().await;
    let mut command = machine.command(&["sandbox", "--listen", "127.0.0.1:0"]);
    command.current_dir("/");
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let daemon = machine.start(command, |_, _| {});
    let environment = format!("/proc/{}/environ", daemon.pid());
    // The kernel gives what only root may read to root.
    let is_roots = || std::fs::metadata(&environment).is_ok_and(|it| it.uid() == 0);
    machine.until("it to be root's", is_roots).await;
}
