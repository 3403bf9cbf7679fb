//! The lock files, which all snapring processes of a machine share.
//!
//! A claim is a lock on one byte, so that ten thousand of them cost few file descriptors, and the
//! kernel ends a dead process's claims. Beside it stands a mark: a second lock of the kind that shows
//! its process, so that others can name it.
//!
//! A lock file may be removed while processes have it open. A process that takes a lock then compares
//! its file with the one at the path, and locks the new file if they differ. That does not help against
//! a lock that is already held in the old file. But its mark shows in the kernel's table of locks.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::unistd::geteuid;

use crate::clock::Clock;

/// The kernel goes through all locks of a file for each further one: with one file, ten thousand
/// claims at once took a second.
pub(super) const FILES: usize = 16;

/// Where the mark of a place is. Places are smaller than this.
const MARKS: i64 = 1 << 62;

/// How often a file that is replaced is opened again.
const TRIES: usize = 20;

const TABLE: &str = "/proc/locks";

/// A process with more claims than this reads the kernel's table at most once per [`TABLE_AGE`]: it
/// has a line for each claim.
const FEW_CLAIMS: usize = 8;
const TABLE_AGE: Duration = Duration::from_secs(1);

/// A process with more claims than this marks no more: each mark makes the kernel's search longer, and
/// ten thousand would take most of a second.
const MARKED_CLAIMS: usize = 1024;

/// Why a place cannot be taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// Another process has it; its number, where the kernel tells.
    Held(Option<u32>),
    Failed(io::Error),
}

#[derive(Debug)]
pub(super) struct LockFiles {
    slots: Vec<Slot>,
    others: Mutex<Option<(Duration, Marks)>>,
    clock: Clock,
}

/// Which processes have marked each place.
type Marks = HashMap<i64, Vec<u32>>;

#[derive(Debug)]
struct Slot {
    path: PathBuf,
    file: Mutex<Arc<LockFile>>,
}

#[derive(Debug)]
struct LockFile(File);

/// A place that is taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    file: Arc<LockFile>,
    place: i64,
}

/// A place that is shared with others, until this is dropped.
#[derive(Debug)]
pub(super) struct Shared {
    file: Arc<LockFile>,
    place: i64,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.file.mark(self.place, libc::F_UNLCK);
        let _ = self.file.lock(self.place, libc::F_UNLCK);
    }
}

impl LockFiles {
    /// Opens or creates them; their names begin with that of `lock_file`.
    pub(super) fn open(lock_file: &Path, clock: &Clock) -> io::Result<Self> {
        let slot = |nth: usize| {
            let mut path = lock_file.as_os_str().to_owned();
            path.push(format!(".{nth:x}"));
            let path = PathBuf::from(path);
            let file = Mutex::new(Arc::new(LockFile::open(&path)?));
            Ok(Slot { path, file })
        };
        let slots = (0..FILES).map(slot).collect::<io::Result<Vec<Slot>>>()?;
        for slot in &slots {
            slot.file().probe()?;
        }
        Ok(Self { slots, others: Mutex::default(), clock: clock.clone() })
    }

    /// `claims`: how many this process has already.
    pub(super) fn take(&self, place: i64, claims: usize) -> Result<Held, Refused> {
        let slot = self.slot(place).ok_or_else(|| Refused::Failed(Errno::EBADF.into()))?;
        for _ in 0..TRIES {
            let file = slot.file();
            match file.lock(place, libc::F_WRLCK) {
                Ok(()) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => {
                    return Err(Refused::Held(file.pid_of(place)));
                }
                Err(other) => return Err(Refused::Failed(other.into())),
            }
            let held = Held { file, place };
            if !held.file.is_at(&slot.path).map_err(Refused::Failed)? {
                drop(held);
                let opened = slot.open_again().map_err(Refused::Failed)?;
                *slot.file.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(opened);
                continue;
            }
            if claims < MARKED_CLAIMS {
                held.file.mark(place, libc::F_WRLCK);
            }
            if let Some(pid) = self.marked_elsewhere(place, claims) {
                return Err(Refused::Held(Some(pid)));
            }
            return Ok(held);
        }
        Err(Refused::Failed(io::Error::other(format!(
            "{} is replaced again and again",
            slot.path.display()
        ))))
    }

