//! An account at the provider: `snapring sandbox` as a process of its own, with so many servers, each
//! of which has a full ring already.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

use crate::process::Watched;

/// How many snapshots each server has, and is to keep.
pub const KEEP: u32 = 3;

/// The first server's number; the others follow.
const FIRST_ID: u64 = 101;

/// An account that is asked over loopback.
#[derive(Debug)]
pub struct Account {
    /// The sandbox.
    pub process: Watched,
    /// What `base_url` is to be.
    pub base_url: String,
    /// The token that it takes.
    pub token: String,
    /// How many servers it has.
    pub servers: u64,
    // The sandbox may say more, and must not find that nobody listens.
    _said: Lines<BufReader<ChildStdout>>,
}

/// How often an operation was asked for.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Tally {
    /// How many calls came in.
    pub calls: u64,
    /// When the first one came in.
    pub first_at: Timestamp,
    /// When the last one came in.
    pub last_at: Timestamp,
}

#[derive(Deserialize)]
struct State {
    servers: Vec<Server>,
}

#[derive(Deserialize)]
struct Server {
    snapshots: Vec<Snapshot>,
}

#[derive(Deserialize)]
struct Snapshot {
    status: String,
    created_at: Timestamp,
}

impl Account {
    /// Starts the sandbox of this binary; `options` are further ones of its command line.
    ///
    /// # Errors
    /// When it does not start.
    pub fn open(binary: &Path, servers: u64, options: &[&str]) -> Result<Self> {
        let mut process = Watched::start(
            Command::new(binary)
                .args(["sandbox", "--seed", "1", "--servers", &servers.to_string()])
                .args(["--filled", &KEEP.to_string()])
                .args(options)
                .stdin(Stdio::null())
                .stdout(Stdio::piped()),
        )?;
        let mut said = BufReader::new(process.take_stdout()?).lines();
        let mut value = |key: &str| -> Result<String> {
            let line = said.next().with_context(|| format!("the sandbox does not say {key}"))??;
            let value = line.strip_prefix(key).with_context(|| format!("{line} is not {key}"))?;
            Ok(value.trim_matches('"').to_owned())
        };
        let (base_url, token) = (value("base_url = ")?, value("SNAPRING_TOKEN=")?);
        Ok(Self { process, base_url, token, servers, _said: said })
    }

    /// The numbers of its servers.
    pub fn server_ids(&self) -> impl Iterator<Item = u64> + use<> {
        FIRST_ID..FIRST_ID + self.servers
    }

    /// How often each operation was asked for so far.
    ///
    /// # Errors
    /// When the sandbox does not answer.
    pub fn tallies(&self) -> Result<BTreeMap<String, Tally>> {
        self.ask("tallies")
    }

    /// Forgets the calls so far.
    ///
    /// # Errors
    /// When the sandbox does not answer.
    pub fn forget_calls(&self) -> Result<()> {
        ureq::delete(self.address("calls")).call()?;
        Ok(())
    }

    /// How many servers have as many snapshots as they are to keep, all completed, the newest of them
    /// made since then.
    ///
    /// # Errors
    /// When the sandbox does not answer.
    pub fn rotated_since(&self, since: Timestamp) -> Result<usize> {
        let state: State = self.ask("state")?;
        let rotated = |server: &&Server| {
            server.snapshots.len() == KEEP as usize
                && server.snapshots.iter().all(|it| it.status == "completed")
                && server.snapshots.iter().any(|it| it.created_at >= since)
        };
        Ok(state.servers.iter().filter(rotated).count())
    }

    fn address(&self, what: &str) -> String {
        format!("{}_sandbox/{what}", self.base_url.trim_end_matches("api/v1/"))
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T> {
        let mut answer = ureq::get(self.address(what)).call()?;
        // The state of many servers is long.
        Ok(answer.body_mut().with_config().limit(u64::MAX).read_json()?)
    }
}
