//! What a person sees on a terminal, and in a pipe, while a command waits.

use std::fs::File;
use std::io::{self, Read};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::join_all;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use snapring::clock::Clock;
use snapring::naming::ServerId;

use crate::machine::{Machine, SERVERS, WEB, json};
use crate::status::lock;

/// A command on a terminal or with pipes, and what it writes: each piece with its time.
pub struct Watched {
    child: std::process::Child,
    reader: JoinHandle<Vec<(Duration, String)>>,
    clock: Clock,
    begun: Duration,
    ended: Duration,
}

impl Watched {
    /// Standard input, output and error are one terminal.
    fn on_a_terminal(machine: &Machine, arguments: &[&str]) -> Self {
        Self::on_a_terminal_of(machine, arguments, None)
    }

    /// The same on one of this many columns.
    pub fn on_a_terminal_of(
        machine: &Machine,
        arguments: &[&str],
        columns: impl Into<Option<u16>>,
    ) -> Self {
        let size = columns.into().map(|columns| Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        });
        let pty = openpty(size.as_ref(), None).unwrap();
        // Other tests start commands at the same time, which must not hold this one's terminal open.
        for end in [&pty.master, &pty.slave] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let stdio = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = machine.command(arguments);
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        // The command has it, and nobody else: the reader sees the end.
        Self::start(machine, command, File::from(pty.master))
    }

    /// Standard error is a pipe.
    fn in_a_pipe(machine: &Machine, arguments: &[&str]) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        let mut command = machine.command(arguments);
        command.stdout(Stdio::null()).stderr(writer);
        Self::start(machine, command, reader)
    }

    fn start(
        machine: &Machine,
        mut command: std::process::Command,
        mut from: impl Read + Send + 'static,
    ) -> Self {
        let clock = machine.clock.clone();
        let begun = clock.now().uptime;
        let child = command.spawn().unwrap();
        drop(command);
        let of_reader = clock.clone();
        let reader = std::thread::spawn(move || {
            let (mut pieces, mut buffer) = (Vec::new(), [0; 4096]);
            // A terminal that nobody has open any more fails.
            while let Ok(length) = from.read(&mut buffer)
                && length > 0
            {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                pieces.push((of_reader.now().uptime, text));
            }
            pieces
        });
        Self { child, reader, clock, begun, ended: begun }
    }

    /// Lets it run for this long at most, and ends it. Whether it had ended by then.
    pub async fn run_for(&mut self, span: Duration) -> bool {
        while self.ended < self.begun + span {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            self.clock.sleep(Duration::from_millis(50)).await;
            self.ended = self.clock.now().uptime;
        }
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGKILL).unwrap();
        self.child.wait().unwrap();
        false
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// How it ended.
    pub fn code(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().and_then(|status| status.code())
    }

    /// All that was written, and the longest silence.
    pub fn seen(self) -> (String, Duration) {
        let pieces = tokio::task::block_in_place(|| self.reader.join().unwrap());
        let mut last = self.begun;
        let mut longest = Duration::ZERO;
        for at in pieces.iter().map(|(at, _)| *at).chain([self.ended]) {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
        let text = pieces.into_iter().map(|(_, text)| text).collect();
        (text, longest)
    }
}

/// The longest time for which this process got no turn: the machine is busy.
struct Stalls(Arc<AtomicU64>, tokio::task::JoinHandle<()>);

impl Stalls {
    fn measure(clock: &Clock) -> Self {
        let longest = Arc::new(AtomicU64::new(0));
        let (of_task, clock) = (Arc::clone(&longest), clock.clone());
        let task = tokio::spawn(async move {
            loop {
                let before = clock.now().uptime;
                clock.sleep(Duration::from_millis(50)).await;
                let stall = clock.now().uptime.saturating_sub(before).as_millis();
                of_task.fetch_max(u64::try_from(stall).unwrap(), Ordering::Relaxed);
            }
        });
        Self(longest, task)
    }

    fn longest(self) -> Duration {
        self.1.abort();
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Commands that ask the provider, with what they are told.
fn commands(id: &str) -> Vec<Vec<String>> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    [
        "list",
        "plan",
        "status",
        "check --online",
        "simulate --days 3",
        "rotate web",
        "rotate --all",
        "create web --name mine",
        &format!("delete {id} --yes"),
        &format!("restore {id} --yes"),
        "restore latest web --snapshot-first --yes",
    ]
    .map(words)
    .into()
}

const API: &str = "settle = \"1s\"\nretries = 4\ntimeout = \"10s\"";

/// The promise: nothing that takes longer than three seconds is silent on a terminal.
#[rstest]
#[case::an_answer_that_does_not_come("any:hang", &["waiting for the provider"])]
#[case::slow_answers("any:latency=5s", &["waiting for the provider"])]
#[case::throttling("any:status=429,retry-after=120", &["throttled by the provider until "])]
#[case::errors("any:status=503", &["attempt ", ": the provider answered 503"])]
#[case::a_snapshot_that_takes_long("create:never-completes", &[])]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_silent_on_a_terminal_for_more_than_three_seconds(
    #[case] fault: &str,
    #[case] says: &[&str],
) {
    let mut running = Vec::new();
    for nth in 0..commands("0").len() {
        let machine = Machine::new().await;
        machine.configure_api(API, SERVERS);
        let id = machine.add(WEB, "by-hand", 5).to_string();
        machine.fault(fault);
        let command = commands(&id).swap_remove(nth);
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        let watched = Watched::on_a_terminal(&machine, &arguments);
        running.push((machine, command, watched));
    }
    none_is_silent(running, says).await;
}