    /// Takes a place together with others who take it so: it only shows that they are there.
    pub(super) fn share(&self, place: i64) -> io::Result<Shared> {
        let slot = self.slot(place).ok_or(Errno::EBADF)?;
        let file = slot.file();
        file.lock(place, libc::F_RDLCK)?;
        file.mark(place, libc::F_RDLCK);
        Ok(Shared { file, place })
    }

    /// Whether anybody has a place: through another opening of the files than this one.
    pub(super) fn is_taken(&self, place: i64) -> io::Result<bool> {
        let slot = self.slot(place).ok_or(Errno::EBADF)?;
        let mut found = byte(place, libc::F_WRLCK)?;
        fcntl(&slot.file().0, FcntlArg::F_OFD_GETLK(&mut found))?;
        Ok(i32::from(found.l_type) != libc::F_UNLCK)
    }

    /// The process that holds a place, where the kernel tells.
    pub(super) fn holder(&self, place: i64) -> Option<u32> {
        self.slot(place)?.file().pid_of(place)
    }

    fn slot(&self, place: i64) -> Option<&Slot> {
        let nth = usize::try_from(place.unsigned_abs() % FILES as u64).ok()?;
        self.slots.get(nth)
    }

    /// Another process that has marked the place in a file that is not at its path any more, or that is
    /// elsewhere.
    fn marked_elsewhere(&self, place: i64, claims: usize) -> Option<u32> {
        let now = self.clock.now().uptime;
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: Duration| now.saturating_sub(at) < self.clock.passes_in(TABLE_AGE);
        if claims < FEW_CLAIMS || !others.as_ref().is_some_and(|(at, _)| is_recent(*at)) {
            // Where the table is hidden, as from the packaged service, nothing is known.
            let text = std::fs::read_to_string(TABLE).unwrap_or_default();
            *others = Some((now, marks(&text)));
        }
        let mut pids = others.as_ref()?.1.get(&place)?.iter().copied();
        // Any user can lock such a byte in a file of their own.
        pids.find(|pid| *pid != std::process::id() && is_trusted(*pid))
    }
}

impl Slot {
    /// Old files are removed from directories like /var/tmp after some weeks, and then the directory.
    fn open_again(&self) -> io::Result<LockFile> {
        match (LockFile::open(&self.path), self.path.parent()) {
            (Err(problem), Some(directory)) if problem.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().mode(0o700).create(directory)?;
                LockFile::open(&self.path)
            }
            (opened, _) => opened,
        }
    }

    fn file(&self) -> Arc<LockFile> {
        let file: MutexGuard<'_, Arc<LockFile>> =
            self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&file)
    }
}

impl LockFile {
    /// Opens it, or creates it. Follows no link and does not wait for the other end of a pipe.
    fn open(path: &Path) -> io::Result<Self> {
        let refused = |why: &str| Err(io::Error::other(format!("{}: {why}", path.display())));
        let directory = path.parent().map(std::fs::metadata).transpose()?;
        let directory_owner = directory.as_ref().map_or(0, MetadataExt::uid);
        if directory.is_some_and(|directory| directory.mode() & 0o002 != 0) {
            return refused("other users may write to its directory");
        }
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
        let found = file.metadata()?;
        if !found.is_file() {
            return refused("this is not a regular file");
        }
        if found.nlink() > 1 {
            return refused("the file has a second name (a hard link)");
        }
        if found.uid() != geteuid().as_raw() && found.uid() != directory_owner {
            return refused("the file belongs to another user");
        }
        give_to_owner_of_directory(&file, path);
        Ok(Self(file))
    }

