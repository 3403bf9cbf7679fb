//! The database of a simulated machine. It outlives the process, and may break for a while.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use snapring::clock::Clock;
use snapring::manual::ManualAct;
use snapring::memory::RingMemory;
use snapring::naming::{ServerId, Subject};
use snapring::report::{LastOfServer, PastRotation, RotationOutcome};
use snapring::schedule::first_loaded::FirstLoadedTimes;
use snapring::store::connection::{Answer, Connect, Connection, Written};
use snapring::store::told::{TargetKey, Told, ToldState};
use snapring::store::{HistoryFilter, ServerMemories, StoreError};

use crate::judge::Judge;
use crate::judge::notices::WrittenDown;
use crate::webhooks::SERVICES;

/// What the database is like at present.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Works,
    /// Connections that are open go on.
    DoesNotOpen,
    /// The disk is full: it can be read.
    TakesNothing,
    /// Gone: nothing is answered but errors.
    Away,
    /// No answer at all.
    Hangs,
}

impl Mood {
    pub const BROKEN: [Self; 4] = [Self::DoesNotOpen, Self::TakesNothing, Self::Away, Self::Hangs];
}

#[derive(Default)]
struct Kept {
    mood: Mood,
    schedules: FirstLoadedTimes,
    heard: Option<Timestamp>,
    rotations: Vec<PastRotation>,
    memories: HashMap<ServerId, RingMemory>,
    told: Told,
}

/// Clones are the same one.
#[derive(Clone, Default)]
pub struct SimDatabase(Arc<Mutex<Kept>>);

impl SimDatabase {
    pub fn is_from_now_on(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    /// Of whose trouble each service was told, or should have been.
    pub fn told(&self) -> WrittenDown {
        let kept = self.0.lock().unwrap();
        let host = |target: &TargetKey| {
            let is_it = |host: &&str| TargetKey::of(&format!("https://{host}/hook")) == *target;
            SERVICES.map(|(host, _)| host).into_iter().find(is_it).unwrap()
        };
        let number = |of: &Subject| match of {
            Subject::Server(server) => Some(server.number),
            Subject::Account(_) | Subject::Cover(_) => None,
        };
        let is_told = |state: &ToldState| matches!(state, ToldState::Told(_));
        let all = kept.told.iter();
        all.map(|((target, of), state)| ((host(target), number(of)), is_told(state))).collect()
    }

    /// What a daemon connects to it with.
    pub fn connect(&self, truth: &Clock, judge: &Arc<Mutex<Judge>>) -> Connect {
        let connection =
            One { database: self.clone(), truth: truth.clone(), judge: Arc::clone(judge) };
        Arc::new(move || {
            let connection = connection.clone();
            Box::pin(async move {
                connection.works(&[Mood::Works, Mood::TakesNothing]).await?;
                Ok(Box::new(connection) as Box<dyn Connection>)
            })
        })
    }
}

#[derive(Clone)]
struct One {
    database: SimDatabase,
    truth: Clock,
    judge: Arc<Mutex<Judge>>,
}

impl One {
    /// As long as the database is in one of these moods.
    async fn works(&self, moods: &[Mood]) -> Result<(), StoreError> {
        let mood = self.database.0.lock().unwrap().mood;
        if mood == Mood::Hangs {
            return std::future::pending().await;
        }
        if moods.contains(&mood) { Ok(()) } else { Err(StoreError::passing(format!("{mood:?}"))) }
    }

    async fn read<T>(&self, read: impl FnOnce(&Kept) -> T) -> Result<T, StoreError> {
        self.works(&[Mood::Works, Mood::DoesNotOpen, Mood::TakesNothing]).await?;
        Ok(read(&self.database.0.lock().unwrap()))
    }
}

/// The last of some rotations, by their end.
fn last<'a>(rotations: impl Iterator<Item = &'a PastRotation>) -> Option<&'a PastRotation> {
    rotations.max_by_key(|it| (it.ended_at, it.tick))
}

