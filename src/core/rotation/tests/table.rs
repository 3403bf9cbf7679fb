//! Reads a story: rows of `what happened | what is done next`, after a line of `begin`.
//!
//! `begin` takes `person` (who asked for it), `disabled`, `before` and `after` (hooks), `unknown` (never listed), `earlier=SPAN`
//! (a create from before settles then), `next=SPAN` (the next rotation starts then), `retries=N`.
//! `+SPAN` before an event lets time pass. A listing is in words, a day apart: `c` completed, `f`
//! failed, `p` in progress (managed), `H` by hand, `-` one that has gone, `own`, `own~` and `own!` the tick's own one:
//! completed, in progress, failed; `~SPAN` and `=SPAN` one of the tick so long before, in progress and completed, with
//! the id 98; `x`, `x~` and `y` the same under other names. Ids count from 1; the own
//! one is 99. `throttled` may be followed by the span that the provider asks to wait.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;

use crate::call::{CallError, Failure, Operation, Outcome};
use crate::completion::Sharing;
use crate::memory::RingMemory;
use crate::moment::Moment;
use crate::naming::{ServerId, SnapshotId, Tick};
use crate::plan::AskedBy;
use crate::polling::CompletionTimes;
use crate::ring::Ring;
use crate::rotation::list::LookFor;
use crate::rotation::{
    Action, CreateSpans, Event, HookEnd, HookMoment, Job, Limits, Listed, Next, Rotation, State,
};
use crate::server::{Hooks, Server};
use crate::snapshot::{Listing, Snapshot, Status};
use crate::testing;

pub(super) const SETTLE: Duration = Duration::from_secs(20);
pub(super) const SHOWS_UP: Duration = Duration::from_secs(54);
pub(super) const OWN: SnapshotId = SnapshotId(99);

pub(super) fn tick() -> Tick {
    Tick::at("2026-11-23T03:00:00Z".parse().unwrap())
}

/// A rotation that a story goes through.
pub(super) struct Stage {
    pub(super) server: Server,
    rotation: Rotation,
    tick: Tick,
    pub(super) now: Moment,
    earlier: Option<Duration>,
}

/// Which state met which event.
pub(super) type Transitions = BTreeSet<(String, String)>;

impl Stage {
    pub(super) fn begin(words: &str) -> (Self, Next) {
        let now = Moment { wall: tick().instant(), uptime: Duration::ZERO };
        Self::begin_at(words, RingMemory::default(), now)
    }

