//! Which server's rotation starts next: schedules' ticks fanned out to servers, spread by jitter.
//!
//! Pure book-keeping between the planner and the rotations. A server has at most one start waiting,
//! so a fleet costs one small entry a server, however its ticks fall.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::moment::Moment;
use crate::naming::{ServerId, Tick};
use crate::schedule::Schedule;
use crate::schedule::planner::Planner;
use crate::server::Server;

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

/// A tick that will not run.
#[derive(Debug, Clone)]
pub struct Dropped {
    /// Of which server.
    pub server: Arc<Server>,
    /// The tick.
    pub tick: Tick,
    /// Why not.
    pub why: DropReason,
}

/// Why a tick does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// It was missed, longer ago than `catch_up` allows.
    TooLate(Duration),
    /// A newer one came before its start.
    Overtaken(Tick),
}

/// The next rotation to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcoming {
    /// Its tick, or, once that has come, its start.
    pub at: Timestamp,
    /// Of which server, by name.
    pub server: String,
    /// The time zone of this server.
    pub zone: TimeZone,
    /// How many more servers have the same schedule, and so the same tick.
    pub more: usize,
}

/// What a look at the clock brought, beside the starts.
#[derive(Debug, Default)]
pub struct Advanced {
    /// Ticks that will not run.
    pub dropped: Vec<Dropped>,
    /// Schedules of which several ticks came at once, with how many will not run: a machine slept,
    /// a clock jumped.
    pub coalesced: Vec<(Schedule, u32)>,
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
    /// starts that wait stay, but for servers that have gone or have no such tick any more.
    pub fn set_servers(&mut self, servers: &[Arc<Server>], now: Moment) {
        self.servers = servers.iter().map(|server| (server.id, Arc::clone(server))).collect();
        self.subscribers.clear();
        for server in servers {
            for schedule in server.schedules.iter() {
                self.subscribers.entry(schedule.clone()).or_default().push(server.id);
            }
        }
        self.planner.set(self.subscribers.keys().cloned(), now);
        let servers = &self.servers;
        let stays = |id: &ServerId, tick| servers.get(id).is_some_and(|it| it.has_tick(tick));
        self.waiting.retain(|id, (_, tick)| stays(id, *tick));
        self.queue.retain(|(_, id)| self.waiting.contains_key(id));
    }

    /// Whether something may be due. Costs little, and changes nothing.
    #[must_use]
    pub fn is_due(&self, now: Moment) -> bool {
        let ready = self.queue.first().is_some_and(|(start, _)| *start <= now.wall);
        ready || self.planner.must_be_polled(now)
    }

    /// Looks at the clock: fans out the ticks that have come.
    pub fn advance(&mut self, now: Moment) -> Advanced {
        let poll = self.planner.poll(now);
        if let Some(step) = poll.step.filter(|step| step.is_negative()) {
            self.move_waiting(step);
        }
        let mut news = Advanced { step: poll.step, ..Advanced::default() };
        for due in poll.due {
            if due.missed > 0 {
                news.coalesced.push((due.schedule.clone(), due.missed));
            }
            for id in self.subscribers.get(&due.schedule).cloned().unwrap_or_default() {
                news.dropped.extend(self.wait(id, due.tick));
            }
        }
        news
    }

    /// The next start whose time has come, oldest first. A tick that was missed longer ago than its
    /// server's `catch_up` allows is not one: it goes to `dropped`.
    pub fn take(&mut self, now: Moment, dropped: &mut Vec<Dropped>) -> Option<Start> {
        while let Some((start, id)) = self.queue.first().copied().filter(|it| it.0 <= now.wall) {
            self.queue.pop_first();
            let waited = self.waiting.remove(&id);
            let (Some((_, tick)), Some(server)) = (waited, self.servers.get(&id)) else { continue };
            let server = Arc::clone(server);
            let late =
                |since| Duration::try_from(now.wall.duration_since(since)).unwrap_or_default();
            if late(start) > ON_TIME && late(tick.instant()) > server.catch_up {
                let why = DropReason::TooLate(late(tick.instant()));
                dropped.push(Dropped { server, tick, why });
                continue;
            }
            return Some(Start { server, tick });
        }
        None
    }

