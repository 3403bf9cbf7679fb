//! What a policy results in when every tick succeeds and only its own snapshots hold slots.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::course::{Reach, Reaches};
use crate::naming::SnapshotId;
use crate::policy::Rule;
use crate::retention::{Candidate, retain, unfilled};
use crate::server::Server;

/// What a policy comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ideal {
    /// When all rules were filled for the first time.
    pub filled: Option<Timestamp>,
    /// Rules that are not filled by then.
    pub unfilled: BTreeSet<Rule>,
    /// How far back one can go once all rules are filled.
    pub reach: Option<Reach>,
    /// The last tick that was carried out.
    pub last: Option<Timestamp>,
}

/// Carries out the ticks from `from` on, up to `to`, and `most` of them at most. A rule that was filled once counts as
/// filled.
#[must_use]
pub fn ideal(server: &Server, from: Timestamp, to: Timestamp, most: usize) -> Ideal {
    let policy = &server.policy;
    let mut never = policy.keep.rules();
    let mut filled = None;
    let mut reaches = Reaches::default();
    let mut ring: Vec<Candidate> = Vec::new();
    let mut last = None;
    let after = |tick: &Timestamp| server.next_tick_after(*tick).map(|it| it.instant());
    let first = after(&from.saturating_sub(SignedDuration::from_nanos(1)).unwrap_or(from));
    for (nth, at) in
        (1..).zip(std::iter::successors(first, after).take_while(|at| *at <= to).take(most))
    {
        last = Some(at);
        ring.push(Candidate { id: SnapshotId(nth), at });
        let verdicts = retain(&ring, &policy.keep, &policy.time_zone);
        let kept: BTreeSet<SnapshotId> =
            verdicts.iter().filter(|it| it.keeps()).map(|it| it.id).collect();
        ring.retain(|it| kept.contains(&it.id));
        let lacking = unfilled(&verdicts, &policy.keep);
        never.retain(|rule| lacking.contains(rule));
        if lacking.is_empty() {
            filled.get_or_insert(at);
        }
        if let (Some(_), Some(oldest)) = (filled, ring.first()) {
            reaches.add(at.duration_since(oldest.at));
        }
    }
    Ideal { filled, unfilled: never, reach: reaches.summary(), last }
}