    /// With what is remembered of earlier rotations. The tick is now.
    pub(super) fn begin_at(words: &str, memory: RingMemory, now: Moment) -> (Self, Next) {
        let mut server = (*testing::server(101, "")).clone();
        let mut hooks = Hooks { before: vec![], after: vec![], timeout: Duration::from_mins(2) };
        let (mut earlier, mut next_start, mut retries, mut was_listed) = (None, None, 4, true);
        let (wall, tick) = (now.wall, Tick::at(now.wall));
        let mut asked_by = AskedBy::Schedule;
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("person", _) => asked_by = AskedBy::Person,
                ("disabled", _) => server.enabled = false,
                ("before", _) => hooks.before = vec!["quiesce".to_owned()],
                ("after", _) => hooks.after = vec!["resume".to_owned()],
                ("unknown", _) => was_listed = false,
                ("earlier", at) => earlier = Some(span(at)),
                ("next", at) => {
                    next_start = Some(wall + SignedDuration::try_from(span(at)).unwrap());
                }
                ("retries", number) => retries = number.parse().unwrap(),
                _ => panic!("{word}?"),
            }
        }
        if !(hooks.before.is_empty() && hooks.after.is_empty()) {
            server.hooks = Some(hooks.into());
        }
        let job = Job { server: server.clone().into(), tick, asked_by, next_start };
        let limits = Limits {
            settle: SETTLE,
            retries,
            backoff: Box::new((0..).map(|nth| Duration::from_secs(1 << nth))),
            completion_times: CompletionTimes::default(),
            was_listed,
            memory,
        };
        let (rotation, next) = Rotation::begin(job, limits, earlier, now);
        (Self { server, rotation, tick, now, earlier }, next)
    }

    pub(super) fn pass(&mut self, span: Duration) {
        self.now.uptime += span;
        self.now.wall += SignedDuration::try_from(span).unwrap();
    }

    pub(super) fn next(&mut self, event: Event) -> Next {
        if matches!(event, Event::Listed(Ok(_))) {
            self.rotation.set_was_listed(true);
        }
        self.rotation.next(event, self.now)
    }

    pub(super) fn rotation(&mut self) -> &mut Rotation {
        &mut self.rotation
    }

    pub(super) fn state(&self) -> &State {
        &self.rotation.state
    }

    pub(super) fn listed(&self, words: &str) -> Event {
        let count = words
            .split_whitespace()
            .filter(|word| !word.starts_with("own") && !word.starts_with(['x', 'y', '~', '=']))
            .count();
        let there = words.split_whitespace().enumerate().filter(|(_, word)| *word != "-");
        let rows = there.map(|(place, word)| {
            let is_own = word.starts_with("own") || word.starts_with(['x', 'y']);
            let days = if is_own { 0 } else { i64::try_from(count - place).unwrap() };
            let earlier = word.strip_prefix(['~', '=']).map(span);
            let made = match earlier {
                Some(span) => self.tick.instant() - SignedDuration::try_from(span).unwrap(),
                None => self.tick.instant() - SignedDuration::from_hours(24 * days),
            };
            Snapshot {
                id: match (is_own, earlier) {
                    (true, _) => OWN,
                    (_, Some(_)) => SnapshotId(98),
                    _ => SnapshotId(place as u64 + 1),
                },
                server: ServerId::new(101),
                name: match word {
                    "H" => format!("by-hand-{place}").into(),
                    "x" | "x~" => "SNAPRING-20261123T030000Z".into(),
                    "y" => "other-name".into(),
                    _ => self.server.policy.prefix.name(Tick::at(made)).into(),
                },
                status: match word {
                    _ if word.starts_with('~') => Status::InProgress,
                    _ if word.starts_with('=') => Status::Completed,
                    "f" | "own!" => Status::Failed,
                    "p" | "own~" | "x~" => Status::InProgress,
                    "c" | "H" | "own" | "x" | "y" => Status::Completed,
                    _ => panic!("{word}?"),
                },
                size_mb: None,
                created_at: made,
                description: None,
            }
        });
        let listing = Listing::complete(ServerId::new(101), rows.collect(), self.now);
        let ring = Ring::of(listing, &self.server.policy);
        let earlier = self.earlier.filter(|at| *at > self.now.uptime);
        Event::Listed(Ok(Listed { ring, earlier_creates_settled_at: earlier }))
    }

    pub(super) fn event(&self, words: &str) -> Event {
        let own = |name: String| Snapshot {
            id: OWN,
            server: ServerId::new(101),
            name: name.into(),
            status: Status::InProgress,
            size_mb: None,
            created_at: self.tick.instant(),
            description: None,
        };
        let created = |answer, settled_in| Event::Created {
            answer,
            settled_at: self.now.uptime + settled_in,
        };
        match words.split_once(' ').unwrap_or((words, "")) {
            ("listed", rows) => self.listed(rows),
            ("unlisted", why) => Event::Listed(Err(error(Operation::List, why))),
            ("recorded", _) => Event::Recorded,
            ("hook", "done") => Event::HookEnded(HookEnd::Done),
            ("hook", "failed") => Event::HookEnded(HookEnd::Failed("said no".to_owned())),
            ("hook", "interrupted") => Event::HookEnded(HookEnd::Interrupted),
            ("hook", "not-started") => Event::HookEnded(HookEnd::NotStarted),
            ("created", _) => {
                created(Ok(own(self.server.policy.prefix.name(self.tick))), Duration::ZERO)
            }
            ("created-as", name) => created(Ok(own(name.to_owned())), Duration::ZERO),
            ("uncreated", why) => {
                let spans = CreateSpans { settle: SETTLE, shows_up_within: SHOWS_UP };
                let answer = Err(error(Operation::Create, why));
                let settled_in = spans.settled_in(&answer);
                created(answer, settled_in)
            }
            ("deleted", _) => Event::Deleted(Ok(())),
            ("undeleted", why) => Event::Deleted(Err(error(Operation::Delete, why))),
            ("waited", _) => Event::Waited(Ok(())),
            ("unwaited", why) => Event::Waited(Err(error(Operation::List, why))),
            _ => panic!("{words}?"),
        }
    }
}

