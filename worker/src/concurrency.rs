//! How many partitions of one worker have a batch under way at once.
//!
//! While one waits for its turn its next batch grows: the more there is to do, the fewer batches an event costs, and
//! nobody waits where there is little to do.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns of one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BatchPermits(Arc<Semaphore>);

/// One of them, until it is dropped.
pub(crate) struct BatchPermit {
    _permit: OwnedSemaphorePermit,
}

/// Whoever takes longer waits for something that others may not have to wait for, such as one node of a Redis
/// Cluster.
const MAX_WAIT: Duration = Duration::from_millis(100);

impl Default for BatchPermits {
    /// While one batch waits for the store another can be decided on each core.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(cores + 1)))
    }
}

impl BatchPermits {
    pub(crate) async fn begin(&self) -> BatchPermit {
        BatchPermit {
            _permit: self
                .0
                .clone()
                .acquire_owned()
                .await
                .expect("nobody closes it"),
        }
    }
}

impl BatchPermit {
    /// Does something in this turn, which ends with it, or before if it takes long.
    pub(crate) async fn last<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = tokio::time::timeout(MAX_WAIT, &mut work).await {
            return done;
        }
        drop(self);
        work.await
    }
}
