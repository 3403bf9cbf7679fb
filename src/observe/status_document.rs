//! How things are, as one document: for programs over HTTP and for `snapring status`.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::coverage::AccountStatus;
use crate::daemon::view::{AccountView, ServerView, View};
use crate::health::{ServerHealth, TroubleKind};
use crate::manual::ManualAct;
use crate::moment::shown;
use crate::naming::{ServerId, SnapshotId};
use crate::observe::health::Obstacles;
use crate::policy::Policy;
use crate::provider::token_state::TokenState;
use crate::readable;
use crate::report::{KnownCause, RotationOutcome};
use crate::retention::Verdict;
use crate::ring::Holder;
use crate::rotation::lock::{Quiesced, RestoreUnderWay};
use crate::status::undelivered::Undelivered;
use crate::status::{RingSeen, SlotSeen};
use crate::store::StoreHealth;

/// Of what form it is. A reader that knows this number understands it: fields may be added under it.
pub(crate) const VERSION: u32 = 1;

/// How things are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusDocument {
    /// [`VERSION`].
    pub version: u32,
    /// snapring's own.
    pub snapring: String,
    /// When this was so.
    pub at: Timestamp,
    /// How the daemon is; `None` where none runs.
    pub daemon: Option<DaemonStatus>,
    /// Whether all servers of the account have a policy. `None` if an older daemon wrote the document.
    #[serde(default)]
    pub account: Option<AccountStatus>,
    /// `true`: whether a daemon runs is not known, so the next ticks count only if one does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub daemon_unknown: bool,
    /// Servers whose `after` hook is owed and that are not rotated any more. Without a daemon, the others too.
    #[serde(default)]
    pub not_resumed: Vec<Quiesced>,
    /// Servers that are being restored.
    #[serde(default)]
    pub restores: Vec<RestoreUnderWay>,
    /// How many servers are how; all of them, however few are shown.
    pub totals: Totals,
    /// The servers: those in trouble first, then by name.
    pub servers: Vec<ServerRecord>,
}

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DaemonStatus {
    /// When it started.
    pub started_at: Timestamp,
    /// Whether its scheduler goes on.
    pub alive: bool,
    /// Whether it can do its work.
    pub ready: bool,
    /// What the provider makes of the token; of several accounts, the worst.
    pub token: TokenState,
    /// Since when it has refused it; of several accounts, the first.
    #[serde(default)]
    pub token_refused_since: Option<Timestamp>,
    /// When the configuration in force was read.
    pub configuration_read_at: Timestamp,
    /// Why the one that was read last is not in force.
    pub configuration_refused: Option<String>,
    /// When that one was read.
    #[serde(default)]
    pub configuration_refused_at: Option<Timestamp>,
    /// Whether the store works.
    #[serde(default)]
    pub store: StoreStatus,
    /// Until when the provider has asked the whole account to wait (429): no calls are sent.
    #[serde(default)]
    pub throttled_until: Option<Timestamp>,
    /// What people did last by hand, the last act first.
    #[serde(default)]
    pub manual_acts: Vec<ManualAct>,
    /// Webhooks that did not get their last notices.
    #[serde(default)]
    pub undelivered_notices: Vec<Undelivered>,
    /// Each account, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountRecord>,
}

/// How an account is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccountRecord {
    /// Its name; "default" is the account of `[api]`.
    pub name: String,
    /// What the provider makes of its token.
    pub token: TokenState,
    /// Since when it has refused it.
    #[serde(default)]
    pub token_refused_since: Option<Timestamp>,
    /// Until when the provider has asked it to wait (429): no calls are sent.
    pub throttled_until: Option<Timestamp>,
}

/// Whether the store works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreStatus {
    /// Whether it could be used when last tried.
    pub up: bool,
    /// How many rotations are missing from the history since the start.
    pub lost: u64,
}

/// As a daemon is taken to be that says nothing of it.
impl Default for StoreStatus {
    fn default() -> Self {
        Self { up: true, lost: 0 }
    }
}

impl StoreStatus {
    fn of(store: &StoreHealth) -> Self {
        Self { up: store.is_up(), lost: store.lost() }
    }

