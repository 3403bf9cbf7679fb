use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::clock::Clock;

const WEB: ServerId = ServerId::new(101);
const PLACE: i64 = 0x4711;
const SPAN: Duration = Duration::from_secs(54);

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn directory(state: &TempDir) -> PathBuf {
    state.path().join("creates")
}

fn file(state: &TempDir) -> PathBuf {
    directory(state).join("0000000000004711")
}

/// A process on a machine whose clock is this one.
fn process(state: &TempDir, clock: &Clock) -> OpenCreates {
    OpenCreates::recorded_in(Records::in_directory(directory(state), clock), Duration::ZERO)
}

async fn until(process: &OpenCreates, now: u64) -> Option<Duration> {
    process.until(WEB, PLACE, seconds(now), SPAN).await
}

async fn begin(process: &OpenCreates, now: u64, name: &str) {
    process.begin(WEB, PLACE, name, seconds(now), SPAN).await;
}

async fn end(process: &OpenCreates, now: u64, until: u64) {
    process.end(WEB, PLACE, seconds(until), seconds(now)).await;
}

async fn listed(process: &OpenCreates, asked_at: u64, names: &[&str]) {
    process.listed(WEB, PLACE, seconds(asked_at), names.iter().copied()).await;
}

#[tokio::test]
async fn a_create_is_open_until_a_listing_shows_it_or_comes_after_the_last_moment() {
    let process = OpenCreates::in_process();
    assert_eq!(until(&process, 0).await, None);
    begin(&process, 0, "new").await;
    end(&process, 30, 84).await;
    for (asked_at, names) in [(31, &["old"][..]), (83, &[])] {
        listed(&process, asked_at, names).await;
        assert_eq!(until(&process, asked_at).await, Some(seconds(84)));
    }
    listed(&process, 84, &[]).await;
    assert_eq!(until(&process, 84).await, None);

    begin(&process, 100, "newer").await;
    end(&process, 130, 184).await;
    listed(&process, 131, &["newer"]).await;
    assert_eq!(until(&process, 131).await, None);
}

#[tokio::test]
async fn one_that_was_not_sent_is_forgotten_and_one_that_was_broken_off_is_not() {
    let process = OpenCreates::in_process();
    begin(&process, 5, "new").await;
    end(&process, 5, 5).await;
    assert_eq!(until(&process, 5).await, None);
    begin(&process, 6, "new").await;
    assert_eq!(until(&process, 10).await, Some(seconds(64)));
    assert_eq!(until(&process, 20).await, Some(seconds(64)), "from when it was noticed");
}

#[tokio::test]
async fn an_earlier_one_stays_open_when_the_next_one_is_listed_or_was_not_sent() {
    let process = OpenCreates::in_process();
    begin(&process, 0, "one").await;
    end(&process, 30, 84).await;
    begin(&process, 39, "two").await;
    end(&process, 40, 40).await;
    assert_eq!(until(&process, 41).await, Some(seconds(84)));
    listed(&process, 50, &["two"]).await;
    assert_eq!(until(&process, 50).await, Some(seconds(84)));
    listed(&process, 84, &["two"]).await;
    assert_eq!(until(&process, 84).await, None);
}

