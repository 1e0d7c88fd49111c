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
        let ignored = counts.take(OtherMode::OfDeployment);
        match said_of_deployment(ignored, deployment, own > 0) {
            Some((text, true)) => tracing::error!("{text}"),
            Some((text, false)) => tracing::warn!("{text}"),
            None => {}
        }
        let ignored = counts.take(OtherMode::OfEndpoint);
        if ignored > 0 {
            tracing::warn!(
                "{ignored} events of {deployment} mode ignored: they came to an endpoint whose mode in [[endpoints]] is {}",
                deployment.other()
            );
        }
        Ok(())
    }
}

/// The current counters of events of the deployment's own mode.
const OWN: [&str; 2] = ["events|applied", "events|ignored"];

/// What to say of `ignored` events of the other mode, and whether it is an error: without any event of
/// the deployment's own mode, its mode is probably wrong.
fn said_of_deployment(ignored: u64, deployment: Mode, has_own: bool) -> Option<(String, bool)> {
    let other = deployment.other();
    let text = match (ignored, has_own) {
        (0, _) => return None,
        (_, true) => format!(
            "{ignored} events of {other} mode ignored: this deployment is {deployment} (REVWATCH_MODE)"
        ),
        (_, false) => format!(
            "{ignored} events of {other} mode ignored, and none of {deployment} mode has come so far: if this deployment shows \
             {other} mode, set REVWATCH_MODE={other}, restart, and run `revwatch rebuild --yes`"
        ),
    };
    Some((text, !has_own))
}

#[cfg(test)]
mod tests {
    use revwatch_storage::memory::Memory;
    use revwatch_storage::system::SystemClock;

    use super::*;

    #[test]
    fn it_is_an_error_if_no_event_of_its_own_mode_has_come() {
        assert_eq!(said_of_deployment(0, Mode::Live, false), None);
        assert_eq!(
            said_of_deployment(3, Mode::Live, true),
            Some((
                "3 events of test mode ignored: this deployment is live (REVWATCH_MODE)".to_owned(),
                false
            ))
        );
        let (text, is_error) = said_of_deployment(3, Mode::Live, false).expect("said");
        assert!(
            is_error && text.contains("REVWATCH_MODE=test") && text.contains("revwatch rebuild"),
            "{text}"
        );
        let (text, _) = said_of_deployment(1, Mode::Test, false).expect("said");
        assert!(text.contains("REVWATCH_MODE=live"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_said_at_once_and_then_rarely_and_no_event_is_left_out() {
        let (store, counts) = (
            Memory::new(1, Arc::new(SystemClock)),
            OtherModeCounts::default(),
        );
        let mut log = OtherModeLog::default();
        let mut left = async |events: u64| {
            (0..events).for_each(|_| counts.note(OtherMode::OfDeployment));
            log.say(&counts, Mode::Live, &store).await.expect("said");
            counts.of(OtherMode::OfDeployment).load(Ordering::Relaxed)
        };
        assert_eq!(left(2).await, 0, "said at once");
        assert_eq!(left(2).await, 2);
        assert_eq!(left(1).await, 3);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(left(1).await, 0, "all four");
        tokio::time::advance(INTERVAL).await;
        assert_eq!(left(0).await, 0);
        assert_eq!(left(1).await, 0, "nothing was said since");
    }
}
