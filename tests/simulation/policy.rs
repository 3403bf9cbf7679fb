//! Random policies, as a person would write them, and what the judge knows of them.

use jiff::tz::TimeZone;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use crate::oracle::Keep;

/// One server's policy.
#[derive(Debug, Clone)]
pub struct SimPolicy {
    pub id: u64,
    pub schedule: String,
    pub zone: &'static str,
    pub keep: Keep,
    pub prefix: String,
    pub cap: u32,
    pub reserve: u32,
    pub jitter: &'static str,
    pub catch_up: &'static str,
    pub min_interval: &'static str,
    pub pins: Vec<u64>,
    pub hooks: bool,
}

const SCHEDULES: [&str; 9] = [
    "0 * * * *",
    "*/30 * * * *",
    "0 */3 * * *",
    "30 2 * * *",
    "0 3 * * *",
    "15 1,13 * * *",
    "0 0 * * mon",
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
            schedule: pick(random, &SCHEDULES).to_owned(),
            zone: pick(random, &ZONES),
            keep,
            prefix: pick(random, &["snapring", "s", "snapring-x", "web_1"]).to_owned(),
            cap,
            reserve,
            jitter: pick(random, &["0s", "0s", "10m", "40m"]),
            catch_up: pick(random, &["24h", "24h", "2h", "0s"]),
            min_interval: pick(random, &["10m", "0s", "45m"]),
            pins: Vec::new(),
            hooks: random.random_bool(0.3),
        }
    }

    /// The same server with another schedule and retention.
    pub fn edited(&self, random: &mut StdRng) -> Self {
        let other = Self::random(self.id, self.cap, random);
        let reserve = self.reserve;
        let fits = other.keep.iter().sum::<u32>() + reserve <= self.cap;
        Self {
            schedule: other.schedule,
            keep: if fits { other.keep } else { self.keep },
            ..self.clone()
        }
    }

    pub fn toml(&self) -> String {
        let [last, hourly, daily, weekly, monthly, yearly] = self.keep;
        let hooks = if self.hooks { "hooks = { before = [\"q\"], after = [\"r\"] }\n" } else { "" };
        format!(
            "[[server]]\nid = {}\nschedule = \"{}\"\ntimezone = \"{}\"\nprefix = \"{}\"\n\
             keep = {{ last = {last}, hourly = {hourly}, daily = {daily}, weekly = {weekly}, \
             monthly = {monthly}, yearly = {yearly} }}\ncap = {}\nreserve = {}\njitter = \"{}\"\n\
             catch_up = \"{}\"\nmin_interval = \"{}\"\npin = {:?}\n{hooks}",
            self.id,
            self.schedule,
            self.zone,
            self.prefix,
            self.cap,
            self.reserve,
            self.jitter,
            self.catch_up,
            self.min_interval,
            self.pins
        )
    }

    pub fn time_zone(&self) -> TimeZone {
        TimeZone::get(self.zone).unwrap()
    }
}

/// A number that seeds something else.
pub fn seed(random: &mut StdRng) -> u64 {
    random.next_u64()
}
