//! Waits for a condition instead of sleeping for a fixed time.

use std::time::{Duration, Instant};

/// The timeout of any wait, after which the test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// The polling interval.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Polls until there is a result.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    poll: impl FnMut() -> F,
) -> T {
    until_within(DEADLINE, what, poll).await
}

/// The same with a longer timeout.
pub(crate) async fn until_within<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    what: &str,
    mut poll: impl FnMut() -> F,
) -> T {
    until_or(deadline, what, || {
        let polled = poll();
        async { polled.await.ok_or_else(String::new) }
    })
    .await
}

/// The same; a missing result gives its reason, which is shown on timeout.
pub(crate) async fn until_or<T, F: Future<Output = Result<T, String>>>(
    deadline: Duration,
    what: &str,
    mut poll: impl FnMut() -> F,
) -> T {
    let started = Instant::now();
    loop {
        let reason = match poll().await {
            Ok(result) => return result,
            Err(reason) => reason,
        };
        assert!(
            started.elapsed() < deadline,
            "timed out after {deadline:?} waiting until {what}: {reason}"
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The same without a runtime.
pub(crate) fn until_blocking<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(result) = poll() {
            return result;
        }
        assert!(
            started.elapsed() < DEADLINE,
            "timed out after {DEADLINE:?} waiting until {what}"
        );
        std::thread::sleep(POLL_INTERVAL);
    }
}
