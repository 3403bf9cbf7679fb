//! A mistake in a configuration, and how it is shown: the text pointed at, with a hint.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::config::document::FileText;
use crate::foreign::is_shown;

/// How many mistakes are shown; a generated file can have one a line.
pub(super) const SHOWN: usize = 50;

/// How many are told in one line.
const SHOWN_IN_A_LINE: usize = 20;

/// Of a line longer than this, all behind the first address is hidden.
const LONGEST_LINE: usize = 4096;

/// Longer lines are not shown.
const LONGEST_LINES: usize = 8 * LONGEST_LINE;

/// A key whose name contains one of these holds a secret: its value is never shown.
pub(super) const SECRET_WORDS: &[&str] = &["token", "secret", "password", "key"];

/// Where each line of a text begins, in bytes.
pub(super) fn line_starts(text: &str) -> Vec<usize> {
    let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect()
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is taken, but a person should know.
    Warning,
}

/// A problem before its source is at hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Draft {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where, in bytes; `None`: the whole file.
    pub span: Option<Range<usize>>,
    /// What stands beside the text pointed at; may be empty.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The text of a configuration as it may be shown: without anything that looks like a token.
#[derive(Debug)]
pub(crate) struct SourceText {
    name: String,
    shown: String,
    line_starts: Vec<usize>,
    /// How many characters begin before each [`BLOCK`] of bytes, and before the end.
    characters: Vec<usize>,
}

/// A text of one long line can have a mistake in every part of it: columns are not counted from its beginning.
const BLOCK: usize = 1024;

/// How many characters begin in a part of a text.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0b1100_0000 != 0b1000_0000).count()
}

impl SourceText {
    /// Masks `secrets` and all that looks like a token of the provider's.
    #[must_use]
    pub(crate) fn new(name: &str, text: &str, secrets: &[Range<usize>]) -> Self {
        let mut shown = text.to_owned();
        for secret in secrets {
            mask(&mut shown, secret.clone());
        }
        let by_its_looks =
            looks_like_tokens(text).chain(under_secret_keys(text)).chain(parts_of_addresses(text));
        for secret in by_its_looks {
            mask(&mut shown, secret);
        }
        let mut counted = vec![0];
        for block in shown.as_bytes().chunks(BLOCK) {
            counted.push(counted.last().copied().unwrap_or(0) + characters(block));
        }
        Self { name: name.to_owned(), shown, line_starts: line_starts(text), characters: counted }
    }

    /// How many characters begin before this place.
    fn characters_before(&self, at: usize) -> usize {
        let at = at.min(self.shown.len());
        let block = at / BLOCK;
        let rest = self.shown.as_bytes().get(block * BLOCK..at).unwrap_or_default();
        self.characters.get(block).copied().unwrap_or(0) + characters(rest)
    }

    /// Line and column, both from 1, the column in characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= at).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let before = self.characters_before(at).saturating_sub(self.characters_before(start));
        (line, before + 1)
    }

    /// The lines that hold a span, where they begin, and the number of the first.
    fn lines(&self, span: &Range<usize>) -> (usize, &str, usize) {
        let (first, _) = self.position(span.start);
        let (last, _) = self.position(span.end.max(span.start + 1) - 1);
        // A table or a list over many lines is known by its first.
        let last = last.min(first + 5);
        let start = self.line_starts.get(first - 1).copied().unwrap_or(0);
        let end = self.line_starts.get(last).copied().unwrap_or(self.shown.len());
        (start, self.shown.get(start..end).unwrap_or_default(), first)
    }
}

/// The texts of all files, one after the other.
pub(crate) struct Sources(Vec<(usize, Arc<SourceText>)>);

impl Sources {
    /// Masks `secrets`, whose places are among all files, and whatever looks like a token.
    pub(crate) fn new(files: &[FileText<'_>], secrets: &[Range<usize>]) -> Self {
        let source = |FileText { name, text, base }: &FileText<'_>| {
            let is_here = |it: &&Range<usize>| (*base..=base + text.len()).contains(&it.start);
            let local = |it: &Range<usize>| it.start - base..it.end - base;
            let secrets: Vec<_> = secrets.iter().filter(is_here).map(local).collect();
            (*base, Arc::new(SourceText::new(name, text, &secrets)))
        };
        Self(files.iter().map(source).collect())
    }

    /// The file that includes the others.
    pub(crate) fn main(&self) -> Arc<SourceText> {
        self.of(0).1
    }

    /// A problem in the file where its place is.
    pub(crate) fn problem(&self, mut draft: Draft) -> Problem {
        let (base, source) = self.of(draft.span.as_ref().map_or(0, |span| span.start));
        draft.span = draft.span.map(|it| it.start - base..it.end - base);
        Problem::new(draft, source)
    }

