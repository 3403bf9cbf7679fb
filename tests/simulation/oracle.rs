//! What the judge knows of names and retention, written anew: it shares no code with the product.

use std::collections::BTreeSet;
use std::fmt;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use snapring::sandbox::provider::StoredSnapshot;

/// What managed names begin with: the prefix that new ones get, then those that are adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefixes(pub Vec<String>);

impl fmt::Display for Prefixes {
    /// The one that new names get.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0[0])
    }
}

/// Whether a name is a managed one.
pub fn is_managed(prefixes: &Prefixes, name: &str) -> bool {
    tick_in(prefixes, name).is_some()
}

/// The tick in a managed name.
pub fn tick_in(prefixes: &Prefixes, name: &str) -> Option<Timestamp> {
    prefixes.0.iter().find_map(|prefix| tick_behind(prefix, name))
}

fn tick_behind(prefix: &str, name: &str) -> Option<Timestamp> {
    let stamp = name.strip_prefix(prefix)?.strip_prefix('-')?;
    let shape: String =
        stamp.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect();
    // jiff takes :60 for a leap second; no tick has one.
    if shape != "00000000T000000Z" || &stamp[13..15] == "60" {
        return None;
    }
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &stamp[0..4],
        &stamp[4..6],
        &stamp[6..8],
        &stamp[9..11],
        &stamp[11..13],
        &stamp[13..15]
    );
    text.parse().ok()
}

/// The ids that are the newest of these by one of three measures: the tick in the name, the provider's
/// time, the id. No clock decides which of them it is.
pub fn newest<'a>(
    prefix: &Prefixes,
    rows: impl Iterator<Item = &'a StoredSnapshot> + Clone,
) -> BTreeSet<u64> {
    let by_tick =
        rows.clone().max_by_key(|row| (tick_in(prefix, &row.name), row.created_at, row.id));
    let by_clock = rows.clone().max_by_key(|row| (row.created_at, row.id));
    let by_id = rows.max_by_key(|row| row.id);
    [by_tick, by_clock, by_id].into_iter().flatten().map(|row| row.id.0).collect()
}

/// Of managed snapshots, the (id, point in time) that retention counts: the time is the tick's, unless
/// the provider's is two days from it or more; several of one tick are one point in time, and the one
/// that the provider made last is it.
pub fn one_per_tick<'a>(
    prefix: &Prefixes,
    rows: impl Iterator<Item = &'a StoredSnapshot> + Clone,
) -> Vec<(u64, Timestamp)> {
    let is_newest = |row: &StoredSnapshot| {
        !rows.clone().any(|other| {
            tick_in(prefix, &other.name) == tick_in(prefix, &row.name)
                && (other.created_at, other.id) > (row.created_at, row.id)
        })
    };
    let point = |row: &StoredSnapshot| match tick_in(prefix, &row.name) {
        Some(tick)
            if tick.duration_since(row.created_at).abs() <= SignedDuration::from_hours(48) =>
        {
            tick
        }
        _ => row.created_at,
    };
    rows.clone().filter(|row| is_newest(row)).map(|row| (row.id.0, point(row))).collect()
}

/// `keep`, in the order last, hourly, daily, weekly, monthly, yearly.
pub type Keep = [u32; 6];

/// The ids that retention keeps of (id, made at), by the letter of the contract: each rule keeps
/// the newest of each of its N newest periods.
pub fn kept(snapshots: &[(u64, Timestamp)], keep: Keep, zone: &TimeZone) -> BTreeSet<u64> {
    let mut kept = BTreeSet::new();
    for (rule, count) in keep.into_iter().enumerate() {
        let label = |id: u64, at: Timestamp| {
            let local = at.to_zoned(zone.clone());
            match rule {
                0 => format!(
                    "{:024}",
                    u128::try_from(at.as_nanosecond()).unwrap() * 1000 + u128::from(id % 1000)
                ),
                1 => format!("{}", local.strftime("%Y-%m-%d %H %:z")),
                2 => format!("{}", local.strftime("%Y-%m-%d")),
                3 => format!("{}", local.strftime("%G-%V")),
                4 => format!("{}", local.strftime("%Y-%m")),
                _ => format!("{}", local.strftime("%Y")),
            }
        };
        // Each period by its newest snapshot; the periods by that, newest first.
        let mut periods: Vec<(String, Timestamp, u64)> = Vec::new();
        for (id, at) in snapshots {
            let name = label(*id, *at);
            match periods.iter_mut().find(|(period, ..)| *period == name) {
                Some((_, newest, of)) if (*newest, *of) < (*at, *id) => (*newest, *of) = (*at, *id),
                Some(_) => {}
                None => periods.push((name, *at, *id)),
            }
        }
        periods.sort_by_key(|(_, at, id)| std::cmp::Reverse((*at, *id)));
        kept.extend(periods.iter().take(count as usize).map(|(_, _, id)| *id));
    }
    kept
}
