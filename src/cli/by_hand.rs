//! What a person's own creates, deletes and restores share: finding the snapshot, keeping out of a
//! rotation's way, waiting for the end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use crate::activity::{Activity, Subject};
use crate::answer::Verdict;
use crate::call::{CallError, Outcome};
use crate::cli::error::CommandError;
use crate::cli::setup::{PATIENCE, STORE_PATIENCE, Setup};
use crate::cli::status::gather::last_known;
use crate::cli::{console, progress};
use crate::completion::{Observed, Watch};
use crate::health::NotRestored;
use crate::manual::ManualOutcome;
use crate::moment::{Moment, shown_today};
use crate::naming::{ServerId, SnapshotId};
use crate::plan::Creation;
use crate::polling::{self, Pace};
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::provider::clients::Clients;
use crate::readable::age;
use crate::restore::ServerState;
use crate::ring::{Holder, Ring, holder};
use crate::rotation::hooks::Processes;
use crate::rotation::lock::{
    Broken, Busy, Claim, Exclusion, OnRestore, RestoreAnswer, Restoring, Wait,
};
use crate::rotation::owed_hooks::run_owed_hook;
use crate::rotation::restored::{has_ended, is_repaired, is_still_broken, state_of};
use crate::rotation::{PATIENCE_BY_HAND, ToSend, send_create};
use crate::server::CAP;
use crate::snapshot::{Listing, Snapshot, Status};
use crate::wording::listed;

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

/// A snapshot to be created by hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub server: ServerId,
    pub name: &'a str,
    pub description: &'a str,
    /// Until it is completed.
    pub wait: bool,
}

/// Refuses the names that a rotation would take for its own.
///
/// # Errors
/// [`CommandError::Usage`] for a name that is not a person's to use.
pub(super) fn check_name(setup: &Setup, server: ServerId, name: &str) -> Result<(), CommandError> {
    if setup.server(server).is_some_and(|server| server.policy.prefix.tick_of(name).is_some()) {
        return Err(CommandError::Usage(format!(
            "{name} is named like a managed snapshot, so a rotation would delete it at some point\n\
             hint: choose another, or use `snapring rotate` for a managed one"
        )));
    }
    Ok(())
}

/// What is shown of a server while a command waits.
pub(super) fn subject(setup: &Setup, server: ServerId) -> Subject {
    let name = setup.server(server).map(|server| server.name.clone());
    (server, name.unwrap_or_else(|| format!("server-{server}")))
}

/// Claims a server for a command, for as long as the claim is held. Waits until no other process works
/// on it, and shows that. The server may be in the middle of a restore: see [`restoring`].
///
/// # Errors
/// [`CommandError::Failed`] when it does not become free.
pub(super) async fn claim(
    setup: &Setup,
    exclusion: &Exclusion,
    server: ServerId,
    shutdown: CancellationToken,
) -> Result<Claim, CommandError> {
    let zone = zone(setup, server);
    let name = called(setup, server);
    let on_restore = OnRestore::Claim;
    let wait = Wait { at_most: PATIENCE_BY_HAND, until: None, on_restore, shutdown };
    let show = |busy: &Busy| {
        let words = busy.in_short(setup.clock.now().wall, &zone);
        progress::activities().begin(Some(&subject(setup, server)), Activity::Other(words))
    };
    let clock = (&setup.clock, None);
    let claim = exclusion.claim_when_free(server, None, &wait, clock, show, |_, _| ()).await;
    let claim =
        claim.map_err(|busy| CommandError::Failed(format!("{name}: {}", busy.words(&zone))))?;
    if let Some(server) = setup.server(server) {
        let hooks = Processes::new(setup.clock.clone());
        if let Some(quiesced) = run_owed_hook(&hooks, server, &claim).await {
            console::warning(&format!("{}: {}", server.name, quiesced.words()));
        }
    }
    Ok(claim)
}