    /// What to tell a person, when it does not work.
    #[must_use]
    pub(crate) fn problem(&self) -> Option<String> {
        (!self.up).then(|| match self.lost {
            0 => {
                "the history cannot be written; rotations continue, but `history` is out of date".to_owned()
            }
            lost => format!(
                "the history cannot be written; rotations continue, but {lost} are missing from `history`"
            ),
        })
    }
}

/// How a server is. The worst comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ServerState {
    /// Its last rotation failed.
    Failed,
    /// Its last rotation found no slot.
    Blocked,
    /// Its last ticks were skipped, and should have run.
    Skipped,
    /// Its last success is too old.
    Stale,
    /// No rotation of it is known yet.
    #[serde(alias = "unknown")]
    Waiting,
    /// Its last rotation ended well.
    Ok,
    /// The configuration has it switched off.
    Disabled,
}

impl ServerState {
    /// All of them, the worst first.
    pub(crate) const ALL: [Self; 7] = [
        Self::Failed,
        Self::Blocked,
        Self::Skipped,
        Self::Stale,
        Self::Waiting,
        Self::Ok,
        Self::Disabled,
    ];

    /// The word for it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Blocked => "blocked",
            Self::Skipped => "skipped",
            Self::Stale => "stale",
            Self::Waiting => "waiting",
            Self::Ok => "ok",
            Self::Disabled => "disabled",
        }
    }

    /// The state of this word.
    #[must_use]
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether it needs a person's attention.
    #[must_use]
    pub(crate) fn is_trouble(self) -> bool {
        match self {
            Self::Failed | Self::Blocked | Self::Skipped | Self::Stale => true,
            Self::Waiting | Self::Ok | Self::Disabled => false,
        }
    }
}

/// How many servers are how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// All of them.
    pub servers: usize,
    /// Whose last rotation failed.
    pub failed: usize,
    /// Whose last rotation found no slot.
    pub blocked: usize,
    /// Whose last ticks were skipped, and should have run.
    #[serde(default)]
    pub skipped: usize,
    /// Whose last success is too old.
    #[serde(default)]
    pub stale: usize,
    /// Of which no rotation is known yet.
    #[serde(alias = "unknown")]
    pub waiting: usize,
    /// Whose last rotation ended well.
    pub ok: usize,
    /// Which are switched off.
    pub disabled: usize,
}

impl Totals {
    /// Counts them.
    #[must_use]
    pub(crate) fn of(states: impl Iterator<Item = ServerState>) -> Self {
        let mut totals = Self::default();
        for state in states {
            totals.servers += 1;
            *totals.count_of(state) += 1;
        }
        totals
    }

    fn count_of(&mut self, state: ServerState) -> &mut usize {
        match state {
            ServerState::Failed => &mut self.failed,
            ServerState::Blocked => &mut self.blocked,
            ServerState::Skipped => &mut self.skipped,
            ServerState::Stale => &mut self.stale,
            ServerState::Waiting => &mut self.waiting,
            ServerState::Ok => &mut self.ok,
            ServerState::Disabled => &mut self.disabled,
        }
    }

    /// How many are so.
    #[must_use]
    pub(crate) fn count(mut self, state: ServerState) -> usize {
        *self.count_of(state)
    }

