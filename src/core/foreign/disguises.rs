//! Secrets that a text shows in another form: in upper case, broken into lines, with escapes of terminals or invisible
//! characters inside, in base64 or hexadecimal, or without their beginning or end.

use std::ops::Range;

/// How many letters and digits of a secret must be the same. Fewer could be an ordinary word.
const SHORTEST: usize = 12;

/// How many characters of a token, one after the other, are masked without the rest.
const SHORTEST_PART: usize = 12;

/// How many bytes that are neither letters nor digits may be between two letters of a secret.
const LONGEST_GAP: usize = 24;

/// The forms in which a secret is found.
pub(super) struct Disguises {
    /// Letters and digits in lower case: of the secret, its hexadecimal form, and three of base64.
    plain: Vec<Vec<u8>>,
    /// A token, whose parts are masked.
    token: Option<Box<[u8]>>,
}

impl Disguises {
    /// Of any secret.
    pub(super) fn of(secret: &str) -> Self {
        let bytes = secret.as_bytes();
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![bytes.to_vec(), hexadecimal.into_bytes()];
        forms.extend((0..3).map(|shift| base64_inside(bytes, shift)));
        let plain = forms.iter().map(|form| Plain::of(form).letters);
        Self { plain: plain.filter(|it| it.len() >= SHORTEST).collect(), token: None }
    }

    /// Of a token.
    pub(super) fn of_token(token: &str) -> Self {
        let parts = (token.len() >= SHORTEST_PART).then(|| token.as_bytes().into());
        Self { token: parts, ..Self::of(token) }
    }

    /// Where they are in a text. `plain`: of that text.
    pub(super) fn in_text(&self, text: &[u8], plain: &Plain) -> Vec<Range<usize>> {
        let mut found: Vec<_> = self.plain.iter().flat_map(|it| plain.places_of(it)).collect();
        if let Some(token) = &self.token {
            found.extend(parts_of(token, text));
        }
        found
    }
}

/// Base64 of a secret that begins `shift` bytes after the beginning of a group, without the characters that what is
/// around it has a share in.
fn base64_inside(secret: &[u8], shift: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let whole = secret.get((3 - shift) % 3..).unwrap_or_default();
    let mut encoded = Vec::new();
    for group in whole.chunks_exact(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        let digits = [18, 12, 6, 0].map(|at| ALPHABET.get(bits >> at & 63).copied());
        encoded.extend(digits.into_iter().flatten());
    }
    encoded
}

/// Where long parts of a token are.
fn parts_of(token: &[u8], text: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let is_part = |part: &[u8]| token.windows(SHORTEST_PART).any(|it| it == part);
    for (at, part) in text.windows(SHORTEST_PART).enumerate() {
        if !is_part(part) {
            continue;
        }
        match found.last_mut() {
            Some(last) if last.end >= at => last.end = at + SHORTEST_PART,
            _ => found.push(at..at + SHORTEST_PART),
        }
    }
    found
}

/// The letters and digits of a text, in lower case.
pub(super) struct Plain {
    letters: Vec<u8>,
    /// Where each is in the text.
    places: Vec<usize>,
}

impl Plain {
    pub(super) fn of(text: &[u8]) -> Self {
        let (mut letters, mut places) = (Vec::new(), Vec::new());
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            if *byte == 0x1b {
                at += escape_sequence(text.get(at..).unwrap_or_default());
                continue;
            }
            if byte.is_ascii_alphanumeric() {
                letters.push(byte.to_ascii_lowercase());
                places.push(at);
            }
            at += 1;
        }
        Self { letters, places }
    }

    fn places_of(&self, what: &[u8]) -> Vec<Range<usize>> {
        let windows = self.letters.windows(what.len()).enumerate();
        windows
            .filter(|(_, it)| *it == what)
            .filter_map(|(at, _)| {
                let places = self.places.get(at..at + what.len())?;
                let is_one = places.windows(2).all(|two| match two {
                    [one, next] => next - one <= LONGEST_GAP,
                    _ => true,
                });
                is_one.then_some(*places.first()?..*places.last()? + 1)
            })
            .collect()
    }
}

/// How long a sequence like ESC [ 3 1 m is.
fn escape_sequence(text: &[u8]) -> usize {
    match text {
        [_, b'[', rest @ ..] => {
            let length = rest.iter().take(32).position(|it| (0x40..=0x7e).contains(it));
            length.map_or(2, |length| length + 3)
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::foreign::{ForeignText, mask_token};

    const TOKEN: &str = "vps_dressed0up_Kx7Qz1";

    #[rstest]
    #[case::upper_case("a VPS_DRESSED0UP_KX7QZ1 b", "a [token] b")]
    #[case::two_lines("a vps_dressed\r\n 0up_Kx7Qz1 b", "a [token] b")]
    #[case::a_terminals("vps_dres\u{1b}[0msed0up_\u{1b}[1;31mKx7Qz1", "[token]")]
    #[case::invisible("vps_dressed\u{200b}0up\u{ad}_Kx7\0Qz1", "[token]")]
    #[case::markdown("vps\\_dressed0up\\_Kx7Qz1", "[token]")]
    #[case::without_its_beginning("a dressed0up_Kx7Qz1 b", "a [token] b")]
    #[case::without_its_end("a vps_dressed0up_Kx b", "a [token] b")]
    #[case::hexadecimal("7670735f647265737365643075705f4b7837517a31", "[token]")]
    #[case::base64("dnBzX2RyZXNzZWQwdXBfS3g3UXox", "[token]")]
    #[case::base64_of_a_header(
        "QmVhcmVyIHZwc19kcmVzc2VkMHVwX0t4N1F6MQ==",
        "QmVhcmVyIHZw[token]MQ=="
    )]
    #[case::a_little_of_it("a dressed0up b", "a dressed0up b")]
    #[case::its_words_in_a_sentence("vps dressed 0up", "vps dressed 0up")]
    fn a_token_is_masked_in_any_form(#[case] text: &str, #[case] shown: &str) {
        mask_token(TOKEN);
        let said = ForeignText::from(text).to_string();
        assert_eq!(said, shown);
    }
}
