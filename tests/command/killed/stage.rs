//! One case: the provider, the processes that live and die before it, and their story.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use nix::sys::signal::Signal;
use snapring::call::Operation;
use snapring::naming::{Prefix, ServerId, SnapshotId, Tick};
use snapring::sandbox::provider::StoredSnapshot;

use super::kill::{Kill, Place};
use super::scenario::{Command, Scenario};
use crate::machine::{Daemon, Machine, WEB};

pub const NEIGHBOUR: ServerId = ServerId::new(102);

/// One rotation's worth of a process's life.
#[derive(Debug)]
pub struct Part {
    pub title: String,
    /// The name of the snapshot that it is to make, where that is known before.
    pub own: Option<String>,
    /// What the server really had when it began.
    pub before: Vec<StoredSnapshot>,
    /// Which of the provider's calls fell into it.
    pub calls: Range<usize>,
    /// Which of the provider's acts.
    pub acts: Range<usize>,
}

pub struct Stage {
    pub scenario: Scenario,
    pub machine: Machine,
    /// The name of the missed tick's snapshot.
    pub missed: String,
    /// What may never be deleted.
    pub others: BTreeSet<SnapshotId>,
    pub neighbours: Vec<String>,
    pub parts: Vec<Part>,
    /// What the missed tick's life left behind, before a further tick.
    pub at_rest: Vec<StoredSnapshot>,
    /// What went wrong with the processes themselves.
    pub complaints: Vec<String>,
    lives: Vec<Daemon>,
}

impl Stage {
    pub async fn set(scenario: Scenario) -> Self {
        let machine = Machine::with(|options| {
            options.completion = scenario.completion..=scenario.completion;
            options.cap = scenario.cap;
            options.page_size = scenario.page_size;
            options.ignore_filter = scenario.page_size.is_some();
            // What a killed process had sent is over once its connection is.
            options.serves_closed_connections = false;
        })
        .await;
        // On a whole minute, an hour ago, so that the next tick is far off.
        let now = machine.clock.now().wall.as_second();
        let tick = jiff::Timestamp::from_second((now - 3600) / 60 * 60).unwrap();
        let prefix: Prefix = "snapring".parse().unwrap();
        let days_before = |days: i64| tick - SignedDuration::from_hours(24 * days);
        let name = |days: i64| prefix.name(Tick::at(days_before(days)));
        let add = |server, name: &str, status: &str, days: i64| {
            machine.sandbox.provider().add_snapshot(server, name, status, days_before(days))
        };
        let pinned = add(WEB, &name(20), "completed", 20);
        let mut others = BTreeSet::from([pinned]);
        for nth in 0..scenario.by_hand {
            let name = format!("snapring-web-2026010{}T000000Z", nth + 1);
            others.insert(add(WEB, &name, "completed", 10));
        }
        for (days, status) in scenario.managed {
            add(WEB, &name(*days), status, *days);
        }
        for days in [7, 8] {
            add(NEIGHBOUR, &name(days), "completed", days);
        }
        for fault in scenario.faults {
            machine.fault(fault);
        }
        let Scenario { cap, reserve, keep, settle, .. } = scenario;
        let at = tick.to_zoned(TimeZone::UTC);
        machine.configure_api(
            &format!("settle = \"{settle}\"\nretries = 1\ntimeout = \"5s\""),
            &format!(
                "[log]\nformat = \"json\"\nlevel = \"info,snapring=debug\"\n[[server]]\nid = 101\nname = \"web\"\n\
                 schedule = \"{} {} * * *\"\ntimezone = \"Etc/UTC\"\ncap = {cap}\nreserve = {reserve}\nkeep = {keep}\n\
                 pin = [{pinned}]\n",
                at.minute(),
                at.hour()
            ),
        );
        Self {
            scenario,
            missed: name(0),
            others,
            neighbours: machine.names(NEIGHBOUR),
            machine,
            parts: Vec::new(),
            at_rest: Vec::new(),
            complaints: Vec::new(),
            lives: Vec::new(),
        }
    }

