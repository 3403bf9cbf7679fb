//! S9: one server's trouble neither delays nor fails another server's rotation.
//!
//! The same world is lived through twice, in peace, and with one server in every trouble that there
//! is. What was done for the others must be the same in both: to the millisecond where nothing is
//! shared.

use jiff::{SignedDuration, Timestamp};
use rand::RngExt;

use crate::digests::Record;
use crate::world::{Life, Simulation};

/// Servers that are looked at together share listings: what makes one of them look earlier or later
/// may make others look with it. So many are looked at together.
const TOGETHER: usize = 8;

/// By how much that may move what is done for the others. These worlds' snapshots take ten minutes. A
/// look that comes just too early is followed by one in half as long again, and each may come as
/// much later, so as to be shared: it is seen after 10 to 22.5 minutes.
const MOVED: SignedDuration = SignedDuration::from_secs(750);

/// By how much that may move a create.
const CREATE_MOVED: SignedDuration = SignedDuration::from_secs(2);

/// What was done for an untroubled server, and when.
type Done = (String, Timestamp);

/// One life of a world.
struct Lived {
    /// All that was done for the untroubled, and how their rotations ended.
    done: Vec<Done>,
    /// When it ended.
    end: Timestamp,
    /// By how much something may be moved.
    moved: SignedDuration,
    record: Record,
}

impl Lived {
    /// What was done here and not in the other life.
    fn more_than(&self, other: &Self, sign: &str) -> Vec<String> {
        // What was cut off at the end says nothing.
        let settled = self.end - SignedDuration::from_hours(1);
        // What comes before the wait for a snapshot is moved by the listing that is shared at most.
        let at_most = |what: &str| {
            if what.starts_with("Create") { self.moved.min(CREATE_MOVED) } else { self.moved }
        };
        let near = |then: Timestamp, at, moved| then.duration_since(at).abs() <= moved;
        let lacks = |(what, at): &&Done| {
            let moved = at_most(what);
            !other.done.iter().any(|(done, then)| done == what && near(*then, *at, moved))
        };
        let done = self.done.iter().filter(|(_, at)| *at < settled).filter(lacks);
        done.map(|(what, at)| format!("{sign} {at} {what}")).collect()
    }
}

/// What differs for the servers that have no trouble; and the record. Its story is that of the life
/// in trouble, its digest covers both lives.
pub fn differences(seed: u64, record: Record) -> (Vec<String>, Record) {
    let Record { story, digest } = record;
    let mut peace = live(seed, false, Record { story: None, digest });
    let digest = peace.record.digest.take();
    let trouble = live(seed, true, Record { story, digest });
    let mut differences = peace.more_than(&trouble, "-");
    differences.extend(trouble.more_than(&peace, "+"));
    (differences, trouble.record)
}

fn live(seed: u64, in_trouble: bool, record: Record) -> Lived {
    let mut simulation = Simulation::even_tempered(seed, record);
    let nth = simulation.random.random_range(0..simulation.policies.len());
    let troubled = simulation.policies[nth].id;
    let life = if in_trouble { Life::TroubleOf(troubled) } else { Life::Peace };
    let span = SignedDuration::from_hours(4 * 24);
    let begun = simulation.now;
    simulation.live(span, life);
    simulation.note_rows();
    let moved = if simulation.policies.len() < TOGETHER { SignedDuration::ZERO } else { MOVED };
    let mut judge = simulation.judge.lock().unwrap();
    let record = std::mem::take(&mut judge.record);
    let provider = simulation.provider.lock().unwrap();
    let acts =
        provider.acts().iter().filter(|act| act.row.server.number != troubled).map(|act| {
            (format!("{:?} {} of {}", act.operation, act.row.name, act.row.server), act.at)
        });
    let reports = judge.reports.iter().filter(|report| report.server != troubled).map(|report| {
        (format!("{} {} of {}", report.outcome, report.tick, report.server), report.at)
    });
    let violations = judge.violations.iter().map(|words| (words.clone(), begun));
    let done = acts.chain(reports).chain(violations).collect();
    Lived { done, end: begun + span, moved, record }
}
