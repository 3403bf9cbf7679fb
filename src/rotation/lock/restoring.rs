//! A server that is being restored: its source must stay, and nothing else may start meanwhile.
//!
//! The provider does not answer when a restore has ended, and the command that started it may be killed. So the
//! restore is noted on the disk before it is sent, with a deadline that counts from the start of the machine: no
//! clock that is set moves it. Who sees in the list of servers that it has ended, ends the note
//! ([`restored`](crate::rotation::restored)).

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::foreign::ForeignText;
use crate::moment::shown;
use crate::naming::{ServerId, SnapshotId};
use crate::rotation::lock::open_creates::{NoteKind, Records};
use crate::rotation::lock::{Claim, Exclusion};

/// The provider says 5 to 15 minutes.
pub(crate) const LONGEST: Duration = Duration::from_mins(30);

/// The longest name that is noted.
const NAME_MAX_CHARS: usize = 64;

/// What the provider has said of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreAnswer {
    /// Nothing clear, so far.
    Unclear,
    /// That it has begun.
    Confirmed,
    /// That, and its list of servers has shown the restore. Once it does not any more, the restore is
    /// over.
    Listed,
}

impl RestoreAnswer {
    const ALL: [Self; 3] = [Self::Unclear, Self::Confirmed, Self::Listed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Unclear => "unclear",
            Self::Confirmed => "confirmed",
            Self::Listed => "listed",
        }
    }
}

/// A restore that may be under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restoring {
    /// The snapshot that it reads, and its name; `None` when the note cannot be read.
    pub source: Option<(SnapshotId, String)>,
    /// The snapshot of the state before it, where one was asked for.
    pub safety: Option<SnapshotId>,
    /// What the provider has said of it.
    pub answer: RestoreAnswer,
    /// How long it may still take.
    pub left: Duration,
    /// The same as a time, for messages.
    pub until: Timestamp,
}

impl Restoring {
    /// Whether it needs this snapshot. If it is not known which it needs, it may be any.
    #[must_use]
    pub fn needs(&self, snapshot: SnapshotId) -> bool {
        let is_source = self.source.as_ref().is_none_or(|(source, _)| *source == snapshot);
        is_source || self.safety == Some(snapshot)
    }

    pub(super) fn words(&self, zone: &TimeZone) -> String {
        let until = shown(self.until, zone);
        let from = match &self.source {
            Some((id, name)) => format!(" from snapshot {id} ({name})"),
            None => String::new(),
        };
        let what = match self.answer {
            RestoreAnswer::Confirmed | RestoreAnswer::Listed => {
                format!("the server is being restored{from}")
            }
            RestoreAnswer::Unclear => format!(
                "the server may be in the middle of a restore{from} that the provider did not confirm"
            ),
        };
        format!("{what}; nothing else starts until that has ended, at the latest at {until}")
    }
}

/// What is noted of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    boot: Option<String>,
    /// Since the start of the machine.
    until: Duration,
    source: Option<(SnapshotId, String)>,
    safety: Option<SnapshotId>,
    answer: RestoreAnswer,
}

impl Note {
    fn text(&self) -> String {
        let number = |id: Option<SnapshotId>| id.map_or("-".to_owned(), |id| id.to_string());
        let (source, name) = self.source.clone().unzip();
        format!(
            "{} {} {} {} {}\n{}\n",
            self.boot.as_deref().unwrap_or("-"),
            self.until.as_millis(),
            number(source),
            number(self.safety),
            self.answer.as_str(),
            name.unwrap_or_default(),
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let (words, name) = text.split_once('\n')?;
        let words: Vec<&str> = words.split(' ').collect();
        let [boot, until, source, safety, answer] = *words.as_slice() else { return None };
        let number = |text: &str| match text {
            "-" => Some(None),
            text => text.parse().ok().map(|id| Some(SnapshotId(id))),
        };
        Some(Self {
            boot: (boot != "-").then(|| boot.to_owned()),
            until: Duration::from_millis(until.parse().ok()?),
            source: number(source)?.map(|id| (id, ForeignText::from(name).to_string())),
            safety: number(safety)?,
            answer: RestoreAnswer::ALL.into_iter().find(|it| it.as_str() == answer)?,
        })
    }

    /// How long the restore may still take, `now` after the start of the machine.
    fn left(&self, boot: Option<&str>, now: Duration) -> Duration {
        let left = self.until.saturating_sub(now);
        let is_of_another_boot = match (self.boot.as_deref(), boot) {
            (Some(noted), Some(boot)) => noted != boot,
            _ => left > LONGEST,
        };
        // The restore goes on while this machine starts again.
        if is_of_another_boot { LONGEST.saturating_sub(now) } else { left.min(LONGEST) }
    }
}

/// Restores that wait until the server is free.
impl Exclusion {
    /// A person wants to restore the server from this snapshot. Until that is taken back, no rotation
    /// deletes it; for half an hour at most.
    pub(crate) async fn restore_is_wanted(&self, server: ServerId, source: SnapshotId) {
        let records = self.0.records();
        let note = Note {
            boot: records.boot().map(str::to_owned),
            until: records.since_boot().saturating_add(LONGEST),
            source: Some((source, String::new())),
            safety: None,
            answer: RestoreAnswer::Unclear,
        };
        // If it cannot be noted, the restore says so if its source has gone.
        let _ = records.write_note(self.0.place(server), NoteKind::Wanted, note.text()).await;
    }

