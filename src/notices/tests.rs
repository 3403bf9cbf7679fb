//! The whole of it on a paused clock, with a post of memory; and what the tests below share.

use std::collections::VecDeque;
use std::future::pending;

use super::*;
use crate::api::transport::TransportError;
use crate::config;
use crate::naming::Tick;
use crate::notices::post::{Answer, Letter, Posting};
use crate::rotate::report::{KnownCause, RotationOutcome};

pub(crate) const WEB: ServerId = ServerId(101);
pub(crate) const DB: ServerId = ServerId(102);

/// So many minutes after three.
pub(crate) fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_795_662_000 + 60 * minute).unwrap()
}

/// A report of this outcome, as rotations make them.
pub(crate) fn ended(server: ServerId, outcome: RotationOutcome) -> Report {
    let name = match server {
        WEB => "web".to_owned(),
        DB => "db".to_owned(),
        other => format!("server-{other}"),
    };
    let mut report =
        Report::without_steps(outcome, server, &name, Tick::at(at(0)), "why".to_owned());
    if outcome.is_good() {
        report.reason = None;
        report.created = Some("snapring-20261126T030000Z".to_owned());
    }
    report
}

pub(crate) fn because(report: Report, reason: &str) -> Report {
    Report { reason: Some(reason.to_owned()), ..report }
}

/// A rotation that failed for a cause of the account's.
pub(crate) fn refused(server: ServerId, cause: KnownCause) -> Report {
    let reason = "list unauthorized (401): Invalid token.";
    let report = because(ended(server, RotationOutcome::Failed), reason);
    Report { known_cause: Some(cause), ..report }
}
