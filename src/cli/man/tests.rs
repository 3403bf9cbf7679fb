//! The text that man receives.

use super::*;
use crate::config::reference::{API, HOOKS, HTTP, LOG, NOTIFY, ROOT, SERVER, STORE};

fn text_of(name: &str) -> String {
    let page = pages().into_iter().find(|page| page.name == name);
    page.unwrap_or_else(|| panic!("{name} is missing")).text.replace("\\-", "-")
}

#[test]
fn there_is_a_page_for_each_command_and_one_for_the_configuration() {
    let files: Vec<String> = pages().iter().map(ManPage::file).collect();
    for file in ["snapring.1", "snapring-run.1", "snapring-man.1", "snapring.toml.5"] {
        assert!(files.iter().any(|it| it == file), "{file} is missing of {files:?}");
    }
    let overview = text_of("snapring");
    for file in files.iter().filter_map(|file| file.strip_suffix(".1")) {
        assert!(file == "snapring" || overview.contains(&format!("{file}(1)")), "{file}");
    }
}

#[test]
fn a_page_is_dated_by_the_newest_change_which_is_of_this_version() {
    let changes = include_str!("../../../systemd/debian/changelog");
    let version = env!("CARGO_PKG_VERSION");
    assert!(changes.starts_with(&format!("snapring ({version}-")), "no change of {version}");
    let head = text_of("snapring.toml");
    let head = head.lines().find(|line| line.starts_with(".TH")).unwrap();
    let words: Vec<&str> = head.split(' ').collect();
    assert!(words[3].parse::<jiff::civil::Date>().is_ok(), "{head}");
    assert!(head.contains(&format!("\"snapring {version}\"")), "{head}");
}

#[test]
fn every_key_of_the_configuration_is_explained() {
    let page = text_of("snapring.toml");
    for key in [&ROOT, &API, &SERVER, &HOOKS, &HTTP, &STORE, &LOG, &NOTIFY]
        .iter()
        .flat_map(|section| section.keys)
    {
        assert!(page.contains(&format!(".TP\n\\fB{}\\fR", key.name)), "{} is missing", key.name);
        let words = key.text.split(['`', '\'']).next().unwrap();
        assert!(page.contains(words.get(1..).unwrap()), "{} is not explained", key.name);
    }
}

#[test]
fn every_exit_code_is_told() {
    let page = text_of("snapring");
    for exit in [Exit::Well, Exit::Trouble, Exit::Usage, Exit::Configuration] {
        let code = std::process::ExitCode::from(exit);
        let told = crate::cli::EXIT_CODES
            .iter()
            .any(|(told, _)| std::process::ExitCode::from(*told) == code);
        assert!(told, "{exit:?}");
    }
    assert!(page.contains("\\fB78\\fR\nbad configuration"), "{page}");
}
