//! A process, watched from outside: what it costs in time and memory.

use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use procfs::process::{Process, Stat, all_processes};

/// A process that was started here, and is killed when this is dropped.
#[derive(Debug)]
pub struct Watched {
    child: Child,
    process: Process,
}

impl Watched {
    /// Starts a command.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("{:?} does not start", command.get_program()))?;
        let process = Process::new(child.id().try_into()?)?;
        Ok(Self { child, process })
    }

    /// What it prints, where that was to be piped.
    ///
    /// # Errors
    /// When it was not, or was taken before.
    pub fn take_stdout(&mut self) -> Result<ChildStdout> {
        self.child.stdout.take().context("its output is not piped")
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processor time that it has used, in user and in kernel mode.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = self.process.stat()?;
        Ok(in_time(stat.utime + stat.stime))
    }

    /// The memory that it has resident now, in KiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_kib(&self) -> Result<u64> {
        self.process.status()?.vmrss.context("it has ended")
    }

    /// The most memory that it ever had resident, in KiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak_kib(&self) -> Result<u64> {
        self.process.status()?.vmhwm.context("it has ended")
    }

    /// Waits for its end, and watches it and all that it starts, which must stay in its process group.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn watch_to_the_end(mut self) -> Result<Ended> {
        let mut peak_kib = 0;
        let stat = loop {
            let stat = self.process.stat()?;
            if stat.state == 'Z' {
                break stat;
            }
            peak_kib = peak_kib.max(group_kib(stat.pgrp)?);
            // Each look costs time on the machine that is measured.
            std::thread::sleep(Duration::from_millis(250));
        };
        Ok(Ended { cpu: in_time(with_children(&stat)), peak_kib, status: self.child.wait()? })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process and its children came to.
#[derive(Debug)]
pub struct Ended {
    /// The processor time of all of them.
    pub cpu: Duration,
    /// The most memory that they were seen to have at once, in KiB; pages that they share count once.
    pub peak_kib: u64,
    /// How it ended.
    pub status: ExitStatus,
}

/// The proportional memory of a process group, in KiB.
fn group_kib(group: i32) -> Result<u64> {
    let members = all_processes()?
        .flatten()
        .filter(|process| process.stat().is_ok_and(|stat| stat.pgrp == group));
    // One that ends while it is looked at has no memory left.
    let bytes = members.filter_map(|process| {
        let rollup = process.smaps_rollup().ok()?;
        rollup.memory_map_rollup.iter().next()?.extension.map.get("Pss").copied()
    });
    Ok(bytes.sum::<u64>() / 1024)
}

fn with_children(stat: &Stat) -> u64 {
    let of_children = (stat.cutime + stat.cstime).unsigned_abs();
    stat.utime + stat.stime + of_children
}

fn in_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / procfs::ticks_per_second())
}
