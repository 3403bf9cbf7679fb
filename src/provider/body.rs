//! What the bytes of an answer mean. Any bytes at all give a value or a reason, never a panic.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use url::Url;

use crate::coverage::AccountServer;
use crate::foreign::ForeignText;
use crate::naming::{Account, ServerId, SnapshotId};
use crate::snapshot::{Snapshot, Status};

/// How much of an answer that is not JSON is shown in a message, in characters.
const EXCERPT_CHARACTERS: usize = 160;

/// One page of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct ListingPage {
    /// The rows, in the provider's order.
    pub snapshots: Vec<Snapshot>,
    /// How many rows the provider says the whole listing has.
    pub count: Option<u64>,
    /// The query of the next page; the address that it came with is not used.
    pub next_query: Option<String>,
}

/// One page of the account's servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServersPage {
    /// The rows, in the provider's order.
    pub servers: Vec<AccountServer>,
    /// How many rows the provider says there are in all.
    pub count: Option<u64>,
    /// The query of the next page.
    pub next_query: Option<String>,
}

/// Who the token is. The account's personal data is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// What the user called the token.
    pub name: ForeignText,
    /// What it may do, in the provider's words.
    pub permissions: Vec<ForeignText>,
}

#[derive(Deserialize)]
struct RawServer {
    id: u64,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    status: Value,
    #[serde(default)]
    location: Value,
}

/// What replaces a name that is null. No name of snapring's is like it, so it is a foreign one.
const NO_NAME: &str = "(no name)";

/// A row of a listing, or the answer to a create. What is wrong is told with id and field.
fn snapshot(row: &Value, account: Account) -> Result<Snapshot, String> {
    let id = row.get("id");
    let id = id.and_then(Value::as_u64).ok_or_else(|| format!("a row's `id` is {}", kind(id)))?;
    let wrong = |field: &str, what: &str| format!("snapshot {id}: `{field}` is {what}");
    let text = |field: &str| {
        let value = row.get(field);
        value.and_then(Value::as_str).ok_or_else(|| wrong(field, kind(value)))
    };
    let server = row.get("server").and_then(|server| server.get("id"));
    let server = server.and_then(Value::as_u64).ok_or_else(|| wrong("server.id", kind(server)))?;
    let name = match row.get("name") {
        Some(Value::Null) => NO_NAME,
        _ => text("name")?,
    };
    let created_at = text("created_at")?.parse().map_err(|_| wrong("created_at", "not a time"))?;
    Ok(Snapshot {
        id: SnapshotId(id),
        server: ServerId { account, number: server },
        name: name.into(),
        status: Status::from_word(text("status")?),
        size_mb: row.get("size_mb").and_then(Value::as_u64),
        created_at,
        description: row.get("description").and_then(Value::as_str).map(ForeignText::from),
    })
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "true or false",
        Some(Value::Number(_)) => "an impossible number",
        Some(Value::String(_)) => "a text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}

/// Reads the envelope: an object with `results`, or a bare array.
struct Envelope {
    rows: Vec<Value>,
    count: Option<u64>,
    next_query: Option<String>,
}

/// The object as it comes. A field that comes twice is refused.
#[derive(Deserialize)]
struct RawEnvelope {
    results: Option<Value>,
    #[serde(default, deserialize_with = "even_null")]
    count: Option<Value>,
    next: Option<Value>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// A field that is there and null is not one that is missing.
fn even_null<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(field).map(Some)
}

fn envelope(body: &[u8], base: &Url) -> Result<Envelope, String> {
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let (rows, count, next) = if is_array {
        (parse(body)?, None, None)
    } else {
        let RawEnvelope { results, count, next, others } = parse(body)?;
        let Some(Value::Array(rows)) = results else {
            return Err("the answer has no list of results".to_owned());
        };
        // One that is null does not say that these are all.
        let count = match count {
            None => None,
            Some(Value::Null) => return Err("incomplete: `count` is null".to_owned()),
            Some(count) => Some(count.as_u64().ok_or("`count` is not a number of rows")?),
        };
        let has_next = next.as_ref().is_some_and(|next| !next.is_null());
        let count = others_agree(&others, count, has_next)?;
        (rows, count, next)
    };
    let next_query = match next {
        None | Some(Value::Null) => None,
        Some(Value::String(link)) => {
            let query = base.join(&link).ok().and_then(|url| url.query().map(str::to_owned));
            Some(query.ok_or("`next` is not a link with a query")?)
        }
        Some(_) => return Err("`next` is not a link".to_owned()),
    };
    Ok(Envelope { rows, count, next_query })
}

/// What a field beside the rows is called that says what went wrong.
const FAULTS: [&str; 2] = ["error", "warning"];

/// Other fields are ignored, unless they say that rows are missing, or how many rows there are: an answer that calls
/// itself incomplete is. Gives the number of rows in all.
fn others_agree(
    others: &BTreeMap<String, Value>,
    mut count: Option<u64>,
    has_next: bool,
) -> Result<Option<u64>, String> {
    let nested = others.values().filter_map(Value::as_object).flatten();
    for (name, value) in others.iter().chain(nested) {
        let word: String =
            name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        let any = |words: &[&str]| words.iter().any(|it| word.contains(it));
        let is_incomplete = match value {
            Value::Number(number) if any(&["total", "count"]) && !any(&["page", "per"]) => {
                let total = number.as_u64();
                let agrees = total.is_some() && count.is_none_or(|count| Some(count) == total);
                count = total;
                !agrees
            }
            Value::Number(number) if any(&["pages", "lastpage", "pagecount", "remaining"]) => {
                let most = u64::from(!word.contains("remaining"));
                !has_next && number.as_u64().is_none_or(|number| number > most)
            }
            Value::Bool(true) => {
                any(&["partial", "truncated", "incomplete"])
                    || (!has_next && any(&["more", "next"]))
            }
            Value::Bool(false) => any(&["complete"]) && !word.contains("incomplete"),
            Value::String(text) if !text.is_empty() => {
                any(&FAULTS) || (!has_next && any(&["next", "cursor", "continu"]))
            }
            Value::Array(items) => !items.is_empty() && any(&FAULTS),
            Value::Object(fields) => !fields.is_empty() && any(&FAULTS),
            Value::Null | Value::String(_) | Value::Number(_) => false,
        };
        if is_incomplete {
            let name = ForeignText::excerpt(name, EXCERPT_CHARACTERS);
            return Err(format!("incomplete: `{name}` says that this is not all"));
        }
    }
    Ok(count)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body)
        .map_err(|error| format!("not the JSON that was expected: {error}: {}", excerpt(body)))
}

