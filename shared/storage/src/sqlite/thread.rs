//! Threads that survive a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// Runs `work` on the current thread until it ends by itself; after a panic it begins again. It waits for its work
/// itself, so that it cannot panic all the time.
pub(super) fn keep_thread(name: &str, mut work: impl FnMut()) {
    while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
        tracing::error!(thread = name, "a thread panicked and begins again");
        std::thread::sleep(RESTART_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_begins_again() {
        let mut times = 0;
        keep_thread("it", || {
            times += 1;
            assert_ne!(times, 1, "the first time");
        });
        assert_eq!(times, 2);
    }
}
