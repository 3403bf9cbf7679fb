//! The usual `process_*` metrics, as far as the system tells.

use std::fmt;
use std::fs;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

/// Linux counts a process's time in this for all programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// What this process uses.
#[derive(Debug)]
pub(super) struct Process {
    started_at: Timestamp,
}

impl Process {
    /// This one.
    pub(super) fn started_at(started_at: Timestamp) -> Self {
        Self { started_at }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: Option<u64>| {
            let Some(value) = value.and_then(|it| i64::try_from(it).ok()) else { return Ok(()) };
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
        };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory = |key| number(&status, key).map(|kibibytes| kibibytes.saturating_mul(1024));
        let help = "Memory in use";
        gauge("process_resident_memory_bytes", help, memory("VmRSS:"))?;
        let help = "Address space in use";
        gauge("process_virtual_memory_bytes", help, memory("VmSize:"))?;
        gauge("process_threads", "Threads", number(&status, "Threads:"))?;
        // Not for an unprivileged process that is not dumpable.
        let open = fs::read_dir("/proc/self/fd").ok();
        let open = open.and_then(|it| u64::try_from(it.count()).ok());
        gauge("process_open_fds", "Open file descriptors", open)?;
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let most = number(&limits, "Max open files");
        gauge("process_max_fds", "The most file descriptors that may be open", most)?;
        let started = u64::try_from(self.started_at.as_second()).ok();
        gauge("process_start_time_seconds", "When the process started", started)?;
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let Some(seconds) = cpu_seconds(&stat) else { return Ok(()) };
        let help = "Time on a CPU";
        encoder
            .encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?
            .encode_counter::<[(&str, &str); 0], _, f64>(&seconds, None)
    }
}

/// The first number after a word that begins a line.
fn number(text: &str, word: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// In user mode and in the kernel. The name of the program before may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some((f64::from(next()?) + f64::from(next()?)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 -1 6 7 8 9 10 150 50 0 0 20 0 9 0 100 200 300";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
        assert_eq!(number("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
        assert_eq!(number("Max open files   unlimited", "Max open files"), None);
    }
}
