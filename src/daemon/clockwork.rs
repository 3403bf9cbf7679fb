//! What wakes the daemon, about twice a second.
//!
//! tokio-cron-scheduler is the clockwork, and it must not compute a time: by itself it is an hour
//! off after a daylight-saving change, stands still when the clock steps back, loses runs that fall
//! on one second, and runs a job beside itself. So it is given one job and a store of ours. Every
//! half second it asks the store what is due; the store asks the [`Agenda`], and the answer is that
//! the one job is due, or that nothing is. All that is known of times stands behind the agenda, and
//! another clockwork would change this file only.

use std::future::{Future, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use tokio_cron_scheduler::job::job_data::{JobAndNextTick, JobStoredData, JobType};
use tokio_cron_scheduler::store::{DataStore, InitStore};
use tokio_cron_scheduler::{
    Job, JobScheduler, JobSchedulerError, MetaDataStorage, SimpleJobCode, SimpleNotificationCode,
    SimpleNotificationStore,
};
use uuid::Uuid;

/// What the clockwork asks and wakes. Both calls are short and never wait.
pub trait Agenda: Send + Sync {
    /// Whether there is something to do now. Asked about twice a second, which makes it the
    /// daemon's heartbeat too.
    fn is_due(&self) -> bool;

    /// Does what is due. May be called when nothing is due any more.
    fn run_due(&self);
}

/// Wakes an agenda from its start until it is stopped or dropped.
pub trait Clockwork: Send + Sync {
    /// Sets it going. Once a process: a reload changes the agenda, not the clockwork.
    fn start(&mut self, agenda: Arc<dyn Agenda>) -> Work<'_, Result<(), ClockworkError>>;

    /// Stops it: nothing is asked or started after this, but for a `run_due` under way.
    fn stop(&mut self) -> Work<'_, ()>;
}

/// The future of a clockwork's doing.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// tokio-cron-scheduler as a clockwork.
#[derive(Default)]
pub struct CronClockwork {
    stopped: Arc<AtomicBool>,
    scheduler: Option<JobScheduler>,
}

/// The clockwork could not be set going.
#[derive(Debug, thiserror::Error)]
#[error("the scheduler cannot be started: {0}")]
pub struct ClockworkError(#[from] JobSchedulerError);

/// An expression for the job that must have one; no time is ever computed from it that matters.
const NEVER_MIND_WHEN: &str = "0 0 0 1 1 *";

/// Room for activations in the scheduler's channel. Only one is ever under way.
const CHANNEL: usize = 16;

impl Clockwork for CronClockwork {
    fn start(&mut self, agenda: Arc<dyn Agenda>) -> Work<'_, Result<(), ClockworkError>> {
        Box::pin(self.begin(agenda))
    }

    fn stop(&mut self) -> Work<'_, ()> {
        Box::pin(async {
            self.stopped.store(true, Ordering::SeqCst);
            if let Some(scheduler) = &mut self.scheduler
                && let Err(error) = scheduler.shutdown().await
            {
                tracing::warn!(event = "daemon", "the scheduler did not stop: {error}");
            }
        })
    }
}

impl CronClockwork {
    async fn begin(&mut self, agenda: Arc<dyn Agenda>) -> Result<(), ClockworkError> {
        let stopped = Arc::clone(&self.stopped);
        let store = Store { agenda: Arc::clone(&agenda), stopped: Arc::clone(&stopped), job: None };
        let scheduler = JobScheduler::new_with_storage_and_code(
            Box::new(store),
            Box::<SimpleNotificationStore>::default(),
            Box::<SimpleJobCode>::default(),
            Box::<SimpleNotificationCode>::default(),
            CHANNEL,
        )
        .await?;
        scheduler.start().await?;
        let job_stopped = Arc::clone(&stopped);
        let job = Job::new_async(NEVER_MIND_WHEN, move |_, _| {
            let (agenda, stopped) = (Arc::clone(&agenda), Arc::clone(&job_stopped));
            Box::pin(async move {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // A panic must not reach tokio-cron-scheduler: it would end the job for good.
                if catch_unwind(AssertUnwindSafe(|| agenda.run_due())).is_err() {
                    tracing::error!(event = "daemon", "a panic while starting what is due");
                }
            })
        })?;
        scheduler.add(job).await?;
        self.scheduler = Some(scheduler);
        Ok(())
    }
}

