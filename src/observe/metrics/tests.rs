use std::collections::BTreeSet;

use rstest::rstest;

use super::*;
use crate::clock::Clock;
use crate::naming::ServerId;
use crate::testing::stage::{Stage, noon, server};

/// A daemon that has rotated one server well, has another one blocked, and a third disabled.
async fn metrics() -> String {
    let text = server(101, "web \"01\"\\", "")
        + &server(102, "db-01", "")
        + &server(103, "old", "enabled = false");
    let stage = Stage::start(Clock::simulated(noon()), &text).await;
    for nth in 0..5 {
        let name = format!("by-hand-{nth}");
        let mut provider = stage.memory.provider.lock().unwrap();
        provider.add_snapshot(ServerId::new(102), &name, "completed", noon());
    }
    stage.rotate(2).await;
    render(&stage.view(), MetricsScope::Servers).unwrap()
}

/// Name and labels of a sample, if a line is one as OpenMetrics wants it.
fn sample(line: &str) -> Option<(String, String, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let is_name = name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    (is_name && !name.is_empty()).then_some(())?;
    Some((name.to_owned(), labels.to_owned(), value.parse().ok()?))
}

#[tokio::test(start_paused = true)]
async fn every_line_is_of_the_format_and_the_last_one_ends_it() {
    let text = metrics().await;
    assert!(text.ends_with("\n# EOF\n"));
    let mut families = BTreeSet::new();
    let mut series = BTreeSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let (kind, rest) = rest.split_once(' ').unwrap();
            assert!(["HELP", "TYPE", "UNIT"].contains(&kind), "{line}");
            if kind == "TYPE" {
                assert!(families.insert(rest.split(' ').next().unwrap()), "told twice: {line}");
            }
            continue;
        }
        let (name, labels, _) = sample(line).unwrap_or_else(|| panic!("{line}"));
        assert!(series.insert((name.clone(), labels)), "there twice: {line}");
        let suffixes = ["", "_total", "_info", "_bucket", "_sum", "_count"];
        let of_a_family = suffixes
            .iter()
            .any(|suffix| name.strip_suffix(suffix).is_some_and(|it| families.contains(it)));
        assert!(of_a_family, "{line}");
    }
}

#[rstest]
#[case("snapring_api_requests_total{operation=\"list\",outcome=\"ok\"}", None)]
#[case("snapring_api_request_duration_seconds_bucket{le=\"0.05\",operation=\"list\"}", None)]
#[case("snapring_api_request_duration_seconds_count{operation=\"create\"}", Some(1.0))]
#[case("snapring_rotations_total{server=\"web \\\"01\\\"\\\\\",outcome=\"rotated\"}", Some(1.0))]
#[case("snapring_rotations_total{server=\"db-01\",outcome=\"blocked\"}", Some(1.0))]
#[case("snapring_rotations_total{server=\"db-01\",outcome=\"failed\"}", Some(0.0))]
#[case("snapring_rotation_duration_seconds_count", Some(2.0))]
#[case("snapring_rotation_duration_seconds_bucket{le=\"+Inf\"}", Some(2.0))]
#[case("snapring_last_success_timestamp_seconds{server=\"web \\\"01\\\"\\\\\"}", None)]
#[case("snapring_last_rotation_timestamp_seconds{server=\"db-01\"}", None)]
#[case("snapring_next_tick_timestamp_seconds{server=\"db-01\"}", Some(1_795_489_200.0))]
#[case("snapring_slots{server=\"db-01\",state=\"managed\"}", Some(0.0))]
#[case("snapring_slots{server=\"db-01\",state=\"foreign\"}", Some(5.0))]
#[case("snapring_slots{server=\"db-01\",state=\"free\"}", Some(0.0))]
#[case("snapring_slots{server=\"web \\\"01\\\"\\\\\",state=\"free\"}", Some(4.0))]
#[case("snapring_squeezed{server=\"db-01\"}", Some(3.0))]
#[case("snapring_squeezed{server=\"web \\\"01\\\"\\\\\"}", Some(0.0))]
#[case("snapring_fleet_servers{state=\"blocked\"}", Some(1.0))]
#[case("snapring_fleet_servers{state=\"ok\"}", Some(1.0))]
#[case("snapring_fleet_servers{state=\"disabled\"}", Some(1.0))]
#[case("snapring_fleet_servers{state=\"failed\"}", Some(0.0))]
#[case("snapring_fleet_slots{state=\"managed\"}", Some(1.0))]
#[case("snapring_fleet_slots{state=\"foreign\"}", Some(5.0))]
#[case("snapring_fleet_slots{state=\"free\"}", Some(4.0))]
#[case("snapring_fleet_squeezed", Some(1.0))]
#[case("snapring_fleet_stale", Some(0.0))]
#[case("snapring_fleet_oldest_success_timestamp_seconds", None)]
#[case("snapring_fleet_rotations_total{outcome=\"rotated\"}", Some(1.0))]
#[case("snapring_fleet_rotations_total{outcome=\"blocked\"}", Some(1.0))]
#[case("snapring_duplicate_ticks{server=\"db-01\"}", Some(0.0))]
#[case("snapring_snapshot_newest_timestamp_seconds{server=\"web \\\"01\\\"\\\\\"}", None)]
#[case("snapring_config_last_reload_successful", Some(1.0))]
#[case("snapring_trouble{server=\"db-01\"}", Some(1.0))]
#[case("snapring_trouble{server=\"web \\\"01\\\"\\\\\"}", Some(0.0))]
#[case("snapring_stale{server=\"db-01\"}", Some(0.0))]
#[case("snapring_store_up", Some(1.0))]
#[case("snapring_log_lost_lines_total", Some(0.0))]
#[case("snapring_hooks_total{hook=\"before\",outcome=\"failed\"}", Some(0.0))]
#[case("snapring_hooks_total{hook=\"after\",outcome=\"interrupted\"}", Some(0.0))]
#[case("snapring_notices_total{outcome=\"failed\"}", Some(0.0))]
#[case("process_resident_memory_bytes", None)]
#[case("process_cpu_seconds_total", None)]
#[case("process_start_time_seconds", None)]
#[case("process_max_fds", None)]
#[case(concat!("snapring_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), Some(1.0))]
#[tokio::test(start_paused = true)]
async fn each_metric_has_its_name_and_labels(#[case] series: &str, #[case] value: Option<f64>) {
    let text = metrics().await;
    let labels_of = |labels: &str| labels.split(',').map(str::to_owned).collect::<BTreeSet<_>>();
    let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
    let found = text
        .lines()
        .filter_map(sample)
        .find(|it| it.0 == name && labels_of(&it.1) == labels_of(labels))
        .unwrap_or_else(|| panic!("{series} is not in\n{text}"));
    match value {
        Some(value) => assert_eq!(found.2, value),
        None => assert!(found.2 >= 0.0),
    }
}

