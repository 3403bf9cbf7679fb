//! Tables for people. On a terminal that is too narrow, a table leaves columns out rather than break its lines.
//! Ids and names are never cut.

use std::cmp::Reverse;
use std::io::IsTerminal;

use terminal_size::{Width, terminal_size_of};
use unicode_width::UnicodeWidthStr;

/// What becomes of a column when the table is too wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Narrow {
    /// It stays.
    Stays,
    /// Its text is written below the row.
    Below,
    /// It is left out; the highest number first.
    Out(u8),
}

/// Between two columns.
const GAP: usize = 2;

/// Before a text below its row.
const INDENT: usize = 4;

/// The least room for a text below its row.
const LEAST_BELOW: usize = 20;

/// A table without lines, its columns two spaces apart.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(String, Narrow)>,
    rows: Vec<Vec<String>>,
}

/// A table of which every column stays.
#[must_use]
pub(super) fn table(header: &[&str]) -> Table {
    Table::new(header.iter().map(|title| (*title, Narrow::Stays)))
}

/// The lines of a table, as wide as the terminal has room; without one, as wide as it needs.
#[must_use]
pub(super) fn lines(table: &Table) -> String {
    table.lines(width_of_the_terminal())
}

fn width_of_the_terminal() -> Option<usize> {
    let out = std::io::stdout();
    let (Width(width), _) = terminal_size_of(&out).filter(|_| out.is_terminal())?;
    Some(usize::from(width))
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub(super) fn new<'t>(columns: impl IntoIterator<Item = (&'t str, Narrow)>) -> Self {
        let columns = columns.into_iter().map(|(title, narrow)| (title.to_uppercase(), narrow));
        Self { columns: columns.collect(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each column.
    pub(super) fn add_row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines, without the spaces at their ends.
    #[must_use]
    pub(super) fn lines(&self, room: Option<usize>) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|nth| self.width(nth)).collect();
        let (shown, below, out) = self.fit(&widths, room);
        let mut text = String::new();
        let header = self.columns.iter().map(|(title, _)| title.as_str()).collect::<Vec<_>>();
        line(&header, &widths, &shown, &mut text);
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            line(&cells, &widths, &shown, &mut text);
            for nth in &below {
                let cell = cells.get(*nth).copied().unwrap_or_default();
                if !matches!(cell, "" | "-") {
                    wrap(cell, room.unwrap_or(usize::MAX), &mut text);
                }
            }
        }
        if !out.is_empty() {
            let names: Vec<String> = out
                .iter()
                .filter_map(|nth| self.columns.get(*nth))
                .map(|(title, _)| title.to_lowercase())
                .filter(|title| !title.is_empty())
                .collect();
            if !names.is_empty() {
                text.push_str(&format!("(not shown at this width: {})\n", names.join(", ")));
            }
        }
        text
    }

    fn width(&self, nth: usize) -> usize {
        let title = self.columns.get(nth).map_or("", |(title, _)| title);
        let cells = self.rows.iter().filter_map(|row| row.get(nth)).map(String::as_str);
        cells.chain([title]).map(UnicodeWidthStr::width).max().unwrap_or(0)
    }

    /// The columns that are shown, those whose texts are below the rows, and those that are left out.
    fn fit(&self, widths: &[usize], room: Option<usize>) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let (mut below, mut out) = (Vec::new(), Vec::new());
        let Some(room) = room else { return (shown, below, out) };
        let narrow = |nth: &usize| self.columns.get(*nth).map_or(Narrow::Stays, |(_, it)| *it);
        let mut first_to_go: Vec<usize> =
            shown.iter().copied().filter(|nth| narrow(nth) != Narrow::Stays).collect();
        first_to_go.sort_by_key(|nth| match narrow(nth) {
            Narrow::Below => (0, Reverse(0)),
            Narrow::Out(number) => (1, Reverse(number)),
            Narrow::Stays => (2, Reverse(0)),
        });
        for nth in first_to_go {
            let taken: usize =
                shown.iter().filter_map(|nth| widths.get(*nth)).map(|width| width + GAP).sum();
            if taken.saturating_sub(GAP) <= room {
                break;
            }
            shown.retain(|it| *it != nth);
            if narrow(&nth) == Narrow::Below { below.push(nth) } else { out.push(nth) }
        }
        out.sort_unstable();
        (shown, below, out)
    }
}

fn line(cells: &[&str], widths: &[usize], shown: &[usize], text: &mut String) {
    let mut line = String::new();
    for nth in shown {
        let cell = cells.get(*nth).copied().unwrap_or_default();
        let width = widths.get(*nth).copied().unwrap_or(0) + GAP;
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// A text below its row. A word that is longer than the line stays whole.
fn wrap(cell: &str, room: usize, text: &mut String) {
    let room = room.saturating_sub(INDENT).max(LEAST_BELOW);
    let mut used = 0;
    for word in cell.split(' ') {
        let width = word.width();
        if used > 0 && used + 1 + width <= room {
            text.push(' ');
            text.push_str(word);
            used += 1 + width;
            continue;
        }
        if used > 0 {
            text.push('\n');
        }
        text.extend(std::iter::repeat_n(' ', INDENT));
        used = width;
        text.push_str(word);
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let columns = [
            ("server", Narrow::Stays),
            ("outcome", Narrow::Stays),
            ("took", Narrow::Out(2)),
            ("by", Narrow::Out(1)),
            ("reason", Narrow::Below),
        ];
        let mut table = Table::new(columns);
        table.add_row(["web-server-01", "failed", "4m 10s", "root", "it did not complete in 45m"]);
        table.add_row(["db", "rotated", "3m", "-", "-"]);
        table
    }

    #[test]
    fn without_a_terminal_every_column_is_there() {
        assert_eq!(
            example().lines(None),
            "SERVER         OUTCOME  TOOK    BY    REASON\n\
             web-server-01  failed   4m 10s  root  it did not complete in 45m\n\
             db             rotated  3m      -     -\n"
        );
    }

    #[test]
    fn on_a_narrow_terminal_texts_go_below_and_columns_are_left_out_by_name() {
        assert_eq!(
            example().lines(Some(40)),
            "SERVER         OUTCOME  TOOK    BY\n\
             web-server-01  failed   4m 10s  root\n    it did not complete in 45m\n\
             db             rotated  3m      -\n"
        );
        assert_eq!(
            example().lines(Some(28)),
            "SERVER         OUTCOME  BY\n\
             web-server-01  failed   root\n    it did not complete in\n    45m\n\
             db             rotated  -\n(not shown at this width: took)\n"
        );
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_and_no_name_is_cut() {
        for room in 26..80 {
            let text = example().lines(Some(room));
            let widest = text.lines().filter(|it| !it.starts_with('(')).map(str::len).max();
            assert!(widest.unwrap() <= room, "{room}:\n{text}");
            assert!(text.contains("web-server-01") && text.contains("db"), "{text}");
        }
        assert!(example().lines(Some(1)).contains("web-server-01  failed"));
    }

    #[test]
    fn wide_characters_take_two_places() {
        let mut table = table(&["name", "state"]);
        table.add_row(["日本", "ok"]);
        table.add_row(["a", "ok"]);
        assert_eq!(table.lines(None), "NAME  STATE\n日本  ok\na     ok\n");
    }
}