#[tokio::test]
async fn what_a_process_that_died_had_sent_is_waited_for_by_the_next_one_alone() {
    let (state, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    let dead = process(&state, &clock);
    // With a longer timeout than the next one has.
    dead.begin(WEB, PLACE, "new", Duration::ZERO, seconds(90)).await;
    let next = process(&state, &clock);
    assert_eq!(until(&next, 4).await, Some(seconds(94)));
    assert_eq!(until(&next, 60).await, Some(seconds(94)), "from when it was noticed");
    assert_eq!(next.until(ServerId::new(102), 12, seconds(60), SPAN).await, None);
    listed(&next, 93, &[]).await;
    assert_eq!(until(&next, 93).await, Some(seconds(94)));
    listed(&next, 94, &[]).await;
    assert_eq!(until(&next, 94).await, None);
    assert_eq!(until(&process(&state, &clock), 0).await, None, "the record is gone");
}

/// However often a process is started and killed, the wait ends.
#[tokio::test]
async fn a_restart_does_not_begin_the_wait_anew() {
    let (state, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    begin(&process(&state, &clock), 0, "new").await;
    assert_eq!(until(&process(&state, &clock), 0).await, Some(SPAN));
    // 40 seconds later, by the record.
    let text = std::fs::read_to_string(file(&state)).unwrap();
    let last = text.lines().last().unwrap();
    let parts: Vec<&str> = last.split(' ').collect();
    let earlier: u64 = parts[1].parse::<u64>().unwrap() - 40_000;
    std::fs::write(file(&state), text.replace(parts[1], &earlier.to_string())).unwrap();
    let left = until(&process(&state, &clock), 0).await.unwrap();
    assert!(left <= seconds(14) && left > seconds(9), "{left:?}");
}

#[tokio::test]
async fn what_is_settled_by_time_alone_is_not_waited_for_by_a_later_process() {
    let (state, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    let refused = process(&state, &clock);
    begin(&refused, 100, "new").await;
    // An answer: it is listed at once, or never, and no look has followed.
    refused.end(WEB, PLACE, seconds(100) + Duration::from_millis(1), seconds(100)).await;
    clock.sleep(Duration::from_millis(5)).await;
    assert_eq!(until(&process(&state, &clock), 7).await, Some(seconds(7)));
}

/// Found on the real process: what a killed daemon had sent was forgotten by a create by hand.
#[tokio::test]
async fn a_create_by_hand_does_not_hide_what_a_killed_process_had_sent() {
    let (state, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    begin(&process(&state, &clock), 0, "snapring-of-the-tick").await;
    let person = process(&state, &clock);
    begin(&person, 3, "by-hand").await;
    end(&person, 4, 24).await;
    listed(&person, 5, &["by-hand"]).await;
    end(&person, 6, 6).await;
    let left = until(&process(&state, &clock), 0).await.unwrap();
    assert!(left > seconds(45), "{left:?}");
    let next = process(&state, &clock);
    assert!(until(&next, 0).await.is_some());
    listed(&next, 1, &["by-hand"]).await;
    assert!(until(&next, 1).await.is_some(), "listed, but not the one that was killed");
}

#[tokio::test]
async fn what_is_missing_or_found_on_the_disk_does_not_overrule_what_this_process_knows() {
    let (state, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    let own = process(&state, &clock);
    begin(&own, 0, "new").await;
    end(&own, 30, 84).await;
    std::fs::remove_dir_all(directory(&state)).unwrap();
    assert_eq!(until(&own, 31).await, Some(seconds(84)));
    std::fs::create_dir(directory(&state)).unwrap();
    std::fs::write(file(&state), "from a backup\n1000\n").unwrap();
    assert_eq!(until(&own, 32).await, Some(seconds(86)));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_waited_for_once() {
    let (state, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    let next = process(&state, &clock);
    std::fs::write(file(&state), [0xff; 9]).unwrap();
    assert_eq!(until(&next, 0).await, Some(SPAN));
    listed(&next, 54, &[]).await;
    assert_eq!(until(&next, 54).await, None);
    // Neither can what is there be read, nor can it be removed like a file.
    std::fs::create_dir(file(&state)).unwrap();
    assert_eq!(until(&next, 100).await, Some(seconds(154)));
    listed(&next, 154, &[]).await;
    assert_eq!(until(&next, 154).await, None);
    assert_eq!(until(&next, 9_999).await, None);
}

#[tokio::test]
async fn a_span_without_an_end_is_not_believed() {
    let (state, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    let next = process(&state, &clock);
    std::fs::write(file(&state), "x\n99999999999999\n").unwrap();
    assert_eq!(until(&next, 0).await, Some(seconds(21 * 60)));
}

#[tokio::test]
async fn nothing_is_written_through_a_link() {
    let (state, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    let process = process(&state, &clock);
    let elsewhere = state.path().join("elsewhere");
    std::fs::write(&elsewhere, "precious").unwrap();
    std::os::unix::fs::symlink(&elsewhere, file(&state)).unwrap();
    assert_eq!(until(&process, 100).await, Some(seconds(154)));
    begin(&process, 100, "new").await;
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
    assert!(std::fs::read_to_string(file(&state)).unwrap().starts_with("new\n54000\n"));
}

#[tokio::test]
async fn a_start_relies_on_records_only_if_they_were_kept_for_long_enough_in_this_boot() {
    let (state, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    let unknown_until = || {
        let records = Records::in_directory(directory(&state), &clock);
        OpenCreates::recorded_in(records, seconds(7)).unknown_until(SPAN)
    };
    assert_eq!(OpenCreates::in_process().unknown_until(SPAN), SPAN);
    assert_eq!(unknown_until(), SPAN + seconds(7));
    let since = directory(&state).join("since");
    let text = std::fs::read_to_string(&since).unwrap();
    let (boot, written) = text.trim_end().split_once(' ').unwrap();
    assert!(written.parse::<u64>().unwrap() <= clock.since_boot().as_secs() + 1);
    std::fs::write(&since, format!("{boot} 0\n")).unwrap();
    assert_eq!(unknown_until(), seconds(7));
    for unusable in [format!("{boot} 99999999999\n"), "another 0\n".into(), "nonsense".into()] {
        std::fs::write(&since, unusable).unwrap();
        assert_eq!(unknown_until(), SPAN + seconds(7));
    }
    std::fs::remove_file(&since).unwrap();
    nix::unistd::mkfifo(&since, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(unknown_until(), SPAN + seconds(7), "and does not wait for a writer");
}

#[tokio::test]
async fn where_a_create_cannot_be_recorded_the_next_start_knows_nothing() {
    let (state, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    let process = process(&state, &clock);
    let since = directory(&state).join("since");
    std::fs::create_dir(file(&state)).unwrap();
    assert!(since.exists());
    begin(&process, 0, "new").await;
    assert!(!since.exists());
}
