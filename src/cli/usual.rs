//! How long the snapshots of a server usually take, as the history knows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::cli::progress;
use crate::cli::setup::{STORE_PATIENCE, Setup};
use crate::naming::ServerId;
use crate::report::{PastRotation, RotationOutcome};
use crate::server::Server;
use crate::store::{self, HistoryFilter};

/// For more servers it is not looked up, because it is not shown.
const FEW: usize = 8;

/// How many past rotations of a server count.
const ROTATIONS: u32 = 20;

/// Looks it up while the command goes on, and shows it with what is in progress.
pub(super) fn look_up(setup: &Setup, servers: &[Arc<Server>]) {
    let (place, clock) = (setup.store(), setup.clock.clone());
    if servers.len() > FEW || !place.may_be_there() {
        return;
    }
    let ids: Vec<ServerId> = servers.iter().map(|server| server.id).collect();
    let read = async move || {
        for server in ids {
            let filter = HistoryFilter {
                ids: vec![server],
                outcomes: vec![RotationOutcome::Rotated],
                limit: Some(ROTATIONS),
                ..HistoryFilter::default()
            };
            let past = clock.timeout(STORE_PATIENCE, store::read(&place, &filter)).await;
            if let Some(usual) = past.and_then(Result::ok).as_deref().and_then(usual) {
                progress::usually_takes(server, usual);
            }
        }
    };
    // On a thread of its own: nothing waits for it.
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(read()));
}

/// The middle one of the waits for completion.
fn usual(past: &[PastRotation]) -> Option<Duration> {
    let wait = |it: &PastRotation| it.steps.iter().find(|(step, _)| step == "wait").map(|it| it.1);
    let mut waits: Vec<u64> = past.iter().filter_map(wait).collect();
    waits.sort_unstable();
    waits.get(waits.len() / 2).copied().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::Tick;

    fn past(waits: &[u64]) -> Vec<PastRotation> {
        let tick = Tick::at("2026-11-23T03:00:00Z".parse().unwrap());
        let rotation = |wait: &u64| PastRotation {
            by: None,
            ended_at: tick.instant(),
            server_id: ServerId::new(101),
            server: "web".to_owned(),
            tick,
            outcome: RotationOutcome::Rotated,
            created: None,
            deleted: Vec::new(),
            api_calls: 3,
            duration_ms: 0,
            steps: vec![("list".to_owned(), 9), ("wait".to_owned(), *wait)],
            reason: None,
            cause: None,
        };
        waits.iter().map(rotation).collect()
    }

    #[test]
    fn one_slow_snapshot_does_not_change_what_is_usual() {
        assert_eq!(usual(&past(&[360_000, 9_000_000, 350_000])), Some(Duration::from_secs(360)));
        assert_eq!(usual(&past(&[])), None);
    }
}
