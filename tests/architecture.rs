//! What the folders promise is held to here: what decides cannot reach the outside.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// The packages that `snapring-core` is built from, itself included.
fn packages_of_core() -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "snapring-core", "--edges", "normal", "--prefix", "none"])
        .args(["--offline", "--locked", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn what_decides_is_built_without_anything_that_reaches_the_outside() {
    let packages = packages_of_core();
    assert!(packages.iter().any(|package| package == "croner"), "{packages:?}");
    let outside = ["tokio", "reqwest", "hyper", "sqlx", "tracing", "nix", "rustls", "rand"];
    let found: Vec<_> =
        packages.iter().filter(|package| outside.contains(&package.as_str())).collect();
    assert!(found.is_empty(), "snapring-core depends on {found:?}");
}

#[test]
fn what_decides_has_five_direct_dependencies() {
    let manifest = include_str!("../src/core/Cargo.toml");
    let (_, dependencies) = manifest.split_once("[dependencies]\n").unwrap();
    let names: Vec<_> = dependencies
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split('.').next())
        .collect();
    assert_eq!(names, ["croner", "humantime", "jiff", "serde", "thiserror"]);
}
