//! What the documents show can be typed, and prints what they show.
//!
//! A `console` block that begins with `$ snapring simulate` is run with the configuration of the last `toml` block
//! that has a server. `SNAPRING_WRITE_DOCS=1` writes the output into the documents. The comment before a block says
//! who runs it; without one, it holds calls of snapring, or what developers run.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use snapring::cli::Cli;

use crate::machine::Machine;

/// The comments that a block can have, with the place where its lines are run.
const RUN_BY: &[(&str, &str)] = &[
    ("tests", ".ci/run"),
    ("demo", "tests/command/one_shot.rs"),
    ("install", "tests/e2e/systemd/run"),
    ("service", "tests/e2e/systemd/scenarios/19-operations"),
    ("journal", "tests/e2e/systemd/scenarios/12-journal"),
    ("upgrade", "tests/e2e/systemd/scenarios/19-operations"),
    ("build", "tests/e2e/container/scenarios/12-by-the-document"),
    ("image", "tests/e2e/container/scenarios/12-by-the-document"),
    ("discover", "tests/command/discover.rs"),
    ("drill", "tests/command/documents.rs"),
    ("drill fails", "tests/command/documents.rs"),
    ("accounts", "tests/command/documents.rs"),
    ("accounts fails", "tests/command/documents.rs"),
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let pages = std::fs::read_dir(repository().join("docs")).unwrap().map(|it| it.unwrap().path());
    let pages = pages.filter(|it| it.extension().is_some_and(|it| it == "md"));
    std::iter::once(repository().join("README.md")).chain(pages).collect()
}

fn is_for_developers(document: &Path) -> bool {
    ["RELIABILITY.md", "CONTRIBUTING.md", "PERFORMANCE.md"].iter().any(|it| document.ends_with(it))
}

/// A block of what a person types.
struct Block {
    /// The comment before it.
    mark: Option<String>,
    lines: Vec<String>,
}

/// The `console` blocks of a document, without the indent that they have in a list.
fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() == "```console" {
            let indent = line.len() - line.trim_start().len();
            let mark = before.trim().strip_prefix("<!-- ").and_then(|it| it.strip_suffix(" -->"));
            let body = lines.by_ref().take_while(|it| it.trim_start() != "```");
            let lines = body.map(|it| it.get(indent..).unwrap_or_default().to_owned()).collect();
            blocks.push(Block { mark: mark.map(str::to_owned), lines });
        }
        before = line;
    }
    blocks
}

/// The words of a call of snapring, without comment, redirection and `&`.
fn call(line: &str) -> Option<Vec<String>> {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    if !line.starts_with("snapring ") {
        return None;
    }
    let is_word = |it: &&str| !matches!(*it, "#" | ">" | "&" | "|" | "&&");
    Some(line.split_whitespace().take_while(is_word).map(str::to_owned).collect())
}

#[test]
fn what_documents_tell_people_to_type_can_be_typed() {
    let mut calls = 0;
    for path in documents() {
        let shown = path.display();
        for block in blocks(&std::fs::read_to_string(&path).unwrap()) {
            for line in &block.lines {
                if let Some(words) = call(line) {
                    calls += 1;
                    let parsed = Cli::try_parse_from(&words);
                    assert!(parsed.is_ok(), "{shown}: {line}\n{}", parsed.unwrap_err());
                }
            }
            match &block.mark {
                Some(mark) => {
                    let by = RUN_BY.iter().find(|(name, _)| name == mark);
                    let (_, by) = by.unwrap_or_else(|| panic!("{shown}: nothing runs {mark:?}"));
                    let runner = std::fs::read_to_string(repository().join(by)).unwrap();
                    let name = mark.split(' ').next().unwrap();
                    assert!(runner.contains(&format!("<!-- {name}")), "{by} does not run {name}");
                }
                None if block.lines[0].starts_with("$ snapring") => {}
                None => {
                    for line in block.lines.iter().filter(|it| call(it).is_none()) {
                        let mut words = line.split(' ').skip_while(|it| it.contains('='));
                        let program = words.next().unwrap();
                        let is_script =
                            program.contains('/') && repository().join(program).is_file();
                        // They take minutes or hours, and CI runs them in its own way.
                        let is_check = is_for_developers(&path) && program == "cargo";
                        assert!(
                            is_script || is_check,
                            "{shown}: say in a comment what runs: {line}"
                        );
                    }
                }
            }
        }
    }
    assert!(calls > 30, "only {calls} calls found");
}

/// The anchor that a heading gets on the pages where people read it.
fn anchor(heading: &str) -> String {
    let character = |it: char| match it {
        ' ' => Some('-'),
        '-' | '_' => Some(it),
        _ => it.is_alphanumeric().then_some(it),
    };
    heading.to_lowercase().chars().filter_map(character).collect()
}

