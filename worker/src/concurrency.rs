//! Limits how many partitions of one worker process a batch at the same time.
//!
//! While a partition waits for its permit, its next batch grows: under load an event costs fewer
//! batches, and without load it does not wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The permits of one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BatchPermits(Arc<Semaphore>);

/// One permit, held until it is dropped.
pub(crate) struct BatchPermit {
    _permit: OwnedSemaphorePermit,
}

/// A batch that takes longer gives its permit back: it probably waits for something that does not
/// affect other partitions, such as one node of a Redis Cluster.
const MAX_WAIT: Duration = Duration::from_millis(100);

impl Default for BatchPermits {
    /// One batch per core, and one more for a batch that waits for the store.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(cores + 1)))
    }
}

impl BatchPermits {
    pub(crate) async fn acquire(&self) -> BatchPermit {
        BatchPermit {
            _permit: self
                .0
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed"),
        }
    }
}

impl BatchPermit {
    /// Runs `work` under this permit. Gives the permit back when `work` is done, or after
    /// `MAX_WAIT`.
    pub(crate) async fn run<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = tokio::time::timeout(MAX_WAIT, &mut work).await {
            return done;
        }
        drop(self);
        work.await
    }
}