    /// How many are in trouble.
    #[must_use]
    pub(crate) fn in_trouble(self) -> usize {
        let trouble = ServerState::ALL.into_iter().filter(|state| state.is_trouble());
        trouble.map(|state| self.count(state)).sum()
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerRecord {
    /// The provider's number.
    pub id: ServerId,
    /// Its account, unless that is the one of `[api]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Its name in the configuration.
    pub name: String,
    /// Its group. `None` if an older daemon wrote the document.
    #[serde(default)]
    pub group: Option<String>,
    /// How it is.
    pub state: ServerState,
    /// When a rotation last succeeded, as far as that is remembered; else the newest completed
    /// managed snapshot's time.
    pub last_success_at: Option<Timestamp>,
    /// Whether it is that of a snapshot: no rotation is known to have succeeded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last_success_is_snapshot: bool,
    /// What is wrong with it, even if it is disabled.
    pub trouble: Option<TroubleStatus>,
    /// Why no rotation is known yet. `None` if an older daemon wrote the document.
    #[serde(default)]
    pub waiting: Option<WaitingStatus>,
    /// The last rotation.
    pub last_rotation: Option<RotationStatus>,
    /// The one under way.
    pub under_way: Option<UnderWayStatus>,
    /// The one to come.
    pub next: Option<NextStatus>,
    /// The ring, once it was seen.
    pub ring: Option<RingStatus>,
    /// Until when the provider has asked this server alone to wait (429).
    #[serde(default)]
    pub throttled_until: Option<Timestamp>,
    /// The time zone of its policy.
    #[serde(default)]
    pub timezone: Option<String>,
    /// How many seconds its snapshots usually take, if that is known.
    #[serde(default)]
    pub snapshot_usually_takes_s: Option<u64>,
}

/// What is wrong with a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TroubleStatus {
    /// When the first rotation ended badly or was skipped; when the last success became too old.
    pub since: Timestamp,
    /// How many rotations have ended badly or were skipped, as far as is remembered.
    pub rotations: u32,
    /// Why the last of them did; a rotation that the policy skipped since says nothing of it.
    pub reason: Option<String>,
}

/// Why no rotation is known yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitingStatus {
    /// When the daemon started.
    pub since: Option<Timestamp>,
    /// In words.
    pub reason: String,
}

impl WaitingStatus {
    fn of(row: &ServerView, since: Option<Timestamp>) -> Self {
        let ServerView { server, status, .. } = row;
        let shown = |at| shown(at, &server.policy.time_zone);
        let interrupted = status.last.as_ref().filter(|it| it.cause == Some(KnownCause::Shutdown));
        let reason = match (&row.unseen, interrupted, since) {
            (Some(problem), ..) => format!("could not be listed: {problem}"),
            (None, Some(last), _) => {
                let reason = last.reason.as_deref().unwrap_or("interrupted");
                format!("its last rotation ended at {}: {reason}", shown(last.at))
            }
            (None, None, Some(since)) => format!("not rotated since the start at {}", shown(since)),
            (None, None, None) => "no rotation is known".to_owned(),
        };
        Self { since, reason }
    }
}

/// A rotation that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RotationStatus {
    /// Its tick.
    pub tick: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How.
    pub outcome: RotationOutcome,
    /// Why, where it did not end well.
    pub reason: Option<String>,
}

/// A rotation under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnderWayStatus {
    /// Its tick.
    pub tick: Timestamp,
    /// When it began.
    pub since: Timestamp,
}

/// A rotation to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NextStatus {
    /// Its tick.
    pub tick: Timestamp,
    /// When it starts: the tick, and what jitter adds.
    pub starts_at: Timestamp,
}

/// The slots, as they were when the provider listed them last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RingStatus {
    /// When that was.
    pub seen_at: Timestamp,
    /// How many there are.
    pub cap: u32,
    /// How many are left free for snapshots made by hand.
    pub reserve: u32,
    /// How many hold managed snapshots.
    pub managed: u32,
    /// How many hold foreign ones.
    pub foreign: u32,
    /// How many hold pinned ones.
    pub pinned: u32,
    /// How many hold none.
    pub free: u32,
    /// How many snapshots `keep` asks for. 0 if an older daemon wrote the document.
    #[serde(default)]
    pub keep: u32,
    /// How many of these have no slot, because foreign and pinned ones hold it.
    #[serde(default)]
    pub squeezed: u32,
    /// How many ticks have more than one snapshot. 0 if an older daemon wrote the document.
    #[serde(default)]
    pub duplicate_ticks: u32,
    /// The snapshots, oldest first.
    pub snapshots: Vec<SnapshotStatus>,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotStatus {
    /// The provider's number.
    pub id: SnapshotId,
    /// Its name.
    pub name: String,
    /// `managed`, `foreign` or `pinned`.
    pub holder: String,
    /// The provider's word for how far it is.
    pub status: String,
    /// When the provider began it.
    pub created_at: Timestamp,
    /// Its size in MiB.
    pub size_mb: Option<u64>,
    /// Why `keep` keeps it. `None` if it does not, or if an older daemon wrote the document.
    #[serde(default)]
    pub kept: Option<String>,
}

