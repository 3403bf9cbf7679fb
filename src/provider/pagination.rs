//! A listing while its pages come in: they must belong together, or it is not one.

use std::collections::BTreeSet;

use crate::naming::SnapshotId;
use crate::provider::body::ListingPage;
use crate::snapshot::Snapshot;

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
