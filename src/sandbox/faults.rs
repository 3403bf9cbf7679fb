//! What goes wrong, and when.
//!
//! A fault is written `OPERATION:EFFECT[,CONDITION…]`:
//!
//! - the operation is `list`, `create`, `restore`, `delete`, `servers`, `account` or `any`;
//! - the effect is one of those that [`EFFECTS`] explains;
//! - conditions: `times=N` (then it is over), `after=N` (lets the first N calls pass),
//!   `server=ID`, `chance=0.2`.
//!
//! So `create:status=429,retry-after=30,times=2` throttles the next two creates, and
//! `list:torn,chance=0.1` tears one listing in ten.
//!
//! A call meets the first fault in force that decides its answer. Further ones wait for a later
//! call: `create:status=429,times=1` and then `create:status=500,times=1` are met in turn.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::call::Operation;
use crate::naming::ServerId;

/// The effects, as `--help` shows them.
pub const EFFECTS: &str = "\
latency=200ms        the answer takes that long, half of it before the act, half after
hang                 no answer, nothing is done
hang-after           it is done, then no answer
status=500           this answer, nothing is done; with retry-after=30 or a date
status-after=500     it is done, then this answer, also with retry-after; 206 keeps the body
drop-before          the connection closes, nothing is done
drop-after           it is done, then the connection closes
torn                 it is done; half of the body comes, then the connection closes
empty | garbage      it is done; the body is empty, or no JSON
huge                 it is done; the body is larger than 8 MiB
header=age:600       the answer to a read also has this header: age, link, content-range, x-total-count, warning
wrong-count          a list whose `count` is not the number of its rows
foreign-next         a list whose `next` names another host; needs lists in pages
fails                a create that will fail; a restore that leaves the server in the state `error`, until a
                     later restore succeeds
never-completes      a create that stays in progress, a restore that does not end
vanishes             a create whose snapshot disappears instead of being completed
stray=25s            the request reaches the provider that much later, even if the client has given up
renames              a create whose snapshot gets its name in small letters
skew=-10h            the date of a created snapshot is shifted by this
reads-failed         a listing that shows what is completed as `error`
ignored              the delete is confirmed, but nothing is deleted
late=5s              for this long, listings do not show a created snapshot, and the list of servers does not
                     show a restore
linger=5s            for this long, listings still show a deleted snapshot";

/// A header that a read's answer may have besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderName {
    /// `Age`.
    Age,
    /// `Link`.
    Link,
    /// `Content-Range`.
    ContentRange,
    /// `X-Total-Count`.
    Total,
    /// `Warning`.
    Warning,
}

impl HeaderName {
    const ALL: [Self; 5] = [Self::Age, Self::Link, Self::ContentRange, Self::Total, Self::Warning];

    fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Link => "link",
            Self::ContentRange => "content-range",
            Self::Total => "x-total-count",
            Self::Warning => "warning",
        }
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The answer takes this long.
    Latency(Duration),
    /// Never an answer, and no act.
    Hang,
    /// The act, and never an answer.
    HangAfter,
    /// Another answer instead of the act.
    Status(u16, Option<String>),
    /// Another answer after the act.
    StatusAfter(u16, Option<String>),
    /// The connection closes before the act.
    DropBefore,
    /// The connection closes after the act.
    DropAfter,
    /// Half of the body, then the connection closes.
    Torn,
    /// No body.
    Empty,
    /// No JSON.
    Garbage,
    /// More than anybody reads.
    Huge,
    /// A header besides.
    Header(HeaderName, String),
    /// A `count` that is one too high.
    WrongCount,
    /// A `next` link to another host.
    ForeignNext,
    /// The created snapshot will fail.
    Fails,
    /// The created snapshot stays in progress.
    NeverCompletes,
    /// The created snapshot disappears.
    Vanishes,
    /// The created snapshot gets another name.
    Renames,
    /// The created snapshot is dated this much later.
    Skew(SignedDuration),
    /// Completed snapshots are listed as failed.
    ReadsFailed,
    /// What was deleted stays.
    Ignored,
    /// The request reaches the provider late, even if the client has given up.
    Stray(Duration),
    /// The created snapshot shows up late.
    Late(Duration),
    /// The deleted snapshot lingers.
    Linger(Duration),
}

