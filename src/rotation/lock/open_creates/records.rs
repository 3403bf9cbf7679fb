//! Where creates under way are recorded: one small file per server in a directory of snapring's own.
//!
//! Each access is bounded, since a frozen or remote file system must not hold rotations up; one that
//! takes longer counts as failed. A file need not survive a power failure: the requests of a kernel
//! that is gone do not arrive. `since` says in which boot, and since when, all creates were recorded.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::libc;

use crate::clock::Clock;

/// The file that says since when all creates of this boot are recorded.
const SINCE: &str = "since";

/// The kernel's number for this boot. The shipped unit hides it from the service, and hands it over
/// in this variable.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const BOOT_ID_VARIABLE: &str = "SNAPRING_BOOT_ID";

/// More than that was not written by snapring.
const FILE_MAX_BYTES: u64 = 8192;

/// The longest span that a configuration can come to, and a little more.
const SPAN_MAX: Duration = Duration::from_mins(21);

/// How long one access may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells one record from a later one of the same server: inode and time of writing.
pub(in crate::rotation::lock) type RecordId = (u64, i64, i64);

/// What else is noted of a server, in a file beside the record of its create.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::rotation::lock) enum NoteKind {
    /// Which process works on it.
    Owner,
    /// It is being restored.
    Restore,
    /// In which state a failed restore has left the server.
    Broken,
    /// A person waits to restore it. Each has a number: one that gives up takes back its own note only.
    Wanted(u8),
    /// Its `before` hook was started, and its `after` hook has not run.
    Quiesced,
}

impl NoteKind {
    pub(in crate::rotation::lock) fn extension(self) -> Cow<'static, str> {
        match self {
            Self::Owner => "owner".into(),
            Self::Restore => "restore".into(),
            Self::Broken => "broken".into(),
            Self::Wanted(number) => format!("wanted-{number}").into(),
            Self::Quiesced => "quiesced".into(),
        }
    }

    /// Whether it must survive a power failure.
    fn is_durable(self) -> bool {
        matches!(self, Self::Quiesced | Self::Restore | Self::Broken)
    }
}

/// What is recorded of a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rotation::lock) struct Record {
    pub id: RecordId,
    /// The snapshot's name; `None` when it cannot be read.
    pub name: Option<String>,
    /// How long after the end of its process it may have an effect.
    pub span: Duration,
    /// In how long a listing shows what became of it, where a process noted that.
    pub settled_in: Option<Duration>,
    /// In how long one shows what became of earlier creates of the server.
    pub earlier_settled_in: Duration,
}

impl Record {
    /// There is something, but it cannot be understood.
    fn unreadable() -> Self {
        Self {
            id: RecordId::default(),
            name: None,
            span: Duration::ZERO,
            settled_in: None,
            earlier_settled_in: Duration::ZERO,
        }
    }
}

#[derive(Debug)]
pub(in crate::rotation::lock) enum Records {
    None,
    Memory { records: MemoryRecords, clock: Clock },
    Directory { directory: Directory, clock: Clock },
}

impl Records {
    /// In this directory, which is created where it is missing. Where it cannot be used there are no
    /// records, with a warning.
    pub(in crate::rotation::lock) fn in_directory(path: PathBuf, clock: &Clock) -> Self {
        let variable = std::env::var(BOOT_ID_VARIABLE).ok();
        let boot = std::fs::read_to_string(BOOT_ID).ok().or(variable);
        let boot = boot.map(|text| text.trim().replace('-', "")).filter(|text| !text.is_empty());
        match Directory::prepare(path.clone(), boot, clock.since_boot()) {
            Ok(directory) => Self::Directory { directory, clock: clock.clone() },
            Err(problem) => {
                tracing::warn!(
                    event = "lock",
                    "creates cannot be recorded in {}: {problem}; after a restart snapring waits \
                     before it creates the snapshot of a missed tick",
                    path.display()
                );
                Self::None
            }
        }
    }

