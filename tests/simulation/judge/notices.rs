//! S8 for notices: what is told is true, in its order and not twice; and what happens is told to each service
//! that takes notices, once it does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use snapring::moment::Moment;

use crate::judge::Judge;
use crate::judge::visible::{Says, Standing, Sure};
use crate::webhooks::{Mood, SERVICES};

/// How long a notice may take to a service that takes all: what was tried before is given up in ten minutes,
/// and what comes meanwhile in as many more.
const PATIENCE: Duration = Duration::from_secs(25 * 60);

/// A server, or the account.
type Subject = Option<u64>;

/// Of whose trouble each service was told (`true`) or is owed the failure, as the store has it.
pub type WrittenDown = BTreeMap<(&'static str, Subject), bool>;

/// What a service believes of a subject.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Well,
    Failing,
    Unknown,
}

#[derive(Debug)]
struct Service {
    /// Since when it takes all it gets: uptime.
    well_since: Option<Duration>,
    subjects: BTreeMap<Subject, State>,
    taken: u64,
    given_up: u64,
    /// What it was offered last and has not taken: the body, and how many notices it has.
    open: Option<(String, u64)>,
    /// It was offered something else since it took one the last time.
    has_missed: bool,
    /// An earlier process may owe it something, and it has taken nothing since.
    may_be_owed: bool,
    last_post: Duration,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            well_since: Some(Duration::ZERO),
            subjects: BTreeMap::new(),
            taken: 0,
            given_up: 0,
            open: None,
            has_missed: false,
            may_be_owed: false,
            last_post: Duration::ZERO,
        }
    }
}

impl Service {
    fn state(&self, subject: Subject) -> State {
        self.subjects.get(&subject).copied().unwrap_or_default()
    }
}

/// What the services were told, and what they should be.
#[derive(Debug)]
pub struct Told {
    services: BTreeMap<&'static str, Service>,
    /// Trouble as notices have it: a refused token is the account's.
    standings: BTreeMap<u64, Standing>,
    /// When each server in trouble was last found so.
    bad_at: BTreeMap<u64, Vec<Duration>>,
    ended: BTreeSet<(u64, Timestamp, String)>,
    /// When the provider last refused the token itself.
    refused_at: Option<Duration>,
    /// It refused it in an earlier life.
    was_refused_before: bool,
    /// A rotation ended because of that, and no rotation has ended well since then.
    account_is_bad: bool,
    /// The first that ended well after that.
    account_well_at: Option<Duration>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            services: SERVICES.iter().map(|(host, _)| (*host, Service::default())).collect(),
            standings: BTreeMap::new(),
            bad_at: BTreeMap::new(),
            ended: BTreeSet::new(),
            refused_at: None,
            was_refused_before: false,
            account_is_bad: false,
            account_well_at: None,
        }
    }
}

impl Told {
    /// `written`: `None` if the process may know something else of it. `may_read`: whether it may know anything.
    pub fn life_begins(&mut self, written: Option<&WrittenDown>, may_read: bool) {
        for (host, service) in &mut self.services {
            for (subject, state) in &mut service.subjects {
                // What was told and could not be written down any more is told again.
                let is_written = written.map(|it| it.get(&(*host, *subject)) == Some(&true));
                if is_written.is_some_and(|it| it != (*state == State::Failing)) {
                    *state = State::Unknown;
                }
            }
            service.well_since = service.well_since.map(|_| Duration::ZERO);
            (service.taken, service.given_up, service.open) = (0, 0, None);
            service.has_missed = false;
            let mut owed = written.into_iter().flatten().filter(|(_, is_told)| !**is_told);
            let is_owed = written.is_none() || owed.any(|((to, _), _)| to == host);
            service.may_be_owed = may_read && is_owed;
            service.last_post = Duration::ZERO;
            // The history says whether the token was refused, and not to whom that was told.
            if self.refused_at.is_some() || self.was_refused_before {
                service.subjects.insert(None, State::Unknown);
            }
        }
        self.bad_at.clear();
        self.was_refused_before |= self.refused_at.is_some();
        (self.refused_at, self.account_well_at, self.account_is_bad) = Default::default();
    }

