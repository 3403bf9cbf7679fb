//! Tables in Markdown, and the words above them.

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use procfs::{CpuInfo, Current};

/// An empty table under this heading.
#[must_use]
pub fn table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(heading.to_vec());
    table
}

/// The machine in a few words.
///
/// # Errors
/// When it does not say.
pub fn machine() -> procfs::ProcResult<String> {
    let cpu = CpuInfo::current()?;
    let model = cpu.model_name(0).unwrap_or("unknown processor").to_owned();
    Ok(format!("{model}, {} cores, Linux {}", cpu.num_cores(), kernel()?))
}

fn kernel() -> procfs::ProcResult<String> {
    let version = procfs::sys::kernel::Version::current()?;
    Ok(format!("{}.{}.{}", version.major, version.minor, version.patch))
}

/// KiB as MiB.
#[must_use]
pub fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}
