//! A bounded queue of lines, and the thread that writes them to a stream.
//!
//! A stream can stop taking anything at any time: a pipe that is not read, a terminal after Ctrl-S. Only
//! the thread waits for it. Lines that do not fit into the queue meanwhile are dropped and counted.
//!
//! On a terminal a footer may stand below the lines: text that is renewed in its place.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;
use tracing_subscriber::fmt::MakeWriter;

use crate::clock::monotonic_us;

/// How much may wait: the events of some 2,000 rotations.
const MAX_BYTES: usize = 8 << 20;

/// Added to the length of each line, so that one limit bounds short lines too.
const OVERHEAD: usize = 64;

/// Puts lines into the queue, and never waits. Clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct LineWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Never held while anything is written.
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
    lost: AtomicU64,
    /// When the last line was queued, by the machine's monotonic clock.
    last_put_us: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    footer: Option<Box<str>>,
    /// It is not on the screen as it is here.
    is_footer_due: bool,
    /// A line has been taken out, and the thread is not done with it.
    is_writing: bool,
    /// A line did not fit. Until half of the queue is free, none is accepted: there is one gap with one
    /// report, not many small ones.
    is_overflowing: bool,
    /// Lost since this was last reported.
    unreported: u64,
    has_no_thread: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && !self.is_writing && !self.is_footer_due
    }

    /// A line of any length is accepted if nothing else waits.
    fn has_room_for(&self, cost: usize) -> bool {
        !self.is_overflowing
            && !self.has_no_thread
            && (self.lines.is_empty() || self.bytes + cost <= MAX_BYTES)
    }
}

impl LineWriter {
    /// Starts a thread that writes to `stream`. When lines were lost and the stream takes lines again, the
    /// thread calls `report` with their number.
    #[must_use]
    pub(super) fn start(
        stream: impl AsFd + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("snapring-log".to_owned());
        if thread.spawn(move || of_thread.write_all_to(&stream, report)).is_err() {
            shared.queue().has_no_thread = true;
        }
        Self(shared)
    }

    /// Queues a line, which ends in a line break.
    pub(crate) fn put(&self, line: &[u8]) {
        self.0.last_put_us.store(monotonic_us(), Ordering::Relaxed);
        let line = Box::<[u8]>::from(line);
        let cost = line.len() + OVERHEAD;
        let mut queue = self.0.queue();
        if queue.has_room_for(cost) {
            queue.bytes += cost;
            queue.lines.push_back(line);
            drop(queue);
            self.0.filled.notify_one();
        } else {
            queue.is_overflowing = true;
            self.0.lose_one(&mut queue);
        }
    }

