//! The real process, killed with SIGKILL at every call in turn, started again, and judged by what
//! the provider then holds and was asked to do.
//!
//! Each scenario is first run undisturbed, which tells its calls. Then, for each call and each
//! [`Place`] of it, a process begins afresh, is killed there, is started again, comes to rest, and
//! gets one more tick. The [`judge`] looks at the provider only. A few pairs of places, drawn by a
//! seed, kill the second life too.
//!
//! A case that breaks a rule prints its story, and the command that repeats it alone:
//! `SNAPRING_KILL='a full ring: 5:acted 2:unseen' cargo test --test command killed`.

mod judge;
mod kill;
mod scenario;
mod stage;

use std::pin::pin;

use futures_util::stream::{self, Stream, StreamExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::kill::{Kill, Place};
use self::scenario::Scenario;
use self::stage::Stage;

/// Cases of a test that are under way at once. They wait far more than they compute.
const AT_ONCE: usize = 120;

/// Pairs of places at which both lives of a case end.
const PAIRS: usize = 4;

/// Names a scenario and the places of one case; all others are left out then.
const VARIABLE: &str = "SNAPRING_KILL";

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_at_any_call_goes_on_and_makes_nothing_twice() {
    killed_everywhere(&scenario::of_the_daemon()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_by_hand_killed_at_any_call_can_be_asked_for_again() {
    killed_everywhere(&scenario::by_hand()).await;
}

async fn killed_everywhere(scenarios: &[Scenario]) {
    let asked = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let cases = match &asked {
        Some(text) => the_one(text, scenarios),
        None => every_one(scenarios).await,
    };
    let count = cases.len();
    let mut ends = pin!(at_once(cases));
    let (mut kills, mut failed) = ([0, 0], Vec::new());
    // After a few the others mostly tell the same.
    while failed.len() < 3
        && let Some((_, end)) = ends.next().await
    {
        match end {
            Ok(End { killed, .. }) => {
                let came = |nth: usize| usize::from(killed.get(nth) == Some(&true));
                kills = [kills[0] + came(0), kills[1] + came(1)];
            }
            Err(story) => failed.push(story),
        }
    }
    assert!(failed.is_empty(), "of {count} cases some failed:\n{}", failed.join("\n"));
    let [first, second] = kills;
    println!(
        "{} scenarios, {count} cases: {first} first and {second} second lives killed at their place",
        scenarios.len()
    );
    let enough = asked.is_some() || first * 10 >= count * 9;
    assert!(enough, "{first} of {count} were killed where they were to be");
}

/// A process that is killed at these places, one a life.
type Case = (Scenario, Vec<Kill>);

/// As [`VARIABLE`] takes it.
fn name((scenario, kills): &Case) -> String {
    let places: Vec<String> = kills.iter().map(ToString::to_string).collect();
    format!("{}: {}", scenario.name, places.join(" "))
}

fn the_one(text: &str, scenarios: &[Scenario]) -> Vec<Case> {
    let (name, places) = text.split_once(": ").unwrap_or((text, ""));
    let kills: Vec<Kill> = places.split_whitespace().map(|kill| kill.parse().unwrap()).collect();
    let all = scenario::of_the_daemon().into_iter().chain(scenario::by_hand());
    assert!(all.into_iter().any(|scenario| scenario.name == name), "there is no scenario {name:?}");
    let named = scenarios.iter().filter(|scenario| scenario.name == name);
    named.map(|scenario| (*scenario, kills.clone())).collect()
}

/// For each scenario each place of each call that it makes undisturbed, and a few pairs of them.
async fn every_one(scenarios: &[Scenario]) -> Vec<Case> {
    let undisturbed = scenarios.iter().map(|scenario| (*scenario, Vec::new())).collect();
    let mut ends: Vec<_> = at_once(undisturbed).collect().await;
    ends.sort_by_key(|((ended, _), _)| scenarios.iter().position(|it| it.name == ended.name));
    let mut random = StdRng::seed_from_u64(4711);
    let mut cases = Vec::new();
    for ((scenario, _), end) in ends {
        let calls = end.unwrap_or_else(|story| panic!("undisturbed:\n{story}")).calls;
        let places = (1..=calls).flat_map(|call| Place::ALL.map(|(place, _)| Kill { call, place }));
        let places: Vec<Kill> = places.collect();
        let mut draw = || places[random.random_range(0..places.len())];
        let pairs: Vec<_> = (0..PAIRS).map(|_| vec![draw(), draw()]).collect();
        let single = places.iter().map(|kill| vec![*kill]);
        cases.extend(single.chain(pairs).map(|kills| (scenario, kills)));
    }
    cases
}

/// Lives through each case; the ends come as they come.
fn at_once(cases: Vec<Case>) -> impl Stream<Item = (Case, Result<End, String>)> {
    let lives = cases.into_iter().map(|case| async {
        // A task of its own, so that a panic is told like any other failure.
        let life = tokio::spawn(lived(case.clone()));
        let end = life.await.unwrap_or_else(|panic| Err(panic.to_string()));
        let end = end.map_err(|story| {
            let name = name(&case);
            let repeat = format!("{VARIABLE}='{name}' cargo test --test command killed");
            format!("\n== {name}\n{story}\nto repeat it: {repeat}\n")
        });
        (case, end)
    });
    stream::iter(lives).buffer_unordered(AT_ONCE)
}

/// How a case ended that broke no rule.
struct End {
    /// How many calls the first life made.
    calls: usize,
    /// For each life that was to be killed, whether it came to its place.
    killed: Vec<bool>,
}

/// Lives through a case once and has it judged. Fails with the story of what went wrong.
async fn lived((scenario, kills): Case) -> Result<End, String> {
    let mut stage = Stage::set(scenario).await;
    let found = match stage.play(&kills).await {
        Ok(killed) => match judge::violations(&stage) {
            found if found.is_empty() => {
                return Ok(End { calls: stage.parts[0].calls.len(), killed });
            }
            found => found,
        },
        Err(stuck) => vec![stuck],
    };
    Err(format!("{}\n\n{}", found.join("\n"), stage.story()))
}
