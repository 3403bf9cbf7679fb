//! The `after` hooks that earlier processes owed: a server stays quiesced until its hook has run.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::provider::client::Client;
use crate::rotation::event;
use crate::rotation::hooks::{HookRunner, Invocation, Occasion};
use crate::rotation::lock::{Busy, Claim, Exclusion, OnRestore, Quiesced, Wait};
use crate::server::Server;

/// Runs the `after` hook of a claimed server, if an earlier process has started its `before` and was
/// ended before `after` had run, or if it failed. Gives why the server is still quiesced, if it is.
pub(crate) async fn run_owed_hook(
    hooks: &dyn HookRunner,
    server: &Server,
    claim: &Claim,
) -> Option<Quiesced> {
    let quiesced = claim.quiesced(&server.name).await?;
    let after = server.hooks.as_ref().filter(|hooks| !hooks.after.is_empty());
    if quiesced.failed.is_some() && after.is_none() {
        return Some(quiesced);
    }
    let snapshot = quiesced.snapshot;
    hooks.end_left_behind(server.id, &snapshot).await;
    let done = match after {
        None => Err("there is no after hook in the configuration any more".to_owned()),
        Some(configured) => {
            let occasion = Occasion {
                moment: "after",
                tick: server.policy.prefix.tick_of(&snapshot),
                snapshot: snapshot.clone(),
                result: Some("failed"),
            };
            let (argv, timeout) = (configured.after.clone(), configured.timeout);
            hooks
                .run(Invocation::of(server, argv, timeout, occasion))
                .await
                .map_err(|error| error.to_string())
        }
    };
    let Err(problem) = done else {
        claim.is_awake().await;
        event::owed_hook(server, &snapshot, None);
        return None;
    };
    event::owed_hook(server, &snapshot, Some(&problem));
    after_has_failed(server, claim, &problem).await;
    claim.quiesced(&server.name).await
}

/// Notes that an `after` hook has failed: it is still owed.
pub(crate) async fn after_has_failed(server: &Server, claim: &Claim, problem: &str) {
    if let Err(trouble) = claim.stays_quiesced(&server.name, problem).await {
        event::not_noted(server, &trouble);
    }
}

/// The same once the server is free, as a start does.
pub(crate) async fn run_owed_hook_when_free(
    hooks: &dyn HookRunner,
    exclusion: &Exclusion,
    server: &Server,
    client: &Client,
    shutdown: &CancellationToken,
) -> Option<Quiesced> {
    let clock = client.clock();
    let wait = Wait {
        at_most: Duration::MAX,
        until: server.next_start_after(clock.now().wall),
        on_restore: OnRestore::Wait,
        shutdown: shutdown.clone(),
    };
    let zone = &server.policy.time_zone;
    let tell =
        |busy: &Busy, wait: &Wait| event::waits(server, busy, &wait.until_words(clock, zone));
    // Who holds it has run the hook first, or will.
    let clock = (clock, Some(client));
    let claim = exclusion.claim_when_free(server.id, None, &wait, clock, |_| (), tell).await;
    run_owed_hook(hooks, server, &claim.ok()?).await
}
