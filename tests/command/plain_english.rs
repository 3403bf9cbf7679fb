//! What people read is plain English: phrases that have to be read twice are in no document, help text or message.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Phrases, and what to write instead. Each is looked for as whole words, in any case.
const BANNED: &[(&str, &str)] = &[
    ("all the same", "anyway"),
    ("anew", "again"),
    ("are it all", "if all … are"),
    ("at the least", "at least"),
    ("by now", "now"),
    ("calls a day", "calls per day"),
    ("calls a rotation", "calls per rotation"),
    ("calls a server", "calls per server"),
    ("ended well", "succeeded"),
    ("ends well", "succeeds"),
    ("gap's end", "the end of the gap"),
    ("gave no answer", "did not answer"),
    ("gives way", "is closed, waits"),
    ("go on with", "continue with"),
    ("goes on", "continues"),
    ("goes well", "succeeds"),
    ("has gone", "disappeared"),
    ("in silence", "silently"),
    ("is being made", "is being created"),
    ("is no news", "is not reported"),
    ("is owed", "has not run yet, was not sent yet"),
    ("is still owed", "has not run yet, was not sent yet"),
    ("is told of", "is notified of"),
    ("are told of", "are reported"),
    ("whether it lives", "whether it is alive"),
    ("the daemon lives", "the daemon is running"),
    ("scheduler lives", "the scheduler is running"),
    ("nobody", "nothing, no one"),
    ("put right", "corrected"),
    ("somebody", "someone"),
    ("so many", "that many, a number"),
    ("stands in for", "is used instead of"),
    ("stands in", "is used instead"),
    ("stands still", "has stalled"),
    ("take it up", "use it"),
    ("takes it up", "uses it, reloads it"),
    ("takes up", "uses, reloads"),
    ("that was read again", "reloaded"),
    ("was read again", "was reloaded"),
    ("went well", "succeeded"),
    ("whoever", "anyone who"),
    ("whom", "who"),
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The texts in quotes of a source file, comments and unit tests left out.
fn messages(source: &str) -> String {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut texts = String::new();
    let mut characters = code.flat_map(|line| line.chars().chain(['\n'])).peekable();
    let mut within = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' if within => match characters.next() {
                // A line that is continued.
                Some('\n') => while characters.next_if(|it| it.is_whitespace()).is_some() {},
                Some('n') => texts.push('\n'),
                _ => {}
            },
            '\'' if !within && characters.peek() == Some(&'"') => {
                characters.next();
            }
            '"' => {
                within = !within;
                texts.push('\n');
            }
            _ if within => texts.push(character),
            _ => {}
        }
    }
    texts
}

/// Each text that people read, with the place where it is.
fn texts() -> Vec<(String, String)> {
    let mut paths = vec![repository().join("README.md"), repository().join("config.example.toml")];
    for directory in ["docs", "src", "systemd"] {
        files(&repository().join(directory), &mut paths);
    }
    let mut texts = Vec::new();
    for path in paths {
        let shown = path.strip_prefix(repository()).unwrap().display().to_string();
        let is_test = shown.contains("tests") || shown.contains("testing");
        if shown.ends_with("copyright") {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        match path.extension().and_then(|it| it.to_str()) {
            Some("rs") if is_test => {}
            Some("rs") => texts.push((shown, messages(&text))),
            _ => texts.push((shown, text)),
        }
    }
    let snapring = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_snapring")).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let help = snapring(&["--help"]);
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands = commands.lines().filter_map(|line| line.split_whitespace().next());
    let mut helped = 0;
    for command in commands.filter(|it| *it != "help") {
        let text = snapring(&[command, "--help"]);
        helped += usize::from(text.contains("Usage:"));
        texts.push((format!("{command} --help"), text));
    }
    assert!(helped >= 15, "{helped} commands\n{help}");
    texts.push(("--help".to_owned(), help));
    for page in ["snapring.1", "snapring.toml.5"] {
        texts.push((page.to_owned(), snapring(&["man", page])));
    }
    texts
}

/// Lower case, with single spaces, so that a phrase is found over the end of a line.
fn flat(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn has_words(text: &str, words: &str) -> bool {
    let is_part = |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || it == '_');
    text.match_indices(words).any(|(at, _)| {
        let (before, behind) = (&text[..at], &text[at + words.len()..]);
        !is_part(before.chars().next_back()) && !is_part(behind.chars().next())
    })
}

#[test]
fn no_text_has_to_be_read_twice() {
    let mut found = Vec::new();
    for (place, text) in texts() {
        let text = flat(&text);
        for (words, better) in BANNED {
            if has_words(&text, words) {
                let at = text.find(words).unwrap();
                let around: String = text[..at].chars().rev().take(40).collect();
                let around: String = around.chars().rev().collect();
                found.push(format!("{place}: …{around}{words}: write {better:?}"));
            }
        }
    }
    assert!(found.is_empty(), "{} phrases\n{}", found.len(), found.join("\n"));
}

/// Whether a text in quotes is a sentence or a part of one: two words in small letters, and not SQL.
fn is_message(text: &str) -> bool {
    let words = text.split_whitespace();
    let is_small = |it: &&str| it.len() > 1 && it.chars().all(|it| it.is_lowercase() || it == ',');
    words.filter(is_small).count() >= 2 && !text.trim_start().starts_with("<")
}

/// A change of wording shows in review. `INSTA_UPDATE=always cargo test --test command messages` accepts it.
#[test]
fn messages_are_as_they_were_reviewed() {
    let mut paths = Vec::new();
    files(&repository().join("src"), &mut paths);
    paths.sort();
    let mut catalogue = String::new();
    for path in paths.iter().filter(|it| it.extension().is_some_and(|it| it == "rs")) {
        let shown = path.strip_prefix(repository()).unwrap().display().to_string();
        if shown.contains("tests") || shown.contains("testing") {
            continue;
        }
        let texts = messages(&std::fs::read_to_string(path).unwrap());
        let said: Vec<&str> = texts.lines().filter(|it| is_message(it)).collect();
        if !said.is_empty() {
            catalogue.push_str(&format!("{shown}\n  {}\n", said.join("\n  ")));
        }
    }
    assert!(catalogue.lines().count() > 500, "{catalogue}");
    insta::assert_snapshot!("messages", catalogue);
}

#[test]
fn phrases_are_found_as_whole_words_only() {
    assert!(has_words("it takes up too much", "takes up"));
    assert!(!has_words("it takes upper case", "takes up"));
    assert_eq!(flat("Takes\n   up"), "takes up");
    assert_eq!(
        messages("// \"no\"\nlet x = \"one \\\n   two\"; '\"'; \"three\""),
        "\none two\n\nthree\n"
    );
}
