//! Whether a restore has ended, as the provider's list of servers shows it.
//!
//! No rotation depends on that list. Where it cannot be read, a restore holds its server for as long as one can
//! take.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::call::CallError;
use crate::health::NotRestored;
use crate::naming::ServerId;
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::restore::ServerState;
use crate::rotation::lock::{Broken, Claim, LONGEST_RESTORE, RestoreAnswer, Restoring};

/// How long the list of servers may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Between two looks that must agree.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);

/// The state of a server in the provider's words. `None`: it gives none.
///
/// # Errors
/// When the servers cannot be listed in time.
pub(crate) async fn state_of(
    client: &Client,
    server: ServerId,
    shutdown: &CancellationToken,
) -> Result<Option<String>, CallError> {
    let give_up_at = client.clock().now().uptime.saturating_add(WITHIN);
    let mut scope = CallContext::until(give_up_at);
    scope.shutdown = shutdown.clone();
    // A look may be broken off: it changes nothing, and a caller waits.
    // Boxed: every rotation may have to ask, and holds room for what it asks with. Hardly any asks.
    let listed = client.clock().timeout(WITHIN, Box::pin(client.servers(&scope)));
    let servers = match shutdown.run_until_cancelled(listed).await {
        None => return Err(CallError::Interrupted),
        Some(None) => return Err(CallError::OutOfTime),
        Some(Some(servers)) => servers?,
    };
    let row = servers.into_iter().find(|row| row.id == server);
    Ok(row.and_then(|row| row.status).map(|status| status.to_string()))
}

/// Whether a claimed server that a restore has left broken is not any more, as the list shows it. Then its note is
/// ended too.
pub(crate) async fn is_repaired(
    client: &Client,
    claim: &Claim,
    shutdown: &CancellationToken,
) -> bool {
    let word = state_of(client, claim.server(), shutdown).await.ok().flatten();
    let is_repaired = word.is_some_and(|word| ServerState::of(&word) != ServerState::Failed);
    if is_repaired {
        claim.is_repaired().await;
    }
    is_repaired
}

/// How a restore that the history tells of has left a claimed server, as the list shows it. It is noted then: the
/// directory with the first note was lost. Where the list cannot be read, nothing is noted.
pub(crate) async fn is_still_broken(
    client: &Client,
    claim: &Claim,
    known: &NotRestored,
    shutdown: &CancellationToken,
) -> Option<Broken> {
    let state = state_of(client, claim.server(), shutdown).await.ok().flatten()?;
    if ServerState::of(&state) != ServerState::Failed {
        return None;
    }
    let broken = Broken { state, source: known.source };
    claim.is_broken(broken.clone()).await;
    Some(broken)
}

/// Whether the restore of a claimed server has ended. Then its note is ended too. Only a restore that the list
/// has shown can end there.
pub(crate) async fn has_ended(
    client: &Client,
    claim: &Claim,
    restoring: &Restoring,
    shutdown: &CancellationToken,
) -> bool {
    let word = async || state_of(client, claim.server(), shutdown).await.ok().flatten();
    let state = async || word().await.map(|word| ServerState::of(&word));
    let is_listed = restoring.answer == RestoreAnswer::Listed;
    let passed = LONGEST_RESTORE.saturating_sub(restoring.left);
    match state().await {
        Some(ServerState::Restoring) if !is_listed => claim.restore_is_listed().await,
        Some(seen) if is_listed && seen.is_at_rest(passed) => {
            // One answer may be a copy from before.
            client.clock().sleep(CONFIRM_AFTER).await;
            let again = word().await.filter(|word| ServerState::of(word).is_at_rest(passed));
            if let Some(word) = again {
                match ServerState::of(&word) {
                    ServerState::Failed => claim.restore_has_failed(&word).await,
                    _ => claim.restore_is_over().await,
                }
                return true;
            }
        }
        _ => {}
    }
    false
}