impl fmt::Display for Effect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = humantime::format_duration;
        match self {
            Self::Latency(wait) => write!(out, "latency={}", compact(span(*wait))),
            Self::Hang => out.write_str("hang"),
            Self::HangAfter => out.write_str("hang-after"),
            Self::Status(status, None) => write!(out, "status={status}"),
            Self::Status(status, Some(wait)) => write!(out, "status={status},retry-after={wait}"),
            Self::StatusAfter(status, None) => write!(out, "status-after={status}"),
            Self::StatusAfter(status, Some(wait)) => {
                write!(out, "status-after={status},retry-after={wait}")
            }
            Self::DropBefore => out.write_str("drop-before"),
            Self::DropAfter => out.write_str("drop-after"),
            Self::Torn => out.write_str("torn"),
            Self::Empty => out.write_str("empty"),
            Self::Garbage => out.write_str("garbage"),
            Self::Huge => out.write_str("huge"),
            Self::Header(name, value) => write!(out, "header={}:{value}", name.as_str()),
            Self::WrongCount => out.write_str("wrong-count"),
            Self::ForeignNext => out.write_str("foreign-next"),
            Self::Fails => out.write_str("fails"),
            Self::NeverCompletes => out.write_str("never-completes"),
            Self::Vanishes => out.write_str("vanishes"),
            Self::Renames => out.write_str("renames"),
            Self::Skew(by) => {
                let sign = if by.is_negative() { "-" } else { "" };
                write!(out, "skew={sign}{}", compact(span(by.unsigned_abs())))
            }
            Self::ReadsFailed => out.write_str("reads-failed"),
            Self::Ignored => out.write_str("ignored"),
            Self::Stray(wait) => write!(out, "stray={}", compact(span(*wait))),
            Self::Late(wait) => write!(out, "late={}", compact(span(*wait))),
            Self::Linger(wait) => write!(out, "linger={}", compact(span(*wait))),
        }
    }
}

fn compact(text: impl fmt::Display) -> String {
    text.to_string().replace(' ', "")
}

impl Effect {
    /// Whether it decides how the call is answered, so that a call can meet only one of them.
    fn decides_the_answer(&self) -> bool {
        match self {
            Self::Hang
            | Self::HangAfter
            | Self::Status(..)
            | Self::StatusAfter(..)
            | Self::DropBefore
            | Self::DropAfter
            | Self::Torn
            | Self::Empty
            | Self::Garbage
            | Self::Huge
            | Self::Stray(_) => true,
            Self::Latency(_)
            | Self::Header(..)
            | Self::WrongCount
            | Self::ForeignNext
            | Self::Fails
            | Self::NeverCompletes
            | Self::Vanishes
            | Self::Renames
            | Self::Skew(_)
            | Self::ReadsFailed
            | Self::Ignored
            | Self::Late(_)
            | Self::Linger(_) => false,
        }
    }

    /// The operations that it can befall; none: any.
    fn only_of(&self) -> &'static [Operation] {
        match self {
            Self::ReadsFailed => &[Operation::List],
            Self::WrongCount | Self::ForeignNext => &[Operation::List, Operation::Servers],
            Self::Header(..) => &[Operation::List, Operation::Servers, Operation::Account],
            Self::Fails | Self::NeverCompletes | Self::Late(_) => {
                &[Operation::Create, Operation::Restore]
            }
            Self::Vanishes | Self::Renames | Self::Skew(_) => &[Operation::Create],
            Self::Linger(_) | Self::Ignored => &[Operation::Delete],
            Self::Stray(_) => &[Operation::Create, Operation::Delete, Operation::Restore],
            _ => &[],
        }
    }

    fn takes_a_value(&self) -> bool {
        matches!(
            self,
            Self::Latency(_)
                | Self::Status(..)
                | Self::StatusAfter(..)
                | Self::Skew(_)
                | Self::Header(..)
                | Self::Stray(_)
                | Self::Late(_)
                | Self::Linger(_)
        )
    }
}

