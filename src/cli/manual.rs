//! What a person does by hand is recorded: in the history, in the log, and in the journal of this machine.

use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::{Uid, User, getuid};

use crate::cli::recorder::Recorder;
use crate::cli::setup::Setup;
use crate::clock::Clock;
use crate::foreign::ForeignText;
use crate::manual::{ManualAct, ManualAction, ManualOutcome, Person};
use crate::naming::{ServerId, SnapshotId};
use crate::telemetry;

/// How long the system may take to name a user: it may ask a directory over the network.
const NAMED_WITHIN: Duration = Duration::from_secs(2);

/// The longest name that is recorded.
const NAME_CHARACTERS: usize = 64;

/// What is recorded until the command says more, and stays so if it is killed.
const NO_END: &str = "the command did not report how it ended";

/// The same of a restore, which may wait for long before it is sent.
const NOT_SENT: &str = "nothing had been sent to the provider when this was written; the command did not report how it ended";
const SENT: &str = "the restore was sent, and the command did not report how it ended: look at the server in the \
                    provider's panel";

/// One act, from the moment when it is confirmed. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Recording(Arc<Mutex<ManualAct>>);

impl Recording {
    /// The person has confirmed it. It is written to the history now, in case the command is killed.
    pub(super) async fn begin(
        setup: &Setup,
        recorder: &Recorder,
        action: ManualAction,
        server: ServerId,
        (snapshot_id, snapshot): (Option<SnapshotId>, String),
    ) -> Self {
        let now = setup.clock.now().wall;
        let name = setup.server(server).map(|server| server.name.clone());
        let act = ManualAct {
            started_at: now,
            ended_at: now,
            server_id: server,
            server: name.unwrap_or_else(|| format!("server-{server}")),
            action,
            outcome: ManualOutcome::Unknown,
            snapshot_id,
            snapshot: Some(snapshot),
            safety_id: None,
            safety: None,
            by: this_person(&setup.clock).await,
            reason: Some(
                if action == ManualAction::Restore { NOT_SENT } else { NO_END }.to_owned(),
            ),
            pid: std::process::id(),
        };
        recorder.manual(act.clone());
        Self(Arc::new(Mutex::new(act)))
    }

    /// The id of a snapshot that was created.
    pub(super) fn is_of(&self, snapshot: SnapshotId) {
        self.with(|act| act.snapshot_id = Some(snapshot));
    }

    /// A restore is about to be sent.
    pub(super) fn is_sent(&self, recorder: &Recorder) {
        recorder.manual(self.with(|act| {
            act.reason = Some(SENT.to_owned());
            act.clone()
        }));
    }

    /// A restore has taken this snapshot first.
    pub(super) fn has_taken(&self, recorder: &Recorder, id: SnapshotId, name: &str) {
        self.with(|act| (act.safety_id, act.safety) = (Some(id), Some(name.to_owned())));
        recorder.manual(self.with(|act| act.clone()));
    }

    /// What has become of it: at its end, and before it where that is far away.
    pub(super) fn is(
        &self,
        setup: &Setup,
        recorder: &Recorder,
        outcome: ManualOutcome,
        reason: Option<String>,
    ) {
        let (act, is_news) = self.with(|act| {
            let is_news = (act.outcome, &act.reason) != (outcome, &reason);
            (act.outcome, act.reason) = (outcome, reason);
            act.ended_at = setup.clock.now().wall;
            (act.clone(), is_news)
        });
        if is_news {
            telemetry::in_the_journal_too(|| log(&act));
        }
        recorder.manual(act);
    }

    fn with<T>(&self, change: impl FnOnce(&mut ManualAct) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes the event of an act.
fn log(act: &ManualAct) {
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                event = "manual",
                action = act.action.as_str(),
                outcome = act.outcome.as_str(),
                server_id = act.server_id.number,
                account = act.server_id.account.label(),
                server = act.server.as_str(),
                snapshot_id = act.snapshot_id.map(|id| id.0),
                snapshot = act.snapshot.as_deref(),
                safety_id = act.safety_id.map(|id| id.0),
                safety = act.safety.as_deref(),
                uid = act.by.uid,
                user = act.by.user.as_deref(),
                sudo_user = act.by.sudo_user.as_deref(),
                reason = act.reason.as_deref(),
                "{}: {}",
                act.by,
                act.words()
            )
        };
    }
    match act.outcome {
        ManualOutcome::Done | ManualOutcome::Started => event!(info),
        // The command says it itself, to the person who is there.
        ManualOutcome::Failed | ManualOutcome::Unknown => event!(warn),
    }
}

/// Who runs this command.
pub(super) async fn this_person(clock: &Clock) -> Person {
    person(clock, |name| std::env::var_os(name)).await
}

async fn person(clock: &Clock, variable: impl Fn(&str) -> Option<OsString>) -> Person {
    let uid = getuid();
    let named = tokio::task::spawn_blocking(move || name_of(uid));
    let user = clock.timeout(NAMED_WITHIN, named).await.and_then(Result::ok).flatten();
    let sudo_user = variable("SUDO_USER").filter(|it| !it.is_empty());
    Person { uid: uid.as_raw(), user, sudo_user: sudo_user.map(|it| shown(&it.to_string_lossy())) }
}

fn name_of(uid: Uid) -> Option<String> {
    User::from_uid(uid).ok().flatten().map(|user| shown(&user.name))
}

fn shown(name: &str) -> String {
    ForeignText::excerpt(name, NAME_CHARACTERS).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_person_is_who_the_system_says_and_who_called_sudo() {
        let clock = Clock::system();
        let alone = person(&clock, |_| None).await;
        assert_eq!((alone.uid, &alone.sudo_user), (getuid().as_raw(), &None));
        assert_eq!(alone.user, name_of(getuid()));
        let sudo = |name: &str| (name == "SUDO_USER").then(|| OsString::from("anna\nforged"));
        assert_eq!(person(&clock, sudo).await.sudo_user.as_deref(), Some("anna forged"));
    }
}
