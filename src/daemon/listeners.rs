//! Who hears of each rotation that ended: the service manager, the store, the notices.

use std::time::Duration;

use jiff::Timestamp;

use crate::daemon::service_status::ServiceStatus;
use crate::notify::Notices;
use crate::report::Report;
use crate::store::Store;

/// They hear of each rotation that ended. None of them holds one up.
pub(super) struct Listeners {
    pub(super) service: ServiceStatus,
    pub(super) store: Store,
    pub(super) notices: Notices,
}

impl Listeners {
    /// A rotation has ended.
    pub(super) fn on_report(&self, report: &Report, at: Timestamp) {
        self.service.rotated(report);
        self.store.record(report, at);
        self.notices.on_report(report, at);
    }

    /// Sends the notices that are queued, and writes what is queued for the store. `store_wait`: how
    /// long the store may take.
    pub(super) async fn drain(&self, store_wait: Duration) {
        tokio::join!(self.notices.end(), self.store.close(store_wait));
    }
}
