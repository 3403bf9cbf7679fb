//! What a start owes: a snapshot that was left in progress, a tick that was missed while snapring
//! was away.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use crate::backoff;
use crate::call::CallError;
use crate::completion::Sharing;
use crate::daemon::{Dependencies, Managed, Ordered, Shared};
use crate::moment::{Moment, shown};
use crate::naming::Tick;
use crate::plan::{AskedBy, missed, unfinished};
use crate::provider::client::Client;
use crate::report::{Report, RotationOutcome};
use crate::ring::Ring;
use crate::rotation::lock::Busy;
use crate::rotation::owed_hooks::run_owed_hook_when_free;
use crate::server::Server;

/// Between two tries to look, at most: the network may come up late.
const PATIENCE: Duration = Duration::from_secs(300);

/// Between the first two looks that fail; longer each time, up to [`PATIENCE`].
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// Looks at the servers' rings, after a start at `started`, and rotates for the ticks that are owed.
pub(super) async fn go_on_with_all(
    shared: Arc<Shared>,
    servers: Vec<Arc<Server>>,
    started: Moment,
) {
    let exclusion = &shared.dependencies.exclusion;
    let quiesced = exclusion.quiesced(servers.iter().map(|server| server.id)).await;
    for server in servers {
        let is_quiesced = quiesced.contains(&server.id);
        shared.spawn(go_on_with(Arc::clone(&shared), server, is_quiesced, started));
    }
}

pub(super) async fn go_on_with(
    shared: Arc<Shared>,
    server: Arc<Server>,
    is_quiesced: bool,
    started: Moment,
) {
    if is_quiesced {
        // Boxed: it is large, and hardly any server needs it.
        Box::pin(wake(&shared, &server)).await;
    }
    if server.enabled {
        go_on(shared, server, started).await;
    }
}

/// Runs the after hook that an earlier process owed, once the server is free.
async fn wake(shared: &Shared, server: &Server) {
    let Dependencies { hooks, exclusion, .. } = &shared.dependencies;
    let Some(Managed { client, .. }) = shared.managed(server.id) else { return };
    let quiesced =
        run_owed_hook_when_free(hooks.as_ref(), exclusion, server, &client, &shared.shutdown).await;
    if let Some(quiesced) = quiesced {
        let tick = server.policy.prefix.tick_of(&quiesced.snapshot);
        let tick = tick.unwrap_or_else(|| Tick::at(shared.dependencies.clock.now().wall));
        let (outcome, words) = (RotationOutcome::Failed, quiesced.words());
        shared.tell(&Report::without_steps(outcome, server.id, &server.name, tick, words));
    }
}

async fn go_on(shared: Arc<Shared>, server: Arc<Server>, started: Moment) {
    // Until then a create of a process that was killed may still arrive, if it was not recorded: a
    // snapshot that is not listed may be there all the same. One that was recorded is waited for by
    // the rotation.
    let Some(Managed { client, spans, .. }) = shared.managed(server.id) else { return };
    let span = spans.shows_up_within;
    let settled_at = shared.dependencies.exclusion.unrecorded_creates_settled_at(span);
    // A fleet is looked at together. Pages may lack a row, so before anything is done for a server it is
    // listed alone.
    let mut sharing = Sharing::Pages;
    let (tick, begun) = loop {
        let Some(ring) = look(&shared, &client, &server, started, sharing).await else { return };
        let owed = owed(&shared, &server, &ring, started);
        let was_whole = client.has_seen(server.id);
        // Without a managed snapshot its missed ticks cannot be determined.
        if sharing == Sharing::Pages
            && !was_whole
            && (owed.is_some() || ring.managed().next().is_none())
        {
            sharing = Sharing::OneAnswer;
            continue;
        }
        let Some(tick) = owed else {
            tracing::debug!(
                event = "resume",
                server_id = server.id.number,
                account = server.id.account.label(),
                server = server.name.as_str(),
                "nothing was missed or left in progress"
            );
            return;
        };
        let begun = ring.for_tick(tick, &server.policy).is_some();
        if begun || settled_at <= ring.listing().asked_at.uptime {
            break (tick, begun);
        }
        let wait = settled_at.saturating_sub(shared.dependencies.clock.now().uptime);
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return,
            () = shared.dependencies.clock.sleep(wait) => {}
        }
    };
    // What has begun is gone on with at once; only a tick that is still to be run has a start.
    let wait = server.starts_at(tick).duration_since(shared.dependencies.clock.now().wall);
    if let Ok(wait) = Duration::try_from(wait)
        && !begun
    {
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return,
            () = shared.dependencies.clock.sleep(wait) => {}
        }
    }
    let claim = match shared.dependencies.exclusion.claim(server.id) {
        Ok(claim) => Some(claim),
        // What a person asked for meanwhile has made what was found, or sees to it.
        Err(Busy::Here) if begun => return,
        // Is told where the rotation would begin.
        Err(_) => None,
    };
    tracing::info!(
        event = "resume",
        server_id = server.id.number,
        account = server.id.account.label(),
        server = server.name.as_str(),
        tick = %tick,
        "{}: continues with the tick of {}, which was missed or left in progress",
        server.name,
        shown(tick.instant(), &server.policy.time_zone)
    );
    let order = Ordered { server, tick, asked_by: AskedBy::Schedule, claim };
    // Fails only when the daemon is ending.
    let _ = shared.queue.send(order).await;
}

/// The tick for which the server is to be rotated after a start, by what its ring shows.
fn owed(shared: &Shared, server: &Server, ring: &Ring, started: Moment) -> Option<Tick> {
    let latest = server.schedules.iter().filter_map(|schedule| {
        let tick = Tick::at(schedule.latest_at(started.wall)?);
        Some((tick, shared.dependencies.first_loaded.of(server.id, schedule)))
    });
    let missed = missed(ring, &server.policy, latest, |tick| server.has_tick(tick))
        .filter(|tick| may_catch_up(server, *tick, started));
    unfinished(ring, &server.policy, missed)
}

/// Whether a tick before the start may still run: it is no older than `catch_up`, or its jitter has
/// not ended.
fn may_catch_up(server: &Server, tick: Tick, started: Moment) -> bool {
    let late = started.wall.duration_since(tick.instant());
    let allowed = SignedDuration::try_from(server.catch_up).unwrap_or(SignedDuration::MAX);
    late <= allowed || server.starts_at(tick) > started.wall
}

/// A complete listing, however long the provider takes to give one; `None` once the server's next
/// tick has come (its rotation sees to everything) or the daemon ends.
async fn look(
    shared: &Shared,
    client: &Client,
    server: &Server,
    started: Moment,
    sharing: Sharing,
) -> Option<Ring> {
    let clock = &shared.dependencies.clock;
    let mut waits = backoff::doubling(FIRST_WAIT, PATIENCE);
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return None,
            () = clock.sleep(wait) => {}
        }
        let next = server.next_start_after(started.wall);
        if next.is_some_and(|next| next <= clock.now().wall) {
            return None;
        }
        match shared.look(client, server, sharing).await {
            Ok(ring) => return Some(ring),
            Err(CallError::Interrupted) => return None,
            Err(_) => {
                client.refresh_token().await;
                wait = waits.next().unwrap_or(PATIENCE);
            }
        }
    }
}
