//! Walking a TOML document so that one mistake hides no other.

use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::problem::{Draft, SECRET_WORDS, SHOWN, Severity, line_starts};
use crate::config::reference::example_of;
use crate::config::regions::Regions;
use crate::config::secret_files::SecretFiles;

/// No longer name is compared with those of keys.
const LONGEST_KEY: usize = 64;

/// Collects what is wrong, each thing once: a default that two servers take is one mistake.
#[derive(Default)]
pub(crate) struct Problems {
    pub(crate) drafts: Vec<Draft>,
    /// Ranges that must not be shown.
    pub(crate) secrets: Vec<Range<usize>>,
    /// What is in the files that it names.
    pub(crate) files: SecretFiles,
    /// A configuration without a server is no mistake.
    pub(crate) may_name_no_server: bool,
    /// Keys that a misspelt one in `[defaults]` is near to: what has them from there does not lack them.
    meant_in_defaults: HashSet<String>,
    seen: HashSet<Draft>,
    /// The files that were parsed, in their order.
    sources: Vec<Source>,
    /// How many of the first ones are of the syntax, and where others may come of them.
    pub(crate) syntax_errors: usize,
    doubtful: Vec<Range<usize>>,
}

/// A file among all that were read. Their texts lie one after the other, so a place in any of them is one
/// number.
struct Source {
    name: String,
    /// Where its text begins.
    base: usize,
    /// Where each line of it begins.
    line_starts: Vec<usize>,
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

    /// What has a key from `[defaults]` lacks it, unless it is misspelt there.
    pub(crate) fn lacks(&mut self, whose: &str, name: &str, at: Range<usize>, hint: &str) {
        if !self.meant_in_defaults.contains(name) {
            self.error(at, format!("{whose} has no `{name}`"), "", Some(hint.to_owned()));
        }
    }

    /// Takes back what may come of an error of the syntax.
    pub(crate) fn forget_the_doubtful(&mut self) {
        let Self { drafts, syntax_errors, doubtful, .. } = self;
        doubtful.sort_by_key(|range| range.start);
        // Until where the ranges reach that begin no later than each.
        let mut end = 0;
        for range in doubtful.iter_mut() {
            end = end.max(range.end);
            range.end = end;
        }
        let is_doubtful = |span: &Range<usize>| {
            let begun = doubtful.partition_point(|range| range.start <= span.start);
            let last = begun.checked_sub(1).and_then(|last| doubtful.get(last));
            last.is_some_and(|range| span.start < range.end)
        };
        let mut nth = 0;
        drafts.retain(|draft| {
            nth += 1;
            nth <= *syntax_errors || !draft.span.as_ref().is_some_and(is_doubtful)
        });
    }

    /// Adds what was found while the files were read.
    pub(crate) fn extend(&mut self, drafts: Vec<Draft>) {
        self.drafts.extend(drafts);
    }

    /// Of something that stands nowhere.
    pub(crate) fn error_of_the_whole(&mut self, message: &str, hint: &str) {
        let (message, hint) = (message.to_owned(), Some(hint.to_owned()));
        self.add(Severity::Error, None, message, String::new(), hint);
    }

    /// Of two that may not be alike the second is pointed at; the first's place is named beside it.
    pub(crate) fn error_like(
        &mut self,
        first: &Range<usize>,
        second: Range<usize>,
        message: String,
    ) {
        let label = match (self.source_of(first), self.source_of(&second)) {
            (Some(it), Some(other)) if it.base != other.base => {
                format!("{}:{} has it already", it.name, it.line(first))
            }
            (it, _) => format!("line {} has it already", it.map_or(1, |it| it.line(first))),
        };
        self.error(second, message, label, None);
    }

    fn source_of(&self, span: &Range<usize>) -> Option<&Source> {
        let nth = self.sources.partition_point(|it| it.base <= span.start);
        self.sources.get(nth.checked_sub(1)?)
    }

