//! Who has a claim, for the messages of others.
//!
//! The process number comes from the kernel, so it is never out of date. What else is known of the
//! process is named in a small file, which counts only if it names the same process.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::foreign::ForeignText;
use crate::moment::{shown, shown_today};
use crate::naming::ServerId;
use crate::rotation::lock::open_creates::{Directory, NoteKind};
use crate::rotation::lock::{Claim, Exclusion};

/// A process with more claims than this leaves no notes: a fleet would cost thousands of files.
const FEW_CLAIMS: usize = 64;

/// A process that has a claim, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    pid: Option<u32>,
    command: Option<ForeignText>,
    since: Option<Timestamp>,
}

impl Owner {
    pub(super) fn of_process(pid: Option<u32>) -> Self {
        Self { pid, ..Self::default() }
    }

    pub(super) fn words(&self, zone: &TimeZone) -> String {
        let mut known = Vec::new();
        known.extend(self.command.as_ref().map(|command| format!("`snapring {command}`")));
        known.extend(self.pid.map(|pid| format!("pid {pid}")));
        known.extend(self.since.map(|since| format!("since {}", shown(since, zone))));
        let known = known.join(", ");
        let colon = if known.is_empty() { "" } else { ": " };
        format!("another snapring process on this machine is working on it{colon}{known}")
    }

    /// The same for one row of a terminal.
    pub(super) fn in_short(&self, now: Timestamp, zone: &TimeZone) -> String {
        let command = self.command.as_ref().map(ToString::to_string);
        let known: Vec<String> =
            command.into_iter().chain(self.pid.map(|pid| format!("pid {pid}"))).collect();
        let known =
            if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) };
        let since = self.since.map(|since| format!(" since {}", shown_today(since, now, zone)));
        format!("another snapring process{known} is working on it{}", since.unwrap_or_default())
    }

    /// Takes over what a note says, if it is about the same process.
    fn with_note(self, text: &str) -> Self {
        let Some((numbers, command)) = text.trim_end().split_once('\n') else { return self };
        let Some((pid, since)) = numbers.split_once(' ') else { return self };
        if self.pid.is_none() || pid.parse() != Ok(self.pid.unwrap_or_default()) {
            return self;
        }
        let since = since.parse().ok().and_then(|second| Timestamp::from_second(second).ok());
        Self { command: Some(command.into()), since, ..self }
    }
}

/// A note that was left beside a claim.
#[derive(Debug)]
pub(super) struct Note {
    directory: Directory,
    place: i64,
    text: Arc<str>,
    written: JoinHandle<()>,
}

impl Note {
    /// Removes it, unless another process has replaced it. If it stays, it is ignored.
    pub(super) fn take_back(self) {
        let Self { directory, place, text, written } = self;
        let Ok(runtime) = Handle::try_current() else { return };
        let remove = move || directory.remove_note(place, NoteKind::Owner, Some(&*text));
        if written.is_finished() {
            drop(runtime.spawn_blocking(remove));
            return;
        }
        runtime.spawn(async move {
            let _ = written.await;
            let _ = tokio::task::spawn_blocking(remove).await;
        });
    }
}

impl Claim {
    /// Tells other processes which command has the server, and since when. Does not wait for the disk.
    pub(super) fn leave_note(&mut self, now: Timestamp) {
        let claims = &self.claims;
        let Some(directory) = claims.records().directory().cloned() else { return };
        if claims.busy().len() > FEW_CLAIMS || claims.command.is_empty() {
            return;
        }
        let (pid, since) = (std::process::id(), now.as_second());
        let text: Arc<str> = format!("{pid} {since}\n{}\n", claims.command).into();
        let place = claims.lock_place(self.server);
        let (to_write, into) = (Arc::clone(&text), directory.clone());
        let written = tokio::task::spawn_blocking(move || {
            // Where it cannot be written, others learn the process number only.
            let _ = into.write_note(place, NoteKind::Owner, &to_write);
        });
        self.note = Some(Note { directory, place, text, written });
    }
}

impl Exclusion {
    /// Adds what the process itself has noted.
    pub(super) async fn look_up(&self, server: ServerId, owner: Owner) -> Owner {
        let place = self.0.lock_place(server);
        // It may have changed since.
        let holder = self.0.machine.as_ref().and_then(|machine| machine.holder(place));
        let owner = if holder.is_some() { Owner::of_process(holder) } else { owner };
        match self.0.records().read_note(place, NoteKind::Owner).await {
            Some(text) => owner.with_note(&text),
            None => owner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_counts_only_for_the_process_that_has_the_claim() {
        let note = "811 1795834812\ncreate\n";
        let words = |pid: Option<u32>| Owner::of_process(pid).with_note(note).words(&TimeZone::UTC);
        let known = "another snapring process on this machine is working on it: `snapring create`, \
                     pid 811, since 2026-11-28 03:00:12 UTC";
        assert_eq!(words(Some(811)), known);
        assert!(words(Some(812)).ends_with("is working on it: pid 812"), "{}", words(Some(812)));
        assert!(words(None).ends_with("is working on it"), "{}", words(None));
    }

    #[test]
    fn a_row_of_a_terminal_has_room_for_who_it_is_and_since_when() {
        let owner = Owner::of_process(Some(811)).with_note("811 1795834812\ncreate\n");
        let now = Timestamp::from_second(1_795_834_900).unwrap();
        let words = owner.in_short(now, &TimeZone::UTC);
        let expected =
            "another snapring process (create, pid 811) is working on it since 03:00:12 UTC";
        assert_eq!(words, expected);
        let unknown = Owner::default().in_short(now, &TimeZone::UTC);
        assert_eq!(unknown, "another snapring process is working on it");
    }

    #[test]
    fn a_note_that_is_not_understood_is_no_note() {
        for note in ["", "\n", "811", "811 x", "x y\nz"] {
            let owner = Owner::of_process(Some(811)).with_note(note);
            assert_eq!(owner, Owner::of_process(Some(811)), "{note:?}");
        }
    }
}
