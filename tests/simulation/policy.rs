//! Random policies, as a person would write them, and what the judge knows of them.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use crate::calendar;
use crate::oracle::{Keep, Prefixes};

/// One server's policy.
#[derive(Debug, Clone)]
pub struct SimPolicy {
    pub id: u64,
    pub schedules: Vec<&'static str>,
    pub zone: &'static str,
    pub keep: Keep,
    pub prefix: Prefixes,
    pub cap: u32,
    pub reserve: u32,
    pub jitter: &'static str,
    pub catch_up: &'static str,
    pub min_interval: &'static str,
    pub pins: Vec<u64>,
    pub hooks: bool,
    pub enabled: bool,
}

const SCHEDULES: [&str; 10] = [
    "0 * * * *",
    "*/30 * * * *",
    "0 */3 * * *",
    "30 2 * * *",
    "0 3 * * *",
    "15 1,13 * * *",
    "0 0 * * mon",
    "0 4 * * tue,fri",
    "*/20 2 * * *",
    "5 */2 * * *",
];

const ZONES: [&str; 7] = [
    "Etc/UTC",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "America/New_York",
    "America/Havana",
    "Pacific/Apia",
    "Asia/Kathmandu",
];

pub fn pick<T: Copy>(random: &mut StdRng, of: &[T]) -> T {
    of[random.random_range(0..of.len())]
}

impl SimPolicy {
    pub fn random(id: u64, cap: u32, random: &mut StdRng) -> Self {
        let (keep, reserve) = loop {
            let mut keep: Keep = [0; 6];
            for count in &mut keep {
                if random.random_bool(0.4) {
                    *count = random.random_range(0..=cap.min(4));
                }
            }
            let reserve = if random.random_bool(0.3) { random.random_range(0..=2) } else { 0 };
            let total: u32 = keep.iter().sum();
            if total > 0 && total + reserve <= cap {
                break (keep, reserve);
            }
        };
        Self {
            id,
            schedules: random_schedules(random),
            zone: pick(random, &ZONES),
            keep,
            prefix: random_prefixes(random),
            cap,
            reserve,
            jitter: pick(random, &["0s", "0s", "10m", "40m"]),
            catch_up: pick(random, &["24h", "24h", "2h", "0s"]),
            min_interval: pick(random, &["10m", "0s", "45m"]),
            pins: Vec::new(),
            hooks: random.random_bool(0.3),
            enabled: true,
        }
    }

    /// The same server, but for what a person may change of a policy while it is in force.
    /// `present`: what could be pinned.
    pub fn edited(&self, present: &[u64], random: &mut StdRng) -> Self {
        let other = Self::random(self.id, self.cap, random);
        let mut edited = self.clone();
        match random.random_range(0..11) {
            0..4 => edited.schedules = other.schedules,
            4..6 => (edited.keep, edited.reserve) = (other.keep, other.reserve),
            6 => edited.zone = other.zone,
            7 => edited.min_interval = other.min_interval,
            8 => edited.enabled = !self.enabled,
            9 => edited.prefix = self.other_prefixes(random),
            _ if edited.pins.is_empty() && !present.is_empty() => {
                edited.pins = vec![pick(random, present)];
            }
            _ => edited.pins.clear(),
        }
        edited
    }

    /// Another prefix, with the ones from before adopted or not; or others adopted.
    fn other_prefixes(&self, random: &mut StdRng) -> Prefixes {
        let Prefixes(before) = &self.prefix;
        let mut prefixes = vec![pick(random, &PREFIXES).to_owned()];
        for prefix in before {
            if !prefixes.contains(prefix) && random.random_bool(0.7) {
                prefixes.push(prefix.clone());
            }
        }
        Prefixes(prefixes)
    }

    /// The ticks after `from`, up to `to`, in order.
    pub fn ticks(&self, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
        let each = self.schedules.iter().map(|it| calendar::ticks(it, &self.time_zone(), from, to));
        let together: BTreeSet<Timestamp> = each.flatten().collect();
        together.into_iter().collect()
    }

