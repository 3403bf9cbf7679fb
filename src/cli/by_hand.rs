//! What a person's own creates, deletes and restores share: finding the snapshot, keeping out of a
//! rotation's way, waiting for the end.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::answer::Verdict;
use crate::call::Outcome;
use crate::cli::console;
use crate::cli::error::CommandError;
use crate::cli::setup::{PATIENCE, Setup};
use crate::completion::{Observed, Watch};
use crate::naming::{ServerId, SnapshotId};
use crate::plan::Creation;
use crate::polling::{self, Pace};
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::rotation::lock::Claim;
use crate::rotation::{ToSend, send_create};
use crate::server::CAP;
use crate::snapshot::{Listing, Snapshot};

/// How long a snapshot made by hand may stay in progress, when its server has no policy.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// What a person calls a server: its name, where it is configured, with its number.
#[must_use]
pub(super) fn called(setup: &Setup, server: ServerId) -> String {
    match setup.server(server) {
        Some(server) => format!("{} ({})", server.name, server.id),
        None => server.to_string(),
    }
}

/// The names that a rotation would take for its own.
fn is_managed(setup: &Setup, server: ServerId, name: &str) -> bool {
    setup.server(server).is_some_and(|server| server.policy.prefix.tick_of(name).is_some())
}

/// Claims a server for as long as the claim is held.
///
/// # Errors
/// [`CommandError::Failed`] when a rotation of it is running.
pub(super) fn claim(setup: &Setup, server: ServerId) -> Result<Claim, CommandError> {
    setup.exclusion()?.claim(server).map_err(|busy| {
        CommandError::Failed(format!("server {server} is busy: {busy}; try again when it is done"))
    })
}

/// Finds a snapshot of the account by its number, with the listing that shows it.
///
/// # Errors
/// [`CommandError::Failed`] when it is not there or the provider does not say.
pub(super) async fn find(
    setup: &Setup,
    client: &Client,
    id: SnapshotId,
) -> Result<(Snapshot, Listing), CommandError> {
    let scope = CallContext::until(client.clock().now().uptime.saturating_add(PATIENCE));
    let (snapshots, asked_at) = client.list_account(&scope).await?;
    let Some(found) = snapshots.iter().find(|snapshot| snapshot.id == id).cloned() else {
        return Err(CommandError::Failed(format!(
            "the account has no snapshot {id}\nhint: `snapring list -c {}` shows those there are",
            setup.path.display()
        )));
    };
    let of_server = snapshots.into_iter().filter(|row| row.server == found.server).collect();
    let listing = Listing::complete(found.server, of_server, asked_at);
    Ok((found, listing))
}

/// The scope of a call about a server, by its configured name where it has one.
#[must_use]
pub(super) fn scope(setup: &Setup, server: ServerId, shutdown: CancellationToken) -> CallContext {
    match setup.server(server) {
        Some(server) => CallContext::of(server, shutdown),
        None => CallContext::of_server(server, format!("server-{server}"), shutdown),
    }
}

