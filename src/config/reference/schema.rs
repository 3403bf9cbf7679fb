//! The reference as a JSON Schema, for editors and for programs that write configurations.

use serde_json::{Map, Value, json};

use crate::config::effective;
use crate::config::reference::{
    ACCOUNT, API, Absent, DEFAULTS, Form, GROUP, HOOKS, HTTP, KeyReference, LOG, NOTIFY, ROOT,
    SERVER, STORE, Section, sentence, shapes,
};
use crate::naming::Account;
use crate::policy::Rule;

/// The schema of the main file and of those that it includes.
#[must_use]
pub(crate) fn schema() -> Value {
    let mut properties = properties(ROOT.keys);
    for (name, section) in [("api", &API), ("http", &HTTP), ("store", &STORE), ("log", &LOG)] {
        properties.insert(name.to_owned(), table(section));
    }
    with(properties.get_mut("store"), "not", json!({"required": ["url", "url_file"]}));
    let mut notify = table(&NOTIFY);
    let one_of = json!([{"required": ["url"]}, {"required": ["url_file"]}]);
    with(Some(&mut notify), "oneOf", one_of);
    let mut account = table(&API);
    with(Some(&mut account), "description", json!(ACCOUNT.text));
    with(Some(&mut account), "required", json!(["name"]));
    if let Some(keys) = account.get_mut("properties").and_then(Value::as_object_mut) {
        keys.extend(self::properties(ACCOUNT.keys));
        with(keys.get_mut("name"), "not", json!({ "const": Account::API_NAME }));
    }
    let list = |item: Value| json!({"type": "array", "items": item});
    properties.insert("account".to_owned(), list(account));
    properties.insert("notify".to_owned(), list(notify));
    properties.insert("defaults".to_owned(), shared(DEFAULTS));
    let groups = json!({"type": "object", "additionalProperties": shared(GROUP)});
    properties.insert("group".to_owned(), groups);
    properties.insert("server".to_owned(), list(json!({"$ref": "#/$defs/server"})));
    let mut server = table(&SERVER);
    with(Some(&mut server), "required", json!(["id"]));
    let mut named = Map::new();
    for (name, shape) in shapes::NAMED {
        named.insert((*name).to_owned(), read(shape));
    }
    named.insert("keep".to_owned(), keep());
    named.insert("hooks".to_owned(), table(&HOOKS));
    named.insert("server".to_owned(), server);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of snapring",
        "description": "See snapring.toml(5). `snapring check` finds more mistakes than this schema.",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "$defs": named,
    })
}

fn table(section: &Section) -> Value {
    json!({
        "type": "object",
        "description": section.text,
        "additionalProperties": false,
        "properties": properties(section.keys),
    })
}

/// A table with the keys that servers can share.
fn shared(text: &str) -> Value {
    let keys = SERVER.keys.iter().filter(|key| key.shared);
    let reference = |key: &KeyReference| {
        let reference = json!({"$ref": format!("#/$defs/server/properties/{}", key.name)});
        (key.name.to_owned(), reference)
    };
    let properties: Map<_, _> = keys.map(reference).collect();
    json!({
        "type": "object",
        "description": text,
        "additionalProperties": false,
        "properties": properties,
    })
}

fn properties(keys: &[KeyReference]) -> Map<String, Value> {
    keys.iter().map(|key| (key.name.to_owned(), property(key))).collect()
}

fn property(key: &KeyReference) -> Value {
    let mut shape = match key.form {
        Form::Whole(least, most) => {
            let mut shape = json!({"type": "integer", "minimum": least});
            if let Some(most) = most {
                with(Some(&mut shape), "maximum", json!(most));
            }
            shape
        }
        Form::Span(_) => read(shapes::SPAN),
        Form::Words(_, shape) => read(shape),
    };
    let text = format!("{} {}", sentence(key.text), key.more);
    with(Some(&mut shape), "description", json!(text.trim_end()));
    if let Absent::Value(_) = key.absent {
        with(Some(&mut shape), "default", effective::default(key.absent));
    }
    if !key.example.is_empty() {
        with(Some(&mut shape), "examples", json!([effective::parsed(key.example)]));
    }
    shape
}

/// `keep` as a table: at least one rule keeps something.
fn keep() -> Value {
    let count = json!({"type": "integer", "minimum": 0, "maximum": 1000});
    let rules = Rule::ALL.map(Rule::as_str);
    let properties: Map<_, _> =
        rules.map(|it| (it.to_owned(), count.clone())).into_iter().collect();
    let some =
        rules.map(|it| json!({"required": [it], "properties": {it: {"minimum": 1}}})).to_vec();
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "anyOf": some,
    })
}

fn with(schema: Option<&mut Value>, name: &str, value: Value) {
    if let Some(fields) = schema.and_then(Value::as_object_mut) {
        fields.insert(name.to_owned(), value);
    }
}

/// A shape is good JSON: a test reads all of them.
fn read(shape: &str) -> Value {
    serde_json::from_str(shape).unwrap_or_default()
}

#[cfg(test)]
mod tests;