/// The same if what hangs is on this machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_and_a_store_that_hang_are_not_silent_either() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("[http]\nlisten = \"{}\"\n{SERVERS}", silent.local_addr().unwrap());
    let (mut running, mut locked) = (Vec::new(), Vec::new());
    for command in [
        "status",
        "status --max-age 26h",
        "status --watch",
        "health --timeout 8s",
        "history",
        "list",
        "plan",
        "rotate web",
    ] {
        let machine = Machine::new().await;
        machine.configure_api(API, &listen);
        locked.push(lock(&machine.path("snapring.db")).await);
        let words: Vec<&str> = command.split(' ').collect();
        let watched = Watched::on_a_terminal(&machine, &words);
        running.push((machine, vec![command.to_owned()], watched));
    }
    none_is_silent(running, &[]).await;
}

type Running = (Machine, Vec<String>, Watched);

/// Lets them run for nine seconds at most. What they are told is in `says`, unless they end before.
async fn none_is_silent(running: Vec<Running>, says: &[&str]) {
    let stalls = Stalls::measure(&running[0].0.clock);
    let run = async |(machine, command, mut watched): Running| {
        let has_ended = watched.run_for(Duration::from_secs(9)).await;
        drop(machine);
        (command, watched, has_ended)
    };
    let ran = join_all(running.into_iter().map(run)).await;
    let limit = Duration::from_secs(3) + stalls.longest();
    for (command, watched, has_ended) in ran {
        let (text, silence) = watched.seen();
        assert!(silence <= limit, "{command:?} was silent for {silence:?}:\n{text}");
        assert!(!text.contains("\"event\"") && !text.contains(" INFO "), "{command:?}:\n{text}");
        if !has_ended {
            assert!(says.iter().all(|words| text.contains(words)), "{command:?}:\n{text}");
        }
    }
}