    /// In which file and line a place is.
    pub(crate) fn file_and_line(&self, span: &Range<usize>) -> Option<(&str, usize)> {
        self.source_of(span).map(|it| (it.name.as_str(), it.line(span)))
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

impl Source {
    fn line(&self, span: &Range<usize>) -> usize {
        let at = span.start.saturating_sub(self.base);
        self.line_starts.partition_point(|start| *start <= at).max(1)
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
    /// The default of a missing one. A mistaken one is not replaced: that would hide it,
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

/// The text of a file, and where it begins among all that were read.
#[derive(Clone, Copy)]
pub(crate) struct FileText<'i> {
    pub(crate) name: &'i str,
    pub(crate) text: &'i str,
    pub(crate) base: usize,
}

/// A parsed document: whatever could be understood of it.
pub(crate) struct TomlDocument<'i> {
    root: Spanned<DeTable<'i>>,
    base: usize,
    /// Whether all of it could be understood.
    pub(crate) whole: bool,
}

impl<'i> TomlDocument<'i> {
    /// Parses files. What a broken table of one would have given to servers of another is not missed there.
    pub(crate) fn parse_all(files: &[FileText<'i>], problems: &mut Problems) -> Vec<Self> {
        let mut shared_is_broken = false;
        let mut documents = Vec::with_capacity(files.len());
        for file in files {
            let (document, regions) = Self::parse_file(*file, problems);
            shared_is_broken |= regions.shared_is_broken();
            documents.push(document);
        }
        problems.syntax_errors = problems.drafts.len();
        if shared_is_broken {
            for file in files {
                let regions = Regions::new(file.text, std::iter::empty());
                problems.doubtful.extend(shifted(regions.server_headers(), file.base));
            }
        }
        documents
    }

    /// Parses a single file.
    pub(crate) fn parse(text: &'i str, problems: &mut Problems) -> Self {
        let (document, _) = Self::parse_file(FileText { name: "", text, base: 0 }, problems);
        problems.syntax_errors = problems.drafts.len();
        document
    }

    fn parse_file(file: FileText<'i>, problems: &mut Problems) -> (Self, Regions<'i>) {
        let FileText { name, text, base } = file;
        let (root, errors) = DeTable::parse_recoverable(text);
        let whole = errors.is_empty();
        let line_starts = line_starts(text);
        problems.sources.push(Source { name: name.to_owned(), base, line_starts });
        let start = |it: &toml::de::Error| it.span().unwrap_or(0..0).start;
        let mut regions = Regions::new(text, errors.iter().map(start));
        let mut explained = 0;
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            if !regions.take_first(span.start) {
                continue;
            }
            // What explains an error is looked for in all of the text before it. Of a text that is no TOML at all,
            // every line is an error.
            explained += 1;
            let is_explained = explained <= SHOWN;
            let message = format!("this is not TOML: {}", error.message());
            let global = base + span.start..base + span.end;
            let is_twice = is_explained && error.message() == "duplicate key";
            let hint = || is_explained.then(|| unquoted(text, error, &span)).flatten();
            match is_twice.then(|| first_header(text, span.start)).flatten() {
                Some(first) => problems.error_like(&(base + first..base + first), global, message),
                None => problems.error(global, message, "", hint()),
            }
        }
        problems.doubtful.extend(shifted(regions.doubtful(), base));
        (Self { root, base, whole }, regions)
    }

    pub(crate) fn root(&self) -> Table<'_, 'i> {
        let table = self.root.get_ref();
        Table { table, name: "the configuration", span: self.base..self.base, base: self.base }
    }
}

fn shifted(ranges: Vec<Range<usize>>, base: usize) -> impl Iterator<Item = Range<usize>> {
    ranges.into_iter().map(move |it| base + it.start..base + it.end)
}

/// Where the header of a table stands for the first time, if it stands at this place again.
fn first_header(text: &str, at: usize) -> Option<usize> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |it| it + 1);
    let header = text.get(start..)?.lines().next()?.trim();
    let mut lines = text.get(..start)?.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line))
    });
    let is_header = header.starts_with('[');
    lines.find(|(_, line)| is_header && line.trim() == header).map(|(start, _)| start)
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
    /// Where its file begins.
    base: usize,
}

/// A value, with its place among all files.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a, 'i> {
    value: &'a Spanned<DeValue<'i>>,
    base: usize,
}

impl<'a, 'i> Entry<'a, 'i> {
    pub(crate) fn get_ref(self) -> &'a DeValue<'i> {
        self.value.get_ref()
    }

