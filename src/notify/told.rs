//! What a target was told and what it is still owed, also by processes before this one.
//!
//! A target believes that trouble goes on from the failure that it took until it takes the recovery. From the moment
//! when a failure is to be sent until then the store keeps how far that is. What is owed after a restart follows from
//! that and from how the servers stand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::naming::Subject;
use crate::notify::transitions::{Notice, NoticeKind};
use crate::store::told::{TargetKey, Told, ToldOf, ToldState};

/// Keeps what targets know of trouble, or `None` once it is over.
pub(crate) type Keep = Arc<dyn Fn(ToldOf, Option<ToldState>) + Send + Sync>;

/// What targets were told before this process began, and where it is kept from now on.
#[derive(Clone)]
pub(crate) struct ToldBook {
    /// `None`: it is not known. Then all that failed before counts as told.
    pub(crate) known: Option<Arc<Told>>,
    pub(crate) keep: Keep,
}

impl ToldBook {
    /// Nothing is known, and nothing is kept.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { known: None, keep: Arc::new(|_, _| {}) }
    }
}

/// Of one target. Clones share it.
#[derive(Clone)]
pub(super) struct Record {
    state: Arc<Mutex<State>>,
    keep: Keep,
}

struct State {
    target: TargetKey,
    /// Whether it is known what earlier processes told.
    is_known: bool,
    /// The trouble that it believes in, or should.
    told: BTreeMap<Subject, ToldState>,
    /// These failures could not be delivered to it.
    failure_untold: BTreeSet<Subject>,
    /// It could not be told that this trouble is over.
    recovery_untold: BTreeSet<Subject>,
    /// It is not a target any more: nothing is kept of it.
    has_ended: bool,
}

impl Record {
    /// Of a target that got no notice.
    pub(super) fn new(target: TargetKey, book: &ToldBook) -> Self {
        let state = State {
            target,
            is_known: book.known.is_some(),
            told: BTreeMap::new(),
            failure_untold: BTreeSet::new(),
            recovery_untold: BTreeSet::new(),
            has_ended: false,
        };
        Self { state: Arc::new(Mutex::new(state)), keep: Arc::clone(&book.keep) }
    }

    /// Takes over what earlier processes told it. `ongoing`: all that fails, and since when. What was told before
    /// that was notified of earlier trouble.
    pub(super) fn recall(
        &self,
        known: &Told,
        ongoing: impl IntoIterator<Item = (Subject, Option<Timestamp>)>,
        is_watched: impl Fn(Subject) -> bool,
    ) {
        let mut state = self.lock();
        let own =
            known.iter().filter(|((target, of), _)| *target == state.target && is_watched(*of));
        state.told = own.map(|((_, of), known)| (*of, *known)).collect();
        let mut over = state.told.clone();
        for (of, since) in ongoing {
            let known = over.remove(&of);
            match known {
                Some(ToldState::Told(told)) if since.is_none_or(|since| told >= since) => {}
                _ => {
                    state.told.extend(known.map(|it| (of, ToldState::Owed(it.at()))));
                    state.failure_untold.insert(of);
                }
            }
        }
        let untold = over.iter().filter(|(_, known)| matches!(known, ToldState::Owed(_)));
        state.failure_untold.extend(untold.map(|(of, _)| *of));
        state.recovery_untold = over.into_keys().collect();
    }

    /// Trouble begins: notices of earlier trouble do not count for it.
    pub(super) fn begins(&self, of: Subject) {
        let mut state = self.lock();
        state.recovery_untold.remove(&of);
        state.failure_untold.remove(&of);
        drop(state);
        self.over(of);
    }

    /// The failure is to be sent to it.
    pub(super) fn owes(&self, of: Subject, at: Timestamp) {
        self.knows(of, ToldState::Owed(at));
    }

    /// It has the failure, or a reminder of it.
    pub(super) fn told(&self, of: Subject, at: Timestamp) {
        self.knows(of, ToldState::Told(at));
    }

    fn knows(&self, of: Subject, known: ToldState) {
        let mut state = self.lock();
        if state.has_ended {
            return;
        }
        let before = state.told.get(&of);
        // Nothing else knows after a restart since when this lasts.
        if let (Subject::Cover(_), Some(ToldState::Told(_)), ToldState::Told(_)) =
            (of, before, known)
        {
            return;
        }
        state.told.insert(of, known);
        (self.keep)((state.target.clone(), of), Some(known));
    }

