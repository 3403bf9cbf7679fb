//! Two rotations of one server never overlap: not in one process, not on one machine.
//!
//! Within the process a set says which servers are busy. Between processes (the daemon, and a
//! person's `rotate` beside it) it is a lock on one byte of a file ([`files`]).
//!
//! A claim also shows which creates of the server may still have an effect
//! (`open_creates`), whether the server is being restored ([`restoring`]) or was left [`broken`] by that, and
//! whether it may be [`quiesced`]. `presence` shows that a daemon runs.

mod broken;
mod files;
mod location;
mod open_creates;
mod owner;
mod presence;
mod quiesced;
mod restoring;
mod waiting;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::Clock;
use crate::health::RESTORE_AGAIN;
use crate::moment::shown_today;
use crate::naming::{Account, ServerId, Tick};
use crate::plan::AskedBy;
use crate::provider::settings::{ApiSettings, one_address};
use crate::report::{KnownCause, Report, RotationOutcome};
use crate::ring::Ring;
pub(crate) use crate::rotation::lock::broken::Broken;
use crate::rotation::lock::files::{Held, LockFiles, Refused};
pub use crate::rotation::lock::location::LockError;
pub(crate) use crate::rotation::lock::location::{any_is_quiesced, any_is_restored};
pub use crate::rotation::lock::open_creates::MemoryRecords;
use crate::rotation::lock::open_creates::{MemoryHeld, OpenCreates, Records};
pub use crate::rotation::lock::owner::Owner;
pub use crate::rotation::lock::presence::Presence;
pub use crate::rotation::lock::quiesced::Quiesced;
pub(crate) use crate::rotation::lock::restoring::{LONGEST as LONGEST_RESTORE, NotedRestores};
pub use crate::rotation::lock::restoring::{RestoreAnswer, RestoreUnderWay, Restoring};
pub(crate) use crate::rotation::lock::waiting::{OnRestore, Wait};
use crate::server::Server;

/// Who may rotate which server at present. Clones share the claims.
#[derive(Debug, Clone)]
pub struct Exclusion(Arc<Claims>);

#[derive(Debug)]
struct Claims {
    /// The [`Claims::lock_place`] of each.
    busy: Mutex<HashSet<i64>>,
    machine: Option<MachineLock>,
    open_creates: OpenCreates,
    /// The command of this process.
    command: &'static str,
}

#[derive(Debug)]
enum MachineLock {
    /// Of this machine.
    Files { files: LockFiles, addresses: Addresses },
    /// Of a simulated one.
    Memory(MemoryRecords),
}

/// The provider's address of each account: one server number at two providers is two servers.
#[derive(Debug)]
struct Addresses {
    /// Of the account of `[api]`.
    api: String,
    /// Of the others. A reload may add some.
    more: Mutex<BTreeMap<Account, String>>,
}

impl Addresses {
    fn of(&self, account: Account) -> String {
        let more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        more.get(&account).unwrap_or(&self.api).clone()
    }
}

/// What keeps other processes out.
#[derive(Debug)]
#[expect(dead_code, reason = "they are held, and dropped")]
enum HeldLock {
    Files(Held),
    Memory(MemoryHeld),
}

impl MachineLock {
    /// `held`: how many claims this process has already.
    fn take(&self, place: i64, held: usize) -> Result<HeldLock, Busy> {
        match self {
            Self::Files { files, .. } => match files.take(place, held) {
                Ok(held) => Ok(HeldLock::Files(held)),
                Err(Refused::Held(pid)) => Err(Busy::Elsewhere(Owner::of_process(pid))),
                Err(Refused::Failed(problem)) => Err(Busy::Unknown(problem)),
            },
            Self::Memory(records) => {
                let taken = records.take(place).map(HeldLock::Memory);
                taken.ok_or_else(|| Busy::Elsewhere(Owner::of_process(None)))
            }
        }
    }

    /// Whether another process has it. Takes nothing.
    fn is_taken(&self, place: i64) -> bool {
        match self {
            Self::Files { files, .. } => files.is_taken(place).unwrap_or(false),
            Self::Memory(records) => records.is_taken(place),
        }
    }

    /// The process that has it, as far as the system tells.
    fn holder(&self, place: i64) -> Option<u32> {
        match self {
            Self::Files { files, .. } => files.holder(place),
            Self::Memory(_) => None,
        }
    }
}

/// The right to rotate one server; ends when it is dropped, by a panic too.
#[derive(Debug)]
#[must_use]
pub struct Claim {
    claims: Arc<Claims>,
    server: ServerId,
    held: Option<HeldLock>,
    /// What others learn about this claim.
    note: Option<owner::Note>,
}

