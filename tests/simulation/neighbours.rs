//! S9: one server's trouble neither delays nor fails another server's rotation.
//!
//! The same world is lived through twice, in peace, and with one server in every trouble that there
//! is. What was done for the others must be the same in both, to the millisecond.

use jiff::SignedDuration;
use rand::RngExt;

use crate::world::{Life, Simulation};

/// What differs for the servers that have no trouble; and the story of those that have, if asked for.
pub fn differences(seed: u64, verbose: bool) -> (Vec<String>, Vec<String>) {
    let [(peace, _), (trouble, story)] =
        [false, true].map(|in_trouble| live(seed, in_trouble, verbose));
    let missing = peace.iter().filter(|it| !trouble.contains(it)).map(|it| format!("- {it}"));
    let added = trouble.iter().filter(|it| !peace.contains(it)).map(|it| format!("+ {it}"));
    (missing.chain(added).collect(), story)
}

/// All that was done for the untroubled, and how their rotations ended; and the story.
fn live(seed: u64, in_trouble: bool, verbose: bool) -> (Vec<String>, Vec<String>) {
    let mut simulation = Simulation::even_tempered(seed, verbose);
    let nth = simulation.random.random_range(0..simulation.policies.len());
    let troubled = simulation.policies[nth].id;
    let life = if in_trouble { Life::TroubleOf(troubled) } else { Life::Peace };
    let begun = simulation.now;
    simulation.live(SignedDuration::from_hours(4 * 24), life);
    // What was cut off at the end says nothing.
    let end = begun + SignedDuration::from_hours(4 * 24 - 1);
    let mut judge = simulation.judge.lock().unwrap();
    let story = judge.story.take().unwrap_or_default();
    let provider = simulation.provider.lock().unwrap();
    let acts =
        provider.acts().iter().filter(|act| act.row.server.0 != troubled && act.at < end).map(
            |act| format!("{} {:?} {} of {}", act.at, act.operation, act.row.name, act.row.server),
        );
    let reports =
        judge.reports.iter().filter(|report| report.server != troubled && report.at < end).map(
            |report| {
                format!("{} {} {} of {}", report.at, report.outcome, report.tick, report.server)
            },
        );
    (acts.chain(reports).chain(judge.violations.iter().cloned()).collect(), story)
}
