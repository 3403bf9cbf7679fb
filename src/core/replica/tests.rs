//! One test or more per rule. Lease 30 s, read or renewed every 5 s, watched for 37.5 s; timeout 20 s and
//! settle 10 s, so a grace of 30 s.

mod properties;

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;

use super::*;

const LEASE: u64 = 30_000;
const PACE: u64 = 5_000;
const WATCH: u64 = 37_500;
const GRACE: u64 = 30_000;
const MINE: u128 = 100;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn timing() -> Timing {
    Timing::new(ms(LEASE), ms(20_000), ms(10_000))
}

fn database(number: u32) -> Database {
    Database {
        timeline: number,
        started_at: Timestamp::UNIX_EPOCH,
        is_in_recovery: false,
        connection: 1,
    }
}

fn row(holder: u128, term: u64, beat: u64) -> Row {
    let version = Version { holder: Some(HolderId(holder)), term: Term(term), beat: Beat(beat) };
    Row { version, released: false }
}

fn released(row: Row) -> Row {
    Row { released: true, ..row }
}

/// A replica with a clock and a database.
struct Bench {
    replica: Replica,
    now: Moment,
    database: Database,
    drawn: u128,
}

impl Bench {
    fn new() -> Self {
        let wall = "2026-11-23T02:00:00Z".parse().unwrap();
        let now = Moment { wall, uptime: Duration::ZERO };
        let replica = Replica::new(timing());
        Self { replica, now, database: database(1), drawn: MINE }
    }

    fn next(&mut self, event: Event) -> Option<Order> {
        self.drawn += 1;
        self.replica.next(event, self.now, HolderId(self.drawn))
    }

    fn pass(&mut self, span: u64) -> Option<Order> {
        self.now.uptime += ms(span);
        self.now.wall += ms(span);
        self.next(Event::Woken)
    }

    /// The statement is answered, which takes no time.
    fn answer(&mut self, answer: Answer) -> Option<Order> {
        self.answer_sent_at(self.now, answer)
    }

    fn answer_sent_at(&mut self, sent_at: Moment, answer: Answer) -> Option<Order> {
        let database = self.database;
        let answered_at = self.now;
        self.next(Event::Answered { sent_at, answered_at, database, answer })
    }

    /// Time passes in which the database always shows this row.
    fn watch(&mut self, row: Row, span: u64) {
        let end = self.now.uptime + ms(span);
        while self.now.uptime < end {
            let step = PACE.min(u64::try_from((end - self.now.uptime).as_millis()).unwrap());
            if let Some(order) = self.pass(step) {
                assert_eq!(order, Order::Read);
                self.answer(Answer::Read(row));
            }
        }
    }

    /// Time passes in which every renewal succeeds.
    fn renew(&mut self, span: u64) {
        for _ in 0..span / PACE {
            if self.pass(PACE).is_some() {
                self.answer(Answer::Renewed(true));
            }
        }
    }

    /// It has taken over a row that had lapsed.
    fn took_lapsed() -> Self {
        let mut bench = Self::new();
        bench.pass(0);
        bench.answer(Answer::Read(row(1, 7, 5)));
        bench.watch(row(1, 7, 5), WATCH - 1);
        assert!(matches!(bench.pass(1), Some(Order::TakeOver { .. })));
        bench.answer(Answer::TookOver(true));
        assert_eq!(bench.replica.stage(), Stage::Grace);
        bench
    }

    /// It has taken over a row that had lapsed, and its grace is over.
    fn holding() -> (Self, HolderId) {
        let mut bench = Self::took_lapsed();
        bench.renew(GRACE);
        let holding = bench.replica.may_look(bench.now).unwrap();
        (bench, holding)
    }

    /// Asked to end; its calls have ended, and listings show what became of them after this span.
    fn end(&mut self, settled_in: u64) -> Option<Order> {
        assert_eq!(self.next(Event::EndAsked), None);
        let settled_at = self.now.uptime + ms(settled_in);
        self.next(Event::CallsEnded { settled_at })
    }
}

