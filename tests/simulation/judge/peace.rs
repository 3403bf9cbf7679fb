//! What must hold once the faults have ended: each tick is run, on time and with success, and
//! after the first one the ring is as its policy wants it (L1).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use snapring::report::{Report, RotationOutcome};
use snapring::sandbox::provider::StoredSnapshot;

use crate::judge::Judge;
use crate::machine::SlowScheduler;
use crate::oracle::{is_managed, kept, newest, one_per_tick, tick_in};
use crate::policy::SimPolicy;

/// Since faults ended.
#[derive(Debug)]
pub struct Peace {
    since: Timestamp,
    /// The ticks that were reported, a server.
    reported: BTreeMap<u64, BTreeSet<Timestamp>>,
    /// Servers that had their first whole rotation.
    whole: BTreeSet<u64>,
    /// Servers of which a person had to decide what a snapshot is.
    decided: BTreeSet<u64>,
}

impl Judge {
    /// Faults have ended, and people have gone home.
    pub fn peace_begins(&mut self, since: Timestamp) {
        let (reported, whole, decided) = Default::default();
        self.peace = Some(Peace { since, reported, whole, decided });
        self.tell(|| format!("{since} peace"));
    }

    /// A rotation has ended at `now`, and left the server with these snapshots. Gives those that a person
    /// now deletes: the report asks for that, once for each server. Whether one that was completed and reads as
    /// failed can be used, only a person can find out.
    pub fn reported_at_peace(
        &mut self,
        report: &Report,
        now: Timestamp,
        rows: &[StoredSnapshot],
    ) -> Vec<u64> {
        let server = report.server_id.number;
        let tick = report.tick.instant();
        let Some(peace) = self.peace.as_mut().filter(|peace| tick > peace.since) else {
            return Vec::new();
        };
        let Some(policy) = self.rings.get(&server).and_then(|ring| ring.policies.last().cloned())
        else {
            return Vec::new();
        };
        let perhaps_its_own = [perhaps_its_own(report), perhaps_lost(report)].concat();
        let decides = !perhaps_its_own.is_empty() && peace.decided.insert(server);
        peace.reported.entry(server).or_default().insert(tick);
        let since = peace.since;
        let good = report.outcome.is_good();
        let first = good && peace.whole.insert(server);
        if first {
            // One that a clock ahead of its time made for this tick is adopted as it is.
            let made = report.outcome == RotationOutcome::Rotated;
            let own = format!("{}-{}", policy.prefix, tick.strftime("%Y%m%dT%H%M%SZ"));
            let oldest = if made { since } else { Timestamp::MIN };
            self.ring_is_as_asked(server, rows, &own, oldest, now);
        }
        let took = SignedDuration::from_millis(i64::try_from(report.duration_ms).unwrap());
        let late = now.duration_since(tick) - took;
        let beat = SignedDuration::try_from(SlowScheduler::BEAT).unwrap();
        if late.is_negative() || late > policy.jitter() + beat {
            self.violated("Time", format!("{server} began {tick} with {late:#} of delay"));
        }
        let excused = match report.outcome {
            // What a delete in the time of faults did not do shows now.
            RotationOutcome::Failed => {
                let reason = report.reason.as_deref().unwrap_or_default();
                // And a failed snapshot stays for five minutes, whatever the schedule.
                reason.contains("but still lists it") || reason.contains("listed as failed for")
            }
            RotationOutcome::Blocked => !room_can_be_made(&policy, rows, &self.known(server), now),
            RotationOutcome::Skipped => {
                let running =
                    report.reason.as_deref().is_some_and(|it| it.contains("still running"));
                let has_run =
                    report.reason.as_deref().is_some_and(|it| it.contains("has already run"));
                running || has_run || another_is_near(&policy, rows, tick, now)
            }
            RotationOutcome::Rotated | RotationOutcome::Adopted => true,
        };
        if !excused && !decides {
            let words = format!("{server} {:?} at peace: {:?}", report.outcome, report.reason);
            self.violated("L1", words);
        }
        if decides { perhaps_its_own } else { Vec::new() }
    }

