//! Hooks that go on although their snapring process is gone.
//!
//! A killed process ends its hooks only where a service manager or a container does that for it. A
//! `before` hook that is still running would quiesce the server again after its `after` hook has run.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::naming::ServerId;

/// Ends what still runs of the hooks of this server and snapshot: each process that was given their
/// names, with all that it has started. Blocks; reads /proc.
pub(super) fn end(server: ServerId, snapshot: &str) {
    let marks = [format!("SNAPRING_SERVER_ID={server}"), format!("SNAPRING_SNAPSHOT={snapshot}")];
    let own = std::process::id();
    for pid in processes(Path::new("/proc")).filter(|pid| *pid != own) {
        if has_marks(&Path::new("/proc").join(pid.to_string()), &marks)
            && let Ok(pid) = i32::try_from(pid)
        {
            // Fails when it has ended, which is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn processes(table: &Path) -> impl Iterator<Item = u32> {
    let entries = table.read_dir().into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether the process was started with these variables. Those of other users cannot be read.
fn has_marks(process: &Path, marks: &[String]) -> bool {
    let environment = std::fs::read(process.join("environ")).unwrap_or_default();
    let has = |mark: &String| environment.split(|byte| *byte == 0).any(|it| it == mark.as_bytes());
    marks.iter().all(has)
}
