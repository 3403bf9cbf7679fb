//! What a command adds to the history that the daemon keeps: rotations, what is remembered of servers, and what
//! a person did.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cli::error::CommandError;
use crate::cli::setup::{self, Setup};
use crate::cli::{Exit, console, progress};
use crate::clock::Clock;
use crate::manual::{ManualAct, Person};
use crate::memory::RingMemory;
use crate::naming::ServerId;
use crate::report::{PastRotation, Report};
use crate::rotation::memories::Memories;
use crate::store::place::Place;
use crate::store::{self, ServerMemories, StoreError};

/// How long the store may take to write what was done. It is worth more than what it is read for: a busy disk takes
/// seconds to begin a new file.
const RECORD_PATIENCE: Duration = Duration::from_secs(30);

/// The most that is written in one transaction.
const AT_ONCE: usize = 1000;

/// What comes into the store.
enum ToWrite {
    Rotation(PastRotation),
    Manual(Box<ManualAct>),
    Memory(ServerId, RingMemory),
}

/// Writes rotations that ended, and what is to be remembered of their servers, into what the daemon keeps,
/// as they end: `history` shows them, and a daemon that runs learns of them there.
pub(super) struct Recorder {
    to_write: mpsc::UnboundedSender<ToWrite>,
    /// Ends with whether all was written.
    task: JoinHandle<bool>,
    clock: Clock,
    /// Who runs the command, if its rotations are by hand.
    by: Option<Person>,
}

impl Recorder {
    pub(super) fn begin(setup: &Setup) -> Self {
        let place = setup.store();
        let (sender, mut to_write) = mpsc::unbounded_channel();
        let clock = setup.clock.clone();
        let task = tokio::spawn(async move {
            let (mut portion, mut missing) = (Vec::new(), Missing::default());
            let (mut are_rotations_written, mut is_act_written) = (true, true);
            while to_write.recv_many(&mut portion, AT_ONCE).await > 0 {
                let (mut rotations, mut memories) = (Vec::new(), ServerMemories::new());
                let mut acts = Vec::new();
                for one in portion.drain(..) {
                    match one {
                        ToWrite::Rotation(rotation) => rotations.push(rotation),
                        ToWrite::Manual(act) => acts.push(*act),
                        ToWrite::Memory(server, memory) => {
                            memories.insert(server, memory);
                        }
                    }
                }
                if !(rotations.is_empty() && memories.is_empty()) {
                    let added = store::add(&place, &rotations, &memories, clock.now().wall);
                    are_rotations_written &=
                        missing.tell_unless_written(&place, &clock, added).await;
                }
                if !acts.is_empty() {
                    let added = store::add_manual(&place, &acts);
                    // The last word of an act replaces what was written of it before.
                    is_act_written = missing.tell_unless_written(&place, &clock, added).await;
                }
            }
            are_rotations_written && is_act_written
        });
        Self { to_write: sender, task, clock: setup.clock.clone(), by: None }
    }

    /// The rotations are by hand, of this person.
    pub(super) fn of(self, person: Person) -> Self {
        Self { by: Some(person), ..self }
    }

    /// When it ended.
    pub(super) fn record(&self, report: &Report) -> Timestamp {
        // Fails only when the task was ended by a fault.
        let ended = self.clock.now().wall;
        let rotation = PastRotation { by: self.by.clone(), ..PastRotation::of(report, ended) };
        let _ = self.to_write.send(ToWrite::Rotation(rotation));
        ended
    }

    /// What a person does, or has done: of one act the last word counts.
    pub(super) fn manual(&self, act: ManualAct) {
        let _ = self.to_write.send(ToWrite::Manual(Box::new(act)));
    }

    /// What is remembered of servers: read once each is claimed. What changes is written.
    pub(super) fn memories(&self, setup: &Setup) -> Memories {
        // Weak, so that the task ends with the recorder.
        let to_write = self.to_write.downgrade();
        let keep = move |server, memory: &RingMemory| {
            if let Some(to_write) = to_write.upgrade() {
                let _ = to_write.send(ToWrite::Memory(server, memory.clone()));
            }
        };
        let (place, clock) = (setup.store(), setup.clock.clone());
        let recall = move |server| -> BoxFuture<'static, Option<RingMemory>> {
            let (place, clock) = (place.clone(), clock.clone());
            Box::pin(
                async move { setup::memories(&place, &clock, &[server]).await.remove(&server) },
            )
        };
        Memories::kept(ServerMemories::new(), Arc::new(keep)).recalled_by(Arc::new(recall))
    }

    /// Whether all is written.
    #[must_use]
    pub(super) async fn end(self) -> bool {
        let _writes = progress::doing("writing the result into the history");
        drop(self.to_write);
        self.task.await.unwrap_or(false)
    }
}

/// What follows when it is not all written. The command did what it was asked, which has been said.
pub(super) fn fails_unless(is_recorded: bool) -> Result<Exit, CommandError> {
    match is_recorded {
        true => Ok(Exit::Well),
        false => Err(CommandError::Failed(
            "this was done at the provider, but the history does not show it\n\
             hint: do not run the command again. The warning above says what is wrong with the store"
                .to_owned(),
        )),
    }
}

/// What could not be written. Of an act that is written twice, it is told once.
#[derive(Default)]
struct Missing {
    told: Option<String>,
}

impl Missing {
    async fn tell_unless_written(
        &mut self,
        place: &Place,
        clock: &Clock,
        added: impl Future<Output = Result<(), StoreError>>,
    ) -> bool {
        let words = match clock.timeout(RECORD_PATIENCE, added).await {
            Some(Ok(())) => return true,
            Some(Err(trouble)) => trouble.to_string(),
            None => "no answer".to_owned(),
        };
        if self.told.as_ref() != Some(&words) {
            console::warning(&format!("this is missing from the history: {place}: {words}"));
            self.told = Some(words);
        }
        false
    }
}
