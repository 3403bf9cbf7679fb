//! A server that a failed restore has left broken: until the provider shows it otherwise, no rotation starts, and the
//! snapshot that was to be restored stays.

use jiff::Timestamp;

use crate::foreign::ForeignText;
use crate::health::NotRestored;
use crate::naming::{ServerId, SnapshotId};
use crate::rotation::lock::open_creates::NoteKind;
use crate::rotation::lock::{Busy, Claim, Claims, Exclusion};
use crate::server::Server;

/// What is noted of a failed restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// In which state it has left the server, in the provider's words.
    pub state: String,
    /// What it read; `None` when the note does not tell.
    pub source: Option<SnapshotId>,
}

impl Broken {
    fn text(&self) -> String {
        let source = self.source.map(|it| it.to_string()).unwrap_or_default();
        format!("{}\n{source}\n", self.state)
    }

    fn read(text: &str) -> Self {
        let mut lines = text.lines();
        let state = ForeignText::from(lines.next().unwrap_or_default().trim()).to_string();
        let source = lines.next().and_then(|it| it.parse().ok()).map(SnapshotId);
        Self { state, source }
    }

    /// What that says of the server's health, as seen then.
    pub(crate) fn seen(self, since: Timestamp) -> NotRestored {
        let reason = Busy::Broken(self.state).to_string().into();
        NotRestored { since, reason, source: self.source }
    }

    /// Whether a person may need this snapshot to restore the server again. If it is not known which, it may be any.
    pub(crate) fn needs(&self, snapshot: SnapshotId) -> bool {
        self.source.is_none_or(|source| source == snapshot)
    }
}

impl Claims {
    async fn broken(&self, server: ServerId) -> Option<Broken> {
        let text = self.records().read_note(self.place(server), NoteKind::Broken).await?;
        Some(Broken::read(&text))
    }
}

impl Exclusion {
    /// The same as [`Claim::broken`], for one who only looks.
    pub(crate) async fn broken(&self, server: ServerId) -> Option<Broken> {
        self.0.broken(server).await
    }

    /// The same of those of these servers that are.
    pub(crate) async fn broken_among<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a Server>,
    ) -> Vec<(&'a Server, Broken)> {
        let places = self.0.records().places(NoteKind::Broken).await;
        let mut found = Vec::new();
        if places.is_empty() {
            return found;
        }
        for server in servers.into_iter().filter(|it| places.contains(&self.0.place(it.id))) {
            let broken = self.broken(server.id).await;
            found.extend(broken.map(|it| (server, it)));
        }
        found
    }
}

impl Claim {
    /// It is known that no restore is under way, and the provider shows the server in this state: it is broken.
    pub(crate) async fn restore_has_failed(&self, state: &str) {
        let source = self.noted_restores().await.last_source();
        self.is_broken(Broken { state: state.to_owned(), source }).await;
        let place = self.claims.place(self.server);
        self.claims.records().remove_note(place, NoteKind::Restore).await;
    }

    /// Until the provider shows the server in another state, it is not rotated.
    pub(crate) async fn is_broken(&self, broken: Broken) {
        let place = self.claims.place(self.server);
        // If it cannot be noted, it is rotated as usual.
        let _ = self.claims.records().write_note(place, NoteKind::Broken, broken.text()).await;
    }

    /// How a failed restore has left the server.
    pub(crate) async fn broken(&self) -> Option<Broken> {
        self.claims.broken(self.server).await
    }

    /// The provider does not show it in that state any more.
    pub(crate) async fn is_repaired(&self) {
        let place = self.claims.place(self.server);
        self.claims.records().remove_note(place, NoteKind::Broken).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_does_not_tell_the_source_protects_every_snapshot() {
        let source = Some(SnapshotId(801));
        let broken = Broken { state: "error".to_owned(), source };
        assert_eq!(Broken::read(&broken.text()), broken);
        assert!(broken.needs(SnapshotId(801)) && !broken.needs(SnapshotId(802)));
        for text in ["error\n", "error\n?\n", ""] {
            assert!(Broken::read(text).needs(SnapshotId(802)), "{text:?}");
        }
    }
}
