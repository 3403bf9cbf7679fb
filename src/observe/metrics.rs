//! Metrics in OpenMetrics' text form, as Prometheus reads them.
//!
//! What concerns a server is read off the daemon as it is asked for, so that nothing is kept twice
//! and a server that has left the configuration leaves nothing behind.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::coverage::{CoverProblem, Coverage};
use crate::daemon::view::{ServerView, View};
use crate::naming::Account;
use crate::observe::process::Process;
use crate::observe::status_document::{ServerState, Totals, state};
use crate::ring::Holder;
use crate::status::MetricsScope;
use crate::telemetry;

/// What the answer is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics, now.
///
/// # Errors
/// Never: text can always be written to a string.
pub(super) fn render(view: &View, scope: MetricsScope) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    view.call_metrics().register(&mut registry);
    let help = "How long rotations took";
    let name = "snapring_rotation_duration";
    registry.register_with_unit(name, help, Unit::Seconds, view.durations());
    view.counts().register(&mut registry);
    registry.register_collector(Box::new(Process::started_at(view.started_at())));
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("snapring_build", "Version of snapring", version);
    let rows = view.rows();
    let sums = Sums::of(&rows);
    let fleet = Fleet {
        sums,
        rows: match scope {
            MetricsScope::Servers => rows,
            MetricsScope::Fleet => worst(rows),
        },
        reloaded: view.configuration().refused.is_none(),
        store_is_up: view.store().is_up(),
        lost_lines: telemetry::lost_lines(),
        coverage: view.account().coverage,
        covers: view.covers(),
        undelivered: view.counts().webhooks().counts(),
        not_resumed: view.not_resumed().len(),
    };
    registry.register_collector(Box::new(fleet));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// How many servers have series of their own if not all have.
const WORST: usize = 20;

/// Those in the worst state, and of these the ones whose last success is the oldest.
fn worst(mut rows: Vec<ServerView>) -> Vec<ServerView> {
    let success = |row: &ServerView| row.status.last_success().map(|success| success.at);
    rows.sort_by_cached_key(|row| (state(row), success(row), row.server.name.clone()));
    rows.truncate(WORST);
    rows
}

