//! Which values keys take, as JSON Schemas. A schema never refuses what snapring takes; it cannot refuse all
//! that snapring refuses.

/// Shapes that others name.
pub(super) const NAMED: &[(&str, &str)] =
    &[("span", SPAN_TEXT), ("cron", CRON), ("prefix", PREFIX_TEXT), ("address", ADDRESS)];

/// As humantime reads it.
const SPAN_TEXT: &str = r#"{"type": "string", "pattern":
    "^\\s*(0|([0-9][0-9\\s]*(\\.[0-9\\s]+)?(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y)\\s*)+)$"}"#;

/// Five fields, or six.
const CRON: &str = r#"{"type": "string", "pattern": "^\\s*(\\S+\\s+){4,5}\\S+\\s*$"}"#;

const PREFIX_TEXT: &str = r#"{"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,22}$"}"#;

const ADDRESS: &str = r#"{"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^\\s]+$"}"#;

pub(super) const SPAN: &str = r##"{"$ref": "#/$defs/span"}"##;

pub(super) const TEXT: &str = r#"{"type": "string"}"#;

pub(super) const FLAG: &str = r#"{"type": "boolean"}"#;

pub(super) const PATH: &str = r#"{"type": "string", "pattern": "^/"}"#;

pub(super) const INCLUDE: &str =
    r#"{"type": "array", "items": {"type": "string", "minLength": 1}}"#;

/// Without a user, a password, a query or a fragment.
pub(super) const BASE_URL: &str =
    r#"{"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/@?#]+(/[^?#]*)?$"}"#;

pub(super) const PER_MINUTE: &str =
    r#"{"type": "integer", "anyOf": [{"const": 0}, {"minimum": 4, "maximum": 1000000}]}"#;

/// What is a number could be taken for an id.
pub(super) const NAME: &str =
    r#"{"type": "string", "minLength": 1, "maxLength": 100, "pattern": "[^0-9]"}"#;

pub(super) const GROUP: &str = r#"{"type": "string", "minLength": 1, "maxLength": 100}"#;

pub(super) const ACCOUNT: &str =
    r#"{"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]*$", "maxLength": 24}"#;

pub(super) const SCHEDULES: &str = r##"{"anyOf": [{"$ref": "#/$defs/cron"},
    {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/cron"}}]}"##;

pub(super) const ZONE: &str = r#"{"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_+/-]*$"}"#;

pub(super) const KEEP: &str = r##"{"anyOf": [{"type": "integer", "minimum": 1, "maximum": 1000},
    {"$ref": "#/$defs/keep"}]}"##;

pub(super) const PREFIX: &str = r##"{"$ref": "#/$defs/prefix"}"##;

pub(super) const PREFIXES: &str =
    r##"{"type": "array", "uniqueItems": true, "items": {"$ref": "#/$defs/prefix"}}"##;

pub(super) const DESCRIPTION: &str = r#"{"type": "string", "maxLength": 500}"#;

pub(super) const IDS: &str = r#"{"type": "array", "items": {"type": "integer", "minimum": 1}}"#;

pub(super) const HOOKS: &str = r##"{"$ref": "#/$defs/hooks"}"##;

pub(super) const ARGUMENTS: &str = r#"{"type": "array", "minItems": 1,
    "prefixItems": [{"type": "string", "minLength": 1}], "items": {"type": "string"}}"#;

pub(super) const LISTEN: &str = r#"{"type": "string", "pattern": "^.+:[0-9]{1,5}$"}"#;

pub(super) const HOSTS: &str =
    r#"{"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}}"#;

pub(super) const METRICS: &str = r#"{"enum": ["servers", "fleet"]}"#;

pub(super) const STORE: &str = r#"{"type": "string", "pattern": "^(sqlite|postgres|postgresql):"}"#;

pub(super) const LOG_FORMAT: &str = r#"{"enum": ["auto", "journald", "json", "text"]}"#;

pub(super) const WEBHOOK: &str = r##"{"$ref": "#/$defs/address"}"##;

pub(super) const NOTICE_FORMAT: &str = r#"{"enum": ["json", "ntfy", "healthchecks", "slack"]}"#;

pub(super) const EVENTS: &str =
    r#"{"type": "array", "minItems": 1, "items": {"enum": ["failure", "recovery", "success"]}}"#;

pub(super) const INSTANCE: &str = r#"{"type": "string", "minLength": 1, "maxLength": 64}"#;
