//! A person at a command is told when a call waits long because the provider asked for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::cli::console;
use crate::clock::Clock;
use crate::moment::shown_today;
use crate::naming::ServerId;
use crate::provider::client::{LongWait, OnLongWait};
use crate::server::Server;

/// A wait that is told although one was told before, if it ends that much later.
const WORTH_TELLING: SignedDuration = SignedDuration::from_secs(30);

/// Says it on standard error, once for each wait. Times are in the zone of the server. Those of the
/// account are in the zone of its servers, if they have one.
pub(super) fn notes(servers: &[Arc<Server>], clock: &Clock) -> OnLongWait {
    let zone = |server: &Arc<Server>| (server.id, server.policy.time_zone.clone());
    let zones: HashMap<ServerId, TimeZone> = servers.iter().map(zone).collect();
    let mut all = zones.values();
    let first = all.next().cloned().unwrap_or(TimeZone::UTC);
    let common = if all.all(|zone| *zone == first) { first } else { TimeZone::UTC };
    let clock = clock.clone();
    let told = Mutex::new(HashMap::<Option<ServerId>, Timestamp>::new());
    Arc::new(move |wait: &LongWait| {
        let LongWait { server, until } = wait;
        let id = server.as_ref().map(|(id, _)| *id);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&id).is_some_and(|before| until.duration_since(*before) <= WORTH_TELLING) {
            return;
        }
        told.insert(id, *until);
        let zone = id.and_then(|id| zones.get(&id)).unwrap_or(&common);
        let name = server.as_ref().map(|(_, name)| format!("{name}: ")).unwrap_or_default();
        let until = shown_today(*until, clock.now().wall, zone);
        console::note(&format!(
            "{name}waiting until {until}: the provider asked for it (429); Ctrl-C ends this"
        ));
    })
}
