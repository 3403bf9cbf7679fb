//! What all manual pages have in common.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// A manual page.
#[derive(Debug)]
pub(super) struct ManPage {
    pub(super) name: String,
    pub(super) section: &'static str,
    pub(super) text: String,
}

impl ManPage {
    /// The name of its file.
    pub(super) fn file(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }
}

/// The first entry is the newest, so its date is that of the release.
const CHANGES: &str = include_str!("../../../systemd/debian/changelog");

/// The date of the release, as `2026-11-25`; empty if there is none.
pub(super) fn date() -> String {
    let signed = CHANGES.lines().find_map(|line| line.strip_prefix(" -- "));
    let day = signed.and_then(|line| line.split_once("  ")).map(|(_, day)| day.trim());
    let day = day.and_then(|day| jiff::fmt::rfc2822::parse(day).ok());
    day.map_or_else(String::new, |day| day.date().to_string())
}

/// The version, shown at the bottom of a page.
pub(super) fn source() -> String {
    format!("snapring {}", env!("CARGO_PKG_VERSION"))
}

/// The title of the manual, shown at the top of a page.
pub(super) const MANUAL: &str = "snapring";

/// Joins pieces into a page. Each piece may begin with the header of a page, which is kept only once.
pub(super) fn whole(pieces: &str) -> String {
    let mut page = Roff::new().render();
    let pieces = pieces.replace(&page, "");
    let (mut as_written, mut is_head) = (false, false);
    for line in pieces.lines() {
        let request = line.starts_with('.');
        as_written = (as_written || line == ".nf") && line != ".fi";
        if request || as_written || is_head {
            page.push_str(line.trim_end());
            page.push('\n');
        } else {
            wrap(&mut page, line);
        }
        // The next line is the head of an item and must stay one line.
        is_head = line == ".TP";
    }
    page
}

/// Wraps a line of running text, so that the source can be read.
fn wrap(page: &mut String, line: &str) {
    let mut width = 0;
    for word in line.split_whitespace() {
        // At the start of a line, these two would begin a request.
        let bound = word.starts_with(['.', '\'']);
        if width > 0 && (bound || width + 1 + word.len() <= 80) {
            page.push(' ');
            width += 1;
        } else if width > 0 {
            page.push('\n');
            width = 0;
        }
        page.push_str(word);
        width += word.len();
    }
    page.push('\n');
}

/// A heading with paragraphs, separated by empty lines. Paragraphs that begin with spaces keep their line breaks.
pub(super) fn section(roff: &mut Roff, heading: &str, text: &str) {
    roff.control("SH", [heading]);
    paragraphs(roff, text);
}

/// The paragraphs of a section.
fn paragraphs(roff: &mut Roff, text: &str) {
    for (nth, paragraph) in text.split("\n\n").enumerate() {
        if nth > 0 {
            roff.control("PP", []);
        }
        let as_written = paragraph.starts_with("  ");
        if as_written {
            roff.control("RS", ["4"]);
            roff.control("nf", []);
        }
        for line in paragraph.lines() {
            roff.text(inlines(if as_written {
                line.strip_prefix("  ").unwrap_or(line)
            } else {
                line
            }));
        }
        if as_written {
            roff.control("fi", []);
            roff.control("RE", []);
        }
    }
}

/// A list of words with their meanings.
pub(super) fn meanings<'a>(
    roff: &mut Roff,
    heading: &str,
    items: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    roff.control("SH", [heading]);
    for (word, meaning) in items {
        roff.control("TP", []);
        roff.text([bold(word)]);
        roff.text(inlines(meaning));
    }
}

/// A line in which `this` is bold.
pub(super) fn inlines(text: &str) -> Vec<Inline> {
    let parts = text.split('`').enumerate();
    parts.map(|(nth, part)| if nth % 2 == 0 { roman(part) } else { bold(part) }).collect()
}

/// Other pages, in the given order.
pub(super) fn see_also(roff: &mut Roff, pages: &[(&str, &str)]) {
    roff.control("SH", ["SEE ALSO"]);
    for (nth, (name, section)) in pages.iter().enumerate() {
        let end = if nth + 1 == pages.len() { "" } else { "," };
        roff.text([italic(*name), roman(format!("({section}){end}"))]);
    }
}
