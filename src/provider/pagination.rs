//! Listings, page by page: the pages must belong together, or it is not one.

use std::collections::{BTreeMap, BTreeSet};

use crate::call::{CallError, Operation};
use crate::coverage::AccountServer;
use crate::moment::Moment;
use crate::naming::{ServerId, SnapshotId};
use crate::provider::admission::Admitted;
use crate::provider::body::{self, ListingPage, ServersPage};
use crate::provider::call_context::CallContext;
use crate::provider::call_event::CallEvent;
use crate::provider::exchange::{Call, Content, Exchange};
use crate::provider::retry::Tries;
use crate::provider::transport::TornBody;
use crate::snapshot::Snapshot;

/// More pages than any account has.
pub(super) const MAX_PAGES: usize = 1000;

/// Snapshots that a server may have, far beyond any provider's limit, and those of any account whose number
/// of servers is not known.
const ROWS_OF_SERVER: usize = 100;
const ROWS_OF_ACCOUNT: usize = 100_000;

const MIB: usize = 1024 * 1024;

/// What goes beyond this is no listing, and asking again would not make it one.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    rows: usize,
    pages: usize,
    bytes: usize,
}

impl Bounds {
    const ONE_SERVER: Self = Self { rows: 1000, pages: 50, bytes: 8 * MIB };

    fn account(servers: usize) -> Self {
        let rows = servers.saturating_mul(ROWS_OF_SERVER).max(ROWS_OF_ACCOUNT);
        Self { rows, pages: MAX_PAGES, bytes: 64 * MIB }
    }

    /// Fails if that much is too much.
    fn check(self, rows: usize, pages: usize, bytes: usize) -> Result<(), String> {
        let Self { rows: most_rows, pages: most_pages, bytes: most_bytes } = self;
        if rows > most_rows {
            Err(format!("incomplete: more than {most_rows} rows"))
        } else if pages > most_pages {
            Err(format!("incomplete: the pages do not end after {most_pages}"))
        } else if bytes > most_bytes {
            Err(format!("incomplete: longer than {} MiB", most_bytes / MIB))
        } else {
            Ok(())
        }
    }
}

/// What the pages of any list must keep to, or it is not whole.
#[derive(Default)]
struct PageOrder {
    queries: BTreeSet<String>,
    count: Option<u64>,
    pages: usize,
    bytes: usize,
}

impl PageOrder {
    /// A page of this length has come in.
    fn begin(&mut self, bytes: usize) {
        self.pages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// With this page, `rows` rows have come in. Gives the next page's query. Fails when the pages do not
    /// belong together, or do not end.
    fn next(
        &mut self,
        rows: usize,
        is_empty: bool,
        count: Option<u64>,
        next_query: Option<String>,
    ) -> Result<Option<String>, String> {
        if self.count.is_some() && count.is_some() && self.count != count {
            return Err("`count` changed from page to page".to_owned());
        }
        self.count = self.count.or(count);
        let rows = rows as u64;
        if let Some(query) = next_query {
            if !self.queries.insert(query.clone()) {
                return Err("`next` leads back to a page that was read".to_owned());
            }
            if is_empty {
                return Err("a page without rows names a next one".to_owned());
            }
            if let Some(count) = self.count.filter(|count| rows >= *count) {
                return Err(format!(
                    "`count` says {count}, and after {rows} rows there is a next page"
                ));
            }
            return Ok(Some(query));
        }
        match self.count {
            Some(count) if count != rows => {
                Err(format!("`count` says {count}, but {rows} rows were listed"))
            }
            _ => Ok(None),
        }
    }
}

/// A listing while its pages come in.
pub(crate) struct PageReader {
    pub(crate) snapshots: Vec<Snapshot>,
    /// Whose snapshots were asked for; `None`: the account's.
    server: Option<ServerId>,
    bounds: Bounds,
    seen: BTreeSet<SnapshotId>,
    order: PageOrder,
    longest_page: usize,
    is_beyond_bounds: bool,
}

impl PageReader {
    /// Of one server, or of an account with this number of known servers.
    pub(crate) fn new(server: Option<ServerId>, servers: usize) -> Self {
        Self {
            snapshots: Vec::new(),
            server,
            bounds: Bounds::account(servers),
            seen: BTreeSet::new(),
            order: PageOrder::default(),
            longest_page: 0,
            is_beyond_bounds: false,
        }
    }

