//! A rotation's steps for a person who watches it: what is under way, and a sentence once something has
//! happened.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use snapring_core::rotation::{Action, Event, Hook, HookEnd, HookMoment, Left, Remark};

use crate::activity::{Activities, Activity, Begun, Subject};
use crate::call::Outcome;
use crate::moment::shown_today;
use crate::naming::SnapshotId;
use crate::plan::DeleteReason;
use crate::rotation::event::{LONG_WAIT, may_exist};
use crate::server::Server;

/// Is told a sentence about each thing that a rotation has done.
pub type OnStep = Arc<dyn Fn(&str) + Send + Sync>;

/// The steps of one rotation.
pub(super) struct Steps<'a> {
    activities: &'a Activities,
    on_step: Option<&'a OnStep>,
    subject: Subject,
    left: Left,
    /// The provider has just answered that it creates the snapshot.
    has_created: bool,
    /// How a create failed that may have been carried out, and what is done about it.
    unanswered: Option<String>,
    zone: TimeZone,
    in_progress: Option<Begun>,
}

/// A step under way.
pub(super) struct StepUnderWay {
    what: What,
    _shown: Begun,
}

/// As much of an action as a sentence about it needs.
enum What {
    Create,
    Delete(SnapshotId, String, DeleteReason),
    Hook(&'static str),
    Nothing,
}

impl<'a> Steps<'a> {
    pub(super) fn of(
        server: &Server,
        activities: &'a Activities,
        on_step: Option<&'a OnStep>,
    ) -> Self {
        Self {
            activities,
            on_step,
            subject: (server.id, server.name.clone()),
            left: Left::Nothing,
            has_created: false,
            unanswered: None,
            zone: server.policy.time_zone.clone(),
            in_progress: None,
        }
    }

    fn tell(&self, words: &str) {
        if let Some(tell) = self.on_step {
            tell(&format!("{}: {words}", self.subject.1));
        }
    }

    /// What the rotation has to say besides its steps.
    pub(super) fn remark(&mut self, remark: &Remark, now: Timestamp) {
        let Remark::MayExist { snapshot, error, within } = remark else { return };
        let end = now.checked_add(*within).unwrap_or(Timestamp::MAX);
        let until = shown_today(end, now, &self.zone);
        self.unanswered = Some(match error.outcome() {
            Some(Outcome::Busy | Outcome::Throttled) => {
                format!("trying again after {until}: {}", error.in_short())
            }
            _ => format!("looking for {snapshot} until {until}: {}", error.in_short()),
        });
        // A longer wait is in the log, which says it to a person too.
        if *within <= LONG_WAIT {
            self.tell(&may_exist(snapshot, error, &until));
        }
    }

    /// This is what exists of the tick's snapshot now.
    pub(super) fn leaves(&mut self, left: &Left) {
        if *left == self.left {
            return;
        }
        let has_created = std::mem::take(&mut self.has_created);
        match (left, &self.left) {
            (Left::InProgress { name, id, .. }, _) => {
                let verb = if has_created { "created" } else { "found" };
                self.tell(&format!("{verb} {name} ({id}), waiting until it is completed"));
            }
            (Left::Completed { name, .. }, Left::InProgress { .. }) => {
                self.tell(&format!("{name} is completed"));
            }
            _ => {}
        }
        self.in_progress = match left {
            Left::InProgress { .. } => {
                Some(self.activities.begin(Some(&self.subject), Activity::Snapshot))
            }
            _ => None,
        };
        self.left = left.clone();
    }

    pub(super) fn begin(&self, action: &Action) -> StepUnderWay {
        let step = |words: &str| Activity::Step(words.to_owned());
        let (activity, what) = match action {
            Action::Look(_) => match (&self.left, &self.unanswered) {
                (Left::Perhaps { .. }, Some(words)) => (step(words), What::Nothing),
                (Left::Perhaps { name }, None) => {
                    (step(&format!("checking whether {name} was created")), What::Nothing)
                }
                _ => (step("listing the snapshots"), What::Nothing),
            },
            Action::RecordCreate(_) | Action::ForgetCreate => {
                (step("writing down what is created"), What::Nothing)
            }
            Action::RunHook(Hook { moment, .. }) => {
                let hook = match moment {
                    HookMoment::Before => "before",
                    HookMoment::After { .. } => "after",
                };
                (Activity::Other(format!("running the {hook} hook")), What::Hook(hook))
            }
            Action::Create { creation, .. } => {
                (step(&format!("creating {}", creation.name())), What::Create)
            }
            Action::Delete(deletion) => {
                let (id, name) = (deletion.snapshot(), deletion.name());
                let what = What::Delete(id, name.to_owned(), deletion.why());
                (step(&format!("deleting {name}")), what)
            }
            Action::Wait(_) => {
                let words = self.unanswered.as_deref();
                (
                    step(words.unwrap_or("waiting before it lists the snapshots again")),
                    What::Nothing,
                )
            }
        };
        // While the snapshot is in progress, that is what everything else is a part of.
        let _shown = match self.in_progress {
            Some(_) => Begun::default(),
            None => self.activities.begin(Some(&self.subject), activity),
        };
        StepUnderWay { what, _shown }
    }

    pub(super) fn ended(&mut self, step: StepUnderWay, event: &Event) {
        match (step.what, event) {
            (What::Create, Event::Created { answer, .. }) => {
                self.has_created = answer.is_ok();
                self.unanswered = None;
            }
            (What::Delete(id, name, why), Event::Deleted(answer)) => match answer {
                Ok(()) => self.tell(&format!("deleted {name} ({id}): {why}")),
                Err(error) => {
                    self.tell(&format!("could not delete {name} ({id}): {}", error.cause()))
                }
            },
            (What::Hook(hook), Event::HookEnded(HookEnd::Done)) => {
                self.tell(&format!("the {hook} hook has run"));
            }
            (What::Hook(_), Event::HookEnded(HookEnd::Failed(problem))) => self.tell(problem),
            _ => {}
        }
    }
}