    fn of(&self, at: usize) -> (usize, Arc<SourceText>) {
        let nth = self.0.partition_point(|(base, _)| *base <= at).saturating_sub(1);
        let found = self.0.get(nth).map(|(base, source)| (*base, Arc::clone(source)));
        found.unwrap_or_else(|| (0, Arc::new(SourceText::new("", "", &[]))))
    }
}

/// Puts stars in a range's place, each as long as what it hides, so that all positions stay, in
/// bytes and in characters.
fn mask(text: &mut String, secret: Range<usize>) {
    let range = text.floor_char_boundary(secret.start)..text.ceil_char_boundary(secret.end);
    let star = |it: char| match (it, it.len_utf8()) {
        ('\n' | '"' | '\'', _) => it,
        (_, 1) => '*',
        (_, 2) => '×',
        (_, 3) => '∗',
        _ => '🞶',
    };
    let Some(secret) = text.get(range.clone()) else { return };
    let stars: String = secret.chars().map(star).collect();
    text.replace_range(range, &stars);
}

fn looks_like_tokens(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + text.get(from..)?.find("vps_")?;
        let rest = text.get(start..)?;
        let length = rest
            .find(|it: char| !it.is_ascii_alphanumeric() && !matches!(it, '_' | '-'))
            .unwrap_or(rest.len());
        // What begins within one is masked with it.
        from = start + length;
        Some(start..from)
    })
}

/// What stands right of a secret's name and a `=`: where TOML could not be understood, as with a
/// token given twice, there is no tree that tells where the value is.
fn under_secret_keys(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let start = at;
        at += line.len();
        // The one known key of such a name; its value is a path. Positions stay.
        let lowercase = line.to_ascii_lowercase().replace("token_file", "          ");
        let value = SECRET_WORDS.iter().filter_map(|word| {
            let behind = lowercase.find(word)? + word.len();
            let rest = lowercase.get(behind..)?;
            let between = rest.find(|it: char| {
                !it.is_ascii_alphanumeric()
                    && !matches!(it, '_' | '-' | '.' | '"' | '\'' | ' ' | '\t')
            })?;
            let value = rest.get(between..)?.strip_prefix('=')?;
            Some(line.len() - value.trim_start_matches(' ').len())
        });
        Some(start + value.min()?..start + line.len())
    })
}

/// Users, passwords and queries in addresses: all of an address behind its scheme. And all behind
/// the host, where the address is not the provider's: a webhook's path is its key, under whatever
/// name it stands.
fn parts_of_addresses(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    text.split_inclusive('\n').flat_map(move |line| {
        let start = at;
        at += line.len();
        // No address is looked for twice in a line that is longer than any that a person writes.
        let (first, each) = match line.len() > LONGEST_LINE {
            true => (line.find("://").map(|at| at + 3..line.len()), ""),
            false => (None, line),
        };
        let parts = each.match_indices("://").filter_map(|(at, _)| part_of_address(each, at));
        first.into_iter().chain(parts).map(move |it| start + it.start..start + it.end)
    })
}

/// What is to be hidden of the address whose scheme ends here.
fn part_of_address(line: &str, at: usize) -> Option<Range<usize>> {
    let start = at + "://".len();
    let rest = line.get(start..)?;
    let end =
        rest.find(|it: char| it.is_whitespace() || matches!(it, '"' | '\'')).unwrap_or(rest.len());
    let address = rest.get(..end)?;
    if address.contains(['@', '?', '#']) {
        return Some(start..start + end);
    }
    let before = line.get(..at)?;
    let host = address.find('/')?;
    let shown = before.contains("base_url")
        || !before.to_ascii_lowercase().trim_end_matches('s').ends_with("http");
    (!shown).then_some(start + host..start + end)
}

/// What may be shown of a message: nothing that looks like a token, and one line that controls no
/// terminal, even if a library repeats parts of the file.
pub(super) fn presentable(message: &str) -> String {
    let escape = |it: char| if is_shown(it) { it.into() } else { it.escape_debug().to_string() };
    let message: String = message.chars().map(escape).collect();
    let mut shown = message.clone();
    for secret in looks_like_tokens(&message) {
        mask(&mut shown, secret);
    }
    shown
}

/// One mistake or warning, with its place.
#[derive(Debug, Clone)]
pub struct Problem {
    draft: Draft,
    source: Arc<SourceText>,
}

impl Problem {
    pub(crate) fn new(draft: Draft, source: Arc<SourceText>) -> Self {
        let draft = Draft {
            message: presentable(&draft.message),
            label: presentable(&draft.label),
            hint: draft.hint.as_deref().map(presentable),
            ..draft
        };
        Self { draft, source }
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.draft.severity
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.draft.message
    }