    /// The end of the world: every tick of each server was run, or a later one in its place that
    /// came before its start.
    pub fn every_tick_was_run(&mut self, server: u64, rows: &[StoredSnapshot], now: Timestamp) {
        let Some(policy) = self.rings.get(&server).and_then(|ring| ring.policies.last().cloned())
        else {
            return;
        };
        let Some(peace) = &self.peace else { return };
        let waits_for_a_tick = peace.decided.contains(&server) && !peace.whole.contains(&server);
        let (since, jitter) = (peace.since, policy.jitter());
        let reported = peace.reported.get(&server).cloned().unwrap_or_default();
        // One that came just now may wait for its start, or be under way.
        let settled = now - jitter - SignedDuration::from_mins(30);
        // The first whole minute: the daemon may have started in the middle of this one.
        for tick in policy.ticks(since + SignedDuration::from_secs(60), settled) {
            if reported.range(tick..=tick + jitter).next().is_none() {
                self.violated("Time", format!("the tick {tick} of {server} was never run"));
            }
        }
        for tick in &reported {
            if policy.ticks(*tick - SignedDuration::from_secs(1), *tick).is_empty() {
                self.violated("Time", format!("{tick} is no tick of {server}, and was run"));
            }
        }
        // A person has decided, and there was no tick since then.
        if waits_for_a_tick {
            return;
        }
        // The longest distance of two ticks is a week.
        let oldest = now - SignedDuration::from_hours(7 * 24 + 3);
        self.ring_is_as_asked(server, rows, "", oldest, now);
    }

    /// The ring as its policy wants it, with a snapshot that is no older than `oldest`. What the
    /// rotation itself made or adopted, the newest called `own`, stays in any case; older ones of
    /// that name, as of any, do not.
    fn ring_is_as_asked(
        &mut self,
        server: u64,
        rows: &[StoredSnapshot],
        own: &str,
        oldest: Timestamp,
        now: Timestamp,
    ) {
        let Some(policy) = self.rings.get(&server).and_then(|ring| ring.policies.last().cloned())
        else {
            return;
        };
        let managed: Vec<&StoredSnapshot> =
            rows.iter().filter(|row| is_its_own(&policy, row)).collect();
        // One that is the newest and alone in its room is not given up for a new one.
        if room(&policy, rows) < 2 {
            return;
        }
        let shown = || {
            let each: Vec<String> =
                rows.iter().map(|row| format!("{} {} {}", row.id, row.name, row.status)).collect();
            format!(
                "server {server} keeps {:?} of {}, has {}",
                policy.keep,
                policy.cap,
                each.join(", ")
            )
        };
        let known = self.known(server);
        // One that was completed once is never deleted as failed.
        let is_left = |row: &&StoredSnapshot| {
            row.status == "failed" && !known.seen_completed.contains(&row.id.0)
        };
        // And one that was first seen by this rotation goes with the next, five minutes later or more.
        let room = room_can_be_made(&policy, rows, &known, now);
        if own.is_empty() && room && managed.iter().any(is_left) {
            let words = format!("a failed one is left: {}", shown());
            self.violated("L1", words);
        }
        let completed = managed.iter().copied().filter(|row| row.status == "completed");
        let newest_at = completed.clone().map(|row| row.created_at).max();
        let (mut protected, mut keep) = (BTreeSet::new(), BTreeSet::new());
        for rows in known.readings(rows) {
            let completed =
                rows.iter().filter(|row| is_its_own(&policy, row) && row.status == "completed");
            protected.extend(newest(&policy.prefix, completed.clone()));
            let counted = one_per_tick(&policy.prefix, completed);
            keep.extend(kept(&counted, policy.keep, &policy.time_zone()));
        }
        let completed = one_per_tick(&policy.prefix, completed);
        if newest_at.is_none_or(|newest| newest < oldest)
            && room_can_be_made(&policy, rows, &known, now)
        {
            let words = format!("no fresh one: {}", shown());
            self.violated("L1", words);
        }
        let is_own = |row: &StoredSnapshot| {
            row.name == own && completed.iter().any(|(id, _)| *id == row.id.0)
        };
        // A rotation that is blocked changes nothing.
        let is_blocked = own.is_empty() && !room_can_be_made(&policy, rows, &known, now);
        let may_stay =
            |row: &StoredSnapshot| protected.contains(&row.id.0) || is_own(row) || is_blocked;
        if managed
            .iter()
            .any(|row| row.status == "completed" && !keep.contains(&row.id.0) && !may_stay(row))
        {
            let words = format!("more than the policy asks for: {}", shown());
            self.violated("L1", words);
        }
    }
}

/// The ids of snapshots that a report calls perhaps the server's own, under another name.
fn perhaps_its_own(report: &Report) -> Vec<u64> {
    let reason = report.reason.as_deref().unwrap_or_default();
    let before = |words: &str| reason.split_once(words).map(|(before, _)| before);
    let found = before(" may be snapring's own").and_then(|it| it.rsplit("; ").next());
    let listed = found.or_else(|| before(" may be the snapshot of this tick")).unwrap_or_default();
    let in_brackets = listed.split('(').skip(1).filter_map(|it| it.split(')').next());
    in_brackets.filter_map(|id| id.parse().ok()).collect()
}

