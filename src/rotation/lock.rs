//! Two rotations of one server never overlap: not in one process, not on one machine.
//!
//! Within the process a set says which servers are busy. Between processes (the daemon, and a
//! person's `rotate` beside it) it is a lock on one byte of a file, so that ten thousand waiting
//! rotations cost few file descriptors, and the kernel ends a dead process's claims.
//!
//! A claim also shows which creates of the server may still have an effect
//! (`open_creates`).

mod location;
mod open_creates;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::clock::Clock;
use crate::naming::{ServerId, Tick};
use crate::report::{Report, RotationOutcome};
use crate::ring::Ring;
pub use crate::rotation::lock::location::LockError;
pub use crate::rotation::lock::open_creates::MemoryRecords;
use crate::rotation::lock::open_creates::{OpenCreates, Records};
use crate::server::Server;

/// The kernel goes through all locks of a file for each further one: with one file, ten thousand
/// claims at once took a second.
const FILES: usize = 16;

/// Who may rotate which server at present. Clones share the claims.
#[derive(Debug, Clone)]
pub struct Exclusion(Arc<Claims>);

#[derive(Debug)]
struct Claims {
    busy: Mutex<HashSet<ServerId>>,
    machine: Option<MachineLock>,
    open_creates: OpenCreates,
}

#[derive(Debug)]
struct MachineLock {
    files: Vec<File>,
    /// The provider's address: one server number at two providers is two servers.
    account: String,
}

/// The right to rotate one server; ends when it is dropped, by a panic too.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    claims: Arc<Claims>,
    server: ServerId,
}

/// Why a server cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// By this process.
    #[error("the rotation before it is still running")]
    Here,
    /// By another process on this machine.
    #[error("another snapring process on this machine is rotating it")]
    Elsewhere,
    /// The lock file does not work.
    #[error("the lock between processes cannot be taken: {0}")]
    Unknown(io::Error),
}

impl Exclusion {
    /// Claims that hold in this process only.
    #[must_use]
    pub fn in_process() -> Self {
        Self(Arc::new(Claims {
            busy: Mutex::default(),
            machine: None,
            open_creates: OpenCreates::in_process(),
        }))
    }

    /// Claims that hold on this machine, among all who use the same lock files for the same
    /// provider address. Their names begin with that of `lock_file`; creates are recorded in a
    /// directory beside it.
    ///
    /// # Errors
    /// When the files cannot be opened or made.
    pub fn on_machine(lock_file: &Path, account: &str, clock: &Clock) -> io::Result<Self> {
        let files: io::Result<_> = (0..FILES).map(|nth| open(lock_file, nth)).collect();
        let machine = Some(MachineLock { files: files?, account: account.to_owned() });
        let records = Records::in_directory(lock_file.with_extension("creates"), clock);
        let open_creates = OpenCreates::recorded_in(records, clock.now().uptime);
        Ok(Self(Arc::new(Claims { busy: Mutex::default(), machine, open_creates })))
    }

    /// The same within this process, with creates recorded in memory that outlives it, as far as it
    /// is concerned. `machine`: the clock of the machine that it and its successors run on.
    #[must_use]
    pub fn remembered_in(records: &MemoryRecords, machine: &Clock) -> Self {
        let records = Records::Memory { records: records.clone(), clock: machine.clone() };
        Self(Arc::new(Claims {
            busy: Mutex::default(),
            machine: None,
            open_creates: OpenCreates::recorded_in(records, Duration::ZERO),
        }))
    }

    /// Until when a process that ended before this one started may still have a create on its way
    /// that was not recorded, as the clock's uptime. `span`: how long after the end of its process a
    /// create may have an effect.
    #[must_use]
    pub fn unrecorded_creates_settled_at(&self, span: Duration) -> Duration {
        self.0.open_creates.unknown_until(span)
    }

    /// Claims a server.
    ///
    /// # Errors
    /// When somebody else holds it, or nobody can tell.
    pub fn claim(&self, server: ServerId) -> Result<Claim, Busy> {
        let mut busy = self.0.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.contains(&server) {
            return Err(Busy::Here);
        }
        if let Some(machine) = &self.0.machine {
            machine.set(server, libc::F_WRLCK).map_err(|errno| match errno {
                Errno::EAGAIN | Errno::EACCES => Busy::Elsewhere,
                other => Busy::Unknown(other.into()),
            })?;
        }
        busy.insert(server);
        Ok(Claim { claims: Arc::clone(&self.0), server })
    }
}

impl Claims {
    /// A number that stands for the server, among all accounts.
    fn place(&self, server: ServerId) -> i64 {
        let account = self.machine.as_ref().map_or("", |machine| &machine.account);
        place(account, server)
    }
}

/// The creates of the claimed server. All times are the clock's uptime.
impl Claim {
    /// From when on a listing shows what became of the last create of this server, of any process;
    /// `None` when that is known. `span`: how long after it was given up, or after the end of its
    /// process, a create may have an effect.
    pub async fn last_create_settled_at(&self, now: Duration, span: Duration) -> Option<Duration> {
        let place = self.claims.place(self.server);
        self.claims.open_creates.until(self.server, place, now, span).await
    }

    /// A create of the snapshot `name` is about to be sent.
    pub async fn create_begins(&self, name: &str, now: Duration, span: Duration) {
        let place = self.claims.place(self.server);
        self.claims.open_creates.begin(self.server, place, name, now, span).await;
    }

