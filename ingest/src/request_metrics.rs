//! Counts requests.

use std::borrow::Cow;
use std::sync::Arc;

use revwatch_runtime::public::Eviction;
use revwatch_runtime::telemetry::Metrics;

/// Counts its request when dropped, so that none is missed, even if the sender disconnected or the
/// publish panicked.
pub(crate) struct RequestCounter {
    metrics: Arc<Metrics>,
    /// The endpoint's configured name, or `none`.
    pub(crate) endpoint: Cow<'static, str>,
    /// One of the outcomes in the crate's table of answers, or [`RequestCounter::NONE`].
    pub(crate) outcome: &'static str,
    /// Why there is no outcome, if the sender has not disconnected.
    pub(crate) eviction: Option<Eviction>,
}

/// Of a request that ends before it has another one.
pub(crate) const ABORTED: &str = "aborted";

impl RequestCounter {
    /// Of a batch whose events are counted.
    pub(crate) const NONE: &'static str = "";

    /// A request that is not routed yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            endpoint: Cow::Borrowed("none"),
            outcome: ABORTED,
            eviction: None,
        }
    }

    /// The counter of another event of the same request, with its outcome.
    pub(crate) fn another(&self, outcome: &'static str) -> Self {
        Self {
            metrics: self.metrics.clone(),
            endpoint: self.endpoint.clone(),
            outcome,
            eviction: None,
        }
    }
}

impl Drop for RequestCounter {
    fn drop(&mut self) {
        if self.outcome == Self::NONE {
            return;
        }
        let had_to_make_room = self.eviction.as_ref().is_some_and(Eviction::has_come);
        let outcome = match self.outcome {
            ABORTED if had_to_make_room => "too_many_connections",
            outcome => outcome,
        };
        self.metrics
            .ingest_requests
            .with_label_values(&[self.endpoint.as_ref(), outcome])
            .inc();
    }
}