/// Why a server cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum Busy {
    /// By this process.
    #[error("the previous rotation is still running")]
    Here,
    /// By another process on this machine.
    #[error("{}", .0.words(&TimeZone::UTC))]
    Elsewhere(Owner),
    /// The server is being restored.
    #[error("{}", .0.words(&TimeZone::UTC))]
    Restoring(Restoring),
    /// A restore has failed, and the provider has shown the server like this since.
    #[error(
        "a restore failed, and the provider shows the server as {0:?}. It is not rotated until that changes, because \
         a rotation could delete a snapshot that you need. {RESTORE_AGAIN}"
    )]
    Broken(String),
    /// The lock file does not work.
    #[error("the lock between processes cannot be taken: {0}")]
    Unknown(io::Error),
    /// snapring was asked to stop while it waited.
    #[error("interrupted by a shutdown while it waited: {0}")]
    Interrupted(Box<Busy>),
}

impl Exclusion {
    /// Claims that hold in this process only.
    #[must_use]
    pub fn in_process() -> Self {
        Self::new(None, OpenCreates::in_process())
    }

    /// Claims that hold on this machine, among all who use the same lock files for the same
    /// provider address. Their names begin with that of `lock_file`; creates are recorded in a
    /// directory beside it.
    ///
    /// # Errors
    /// When the files cannot be opened or made.
    pub fn on_machine(lock_file: &Path, account: &str, clock: &Clock) -> io::Result<Self> {
        let files = LockFiles::open(lock_file, clock)?;
        let addresses = Addresses { api: account.to_owned(), more: Mutex::default() };
        let machine = Some(MachineLock::Files { files, addresses });
        let records = Records::in_directory(lock_file.with_extension("creates"), clock);
        Ok(Self::new(machine, OpenCreates::recorded_in(records, clock.now().uptime)))
    }

    /// Claims that hold on a simulated machine, among all who use the same records of it. `machine`: its
    /// clock.
    #[must_use]
    pub fn remembered_in(records: &MemoryRecords, machine: &Clock) -> Self {
        let locks = records.clone();
        let records = Records::Memory { records: records.clone(), clock: machine.clone() };
        let locks = Some(MachineLock::Memory(locks));
        Self::new(locks, OpenCreates::recorded_in(records, Duration::ZERO))
    }

    fn new(machine: Option<MachineLock>, open_creates: OpenCreates) -> Self {
        Self(Arc::new(Claims { busy: Mutex::default(), machine, open_creates, command: "" }))
    }

    /// Says which command this process carries out, before the first claim.
    #[must_use]
    fn used_by(mut self, command: &'static str) -> Self {
        if let Some(claims) = Arc::get_mut(&mut self.0) {
            claims.command = command;
        }
        self
    }

    /// Until when a process that ended before this one started may still have a create on its way
    /// that was not recorded, as the clock's uptime. `span`: how long after the end of its process a
    /// create may have an effect.
    #[must_use]
    pub fn unrecorded_creates_settled_at(&self, span: Duration) -> Duration {
        self.0.open_creates.unknown_until(span)
    }

    /// Learns where the provider of further accounts is, before their servers are claimed. An account keeps the
    /// address that it had first, as its claims are made in the name of that.
    pub(crate) fn serves(&self, accounts: &[ApiSettings]) {
        let Some(MachineLock::Files { addresses, .. }) = &self.0.machine else { return };
        let mut more = addresses.more.lock().unwrap_or_else(PoisonError::into_inner);
        for it in accounts {
            let address = || one_address(it.base_url.as_str());
            more.entry(it.account).or_insert_with(address);
        }
    }

    /// Whether this process or another one holds a server; `false` also if that cannot be found out. It claims nothing.
    pub(crate) fn is_claimed(&self, server: ServerId) -> bool {
        let place = self.0.lock_place(server);
        self.0.busy().contains(&place)
            || self.0.machine.as_ref().is_some_and(|machine| machine.is_taken(place))
    }

    /// Claims a server, whether it is being restored or not.
    ///
    /// # Errors
    /// When another process holds it, or that is unknown.
    pub fn claim(&self, server: ServerId) -> Result<Claim, Busy> {
        let mut busy = self.0.busy();
        let place = self.0.lock_place(server);
        if busy.contains(&place) {
            return Err(Busy::Here);
        }
        let taken = self.0.machine.as_ref().map(|machine| machine.take(place, busy.len()));
        let held = taken.transpose()?;
        busy.insert(place);
        Ok(Claim { claims: Arc::clone(&self.0), server, held, note: None })
    }
}

impl Claims {
    /// The byte that is locked for the server. The account's name has no part in it: another configuration may
    /// call the account by another name, and must be kept out all the same.
    fn lock_place(&self, server: ServerId) -> i64 {
        match &self.machine {
            Some(MachineLock::Files { addresses, .. }) => {
                place(&addresses.of(server.account), server.number)
            }
            // No other process is kept out here.
            Some(MachineLock::Memory(_)) | None => place(server.account.key(), server.number),
        }
    }

    /// A number that stands for the server in what is recorded of it, among all accounts.
    fn place(&self, server: ServerId) -> i64 {
        place(&(self.address(server.account) + server.account.key()), server.number)
    }

    fn address(&self, account: Account) -> String {
        match &self.machine {
            Some(MachineLock::Files { addresses, .. }) => addresses.of(account),
            Some(MachineLock::Memory(_)) | None => String::new(),
        }
    }