/// Which servers are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StatusFilter {
    /// Those whose name, or whole number, holds this, whatever its case.
    pub words: String,
    /// Those that are so.
    pub state: Option<ServerState>,
}

impl StatusFilter {
    fn takes(&self, row: &ServerView, state: ServerState) -> bool {
        let words = self.words.trim().to_lowercase();
        let named = words.is_empty()
            || row.server.name.to_lowercase().contains(&words)
            || row.server.id.to_string() == words;
        named && self.state.is_none_or(|wanted| wanted == state)
    }
}

/// Those of the servers that a filter takes.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// How many servers are how, all of them counted.
    pub totals: Totals,
    /// What was found: those in trouble first, then by name.
    pub rows: Vec<(ServerState, ServerView)>,
}

impl Found {
    /// Looks through these.
    #[must_use]
    pub(crate) fn among(rows: Vec<ServerView>, filter: &StatusFilter) -> Self {
        let mut rows: Vec<(ServerState, ServerView)> =
            rows.into_iter().map(|row| (state(&row), row)).collect();
        let totals = Totals::of(rows.iter().map(|(state, _)| *state));
        rows.retain(|(state, row)| filter.takes(row, *state));
        rows.sort_by(|(state, row), (other_state, other)| {
            state.cmp(other_state).then_with(|| row.server.name.cmp(&other.server.name))
        });
        Self { totals, rows }
    }
}

/// How a server is.
#[must_use]
pub(crate) fn state(row: &ServerView) -> ServerState {
    if !row.server.enabled {
        return ServerState::Disabled;
    }
    match &row.health {
        // What was not seen is not known to be well.
        ServerHealth::Ok if row.unseen.is_some() => ServerState::Waiting,
        ServerHealth::Ok => ServerState::Ok,
        ServerHealth::Waiting => ServerState::Waiting,
        ServerHealth::Trouble(trouble) => match trouble.kind {
            TroubleKind::Failed => ServerState::Failed,
            TroubleKind::Blocked => ServerState::Blocked,
            TroubleKind::Skipped => ServerState::Skipped,
            TroubleKind::Stale => ServerState::Stale,
        },
    }
}

#[cfg(test)]
impl DaemonStatus {
    /// How one is that has no trouble.
    pub(crate) fn well() -> Self {
        let at = |text: &str| text.parse().unwrap();
        Self {
            started_at: at("2026-11-01T00:00:00Z"),
            alive: true,
            ready: true,
            token: TokenState::Accepted,
            token_refused_since: None,
            configuration_read_at: at("2026-11-02T00:00:00Z"),
            configuration_refused: None,
            configuration_refused_at: None,
            store: StoreStatus::default(),
            throttled_until: None,
            manual_acts: Vec::new(),
            undelivered_notices: Vec::new(),
            accounts: Vec::new(),
        }
    }
}

impl DaemonStatus {
    /// How a running daemon is.
    #[must_use]
    pub(crate) fn of(view: &View) -> Self {
        let configuration = view.configuration();
        let accounts = view.accounts();
        Self {
            started_at: view.started_at(),
            alive: view.is_alive(),
            ready: Obstacles::to_work(view).are_none(),
            token: worst(accounts.iter().map(|it| it.token)),
            token_refused_since: accounts.iter().filter_map(|it| it.token_refused_since).min(),
            configuration_read_at: configuration.read_at,
            configuration_refused_at: configuration.refused.as_ref().map(|(_, at)| *at),
            configuration_refused: configuration.refused.map(|(reason, _)| reason),
            store: StoreStatus::of(&view.store()),
            throttled_until: accounts.iter().filter_map(|it| it.throttled_until).max(),
            manual_acts: view.manual().to_vec(),
            undelivered_notices: view.counts().webhooks().undelivered(),
            accounts: match accounts.as_slice() {
                [_] => Vec::new(),
                several => several.iter().map(AccountRecord::of).collect(),
            },
        }
    }
}

