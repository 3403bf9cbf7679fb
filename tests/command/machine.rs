//! A machine to try the command on: a sandbox, a directory, an environment.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use snapring::clock::Clock;
use snapring::naming::ServerId;
use snapring::sandbox::http::Sandbox;
use snapring::sandbox::provider::{Options, StoredSnapshot};
use tempfile::TempDir;

pub const WEB: ServerId = ServerId::new(101);

/// The token of every machine; no output may ever show it.
pub const TOKEN: &str = "vps_not_to_be_seen_4711";

/// Two servers, each due once a day.
pub const SERVERS: &str = "[defaults]\nschedule = \"0 3 * * *\"\nkeep = 3\n\
                           [[server]]\nid = 101\nname = \"web\"\n[[server]]\nid = 102\nname = \"db\"\n";

/// Every command logs its events, one JSON object a line.
#[allow(dead_code, reason = "not every test crate uses it")]
pub const JSON_LOG: &str = "[log]\nformat = \"json\"\n";

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub struct Machine {
    pub sandbox: Sandbox,
    pub directory: TempDir,
    pub clock: Clock,
    started: AtomicU32,
}

impl Machine {
    /// A sandbox with three servers whose snapshots take `completion`.
    pub async fn with_snapshots_of(completion: Duration) -> Self {
        Self::with(|options| options.completion = completion..=completion).await
    }

    /// A sandbox with three servers, set up otherwise than usual.
    pub async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::new(3, SecretString::from(TOKEN), 1);
        change(&mut options);
        let clock = Clock::system();
        let listen = "127.0.0.1:0".parse().unwrap();
        let sandbox = Sandbox::start(options, clock.clone(), listen).await.unwrap();
        assert_eq!(sandbox.token().expose_secret(), TOKEN);
        let directory = tempfile::tempdir().unwrap();
        // snapring has run here since the machine was started, so that a start need not wait.
        let records = directory.path().join("rotation.creates");
        std::fs::create_dir(&records).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        std::fs::write(records.join("since"), format!("{} 0\n", boot.trim())).unwrap();
        Self { sandbox, directory, clock, started: AtomicU32::new(0) }
    }

    /// One that is configured for [`SERVERS`].
    pub async fn with_servers() -> Self {
        let machine = Self::new().await;
        machine.configure(SERVERS);
        machine
    }

    pub async fn new() -> Self {
        Self::with_snapshots_of(Duration::from_millis(300)).await
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration: `[api]` for the sandbox, then what is given.
    pub fn configure(&self, rest: &str) {
        self.configure_api("settle = \"1s\"\nretries = 1\ntimeout = \"5s\"", rest);
    }

    /// The same with other settings of `[api]`.
    pub fn configure_api(&self, api: &str, rest: &str) {
        let address = self.sandbox.address();
        let text = format!("[api]\nbase_url = \"http://{address}/api/v1/\"\n{api}\n{rest}");
        std::fs::write(self.path("config.toml"), text).unwrap();
    }

    /// The command with this machine's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snapring"));
        command
            .args(arguments)
            .env_clear()
            .env("SNAPRING_CONFIG", self.path("config.toml"))
            .env("SNAPRING_TOKEN", TOKEN)
            .env("STATE_DIRECTORY", self.directory.path())
            // Nothing here speaks TLS, and to read all of the system's roots is most of a start's work.
            .env("SSL_CERT_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/command/root.pem"))
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end: exit code, standard output, standard error.
    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let command = self.command(arguments);
        let mut command = assert_cmd::Command::from_std(command);
        command.timeout(Duration::from_secs(120));
        let output = tokio::task::block_in_place(|| command.output().unwrap());
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert!(!text.contains(TOKEN), "the token is shown: {text}");
            text
        };
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    pub fn daemon(&self) -> Daemon {
        self.start(self.command(&["run"]), |_, _| {})
    }

    /// Starts a command that is a daemon, its standard error a file of its own; `prepare` is shown
    /// that file.
    pub fn start(&self, mut command: Command, prepare: impl FnOnce(&mut Command, &File)) -> Daemon {
        let (log, file) = self.new_log();
        prepare(&mut command, &file);
        self.spawn(command.stderr(file), log)
    }

    /// The same with a standard error that is not a file; the daemon's log is then empty.
    #[allow(dead_code, reason = "tests/process uses it")]
    pub fn start_into(&self, mut command: Command, stderr: impl Into<Stdio>) -> Daemon {
        self.spawn(command.stderr(stderr), self.new_log().0)
    }

    /// The same with the standard input that the command has.
    #[allow(dead_code, reason = "not every test crate uses it")]
    pub fn start_with_stdin(&self, mut command: Command) -> Daemon {
        let (log, file) = self.new_log();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Daemon { child, log, clock: self.clock.clone() }
    }

    fn new_log(&self) -> (PathBuf, File) {
        let started = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.path(&format!("log-{started}"));
        let file = File::create(&log).unwrap();
        (log, file)
    }

    fn spawn(&self, command: &mut Command, log: PathBuf) -> Daemon {
        let child = command.stdout(Stdio::null()).stdin(Stdio::null()).spawn().unwrap();
        Daemon { child, log, clock: self.clock.clone() }
    }

    pub fn rows(&self, server: ServerId) -> Vec<StoredSnapshot> {
        self.sandbox.provider().snapshots(server, self.clock.now().wall)
    }

    pub fn names(&self, server: ServerId) -> Vec<String> {
        self.rows(server).into_iter().map(|row| row.name).collect()
    }

    /// A snapshot made by hand, or by another snapring, so many hours ago.
    pub fn add(&self, server: ServerId, name: &str, hours_ago: i64) -> u64 {
        let made = self.clock.now().wall - jiff::SignedDuration::from_hours(hours_ago);
        self.sandbox.provider().add_snapshot(server, name, "completed", made).0
    }

    pub fn fault(&self, fault: &str) {
        self.sandbox.provider().add_fault(fault.parse().unwrap());
    }

    /// Waits until something is so; a minute is far more than anything here takes. Whether it is.
    pub async fn comes_true(&self, mut so: impl FnMut() -> bool) -> bool {
        for _ in 0..3000 {
            if so() {
                return true;
            }
            self.clock.sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, so: impl FnMut() -> bool) {
        if self.comes_true(so).await {
            return;
        }
        let started = self.started.load(Ordering::Relaxed);
        let log = self.path(&format!("log-{}", started.saturating_sub(1)));
        panic!("{what} did not happen:\n{}", std::fs::read_to_string(log).unwrap_or_default());
    }
}