pub(super) fn error(operation: Operation, why: &str) -> CallError {
    let (why, wait) = why.split_once(' ').unwrap_or((why, ""));
    let retry_after = (!wait.is_empty()).then(|| span(wait));
    let outcome = match why {
        "stale" => return CallError::Stale(Duration::from_secs(61)),
        "pinned" => return CallError::Pinned,
        "interrupted" => return CallError::Interrupted,
        "out-of-time" => return CallError::OutOfTime,
        "malformed" => Outcome::Malformed,
        "rejected" | "unprocessable" | "redirected" => Outcome::Rejected,
        "unauthorized" => Outcome::Unauthorized,
        "forbidden" => Outcome::Forbidden,
        "not-found" => Outcome::NotFound,
        "busy" => Outcome::Busy,
        "throttled" => Outcome::Throttled,
        "server-error" => Outcome::ServerError,
        "transport" | "unconnected" => Outcome::Transport,
        _ => panic!("{why}?"),
    };
    let message = "so it is".to_owned();
    let was_sent = why != "unconnected";
    let status = match why {
        "malformed" => Some(200),
        "rejected" => Some(400),
        "unprocessable" => Some(422),
        "redirected" => Some(302),
        "unauthorized" => Some(401),
        "forbidden" => Some(403),
        "not-found" => Some(404),
        "busy" => Some(409),
        "throttled" => Some(429),
        "server-error" => Some(503),
        _ => None,
    };
    let token_place = None;
    let failure =
        Failure { operation, outcome, status, message, token_place, retry_after, was_sent };
    CallError::Failed(failure)
}

fn span(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap()
}

pub(super) fn words(next: &Next) -> String {
    let span = |span: Duration| humantime::format_duration(span);
    match next {
        Next::Do(Action::Look(look)) => {
            let sharing = match look.sharing {
                Sharing::Alone => "alone",
                Sharing::OneAnswer => "one answer",
                Sharing::Pages => "pages",
            };
            format!("look {}+{} {sharing}", span(look.wait), span(look.slack))
        }
        Next::Do(Action::RecordCreate(_)) => "record".to_owned(),
        Next::Do(Action::ForgetCreate) => "forget".to_owned(),
        Next::Do(Action::RunHook(hook)) => match hook.moment {
            HookMoment::Before => "before".to_owned(),
            HookMoment::After { is_completed: true } => "after completed".to_owned(),
            HookMoment::After { is_completed: false } => "after failed".to_owned(),
        },
        Next::Do(Action::Create { attempt, .. }) => format!("create {attempt}"),
        Next::Do(Action::Delete(deletion)) => format!("delete {}", deletion.snapshot()),
        Next::Do(Action::Wait(wait)) => format!("wait {}", span(*wait)),
        Next::End(report) => {
            let deleted: Vec<String> = report.deleted_ids.iter().map(|id| id.to_string()).collect();
            let made = if report.created.is_some() { ", made" } else { "" };
            let deleted = match deleted.as_slice() {
                [] => String::new(),
                ids => format!(", deleted {}", ids.join(" ")),
            };
            let reason = report.reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
            format!("{}{made}{deleted}{reason}", report.outcome.as_str())
        }
    }
}

/// The state by its name, with what a look or a deletion is for.
fn name(state: &State) -> String {
    let text = format!("{state:?}");
    let outer = |text: &str| text.split(['(', ' ']).next().unwrap_or_default().to_owned();
    match state {
        State::Looking(LookFor::UnansweredDelete(_, purpose)) => {
            format!("Looking UnansweredDelete {}", outer(&format!("{purpose:?}")))
        }
        State::Looking(looking) => format!("Looking {}", outer(&format!("{looking:?}"))),
        State::Deleting(_, purpose) => format!("Deleting {}", outer(&format!("{purpose:?}"))),
        _ => outer(&text),
    }
}

/// Goes through a story row by row, and notes the transitions in it.
pub(super) fn tell(story: &str, transitions: &mut Transitions) {
    let mut rows = story.lines().map(str::trim).filter(|line| !line.is_empty());
    let row = |line: &str| {
        let (happened, done) = line.split_once('|').unwrap_or_else(|| panic!("{line}?"));
        (happened.trim().to_owned(), done.trim().to_owned())
    };
    let (begin, first) = row(rows.next().unwrap());
    let (mut stage, next) = Stage::begin(begin.strip_prefix("begin").unwrap());
    assert!(words(&next).starts_with(&first), "{begin}: {} is not {first}", words(&next));
    let mut ended = matches!(next, Next::End(_));
    for line in rows {
        assert!(!ended, "nothing comes after the end: {line}");
        let (happened, done) = row(line);
        let mut event = happened.as_str();
        if let Some((passed, rest)) = event.strip_prefix('+').and_then(|it| it.split_once(' ')) {
            stage.pass(span(passed));
            event = rest;
        }
        let kind = match event.split_once(' ') {
            Some(("listed", _)) => "listed",
            _ => event,
        };
        transitions.insert((name(stage.state()), kind.to_owned()));
        let next = stage.next(stage.event(event));
        ended = matches!(next, Next::End(_));
        assert!(words(&next).starts_with(&done), "{line}\n{} is done next\n{story}", words(&next));
    }
    assert!(ended, "the story has no end:\n{story}");
}
