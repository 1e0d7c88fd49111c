//! Threads that survive a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Wakes its thread if that is parked, and waits until it has ended, when it is dropped: a process does not end before.
pub(super) struct JoinOnDrop(Option<JoinHandle<()>>);

const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// Runs `work` on the current thread until it returns; restarts it after a panic. `work` blocks while idle, so it
/// cannot panic in a tight loop.
pub(super) fn keep_thread(name: &str, mut work: impl FnMut()) {
    while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
        tracing::error!(thread = name, "a thread panicked and restarts");
        thread::sleep(RESTART_PAUSE);
    }
}

impl JoinOnDrop {
    pub(super) fn new(thread: JoinHandle<()>) -> Self {
        Self(Some(thread))
    }
}

impl Drop for JoinOnDrop {
    fn drop(&mut self) {
        // A thread that drops itself would wait for ever.
        if let Some(other) = self.0.take()
            && other.thread().id() != thread::current().id()
        {
            other.thread().unpark();
            // It handles its panics.
            let _ = other.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_restarts_after_a_panic() {
        let mut times = 0;
        keep_thread("it", || {
            times += 1;
            assert_ne!(times, 1, "the first time");
        });
        assert_eq!(times, 2);
    }
}