    /// A server's next rotation: its tick, and when it starts. Disabled servers have one too.
    #[must_use]
    pub fn next_of(&self, server: &Server) -> Option<(Tick, Timestamp)> {
        if let Some((start, tick)) = self.waiting.get(&server.id) {
            return Some((*tick, *start));
        }
        let next = |schedule| self.planner.next_tick(schedule);
        let tick = server.schedules.iter().filter_map(next).min()?;
        Some((tick, server.starts_at(tick)))
    }

    /// When the next thing happens.
    #[must_use]
    pub fn earliest(&self) -> Option<Timestamp> {
        let waiting = self.queue.first().map(|(start, _)| *start);
        [waiting, self.next_tick()].into_iter().flatten().min()
    }

    /// The next tick of any schedule, whatever waits for the start that jitter gave it.
    #[must_use]
    pub fn next_tick(&self) -> Option<Timestamp> {
        self.planner.earliest()
    }

    /// The next rotation.
    #[must_use]
    pub fn upcoming(&self) -> Option<Upcoming> {
        let upcoming = |at, id: &ServerId, more| {
            let server = self.servers.get(id)?;
            let zone = server.policy.time_zone.clone();
            Some(Upcoming { at, server: server.name.clone(), zone, more })
        };
        let waiting = self.queue.first().and_then(|(at, id)| upcoming(*at, id, 0));
        let planned = self.planner.next().and_then(|(at, schedule)| {
            let servers = self.subscribers.get(schedule)?;
            upcoming(at, servers.first()?, servers.len() - 1)
        });
        [waiting, planned].into_iter().flatten().min_by_key(|upcoming| upcoming.at)
    }