/// Reads one page of an account's `GET /snapshots/`.
///
/// # Errors
/// A sentence about the first thing that cannot be understood.
pub fn page(body: &[u8], base: &Url, account: Account) -> Result<ListingPage, String> {
    let Envelope { rows, count, next_query } = envelope(body, base)?;
    let snapshots = rows.iter().map(|row| snapshot(row, account)).collect::<Result<_, _>>()?;
    Ok(ListingPage { snapshots, count, next_query })
}

/// Reads an account's answer to `POST /snapshots/`.
///
/// # Errors
/// A sentence about the first thing that cannot be understood.
pub fn created(body: &[u8], account: Account) -> Result<Snapshot, String> {
    let row: Value = parse(body)?;
    if row.get("name").is_some_and(Value::is_null) {
        return Err("the answer's `name` is null".to_owned());
    }
    snapshot(&row, account)
}

/// Reads one page of an account's `GET /servers/`.
///
/// # Errors
/// A sentence about the first thing that cannot be understood.
pub fn servers(body: &[u8], base: &Url, account: Account) -> Result<ServersPage, String> {
    let Envelope { rows, count, next_query } = envelope(body, base)?;
    let read = |row| {
        let RawServer { id, name, status, location } =
            serde_json::from_value(row).map_err(|error| unlike("a row is not a server", &error))?;
        let words = |value: Value| value.as_str().map(ForeignText::from);
        Ok(AccountServer {
            id: ServerId { account, number: id },
            name: name.unwrap_or_default().into(),
            status: words(status),
            location: words(location),
        })
    };
    let servers = rows.into_iter().map(read).collect::<Result<_, String>>()?;
    Ok(ServersPage { servers, count, next_query })
}