    /// The longest that a tick may wait for its start.
    pub fn jitter(&self) -> SignedDuration {
        match self.jitter {
            "0s" => SignedDuration::ZERO,
            "10m" => SignedDuration::from_mins(10),
            "40m" => SignedDuration::from_mins(40),
            other => panic!("not one of the simulated spans: {other}"),
        }
    }

    /// The least between two snapshots.
    pub fn min_interval(&self) -> SignedDuration {
        match self.min_interval {
            "0s" => SignedDuration::ZERO,
            "10m" => SignedDuration::from_mins(10),
            "45m" => SignedDuration::from_mins(45),
            other => panic!("not one of the simulated spans: {other}"),
        }
    }

    /// The first tick after `from` that is owed: not sooner than `min_interval`.
    fn owed_after(&self, from: Timestamp) -> Option<Timestamp> {
        let from =
            from + (self.min_interval() - SignedDuration::from_secs(1)).max(SignedDuration::ZERO);
        let within =
            |hours| self.ticks(from, from + SignedDuration::from_hours(hours)).first().copied();
        within(2).or_else(|| within(26)).or_else(|| within(8 * 24))
    }

    /// When two intervals have passed since a success, the longer of those that begin with its tick or
    /// with the next one.
    pub fn two_intervals_after(&self, tick: Timestamp, at: Timestamp) -> Option<Timestamp> {
        let first = self.owed_after(tick)?;
        let second = self.owed_after(first)?;
        let third = self.owed_after(second)?;
        Some(at + second.duration_since(tick).max(third.duration_since(first)))
    }

    /// No two intervals are longer, wherever they begin.
    pub fn longest_two_intervals(&self) -> SignedDuration {
        let longest = |schedule: &&str| match *schedule {
            "0 * * * *" | "*/30 * * * *" => 2,
            "0 */3 * * *" | "5 */2 * * *" => 4,
            "15 1,13 * * *" => 13,
            "30 2 * * *" | "0 3 * * *" | "*/20 2 * * *" => 25,
            "0 4 * * tue,fri" => 97,
            _ => 169,
        };
        let hours = self.schedules.iter().map(longest).min().unwrap_or(169);
        (SignedDuration::from_hours(hours) + self.min_interval()) * 2
    }

    pub fn toml(&self) -> String {
        let [last, hourly, daily, weekly, monthly, yearly] = self.keep;
        let hooks = if self.hooks { "hooks = { before = [\"q\"], after = [\"r\"] }\n" } else { "" };
        format!(
            "[[server]]\nid = {}\nschedule = {:?}\ntimezone = \"{}\"\nprefix = \"{}\"\nadopt_prefix = {:?}\n\
             keep = {{ last = {last}, hourly = {hourly}, daily = {daily}, weekly = {weekly}, \
             monthly = {monthly}, yearly = {yearly} }}\ncap = {}\nreserve = {}\njitter = \"{}\"\n\
             catch_up = \"{}\"\nmin_interval = \"{}\"\npin = {:?}\nenabled = {}\n{hooks}",
            self.id,
            self.schedules,
            self.zone,
            self.prefix,
            &self.prefix.0[1..],
            self.cap,
            self.reserve,
            self.jitter,
            self.catch_up,
            self.min_interval,
            self.pins,
            self.enabled
        )
    }

    pub fn time_zone(&self) -> TimeZone {
        TimeZone::get(self.zone).unwrap()
    }
}

const PREFIXES: [&str; 4] = ["snapring", "s", "snapring-x", "web_1"];

/// One, as most have, or with one that is adopted.
fn random_prefixes(random: &mut StdRng) -> Prefixes {
    let own = pick(random, &PREFIXES).to_owned();
    let adopted = random.random_bool(0.25).then(|| format!("{own}er"));
    Prefixes([own].into_iter().chain(adopted).collect())
}

/// One, as most have, or two, which may fall on one instant.
fn random_schedules(random: &mut StdRng) -> Vec<&'static str> {
    let mut schedules = vec![pick(random, &SCHEDULES)];
    if random.random_bool(0.2) {
        schedules.push(pick(random, &SCHEDULES));
        schedules.dedup();
    }
    schedules
}

/// A number that seeds something else.
pub fn seed(random: &mut StdRng) -> u64 {
    random.next_u64()
}
