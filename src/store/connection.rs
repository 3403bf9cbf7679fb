//! What the writer needs of a database. The real one is in `database.rs`; the simulation brings one of
//! its own, which fails when it is told to.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::manual::ManualAct;
use crate::naming::ServerId;
use crate::report::{LastOfServer, PastRotation};
use crate::schedule::first_loaded::FirstLoadedTimes;
use crate::store::database::Database;
use crate::store::place::{Access, Place};
use crate::store::told::{Told, ToldChanges};
use crate::store::{HistoryFilter, ServerMemories, StoreError};

/// What a database answers, once it has.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Opens a connection that is written to.
pub type Connect = Arc<dyn Fn() -> Answer<'static, Box<dyn Connection>> + Send + Sync>;

/// What is written in one transaction.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// Rotations that have ended. One that is there already changes nothing.
    pub rotations: &'a [PastRotation],
    /// What is remembered of servers.
    pub memories: &'a ServerMemories,
    /// What the targets of notices were told.
    pub told: &'a ToldChanges,
    /// The schedules, before and after, if they have changed.
    pub schedules: Option<(&'a FirstLoadedTimes, &'a FirstLoadedTimes)>,
    /// When it is written.
    pub at: Timestamp,
}

/// One connection.
pub trait Connection: Send {
    /// The schedules that are recorded, and until when the store was written.
    fn schedules(&mut self) -> Answer<'_, (FirstLoadedTimes, Option<Timestamp>)>;

    /// Writes, all or nothing.
    fn write<'a>(&'a mut self, written: Written<'a>) -> Answer<'a, ()>;

    /// What is remembered of these servers; of all if none is named.
    fn memories<'a>(&'a mut self, servers: &'a [ServerId]) -> Answer<'a, ServerMemories>;

    /// The trouble that the targets of notices know, or are owed.
    fn told(&mut self) -> Answer<'_, Told>;

    /// The rotations up to `now` that each server's health depends on.
    fn last_of_each_server(&mut self, now: Timestamp) -> Answer<'_, Vec<LastOfServer>>;

    /// Past rotations, the newest first.
    fn history<'a>(&'a mut self, filter: &'a HistoryFilter) -> Answer<'a, Vec<PastRotation>>;

    /// What people did by hand, the last act first.
    fn manual<'a>(&'a mut self, filter: &'a HistoryFilter) -> Answer<'a, Vec<ManualAct>>;

    /// Deletes a portion of the rotations that ended before `limit`; gives how many went.
    fn prune(&mut self, limit: Timestamp) -> Answer<'_, u64>;

    /// Ends the connection in order.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Connects to the database at a place.
pub(super) fn to(place: &Place) -> Connect {
    let place = place.clone();
    Arc::new(move || {
        let place = place.clone();
        async move {
            let database = Database::open(&place, Access::Write).await?;
            Ok(Box::new(database) as Box<dyn Connection>)
        }
        .boxed()
    })
}

impl Connection for Database {
    fn schedules(&mut self) -> Answer<'_, (FirstLoadedTimes, Option<Timestamp>)> {
        Self::schedules(self).boxed()
    }

    fn write<'a>(&'a mut self, written: Written<'a>) -> Answer<'a, ()> {
        Self::write(self, written).boxed()
    }

    fn memories<'a>(&'a mut self, servers: &'a [ServerId]) -> Answer<'a, ServerMemories> {
        Self::memories(self, servers).boxed()
    }

    fn told(&mut self) -> Answer<'_, Told> {
        Self::told(self).boxed()
    }

    fn last_of_each_server(&mut self, now: Timestamp) -> Answer<'_, Vec<LastOfServer>> {
        Self::last_of_each_server(self, now).boxed()
    }

    fn history<'a>(&'a mut self, filter: &'a HistoryFilter) -> Answer<'a, Vec<PastRotation>> {
        Self::history(self, filter).boxed()
    }

    fn manual<'a>(&'a mut self, filter: &'a HistoryFilter) -> Answer<'a, Vec<ManualAct>> {
        Self::manual(self, filter).boxed()
    }

    fn prune(&mut self, limit: Timestamp) -> Answer<'_, u64> {
        Self::prune(self, limit).boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Self::close(*self).boxed()
    }
}
