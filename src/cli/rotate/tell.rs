//! Notices of a single run, as a timer starts it without a daemon.
//!
//! What is news follows from how the servers stood before and from what each target was told, as the store
//! knows it. Without a store that lasts, nothing is known: then each failing run tells its failures, and no
//! recovery is told.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::cli::console;
use crate::cli::error::CommandError;
use crate::cli::setup::{STORE_PATIENCE, Setup};
use crate::naming::Subject;
use crate::notify::Notices;
use crate::notify::http::HttpPost;
use crate::notify::told::ToldBook;
use crate::report::{LastOfServer, Report};
use crate::rotation::lock::Exclusion;
use crate::status::counts::Counts;
use crate::store::told::{Told, ToldChanges};
use crate::store::{self, StoreError};

/// Whether notices are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Yes,
    No,
    /// A person who runs it sees what happens.
    UnlessAtATerminal,
}

impl Wish {
    fn is_granted(self) -> bool {
        match self {
            Self::Yes => true,
            Self::No => false,
            Self::UnlessAtATerminal => {
                !std::io::stdin().is_terminal() && !std::io::stderr().is_terminal()
            }
        }
    }
}

/// The notices of a run.
pub(super) struct Run {
    /// How the servers stood before; `None`: nothing is told.
    before: Option<Before>,
    /// A daemon learns of the run from the store, and tells the same targets of the same servers.
    by_daemon: bool,
}

/// What the store knows from before the run.
#[derive(Default)]
struct Before {
    servers: Vec<LastOfServer>,
    told: Option<Told>,
}

impl Run {
    /// Before the run: how the servers stand, and who tells.
    pub(super) async fn begin(setup: &Setup, wish: Wish, exclusion: &Exclusion) -> Self {
        if setup.settings.notify.is_empty() || !wish.is_granted() {
            return Self { before: None, by_daemon: false };
        }
        let by_daemon = setup.has_daemon(exclusion);
        Self { before: Some(known(setup).await), by_daemon }
    }

    /// After the run: tells what is news. `is_recorded`: whether the store has all of it. Gives whether nothing
    /// was left undelivered.
    pub(super) async fn tell(
        self,
        setup: &Setup,
        reports: &[(Report, Timestamp)],
        is_recorded: bool,
    ) -> bool {
        let Some(before) = self.before else { return true };
        if self.by_daemon && is_recorded {
            tracing::info!(event = "notice", "notices are left to the daemon that runs");
            return true;
        }
        let counts = Counts::default();
        let looked_at = looked_at(&before.servers, reports);
        let changes = Arc::new(Mutex::new(ToldChanges::new()));
        let changing = Arc::clone(&changes);
        let told = ToldBook {
            known: before.told.map(Arc::new),
            keep: Arc::new(move |of, state| {
                changing.lock().unwrap_or_else(PoisonError::into_inner).insert(of, state);
            }),
        };
        let post = Arc::new(HttpPost::new(setup.clock.clone()));
        let settings = &setup.settings;
        let notices = Notices::start(
            settings.audience(),
            before.servers,
            told,
            setup.clock.clone(),
            post,
            counts.clone(),
        );
        for (report, ended) in reports {
            notices.on_report(report, *ended);
        }
        for cover in &settings.covers {
            let account = cover.account();
            notices.on_cover(account, setup.lacks.unlisted.iter().find(|it| it.account == account));
        }
        notices.remind_since(&looked_at);
        notices.end().await;
        let changes = std::mem::take(&mut *changes.lock().unwrap_or_else(PoisonError::into_inner));
        keep(setup, &changes).await;
        counts.undelivered() == 0
    }
}

/// Tells what is known of accounts with a `cover` if no server can be rotated.
pub(super) async fn without_rotation(setup: &Setup, wish: Wish) -> Result<(), CommandError> {
    if !setup.lacks.is_nothing() {
        let run = Run::begin(setup, wish, &setup.exclusion("rotate")?).await;
        // How the command ends is known.
        let _ = run.tell(setup, &[], true).await;
    }
    Ok(())
}

/// Keeps what was told for the next run.
async fn keep(setup: &Setup, changes: &ToldChanges) {
    let place = setup.store();
    let words = match setup.clock.timeout(STORE_PATIENCE, store::add_told(&place, changes)).await {
        Some(Ok(())) => return,
        Some(Err(trouble)) => trouble.to_string(),
        None => "no answer".to_owned(),
    };
    console::warning(&format!(
        "the store could not record which notices were sent, so they may be sent again: {place}: {words}"
    ));
}

/// When each server of this run, and each account, was last looked at before it.
fn looked_at(
    before: &[LastOfServer],
    reports: &[(Report, Timestamp)],
) -> BTreeMap<Subject, Timestamp> {
    let last = |it: &LastOfServer| it.rotations.iter().map(|past| past.ended_at).max();
    let is_of_run = |it: &&LastOfServer| reports.iter().any(|(of, _)| of.server_id == it.server_id);
    let servers = before.iter().filter(is_of_run);
    let mut looked_at: BTreeMap<Subject, Timestamp> =
        servers.filter_map(|it| Some((Subject::Server(it.server_id), last(it)?))).collect();
    for (it, at) in before.iter().filter_map(|it| Some((it, last(it)?))) {
        let account = it.server_id.account;
        for of in [Subject::Account(account), Subject::Cover(account)] {
            let of_account = looked_at.entry(of).or_insert(at);
            *of_account = at.max(*of_account);
        }
    }
    looked_at
}

async fn known(setup: &Setup) -> Before {
    let place = setup.store();
    if !place.may_be_there() {
        let is_kept = place.may_be_begun();
        return Before { servers: Vec::new(), told: is_kept.then(Told::new) };
    }
    let read = async {
        let servers = store::read_last(&place, setup.clock.now().wall).await?;
        // A daemon of an older version has kept nothing of it.
        let told = store::read_told(&place).await;
        let told = told.map(Some).or_else(|trouble| unless_empty(trouble, None))?;
        Ok(Before { servers, told })
    };
    let words = match setup.clock.timeout(STORE_PATIENCE, read).await {
        Some(read) => match read.or_else(|trouble| unless_empty(trouble, Before::default())) {
            Ok(before) => return before,
            Err(trouble) => trouble.to_string(),
        },
        None => "no answer".to_owned(),
    };
    console::warning(&format!(
        "earlier failures are unknown, so every failure is reported: {place}: {words}"
    ));
    Before::default()
}

/// A store in which nothing was ever written knows nothing, and that is no trouble.
fn unless_empty<T>(trouble: StoreError, nothing: T) -> Result<T, StoreError> {
    if trouble.is_empty_store() { Ok(nothing) } else { Err(trouble) }
}
