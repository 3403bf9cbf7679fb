//! How long to wait before the next look.

use std::time::Duration;

/// Between two looks for a snapshot in progress, at most: snapshots take minutes.
const COMPLETION_MAX: Duration = Duration::from_secs(60);

/// Between two looks for a create whose answer never came, at most.
const SETTLING_MAX: Duration = Duration::from_secs(8);

const FIRST: Duration = Duration::from_secs(1);

/// The wait before the next look for a snapshot that has been in progress for `passed`: the looks
/// double their distance, so that both a snapshot of seconds and one of half an hour cost few.
#[must_use]
pub fn completion(passed: Duration) -> Duration {
    passed.clamp(FIRST, COMPLETION_MAX)
}

/// The wait before the next look for something that should show up, or go, within seconds.
#[must_use]
pub fn settling(passed: Duration) -> Duration {
    passed.clamp(FIRST, SETTLING_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_ten_minutes_costs_sixteen_looks_and_is_found_within_a_minute() {
        let (mut passed, mut looks) = (Duration::ZERO, 0);
        while passed < Duration::from_secs(600) {
            passed += completion(passed);
            looks += 1;
        }
        assert_eq!(looks, 16);
        assert!(passed < Duration::from_secs(660));
    }
}
