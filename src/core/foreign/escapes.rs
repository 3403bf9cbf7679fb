//! Secrets in a text that escapes some of their characters, as it does who repeats an address or a header: percent
//! signs of addresses, backslashes of JSON and of programs, entities of HTML.
//!
//! Base64 and plain hexadecimal are not looked through: the token is never sent in them, so never echoed in them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Secret;

/// How often a text is unescaped. A proxy's page may quote an address that was quoted before.
const ROUNDS: usize = 3;

/// The text with these secrets masked, where escapes hide any.
pub(super) fn hidden(text: &str, secrets: &[Secret]) -> Option<String> {
    let mut unescaped = Unescaped::of(text);
    // By where they begin: where they end, and what is shown for them.
    let mut found: BTreeMap<usize, (usize, &'static str)> = BTreeMap::new();
    for _ in 0..ROUNDS {
        // Nothing was escaped: nothing new can be found.
        if !unescaped.unescape() {
            break;
        }
        for secret in secrets {
            for range in unescaped.places_of(secret.text.as_bytes()) {
                // They do not overlap, so the last one that begins before its end tells.
                let before = found.range(..range.end).next_back();
                if before.is_none_or(|(_, (end, _))| *end <= range.start) {
                    found.insert(range.start, (range.end, secret.mask));
                }
            }
        }
    }
    if found.is_empty() {
        return None;
    }
    let (mut masked, mut at) = (String::with_capacity(text.len()), 0);
    for (start, (end, mask)) in found {
        masked.push_str(text.get(at..text.floor_char_boundary(start)).unwrap_or_default());
        masked.push_str(mask);
        at = text.ceil_char_boundary(end);
    }
    masked.push_str(text.get(at..).unwrap_or_default());
    Some(masked)
}

/// A text without its escapes, and where each of its bytes comes from.
struct Unescaped {
    bytes: Vec<u8>,
    /// Where each begins in the text, and at last where the text ends.
    starts: Vec<usize>,
}

impl Unescaped {
    fn of(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), starts: (0..=text.len()).collect() }
    }

    /// Takes one layer of escapes off. Whether there was any.
    fn unescape(&mut self) -> bool {
        if !self.bytes.iter().any(|it| matches!(it, b'%' | b'\\' | b'&')) {
            return false;
        }
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        let (mut at, mut is_changed) = (0, false);
        while let (Some(rest), Some(start)) = (self.bytes.get(at..), self.starts.get(at))
            && let Some(byte) = rest.first()
        {
            let (value, length) = match escape(rest) {
                Some(escape) => {
                    is_changed = true;
                    escape
                }
                None => (*byte, 1),
            };
            bytes.push(value);
            starts.push(*start);
            at += length;
        }
        starts.extend(self.starts.last());
        (self.bytes, self.starts) = (bytes, starts);
        is_changed
    }

    /// Where these bytes are in the text.
    fn places_of(&self, what: &[u8]) -> Vec<Range<usize>> {
        let windows = self.bytes.windows(what.len()).enumerate();
        windows
            .filter(|(_, it)| *it == what)
            .filter_map(|(at, _)| Some(*self.starts.get(at)?..*self.starts.get(at + what.len())?))
            .collect()
    }
}

/// The character that an escape stands for, and its length. Secrets are ASCII: others stay as they are.
fn escape(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [b'%', digits @ ..] => number(digits, 2, 16).map(|value| (value, 3)),
        [b'\\', b'u', digits @ ..] => number(digits, 4, 16).map(|value| (value, 6)),
        [b'\\', b'x', digits @ ..] => number(digits, 2, 16).map(|value| (value, 4)),
        [b'\\', it @ (b'/' | b'\\' | b'"'), ..] => Some((*it, 2)),
        [b'&', b'a', b'm', b'p', b';', ..] => Some((b'&', 5)),
        [b'&', b'#', b'x' | b'X', digits @ ..] => {
            entity(digits, 16).map(|(it, long)| (it, long + 4))
        }
        [b'&', b'#', digits @ ..] => entity(digits, 10).map(|(it, long)| (it, long + 3)),
        _ => None,
    }
}

/// The value of digits that end with a semicolon, and how many there are.
fn entity(rest: &[u8], radix: u32) -> Option<(u8, usize)> {
    let length = rest.iter().take(8).position(|it| *it == b';')?;
    Some((number(rest, length, radix)?, length))
}

fn number(rest: &[u8], length: usize, radix: u32) -> Option<u8> {
    let digits = std::str::from_utf8(rest.get(..length)?).ok()?;
    let is_number = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_hexdigit());
    let value = u32::from_str_radix(digits, radix).ok().filter(|_| is_number)?;
    u8::try_from(value).ok().filter(u8::is_ascii)
}
