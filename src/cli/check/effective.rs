//! `snapring check --effective`: what holds for each server, and where it was written.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::Value;

use crate::cli::error::CommandError;
use crate::cli::selection::Selection;
use crate::cli::setup::Setup;
use crate::cli::{Exit, console};
use crate::config::{EffectiveServer, EffectiveValue, Origin, Problem};
use crate::naming::ServerId;

#[derive(Serialize)]
struct EffectiveAnswer<'a> {
    file: String,
    problems: Vec<Value>,
    servers: Vec<ServerAnswer<'a>>,
}

#[derive(Serialize)]
struct ServerAnswer<'a> {
    server_id: ServerId,
    server: &'a str,
    group: Option<&'a str>,
    values: Vec<ValueAnswer<'a>>,
}

#[derive(Serialize)]
struct ValueAnswer<'a> {
    key: &'static str,
    value: &'a Value,
    /// The table, or `default`.
    from: &'a str,
    file: Option<&'a str>,
    line: Option<usize>,
}

impl<'a> ValueAnswer<'a> {
    fn of(value: &'a EffectiveValue) -> Self {
        let (from, file, line) = match &value.origin {
            Origin::Default => ("default", None, None),
            Origin::Written { table, file, line } => {
                (table.as_str(), Some(file.as_str()), Some(*line))
            }
        };
        Self { key: value.key, value: &value.value, from, file, line }
    }

    fn place(&self) -> String {
        match (self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line} {}", self.from),
            _ => self.from.to_owned(),
        }
    }
}

/// Prints it of the chosen servers.
///
/// # Errors
/// When there is no such server, or nothing can be written.
pub(super) fn tell(
    setup: &Setup,
    warnings: &[Problem],
    origins: &[EffectiveServer],
    selection: &Selection,
    json: bool,
) -> Result<Exit, CommandError> {
    let wanted: HashSet<ServerId> = setup.select(selection)?.iter().map(|it| it.id).collect();
    let both = setup.settings.servers.iter().zip(origins);
    let servers = both.filter(|(server, _)| wanted.contains(&server.id));
    let servers: Vec<ServerAnswer<'_>> = servers
        .map(|(server, it)| ServerAnswer {
            server_id: server.id,
            server: &server.name,
            group: it.group.as_deref(),
            values: it.values.iter().map(ValueAnswer::of).collect(),
        })
        .collect();
    if json {
        let problems = warnings.iter().map(Problem::to_json).collect();
        let file = setup.path.display().to_string();
        console::print_json(&EffectiveAnswer { file, problems, servers })?;
    } else {
        for warning in warnings {
            console::warning(&warning.render(console::colours()));
        }
        let texts: Vec<String> = servers.iter().map(text).collect();
        console::print(&texts.join("\n"))?;
    }
    Ok(Exit::Well)
}

fn text(server: &ServerAnswer<'_>) -> String {
    let group = server.group.map(|name| format!(", group {name:?}")).unwrap_or_default();
    let mut text = format!("{} ({}){group}\n", server.server, server.server_id);
    let rows: Vec<_> =
        server.values.iter().map(|it| (it.key, as_toml(it.value), it.place())).collect();
    let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let keys = width(&mut rows.iter().map(|(key, ..)| key.len()));
    let values = width(&mut rows.iter().map(|(_, value, _)| value.chars().count()));
    for (key, value, place) in rows {
        text.push_str(&format!("  {key:keys$}  {value:values$}  {place}\n"));
    }
    text
}

/// As it would be written.
fn as_toml(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(as_toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("{key} = {}", as_toml(value));
            format!("{{ {} }}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        // A text in JSON is one in TOML.
        other => other.to_string(),
    }
}
