//! The scripts of `peers/`, which do what users do today.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use crate::account::{Account, KEEP};
use crate::process::Watched;

/// Starts a script, as cron would, for all servers of an account.
///
/// # Errors
/// When it does not start.
pub fn start(script: &str, account: &Account, at_once: u32, poll: Duration) -> Result<Watched> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
    Watched::start(
        Command::new(path)
            .args(account.server_ids().map(|id| id.to_string()))
            .env("API", account.base_url.trim_end_matches('/'))
            .env("TOKEN", &account.token)
            .env("KEEP", KEEP.to_string())
            .env("PREFIX", "snapring")
            .env("AT_ONCE", at_once.to_string())
            .env("POLL", poll.as_secs_f64().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0),
    )
}
