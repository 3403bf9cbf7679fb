//! Answers that do not say "not done" clearly: a create is looked for before it is sent again, and what may
//! pass is tried again within the tick.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use snapring::moment::Moment;
use snapring::provider::transport::{Method, Request, Response, TransportError};
use snapring::report::Report;

use crate::digests::method;
use crate::judge::Judge;

/// With less time to the next tick a rotation may give up at once.
const TIME: SignedDuration = SignedDuration::from_mins(5);

/// What the provider's last answers about a server leave open.
#[derive(Debug, Clone, Default)]
pub struct Unclear {
    /// When a create ended without a clear answer: uptime.
    create: Option<Duration>,
    /// Of which kind the last calls were that all met a busy provider, and how many.
    busy: Option<(&'static str, u32)>,
}

fn is_busy(status: u16) -> bool {
    [408, 409, 423, 425].contains(&status)
}

impl Judge {
    /// An answer about a server, or the lack of one.
    pub fn leaves_unclear(
        &mut self,
        server: u64,
        request: &Request,
        answer: &Result<Response, TransportError>,
        now: Moment,
    ) {
        let unclear = &mut self.rings.entry(server).or_default().unclear;
        let status = answer.as_ref().ok().map(|answer| answer.status);
        let kind = method(request.method);
        unclear.busy = match (status.is_some_and(is_busy), unclear.busy) {
            (true, Some((before, count))) if before == kind => Some((kind, count + 1)),
            (true, _) => Some((kind, 1)),
            (false, _) => None,
        };
        if request.method == Method::Post {
            let is_open = match answer {
                Ok(answer) => {
                    is_busy(answer.status) || answer.status == 429 || answer.status >= 500
                }
                Err(TransportError::NotSent(_)) => false,
                Err(_) => true,
            };
            unclear.create = is_open.then_some(now.uptime);
        }
    }

    /// A create is about to be sent.
    pub fn creates_again(&mut self, server: u64) {
        let Some(ring) = self.rings.get(&server) else { return };
        let Some(at) = ring.unclear.create else { return };
        if !ring.listings.iter().any(|seen| seen.asked_at.uptime >= at) {
            let words = format!("a create for {server} before it was looked for the last one");
            self.violated("S3", words);
        }
    }

    /// A rotation has failed: it must have tried again what only met a busy provider.
    pub fn gave_up(&mut self, report: &Report, at: Timestamp) {
        let server = report.server_id.number;
        let Some(ring) = self.rings.get_mut(&server) else { return };
        let busy = ring.unclear.busy.take();
        let next = ring.policies.last().map(|policy| policy.ticks(at, at + TIME));
        let has_time = next.is_some_and(|ticks| ticks.is_empty());
        if let Some((kind, 1)) = busy
            && report.outcome.as_str() == "failed"
            && has_time
            && !self.visible.stopping
        {
            let words = format!("{} gave up its {kind} at the first busy answer", report.server);
            self.violated("busy", words);
        }
    }
}
