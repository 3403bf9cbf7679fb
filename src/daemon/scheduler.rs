//! What wakes the daemon: a poll twice a second, and a timer for starts between two polls.
//!
//! tokio-cron-scheduler is the scheduler, and it must not compute a time: by itself it is an hour
//! off after a daylight-saving change, stands still when the clock steps back, loses runs that fall
//! on one second, and runs a job beside itself. So it is given one job and a store of ours. Every
//! half second it asks the store what is due; the store asks the [`DueWork`], and the answer is that
//! the one job is due, or that nothing is. All that is known of times stands behind the due work, and
//! another scheduler would change this file only.
//!
//! A start that is due before the next poll does not wait for it. The poll arms a timer, which runs
//! the start at its instant. The timer only saves time: whatever it misses, the next poll finds. It
//! waits no longer than a poll period and asks the due work again when it fires, so a wall clock that
//! was stepped meanwhile makes a start late at most. Only a poll arms it again, so it stops soon
//! after the polls stop, and the heartbeat with it.

use std::future::{Future, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio_cron_scheduler::job::job_data::{JobAndNextTick, JobStoredData, JobType};
use tokio_cron_scheduler::store::{DataStore, InitStore};
use tokio_cron_scheduler::{
    Job, JobScheduler, JobSchedulerError, MetaDataStorage, SimpleJobCode, SimpleNotificationCode,
    SimpleNotificationStore,
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::clock::Clock;

/// What the scheduler asks and wakes. The calls are short and never wait.
pub trait DueWork: Send + Sync {
    /// Whether there is something to do now. Asked about twice a second, which makes it the
    /// daemon's heartbeat too.
    fn is_due(&self) -> bool;

    /// How long until the next start that is not to wait for the poll, in the machine's time: zero
    /// when it is due, `None` when there is none. The wall clock is read at each call. Asking is no
    /// heartbeat.
    fn next_start_in(&self) -> Option<Duration>;

    /// Does what is due. May be called when nothing is due any more.
    fn run_due(&self);
}

/// Wakes the due work from its start until it is stopped or dropped.
pub trait Scheduler: Send + Sync {
    /// Sets it going. Once a process: a reload changes the due work, not the scheduler.
    fn start(&mut self, due_work: Arc<dyn DueWork>) -> Work<'_, Result<(), SchedulerError>>;

    /// Stops it: nothing is asked or started after this, but for a `run_due` under way.
    fn stop(&mut self) -> Work<'_, ()>;
}

/// The future of a scheduler's doing.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// tokio-cron-scheduler as a scheduler.
#[derive(Default)]
pub struct CronScheduler {
    stopped: Arc<AtomicBool>,
    scheduler: Option<JobScheduler>,
    timer: Option<AbortOnDropHandle<()>>,
}

/// The scheduler could not be set going.
#[derive(Debug, thiserror::Error)]
#[error("the scheduler cannot be started: {0}")]
pub struct SchedulerError(#[from] JobSchedulerError);

/// An expression for the job that must have one; no time is ever computed from it that matters.
const NEVER_MIND_WHEN: &str = "0 0 0 1 1 *";

/// How often tokio-cron-scheduler polls. It cannot be set.
const POLL: Duration = Duration::from_millis(500);

/// The timer pauses at least this long before it asks again, as tokio's timers are no finer. So it
/// never spins when the next start is microseconds away.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Room for activations in the scheduler's channel. Only one is ever under way.
const CHANNEL: usize = 16;

impl Scheduler for CronScheduler {
    fn start(&mut self, due_work: Arc<dyn DueWork>) -> Work<'_, Result<(), SchedulerError>> {
        Box::pin(self.begin(due_work))
    }

    fn stop(&mut self) -> Work<'_, ()> {
        Box::pin(async {
            self.stopped.store(true, Ordering::SeqCst);
            self.timer = None;
            if let Some(scheduler) = &mut self.scheduler
                && let Err(error) = scheduler.shutdown().await
            {
                tracing::warn!(event = "daemon", "the scheduler did not stop: {error}");
            }
        })
    }
}

impl CronScheduler {
    async fn begin(&mut self, due_work: Arc<dyn DueWork>) -> Result<(), SchedulerError> {
        let stopped = Arc::clone(&self.stopped);
        let waker = Arc::new(Waker { due_work, stopped, armed: Notify::new() });
        let store = Store { waker: Arc::clone(&waker), job: None };
        let scheduler = JobScheduler::new_with_storage_and_code(
            Box::new(store),
            Box::<SimpleNotificationStore>::default(),
            Box::<SimpleJobCode>::default(),
            Box::<SimpleNotificationCode>::default(),
            CHANNEL,
        )
        .await?;
        scheduler.start().await?;
        let timer = tokio::spawn(Arc::clone(&waker).run_timer());
        self.timer = Some(AbortOnDropHandle::new(timer));
        let job_waker = Arc::clone(&waker);
        let job = Job::new_async(NEVER_MIND_WHEN, move |_, _| {
            let waker = Arc::clone(&job_waker);
            Box::pin(async move {
                if waker.run_due() {
                    waker.arm();
                }
            })
        })?;
        scheduler.add(job).await?;
        // The first poll comes a period after the start.
        waker.arm();
        self.scheduler = Some(scheduler);
        Ok(())
    }
}

impl Drop for CronScheduler {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

/// The due work, as the poll, the job and the timer use it: nothing once it is stopped, and no panic
/// gets through. A panic would end the job, the poll or the timer for good.
struct Waker {
    due_work: Arc<dyn DueWork>,
    stopped: Arc<AtomicBool>,
    /// Starts the timer.
    armed: Notify,
}

impl Waker {
    /// `None` when stopped, or after a panic.
    fn ask<T>(
        &self,
        what: &str,
        question: impl FnOnce(&(dyn DueWork + 'static)) -> T,
    ) -> Option<T> {
        if self.stopped.load(Ordering::SeqCst) {
            return None;
        }
        let answer = catch_unwind(AssertUnwindSafe(|| question(&*self.due_work)));
        answer.inspect_err(|_| tracing::error!(event = "daemon", "a panic while {what}")).ok()
    }

    fn is_due(&self) -> bool {
        self.ask("asking what is due", DueWork::is_due).unwrap_or(false)
    }

    /// Whether it ran to its end.
    fn run_due(&self) -> bool {
        self.ask("starting what is due", DueWork::run_due).is_some()
    }

    /// How long until a start that is due before the next poll.
    fn next_start_in(&self) -> Option<Duration> {
        let wait = self.ask("asking for the next start", DueWork::next_start_in).flatten();
        wait.filter(|wait| *wait < POLL)
    }

    /// Called at the start, and at the end of each poll, when what was due has been run.
    fn arm(&self) {
        if self.next_start_in().is_some() {
            self.armed.notify_one();
        }
    }

    async fn run_timer(self: Arc<Self>) {
        let clock = Clock::system();
        loop {
            self.armed.notified().await;
            clock.timeout(POLL, self.run_until_next_poll(&clock)).await;
        }
    }

    async fn run_until_next_poll(&self, clock: &Clock) {
        while let Some(wait) = self.next_start_in() {
            clock.sleep(wait.max(SHORTEST_PAUSE)).await;
            // The wall clock may have been set back meanwhile.
            let is_due = self.next_start_in().is_some_and(|wait| wait.is_zero());
            // After a panic the next poll tries again.
            if is_due && !self.run_due() {
                return;
            }
        }
    }
}

/// The one job, due exactly when the due work says so.
struct Store {
    waker: Arc<Waker>,
    job: Option<JobStoredData>,
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, JobSchedulerError>> + Send>>;

fn answer<T: Send + 'static>(value: T) -> Answer<T> {
    Box::pin(ready(Ok(value)))
}

impl InitStore for Store {
    fn init(&mut self) -> Answer<()> {
        answer(())
    }

    fn inited(&mut self) -> Answer<bool> {
        answer(true)
    }
}

impl DataStore<JobStoredData> for Store {
    fn get(&mut self, _: Uuid) -> Answer<Option<JobStoredData>> {
        answer(self.job.clone())
    }

    fn add_or_update(&mut self, job: JobStoredData) -> Answer<()> {
        self.job = Some(job);
        answer(())
    }

    fn delete(&mut self, _: Uuid) -> Answer<()> {
        self.job = None;
        answer(())
    }
}

impl MetaDataStorage for Store {
    fn list_next_ticks(&mut self) -> Answer<Vec<JobAndNextTick>> {
        let Some(job) = self.job.as_ref() else { return answer(Vec::new()) };
        let due = self.waker.is_due();
        if !due {
            self.waker.arm();
        }
        let due = due.then_some(JobAndNextTick {
            id: job.id,
            job_type: JobType::Cron as i32,
            // Long past, so it is due now whatever the clock says. Zero would delete the job.
            next_tick: 1,
            last_tick: None,
        });
        answer(due.into_iter().collect())
    }

    fn set_next_and_last_tick(
        &mut self,
        _: Uuid,
        _: Option<DateTime<Utc>>,
        _: Option<DateTime<Utc>>,
    ) -> Answer<()> {
        // Only the due work knows of times.
        answer(())
    }

    fn time_till_next_job(&mut self) -> Answer<Option<std::time::Duration>> {
        answer(None)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use jiff::{SignedDuration, Timestamp};
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Condvar, Mutex};

    use super::*;
    use crate::schedule::Schedule;
    use crate::schedule::planner::{Due, Planner};

    /// Due as often as it was told to be.
    #[derive(Default)]
    struct Counting {
        waiting: AtomicUsize,
        ran: AtomicUsize,
        asked: AtomicUsize,
        panics: AtomicUsize,
    }

    impl DueWork for Counting {
        fn is_due(&self) -> bool {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.waiting.load(Ordering::SeqCst) > 0
        }

        fn next_start_in(&self) -> Option<Duration> {
            None
        }

        fn run_due(&self) {
            let taken = self.waiting.swap(0, Ordering::SeqCst);
            self.ran.fetch_add(taken, Ordering::SeqCst);
            if self.panics.swap(0, Ordering::SeqCst) > 0 {
                panic!("on purpose");
            }
        }
    }

    fn clock() -> Clock {
        Clock::simulated("2026-11-23T12:00:00Z".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_runs_once_within_a_second_even_when_hundreds_fall_on_one_second() {
        let due_work = Arc::new(Counting::default());
        let mut scheduler = CronScheduler::default();
        scheduler.start(Arc::clone(&due_work) as Arc<dyn DueWork>).await.unwrap();
        due_work.waiting.store(300, Ordering::SeqCst);
        clock().sleep(Duration::from_secs(1)).await;
        assert_eq!(due_work.ran.load(Ordering::SeqCst), 300);
        clock().sleep(Duration::from_secs(60)).await;
        assert_eq!(due_work.ran.load(Ordering::SeqCst), 300);
        assert!(due_work.asked.load(Ordering::SeqCst) >= 100, "the heart beats twice a second");
        scheduler.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_the_due_work_does_not_stop_the_scheduler() {
        let due_work = Arc::new(Counting::default());
        let mut scheduler = CronScheduler::default();
        scheduler.start(Arc::clone(&due_work) as Arc<dyn DueWork>).await.unwrap();
        due_work.panics.store(1, Ordering::SeqCst);
        due_work.waiting.store(1, Ordering::SeqCst);
        clock().sleep(Duration::from_secs(2)).await;
        due_work.waiting.store(1, Ordering::SeqCst);
        clock().sleep(Duration::from_secs(2)).await;
        assert_eq!(due_work.ran.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_or_started_after_a_stop() {
        let due_work = Arc::new(Counting::default());
        let mut scheduler = CronScheduler::default();
        scheduler.start(Arc::clone(&due_work) as Arc<dyn DueWork>).await.unwrap();
        clock().sleep(Duration::from_secs(2)).await;
        scheduler.stop().await;
        let asked = due_work.asked.load(Ordering::SeqCst);
        due_work.waiting.store(1, Ordering::SeqCst);
        clock().sleep(Duration::from_secs(5)).await;
        assert_eq!(due_work.asked.load(Ordering::SeqCst), asked);
        assert_eq!(due_work.ran.load(Ordering::SeqCst), 0);
    }

    /// tokio-cron-scheduler 0.15.1 leaks tasks when it is made anew, which we never do. While it
    /// runs, the number of its tasks stays the same.
    #[tokio::test(start_paused = true)]
    async fn hours_of_ticks_leave_no_tasks_behind() {
        let due_work = Arc::new(Counting::default());
        let mut scheduler = CronScheduler::default();
        scheduler.start(Arc::clone(&due_work) as Arc<dyn DueWork>).await.unwrap();
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        clock().sleep(Duration::from_secs(5)).await;
        let before = alive();
        for _ in 0..500 {
            due_work.waiting.store(1, Ordering::SeqCst);
            clock().sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(due_work.ran.load(Ordering::SeqCst), 500);
        assert_eq!(alive(), before);
    }

    /// A runtime that is blocked over a due second runs late, once.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    #[allow(clippy::disallowed_methods, reason = "the runtime is blocked on purpose")]
    async fn a_blocked_runtime_runs_what_is_due_late_and_once() {
        let due_work = Arc::new(Counting::default());
        let mut scheduler = CronScheduler::default();
        scheduler.start(Arc::clone(&due_work) as Arc<dyn DueWork>).await.unwrap();
        due_work.waiting.store(1, Ordering::SeqCst);
        tokio::spawn(async { std::thread::sleep(Duration::from_secs(3)) }).await.unwrap();
        for _ in 0..300 {
            if due_work.ran.load(Ordering::SeqCst) > 0 {
                break;
            }
            Clock::system().sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(due_work.ran.load(Ordering::SeqCst), 1);
    }

    /// A planner behind the scheduler, as the daemon has it.
    struct Planned {
        clock: Clock,
        planner: Mutex<Planner>,
        fired: Mutex<Vec<Due>>,
    }

    impl Planned {
        fn new(clock: &Clock) -> Arc<Self> {
            let planner = Mutex::new(Planner::new(clock.now()));
            Arc::new(Self { clock: clock.clone(), planner, fired: Mutex::default() })
        }

        fn set(&self, texts: impl IntoIterator<Item = String>) {
            let parse = |text: String| Schedule::parse(&text, TimeZone::UTC).unwrap();
            self.planner.lock().unwrap().set(texts.into_iter().map(parse), self.clock.now());
        }
    }

    impl DueWork for Planned {
        fn is_due(&self) -> bool {
            self.planner.lock().unwrap().must_be_polled(self.clock.now())
        }

        fn next_start_in(&self) -> Option<Duration> {
            let next = self.planner.lock().unwrap().earliest()?;
            let wait = next.duration_since(self.clock.now().wall);
            Some(Duration::try_from(wait).unwrap_or_default())
        }

        fn run_due(&self) {
            let due = self.planner.lock().unwrap().poll(self.clock.now()).due;
            self.fired.lock().unwrap().extend(due);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_hundred_schedules_on_one_second_all_come_through() {
        let clock = clock();
        let due_work = Planned::new(&clock);
        // Three hundred texts, one second: what differs is a further minute, or hour, of theirs.
        due_work.set((0..300).map(|n| format!("5 0,{} 12,{} * * *", 1 + n % 59, 13 + n / 59)));
        let mut scheduler = CronScheduler::default();
        scheduler.start(Arc::clone(&due_work) as Arc<dyn DueWork>).await.unwrap();
        clock.sleep(Duration::from_secs(10)).await;
        let fired = std::mem::take(&mut *due_work.fired.lock().unwrap());
        assert_eq!(fired.len(), 300);
        assert!(fired.iter().all(|due| due.tick.to_string() == "2026-11-23T12:00:05Z"));
        assert!(fired.iter().all(|due| due.late < Duration::from_secs(1)));
        scheduler.stop().await;
    }

    /// Due each time its interval has passed. Counts the calls that come while nothing is due.
    struct Timed {
        clock: Clock,
        every: SignedDuration,
        next: Mutex<Timestamp>,
        ran: Mutex<Vec<Timestamp>>,
        ran_early: AtomicUsize,
        panics: AtomicUsize,
    }

    impl Timed {
        fn every(clock: &Clock, milliseconds: i64) -> Arc<Self> {
            let every = SignedDuration::from_millis(milliseconds);
            let next = Mutex::new("2026-11-23T12:00:00Z".parse::<Timestamp>().unwrap() + every);
            Arc::new(Self {
                clock: clock.clone(),
                every,
                next,
                ran: Mutex::default(),
                ran_early: AtomicUsize::new(0),
                panics: AtomicUsize::new(0),
            })
        }

        fn ran(&self) -> Vec<String> {
            self.ran.lock().unwrap().iter().map(ToString::to_string).collect()
        }
    }

    impl DueWork for Timed {
        fn is_due(&self) -> bool {
            *self.next.lock().unwrap() <= self.clock.now().wall
        }

        fn next_start_in(&self) -> Option<Duration> {
            let wait = self.next.lock().unwrap().duration_since(self.clock.now().wall);
            Some(Duration::try_from(wait).unwrap_or_default())
        }

        fn run_due(&self) {
            if !self.is_due() {
                self.ran_early.fetch_add(1, Ordering::SeqCst);
                return;
            }
            self.ran.lock().unwrap().push(self.clock.now().wall);
            let panics = self.panics.load(Ordering::SeqCst);
            if panics > 0 {
                self.panics.store(panics - 1, Ordering::SeqCst);
                panic!("on purpose");
            }
            *self.next.lock().unwrap() += self.every;
        }
    }

    /// Starts the scheduler 130 ms after a whole second, so that no poll falls on one.
    async fn between_polls(clock: &Clock, due_work: Arc<dyn DueWork>) -> CronScheduler {
        clock.sleep(Duration::from_millis(130)).await;
        let mut scheduler = CronScheduler::default();
        scheduler.start(due_work).await.unwrap();
        scheduler
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_of_ticks_between_two_polls_run_at_their_instant_once_each() {
        let clock = clock();
        let due_work = Planned::new(&clock);
        due_work.set(["* * * * * *".to_owned()]);
        let _scheduler = between_polls(&clock, Arc::clone(&due_work) as Arc<dyn DueWork>).await;
        clock.sleep(Duration::from_secs(3600)).await;
        let fired = std::mem::take(&mut *due_work.fired.lock().unwrap());
        let ticks: Vec<i64> = fired.iter().map(|due| due.tick.instant().as_second()).collect();
        let first = "2026-11-23T12:00:01Z".parse::<Timestamp>().unwrap().as_second();
        assert_eq!(ticks, (first..first + 3600).collect::<Vec<_>>());
        let latest = fired.iter().map(|due| due.late).max().unwrap();
        assert!(latest <= Duration::from_millis(2), "{latest:?} late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_before_the_first_poll_runs_at_its_instant() {
        let clock = clock();
        let due_work = Timed::every(&clock, 300);
        let _scheduler = between_polls(&clock, Arc::clone(&due_work) as Arc<dyn DueWork>).await;
        clock.sleep(Duration::from_millis(180)).await;
        assert_eq!(due_work.ran(), ["2026-11-23T12:00:00.3Z"]);
    }

    #[tokio::test(start_paused = true)]
    async fn several_starts_between_two_polls_each_run_at_their_instant() {
        let clock = clock();
        let due_work = Timed::every(&clock, 90);
        let _scheduler = between_polls(&clock, Arc::clone(&due_work) as Arc<dyn DueWork>).await;
        clock.sleep(Duration::from_secs(9)).await;
        let ran = std::mem::take(&mut *due_work.ran.lock().unwrap());
        // The first one fell before the start.
        let first = "2026-11-23T12:00:00Z".parse::<Timestamp>().unwrap();
        let late = |(nth, at): (i32, &Timestamp)| at.duration_since(first + due_work.every * nth);
        let late: Vec<_> = (1_i32..).zip(&ran).map(late).skip(1).collect();
        let (least, most) = (late.iter().min().unwrap(), late.iter().max().unwrap());
        assert!(!least.is_negative() && *most <= SignedDuration::from_millis(2), "{late:?}");
        assert!(ran.len() >= 99, "{}", ran.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_back_while_the_timer_is_armed_runs_nothing_early() {
        for back in [SignedDuration::from_millis(400), SignedDuration::from_mins(5)] {
            let clock = clock();
            let due_work = Timed::every(&clock, 1000);
            let _scheduler = between_polls(&clock, Arc::clone(&due_work) as Arc<dyn DueWork>).await;
            clock.sleep(Duration::from_millis(700)).await; // 12:00:00.83, a poll was at .63
            clock.step(-back);
            clock.sleep(Duration::try_from(back).unwrap()).await;
            assert!(due_work.ran().is_empty(), "{:?}", due_work.ran());
            assert_eq!(due_work.ran_early.load(Ordering::SeqCst), 0);
            clock.sleep(Duration::from_millis(180)).await; // 12:00:01.01
            assert_eq!(due_work.ran().len(), 1);
            assert!(due_work.ran()[0].starts_with("2026-11-23T12:00:01"), "{:?}", due_work.ran());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_forward_while_the_timer_is_armed_runs_what_is_due_late_and_once() {
        for forward in [SignedDuration::from_millis(100), SignedDuration::from_hours(1)] {
            let clock = clock();
            let due_work = Planned::new(&clock);
            due_work.set(["1 0 * * * *".to_owned()]);
            let _scheduler = between_polls(&clock, Arc::clone(&due_work) as Arc<dyn DueWork>).await;
            clock.sleep(Duration::from_millis(700)).await;
            clock.step(forward);
            clock.sleep(Duration::from_millis(310)).await; // the next poll was 10 ms ago
            assert_eq!(due_work.fired.lock().unwrap().len(), 1, "stepped by {forward}");
            clock.sleep(Duration::from_mins(30)).await;
            assert_eq!(due_work.fired.lock().unwrap().len(), 1, "stepped by {forward}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_while_the_timer_is_armed_runs_nothing() {
        for is_dropped in [false, true] {
            let clock = clock();
            let due_work = Timed::every(&clock, 1000);
            let mut scheduler =
                between_polls(&clock, Arc::clone(&due_work) as Arc<dyn DueWork>).await;
            clock.sleep(Duration::from_millis(700)).await;
            if is_dropped {
                drop(scheduler);
            } else {
                scheduler.stop().await;
            }
            clock.sleep(Duration::from_secs(5)).await;
            assert!(due_work.ran().is_empty(), "{:?}", due_work.ran());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_at_the_instant_is_tried_again_by_the_poll_and_the_timer_goes_on() {
        let clock = clock();
        let due_work = Timed::every(&clock, 1000);
        due_work.panics.store(2, Ordering::SeqCst);
        let _scheduler = between_polls(&clock, Arc::clone(&due_work) as Arc<dyn DueWork>).await;
        clock.sleep(Duration::from_millis(3900)).await;
        let ran = due_work.ran();
        let begins =
            ["12:00:01.0", "12:00:01.1", "12:00:01.6", "12:00:02.0", "12:00:03.0", "12:00:04.0"];
        assert_eq!(ran.len(), begins.len(), "{ran:?}");
        for (ran, begin) in ran.iter().zip(begins) {
            let padded = ran.replace("Z", ".0");
            assert!(padded.contains(begin), "{ran} {begin}");
        }
    }

    /// The heart beats where starts pass. A timer that went on without polls would keep it beating.
    #[tokio::test(start_paused = true)]
    async fn without_polls_the_timer_stops_within_a_poll_period() {
        let clock = clock();
        let due_work = Timed::every(&clock, 90);
        let waker = Arc::new(Waker {
            due_work: Arc::clone(&due_work) as Arc<dyn DueWork>,
            stopped: Arc::default(),
            armed: Notify::new(),
        });
        let _timer = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&waker).run_timer()));
        waker.arm();
        clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(due_work.ran().len(), 5, "{:?}", due_work.ran());
    }

    /// Always due: what runs it cannot take it.
    #[derive(Default)]
    struct Full(AtomicUsize);

    impl DueWork for Full {
        fn is_due(&self) -> bool {
            true
        }

        fn next_start_in(&self) -> Option<Duration> {
            Some(Duration::ZERO)
        }

        fn run_due(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_due_is_tried_again_without_a_busy_loop() {
        let due_work = Arc::new(Full::default());
        let _scheduler = between_polls(&clock(), Arc::clone(&due_work) as Arc<dyn DueWork>).await;
        clock().sleep(Duration::from_secs(10)).await;
        let tries = due_work.0.load(Ordering::SeqCst);
        assert!((5_000..=11_000).contains(&tries), "{tries}");
    }

    /// A reload changes what the due work knows, and nothing of the scheduler.
    #[tokio::test(start_paused = true)]
    async fn five_hundred_reloads_leave_no_tasks_behind_and_lose_no_tick() {
        let clock = clock();
        let due_work = Planned::new(&clock);
        let every_minute = || "* * * * *".to_owned();
        due_work.set([every_minute()]);
        let mut scheduler = CronScheduler::default();
        scheduler.start(Arc::clone(&due_work) as Arc<dyn DueWork>).await.unwrap();
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        clock.sleep(Duration::from_secs(5)).await;
        let before = alive();
        for count in 0..500 {
            due_work.set([every_minute(), format!("{} 1 * * *", count % 60)]);
            clock.sleep(Duration::from_secs(6)).await;
        }
        assert_eq!(due_work.fired.lock().unwrap().len(), 50);
        clock.sleep(Duration::from_secs(2)).await;
        assert_eq!(alive(), before);
    }

    /// Stays in `run_due` until it is let go.
    #[derive(Default)]
    struct Held {
        entered: AtomicUsize,
        left: AtomicUsize,
        free: Mutex<bool>,
        freed: Condvar,
    }

    impl DueWork for Held {
        fn is_due(&self) -> bool {
            self.entered.load(Ordering::SeqCst) == 0
        }

        fn next_start_in(&self) -> Option<Duration> {
            None
        }

        fn run_due(&self) {
            self.entered.fetch_add(1, Ordering::SeqCst);
            let free = self.free.lock().unwrap();
            drop(self.freed.wait_while(free, |free| !*free).unwrap());
            self.left.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn until(reached: impl Fn() -> bool) {
        for _ in 0..500 {
            if reached() {
                return;
            }
            Clock::system().sleep(Duration::from_millis(10)).await;
        }
        panic!("not reached within five seconds");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stop_waits_for_no_run_and_breaks_none_off() {
        let due_work = Arc::new(Held::default());
        let mut scheduler = CronScheduler::default();
        scheduler.start(Arc::clone(&due_work) as Arc<dyn DueWork>).await.unwrap();
        until(|| due_work.entered.load(Ordering::SeqCst) == 1).await;
        let stopped = Clock::system().timeout(Duration::from_secs(2), scheduler.stop()).await;
        assert!(stopped.is_some(), "a run under way held the stop up");
        assert_eq!(due_work.left.load(Ordering::SeqCst), 0);
        *due_work.free.lock().unwrap() = true;
        due_work.freed.notify_all();
        until(|| due_work.left.load(Ordering::SeqCst) == 1).await;
        assert_eq!(due_work.entered.load(Ordering::SeqCst), 1);
    }
}