    /// What a process that begins knows of a server. `is_sure`: it also knows what was told.
    pub fn server_begins(&mut self, server: u64, known: &Standing, is_sure: bool) {
        if is_sure && known.trouble == Sure::Yes {
            // Whoever was not told of it is told now.
            self.bad_at.insert(server, vec![Duration::ZERO]);
        }
        for service in self.services.values_mut() {
            let state = match (service.state(Some(server)), known.trouble) {
                (State::Failing, Sure::Yes) => State::Failing,
                // It has forgotten, or has it from a process that could not say it any more.
                (State::Well, Sure::No) => State::Well,
                (State::Well, Sure::Yes) if is_sure => State::Well,
                _ => State::Unknown,
            };
            service.subjects.insert(Some(server), state);
        }
        self.standings.insert(server, known.clone());
    }

    /// The server is not in the configuration for a while, or disabled.
    pub fn forgets(&mut self, server: u64) {
        for service in self.services.values_mut() {
            service.subjects.insert(Some(server), State::Unknown);
        }
        self.bad_at.remove(&server);
        self.standings.insert(server, Standing::unclear());
    }

    /// A service breaks, or is well again.
    pub fn service_is(&mut self, service: &str, is_well: bool, now: Duration) {
        if let Some(service) = self.services.get_mut(service) {
            service.well_since = is_well.then_some(now);
        }
    }

    pub fn all_services_are_well(&mut self, now: Duration) {
        for service in self.services.values_mut() {
            service.well_since.get_or_insert(now);
        }
    }

    /// The token was refused, of any server or by the account.
    pub fn token_is_refused(&mut self, now: Duration) {
        self.refused_at = Some(now);
    }

    pub fn token_was_refused_since(&self, then: Duration) -> bool {
        self.refused_at.is_some_and(|at| at >= then)
    }

    pub fn rotation_ended(
        &mut self,
        server: u64,
        (tick, outcome): (Timestamp, &str),
        says: Says,
        is_refused: bool,
        now: Duration,
    ) {
        self.ended.insert((server, tick, outcome.to_owned()));
        let standing = self.standings.entry(server).or_default();
        match says {
            Says::Well => {
                self.bad_at.remove(&server);
                if std::mem::take(&mut self.account_is_bad) {
                    self.account_well_at = Some(now);
                }
            }
            Says::Bad(_) if is_refused => {
                self.account_is_bad = true;
                self.account_well_at = None;
                return standing.hears(Says::Anything, now);
            }
            _ => {}
        }
        standing.hears(says, now);
        let is_bad = matches!(says, Says::Bad(_) | Says::Hindered);
        if is_bad && standing.trouble == Sure::Yes {
            self.bad_at.entry(server).or_default().push(now);
        }
    }

    /// What should have been told by now, and was not.
    pub fn missing(&self, enabled: &[u64], now: Duration) -> Vec<String> {
        let mut missing = Vec::new();
        let is_due = |at: Duration, since: Duration| at >= since && now > at + PATIENCE;
        for (host, service) in &self.services {
            let Some(since) = service.well_since else { continue };
            for server in enabled {
                let Some(standing) = self.standings.get(server) else { continue };
                let state = service.state(Some(*server));
                let bad_at = self.bad_at.get(server).map(Vec::as_slice).unwrap_or_default();
                if standing.trouble == Sure::Yes
                    && state == State::Well
                    && let Some(at) = bad_at.iter().find(|at| is_due(**at, since))
                {
                    missing
                        .push(format!("{host} was not told of the trouble of {server} at {at:?}"));
                }
                if standing.trouble == Sure::No
                    && state == State::Failing
                    && is_due(standing.since, since)
                {
                    let at = standing.since;
                    missing.push(format!("{host} was not told that {server} is well since {at:?}"));
                }
            }
            if let Some(at) = self.account_well_at.filter(|at| is_due(*at, since))
                && service.state(None) == State::Failing
            {
                missing
                    .push(format!("{host} was not told that the token is accepted since {at:?}"));
            }
        }
        missing
    }

    /// Whether a service did not get its last notices.
    pub fn undelivered(&self, now: Duration) -> Sure {
        let services = || self.services.values();
        // At the very moment of an answer it may not be shown yet.
        let is_settled = |it: &Service| it.last_post + Duration::from_secs(1) <= now;
        if services().any(|it| it.has_missed && is_settled(it)) {
            Sure::Yes
        } else if services()
            .all(|it| !it.has_missed && !it.may_be_owed && it.open.is_none() && is_settled(it))
        {
            Sure::No
        } else {
            Sure::Unclear
        }
    }

