//! What happened beside the rotations, counted by how it ended.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::report::RotationOutcome;
use crate::status::undelivered::Webhooks;

/// A label's name and value.
type Label = (&'static str, &'static str);

/// How a hook ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookOutcome {
    /// With 0.
    Ok,
    /// Otherwise, too late, or it could not be started.
    Failed,
    /// snapring ended it, because it was shutting down.
    Interrupted,
}

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeOutcome {
    /// The service has taken it.
    Ok,
    /// The service did not take it in time, or refused it.
    Failed,
    /// It did not fit into the queue.
    Lost,
}

/// Clones share it. Each series begins with 0: one that begins with 1 has not grown.
#[derive(Debug, Clone)]
pub struct Counts {
    hooks: Family<[Label; 2], Counter>,
    notices: Family<[Label; 1], Counter>,
    rotations: Family<[Label; 1], Counter>,
    webhooks: Webhooks,
}

impl Default for Counts {
    fn default() -> Self {
        let counts = Self {
            hooks: Family::default(),
            notices: Family::default(),
            rotations: Family::default(),
            webhooks: Webhooks::default(),
        };
        for outcome in RotationOutcome::ALL {
            counts.rotations.get_or_create(&[("outcome", outcome.as_str())]).inc_by(0);
        }
        for outcome in [HookOutcome::Ok, HookOutcome::Failed, HookOutcome::Interrupted] {
            for moment in ["before", "after"] {
                counts.hooks.get_or_create(&hook_labels(moment, outcome)).inc_by(0);
            }
        }
        for outcome in [NoticeOutcome::Ok, NoticeOutcome::Failed, NoticeOutcome::Lost] {
            counts.notices_ended(0, outcome);
        }
        counts
    }
}

impl Counts {
    /// A hook has ended.
    pub fn hook_ended(&self, moment: &'static str, outcome: HookOutcome) {
        self.hooks.get_or_create(&hook_labels(moment, outcome)).inc();
    }

    /// A rotation has ended. Unlike the sum over the servers, this never falls when one leaves.
    pub fn rotation_ended(&self, outcome: RotationOutcome) {
        self.rotations.get_or_create(&[("outcome", outcome.as_str())]).inc();
    }

    /// So many notices to one service have ended.
    pub fn notices_ended(&self, count: u64, outcome: NoticeOutcome) {
        let outcome = match outcome {
            NoticeOutcome::Ok => "ok",
            NoticeOutcome::Failed => "failed",
            NoticeOutcome::Lost => "lost",
        };
        self.notices.get_or_create(&[("outcome", outcome)]).inc_by(count);
    }

    /// How many notices to one service were not delivered.
    #[must_use]
    pub fn undelivered(&self) -> u64 {
        let count = |outcome| self.notices.get_or_create(&[("outcome", outcome)]).get();
        count("failed") + count("lost")
    }

    /// Which webhooks did not get their last notices.
    #[must_use]
    pub fn webhooks(&self) -> &Webhooks {
        &self.webhooks
    }

    /// Shows it among the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Hooks by outcome";
        registry.register("snapring_hooks", help, self.hooks.clone());
        let help = "Notices by outcome, one per service";
        registry.register("snapring_notices", help, self.notices.clone());
        let help = "Rotations of all servers by outcome";
        registry.register("snapring_fleet_rotations", help, self.rotations.clone());
    }
}

fn hook_labels(moment: &'static str, outcome: HookOutcome) -> [Label; 2] {
    let outcome = match outcome {
        HookOutcome::Ok => "ok",
        HookOutcome::Failed => "failed",
        HookOutcome::Interrupted => "interrupted",
    };
    [("hook", moment), ("outcome", outcome)]
}
