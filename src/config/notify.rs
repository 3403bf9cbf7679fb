//! `[[notify]]`. Its addresses are secrets, whatever is wrong with them.

use std::ops::Range;
use std::time::Duration;

use crate::config::document::{Parsed, Problems, Table, mistake, nearest, string};
use crate::config::reference;
use crate::config::secret_files::url_or_file;
use crate::config::values::{DAY, duration};
use crate::foreign::is_shown;
use crate::notify::format::Format;
use crate::notify::instance::MAX_NAME;
use crate::notify::transitions::NoticeKind;
use crate::notify::webhook::Webhook;
use crate::notify::{NotifySettings, REMIND};

/// What a target may be notified of.
const EVENTS: [NoticeKind; 3] = [NoticeKind::Failure, NoticeKind::Recovery, NoticeKind::Success];

/// A service that is reminded more often is flooded.
const LEAST_REMIND: Duration = Duration::from_secs(60);

/// What is longer than a year is a mistake.
const MOST_REMIND: Duration = DAY.saturating_mul(366);

/// Reads all targets; `None` when one of them is mistaken.
pub(crate) fn read(root: &Table<'_, '_>, problems: &mut Problems) -> Option<Vec<NotifySettings>> {
    let tables = match root.tables("notify", "[[notify]]", problems) {
        Parsed::Good(tables, _) => tables,
        Parsed::Mistaken => return None,
        Parsed::Absent => return Some(Vec::new()),
    };
    let known = reference::names(reference::NOTIFY.keys);
    let mut targets: Vec<(NotifySettings, Range<usize>)> = Vec::with_capacity(tables.len());
    let mut all_good = true;
    for table in tables {
        table.refuse_others(&known, problems);
        let Some((target, span)) = target(&table, problems) else {
            all_good = false;
            continue;
        };
        let same = targets.iter().find(|(it, _)| it.url == target.url);
        if let Some((_, first)) = same {
            let message = "two [[notify]] have the same `url`".to_owned();
            problems.error_like(&first.clone(), span.clone(), message);
            all_good = false;
        }
        targets.push((target, span));
    }
    all_good.then(|| targets.into_iter().map(|(target, _)| target).collect())
}

fn target(
    table: &Table<'_, '_>,
    problems: &mut Problems,
) -> Option<(NotifySettings, Range<usize>)> {
    let url = url(table, problems);
    let format = format(table, problems);
    let on = on(table, problems);
    let (format, url) = format_of(format, url, problems);
    let on_span = on.span();
    let default = || match format {
        // A check must hear of what goes well too, or it takes silence for a failure.
        Some(Format::Healthchecks) => EVENTS.to_vec(),
        _ => vec![NoticeKind::Failure, NoticeKind::Recovery],
    };
    let on = on.or(|| Parsed::Good(default(), 0..0)).good();
    if let (Some(Format::Healthchecks), Some(on), Some(span)) = (format, &on, on_span)
        && !on.contains(&NoticeKind::Success)
    {
        problems.warning(
            span,
            "a check that is never pinged goes down",
            "",
            Some("leave `on` out, or add \"success\"".to_owned()),
        );
    }
    let (remind, instance) = (remind(table, problems), instance(table, problems));
    let span = url.span()?;
    let settings = NotifySettings {
        url: url.good()?,
        on: on?,
        format: format?,
        remind: remind.or(|| Parsed::Good(REMIND, 0..0)).good()?,
        instance: instance?,
    };
    Some((settings, span))
}

/// Without `format`, the address tells it where the service is known.
fn format_of(
    format: Parsed<Format>,
    url: Parsed<Webhook>,
    problems: &mut Problems,
) -> (Option<Format>, Parsed<Webhook>) {
    if let (Parsed::Absent, Parsed::Good(webhook, span)) = (&format, &url) {
        let known = Format::of_service(webhook);
        if known.is_none() {
            problems.warning(
                span.clone(),
                "`format` is not set, so snapring sends its own JSON, which other services may misread",
                "",
                Some(
                    "if that is right, add format = \"json\"; Discord takes \"slack\" at …/slack"
                        .to_owned(),
                ),
            );
        }
        return (Some(known.unwrap_or(Format::Json)), url);
    }
    (format.or(|| Parsed::Good(Format::Json, 0..0)).good(), url)
}

