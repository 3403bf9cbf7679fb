//! A server that may be quiesced: its `before` hook was started, and its `after` hook has not run.
//!
//! That is noted on the disk before `before` starts, so that the next process knows of it when this one
//! is killed, or the machine stops.

use std::collections::HashSet;

use crate::naming::ServerId;
use crate::rotation::lock::open_creates::NoteKind;
use crate::rotation::lock::{Claim, Exclusion};

impl Claim {
    /// The `before` hook is about to be started for this snapshot.
    ///
    /// # Errors
    /// Why that cannot be noted.
    pub(crate) async fn quiesces(&self, snapshot: &str) -> Result<(), String> {
        let place = self.claims.place(self.server);
        self.claims.records().write_note(place, NoteKind::Quiesced, format!("{snapshot}\n")).await
    }

    /// The `after` hook has run, or `before` was not started.
    pub(crate) async fn is_awake(&self) {
        let place = self.claims.place(self.server);
        self.claims.records().remove_note(place, NoteKind::Quiesced).await;
    }

    /// The snapshot for which the server was quiesced, if its `after` hook is still owed. Empty if the
    /// note cannot be read.
    pub(crate) async fn quiesced_for(&self) -> Option<String> {
        let place = self.claims.place(self.server);
        let text = self.claims.records().read_note(place, NoteKind::Quiesced).await?;
        Some(text.trim_end().to_owned())
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[tokio::test]
    async fn the_next_process_knows_of_a_server_that_was_quiesced() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let file = dir.path().join("lock");
            Exclusion::on_machine(&file, "https://a/", &Clock::system()).unwrap()
        };
        let servers = [ServerId::new(1), ServerId::new(2)];
        let first = open();
        assert!(first.quiesced(servers).await.is_empty());
        let claim = first.claim(ServerId::new(2)).unwrap();
        assert_eq!(claim.quiesced_for().await, None);
        claim.quiesces("snapring-20261123T030000Z").await.unwrap();
        drop((claim, first));

        let next = open();
        assert_eq!(next.quiesced(servers).await, [ServerId::new(2)]);
        let claim = next.claim(ServerId::new(2)).unwrap();
        assert_eq!(claim.quiesced_for().await.as_deref(), Some("snapring-20261123T030000Z"));
        claim.is_awake().await;
        assert_eq!(claim.quiesced_for().await, None);
        assert!(open().quiesced(servers).await.is_empty());
    }
}