    /// For how long all creates had been recorded when this was opened.
    pub(super) fn complete_for(&self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Memory { .. } => Duration::MAX,
            Self::Directory { directory, .. } => directory.complete_for,
        }
    }

    pub(super) async fn read(&self, place: i64) -> Option<Record> {
        match self {
            Self::None => None,
            Self::Memory { records, clock } => records.read(place, clock.since_boot()),
            Self::Directory { directory, clock } => {
                let (directory, now) = (directory.clone(), clock.since_boot());
                let read = bounded(clock, move || directory.read(place, now)).await;
                read.unwrap_or_else(|| Some(Record::unreadable()))
            }
        }
    }

    /// In place of what was recorded for the server; `None` where it cannot be. Then the next process
    /// must not rely on records.
    pub(super) async fn write(&self, place: i64, record: Record) -> Option<RecordId> {
        match self {
            Self::None => None,
            Self::Memory { records, clock } => {
                Some(records.write(place, &record, clock.since_boot()))
            }
            Self::Directory { directory, clock } => {
                let (directory, now) = (directory.clone(), clock.since_boot());
                let path = directory.path_of(place);
                let written = bounded(clock, move || directory.write(place, &record, now)).await;
                let problem = match written {
                    Some(Ok(id)) => return Some(id),
                    Some(Err(problem)) => problem.to_string(),
                    None => "the file system does not answer".to_owned(),
                };
                tracing::warn!(
                    event = "lock",
                    "a create cannot be recorded in {}: {problem}",
                    path.display()
                );
                None
            }
        }
    }

    /// Whether nothing is recorded for the server any more.
    pub(super) async fn remove(&self, place: i64) -> bool {
        match self {
            Self::None => true,
            Self::Memory { records, .. } => {
                records.lock().remove(&place);
                true
            }
            Self::Directory { directory, clock } => {
                let path = directory.path_of(place);
                let shown = path.display().to_string();
                let removed = bounded(clock, move || remove(&path)).await;
                let problem = match removed {
                    Some(Ok(())) => return true,
                    Some(Err(problem)) => problem.to_string(),
                    None => "the file system does not answer".to_owned(),
                };
                tracing::warn!(
                    event = "lock",
                    "the record {shown} cannot be removed: {problem}; a later process will wait for it"
                );
                false
            }
        }
    }
}

/// Notes of a server.
impl Records {
    /// The kernel's number for this boot, where it is known.
    pub(in crate::rotation::lock) fn boot(&self) -> Option<&str> {
        self.directory()?.boot.as_deref()
    }