#[test]
fn it_reads_the_row_at_once_and_then_every_sixth_of_a_lease() {
    let mut bench = Bench::new();
    assert_eq!(bench.replica.stage(), Stage::Away);
    assert_eq!(bench.pass(0), Some(Order::Read));
    assert_eq!(bench.pass(PACE), None, "one statement at a time");
    assert_eq!(bench.answer(Answer::Read(row(1, 7, 5))), Some(Order::Read), "it is late by then");
    assert_eq!(bench.answer(Answer::Read(row(1, 7, 5))), None);
    assert_eq!(bench.replica.stage(), Stage::Watching);
    assert_eq!(bench.pass(PACE - 1), None);
    assert_eq!(bench.pass(1), Some(Order::Read));
}

#[test]
fn a_row_that_is_unchanged_for_the_watch_is_taken_as_it_was_seen() {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.answer(Answer::Read(row(1, 7, 5)));
    bench.watch(row(1, 7, 5), WATCH - 1);
    assert_eq!(bench.replica.stage(), Stage::Watching);
    let seen = row(1, 7, 5).version;
    let Some(Order::TakeOver { seen: asked, holder }) = bench.pass(1) else { panic!() };
    assert_eq!(asked, seen);
    assert_eq!(bench.replica.stage(), Stage::Asking);
    bench.answer(Answer::TookOver(true));
    assert_eq!(bench.replica.holds(bench.now), Some(holder));
    assert_eq!(bench.replica.term(bench.now), Some(Term(8)));
}

#[rstest]
#[case::renewed(row(1, 7, 6))]
#[case::taken_over(row(2, 8, 5))]
#[case::another_holder_of_the_same_number(row(2, 7, 5))]
fn a_row_that_changes_is_watched_anew(#[case] changed: Row) {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.answer(Answer::Read(row(1, 7, 5)));
    bench.watch(row(1, 7, 5), 30_000);
    bench.watch(changed, WATCH);
    assert_eq!(bench.replica.stage(), Stage::Watching);
    assert!(matches!(bench.pass(PACE), Some(Order::TakeOver { .. })));
}

#[test]
fn the_watch_counts_from_the_answer() {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.pass(4_000);
    bench.answer(Answer::Read(row(1, 7, 5)));
    bench.watch(row(1, 7, 5), WATCH - 1);
    assert_eq!(bench.replica.stage(), Stage::Watching);
}

#[test]
fn a_wall_clock_that_is_set_forward_makes_no_row_old() {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.answer(Answer::Read(row(1, 7, 5)));
    bench.now.wall += SignedDuration::from_hours(1);
    bench.watch(row(1, 7, 5), PACE);
    assert_eq!(bench.replica.stage(), Stage::Watching);
}

#[rstest]
#[case::timeline(Database { timeline: 2, ..database(1) })]
#[case::restarted(Database { started_at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1), ..database(1) })]
#[case::connection(Database { connection: 2, ..database(1) })]
fn another_database_is_watched_anew(#[case] other: Database) {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.answer(Answer::Read(row(1, 7, 5)));
    bench.watch(row(1, 7, 5), 30_000);
    bench.replica.take_remarks();
    bench.database = other;
    bench.watch(row(1, 7, 5), WATCH);
    assert_eq!(bench.replica.stage(), Stage::Watching);
    assert_eq!(bench.replica.take_remarks(), [Remark::OtherDatabase]);
    assert!(matches!(bench.pass(PACE), Some(Order::TakeOver { .. })));
}

#[test]
fn a_copy_of_the_database_is_no_answer() {
    let mut bench = Bench::new();
    bench.database.is_in_recovery = true;
    bench.pass(0);
    bench.answer(Answer::Read(Row::default()));
    assert_eq!(bench.replica.stage(), Stage::Away);
}

#[test]
fn a_read_without_an_answer_ends_the_watch() {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.answer(Answer::Read(row(1, 7, 5)));
    bench.watch(row(1, 7, 5), 30_000);
    bench.pass(PACE);
    assert_eq!(bench.next(Event::NotAnswered), None);
    assert_eq!(bench.replica.stage(), Stage::Away);
    bench.watch(row(1, 7, 5), WATCH);
    assert_eq!(bench.replica.stage(), Stage::Watching);
}

/// What was not answered may have met another database.
#[test]
fn a_read_without_an_answer_ends_the_proof_that_the_database_is_the_same() {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.answer(Answer::Read(row(1, 7, 5)));
    bench.watch(row(1, 7, 5), 30_000);
    bench.pass(PACE);
    bench.next(Event::NotAnswered);
    bench.pass(PACE);
    let answered_at = bench.now.uptime;
    bench.answer(Answer::Read(released(row(1, 7, 5))));
    bench.answer(Answer::TookOver(true));
    assert_eq!(bench.replica.grace_until(), Some(answered_at + ms(WATCH + GRACE)));
}

