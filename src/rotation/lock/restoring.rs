//! A server that is being restored: its source must stay, and nothing else may start meanwhile.
//!
//! The provider does not answer when a restore has ended, and the command that started it may be killed. So the
//! restore is noted on the disk before it is sent, with a deadline that counts from the start of the machine: no
//! clock that is set moves it. Who sees in the list of servers that it has ended, ends the note
//! ([`restored`](crate::rotation::restored)).

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::foreign::ForeignText;
use crate::moment::shown;
use crate::naming::{ServerId, SnapshotId};
use crate::rotation::lock::open_creates::{NoteKind, Records};
use crate::rotation::lock::{Claim, Exclusion};
use crate::server::Server;

/// The provider says 5 to 15 minutes.
pub(crate) const LONGEST: Duration = Duration::from_mins(30);

/// How many restores of a server are noted, and how many people can wait to restore it.
const MOST: usize = 16;
const MOST_WAITING: u8 = 16;

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
    /// What earlier ones read, and the snapshots created before them: they may be under way as well.
    pub earlier: Vec<(Option<SnapshotId>, Option<SnapshotId>)>,
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
        let last = (self.source.as_ref().map(|(source, _)| *source), self.safety);
        self.earlier.iter().chain([&last]).any(|(source, safety)| {
            source.is_none_or(|source| source == snapshot) || *safety == Some(snapshot)
        })
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

/// A server that a restore holds. For programs, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreUnderWay {
    /// The provider's number.
    pub server_id: ServerId,
    /// Its account, unless that is the one of `[api]`.
    pub account: Option<String>,
    /// Its name in the configuration.
    pub server: String,
    /// The snapshot that is restored, if that is known.
    pub snapshot_id: Option<SnapshotId>,
    /// When it is over, at the latest.
    pub until: Timestamp,
}

impl RestoreUnderWay {
    fn of(server: &Server, restoring: &Restoring) -> Self {
        Self {
            server_id: server.id,
            account: server.id.account.label().map(str::to_owned),
            server: server.name.clone(),
            snapshot_id: restoring.source.as_ref().map(|(id, _)| *id),
            until: restoring.until,
        }
    }

    /// For a person, with times in this zone.
    #[must_use]
    pub fn words(&self, zone: &TimeZone) -> String {
        let Self { server_id, server, until, .. } = self;
        let from = self.snapshot_id.map_or(String::new(), |id| format!(" from snapshot {id}"));
        let until = shown(*until, zone);
        format!(
            "{server} ({}) is being restored{from}; it is not rotated until that has ended, at the latest at {until}",
            server_id.number
        )
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

/// What is noted of a server: each restore that may be under way, the last one at the end. The provider refuses a
/// restore while another one is under way, but an answer that never came does not tell which of them it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NotedRestores(Vec<Note>);

impl NotedRestores {
    fn text(&self) -> String {
        self.0.iter().map(Note::text).collect()
    }

    /// `None`: something in it cannot be understood.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let notes = lines.chunks(2).map(|note| Note::parse(&note.concat()));
        notes.collect::<Option<Vec<_>>>().filter(|notes| !notes.is_empty()).map(Self)
    }

    /// What the last one reads.
    pub(super) fn last_source(&self) -> Option<SnapshotId> {
        self.0.last()?.source.as_ref().map(|(id, _)| *id)
    }

    /// The restores that may be under way, told as the last one. `now` is for the message.
    fn under_way(self, records: &Records, now: Timestamp) -> Option<Restoring> {
        let since_boot = records.since_boot();
        let left = |note: &Note| note.left(records.boot(), since_boot);
        let longest = self.0.iter().map(left).max()?;
        let mut under_way = self.0.into_iter().filter(|note| !left(note).is_zero());
        let Note { source, safety, answer, .. } = under_way.next_back()?;
        let earlier = under_way.map(|it| (it.source.map(|(id, _)| id), it.safety)).collect();
        let span = SignedDuration::try_from(longest).unwrap_or_default();
        let until = now.checked_add(span).unwrap_or(now);
        Some(Restoring { source, safety, earlier, answer, left: longest, until })
    }

    /// Adds a restore, in place of what was noted of the same one.
    fn add(&mut self, note: Note) {
        let reads = |it: &Note| (it.source.as_ref().map(|(id, _)| *id), it.safety);
        self.0.retain(|it| reads(it) != reads(&note));
        self.0.push(note);
        // More than any server has snapshots. All are protected then.
        if self.0.len() > MOST
            && let Some(last) = self.0.pop()
        {
            self.0 = vec![Note { source: None, ..last }];
        }
    }
}

/// A person who waits to restore a server.
#[derive(Debug)]
pub(crate) struct Wanted {
    server: ServerId,
    kind: NoteKind,
    text: String,
}

/// Restores, for who only looks, and those that wait until the server is free.
impl Exclusion {
    /// Which of these servers a restore holds. Changes nothing. `now` is for the messages.
    pub(crate) async fn restores<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a Server>,
        now: Timestamp,
    ) -> Vec<RestoreUnderWay> {
        let records = self.0.records();
        let places = records.places(NoteKind::Restore).await;
        let mut found = Vec::new();
        if places.is_empty() {
            return found;
        }
        for server in servers.into_iter().filter(|it| places.contains(&self.0.place(it.id))) {
            let text = records.read_note(self.0.place(server.id), NoteKind::Restore).await;
            let notes = text.and_then(|text| NotedRestores::parse(&text));
            let restoring = notes.and_then(|notes| notes.under_way(records, now));
            found.extend(restoring.map(|it| RestoreUnderWay::of(server, &it)));
        }
        found
    }

