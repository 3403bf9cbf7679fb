//! Waiting for a server that another process works on, or that is being restored.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::moment::shown_today;
use crate::naming::ServerId;
use crate::provider::client::Client;
use crate::rotation::lock::{Busy, Claim, Exclusion};
use crate::rotation::restored::{has_ended, is_repaired};

/// Between two tries to get a claim that another process has.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The same while the server is being restored: each try takes the claim for a moment, and asks the provider.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How long a wait stays silent.
const SILENCE: Duration = Duration::from_secs(3);

/// What a restore means for those who want the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnRestore {
    /// Wait until it is over.
    Wait,
    /// Give up.
    Refuse,
    /// Claim the server all the same.
    Claim,
}

/// How long to wait for a server, and for what.
#[derive(Debug, Clone)]
pub(crate) struct Wait {
    /// No longer than this.
    pub at_most: Duration,
    /// Nor longer than until this time.
    pub until: Option<Timestamp>,
    pub on_restore: OnRestore,
    /// Ends the wait.
    pub shutdown: CancellationToken,
}

impl Exclusion {
    /// Claims a server once it is free. `claim`: if the caller already holds it. What `show` gives is kept
    /// while the server is busy; `tell` is called once if that takes long. `provider`: who may show that a
    /// restore has ended.
    ///
    /// # Errors
    /// When it did not become free in time, this process has it, or that is unknown.
    pub(crate) async fn claim_when_free<T>(
        &self,
        server: ServerId,
        mut claim: Option<Claim>,
        wait: &Wait,
        (clock, provider): (&Clock, Option<&Client>),
        show: impl Fn(&Busy) -> T,
        tell: impl Fn(&Busy, &Wait),
    ) -> Result<Claim, Busy> {
        let begun = clock.now().uptime;
        let (mut shown, mut is_told) = (None, false);
        loop {
            let tried = match claim.take().map_or_else(|| self.claim(server), Ok) {
                Ok(claim) => signed_unless_restoring(claim, wait, (clock, provider)).await,
                Err(Busy::Elsewhere(owner)) => {
                    Err(Busy::Elsewhere(self.look_up(server, owner).await))
                }
                Err(busy) => Err(busy),
            };
            let busy = match tried {
                Ok(claim) => return Ok(claim),
                Err(busy) => busy,
            };
            let pause = match &busy {
                Busy::Elsewhere(_) => TRY_EVERY,
                Busy::Restoring(restoring) if wait.on_restore == OnRestore::Wait => {
                    LOOK_EVERY.min(restoring.left)
                }
                _ => return Err(busy),
            };
            shown.get_or_insert_with(|| show(&busy));
            let passed = clock.now().uptime.saturating_sub(begun);
            if passed >= SILENCE && !is_told {
                let left = wait.left(clock, begun);
                tell(&busy, &Wait { at_most: left, ..wait.clone() });
                is_told = true;
            }
            tokio::select! {
                biased;
                () = wait.shutdown.cancelled() => return Err(Busy::Interrupted(Box::new(busy))),
                () = clock.sleep(pause.min(wait.left(clock, begun))) => {}
            }
            if wait.left(clock, begun).is_zero() {
                return Err(busy);
            }
        }
    }
}

impl Wait {
    /// In a message: until when it lasts at the latest, from now on. Nothing if it has no end.
    pub(crate) fn until_words(&self, clock: &Clock, zone: &TimeZone) -> String {
        let now = clock.now();
        let end = SignedDuration::try_from(self.left(clock, now.uptime))
            .ok()
            .and_then(|left| now.wall.checked_add(left).ok());
        end.map_or_else(String::new, |end| {
            format!(" until {} at the latest", shown_today(end, now.wall, zone))
        })
    }

    fn left(&self, clock: &Clock, begun: Duration) -> Duration {
        let now = clock.now();
        let at_most = self.at_most.saturating_sub(now.uptime.saturating_sub(begun));
        let until = self.until.map(|until| until.duration_since(now.wall));
        // Negative: it has passed.
        let until = until.map(|left| Duration::try_from(left).unwrap_or_default());
        at_most.min(until.unwrap_or(Duration::MAX))
    }
}

async fn signed_unless_restoring(
    mut claim: Claim,
    wait: &Wait,
    (clock, provider): (&Clock, Option<&Client>),
) -> Result<Claim, Busy> {
    let now = clock.now().wall;
    if wait.on_restore != OnRestore::Claim
        && let Some(restoring) = claim.restoring(now).await
    {
        let has_ended = match provider {
            Some(client) => has_ended(client, &claim, &restoring, &wait.shutdown).await,
            None => false,
        };
        if !has_ended {
            return Err(Busy::Restoring(restoring));
        }
    }
    if wait.on_restore != OnRestore::Claim
        && let Some(broken) = claim.broken().await
    {
        let has_changed = match provider {
            Some(client) => is_repaired(client, &claim, &wait.shutdown).await,
            None => false,
        };
        if !has_changed {
            return Err(Busy::Broken(broken.state));
        }
    }
    claim.leave_note(now);
    Ok(claim)
}
