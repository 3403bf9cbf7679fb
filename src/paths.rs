//! The files and directories that snapring uses.

use std::ffi::OsString;
use std::path::PathBuf;

/// The configuration, unless another file is named.
pub(crate) const CONFIGURATION: &str = "/etc/snapring/config.toml";

/// Where the package has it, and whatever it names.
pub(crate) const CONFIGURATION_DIRECTORY: &str = "/etc/snapring";

/// The state directory of the service, as systemd creates it.
pub(crate) const SERVICE_DIRECTORY: &str = "/var/lib/snapring";

/// Where systemd keeps the credentials of the service while it runs.
pub(crate) const SERVICE_CREDENTIALS: &str = "/run/credentials/snapring.service";

/// Where journald listens; in a journal namespace too, since it is mounted there.
pub(crate) const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// `$STATE_DIRECTORY`. systemd separates several directories with colons; ours is the first.
pub(crate) fn state_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let first = std::env::split_paths(&variable("STATE_DIRECTORY")?).next()?;
    first.is_absolute().then_some(first)
}
