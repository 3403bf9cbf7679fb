//! A daemon whose log is not read: a full pipe, a stopped reader, a terminal after Ctrl-S. And a
//! configuration file that cannot be read to its end.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use rstest::rstest;
use serde_json::Value;
use snapring::call::Operation;

use crate::machine::{Daemon, Machine};

/// Every two seconds, one kept.
const BUSY: &str = "[[server]]\nid = 101\nname = \"web\"\nschedule = \"*/2 * * * * *\"\nkeep = 1\n\
                    min_interval = \"0s\"\n";

/// How long a daemon may take to exit, on a busy machine.
const EXITS_WITHIN: Duration = Duration::from_secs(20);

/// A machine with a busy server, a listener, and this format.
async fn machine(format: &str) -> Machine {
    let machine = Machine::new().await;
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let log = format!("[log]\nformat = \"{format}\"\n");
    machine.configure(&format!("{log}[http]\nlisten = \"{address}\"\n{BUSY}"));
    machine
}

/// Writes until nothing more fits.
fn fill(stream: &(impl AsFd + Write), mut writer: impl Write) {
    let flags = OFlag::from_bits_retain(fcntl(stream, FcntlArg::F_GETFL).unwrap());
    fcntl(stream, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'\n'; 512]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
    fcntl(stream, FcntlArg::F_SETFL(flags)).unwrap();
}

/// A pipe that has not been read for a while.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    fill(&writer, &writer);
    (reader, writer)
}

/// Rotations go on, it says that it is alive, and TERM ends it soon.
async fn works_and_exits(machine: &Machine, mut daemon: Daemon) {
    let deletes = || machine.sandbox.provider().count(Operation::Delete);
    machine.until("three rotations", || deletes() >= 3).await;
    machine.until("an answer of /livez", || machine.run(&["health"]).0 == 0).await;
    exits(machine, &mut daemon).await;
}

async fn exits(machine: &Machine, daemon: &mut Daemon) {
    let asked = machine.clock.now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().await.code(), Some(0));
    let took = asked.age_at(machine.clock.now());
    assert!(took < EXITS_WITHIN, "{took:?}");
}

#[rstest]
#[case::json("json")]
#[case::text("text")]
#[case::journald("journald")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_pipe_stops_nothing(#[case] format: &str) {
    let machine = machine(format).await;
    let (_reader, writer) = full_pipe();
    let daemon = machine.start_into(machine.command(&["run"]), writer);
    works_and_exits(&machine, daemon).await;
}

