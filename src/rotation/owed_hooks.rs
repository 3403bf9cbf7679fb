//! The `after` hooks that earlier processes owed: a server stays quiesced until its hook has run.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::naming::Tick;
use crate::rotation::event;
use crate::rotation::hooks::{HookRunner, Invocation};
use crate::rotation::lock::{Busy, Claim, Exclusion, OnRestore, Wait};
use crate::server::Server;

/// Runs the `after` hook of a claimed server, if an earlier process has started its `before` and was
/// ended before `after` had run.
pub(crate) async fn run_owed_hook(hooks: &dyn HookRunner, server: &Server, claim: &Claim) {
    let Some(snapshot) = claim.quiesced_for().await else { return };
    let after = server.hooks.as_ref().filter(|hooks| !hooks.after.is_empty());
    let done = match after {
        None => Err("there is no after hook in the configuration any more".to_owned()),
        Some(configured) => {
            let tick = server.policy.prefix.tick_of(&snapshot).map(|tick: Tick| tick.to_string());
            let invocation = Invocation {
                moment: "after",
                argv: configured.after.clone(),
                variables: vec![
                    ("SNAPRING_SERVER_ID", server.id.to_string()),
                    ("SNAPRING_SERVER", server.name.clone()),
                    ("SNAPRING_TICK", tick.unwrap_or_default()),
                    ("SNAPRING_SNAPSHOT", snapshot.clone()),
                    ("SNAPRING_RESULT", "failed".to_owned()),
                ],
                timeout: configured.timeout,
            };
            hooks.run(invocation).await.map_err(|error| error.to_string())
        }
    };
    event::owed_hook(server, &snapshot, done.err().as_deref());
    // Told. A hook that fails is not run again and again.
    claim.is_awake().await;
}

/// The same for all of these servers, as a start does: each as soon as it is free.
pub(crate) async fn run_owed_hooks(
    hooks: &Arc<dyn HookRunner>,
    exclusion: &Exclusion,
    servers: &[Arc<Server>],
    clock: &Clock,
    shutdown: &CancellationToken,
) {
    for id in exclusion.quiesced(servers.iter().map(|server| server.id)).await {
        let Some(server) = servers.iter().find(|server| server.id == id) else { continue };
        let wait = Wait {
            at_most: std::time::Duration::MAX,
            until: server.next_start_after(clock.now().wall),
            on_restore: OnRestore::Wait,
            shutdown: shutdown.clone(),
        };
        let tell = |busy: &Busy| event::waits(server, busy);
        // Who holds it has run the hook first, or will.
        if let Ok(claim) = exclusion.claim_when_free(id, None, &wait, clock, tell).await {
            run_owed_hook(hooks.as_ref(), server, &claim).await;
        }
    }
}
