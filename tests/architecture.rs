//! The structure that the folders promise: core cannot reach the outside, and modules import downwards.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules of `src/`, top first. Each may import those below it, and `snapring_core`.
const LAYERS: [&str; 19] = [
    "cli",
    "observe",
    "daemon",
    "config",
    "sandbox",
    "notify",
    "rotation",
    "store",
    "provider",
    "telemetry",
    "status",
    "activity",
    "clock",
    "backoff",
    "handed_over",
    "paths",
    "regular_file",
    "readable",
    "interner",
];

/// Who may know what the configuration file looks like.
const READS_CONFIGURATION: [&str; 3] = ["cli", "daemon", "config"];

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

/// All Rust files below a directory, but for tests and core.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && !["core", "tests", "testing"].contains(&name.as_str()) {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") && name != "tests" {
            found.push(path);
        }
    }
    found
}

/// The modules that a file names as `crate::module`, outside comments and its own tests.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let words = lines.flat_map(|line| line.split("crate::").skip(1));
    let module = |rest: &str| {
        rest.split(|it: char| !it.is_alphanumeric() && it != '_').next().unwrap().to_owned()
    };
    words.map(module).collect()
}

#[test]
fn no_module_imports_one_that_stands_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rank = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    let mut checked = 0;
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["main", "lib", "testing"].contains(&module) {
            continue;
        }
        let own = rank(module).unwrap_or_else(|| panic!("{module} has no place in LAYERS"));
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            let Some(imported) = rank(&import) else { continue };
            checked += 1;
            assert!(
                imported >= own,
                "{} imports {import}, which stands above it",
                inside.display()
            );
            assert!(
                import != "config" || READS_CONFIGURATION.contains(&module),
                "{} imports config",
                inside.display()
            );
        }
    }
    assert!(checked > 300, "only {checked} imports were found");
}
