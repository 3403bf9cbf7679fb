//! How many calls a rotation costs a server that is alone. Counted, so a regression shows at once.

use super::*;

/// What `nights` rotations cost one after the other, the first one apart.
async fn calls_of(scene: &Scene, nights: usize) -> (usize, Vec<usize>) {
    let mut costs = Vec::new();
    for _ in 0..=nights {
        let now = scene.clock.now().wall;
        let next_start = Some(now + jiff::SignedDuration::from_hours(24));
        let job = Job { tick: Tick::at(now), next_start, ..scene.job() };
        let before = scene.memory.provider.lock().unwrap().calls().len();
        let report = scene.rotate_as(&job).await;
        assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
        costs.push(scene.memory.provider.lock().unwrap().calls().len() - before);
        assert_eq!(costs.last().copied(), usize::try_from(report.api_calls).ok());
        scene.clock.sleep(Duration::from_secs(20 * 3600)).await;
    }
    (costs.remove(0), costs)
}

fn mean(costs: &[usize]) -> f64 {
    costs.iter().sum::<usize>() as f64 / costs.len() as f64
}

/// Snapshots of 3 to 10 minutes, by chance: one list, one create, one delete, and the looks.
#[rstest]
#[case::as_it_is("", 4.5)]
#[case::quiesced("hooks = { before = [\"true\"], after = [\"true\"] }", 6.0)]
#[tokio::test(start_paused = true)]
async fn a_lone_server_costs_few_calls(#[case] lines: &str, #[case] at_most: f64) {
    let scene = Scene::new(lines).holding("c c c");
    let (first, costs) = calls_of(&scene, 60).await;
    let mean = mean(&costs);
    eprintln!("first {first}, then {mean:.2} a rotation, at most {:?}", costs.iter().max());
    assert!(first <= 20, "{first}");
    assert!(mean <= at_most, "{mean} {costs:?}");
}

/// Where they always take as long, no more than the pace needs to find out.
#[tokio::test(start_paused = true)]
async fn a_lone_server_whose_snapshots_always_take_as_long_costs_little_more_than_four_calls() {
    let five_minutes = Duration::from_secs(300);
    let change = |options: &mut Options| options.completion = five_minutes..=five_minutes;
    let scene = Scene::with("", change, RecordedHooks::default()).holding("c c c");
    let (_, costs) = calls_of(&scene, 40).await;
    assert!(mean(&costs) <= 4.4, "{costs:?}");
}