/// The ids of snapshots that were completed and are listed as failed, of which a blocked rotation says that a person
/// must decide, and how.
fn perhaps_lost(report: &Report) -> Vec<u64> {
    let reason = report.reason.as_deref().unwrap_or_default();
    let parts = reason.split("; ").filter(|it| it.contains(" was completed and is now listed as"));
    let command = parts.filter_map(|it| it.split_once("`snapring delete ")?.1.split('`').next());
    command.filter_map(|id| id.parse().ok()).collect()
}

/// What the judge knows of a server beyond its rows.
struct Known {
    seen_completed: BTreeSet<u64>,
    made: BTreeSet<u64>,
}

impl Known {
    /// Whether it is foreign, and the server's own create made it.
    fn has_strayed(&self, policy: &SimPolicy, row: &StoredSnapshot) -> bool {
        !is_managed(&policy.prefix, &row.name)
            && !policy.pins.contains(&row.id.0)
            && self.made.contains(&row.id.0)
    }

    /// One that was completed and is listed as failed counts as completed, for who remembers; a process
    /// that begins anew without a store takes it for failed.
    fn readings(&self, rows: &[StoredSnapshot]) -> [Vec<StoredSnapshot>; 2] {
        let remembered = rows.iter().map(|row| {
            let mut row = row.clone();
            if row.status == "failed" && self.seen_completed.contains(&row.id.0) {
                row.status = "completed".to_owned();
            }
            row
        });
        [rows.to_vec(), remembered.collect()]
    }
}

impl Judge {
    fn known(&self, server: u64) -> Known {
        let ring = self.rings.get(&server);
        Known {
            seen_completed: ring.map(|it| it.perhaps_seen_completed.clone()).unwrap_or_default(),
            made: ring.map(|it| it.made.clone()).unwrap_or_default(),
        }
    }
}

fn is_its_own(policy: &SimPolicy, row: &StoredSnapshot) -> bool {
    is_managed(&policy.prefix, &row.name) && !policy.pins.contains(&row.id.0)
}

/// How many of its own a server may have at once.
fn room(policy: &SimPolicy, rows: &[StoredSnapshot]) -> u32 {
    let others = rows.iter().filter(|row| !is_its_own(policy, row)).count();
    policy.cap.saturating_sub(policy.reserve.max(u32::try_from(others).unwrap()))
}

/// Whether room can be made by the contract's word: there are enough that failed, or that are not
/// the newest completed and have a newer one of their name, go by `keep` once a new one is there, or
/// are squeezed by others.
/// Nothing completed is given up while something foreign is there that its own create has made.
fn room_can_be_made(
    policy: &SimPolicy,
    rows: &[StoredSnapshot],
    known: &Known,
    now: Timestamp,
) -> bool {
    known.readings(rows).iter().all(|rows| room_can_be_made_of(policy, rows, known, now))
}

fn room_can_be_made_of(
    policy: &SimPolicy,
    rows: &[StoredSnapshot],
    known: &Known,
    now: Timestamp,
) -> bool {
    const NEW: u64 = u64::MAX;
    let own: Vec<&StoredSnapshot> = rows.iter().filter(|row| is_its_own(policy, row)).collect();
    let failed = own.iter().filter(|row| row.status == "failed").count();
    let has_strays = rows.iter().any(|row| known.has_strayed(policy, row));
    let completed = own.iter().copied().filter(|row| row.status == "completed");
    let newest = newest(&policy.prefix, completed.clone());
    let mut candidates = one_per_tick(&policy.prefix, completed.clone());
    let latest = candidates.iter().map(|(_, at)| *at).max();
    candidates.push((NEW, latest.map_or(now, |at| now.max(at))));
    let kept = kept(&candidates, policy.keep, &policy.time_zone());
    let squeezed = rows.len() - own.len() > policy.reserve as usize;
    let may_go = completed
        .filter(|row| {
            !newest.contains(&row.id.0) && !has_strays && (squeezed || !kept.contains(&row.id.0))
        })
        .count();
    let room = room(policy, rows) as usize;
    room > 0 && failed + may_go >= (own.len() + 1).saturating_sub(room)
}

/// Whether a tick may be skipped for another one's snapshot: one within `min_interval`, or of a
/// later tick that has come.
pub fn another_is_near(
    policy: &SimPolicy,
    rows: &[StoredSnapshot],
    tick: Timestamp,
    now: Timestamp,
) -> bool {
    let min_interval = policy.min_interval();
    rows.iter().filter(|row| row.status != "failed").any(|row| {
        tick_in(&policy.prefix, &row.name).is_some_and(|other| {
            other.duration_since(tick).abs() < min_interval || (tick < other && other <= now)
        })
    })
}