    pub(crate) fn span(self) -> Range<usize> {
        let span = self.value.span();
        self.base + span.start..self.base + span.end
    }

    /// The items of a list.
    pub(crate) fn items(self) -> Option<impl ExactSizeIterator<Item = Entry<'a, 'i>>> {
        let base = self.base;
        Some(self.get_ref().as_array()?.iter().map(move |value| Entry { value, base }))
    }

    /// The table that it is, which messages call by this name.
    pub(crate) fn table(self, name: &'static str) -> Option<Table<'a, 'i>> {
        let table = self.get_ref().as_table()?;
        Some(Table { table, name, span: self.span(), base: self.base })
    }
}

impl<'a, 'i> Table<'a, 'i> {
    /// Tells of every key that is not one of `known`.
    /// Whether there was none.
    pub(crate) fn refuse_others(&self, known: &[&str], problems: &mut Problems) -> bool {
        let before = problems.drafts.len();
        for (name, key, value) in self.entries() {
            if known.contains(&name) {
                continue;
            }
            let near = Some(name).filter(|it| it.len() <= LONGEST_KEY);
            let near = near.and_then(|name| nearest(name, known.iter().copied()));
            let secret = SECRET_WORDS.iter().any(|word| name.to_ascii_lowercase().contains(word));
            if secret {
                hide(value, &mut problems.secrets);
            }
            // An address in the place of a key may be a webhook's, which is a secret.
            let address = name.contains('/');
            if address {
                problems.secrets.push(key.clone());
            }
            // A key is anything in quotes, and a log line must stay one line.
            let name = if address { "…".to_owned() } else { name.escape_debug().to_string() };
            if secret && near.is_none() {
                problems.error(
                    key,
                    format!("{} does not accept `{name}`: never put a secret into the \
                         configuration", self.name),
                    "",
                    Some("put the token into a file that only snapring can read, and name that file with \
                         `token_file` in [api]".to_owned()),
                );
                continue;
            }
            if let Some(near) = near.filter(|_| self.name == "[defaults]") {
                problems.meant_in_defaults.insert(near.to_owned());
            }
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it takes {}", known.join(", ")),
            };
            problems.error(
                key,
                format!("unknown key `{name}` in {}", self.name),
                "unknown key",
                Some(hint),
            );
        }
        problems.drafts.len() == before
    }

    /// The same table, which messages call by another name.
    pub(crate) fn named(&self, name: &'static str) -> Self {
        Self { name, ..self.clone() }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry<'a, 'i>> {
        self.table.get(key).map(|value| Entry { value, base: self.base })
    }

    /// Every key, its place, and its value.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, Range<usize>, Entry<'a, 'i>)> {
        let base = self.base;
        self.table.iter().map(move |(key, value)| {
            let span = key.span();
            (key.get_ref().as_ref(), base + span.start..base + span.end, Entry { value, base })
        })
    }

    /// The place of a key.
    pub(crate) fn place_of(&self, key: &str) -> Option<Range<usize>> {
        let span = self.table.get_key_value(key)?.0.span();
        Some(self.base + span.start..self.base + span.end)
    }

    /// A table under a key.
    pub(crate) fn table(
        &self,
        key: &'static str,
        name: &'static str,
        problems: &mut Problems,
    ) -> Parsed<Table<'a, 'i>> {
        let Some(value) = self.get(key) else { return Parsed::Absent };
        match value.table(name) {
            Some(table) => Parsed::Good(table, value.span()),
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
        let Some(items) = value.items() else {
            problems.error(
                value.span(),
                format!("`{key}` must be a list of tables"),
                "",
                Some(format!("write {name}")),
            );
            return Parsed::Mistaken;
        };
        let mut tables = Vec::with_capacity(items.len());
        for item in items {
            match item.table(name) {
                Some(table) => tables.push(table),
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
pub(crate) fn hide(value: Entry<'_, '_>, secrets: &mut Vec<Range<usize>>) {
    let base = value.base;
    let mut pending = vec![value.value];
    while let Some(value) = pending.pop() {
        match value.get_ref() {
            DeValue::Table(table) => pending.extend(table.values()),
            DeValue::Array(items) => pending.extend(items.iter()),
            _ => secrets.push(Entry { value, base }.span()),
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
