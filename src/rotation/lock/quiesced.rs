//! A server that may be quiesced: its `before` hook was started, and its `after` hook has not succeeded.
//!
//! That is noted on the disk before `before` starts, so that the next process knows of it when this one
//! is killed, or the machine stops. The note stays until an `after` hook of the server succeeds, or a person says that
//! the server was resumed.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::foreign::ForeignText;
use crate::naming::{Account, ServerId};
use crate::rotation::lock::open_creates::NoteKind;
use crate::rotation::lock::{Claim, Exclusion};
use crate::server::Server;

/// How much of a hook's failure is noted, in characters.
const EXCERPT: usize = 600;

/// How a failed `after` hook's problem begins.
const AFTER_FAILED: &str = "the after hook failed: ";

/// A server whose `after` hook is owed. For programs, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiesced {
    /// The provider's number.
    pub server_id: ServerId,
    /// Its account, unless that is the one of `[api]`.
    pub account: Option<String>,
    /// Its name in the configuration of that time.
    pub server: String,
    /// The snapshot that it was quiesced for. Empty if the note cannot be read.
    pub snapshot: String,
    /// Why its `after` hook did not succeed; `None`: it has not run.
    pub failed: Option<String>,
    /// Whether a rotation resumes it, as far as the configuration is known that says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rotated: bool,
}

impl Quiesced {
    /// What a note says. Older versions noted only the snapshot: then the server is not known.
    fn read(text: &str) -> (String, Option<ServerId>, String, Option<String>) {
        let mut lines = text.lines();
        let mut line = || ForeignText::from(lines.next().unwrap_or_default()).to_string();
        let (snapshot, number, account, name) = (line(), line(), line(), line());
        let id = number.parse().ok().zip(Account::of_key(&account));
        let id = id.map(|(number, account)| ServerId { account, number });
        (snapshot, id, name, Some(line()).filter(|it| !it.is_empty()))
    }

    fn note(&self, account: Account) -> String {
        let Self { server_id, server, snapshot, failed, .. } = self;
        let failed = failed.as_deref().unwrap_or_default();
        format!("{snapshot}\n{}\n{}\n{server}\n{failed}\n", server_id.number, account.key())
    }

    fn of(server: ServerId, name: &str, snapshot: String, failed: Option<String>) -> Self {
        let account = server.account.label().map(str::to_owned);
        let name = name.to_owned();
        Self { server_id: server, account, server: name, snapshot, failed, rotated: false }
    }

    /// Whether no rotation resumes it: its server is out of the configuration, or was disabled after its hook failed.
    /// `may_be_covered`: whether a `cover` may give a policy to one that is not configured.
    #[must_use]
    pub(crate) fn is_unrotated(
        &self,
        server: Option<&Server>,
        may_be_covered: impl FnOnce() -> bool,
    ) -> bool {
        match server {
            Some(server) => !server.enabled && self.failed.is_some(),
            None => !may_be_covered(),
        }
    }

    /// For a person: what is owed, and what to do.
    #[must_use]
    pub fn words(&self) -> String {
        let (owed, server) = (self.owed(), self.called());
        format!("{owed}. Resume the server by hand, then run `snapring resumed {server}`")
    }

    /// The same with its server, beside what is said of others.
    #[must_use]
    pub fn words_with_server(&self) -> String {
        let Self { server, server_id, .. } = self;
        let number = server_id.number;
        if !self.rotated {
            return format!("{server} ({number}) is not rotated, but {}", self.words());
        }
        let (owed, called) = (self.owed(), self.called());
        format!(
            "{server} ({number}) is still quiesced: {owed}. `snapring rotate {called}` runs the after hook. If you have \
             resumed the server by hand, run `snapring resumed {called}`"
        )
    }

    fn owed(&self) -> String {
        let after = match self.failed.as_deref() {
            // A hook's own words begin with that.
            Some(reason) => {
                format!("failed: {}", reason.strip_prefix(AFTER_FAILED).unwrap_or(reason))
            }
            None => "has not run".to_owned(),
        };
        format!("the before hook of {} ran, and the after hook {after}", self.snapshot)
    }

    /// How commands call its server.
    fn called(&self) -> String {
        let Self { server, server_id, .. } = self;
        if server.is_empty() { server_id.number.to_string() } else { server.clone() }
    }
}

impl Claim {
    /// The `before` hook is about to be started for this snapshot.
    ///
    /// # Errors
    /// Why that cannot be noted.
    pub(crate) async fn quiesces(&self, name: &str, snapshot: &str) -> Result<(), String> {
        self.note_quiesced(&Quiesced::of(self.server, name, snapshot.to_owned(), None)).await
    }

    /// The `after` hook has failed, and the server stays quiesced. Nothing, if it was not.
    ///
    /// # Errors
    /// Why that cannot be noted.
    pub(crate) async fn stays_quiesced(&self, name: &str, reason: &str) -> Result<(), String> {
        let Some(quiesced) = self.quiesced(name).await else { return Ok(()) };
        let reason = ForeignText::excerpt(reason, EXCERPT).to_string();
        self.note_quiesced(&Quiesced { failed: Some(reason), ..quiesced }).await
    }

