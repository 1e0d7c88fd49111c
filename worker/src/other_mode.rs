//! Says in the log that events of the other mode come, and what to do: at most once per interval,
//! because such events may be as many as all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use revwatch_core::mode::{Mode, OtherMode};
use revwatch_storage::ports::{Aggregates, StoreError};
use tokio::time::Instant;

/// How often it is said.
const INTERVAL: Duration = Duration::from_mins(5);

/// Counts of the deliveries of which the log says nothing so far. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct OtherModeCounts(Arc<[AtomicU64; 2]>);

/// When the log says how many came.
#[derive(Debug, Default)]
pub(crate) struct OtherModeLog {
    said: Option<Instant>,
}

impl OtherModeCounts {
    pub(crate) fn note(&self, reason: OtherMode) {
        self.of(reason).fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, reason: OtherMode) -> &AtomicU64 {
        match reason {
            OtherMode::OfDeployment => &self.0[0],
            OtherMode::OfEndpoint => &self.0[1],
        }
    }

    fn take(&self, reason: OtherMode) -> u64 {
        self.of(reason).swap(0, Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.0
            .iter()
            .all(|count| count.load(Ordering::Relaxed) == 0)
    }
}

impl OtherModeLog {
    /// Says what came since the last time, if that is due. `deployment` is the deployment's mode.
    pub(crate) async fn say(
        &mut self,
        counts: &OtherModeCounts,
        deployment: Mode,
        store: &dyn Aggregates,
    ) -> Result<(), StoreError> {
        if counts.is_empty() || self.said.is_some_and(|at| at.elapsed() < INTERVAL) {
            return Ok(());
        }
        let own = store.current_counters(&OWN).await?;
        self.said = Some(Instant::now());
        let other = deployment.other();
        match counts.take(OtherMode::OfDeployment) {
            0 => {}
            events if own == 0 => tracing::error!(
                events,
                "{events} events of {other} mode ignored, and none of {deployment} mode has ever come: if this deployment \
                 shows {other} mode, set REVWATCH_MODE={other}, restart, and run `revwatch rebuild --yes`"
            ),
            events => tracing::warn!(
                events,
                "{events} events of {other} mode ignored: this deployment is {deployment} (REVWATCH_MODE)"
            ),
        }
        match counts.take(OtherMode::OfEndpoint) {
            0 => {}
            events => tracing::warn!(
                events,
                "{events} events of {deployment} mode ignored: they came to an endpoint whose `mode` in [[endpoints]] is {other}"
            ),
        }
        Ok(())
    }
}

/// The current counters of events of the deployment's own mode.
const OWN: [&str; 2] = ["events|applied", "events|ignored"];
