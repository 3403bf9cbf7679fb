//! The reference, the parser and the example in the repository agree.

use super::*;
use crate::config::{Loaded, parse};

/// One server that lacks nothing.
const SMALLEST: &str = "[[server]]\nid = 1\nschedule = \"0 3 * * *\"\nkeep = 4\n";

/// The smallest configuration with one more line in a table.
fn with(section: &Section, line: &str) -> String {
    match section.header {
        "[[server]]" => {
            let kept =
                SMALLEST.lines().filter(|it| it.split(" = ").next() != line.split(" = ").next());
            let named = match line {
                "group = \"databases\"" => "[group.databases]\n",
                "account = \"customer-b\"" => "[[account]]\nname = \"customer-b\"\n",
                _ => "",
            };
            format!("{}\n{line}\n{named}", kept.collect::<Vec<_>>().join("\n"))
        }
        header => {
            let named = match line {
                "cover = \"everything\"" => {
                    "[group.everything]\nschedule = \"0 3 * * *\"\nkeep = 4\n"
                }
                _ => "",
            };
            format!("{}{line}\n{named}", begun(header, line.starts_with("url")))
        }
    }
}

/// The smallest configuration that has a table of this header, with what it must hold.
fn begun(header: &str, without_url: bool) -> String {
    match header {
        "[[notify]]" if !without_url => {
            format!("{SMALLEST}[[notify]]\nurl = \"https://hooks.example/x\"\n")
        }
        header => format!("{SMALLEST}{header}\n"),
    }
}

fn settings(text: &str) -> String {
    let loaded: Loaded =
        parse("config.toml", text).unwrap_or_else(|it| panic!("{}", it.render(false)));
    // The zone without a name, and the same one with it.
    format!("{:?}", loaded.settings).replace("TZif(\"Etc/UTC\")", "UTC").replace("Etc/UTC", "UTC")
}

/// Every key, but for the table that has its own section.
fn all() -> Vec<(&'static Section, &'static KeyReference)> {
    let sections = [&API, &ACCOUNT, &SERVER, &HOOKS, &HTTP, &STORE, &LOG, &NOTIFY];
    let keys = sections.into_iter().flat_map(|it| it.keys.iter().map(move |key| (it, key)));
    keys.filter(|(_, key)| key.name != "hooks").collect()
}

#[test]
fn the_example_in_the_repository_is_what_the_reference_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
    if std::env::var_os("SNAPRING_WRITE_EXAMPLE").is_some() {
        std::fs::write(path, example::render()).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap() == example::render(),
        "config.example.toml differs from src/config/reference.rs; to rewrite it:\n\
         SNAPRING_WRITE_EXAMPLE=1 cargo test --lib the_example_in_the_repository"
    );
}

#[test]
fn no_line_of_the_example_is_wider_than_a_page() {
    for line in example::render().lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn every_value_shown_is_taken() {
    // But for files that are not there.
    for (section, key) in all().into_iter().filter(|(_, key)| key.name != "url_file") {
        settings(&with(section, &format!("{} = {}", key.name, key.example)));
    }
}

#[test]
fn every_documented_default_is_what_holds_without_the_key() {
    for (section, key) in all() {
        let Absent::Value(default) = key.absent else { continue };
        let without = if [HOOKS.header, NOTIFY.header].contains(&section.header) {
            settings(&begun(section.header, false))
        } else {
            settings(SMALLEST)
        };
        assert_eq!(
            settings(&with(section, &format!("{} = {default}", key.name))),
            without,
            "{}",
            key.name
        );
    }
}

#[test]
fn what_has_no_default_is_asked_for() {
    let needed: Vec<_> = all()
        .iter()
        .filter(|(_, it)| it.absent == Absent::Refused)
        .map(|(section, it)| (section.header, it.name))
        .collect();
    let of_server = ["id", "schedule", "keep"].map(|name| ("[[server]]", name));
    assert_eq!(needed, [&[("[[account]]", "name")], of_server.as_slice()].concat());
    let error = parse("config.toml", &begun("[[account]]", false)).unwrap_err();
    assert!(error.to_string().contains("an account has no `name`"), "{error}");
    let error = parse("config.toml", &begun("[[notify]]", true)).unwrap_err();
    assert!(error.to_string().contains("a [[notify]] has no `url`"), "{error}");
    for (_, name) in of_server {
        let kept: Vec<_> = SMALLEST.lines().filter(|line| !line.starts_with(name)).collect();
        let error = parse("config.toml", &kept.join("\n")).unwrap_err();
        let whose = if name == "id" { "a server" } else { "server 1" };
        assert!(error.to_string().contains(&format!("{whose} has no `{name}`")), "{error}");
    }
}

/// A key that no code reads would be accepted with any value.
#[test]
fn every_key_is_read_and_its_range_is_the_documented_one() {
    for (section, key) in all() {
        let error = parse("config.toml", &with(section, &format!("{} = {{ x = [] }}", key.name)));
        assert!(error.is_err(), "{} takes anything", key.name);
        let form = key.form.words();
        let Some((_, range)) = form.split_once(" from ") else { continue };
        if !range.contains(" to ") {
            continue;
        }
        let beyond = if form.starts_with("a span") { "\"100000days\"" } else { "100000" };
        let error =
            parse("config.toml", &with(section, &format!("{} = {beyond}", key.name))).unwrap_err();
        assert!(error.to_string().ends_with(range), "{}: {error}", key.name);
    }
}

#[test]
fn what_may_stand_in_defaults_is_what_is_taken_there() {
    for key in SERVER.keys.iter().filter(|key| key.name != "hooks") {
        let account = "[[account]]\nname = \"customer-b\"\n";
        let text = format!("[defaults]\n{} = {}\n{SMALLEST}{account}", key.name, key.example);
        assert_eq!(parse("config.toml", &text).is_ok(), key.shared, "{}", key.name);
    }
}

/// What the package installs: it does nothing until a mark is taken off, and all of it together is a
/// good configuration.
#[test]
fn the_packages_configuration_is_good_once_the_marks_are_off() {
    let packaged = include_str!("../../../systemd/debian/config.toml");
    let error = parse("config.toml", packaged).unwrap_err();
    assert_eq!(error.to_string(), "config.toml: there is no server");
    let is_key = |line: &&str| !line.starts_with(' ') && !line.is_empty();
    let taken: Vec<&str> = packaged
        .lines()
        .map(|line| line.strip_prefix('#').filter(is_key).unwrap_or(line))
        .collect();
    let loaded =
        parse("config.toml", &taken.join("\n")).unwrap_or_else(|it| panic!("{}", it.render(false)));
    assert_eq!((loaded.settings.servers.len(), loaded.warnings.len()), (1, 0));
}