    /// Takes a page of this length in; gives the next page's query. Fails when the pages do not belong
    /// together, or do not end.
    pub(crate) fn take(
        &mut self,
        page: ListingPage,
        bytes: usize,
    ) -> Result<Option<String>, String> {
        self.order.begin(bytes);
        self.longest_page = self.longest_page.max(page.snapshots.len());
        let is_empty = page.snapshots.is_empty();
        for snapshot in page.snapshots {
            if !self.seen.insert(snapshot.id) {
                return Err(format!(
                    "snapshot {} is listed twice: the listing changed while it was read",
                    snapshot.id
                ));
            }
            self.snapshots.push(snapshot);
        }
        let rows = self.snapshots.len();
        let pages = self.order.pages + usize::from(page.next_query.is_some());
        self.check_bounds(rows, pages).inspect_err(|_| self.is_beyond_bounds = true)?;
        self.order.next(rows, is_empty, page.count, page.next_query)
    }

    /// The provider may ignore the filter by server. Then it lists the account.
    fn check_bounds(&self, rows: usize, pages: usize) -> Result<(), String> {
        let own = self.snapshots.iter().filter(|row| Some(row.server) == self.server).count();
        if own > Bounds::ONE_SERVER.rows || (self.server.is_some() && own == rows) {
            return Bounds::ONE_SERVER.check(own, pages, self.order.bytes);
        }
        self.bounds.check(rows, pages, self.order.bytes)
    }

    /// How many pages were read.
    pub(crate) fn pages(&self) -> usize {
        self.order.pages
    }

    /// How many pages there are in all: by what was read and by the rows that are still to come.
    pub(crate) fn pages_in_all(&self) -> usize {
        let rows = self.order.count.map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX));
        let left = rows.saturating_sub(self.snapshots.len());
        self.order.pages.saturating_add(left.div_ceil(self.longest_page.max(1)))
    }

    /// Whether the provider said how many rows there are, and this many have come.
    pub(crate) fn is_counted(&self) -> bool {
        self.order.count == Some(self.snapshots.len() as u64)
    }
}

/// Every snapshot of one server, or of the account, which has this many known servers; and of when
/// the listing is.
pub(super) async fn snapshots(
    exchange: &Exchange,
    server: Option<ServerId>,
    servers: usize,
    scope: &CallContext,
) -> Result<(Vec<Snapshot>, Moment), CallError> {
    let mut tries = Tries::begin(exchange);
    loop {
        let mut reader = PageReader::new(server, servers);
        match snapshots_once(exchange, &mut reader, tries.attempt, scope).await {
            Ok(asked_at) => return Ok((reader.snapshots, asked_at)),
            Err(error) if reader.is_beyond_bounds => return Err(error),
            Err(error) => tries.wait(exchange, error, scope).await?,
        }
    }
}

/// Reads all pages, from the first on: a listing that failed half way is not continued.
async fn snapshots_once(
    exchange: &Exchange,
    reader: &mut PageReader,
    attempt: u32,
    scope: &CallContext,
) -> Result<Moment, CallError> {
    let mut query = reader.server.map(|id| format!("server_id={id}"));
    let mut asked_at: Option<Moment> = None;
    loop {
        let turn = exchange.turn(Operation::List, scope).await?;
        let (next, page_at) =
            read_page(exchange, turn, query.as_deref(), reader, attempt, scope).await?;
        let oldest = asked_at.map_or(page_at, |asked_at| asked_at.earliest(page_at));
        if next.is_none() {
            return Ok(oldest);
        }
        (query, asked_at) = (next, Some(oldest));
    }
}

