//! Counts requests.

use std::borrow::Cow;
use std::sync::Arc;

use revwatch_runtime::telemetry::Metrics;

/// Counts its request when dropped, so that none is missed, even if the sender disconnected or the
/// publish panicked.
pub(crate) struct RequestCounter {
    metrics: Arc<Metrics>,
    /// The endpoint's configured name, or `none`.
    pub(crate) endpoint: Cow<'static, str>,
    /// One of the outcomes in the crate's table of answers.
    pub(crate) outcome: &'static str,
}

impl RequestCounter {
    /// A request that is not routed yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            endpoint: Cow::Borrowed("none"),
            outcome: "aborted",
        }
    }
}

impl Drop for RequestCounter {
    fn drop(&mut self) {
        self.metrics
            .ingest_requests
            .with_label_values(&[self.endpoint.as_ref(), self.outcome])
            .inc();
    }
}
