use rstest::rstest;

use super::*;
use crate::moment::Moment;
use crate::naming::ServerId;

fn row(id: u64, name: &str, hour: i64, description: Option<&str>) -> Snapshot {
    Snapshot {
        id: SnapshotId(id),
        server: ServerId::new(101),
        name: name.into(),
        status: Status::Completed,
        size_mb: None,
        created_at: Timestamp::from_second(hour * 3600).unwrap(),
        description: description.map(Into::into),
    }
}

fn listing(snapshots: Vec<Snapshot>) -> Listing {
    let asked_at = Moment { wall: Timestamp::UNIX_EPOCH, uptime: Duration::ZERO };
    Listing::complete(ServerId::new(101), snapshots, asked_at)
}

fn chosen(choice: Result<Choice, NoChoice>) -> (Option<u64>, Vec<String>) {
    match choice {
        Ok(choice) => {
            let names = choice.passed_over.into_iter().map(|(name, _)| name);
            (Some(choice.snapshot.id.0), names.collect())
        }
        Err(NoChoice::None) => (None, Vec::new()),
        Err(unclear) => panic!("{unclear:?}"),
    }
}

/// Its ticks are at midnight, as those in [`MANAGED`].
fn server() -> std::sync::Arc<Server> {
    crate::testing::server(101, "schedule = \"0 0 * * *\"")
}

fn safeties(ids: &[u64]) -> NotedSnapshots {
    let safety = ids.iter().map(|id| SnapshotId(*id)).collect();
    NotedSnapshots { safety, ..NotedSnapshots::default() }
}

const MANAGED: [&str; 3] =
    ["snapring-19700102T000000Z", "snapring-19700103T000000Z", "snapring-19700104T000000Z"];

#[test]
fn what_was_taken_before_a_restore_is_known_by_its_description_its_old_name_or_a_note() {
    let (server, none) = (server(), safeties(&[]));
    let says = row(3, MANAGED[2], 72, Some("created before restoring snapshot 1"));
    let silent = row(3, MANAGED[2], 72, None);
    let old = row(3, "before-restore-20261123-030000", 72, None);
    let good = || row(1, "by-hand", 24, Some("rotated by snapring"));
    for safety in [says, old] {
        let listing = listing(vec![good(), safety.clone()]);
        assert_eq!(
            chosen(latest(&listing, &server, &none)),
            (Some(1), vec![safety.name.to_string()])
        );
    }
    let listing = listing(vec![good(), silent]);
    assert_eq!(chosen(latest(&listing, &server, &none)), (Some(3), vec![]));
    let by_note = chosen(latest(&listing, &server, &safeties(&[3])));
    assert_eq!(by_note, (Some(1), vec![MANAGED[2].to_owned()]));
    assert_eq!(chosen(latest(&listing, &server, &safeties(&[1, 3]))), (None, vec![]));
}

#[test]
fn after_a_restore_that_left_the_server_broken_latest_is_no_newer_than_its_source() {
    let server = server();
    let rows = || {
        vec![
            row(1, MANAGED[0], 24, Some("rotated by snapring")),
            row(2, "good", 25, None),
            row(3, MANAGED[1], 48, Some("created before restoring snapshot 2")),
            row(4, "by-hand", 49, None),
            row(5, "of-broken", 50, Some(&describing_broken("mine"))),
        ]
    };
    let latest = |rows, failed| {
        let noted = NotedSnapshots { failed, ..NotedSnapshots::default() };
        let choice = latest(&listing(rows), &server, &noted).unwrap();
        let why: Vec<PassedOver> = choice.passed_over.into_iter().map(|(_, why)| why).collect();
        (choice.snapshot.id.0, why)
    };
    let (of_broken, after, safety) =
        (PassedOver::OfBroken, PassedOver::AfterFailed, PassedOver::Safety);
    assert_eq!(latest(rows(), Some(SnapshotId(2))), (2, vec![of_broken, after, safety]));
    assert_eq!(latest(rows(), None), (4, vec![of_broken]), "another restore has succeeded since");
    let mut rows = rows();
    rows.retain(|row| row.id.0 != 2);
    assert_eq!(latest(rows, Some(SnapshotId(2))), (1, vec![of_broken, after, safety]));
}

/// The provider keeps no descriptions, and there is no history.
#[test]
fn a_rotation_by_hand_of_which_nothing_tells_what_for_is_not_taken_for_the_latest() {
    let server = server();
    let by_hand = "snapring-19700104T091501Z";
    let rows = vec![
        row(1, MANAGED[0], 24, None),
        row(2, "foreign", 25, None),
        row(3, "snapring-19700104T091500Z", 81, None),
        row(4, by_hand, 82, None),
    ];
    let listing = listing(rows);
    let unclear = |choice: Result<Choice, NoChoice>| match choice {
        Err(NoChoice::Unclear(both)) => (both.0.id.0, both.1.map(|it| it.id.0)),
        other => panic!("{other:?}"),
    };
    assert_eq!(unclear(latest(&listing, &server, &safeties(&[]))), (4, Some(2)));
    let at = Timestamp::from_second(100 * 3600).unwrap();
    assert_eq!(unclear(latest_before(&listing, &server, at, &safeties(&[]))), (4, Some(1)));
    // It is what the history says, or the provider.
    assert_eq!(chosen(latest(&listing, &server, &safeties(&[3, 4]))).0, Some(2));
    let rotated = BTreeSet::from([by_hand.to_owned()]);
    let noted = NotedSnapshots { rotated, ..NotedSnapshots::default() };
    assert_eq!(chosen(latest(&listing, &server, &noted)), (Some(4), vec![]));
    let described = row(4, by_hand, 82, Some("rotated by snapring"));
    let listing = Listing::complete(ServerId::new(101), vec![described], listing.asked_at);
    assert_eq!(chosen(latest(&listing, &server, &safeties(&[]))), (Some(4), vec![]));
}