    /// How long ago the machine was started.
    pub(in crate::rotation::lock) fn since_boot(&self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Memory { clock, .. } | Self::Directory { clock, .. } => clock.since_boot(),
        }
    }

    pub(in crate::rotation::lock) fn directory(&self) -> Option<&Directory> {
        match self {
            Self::None | Self::Memory { .. } => None,
            Self::Directory { directory, .. } => Some(directory),
        }
    }

    /// What a note says. Nothing, if there is one that cannot be read; `None` also when the file system
    /// does not answer.
    pub(in crate::rotation::lock) async fn read_note(
        &self,
        place: i64,
        kind: NoteKind,
    ) -> Option<String> {
        match self {
            Self::None => None,
            Self::Memory { records, .. } => records.notes().get(&(place, kind)).cloned(),
            Self::Directory { directory, clock } => {
                let directory = directory.clone();
                bounded(clock, move || directory.read_note(place, kind)).await.flatten()
            }
        }
    }

    /// The same of several notes, in one access.
    pub(in crate::rotation::lock) async fn read_notes(
        &self,
        place: i64,
        kinds: impl Iterator<Item = NoteKind> + Send + 'static,
    ) -> Vec<(NoteKind, String)> {
        match self {
            Self::None => Vec::new(),
            Self::Memory { records, .. } => {
                let notes = records.notes();
                kinds.filter_map(|it| Some((it, notes.get(&(place, it)).cloned()?))).collect()
            }
            Self::Directory { directory, clock } => {
                let directory = directory.clone();
                let read = move || {
                    kinds.filter_map(|it| Some((it, directory.read_note(place, it)?))).collect()
                };
                bounded(clock, read).await.unwrap_or_default()
            }
        }
    }

    /// Writes a note, unless there is one. Whether it was written.
    pub(in crate::rotation::lock) async fn write_first_note(
        &self,
        place: i64,
        kind: NoteKind,
        text: String,
    ) -> bool {
        match self {
            Self::None => false,
            Self::Memory { records, .. } => match records.notes().entry((place, kind)) {
                Entry::Occupied(_) => false,
                Entry::Vacant(vacant) => {
                    vacant.insert(text);
                    true
                }
            },
            Self::Directory { directory, clock } => {
                let path = directory.path_of_note(place, kind);
                bounded(clock, move || create(&path, &text).is_ok()).await.unwrap_or_default()
            }
        }
    }

    pub(in crate::rotation::lock) async fn write_note(
        &self,
        place: i64,
        kind: NoteKind,
        text: String,
    ) -> Result<(), String> {
        match self {
            Self::None => Err("there is no directory for it".to_owned()),
            Self::Memory { records, .. } => {
                records.notes().insert((place, kind), text);
                Ok(())
            }
            Self::Directory { directory, clock } => {
                let path = directory.path_of_note(place, kind);
                let directory = directory.clone();
                let written =
                    bounded(clock, move || directory.write_note(place, kind, &text)).await;
                let written = written.map(|written| written.map_err(|error| error.to_string()));
                written
                    .unwrap_or_else(|| Err("the file system does not answer".to_owned()))
                    .map_err(|problem| format!("{}: {problem}", path.display()))
            }
        }
    }

    /// The servers of which there is such a note.
    pub(in crate::rotation::lock) async fn places(&self, kind: NoteKind) -> HashSet<i64> {
        match self {
            Self::None => HashSet::new(),
            Self::Memory { records, .. } => {
                let notes = records.notes();
                notes.keys().filter(|(_, its)| *its == kind).map(|(place, _)| *place).collect()
            }
            Self::Directory { directory, clock } => {
                let directory = directory.clone();
                bounded(clock, move || directory.places(kind)).await.unwrap_or_default()
            }
        }
    }

    pub(in crate::rotation::lock) async fn remove_note(&self, place: i64, kind: NoteKind) {
        self.remove_note_that_says(place, kind, None).await;
    }

    /// Removes a note, if it says what is expected.
    pub(in crate::rotation::lock) async fn remove_note_that_says(
        &self,
        place: i64,
        kind: NoteKind,
        expected: Option<String>,
    ) {
        match self {
            Self::None => {}
            Self::Memory { records, .. } => {
                let mut notes = records.notes();
                if expected.is_none_or(|it| notes.get(&(place, kind)) == Some(&it)) {
                    notes.remove(&(place, kind));
                }
            }
            Self::Directory { directory, clock } => {
                let directory = directory.clone();
                let remove = move || directory.remove_note(place, kind, expected.as_deref());
                let _ = bounded(clock, remove).await;
            }
        }
    }
}

/// Does blocking work beside the runtime; `None` where it takes too long.
async fn bounded<T: Send + 'static>(
    clock: &Clock,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    clock.timeout(PATIENCE, tokio::task::spawn_blocking(work)).await?.ok()
}

/// A directory with a file for each server that has a create under way.
#[derive(Debug, Clone)]
pub(in crate::rotation::lock) struct Directory {
    path: PathBuf,
    boot: Option<String>,
    complete_for: Duration,
}