/// A provider that is busy says so, and the wait is no doubt about what it did.
#[rstest]
#[case(
    "create:status=409,times=1",
    "the provider answered 409 (conflict): 409 by request; trying again after "
)]
#[case(
    "create:status=503,times=1",
    "the provider answered 503 (service unavailable): 503 by request; snapring-"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_is_put_off_is_told_with_the_providers_words(
    #[case] fault: &str,
    #[case] says: &str,
) {
    let machine = Machine::new().await;
    machine.configure_api("settle = \"4s\"\nretries = 1\ntimeout = \"5s\"", SERVERS);
    machine.fault(fault);
    let mut rotate = Watched::on_a_terminal(&machine, &["rotate", "web"]);
    rotate.run_for(Duration::from_secs(60)).await;
    let (text, _) = rotate.seen();
    assert!(text.contains(says), "{text}");
    // The renewed line says the same, with what matters first.
    let line = if fault.contains("409") { "trying again after " } else { "looking for snapring-" };
    assert!(text.contains(&format!("web: {line}")), "{text}");
    assert!(text.contains("web (101): rotated"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_another_process_works_on_is_named_with_that_process() {
    let machine = Machine::with_snapshots_of(Duration::from_secs(3600)).await;
    machine.configure(SERVERS);
    let mut holder = machine.start(machine.command(&["rotate", "web"]), |_, _| {});
    machine.until("the create", || machine.names(WEB).len() == 1).await;
    let mut waits = Watched::on_a_terminal(&machine, &["rotate", "web"]);
    assert!(!waits.run_for(Duration::from_secs(5)).await);
    let (text, _) = waits.seen();
    let words = format!(
        "web: another snapring process (rotate, pid {}) is working on it since ",
        holder.pid()
    );
    // The line ends where the terminal does, but for how long it has waited.
    assert!(text.contains(&words[..65]) && text.contains("… ("), "{text}");
    holder.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_gets_a_line_for_each_change_and_no_more() {
    let machine = Machine::new().await;
    machine.configure(SERVERS);
    machine.fault("list:hang");
    let mut list = Watched::in_a_pipe(&machine, &["list", "web"]);
    list.run_for(Duration::from_secs(9)).await;
    let (text, _) = list.seen();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('{')).collect();
    let waits = lines.iter().filter(|line| line.contains("waiting for the provider")).count();
    assert!((1..=2).contains(&waits) && lines.len() <= 3, "{text}");
    assert!(!text.contains('\r') && !text.contains('\u{1b}'), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_json_and_quiet_nothing_is_shown() {
    let machine = Machine::new().await;
    machine.configure(SERVERS);
    machine.fault("any:latency=4s,times=1");
    let mut list = Watched::on_a_terminal(&machine, &["list", "web", "--json"]);
    assert!(list.run_for(Duration::from_secs(30)).await);
    let (text, _) = list.seen();
    assert_eq!(json(&text)[0]["server"], "web");
    // Else it would be warned of.
    machine.sandbox.provider().remove_server(ServerId::new(103));
    machine.fault("any:latency=4s,times=1");
    let mut check = Watched::on_a_terminal(&machine, &["check", "--online", "--quiet"]);
    assert!(check.run_for(Duration::from_secs(30)).await);
    assert_eq!(check.seen().0, "");
}

/// Steps are sentences, and the end is the ring.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_on_a_terminal_tells_its_steps_and_ends_with_the_ring() {
    let machine = Machine::new().await;
    machine.configure(SERVERS);
    for (day, hours) in [(1, 90), (2, 70), (3, 60)] {
        machine.add(WEB, &format!("snapring-2026010{day}T030000Z"), hours);
    }
    machine.add(WEB, "by-hand", 50);
    let mut rotate = Watched::on_a_terminal(&machine, &["rotate", "web"]);
    assert!(rotate.run_for(Duration::from_secs(30)).await);
    let (text, _) = rotate.seen();
    let made = machine.names(WEB).pop().unwrap();
    for expected in [
        format!("web: created {made} ("),
        ", waiting until it is completed".to_owned(),
        format!("web: {made} is completed"),
        "web: deleted snapring-20260101T030000Z (".to_owned(),
        "`keep` does not need it".to_owned(),
        "web (101): rotated".to_owned(),
        "4 of 5 slots taken, 1 free".to_owned(),
        "last (1 of 3)".to_owned(),
        "by-hand".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected} is missing:\n{text}");
    }
    assert!(!text.contains(" INFO ") && !text.contains("event"), "{text}");
    let mut verbose = Watched::on_a_terminal(&machine, &["rotate", "web", "-v"]);
    assert!(verbose.run_for(Duration::from_secs(30)).await);
    let (text, _) = verbose.seen();
    assert!(text.contains("INFO") && text.contains("web: list: ok"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_fails_says_what_there_is_and_never_that_it_was_created() {
    let machine = Machine::new().await;
    machine.configure(SERVERS);
    machine.fault("create:fails");
    let (code, out, _) = machine.run(&["rotate", "web"]);
    let row = machine.rows(WEB).pop().unwrap();
    assert_eq!(code, 1);
    assert!(!out.contains("created snapring-"), "{out}");
    let takes = format!("{} ({}) cannot be used, and takes a slot", row.name, row.id);
    assert!(out.contains(&takes), "{out}");
    machine.fault("create:status=400");
    let (code, out, _) = machine.run(&["rotate", "db"]);
    assert_eq!(code, 1);
    assert!(out.contains("no snapshot was created; the next rotation starts over"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_that_takes_long_says_how_far_it_is() {
    let machine = Machine::new().await;
    machine.configure(
        "[[server]]\nid = 101\nname = \"web\"\nkeep = 3\nschedule = \"* * * * * *\"\nmin_interval = \"0s\"\n",
    );
    let command = ["simulate", "--days", "30", "--offline", "--snapshot-takes", "0s"];
    let mut simulate = Watched::on_a_terminal(&machine, &command);
    simulate.run_for(Duration::from_secs(6)).await;
    let (text, _) = simulate.seen();
    assert!(text.contains("simulating 30d: ") && text.contains("% done"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_one_line_with_counts() {
    let servers: Vec<_> = (101..141).map(|id| (ServerId::new(id), format!("web-{id}"))).collect();
    let machine = Machine::with(|options| options.servers.clone_from(&servers)).await;
    let tables: String = servers
        .iter()
        .map(|(id, name)| format!("[[server]]\nid = {id}\nname = \"{name}\"\n"))
        .collect();
    machine.configure(&format!("[defaults]\nschedule = \"0 3 * * *\"\nkeep = 3\n{tables}"));
    machine.fault("list:latency=1s");
    let mut list = Watched::on_a_terminal(&machine, &["list"]);
    list.run_for(Duration::from_secs(4)).await;
    let (text, _) = list.seen();
    assert!(text.contains(" of 40 servers: ") && text.contains(" listed, "), "{text}");
    assert!(text.contains(" in progress"), "{text}");
}
