//! `[store]`.

use std::ops::Range;
use std::path::PathBuf;

use crate::config::document::{Problems, Table};
use crate::config::reference;
use crate::config::secret_files;
use crate::store::place::{Address, NoAddress, Place};

/// Where the configuration wants the store; `None` where it does not say, or says it wrongly.
pub(crate) fn read(table: Option<Table<'_, '_>>, problems: &mut Problems) -> Option<Place> {
    let table = table?;
    table.refuse_others(&reference::names(reference::STORE.keys), problems);
    let url = secret_files::url_or_file(&table, problems);
    url.and_then(|text, span| place(&text, span, problems)).good()
}

fn place(text: &str, span: Range<usize>, problems: &mut Problems) -> Option<Place> {
    // Whatever it is, it may hold a password.
    problems.secrets.push(span.clone());
    let mut refuse = |message: &str, hint: &str| {
        problems.error(span.clone(), message, "", Some(hint.to_owned()));
        None
    };
    let Some((scheme, rest)) = text.split_once(':') else {
        return refuse(
            "`url` is not the address of a store",
            "write \"sqlite:///var/lib/snapring/snapring.db\", or \"postgres://user@host/database\"",
        );
    };
    match scheme {
        "sqlite" if rest == ":memory:" => Some(Place::Memory),
        "sqlite" => {
            let path = PathBuf::from(rest.strip_prefix("//").unwrap_or(rest));
            if rest.contains(['?', '#', '%']) {
                let hint =
                    "write the path as it is, like \"sqlite:///var/lib/snapring/snapring.db\"";
                return refuse("`url` of a file takes no parameters", hint);
            }
            if !path.is_absolute() || path.file_name().is_none() || rest.ends_with('/') {
                let hint = "with three slashes, like \"sqlite:///var/lib/snapring/snapring.db\"";
                return refuse("`url` must name a file by its whole path", hint);
            }
            Some(Place::File(path))
        }
        "postgres" | "postgresql" => match Address::parse(text) {
            Ok(address) => Some(Place::Server(address)),
            Err(NoAddress::PasswordFile { path, reason }) => refuse(
                &format!("the password file {} cannot be used: {reason}", path.display()),
                "correct $PGPASSFILE or ~/.pgpass, or give the password otherwise",
            ),
            Err(NoAddress::NotAnAddress) => refuse(
                "`url` is not the address of a PostgreSQL database",
                "write \"postgres://user:password@host/database\"; letters that stand for \
                 something in an address are written as %40",
            ),
        },
        _ => refuse(
            "`url` is of a kind that snapring does not know",
            "it takes \"sqlite:///path\" and \"postgres://user@host/database\"",
        ),
    }
}
