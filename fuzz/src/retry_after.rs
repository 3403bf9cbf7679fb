//! `Retry-After`: what is believed, and that it is never more than a day.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use snapring::provider::retry_after::{RETRY_AFTER_MAX, retry_after};

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let now = Timestamp::from_second(1_795_521_600).expect("in range");
    let span = retry_after(text, now);
    assert!(span.is_none_or(|span| span <= RETRY_AFTER_MAX));
    assert_eq!(retry_after(&format!(" {text}\t"), now), span);
    // As the time comes nearer, the wait grows no longer.
    let later = retry_after(text, now + Duration::from_secs(60));
    assert!(later.is_some() == span.is_some() && later <= span);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().map_or(Duration::MAX, Duration::from_secs);
        assert_eq!(span, Some(seconds.min(RETRY_AFTER_MAX)), "a number of seconds");
        // The same wait, said as a date.
        let wait = seconds.min(Duration::from_secs(1_000_000));
        let date = httpdate::fmt_http_date(SystemTime::from(now) + wait);
        assert_eq!(retry_after(&date, now), Some(wait.min(RETRY_AFTER_MAX)));
    }
}
