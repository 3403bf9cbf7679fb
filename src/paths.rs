//! Where snapring finds and keeps its files.

/// The state directory of the service, as systemd creates it.
pub const SERVICE_DIRECTORY: &str = "/var/lib/snapring";
