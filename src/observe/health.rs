//! Whether a daemon lives, and whether it can do its work.

use crate::daemon::view::{AccountView, View};

/// What stands in the way; nothing: all is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Obstacles(Vec<String>);

impl Obstacles {
    /// What says that the daemon is to be started anew.
    #[must_use]
    pub(super) fn to_life(view: &View) -> Self {
        let stuck = (!view.is_alive()).then(|| "the scheduler has stalled".to_owned());
        Self(stuck.into_iter().collect())
    }

    /// What keeps the daemon from rotating as it should.
    #[must_use]
    pub(super) fn to_work(view: &View) -> Self {
        let Self(mut obstacles) = Self::to_life(view);
        let accounts = view.accounts();
        let in_trouble: Vec<String> = accounts.iter().filter_map(AccountView::trouble).collect();
        // As long as one account can be worked for, a new start would only interrupt that.
        if in_trouble.len() == accounts.len() {
            obstacles.extend(in_trouble);
        }
        if let Some((reason, _)) = view.configuration().refused {
            obstacles.push(format!("the last reload was rejected: {reason}"));
        }
        Self(obstacles)
    }

    /// Whether there are none.
    #[must_use]
    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// One a line; `ok` when there are none.
    #[must_use]
    pub(super) fn words(&self) -> String {
        if self.are_none() { "ok\n".to_owned() } else { self.0.join("\n") + "\n" }
    }
}