/// The anchors of a document.
fn anchors(document: &str) -> Vec<String> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in document.lines() {
        is_code ^= line.trim_start().starts_with("```");
        if !is_code && let Some(heading) = line.strip_prefix('#') {
            found.push(anchor(heading.trim_start_matches('#').trim()));
        }
    }
    found
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut links = 0;
    for path in documents() {
        let document = std::fs::read_to_string(&path).unwrap();
        for piece in document.split("](").skip(1) {
            let target = piece.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            links += 1;
            let shown = format!("{}: {target}", path.display());
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file =
                if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{shown}: there is no such file");
            if !heading.is_empty() {
                let known = anchors(&std::fs::read_to_string(&file).unwrap());
                assert!(known.iter().any(|it| it == heading), "{shown}: there are {known:?}");
            }
        }
    }
    assert!(links > 30, "only {links} links found");
}

/// What the blocks with this mark say, run word for word, but for the ports.
fn run_blocks(mark: &str, least: usize, ports: &[&str]) -> String {
    let document = std::fs::read_to_string(repository().join("docs/OPERATIONS.md")).unwrap();
    let fails = format!("{mark} fails");
    let mut script = String::from("set -e\n");
    let mut drilled = 0;
    for block in blocks(&document) {
        let text = block.lines.join("\n");
        match block.mark.as_deref() {
            Some(it) if it == mark => script.push_str(&format!("{text}\n")),
            Some(it) if it == fails => {
                let (before, last) = text.rsplit_once('\n').unwrap();
                script.push_str(&format!(
                    "{before}\nif {last}; then echo it did not fail; exit 99; fi\n"
                ));
            }
            _ => continue,
        }
        drilled += 1;
    }
    assert!(drilled >= least, "{drilled} blocks");
    for port in ports {
        assert!(script.contains(port), "{port}");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        script = script.replace(port, &free.to_string());
    }
    let directory = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_snapring")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}")])
        .current_dir(directory.path())
        .env("PATH", path)
        .env("HOME", directory.path())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{}\n{said}", output.status);
    said
}

/// The blocks `<!-- drill -->` and `<!-- drill fails -->`.
#[test]
fn the_drill_works_as_it_is_written() {
    let said = run_blocks("drill", 6, &["18091"]);
    // A lost answer gives one snapshot, and the provider's outage is in the history.
    for expected in ["rotated", "failed", "503", "restore"] {
        assert!(said.contains(expected), "{expected} is missing:\n{said}");
    }
}

/// The blocks `<!-- accounts -->` and `<!-- accounts fails -->`.
#[test]
fn two_accounts_work_as_it_is_written() {
    let said = run_blocks("accounts", 3, &["18092", "18093"]);
    assert!(said.contains("b-web-01 (101): failed") && said.contains("503"), "{said}");
    let rotated = |line: &&str| line.starts_with("web-01 (101): rotated");
    assert_eq!(
        said.lines().filter(rotated).count(),
        2,
        "the outage is the other account's: {said}"
    );
}

const COMMAND: &str = "```console\n$ snapring simulate";

/// The document with the output of each command as it is now, and how many there are.
async fn with_output(machine: &Machine, document: &str) -> (String, usize) {
    let mut written = String::new();
    let mut rest = document;
    let mut commands = 0;
    while let Some(at) = rest.find(COMMAND) {
        let (before, block) = rest.split_at(at);
        written.push_str(before);
        let end = block[3..].find("```").unwrap() + 3;
        let command = block.lines().nth(1).unwrap();
        let configuration = written
            .split("```toml\n")
            .skip(1)
            .map(|text| text.split("```").next().unwrap())
            .filter(|text| text.contains("[[server]]"))
            .last()
            .unwrap_or_else(|| panic!("no configuration before {command}"));
        let of_servers: String = configuration
            .lines()
            .skip_while(|line| !line.starts_with("[defaults]") && !line.starts_with("[[server]]"))
            .map(|line| format!("{line}\n"))
            .collect();
        machine.configure(&of_servers);
        let arguments: Vec<&str> = command.split_whitespace().skip(2).collect();
        let (code, output, errors) = machine.run(&arguments);
        assert!(matches!(code, 0 | 1), "{command}: {errors}");
        written.push_str(&format!("```console\n{command}\n{output}"));
        rest = &block[end..];
        commands += 1;
    }
    written.push_str(rest);
    (written, commands)
}

#[tokio::test(flavor = "multi_thread")]
async fn output_in_documents_is_what_the_program_prints() {
    let machine = Machine::with_servers().await;
    for (name, least) in [("README.md", 1), ("docs/POLICIES.md", 9)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let document = std::fs::read_to_string(&path).unwrap();
        let (written, commands) = with_output(&machine, &document).await;
        assert!(commands >= least, "{name} has {commands}");
        if std::env::var_os("SNAPRING_WRITE_DOCS").is_some() {
            std::fs::write(&path, &written).unwrap();
        } else {
            assert_eq!(document, written, "{name}: SNAPRING_WRITE_DOCS=1 writes it again");
        }
    }
}
