//! What became of rotations, for a person: what was done, which snapshots there are now and why, and what to do.

use jiff::{SignedDuration, Timestamp};
use snapring_core::rotation::Left;

use crate::cli::table::{lines, table};
use crate::memory::RingMemory;
use crate::moment::shown;
use crate::observe::status_document::RingStatus;
use crate::plan::AskedBy;
use crate::plan::forecast::kept;
use crate::readable::{age, size, span};
use crate::report::{Report, RotationOutcome};
use crate::server::Server;
use crate::status::RingSeen;
use crate::wording::slots_taken;

/// So many servers are told with their snapshots; more are a table.
pub(super) const FEW: usize = 8;

/// A rotation that ended, and what is known of its server now.
pub(super) struct Ended<'a> {
    pub(super) report: &'a Report,
    pub(super) server: &'a Server,
    /// What it has left at the provider.
    pub(super) left: Left,
    /// The snapshots as they were listed last, without those that were deleted since.
    pub(super) ring: Option<RingSeen>,
    /// What is remembered of them.
    pub(super) memory: RingMemory,
}

/// One rotation with its ring.
pub(super) fn story(ended: &Ended<'_>, now: Timestamp) -> String {
    let Ended { report, server, left, ring, memory } = ended;
    let took = SignedDuration::from_millis(i64::try_from(report.duration_ms).unwrap_or(i64::MAX));
    let calls = match report.api_calls {
        1 => "1 call".to_owned(),
        calls => format!("{calls} calls"),
    };
    let mut text = format!("{} ({}): {}", server.name, server.id, outcome(report, left, server));
    text.push_str(&format!(" ({}, {calls})\n", span(took)));
    if let Some(created) = report.created.as_ref().filter(|_| report.outcome.is_good()) {
        text.push_str(&format!("created {created}\n"));
    }
    for deleted in &report.deleted {
        text.push_str(&format!("deleted {deleted}\n"));
    }
    if let Some(ring) = ring {
        text.push_str(&snapshots(ring, server, memory, now));
    }
    text
}

/// How it ended, and why.
pub(super) fn outcome(report: &Report, left: &Left, server: &Server) -> String {
    let mut text = report.outcome.as_str().to_owned();
    if let Some(reason) = &report.reason {
        text.push_str(&format!(": {reason}"));
    }
    if report.outcome == RotationOutcome::Failed {
        text.push_str(&state(report, left, server));
    }
    text
}

/// What there is after a rotation that failed. A shutdown's reason has said it.
fn state(report: &Report, left: &Left, server: &Server) -> String {
    let reason = report.reason.as_deref().unwrap_or_default();
    let words = left.words(server, AskedBy::Person);
    if reason.contains(&words) { String::new() } else { format!("; {words}") }
}

fn snapshots(seen: &RingSeen, server: &Server, memory: &RingMemory, now: Timestamp) -> String {
    let ring = RingStatus::of(seen, &server.policy);
    let reserved = match ring.reserve {
        0 => String::new(),
        reserve => format!(" ({reserve} reserved)"),
    };
    let mut text = format!(
        "{}, {} free{reserved}\n",
        slots_taken(u32::try_from(ring.snapshots.len()).unwrap_or(u32::MAX), ring.cap),
        ring.free
    );
    if ring.snapshots.is_empty() {
        return text;
    }
    let mut table = table(&["id", "name", "whose", "status", "size", "created", "age", "kept"]);
    let verdicts = seen.verdicts_with(&server.policy, |id| memory.was_completed(id));
    for (slot, snapshot) in seen.slots.iter().zip(&ring.snapshots) {
        let verdict = verdicts.iter().find(|it| it.id == slot.id);
        let reason = verdict.and_then(|it| it.reason.as_ref());
        table.add_row([
            snapshot.id.to_string(),
            snapshot.name.clone(),
            snapshot.holder.clone(),
            snapshot.status.clone(),
            size(snapshot.size_mb),
            shown(snapshot.created_at, &server.policy.time_zone),
            age(snapshot.created_at, now),
            kept(slot.holder, &slot.status, reason, memory.was_completed(slot.id)),
        ]);
    }
    text.push_str(&lines(&table));
    text
}
