//! The query of the page's and the status document's addresses.

use url::form_urlencoded;

use crate::observe::status_document::{ServerState, StatusFilter};

/// What a reader asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Which servers.
    pub filter: StatusFilter,
    /// Which page of them, from 1.
    pub page: usize,
    /// Whether as a table, not as cards.
    pub is_table: bool,
}

impl Query {
    /// Reads the part of an address after `?`.
    ///
    /// # Errors
    /// What is wrong with it, as a line for the reader.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut query = Self { page: 1, ..Self::default() };
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            match key.as_ref() {
                "q" => query.filter.words = value.into_owned(),
                "state" if value.is_empty() => {}
                "state" => {
                    let known = ServerState::parse(&value);
                    let words: Vec<_> =
                        ServerState::ALL.iter().map(|state| state.as_str()).collect();
                    let problem = || format!("state is one of {}\n", words.join(", "));
                    query.filter.state = Some(known.ok_or_else(problem)?);
                }
                "page" => {
                    let number = value.parse().ok().filter(|number| *number > 0);
                    query.page = number.ok_or("page is a number from 1\n")?;
                }
                "view" => {
                    query.is_table = match value.as_ref() {
                        "table" => true,
                        "" | "cards" => false,
                        _ => return Err("view is cards or table\n".to_owned()),
                    };
                }
                other => return Err(format!("{other:?} is not q, state, view or page\n")),
            }
        }
        Ok(query)
    }
}
