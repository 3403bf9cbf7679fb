//! How often, and for how long, a call that failed is made again.

use std::time::Duration;

use crate::call::Outcome;

/// For how long a busy provider is asked again, and the longest `Retry-After` that counts for a whole
/// account.
pub const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// What is left of it for one call.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    /// Tries that failed, without those that found the provider busy.
    failed: u32,
    /// Since when the provider has been busy, in uptime.
    busy_since: Option<Duration>,
}

impl Patience {
    /// Notes a try that ended like this at `now` (uptime). Whether another one may follow after `wait`.
    pub fn allows(
        &mut self,
        outcome: Outcome,
        retries: u32,
        wait: Duration,
        now: Duration,
    ) -> bool {
        if outcome == Outcome::Busy {
            let since = *self.busy_since.get_or_insert(now);
            return now.saturating_add(wait).saturating_sub(since) <= LONGEST_WAIT;
        }
        self.failed = self.failed.saturating_add(1);
        outcome.may_pass() && self.failed <= retries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(span: u64) -> Duration {
        Duration::from_secs(span)
    }

    #[test]
    fn tries_are_counted_and_a_busy_provider_is_given_fifteen_minutes() {
        let mut patience = Patience::default();
        let mut allows = |outcome, now| patience.allows(outcome, 2, seconds(30), seconds(now));
        assert!(allows(Outcome::ServerError, 0));
        assert!(allows(Outcome::Busy, 100));
        assert!(allows(Outcome::Throttled, 200));
        for now in 201..=970 {
            assert!(allows(Outcome::Busy, now), "{now}");
        }
        assert!(!allows(Outcome::Busy, 971));
        assert!(!allows(Outcome::Transport, 972), "the third that is counted");
    }

    #[test]
    fn what_will_not_pass_is_not_made_again() {
        for outcome in [
            Outcome::Rejected,
            Outcome::Unauthorized,
            Outcome::Forbidden,
            Outcome::NotFound,
            Outcome::Ok,
        ] {
            assert!(!Patience::default().allows(outcome, 4, seconds(1), seconds(0)), "{outcome:?}");
        }
    }
}
