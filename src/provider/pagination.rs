//! Listings, page by page: the pages must belong together, or it is not one.

use std::collections::BTreeSet;

use crate::call::{CallError, Failure, Operation, Outcome};
use crate::moment::Moment;
use crate::naming::{ServerId, SnapshotId};
use crate::provider::admission::{Admitted, Urgency};
use crate::provider::body::{self, AccountServer, ListingPage};
use crate::provider::call_context::CallContext;
use crate::provider::call_event::CallEvent;
use crate::provider::exchange::{Call, Exchange};
use crate::provider::retry::Tries;
use crate::provider::transport::TornBody;
use crate::snapshot::Snapshot;

/// More pages than any account has. Past it, `next` leads in circles.
pub(super) const MAX_PAGES: usize = 1000;

/// More snapshots than any account has; bounds what a listing may take of the memory.
const MAX_ROWS: usize = 1_000_000;

/// A listing while its pages come in.
#[derive(Default)]
pub(crate) struct PageReader {
    pub(crate) snapshots: Vec<Snapshot>,
    seen: BTreeSet<SnapshotId>,
    queries: BTreeSet<String>,
    count: Option<u64>,
    pages: usize,
    longest_page: usize,
}

impl PageReader {
    /// Takes a page in; gives the next page's query. Fails when the pages do not belong together.
    pub(crate) fn take(&mut self, page: ListingPage) -> Result<Option<String>, String> {
        if self.snapshots.len() + page.snapshots.len() > MAX_ROWS {
            return Err(format!("more than {MAX_ROWS} rows"));
        }
        self.pages += 1;
        self.longest_page = self.longest_page.max(page.snapshots.len());
        for snapshot in page.snapshots {
            if !self.seen.insert(snapshot.id) {
                return Err(format!(
                    "snapshot {} is listed twice: the listing changed while it was read",
                    snapshot.id
                ));
            }
            self.snapshots.push(snapshot);
        }
        if self.count.is_some() && page.count.is_some() && self.count != page.count {
            return Err("`count` changed from page to page".to_owned());
        }
        self.count = self.count.or(page.count);
        if let Some(query) = page.next_query {
            if !self.queries.insert(query.clone()) {
                return Err("`next` leads back to a page that was read".to_owned());
            }
            return Ok(Some(query));
        }
        let rows = self.snapshots.len() as u64;
        match self.count {
            Some(count) if count != rows => {
                Err(format!("`count` says {count}, but {rows} rows were listed"))
            }
            _ => Ok(None),
        }
    }

    /// How many pages were read.
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// How many pages there are in all: by what was read and by the rows that are still to come.
    pub(crate) fn pages_in_all(&self) -> usize {
        let rows = self.count.map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX));
        let left = rows.saturating_sub(self.snapshots.len());
        self.pages.saturating_add(left.div_ceil(self.longest_page.max(1)))
    }

    /// Whether the provider said how many rows there are, and this many have come.
    pub(crate) fn is_counted(&self) -> bool {
        self.count == Some(self.snapshots.len() as u64)
    }
}

/// Every snapshot of one server, or of the account, and when they were asked for.
pub(super) async fn snapshots(
    exchange: &Exchange,
    server: Option<ServerId>,
    scope: &CallContext,
) -> Result<(Vec<Snapshot>, Moment), CallError> {
    let mut tries = Tries::begin(exchange);
    loop {
        let error = match snapshots_once(exchange, server, tries.attempt, scope).await {
            Ok(listed) => return Ok(listed),
            Err(error) => error,
        };
        tries.wait(exchange, error, scope).await?;
    }
}

/// Reads all pages, from the first on: a listing that failed half way is not continued.
async fn snapshots_once(
    exchange: &Exchange,
    server: Option<ServerId>,
    attempt: u32,
    scope: &CallContext,
) -> Result<(Vec<Snapshot>, Moment), CallError> {
    let mut reader = PageReader::default();
    let mut query = server.map(|id| format!("server_id={id}"));
    let mut asked_at = None;
    for _ in 0..MAX_PAGES {
        let turn = exchange.turn(Urgency::Look, scope).await?;
        let (next, sent_at) =
            read_page(exchange, turn, query.as_deref(), &mut reader, attempt, scope).await?;
        let asked_at = *asked_at.get_or_insert(sent_at);
        if next.is_none() {
            return Ok((reader.snapshots, asked_at));
        }
        query = next;
    }
    Err(incomplete(Operation::List, "the pages do not end"))
}

/// Reads one page of a listing. Gives the query of the next one, and when this one was asked for.
pub(super) async fn read_page(
    exchange: &Exchange,
    turn: Admitted<'_>,
    query: Option<&str>,
    reader: &mut PageReader,
    attempt: u32,
    scope: &CallContext,
) -> Result<(Option<String>, Moment), CallError> {
    let path = query.map_or("snapshots/".to_owned(), |query| format!("snapshots/?{query}"));
    let call = Call::get(Operation::List, path, attempt, scope);
    let read = |_, body: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| {
        let body = body.map_err(|torn| torn.to_string())?;
        reader.take(body::page(&body, exchange.base())?)
    };
    exchange.send_in_turn(turn, call, read).await
}

/// The servers of the account.
pub(super) async fn servers(
    exchange: &Exchange,
    scope: &CallContext,
) -> Result<Vec<AccountServer>, CallError> {
    let mut tries = Tries::begin(exchange);
    loop {
        let error = match servers_once(exchange, tries.attempt, scope).await {
            Ok(servers) => return Ok(servers),
            Err(error) => error,
        };
        tries.wait(exchange, error, scope).await?;
    }
}

async fn servers_once(
    exchange: &Exchange,
    attempt: u32,
    scope: &CallContext,
) -> Result<Vec<AccountServer>, CallError> {
    let mut servers = Vec::new();
    let mut path = "servers/".to_owned();
    for _ in 0..MAX_PAGES {
        let call = Call::get(Operation::Servers, path, attempt, scope);
        let read = |_, body: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| {
            body::servers(&body.map_err(|torn| torn.to_string())?, exchange.base())
        };
        let ((rows, next), _) = exchange.send(call, read).await?;
        servers.extend(rows);
        match next {
            Some(query) => path = format!("servers/?{query}"),
            None => return Ok(servers),
        }
    }
    Err(incomplete(Operation::Servers, "the pages do not end"))
}

fn incomplete(operation: Operation, message: &str) -> CallError {
    let message = message.to_owned();
    Failure { operation, outcome: Outcome::Malformed, status: None, message, retry_after: None }
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_to_come_are_reckoned_from_the_longest_one_whatever_the_count_says() {
        let page =
            |count| ListingPage { snapshots: Vec::new(), next_query: Some("page=2".into()), count };
        for (count, pages) in [(None, 1), (Some(0), 1), (Some(7), 8), (Some(u64::MAX), usize::MAX)]
        {
            let mut reading = PageReader::default();
            reading.take(page(count)).unwrap();
            assert_eq!(reading.pages_in_all(), pages, "{count:?}");
        }
    }
}