/// Creates a snapshot by hand and, if wanted, waits until it is completed.
///
/// # Errors
/// [`CommandError::Usage`] for a name that is not a person's to use, [`CommandError::Failed`] when there
/// is no free slot, when the provider fails to create it, or when it is not known whether it did.
pub(super) async fn create(
    setup: &Setup,
    client: &Client,
    server: ServerId,
    name: &str,
    description: &str,
    wait: bool,
    shutdown: CancellationToken,
) -> Result<Snapshot, CommandError> {
    if is_managed(setup, server, name) {
        return Err(CommandError::Usage(format!(
            "{name} is the name of a managed snapshot: rotations would delete it in time\n\
             hint: choose another, or use `snapring rotate` for a managed one"
        )));
    }
    let scope = scope(setup, server, shutdown);
    let claim = claim(setup, server)?;
    let before = client.list(server, &scope).await?;
    let cap = setup.server(server).map_or(CAP, |server| server.policy.cap);
    let Some(creation) = Creation::by_hand(name.to_owned(), cap, &before) else {
        let held: Vec<&str> = before.snapshots.iter().map(|row| row.name.as_str()).collect();
        return Err(CommandError::Failed(format!(
            "no free slot: {} of {cap} are taken by {}",
            held.len(),
            held.join(", ")
        )));
    };
    let spans = setup.settings.api.create_spans();
    claim.create_begins(name, setup.clock.now().uptime, spans.shows_up_within).await;
    let create = ToSend { creation: &creation, description, attempt: 1, spans };
    let (created, settled_at) = send_create(client, &claim, create, &scope).await;
    let made = match created {
        Ok(made) => made,
        Err(problem) => {
            if problem.verdict() != Verdict::Unknown {
                return Err(problem.into());
            }
            console::note(&format!("{problem}; looking whether it was made all the same"));
            let found = appeared(setup, client, &before, name, settled_at, &scope).await?;
            claim.create_is_settled(setup.clock.now().uptime).await;
            found.ok_or(problem)?
        }
    };
    console::note(&format!("snapshot {} ({name}) is being made", made.id));
    if !wait {
        return Ok(made);
    }
    let timeout =
        setup.server(server).map_or(COMPLETION_TIMEOUT, |server| server.completion_timeout);
    let completed = completed(client, made, timeout, spans.settle, &scope).await?;
    // Listings show it, so the next rotation need not wait for it.
    claim.create_is_settled(setup.clock.now().uptime).await;
    Ok(completed)
}

/// A snapshot of this name that was not there before, if one shows up before `settled_at`.
async fn appeared(
    setup: &Setup,
    client: &Client,
    before: &Listing,
    name: &str,
    settled_at: Duration,
    scope: &CallContext,
) -> Result<Option<Snapshot>, CommandError> {
    let known: BTreeSet<SnapshotId> = before.snapshots.iter().map(|row| row.id).collect();
    let since = setup.clock.now().uptime;
    loop {
        let wait = polling::until_settled(since, settled_at, setup.clock.now().uptime);
        client.pause(scope, wait).await?;
        let listing = client.list(before.server, scope).await?;
        let new = |row: &Snapshot| row.name == name && !known.contains(&row.id);
        let asked_at = listing.asked_at.uptime;
        if let Some(found) = listing.snapshots.into_iter().find(new) {
            return Ok(Some(found));
        }
        if asked_at >= settled_at {
            return Ok(None);
        }
    }
}

async fn completed(
    client: &Client,
    made: Snapshot,
    timeout: Duration,
    settle: Duration,
    scope: &CallContext,
) -> Result<Snapshot, CommandError> {
    let since = client.clock().now().uptime;
    let mut watch = Watch::over_a_new_one(Pace::default(), timeout, settle);
    loop {
        let passed = client.clock().now().uptime.saturating_sub(since);
        let Some(look) = watch.next_look(passed, None) else {
            let timeout = humantime::format_duration(timeout);
            return Err(CommandError::Failed(format!(
                "{} was not completed within {timeout}; it may still be",
                made.name
            )));
        };
        client.pause(scope, look.wait).await?;
        let listing = match client.list(made.server, scope).await {
            Ok(listing) => listing,
            Err(problem) if problem.outcome().is_some_and(Outcome::may_pass) => {
                watch.saw_nothing();
                continue;
            }
            Err(problem) => return Err(problem.into()),
        };
        let asked_after = listing.asked_at.uptime.saturating_sub(since);
        let row = listing.snapshots.into_iter().find(|row| row.id == made.id);
        match (watch.saw(row.as_ref().map(|row| &row.status), passed, asked_after), row) {
            (Observed::Completed, Some(row)) => return Ok(row),
            (Observed::Failed, _) => {
                return Err(CommandError::Failed(format!(
                    "the provider failed to make {}",
                    made.name
                )));
            }
            (Observed::NotYet, Some(row)) => console::note(&format!(
                "{}: {} for {}",
                row.name,
                row.status.as_str(),
                humantime::format_duration(Duration::from_secs(passed.as_secs()))
            )),
            // The provider has answered that it creates it. Some take long to list what is new.
            (Observed::Completed | Observed::NotYet | Observed::Gone, _) => {}
        }
    }
}