    /// Whether the file system has locks. A lock that another process holds shows that it has.
    fn probe(&self) -> io::Result<()> {
        match self.lock(MARKS - 1, libc::F_WRLCK) {
            Ok(()) => {
                let _ = self.lock(MARKS - 1, libc::F_UNLCK);
                Ok(())
            }
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    /// Whether this is the file that others find there.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let own = self.0.metadata()?;
        match std::fs::symlink_metadata(path) {
            Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    fn lock(&self, place: i64, kind: i32) -> Result<(), Errno> {
        fcntl(&self.0, FcntlArg::F_OFD_SETLK(&byte(place, kind)?)).map(|_| ())
    }

    /// Only shows who holds the place. Whether it does is decided by the lock.
    fn mark(&self, place: i64, kind: i32) {
        let Ok(byte) = byte(place + MARKS, kind) else { return };
        let _ = fcntl(&self.0, FcntlArg::F_SETLK(&byte));
    }

    fn pid_of(&self, place: i64) -> Option<u32> {
        let mut found = byte(place + MARKS, libc::F_WRLCK).ok()?;
        fcntl(&self.0, FcntlArg::F_GETLK(&mut found)).ok()?;
        let is_marked = i32::from(found.l_type) != libc::F_UNLCK;
        // Zero: in a container of its own.
        u32::try_from(found.l_pid).ok().filter(|pid| is_marked && *pid > 0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.file.mark(self.place, libc::F_UNLCK);
        // Cannot fail for a range that is held; and if it did, the process's end frees it.
        let _ = self.file.lock(self.place, libc::F_UNLCK);
    }
}

fn byte(place: i64, kind: i32) -> Result<libc::flock, Errno> {
    Ok(libc::flock {
        l_type: i16::try_from(kind).map_err(|_| Errno::EINVAL)?,
        l_whence: 0, // SEEK_SET
        l_start: place,
        l_len: 1,
        l_pid: 0,
    })
}

/// The marked places in the kernel's table, and who has marked each.
fn marks(table: &str) -> Marks {
    let mark = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "POSIX", _, "WRITE", pid, _, start, end] = *words.as_slice() else { return None };
        let place = start.parse::<i64>().ok()?.checked_sub(MARKS).filter(|place| *place >= 0)?;
        // A lock on the last byte that there is has no end.
        let is_one_byte = start == end || end == "EOF";
        is_one_byte.then_some((place, pid.parse().ok().filter(|pid| *pid > 0)?))
    };
    let mut marks = Marks::new();
    for (place, pid) in table.lines().filter_map(mark) {
        marks.entry(place).or_default().push(pid);
    }
    marks
}

/// Whether a process goes on: it is neither stopped nor ended.
pub(super) fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Its name may hold anything, and ends with the last bracket.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'T' | 't' | 'Z' | 'X'))
}

/// Whether a process runs as this one's user, or as root.
fn is_trusted(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let effective = users.and_then(|users| users.split_whitespace().nth(1)?.parse().ok());
    effective.is_some_and(|user: u32| user == 0 || user == geteuid().as_raw())
}