    /// It was answered, given up, or not sent: from `settled_at` on a listing shows what became of it.
    pub async fn create_ended(&self, settled_at: Duration, now: Duration) {
        let place = self.claims.place(self.server);
        self.claims.open_creates.end(self.server, place, settled_at, now).await;
    }

    /// It is known what became of it, or it was not sent.
    pub async fn create_is_settled(&self, now: Duration) {
        self.create_ended(now, now).await;
    }

    /// Takes note of a complete listing: it may show what became of the last create. If not, gives
    /// from when on one does.
    pub async fn listed(&self, ring: &Ring) -> Option<Duration> {
        let listing = ring.listing();
        let names = listing.snapshots.iter().map(|snapshot| snapshot.name.as_str());
        let place = self.claims.place(self.server);
        self.claims.open_creates.listed(self.server, place, listing.asked_at.uptime, names).await
    }
}

impl Busy {
    /// The report of a rotation that could not begin.
    #[must_use]
    pub fn report(&self, server: &Server, tick: Tick) -> Report {
        let outcome = match self {
            Self::Here | Self::Elsewhere => RotationOutcome::Skipped,
            Self::Unknown(_) => RotationOutcome::Failed,
        };
        Report::without_steps(outcome, server.id, &server.name, tick, self.to_string())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut busy = self.claims.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(machine) = &self.claims.machine {
            // Cannot fail for a range that is held; and if it did, the process's end frees it.
            let _ = machine.set(self.server, libc::F_UNLCK);
        }
        busy.remove(&self.server);
    }
}

impl MachineLock {
    fn set(&self, server: ServerId, kind: i32) -> Result<(), Errno> {
        let place = place(&self.account, server);
        let nth = usize::try_from(place.unsigned_abs() % FILES as u64);
        let file = nth.ok().and_then(|nth| self.files.get(nth));
        let lock = libc::flock {
            l_type: i16::try_from(kind).map_err(|_| Errno::EINVAL)?,
            l_whence: 0, // SEEK_SET
            l_start: place,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(file.ok_or(Errno::EBADF)?, FcntlArg::F_OFD_SETLK(&lock)).map(|_| ())
    }
}

/// Opens one of the lock files, or makes it.
fn open(lock_file: &Path, nth: usize) -> io::Result<File> {
    let mut path = lock_file.as_os_str().to_owned();
    path.push(format!(".{nth:x}"));
    let path = PathBuf::from(path);
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&path)?;
    give_to_owner_of_directory(&file, &path);
    Ok(file)
}

/// The byte that stands for a server: FNV-1a over the address and the number, within an `off_t`.
fn place(account: &str, server: ServerId) -> i64 {
    let bytes = account.bytes().chain(server.0.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // One bit for the sign, and one so that start + length cannot overflow.
    (hash >> 2).cast_signed()
}

/// A person's command, run as root before the service first ran, must not keep the service's user
/// out of the file. Nothing is lost when this fails: then it is not root, or already so.
fn give_to_owner_of_directory(file: &File, path: &Path) {
    let owner = path.parent().and_then(|directory| std::fs::metadata(directory).ok());
    let Some(owner) = owner else { return };
    if file.metadata().is_ok_and(|file| file.uid() != owner.uid()) && owner.uid() != 0 {
        let _ = std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_claimed_once_until_the_claim_is_dropped() {
        let exclusion = Exclusion::in_process();
        let claim = exclusion.claim(ServerId(1)).unwrap();
        assert!(matches!(exclusion.clone().claim(ServerId(1)), Err(Busy::Here)));
        let other = exclusion.claim(ServerId(2)).unwrap();
        drop(claim);
        drop((exclusion.claim(ServerId(1)).unwrap(), other));
    }

    #[test]
    fn a_panic_frees_the_claim() {
        let exclusion = Exclusion::in_process();
        let theirs = exclusion.clone();
        let died = std::thread::spawn(move || {
            let _claim = theirs.claim(ServerId(1)).unwrap();
            panic!("in the middle of a rotation");
        });
        assert!(died.join().is_err());
        assert!(exclusion.claim(ServerId(1)).is_ok());
    }

    #[test]
    fn two_openings_of_the_lock_files_exclude_each_other_server_by_server() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lock");
        let open = |account| Exclusion::on_machine(&file, account, &Clock::system()).unwrap();
        let (daemon, person) = (open("https://a/"), open("https://a/"));
        // More servers than files: each file has several.
        for id in 0..100 {
            let claim = daemon.claim(ServerId(id)).unwrap();
            assert!(matches!(person.claim(ServerId(id)), Err(Busy::Elsewhere)));
            assert!(person.claim(ServerId(id + 1)).is_ok());
            assert!(open("https://b/").claim(ServerId(id)).is_ok(), "another provider's server");
            drop(claim);
            assert!(person.claim(ServerId(id)).is_ok());
        }
        // And the directory with the creates.
        assert_eq!(dir.path().read_dir().unwrap().count(), FILES + 1);
    }

    #[test]
    fn a_link_in_the_lock_files_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lock");
        assert!(Exclusion::on_machine(&file, "https://a/", &Clock::system()).is_ok());
        let link = dir.path().join("lock.f");
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), link).unwrap();
        assert!(Exclusion::on_machine(&file, "https://a/", &Clock::system()).is_err());
    }
}
