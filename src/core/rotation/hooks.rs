//! The hooks around the create. If `before` was started, `after` always runs.

use std::time::Duration;

use super::{Action, End, LEAST_TIME, Next, OwnSnapshot, Remark, Rotation, State};
use crate::moment::Moment;
use crate::plan::Creation;
use crate::ring::Ring;

/// A hook to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Which.
    pub moment: HookMoment,
    /// The program and its arguments. Not empty.
    pub argv: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
    /// The name of the tick's snapshot.
    pub snapshot: String,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookMoment {
    /// Before the create. A shutdown stops it.
    Before,
    /// After the wait for the snapshot. A shutdown waits for it.
    After {
        /// Whether the snapshot is completed.
        is_completed: bool,
    },
}

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookEnd {
    /// It succeeded.
    Done,
    /// It failed, for this reason.
    Failed(String),
    /// A shutdown stopped it.
    Interrupted,
    /// It was not started because of a shutdown.
    NotStarted,
}

impl Rotation {
    /// Runs `before` once per rotation, then sends the create.
    pub(super) fn quiesce(&mut self, creation: Creation, before: Ring) -> Next {
        let hooks = self.job.server.hooks.as_ref().filter(|hooks| !hooks.before.is_empty());
        let Some(hooks) = hooks.filter(|_| !self.before_hook_ran) else {
            return self.send_create(creation, before);
        };
        let hook = Hook {
            moment: HookMoment::Before,
            argv: hooks.before.clone(),
            timeout: hooks.timeout,
            snapshot: creation.name().to_owned(),
        };
        self.enter(State::Quiescing(creation, before), Action::RunHook(hook))
    }

    pub(super) fn quiesced(
        &mut self,
        creation: Creation,
        before: Ring,
        end: HookEnd,
        now: Moment,
    ) -> Next {
        self.before_hook_ran = end != HookEnd::NotStarted;
        let problem = match end {
            HookEnd::Interrupted | HookEnd::NotStarted => {
                return self.forget_create(End::interrupted());
            }
            HookEnd::Done => None,
            HookEnd::Failed(problem) => Some(problem),
        };
        self.ledger.lap("before_hook", now);
        // The time of a hook does not count against the calls.
        self.ledger.allow(LEAST_TIME, now);
        match problem {
            None => self.send_create(creation, before),
            Some(problem) => self.forget_create(End::failed(problem)),
        }
    }

    fn forget_create(&mut self, end: End) -> Next {
        self.enter(State::Forgetting(end), Action::ForgetCreate)
    }

    /// Runs `after` if it is due, then prunes or ends.
    pub(super) fn wake(&mut self, made: Result<OwnSnapshot, End>, now: Moment) -> Next {
        let hooks = self.job.server.hooks.as_ref().filter(|hooks| !hooks.after.is_empty());
        // Without a `before` there is nothing to undo; `after` then runs after each new snapshot.
        let due = |before_is_empty: bool| {
            if before_is_empty { self.created.is_some() } else { self.before_hook_ran }
        };
        let Some(hooks) = hooks.filter(|hooks| due(hooks.before.is_empty())) else {
            return self.awake(made, Ok(()), now);
        };
        let hook = Hook {
            moment: HookMoment::After { is_completed: made.is_ok() },
            argv: hooks.after.clone(),
            timeout: hooks.timeout,
            snapshot: self.server().policy.prefix.name(self.job.tick),
        };
        self.enter(State::Waking(made), Action::RunHook(hook))
    }

    pub(super) fn woken(
        &mut self,
        made: Result<OwnSnapshot, End>,
        end: HookEnd,
        now: Moment,
    ) -> Next {
        self.ledger.lap("after_hook", now);
        let problem = match end {
            HookEnd::Done => return self.awake(made, Ok(()), now),
            HookEnd::Failed(problem) => problem,
            HookEnd::Interrupted | HookEnd::NotStarted => {
                "the after hook failed: it did not finish".to_owned()
            }
        };
        // Logged at once: a server that stays quiesced is worse than a failed rotation.
        self.remarks.push(Remark::NotAwake(problem.clone()));
        self.awake(made, Err(End::failed(problem)), now)
    }

    fn awake(
        &mut self,
        made: Result<OwnSnapshot, End>,
        awake: Result<(), End>,
        now: Moment,
    ) -> Next {
        match made {
            Ok(made) => self.prune(made, awake, now),
            Err(end) => self.end(Err(end.and(awake.err())), now),
        }
    }
}