    /// Lives and dies at each of the places, then lives on to the end of one further tick. Gives for
    /// each life to be killed whether it came to its place: a later one may have too little left to
    /// do, and is killed at rest. Fails when something does not come to pass.
    pub async fn play(&mut self, kills: &[Kill]) -> Result<Vec<bool>, String> {
        if self.scenario.command == Command::Rotate {
            // So that the lives to come fall into the second of the first one.
            self.machine.clock.next_second().await;
        }
        let mut killed = Vec::new();
        for (nth, kill) in (1..).zip(kills) {
            kill.arm(&mut self.machine.sandbox.provider());
            self.begin(format!("life {nth}, killed at {kill}"));
            let ends = |stage: &Self, life: &mut _| stage.is_at(*kill, life) || stage.rests(life);
            let came = self.until(ends).await;
            let mut life = self.lives.pop().unwrap();
            killed.push(self.is_at(*kill, &life));
            life.kill();
            self.lives.push(life);
            // What it sent last may still be on its way.
            let port = self.machine.sandbox.address().port();
            let gone = self.machine.comes_true(|| connections_to(port) == 0).await;
            Kill::disarm(&mut self.machine.sandbox.provider());
            self.end_part();
            if !gone {
                return Err("a dead life's connection stays open".to_owned());
            }
            if !came {
                return Err(format!("life {nth} came neither to {kill} nor to rest"));
            }
            if self.scenario.command == Command::Rotate {
                // While it is in progress nothing can take its slot: a full ring would be blocked.
                self.machine.comes_true(|| !self.is_in_progress()).await;
            }
        }
        self.begin("the last life".to_owned());
        let came = self.until(Self::rests).await;
        self.end_part();
        if !came {
            return Err("the last life never came to rest".to_owned());
        }
        self.at_rest = self.machine.rows(WEB);
        self.conclude().await?;
        Ok(killed)
    }

    /// A daemon must go on with the next tick; a person must have been told that all is well. Either
    /// has written one event for each call.
    async fn conclude(&mut self) -> Result<(), String> {
        let first_call = self.parts.last().unwrap().calls.start;
        match self.scenario.command {
            Command::Run => {
                let told = self.lives.last().unwrap().told("rotation");
                self.begin_part("one more tick".to_owned(), None);
                self.lives.last().unwrap().signal(Signal::SIGUSR1);
                let came = self.until(|_, life| life.told("rotation") > told).await;
                self.end_part();
                if !came {
                    return Err("the further tick never ended".to_owned());
                }
                let life = self.lives.last().unwrap();
                let last = life.events("rotation").pop().unwrap();
                if last["outcome"] != "rotated" {
                    self.complaints.push(format!("the further tick was not rotated: {last}"));
                }
            }
            Command::Rotate => {
                let code = self.lives.last_mut().unwrap().ended().await.code();
                if code != Some(0) {
                    self.complaints.push(format!("`rotate` ended with {code:?}"));
                }
            }
        }
        // The list of servers is no part of a rotation: it may be under way now.
        let provider = self.machine.sandbox.provider();
        let calls = provider.calls().range(first_call..);
        let calls = calls.filter(|it| it.operation != Some(Operation::Servers)).count();
        drop(provider);
        let events = self.lives.last().unwrap().events("api");
        let events = events.iter().filter(|it| it["operation"] != "servers").count();
        if events != calls {
            self.complaints.push(format!("S7: {events} events for {calls} calls of the last life"));
        }
        Ok(())
    }

    /// All parts with their calls, and what each life wrote.
    pub fn story(&self) -> String {
        let mut story = String::new();
        let calls = self.machine.sandbox.provider().calls().clone();
        for part in &self.parts {
            writeln!(story, "{}:", part.title).unwrap();
            for call in calls.range(part.calls.clone()) {
                let operation = call.operation.map_or("?", |operation| operation.as_str());
                let about = call.snapshot.as_deref().unwrap_or_default();
                let did = if call.acted { "acted" } else { "did nothing" };
                let status =
                    call.status.map_or("no answer".to_owned(), |status| status.to_string());
                writeln!(
                    story,
                    "  {} {operation} {about}: {status}, {did} {}",
                    call.at,
                    call.faults.join(" ")
                )
                .unwrap();
            }
        }
        for row in self.machine.rows(WEB) {
            writeln!(story, "is there: {} {} {}", row.id, row.name, row.status).unwrap();
        }
        for (nth, life) in (1..).zip(&self.lives) {
            writeln!(story, "life {nth} wrote:\n{}", life.log()).unwrap();
        }
        story
    }

