//! Threads that survive a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// Runs `work` on the current thread until it returns; restarts it after a panic. `work` blocks while idle, so it
/// cannot panic in a tight loop.
pub(super) fn keep_thread(name: &str, mut work: impl FnMut()) {
    while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
        tracing::error!(thread = name, "a thread panicked and restarts");
        std::thread::sleep(RESTART_PAUSE);
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
