//! Answers of 200 whose body says that the message was not taken.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::call::Outcome;
use crate::notify::format::Format;

/// What a body says of a message whose status said that all is well; `None`: nothing against it.
pub(super) fn in_body(body: &str, format: Format) -> Option<Outcome> {
    let body = body.trim();
    let reason = if body.starts_with('{') {
        said_no(&top_level(body))?
    } else if format == Format::Slack && !body.is_empty() && !body.eq_ignore_ascii_case("ok") {
        // Slack says `ok`; else one word says why not.
        body.to_owned()
    } else {
        return None;
    };
    Some(class_of(&reason.to_lowercase()))
}

/// Why a document says no, if it does.
fn said_no(document: &Map<String, Value>) -> Option<String> {
    let field = |name: &str| document.get(name);
    let is_no = |name: &str| field(name) == Some(&Value::Bool(false));
    let failed = |status: &str| {
        ["error", "fail", "failed", "failure"].iter().any(|it| status.eq_ignore_ascii_case(it))
    };
    let no = is_no("ok")
        || is_no("success")
        || field("error").is_some_and(says_something)
        || field("errors").is_some_and(says_something)
        || field("status").and_then(Value::as_str).is_some_and(failed);
    no.then(|| {
        let why = ["error", "errors", "msg", "message", "reason", "detail"];
        why.into_iter().filter_map(field).map(Value::to_string).collect::<Vec<_>>().join(" ")
    })
}

/// Some services have an empty `error` in each answer.
fn says_something(error: &Value) -> bool {
    match error {
        Value::Null => false,
        Value::Bool(is_error) => *is_error,
        Value::Number(code) => code.as_f64() != Some(0.0),
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    }
}

/// Whether it may pass.
fn class_of(reason: &str) -> Outcome {
    let names = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if names(&["ratelimit", "rate_limit", "rate limit", "too many", "too_many", "throttl"]) {
        Outcome::Throttled
    } else if names(&[
        "internal",
        "unavailable",
        "temporar",
        "timeout",
        "timed out",
        "try again",
        "fatal_error",
        "overload",
    ]) {
        Outcome::ServerError
    } else {
        Outcome::Rejected
    }
}

/// The fields of an object. Only the beginning of a long body is read, so it may break off: what came before
/// counts.
fn top_level(body: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    // That it breaks off is seen in the visitor.
    let _ = Fields(&mut fields).deserialize(&mut serde_json::Deserializer::from_str(body));
    fields
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry()? {
            self.0.insert(key, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    proptest! {
        /// Whatever a service answers is read without a fault, and only a document can say no to snapring's own.
        #[test]
        fn any_body_is_read(body in any::<String>(), rest in "[{}\\[\\]\",:a-z0-9]{0,200}") {
            let is_document = body.trim().starts_with('{');
            prop_assert!(is_document || in_body(&body, Format::Json).is_none());
            for format in Format::ALL {
                let _ = in_body(&format!("{{\"ok\":{rest}"), format);
            }
            let torn = format!("{{\"ok\":false,{rest}");
            let says_ok_later = rest.contains("ok");
            prop_assert!(says_ok_later || in_body(&torn, Format::Json).is_some(), "{}", torn);
        }
    }

    #[rstest]
    #[case(Format::Slack, "ok", None)]
    #[case(Format::Slack, " OK\n", None)]
    #[case(Format::Slack, "", None)]
    #[case(Format::Slack, "invalid_payload", Some(Outcome::Rejected))]
    #[case(Format::Slack, "no_text", Some(Outcome::Rejected))]
    #[case(Format::Slack, "<html>log in</html>", Some(Outcome::Rejected))]
    #[case(Format::Slack, "rate_limited", Some(Outcome::Throttled))]
    #[case(Format::Slack, "service_unavailable", Some(Outcome::ServerError))]
    #[case(Format::Slack, "{\"success\":true}", None)]
    #[case(Format::Json, "invalid_payload", None)]
    #[case(Format::Json, "{\"ok\":true,\"error\":null}", None)]
    #[case(Format::Json, "{\"ok\":true,\"error\":\"\",\"errors\":[]}", None)]
    #[case(Format::Json, "{\"data\":{\"error\":\"of somebody else\"}}", None)]
    #[case(Format::Json, "[{\"ok\":false}]", None)]
    #[case(Format::Json, "{\"ok\":false}", Some(Outcome::Rejected))]
    #[case(Format::Json, "{\"success\": false}", Some(Outcome::Rejected))]
    #[case(Format::Json, "{\"error\":\"no such hook\"}", Some(Outcome::Rejected))]
    #[case(Format::Json, "{\"error\":{\"code\":7}}", Some(Outcome::Rejected))]
    #[case(Format::Json, "{\"errors\":[\"x\"]}", Some(Outcome::Rejected))]
    #[case(Format::Json, "{\"status\":\"error\"}", Some(Outcome::Rejected))]
    #[case(Format::Json, "{\"status\":\"ok\"}", None)]
    #[case(Format::Ntfy, "{\"ok\":false,\"error\":\"ratelimited\"}", Some(Outcome::Throttled))]
    #[case(
        Format::Json,
        "{\"ok\":false,\"msg\":\"Monitor not found or not active.\"}",
        Some(Outcome::Rejected)
    )]
    #[case(Format::Json, "{\"error\":\"Internal Server Error\"}", Some(Outcome::ServerError))]
    #[case::torn(Format::Json, "{\"ok\":false,\"trace\":\"aaaaaaa", Some(Outcome::Rejected))]
    #[case::torn(Format::Json, "{\"ok\":true,\"trace\":\"aaaaaaa", None)]
    fn a_body_can_say_no(
        #[case] format: Format,
        #[case] body: &str,
        #[case] outcome: Option<Outcome>,
    ) {
        assert_eq!(in_body(body, format), outcome);
    }
}
