//! What all manual pages share.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// A manual page.
#[derive(Debug)]
pub(super) struct ManPage {
    pub(super) name: String,
    pub(super) section: &'static str,
    pub(super) text: String,
}

impl ManPage {
    /// What its file is called.
    pub(super) fn file(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }
}

/// The first of the changes is the newest, so its day is that of the release.
const CHANGES: &str = include_str!("../../../systemd/debian/changelog");

/// The day of the release, as `2026-11-25`; empty when the changes do not say.
pub(super) fn date() -> String {
    let signed = CHANGES.lines().find_map(|line| line.strip_prefix(" -- "));
    let day = signed.and_then(|line| line.split_once("  ")).map(|(_, day)| day.trim());
    let day = day.and_then(|day| jiff::fmt::rfc2822::parse(day).ok());
    day.map_or_else(String::new, |day| day.date().to_string())
}

/// The version, as it stands below a page.
pub(super) fn source() -> String {
    format!("snapring {}", env!("CARGO_PKG_VERSION"))
}

/// What stands above a page.
pub(super) const MANUAL: &str = "snapring";

/// A page of pieces, each of which may begin with what a page begins with.
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
        // What follows it is the head of an item, and one line.
        is_head = line == ".TP";
    }
    page
}

/// Breaks a line of running text where it grows too long to be read in the source.
fn wrap(page: &mut String, line: &str) {
    let mut width = 0;
    for word in line.split_whitespace() {
        // At a line's begin these two would be taken for a request.
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

/// A heading with paragraphs, separated by empty lines; a line that begins with spaces stands as it
/// is written.
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

/// A list of words with what they mean.
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

/// Other pages, in the order that they are given.
pub(super) fn see_also(roff: &mut Roff, pages: &[(&str, &str)]) {
    roff.control("SH", ["SEE ALSO"]);
    for (nth, (name, section)) in pages.iter().enumerate() {
        let end = if nth + 1 == pages.len() { "" } else { "," };
        roff.text([italic(*name), roman(format!("({section}){end}"))]);
    }
}
