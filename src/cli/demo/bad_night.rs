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
    /// By then, the rotation that runs into it has ended.
    shown_by: SignedDuration,
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
        shown_by: SignedDuration::from_mins(130),
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
        shown_by: SignedDuration::from_mins(220),
        server: ServerId::new(102),
        happens: |provider, server, _| {
            fault(provider, &format!("create:fails,times=1,server={server}"))
        },
        announcement: "The next snapshot of db-01 will fail at the provider.",
        outcome: RotationOutcome::Failed,
        explanation: "The new snapshot failed, so no old one was deleted. The failed one is deleted once it has been \
                      listed as failed for 5 minutes.",
    },
    Incident {
        after: SignedDuration::from_mins(250),
        shown_by: SignedDuration::from_mins(325),
        server: ServerId::new(103),
        happens: |provider, server, now| {
            let taken = provider.snapshots(server, now).len();
            for nth in taken..5 {
                provider.add_snapshot(server, &format!("by-hand-{}", nth + 1), "completed", now);
            }
        },
        announcement: "Someone fills the last slots of mail-01 with foreign snapshots, created by hand.",
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
#[derive(Clone)]
pub(super) struct BadNight {
    /// Those that the demo has time to show.
    incidents: &'static [Incident],
    progress: Arc<Mutex<Progress>>,
}

#[derive(Default)]
struct Progress {
    begun: usize,
    /// The incidents under way, and since when.
    open: Vec<(&'static Incident, Timestamp)>,
}

impl BadNight {
    /// Of a demo that lasts this long, on its clock.
    pub(super) fn of(lasts: SignedDuration) -> Self {
        let shown = INCIDENTS.iter().take_while(|incident| incident.shown_by <= lasts).count();
        let incidents = INCIDENTS.get(..shown).unwrap_or_default();
        Self { incidents, progress: Arc::default() }
    }

    /// What the demo announces at its start.
    pub(super) fn announcement(&self) -> &'static str {
        match self.incidents.len() {
            0 => "A run of 30 s shows a night in which three things go wrong.",
            1 => "One thing goes wrong; in a run of 30 s, three things do.",
            2 => "Two things go wrong; in a run of 30 s, three things do.",
            _ => "In this night, three things go wrong.",
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next thing goes wrong, counted from the start of the demo.
    pub(super) fn next_after(&self) -> Option<SignedDuration> {
        self.incidents.get(self.progress().begun).map(|incident| incident.after)
    }

    /// Lets the next thing go wrong, and says what it is.
    pub(super) fn begin(&self, provider: &mut Provider, now: Timestamp) -> Option<&'static str> {
        let mut progress = self.progress();
        let incident = self.incidents.get(progress.begun)?;
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(1, 0, "A run of 30 s shows ")]
    #[case(15, 1, "One thing goes wrong")]
    #[case(20, 2, "Two things go wrong")]
    #[case(30, 3, "In this night, three things go wrong")]
    fn a_run_announces_what_it_has_time_to_show(
        #[case] seconds: i64,
        #[case] incidents: usize,
        #[case] words: &str,
    ) {
        let lasts = SignedDuration::from_secs(seconds * i64::from(crate::cli::demo::SPEED));
        let night = BadNight::of(lasts);
        assert!(night.announcement().starts_with(words), "{}", night.announcement());
        let mut happened = 0;
        while let Some(after) = night.next_after() {
            assert!(after < lasts, "it happens before the end");
            night.progress().begun += 1;
            happened += 1;
        }
        assert_eq!(happened, incidents);
    }
}