impl Connection for One {
    fn schedules(&mut self) -> Answer<'_, (FirstLoadedTimes, Option<Timestamp>)> {
        Box::pin(self.read(|kept| (kept.schedules.clone(), kept.heard)))
    }

    fn write<'a>(&'a mut self, written: Written<'a>) -> Answer<'a, ()> {
        Box::pin(async move {
            self.works(&[Mood::Works, Mood::DoesNotOpen]).await?;
            let mut kept = self.database.0.lock().unwrap();
            for rotation in written.rotations {
                // To the millisecond, as in a real one.
                let ended_at =
                    Timestamp::from_millisecond(rotation.ended_at.as_millisecond()).unwrap();
                let rotation = PastRotation { ended_at, ..rotation.clone() };
                if !kept.rotations.contains(&rotation) {
                    kept.rotations.push(rotation);
                }
            }
            kept.memories.extend(written.memories.iter().map(|(id, it)| (*id, it.clone())));
            for (of, state) in written.told {
                match state {
                    Some(state) => kept.told.insert(of.clone(), *state),
                    None => kept.told.remove(of),
                };
            }
            if let Some((_, after)) = written.schedules {
                kept.schedules = after.clone();
            }
            kept.heard = Some(written.at);
            let now = self.truth.now();
            let mut judge = self.judge.lock().unwrap();
            judge.stored(written.rotations, written.memories.keys().map(|id| id.number), now.wall);
            Ok(())
        })
    }

    fn memories<'a>(&'a mut self, servers: &'a [ServerId]) -> Answer<'a, ServerMemories> {
        Box::pin(self.read(|kept| {
            let wanted = |id: &ServerId| servers.is_empty() || servers.contains(id);
            let memories = kept.memories.iter().filter(|(id, _)| wanted(id));
            memories.map(|(id, memory)| (*id, memory.clone())).collect()
        }))
    }

    fn told(&mut self) -> Answer<'_, Told> {
        Box::pin(self.read(|kept| kept.told.clone()))
    }

    fn last_of_each_server(&mut self, now: Timestamp) -> Answer<'_, Vec<LastOfServer>> {
        Box::pin(self.read(move |kept| {
            let mut servers: BTreeMap<ServerId, Vec<&PastRotation>> = BTreeMap::new();
            for rotation in kept.rotations.iter().filter(|it| it.ended_at <= now) {
                servers.entry(rotation.server_id).or_default().push(rotation);
            }
            let of_server = |(server_id, all): (ServerId, Vec<&PastRotation>)| {
                let each = || all.iter().copied();
                let cause = |it: &PastRotation| it.cause.map(|cause| cause.as_str());
                let is_bad = |it: &&PastRotation| {
                    [RotationOutcome::Failed, RotationOutcome::Blocked].contains(&it.outcome)
                        && cause(it) != Some("shutdown")
                };
                let mut skips: Vec<_> = each().filter(|it| cause(it) == Some("hindered")).collect();
                skips.sort_by_key(|it| (it.ended_at, it.tick));
                let mut chosen: Vec<&PastRotation> = skips.into_iter().rev().take(2).collect();
                let good =
                    |it: &&PastRotation| ["rotated", "adopted"].contains(&it.outcome.as_str());
                chosen.extend(last(each()));
                chosen.extend(last(each().filter(good)));
                chosen.extend(last(each().filter(is_bad)));
                let of_its_own = |it: &&PastRotation| is_bad(it) && cause(it) != Some("token");
                chosen.extend(last(each().filter(of_its_own)));
                chosen.sort_by_key(|it| (it.ended_at, it.tick, it.outcome.as_str()));
                chosen.dedup();
                LastOfServer::of(server_id, chosen.into_iter().cloned().collect())
            };
            servers.into_iter().map(of_server).collect()
        }))
    }

    fn history<'a>(&'a mut self, filter: &'a HistoryFilter) -> Answer<'a, Vec<PastRotation>> {
        Box::pin(self.read(|kept| {
            let wanted = |it: &&PastRotation| filter.since.is_none_or(|since| it.ended_at >= since);
            kept.rotations.iter().rev().filter(wanted).cloned().collect()
        }))
    }

    fn manual<'a>(&'a mut self, _: &'a HistoryFilter) -> Answer<'a, Vec<ManualAct>> {
        Box::pin(self.read(|_| Vec::new()))
    }

    fn prune(&mut self, _: Timestamp) -> Answer<'_, u64> {
        Box::pin(self.read(|_| 0))
    }

    fn close(self: Box<Self>) -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
