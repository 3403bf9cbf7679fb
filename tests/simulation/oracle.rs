//! What the judge knows of names and retention, written anew: it shares no code with the product.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Whether a name is the managed one of this prefix.
pub fn is_managed(prefix: &str, name: &str) -> bool {
    tick_in(prefix, name).is_some()
}

/// The tick in a managed name.
pub fn tick_in(prefix: &str, name: &str) -> Option<Timestamp> {
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

/// Of (name, id, made at), the (id, made at) that retention counts: several of one name are one
/// point in time, and the newest of them is it.
pub fn one_per_name(snapshots: &[(&str, u64, Timestamp)]) -> Vec<(u64, Timestamp)> {
    let is_newest = |name: &str, id: u64, at: Timestamp| {
        !snapshots.iter().any(|other| other.0 == name && (other.2, other.1) > (at, id))
    };
    snapshots
        .iter()
        .filter(|(name, id, at)| is_newest(name, *id, *at))
        .map(|(_, id, at)| (*id, *at))
        .collect()
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
