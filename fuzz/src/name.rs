//! Whose is a name? Judged a second time here, by other means.
//!
//! The input is a prefix, a line's end, and a name.

use jiff::Timestamp;
use snapring::naming::{Prefix, Tick, is_name_character};

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (prefix, name) = text.split_once('\n').unwrap_or(("snapring", text));
    let Ok(prefix) = prefix.parse::<Prefix>() else {
        let good = prefix.len() <= Prefix::MAX_LEN
            && prefix.starts_with(|it: char| it.is_ascii_alphabetic())
            && prefix.chars().all(is_name_character);
        assert!(!good, "refused without a reason");
        return;
    };
    let tick = prefix.tick_of(name);
    assert_eq!(tick.is_some(), is_managed(prefix.as_str(), name), "{name:?}");
    if let Some(tick) = tick {
        assert_eq!(prefix.name(tick), name);
        assert!(name.len() <= 40 && name.chars().all(is_name_character));
    }
    // And the other way: whatever we write, we know again.
    let second = name.bytes().fold(0_i64, |sum, byte| sum.wrapping_mul(257) + i64::from(byte));
    let tick =
        Tick::at(Timestamp::from_second(second.rem_euclid(253_402_200_000)).expect("in range"));
    assert_eq!(prefix.tick_of(&prefix.name(tick)), Some(tick));
}

/// The contract's sentence, letter by letter.
fn is_managed(prefix: &str, name: &str) -> bool {
    let bytes = name.as_bytes();
    let Some(stamp) = bytes.len().checked_sub(16).map(|at| &bytes[at..]) else { return false };
    let form = stamp.iter().enumerate().all(|(at, byte)| match at {
        8 => *byte == b'T',
        15 => *byte == b'Z',
        _ => byte.is_ascii_digit(),
    });
    if !form || bytes[..bytes.len() - 16] != *format!("{prefix}-").as_bytes() {
        return false;
    }
    let number = |range: std::ops::Range<usize>| {
        stamp[range].iter().fold(0_u32, |sum, byte| sum * 10 + u32::from(byte - b'0'))
    };
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        1..=12 => 31,
        _ => 0,
    };
    let real = (1..=days).contains(&day)
        && number(9..11) < 24
        && number(11..13) < 60
        && number(13..15) < 60;
    // jiff's last instant is at 9999-12-30T22:00Z; no schedule gets there.
    let in_range = (year, month, day, number(9..11)) < (9999, 12, 30, 22)
        || name.ends_with("99991230T220000Z");
    real && in_range
}