impl Directory {
    fn prepare(path: PathBuf, boot: Option<String>, now: Duration) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {
                crate::rotation::lock::files::give_to_owner_of_directory(
                    &File::open(&path)?,
                    &path,
                );
            }
            Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {}
            Err(problem) => return Err(problem),
        }
        let found = path.symlink_metadata()?;
        let parent = path.parent().map(std::fs::metadata).transpose()?;
        let owners = [nix::unistd::geteuid().as_raw(), parent.map_or(0, |parent| parent.uid())];
        if !found.is_dir() || !owners.contains(&found.uid()) {
            return Err(io::Error::other("it is not a directory of snapring's own"));
        }
        let mut directory = Self { path, boot, complete_for: Duration::ZERO };
        directory.complete_for = directory.since(now)?;
        Ok(directory)
    }

    /// For how long all creates have been recorded here; from now on, where nothing says so.
    fn since(&self, now: Duration) -> io::Result<Duration> {
        // Without it nothing that is recorded can be told from what an earlier boot recorded.
        let Some(boot) = &self.boot else { return Ok(Duration::ZERO) };
        let path = self.path.join(SINCE);
        let since = open(&path).ok().and_then(|file| {
            let text = read(file);
            let (of_boot, since) = text.trim_end().split_once(' ')?;
            (of_boot == boot).then(|| since.parse().ok().map(Duration::from_secs))?
        });
        if let Some(passed) = since.and_then(|since| now.checked_sub(since)) {
            return Ok(passed);
        }
        // Rounded up: rather a second less than was recorded.
        write_new(&path, &format!("{boot} {}\n", now.as_secs() + 1))?;
        Ok(Duration::ZERO)
    }

    fn path_of(&self, place: i64) -> PathBuf {
        self.path.join(format!("{place:016x}"))
    }

    fn path_of_note(&self, place: i64, kind: NoteKind) -> PathBuf {
        self.path_of(place).with_extension(&*kind.extension())
    }

    fn read_note(&self, place: i64, kind: NoteKind) -> Option<String> {
        match open(&self.path_of_note(place, kind)) {
            Ok(file) => Some(read(file)),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(String::new()),
        }
    }

    pub(in crate::rotation::lock) fn write_note(
        &self,
        place: i64,
        kind: NoteKind,
        text: &str,
    ) -> io::Result<()> {
        let path = self.path_of_note(place, kind);
        // Renamed, so that what was noted before is lost at no moment.
        let new = path.with_extension(format!("{}-new", kind.extension()));
        let file = write_new(&new, text)?;
        if kind.is_durable() {
            file.sync_all()?;
        }
        std::fs::rename(&new, &path)?;
        if kind.is_durable() {
            File::open(&self.path)?.sync_all()?;
        }
        Ok(())
    }

    fn places(&self, kind: NoteKind) -> HashSet<i64> {
        let Ok(entries) = self.path.read_dir() else { return HashSet::new() };
        let place = |path: PathBuf| {
            let is_one = path.extension().is_some_and(|it| it == &*kind.extension());
            i64::from_str_radix(path.file_stem()?.to_str()?, 16).ok().filter(|_| is_one)
        };
        entries.filter_map(|entry| place(entry.ok()?.path())).collect()
    }

    /// Removes a note, if it says what is expected.
    pub(in crate::rotation::lock) fn remove_note(
        &self,
        place: i64,
        kind: NoteKind,
        expected: Option<&str>,
    ) {
        let says = || self.read_note(place, kind);
        if expected.is_none_or(|expected| says().as_deref() == Some(expected)) {
            let _ = remove(&self.path_of_note(place, kind));
        }
    }

    fn read(&self, place: i64, now: Duration) -> Option<Record> {
        let file = match open(&self.path_of(place)) {
            Ok(file) => file,
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => return None,
            // It is there, whatever it says.
            Err(_) => return Some(Record::unreadable()),
        };
        let id = record_id(&file).unwrap_or_default();
        let text = read(file);
        let mut lines = text.lines();
        let name = lines.next().filter(|name| !name.is_empty()).map(str::to_owned);
        let milliseconds =
            |text: Option<&str>| Some(Duration::from_millis(text?.parse::<u64>().ok()?));
        let span = milliseconds(lines.next()).unwrap_or_default().min(SPAN_MAX);
        let mut settled = lines.next().unwrap_or_default().split(' ');
        let is_of_this_boot = settled.next() == self.boot.as_deref() && self.boot.is_some();
        let (settled_at, earlier) = (milliseconds(settled.next()), milliseconds(settled.next()));
        let wait = |at: Duration| at.saturating_sub(now).min(SPAN_MAX);
        Some(Record {
            id,
            name,
            span,
            settled_in: settled_at.filter(|_| is_of_this_boot).map(wait),
            earlier_settled_in: match earlier {
                Some(at) if is_of_this_boot => wait(at),
                // When that is cannot be told.
                Some(at) if !at.is_zero() => span,
                _ => Duration::ZERO,
            },
        })
    }

    fn write(&self, place: i64, record: &Record, now: Duration) -> io::Result<RecordId> {
        let Record { name, span, settled_in, earlier_settled_in, .. } = record;
        let mut text = format!("{}\n{}\n", name.as_deref().unwrap_or_default(), span.as_millis());
        if let Some(boot) = &self.boot {
            let settled =
                settled_in.map_or("-".to_owned(), |wait| (now + wait).as_millis().to_string());
            let earlier = if earlier_settled_in.is_zero() {
                0
            } else {
                (now + *earlier_settled_in).as_millis()
            };
            text.push_str(&format!("{boot} {settled} {earlier}\n"));
        }
        let written = write_new(&self.path_of(place), &text);
        let id = written.and_then(|file| record_id(&file));
        if id.is_err() {
            let _ = std::fs::remove_file(self.path.join(SINCE));
        }
        id
    }
}

