//! Prometheus' text format: for those who do not ask for OpenMetrics.

use std::fmt::Write;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether OpenMetrics is asked for, and nothing is preferred to it.
#[must_use]
pub(super) fn openmetrics_is_asked_for(headers: &HeaderMap) -> bool {
    let mut asked = 0.0;
    let mut preferred = 0.0;
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in accept.flat_map(|value| value.split(',')) {
        let mut parameters = range.split(';').map(str::trim);
        let kind = parameters.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parameters.find_map(|it| it.strip_prefix("q=")).unwrap_or("1");
        let quality: f32 = quality.trim().parse().unwrap_or(0.0);
        match kind.as_str() {
            "application/openmetrics-text" => asked = quality.max(asked),
            "text/plain" => preferred = quality.max(preferred),
            _ => {}
        }
    }
    asked > 0.0 && asked >= preferred
}

/// Converts OpenMetrics' form to Prometheus' form: there, a family is called as its samples are.
#[must_use]
pub(super) fn of_openmetrics(text: &str) -> String {
    let mut converted = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(comment) = line.strip_prefix("# ") else {
            converted.push_str(line);
            converted.push('\n');
            continue;
        };
        let Some((name, help)) = comment.strip_prefix("HELP ").and_then(|it| it.split_once(' '))
        else {
            // UNIT and EOF are not known there; a TYPE comes after its HELP.
            continue;
        };
        let kind = lines
            .next_if(|next| next.starts_with("# TYPE "))
            .and_then(|next| next.rsplit_once(' '))
            .map_or("untyped", |(_, kind)| kind);
        let (suffix, kind) = match kind {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            "unknown" => ("", "untyped"),
            other => ("", other),
        };
        let _ = writeln!(converted, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
    }
    converted
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(None, false)]
    #[case(Some("*/*"), false)]
    #[case(Some("text/plain"), false)]
    #[case(Some("text/plain;version=0.0.4;q=0.5,*/*;q=0.1"), false)]
    #[case(Some("application/openmetrics-text"), true)]
    #[case(Some("application/openmetrics-text; version=1.0.0; q=0"), false)]
    #[case(Some("application/openmetrics-text;q=0.2, text/plain;q=0.7"), false)]
    // Prometheus 2.
    #[case(
        Some(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
             q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ),
        true
    )]
    fn openmetrics_is_for_those_who_ask_for_it(#[case] accept: Option<&str>, #[case] asked: bool) {
        let accept = accept.map(|it| (ACCEPT, it.parse().unwrap()));
        assert_eq!(openmetrics_is_asked_for(&accept.into_iter().collect()), asked);
    }

    #[test]
    fn families_are_called_as_their_samples_are() {
        let text = "# HELP a_seconds Time # TYPE.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                    a_seconds_total{x=\"# EOF\"} 1\n# HELP b B.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                    # HELP c C.\n# TYPE c gauge\nc 1.5\n# EOF\n";
        assert_eq!(
            of_openmetrics(text),
            "# HELP a_seconds_total Time # TYPE.\n# TYPE a_seconds_total counter\n\
             a_seconds_total{x=\"# EOF\"} 1\n# HELP b_info B.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
             # HELP c C.\n# TYPE c gauge\nc 1.5\n"
        );
    }
}