#[tokio::test(start_paused = true)]
async fn of_what_is_not_known_there_is_no_sample() {
    let text = metrics().await;
    let of_db = |name: &str| text.contains(&format!("{name}{{server=\"db-01\"}}"));
    assert!(!of_db("snapring_last_success_timestamp_seconds"), "it never had one");
    assert!(!of_db("snapring_snapshot_newest_timestamp_seconds"));
    assert!(!text.contains("snapring_next_tick_timestamp_seconds{server=\"old\"}"), "disabled");
    assert!(!text.contains("snapring_trouble{server=\"old\"}"), "disabled");
    assert!(!text.contains("snapring_slots{server=\"old\""), "never listed");
    assert!(!text.contains("snapring_duplicate_ticks{server=\"old\""), "never listed");
}

#[tokio::test(start_paused = true)]
async fn ticks_with_several_snapshots_are_counted_until_a_rotation_has_deleted_the_older_ones() {
    let text = server(101, "web-01", "") + &server(102, "db-01", "");
    let stage = Stage::start(Clock::simulated(noon()), &text).await;
    let tick = "snapring-20261123T030000Z";
    // db-01 is blocked, and stays as it is.
    let by_hand = [(102, "by-hand"); 5];
    for (id, name) in [(101, tick); 2].into_iter().chain([(102, tick); 3]).chain(by_hand) {
        let made = noon() - jiff::SignedDuration::from_hours(9);
        let mut provider = stage.memory.provider.lock().unwrap();
        provider.add_snapshot(ServerId::new(id), name, "completed", made);
    }
    stage.rotate(2).await;
    let text = render(&stage.view(), MetricsScope::Servers).unwrap();
    assert!(text.contains("\nsnapring_duplicate_ticks{server=\"web-01\"} 0\n"), "{text}");
    assert!(text.contains("\nsnapring_duplicate_ticks{server=\"db-01\"} 1\n"), "{text}");
}

/// Of 24 servers the provider knows five. The others are in trouble, and are among the twenty.
#[tokio::test(start_paused = true)]
async fn of_a_fleet_the_worst_twenty_have_series_and_the_sums_tell_of_all() {
    let text: String = (101..125).map(|id| server(id, &format!("web-{id}"), "")).collect();
    let stage = Stage::start(Clock::simulated(noon()), &text).await;
    stage.rotate(24).await;
    let whole = render(&stage.view(), MetricsScope::Servers).unwrap();
    let fleet = render(&stage.view(), MetricsScope::Fleet).unwrap();
    let servers = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter_map(sample);
        let labels = samples.flat_map(|it| it.1.split(',').map(str::to_owned).collect::<Vec<_>>());
        labels.filter(|label| label.starts_with("server=")).collect()
    };
    assert_eq!((servers(&whole).len(), servers(&fleet).len()), (24, 20));
    for id in 106..125 {
        let series = format!("snapring_trouble{{server=\"web-{id}\"}} 1\n");
        assert!(fleet.contains(&series), "{id}: {fleet}");
    }
    let sums = |text: &str| -> Vec<String> {
        text.lines().filter(|it| it.starts_with("snapring_fleet_")).map(str::to_owned).collect()
    };
    assert_eq!(sums(&whole), sums(&fleet));
    for line in [
        "snapring_fleet_servers{state=\"ok\"} 5",
        "snapring_fleet_servers{state=\"failed\"} 19",
        "snapring_fleet_rotations_total{outcome=\"rotated\"} 5",
        "snapring_fleet_rotations_total{outcome=\"failed\"} 19",
    ] {
        assert!(sums(&fleet).iter().any(|it| it == line), "{line}: {fleet}");
    }
}