fn url(table: &Table<'_, '_>, problems: &mut Problems) -> Parsed<Webhook> {
    let example = || Some("write url = \"https://…\", as the service shows it".to_owned());
    let given = url_or_file(table, problems);
    if matches!(given, Parsed::Absent) {
        problems.error(table.span.clone(), "a [[notify]] has no `url`", "", example());
        return Parsed::Mistaken;
    }
    let what = if table.get("url").is_some() { "`url`" } else { "the address in the file" };
    given.and_then(|text, span| match Webhook::parse(&text) {
        Ok(webhook) => Some(webhook),
        Err(why) => {
            problems.error(span, format!("{what} {why}"), "", example());
            None
        }
    })
}

/// How often to be reminded; zero: never.
fn remind(table: &Table<'_, '_>, problems: &mut Problems) -> Parsed<Duration> {
    let span = duration(table, "remind", Duration::ZERO..=MOST_REMIND, problems);
    span.and_then(|span, place| {
        if !span.is_zero() && span < LEAST_REMIND {
            let message = "`remind` is too short: reminders would never stop".to_owned();
            let hint = "write \"1m\" or more, or \"0s\" for none";
            problems.error(place, message, "", Some(hint.to_owned()));
            return None;
        }
        Some(span)
    })
}

/// What this machine is called. The outer `None`: a mistake.
fn instance(table: &Table<'_, '_>, problems: &mut Problems) -> Option<Option<String>> {
    let name = table.string("instance", problems).and_then(|name, span| {
        let is_fine = !name.trim().is_empty()
            && name.chars().count() <= MAX_NAME
            && name.chars().all(is_shown);
        if !is_fine {
            let message =
                format!("`instance` must be 1 to {MAX_NAME} characters that can be shown");
            let hint =
                "a short name of this machine, like \"backup-1\"; the default is the host name";
            problems.error(span, message, "", Some(hint.to_owned()));
        }
        is_fine.then(|| name.trim().to_owned())
    });
    match name {
        Parsed::Mistaken => None,
        name => Some(name.good()),
    }
}

fn format(table: &Table<'_, '_>, problems: &mut Problems) -> Parsed<Format> {
    table.string("format", problems).and_then(|text, span| {
        let known = Format::ALL.map(Format::as_str);
        let format = Format::ALL.into_iter().find(|it| it.as_str() == text);
        if format.is_none() {
            let message = format!("there is no format{}", quoted(text, &span, problems));
            problems.error(span, message, "", Some(meant(text, &known)));
        }
        format
    })
}

fn on(table: &Table<'_, '_>, problems: &mut Problems) -> Parsed<Vec<NoticeKind>> {
    let Some(value) = table.get("on") else { return Parsed::Absent };
    let hint = || Some("write on = [\"failure\", \"recovery\"]".to_owned());
    let Some(items) = value.items() else {
        return mistake(value, "`on` is a list", hint(), problems);
    };
    if items.len() == 0 {
        problems.error(value.span(), "`on` is empty, so nothing would be reported", "", hint());
        return Parsed::Mistaken;
    }
    let mut events = Vec::with_capacity(items.len());
    let mut all_good = true;
    for item in items {
        let Parsed::Good(text, span) = string(item, "on", problems) else {
            all_good = false;
            continue;
        };
        match EVENTS.into_iter().find(|it| it.as_str() == text) {
            Some(event) => events.push(event),
            None => {
                let message = format!(
                    "there is no event{} that can be reported",
                    quoted(text, &span, problems)
                );
                problems.error(
                    span,
                    message,
                    "",
                    Some(meant(text, &EVENTS.map(NoticeKind::as_str))),
                );
                all_good = false;
            }
        }
    }
    if all_good { Parsed::Good(events, value.span()) } else { Parsed::Mistaken }
}

/// A word, unless it may be an address in the wrong place: that one is not repeated.
fn quoted(text: &str, span: &Range<usize>, problems: &mut Problems) -> String {
    if text.contains('/') {
        problems.secrets.push(span.clone());
        return " of that name".to_owned();
    }
    format!(" {text:?}")
}

fn meant(text: &str, known: &[&str]) -> String {
    match nearest(text, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("it is one of \"{}\"", known.join("\", \"")),
    }
}