/// For reading. Follows no link, and does not wait for a pipe's writer.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    File::options().read(true).custom_flags(flags).open(path)
}

fn read(file: File) -> String {
    let mut text = String::new();
    // What cannot be read is not understood either.
    let _ = file.take(FILE_MAX_BYTES).read_to_string(&mut text);
    text
}

/// Replaces what is there. Follows no link.
fn write_new(path: &Path, text: &str) -> io::Result<File> {
    remove(path)?;
    create(path, text)
}

/// Fails if something is there.
fn create(path: &Path, text: &str) -> io::Result<File> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    crate::rotation::lock::files::give_to_owner_of_directory(&file, path);
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => Err(problem),
        _ => Ok(()),
    }
}

fn record_id(file: &File) -> io::Result<RecordId> {
    let metadata = file.metadata()?;
    Ok((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

/// A machine that is simulated: what its processes have recorded, and which servers they have claimed.
/// Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryRecords {
    creates: Arc<Mutex<HashMap<i64, (Record, Duration)>>>,
    notes: Arc<Mutex<HashMap<(i64, NoteKind), String>>>,
    claimed: Arc<Mutex<HashSet<i64>>>,
}

impl MemoryRecords {
    /// Takes the lock that this number stands for, unless a process has it.
    pub(in crate::rotation::lock) fn take(&self, place: i64) -> Option<MemoryHeld> {
        let is_free = self.claimed().insert(place);
        is_free.then(|| MemoryHeld { records: self.clone(), place })
    }

    /// Whether a process has it.
    pub(in crate::rotation::lock) fn is_taken(&self, place: i64) -> bool {
        self.claimed().contains(&place)
    }

    fn claimed(&self) -> std::sync::MutexGuard<'_, HashSet<i64>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, place: i64, now: Duration) -> Option<Record> {
        let (record, written_at) = self.lock().get(&place).cloned()?;
        let passed = now.saturating_sub(written_at);
        Some(Record {
            settled_in: record.settled_in.map(|wait| wait.saturating_sub(passed)),
            earlier_settled_in: record.earlier_settled_in.saturating_sub(passed),
            ..record
        })
    }

    fn write(&self, place: i64, record: &Record, now: Duration) -> RecordId {
        let mut records = self.lock();
        let before = records.get(&place).map_or(0, |(record, _)| record.id.0);
        let id = (before + 1, 0, 0);
        records.insert(place, (Record { id, ..record.clone() }, now));
        id
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i64, (Record, Duration)>> {
        self.creates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, HashMap<(i64, NoteKind), String>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock that a simulated process holds until this is dropped.
#[derive(Debug)]
pub(in crate::rotation::lock) struct MemoryHeld {
    records: MemoryRecords,
    place: i64,
}

impl Drop for MemoryHeld {
    fn drop(&mut self) {
        self.records.claimed().remove(&self.place);
    }
}