    /// A person wants to restore the server from this snapshot. Until that is taken back, no rotation
    /// deletes it; for half an hour at most.
    pub(crate) async fn restore_is_wanted(
        &self,
        server: ServerId,
        source: SnapshotId,
    ) -> Option<Wanted> {
        let (records, place) = (self.0.records(), self.0.place(server));
        let note = Note {
            boot: records.boot().map(str::to_owned),
            until: records.since_boot().saturating_add(LONGEST),
            source: Some((source, String::new())),
            safety: None,
            answer: RestoreAnswer::Unclear,
        };
        for (kind, text) in records.read_notes(place, wanted()).await {
            let left = Note::parse(&text).map(|it| it.left(records.boot(), records.since_boot()));
            if left.is_some_and(|left| left.is_zero()) {
                records.remove_note_that_says(place, kind, Some(text)).await;
            }
        }
        let text = note.text();
        for kind in wanted() {
            if records.write_first_note(place, kind, text.clone()).await {
                return Some(Wanted { server, kind, text });
            }
        }
        // If it cannot be noted, the restore says so if its source has gone.
        None
    }

    /// The restore does not wait any more. Others may.
    pub(crate) async fn restore_waits_no_more(&self, wanted: Option<Wanted>) {
        let Some(Wanted { server, kind, text }) = wanted else { return };
        let (records, place) = (self.0.records(), self.0.place(server));
        records.remove_note_that_says(place, kind, Some(text)).await;
    }
}

/// The notes of those who wait.
fn wanted() -> impl Iterator<Item = NoteKind> {
    (0..MOST_WAITING).map(NoteKind::Wanted)
}

/// Restores of the claimed server.
impl Claim {
    /// Whether a person waits to restore the server from this snapshot.
    pub(crate) async fn is_wanted(&self, snapshot: SnapshotId) -> bool {
        let (records, place) = (self.claims.records(), self.claims.place(self.server));
        records.read_notes(place, wanted()).await.iter().any(|(_, text)| {
            let Some(note) = Note::parse(text) else { return false };
            let is_it = note.source.as_ref().is_some_and(|(source, _)| *source == snapshot);
            is_it && !note.left(records.boot(), records.since_boot()).is_zero()
        })
    }

