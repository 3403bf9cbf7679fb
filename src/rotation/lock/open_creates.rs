//! Creates whose outcome is not known yet, recorded so that the next process knows of them too.
//!
//! The kernel goes on delivering a request after the process gave it up, and after the process was
//! killed. A create is therefore recorded before it is sent, and the record is removed once a
//! listing shows what became of it. While a record is there, nobody may conclude from a listing that
//! the snapshot was not created.
//!
//! A record belongs to whoever holds the claim on its server. It need not survive a power failure:
//! the requests of a kernel that is gone do not arrive, and [`OpenCreates::unknown_until`] says how
//! long a process waits that cannot know what ran before it.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::libc;

use crate::clock;
use crate::naming::ServerId;

/// The file that says since when all creates of this boot are recorded.
const SINCE: &str = "since";

/// A record is a name and a number; more than that was not written by snapring.
const RECORD_MAX_BYTES: u64 = 512;

/// The creates of one account that may still have an effect.
#[derive(Debug)]
pub(super) struct OpenCreates {
    /// Where records outlive the process; `None`: nowhere.
    directory: Option<PathBuf>,
    known: Mutex<HashMap<ServerId, Open>>,
    /// For how long all creates had been recorded when this was opened.
    recorded_for: Duration,
    /// The clock's uptime at that moment.
    opened_at: Duration,
}

/// A create whose outcome is not known yet. Times are the clock's uptime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Open {
    /// The snapshot's name; `None` when the record cannot be read.
    name: Option<String>,
    /// From then on a listing shows what became of it; `None` while it is being sent.
    until: Option<Duration>,
    /// The same of an earlier create of this server.
    earlier_until: Duration,
    record: Option<RecordId>,
}

/// Tells one record from a later one of the same server: inode and time of writing.
type RecordId = (u64, i64, i64);

/// What a record on disk says.
struct Record {
    id: RecordId,
    name: Option<String>,
    /// How long after its process's end the create may still have an effect.
    span: Duration,
}

impl OpenCreates {
    /// Known to this process only.
    pub(super) fn in_process() -> Self {
        Self {
            directory: None,
            known: Mutex::default(),
            recorded_for: Duration::ZERO,
            opened_at: Duration::ZERO,
        }
    }

    /// Recorded in `directory`, which is created where it is missing. `now`: the clock's uptime.
    /// Without a usable directory they are known to this process only.
    pub(super) fn recorded_in(directory: PathBuf, now: Duration) -> Self {
        match prepare(&directory) {
            Ok(recorded_for) => Self {
                directory: Some(directory),
                recorded_for,
                opened_at: now,
                ..Self::in_process()
            },
            Err(problem) => {
                tracing::warn!(
                    event = "lock",
                    "creates cannot be recorded in {}: {problem}; after a restart snapring waits \
                     before it looks for missed ticks",
                    directory.display()
                );
                Self { opened_at: now, ..Self::in_process() }
            }
        }
    }

    /// Until when a process that ended before this one started may still have a create on its way
    /// that was not recorded; `span` as for [`OpenCreates::until`].
    pub(super) fn unknown_until(&self, span: Duration) -> Duration {
        self.opened_at.saturating_add(span.saturating_sub(self.recorded_for))
    }

    /// From when on a listing shows what became of the server's last create; `None` when that is
    /// known. `span`: how long after the end of its process a create may have an effect.
    pub(super) fn until(
        &self,
        server: ServerId,
        place: i64,
        now: Duration,
        span: Duration,
    ) -> Option<Duration> {
        let record = self.read(place);
        let mut known = self.lock();
        let open = match (known.get(&server), record) {
            (Some(open), Some(record)) if open.record == Some(record.id) => open.clone(),
            // Of another process. Whoever holds the claim knows that it has ended.
            (open, Some(record)) => Open {
                name: record.name,
                until: Some(now.saturating_add(span.max(record.span))),
                earlier_until: open.and_then(|open| open.until).unwrap_or_default(),
                record: Some(record.id),
            },
            // Another process has seen what became of it.
            (Some(open), None) if open.record.is_some() => {
                known.remove(&server);
                return None;
            }
            (Some(open), None) => open.clone(),
            (None, None) => return None,
        };
        // Broken off while it was being sent.
        let until = open.until.unwrap_or_else(|| now.saturating_add(span)).max(open.earlier_until);
        known.insert(server, Open { until: Some(until), ..open });
        Some(until)
    }