    /// The restore does not wait any more.
    pub(crate) async fn restore_waits_no_more(&self, server: ServerId) {
        self.0.records().remove_note(self.0.place(server), NoteKind::Wanted).await;
    }
}

/// Restores of the claimed server.
impl Claim {
    /// Whether a person waits to restore the server from this snapshot.
    pub(crate) async fn is_wanted(&self, snapshot: SnapshotId) -> bool {
        let (records, place) = (self.claims.records(), self.claims.place(self.server));
        let text = records.read_note(place, NoteKind::Wanted).await;
        let note = text.and_then(|text| Note::parse(&text));
        note.is_some_and(|note| {
            let is_it = note.source.as_ref().is_some_and(|(source, _)| *source == snapshot);
            is_it && !note.left(records.boot(), records.since_boot()).is_zero()
        })
    }

    /// A restore is about to be sent, or was answered.
    ///
    /// # Errors
    /// When that cannot be noted: then no other process waits for it.
    pub async fn restore_begins(
        &self,
        source: (SnapshotId, &ForeignText),
        safety: Option<SnapshotId>,
        answer: RestoreAnswer,
    ) -> Result<(), String> {
        let records = self.claims.records();
        let name = source.1.to_string().chars().take(NAME_MAX_CHARS).collect();
        let note = Note {
            boot: records.boot().map(str::to_owned),
            until: records.since_boot().saturating_add(LONGEST),
            source: Some((source.0, name)),
            safety,
            answer,
        };
        self.write(&note).await
    }

    /// The provider's list of servers shows the restore that is noted.
    pub(crate) async fn restore_is_listed(&self) {
        let place = self.claims.place(self.server);
        let text = self.claims.records().read_note(place, NoteKind::Restore).await;
        if let Some(note) = text.and_then(|text| Note::parse(&text)) {
            // If that cannot be noted, the restore holds its server until the deadline.
            let _ = self.write(&Note { answer: RestoreAnswer::Listed, ..note }).await;
        }
    }

    /// It is known that none is under way.
    pub async fn restore_is_over(&self) {
        let place = self.claims.place(self.server);
        self.claims.records().remove_note(place, NoteKind::Restore).await;
    }

    /// The restore that may be under way. `now` is for the message.
    pub async fn restoring(&self, now: Timestamp) -> Option<Restoring> {
        let records = self.claims.records();
        if matches!(records, Records::None) {
            return None;
        }
        let place = self.claims.place(self.server);
        let text = records.read_note(place, NoteKind::Restore).await?;
        let since_boot = records.since_boot();
        let note = match Note::parse(&text) {
            Some(note) => note,
            None => {
                // When it began is not known. Noted anew, it ends all the same.
                let until = since_boot.saturating_add(LONGEST);
                let boot = records.boot().map(str::to_owned);
                let answer = RestoreAnswer::Unclear;
                let note = Note { boot, until, source: None, safety: None, answer };
                // Where that is impossible too, waiting would have no end.
                self.write(&note).await.ok()?;
                note
            }
        };
        let left = note.left(records.boot(), since_boot);
        if left.is_zero() {
            self.restore_is_over().await;
            return None;
        }
        let Note { source, safety, answer, .. } = note;
        let span = SignedDuration::try_from(left).unwrap_or_default();
        let until = now.checked_add(span).unwrap_or(now);
        Some(Restoring { source, safety, answer, left, until })
    }

