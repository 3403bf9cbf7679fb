//! Walking a TOML document so that one mistake hides no other.

use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::problem::{Draft, SECRET_WORDS, Severity, line_starts};
use crate::config::reference::example_of;
use crate::config::regions::Regions;
use crate::config::secret_files::SecretFiles;

/// Collects what is wrong, each thing once: a default that two servers take is one mistake.
#[derive(Default)]
pub(crate) struct Problems {
    pub(crate) drafts: Vec<Draft>,
    /// Ranges that must not be shown.
    pub(crate) secrets: Vec<Range<usize>>,
    /// What is in the files that it names.
    pub(crate) files: SecretFiles,
    seen: HashSet<Draft>,
    /// Where each line begins.
    line_starts: Vec<usize>,
    /// How many of the first ones are of the syntax, and where others may come of them.
    syntax_errors: usize,
    doubtful: Vec<Range<usize>>,
}

impl Problems {
    /// None yet, of a configuration that names these files.
    pub(crate) fn with(files: SecretFiles) -> Self {
        Self { files, ..Self::default() }
    }

    pub(crate) fn error(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add(Severity::Error, Some(span), message.into(), label.into(), hint);
    }

    /// Takes back what may come of an error of the syntax.
    pub(crate) fn forget_the_doubtful(&mut self) {
        let Self { drafts, syntax_errors, doubtful, .. } = self;
        let mut nth = 0;
        drafts.retain(|draft| {
            nth += 1;
            let is_in = |range: &Range<usize>| {
                draft.span.as_ref().is_some_and(|span| range.contains(&span.start))
            };
            nth <= *syntax_errors || !doubtful.iter().any(is_in)
        });
    }

    /// Of something that stands nowhere.
    pub(crate) fn error_of_the_whole(&mut self, message: &str, hint: &str) {
        let (message, hint) = (message.to_owned(), Some(hint.to_owned()));
        self.add(Severity::Error, None, message, String::new(), hint);
    }

    /// Of two that may not be alike the second is pointed at; the first's line is named beside it.
    pub(crate) fn error_like(
        &mut self,
        first: &Range<usize>,
        second: Range<usize>,
        message: String,
    ) {
        let line = self.line_starts.partition_point(|start| *start <= first.start).max(1);
        self.error(second, message, format!("line {line} has it already"), None);
    }

    pub(crate) fn warning(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add(Severity::Warning, Some(span), message.into(), label.into(), hint);
    }

    fn add(
        &mut self,
        severity: Severity,
        span: Option<Range<usize>>,
        message: String,
        label: String,
        hint: Option<String>,
    ) {
        let draft = Draft { severity, message, span, label, hint };
        if self.seen.insert(draft.clone()) {
            self.drafts.push(draft);
        }
    }
}

/// A value that may be missing, mistaken (which has been told), or good.
#[derive(Debug, Clone, Default)]
pub(crate) enum Parsed<T> {
    #[default]
    Absent,
    Mistaken,
    Good(T, Range<usize>),
}

impl<T> Parsed<T> {
    /// What stands in place of a missing one. A mistaken one is not replaced: that would hide it,
    /// or make a second mistake of it.
    pub(crate) fn or(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Absent => other(),
            given => given,
        }
    }

    pub(crate) fn and_then<U>(self, then: impl FnOnce(T, Range<usize>) -> Option<U>) -> Parsed<U> {
        match self {
            Self::Absent => Parsed::Absent,
            Self::Mistaken => Parsed::Mistaken,
            Self::Good(value, span) => match then(value, span.clone()) {
                Some(value) => Parsed::Good(value, span),
                None => Parsed::Mistaken,
            },
        }
    }

    pub(crate) fn good(self) -> Option<T> {
        match self {
            Self::Good(value, _) => Some(value),
            Self::Absent | Self::Mistaken => None,
        }
    }

    pub(crate) fn span(&self) -> Option<Range<usize>> {
        match self {
            Self::Good(_, span) => Some(span.clone()),
            Self::Absent | Self::Mistaken => None,
        }
    }
}

/// A parsed document: whatever could be understood of it.
pub(crate) struct TomlDocument<'i> {
    root: Spanned<DeTable<'i>>,
    /// Whether all of it could be understood.
    pub(crate) whole: bool,
}