    /// Renews the footer, or removes it. For terminals only: text that fits into one row.
    pub(crate) fn set_footer(&self, footer: Option<&str>) {
        let mut queue = self.0.queue();
        if queue.footer.as_deref() == footer || queue.has_no_thread {
            return;
        }
        queue.footer = footer.map(Box::from);
        queue.is_footer_due = true;
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Whether there is a footer.
    #[must_use]
    pub(crate) fn has_footer(&self) -> bool {
        self.0.queue().footer.is_some()
    }

    /// For how long no line has been queued; since the start of the machine, if there was none.
    #[must_use]
    pub(crate) fn silent_for(&self) -> Duration {
        let last = self.0.last_put_us.load(Ordering::Relaxed);
        Duration::from_micros(monotonic_us().saturating_sub(last))
    }

    /// Waits until everything queued is written or lost; without a `patience`, for as long as that takes.
    /// Whether it was done in time.
    pub(crate) fn flush(&self, patience: Option<Duration>) -> bool {
        let queue = self.0.queue();
        let waits = |queue: &mut Queue| !queue.is_empty();
        match patience {
            Some(patience) => self
                .0
                .emptied
                .wait_timeout_while(queue, patience, waits)
                .is_ok_and(|(_, end)| !end.timed_out()),
            None => self.0.emptied.wait_while(queue, waits).is_ok(),
        }
    }

    /// How many lines were lost since the start.
    #[must_use]
    pub(super) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// How many lost lines have not been reported yet. The caller reports them.
    #[must_use]
    pub(super) fn take_unreported(&self) -> u64 {
        std::mem::take(&mut self.0.queue().unreported)
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose_one(&self, queue: &mut Queue) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        queue.unreported += 1;
    }

    fn write_all_to(&self, stream: &impl AsFd, report: impl Fn(u64)) {
        let (mut is_torn, mut has_footer) = (false, false);
        loop {
            let line = match self.next() {
                Next::Line(line) => line,
                Next::Footer(footer) => {
                    let _ = write_whole(stream, drawn(footer.as_deref()).as_bytes());
                    has_footer = footer.is_some();
                    self.finish();
                    continue;
                }
            };
            if std::mem::take(&mut has_footer) {
                let _ = write_whole(stream, drawn(None).as_bytes());
                self.redraw_footer();
            }
            let is_written = write_line(stream, &line, &mut is_torn).is_ok();
            if let Some(lost) = self.account_for(is_written) {
                // Queues a line: the queue must not count as empty before.
                report(lost);
            }
            self.finish();
        }
    }

    fn next(&self) -> Next {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes = queue.bytes.saturating_sub(line.len() + OVERHEAD);
                queue.is_writing = true;
                return Next::Line(line);
            }
            if std::mem::take(&mut queue.is_footer_due) {
                queue.is_writing = true;
                return Next::Footer(queue.footer.clone());
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many lost lines are to be reported now. Not after a line that failed: a report to a stream that
    /// fails would be the next lost line.
    fn account_for(&self, is_written: bool) -> Option<u64> {
        let mut queue = self.queue();
        if queue.bytes <= MAX_BYTES / 2 {
            queue.is_overflowing = false;
        }
        if !is_written {
            self.lose_one(&mut queue);
            return None;
        }
        let is_due = queue.unreported > 0 && !queue.is_overflowing;
        is_due.then(|| std::mem::take(&mut queue.unreported))
    }

    fn redraw_footer(&self) {
        let mut queue = self.queue();
        queue.is_footer_due |= queue.footer.is_some();
    }

    fn finish(&self) {
        let mut queue = self.queue();
        queue.is_writing = false;
        if queue.is_empty() {
            drop(queue);
            self.emptied.notify_all();
        }
    }
}

/// What the thread does next.
enum Next {
    Line(Box<[u8]>),
    Footer(Option<Box<str>>),
}

/// What puts a footer in the place of the one before.
fn drawn(footer: Option<&str>) -> String {
    format!("\r{}\u{1b}[K", footer.unwrap_or_default())
}

/// Writes a whole line, and first ends one of which only a part could be written.
fn write_line(stream: &impl AsFd, line: &[u8], is_torn: &mut bool) -> Result<(), Errno> {
    if *is_torn {
        write_whole(stream, b"\n").map_err(|(error, _)| error)?;
        *is_torn = false;
    }
    write_whole(stream, line).map_err(|(error, written)| {
        *is_torn = written > 0;
        error
    })
}

/// With the error: how many bytes were written before.
fn write_whole(stream: &impl AsFd, bytes: &[u8]) -> Result<(), (Errno, usize)> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match write(stream, rest) {
            Ok(0) => return Err((Errno::EIO, written)),
            Ok(more) => written += more,
            Err(Errno::EINTR) => {}
            // Whoever shares the stream may have made it non-blocking.
            Err(Errno::EAGAIN) => {
                let room = PollFd::new(stream.as_fd(), PollFlags::POLLOUT);
                match poll(&mut [room], PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err((error, written)),
                }
            }
            Err(error) => return Err((error, written)),
        }
    }
    Ok(())
}

/// The format layers write an event with one call.
impl io::Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'writer> MakeWriter<'writer> for LineWriter {
    type Writer = Self;

