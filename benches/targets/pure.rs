//! The pure parts, as large as they may get.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use snapring::memory::RingMemory;
use snapring::moment::Moment;
use snapring::naming::{ServerId, SnapshotId, Tick};
use snapring::plan::forecast::Plan;
use snapring::plan::{AskedBy, Progress, next_step};
use snapring::policy::{Keep, Policy};
use snapring::retention::{Candidate, retain};
use snapring::ring::Ring;
use snapring::schedule::Schedule;
use snapring::snapshot::{Listing, Snapshot, Status};
use snapring::{config, provider};
use url::Url;

const KEEP: Keep = Keep { last: 10, hourly: 24, daily: 30, weekly: 20, monthly: 24, yearly: 5 };

fn now() -> Timestamp {
    "2026-11-23T03:00:00Z".parse().expect("a time")
}

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").expect("it is bundled")
}

/// A managed snapshot, so many times six hours old.
fn snapshot(policy: &Policy, age: u64) -> Snapshot {
    let created_at = now() - SignedDuration::from_hours(6 * i64::try_from(age).expect("few"));
    Snapshot {
        id: SnapshotId(100_000 - age),
        server: ServerId::new(101),
        name: policy.prefix.name(Tick::at(created_at)).into(),
        status: Status::Completed,
        size_mb: Some(4096),
        created_at,
        description: None,
    }
}

fn policy(keep: Keep, cap: u32) -> Policy {
    Policy {
        prefix: "snapring".parse().expect("a prefix"),
        keep,
        time_zone: berlin(),
        cap,
        reserve: 0,
        pinned: BTreeSet::new(),
        to_restore: None,
        min_interval: Duration::from_secs(600),
    }
}

fn ring(policy: &Policy, snapshots: u64) -> Ring {
    let rows = (1..=snapshots).map(|age| snapshot(policy, age)).collect();
    let asked_at = Moment { wall: now(), uptime: Duration::ZERO };
    Ring::of(Listing::complete(ServerId::new(101), rows, asked_at), policy)
}

fn retention(criterion: &mut Criterion) {
    let policy = policy(KEEP, 2000);
    let candidates: Vec<Candidate> = (1..=1000)
        .map(|age| snapshot(&policy, age))
        .map(|row| Candidate { id: row.id, at: row.created_at })
        .collect();
    criterion.bench_function("retention of 1000 snapshots", |bencher| {
        bencher.iter(|| retain(black_box(&candidates), &policy.keep, &policy.time_zone));
    });
}

fn plan(criterion: &mut Criterion) {
    let lasting = Keep { last: 3, ..Keep::default() };
    for (snapshots, policy) in [(3, policy(lasting, 5)), (1000, policy(KEEP, 2000))] {
        let ring = ring(&policy, snapshots);
        let (tick, asked_by) = (Tick::at(now()), AskedBy::Schedule);
        criterion.bench_function(&format!("next step with {snapshots} snapshots"), |bencher| {
            let progress = Progress::default();
            bencher.iter(|| next_step(black_box(&ring), &policy, tick, asked_by, &progress, now()));
        });
        criterion.bench_function(&format!("forecast with {snapshots} snapshots"), |bencher| {
            let memory = RingMemory::default();
            bencher
                .iter(|| Plan::forecast(black_box(&ring), &policy, tick, asked_by, &memory, now()));
        });
    }
}

fn next_tick(criterion: &mut Criterion) {
    for text in ["0 3 * * *", "*/15 * * * *", "0 3 29 2 *"] {
        let schedule = Schedule::parse(text, berlin()).expect("a schedule");
        criterion.bench_function(&format!("next tick of {text}"), |bencher| {
            bencher.iter(|| schedule.next_after(black_box(now())));
        });
    }
}

fn listing(criterion: &mut Criterion) {
    let policy = policy(KEEP, 2000);
    let row = |nth: u64| {
        let row = snapshot(&policy, nth);
        json!({
            "id": row.id, "server": { "id": nth / 4, "name": format!("server-{}", nth / 4) },
            "name": row.name, "status": row.status, "size_mb": row.size_mb,
            "created_at": row.created_at, "description": "rotated by snapring",
        })
    };
    let rows: Vec<_> = (0..10_000).map(row).collect();
    let body = json!({ "count": rows.len(), "results": rows }).to_string();
    let base = Url::parse("https://api.example/api/v1/").expect("an address");
    criterion.bench_function("reading a listing of 10000 rows", |bencher| {
        bencher.iter(|| {
            provider::body::page(black_box(body.as_bytes()), &base, snapring::naming::Account::API)
                .expect("a page")
        });
    });
}

fn configuration(criterion: &mut Criterion) {
    let mut text = "[defaults]\nschedule = \"0 3 * * *\"\nkeep = 3\n".to_owned();
    for id in 1..=10_000 {
        writeln!(text, "[[server]]\nid = {id}\nname = \"web-{id}\"").expect("text");
    }
    criterion.bench_function("reading a configuration of 10000 servers", |bencher| {
        bencher.iter(|| config::parse("config.toml", black_box(&text)).expect("a configuration"));
    });
}

criterion_group! {
    name = pure;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(10));
    targets = retention, plan, next_tick, listing, configuration
}
criterion_main!(pure);
