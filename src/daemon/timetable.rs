//! Which server's rotation starts next: schedules' ticks fanned out to servers, spread by jitter.
//!
//! Pure book-keeping between the planner and the rotations. A server has at most one start waiting,
//! so a fleet costs one small entry a server, however its ticks fall.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Moment;
use crate::config::types::Server;
use crate::naming::{ServerId, Tick};
use crate::schedule::Schedule;
use crate::schedule::planner::Planner;

/// A tick later than this was missed, and `catch_up` says whether it still runs.
const ON_TIME: Duration = Duration::from_secs(60);

/// A rotation whose time has come.
#[derive(Debug, Clone)]
pub struct Start {
    /// Of which server.
    pub server: Arc<Server>,
    /// For which tick.
    pub tick: Tick,
}

/// A tick that will not run any more: it was missed longer ago than `catch_up` allows.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// Of which server.
    pub server: Arc<Server>,
    /// The tick.
    pub tick: Tick,
    /// How long ago it was.
    pub late: Duration,
}

/// What a look at the clock brought, beside the starts.
#[derive(Debug, Default)]
pub struct News {
    /// Ticks that came too late to run.
    pub dropped: Vec<Dropped>,
    /// How far the wall clock was stepped, if it was.
    pub step: Option<SignedDuration>,
}

/// All servers with their schedules, and the starts that wait for their time.
#[derive(Debug)]
pub struct Timetable {
    planner: Planner,
    servers: HashMap<ServerId, Arc<Server>>,
    subscribers: BTreeMap<Schedule, Vec<ServerId>>,
    waiting: HashMap<ServerId, (Timestamp, Tick)>,
    queue: BTreeSet<(Timestamp, ServerId)>,
}

impl Timetable {
    /// A timetable of these servers, counting from now.
    #[must_use]
    pub fn new(servers: &[Arc<Server>], now: Moment) -> Self {
        let mut timetable = Self {
            planner: Planner::new(now),
            servers: HashMap::new(),
            subscribers: BTreeMap::new(),
            waiting: HashMap::new(),
            queue: BTreeSet::new(),
        };
        timetable.set_servers(servers, now);
        timetable
    }

    /// Puts these servers in place of those from before. Schedules that stay go on as they were;
    /// starts that wait stay, but for servers that have gone.
    pub fn set_servers(&mut self, servers: &[Arc<Server>], now: Moment) {
        self.servers = servers.iter().map(|server| (server.id, Arc::clone(server))).collect();
        self.subscribers.clear();
        for server in servers {
            for schedule in &server.schedules {
                self.subscribers.entry(schedule.clone()).or_default().push(server.id);
            }
        }
        self.planner.set(self.subscribers.keys().cloned(), now);
        self.waiting.retain(|id, _| self.servers.contains_key(id));
        self.queue.retain(|(_, id)| self.servers.contains_key(id));
    }

    /// Whether something may be due. Costs little, and changes nothing.
    #[must_use]
    pub fn is_due(&self, now: Moment) -> bool {
        let ready = self.queue.first().is_some_and(|(start, _)| *start <= now.wall);
        ready || self.planner.must_be_polled(now)
    }

    /// Looks at the clock: fans out the ticks that have come.
    pub fn advance(&mut self, now: Moment) -> News {
        let poll = self.planner.poll(now);
        if let Some(step) = poll.step.filter(|step| step.is_negative()) {
            self.move_waiting(step);
        }
        let mut dropped = Vec::new();
        for due in poll.due {
            let ids = self.subscribers.get(&due.schedule).cloned().unwrap_or_default();
            for id in ids {
                let Some(server) = self.servers.get(&id) else { continue };
                if due.late > ON_TIME && due.late > server.catch_up {
                    let server = Arc::clone(server);
                    dropped.push(Dropped { server, tick: due.tick, late: due.late });
                    continue;
                }
                let start = server.starts_at(due.tick);
                self.wait(id, due.tick, start);
            }
        }
        News { dropped, step: poll.step }
    }

    /// The next start whose time has come, oldest first.
    pub fn take(&mut self, now: Moment) -> Option<Start> {
        while let Some((start, id)) = self.queue.first().copied() {
            if start > now.wall {
                return None;
            }
            self.queue.pop_first();
            let waited = self.waiting.remove(&id);
            if let (Some((_, tick)), Some(server)) = (waited, self.servers.get(&id)) {
                return Some(Start { server: Arc::clone(server), tick });
            }
        }
        None
    }

    /// When the next thing happens.
    #[must_use]
    pub fn earliest(&self) -> Option<Timestamp> {
        let start = self.queue.first().map(|(start, _)| *start);
        [start, self.planner.earliest()].into_iter().flatten().min()
    }

    /// A server's newest tick is the one that waits: an older one would be skipped as too soon
    /// or run into it.
    fn wait(&mut self, id: ServerId, tick: Tick, start: Timestamp) {
        if let Some((start_before, tick_before)) = self.waiting.get(&id).copied() {
            if tick_before >= tick {
                return;
            }
            self.queue.remove(&(start_before, id));
        }
        self.waiting.insert(id, (start, tick));
        self.queue.insert((start, id));
    }