/// Reads `GET /account/me/`.
///
/// # Errors
/// When it names no token.
pub fn token_info(body: &[u8]) -> Result<TokenInfo, String> {
    #[derive(Deserialize)]
    struct Raw {
        token: RawToken,
    }
    #[derive(Deserialize)]
    struct RawToken {
        #[serde(default)]
        name: String,
        #[serde(default)]
        permissions: Vec<String>,
    }
    // Not `parse`: its message would show an excerpt, and this body holds personal data.
    let Raw { token } = serde_json::from_slice(body)
        .map_err(|error| format!("the answer has no token (line {})", error.line()))?;
    let permissions = token.permissions.into_iter().map(ForeignText::from).collect();
    Ok(TokenInfo { name: token.name.into(), permissions })
}

/// The provider's own words in an error's body: `detail`, `error`, `message`, the fields' messages,
/// or the beginning of whatever else it is.
#[must_use]
pub fn error_message(body: &[u8]) -> ForeignText {
    let told = match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => {
            let told = ["detail", "error", "message"].iter().find_map(|key| object.get(*key));
            match told {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => object
                    .iter()
                    .map(|(field, complaint)| format!("{field}: {}", joined(complaint)))
                    .collect::<Vec<_>>()
                    .join("; "),
            }
        }
        Ok(Value::String(text)) => text,
        _ => return excerpt(body),
    };
    let told = ForeignText::excerpt(&told, EXCERPT_CHARACTERS);
    if told.is_empty() { excerpt(body) } else { told }
}