    fn begin(&mut self, title: String) {
        let missed = (self.scenario.command == Command::Run).then(|| self.missed.clone());
        self.begin_part(title, missed);
        self.lives.push(match self.scenario.command {
            Command::Run => self.machine.daemon(),
            Command::Rotate => {
                self.machine.start(self.machine.command(&["rotate", "web"]), |_, _| {})
            }
        });
    }

    fn begin_part(&mut self, title: String, own: Option<String>) {
        let before = self.machine.rows(WEB);
        let provider = self.machine.sandbox.provider();
        let (call, act) = (provider.calls().len(), provider.acts().len());
        drop(provider);
        self.parts.push(Part { title, own, before, calls: call..call, acts: act..act });
    }

    fn end_part(&mut self) {
        let part = self.parts.last_mut().unwrap();
        let provider = self.machine.sandbox.provider();
        part.calls.end = provider.calls().len();
        part.acts.end = provider.acts().len();
    }

    async fn until(&mut self, mut so: impl FnMut(&Self, &mut Daemon) -> bool) -> bool {
        let mut life = self.lives.pop().unwrap();
        let came = || {
            self.end_lingering();
            so(self, &mut life)
        };
        let came = self.machine.comes_true(came).await;
        self.lives.push(life);
        came
    }

    /// What lingers goes from listings once the present life has asked for its deletion and has
    /// seen it listed after that.
    fn end_lingering(&self) {
        let mut provider = self.machine.sandbox.provider();
        let first = self.parts.last().unwrap().calls.start;
        let (mut asked, mut seen) = (None, None);
        for call in provider.calls().range(first..) {
            match (call.operation, call.status) {
                (Some(Operation::Delete), Some(204 | 404)) => asked.clone_from(&call.snapshot),
                (Some(Operation::List), Some(_)) => seen.clone_from(&asked),
                _ => {}
            }
        }
        if let Some(id) = seen {
            provider.remove_snapshot(SnapshotId(id.parse().unwrap()));
        }
    }

    fn is_in_progress(&self) -> bool {
        self.machine.rows(WEB).iter().any(|row| row.status == "in_progress")
    }

    /// Whether the present life is held where it is to be killed.
    fn is_at(&self, kill: Kill, life: &Daemon) -> bool {
        let nth = self.parts.last().unwrap().calls.start + kill.call - 1;
        let Some(call) = self.machine.sandbox.provider().calls().get(nth).cloned() else {
            return false;
        };
        match kill.place {
            Place::Unseen => true,
            Place::Acted => call.status.is_some(),
            Place::Answered => life.told("api") >= kill.call,
        }
    }

    /// Whether a process has nothing to do any more: a daemon has rotated for what was owed, or has
    /// found that nothing was.
    fn rests(&self, life: &mut Daemon) -> bool {
        match self.scenario.command {
            Command::Run => {
                life.told("rotation") > 0
                    || life.log().contains("nothing was missed or left in progress")
            }
            Command::Rotate => life.exit().is_some(),
        }
    }
}

/// How many connections to a local port somebody still holds an end of: the provider's ends are
/// closed once all that came over them has been dealt with.
fn connections_to(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    const CLOSED_BY_THE_OTHER_END: &str = "08";
    let port = format!(":{port:04X}");
    let open = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().take(4).collect();
        matches!(fields[..], [_, local, _, ESTABLISHED | CLOSED_BY_THE_OTHER_END] if local.ends_with(&port))
    };
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().filter(|line| line.contains(&port)).filter(open).count()
}