/// When something goes wrong, and what.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Of which operation; `None`: any.
    pub operation: Option<Operation>,
    /// What goes wrong.
    pub effect: Effect,
    /// How many calls it has left; `None`: no end.
    pub times: Option<u32>,
    /// How many calls it still lets pass.
    pub after: u32,
    /// Only for calls about this server.
    pub server: Option<ServerId>,
    /// How likely it is, from 0 to 1.
    pub chance: f64,
}

impl Fault {
    /// A fault that befalls every such call.
    #[must_use]
    pub fn new(operation: Operation, effect: Effect) -> Self {
        let operation = Some(operation);
        Self { operation, effect, times: None, after: 0, server: None, chance: 1.0 }
    }

    /// The same, but only for this many calls.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.operation.map_or("any", Operation::as_str), self.effect)?;
        if let Some(times) = self.times {
            write!(out, ",times={times}")?;
        }
        if self.after > 0 {
            write!(out, ",after={}", self.after)?;
        }
        if let Some(server) = self.server {
            write!(out, ",server={server}")?;
        }
        if self.chance < 1.0 {
            write!(out, ",chance={}", self.chance)?;
        }
        Ok(())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let explain = |what: &str| {
            format!("{what} in {text:?}; a fault is written like create:status=429,times=2")
        };
        let (operation, rest) =
            text.trim().split_once(':').ok_or_else(|| explain("there is no operation"))?;
        let operations = [
            Operation::List,
            Operation::Create,
            Operation::Restore,
            Operation::Delete,
            Operation::Servers,
            Operation::Account,
        ];
        let operation = match operations.iter().find(|known| known.as_str() == operation) {
            Some(known) => Some(*known),
            None if operation == "any" => None,
            None => {
                return Err(explain(&format!(
                    "{operation:?} is none of list, create, restore, delete, servers, account, any"
                )));
            }
        };
        let mut words = rest.split(',').map(|word| match word.split_once('=') {
            Some((key, value)) => (key.trim(), value.trim()),
            None => (word.trim(), ""),
        });
        let (word, value) = words.next().unwrap_or_default();
        let number = |value: &str| {
            value.parse::<u32>().map_err(|_| explain(&format!("{value:?} is not a number")))
        };
        let status = |value: &str| match value.parse() {
            // Below 200 stands what comes before an answer, and is none.
            Ok(status) if (200..=599).contains(&status) => Ok(status),
            _ => Err(explain(&format!("{value:?} is not a status from 200 to 599"))),
        };
        let span = |value: &str| {
            humantime::parse_duration(value)
                .map_err(|_| explain(&format!("{value:?} is not a duration like 5s")))
        };
        let effect = match word {
            "latency" => Effect::Latency(span(value)?),
            "hang" => Effect::Hang,
            "hang-after" => Effect::HangAfter,
            "status" => Effect::Status(status(value)?, None),
            "status-after" => Effect::StatusAfter(status(value)?, None),
            "drop-before" => Effect::DropBefore,
            "drop-after" => Effect::DropAfter,
            "torn" => Effect::Torn,
            "empty" => Effect::Empty,
            "garbage" => Effect::Garbage,
            "huge" => Effect::Huge,
            "header" => {
                let known = value.split_once(':').and_then(|(name, value)| {
                    let known = HeaderName::ALL.into_iter().find(|known| known.as_str() == name)?;
                    Some((known, value.trim()))
                });
                let (name, value) = known.ok_or_else(|| {
                    explain(&format!(
                        "{value:?} is not a header (age, link, content-range, x-total-count, warning) like age:600"
                    ))
                })?;
                Effect::Header(name, value.to_owned())
            }
            "wrong-count" => Effect::WrongCount,
            "foreign-next" => Effect::ForeignNext,
            "fails" => Effect::Fails,
            "never-completes" => Effect::NeverCompletes,
            "vanishes" => Effect::Vanishes,
            "renames" => Effect::Renames,
            "skew" => {
                let (back, value) =
                    value.strip_prefix('-').map_or((false, value), |value| (true, value));
                let by = SignedDuration::try_from(span(value)?)
                    .map_err(|_| explain(&format!("{value:?} is too long")))?;
                Effect::Skew(if back { -by } else { by })
            }
            "reads-failed" => Effect::ReadsFailed,
            "ignored" => Effect::Ignored,
            "stray" => Effect::Stray(span(value)?),
            "late" => Effect::Late(span(value)?),
            "linger" => Effect::Linger(span(value)?),
            other => {
                return Err(format!(
                    "{}\neffects:\n{EFFECTS}",
                    explain(&format!("{other:?} is no effect"))
                ));
            }
        };
        if !value.is_empty() && !effect.takes_a_value() {
            return Err(explain(&format!("{word:?} takes no value")));
        }
        let only = effect.only_of();
        if let Some(first) = only.first()
            && !operation.is_some_and(|operation| only.contains(&operation))
        {
            let words: Vec<&str> = only.iter().map(|only| only.as_str()).collect();
            let (words, first) = (words.join(", "), first.as_str());
            return Err(explain(&format!("{word:?} goes with {words} only, as {first}:{effect}")));
        }
        let mut fault =
            Self { operation, effect, times: None, after: 0, server: None, chance: 1.0 };
        let mut last = "";
        for (key, value) in words {
            // A date has a comma: `retry-after=Wed, 21 Oct 2026 07:28:00 GMT`.
            if let ("retry-after", "", Effect::Status(_, Some(date))) =
                (last, value, &mut fault.effect)
            {
                date.push_str(", ");
                date.push_str(key);
                last = "";
                continue;
            }
            last = key;
            match (key, &mut fault.effect) {
                ("times", _) => match number(value)? {
                    0 => return Err(explain("times=0 would never happen")),
                    times => fault.times = Some(times),
                },
                ("after", _) => fault.after = number(value)?,
                ("server", _) => {
                    let id = value
                        .parse()
                        .map_err(|_| explain(&format!("{value:?} is not a server's id")))?;
                    fault.server = Some(ServerId::new(id));
                }
                ("chance", _) => {
                    fault.chance = value
                        .parse()
                        .ok()
                        .filter(|chance| (0.0..=1.0).contains(chance))
                        .ok_or_else(|| explain("a chance is a number from 0 to 1"))?;
                }
                ("retry-after", Effect::Status(_, wait) | Effect::StatusAfter(_, wait)) => {
                    *wait = Some(value.to_owned())
                }
                (other, _) => {
                    return Err(explain(&format!(
                        "{other:?} is no condition (times, after, server, chance; retry-after with status)"
                    )));
                }
            }
        }
        Ok(fault)
    }
}