    /// For people: file, line, column, the text pointed at, and a hint.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let Draft { severity, message, span, label, hint } = &self.draft;
        let level = match severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let lines = span.as_ref().map(|span| (span, self.source.lines(span)));
        let mut group: Group<'_> = match lines {
            Some((span, (start, lines, first))) if lines.len() <= LONGEST_LINES => {
                let from = span.start.saturating_sub(start).min(lines.len());
                let to =
                    span.end.saturating_sub(start).clamp(from, lines.trim_end().len().max(from));
                let mut annotation = AnnotationKind::Primary.span(from..to);
                if !label.is_empty() {
                    annotation = annotation.label(label.as_str());
                }
                let snippet = Snippet::source(lines)
                    .line_start(first)
                    .path(self.source.name.as_str())
                    .annotation(annotation);
                level.primary_title(message.as_str()).element(snippet)
            }
            Some((span, _)) => {
                let (line, column) = self.source.position(span.start);
                let title = format!("{}:{line}:{column}: {message}", self.source.name);
                Group::with_title(level.primary_title(title))
            }
            None => {
                let title = format!("{}: {message}", self.source.name);
                Group::with_title(level.primary_title(title))
            }
        };
        if let Some(hint) = hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let place = self.draft.span.as_ref().map(|span| self.source.position(span.start));
        json!({
            "severity": match self.draft.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "file": self.source.name,
            "line": place.map(|(line, _)| line),
            "column": place.map(|(_, column)| column),
            "message": self.draft.message,
            "hint": self.draft.hint,
        })
    }
}

impl fmt::Display for Problem {
    /// One line: place and message.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Draft { message, span, .. } = &self.draft;
        write!(out, "{}", self.source.name)?;
        if let Some(span) = span {
            let (line, column) = self.source.position(span.start);
            write!(out, ":{line}:{column}")?;
        }
        write!(out, ": {message}")
    }
}

/// Warnings of a configuration that is good, in one line each and as many as anybody reads: only `check` shows the
/// text and the hints.
pub(crate) fn in_short(warnings: &[Problem]) -> impl Iterator<Item = String> {
    let more = warnings.len().saturating_sub(SHOWN);
    let rest = (more > 0).then(|| format!("and {more} more warnings; `snapring check` shows them"));
    warnings.iter().take(SHOWN).map(ToString::to_string).chain(rest)
}

/// Writes warnings of a configuration that is good into the log.
pub(crate) fn log_warnings(event: &str, warnings: &[Problem]) {
    for warning in in_short(warnings) {
        tracing::warn!(event, "{warning}");
    }
}

/// A bad configuration: all that is wrong with it.
#[derive(Debug)]
pub struct ConfigError {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl ConfigError {
    pub(crate) fn new(errors: Vec<Problem>, warnings: Vec<Problem>) -> Self {
        Self { errors, warnings }
    }

    pub(crate) fn whole_file(name: &str, message: &str, hint: Option<&str>) -> Self {
        let draft = Draft {
            severity: Severity::Error,
            message: message.to_owned(),
            span: None,
            label: String::new(),
            hint: hint.map(str::to_owned),
        };
        let source = Arc::new(SourceText::new(name, "", &[]));
        Self { errors: vec![Problem::new(draft, source)], warnings: Vec::new() }
    }

    /// The mistakes, in the order of the files; last what is nowhere in them.
    #[must_use]
    pub fn errors(&self) -> &[Problem] {
        &self.errors
    }

    /// For people.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let mut text = String::new();
        for problem in self.errors.iter().chain(&self.warnings).take(SHOWN) {
            text.push_str(&problem.render(colours));
            text.push_str("\n\n");
        }
        let hidden = (self.errors.len() + self.warnings.len()).saturating_sub(SHOWN);
        if hidden > 0 {
            text.push_str(&format!("and {hidden} more\n"));
        }
        text
    }

    /// For programs: mistakes and warnings.
    #[must_use]
    pub fn to_json(&self) -> Vec<Value> {
        self.errors.iter().chain(&self.warnings).map(Problem::to_json).collect()
    }
}

impl fmt::Display for ConfigError {
    /// One line with every mistake, as far as a line of a log goes.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.errors.iter().take(SHOWN_IN_A_LINE).enumerate() {
            let between = if nth == 0 { "" } else { "; " };
            write!(out, "{between}{problem}")?;
        }
        match self.errors.len().saturating_sub(SHOWN_IN_A_LINE) {
            0 => Ok(()),
            more => write!(out, "; and {more} more (`snapring check` shows them)"),
        }
    }
}

impl std::error::Error for ConfigError {}