/// The restore of a claimed server that may be under way, and what to say of it. If the provider's list
/// of servers shows that it has ended, there is none any more.
pub(super) async fn restoring(
    setup: &Setup,
    client: &Client,
    claim: &Claim,
    server: ServerId,
) -> Option<(Restoring, String)> {
    let restoring = claim.restoring(setup.clock.now().wall).await?;
    if has_ended(client, claim, &restoring, &CancellationToken::new()).await {
        console::note(&format!("{}: the restore has ended", called(setup, server)));
        return None;
    }
    // The look may have shown it.
    let restoring = claim.restoring(setup.clock.now().wall).await?;
    let words = Busy::Restoring(restoring.clone()).words(&zone(setup, server));
    Some((restoring, format!("{}: {words}", called(setup, server))))
}

/// How a failed restore has left a claimed server, unless the provider's list of servers shows it otherwise now.
/// If the note of that was lost, the history tells.
pub(super) async fn broken(setup: &Setup, client: &Client, claim: &Claim) -> Option<Broken> {
    let Some(broken) = claim.broken().await else {
        let known = broken_before(setup, claim.server()).await?;
        return is_still_broken(client, claim, &known, &CancellationToken::new()).await;
    };
    let is_repaired = is_repaired(client, claim, &CancellationToken::new()).await;
    (!is_repaired).then_some(broken)
}

/// The time zone of a server's times.
pub(super) fn zone(setup: &Setup, server: ServerId) -> TimeZone {
    setup.server(server).map_or(TimeZone::UTC, |server| server.policy.time_zone.clone())
}

/// In which account a server or a snapshot is, for commands that take one.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct OfAccount {
    /// The account of the snapshot, if two accounts have one with this id
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