    /// Records that a create is about to be sent.
    pub(super) fn begin(&self, server: ServerId, place: i64, name: &str, span: Duration) {
        let record = self.write(place, name, span);
        let mut known = self.lock();
        let earlier = known.get(&server);
        let earlier_until = earlier
            .map_or(Duration::ZERO, |open| open.earlier_until.max(open.until.unwrap_or_default()));
        known.insert(
            server,
            Open { name: Some(name.to_owned()), until: None, earlier_until, record },
        );
    }

    /// The create was answered, given up, or not sent: from `until` on a listing shows what became
    /// of it.
    pub(super) fn end(&self, server: ServerId, place: i64, until: Duration, now: Duration) {
        let mut known = self.lock();
        let Some(open) = known.get_mut(&server) else { return };
        let until = until.max(open.earlier_until);
        open.until = Some(until);
        if until <= now {
            known.remove(&server);
            self.remove(place);
        }
    }

    /// A complete listing was asked for at `asked_at`, and shows these names.
    pub(super) fn listed<'a>(
        &self,
        server: ServerId,
        place: i64,
        asked_at: Duration,
        names: impl IntoIterator<Item = &'a str>,
    ) {
        let mut known = self.lock();
        let Some(open) = known.get(&server) else { return };
        let is_over = open.until.is_some_and(|until| until <= asked_at);
        let is_listed =
            open.name.as_deref().is_some_and(|name| names.into_iter().any(|it| it == name));
        // Listed says nothing of an earlier create that another one has followed.
        if is_over || (is_listed && open.earlier_until <= asked_at) {
            known.remove(&server);
            self.remove(place);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerId, Open>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, place: i64) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(format!("{place:016x}")))
    }

    fn read(&self, place: i64) -> Option<Record> {
        let opened = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(self.path(place)?);
        let file = match opened {
            Ok(file) => file,
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => return None,
            // It is there, whatever it says.
            Err(_) => return Some(Record { id: (0, 0, 0), name: None, span: Duration::ZERO }),
        };
        let id = record_id(&file).unwrap_or_default();
        let mut text = String::new();
        let _ = file.take(RECORD_MAX_BYTES).read_to_string(&mut text);
        let (name, span) = match text.trim_end().split_once('\n') {
            Some((name, span)) => (Some(name.to_owned()), span.parse().unwrap_or(0)),
            None => (None, 0),
        };
        Some(Record { id, name, span: Duration::from_millis(span) })
    }

    /// `None` where it cannot be written. Then the next process must not rely on records.
    fn write(&self, place: i64, name: &str, span: Duration) -> Option<RecordId> {
        let path = self.path(place)?;
        let written = write_new(&path, &format!("{name}\n{}\n", span.as_millis()));
        match written.and_then(|file| record_id(&file)) {
            Ok(id) => Some(id),
            Err(problem) => {
                let _ = std::fs::remove_file(path.with_file_name(SINCE));
                tracing::warn!(
                    event = "lock",
                    "the create of {name} cannot be recorded in {}: {problem}",
                    path.display()
                );
                None
            }
        }
    }

    fn remove(&self, place: i64) {
        if let Some(path) = self.path(place) {
            // At worst the next process waits for nothing.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Makes sure that records can be kept there. Gives for how long all creates have been.
fn prepare(directory: &Path) -> io::Result<Duration> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => super::give_to_owner_of_directory(&File::open(directory)?, directory),
        Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {}
        Err(problem) => return Err(problem),
    }
    let found = directory.symlink_metadata()?;
    let parent = directory.parent().map(std::fs::metadata).transpose()?;
    let owners = [nix::unistd::geteuid().as_raw(), parent.map_or(0, |parent| parent.uid())];
    if !found.is_dir() || !owners.contains(&found.uid()) {
        return Err(io::Error::other("it is not a directory of snapring's own"));
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    let now = clock::since_boot();
    let path = directory.join(SINCE);
    let since = std::fs::read_to_string(&path).ok().and_then(|text| {
        let (of_boot, since) = text.trim_end().split_once(' ')?;
        (of_boot == boot).then(|| since.parse().ok().map(Duration::from_secs))?
    });
    if let Some(since) = since {
        return Ok(now.saturating_sub(since));
    }
    // Rounded up: rather a second less than was recorded.
    write_new(&path, &format!("{boot} {}\n", now.as_secs() + 1))?;
    Ok(Duration::ZERO)
}

/// In the place of whatever is there, and through no link.
fn write_new(path: &Path, text: &str) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    super::give_to_owner_of_directory(&file, path);
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn record_id(file: &File) -> io::Result<RecordId> {
    let metadata = file.metadata()?;
    Ok((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const WEB: ServerId = ServerId(101);
    const PLACE: i64 = 4711;
    const SPAN: Duration = Duration::from_secs(52);

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn process(state: &TempDir, now: Duration) -> OpenCreates {
        OpenCreates::recorded_in(state.path().join("creates"), now)
    }

    fn until(process: &OpenCreates, now: u64) -> Option<Duration> {
        process.until(WEB, PLACE, seconds(now), SPAN)
    }

    fn listed(process: &OpenCreates, asked_at: u64, names: &[&str]) {
        process.listed(WEB, PLACE, seconds(asked_at), names.iter().copied());
    }

    #[test]
    fn a_create_is_open_until_a_listing_shows_it_or_comes_after_the_last_moment() {
        let process = OpenCreates::in_process();
        assert_eq!(until(&process, 0), None);
        process.begin(WEB, PLACE, "new", SPAN);
        process.end(WEB, PLACE, seconds(82), seconds(30));
        for (asked_at, names) in [(31, &["old"][..]), (81, &[])] {
            listed(&process, asked_at, names);
            assert_eq!(until(&process, asked_at), Some(seconds(82)));
        }
        listed(&process, 82, &[]);
        assert_eq!(until(&process, 82), None);

        process.begin(WEB, PLACE, "newer", SPAN);
        process.end(WEB, PLACE, seconds(182), seconds(130));
        listed(&process, 131, &["newer"]);
        assert_eq!(until(&process, 131), None);
    }

    #[test]
    fn one_that_was_not_sent_is_forgotten_and_one_that_was_broken_off_is_not() {
        let process = OpenCreates::in_process();
        process.begin(WEB, PLACE, "new", SPAN);
        process.end(WEB, PLACE, seconds(5), seconds(5));
        assert_eq!(until(&process, 5), None);
        process.begin(WEB, PLACE, "new", SPAN);
        assert_eq!(until(&process, 10), Some(seconds(62)));
        assert_eq!(until(&process, 20), Some(seconds(62)), "it counts from when it was noticed");
    }

    #[test]
    fn an_earlier_one_stays_open_when_the_next_one_is_listed_or_was_not_sent() {
        let process = OpenCreates::in_process();
        process.begin(WEB, PLACE, "one", SPAN);
        process.end(WEB, PLACE, seconds(82), seconds(30));
        process.begin(WEB, PLACE, "two", SPAN);
        process.end(WEB, PLACE, seconds(40), seconds(40));
        assert_eq!(until(&process, 41), Some(seconds(82)));
        listed(&process, 50, &["two"]);
        assert_eq!(until(&process, 50), Some(seconds(82)));
        listed(&process, 82, &["two"]);
        assert_eq!(until(&process, 82), None);
    }

    #[test]
    fn what_a_process_that_died_had_sent_is_waited_for_by_the_next_one_alone() {
        let state = tempfile::tempdir().unwrap();
        let dead = process(&state, Duration::ZERO);
        // With a longer timeout than the next one has.
        dead.begin(WEB, PLACE, "new", seconds(90));
        let next = process(&state, seconds(3));
        assert_eq!(until(&next, 4), Some(seconds(94)));
        assert_eq!(until(&next, 60), Some(seconds(94)), "it counts from when it was noticed");
        assert_eq!(next.until(ServerId(102), 12, seconds(60), SPAN), None);
        listed(&next, 93, &[]);
        assert_eq!(until(&next, 93), Some(seconds(94)));
        listed(&next, 94, &[]);
        assert_eq!(until(&next, 94), None);
        assert_eq!(until(&process(&state, Duration::ZERO), 0), None, "the record is gone");
    }

    #[test]
    fn another_record_of_the_same_server_is_waited_for_anew() {
        let state = tempfile::tempdir().unwrap();
        let (daemon, person) = (process(&state, Duration::ZERO), process(&state, Duration::ZERO));
        person.begin(WEB, PLACE, "one", SPAN);
        // The kernel's time of writing is coarse.
        let first = File::options().write(true).open(person.path(PLACE).unwrap()).unwrap();
        first.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(until(&daemon, 10), Some(seconds(62)));
        person.end(WEB, PLACE, seconds(1), seconds(1));
        assert_eq!(until(&daemon, 20), None, "the person's own process saw what became of it");
        person.begin(WEB, PLACE, "two", SPAN);
        assert_eq!(until(&daemon, 100), Some(seconds(152)));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_one_and_nothing_is_written_through_a_link() {
        let state = tempfile::tempdir().unwrap();
        let process = process(&state, Duration::ZERO);
        let path = process.path(PLACE).unwrap();
        std::fs::write(&path, [0xff; 9]).unwrap();
        assert_eq!(until(&process, 0), Some(SPAN));
        listed(&process, 52, &[]);
        let elsewhere = state.path().join("elsewhere");
        std::fs::write(&elsewhere, "precious").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(until(&process, 100), Some(seconds(152)));
        process.begin(WEB, PLACE, "new", SPAN);
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n52000\n");
    }

    #[test]
    fn a_start_relies_on_records_only_if_they_were_kept_for_long_enough_in_this_boot() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(OpenCreates::in_process().unknown_until(SPAN), SPAN);
        let first = process(&state, seconds(7));
        assert_eq!(first.unknown_until(SPAN), SPAN + seconds(7));
        let since = state.path().join("creates").join(SINCE);
        let text = std::fs::read_to_string(&since).unwrap();
        let (boot, written) = text.trim_end().split_once(' ').unwrap();
        assert!(written.parse::<u64>().unwrap() <= clock::since_boot().as_secs() + 1);
        std::fs::write(&since, format!("{boot} 0\n")).unwrap();
        assert_eq!(process(&state, seconds(7)).unknown_until(SPAN), seconds(7));
        std::fs::write(&since, "another-boot 0\n").unwrap();
        assert_eq!(process(&state, seconds(7)).unknown_until(SPAN), SPAN + seconds(7));
        std::fs::write(&since, "nonsense").unwrap();
        assert_eq!(process(&state, seconds(7)).unknown_until(SPAN), SPAN + seconds(7));
    }

    #[test]
    fn where_a_create_cannot_be_recorded_the_next_start_knows_nothing() {
        let state = tempfile::tempdir().unwrap();
        let process = process(&state, Duration::ZERO);
        let since = state.path().join("creates").join(SINCE);
        // Something is in the record's place that cannot be removed like a file.
        std::fs::create_dir(process.path(PLACE).unwrap()).unwrap();
        assert!(since.exists());
        process.begin(WEB, PLACE, "new", SPAN);
        assert!(!since.exists());
        assert_eq!(OpenCreates::recorded_in(since, Duration::ZERO).recorded_for, Duration::ZERO);
    }
}