impl<'i> TomlDocument<'i> {
    pub(crate) fn parse(text: &'i str, problems: &mut Problems) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let whole = errors.is_empty();
        problems.line_starts = line_starts(text);
        let start = |it: &toml::de::Error| it.span().unwrap_or(0..0).start;
        let mut regions = Regions::new(text, errors.iter().map(start));
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            let hint = unquoted(text, error, &span);
            if regions.take_first(span.start) {
                problems.error(span, format!("this is not TOML: {}", error.message()), "", hint);
            }
        }
        problems.syntax_errors = problems.drafts.len();
        problems.doubtful = regions.doubtful();
        Self { root, whole }
    }

    pub(crate) fn root(&self) -> Table<'_, 'i> {
        Table { table: self.root.get_ref(), name: "the configuration", span: 0..0 }
    }
}

/// How the value of a key is written, where one stands at this place that needs quotes.
fn unquoted(text: &str, error: &toml::de::Error, span: &Range<usize>) -> Option<String> {
    if !error.message().contains("must be quoted") {
        return None;
    }
    let before = text.get(..span.start)?;
    let line = before.lines().last()?.trim_end();
    if line.contains(['[', '{']) && text.get(span.clone())?.contains(' ') {
        return Some("is a comma missing?".to_owned());
    }
    let key = line.strip_suffix('=')?.trim();
    let header = before.lines().rev().map(str::trim).find(|line| line.starts_with('['))?;
    let example = match key {
        "schedule" => "\"0 3 * * *\"",
        _ => example_of(header, key)?,
    };
    Some(format!("write it like {key} = {example}"))
}

/// One table, asked key by key.
#[derive(Clone)]
pub(crate) struct Table<'a, 'i> {
    table: &'a DeTable<'i>,
    /// As a message calls it: `[api]`.
    name: &'static str,
    pub(crate) span: Range<usize>,
}

/// A key with the value beside it.
pub(crate) type Entry<'a, 'i> = &'a Spanned<DeValue<'i>>;

impl<'a, 'i> Table<'a, 'i> {
    /// Tells of every key that is not one of `known`.
    /// Whether there was none.
    pub(crate) fn refuse_others(&self, known: &[&str], problems: &mut Problems) -> bool {
        let before = problems.drafts.len();
        for (key, value) in self.table {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let near = nearest(name, known.iter().copied());
            let secret = SECRET_WORDS.iter().any(|word| name.to_ascii_lowercase().contains(word));
            if secret {
                hide(value, &mut problems.secrets);
            }
            // An address in the place of a key may be a webhook's, which is a secret.
            let address = name.contains('/');
            if address {
                problems.secrets.push(key.span());
            }
            // A key is anything in quotes, and a log line must stay one line.
            let name = if address { "…".to_owned() } else { name.escape_debug().to_string() };
            if secret && near.is_none() {
                problems.error(
                    key.span(),
                    format!("{} takes no `{name}`: a secret never stands in the configuration", self.name),
                    "",
                    Some("put the token into a file that only snapring can read, and name that file with `token_file` in [api]".to_owned()),
                );
                continue;
            }
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it takes {}", known.join(", ")),
            };
            problems.error(
                key.span(),
                format!("{} has no `{name}`", self.name),
                "unknown key",
                Some(hint),
            );
        }
        problems.drafts.len() == before
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry<'a, 'i>> {
        self.table.get(key)
    }

    /// A table under a key.
    pub(crate) fn table(
        &self,
        key: &'static str,
        name: &'static str,
        problems: &mut Problems,
    ) -> Parsed<Table<'a, 'i>> {
        let Some(value) = self.get(key) else { return Parsed::Absent };
        match value.get_ref().as_table() {
            Some(table) => Parsed::Good(Table { table, name, span: value.span() }, value.span()),
            None => {
                problems.error(
                    value.span(),
                    format!("`{key}` must be a table"),
                    "",
                    Some(format!("write {name}")),
                );
                Parsed::Mistaken
            }
        }
    }

