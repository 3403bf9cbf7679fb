//! What the tests of this crate share.

pub(crate) mod calendar;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::coverage::AccountServer;
use crate::naming::{ManagedPrefix, ServerId, SnapshotId};
use crate::policy::{Keep, Policy};
use crate::schedule::Schedule;
use crate::server::{CAP, Server};

/// Servers of the account of `[api]`, as the provider lists them.
pub(crate) fn account_servers(servers: &[(u64, &str)]) -> Vec<AccountServer> {
    let server = |(id, name): &(u64, &str)| AccountServer {
        id: ServerId::new(*id),
        name: (*name).into(),
        status: None,
        location: None,
    };
    servers.iter().map(server).collect()
}

/// A server that keeps three snapshots, with these lines of a `[[server]]` table.
pub(crate) fn server(id: u64, lines: &str) -> Arc<Server> {
    let table: toml::Table = lines.parse().unwrap();
    let text = |key: &str| table.get(key).and_then(|value| value.as_str());
    let span = |key: &str, default: Duration| {
        text(key).map_or(default, |text| humantime::parse_duration(text).unwrap())
    };
    let zone = TimeZone::get(text("timezone").unwrap_or("Etc/UTC")).unwrap();
    let schedule = |text: &str| Schedule::parse(text, zone.clone()).unwrap();
    let schedules = match table.get("schedule") {
        Some(toml::Value::Array(all)) => {
            all.iter().map(|one| schedule(one.as_str().unwrap())).collect()
        }
        _ => [schedule(text("schedule").unwrap_or("0 3 * * *"))].into(),
    };
    let pinned = table.get("pin").and_then(|pin| pin.as_array()).into_iter().flatten();
    let pinned = pinned.map(|id| SnapshotId(id.as_integer().unwrap().unsigned_abs())).collect();
    let adopted = table.get("adopt_prefix").and_then(|it| it.as_array()).into_iter().flatten();
    let adopted = adopted.map(|it| it.as_str().unwrap().parse().unwrap());
    Arc::new(Server {
        id: ServerId::new(id),
        name: text("name").map_or_else(|| format!("server-{id}"), str::to_owned),
        group: None,
        enabled: true,
        schedules,
        description: "".into(),
        jitter: span("jitter", Duration::ZERO),
        catch_up: span("catch_up", Duration::from_hours(24)),
        completion_timeout: Duration::from_mins(45),
        hooks: None,
        policy: Arc::new(Policy {
            prefix: ManagedPrefix::new(
                text("prefix").unwrap_or("snapring").parse().unwrap(),
                adopted.collect(),
            ),
            keep: Keep { last: 3, ..Keep::default() },
            time_zone: zone.clone(),
            cap: CAP,
            reserve: 0,
            pinned,
            to_restore: None,
            min_interval: span("min_interval", Duration::from_mins(10)),
        }),
    })
}