#[test]
fn before_a_time_is_the_newest_completed_managed_one_that_is_older_by_both_clocks() {
    let (server, none) = (server(), safeties(&[]));
    let mut rows = vec![
        row(1, MANAGED[0], 24, None),
        // It started late: what it holds is newer than its tick.
        row(2, MANAGED[1], 49, None),
        row(3, "by-hand", 50, None),
        row(4, MANAGED[2], 72, None),
    ];
    let before = |rows: &Vec<Snapshot>, hour: i64| {
        let at = Timestamp::from_second(hour * 3600).unwrap();
        chosen(latest_before(&listing(rows.clone()), &server, at, &none)).0
    };
    assert_eq!(before(&rows, 24), None, "not older");
    assert_eq!(before(&rows, 25), Some(1));
    assert_eq!(before(&rows, 49), Some(1), "by the provider's clock");
    assert_eq!(before(&rows, 60), Some(2), "by hand is not managed");
    assert_eq!(before(&rows, 100), Some(4));
    rows[3].status = Status::InProgress;
    assert_eq!(before(&rows, 100), Some(2), "not completed");
    rows[1].description = Some("created before restoring snapshot 1".into());
    assert_eq!(before(&rows, 100), Some(1), "taken before a restore");
}

#[test]
fn the_source_is_protected_while_a_snapshot_is_taken_first_and_the_description_says_what_for() {
    let server = crate::testing::server(101, "");
    let source = SnapshotId(801);
    let protecting = protecting(&server, source);
    assert_eq!(protecting.policy.to_restore, Some(source));
    assert_eq!(protecting.policy.keep, server.policy.keep);
    let taken = row(9, MANAGED[0], 24, Some(&protecting.description));
    assert!(is_safety(&taken, &BTreeSet::new()), "{}", protecting.description);
}

const RESTORING: Option<ServerState> = Some(ServerState::Restoring);
const AT_REST: Option<ServerState> = Some(ServerState::Active);
const OFF: Option<ServerState> = Some(ServerState::Off);
const FAILED: Option<ServerState> = Some(ServerState::Failed);
const OTHER: Option<ServerState> = Some(ServerState::Other);

#[rstest]
#[case::seen_to_the_end(&[(0, RESTORING), (300, RESTORING), (305, AT_REST), (310, AT_REST)], RestoreSeen::Ended)]
#[case::one_look_is_not_enough(&[(0, RESTORING), (300, AT_REST)], RestoreSeen::GoesOn)]
#[case::an_old_copy_in_between(&[(0, RESTORING), (5, AT_REST), (10, RESTORING), (15, AT_REST)], RestoreSeen::GoesOn)]
#[case::looks_that_show_nothing(&[(0, RESTORING), (5, AT_REST), (10, None), (15, AT_REST)], RestoreSeen::Ended)]
#[case::stopped_for_the_restore(&[(0, RESTORING), (12, OFF), (14, OFF), (200, OFF)], RestoreSeen::GoesOn)]
#[case::stopped_afterwards(&[(0, RESTORING), (12, OFF), (300, OFF), (302, OFF)], RestoreSeen::Ended)]
#[case::shown_late(&[(0, AT_REST), (30, AT_REST), (35, RESTORING)], RestoreSeen::GoesOn)]
#[case::never_shown(&[(0, AT_REST), (30, AT_REST), (60, AT_REST)], RestoreSeen::NotShown)]
#[case::never_listed(&[(0, None), (600, None)], RestoreSeen::GoesOn)]
#[case::on_its_way_back(&[(0, RESTORING), (300, OTHER), (400, OTHER), (410, AT_REST), (415, AT_REST)], RestoreSeen::Ended)]
#[case::failed(&[(0, RESTORING), (60, FAILED), (62, FAILED)], RestoreSeen::Failed)]
#[case::failed_in_one_look(&[(0, RESTORING), (60, FAILED), (62, RESTORING)], RestoreSeen::GoesOn)]
#[case::stuck_in_another_state(&[(0, RESTORING), (300, OTHER), (420, OTHER)], RestoreSeen::Odd)]
fn a_restore_has_ended_once_two_looks_agree(
    #[case] looks: &[(u64, Option<ServerState>)],
    #[case] last: RestoreSeen,
) {
    let mut watch = RestoreWatch::default();
    let seen = looks.iter().map(|(at, state)| watch.saw(*state, Duration::from_secs(*at)));
    assert_eq!(seen.last(), Some(last));
}

#[rstest]
#[case("restoring", ServerState::Restoring)]
#[case("Restoring", ServerState::Restoring)]
#[case("active", ServerState::Active)]
#[case("stopped", ServerState::Off)]
#[case("error", ServerState::Failed)]
#[case("rebuilding", ServerState::Other)]
#[case("", ServerState::Other)]
fn the_words_of_the_provider_are_read(#[case] word: &str, #[case] state: ServerState) {
    assert_eq!(ServerState::of(word), state);
}