    /// Whether the counters `ok`, `failed` and `lost` say what became of the notices.
    pub fn miscounted(&self, counts: [Option<f64>; 3], now: Duration) -> Option<String> {
        let services = || self.services.values();
        // At the very moment of an answer it may not be counted yet.
        if services().any(|it| it.last_post + Duration::from_secs(1) > now) {
            return None;
        }
        let taken: u64 = services().map(|it| it.taken).sum();
        let given_up: u64 = services().map(|it| it.given_up).sum();
        let open: u64 = services().filter_map(|it| it.open.as_ref()).map(|(_, count)| count).sum();
        let [ok, failed, lost] = counts.map(|count| count.map_or(u64::MAX, |it| it as u64));
        let fits = ok == taken && (given_up..=given_up + open).contains(&failed) && lost == 0;
        (!fits).then(|| {
            format!(
                "notices are counted as {ok} ok, {failed} failed, {lost} lost; there were {taken}, \
                 {given_up} to {}, and none",
                given_up + open
            )
        })
    }
}

impl Judge {
    /// A service is offered a notice, and is in this mood.
    pub fn posted(&mut self, host: &str, body: &str, mood: Mood, now: Moment) {
        let document: Value = serde_json::from_str(body).unwrap_or_default();
        let (event, title) = (text(&document["event"]), text(&document["title"]));
        self.tell(|| format!("{} notice to {host} ({mood:?}): {title}", now.wall));
        let subjects = document["subjects"].as_array().cloned().unwrap_or_default();
        let count = subjects.len() as u64 + document["more"].as_u64().unwrap_or_default();
        if count == 0 || !["failure", "reminder", "recovery"].contains(&event.as_str()) {
            self.violated(
                "S8",
                format!("{host} gets an empty notice, or one that nobody asked for"),
            );
        }
        let Some(service) = self.visible.told.services.get_mut(host) else {
            return self.violated("S8", format!("a notice goes to {host}"));
        };
        service.last_post = now.uptime;
        let is_another = |(before, _): &mut (String, u64)| before != body;
        if let Some((_, before)) = service.open.take_if(is_another) {
            service.given_up += before;
            service.has_missed = true;
        }
        if mood == Mood::Well {
            service.open = None;
            service.has_missed = false;
            service.may_be_owed = false;
            service.taken += count;
        } else {
            service.open = Some((body.to_owned(), count));
        }
        for subject in &subjects {
            let who = subject["server_id"].as_u64();
            let service = self.visible.told.services.get_mut(host).unwrap();
            let state = service.state(who);
            if mood != Mood::Well {
                // Perhaps it has it. And a recovery that it did not take is not told again.
                if event == "recovery" || mood == Mood::AnswersNever {
                    service.subjects.insert(who, State::Unknown);
                }
                continue;
            }
            // A reminder tells of trouble that was told before. A process that started since does not know whether
            // that was delivered, and reminds of it all the same.
            let is_failure = event != "recovery";
            service.subjects.insert(who, if is_failure { State::Failing } else { State::Well });
            let admits =
                text(&document["text"]).contains("No notice of the failure could be delivered");
            if event == "failure" && state == State::Failing {
                self.violated("S8", format!("{host} is told twice that {who:?} fails: {subject}"));
            }
            if !is_failure && state == State::Well && !admits {
                let words =
                    format!("{host} is told that {who:?} is well, and not that it had failed");
                self.violated("S8", words);
            }
            self.is_true(host, who, is_failure, subject, now);
        }
    }

    /// Whether what a notice says of a subject has happened.
    fn is_true(
        &mut self,
        host: &str,
        who: Subject,
        is_failure: bool,
        subject: &Value,
        now: Moment,
    ) {
        let told = &mut self.visible.told;
        let Some(server) = who else {
            if told.refused_at.is_none() && !told.was_refused_before {
                let words = format!("{host} is told of a refused token: {subject}");
                self.violated("S8, S9", words);
            }
            return;
        };
        let outcome = text(&subject["outcome"]);
        let Ok(tick) = text(&subject["tick"]).parse::<Timestamp>() else {
            // Its last success is too old.
            let standing = told.standings.entry(server).or_default();
            standing.hears(Says::Bad("stale"), now.uptime);
            if !is_failure {
                self.violated("S8", format!("{host} is told of no rotation: {subject}"));
            }
            return;
        };
        let is_good = ["rotated", "adopted"].contains(&outcome.as_str());
        if is_good == is_failure || !told.ended.contains(&(server, tick, outcome)) {
            self.violated("S8", format!("{host} is told what did not happen: {subject}"));
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
