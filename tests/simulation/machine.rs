//! What stands in for the machine that the daemon runs on: what wakes it, its hooks, its log.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use snapring::clock::Clock;
use snapring::daemon::scheduler::{DueWork, Scheduler, SchedulerError, Work};
use snapring::rotation::hooks::{HookError, HookRunner, Invocation, Running};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tracing_subscriber::layer::{Context, Layer};

use crate::judge::Judge;

/// The account's token, which nothing may ever show.
pub const TOKEN: &str = "vps_simulated";

/// Wakes the daemon less often than the real scheduler: weeks have many half seconds.
pub struct SlowScheduler {
    clock: Clock,
    beating: Option<AbortOnDropHandle<()>>,
    /// Told of each look.
    beats: Arc<Notify>,
}

impl SlowScheduler {
    /// Between two looks at the clock.
    pub const BEAT: Duration = Duration::from_secs(20);

    pub fn new(clock: &Clock, beats: &Arc<Notify>) -> Self {
        Self { clock: clock.clone(), beating: None, beats: Arc::clone(beats) }
    }
}

impl Scheduler for SlowScheduler {
    fn start(&mut self, due_work: Arc<dyn DueWork>) -> Work<'_, Result<(), SchedulerError>> {
        let (clock, beats) = (self.clock.clone(), Arc::clone(&self.beats));
        self.beating = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                clock.sleep(Self::BEAT).await;
                if due_work.is_due() {
                    due_work.run_due();
                }
                beats.notify_waiters();
            }
        })));
        Box::pin(async { Ok(()) })
    }

    fn stop(&mut self) -> Work<'_, ()> {
        self.beating = None;
        Box::pin(async {})
    }
}

/// Hooks that take a while and sometimes fail.
pub struct SimHooks {
    pub clock: Clock,
    /// How likely one fails.
    pub failing: f64,
    pub random: Mutex<StdRng>,
    pub judge: Arc<Mutex<Judge>>,
}

impl SimHooks {
    fn note(&self, what: &str) {
        let now = self.clock.now().wall;
        self.judge.lock().unwrap().note(|| format!("{now} hook {what}"));
    }
}

impl HookRunner for SimHooks {
    fn run(&self, invocation: Invocation) -> Running<'_> {
        let (takes, fails) = {
            let mut random = self.random.lock().unwrap();
            (random.random_range(0..90), random.random_bool(self.failing))
        };
        let Invocation { moment, argv, variables, timeout } = invocation;
        self.note(&format!("{moment} {argv:?} {variables:?} timeout={timeout:?}"));
        let error = HookError { moment, problem: "failed".to_owned() };
        Box::pin(async move {
            self.clock.sleep(Duration::from_secs(takes)).await;
            self.note(if fails { "fails" } else { "succeeds" });
            if fails { Err(error) } else { Ok(()) }
        })
    }
}

/// What the log says: counts the events of S7 and S8, and looks for the token, S10.
#[derive(Clone, Default)]
pub struct Events {
    api: Arc<AtomicU64>,
    rotation: Arc<AtomicU64>,
    with_token: Arc<AtomicU64>,
}

impl Events {
    pub fn api(&self) -> u64 {
        self.api.load(Ordering::Relaxed)
    }

    pub fn rotation(&self) -> u64 {
        self.rotation.load(Ordering::Relaxed)
    }

    pub fn with_token(&self) -> u64 {
        self.with_token.load(Ordering::Relaxed)
    }
}

impl<S: tracing::Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Fields<'a>(&'a Events);
        impl Fields<'_> {
            fn look_for_the_token(&self, text: &str) {
                if text.contains(TOKEN) {
                    self.0.with_token.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        impl tracing::field::Visit for Fields<'_> {
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                match (field.name(), value) {
                    ("event", "api") => self.0.api.fetch_add(1, Ordering::Relaxed),
                    ("event", "rotation") => self.0.rotation.fetch_add(1, Ordering::Relaxed),
                    _ => 0,
                };
                self.look_for_the_token(value);
            }
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.look_for_the_token(&format!("{value:?}"));
            }
        }
        event.record(&mut Fields(self));
    }
}