/// Reads one page of a listing. Gives the query of the next one, and of when this one is.
pub(super) async fn read_page(
    exchange: &Exchange,
    turn: Admitted,
    query: Option<&str>,
    reader: &mut PageReader,
    attempt: u32,
    scope: &CallContext,
) -> Result<(Option<String>, Moment), CallError> {
    let path = query.map_or("snapshots/".to_owned(), |query| format!("snapshots/?{query}"));
    let call = Call::get(Operation::List, path, attempt, scope);
    let read = |body: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| {
        let body = body.map_err(|torn| torn.to_string())?;
        let next =
            reader.take(body::page(&body, exchange.base(), exchange.whose())?, body.len())?;
        let rows = Some(reader.snapshots.len());
        Ok(Content { has_next: next.is_some(), value: next, rows })
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

/// The same, tried once. Reads all pages, from the first on.
pub(super) async fn servers_once(
    exchange: &Exchange,
    attempt: u32,
    scope: &CallContext,
) -> Result<Vec<AccountServer>, CallError> {
    let mut reader = ServersReader::default();
    let mut path = "servers/".to_owned();
    loop {
        let call = Call::get(Operation::Servers, path, attempt, scope);
        let read = |body: Result<Vec<u8>, TornBody>, _: &mut CallEvent<'_>| {
            let body = body.map_err(|torn| torn.to_string())?;
            let next = reader
                .take(body::servers(&body, exchange.base(), exchange.whose())?, body.len())?;
            let rows = Some(reader.servers.len());
            Ok(Content { has_next: next.is_some(), value: next, rows })
        };
        match exchange.send(call, read).await?.0 {
            Some(query) => path = format!("servers/?{query}"),
            None => return Ok(reader.servers.into_values().collect()),
        }
    }
}

/// The list of servers while its pages come in.
#[derive(Default)]
struct ServersReader {
    servers: BTreeMap<ServerId, AccountServer>,
    order: PageOrder,
}

impl ServersReader {
    /// Takes a page of this length in; gives the next page's query. Fails as a listing of snapshots does.
    fn take(&mut self, page: ServersPage, bytes: usize) -> Result<Option<String>, String> {
        self.order.begin(bytes);
        let is_empty = page.servers.is_empty();
        for server in page.servers {
            let id = server.id;
            if self.servers.insert(id, server).is_some() {
                return Err(format!(
                    "server {id} is listed twice: the list changed while it was read"
                ));
            }
        }
        let rows = self.servers.len();
        let pages = self.order.pages + usize::from(page.next_query.is_some());
        Bounds::account(0).check(rows, pages, self.order.bytes)?;
        self.order.next(rows, is_empty, page.count, page.next_query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::snapshot::Status;

    const WEB: ServerId = ServerId::new(101);

    fn rows(ids: std::ops::Range<u64>, server: ServerId) -> Vec<Snapshot> {
        ids.map(|id| Snapshot {
            id: SnapshotId(id),
            server,
            name: format!("s{id}").into(),
            status: Status::Completed,
            size_mb: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            description: None,
        })
        .collect()
    }

    fn page(snapshots: Vec<Snapshot>, next: Option<u64>, count: Option<u64>) -> ListingPage {
        ListingPage { snapshots, next_query: next.map(|page| format!("page={page}")), count }
    }

    #[test]
    fn the_pages_to_come_are_reckoned_from_the_longest_one_whatever_the_count_says() {
        for (count, pages) in [(None, 1), (Some(2), 2), (Some(7), 7), (Some(u64::MAX), usize::MAX)]
        {
            let mut reading = PageReader::new(None, 0);
            reading.take(page(rows(1..2, WEB), Some(2), count), 100).unwrap();
            assert_eq!(reading.pages_in_all(), pages, "{count:?}");
        }
    }

    /// Reads pages of this many new rows, each naming a next one; how many were read, and why no more.
    fn endless(
        server: Option<ServerId>,
        rows_a_page: u64,
        owner: ServerId,
        bytes: usize,
    ) -> (u64, String) {
        let mut reading = PageReader::new(server, 3);
        for nth in 1.. {
            let rows = rows(nth * rows_a_page..(nth + 1) * rows_a_page, owner);
            if let Err(why) = reading.take(page(rows, Some(nth + 1), None), bytes) {
                assert!(reading.is_beyond_bounds, "asked again: {why}");
                return (nth, why);
            }
        }
        unreachable!()
    }

    #[test]
    fn pages_that_do_not_end_are_no_listing() {
        const OTHER: ServerId = ServerId::new(102);
        let cases = [
            (Some(WEB), 1, WEB, 1000, 50, "the pages do not end after 50"),
            (Some(WEB), 100, WEB, 1000, 11, "more than 1000 rows"),
            (Some(WEB), 1, WEB, 3 * MIB, 3, "longer than 8 MiB"),
            // The filter is ignored.
            (Some(WEB), 1, OTHER, 1000, 1000, "the pages do not end after 1000"),
            (None, 1000, WEB, 1000, 101, "more than 100000 rows"),
            (None, 1, WEB, 7 * MIB, 10, "longer than 64 MiB"),
        ];
        for (server, rows, owner, bytes, pages, words) in cases {
            let (read, why) = endless(server, rows, owner, bytes);
            assert!(
                (read, why.contains(words)) == (pages, true),
                "{server:?} {rows}: {read} {why}"
            );
        }
    }

    #[test]
    fn servers_are_listed_whole_or_not_at_all() {
        let server = |id| AccountServer {
            id: ServerId::new(id),
            name: format!("s{id}").into(),
            status: None,
            location: None,
        };
        let page = |ids: std::ops::Range<u64>, next: Option<&str>, count| ServersPage {
            servers: ids.map(server).collect(),
            count,
            next_query: next.map(str::to_owned),
        };
        let read = |pages: Vec<ServersPage>| {
            let mut reader = ServersReader::default();
            let mut next = Ok(None);
            for page in pages {
                next = reader.take(page, 100);
            }
            next.map(|_| reader.servers.len())
        };
        let whole = vec![page(1..3, Some("page=2"), Some(3)), page(3..4, None, Some(3))];
        assert_eq!(read(whole), Ok(3));
        assert_eq!(read(vec![page(1..3, None, None)]), Ok(2), "without a count");
        for (pages, words) in [
            (vec![page(1..3, None, Some(3))], "`count` says 3, but 2 rows were listed"),
            (
                vec![page(1..3, Some("page=2"), Some(4)), page(2..4, None, Some(4))],
                "server 2 is listed twice",
            ),
            (
                vec![page(1..3, Some("page=2"), Some(4)), page(3..5, None, Some(5))],
                "`count` changed",
            ),
            (
                vec![page(1..3, Some("page=2"), None), page(3..4, Some("page=2"), None)],
                "`next` leads back",
            ),
            (vec![page(1..3, Some("p"), None), page(0..0, Some("q"), None)], "without rows"),
        ] {
            let why = read(pages).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn an_account_of_many_servers_may_have_more_rows() {
        let mut reading = PageReader::new(None, 2000);
        assert!(reading.take(page(rows(0..150_000, WEB), None, None), 1000).is_ok());
    }

    #[test]
    fn a_next_page_must_promise_something_new() {
        let mut reading = PageReader::new(Some(WEB), 0);
        assert!(reading.take(page(rows(1..3, WEB), Some(2), Some(4)), 100).is_ok());
        let why = reading.take(page(Vec::new(), Some(3), Some(4)), 100).unwrap_err();
        assert!(why.contains("without rows"), "{why}");
        let mut reading = PageReader::new(Some(WEB), 0);
        let why = reading.take(page(rows(1..3, WEB), Some(2), Some(2)), 100).unwrap_err();
        assert!(why.contains("after 2 rows"), "{why}");
    }
}
