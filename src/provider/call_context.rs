//! On whose behalf a call is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use crate::moment::shown_today;
use crate::naming::{ServerId, Tick};
use crate::pins::Pins;
use crate::provider::call_event::CallSubject;
use crate::server::Server;

/// On whose behalf calls are made, and how long they may be tried.
#[derive(Debug, Clone, Default)]
pub struct CallContext {
    /// The server and its name in the configuration.
    pub server: Option<(ServerId, String)>,
    /// The rotation's tick.
    pub tick: Option<Tick>,
    /// In the clock's uptime: nothing is waited for or tried again past it.
    pub give_up_at: Option<Duration>,
    /// What may not be deleted, as it stands when a delete is sent.
    pub pins: Pins,
    /// In which times are shown; that of the account if there is none.
    pub zone: Option<TimeZone>,
    /// Every other call of the account goes first.
    pub in_background: bool,
    /// Set when snapring shuts down: nothing new is sent then.
    pub shutdown: CancellationToken,
    calls: Arc<AtomicU32>,
}

impl CallContext {
    /// On behalf of a configured server.
    #[must_use]
    pub fn of(server: &Server, shutdown: CancellationToken) -> Self {
        let zone = Some(server.policy.time_zone.clone());
        Self { zone, ..Self::of_server(server.id, server.name.clone(), shutdown) }
    }

    /// On behalf of no server, until then at most.
    #[must_use]
    pub fn until(give_up_at: Duration) -> Self {
        Self { give_up_at: Some(give_up_at), ..Self::default() }
    }

    /// On behalf of all servers.
    #[must_use]
    pub fn of_account(shutdown: CancellationToken) -> Self {
        Self { shutdown, ..Self::default() }
    }

    /// On behalf of any server.
    #[must_use]
    pub fn of_server(id: ServerId, name: String, shutdown: CancellationToken) -> Self {
        Self { server: Some((id, name)), shutdown, ..Self::default() }
    }

    /// A time in a message about these calls.
    #[must_use]
    pub(crate) fn shown(&self, at: Timestamp, now: Timestamp, of_account: &TimeZone) -> String {
        shown_today(at, now, self.zone.as_ref().unwrap_or(of_account))
    }

    /// How many calls were sent.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn subject(&self) -> CallSubject {
        CallSubject {
            server_id: self.server.as_ref().map(|(id, _)| *id),
            server: self.server.as_ref().map(|(_, name)| name.clone()),
            tick: self.tick,
            ..CallSubject::default()
        }
    }

    pub(crate) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}
