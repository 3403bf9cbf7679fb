//! Retention: which completed snapshots a policy keeps, and why.
//!
//! `keep` counts slots. The rules are applied in the order of [`Rule::ALL`], and what a rule keeps does not count
//! for the rules after it. This is what `borg prune` does, and the tests compare the two.
//!
//! The current time plays no part: a daemon that was away for months deletes nothing because of its age.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::naming::SnapshotId;
use crate::policy::{Keep, Rule};

/// What retention looks at: a completed managed snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which one.
    pub id: SnapshotId,
    /// The point in time that it stands for: see [`Ring::point`](crate::ring::Ring::point).
    pub at: Timestamp,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Reason {
    /// It is the newest snapshot of a period, and fills one of a rule's slots.
    Newest {
        /// The rule.
        rule: Rule,
        /// Which of the rule's slots, from 1 for the newest snapshot.
        nth: u32,
        /// How many slots the rule has.
        of: u32,
        /// The period in words: `2026-11-23`, `2026-W48`; empty for `last`.
        period: String,
    },
    /// It is the oldest of all, and the rule has not filled its slots yet.
    Oldest {
        /// The rule.
        rule: Rule,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest { rule, nth, of, period } => {
                write!(out, "{} ({nth} of {of})", rule.as_str())?;
                if !period.is_empty() {
                    write!(out, ": newest of {period}")?;
                }
                Ok(())
            }
            Self::Oldest { rule } => write!(out, "oldest, until {} is filled", rule.as_str()),
        }
    }
}

/// What retention says of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Of which.
    pub id: SnapshotId,
    /// Why it is kept; `None`: it is deleted.
    pub reason: Option<Reason>,
}

impl Verdict {
    /// Whether it is kept.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.reason.is_some()
    }
}

/// Judges each snapshot. The verdicts are in order of time, newest first, in whatever order the `candidates` come.
#[must_use]
pub fn retain(candidates: &[Candidate], keep: &Keep, zone: &TimeZone) -> Vec<Verdict> {
    let mut newest_first = candidates.to_vec();
    newest_first.sort_by_key(|candidate| Reverse((candidate.at, candidate.id)));
    let mut verdicts: Vec<Verdict> =
        newest_first.iter().map(|candidate| Verdict { id: candidate.id, reason: None }).collect();
    for rule in Rule::ALL {
        let of = keep.count(rule);
        let mut filled = 0;
        // A period's snapshots need not follow each other: when a clock is set back at midnight, the
        // day before returns.
        let mut periods = Vec::new();
        for (candidate, verdict) in newest_first.iter().zip(&mut verdicts) {
            if filled == of {
                break;
            }
            let period = period(rule, candidate, zone);
            if periods.contains(&period) {
                continue;
            }
            // Kept by an earlier rule, it does not count for this one.
            if verdict.reason.is_none() {
                filled += 1;
                let period = period.label();
                verdict.reason = Some(Reason::Newest { rule, nth: filled, of, period });
            }
            periods.push(period);
        }
        // A young ring grows towards its oldest point instead of losing it.
        if filled < of
            && let Some(oldest) = verdicts.last_mut()
        {
            oldest.reason.get_or_insert(Reason::Oldest { rule });
        }
    }
    verdicts
}

/// The rules of which not every slot is filled. The oldest snapshot, kept for want of another, fills none.
#[must_use]
pub fn unfilled(verdicts: &[Verdict], keep: &Keep) -> BTreeSet<Rule> {
    let mut rules = keep.rules();
    for rule in Rule::ALL {
        let is_of_rule = |it: &&Verdict| matches!(&it.reason, Some(Reason::Newest { rule: by, .. }) if *by == rule);
        if verdicts.iter().filter(is_of_rule).count() >= keep.count(rule) as usize {
            rules.remove(&rule);
        }
    }
    rules
}

/// A whole period: two snapshots share one exactly when these are equal.
#[derive(Debug, PartialEq, Eq)]
enum Period {
    Own(SnapshotId),
    /// With its offset from UTC, in seconds: the hour before the clock is set back is not the one
    /// after.
    Hour(jiff::civil::Date, i8, i32),
    Day(jiff::civil::Date),
    /// ISO year and week: the last days of December may belong to the year after.
    Week(i16, i8),
    Month(i16, i8),
    Year(i16),
}

impl Period {
    fn label(&self) -> String {
        match self {
            Self::Own(_) => String::new(),
            Self::Hour(date, hour, _) => format!("{date} {hour:02}h"),
            Self::Day(date) => date.to_string(),
            Self::Week(year, week) => format!("{year}-W{week:02}"),
            Self::Month(year, month) => format!("{year}-{month:02}"),
            Self::Year(year) => year.to_string(),
        }
    }
}

fn period(rule: Rule, candidate: &Candidate, zone: &TimeZone) -> Period {
    let offset = zone.to_offset(candidate.at);
    let local = offset.to_datetime(candidate.at);
    match rule {
        Rule::Last => Period::Own(candidate.id),
        Rule::Hourly => Period::Hour(local.date(), local.hour(), offset.seconds()),
        Rule::Daily => Period::Day(local.date()),
        Rule::Weekly => {
            let week = local.date().iso_week_date();
            Period::Week(week.year(), week.week())
        }
        Rule::Monthly => Period::Month(local.year(), local.month()),
        Rule::Yearly => Period::Year(local.year()),
    }
}

#[cfg(test)]
mod tests;
