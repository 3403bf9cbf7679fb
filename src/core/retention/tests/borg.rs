//! A second opinion by another program: `borg prune`. Without Debian's borgbackup nothing is compared, unless
//! `SNAPRING_TEST_BORG` is set.

use std::io::Write;
use std::process::{Command, Stdio};

use jiff::tz::Offset;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::properties::{Scene, any_scene};
use super::*;

/// Debian's Python, which Debian's borgbackup is installed for.
const PYTHON: &str = "/usr/bin/python3";

/// Reads one ring a line: zone, six numbers, and the times; writes the places of those that are kept.
const PRUNE: &str = r#"
import os, sys, time
from collections import namedtuple
from datetime import datetime, timezone
try:
    from borg.helpers.misc import prune_split
except ImportError as problem:
    print(problem, file=sys.stderr)
    sys.exit(77)
Archive = namedtuple("Archive", "id ts")
for line in sys.stdin:
    zone, keep, *times = line.split()
    os.environ["TZ"] = zone
    time.tzset()
    archives = [Archive(n, datetime.fromtimestamp(int(t), timezone.utc)) for n, t in enumerate(times)]
    rules = ["secondly", "hourly", "daily", "weekly", "monthly", "yearly"]
    kept = {}
    for rule, count in zip(rules, keep.split(",")):
        prune_split(archives, rule, int(count), kept)
    print(*sorted(kept))
"#;

/// Where borg's periods are the contract's. Elsewhere they differ on purpose: borg takes the hour that autumn repeats for
/// one hour, and a day that returns for two.
fn is_comparable(scene: &Scene) -> bool {
    let at = |it: &Candidate| scene.zone.to_offset(it.at);
    let offsets: BTreeSet<Offset> = scene.candidates.iter().map(at).collect();
    let seconds: BTreeSet<i64> = scene.candidates.iter().map(|it| it.at.as_second()).collect();
    let is_plain = scene.zone.iana_name().is_some_and(|name| name != "America/St_Johns");
    is_plain
        && seconds.len() == scene.candidates.len()
        && (offsets.len() <= 1 || scene.keep.hourly == 0)
}

#[test]
fn borg_prune_keeps_the_same() {
    let required = std::env::var_os("SNAPRING_TEST_BORG").is_some();
    let mut runner = TestRunner::deterministic();
    let scenes: Vec<Scene> =
        std::iter::repeat_with(|| any_scene().new_tree(&mut runner).unwrap().current())
            .filter(is_comparable)
            .take(3_000)
            .collect();
    let line = |scene: &Scene| {
        let keep = Rule::ALL.map(|rule| scene.keep.count(rule).to_string()).join(",");
        let times = scene.candidates.iter().map(|it| it.at.as_second().to_string());
        let times: Vec<String> = times.collect();
        format!("{} {keep} {}\n", scene.zone.iana_name().unwrap(), times.join(" "))
    };
    let asked: String = scenes.iter().map(line).collect();
    let started = Command::new(PYTHON)
        .args(["-c", PRUNE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut borg = match started {
        Ok(borg) => borg,
        Err(problem) if !required => return eprintln!("not compared: {PYTHON}: {problem}"),
        Err(problem) => panic!("{PYTHON}: {problem}"),
    };
    let mut input = borg.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(asked.as_bytes()));
    let answer = borg.wait_with_output().unwrap();
    let written = writer.join().unwrap();
    if answer.status.code() == Some(77) && !required {
        return eprintln!("not compared: {}", String::from_utf8_lossy(&answer.stderr));
    }
    written.unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let answer = String::from_utf8(answer.stdout).unwrap();
    assert_eq!(answer.lines().count(), scenes.len());
    for (scene, line) in scenes.iter().zip(answer.lines()) {
        let by_borg: BTreeSet<u64> =
            line.split_whitespace().map(|place| place.parse::<u64>().unwrap() + 1).collect();
        assert_eq!(kept(&scene.candidates, &scene.keep, &scene.zone), by_borg, "{scene:?}");
    }
}
