//! config.example.toml: every key with a value and a comment.

use crate::config::reference::{
    ACCOUNT, API, Absent, DEFAULTS, GROUP, HOOKS, HTTP, KeyReference, LOG, NOTIFY, ROOT, SERVER,
    STORE, sentence,
};

/// How wide a line may be.
const WIDTH: usize = 100;

/// A longer setting has its comment above, so that the other comments stay near their settings.
const LONG: usize = 36;

/// For editors. The package installs the schema.
const SCHEMA: &str = "#:schema file:///usr/share/snapring/config.schema.json";

const HEAD: &str = "\
Every key of snapring, with its default unless the comment says otherwise; see snapring.toml(5).

`snapring check` checks this file. `snapring plan` shows what the next rotation would do.
Spans of time are \"90s\", \"10m\", \"1h 30m\", \"2d\". Unknown keys are errors.";

/// The keys in `[defaults]`, with their values. The full server below does not explain them again.
const IN_DEFAULTS: [(&str, &str); 3] =
    [("schedule", "\"0 3 * * *\""), ("timezone", "\"Europe/Berlin\""), ("keep", "4")];

/// The whole text of config.example.toml.
#[must_use]
pub(super) fn render() -> String {
    let mut lines = vec![SCHEMA.to_owned()];
    lines.extend(HEAD.lines().map(as_comment));
    let all = |keys: &'static [KeyReference]| keys.iter().filter(|key| !key.example.is_empty());
    let explained =
        |keys: &'static [KeyReference]| all(keys).map(|key| Line::explained(key, key.example));

    lines.push(String::new());
    settings(&mut lines, explained(ROOT.keys));
    table(&mut lines, API.text, API.header, explained(API.keys));
    let token_file = Line::plain("token_file", "\"/etc/snapring/customer-b.token\"");
    let account = all(ACCOUNT.keys).map(|key| Line::plain(key.name, key.example));
    let mut off = Vec::new();
    settings(&mut off, account.chain([token_file]));
    lines.push(String::new());
    lines.extend(wrapped(ACCOUNT.text));
    lines.push(as_comment(ACCOUNT.header));
    lines.extend(off.iter().map(|line| as_comment(line)));
    let defaults = IN_DEFAULTS.iter().filter_map(|(name, value)| {
        let key = SERVER.keys.iter().find(|key| key.name == *name)?;
        Some(Line::explained(key, value))
    });
    table(&mut lines, DEFAULTS, "[defaults]", defaults);
    let group = [Line::plain("schedule", "\"0 */6 * * *\"")];
    table(&mut lines, GROUP, "[group.databases]", group);
    let smallest = "The smallest server: everything else comes from [defaults].";
    table(&mut lines, smallest, SERVER.header, [Line::plain("id", "12345")]);
    let full = all(SERVER.keys).map(|key| {
        let before = key.name == "id" || IN_DEFAULTS.iter().any(|(name, _)| *name == key.name);
        if before { Line::plain(key.name, key.example) } else { Line::explained(key, key.example) }
    });
    table(&mut lines, "A server with every key.", SERVER.header, full);
    table(&mut lines, HOOKS.text, HOOKS.header, explained(HOOKS.keys));
    table(&mut lines, HTTP.text, HTTP.header, explained(HTTP.keys));
    table(&mut lines, STORE.text, STORE.header, explained(STORE.keys));
    table(&mut lines, LOG.text, LOG.header, explained(LOG.keys));
    table(&mut lines, NOTIFY.text, NOTIFY.header, explained(NOTIFY.keys));
    lines.join("\n") + "\n"
}

/// A key with its value.
struct Line {
    setting: String,
    comment: Comment,
}

enum Comment {
    None,
    Beside(String),
    /// Wrapped.
    Above(String),
}

impl Line {
    fn plain(name: &str, value: &str) -> Self {
        Self { setting: format!("{name} = {value}"), comment: Comment::None }
    }

    fn explained(key: &KeyReference, value: &str) -> Self {
        let setting = format!("{} = {value}", key.name);
        let text = match key.absent {
            Absent::Value(default) if default == value => key.text.to_owned(),
            other => format!("{}; {}", key.text, other.words()),
        };
        if key.off {
            let text = format!("{} {}", sentence(&text), key.more);
            return Self { setting: as_comment(&setting), comment: Comment::Above(text) };
        }
        let comment = match setting.len() {
            ..=LONG => Comment::Beside(text),
            _ => Comment::Above(sentence(&text)),
        };
        Self { setting, comment }
    }
}

fn table(lines: &mut Vec<String>, text: &str, header: &str, keys: impl IntoIterator<Item = Line>) {
    lines.push(String::new());
    lines.extend(wrapped(text));
    lines.push(header.to_owned());
    settings(lines, keys);
}

fn settings(lines: &mut Vec<String>, keys: impl IntoIterator<Item = Line>) {
    let keys: Vec<Line> = keys.into_iter().collect();
    let settings = keys.iter().filter(|key| matches!(key.comment, Comment::Beside(_)));
    let column = settings.map(|key| key.setting.chars().count()).max().unwrap_or(0);
    for Line { setting, comment } in keys {
        match comment {
            Comment::None => lines.push(setting),
            Comment::Beside(text) => {
                lines.push(format!("{setting:column$}   {}", as_comment(&text)))
            }
            Comment::Above(text) => {
                lines.extend(wrapped(&text));
                lines.push(setting);
            }
        }
    }
}

fn as_comment(text: &str) -> String {
    format!("# {text}").trim_end().to_owned()
}

/// A text as comments that are not wider than the page.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec!["#".to_owned()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("# {word}")),
        }
    }
    lines
}
