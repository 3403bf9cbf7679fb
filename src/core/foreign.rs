//! Text that comes from outside: names, states, errors of the provider, output of hooks.
//!
//! [`ForeignText`] keeps the bytes as they came, so that names are compared and read exactly. It shows them
//! in one way only: as one bounded, printable line in which secrets are masked.

mod disguises;
mod escapes;

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::{PoisonError, RwLock};

use serde::{Serialize, Serializer};

use crate::foreign::disguises::Disguises;
use crate::naming::{ManagedPrefix, Prefix, Tick};

/// How much of a text is shown, in characters.
pub const MAX_SHOWN: usize = 400;

/// How much of a text is kept, in bytes. Far more than any name of snapring's own.
const MAX_KEPT: usize = 4096;

/// Shorter secrets are not masked: they would be found within ordinary words.
const SHORTEST_SECRET: usize = 6;

/// Stands for a character that is not shown.
const NOT_SHOWN: char = '\u{fffd}';

/// What is masked wherever it appears in foreign text, the longest first. It is one list for the whole process,
/// because any text can repeat a secret.
static SECRETS: RwLock<Vec<Secret>> = RwLock::new(Vec::new());

struct Secret {
    text: Box<str>,
    mask: &'static str,
    disguises: Disguises,
}

/// Masks `secret` in all foreign text from now on, also as a service shows it that has decoded it from an address;
/// `mask` is shown in its place.
pub fn mask(secret: &str, mask: &'static str) {
    mask_literally(secret, mask);
    if secret.contains(['%', '+']) {
        mask_literally(&decoded(secret), mask);
        mask_literally(&decoded(&secret.replace('+', " ")), mask);
    }
}

/// The same for an API token. A long part of it is masked as well.
pub fn mask_token(token: &str) {
    add(token, "[token]", Disguises::of_token(token));
}

/// With the characters that percent signs stand for in an address.
#[must_use]
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let value = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *byte == b'%');
        bytes.push(value.unwrap_or(*byte));
        rest = if value.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn mask_literally(secret: &str, mask: &'static str) {
    add(secret, mask, Disguises::of(secret));
}

fn add(secret: &str, mask: &'static str, disguises: Disguises) {
    let is_known = |secrets: &[Secret]| secrets.iter().any(|it| &*it.text == secret);
    if secret.len() < SHORTEST_SECRET
        || is_known(&SECRETS.read().unwrap_or_else(PoisonError::into_inner))
    {
        return;
    }
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    let place = secrets.partition_point(|it| it.text.len() >= secret.len());
    secrets.insert(place, Secret { text: secret.into(), mask, disguises });
}

fn masked(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    for secret in secrets.iter() {
        if text.contains(&*secret.text) {
            text = text.replace(&*secret.text, secret.mask).into();
        }
    }
    match escapes::hidden(&text, &secrets) {
        Some(masked) => masked.into(),
        None => text,
    }
}

/// Text from outside. Its bytes can be compared, but not shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ForeignText(Box<str>);

impl ForeignText {
    /// The end of an output, as one line of at most [`MAX_SHOWN`] characters. If `is_cut`, something before
    /// it was lost, and it may begin within a secret.
    #[must_use]
    pub fn end_of(output: &[u8], is_cut: bool) -> Self {
        let text = String::from_utf8_lossy(output);
        let whole = match text.find(char::is_whitespace) {
            _ if !is_cut => &text,
            // A secret has no white space.
            Some(end) => text.get(end..).unwrap_or_default(),
            None => "",
        };
        let line = one_line(&masked(whole), usize::MAX);
        let begin = line.char_indices().rev().nth(MAX_SHOWN - 2).map_or(0, |(begin, _)| begin);
        let begun = if begin > 0 { "…" } else { "" };
        Self(format!("{begun}{}", line.get(begin..).unwrap_or_default()).into())
    }

    /// The beginning of a text, as one line with at most this number of characters.
    #[must_use]
    pub fn excerpt(text: &str, characters: usize) -> Self {
        Self(one_line(&masked(text), characters).into())
    }

    /// The tick in its name, if it is exactly the name of a managed snapshot.
    #[must_use]
    pub fn tick(&self, prefix: &ManagedPrefix) -> Option<Tick> {
        prefix.tick_of(&self.0)
    }

    /// The prefix with which it would be the name of a managed snapshot.
    #[must_use]
    pub fn managed_prefix(&self) -> Option<Prefix> {
        Prefix::in_name(&self.0)
    }

    /// Whether something is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these words are in it.
    #[must_use]
    pub fn contains(&self, words: &str) -> bool {
        self.0.contains(words)
    }

    /// Whether it begins with these words.
    #[must_use]
    pub fn starts_with(&self, words: &str) -> bool {
        self.0.starts_with(words)
    }