/// All faults in force.
#[derive(Debug, Clone, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds one.
    pub fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Ends all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Those in force.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// What befalls one call. Of the effects that decide its answer it meets the first in force;
    /// those behind it are not used up.
    pub(crate) fn befall(
        &mut self,
        operation: Option<Operation>,
        server: Option<ServerId>,
        random: &mut StdRng,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut decided = false;
        for fault in &mut self.0 {
            let meant = fault.operation.is_none() || fault.operation == operation;
            let here = fault.server.is_none() || fault.server == server;
            let decides = fault.effect.decides_the_answer();
            if !meant || !here || (decides && decided) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            if fault.times == Some(0) || !random.random_bool(fault.chance) {
                continue;
            }
            fault.times = fault.times.map(|times| times - 1);
            decided |= decides;
            effects.push(fault.effect.clone());
        }
        self.0.retain(|fault| fault.times != Some(0));
        effects
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("create:status=429,retry-after=30,times=2")]
    #[case("list:torn,server=101,chance=0.25")]
    #[case("any:latency=200ms")]
    #[case("delete:linger=1m30s,after=3")]
    #[case("create:drop-after,times=1")]
    #[case("any:hang-after,times=1,after=4")]
    #[case("create:status=429,retry-after=Wed, 21 Oct 2026 07:28:00 GMT,times=2")]
    #[case("list:torn,server=5000000000")]
    #[case("create:stray=25s,times=1")]
    #[case("delete:stray=50s")]
    #[case("restore:stray=1m10s,chance=0.5")]
    #[case("create:status-after=429,retry-after=30,times=1")]
    #[case("restore:late=5s")]
    #[case("restore:never-completes,times=1")]
    #[case("list:header=age:600,times=1")]
    #[case("list:header=link:<http://x/?page=2>; rel=next,chance=0.5")]
    fn a_fault_is_written_as_it_is_read(#[case] text: &str) {
        assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
    }

    #[rstest]
    #[case("torn", "there is no operation")]
    #[case("make:torn", "\"make\" is none of list, create")]
    #[case("list:explode", "\"explode\" is no effect")]
    #[case("list:status=999", "not a status")]
    #[case("list:status=100", "not a status")]
    #[case("list:torn=5", "\"torn\" takes no value")]
    #[case("list:torn,times=0", "never happen")]
    #[case("list:torn,server=web", "not a server's id")]
    #[case("any:fails", "goes with create, restore only, as create:fails")]
    #[case("create:wrong-count", "goes with list, servers only, as list:wrong-count")]
    #[case("list:torn,retry-after=3", "\"retry-after\" is no condition")]
    #[case("list:late=soon", "not a duration")]
    #[case("list:header=etag:x", "not a header (age, link, content-range, x-total-count, warning)")]
    #[case("create:header=age:5", "goes with list, servers, account only")]
    #[case("create:stray", "not a duration")]
    #[case("list:stray=5s", "goes with create, delete, restore only, as create:stray=5s")]
    #[case("any:stray=5s", "goes with create, delete, restore only, as create:stray=5s")]
    #[case("list:torn,chance=2", "from 0 to 1")]
    fn a_fault_that_cannot_be_read_is_explained(#[case] text: &str, #[case] expected: &str) {
        let error = text.parse::<Fault>().unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn faults_that_decide_the_answer_are_met_in_turn() {
        let mut faults = Faults::default();
        for text in [
            "any:latency=1s",
            "any:status=429,times=1",
            "create:stray=5s,times=1",
            "any:drop-after,times=1",
        ] {
            faults.add(text.parse().unwrap());
        }
        let mut random = StdRng::seed_from_u64(1);
        let mut met = || faults.befall(Some(Operation::Create), None, &mut random);
        let latency = Effect::Latency(Duration::from_secs(1));
        assert_eq!(met(), [latency.clone(), Effect::Status(429, None)]);
        assert_eq!(met(), [latency.clone(), Effect::Stray(Duration::from_secs(5))]);
        assert_eq!(met(), [latency.clone(), Effect::DropAfter]);
        assert_eq!(met(), [latency]);
    }

    #[test]
    fn conditions_hold() {
        let mut faults = Faults::default();
        faults.add("list:torn,after=1,times=2,server=7".parse().unwrap());
        let mut random = StdRng::seed_from_u64(1);
        let mut list = |server| {
            faults.befall(Some(Operation::List), Some(ServerId::new(server)), &mut random).len()
        };
        assert_eq!([list(7), list(8), list(7), list(7), list(7)], [0, 0, 1, 1, 0]);
    }
}