fn worst(tokens: impl Iterator<Item = TokenState>) -> TokenState {
    let badness = |it: &TokenState| match it {
        TokenState::Accepted => 0,
        TokenState::Untried => 1,
        TokenState::Refused => 2,
    };
    tokens.max_by_key(badness).unwrap_or(TokenState::Untried)
}

/// That the provider refuses a token. `of`: whose it is, if there are several.
fn refused(of: &str, since: Option<Timestamp>, zone: &TimeZone) -> String {
    match since {
        Some(since) => {
            format!("The provider has refused the token{of} since {}", shown(since, zone))
        }
        None => format!("The provider refuses the token{of}"),
    }
}

impl DaemonStatus {
    /// What to tell a person, when the token of the only account is refused. Several say it for themselves.
    #[must_use]
    pub(crate) fn refused_token(&self, zone: &TimeZone) -> Option<String> {
        let is_so = self.token == TokenState::Refused && self.accounts.is_empty();
        is_so.then(|| refused("", self.token_refused_since, zone))
    }

    /// When the last reload was rejected, and why.
    #[must_use]
    pub(crate) fn rejected_reload(&self, zone: &TimeZone) -> Option<String> {
        let reason = self.configuration_refused.as_ref()?;
        let at = self.configuration_refused_at.map(|at| format!(" at {}", shown(at, zone)));
        Some(format!("the last reload was rejected{}: {reason}", at.unwrap_or_default()))
    }
}

impl AccountRecord {
    fn of(view: &AccountView) -> Self {
        Self {
            name: view.account.name().to_owned(),
            token: view.token,
            token_refused_since: view.token_refused_since,
            throttled_until: view.throttled_until,
        }
    }

    /// What to tell a person, when something is wrong with it.
    pub(crate) fn problems(&self, zone: &TimeZone) -> impl Iterator<Item = String> + use<> {
        let name = &self.name;
        let refused = (self.token == TokenState::Refused)
            .then(|| refused(&format!(" of account {name}"), self.token_refused_since, zone));
        let throttled = self.throttled_until.map(|until| {
            let until = shown(until, zone);
            format!(
                "The provider is throttling account {name} (429): no calls are sent until {until}"
            )
        });
        refused.into_iter().chain(throttled)
    }
}

impl StatusDocument {
    /// How these servers are; `daemon` where one runs.
    #[must_use]
    pub(crate) fn of(found: &Found, daemon: Option<DaemonStatus>, at: Timestamp) -> Self {
        let started_at = daemon.as_ref().map(|daemon| daemon.started_at);
        let record = |(state, row): &(_, _)| ServerRecord::of(row, *state, started_at);
        Self {
            version: VERSION,
            snapring: env!("CARGO_PKG_VERSION").to_owned(),
            at,
            daemon,
            account: None,
            daemon_unknown: false,
            not_resumed: Vec::new(),
            restores: Vec::new(),
            totals: found.totals,
            servers: found.rows.iter().map(record).collect(),
        }
    }
}

impl StatusDocument {
    /// The same, with what is known of the account's servers.
    #[must_use]
    pub(crate) fn with_account(self, account: AccountStatus) -> Self {
        Self { account: Some(account), ..self }
    }

    /// The same, with the servers that are still quiesced.
    #[must_use]
    pub(crate) fn with_not_resumed(self, not_resumed: Vec<Quiesced>) -> Self {
        Self { not_resumed, ..self }
    }

    /// The same, with the servers that are being restored.
    #[must_use]
    pub(crate) fn with_restores(self, restores: Vec<RestoreUnderWay>) -> Self {
        Self { restores, ..self }
    }
}