    /// What these words mean, by the bytes as they came. What comes of it cannot hold any of them.
    pub fn decide<T: Copy + 'static>(&self, decide: impl FnOnce(&str) -> T) -> T {
        decide(&self.0)
    }

    /// The bytes as they came: for decisions, never to be shown.
    pub(crate) fn raw(&self) -> &str {
        &self.0
    }

    fn shown(&self) -> Cow<'_, str> {
        match masked(&self.0) {
            Cow::Borrowed(text) if is_harmless(text) => text.into(),
            text => one_line(&text, MAX_SHOWN).into(),
        }
    }
}

impl From<&str> for ForeignText {
    fn from(text: &str) -> Self {
        if text.len() <= MAX_KEPT {
            return Self(text.into());
        }
        // Masked before it is cut, so that no part of a secret remains at its end.
        let text = masked(text);
        Self(text.get(..text.floor_char_boundary(MAX_KEPT)).unwrap_or_default().into())
    }
}

impl From<String> for ForeignText {
    fn from(text: String) -> Self {
        if text.len() <= MAX_KEPT { Self(text.into()) } else { Self::from(text.as_str()) }
    }
}

impl PartialEq<str> for ForeignText {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<ForeignText> for str {
    fn eq(&self, other: &ForeignText) -> bool {
        other == self
    }
}

impl PartialEq<&str> for ForeignText {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl fmt::Display for ForeignText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.shown())
    }
}

impl fmt::Debug for ForeignText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.shown())
    }
}

impl Serialize for ForeignText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}

/// Most text is, and is shown without a copy.
fn is_harmless(text: &str) -> bool {
    text.len() <= MAX_SHOWN
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        && !text.contains("  ")
        && text.trim().len() == text.len()
}

/// White space becomes single spaces. Other characters that cannot be seen, or that move others, become
/// [`NOT_SHOWN`].
fn one_line(text: &str, characters: usize) -> String {
    let mut line = String::new();
    let mut room = characters;
    for word in text.split_whitespace() {
        let space = if line.is_empty() { "" } else { " " };
        for character in space.chars().chain(word.chars()) {
            if room == 0 {
                line.truncate(line.trim_end().len());
                let _ = line.write_char('…');
                return line;
            }
            room -= 1;
            line.push(if is_shown(character) { character } else { NOT_SHOWN });
        }
    }
    line
}