    fn records(&self) -> &Records {
        self.open_creates.records()
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<i64>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Whose claim it is.
    #[must_use]
    pub(crate) fn server(&self) -> ServerId {
        self.server
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
        let names = listing.snapshots.iter().map(|snapshot| &snapshot.name);
        let place = self.claims.place(self.server);
        self.claims.open_creates.listed(self.server, place, listing.asked_at.uptime, names).await
    }
}

impl Busy {
    /// The report of a rotation that could not begin.
    #[must_use]
    pub fn report(&self, server: &Server, tick: Tick, asked_by: AskedBy) -> Report {
        let (outcome, known_cause) = match self {
            Self::Here | Self::Elsewhere(_) | Self::Restoring(_) => {
                // What a person asks for is no tick of the schedule.
                let is_tick = asked_by == AskedBy::Schedule;
                (RotationOutcome::Skipped, is_tick.then_some(KnownCause::Hindered))
            }
            Self::Unknown(_) | Self::Broken(_) => (RotationOutcome::Failed, None),
            Self::Interrupted(_) => (RotationOutcome::Failed, Some(KnownCause::Shutdown)),
        };
        let reason = self.words(&server.policy.time_zone);
        Report {
            known_cause,
            ..Report::without_steps(outcome, server.id, &server.name, tick, reason)
        }
    }

    /// The same as it is displayed, with times in this zone.
    #[must_use]
    pub fn words(&self, zone: &TimeZone) -> String {
        match self {
            Self::Elsewhere(owner) => owner.words(zone),
            Self::Restoring(restoring) => restoring.words(zone),
            Self::Interrupted(before) => {
                format!("interrupted by a shutdown while it waited: {}", before.words(zone))
            }
            Self::Here | Self::Unknown(_) | Self::Broken(_) => self.to_string(),
        }
    }
}

impl Busy {
    /// The same for one row of a terminal.
    #[must_use]
    pub(crate) fn in_short(&self, now: Timestamp, zone: &TimeZone) -> String {
        match self {
            Self::Elsewhere(owner) => owner.in_short(now, zone),
            Self::Restoring(restoring) => {
                let until = shown_today(restoring.until, now, zone);
                format!("being restored, until {until} at the latest")
            }
            _ => self.words(zone),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(note) = self.note.take() {
            note.take_back();
        }
        let mut busy = self.claims.busy();
        drop(self.held.take());
        busy.remove(&self.claims.lock_place(self.server));
    }
}

/// The byte that stands for a server: FNV-1a over the address and the number, within an `off_t`.
fn place(address: &str, server: u64) -> i64 {
    let bytes = address.bytes().chain(server.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // One bit for the sign, and one so that start + length cannot overflow.
    (hash >> 2).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_claimed_once_until_the_claim_is_dropped() {
        let exclusion = Exclusion::in_process();
        let claim = exclusion.claim(ServerId::new(1)).unwrap();
        assert!(matches!(exclusion.clone().claim(ServerId::new(1)), Err(Busy::Here)));
        let other = exclusion.claim(ServerId::new(2)).unwrap();
        drop(claim);
        drop((exclusion.claim(ServerId::new(1)).unwrap(), other));
    }

    #[test]
    fn a_panic_frees_the_claim() {
        let exclusion = Exclusion::in_process();
        let theirs = exclusion.clone();
        let died = std::thread::spawn(move || {
            let _claim = theirs.claim(ServerId::new(1)).unwrap();
            panic!("in the middle of a rotation");
        });
        assert!(died.join().is_err());
        assert!(exclusion.claim(ServerId::new(1)).is_ok());
    }

    #[test]
    fn two_openings_of_the_lock_files_exclude_each_other_server_by_server() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lock");
        let open = |account| Exclusion::on_machine(&file, account, &Clock::system()).unwrap();
        let (daemon, person) = (open("https://a/"), open("https://a/"));
        // More servers than files: each file has several.
        for id in 0..100 {
            let claim = daemon.claim(ServerId::new(id)).unwrap();
            assert!(matches!(person.claim(ServerId::new(id)), Err(Busy::Elsewhere(_))));
            assert!(person.claim(ServerId::new(id + 1)).is_ok());
            // This process may itself have two names for one account.
            let again = ServerId { account: Account::named("b").unwrap(), number: id };
            assert!(matches!(daemon.claim(again), Err(Busy::Here)));
            let renamed = ServerId { account: Account::named("b").unwrap(), number: id };
            let busy = person.claim(renamed);
            assert!(
                matches!(busy, Err(Busy::Elsewhere(_))),
                "the account is only called otherwise"
            );
            assert!(
                open("https://b/").claim(ServerId::new(id)).is_ok(),
                "another provider's server"
            );
            drop(claim);
            assert!(person.claim(ServerId::new(id)).is_ok());
        }
        // And the directory with the creates.
        assert_eq!(dir.path().read_dir().unwrap().count(), files::FILES + 1);
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