    /// The tables of a list of tables.
    pub(crate) fn tables(
        &self,
        key: &'static str,
        name: &'static str,
        problems: &mut Problems,
    ) -> Parsed<Vec<Table<'a, 'i>>> {
        let Some(value) = self.get(key) else { return Parsed::Absent };
        let Some(items) = value.get_ref().as_array() else {
            problems.error(
                value.span(),
                format!("`{key}` must be a list of tables"),
                "",
                Some(format!("write {name}")),
            );
            return Parsed::Mistaken;
        };
        let mut tables = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => tables.push(Table { table, name, span: item.span() }),
                None => problems.error(
                    item.span(),
                    format!("an item of `{key}` must be a table"),
                    "",
                    Some(format!("write {name}")),
                ),
            }
        }
        Parsed::Good(tables, value.span())
    }

    pub(crate) fn string(&self, key: &'static str, problems: &mut Problems) -> Parsed<&'a str> {
        let Some(value) = self.get(key) else { return Parsed::Absent };
        string(value, key, problems)
    }

    pub(crate) fn boolean(&self, key: &'static str, problems: &mut Problems) -> Parsed<bool> {
        let Some(value) = self.get(key) else { return Parsed::Absent };
        match value.get_ref().as_bool() {
            Some(boolean) => Parsed::Good(boolean, value.span()),
            None => mistake(value, &format!("`{key}` is true or false"), None, problems),
        }
    }

    pub(crate) fn integer(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
        problems: &mut Problems,
    ) -> Parsed<u64> {
        let Some(value) = self.get(key) else { return Parsed::Absent };
        integer(value, key, range, problems)
    }
}

/// Puts all that a value holds among what must not be shown.
///
/// The span of a table is that of its header or its first key, so its values are hidden one by one.
fn hide(value: Entry<'_, '_>, secrets: &mut Vec<Range<usize>>) {
    let mut pending = vec![value];
    while let Some(value) = pending.pop() {
        match value.get_ref() {
            DeValue::Table(table) => pending.extend(table.values()),
            DeValue::Array(items) => pending.extend(items.iter()),
            _ => secrets.push(value.span()),
        }
    }
}

pub(crate) fn string<'a>(
    value: Entry<'a, '_>,
    key: &str,
    problems: &mut Problems,
) -> Parsed<&'a str> {
    match value.get_ref().as_str() {
        Some(text) => Parsed::Good(text, value.span()),
        None => mistake(value, &format!("`{key}` must be a text in quotes"), None, problems),
    }
}

pub(crate) fn integer(
    value: Entry<'_, '_>,
    key: &str,
    range: RangeInclusive<u64>,
    problems: &mut Problems,
) -> Parsed<u64> {
    let bounds = format!("from {} to {}", range.start(), range.end());
    integer_within(value, key, range, &bounds, problems)
}

/// The same with bounds in words of their own.
pub(crate) fn integer_within(
    value: Entry<'_, '_>,
    key: &str,
    range: RangeInclusive<u64>,
    bounds: &str,
    problems: &mut Problems,
) -> Parsed<u64> {
    let number = value.get_ref().as_integer().and_then(|integer| {
        let digits = integer.as_str().replace('_', "");
        i128::from_str_radix(&digits, integer.radix()).ok()
    });
    let whole = format!("`{key}` must be a whole number {bounds}");
    match number.map(u64::try_from) {
        Some(Ok(number)) if range.contains(&number) => Parsed::Good(number, value.span()),
        Some(_) => refuse(value, whole, None, problems),
        None => {
            let digits = |text: &&str| text.parse::<u64>().is_ok();
            let quoted = value.get_ref().as_str().filter(digits);
            let hint = quoted.map(|number| format!("take the quotes off: {number}"));
            mistake(value, &whole, hint, problems)
        }
    }
}

/// Tells of a value that is of the right kind and cannot be taken.
pub(crate) fn refuse<T>(
    value: Entry<'_, '_>,
    message: impl Into<String>,
    hint: Option<String>,
    problems: &mut Problems,
) -> Parsed<T> {
    problems.error(value.span(), message, "", hint);
    Parsed::Mistaken
}

/// Tells of a value of another kind than was expected.
pub(crate) fn mistake<T>(
    value: Entry<'_, '_>,
    message: &str,
    hint: Option<String>,
    problems: &mut Problems,
) -> Parsed<T> {
    let label = match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    problems.error(value.span(), message, format!("this is {label}"), hint);
    Parsed::Mistaken
}

/// The known word that an unknown one was probably meant to be.
pub(crate) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    known
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}