#[rstest]
#[case::nobody_ever_held_it(Row::default())]
#[case::released(released(row(1, 7, 5)))]
fn a_free_row_is_taken_at_once_and_looked_at_when_the_database_has_proved_itself(
    #[case] free: Row,
) {
    let mut bench = Bench::new();
    bench.pass(0);
    let order = bench.answer(Answer::Read(free));
    assert!(matches!(order, Some(Order::TakeOver { seen, .. }) if seen == free.version));
    bench.answer(Answer::TookOver(true));
    assert_eq!(bench.replica.grace_until(), Some(ms(WATCH + GRACE)));
    bench.renew(WATCH + GRACE - 2_500);
    assert_eq!(bench.replica.stage(), Stage::Grace);
    assert_eq!(bench.replica.may_look(bench.now), None);
    bench.renew(PACE);
    assert_eq!(bench.replica.stage(), Stage::Holding);
}

#[test]
fn a_row_that_is_released_under_its_watcher_is_looked_at_without_a_grace() {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.answer(Answer::Read(row(1, 7, 1)));
    for beat in 2..20 {
        bench.watch(row(1, 7, beat), PACE);
    }
    bench.pass(PACE);
    assert!(bench.answer(Answer::Read(released(row(1, 7, 20)))).is_some());
    bench.answer(Answer::TookOver(true));
    assert_eq!(bench.replica.stage(), Stage::Holding);
    let taken = Taken::Free;
    let remark = Remark::TookOver { term: Term(8), taken, looks_in: Duration::ZERO };
    assert_eq!(bench.replica.take_remarks(), [remark]);
}

#[test]
fn nothing_is_looked_at_before_the_grace_has_passed() {
    let mut bench = Bench::took_lapsed();
    let holding = bench.replica.holds(bench.now).unwrap();
    assert_eq!(bench.replica.grace_until(), Some(bench.now.uptime + ms(GRACE)));
    bench.renew(GRACE - PACE);
    bench.pass(PACE - 1);
    assert_eq!(bench.replica.may_look(bench.now), None);
    assert!(!bench.replica.may_send(holding, bench.now));
    bench.pass(1);
    assert_eq!(bench.replica.may_look(bench.now), Some(holding));
    assert!(bench.replica.may_send(holding, bench.now));
}

/// The watch was on another database, so it says nothing about the renewals that this one has lost.
#[test]
fn a_take_over_that_another_database_answered_waits_as_after_a_free_row() {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.answer(Answer::Read(row(1, 7, 5)));
    bench.watch(row(1, 7, 5), WATCH - 1);
    bench.pass(1);
    assert_eq!(bench.replica.stage(), Stage::Asking);
    bench.database = database(2);
    bench.answer(Answer::TookOver(true));
    assert_eq!(bench.replica.grace_until(), Some(bench.now.uptime + ms(WATCH + GRACE)));
}

#[test]
fn a_take_over_without_an_answer_belongs_to_nobody() {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.answer(Answer::Read(Row::default()));
    assert_eq!(bench.replica.stage(), Stage::Asking);
    bench.next(Event::NotAnswered);
    assert_eq!((bench.replica.stage(), bench.replica.holds(bench.now)), (Stage::Away, None));
    // It was carried out.
    bench.watch(row(MINE + 2, 1, 0), WATCH);
    assert_eq!(bench.replica.stage(), Stage::Watching);
    assert!(matches!(bench.pass(PACE), Some(Order::TakeOver { .. })));
}

#[test]
fn a_take_over_that_found_another_row_is_none() {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.answer(Answer::Read(Row::default()));
    bench.answer(Answer::TookOver(false));
    assert_eq!((bench.replica.stage(), bench.replica.holds(bench.now)), (Stage::Away, None));
}

#[test]
fn a_take_over_that_was_answered_after_a_lease_is_none() {
    let mut bench = Bench::new();
    bench.pass(0);
    let sent_at = bench.now;
    bench.answer(Answer::Read(Row::default()));
    bench.pass(LEASE);
    bench.answer_sent_at(sent_at, Answer::TookOver(true));
    assert_eq!((bench.replica.stage(), bench.replica.holds(bench.now)), (Stage::Away, None));
}

