//! Creates that reach the provider late.

use super::*;

/// What an earlier process has sent, and its record of it.
async fn dead_process(state: &tempfile::TempDir, scene: &Scene) -> Exclusion {
    let open = || Exclusion::on_machine(&state.path().join("lock"), "a", &scene.clock).unwrap();
    let dead = open();
    let name = scene.server.policy.prefix.name(scene.job().tick);
    let claim = dead.claim(WEB).unwrap();
    claim.create_begins(&name, Duration::ZERO, Duration::from_secs(54)).await;
    drop(claim);
    drop(dead);
    open()
}

/// The tick's snapshot arrives at the provider in this many seconds.
fn arrives_in(scene: &Scene, seconds: u64) {
    let name = scene.server.policy.prefix.name(scene.job().tick);
    let (clock, provider) = (scene.clock.clone(), Arc::clone(&scene.memory.provider));
    tokio::spawn(async move {
        clock.sleep(Duration::from_secs(seconds)).await;
        provider.lock().unwrap().add_snapshot(WEB, &name, "completed", clock.now().wall);
    });
}

#[rstest]
#[case::at_once(1, 0)]
#[case::just_in_time(31, 50)]
#[tokio::test(start_paused = true)]
async fn what_a_killed_process_had_sent_is_waited_for_and_adopted(
    #[case] arrives: u64,
    #[case] at_least: u64,
) {
    let mut scene = Scene::new("").holding("c c c");
    let state = tempfile::tempdir().unwrap();
    scene.exclusion = dead_process(&state, &scene).await;
    arrives_in(&scene, arrives);
    scene.clock.sleep(Duration::from_secs(2)).await;
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Adopted, "{report:?}");
    assert_eq!((scene.made(), scene.calls(Operation::Create)), (1, 0));
    assert!(report.duration_ms >= at_least * 1000 && report.duration_ms < 60_000, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_process_had_sent_and_never_arrives_is_made_after_the_last_moment() {
    let mut scene = Scene::new("").holding("c c c");
    let state = tempfile::tempdir().unwrap();
    scene.exclusion = dead_process(&state, &scene).await;
    let begun = scene.clock.now().wall;
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    let created = scene.rows().pop().unwrap().created_at.duration_since(begun).as_secs();
    assert!((54..57).contains(&created), "{created}");
    let again = Exclusion::on_machine(&state.path().join("lock"), "a", &scene.clock).unwrap();
    let claim = again.claim(WEB);
    let claim = claim.unwrap();
    assert_eq!(claim.last_create_settled_at(Duration::ZERO, Duration::ZERO).await, None);
}

/// The timeout is 30 s and `settle` 20 s. The kernel delivers for 30 s more, and 4 s are its own.
#[rstest]
#[case::while_it_is_waited_for(29)]
#[case::after_settle(55)]
#[case::at_the_last_moment(61)]
#[tokio::test(start_paused = true)]
async fn a_create_that_arrives_after_it_was_given_up_is_not_made_again(#[case] arrives: u64) {
    let scene = Scene::new("").holding("c c c").faults(&["create:hang,times=1"]);
    arrives_in(&scene, arrives);
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    assert_eq!((scene.made(), scene.calls(Operation::Create)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_create_that_was_given_up_and_never_arrives_is_made_again_after_the_last_moment() {
    let scene = Scene::new("").holding("c c c").faults(&["create:hang,times=1"]);
    let begun = scene.clock.now().wall;
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Rotated, "{report:?}");
    let created = scene.rows().pop().unwrap().created_at.duration_since(begun).as_secs();
    assert!((84..92).contains(&created), "{created}");
}

/// An answer shows that the provider has had it: then `settle` is enough.
#[tokio::test(start_paused = true)]
async fn a_create_that_was_answered_with_an_error_is_made_again_after_settle() {
    let scene = Scene::new("").holding("c c c").faults(&["create:status=500,times=1"]);
    let begun = scene.clock.now().wall;
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
    let created = scene.rows().pop().unwrap().created_at.duration_since(begun).as_secs();
    assert!((20..25).contains(&created), "{created}");
}

/// Whatever ended the rotation that sent it, the server's next one waits for the rest of the time.
#[tokio::test(start_paused = true)]
async fn the_next_rotation_waits_for_what_the_failed_one_before_it_had_sent() {
    let faults = ["create:hang,times=1", "list:status=500,after=1,times=9"];
    let scene = Scene::new("").holding("c c c").faults(&faults);
    arrives_in(&scene, 60);
    let begun = scene.clock.now().uptime;
    let next_start = Some("2026-11-23T03:00:10Z".parse().unwrap());
    let report = scene.rotate_as(&Job { next_start, ..scene.job() }).await;
    assert_eq!(report.outcome, RotationOutcome::Failed, "{report:?}");
    scene.memory.provider.lock().unwrap().faults().clear();
    assert!((scene.clock.now().uptime - begun).as_secs() < 60, "{report:?}");
    let report = scene.rotate().await;
    assert_eq!(report.outcome, RotationOutcome::Adopted, "{report:?}");
    assert_eq!((scene.made(), scene.calls(Operation::Create)), (1, 1));
}

/// A state directory that became read-only, or a disk that gives errors: the record is there, and
/// cannot be removed. Here a directory is in its place.
#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_removed_is_not_waited_for_without_end() {
    let mut scene = Scene::new("").holding("c c c");
    let state = tempfile::tempdir().unwrap();
    scene.exclusion = dead_process(&state, &scene).await;
    let records = state.path().join("lock.creates");
    let is_record = |path: &std::path::PathBuf| !path.ends_with("since");
    let record = records.read_dir().unwrap().map(|it| it.unwrap().path()).find(is_record).unwrap();
    std::fs::remove_file(&record).unwrap();
    std::fs::create_dir(&record).unwrap();
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
    let begun = scene.clock.now().uptime;
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Adopted);
    assert!(scene.clock.now().uptime - begun < Duration::from_secs(5), "it was waited for before");
}

/// The claim is held all the time, so no other process can have settled it.
#[tokio::test(start_paused = true)]
async fn a_create_whose_record_is_deleted_meanwhile_is_not_made_again() {
    let mut scene = Scene::new("").holding("c c c").faults(&["create:hang,times=1"]);
    let state = tempfile::tempdir().unwrap();
    scene.exclusion = Exclusion::on_machine(&state.path().join("lock"), "a", &scene.clock).unwrap();
    arrives_in(&scene, 40);
    let (clock, records) = (scene.clock.clone(), state.path().join("lock.creates"));
    tokio::spawn(async move {
        clock.sleep(Duration::from_secs(10)).await;
        std::fs::remove_dir_all(records).unwrap();
    });
    let report = scene.rotate().await;
    assert_eq!((scene.made(), scene.calls(Operation::Create)), (1, 1), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_create_that_was_refused_is_not_waited_for_by_a_later_process() {
    let mut scene = Scene::new("").holding("c c c").faults(&["create:status=400,times=1"]);
    let state = tempfile::tempdir().unwrap();
    let lock = state.path().join("lock");
    scene.exclusion = Exclusion::on_machine(&lock, "a", &scene.clock).unwrap();
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Failed);
    scene.clock.sleep(Duration::from_hours(3)).await;
    scene.exclusion = Exclusion::on_machine(&lock, "a", &scene.clock).unwrap();
    let begun = scene.clock.now().wall;
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
    let created = scene.rows().pop().unwrap().created_at.duration_since(begun).as_secs();
    assert!(created < 5, "{created} s");
}

/// Looks for the record of the create while it runs.
struct LooksForRecords(std::path::PathBuf, Mutex<Vec<usize>>);

impl HookRunner for LooksForRecords {
    fn run(&self, _: Invocation) -> Running<'_> {
        self.1.lock().unwrap().push(self.0.read_dir().unwrap().count());
        Box::pin(async { Ok(()) })
    }
}

/// A hook may freeze the file system that records are written to.
#[tokio::test(start_paused = true)]
async fn a_create_is_recorded_before_its_hook_runs() {
    let lines = "[server.hooks]\nbefore = [\"freeze\"]\nafter = [\"thaw\"]";
    let mut scene = Scene::new(lines).holding("c c c");
    let state = tempfile::tempdir().unwrap();
    scene.exclusion = Exclusion::on_machine(&state.path().join("lock"), "a", &scene.clock).unwrap();
    let hooks = LooksForRecords(state.path().join("lock.creates"), Mutex::default());
    let hooks = Arc::new(hooks);
    scene.context.hooks = Arc::clone(&hooks) as Arc<dyn HookRunner>;
    assert_eq!(scene.rotate().await.outcome, RotationOutcome::Rotated);
    // `since`, the record, and the note that `after` is owed; then without the record.
    assert_eq!(*hooks.1.lock().unwrap(), [3, 2]);
    assert_eq!(hooks.0.read_dir().unwrap().count(), 1);
}