fn joined(complaint: &Value) -> String {
    match complaint {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(joined).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn excerpt(body: &[u8]) -> ForeignText {
    let text = ForeignText::excerpt(&String::from_utf8_lossy(body), EXCERPT_CHARACTERS);
    if text.is_empty() { "an empty answer".into() } else { text }
}

/// What serde says of a value, some of which it repeats.
fn unlike(what: &str, error: &serde_json::Error) -> String {
    format!("{what}: {}", ForeignText::excerpt(&error.to_string(), EXCERPT_CHARACTERS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::naming::ManagedPrefix;

    fn base() -> Url {
        Url::parse("https://api.example/api/v1/").unwrap()
    }

    const ROW: &str = r#"{"id": 801, "server": {"id": 12345, "name": "web"}, "name": "by-hand",
        "status": "completed", "size_mb": 5120, "created_at": "2025-01-15T18:30:00Z",
        "description": "x", "unknown": [1]}"#;

    #[test]
    fn a_page_is_read_from_an_object_and_from_a_bare_array() {
        let object = format!(r#"{{"count": 1, "next": null, "results": [{ROW}]}}"#);
        let from_object = page(object.as_bytes(), &base(), Account::API).unwrap();
        assert_eq!(from_object.count, Some(1));
        let row = &from_object.snapshots[0];
        assert_eq!((row.id.0, row.server.number, row.size_mb), (801, 12345, Some(5120)));
        let from_array = page(format!("[{ROW}]").as_bytes(), &base(), Account::API).unwrap();
        assert_eq!(from_array.snapshots, from_object.snapshots);
        assert_eq!(from_array.count, None);
        let uncounted = format!(r#"{{"results": [{ROW}]}}"#);
        assert_eq!(page(uncounted.as_bytes(), &base(), Account::API), Ok(from_array));
    }

    #[test]
    fn missing_and_null_fields_and_other_time_forms_are_taken() {
        let row = r#"[{"id": 1, "server": {"id": 2}, "name": "n", "status": "archived",
            "size_mb": null, "created_at": "2025-01-15T19:30:00.250+01:00"}]"#;
        let page = page(row.as_bytes(), &base(), Account::API).unwrap();
        assert_eq!(page.snapshots[0].created_at.to_string(), "2025-01-15T18:30:00.25Z");
        assert_eq!(page.snapshots[0].status, Status::Other("archived".into()));
        assert_eq!(page.snapshots[0].description, None);
    }

    #[rstest]
    #[case::another_host("http://elsewhere.example/api/v1/snapshots/?page=2&server_id=7")]
    #[case::our_host("https://api.example/api/v1/snapshots/?page=2&server_id=7")]
    #[case::a_path_only("/api/v1/snapshots/?page=2&server_id=7")]
    #[case::a_query_only("?page=2&server_id=7")]
    fn of_the_next_link_only_the_query_is_taken(#[case] link: &str) {
        let body = format!(r#"{{"results": [], "next": "{link}"}}"#);
        let page = page(body.as_bytes(), &base(), Account::API).unwrap();
        assert_eq!(page.next_query.as_deref(), Some("page=2&server_id=7"));
    }

    #[rstest]
    #[case::torn(r#"{"count": 1, "results": [{"id": 80"#)]
    #[case::empty("")]
    #[case::a_proxys_page("<html>504</html>")]
    #[case::no_results(r#"{"count": 0}"#)]
    #[case::results_null(r#"{"results": null}"#)]
    #[case::a_row_without_a_server(
        r#"[{"id": 1, "name": "n", "status": "completed", "created_at": "2025-01-15T18:30:00Z"}]"#
    )]
    #[case::a_row_with_a_bad_time(r#"[{"id": 1, "server": {"id": 2}, "name": "n", "status": "completed", "created_at": "yesterday"}]"#)]
    #[case::a_negative_id(r#"[{"id": -1, "server": {"id": 2}, "name": "n", "status": "completed", "created_at": "2025-01-15T18:30:00Z"}]"#)]
    #[case::a_count_in_words(r#"{"count": "two", "results": []}"#)]
    #[case::a_count_that_is_null(r#"{"count": null, "results": []}"#)]
    #[case::a_next_without_query(r#"{"results": [], "next": "https://api.example/"}"#)]
    #[case::twice_its_results(r#"{"results": [1], "results": []}"#)]
    #[case::more_rows_in_all(r#"{"results": [], "count": 0, "total": 4}"#)]
    #[case::more_pages(r#"{"results": [], "total_pages": 2}"#)]
    #[case::more_by_its_own_word(r#"{"results": [], "has_more": true}"#)]
    #[case::a_next_link(r#"{"results": [], "links": {"next": "/api/v1/snapshots/?page=2"}}"#)]
    #[case::a_cursor(r#"{"results": [], "meta": {"next_cursor": "eyJ4"}}"#)]
    #[case::in_part(r#"{"results": [], "partial": true}"#)]
    #[case::not_complete(r#"{"results": [], "complete": false}"#)]
    #[case::with_an_error(r#"{"count": 0, "results": [], "error": "backend timed out"}"#)]
    #[case::with_errors(r#"{"results": [], "errors": [{"code": 7}]}"#)]
    fn anything_less_than_every_row_is_no_page(#[case] body: &str) {
        assert!(page(body.as_bytes(), &base(), Account::API).is_err());
    }

    #[rstest]
    #[case::the_number_of_rows(
        r#""total": 1, "meta": {"total_count": 1, "page": 1, "per_page": 100}"#
    )]
    #[case::the_only_page(r#""total_pages": 1, "has_more": false, "next_cursor": null"#)]
    #[case::anything_else(r#""request_id": "x", "took_ms": 12, "errors": [], "next_page": null"#)]
    fn other_fields_that_agree_are_ignored(#[case] others: &str) {
        let body = format!(r#"{{"results": [{ROW}], {others}}}"#);
        assert_eq!(page(body.as_bytes(), &base(), Account::API).unwrap().snapshots.len(), 1);
    }

    #[test]
    fn another_fields_number_of_rows_counts_as_count_does() {
        let body = format!(r#"{{"results": [{ROW}], "pagination": {{"total": 4}}}}"#);
        assert_eq!(page(body.as_bytes(), &base(), Account::API).unwrap().count, Some(4));
    }

    #[rstest]
    #[case(r#"{"detail": "Invalid token."}"#, "Invalid token.")]
    #[case(r#"{"error": "limit"}"#, "limit")]
    #[case(r#"{"message": "no"}"#, "no")]
    #[case(
        r#"{"name": ["too long", "bad"], "server_id": ["required"]}"#,
        "name: too long, bad; server_id: required"
    )]
    #[case("<html>\n  <h1>502</h1>\r\n</html>", "<html> <h1>502</h1> </html>")]
    #[case("", "an empty answer")]
    #[case(" \r\n", "an empty answer")]
    #[case("{\"detail\": \" \"}", "{\"detail\": \" \"}")]
    #[case("{\"detail\": \"a\\nfake log line\\u001b[31m\"}", "a fake log line\u{fffd}[31m")]
    fn an_errors_words_become_one_harmless_line(#[case] body: &str, #[case] message: &str) {
        assert_eq!(error_message(body.as_bytes()).to_string(), message);
    }

    /// serde shows the whole value that it did not want.
    #[test]
    fn a_reason_is_short_however_long_the_wrong_value_is() {
        let body = format!(r#"[{{"id": "{}"}}]"#, "x".repeat(100_000));
        let reasons = [
            page(body.as_bytes(), &base(), Account::API).unwrap_err(),
            servers(body.as_bytes(), &base(), Account::API).unwrap_err(),
            created(body.trim_matches(['[', ']']).as_bytes(), Account::API).unwrap_err(),
        ];
        for reason in reasons {
            // Some begin with what it is that cannot be read.
            assert!(
                !reason.is_empty() && reason.chars().count() <= 31 + EXCERPT_CHARACTERS,
                "{reason}"
            );
        }
    }

    #[rstest]
    #[case("id", "null", "a row's `id` is null")]
    #[case("id", "-1", "a row's `id` is an impossible number")]
    #[case("server", "{\"id\": \"7\"}", "snapshot 801: `server.id` is a text")]
    #[case("server", "null", "snapshot 801: `server.id` is missing")]
    #[case("name", "7", "snapshot 801: `name` is an impossible number")]
    #[case("status", "null", "snapshot 801: `status` is null")]
    #[case("created_at", "\"yesterday\"", "snapshot 801: `created_at` is not a time")]
    fn what_is_wrong_with_a_row_is_told_with_id_and_field(
        #[case] field: &str,
        #[case] value: &str,
        #[case] told: &str,
    ) {
        let mut row: Value = serde_json::from_str(ROW).unwrap();
        row[field] = serde_json::from_str(value).unwrap();
        let body = serde_json::to_vec(&[&row]).unwrap();
        assert_eq!(page(&body, &base(), Account::API).unwrap_err(), told);
        let body = serde_json::to_vec(&row).unwrap();
        assert_eq!(created(&body, Account::API).unwrap_err(), told);
    }

    #[test]
    fn a_row_without_a_name_is_foreign_and_counts_and_no_create_is_answered_so() {
        let mut row: Value = serde_json::from_str(ROW).unwrap();
        row["name"] = Value::Null;
        let read =
            page(&serde_json::to_vec(&[&row]).unwrap(), &base(), Account::API).unwrap().snapshots;
        assert_eq!((read[0].id.0, &read[0].name), (801, &"(no name)".into()));
        for prefix in ["snapring", "no", "name"] {
            assert!(read[0].name.tick(&prefix.parse::<ManagedPrefix>().unwrap()).is_none());
        }
        assert!(created(&serde_json::to_vec(&row).unwrap(), Account::API).is_err());
    }

    #[test]
    fn of_a_server_what_is_missing_null_or_odd_is_left_out() {
        let rows = r#"{"count": 3, "next": "?page=2", "results": [
            {"id": 1, "name": "web", "status": "active", "location": "us-west", "plan": {}},
            {"id": 2, "name": null, "status": null, "location": {"code": "x"}},
            {"id": 3}]}"#;
        let page = servers(rows.as_bytes(), &base(), Account::API).unwrap();
        assert_eq!((page.count, page.next_query.as_deref()), (Some(3), Some("page=2")));
        let shown = |text: &Option<ForeignText>| text.as_ref().map(ToString::to_string);
        let read: Vec<_> = page
            .servers
            .iter()
            .map(|it| (it.id.number, it.name.to_string(), shown(&it.status), shown(&it.location)))
            .collect();
        let some = |text: &str| Some(text.to_owned());
        let nameless = |id| (id, String::new(), None, None);
        let web = (1, "web".to_owned(), some("active"), some("us-west"));
        assert_eq!(read, [web, nameless(2), nameless(3)]);
    }

    #[test]
    fn personal_data_does_not_reach_a_message() {
        let error = token_info(br#"{"account": {"email": "jane@example.org"}}"#).unwrap_err();
        assert!(!error.contains("jane"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_a_reason(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = page(&body, &base(), Account::API);
            let _ = created(&body, Account::API);
            let _ = servers(&body, &base(), Account::API);
            let _ = token_info(&body);
            let message = error_message(&body).to_string();
            prop_assert!(message.chars().count() <= EXCERPT_CHARACTERS + 1);
            prop_assert!(!message.is_empty() && !message.contains('\n'));
        }
    }
}
