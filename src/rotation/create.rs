//! Sends a create, and leaves a record for later looks.

use std::time::Duration;

use snapring_core::rotation::CreateSpans;

use crate::call::CallError;
use crate::plan::Creation;
use crate::provider::call_context::CallContext;
use crate::provider::client::Client;
use crate::rotation::lock::Claim;
use crate::snapshot::Snapshot;

/// A create to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToSend<'a> {
    /// The permission.
    pub creation: &'a Creation,
    /// What the snapshot is described with.
    pub description: &'a str,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// How long it may take to show up.
    pub spans: CreateSpans,
}

/// Sends it, once. It must have been recorded. The claim knows of it until a listing shows what
/// became of it, and from when on (uptime) one does is given beside the answer.
pub(crate) async fn send_create(
    client: &Client,
    claim: &Claim,
    create: ToSend<'_>,
    scope: &CallContext,
) -> (Result<Snapshot, CallError>, Duration) {
    let ToSend { creation, description, attempt, spans } = create;
    let answer = client.create(creation, description, attempt, scope).await;
    let now = client.clock().now().uptime;
    let settled_at = now.saturating_add(spans.settled_in(&answer));
    claim.create_ended(settled_at, now).await;
    (answer, settled_at)
}