    /// A restore is about to be sent, or was answered. Earlier ones that were not answered clearly remain
    /// noted.
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
        let mut notes = self.notes().await.unwrap_or_default();
        notes.add(Note {
            boot: records.boot().map(str::to_owned),
            until: records.since_boot().saturating_add(LONGEST),
            source: Some((source.0, name)),
            safety,
            answer,
        });
        self.write(&notes).await
    }

    /// What is noted of restores that were sent.
    pub(crate) async fn noted_restores(&self) -> NotedRestores {
        self.notes().await.unwrap_or_default()
    }

    /// The provider has refused a restore. Those that were noted before may still be under way.
    ///
    /// # Errors
    /// When that cannot be noted: then its snapshots stay protected for half an hour.
    pub(crate) async fn restore_is_refused(&self, earlier: &NotedRestores) -> Result<(), String> {
        self.write(earlier).await
    }

    /// The provider's list of servers shows a restore: it may be any that is noted.
    pub(crate) async fn restore_is_listed(&self) {
        let Some(mut notes) = self.notes().await else { return };
        for note in &mut notes.0 {
            note.answer = RestoreAnswer::Listed;
        }
        // If that cannot be noted, the restore holds its server until the deadline.
        let _ = self.write(&notes).await;
    }

    /// It is known that none is under way, and that the last one has not left the server broken.
    pub async fn restore_is_over(&self) {
        let place = self.claims.place(self.server);
        self.claims.records().remove_note(place, NoteKind::Restore).await;
        self.is_repaired().await;
    }

    /// The restores that may be under way, told as the last one. `now` is for the message.
    pub async fn restoring(&self, now: Timestamp) -> Option<Restoring> {
        if matches!(self.claims.records(), Records::None) {
            return None;
        }
        let under_way = self.notes().await?.under_way(self.claims.records(), now);
        if under_way.is_none() {
            self.restore_is_over().await;
        }
        under_way
    }

    /// What is noted. What cannot be understood may need any snapshot.
    async fn notes(&self) -> Option<NotedRestores> {
        let (records, place) = (self.claims.records(), self.claims.place(self.server));
        let text = records.read_note(place, NoteKind::Restore).await?;
        if let Some(notes) = NotedRestores::parse(&text) {
            return Some(notes);
        }
        // When it began is not known. Noted anew, it ends all the same.
        let until = records.since_boot().saturating_add(LONGEST);
        let boot = records.boot().map(str::to_owned);
        let answer = RestoreAnswer::Unclear;
        let notes = NotedRestores(vec![Note { boot, until, source: None, safety: None, answer }]);
        // Where that is impossible too, waiting would have no end.
        self.write(&notes).await.ok()?;
        Some(notes)
    }

    async fn write(&self, notes: &NotedRestores) -> Result<(), String> {
        let (records, place) = (self.claims.records(), self.claims.place(self.server));
        if notes.0.is_empty() {
            records.remove_note(place, NoteKind::Restore).await;
            return Ok(());
        }
        records.write_note(place, NoteKind::Restore, notes.text()).await
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
        let first = person.restore_is_wanted(WEB, SOURCE).await;
        assert!(claim.is_wanted(SOURCE).await && !claim.is_wanted(SnapshotId(802)).await);
        // Another one waits for the same, and a third one for another snapshot.
        let (second, third) = (open(), open());
        let same = second.restore_is_wanted(WEB, SOURCE).await;
        let other = third.restore_is_wanted(WEB, SnapshotId(802)).await;
        person.restore_waits_no_more(first).await;
        assert!(claim.is_wanted(SOURCE).await && claim.is_wanted(SnapshotId(802)).await);
        second.restore_waits_no_more(same).await;
        assert!(!claim.is_wanted(SOURCE).await && claim.is_wanted(SnapshotId(802)).await);
        third.restore_waits_no_more(other).await;
        assert!(!claim.is_wanted(SnapshotId(802)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_restore_leaves_the_first_ones_snapshots_protected() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap());
        let exclusion = Exclusion::on_machine(&directory.path().join("lock"), "a", &clock).unwrap();
        let claim = exclusion.claim(WEB).unwrap();
        let (first, second, safety) = (SnapshotId(801), SnapshotId(803), SnapshotId(802));
        let unclear = RestoreAnswer::Unclear;
        let begins = async |source, safety| {
            claim.restore_begins((source, &"x\n".into()), safety, unclear).await.unwrap();
        };
        let needed = async || {
            let restoring = claim.restoring(clock.now().wall).await;
            let all = [first, safety, second, SnapshotId(804)];
            all.map(|it| restoring.as_ref().is_some_and(|restoring| restoring.needs(it)))
        };
        begins(first, Some(safety)).await;
        clock.sleep(minutes(10)).await;
        // From the same source, and from another one.
        begins(first, None).await;
        let before = claim.noted_restores().await;
        begins(second, None).await;
        assert_eq!(needed().await, [true, true, true, false]);
        claim.restore_is_refused(&before).await.unwrap();
        assert_eq!(needed().await, [true, true, false, false]);
        begins(second, None).await;
        clock.sleep(minutes(20)).await;
        assert_eq!(needed().await, [true, false, true, false], "the first one has ended");
        claim.restore_is_listed().await;
        let restoring = claim.restoring(clock.now().wall).await.unwrap();
        assert_eq!((restoring.answer, restoring.left), (RestoreAnswer::Listed, minutes(10)));
        clock.sleep(minutes(10)).await;
        assert_eq!(needed().await, [false; 4]);
        // More than can be noted protect every snapshot.
        for id in 0..=MOST as u64 {
            begins(SnapshotId(id), None).await;
        }
        assert_eq!(needed().await, [true; 4]);
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