    fn make_writer(&'writer self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, pipe};
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Far more than anything here takes.
    const LONG: Duration = Duration::from_secs(60);

    const SHORT: Duration = Duration::from_millis(50);

    fn start(stream: impl AsFd + Send + 'static) -> (LineWriter, Receiver<u64>) {
        let (reports, reported) = channel();
        (
            LineWriter::start(stream, move |lost| {
                let _ = reports.send(lost);
            }),
            reported,
        )
    }

    fn piped() -> (LineWriter, Receiver<u64>, PipeReader) {
        let (reader, writer) = pipe().unwrap();
        let (lines, reported) = start(writer);
        (lines, reported, reader)
    }

    /// A line of 1 KiB that says which one it is.
    fn line(nth: usize) -> String {
        format!("{nth:08} {}\n", "x".repeat(1014))
    }

    #[test]
    fn lines_are_written_in_order() {
        let (lines, reported, reader) = piped();
        for nth in 0..10 {
            lines.put(line(nth).as_bytes());
        }
        assert!(lines.flush(Some(LONG)));
        let read: Vec<_> = BufReader::new(reader).lines().take(10).map(Result::unwrap).collect();
        assert!((0..10).all(|nth| read[nth] == line(nth).trim_end()), "{read:?}");
        assert_eq!((lines.lost(), reported.try_iter().count()), (0, 0));
    }

    #[test]
    fn a_footer_is_renewed_in_its_place_and_stays_below_the_lines() {
        let (lines, _reported, mut reader) = piped();
        let put = |text: &str| {
            lines.put(text.as_bytes());
            assert!(lines.flush(Some(LONG)));
        };
        let footer = |text| {
            lines.set_footer(text);
            assert!(lines.flush(Some(LONG)));
        };
        put("one\n");
        footer(Some("waiting 1s"));
        footer(Some("waiting 1s"));
        footer(Some("waiting 2s"));
        put("two\n");
        footer(None);
        put("three\n");
        drop(lines);
        let mut read = vec![0; 200];
        let length = reader.read(&mut read).unwrap();
        let read = String::from_utf8(read[..length].to_vec()).unwrap();
        let expected = "one\n\rwaiting 1s|\rwaiting 2s|\r|two\n\rwaiting 2s|\r|three\n";
        assert_eq!(read, expected.replace('|', "\u{1b}[K"));
    }

    #[test]
    fn a_burst_is_kept_until_the_reader_is_back() {
        let (lines, _reported, reader) = piped();
        let count = 7000;
        for nth in 0..count {
            lines.put(line(nth).as_bytes());
        }
        assert!(!lines.flush(Some(SHORT)), "a pipe does not hold that much");
        let read = BufReader::new(reader).lines().take(count).map(Result::unwrap);
        assert!(read.enumerate().all(|(nth, it)| it == line(nth).trim_end()));
        assert!(lines.flush(Some(LONG)));
        assert_eq!(lines.lost(), 0);
    }

    #[test]
    fn what_does_not_fit_is_one_gap_that_is_counted_and_reported_where_it_is() {
        let (reader, writer) = pipe().unwrap();
        let (reports, reported) = channel();
        let own = Arc::new(Mutex::new(None::<LineWriter>));
        let of_report = Arc::clone(&own);
        let lines = LineWriter::start(writer, move |lost| {
            reports.send(lost).unwrap();
            of_report.lock().unwrap().as_ref().unwrap().put(format!("{lost} lost\n").as_bytes());
        });
        *own.lock().unwrap() = Some(lines.clone());
        let all = 20_000;
        for nth in 0..all {
            lines.put(line(nth).as_bytes());
        }
        let lost = usize::try_from(lines.lost()).unwrap();
        assert!((11_000..13_000).contains(&lost), "{lost}");
        assert!(reported.try_recv().is_err(), "there is no reader yet");

        let mut read = BufReader::new(reader).lines().map(Result::unwrap);
        for nth in 0..all - lost {
            assert_eq!(read.next().unwrap(), line(nth).trim_end());
        }
        assert_eq!(read.next().unwrap(), format!("{lost} lost"));
        lines.put(b"again\n");
        assert_eq!(read.next().unwrap(), "again");
        assert_eq!(reported.try_iter().collect::<Vec<_>>(), [lost as u64]);
        assert_eq!((lines.lost(), lines.take_unreported()), (lost as u64, 0));
    }

    /// The bound is in bytes of memory, so short lines are not a way around it.
    #[test]
    fn many_short_lines_are_bounded_too() {
        let (lines, _reported, _reader) = piped();
        let all = 1_000_000;
        for _ in 0..all {
            lines.put(b"\n");
        }
        assert!(lines.lost() > all / 2, "{}", lines.lost());
    }

    #[test]
    fn a_line_larger_than_the_queue_is_written_if_nothing_else_waits() {
        let (lines, _reported, mut reader) = piped();
        let large = vec![b'x'; MAX_BYTES + 1];
        lines.put(&large);
        let mut read = vec![0; large.len()];
        reader.read_exact(&mut read).unwrap();
        assert!(read == large && lines.lost() == 0);
    }

    #[test]
    fn a_stream_that_fails_costs_lines_that_are_counted_and_not_reported_to_it() {
        let (lines, reported, reader) = piped();
        drop(reader);
        for nth in 0..3 {
            lines.put(line(nth).as_bytes());
        }
        assert!(lines.flush(Some(LONG)), "nothing waits for a reader that is gone");
        assert_eq!((lines.lost(), lines.take_unreported(), lines.take_unreported()), (3, 3, 0));
        assert_eq!(reported.try_iter().count(), 0);
    }

    #[test]
    fn a_full_disk_costs_lines_too() {
        let (lines, _reported) = start(File::options().write(true).open("/dev/full").unwrap());
        lines.put(b"one\n");
        assert!(lines.flush(Some(LONG)));
        assert_eq!(lines.lost(), 1);
    }

    /// A stream that others made non-blocking says "not now" in the middle of a line.
    #[test]
    fn a_nonblocking_stream_gets_whole_lines() {
        let (reader, writer): (PipeReader, PipeWriter) = pipe().unwrap();
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&writer, flags).unwrap();
        let (lines, _reported) = start(writer);
        let count = 1000;
        for nth in 0..count {
            lines.put(line(nth).as_bytes());
        }
        let read = BufReader::new(reader).lines().take(count).map(Result::unwrap);
        assert!(read.enumerate().all(|(nth, it)| it == line(nth).trim_end()));
        assert_eq!(lines.lost(), 0);
    }

    #[test]
    fn the_rest_of_a_torn_line_never_joins_the_next_one() {
        let (mut reader, writer) = pipe().unwrap();
        let mut is_torn = true;
        write_line(&writer, b"next\n", &mut is_torn).unwrap();
        drop(writer);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!((read.as_str(), is_torn), ("\nnext\n", false));
    }
}