/// Ended when a test leaves it behind.
struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_reader_stops_nothing() {
    let machine = machine("json").await;
    let mut child =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let writer = PipeWriter::from(OwnedFd::from(child.stdin.take().unwrap()));
    let reader = Reader(child);
    let pid = Pid::from_raw(i32::try_from(reader.0.id()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let stat = format!("/proc/{pid}/stat");
    machine.until("it to stop", || std::fs::read_to_string(&stat).unwrap().contains(") T ")).await;
    fill(&writer, &writer);
    let daemon = machine.start_into(machine.command(&["run"]), writer);
    works_and_exits(&machine, daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_gone_stops_nothing() {
    let machine = machine("json").await;
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let daemon = machine.start_into(machine.command(&["run"]), writer);
    works_and_exits(&machine, daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_standard_error_stops_nothing() {
    let machine = machine("json").await;
    let plain = machine.command(&["run"]);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>&-"]).arg(plain.get_program());
    command.args(plain.get_args()).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let daemon = machine.start_into(command, Stdio::null());
    works_and_exits(&machine, daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_after_ctrl_s_stops_nothing() {
    let machine = machine("auto").await;
    let terminal = openpty(None, None).unwrap();
    let mut keyboard = File::from(terminal.master);
    keyboard.write_all(b"\x13").unwrap();
    let screen = File::from(terminal.slave);
    // Nothing is written once output is stopped, however much room there is.
    machine.until("output to stop", || is_stopped(&screen)).await;
    let daemon = machine.start_into(machine.command(&["run"]), screen);
    works_and_exits(&machine, daemon).await;
}

fn is_stopped(screen: &File) -> bool {
    let flags = OFlag::from_bits_retain(fcntl(screen, FcntlArg::F_GETFL).unwrap());
    fcntl(screen, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    let is_stopped = { screen }.write(b"x").is_err();
    fcntl(screen, FcntlArg::F_SETFL(flags)).unwrap();
    is_stopped
}

/// What a reader gets from now on to the end, without the lines that filled a pipe.
fn events(reader: PipeReader) -> std::thread::JoinHandle<Vec<Value>> {
    let parse = |line: String| {
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        lines.filter(|line| !line.is_empty()).map(parse).collect()
    })
}

fn reported(events: &[Value]) -> u64 {
    let reports = events.iter().filter(|it| it["event"] == "log");
    reports.map(|it| it["lost"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_lost_to_a_full_queue_are_reported_when_the_log_is_read_again() {
    let machine = machine("json").await;
    let (reader, writer) = full_pipe();
    // Each warning names the file, so a long name fills the queue sooner.
    let deep = machine.directory.path().join(format!("{}/", "x".repeat(200)).repeat(15));
    std::fs::create_dir_all(&deep).unwrap();
    let path = deep.join("config.toml");
    let good = std::fs::read_to_string(machine.path("config.toml")).unwrap();
    std::fs::write(&path, &good).unwrap();
    let mut command = machine.command(&["run"]);
    command.env("SNAPRING_CONFIG", &path);
    let mut daemon = machine.start_into(command, writer);
    machine.until("an answer of /livez", || machine.run(&["health"]).0 == 0).await;
    let others = (1000..1100).map(|id| {
        format!("[[server]]\nid = {id}\nschedule = \"0 3 1 1 *\"\nkeep = 5\ncatch_up = \"0s\"\n")
    });
    std::fs::write(&path, good.clone() + &others.collect::<String>()).unwrap();
    let lost = || {
        daemon.signal(Signal::SIGHUP);
        lost_lines(&good)
    };
    machine.until("lost lines", || lost() > 0).await;
    let log = events(reader);
    let deletes = || machine.sandbox.provider().count(Operation::Delete);
    let before = deletes();
    machine.until("more rotations", || deletes() > before + 1).await;
    exits(&machine, &mut daemon).await;
    let events = log.join().unwrap();
    assert!(reported(&events) > 0);
    assert_eq!(events.last().unwrap()["message"], "stopped", "nothing is lost once it is read");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_lost_to_an_error_are_reported_when_the_log_can_be_written_again() {
    let machine = machine("json").await;
    let good = std::fs::read_to_string(machine.path("config.toml")).unwrap();
    let fifo = machine.path("stderr");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let open = |write| File::options().read(true).write(write).open(&fifo).unwrap();
    // A pipe that is open both ways does not wait for the other end.
    let both = open(true);
    let writer = File::options().write(true).open(&fifo).unwrap();
    let mut daemon = machine.start_into(machine.command(&["run"]), writer);
    drop(both);
    machine.until("lost lines", || lost_lines(&good) > 2).await;
    let log = events(PipeReader::from(OwnedFd::from(open(false))));
    let deletes = || machine.sandbox.provider().count(Operation::Delete);
    let before = deletes();
    machine.until("more rotations", || deletes() > before + 1).await;
    let lost = lost_lines(&good);
    exits(&machine, &mut daemon).await;
    assert_eq!(reported(&log.join().unwrap()), lost);
}

/// The metric, as Prometheus would read it.
fn lost_lines(configuration: &str) -> u64 {
    let (_, rest) = configuration.split_once("listen = \"").unwrap();
    let Ok(mut stream) = TcpStream::connect(rest.split('"').next().unwrap()) else {
        return 0;
    };
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let value = answer.lines().find_map(|it| it.strip_prefix("snapring_log_lost_lines_total "));
    value.map_or(0, |it| it.parse().unwrap_or_else(|_| panic!("{it}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_does_not_wait_until_it_is_read_why() {
    let machine = Machine::new().await;
    machine.configure("[[server]]\nid = 101\nkeep = 9\n");
    let (_reader, writer) = full_pipe();
    let mut daemon = machine.start_into(machine.command(&["run"]), writer);
    assert_eq!(daemon.ended().await.code(), Some(78));
}

#[rstest]
#[case::named_pipe(|path: &Path| mkfifo(path, Mode::S_IRWXU).unwrap(), "a pipe, not a regular file")]
#[case::endless(|path: &Path| symlink("/dev/zero", path).unwrap(), "a device, not a regular file")]
#[case::directory(|path: &Path| std::fs::create_dir(path).unwrap(), "a directory, not a regular file")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_refused_by_a_reload_and_a_start(
    #[case] put: impl Fn(&Path),
    #[case] reason: &str,
) {
    let machine = machine("json").await;
    let mut daemon = machine.daemon();
    machine.until("a rotation", || daemon.rotations("rotated") > 0).await;
    let configuration = machine.path("config.toml");
    std::fs::remove_file(&configuration).unwrap();
    put(&configuration);
    daemon.signal(Signal::SIGHUP);
    machine.until("a refusal", || !daemon.events("reload").is_empty()).await;
    let message = daemon.events("reload")[0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(reason), "{message}");
    let rotations = daemon.rotations("rotated");
    machine.until("more rotations", || daemon.rotations("rotated") > rotations + 1).await;
    exits(&machine, &mut daemon).await;

    let mut second = machine.daemon();
    assert_eq!(second.ended().await.code(), Some(78));
    assert!(second.log().contains(reason), "{}", second.log());
}