    /// Lets a tick wait for its start. A server's newest tick is the one that runs; it takes the
    /// start of an older one that still waits, so that ticks closer together than the jitter do not
    /// put each other off for ever. Gives the tick that will not run.
    fn wait(&mut self, id: ServerId, tick: Tick) -> Option<Dropped> {
        let server = Arc::clone(self.servers.get(&id)?);
        let mut start = server.starts_at(tick);
        let before = self.waiting.get(&id).copied();
        if let Some((start_before, tick_before)) = before {
            if tick_before >= tick {
                let why = DropReason::Overtaken(tick_before);
                return (tick_before > tick).then_some(Dropped { server, tick, why });
            }
            self.queue.remove(&(start_before, id));
            start = start.min(start_before);
        }
        self.waiting.insert(id, (start, tick));
        self.queue.insert((start, id));
        before.map(|(_, older)| Dropped { server, tick: older, why: DropReason::Overtaken(tick) })
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
    use crate::testing;

    /// Servers of a configuration whose `[[server]]` tables have these lines.
    fn servers(each: &[&str]) -> Vec<Arc<Server>> {
        (1..).zip(each).map(|(id, lines)| testing::server(id, lines)).collect()
    }

    fn moment(wall: &str, uptime_s: u64) -> Moment {
        Moment { wall: wall.parse().unwrap(), uptime: Duration::from_secs(uptime_s) }
    }

    fn taken(timetable: &mut Timetable, now: Moment) -> Vec<String> {
        std::iter::from_fn(|| timetable.take(now, &mut Vec::new()))
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
    fn what_comes_next_is_the_tick_and_then_the_start_that_jitter_gives() {
        let servers = servers(&[
            "schedule = \"0 4 * * *\"",
            "name = \"web\"\nschedule = \"0 3 * * *\"\njitter = \"10m\"",
            "schedule = \"0 3 * * *\"",
        ]);
        let mut timetable = Timetable::new(&servers, moment("2026-11-23T02:00:00Z", 0));
        let upcoming = |timetable: &Timetable| {
            let Upcoming { at, server, more, .. } = timetable.upcoming().unwrap();
            format!("{at} {server} +{more}")
        };
        assert_eq!(upcoming(&timetable), "2026-11-23T03:00:00Z web +1");
        let now = moment("2026-11-23T03:00:00Z", 3600);
        timetable.advance(now);
        while timetable.take(now, &mut Vec::new()).is_some() {}
        let start = servers[1].starts_at(Tick::at(now.wall));
        assert!(start > now.wall);
        assert_eq!(upcoming(&timetable), format!("{start} web +0"));
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
        timetable.advance(now);
        let mut dropped = Vec::new();
        let start = timetable.take(now, &mut dropped).unwrap();
        assert_eq!(
            (start.server.id.number, start.tick.to_string().as_str()),
            (1, "2026-11-23T03:00:00Z")
        );
        assert!(timetable.take(now, &mut dropped).is_none());
        let dropped: Vec<u64> = dropped.iter().map(|it| it.server.id.number).collect();
        assert_eq!(dropped, [2, 3]);
    }

    #[test]
    fn a_machine_that_slept_through_the_jitter_heeds_catch_up_too() {
        let line = "schedule = \"0 3 * * *\"\njitter = \"1h\"\ncatch_up = \"0s\"";
        let servers = servers(&[line]);
        let mut timetable = Timetable::new(&servers, moment("2026-11-23T02:59:59Z", 0));
        timetable.advance(moment("2026-11-23T03:00:00Z", 1));
        let now = moment("2026-11-24T02:00:00Z", 2);
        timetable.advance(now);
        let mut dropped = Vec::new();
        assert!(timetable.take(now, &mut dropped).is_none());
        assert!(matches!(dropped[0].why, DropReason::TooLate(late) if late.as_secs() == 23 * 3600));
    }

    #[test]
    fn ticks_closer_together_than_the_jitter_do_not_put_each_other_off() {
        let servers =
            servers(&["schedule = \"*/5 * * * *\"\njitter = \"1h\"\nmin_interval = \"0s\""]);
        let mut timetable = Timetable::new(&servers, moment("2026-11-23T00:00:00Z", 0));
        let (mut started, mut overtaken) = (0, 0);
        for minute in 1..=24 * 60_u64 {
            let wall = "2026-11-23T00:00:00Z".parse::<Timestamp>().unwrap()
                + SignedDuration::from_mins(i64::try_from(minute).unwrap());
            let now = Moment { wall, uptime: Duration::from_secs(60 * minute) };
            overtaken += timetable.advance(now).dropped.len();
            while timetable.take(now, &mut Vec::new()).is_some() {
                started += 1;
            }
        }
        assert!(started >= 48, "{started} starts in a day");
        let waiting = timetable.waiting.len();
        assert_eq!(started + overtaken + waiting, 288, "each tick ran, waits, or is told of");
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
    fn a_tick_of_a_schedule_that_was_edited_away_does_not_run() {
        let before = servers(&["schedule = \"0 3 * * *\"\njitter = \"1h\""]);
        let after = servers(&["schedule = \"0 12 * * *\"\njitter = \"1h\""]);
        let mut timetable = Timetable::new(&before, moment("2026-11-23T02:59:59Z", 0));
        timetable.advance(moment("2026-11-23T03:00:00Z", 1));
        timetable.set_servers(&after, moment("2026-11-23T03:00:01Z", 2));
        let now = moment("2026-11-23T04:00:00Z", 3601);
        timetable.advance(now);
        assert_eq!(taken(&mut timetable, now), Vec::<String>::new());
    }

    #[test]
    fn a_hundred_thousand_servers_on_one_tick_all_start_and_leave_nothing_behind() {
        let template = servers(&["schedule = \"0 3 * * *\""]).remove(0);
        let fleet: Vec<Arc<Server>> = (1..=100_000)
            .map(|id| Arc::new(Server { id: ServerId::new(id), ..Server::clone(&template) }))
            .collect();
        let mut timetable = Timetable::new(&fleet, moment("2026-11-23T02:59:59Z", 0));
        let now = moment("2026-11-23T03:00:00Z", 1);
        assert!(timetable.is_due(now));
        timetable.advance(now);
        let mut started = 0;
        while timetable.take(now, &mut Vec::new()).is_some() {
            started += 1;
        }
        assert_eq!(started, 100_000);
        assert!(timetable.waiting.is_empty() && timetable.queue.is_empty());
        assert!(!timetable.is_due(moment("2026-11-23T03:00:01Z", 2)));
    }
}