    /// When it was notified of this trouble, if it was.
    pub(super) fn told_at(&self, of: Subject) -> Option<Timestamp> {
        match self.lock().told.get(&of) {
            Some(ToldState::Told(at)) => Some(*at),
            _ => None,
        }
    }

    /// Trouble is found standing that looked over, because only an earlier process knew of it. Gives whether the
    /// target was notified of it then: it is not over.
    pub(super) fn believes(&self, of: Subject) -> bool {
        self.told_at(of).is_some() && self.take_recovery(of)
    }

    /// It is to be notified of all these.
    pub(super) fn owes_all(&self, failures: impl IntoIterator<Item = Subject>) {
        self.lock().failure_untold.extend(failures);
    }

    /// How many failures it is owed, and when the first of them was to be sent.
    pub(super) fn owed(&self) -> Option<(u64, Timestamp)> {
        let state = self.lock();
        let owed = state.told.values().filter(|it| matches!(it, ToldState::Owed(_)));
        let (count, first) = (owed.clone().count(), owed.map(|it| it.at()).min()?);
        Some((u64::try_from(count).unwrap_or(u64::MAX), first))
    }

    /// It knows that the trouble is over, or does not want to.
    pub(super) fn over(&self, of: Subject) {
        let mut state = self.lock();
        if state.told.remove(&of).is_some() || !state.is_known {
            (self.keep)((state.target.clone(), of), None);
        }
    }

    /// Whether it may believe in this trouble.
    pub(super) fn may_know(&self, of: Subject) -> bool {
        let state = self.lock();
        matches!(state.told.get(&of), Some(ToldState::Told(_))) || !state.is_known
    }

    /// It could not be told this. A recovery of what it was not told either says so when it is told at last.
    pub(super) fn is_untold(&self, notice: &Notice) {
        let (of, mut state) = (notice.subject.of(), self.lock());
        match notice.event {
            NoticeKind::Failure => state.failure_untold.insert(of),
            NoticeKind::Recovery => {
                if notice.failure_untold {
                    state.failure_untold.insert(of);
                }
                state.recovery_untold.insert(of)
            }
            _ => false,
        };
    }

    /// Whether the failure was owed; not any more after this.
    pub(super) fn take_failure(&self, of: Subject) -> bool {
        self.lock().failure_untold.remove(&of)
    }

    /// Whether the recovery is owed.
    pub(super) fn owes_recovery(&self, of: Subject) -> bool {
        self.lock().recovery_untold.contains(&of)
    }

    /// Whether the recovery was owed; not any more after this.
    pub(super) fn take_recovery(&self, of: Subject) -> bool {
        self.lock().recovery_untold.remove(&of)
    }

    /// The failures that it is owed.
    pub(super) fn failures(&self) -> Vec<Subject> {
        self.lock().failure_untold.iter().copied().collect()
    }

    /// It has another address from now on, and knows there what it knew.
    pub(super) fn moves(&self, to: TargetKey) {
        let mut state = self.lock();
        if state.target == to {
            return;
        }
        let from = std::mem::replace(&mut state.target, to.clone());
        for (of, known) in &state.told {
            (self.keep)((from.clone(), *of), None);
            (self.keep)((to.clone(), *of), Some(*known));
        }
    }

    /// It is not a target any more.
    pub(super) fn ends(&self) {
        let told: Vec<Subject> = self.lock().told.keys().copied().collect();
        told.into_iter().for_each(|of| self.over(of));
        self.lock().has_ended = true;
    }

    /// Forgets what is not watched any more.
    pub(super) fn watch_only(&self, is_watched: impl Fn(Subject) -> bool) {
        let gone: Vec<Subject> =
            self.lock().told.keys().copied().filter(|of| !is_watched(*of)).collect();
        gone.into_iter().for_each(|of| self.begins(of));
        let mut state = self.lock();
        state.failure_untold.retain(|of| is_watched(*of));
        state.recovery_untold.retain(|of| is_watched(*of));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
