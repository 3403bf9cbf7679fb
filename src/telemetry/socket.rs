//! journald's socket: entries go there, and it is known when they do not.
//!
//! journald may be restarted, full, or not there at all. What it does not take is handed back, so
//! that it can be said elsewhere; every later entry is offered to it first, so that all is as it
//! was once journald is back.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

/// How long a journald that is behind is waited for. It takes thousands of entries meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// A way to the journal.
#[derive(Debug)]
pub(super) struct Socket {
    datagrams: UnixDatagram,
    path: PathBuf,
    /// How many entries it did not take since the last that it took.
    missed: AtomicU64,
}

/// What became of an entry.
#[derive(Debug)]
pub(super) enum Sent {
    /// The journal has it.
    Written,
    /// The journal has it, for the first time after it did not take this many.
    WrittenAgain {
        /// How many.
        missed: u64,
    },
    /// The journal did not take it, and took the one before.
    Refused(io::Error),
    /// It still takes none.
    StillRefused,
}

impl Socket {
    /// A way to the journald that listens at `path`, whether or not it is there at present.
    ///
    /// # Errors
    /// When the system gives no sockets.
    pub(super) fn to(path: &Path) -> io::Result<Self> {
        let datagrams = UnixDatagram::unbound()?;
        datagrams.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { datagrams, path: path.to_owned(), missed: AtomicU64::new(0) })
    }

    /// Where it leads.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Offers an entry to the journal. Waits for a journald that is behind, but not again until it
    /// has taken one.
    pub(super) fn send(&self, entry: &[u8]) -> Sent {
        let away = self.missed.load(Ordering::Relaxed) > 0;
        let flags = if away { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
        match self.offer(entry, flags) {
            Ok(()) => match self.missed.swap(0, Ordering::Relaxed) {
                0 => Sent::Written,
                missed => Sent::WrittenAgain { missed },
            },
            Err(error) => match self.missed.fetch_add(1, Ordering::Relaxed) {
                0 => Sent::Refused(error.into()),
                _ => Sent::StillRefused,
            },
        }
    }

    fn offer(&self, entry: &[u8], flags: MsgFlags) -> Result<(), Errno> {
        let address = UnixAddr::new(&self.path)?;
        let socket = self.datagrams.as_raw_fd();
        let bytes = [IoSlice::new(entry)];
        match sendmsg(socket, &bytes, &[], flags, Some(&address)) {
            // More than fits into a datagram goes as a file in memory that can change no more.
            Err(Errno::EMSGSIZE | Errno::ENOBUFS) => {
                let file = sealed(entry)?;
                let file = [file.as_raw_fd()];
                let carried = [ControlMessage::ScmRights(&file)];
                sendmsg(socket, &[], &carried, flags, Some(&address)).map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }
}

fn sealed(bytes: &[u8]) -> Result<File, Errno> {
    let mut file = File::from(memfd_create(
        c"snapring-log",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )?);
    file.write_all(bytes)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    fn receive(journald: &UnixDatagram) -> Vec<u8> {
        let mut buffer = vec![0; 1024];
        let length = journald.recv(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }

    #[test]
    fn what_journald_does_not_take_is_handed_back_until_it_is_there_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = Socket::to(&path).unwrap();
        assert!(matches!(socket.send(b"a"), Sent::Refused(_)), "there is none yet");
        assert!(matches!(socket.send(b"b"), Sent::StillRefused));
        let journald = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(socket.send(b"c"), Sent::WrittenAgain { missed: 2 }));
        assert!(matches!(socket.send(b"d"), Sent::Written));
        assert_eq!((receive(&journald), receive(&journald)), (b"c".to_vec(), b"d".to_vec()));
        drop(journald);
        assert!(matches!(socket.send(b"e"), Sent::Refused(_)), "nobody listens at it any more");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(socket.send(b"f"), Sent::StillRefused));
        let _journald = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(socket.send(b"g"), Sent::WrittenAgain { missed: 2 }));
    }

    /// The queue of a journald that stands still fills up; a daemon must not stand still with it.
    #[test]
    fn a_journald_that_stands_still_is_not_waited_for_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let socket = Socket::to(&path).unwrap();
        let full = (0..100_000).find(|_| !matches!(socket.send(b"an entry"), Sent::Written));
        assert!(full.is_some());
        assert!(matches!(socket.send(b"another"), Sent::StillRefused));
        receive(&journald);
        assert!(matches!(socket.send(b"again"), Sent::WrittenAgain { .. }));
    }

    #[test]
    fn an_entry_too_large_for_a_datagram_goes_as_a_sealed_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let entry = vec![b'x'; 4 << 20];
        assert!(matches!(Socket::to(&path).unwrap().send(&entry), Sent::Written));

        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let mut nothing = [0; 16];
        let mut parts = [IoSliceMut::new(&mut nothing)];
        let message =
            recvmsg::<()>(journald.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())
                .unwrap();
        assert_eq!(message.bytes, 0);
        let Some(ControlMessageOwned::ScmRights(files)) = message.cmsgs().unwrap().next() else {
            panic!("no file was sent");
        };
        let file = format!("/proc/self/fd/{}", files[0]);
        assert_eq!(std::fs::read(&file).unwrap(), entry);
        let written = File::options().write(true).open(&file).unwrap().write_all(b"y");
        assert_eq!(written.unwrap_err().raw_os_error(), Some(nix::libc::EPERM), "it is sealed");
    }
}