    async fn note_quiesced(&self, quiesced: &Quiesced) -> Result<(), String> {
        let place = self.claims.place(self.server);
        let text = quiesced.note(self.server.account);
        self.claims.records().write_note(place, NoteKind::Quiesced, text).await
    }

    /// The `after` hook has succeeded, or a person has resumed the server.
    pub(crate) async fn is_awake(&self) {
        let place = self.claims.place(self.server);
        self.claims.records().remove_note(place, NoteKind::Quiesced).await;
    }

    /// What the server was quiesced for, if its `after` hook is still owed.
    pub(crate) async fn quiesced(&self, name: &str) -> Option<Quiesced> {
        let place = self.claims.place(self.server);
        let text = self.claims.records().read_note(place, NoteKind::Quiesced).await?;
        let (snapshot, _, _, failed) = Quiesced::read(&text);
        Some(Quiesced::of(self.server, name, snapshot, failed))
    }
}

impl Exclusion {
    /// Which of these servers may be quiesced.
    pub(crate) async fn quiesced(
        &self,
        servers: impl IntoIterator<Item = ServerId>,
    ) -> Vec<ServerId> {
        let places: HashSet<i64> = self.0.records().places(NoteKind::Quiesced).await;
        let is_noted = |server: &ServerId| places.contains(&self.0.place(*server));
        if places.is_empty() { Vec::new() } else { servers.into_iter().filter(is_noted).collect() }
    }

    /// All servers that were left quiesced, of this configuration's accounts. One that a process works on at
    /// present is not among them: its hook is still to come.
    pub(crate) async fn all_quiesced(&self) -> Vec<Quiesced> {
        let records = self.0.records();
        let mut found = Vec::new();
        for place in records.places(NoteKind::Quiesced).await {
            let note = async || records.read_note(place, NoteKind::Quiesced).await;
            let text = note().await.unwrap_or_default();
            let (snapshot, Some(id), name, failed) = Quiesced::read(&text) else { continue };
            // A rotation that ended between the first two looks has taken its note along.
            if self.0.place(id) == place
                && !self.is_claimed(id)
                && note().await.as_ref() == Some(&text)
            {
                found.push(Quiesced::of(id, &name, snapshot, failed));
            }
        }
        found.sort_by_key(|it| it.server_id);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const SNAPSHOT: &str = "snapring-20261123T030000Z";

    /// A person looks for the words of the message.
    #[test]
    fn the_guide_names_a_failed_hook_as_messages_do() {
        let guide = include_str!("../../../docs/MONITORING.md");
        assert!(guide.contains(&format!("**`{}`:**", AFTER_FAILED.trim_end_matches(": "))));
        let of = |failed: &str| {
            let snapshot = "snapring-20261123T030000Z".to_owned();
            Quiesced::of(ServerId::new(101), "web", snapshot, Some(failed.to_owned())).words()
        };
        let ran = "the before hook of snapring-20261123T030000Z ran, and the after hook failed: ";
        let own = of(&format!("{AFTER_FAILED}it ended with exit status: 7"));
        assert!(own.starts_with(&format!("{ran}it ended with exit status: 7. ")), "{own}");
        assert!(of("it is gone").starts_with(&format!("{ran}it is gone. ")));
    }

    #[tokio::test]
    async fn the_next_process_knows_of_a_server_that_was_quiesced() {
        let dir = tempfile::tempdir().unwrap();
        let open_for = |address: &str| {
            let file = dir.path().join("lock");
            Exclusion::on_machine(&file, address, &Clock::system()).unwrap()
        };
        let open = || open_for("https://a/");
        let servers = [ServerId::new(1), ServerId::new(2)];
        let first = open();
        assert!(first.quiesced(servers).await.is_empty());
        let claim = first.claim(ServerId::new(2)).unwrap();
        assert_eq!(claim.quiesced("web").await, None);
        assert_eq!(claim.stays_quiesced("web", "there is no note").await, Ok(()));
        claim.quiesces("web", SNAPSHOT).await.unwrap();
        assert!(first.all_quiesced().await.is_empty(), "its hook is still to come");
        let next = open();
        assert!(next.all_quiesced().await.is_empty(), "the same for other processes");
        drop((claim, first));

        assert_eq!(next.quiesced(servers).await, [ServerId::new(2)]);
        let [left] = next.all_quiesced().await.try_into().unwrap();
        let Quiesced { server_id, server, snapshot, failed, .. } = &left;
        assert_eq!((*server_id, server.as_str()), (ServerId::new(2), "web"));
        assert_eq!((snapshot.as_str(), failed), (SNAPSHOT, &None));
        assert_eq!(open_for("https://b/").all_quiesced().await, [], "another provider's server");
        let claim = next.claim(ServerId::new(2)).unwrap();
        assert_eq!(claim.quiesced("web").await, Some(left));
        claim.stays_quiesced("web", "exit 7\nand more").await.unwrap();
        let failed = claim.quiesced("web").await.unwrap();
        assert_eq!(failed.snapshot, SNAPSHOT);
        assert_eq!(failed.failed.as_deref(), Some("exit 7 and more"));
        claim.is_awake().await;
        assert_eq!(claim.quiesced("web").await, None);
        assert!(open().quiesced(servers).await.is_empty());
    }
}
