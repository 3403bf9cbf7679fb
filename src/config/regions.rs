//! Where statements and tables begin in a text that may not be TOML.
//!
//! After a syntax error the parser goes on at a guess. What it finds in the rest of the same statement is
//! an echo of the first error, and what is missing in the same table may only not have been understood.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Where each statement begins: a key with its value, or the header of a table. One that is not closed
/// reaches to the end.
fn statements(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let (mut starts, mut depth, mut at) = (vec![0], 0_usize, 0);
    let mut is_header = false;
    while let Some(byte) = bytes.get(at) {
        match byte {
            // Nothing but a value has several lines.
            b'\n' if depth == 0 || is_header => {
                starts.push(at + 1);
                (depth, is_header) = (0, false);
            }
            b'[' if starts.last() == Some(&at) => (depth, is_header) = (1, true),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'#' => {
                at = find(bytes, at, b"\n").unwrap_or(bytes.len());
                continue;
            }
            b'"' | b'\'' => {
                at = behind_string(bytes, at, *byte);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    starts
}

/// Behind the text in quotes that begins here. One of a single line ends with it at the latest.
fn behind_string(bytes: &[u8], start: usize, quote: u8) -> usize {
    let three = [quote; 3];
    if bytes.get(start..).is_some_and(|rest| rest.starts_with(&three)) {
        return find(bytes, start + 3, &three).map_or(bytes.len(), |end| end + 3);
    }
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\n' => return at,
            b'\\' if quote == b'"' => at += 1,
            byte if *byte == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(what.len()).position(|it| it == what).map(|at| from + at)
}

/// The regions of a text.
pub(super) struct Regions<'t> {
    text: &'t str,
    /// Where each statement begins.
    statements: Vec<usize>,
    /// Those that are in error, by their number, each with the place of its first error.
    broken: BTreeMap<usize, usize>,
    /// Those of which the first error was told.
    told: BTreeSet<usize>,
}

impl<'t> Regions<'t> {
    /// `errors`: where each error of the syntax begins.
    pub(super) fn new(text: &'t str, errors: impl Iterator<Item = usize>) -> Self {
        let (broken, told) = (BTreeMap::new(), BTreeSet::new());
        let mut regions = Self { text, statements: statements(text), broken, told };
        for at in errors {
            let first = regions.broken.entry(regions.statement_of(at)).or_insert(at);
            *first = at.min(*first);
        }
        regions
    }

    fn statement_of(&self, at: usize) -> usize {
        self.statements.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// Whether an error at this place is more than the echo of one before it. Asked of each in turn.
    pub(super) fn take_first(&mut self, at: usize) -> bool {
        let statement = self.statement_of(at);
        self.broken.get(&statement) == Some(&at) && self.told.insert(statement)
    }

    /// Where a mistake may come of an error of the syntax: in its statement; at the header of its table,
    /// since that is where something that is missing is told; in all of the table, if it is the header that
    /// is in error; and at each server's header, if it is in the defaults or in a group.
    pub(super) fn doubtful(&self) -> Vec<Range<usize>> {
        let headers = self.headers();
        let mut doubtful = Vec::new();
        for nth in self.broken.keys() {
            doubtful.push(self.start_of(*nth)..self.start_of(nth + 1));
            let next = headers.partition_point(|header| header <= nth);
            let Some(header) = next.checked_sub(1).and_then(|it| headers.get(it)) else { continue };
            let end = if header == nth { headers.get(next).copied() } else { Some(header + 1) };
            doubtful.push(self.start_of(*header)..end.map_or(self.end(), |it| self.start_of(it)));
        }
        if self.shared_is_broken() {
            doubtful.extend(self.server_headers());
        }
        doubtful
    }

    /// Whether an error is in what servers, here or in another file, take from.
    pub(super) fn shared_is_broken(&self) -> bool {
        let headers = if self.broken.is_empty() { Vec::new() } else { self.headers() };
        self.broken.keys().any(|nth| {
            let next = headers.partition_point(|header| header <= nth);
            let header = next.checked_sub(1).and_then(|it| headers.get(it));
            header.is_some_and(|it| self.begins(*it, "[defaults") || self.begins(*it, "[group"))
        })
    }

    /// Where the headers of servers are.
    pub(super) fn server_headers(&self) -> Vec<Range<usize>> {
        let headers = self.headers().into_iter().filter(|nth| self.begins(*nth, "[[server"));
        headers.map(|nth| self.start_of(nth)..self.start_of(nth + 1)).collect()
    }

    /// Which statements are headers.
    fn headers(&self) -> Vec<usize> {
        (0..self.statements.len()).filter(|nth| self.begins(*nth, "[")).collect()
    }

    fn begins(&self, nth: usize, with: &str) -> bool {
        let rest = self.statements.get(nth).and_then(|start| self.text.get(*start..));
        rest.is_some_and(|rest| rest.trim_start_matches([' ', '\t']).starts_with(with))
    }

    fn start_of(&self, nth: usize) -> usize {
        self.statements.get(nth).copied().unwrap_or(self.end())
    }

    /// Behind all of the text. An error can be at its very end.
    fn end(&self) -> usize {
        self.text.len() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_its_value() {
        let text = "a = [\n 1, # ]\n \"]\\\"\"\n]\nb = '''\n[x]\n'''\nc = \"never closed\n[d\ne = [1\n[f]\ng = 2\n";
        let begun: Vec<&str> = statements(text)
            .into_iter()
            .map(|at| text.get(at..).unwrap().get(..3).unwrap_or(""))
            .collect();
        assert_eq!(begun, ["a =", "b =", "c =", "[d\n", "e ="]);
    }

    #[test]
    fn mistakes_are_doubtful_in_a_broken_statement_and_at_the_headers_that_depend_on_it() {
        let text = "x = 1\n[defaults]\nkeep = 2\n[api\ny = 1\n[[server]]\nid = 1\nz = 1\n";
        let at = |what| text.find(what).unwrap();
        let doubtful = |what| -> Vec<&str> {
            let found = Regions::new(text, [at(what)].into_iter()).doubtful();
            found
                .into_iter()
                .map(|it| text.get(it.start..it.end.min(text.len())).unwrap().trim_end())
                .collect()
        };
        assert_eq!(doubtful("id ="), ["id = 1", "[[server]]"]);
        assert_eq!(doubtful("x ="), ["x = 1"]);
        assert_eq!(doubtful("[api"), ["[api", "[api\ny = 1"]);
        assert_eq!(doubtful("keep"), ["keep = 2", "[defaults]", "[[server]]"]);
    }

    #[test]
    fn of_the_errors_in_a_statement_the_first_is_told() {
        let text = "a = [1 2 3]\nb = [\n1\n2\n]\n";
        let places = [9, 7, 7, 19, 21];
        let mut regions = Regions::new(text, places.into_iter());
        assert_eq!(places.map(|at| regions.take_first(at)), [false, true, false, true, false]);
    }
}