impl ServerRecord {
    /// How a server is. `started_at`: when the daemon started, if one runs.
    #[must_use]
    pub(crate) fn of(row: &ServerView, state: ServerState, started_at: Option<Timestamp>) -> Self {
        let ServerView { server, status, health, next, .. } = row;
        Self {
            id: server.id,
            account: server.id.account.label().map(str::to_owned),
            name: server.name.clone(),
            group: server.group.as_deref().map(str::to_owned),
            state,
            last_success_at: status.last_success().map(|success| success.at),
            last_success_is_snapshot: status.history.success().is_none()
                && status.last_success().is_some(),
            trouble: health.trouble().map(|it| TroubleStatus {
                since: it.since,
                rotations: it.rotations,
                reason: it.reason.as_deref().map(str::to_owned),
            }),
            waiting: (state == ServerState::Waiting).then(|| WaitingStatus::of(row, started_at)),
            last_rotation: status.last.as_ref().map(|ended| RotationStatus {
                tick: ended.tick.instant(),
                ended_at: ended.at,
                outcome: ended.outcome,
                reason: ended.reason.as_deref().map(str::to_owned),
            }),
            under_way: status
                .under_way
                .map(|(tick, since)| UnderWayStatus { tick: tick.instant(), since }),
            next: next.map(|(tick, starts_at)| NextStatus { tick: tick.instant(), starts_at }),
            ring: status.ring.as_ref().map(|seen| RingStatus::of(seen, &server.policy)),
            throttled_until: row.throttled_until,
            timezone: server.policy.time_zone.iana_name().map(str::to_owned),
            snapshot_usually_takes_s: row.usual.map(|usual| usual.as_secs()),
        }
    }
}

impl ServerRecord {
    /// The time zone for a person who looks at it.
    #[must_use]
    pub(crate) fn zone(&self) -> TimeZone {
        let named = self.timezone.as_deref().and_then(|name| TimeZone::get(name).ok());
        named.unwrap_or(TimeZone::UTC)
    }

    /// The snapshot that the provider is creating for this server.
    #[must_use]
    pub(crate) fn in_progress(&self) -> Option<&SnapshotStatus> {
        let snapshots = &self.ring.as_ref()?.snapshots;
        snapshots.iter().rev().find(|it| it.holder == "managed" && it.status == "in_progress")
    }

    /// How long that usually takes, in words; nothing if it is not known.
    #[must_use]
    pub(crate) fn usually_done(&self) -> String {
        let Some(seconds) = self.snapshot_usually_takes_s else { return String::new() };
        let span = SignedDuration::from_secs(seconds.try_into().unwrap_or(i64::MAX));
        format!(", usually done after {}", readable::span(span))
    }
}

impl RingStatus {
    /// That foreign and pinned snapshots leave too few slots, in words.
    #[must_use]
    pub(crate) fn squeeze(&self) -> Option<String> {
        let room = self.keep.saturating_sub(self.squeezed);
        (self.squeezed > 0).then(|| format!("squeezed: room for {room} of {}", self.keep))
    }

    /// A ring as it was seen, with what `keep` says of it.
    #[must_use]
    pub(crate) fn of(seen: &RingSeen, policy: &Policy) -> Self {
        let taken = seen.count(|_| true);
        let verdicts = seen.verdicts(policy);
        Self {
            seen_at: seen.at,
            cap: policy.cap,
            reserve: policy.reserve,
            managed: seen.count(|holder| matches!(holder, Holder::Managed(_))),
            foreign: seen.count(|holder| holder == Holder::Foreign),
            pinned: seen.count(|holder| holder == Holder::Pinned),
            free: policy.cap.saturating_sub(taken),
            keep: policy.keep.total(),
            squeezed: seen.squeezed(policy),
            duplicate_ticks: seen.duplicate_ticks(),
            snapshots: seen
                .slots
                .iter()
                .map(|slot| SnapshotStatus::of(seen, slot, &verdicts))
                .collect(),
        }
    }
}

impl SnapshotStatus {
    fn of(seen: &RingSeen, slot: &SlotSeen, verdicts: &[Verdict]) -> Self {
        let verdict = verdicts.iter().find(|it| it.id == slot.id);
        Self {
            id: slot.id,
            name: seen.name(slot),
            holder: slot.holder.as_str().to_owned(),
            status: slot.status.to_string(),
            created_at: slot.created_at,
            size_mb: slot.size_mb.map(u64::from),
            kept: verdict.and_then(|it| it.reason.as_ref()).map(ToString::to_string),
        }
    }
}

#[cfg(test)]
mod tests;
