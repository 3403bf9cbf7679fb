//! Creates whose outcome is not known yet, recorded so that the next process knows of them too.
//!
//! The kernel goes on delivering a request after the process gave it up, and after the process was
//! killed. A create is therefore recorded before it is sent, and the record is removed once a
//! listing shows what became of it. Until then a listing without the snapshot proves nothing.
//!
//! Everything here needs the claim on the server. What this process knows of its own creates is
//! never overruled by what is on the disk. Times are the uptime of the caller's clock.

mod records;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::records::MemoryRecords;
pub(super) use self::records::{Directory, MemoryHeld, NoteKind, Records};
use self::records::{Record, RecordId};
use crate::naming::ServerId;

/// The creates of one account that may still have an effect.
#[derive(Debug)]
pub(super) struct OpenCreates {
    records: Records,
    known: Mutex<Known>,
    /// The clock's uptime when this was opened.
    opened_at: Duration,
}

#[derive(Debug, Default)]
struct Known {
    open: HashMap<ServerId, Open>,
    /// Records that were waited for and that could not be removed. They are not waited for again.
    settled: HashMap<ServerId, RecordId>,
}

/// A create whose outcome is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    /// The snapshot's name; `None` when the record cannot be read.
    name: Option<String>,
    /// How long after the end of its process it may have an effect.
    span: Duration,
    /// From then on a listing shows what became of it; `None` while it is being sent.
    until: Option<Duration>,
    /// The same of earlier creates of this server.
    earlier_until: Duration,
    record: Option<RecordId>,
}

impl Open {
    /// From when on a listing shows what became of it and of all before it.
    fn all_until(&self) -> Option<Duration> {
        self.until.map(|until| until.max(self.earlier_until))
    }
}

impl OpenCreates {
    /// Known to this process only.
    pub(super) fn in_process() -> Self {
        Self { records: Records::None, known: Mutex::default(), opened_at: Duration::ZERO }
    }

    /// Recorded there as well. `now`: the clock's uptime.
    pub(super) fn recorded_in(records: Records, now: Duration) -> Self {
        Self { records, opened_at: now, ..Self::in_process() }
    }

    /// Where they are recorded.
    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    /// Until when a process that ended before this one started may still have a create on its way
    /// that was not recorded; `span` as for [`OpenCreates::until`].
    pub(super) fn unknown_until(&self, span: Duration) -> Duration {
        self.opened_at.saturating_add(span.saturating_sub(self.records.complete_for()))
    }

    /// From when on a listing shows what became of the server's last create; `None` when that is
    /// known. `span`: how long after the end of its process a create may have an effect.
    pub(super) async fn until(
        &self,
        server: ServerId,
        place: i64,
        now: Duration,
        span: Duration,
    ) -> Option<Duration> {
        let record = self.records.read(place).await;
        let (open, is_foreign) = {
            let known = self.lock();
            let own = known.open.get(&server).cloned();
            let own_id = own.as_ref().and_then(|open| open.record);
            let foreign = record.filter(|record| {
                Some(record.id) != own_id && known.settled.get(&server) != Some(&record.id)
            });
            let is_foreign = foreign.is_some();
            // Of another process. Since the server is claimed by this one, that has ended.
            let open = match (own, foreign) {
                (own, Some(record)) => Open {
                    until: Some(record.settled_in.map_or_else(
                        || now.saturating_add(span.max(record.span)),
                        |wait| now.saturating_add(wait),
                    )),
                    earlier_until: own
                        .and_then(|own| own.all_until())
                        .unwrap_or_default()
                        .max(now.saturating_add(record.earlier_settled_in)),
                    span: record.span,
                    name: record.name,
                    record: Some(record.id),
                },
                // Broken off while it was being sent.
                (Some(own), None) if own.until.is_none() => {
                    Open { until: Some(now.saturating_add(span.max(own.span))), ..own }
                }
                (Some(own), None) => own,
                (None, None) => return None,
            };
            (open, is_foreign)
        };
        let until = open.all_until();
        self.keep(server, place, open, now, is_foreign).await;
        until
    }

    /// Records that a create is about to be sent.
    pub(super) async fn begin(
        &self,
        server: ServerId,
        place: i64,
        name: &str,
        now: Duration,
        span: Duration,
    ) {
        let earlier_until = self.until(server, place, now, span).await.unwrap_or_default();
        let name = Some(name.to_owned());
        let open = Open { name, span, until: None, earlier_until, record: None };
        self.keep(server, place, open, now, true).await;
    }

    /// The create was answered, given up, or not sent: from `until` on a listing shows what became
    /// of it.
    pub(super) async fn end(&self, server: ServerId, place: i64, until: Duration, now: Duration) {
        let Some(open) = self.lock().open.get(&server).cloned() else { return };
        let open = Open { until: Some(until), ..open };
        if open.all_until().is_some_and(|until| until <= now) {
            self.forget(server, place).await;
        } else {
            self.keep(server, place, open, now, true).await;
        }
    }

    /// A complete listing was asked for at `asked_at`, and shows these names. Gives from when on one
    /// shows what became of the server's last create; `None` when this one does.
    pub(super) async fn listed<'a, Name: PartialEq<str> + ?Sized + 'a>(
        &self,
        server: ServerId,
        place: i64,
        asked_at: Duration,
        names: impl IntoIterator<Item = &'a Name>,
    ) -> Option<Duration> {
        {
            let known = self.lock();
            let open = known.open.get(&server)?;
            let is_over = open.all_until().is_some_and(|until| until <= asked_at);
            let is_listed =
                open.name.as_deref().is_some_and(|name| names.into_iter().any(|it| *it == *name));
            // Listed says nothing of an earlier create that another one has followed.
            let is_settled = is_over || (is_listed && open.earlier_until <= asked_at);
            if !is_settled {
                return open.all_until();
            }
        }
        self.forget(server, place).await;
        None
    }

    /// Remembers a create, here and, if asked, on the disk.
    async fn keep(&self, server: ServerId, place: i64, open: Open, now: Duration, on_disk: bool) {
        let mut record = open.record;
        if on_disk {
            let contents = Record {
                id: RecordId::default(),
                name: open.name.clone(),
                span: open.span,
                settled_in: open.all_until().map(|until| until.saturating_sub(now)),
                earlier_settled_in: open.earlier_until.saturating_sub(now),
            };
            record = self.records.write(place, contents).await.or(record);
        }
        self.lock().open.insert(server, Open { record, ..open });
    }

    async fn forget(&self, server: ServerId, place: i64) {
        let open = self.lock().open.remove(&server);
        let Some(id) = open.and_then(|open| open.record) else { return };
        if !self.records.remove(place).await {
            self.lock().settled.insert(server, id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