/// A running command, mostly `snapring run`; killed if a test leaves it behind.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    clock: Clock,
}

impl Daemon {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    #[allow(dead_code, reason = "not every test crate uses it")]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, unless it has ended already; returns when it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end, at most a minute.
    pub async fn ended(&mut self) -> ExitStatus {
        for _ in 0..3000 {
            if let Some(status) = self.exit() {
                return status;
            }
            self.clock.sleep(Duration::from_millis(20)).await;
        }
        panic!("the daemon goes on");
    }

    /// How it ended, if it has.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// All events of a kind so far.
    pub fn events(&self, event: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        assert!(!text.contains(TOKEN), "the token is logged");
        // The last line may be half written.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"] == event).collect()
    }

    /// How many events of a kind were written so far; costs less than reading them.
    pub fn told(&self, event: &str) -> usize {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.matches(&format!("\"event\":\"{event}\"")).count()
    }

    /// All that it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// How many rotations ended in this outcome.
    pub fn rotations(&self, outcome: &str) -> usize {
        self.events("rotation").iter().filter(|it| it["outcome"] == outcome).count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[allow(dead_code, reason = "used by tests/process")]
/// Says that a test needs something that is not there. It fails where `SNAPRING_TEST_NETWORK=required`.
pub fn skipped(test: &str, needs: &str) {
    let required = std::env::var("SNAPRING_TEST_NETWORK").is_ok_and(|it| it == "required");
    assert!(!required, "{test} needs {needs}");
    // Past the test runner, which shows only what failed.
    let words = format!("skipped: {test} needs {needs}\n");
    std::io::Write::write_all(&mut std::io::stderr(), words.as_bytes()).unwrap();
}
