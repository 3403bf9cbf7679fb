//! What `Retry-After` means. Any text gives a span that is believed, or nothing.

use std::num::IntErrorKind;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// The longest that a `Retry-After` is believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Seconds, or a date of HTTP, seen from `now`. `None` when it is neither.
#[must_use]
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let span = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => RETRY_AFTER_MAX,
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(SystemTime::from(now)).unwrap_or_default()
        }
    };
    Some(span.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::seconds("120", Some(120))]
    #[case::spaces_around(" 120\t", Some(120))]
    #[case::at_once("0", Some(0))]
    #[case::longer_than_is_believed("86401", Some(86_400))]
    #[case::the_largest_number("18446744073709551615", Some(86_400))]
    #[case::larger_than_any_number("18446744073709551616", Some(86_400))]
    #[case::a_date_ahead("Tue, 24 Nov 2026 12:01:30 GMT", Some(90))]
    #[case::a_date_far_ahead("Fri, 31 Dec 9999 23:59:59 GMT", Some(86_400))]
    #[case::a_date_gone_by("Tue, 24 Nov 2026 11:59:59 GMT", Some(0))]
    #[case::the_form_of_rfc_850("Tuesday, 24-Nov-26 12:01:30 GMT", Some(90))]
    #[case::negative("-1", None)]
    #[case::a_fraction("1.5", None)]
    #[case::another_zone("Tue, 24 Nov 2026 12:01:30 CET", None)]
    #[case::no_such_day("Tue, 31 Nov 2026 12:01:30 GMT", None)]
    #[case::words("soon", None)]
    #[case::nothing("", None)]
    fn seconds_and_dates_are_read_and_nothing_else(
        #[case] text: &str,
        #[case] seconds: Option<u64>,
    ) {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs));
    }
}
