//! A policy in one sentence.

use jiff::{SignedDuration, Timestamp};

use crate::policy::{Keep, Rule};
use crate::readable::span;
use crate::rehearsal::{Ideal, Reach, ideal};
use crate::server::Server;
use crate::wording::listed;

/// What is tried of a policy: some years of a nightly one, some weeks of an hourly one.
const TICKS_TRIED: usize = 1500;
const TRIED_FOR: SignedDuration = SignedDuration::from_hours(24 * 366 * 3);

/// When a server is rotated, how many snapshots are kept, and how far they reach back.
#[must_use]
pub(super) fn sentence(server: &Server, now: Timestamp) -> String {
    let to = now.saturating_add(TRIED_FOR).unwrap_or(Timestamp::MAX);
    let Ideal { reach, unfilled, filled, last } = ideal(server, now, to, TICKS_TRIED);
    let tried = last.zip(filled).map(|(last, filled)| last.duration_since(filled));
    let longest = server.policy.keep.rules().last().map_or(SignedDuration::ZERO, |it| period(*it));
    let reach = match reach {
        Some(_) if server.policy.keep.total() == 1 => "one snapshot, the newest".to_owned(),
        Some(reach) if tried.is_some_and(|tried| tried < longest * 2) => {
            format!("reaches back about {}; see `snapring simulate --days 800`", from_to(reach))
        }
        Some(reach) => format!("reaches back {}", from_to(reach)),
        None if unfilled.is_empty() => {
            "its schedule has too few ticks to say how far back".to_owned()
        }
        None => format!("its {} slots take longer to fill than could be tried", rules(&unfilled)),
    };
    format!("{}; keeps {}; {reach}", schedule(server), kept(&server.policy.keep))
}

/// `4 (last 2, hourly 2)`, or the number alone where `last` is the only rule.
fn kept(keep: &Keep) -> String {
    let rules = keep.rules();
    if rules.iter().all(|rule| *rule == Rule::Last) {
        return keep.total().to_string();
    }
    let each = rules.iter().map(|rule| format!("{} {}", rule.as_str(), keep.count(*rule)));
    format!("{} ({})", keep.total(), each.collect::<Vec<_>>().join(", "))
}

/// How long a rule's period is at most.
fn period(rule: Rule) -> SignedDuration {
    SignedDuration::from_hours(match rule {
        Rule::Last => 0,
        Rule::Hourly => 1,
        Rule::Daily => 25,
        Rule::Weekly => 24 * 7 + 1,
        Rule::Monthly => 24 * 31 + 1,
        Rule::Yearly => 24 * 366,
    })
}

/// `every day at 03:00 Europe/Berlin`.
#[must_use]
pub(super) fn schedule(server: &Server) -> String {
    let words =
        server.schedules.iter().map(|it| it.words().unwrap_or_else(|| it.text().to_owned()));
    let words: Vec<String> = words.collect();
    let zone = server.policy.time_zone.iana_name().unwrap_or("UTC");
    format!("{} {zone}", words.join(", "))
}

/// `{ last = 2, daily = 1 }`.
#[must_use]
pub(super) fn keep(keep: &Keep) -> String {
    let rules = keep.rules();
    let each: Vec<String> =
        rules.iter().map(|rule| format!("{} = {}", rule.as_str(), keep.count(*rule))).collect();
    format!("{{ {} }}", each.join(", "))
}

/// `3 to 9 days`.
#[must_use]
pub(super) fn from_to(reach: Reach) -> String {
    let (worst, best) = (rounded(reach.worst_s), rounded(reach.best_s));
    match (worst, best) {
        (worst, best) if worst == best => words(best),
        (Rounded::Days(worst), Rounded::Days(best)) => format!("{worst} to {best} days"),
        (Rounded::Hours(worst), Rounded::Hours(best)) => format!("{worst} to {best} hours"),
        (worst, best) => format!("{} to {}", words(worst), words(best)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounded {
    Days(i64),
    Hours(i64),
    Short(SignedDuration),
}

/// Down to whole days, or hours below two of them. Where clocks change, a day has an hour more or less.
fn rounded(seconds: i64) -> Rounded {
    match seconds {
        0..7_200 => Rounded::Short(SignedDuration::from_secs(seconds)),
        7_200..165_600 => Rounded::Hours(seconds / 3_600),
        _ => Rounded::Days((seconds + 7_200) / 86_400),
    }
}

fn words(rounded: Rounded) -> String {
    match rounded {
        Rounded::Days(days) => format!("{days} days"),
        Rounded::Hours(hours) => format!("{hours} hours"),
        Rounded::Short(short) => span(short),
    }
}

/// `daily and weekly`.
#[must_use]
pub(super) fn rules<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> String {
    let words: Vec<&str> = rules.into_iter().map(|rule| rule.as_str()).collect();
    listed(&words)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(3 * 86_400, 9 * 86_400 + 3_600, "3 to 9 days")]
    #[case(4 * 86_400 - 3_600, 4 * 86_400, "4 days")]
    #[case(3_600 * 18, 3_600 * 30, "18 to 30 hours")]
    #[case(3_600 * 30, 86_400 * 9, "30 hours to 9 days")]
    #[case(1_800, 3_600, "30m to 1h")]
    #[case(0, 0, "0s")]
    fn a_reach_is_told_in_whole_days_or_hours(
        #[case] worst_s: i64,
        #[case] best_s: i64,
        #[case] expected: &str,
    ) {
        assert_eq!(from_to(Reach { worst_s, typical_s: worst_s, best_s }), expected);
    }
}