impl OfAccount {
    /// The account that was named.
    #[must_use]
    pub(super) fn name(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// The accounts to look in.
    ///
    /// # Errors
    /// As for [`Setup::accounts`].
    pub(super) fn clients(&self, setup: &Setup) -> Result<Clients, CommandError> {
        setup.accounts(self.account.as_deref())
    }
}

/// Finds snapshots of the accounts by their numbers, each with the listing of its server.
///
/// # Errors
/// [`CommandError::Failed`] when one is not there, is in two accounts, or an account's provider does not say:
/// the number may be another snapshot's there.
pub(super) async fn find(
    setup: &Setup,
    clients: &Clients,
    ids: &[SnapshotId],
) -> Result<Vec<(Snapshot, Listing)>, CommandError> {
    let mut snapshots: Vec<(Snapshot, Moment)> = Vec::new();
    for client in clients.all() {
        let scope = CallContext::until(client.clock().now().uptime.saturating_add(PATIENCE));
        let listed = client.list_account(&scope).await;
        let (rows, asked_at) = listed.map_err(|problem| {
            let error = CommandError::from(problem);
            // The number may be another snapshot's there, so that the others alone do not tell.
            if clients.all().nth(1).is_none() {
                return error;
            }
            CommandError::Failed(format!(
                "account {}: {error}\nhint: with --account NAME, only that account is asked",
                client.whose()
            ))
        })?;
        snapshots.extend(rows.into_iter().map(|row| (row, asked_at)));
    }
    let find = |id: &SnapshotId| {
        let found: Vec<_> = snapshots.iter().filter(|(snapshot, _)| snapshot.id == *id).collect();
        let &(found, asked_at) = match found.as_slice() {
            [one] => one,
            [] => {
                let mut asked = clients.all();
                let none_has = match (asked.next(), asked.next()) {
                    (Some(one), None) => format!("{} has no", one.whose().in_words()),
                    _ => "no account has a".to_owned(),
                };
                return Err(CommandError::Failed(format!(
                    "{none_has} snapshot {id}\nhint: `snapring list -c {}` shows the ids",
                    setup.path.display()
                )));
            }
            several => {
                let accounts: Vec<&str> =
                    several.iter().map(|(it, _)| it.server.account.name()).collect();
                return Err(CommandError::Usage(format!(
                    "several accounts have a snapshot {id}: {}\nhint: name one with --account NAME",
                    listed(&accounts)
                )));
            }
        };
        let of_server = snapshots.iter().filter(|(row, _)| row.server == found.server);
        let of_server = of_server.map(|(row, _)| row.clone()).collect();
        Ok((found.clone(), Listing::complete(found.server, of_server, *asked_at)))
    };
    ids.iter().map(find).collect()
}

/// The client of a server's account.
///
/// # Errors
/// [`CommandError::Failed`] when its account is not among them.
pub(super) fn client_of(clients: &Clients, server: ServerId) -> Result<&Arc<Client>, CommandError> {
    let missing = || CommandError::Failed(format!("account {} is not in use", server.account));
    clients.of(server.account).ok_or_else(missing)
}

/// Whose a snapshot is, for a person who is about to restore or delete it.
#[must_use]
pub(super) fn whose(setup: &Setup, snapshot: &Snapshot) -> String {
    let Some(server) = setup.server(snapshot.server) else {
        return "its server is not in the configuration".to_owned();
    };
    match (holder(snapshot, &server.policy), snapshot.name.managed_prefix()) {
        (Holder::Managed(_), _) => "managed".to_owned(),
        (Holder::Pinned, _) => "pinned".to_owned(),
        (Holder::Foreign, Some(prefix)) => {
            format!("foreign: it looks like snapring's under the prefix {prefix}")
        }
        (Holder::Foreign, None) => "foreign: created by hand or by another tool".to_owned(),
    }
}

/// A restore that may be under way, in the middle of a sentence.
#[must_use]
pub(super) fn restore_under_way(restoring: &Restoring) -> String {
    let from = match &restoring.source {
        Some((id, name)) => format!(" from {name} ({id})"),
        None => String::new(),
    };
    match restoring.answer {
        RestoreAnswer::Unclear => {
            format!(
                "an earlier restore{from}, which the provider did not confirm, may still be running"
            )
        }
        RestoreAnswer::Confirmed | RestoreAnswer::Listed => {
            format!("the server is being restored{from}")
        }
    }
}

/// The scope of a call about a server, by its configured name where it has one.
#[must_use]
pub(super) fn scope(setup: &Setup, server: ServerId, shutdown: CancellationToken) -> CallContext {
    match setup.server(server) {
        Some(server) => CallContext::of(server, shutdown),
        None => CallContext::of_server(server, format!("server-{server}"), shutdown),
    }
}

/// How far a create by hand is. Clones share it, so that it is known when the create is broken off.
#[derive(Debug, Clone, Default)]
pub(super) struct CreateProgress(Arc<Mutex<CreateStage>>);

#[derive(Debug, Clone, Copy, Default)]
enum CreateStage {
    /// Nothing was created.
    #[default]
    Nothing,
    /// It was sent, and it is not known whether it was carried out.
    Perhaps,
    /// The provider creates it.
    InProgress(SnapshotId),
    /// The provider failed to create it.
    Failed(SnapshotId),
}

impl CreateProgress {
    fn is(&self, stage: CreateStage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// What has become of the snapshot so far, and its id.
    #[must_use]
    pub(super) fn outcome(&self) -> (ManualOutcome, Option<SnapshotId>) {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            CreateStage::Nothing => (ManualOutcome::Failed, None),
            CreateStage::Perhaps => (ManualOutcome::Unknown, None),
            CreateStage::InProgress(id) => (ManualOutcome::Started, Some(id)),
            CreateStage::Failed(id) => (ManualOutcome::Failed, Some(id)),
        }
    }

    /// What an interruption leaves, and what to do next.
    #[must_use]
    pub(super) fn words(&self, name: &str) -> String {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            CreateStage::Nothing => "nothing was created".to_owned(),
            CreateStage::Perhaps => format!(
                "it is not known whether {name} was created: `snapring list` shows it within a minute if \
                 it was. Another `snapring create` creates one more"
            ),
            CreateStage::InProgress(id) => format!(
                "{name} ({id}) is still in progress at the provider, which completes it without this \
                 command: `snapring list` shows when. Another `snapring create` creates one more"
            ),
            CreateStage::Failed(id) => format!("the provider failed to create {name} ({id})"),
        }
    }
}

