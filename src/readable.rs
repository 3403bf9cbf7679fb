//! Times, spans and sizes in words for people.

use jiff::{SignedDuration, Timestamp};

/// How many servers.
#[must_use]
pub(crate) fn servers(count: usize) -> String {
    if count == 1 { "1 server".to_owned() } else { format!("{count} servers") }
}

/// A number with a comma before each three digits.
#[must_use]
pub(crate) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How long ago, in the two largest units: `3d 4h`.
#[must_use]
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let age = now.duration_since(then);
    if age.is_negative() {
        return format!("in {}", span(-age));
    }
    span(age)
}

/// A span in its two largest units.
#[must_use]
pub(crate) fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let largest = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(units.len() - 1);
    let mut left = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units.iter().skip(largest).take(2) {
        if left / size > 0 || parts.is_empty() {
            parts.push(format!("{}{unit}", left / size));
        }
        left %= size;
    }
    parts.join(" ")
}

/// A size in GiB or MiB.
#[must_use]
pub(crate) fn size(mebibytes: Option<u64>) -> String {
    match mebibytes {
        None => "-".to_owned(),
        Some(small) if small < 1024 => format!("{small} MiB"),
        Some(large) => format!("{}.{} GiB", large / 1024, large % 1024 * 10 / 1024),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_number_has_a_comma_before_each_three_digits() {
        let shown: Vec<_> = [0, 999, 1000, 20_000, 1_234_567].map(count).into();
        assert_eq!(shown, ["0", "999", "1,000", "20,000", "1,234,567"]);
    }

    #[rstest]
    #[case(0, "0s")]
    #[case(59, "59s")]
    #[case(3_600, "1h")]
    #[case(3_661, "1h 1m")]
    #[case(273_600, "3d 4h")]
    #[case(-90, "in 1m 30s")]
    fn an_age_is_told_in_its_two_largest_units(#[case] seconds: i64, #[case] expected: &str) {
        let then = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(age(then, then + SignedDuration::from_secs(seconds)), expected);
    }

    #[rstest]
    #[case(None, "-")]
    #[case(Some(1023), "1023 MiB")]
    #[case(Some(5120), "5.0 GiB")]
    #[case(Some(4856), "4.7 GiB")]
    fn a_size_is_told_in_whole_words(#[case] mebibytes: Option<u64>, #[case] expected: &str) {
        assert_eq!(size(mebibytes), expected);
    }
}