impl Drop for CronClockwork {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

/// The one job, due exactly when the agenda says so.
struct Store {
    agenda: Arc<dyn Agenda>,
    stopped: Arc<AtomicBool>,
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
        let stopped = self.stopped.load(Ordering::SeqCst);
        let Some(job) = self.job.as_ref().filter(|_| !stopped) else { return answer(Vec::new()) };
        let due = catch_unwind(AssertUnwindSafe(|| self.agenda.is_due())).unwrap_or_else(|_| {
            tracing::error!(event = "daemon", "a panic while asking what is due");
            false
        });
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
        // Only the agenda knows of times.
        answer(())
    }

    fn time_till_next_job(&mut self) -> Answer<Option<std::time::Duration>> {
        answer(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::clock::Clock;
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

    impl Agenda for Counting {
        fn is_due(&self) -> bool {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.waiting.load(Ordering::SeqCst) > 0
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
        let agenda = Arc::new(Counting::default());
        let mut clockwork = CronClockwork::default();
        clockwork.start(Arc::clone(&agenda) as Arc<dyn Agenda>).await.unwrap();
        agenda.waiting.store(300, Ordering::SeqCst);
        clock().sleep(Duration::from_secs(1)).await;
        assert_eq!(agenda.ran.load(Ordering::SeqCst), 300);
        clock().sleep(Duration::from_secs(60)).await;
        assert_eq!(agenda.ran.load(Ordering::SeqCst), 300);
        assert!(agenda.asked.load(Ordering::SeqCst) >= 100, "the heart beats twice a second");
        clockwork.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_in_the_agenda_does_not_stop_the_clockwork() {
        let agenda = Arc::new(Counting::default());
        let mut clockwork = CronClockwork::default();
        clockwork.start(Arc::clone(&agenda) as Arc<dyn Agenda>).await.unwrap();
        agenda.panics.store(1, Ordering::SeqCst);
        agenda.waiting.store(1, Ordering::SeqCst);
        clock().sleep(Duration::from_secs(2)).await;
        agenda.waiting.store(1, Ordering::SeqCst);
        clock().sleep(Duration::from_secs(2)).await;
        assert_eq!(agenda.ran.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_or_started_after_a_stop() {
        let agenda = Arc::new(Counting::default());
        let mut clockwork = CronClockwork::default();
        clockwork.start(Arc::clone(&agenda) as Arc<dyn Agenda>).await.unwrap();
        clock().sleep(Duration::from_secs(2)).await;
        clockwork.stop().await;
        let asked = agenda.asked.load(Ordering::SeqCst);
        agenda.waiting.store(1, Ordering::SeqCst);
        clock().sleep(Duration::from_secs(5)).await;
        assert_eq!(agenda.asked.load(Ordering::SeqCst), asked);
        assert_eq!(agenda.ran.load(Ordering::SeqCst), 0);
    }

    /// tokio-cron-scheduler 0.15.1 leaks tasks when it is made anew, which we never do. While it
    /// runs, the number of its tasks stays the same.
    #[tokio::test(start_paused = true)]
    async fn hours_of_ticks_leave_no_tasks_behind() {
        let agenda = Arc::new(Counting::default());
        let mut clockwork = CronClockwork::default();
        clockwork.start(Arc::clone(&agenda) as Arc<dyn Agenda>).await.unwrap();
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        clock().sleep(Duration::from_secs(5)).await;
        let before = alive();
        for _ in 0..500 {
            agenda.waiting.store(1, Ordering::SeqCst);
            clock().sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(agenda.ran.load(Ordering::SeqCst), 500);
        assert_eq!(alive(), before);
    }

    /// A runtime that is blocked over a due second runs late, once.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    #[allow(clippy::disallowed_methods, reason = "the runtime is blocked on purpose")]
    async fn a_blocked_runtime_runs_what_is_due_late_and_once() {
        let agenda = Arc::new(Counting::default());
        let mut clockwork = CronClockwork::default();
        clockwork.start(Arc::clone(&agenda) as Arc<dyn Agenda>).await.unwrap();
        agenda.waiting.store(1, Ordering::SeqCst);
        tokio::spawn(async { std::thread::sleep(Duration::from_secs(3)) }).await.unwrap();
        for _ in 0..300 {
            if agenda.ran.load(Ordering::SeqCst) > 0 {
                break;
            }
            Clock::system().sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(agenda.ran.load(Ordering::SeqCst), 1);
    }

    /// A planner behind the clockwork, as the daemon has it.
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

    impl Agenda for Planned {
        fn is_due(&self) -> bool {
            self.planner.lock().unwrap().must_be_polled(self.clock.now())
        }

        fn run_due(&self) {
            let due = self.planner.lock().unwrap().poll(self.clock.now()).due;
            self.fired.lock().unwrap().extend(due);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_hundred_schedules_on_one_second_all_come_through() {
        let clock = clock();
        let agenda = Planned::new(&clock);
        // Three hundred texts, one second: what differs is a further minute, or hour, of theirs.
        agenda.set((0..300).map(|n| format!("5 0,{} 12,{} * * *", 1 + n % 59, 13 + n / 59)));
        let mut clockwork = CronClockwork::default();
        clockwork.start(Arc::clone(&agenda) as Arc<dyn Agenda>).await.unwrap();
        clock.sleep(Duration::from_secs(10)).await;
        let fired = std::mem::take(&mut *agenda.fired.lock().unwrap());
        assert_eq!(fired.len(), 300);
        assert!(fired.iter().all(|due| due.tick.to_string() == "2026-11-23T12:00:05Z"));
        assert!(fired.iter().all(|due| due.late < Duration::from_secs(1)));
        clockwork.stop().await;
    }

    /// A reload changes what the agenda knows, and nothing of the clockwork.
    #[tokio::test(start_paused = true)]
    async fn five_hundred_reloads_leave_no_tasks_behind_and_lose_no_tick() {
        let clock = clock();
        let agenda = Planned::new(&clock);
        let every_minute = || "* * * * *".to_owned();
        agenda.set([every_minute()]);
        let mut clockwork = CronClockwork::default();
        clockwork.start(Arc::clone(&agenda) as Arc<dyn Agenda>).await.unwrap();
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        clock.sleep(Duration::from_secs(5)).await;
        let before = alive();
        for count in 0..500 {
            agenda.set([every_minute(), format!("{} 1 * * *", count % 60)]);
            clock.sleep(Duration::from_secs(6)).await;
        }
        assert_eq!(agenda.fired.lock().unwrap().len(), 50);
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

    impl Agenda for Held {
        fn is_due(&self) -> bool {
            self.entered.load(Ordering::SeqCst) == 0
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
        let agenda = Arc::new(Held::default());
        let mut clockwork = CronClockwork::default();
        clockwork.start(Arc::clone(&agenda) as Arc<dyn Agenda>).await.unwrap();
        until(|| agenda.entered.load(Ordering::SeqCst) == 1).await;
        let stopped = Clock::system().timeout(Duration::from_secs(2), clockwork.stop()).await;
        assert!(stopped.is_some(), "a run under way held the stop up");
        assert_eq!(agenda.left.load(Ordering::SeqCst), 0);
        *agenda.free.lock().unwrap() = true;
        agenda.freed.notify_all();
        until(|| agenda.left.load(Ordering::SeqCst) == 1).await;
        assert_eq!(agenda.entered.load(Ordering::SeqCst), 1);
    }
}
