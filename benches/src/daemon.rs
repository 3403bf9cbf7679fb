//! `snapring run` as a process of its own, with a store and a log, as a service manager would start it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::account::{Account, KEEP};
use crate::process::Watched;

/// How long a start may take, even of a debug build with 100,000 servers.
const PATIENCE: Duration = Duration::from_secs(120);

/// A configuration of all servers of an account, in a directory of its own.
#[derive(Debug)]
pub struct Configured {
    directory: TempDir,
    token: String,
}

/// A daemon that is ready.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub process: Watched,
    /// How long it took from its start until it said that it is ready.
    pub ready_after: Duration,
    log: PathBuf,
    _directory: TempDir,
}

impl Configured {
    /// Writes the configuration; `api` are lines of that table.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(account: &Account, schedule: &str, api: &str) -> Result<Self> {
        let mut text = format!(
            "[api]\nbase_url = \"{}\"\n{api}\n[log]\nformat = \"json\"\n\
             [defaults]\nschedule = \"{schedule}\"\nkeep = {KEEP}\n",
            account.base_url
        );
        for id in account.server_ids() {
            text.push_str(&format!("[[server]]\nid = {id}\n"));
        }
        let directory = TempDir::new()?;
        fs::write(directory.path().join("config.toml"), text)?;
        Ok(Self { directory, token: account.token.clone() })
    }

    /// A command of snapring's, with this configuration.
    #[must_use]
    pub fn command(&self, binary: &Path, name: &str) -> Command {
        let mut command = Command::new(binary);
        command
            .arg(name)
            .env("SNAPRING_CONFIG", self.directory.path().join("config.toml"))
            .env("SNAPRING_TOKEN", &self.token)
            .env("STATE_DIRECTORY", self.directory.path())
            // As the unit and the image have it.
            .env("MIMALLOC_PURGE_DELAY", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Starts a daemon and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start(self, binary: &Path) -> Result<Daemon> {
        let path = |name: &str| self.directory.path().join(name);
        let log = path("log");
        let told = UnixDatagram::bind(path("notify")).context("the notify socket")?;
        told.set_read_timeout(Some(PATIENCE))?;
        let mut command = self.command(binary, "run");
        command.env("NOTIFY_SOCKET", path("notify")).stderr(File::create(&log)?);
        let begun = Instant::now();
        let process = Watched::start(&mut command)?;
        let mut message = [0; 4096];
        loop {
            let Ok(length) = told.recv(&mut message) else {
                bail!("it does not become ready: {}", fs::read_to_string(&log)?);
            };
            if message.get(..length).is_some_and(|it| it.starts_with(b"READY=1")) {
                break;
            }
        }
        let ready_after = begun.elapsed();
        // A service manager goes on listening.
        told.set_read_timeout(None)?;
        std::thread::spawn(move || while told.recv(&mut message).is_ok() {});
        fs::remove_file(path("notify"))?;
        Ok(Daemon { process, ready_after, log, _directory: self.directory })
    }
}

impl Daemon {
    /// Waits until so many rotations have ended, however they did.
    ///
    /// # Errors
    /// When they do not within `patience`.
    pub fn wait_for_rotations(&self, rotations: u64, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut log = BufReader::new(File::open(&self.log)?);
        let (mut ended, mut line) = (0, String::new());
        while ended < rotations {
            if log.read_line(&mut line)? == 0 || !line.ends_with('\n') {
                if begun.elapsed() > patience {
                    bail!("only {ended} of {rotations} rotations ended within {patience:?}");
                }
                // Fails when it has ended.
                self.process.resident_kib()?;
                // Rarely: to look costs time on the machine that is measured.
                std::thread::sleep(Duration::from_millis(200));
                continue;
            }
            ended += u64::from(line.contains(r#""event":"rotation""#));
            line.clear();
        }
        Ok(())
    }
}
