//! Where entries go that journald does not take: a stream that may lead to the very same journald.
//!
//! So writing never waits for ever, or a journald that stands still would hold the daemon up; and
//! what could not be written is counted, or what is lost with journald would be lost in silence.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing_subscriber::fmt::MakeWriter;

/// How long a reader that is behind is waited for, but not again until it has taken something.
const PATIENCE: Duration = Duration::from_secs(1);

/// A stream for whole lines. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Fallback {
    stream: Arc<Mutex<File>>,
    lost: Arc<AtomicU64>,
}

impl Fallback {
    /// One that writes there.
    #[must_use]
    pub(super) fn to(stream: File) -> Self {
        Self { stream: Arc::new(Mutex::new(stream)), lost: Arc::default() }
    }

    /// One that writes to standard error.
    ///
    /// # Errors
    /// When there is no standard error.
    pub(super) fn to_standard_error() -> io::Result<Self> {
        Ok(Self::to(io::stderr().as_fd().try_clone_to_owned()?.into()))
    }

    /// How many lines could not be written since this was asked last.
    #[must_use]
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    fn put(&self, line: &[u8]) -> io::Result<()> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = self.lost.load(Ordering::Relaxed) > 0;
        wait_for_room(&stream, if behind { Duration::ZERO } else { PATIENCE })?;
        stream.write_all(line)
    }
}

/// A line fits where there is room at all: pipes and sockets say so from a few kilobytes on.
fn wait_for_room(stream: &File, patience: Duration) -> Result<(), Errno> {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    match poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)], timeout) {
        Ok(0) => Err(Errno::EAGAIN),
        Err(error) if error != Errno::EINTR => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

impl Write for Fallback {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        self.put(line).inspect_err(|_| {
            self.lost.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'writer> MakeWriter<'writer> for Fallback {
    type Writer = Self;

    fn make_writer(&'writer self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (Fallback, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Fallback::to(OwnedFd::from(ours).into()), theirs)
    }

    #[test]
    fn a_reader_that_has_gone_costs_lines_that_are_counted() {
        let (mut fallback, mut reader) = pair();
        fallback.write_all(b"one\n").unwrap();
        let mut read = [0; 4];
        reader.read_exact(&mut read).unwrap();
        assert_eq!((&read, fallback.take_lost()), (b"one\n", 0));
        drop(reader);
        assert!(fallback.write_all(b"two\n").is_err());
        assert!(fallback.clone().write_all(b"three\n").is_err());
        assert_eq!((fallback.take_lost(), fallback.take_lost()), (2, 0));
    }

    #[test]
    fn a_reader_that_stands_still_is_not_waited_for_for_ever() {
        let (mut fallback, mut reader) = pair();
        let line = [b'x'; 300];
        let written = (0..100_000).take_while(|_| fallback.write_all(&line).is_ok()).count();
        assert!((1..100_000).contains(&written), "{written}");
        assert!(fallback.write_all(&line).is_err());
        let mut read = vec![0; written * line.len()];
        reader.read_exact(&mut read).unwrap();
        fallback.write_all(b"again").unwrap();
        assert_eq!(fallback.take_lost(), 2);
    }
}
