//! The values that only servers have: schedules, pins, hooks, texts.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use crate::config::document::{Entry, Parsed, Problems, Table, integer, mistake, refuse, string};
use crate::config::reference;
use crate::config::values::{DAY, duration};
use crate::foreign;
use crate::naming::SnapshotId;
use crate::server::Hooks;

pub(super) fn plain_text<'a>(
    key: &str,
    text: &'a str,
    most: usize,
    span: Range<usize>,
    problems: &mut Problems,
) -> Option<&'a str> {
    let problem = if !text.chars().all(foreign::is_shown) {
        "holds a line break or another character that is not shown".to_owned()
    } else if text.chars().count() > most {
        format!("has more than {most} characters")
    } else {
        return Some(text);
    };
    problems.error(span, format!("`{key}` {problem}"), "", None);
    None
}

pub(super) fn schedules<'a>(
    table: &Table<'a, '_>,
    problems: &mut Problems,
) -> Parsed<Vec<(&'a str, Range<usize>)>> {
    let Some(value) = table.get("schedule") else { return Parsed::Absent };
    match value.items() {
        Some(items) if items.len() == 0 => refuse(
            value,
            "`schedule` is an empty list",
            Some("write at least one, like \"0 3 * * *\"".to_owned()),
            problems,
        ),
        Some(items) => texts(items, "schedule", problems)
            .map_or(Parsed::Mistaken, |texts| Parsed::Good(texts, value.span())),
        None => string(value, "schedule", problems).and_then(|text, span| Some(vec![(text, span)])),
    }
}

pub(super) fn prefixes<'a>(
    table: &Table<'a, '_>,
    problems: &mut Problems,
) -> Parsed<Vec<(&'a str, Range<usize>)>> {
    let Some(value) = table.get("adopt_prefix") else { return Parsed::Absent };
    let Some(items) = value.items() else {
        let hint = Some("write adopt_prefix = [\"old\"]".to_owned());
        return mistake(value, "`adopt_prefix` is a list of prefixes", hint, problems);
    };
    texts(items, "adopt_prefix", problems)
        .map_or(Parsed::Mistaken, |texts| Parsed::Good(texts, value.span()))
}

fn texts<'a, 'i: 'a>(
    items: impl Iterator<Item = Entry<'a, 'i>>,
    key: &str,
    problems: &mut Problems,
) -> Option<Vec<(&'a str, Range<usize>)>> {
    let read: Vec<Option<(&str, Range<usize>)>> = items
        .map(|item| match string(item, key, problems) {
            Parsed::Good(text, span) => Some((text, span)),
            Parsed::Absent | Parsed::Mistaken => None,
        })
        .collect();
    read.into_iter().collect()
}

pub(super) fn pins(table: &Table<'_, '_>, problems: &mut Problems) -> Option<BTreeSet<SnapshotId>> {
    let Some(value) = table.get("pin") else { return Some(BTreeSet::new()) };
    let Some(items) = value.items() else {
        let hint = Some("write pin = [801, 802]".to_owned());
        return mistake(value, "`pin` is a list of snapshot ids", hint, problems).good();
    };
    let ids: Vec<Option<u64>> =
        items.map(|item| integer(item, "pin", 1..=i64::MAX as u64, problems).good()).collect();
    ids.into_iter().map(|id| id.map(SnapshotId)).collect()
}

pub(super) fn hooks(table: &Table<'_, '_>, problems: &mut Problems) -> Parsed<Hooks> {
    let (hooks, span) = match table.table("hooks", "[server.hooks]", problems) {
        Parsed::Absent => return Parsed::Absent,
        Parsed::Mistaken => return Parsed::Mistaken,
        Parsed::Good(hooks, span) => (hooks, span),
    };
    hooks.refuse_others(&reference::names(reference::HOOKS.keys), problems);
    let before = argv(&hooks, "before", problems);
    let after = argv(&hooks, "after", problems);
    let second = Duration::from_secs(1);
    let timeout = duration(&hooks, "timeout", second..=DAY, problems)
        .or(|| Parsed::Good(Duration::from_secs(120), 0..0))
        .good();
    match (before, after, timeout) {
        (Some(before), Some(after), Some(timeout)) => {
            Parsed::Good(Hooks { before, after, timeout }, span)
        }
        _ => Parsed::Mistaken,
    }
}

fn argv(table: &Table<'_, '_>, key: &'static str, problems: &mut Problems) -> Option<Vec<String>> {
    let Some(value) = table.get(key) else { return Some(Vec::new()) };
    let hint = || {
        Some(format!("there is no shell; write {key} = [\"/usr/local/bin/program\", \"argument\"]"))
    };
    let Some(items) = value.items() else {
        return mistake(
            value,
            &format!("`{key}` is a program and its arguments"),
            hint(),
            problems,
        )
        .good();
    };
    let words = texts(items, key, problems)?;
    if words.first().is_none_or(|(program, _)| program.is_empty()) {
        return refuse(value, format!("`{key}` names no program"), hint(), problems).good();
    }
    Some(words.into_iter().map(|(word, _)| word.to_owned()).collect())
}