    async fn write(&self, note: &Note) -> Result<(), String> {
        let place = self.claims.place(self.server);
        self.claims.records().write_note(place, NoteKind::Restore, note.text()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const WEB: ServerId = ServerId::new(101);
    const SOURCE: SnapshotId = SnapshotId(801);

    fn minutes(number: u64) -> Duration {
        Duration::from_mins(number)
    }

    fn note(boot: Option<&str>, until: Duration) -> Note {
        let source = Some((SOURCE, "before the upgrade".to_owned()));
        let boot = boot.map(str::to_owned);
        let answer = RestoreAnswer::Confirmed;
        Note { boot, until, source, safety: Some(SnapshotId(802)), answer }
    }

    #[tokio::test]
    async fn what_a_person_waits_to_restore_from_is_known_to_who_has_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let file = dir.path().join("lock");
            Exclusion::on_machine(&file, "https://a/", &Clock::system()).unwrap()
        };
        let (daemon, person) = (open(), open());
        let claim = daemon.claim(WEB).unwrap();
        assert!(!claim.is_wanted(SOURCE).await);
        person.restore_is_wanted(WEB, SOURCE).await;
        assert!(claim.is_wanted(SOURCE).await && !claim.is_wanted(SnapshotId(802)).await);
        person.restore_waits_no_more(WEB).await;
        assert!(!claim.is_wanted(SOURCE).await);
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for boot in [None, Some("b007")] {
            let written = note(boot, minutes(90));
            assert_eq!(Note::parse(&written.text()), Some(written));
        }
        let answer = RestoreAnswer::Unclear;
        let bare = Note { source: None, safety: None, answer, ..note(None, minutes(1)) };
        assert_eq!(Note::parse(&bare.text()), Some(bare));
        for text in ["", "\n", "a b c d e\n", "- 5 - -\n", "- 5 x - listed\nname\n"] {
            assert_eq!(Note::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_restart_of_the_machine_neither_ends_a_restore_nor_makes_it_longer_than_it_can_take() {
        let noted = note(Some("one"), minutes(500));
        assert_eq!(noted.left(Some("one"), minutes(490)), minutes(10));
        assert_eq!(noted.left(Some("one"), minutes(510)), Duration::ZERO);
        assert_eq!(noted.left(Some("one"), minutes(1)), LONGEST);
        assert_eq!(noted.left(Some("two"), minutes(4)), minutes(26));
        assert_eq!(noted.left(Some("two"), minutes(490)), Duration::ZERO);
        // In which boot this is, or that was, is hidden.
        for (boot, own) in [(None, None), (None, Some("one")), (Some("one"), None)] {
            let noted = note(boot, minutes(500));
            assert_eq!(noted.left(own, minutes(490)), minutes(10));
            assert_eq!(noted.left(own, minutes(4)), minutes(26));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restore_outlives_its_command_for_half_an_hour() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
        let file = directory.path().join("lock");
        let process = || Exclusion::on_machine(&file, "a", &clock).unwrap();
        let command = process();
        let claim = command.claim(WEB).unwrap();
        claim
            .restore_begins((SOURCE, &"two\nlines".into()), None, RestoreAnswer::Unclear)
            .await
            .unwrap();
        drop((claim, command));

        let other = process();
        assert!(
            other.claim(ServerId::new(102)).unwrap().restoring(clock.now().wall).await.is_none()
        );
        clock.sleep(minutes(29)).await;
        clock.step(SignedDuration::from_hours(-5));
        let restoring = other.claim(WEB).unwrap().restoring(clock.now().wall).await.unwrap();
        assert_eq!(restoring.left, minutes(1));
        assert!(restoring.needs(SOURCE) && !restoring.needs(SnapshotId(802)));
        let words = restoring.words(&TimeZone::UTC);
        assert!(words.contains("801 (two lines) that the provider did not confirm"), "{words}");
        assert!(words.ends_with("at the latest at 2026-11-23 07:30:00 UTC"), "{words}");
        clock.sleep(minutes(1)).await;
        assert!(process().claim(WEB).unwrap().restoring(clock.now().wall).await.is_none());
        let left = directory.path().join("lock.creates").read_dir().unwrap();
        assert_eq!(left.count(), 1, "`since`");
    }

    #[tokio::test(start_paused = true)]
    async fn a_note_that_cannot_be_understood_protects_every_snapshot_and_ends() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
        let exclusion = Exclusion::on_machine(&directory.path().join("lock"), "a", &clock).unwrap();
        let claim = exclusion.claim(WEB).unwrap();
        claim.restore_begins((SOURCE, &"x".into()), None, RestoreAnswer::Listed).await.unwrap();
        let files = directory.path().join("lock.creates").read_dir().unwrap();
        let note = files.map(|it| it.unwrap().path()).find(|it| it.extension().is_some()).unwrap();
        std::fs::write(note, "?").unwrap();
        let restoring = claim.restoring(clock.now().wall).await.unwrap();
        assert!(restoring.needs(SnapshotId(4711)) && restoring.left == LONGEST);
        clock.sleep(minutes(20)).await;
        assert_eq!(claim.restoring(clock.now().wall).await.unwrap().left, minutes(10));
        clock.sleep(minutes(10)).await;
        assert_eq!(claim.restoring(clock.now().wall).await, None);
    }
}
