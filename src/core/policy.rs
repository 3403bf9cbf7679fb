//! A server's policy, and retention: which of its snapshots the policy keeps, and why.
//!
//! Retention is a pure function of the completed managed snapshots, `keep` and the time zone. The present time
//! plays no part, so a daemon that was away for months drops nothing for its age.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::naming::{ManagedPrefix, SnapshotId};

/// What decides which snapshots come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What this server's managed names begin with.
    pub prefix: ManagedPrefix,
    /// How many snapshots retention keeps.
    pub keep: Keep,
    /// Where days, weeks and months begin.
    pub time_zone: TimeZone,
    /// The provider's limit for this server.
    pub cap: u32,
    /// Slots always left free for snapshots made by hand.
    pub reserve: u32,
    /// Ids never deleted.
    pub pinned: BTreeSet<SnapshotId>,
    /// A tick sooner than this after the last managed snapshot is skipped.
    pub min_interval: Duration,
}

impl Hash for Policy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The zone has no hash of its own: equality alone sees it.
        let Self { prefix, keep, time_zone: _, cap, reserve, pinned, min_interval } = self;
        (prefix, keep, cap, reserve, pinned, min_interval).hash(state);
    }
}

/// How many snapshots to keep: the newest of each of the N newest periods that hold one, joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Keep {
    /// The N newest.
    pub last: u32,
    /// The newest of each of the N newest hours that hold one.
    pub hourly: u32,
    /// Days, in the policy's time zone.
    pub daily: u32,
    /// ISO weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
    /// Years.
    pub yearly: u32,
}

impl Keep {
    /// The most snapshots that this can keep.
    #[must_use]
    pub fn total(&self) -> u32 {
        Rule::ALL.iter().fold(0, |sum, rule| sum.saturating_add(self.count(*rule)))
    }

    /// How many periods of this rule are kept.
    #[must_use]
    pub fn count(&self, rule: Rule) -> u32 {
        match rule {
            Rule::Last => self.last,
            Rule::Hourly => self.hourly,
            Rule::Daily => self.daily,
            Rule::Weekly => self.weekly,
            Rule::Monthly => self.monthly,
            Rule::Yearly => self.yearly,
        }
    }
}

/// One key of `keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Each snapshot is a period of its own.
    Last,
    /// Hours of the clock on the wall; the hour that autumn repeats counts as two.
    Hourly,
    /// Calendar days.
    Daily,
    /// ISO weeks, which begin on Monday.
    Weekly,
    /// Calendar months.
    Monthly,
    /// Calendar years.
    Yearly,
}

impl Rule {
    /// All of them, shortest period first.
    pub const ALL: [Self; 6] =
        [Self::Last, Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// The key in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }
}

/// What retention looks at: a completed managed snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which one.
    pub id: SnapshotId,
    /// The point in time that it stands for: see [`Ring::point`](crate::ring::Ring::point).
    pub at: Timestamp,
}

/// Why a snapshot stays: it is the newest of the `nth` newest period (from 1) of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The rule.
    pub rule: Rule,
    /// Which of its periods, from 1 for the newest.
    pub nth: u32,
    /// The period in words: `2026-11-23`, `2026-W48`; empty for `last`.
    pub period: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.rule.as_str(), self.nth)?;
        if !self.period.is_empty() {
            write!(out, " ({})", self.period)?;
        }
        Ok(())
    }
}

/// What retention says of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Of which.
    pub id: SnapshotId,
    /// Why it stays; empty: it goes.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Whether it stays.
    #[must_use]
    pub fn keeps(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Judges each snapshot; the verdicts come newest first, whatever the order of `candidates`.
#[must_use]
pub fn retain(candidates: &[Candidate], keep: &Keep, zone: &TimeZone) -> Vec<Verdict> {
    let mut newest_first = candidates.to_vec();
    newest_first.sort_by_key(|candidate| std::cmp::Reverse((candidate.at, candidate.id)));
    let mut verdicts: Vec<Verdict> = newest_first
        .iter()
        .map(|candidate| Verdict { id: candidate.id, reasons: Vec::new() })
        .collect();
    for rule in Rule::ALL {
        let mut periods = Vec::new();
        for (candidate, verdict) in newest_first.iter().zip(&mut verdicts) {
            let nth = u32::try_from(periods.len()).unwrap_or(u32::MAX).saturating_add(1);
            if nth > keep.count(rule) {
                break;
            }
            // Newest first, so a period's newest comes first. Its others need not follow at once:
            // a clock set back at midnight shows the old day again.
            let period = period(rule, candidate, zone);
            if !periods.contains(&period) {
                verdict.reasons.push(Reason { rule, nth, period: period.label() });
                periods.push(period);
            }
        }
    }
    verdicts
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
