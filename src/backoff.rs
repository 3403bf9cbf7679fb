//! The waits between attempts.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Waits that double, from `first` up to `longest`, without end.
#[must_use]
pub(crate) fn doubling(first: Duration, longest: Duration) -> ExponentialBackoff {
    builder(first, longest).build()
}

/// The same with jitter, so that many that failed together do not retry together. `seed` draws it.
pub(crate) fn with_jitter(
    first: Duration,
    longest: Duration,
    seed: u64,
) -> impl Iterator<Item = Duration> + Send + use<> {
    // The jitter comes on top of the longest wait.
    builder(first, longest)
        .with_jitter()
        .with_jitter_seed(seed)
        .build()
        .map(move |wait| wait.min(longest))
}

fn builder(first: Duration, longest: Duration) -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).without_max_times()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_jitter_stays_within_it() {
        let seconds =
            |waits: Vec<Duration>| -> Vec<u64> { waits.iter().map(Duration::as_secs).collect() };
        let (first, longest) = (Duration::from_secs(10), Duration::from_secs(60));
        let waits: Vec<Duration> = doubling(first, longest).take(5).collect();
        assert_eq!(seconds(waits), [10, 20, 40, 60, 60]);
        for seed in 0..100 {
            let waits: Vec<Duration> = with_jitter(first, longest, seed).take(20).collect();
            assert!(waits.iter().all(|wait| (first..=longest).contains(wait)), "{waits:?}");
        }
    }
}
