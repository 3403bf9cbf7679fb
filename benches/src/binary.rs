//! Which snapring is measured.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// The binary of this path, else the release build of the package above, built now.
///
/// # Errors
/// When it cannot be built.
pub fn given_or_built(path: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = path {
        return Ok(path.canonicalize()?);
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // What cargo tells this program of itself would make it build half of the rest anew.
    let of_this_program = |key: &OsString| {
        let key = key.to_string_lossy();
        key.starts_with("CARGO_PKG_") || key.starts_with("CARGO_MANIFEST_")
    };
    for (key, _) in std::env::vars_os().filter(|(key, _)| of_this_program(key)) {
        build.env_remove(key);
    }
    let built = build
        .args(["build", "--release", "--locked", "--bin", "snapring", "--target-dir", "target"])
        .current_dir(&package)
        .status()?;
    ensure!(built.success(), "snapring does not build");
    Ok(package.join("target/release/snapring").canonicalize()?)
}
