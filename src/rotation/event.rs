//! A rotation's one event in the log.

use std::time::Duration;

use jiff::Timestamp;
use snapring_core::rotation::{Job, Remark};
use tokio::task::JoinError;

use crate::call::{CallError, Outcome};
use crate::health::{Evidence, TroubleKind};
use crate::moment::shown_today;
use crate::naming::Tick;
use crate::plan::AskedBy;
use crate::report::{BrokenOffBy, Report, RotationOutcome};
use crate::rotation::lock::Busy;
use crate::server::{Hooks, Server};
use crate::status::Statuses;

/// A wait from which on its end is told at level info.
pub(super) const LONG_WAIT: Duration = Duration::from_secs(30);

/// Writes the rotation's event. To be called once for each rotation, where it ends. `trouble`: what is
/// wrong with the server now, as far as that is known.
pub(crate) fn log(report: &Report, trouble: Option<TroubleKind>) {
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                event = "rotation",
                outcome = report.outcome.as_str(),
                server_id = report.server_id.number,
                account = report.server_id.account.label(),
                server = report.server.as_str(),
                tick = %report.tick,
                created = report.created.as_deref(),
                deleted = (!report.deleted.is_empty()).then(|| report.deleted.join(",")).as_deref(),
                api_calls = report.api_calls,
                duration_ms = report.duration_ms,
                reason = report.reason.as_deref(),
                "{} {}", report.server, report.words()
            )
        };
    }
    let is_hindered = Evidence::of(report.outcome, report.known_cause) == Evidence::Hindered;
    match report.outcome {
        RotationOutcome::Skipped if is_hindered && trouble == Some(TroubleKind::Skipped) => {
            event!(warn);
        }
        RotationOutcome::Rotated | RotationOutcome::Adopted | RotationOutcome::Skipped => {
            event!(info);
        }
        RotationOutcome::Failed if report.known_cause.is_some() => event!(warn),
        RotationOutcome::Blocked | RotationOutcome::Failed => event!(error),
    }
}

/// A create has failed, and a listing shows until then whether it was carried out all the same. A provider that
/// asks for patience has hardly done it.
pub(super) fn may_exist(snapshot: &str, error: &CallError, until: &str) -> String {
    let cause = error.cause_without_a_time();
    match error.outcome() {
        Some(Outcome::Busy | Outcome::Throttled) => {
            format!("{cause}; trying again after {until}, unless {snapshot} is listed before")
        }
        _ => format!(
            "{cause}; {snapshot} may have been created anyway: looking for it until {until} before trying again"
        ),
    }
}

/// Writes what a person should know while a rotation runs.
pub(super) fn remark(job: &Job, remark: &Remark, now: Timestamp) {
    macro_rules! event {
        ($level:ident, event = $event:literal, $($message:tt)+) => {
            tracing::$level!(
                event = $event,
                server_id = job.server.id.number,
                account = job.server.id.account.label(),
                server = job.server.name.as_str(),
                tick = %job.tick,
                $($message)+
            )
        };
    }
    let server = &job.server.name;
    let until = |span: &Duration| {
        let end =
            now.checked_add(Duration::from_secs(span.as_secs() + 1)).unwrap_or(Timestamp::MAX);
        shown_today(end, now, &job.server.policy.time_zone)
    };
    match remark {
        Remark::Ring(words) => event!(warn, event = "ring", "{server}: {words}"),
        Remark::EarlierCreate(wait) => {
            event!(
                info,
                event = "settle",
                "{server}: waiting until {} because an earlier create of this server may still arrive",
                until(wait)
            );
        }
        Remark::MayExist { snapshot, error, within } => {
            let words = may_exist(snapshot, error, &until(within));
            if *within > LONG_WAIT {
                event!(info, event = "settle", snapshot = snapshot.as_str(), "{server}: {words}");
            } else {
                event!(debug, event = "settle", snapshot = snapshot.as_str(), "{server}: {words}");
            }
        }
        Remark::AwaitsFailed(wait) => {
            event!(
                info,
                event = "ring",
                "{server}: waiting until {}: one snapshot is listed as failed; it is deleted if another \
                 listing agrees",
                until(wait)
            );
        }
        Remark::NotDeleted(snapshot) => {
            event!(
                warn,
                event = "ring",
                snapshot = snapshot.as_str(),
                "{server}: the provider confirmed the deletion of {snapshot} but still lists it"
            );
        }
        Remark::Continues(snapshot) => event!(
            info,
            event = "ring",
            "{server}: continuing with {snapshot}, which an earlier `rotate` started and which is still \
                 in progress; no other snapshot is created"
        ),
        Remark::NotAwake(problem) => event!(error, event = "hook", "{server}: {problem}"),
    }
}

/// Writes that a rotation waits because its server is busy, and until when at the latest.
pub(super) fn waits(server: &Server, busy: &Busy, until: &str) {
    tracing::info!(
        event = "lock",
        server_id = server.id.number,
        account = server.id.account.label(),
        server = server.name.as_str(),
        "{}: waiting{until}: {}",
        server.name,
        busy.words(&server.policy.time_zone)
    );
}

/// Says what became of an after hook that an earlier process owed.
pub(super) fn owed_hook(server: &Server, snapshot: &str, problem: Option<&str>) {
    let name = server.name.as_str();
    match problem {
        None => tracing::warn!(
            event = "hook",
            server_id = server.id.number,
            account = server.id.account.label(),
            server = name,
            snapshot,
            "{name}: the before hook of {snapshot} was left without a successful after hook; the after hook has run now"
        ),
        Some(problem) => tracing::error!(
            event = "hook",
            server_id = server.id.number,
            account = server.id.account.label(),
            server = name,
            snapshot,
            "{name}: the before hook of {snapshot} was left without a successful after hook, and {problem}. The next rotation runs it again. If you resume the server by hand, run `snapring resumed {name}`"
        ),
    }
}

/// Says that a kill would leave the server quiesced.
pub(super) fn not_noted(server: &Server, problem: &str) {
    tracing::warn!(
        event = "hook",
        server_id = server.id.number,
        account = server.id.account.label(),
        server = server.name.as_str(),
        "{}: cannot write the note for the after hook ({problem}). If snapring is killed now, the hook does \
         not run at the next start, and the server stays quiesced",
        server.name
    );
}

/// The report of a rotation whose task did not come to its end. `statuses`: where it told how far it was.
#[must_use]
pub(crate) fn broken_off(
    server: &Server,
    tick: Tick,
    asked_by: AskedBy,
    statuses: &Statuses,
    broken: &JoinError,
) -> Report {
    let by = if broken.is_cancelled() {
        let left = statuses.of(server.id).left.unwrap_or_default();
        let mut words = left.words(server, asked_by);
        if server.hooks.as_ref().is_some_and(|hooks| owes_after(hooks)) {
            words.push_str(". If the after hook has not run, the next rotation runs it first");
        }
        BrokenOffBy::Request(words)
    } else {
        BrokenOffBy::Fault(broken.to_string())
    };
    Report::broken_off(server.id, &server.name, tick, by)
}

/// Whether a break-off may leave the server quiesced.
fn owes_after(hooks: &Hooks) -> bool {
    !hooks.before.is_empty() && !hooks.after.is_empty()
}