/// Creates a snapshot of a claimed server by hand and, if wanted, waits until it is completed.
///
/// # Errors
/// [`CommandError::Failed`] when there is no free slot, when the provider fails to create it, when it
/// is not known whether it did, or when a person interrupts it: then it says what was left.
pub(super) async fn create(
    setup: &Setup,
    client: &Client,
    claim: &Claim,
    wanted: &Wanted<'_>,
    shutdown: CancellationToken,
    progress: &CreateProgress,
) -> Result<Snapshot, CommandError> {
    let created = create_and_wait(setup, client, claim, wanted, shutdown, progress).await;
    created.map_err(|problem| problem.interrupted_with(|| progress.words(wanted.name)))
}

async fn create_and_wait(
    setup: &Setup,
    client: &Client,
    claim: &Claim,
    wanted: &Wanted<'_>,
    shutdown: CancellationToken,
    progress: &CreateProgress,
) -> Result<Snapshot, CommandError> {
    let Wanted { server, name, description, wait } = *wanted;
    let scope = scope(setup, server, shutdown);
    let spans = setup.settings.api.create_spans();
    // Reads what earlier processes have recorded. The listing may settle it.
    claim.last_create_settled_at(setup.clock.now().uptime, spans.shows_up_within).await;
    let before = client.list(server, &scope).await?;
    warn_of_earlier_ones(setup, claim, &before).await;
    let cap = setup.server(server).map_or(CAP, |server| server.policy.cap);
    let Some(creation) = Creation::by_hand(name.to_owned(), cap, &before) else {
        let held = before.snapshots.iter().map(|row| format!("{} ({})", row.name, row.id));
        let held: Vec<String> = held.collect();
        return Err(CommandError::Failed(format!(
            "nothing was created: the server has {cap} slots, and {} snapshots: {}\n\
             hint: delete one that you do not need with `snapring delete ID`",
            held.len(),
            listed(&held)
        )));
    };
    claim.create_begins(name, setup.clock.now().uptime, spans.shows_up_within).await;
    let create = ToSend { creation: &creation, description, attempt: 1, spans };
    progress.is(CreateStage::Perhaps);
    let (created, settled_at) = send_create(client, claim, create, &scope).await;
    if created.as_ref().is_err_and(|problem| problem.verdict() != Verdict::Unknown) {
        progress.is(CreateStage::Nothing);
    }
    let made = match created {
        Ok(made) if made.name != name => {
            return Err(CommandError::Failed(format!(
                "{name} was requested, but the provider created {} ({})",
                made.name, made.id
            )));
        }
        Ok(made) => made,
        Err(problem) => {
            // A rejection may be a proxy's, behind which it was made: that shows at once.
            let settled_at = match (problem.verdict(), problem.outcome()) {
                (Verdict::Unknown, _) => settled_at,
                (_, Some(Outcome::Rejected)) => setup.clock.now().uptime,
                _ => return Err(problem.into()),
            };
            let now = setup.clock.now();
            let left = settled_at.saturating_sub(now.uptime);
            let end = now.wall.checked_add(left).unwrap_or(now.wall);
            let until = shown_today(end, now.wall, &zone(setup, server));
            let (cause, short) = (problem.cause_without_a_time(), problem.in_short());
            console::note(&format!(
                "{cause}; looking until {until} whether {name} was created anyway"
            ));
            let looks = Activity::Other(format!("looking for {name} until {until}: {short}"));
            let _looks = progress::activities().begin(Some(&subject(setup, server)), looks);
            let found = appeared(setup, client, &before, name, settled_at, &scope).await?;
            claim.create_is_settled(setup.clock.now().uptime).await;
            match found {
                Some(found) => found,
                None => {
                    progress.is(CreateStage::Nothing);
                    return Err(not_listed(problem, name, &until));
                }
            }
        }
    };
    progress.is(CreateStage::InProgress(made.id));
    console::note(&format!("snapshot {} ({name}) is being created", made.id));
    if !wait {
        return Ok(made);
    }
    let timeout =
        setup.server(server).map_or(COMPLETION_TIMEOUT, |server| server.completion_timeout);
    let _waits = progress::activities().begin(Some(&subject(setup, server)), Activity::Snapshot);
    let completed = completed(client, made, timeout, spans.settle, &scope, progress).await?;
    // Listings show it, so the next rotation need not wait for it.
    claim.create_is_settled(setup.clock.now().uptime).await;
    Ok(completed)
}