/// A person's command, run as root before the service first ran, must not keep the service's user
/// out of the file. Nothing is lost when this fails: then it is not root, or already so.
pub(super) fn give_to_owner_of_directory(file: &File, path: &Path) {
    let owner = path.parent().and_then(|directory| std::fs::metadata(directory).ok());
    let Some(owner) = owner else { return };
    if file.metadata().is_ok_and(|file| file.uid() != owner.uid()) && owner.uid() != 0 {
        let _ = std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use rstest::rstest;

    use super::*;

    const PLACE: i64 = 0x4711;

    fn open(directory: &tempfile::TempDir) -> io::Result<LockFiles> {
        LockFiles::open(&directory.path().join("lock"), &Clock::system())
    }

    /// Where the file of [`PLACE`] is.
    fn path(directory: &tempfile::TempDir) -> PathBuf {
        directory.path().join("lock.1")
    }

    #[test]
    fn a_file_that_was_replaced_is_opened_again_when_a_place_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let (daemon, person) = (open(&directory).unwrap(), open(&directory).unwrap());
        std::fs::remove_file(path(&directory)).unwrap();
        let held = person.take(PLACE, 0).unwrap();
        assert!(path(&directory).exists(), "made again");
        assert!(matches!(daemon.take(PLACE, 0), Err(Refused::Held(_))));
        // The daemon has the new one now, and keeps the person out.
        drop(held);
        let held = daemon.take(PLACE, 0).unwrap();
        assert!(matches!(person.take(PLACE, 0), Err(Refused::Held(_))));
        drop(held);
        assert!(person.take(PLACE, 0).is_ok());
    }

    #[test]
    fn a_directory_that_was_removed_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("snapring-0");
        std::fs::create_dir(&inner).unwrap();
        let files = LockFiles::open(&inner.join("lock"), &Clock::system()).unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        let held = files.take(PLACE, 0).unwrap();
        assert_eq!(inner.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let person = LockFiles::open(&inner.join("lock"), &Clock::system()).unwrap();
        assert!(matches!(person.take(PLACE, 0), Err(Refused::Held(_))));
        drop(held);
        // Somebody else's directory in its place is refused.
        std::fs::remove_dir_all(&inner).unwrap();
        std::fs::write(&inner, "").unwrap();
        assert!(matches!(files.take(PLACE, 0), Err(Refused::Failed(_))));
    }

    #[test]
    fn a_place_stays_held_in_a_file_that_was_removed() {
        let directory = tempfile::tempdir().unwrap();
        let files = open(&directory).unwrap();
        let held = files.take(PLACE, 0).unwrap();
        std::fs::remove_file(path(&directory)).unwrap();
        assert!(files.take(PLACE + 16, 0).is_ok(), "of the same file");
        drop(held);
        assert!(files.take(PLACE, 0).is_ok());
    }

    #[rstest]
    #[case::a_pipe(|path: &Path, _: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap())]
    #[case::a_link(|path: &Path, other: &Path| symlink(other, path).unwrap())]
    #[case::a_hard_link(|path: &Path, other: &Path| std::fs::hard_link(other, path).unwrap())]
    #[case::a_directory(|path: &Path, _: &Path| std::fs::create_dir(path).unwrap())]
    fn what_is_no_lock_file_of_ours_is_refused(#[case] put: fn(&Path, &Path)) {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other");
        std::fs::write(&other, "text").unwrap();
        put(&path(&directory), &other);
        let problem = open(&directory).unwrap_err().to_string();
        assert!(problem.contains("lock.1"), "{problem}");
        assert_eq!(std::fs::read_to_string(other).unwrap(), "text");
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(path(&directory), "").unwrap();
        std::os::unix::fs::chown(path(&directory), Some(4711), None).unwrap();
        let problem = open(&directory).unwrap_err().to_string();
        assert!(problem.contains("belongs to another user"), "{problem}");
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mode = std::fs::Permissions::from_mode(0o1777);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        let problem = open(&directory).unwrap_err().to_string();
        assert!(problem.contains("other users may write"), "{problem}");
    }

    #[test]
    fn the_kernels_table_names_who_has_marked_a_place() {
        let (mark, last) = (MARKS + PLACE, i64::MAX);
        let table = format!(
            "1: POSIX  ADVISORY  WRITE 811 08:01:77 {mark} {mark}\n\
             2: OFDLCK ADVISORY  WRITE -1 08:01:77 18193 18193\n\
             3: POSIX  ADVISORY  WRITE 812 08:01:77 {last} EOF\n\
             4: POSIX  ADVISORY  READ 813 08:01:77 {} EOF\n\
             5: -> POSIX  ADVISORY  WRITE 814 08:01:77 {mark} {mark}\n\
             6: FLOCK  ADVISORY  WRITE 815 08:01:78 0 EOF\n\
             7: POSIX  ADVISORY  WRITE 816 08:01:79 0 100\n\
             8: POSIX  ADVISORY  WRITE 817 08:01:80 {mark} {mark}\n",
            MARKS + 9
        );
        let expected = [(PLACE, vec![811, 817]), (last - MARKS, vec![812])];
        assert_eq!(marks(&table), HashMap::from(expected));
        assert!(marks("").is_empty());
    }

    #[test]
    fn a_mark_shows_in_the_kernels_table() {
        let directory = tempfile::tempdir().unwrap();
        let files = open(&directory).unwrap();
        let place = i64::from(std::process::id()) << 16;
        let shown = || {
            let table = std::fs::read_to_string(TABLE).unwrap();
            marks(&table).get(&place).cloned()
        };
        let held = files.take(place, 0).unwrap();
        assert_eq!(shown(), Some(vec![std::process::id()]));
        drop(held);
        assert_eq!(shown(), None);
    }

    #[test]
    fn only_root_and_this_user_are_trusted() {
        assert!(is_trusted(std::process::id()) && is_trusted(1) && !is_trusted(u32::MAX));
        if geteuid().is_root() {
            use std::os::unix::process::CommandExt;
            let mut other =
                std::process::Command::new("sleep").arg("60").uid(4711).spawn().unwrap();
            let is_trusted = is_trusted(other.id());
            other.kill().unwrap();
            other.wait().unwrap();
            assert!(!is_trusted);
        }
    }
}