#[test]
fn it_is_trusted_for_a_lease_from_before_the_statement_was_sent() {
    let (mut bench, holding) = Bench::holding();
    assert!(bench.pass(PACE).is_some());
    let sent_at = bench.now;
    bench.pass(4_000);
    bench.answer_sent_at(sent_at, Answer::Renewed(true));
    assert_eq!(bench.replica.trust_left(bench.now), ms(LEASE - 4_000));
    bench.pass(LEASE - 4_001);
    assert!(bench.replica.may_send(holding, bench.now));
    // It is asked before it was woken.
    bench.now.uptime += ms(1);
    assert!(!bench.replica.may_send(holding, bench.now));
    assert_eq!(bench.replica.holds(bench.now), None);
}

#[rstest]
#[case::a_sleep_that_stops_the_uptime(SignedDuration::from_secs(30), 0)]
#[case::a_wall_clock_set_back(SignedDuration::from_hours(-1), LEASE)]
fn the_larger_age_of_both_clocks_counts(#[case] wall: SignedDuration, #[case] uptime: u64) {
    let (mut bench, holding) = Bench::holding();
    bench.now.wall += wall;
    bench.now.uptime += ms(uptime);
    assert!(!bench.replica.may_send(holding, bench.now));
    bench.next(Event::Woken);
    assert_eq!(bench.replica.stage(), Stage::Away);
}

#[test]
fn a_renewal_without_an_answer_extends_nothing_and_takes_nothing() {
    let (mut bench, holding) = Bench::holding();
    for _ in 0..5 {
        assert!(matches!(bench.pass(PACE), Some(Order::Renew { .. })));
        bench.next(Event::NotAnswered);
        assert!(bench.replica.may_send(holding, bench.now));
    }
    bench.replica.take_remarks();
    bench.pass(PACE);
    assert!(!bench.replica.may_send(holding, bench.now));
    let lost = Remark::Lost { term: Term(8), why: Loss::NotHeard };
    assert_eq!(bench.replica.take_remarks(), [lost]);
}

/// A failover can bring back the row of this replica after another one has held it.
#[test]
fn an_answer_that_comes_after_the_trust_has_ended_revives_nothing() {
    let (mut bench, holding) = Bench::holding();
    bench.pass(PACE);
    let sent_at = bench.now;
    // The process was frozen: it learns all of this at once.
    bench.now.uptime += ms(LEASE - 1);
    bench.answer_sent_at(sent_at, Answer::Renewed(true));
    assert!(!bench.replica.may_send(holding, bench.now));
    assert_eq!(bench.replica.stage(), Stage::Away);
}

#[test]
fn a_renewal_that_finds_no_row_ends_the_holding_at_once() {
    let (mut bench, holding) = Bench::holding();
    bench.replica.take_remarks();
    bench.pass(PACE);
    bench.answer(Answer::Renewed(false));
    assert!(!bench.replica.may_send(holding, bench.now));
    assert_eq!(bench.replica.stage(), Stage::Away);
    let lost = Remark::Lost { term: Term(8), why: Loss::NotMine };
    assert_eq!(bench.replica.take_remarks(), [lost]);
}

/// A failover gives the same number twice, so the number cannot tell two holdings apart.
#[test]
fn a_rotation_of_an_earlier_holding_may_not_send_though_replica_and_term_are_the_same() {
    let (mut bench, first) = Bench::holding();
    bench.pass(PACE);
    bench.answer(Answer::Renewed(false));
    bench.database = database(2);
    bench.watch(row(1, 7, 5), PACE);
    bench.watch(row(1, 7, 5), WATCH - 1);
    bench.pass(1);
    bench.answer(Answer::TookOver(true));
    bench.renew(GRACE);
    let second = bench.replica.may_look(bench.now).unwrap();
    assert_eq!(bench.replica.term(bench.now), Some(Term(8)));
    assert!(bench.replica.may_send(second, bench.now));
    assert!(!bench.replica.may_send(first, bench.now));
}