/// The last restore, if the history says that it left the server broken, and no rotation has succeeded since.
pub(super) async fn broken_before(setup: &Setup, server: ServerId) -> Option<NotRestored> {
    let statuses = last_known(setup, STORE_PATIENCE).await.ok()?;
    statuses.of(server).broken().cloned()
}

/// The state that the provider shows of a server that a restore has left broken.
pub(super) async fn broken_state(
    setup: &Setup,
    server: ServerId,
) -> Result<Option<String>, CommandError> {
    let noted = setup.exclusion("restore")?.broken(server).await;
    if noted.is_none() && broken_before(setup, server).await.is_none() {
        return Ok(None);
    }
    let client = setup.client_of(server)?;
    Ok(match state_of(&client, server, &CancellationToken::new()).await {
        Ok(Some(state)) => (ServerState::of(&state) == ServerState::Failed).then_some(state),
        Ok(None) | Err(_) => noted.map(|it| it.state),
    })
}

/// Says what an earlier create has left: a person may be repeating a command that was killed.
async fn warn_of_earlier_ones(setup: &Setup, claim: &Claim, before: &Listing) {
    let Some(server) = setup.server(before.server) else { return };
    let now = setup.clock.now().wall;
    let recent = SignedDuration::try_from(server.completion_timeout).unwrap_or_default();
    let called = called(setup, server.id);
    for row in &before.snapshots {
        let Snapshot { id, name, status, created_at, .. } = row;
        let is_recent = now.duration_since(*created_at) < recent && *status != Status::Failed;
        if holder(row, &server.policy) == Holder::Foreign
            && (is_recent || *status == Status::InProgress)
        {
            let age = age(*created_at, now);
            console::warning(&format!(
                "warning: {called} already has {name} ({id}), {status}, created {age} ago, perhaps by an earlier `create`"
            ));
        }
    }
    if claim.listed(&Ring::of(before.clone(), &server.policy)).await.is_some() {
        console::warning(&format!(
            "warning: the snapshot of an earlier create of {called} is not listed, but may still appear; this command \
             creates one more"
        ));
    }
}

/// Why a snapshot that was looked for is taken as not created.
fn not_listed(problem: CallError, name: &str, until: &str) -> CommandError {
    match problem.verdict() {
        Verdict::Unknown => CommandError::Failed(format!(
            "{}; {name} was not listed by {until}\nhint: look again with `snapring list` before you retry",
            problem.explained()
        )),
        _ => problem.into(),
    }
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
    client.pause(scope, polling::until_settled(since, settled_at, since)).await?;
    let new = |row: &&Snapshot| row.name == name && !known.contains(&row.id);
    let found = |listing: &Listing| listing.snapshots.iter().find(new).cloned();
    Ok(look_until_settled(client, before.server, (since, settled_at), scope, found).await?)
}

/// Lists a server until something is found, or a listing was requested at `settled_at` or later: `None`.
///
/// # Errors
/// When a listing fails.
pub(super) async fn look_until_settled<T>(
    client: &Client,
    server: ServerId,
    (since, settled_at): (Duration, Duration),
    scope: &CallContext,
    mut found: impl FnMut(&Listing) -> Option<T>,
) -> Result<Option<T>, CallError> {
    loop {
        let listing = client.list(server, scope).await?;
        let found = found(&listing);
        if found.is_some() || listing.asked_at.uptime >= settled_at {
            return Ok(found);
        }
        let now = client.clock().now().uptime;
        client.pause(scope, polling::until_settled(since, settled_at, now)).await?;
    }
}

async fn completed(
    client: &Client,
    made: Snapshot,
    timeout: Duration,
    settle: Duration,
    scope: &CallContext,
    progress: &CreateProgress,
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
                progress.is(CreateStage::Failed(made.id));
                return Err(CommandError::Failed(format!(
                    "the provider failed to create {}",
                    made.name
                )));
            }
            // The provider has answered that it creates it. Some take long to list what is new.
            (Observed::Completed | Observed::NotYet | Observed::Gone, _) => {}
        }
    }
}
