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

/// The ids that retention keeps of (id, point in time), by the letter of the contract: rule by rule, the newest
/// of each period, of which those count that no rule before has kept; and the oldest of all for a rule that
/// has too few.
pub fn kept(snapshots: &[(u64, Timestamp)], keep: Keep, zone: &TimeZone) -> BTreeSet<u64> {
    let by_time = |it: &&(u64, Timestamp)| (it.1, it.0);
    let mut kept = BTreeSet::new();
    for (rule, slots) in keep.into_iter().enumerate().filter(|(_, slots)| *slots > 0) {
        let period = |(id, at): &(u64, Timestamp)| {
            let pattern = match rule {
                0 => return id.to_string(),
                1 => "%Y-%m-%d %H %:z",
                2 => "%Y-%m-%d",
                3 => "%G-%V",
                4 => "%Y-%m",
                _ => "%Y",
            };
            at.to_zoned(zone.clone()).strftime(pattern).to_string()
        };
        let stands_for_its_period = |it: &&(u64, Timestamp)| {
            let fellows = snapshots.iter().filter(|other| period(other) == period(it));
            fellows.max_by_key(by_time) == Some(*it)
        };
        let mut fresh: Vec<&(u64, Timestamp)> = snapshots
            .iter()
            .filter(stands_for_its_period)
            .filter(|(id, _)| !kept.contains(id))
            .collect();
        fresh.sort_by_key(by_time);
        let oldest_first = fresh.len().saturating_sub(slots as usize);
        let fills = fresh.split_off(oldest_first);
        if fills.len() < slots as usize {
            kept.extend(snapshots.iter().min_by_key(by_time).map(|(id, _)| *id));
        }
        kept.extend(fills.iter().map(|(id, _)| *id));
    }
    kept
}
