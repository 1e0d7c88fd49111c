//! What happened in a run, in order, and a hash of it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The lines of a run. Clones share them.
#[derive(Clone)]
pub(super) struct Trace {
    began: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            lines: Arc::default(),
        }
    }

    /// Adds a line with the virtual time since the beginning.
    pub(super) fn add(&self, what: &str) {
        let at_s = self.began.elapsed().as_secs_f64();
        lock(&self.lines).push(format!("{at_s:9.3} {what}"));
    }

    /// Equal for runs in which the same happened at the same times.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.lines().hash(&mut hasher);
        hasher.finish()
    }

    /// By time. What happens at one time has no order: roles keep hash maps, and tokio's `watch`
    /// wakes its receivers in a random order.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = lock(&self.lines).clone();
        lines.sort_unstable();
        lines
    }
}

/// A panic elsewhere is reported by its own oracle.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
