//! What goes wrong in the demo, and what snapring does about it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::naming::ServerId;
use crate::report::{Report, RotationOutcome};
use crate::sandbox::faults::Fault;
use crate::sandbox::provider::Provider;

/// Something that goes wrong once.
struct Incident {
    /// How long after the start of the demo.
    after: SignedDuration,
    server: ServerId,
    happens: fn(&mut Provider, ServerId, Timestamp),
    /// What the demo says when it happens.
    announcement: &'static str,
    /// How the rotation ends that runs into it.
    outcome: RotationOutcome,
    /// What the demo says when that rotation has ended.
    explanation: &'static str,
}

const INCIDENTS: &[Incident] = &[
    Incident {
        after: SignedDuration::from_mins(85),
        server: ServerId::new(101),
        happens: |provider, server, _| {
            fault(provider, &format!("create:drop-after,times=1,server={server}"))
        },
        announcement: "The provider will create the next snapshot of web-01, but its answer will be lost on the way.",
        outcome: RotationOutcome::Rotated,
        explanation: "No answer came. Before a second try, snapring looked for the name of the snapshot and found it, so \
                      there is one, not two.",
    },
    Incident {
        after: SignedDuration::from_mins(185),
        server: ServerId::new(102),
        happens: |provider, server, _| {
            fault(provider, &format!("create:fails,times=1,server={server}"))
        },
        announcement: "The next snapshot of db-01 will fail at the provider.",
        outcome: RotationOutcome::Failed,
        explanation: "Because the new snapshot failed, no old one was deleted. The next rotation removes the failed \
                      one.",
    },
    Incident {
        after: SignedDuration::from_mins(250),
        server: ServerId::new(103),
        happens: |provider, server, now| {
            let taken = provider.snapshots(server, now).len();
            for nth in taken..5 {
                provider.add_snapshot(server, &format!("by-hand-{}", nth + 1), "completed", now);
            }
        },
        announcement: "Someone fills the last slots of mail-01 with foreign snapshots, made by hand.",
        outcome: RotationOutcome::Rotated,
        explanation: "All five slots were taken. snapring made room with one of its own snapshots, and deleted none \
                      of the foreign ones.",
    },
];

fn fault(provider: &mut Provider, text: &str) {
    if let Ok(fault) = text.parse::<Fault>() {
        provider.add_fault(fault);
    }
}

/// Which incidents have begun, and which of them no rotation has run into yet.
#[derive(Clone, Default)]
pub(super) struct BadNight(Arc<Mutex<Progress>>);

#[derive(Default)]
struct Progress {
    begun: usize,
    /// The incidents under way, and since when.
    open: Vec<(&'static Incident, Timestamp)>,
}

impl BadNight {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next thing goes wrong, counted from the start of the demo.
    pub(super) fn next_after(&self) -> Option<SignedDuration> {
        INCIDENTS.get(self.progress().begun).map(|incident| incident.after)
    }

    /// Lets the next thing go wrong, and says what it is.
    pub(super) fn begin(&self, provider: &mut Provider, now: Timestamp) -> Option<&'static str> {
        let mut progress = self.progress();
        let incident = INCIDENTS.get(progress.begun)?;
        progress.begun += 1;
        progress.open.push((incident, now));
        (incident.happens)(provider, incident.server, now);
        Some(incident.announcement)
    }

    /// What a rotation has shown of an incident.
    pub(super) fn explain(&self, report: &Report) -> Option<&'static str> {
        let mut progress = self.progress();
        let at = progress.open.iter().position(|(incident, since)| {
            incident.server == report.server_id
                && incident.outcome == report.outcome
                && report.tick.instant() > *since
        })?;
        Some(progress.open.remove(at).0.explanation)
    }
}