/// What is known of all servers together.
#[derive(Debug, Default)]
struct Sums {
    totals: Totals,
    /// By what they hold.
    slots: [(&'static str, u32); 3],
    squeezed: usize,
    stale: usize,
    oldest_success: Option<Timestamp>,
}

impl Sums {
    fn of(rows: &[ServerView]) -> Self {
        let enabled = || rows.iter().filter(|row| row.server.enabled);
        let mut sums = [("managed", 0), ("foreign", 0), ("free", 0)];
        for counts in rows.iter().filter_map(slots) {
            for ((_, sum), (_, count)) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        Self {
            totals: Totals::of(rows.iter().map(state)),
            slots: sums,
            squeezed: rows.iter().filter(|row| squeezed(row).is_some_and(|it| it > 0)).count(),
            stale: enabled().filter(|row| row.is_stale).count(),
            oldest_success: enabled()
                .filter_map(|row| row.status.last_success().map(|success| success.at))
                .min(),
        }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Servers by state";
        let name = "snapring_fleet_servers";
        let mut servers = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for state in ServerState::ALL {
            let labels = [("state", state.as_str())];
            servers.encode_family(&labels)?.encode_gauge(&whole(self.totals.count(state)))?;
        }
        let help = "Slots of all servers by what they hold";
        let name = "snapring_fleet_slots";
        let mut slots = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (state, count) in self.slots {
            slots.encode_family(&[("state", state)])?.encode_gauge(&i64::from(count))?;
        }
        let help = "Servers whose foreign snapshots leave fewer slots than keep asks for";
        encoder
            .encode_descriptor("snapring_fleet_squeezed", help, None, MetricType::Gauge)?
            .encode_gauge(&whole(self.squeezed))?;
        let help = "Servers whose last success is older than two intervals of their schedule";
        encoder
            .encode_descriptor("snapring_fleet_stale", help, None, MetricType::Gauge)?
            .encode_gauge(&whole(self.stale))?;
        let Some(oldest) = self.oldest_success else { return Ok(()) };
        let name = "snapring_fleet_oldest_success_timestamp";
        let help = "The oldest of the last successes of all servers";
        encoder
            .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?
            .encode_gauge(&seconds(oldest))
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What is known of the daemon and of each server at one instant.
#[derive(Debug)]
struct Fleet {
    sums: Sums,
    /// Those that have series of their own.
    rows: Vec<ServerView>,
    reloaded: bool,
    store_is_up: bool,
    lost_lines: u64,
    /// `None`: the provider has not listed the account's servers for a day.
    coverage: Option<Coverage>,
    /// Accounts with a `cover`, and whether each was listed when last tried.
    covers: Vec<(Account, Option<CoverProblem>)>,
    /// Notices that each webhook's host did not get.
    undelivered: BTreeMap<String, u64>,
    /// Servers that are not rotated any more, and whose `after` hook is owed.
    not_resumed: usize,
}

impl Collector for Fleet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let name = "snapring_config_last_reload_successful";
        let help = "Whether the last reload succeeded";
        encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(&i64::from(self.reloaded))?;
        let help = "Whether the store could be used when last tried";
        encoder
            .encode_descriptor("snapring_store_up", help, None, MetricType::Gauge)?
            .encode_gauge(&i64::from(self.store_is_up))?;
        let help = "Log lines lost because standard error was stuck or failed";
        encoder
            .encode_descriptor("snapring_log_lost_lines", help, None, MetricType::Counter)?
            .encode_counter::<[(&str, &str); 0], _, f64>(&self.lost_lines, None)?;

        let help = "Servers that are not rotated any more and that no after hook has resumed";
        encoder
            .encode_descriptor("snapring_not_resumed", help, None, MetricType::Gauge)?
            .encode_gauge(&whole(self.not_resumed))?;
        if !self.undelivered.is_empty() {
            let help = "Notices not accepted since the webhook last accepted one";
            let name = "snapring_notices_undelivered";
            let mut notices = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (to, count) in &self.undelivered {
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                notices.encode_family(&[("to", to.as_str())])?.encode_gauge(&count)?;
            }
        }
        if !self.covers.is_empty() {
            let help =
                "Whether the servers of an account with cover could be listed when last tried";
            let name = "snapring_cover_listed";
            let mut covers = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (account, problem) in &self.covers {
                let (labels, is_listed) = ([("account", account.name())], problem.is_none());
                covers.encode_family(&labels)?.encode_gauge(&i64::from(is_listed))?;
            }
        }
        if let Some(Coverage { uncovered, missing }) = &self.coverage {
            let help = "Servers of the account without a policy, and configured ones that it does not have";
            let mut servers =
                encoder.encode_descriptor("snapring_servers", help, None, MetricType::Gauge)?;
            for (state, servers_in_it) in [("uncovered", uncovered), ("missing", missing)] {
                let count = i64::try_from(servers_in_it.count).unwrap_or(i64::MAX);
                servers.encode_family(&[("state", state)])?.encode_gauge(&count)?;
            }
        }

        let help = "Rotations by outcome";
        let mut rotations =
            encoder.encode_descriptor("snapring_rotations", help, None, MetricType::Counter)?;
        for row in &self.rows {
            // All outcomes, also those that never came: a counter that begins with 1 has not grown.
            for (outcome, count) in row.status.ended.each() {
                let labels = [("server", row.server.name.as_str()), ("outcome", outcome.as_str())];
                let mut counter = rotations.encode_family(&labels)?;
                counter.encode_counter::<[(&str, &str); 0], _, f64>(&u64::from(count), None)?;
            }
        }

        self.facts(&mut encoder, "snapring_trouble", "Whether a server is in trouble", |row| {
            row.health.trouble().is_some()
        })?;
        let help = "Whether the last success is older than two intervals of the schedule";
        self.facts(&mut encoder, "snapring_stale", help, |row| row.is_stale)?;

        let name = "snapring_slots";
        let help = "Slots by what they hold, as the provider listed them last";
        let mut slots = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for row in &self.rows {
            for (state, count) in self::slots(row).into_iter().flatten() {
                let labels = [("server", row.server.name.as_str()), ("state", state)];
                slots.encode_family(&labels)?.encode_gauge(&i64::from(count))?;
            }
        }

        let name = "snapring_squeezed";
        let help =
            "Snapshots that keep asks for and that have no slot, because foreign ones hold it";
        let mut squeezed = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for row in &self.rows {
            let Some(count) = self::squeezed(row) else { continue };
            let labels = [("server", row.server.name.as_str())];
            squeezed.encode_family(&labels)?.encode_gauge(&i64::from(count))?;
        }

        let name = "snapring_duplicate_ticks";
        let help = "Ticks with more than one snapshot, as the provider listed them last";
        let mut ticks = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for row in &self.rows {
            let Some(ring) = &row.status.ring else { continue };
            let labels = [("server", row.server.name.as_str())];
            ticks.encode_family(&labels)?.encode_gauge(&i64::from(ring.duplicate_ticks()))?;
        }

        self.sums.encode(&mut encoder)?;
        self.times(
            &mut encoder,
            "snapring_last_success_timestamp",
            "When a rotation last succeeded",
            |row| row.status.last_success().map(|success| success.at),
        )?;
        self.times(
            &mut encoder,
            "snapring_last_rotation_timestamp",
            "When a rotation last ended, whatever its outcome",
            |row| row.status.last.as_ref().map(|ended| ended.at),
        )?;
        self.times(&mut encoder, "snapring_next_tick_timestamp", "The next tick", |row| {
            row.next.map(|(tick, _)| tick.instant())
        })?;
        self.times(
            &mut encoder,
            "snapring_snapshot_newest_timestamp",
            "When the newest completed managed snapshot was started",
            |row| Some(row.status.ring.as_ref()?.newest()?.created_at),
        )
    }
}

impl Fleet {
    /// Whether something is so, for each server that is enabled.
    fn facts(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&ServerView) -> bool,
    ) -> fmt::Result {
        let mut gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for row in self.rows.iter().filter(|row| row.server.enabled) {
            let labels = [("server", row.server.name.as_str())];
            gauge.encode_family(&labels)?.encode_gauge(&i64::from(of(row)))?;
        }
        Ok(())
    }

    /// A point in time for each server that has one.
    fn times(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&ServerView) -> Option<Timestamp>,
    ) -> fmt::Result {
        let unit = Unit::Seconds;
        let mut gauge = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Gauge)?;
        for row in &self.rows {
            let Some(time) = of(row) else { continue };
            let labels = [("server", row.server.name.as_str())];
            gauge.encode_family(&labels)?.encode_gauge(&seconds(time))?;
        }
        Ok(())
    }
}

/// Foreign are all that are not ours, pinned ones too: both use up slots that are not to be freed.
fn slots(row: &ServerView) -> Option<[(&'static str, u32); 3]> {
    let ring = row.status.ring.as_ref()?;
    let taken = ring.count(|_| true);
    let managed = ring.count(|holder| matches!(holder, Holder::Managed(_)));
    Some([
        ("managed", managed),
        ("foreign", taken.saturating_sub(managed)),
        ("free", row.server.policy.cap.saturating_sub(taken)),
    ])
}

fn squeezed(row: &ServerView) -> Option<u32> {
    Some(row.status.ring.as_ref()?.squeezed(&row.server.policy))
}

/// With milliseconds, as Unix time.
fn seconds(time: Timestamp) -> f64 {
    // Exact: milliseconds of this age fit into 53 bits.
    #[allow(clippy::cast_precision_loss, reason = "see above")]
    let milliseconds = time.as_millisecond() as f64;
    milliseconds / 1000.0
}

#[cfg(test)]
mod tests;
