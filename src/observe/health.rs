//! Whether a daemon lives, and whether it can do its work.

use crate::daemon::view::{AccountView, View};

/// What is wrong; `None`: all is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Obstacles {
    all: Vec<String>,
    /// What is wrong and does not stand in the way of the rest.
    remarks: Vec<String>,
}

impl Obstacles {
    /// What says that the daemon is to be started anew.
    #[must_use]
    pub(super) fn to_life(view: &View) -> Self {
        let stuck = (!view.is_alive()).then(|| "the scheduler has stalled".to_owned());
        Self { all: stuck.into_iter().collect(), remarks: Vec::new() }
    }

    /// What keeps the daemon from rotating as it should.
    #[must_use]
    pub(super) fn to_work(view: &View) -> Self {
        let mut obstacles = Self::to_life(view);
        let accounts = view.accounts();
        let in_trouble: Vec<String> = accounts.iter().filter_map(AccountView::trouble).collect();
        // As long as one account can be worked for, the others' trouble is not the daemon's.
        if in_trouble.len() == accounts.len() {
            obstacles.all.extend(in_trouble);
        } else {
            obstacles.remarks.extend(in_trouble);
        }
        if let Some((reason, _)) = view.configuration().refused {
            obstacles.all.push(format!("the last reload was rejected: {reason}"));
        }
        obstacles
    }

    /// Whether there are none.
    #[must_use]
    pub(super) fn are_none(&self) -> bool {
        self.all.is_empty()
    }

    /// One a line, after `ok` if there are none.
    #[must_use]
    pub(super) fn words(&self) -> String {
        let ok = self.are_none().then_some("ok");
        let lines = self.all.iter().chain(&self.remarks).map(String::as_str);
        ok.into_iter().chain(lines).map(|line| format!("{line}\n")).collect()
    }
}
