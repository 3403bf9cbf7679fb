//! Bodies of listings and of create answers: all rows or none, and never another host.

use serde_json::{Value, json};
use snapring::naming::Account;
use snapring::provider::body;
use snapring::snapshot::Snapshot;
use url::Url;

/// The longest reason there may be: a log line, not a copy of the answer.
const MOST: usize = 700;

pub fn page(data: &[u8]) {
    let base = Url::parse("https://api.example/api/v1/").expect("a good address");
    if let Err(reason) = body::servers(data, &base, Account::API) {
        crate::assert_one_line(&reason, MOST);
    }
    let page = match body::page(data, &base, Account::API) {
        Ok(page) => page,
        Err(reason) => return crate::assert_one_line(&reason, MOST),
    };
    let value: Value = serde_json::from_slice(data).expect("what was read is JSON");
    let rows = value.get("results").unwrap_or(&value).as_array().expect("what was read has rows");
    // A row that is lost makes a ring look emptier than it is.
    assert_eq!(rows.len(), page.snapshots.len());
    assert_ne!(value.get("count"), Some(&Value::Null), "it does not say whether rows are missing");
    match value.get("count").and_then(Value::as_u64) {
        Some(count) => assert_eq!(page.count, Some(count)),
        // Another field may say how many rows there are: the number is the provider's all the same.
        None => assert!(page.count.is_none_or(|count| has_number(&value, count))),
    }
    let next = value.get("next").and_then(Value::as_str);
    assert_eq!(page.next_query.is_some(), next.is_some());
    if let Some(query) = &page.next_query {
        let followed = base.join(&format!("snapshots/?{query}")).expect("a good address");
        assert_eq!((followed.host_str(), followed.path()), (base.host_str(), "/api/v1/snapshots/"));
        assert_eq!(followed.query(), Some(query.as_str()));
    }
    let mut again = json!({
        "results": page.snapshots.iter().map(row).collect::<Vec<_>>(),
        "next": page.next_query.as_ref().map(|query| format!("?{query}")),
    });
    // A `count` that is null is refused: where there is none, there is no such field.
    if let Some(count) = page.count {
        again["count"] = count.into();
    }
    let again =
        body::page(again.to_string().as_bytes(), &base, Account::API).expect("our own words");
    let rows = |page: &body::ListingPage| page.snapshots.iter().map(row).collect::<Vec<_>>();
    assert_eq!(rows(&again), rows(&page));
    assert_eq!((again.count, again.next_query), (page.count, page.next_query));
}

fn has_number(value: &Value, number: u64) -> bool {
    let fields = value.as_object().into_iter().flatten();
    fields.into_iter().any(|(_, value)| {
        value.as_u64() == Some(number) || (value.is_object() && has_number(value, number))
    })
}

pub fn created(data: &[u8]) {
    match body::created(data, Account::API) {
        Err(reason) => crate::assert_one_line(&reason, MOST),
        Ok(snapshot) => {
            let again = body::created(row(&snapshot).to_string().as_bytes(), Account::API);
            assert_eq!(again.as_ref().map(row), Ok(row(&snapshot)));
        }
    }
}

/// A row as the provider would send it.
fn row(snapshot: &Snapshot) -> Value {
    json!({
        "id": snapshot.id,
        "server": { "id": snapshot.server },
        "name": snapshot.name,
        "status": snapshot.status,
        "size_mb": snapshot.size_mb,
        "created_at": snapshot.created_at,
        "description": snapshot.description,
    })
}
