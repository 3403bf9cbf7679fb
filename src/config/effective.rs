//! Which value holds for each key of each server, and where it comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use crate::config::document::{FileText, Problems, Table, TomlDocument};
use crate::config::problem::presentable;
use crate::config::reference::{Absent, SERVER};
use crate::server::Server;

/// A server with all that holds for it.
#[derive(Debug, Clone)]
pub struct EffectiveServer {
    /// Its group.
    pub group: Option<String>,
    /// Each key that servers can have in common, and `pin`, in the order of the manual page.
    pub values: Vec<EffectiveValue>,
}

/// What holds for a key.
#[derive(Debug, Clone)]
pub struct EffectiveValue {
    /// The key.
    pub key: &'static str,
    /// As TOML would have it; null: nothing.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It stands nowhere.
    Default,
    /// It stands there.
    Written {
        /// Its table, like `[defaults]`.
        table: String,
        /// The file.
        file: String,
        /// The line in it, from 1.
        line: usize,
    },
}

/// Of the servers of a good configuration, in their order.
pub(super) fn of(files: &[FileText<'_>], servers: &[Arc<Server>]) -> Vec<EffectiveServer> {
    let mut problems = Problems::default();
    let documents = TomlDocument::parse_all(files, &mut problems);
    let roots: Vec<_> = documents.iter().map(TomlDocument::root).collect();
    let defaults = roots.first().and_then(|it| it.get("defaults")?.table("[defaults]"));
    let groups: BTreeMap<&str, Table<'_, '_>> = roots
        .iter()
        .filter_map(|root| root.get("group")?.table("[group.NAME]"))
        .flat_map(|groups| groups.entries().collect::<Vec<_>>())
        .filter_map(|(name, _, value)| Some((name, value.table("[group.NAME]")?)))
        .collect();
    let tables = roots.iter().filter_map(|root| root.get("server")?.items()).flatten();
    let tables = tables.filter_map(|item| item.table("[[server]]"));
    let reader = Reader { defaults, groups, problems: &problems };
    tables.zip(servers).map(|(table, _)| reader.server(&table)).collect()
}

struct Reader<'d, 'i> {
    defaults: Option<Table<'d, 'i>>,
    groups: BTreeMap<&'d str, Table<'d, 'i>>,
    /// Which knows the lines.
    problems: &'d Problems,
}

impl Reader<'_, '_> {
    fn server(&self, table: &Table<'_, '_>) -> EffectiveServer {
        let group = table.get("group").and_then(|it| it.get_ref().as_str());
        let of_group = group.and_then(|name| self.groups.get_key_value(name));
        let candidates = [
            Some((table, "[[server]]".to_owned())),
            of_group.map(|(name, table)| (table, format!("[group.{name}]"))),
            self.defaults.as_ref().map(|it| (it, "[defaults]".to_owned())),
        ];
        let candidates: Vec<_> = candidates.into_iter().flatten().collect();
        let keys = SERVER.keys.iter().filter(|key| key.shared || key.name == "pin");
        let values = keys.map(|key| {
            let written = candidates.iter().find_map(|(table, name)| {
                let (file, line) = self.problems.file_and_line(&table.place_of(key.name)?)?;
                let origin =
                    Origin::Written { table: presentable(name), file: presentable(file), line };
                Some((of_toml(table.get(key.name)?.get_ref()), origin))
            });
            let (value, origin) = written.unwrap_or_else(|| (default(key.absent), Origin::Default));
            EffectiveValue { key: key.name, value, origin }
        });
        EffectiveServer { group: group.map(presentable), values: values.collect() }
    }
}

/// A documented default.
pub(crate) fn default(absent: Absent) -> Value {
    match absent {
        Absent::Value(text) => parsed(text),
        Absent::Means(_) | Absent::Refused => Value::Null,
    }
}

/// A value that is written as TOML.
pub(crate) fn parsed(text: &str) -> Value {
    let line = format!("x = {text}");
    let table = DeTable::parse(&line).ok();
    table.and_then(|it| Some(of_toml(it.get_ref().get("x")?.get_ref()))).unwrap_or_default()
}

/// A token in the place of a value is not shown.
fn of_toml(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(presentable(text)),
        DeValue::Boolean(it) => Value::Bool(*it),
        DeValue::Integer(it) => {
            let number = i64::from_str_radix(&it.as_str().replace('_', ""), it.radix());
            number.map_or(Value::Null, |it| Value::Number(Number::from(it)))
        }
        DeValue::Float(it) => Value::String(it.as_str().to_owned()),
        DeValue::Datetime(it) => Value::String(it.to_string()),
        DeValue::Array(items) => items.iter().map(|it| of_toml(it.get_ref())).collect(),
        DeValue::Table(table) => {
            let fields = table.iter();
            let fields = fields.map(|(key, it)| (key.get_ref().to_string(), of_toml(it.get_ref())));
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}
