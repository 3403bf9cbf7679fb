//! The protocol holds, and each of its rules is needed.
#![allow(clippy::unwrap_used)]

use snapring_core::replica::Timing;
use snapring_model::claims::{Claims, ONE_CREATE};
use snapring_model::fleet::{Failovers, Faults, Fleet, MISSED, RECOVERS, SENT_LATE, UNIT, units};
use snapring_model::variant::Without;
use stateright::{Checker, HasDiscoveries, Model};

/// Two replicas and spans that are as short as possible.
fn fleet(faults: Faults) -> Fleet {
    let without = Without::Nothing;
    let interchangeable = std::env::var_os("READABLE").is_none();
    let recovers = false;
    Fleet { replicas: 2, lease: 2, arrival: 1, faults, without, interchangeable, recovers }
}

const FAILOVER: Faults = Faults { failovers: Failovers::Once, ..Faults::NONE };
const RELEASES: Faults = Faults { releases: true, ..Faults::NONE };
const FAILOVER_AND_RELEASES: Faults = Faults { releases: true, ..FAILOVER };

/// Explores everything.
fn holds(fleet: Fleet) {
    let checker = fleet.clone().checker().spawn_bfs().join();
    println!("{} states, {fleet:?}", checker.unique_state_count());
    checker.assert_properties();
}

/// Finds a counterexample to one of these properties.
fn fails(fleet: Fleet, properties: &[&'static str]) {
    let finish = HasDiscoveries::AnyFailures;
    let checker = fleet.clone().checker().finish_when(finish).spawn_bfs().join();
    let states = checker.unique_state_count();
    let found = properties.iter().find_map(|name| Some((name, checker.discovery(name)?)));
    let Some((name, path)) = found else { panic!("{states} states, and all is well: {fleet:?}") };
    println!("{:?}: {states} states", fleet.without);
    println!("not true: {name}: {:?}", path.into_actions());
}

fn without(rule: Without, faults: Faults) -> Fleet {
    Fleet { without: rule, ..fleet(faults) }
}

#[test]
fn it_holds_and_recovers_with_lost_answers_and_any_delay() {
    holds(Fleet { recovers: true, ..fleet(Faults::NONE) });
}

#[test]
fn it_holds_with_crashes_releases_and_late_statements() {
    holds(fleet(Faults { crashes: true, strays: true, ..RELEASES }));
}

#[test]
fn it_holds_with_sleeping_machines() {
    holds(fleet(Faults { sleeps: true, ..Faults::NONE }));
}

#[test]
fn it_holds_when_the_database_fails_over() {
    holds(fleet(FAILOVER_AND_RELEASES));
}

/// The model's spans are the shortest that are safe. The product's must not be shorter.
#[test]
fn the_products_spans_are_at_least_those_of_the_model() {
    let model = fleet(Faults::NONE);
    let (lease, timeout, settle) = (units(model.lease), units(model.arrival) / 2, UNIT / 2);
    let (product, model) = (Timing::new(lease, timeout, settle), model.timing());
    assert_eq!(product.lease, model.lease);
    assert!(product.watch >= model.watch);
    assert!(product.grace >= model.grace);
    assert!(product.proof >= model.proof);
}

#[test]
fn no_check_before_a_send() {
    fails(without(Without::CheckBeforeSend, Faults::NONE), &[SENT_LATE, MISSED]);
}

#[test]
fn no_grace() {
    fails(without(Without::Grace, Faults::NONE), &[MISSED]);
}

#[test]
fn grace_one_unit_short() {
    let rule = Without::LastUnitOfGrace;
    fails(Fleet { arrival: 2, ..without(rule, Faults::NONE) }, &[MISSED]);
}

#[test]
fn the_grace_after_a_free_row_one_unit_short() {
    fails(without(Without::LastUnitOfProof, FAILOVER_AND_RELEASES), &[MISSED]);
}

#[test]
fn trust_counted_from_the_answer() {
    fails(without(Without::TrustFromQuestion, Faults::NONE), &[SENT_LATE, MISSED]);
}

#[test]
fn trust_by_a_clock_that_sleeps() {
    let faults = Faults { sleeps: true, ..Faults::NONE };
    fails(without(Without::TrustByWallClock, faults), &[SENT_LATE, MISSED]);
}

#[test]
fn a_late_answer_that_revives_the_trust() {
    fails(without(Without::FinalEndOfTrust, FAILOVER), &[SENT_LATE, MISSED]);
}

#[test]
fn renewal_by_fleet_alone() {
    fails(without(Without::HolderInRenewal, FAILOVER_AND_RELEASES), &[SENT_LATE, MISSED]);
}

#[test]
fn lapse_by_the_databases_clock() {
    let faults = Faults { database_clock: true, ..Faults::NONE };
    fails(without(Without::WatchersOwnClock, faults), &[SENT_LATE, MISSED]);
}

#[test]
fn lapse_by_the_databases_clock_with_a_failover() {
    fails(without(Without::WatchersOwnClock, FAILOVER), &[SENT_LATE, MISSED]);
}

#[test]
fn watch_counted_from_the_question() {
    fails(without(Without::WatchFromAnswer, Faults::NONE), &[SENT_LATE, MISSED]);
}

#[test]
fn watch_kept_over_a_failover() {
    fails(without(Without::WatchAnewAfterFailover, FAILOVER), &[SENT_LATE, MISSED]);
}

#[test]
fn a_take_over_that_another_database_answered_relied_on() {
    fails(without(Without::CareWithTakeOverByOtherDatabase, FAILOVER), &[SENT_LATE, MISSED]);
}

#[test]
fn a_released_row_taken_at_once_after_a_failover() {
    fails(without(Without::ProofAfterFreeRow, FAILOVER_AND_RELEASES), &[SENT_LATE, MISSED]);
}

#[test]
fn a_rotation_that_outlives_its_term() {
    fails(without(Without::EndOfRotationWithTerm, Faults::NONE), &[SENT_LATE]);
}

#[test]
fn a_row_released_before_what_was_sent_is_listed() {
    fails(without(Without::ListedBeforeRelease, RELEASES), &[MISSED]);
}

#[test]
fn a_row_released_in_its_own_grace() {
    fails(without(Without::NoReleaseInGrace, RELEASES), &[MISSED]);
}

#[test]
fn a_dead_holder_that_nobody_replaces() {
    let fleet = without(Without::TakeOverOfLapsed, Faults::NONE);
    fails(Fleet { recovers: true, ..fleet }, &[RECOVERS]);
}

#[test]
fn claims_per_server_and_tick() {
    let create_twice =
        |claims: Claims| claims.checker().spawn_bfs().join().discovery(ONE_CREATE).is_some();
    assert!(create_twice(Claims { failovers: true, lapse: false }));
    assert!(create_twice(Claims { failovers: false, lapse: true }));
    // Without both it holds, but a replica that crashes takes its ticks with it.
    assert!(!create_twice(Claims { failovers: false, lapse: false }));
}