/// Not control characters, and not those of Unicode that have no form of their own: direction, joining,
/// invisible operators, tags.
#[must_use]
pub fn is_shown(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
                | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_secret_is_masked_as_it_stands_in_an_address_and_decoded() {
        mask("Qp%2FwXyZ1+k%20j", "[q]");
        let shown = |text: &str| ForeignText::from(text).to_string();
        assert_eq!(shown("a Qp%2FwXyZ1+k%20j b"), "a [q] b");
        assert_eq!(shown("a Qp/wXyZ1+k j b"), "a [q] b");
        assert_eq!(shown("a Qp/wXyZ1 k j b"), "a [q] b");
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }

    #[rstest]
    #[case::percent("a%20vps%5Fescaped%2dsecret%21 b", "a%20[e] b")]
    #[case::all_of_it("%76%70%73_escaped-secret!", "[e]")]
    #[case::twice("vps%255Fescaped%25252dsecret!", "[e]")]
    #[case::json(r#"{"token":"vps\u005fescaped-secret\u0021"}"#, r#"{"token":"[e]"}"#)]
    #[case::of_a_program(r"b'vps\x5Fescaped-secret!'", "b'[e]'")]
    #[case::html("<b>vps&#95;escaped&#x2D;secret!</b>", "<b>[e]</b>")]
    #[case::two("%76ps_escaped-secret!, %76ps_escaped-secret!", "[e], [e]")]
    #[case::slashes(r"https:\/\/hooks\/AbC\/x&amp;y", r"https:\/\/hooks\/[u]")]
    #[case::another("vps%5Fescaped%2dsecre%21", "vps%5Fescaped%2dsecre%21")]
    #[case::broken("100% &#; &#x; \\u12 \\x %zz &amp", "100% &#; &#x; \\u12 \\x %zz &amp")]
    fn a_secret_is_masked_however_its_characters_are_escaped(
        #[case] text: &str,
        #[case] shown: &str,
    ) {
        mask("vps_escaped-secret!", "[e]");
        mask("AbC/x&y", "[u]");
        assert_eq!(ForeignText::from(text).to_string(), shown);
    }

    #[rstest]
    #[case("before-upgrade", "before-upgrade")]
    #[case("Übergrößen 日本語 ✓", "Übergrößen 日本語 ✓")]
    #[case("a\r\nb\t c\u{2028}d ", "a b c d")]
    #[case("red\u{1b}[31m", "red\u{fffd}[31m")]
    #[case("\u{202e}gnp.exe\u{200b}", "\u{fffd}gnp.exe\u{fffd}")]
    #[case("", "")]
    fn it_is_shown_as_one_printable_line(#[case] text: &str, #[case] shown: &str) {
        let text = ForeignText::from(text);
        assert_eq!(text.to_string(), shown);
        assert_eq!(format!("{text:?}"), format!("{shown:?}"));
    }

    #[test]
    fn it_is_compared_as_it_came_and_only_an_exact_name_is_managed() {
        let prefix: ManagedPrefix = "snapring".parse().unwrap();
        let name = "snapring-20261123T030000Z";
        let is_managed = |name: &str| ForeignText::from(name).tick(&prefix).is_some();
        assert!(is_managed(name));
        for other in
            [format!("{name}\n"), format!(" {name}"), format!("{name}{}", " ".repeat(9999))]
        {
            assert!(!is_managed(&other), "{other:?}");
            let other = ForeignText::from(other);
            assert!(other != name, "{other:?}");
        }
        // What is masked is still compared as it came.
        let name = "masked-20261123T030000Z";
        let prefix: ManagedPrefix = "masked".parse().unwrap();
        mask(name, "[masked]");
        assert!(ForeignText::from(name).tick(&prefix).is_some());
        assert_eq!(ForeignText::from(name).to_string(), "[masked]");
    }

    #[test]
    fn a_secret_is_masked_wherever_it_is_repeated_even_where_a_text_is_cut() {
        let secret = "vps_a-secret-of-this-test";
        mask(secret, "[token]");
        mask("test-and", "[short]");
        mask(&format!("{secret}-and-more"), "[longer]");
        mask("vps", "[too short]");
        let shown = |text: &str| ForeignText::from(text).to_string();
        assert_eq!(shown(&format!("curl -H '{secret}' vps")), "curl -H '[token]' vps");
        assert_eq!(shown(&format!("{secret}-and-more")), "[longer]");
        for length in (MAX_SHOWN - 30..MAX_SHOWN).chain(MAX_KEPT - 30..MAX_KEPT) {
            let text = format!("{}{secret}{}", "x".repeat(length), "y".repeat(9999));
            assert!(!shown(&text).contains("vps_a"), "{length}");
            assert!(!ForeignText::from(text.as_str()).contains("vps_a-secret-of"), "{length}");
            let text = format!("{}{secret}{}", "y".repeat(9999), "x".repeat(length));
            let end = ForeignText::end_of(text.as_bytes(), false).to_string();
            assert!(!end.contains("this-test"), "{end}");
        }
        let end = |text: &str| ForeignText::end_of(text.as_bytes(), true).to_string();
        assert_eq!(end("cret-of-this-test' and\n the end"), "and the end");
        assert_eq!(end("cret-of-this-test"), "");
    }

    #[test]
    fn the_end_of_an_output_is_its_last_characters() {
        let end = |text: &str| ForeignText::end_of(text.as_bytes(), false).to_string();
        assert_eq!(end("no such\n database\n"), "no such database");
        let long = end(&format!("begin {} end", "ä".repeat(9999)));
        assert!(long.starts_with("…ä") && long.ends_with("ä end"), "{long}");
        assert_eq!(long.chars().count(), MAX_SHOWN);
        assert_eq!(ForeignText::excerpt("abc def", 4).to_string(), "abc…");
    }

    proptest! {
        #[test]
        fn no_escape_of_any_of_its_characters_shows_a_secret(
            before in "[a-z%\\\\&#;ü]{0,8}",
            ways in proptest::collection::vec(0_usize..6, 19),
            after in "[a-z%\\\\&#;ü]{0,8}",
        ) {
            let secret = "vps_written-in-ways";
            mask(secret, "[w]");
            let written: String = secret.chars().zip(ways).map(|(it, way)| {
                let code = it as u32;
                match way {
                    0 => format!("%{code:02X}"),
                    1 => format!("%{code:02x}"),
                    2 => format!("\\u{code:04x}"),
                    3 => format!("\\x{code:02x}"),
                    4 => format!("&#{code};"),
                    _ => it.to_string(),
                }
            }).collect();
            let text = format!("{before} {written} {after}");
            let shown = ForeignText::from(text.as_str()).to_string();
            prop_assert!(shown.contains("[w]"), "{text:?}: {shown:?}");
        }

        #[test]
        fn any_text_is_one_bounded_printable_line(
            text in "(\\PC|\\p{C}|\\s|[a-z])*",
            times in 1_usize..40,
        ) {
            let shown = ForeignText::from(text.repeat(times)).to_string();
            prop_assert!(shown.chars().all(is_shown), "{shown:?}");
            prop_assert!(shown.chars().count() <= MAX_SHOWN + 1);
            prop_assert!(shown.len() <= text.repeat(times).len() * 3);
            prop_assert_eq!(ForeignText::from(shown.as_str()).to_string().chars().count() , shown.chars().count().min(MAX_SHOWN + 1));
        }
    }
}
