//! `snapring sandbox` and `snapring run`, for real.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Generous: what does not come within it never comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A sandbox with a daemon that looks after its servers. Both end with it.
pub struct Stage {
    sandbox: Child,
    daemon: Option<Child>,
    directory: TempDir,
    provider: String,
    token: String,
    port: u16,
    /// Until the daemon listens there.
    kept_free: Option<TcpListener>,
}

/// A program's file or directory, as `run` hands them over.
pub fn given(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("${variable} is not set: start tests/e2e/page/run"))
        .into()
}

/// Asks again until there is an answer.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One `[[server]]`.
pub fn server(id: u64, name: &str, lines: &str) -> String {
    format!("[[server]]\nid = {id}\nname = {name:?}\n{lines}\n")
}

impl Stage {
    /// A sandbox with so many servers, and nobody who looks after them yet.
    pub fn set(servers: usize) -> Self {
        let mut sandbox = Command::new(given("SNAPRING"))
            .args(["sandbox", "--completion", "1s", "--seed", "1", "--servers"])
            .arg(servers.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sandbox starts");
        let mut lines = BufReader::new(sandbox.stdout.take().expect("piped")).lines();
        let mut value = |key: &str| loop {
            let line = lines.next().expect("the sandbox says it").expect("it is text");
            if let Some(value) = line.strip_prefix(key) {
                return value.trim_matches('"').to_owned();
            }
        };
        let provider = value("base_url = ").trim_end_matches("/api/v1/").to_owned();
        let token = value("SNAPRING_TOKEN=");
        // It could not say the rest to a pipe that is closed.
        std::thread::spawn(move || lines.for_each(drop));
        let kept_free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = kept_free.local_addr().expect("it has one").port();
        let directory = TempDir::new().expect("a directory");
        let kept_free = Some(kept_free);
        Self { sandbox, daemon: None, directory, provider, token, port, kept_free }
    }

    /// Writes the configuration.
    pub fn configure(&self, schedule: &str, servers: &[String]) {
        let mut text = format!(
            "[api]\nbase_url = \"{}/api/v1/\"\nsettle = \"1s\"\nretries = 0\nmax_in_flight = 32\n\
             [http]\nlisten = \"127.0.0.1:{}\"\n[log]\nformat = \"json\"\nlevel = \"warn\"\n\
             [defaults]\nschedule = {schedule:?}\ncatch_up = \"0s\"\n\
             keep = {{ last = 2, daily = 1, weekly = 1 }}\n",
            self.provider, self.port
        );
        for server in servers {
            text.write_str(server).expect("text");
        }
        fs::write(self.directory.path().join("config.toml"), text).expect("it is written");
    }

    /// Starts the daemon, and waits until it answers.
    pub async fn start(&mut self) {
        let log = fs::File::create(self.directory.path().join("log")).expect("a log");
        self.kept_free = None;
        let daemon = Command::new(given("SNAPRING"))
            .arg("run")
            .arg("--config")
            .arg(self.directory.path().join("config.toml"))
            .env("SNAPRING_TOKEN", &self.token)
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        self.daemon = Some(daemon);
        until("the daemon answers", async || ureq::get(self.page("livez")).call().ok()).await;
    }

    /// Ends the daemon as a service manager does.
    pub fn stop(&mut self) {
        self.signal("TERM");
        let ended = self.daemon.take().expect("it runs").wait().expect("it ends");
        assert!(ended.success(), "the daemon ended with {ended}");
    }

    fn signal(&self, signal: &str) {
        let pid = self.daemon.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill");
        assert!(sent.success());
    }

    /// Rotates every server now.
    pub fn rotate_all(&self) {
        self.signal("USR1");
    }

    /// Waits until the status says that so many servers are so.
    pub async fn until_are(&self, state: &str, count: u64) {
        until(&format!("{count} servers are {state}"), async || {
            (self.status()["totals"][state].as_u64() == Some(count)).then_some(())
        })
        .await;
    }

    /// `/api/v1/status`.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.text("api/v1/status")).expect("JSON")
    }

    /// What stands at a path.
    pub fn text(&self, path: &str) -> String {
        let answer = ureq::get(self.page(path)).call().expect("an answer");
        answer.into_body().with_config().limit(1 << 30).read_to_string().expect("text")
    }

    /// The address of a path.
    pub fn page(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// Makes things go wrong, one a line.
    pub fn faults(&self, faults: &str) {
        let address = format!("{}/_sandbox/faults", self.provider);
        ureq::post(address).send(faults).expect("the sandbox takes the faults");
    }

    /// Nothing goes wrong any more.
    pub fn end_faults(&self) {
        let address = format!("{}/_sandbox/faults", self.provider);
        ureq::delete(address).call().expect("the sandbox ends the faults");
    }

    /// Adds a snapshot; gives its number.
    pub fn snapshot(&self, server: u64, name: &str, created_at: Option<&str>) -> u64 {
        let mut body = serde_json::json!({ "server_id": server, "name": name });
        if let Some(created_at) = created_at {
            body["created_at"] = created_at.into();
        }
        let address = format!("{}/_sandbox/snapshots", self.provider);
        let answer = ureq::post(address).send(body.to_string()).expect("the sandbox takes it");
        let answer = answer.into_body().read_to_string().expect("text");
        serde_json::from_str::<Value>(&answer).expect("JSON")["id"].as_u64().expect("a number")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
        let _ = self.sandbox.kill();
        let _ = self.sandbox.wait();
    }
}

/// A fleet in which all that a server can be occurs once.
///
/// `shop-01` fails, `build-01` is blocked, `files-01` has a rotation under way, `db-01` a pinned
/// snapshot, `old-01` is disabled, and the others are well. One name looks like HTML.
pub async fn of_all_kinds() -> Stage {
    let mut stage = Stage::set(7);
    for nth in 1..=5 {
        stage.snapshot(103, &format!("by-hand-<i>{nth}</i>"), None);
    }
    let pinned = stage.snapshot(105, "before-upgrade", Some("2026-01-02T03:04:05Z"));
    stage.faults("create:fails,server=102\ncreate:never-completes,server=104");
    stage.configure(
        "0 3 * * *",
        &[
            server(101, "web-01", ""),
            server(102, "shop-01", ""),
            server(103, "build-01", ""),
            server(104, "files-01", ""),
            server(105, "db-01", &format!("pin = [{pinned}]")),
            server(106, "old-01", "enabled = false"),
            server(107, MARKUP, ""),
        ],
    );
    stage.start().await;
    stage.rotate_all();
    stage.until_are("failed", 1).await;
    stage.until_are("blocked", 1).await;
    stage.until_are("ok", 3).await;
    stage
}

/// A server's name that must never be taken for anything but text.
pub const MARKUP: &str = "<img src=x onerror=alert(1)>&amp;";