    /// The clock went back: what waits keeps the rest of its wait.
    fn move_waiting(&mut self, step: SignedDuration) {
        for (start, _) in self.waiting.values_mut() {
            *start = start.checked_add(step).unwrap_or(*start);
        }
        self.queue = self.waiting.iter().map(|(id, (start, _))| (*start, *id)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Servers of a configuration whose `[[server]]` tables have these lines.
    fn servers(each: &[&str]) -> Vec<Arc<Server>> {
        let tables: Vec<String> = (1..)
            .zip(each)
            .map(|(id, lines)| format!("[[server]]\nid = {id}\nkeep = 3\n{lines}\n"))
            .collect();
        config::parse("test.toml", &tables.join("\n")).unwrap().settings.servers
    }

    fn moment(wall: &str, uptime_s: u64) -> Moment {
        Moment { wall: wall.parse().unwrap(), uptime: Duration::from_secs(uptime_s) }
    }

    fn taken(timetable: &mut Timetable, now: Moment) -> Vec<String> {
        std::iter::from_fn(|| timetable.take(now))
            .map(|start| format!("{} {}", start.server.id, start.tick))
            .collect()
    }

    #[test]
    fn one_schedule_serves_all_its_servers_and_jitter_spreads_them() {
        let line = "schedule = \"0 3 * * *\"\njitter = \"10m\"";
        let servers = servers(&[line; 200]);
        let mut timetable = Timetable::new(&servers, moment("2026-11-23T02:59:59Z", 0));
        timetable.advance(moment("2026-11-23T03:00:00Z", 1));
        let mut started = 0;
        for minute in 1..=10_u64 {
            let wall = format!("2026-11-23T03:{minute:02}:00Z");
            let count = taken(&mut timetable, moment(&wall, 1 + 60 * minute)).len();
            assert!((5..40).contains(&count), "{count} in minute {minute}");
            started += count;
        }
        assert_eq!(started, 200);
    }

    #[test]
    fn two_schedules_of_one_server_on_one_instant_start_it_once_for_the_newest_tick() {
        let servers = servers(&["schedule = [\"0 3 * * *\", \"*/30 * * * *\"]"]);
        let mut timetable = Timetable::new(&servers, moment("2026-11-23T02:00:00Z", 0));
        // Asleep from 02:00 to 03:40.
        let now = moment("2026-11-23T03:40:00Z", 1);
        timetable.advance(now);
        assert_eq!(taken(&mut timetable, now), ["1 2026-11-23T03:30:00Z"]);
    }

    #[test]
    fn a_missed_tick_runs_late_unless_catch_up_says_no() {
        let servers = servers(&[
            "schedule = \"0 3 * * *\"",
            "schedule = \"0 3 * * *\"\ncatch_up = \"0s\"",
            "schedule = \"0 3 * * *\"\ncatch_up = \"4h\"",
        ]);
        let mut timetable = Timetable::new(&servers, moment("2026-11-23T02:00:00Z", 0));
        let now = moment("2026-11-23T08:00:00Z", 1);
        let news = timetable.advance(now);
        let dropped: Vec<u64> = news.dropped.iter().map(|it| it.server.id.0).collect();
        assert_eq!(dropped, [2, 3]);
        assert_eq!(taken(&mut timetable, now), ["1 2026-11-23T03:00:00Z"]);
    }

    #[test]
    fn a_tick_a_few_seconds_late_is_on_time_even_without_catch_up() {
        let servers = servers(&["schedule = \"0 3 * * *\"\ncatch_up = \"0s\""]);
        let mut timetable = Timetable::new(&servers, moment("2026-11-23T02:59:00Z", 0));
        let now = moment("2026-11-23T03:00:30Z", 90);
        assert!(timetable.advance(now).dropped.is_empty());
        assert_eq!(taken(&mut timetable, now).len(), 1);
    }

    #[test]
    fn what_waits_does_not_wait_ten_years_when_the_clock_is_put_right() {
        let servers = servers(&["schedule = \"0 3 * * *\"\njitter = \"1h\""]);
        let mut timetable = Timetable::new(&servers, moment("2036-11-23T02:59:59Z", 0));
        timetable.advance(moment("2036-11-23T03:00:00Z", 1));
        timetable.advance(moment("2026-11-23T12:00:00Z", 2));
        let now = moment("2026-11-23T13:00:00Z", 3602);
        timetable.advance(now);
        assert_eq!(taken(&mut timetable, now), ["1 2036-11-23T03:00:00Z"]);
    }

    #[test]
    fn a_reload_keeps_what_waits_and_forgets_servers_that_have_gone() {
        let line = "schedule = \"0 3 * * *\"\njitter = \"10m\"";
        let all = servers(&[line, line]);
        let mut timetable = Timetable::new(&all, moment("2026-11-23T02:59:59Z", 0));
        timetable.advance(moment("2026-11-23T03:00:00Z", 1));
        timetable.set_servers(&all[..1], moment("2026-11-23T03:00:01Z", 2));
        let now = moment("2026-11-23T03:10:00Z", 601);
        timetable.advance(now);
        assert_eq!(taken(&mut timetable, now), ["1 2026-11-23T03:00:00Z"]);
    }

    #[test]
    fn a_hundred_thousand_servers_on_one_tick_all_start_and_leave_nothing_behind() {
        let template = servers(&["schedule = \"0 3 * * *\""]).remove(0);
        let fleet: Vec<Arc<Server>> = (1..=100_000)
            .map(|id| Arc::new(Server { id: ServerId(id), ..Server::clone(&template) }))
            .collect();
        let mut timetable = Timetable::new(&fleet, moment("2026-11-23T02:59:59Z", 0));
        let now = moment("2026-11-23T03:00:00Z", 1);
        assert!(timetable.is_due(now));
        timetable.advance(now);
        let mut started = 0;
        while timetable.take(now).is_some() {
            started += 1;
        }
        assert_eq!(started, 100_000);
        assert!(timetable.waiting.is_empty() && timetable.queue.is_empty());
        assert!(!timetable.is_due(moment("2026-11-23T03:00:01Z", 2)));
    }
}