#[test]
fn when_asked_to_end_it_lets_calls_finish_starts_nothing_and_releases() {
    let (mut bench, holding) = Bench::holding();
    bench.next(Event::EndAsked);
    assert_eq!(bench.replica.stage(), Stage::Ending);
    assert_eq!(bench.replica.may_look(bench.now), None);
    assert!(bench.replica.may_send(holding, bench.now));
    bench.renew(60_000);
    let order = bench.next(Event::CallsEnded { settled_at: bench.now.uptime });
    assert_eq!(order, Some(Order::Release { holder: holding, term: Term(8) }));
    assert!(!bench.replica.may_send(holding, bench.now));
    assert!(!bench.replica.has_ended());
    bench.answer(Answer::Released(true));
    assert!(bench.replica.has_ended());
    assert_eq!(bench.replica.next_wake(), None);
}

/// The next replica looks at once at what it finds released.
#[test]
fn the_row_is_not_released_before_everything_that_was_sent_is_listed() {
    let (mut bench, holding) = Bench::holding();
    assert_eq!(bench.end(12_000), None);
    bench.renew(10_000);
    assert_eq!(bench.pass(1_999), None);
    let released = bench.pass(1);
    assert_eq!(released, Some(Order::Release { holder: holding, term: Term(8) }));
}

#[test]
fn a_release_without_an_answer_is_sent_again_until_the_trust_ends() {
    let (mut bench, holding) = Bench::holding();
    assert!(bench.end(0).is_some());
    for _ in 0..5 {
        bench.next(Event::NotAnswered);
        let again = bench.pass(PACE);
        assert_eq!(again, Some(Order::Release { holder: holding, term: Term(8) }));
    }
    bench.pass(PACE);
    assert!(bench.replica.has_ended());
}

#[test]
fn a_replica_in_its_grace_releases_nothing() {
    let mut bench = Bench::took_lapsed();
    assert_eq!(bench.end(0), None);
    assert!(bench.replica.has_ended());
    assert_eq!(bench.pass(PACE), None);
}

#[test]
fn a_replica_that_holds_nothing_ends_at_once() {
    let mut bench = Bench::new();
    bench.pass(0);
    bench.next(Event::EndAsked);
    assert!(bench.replica.has_ended());
    assert_eq!(bench.answer(Answer::Read(Row::default())), None);
    assert!(bench.replica.has_ended());
}

#[test]
fn a_holding_that_is_lost_while_ending_is_not_taken_back() {
    let (mut bench, _) = Bench::holding();
    bench.next(Event::EndAsked);
    bench.pass(LEASE);
    assert!(bench.replica.has_ended());
}

#[test]
fn it_is_woken_for_each_thing_that_is_due() {
    let mut bench = Bench::new();
    assert_eq!(bench.replica.next_wake(), Some(Duration::ZERO));
    bench.pass(0);
    assert_eq!(bench.replica.next_wake(), None, "only an answer can change something");
    bench.answer(Answer::Read(row(1, 7, 5)));
    assert_eq!(bench.replica.next_wake(), Some(ms(PACE)));
    bench.watch(row(1, 7, 5), 35_000);
    assert_eq!(bench.replica.next_wake(), Some(ms(WATCH)));
    bench.pass(2_500);
    let asked_at = bench.now.uptime;
    bench.answer(Answer::TookOver(true));
    assert_eq!(bench.replica.next_wake(), Some(asked_at + ms(PACE)));
    bench.pass(PACE);
    assert_eq!(bench.replica.next_wake(), Some(asked_at + ms(LEASE)), "the trust ends");
    bench.answer(Answer::Renewed(true));
    assert_eq!(bench.replica.next_wake(), Some(asked_at + ms(2 * PACE)));
    bench.renew(GRACE - PACE);
    bench.end(1_000);
    assert_eq!(bench.replica.next_wake(), Some(bench.now.uptime + ms(1_000)));
}

/// The spans that the proof depends on.
#[rstest]
#[case(5)]
#[case(30)]
#[case(600)]
fn the_spans_are_safe_together(#[case] lease: u64) {
    let timing = Timing::new(ms(lease * 1000), ms(20_000), ms(10_000));
    assert_eq!(timing.watch.as_millis(), u128::from(lease) * 1250);
    assert!(timing.pace * 6 <= timing.lease);
    assert_eq!(timing.grace, ms(30_000));
    assert_eq!(timing.proof, timing.watch + timing.grace);
}
