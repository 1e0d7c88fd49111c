//! Waits for a condition instead of sleeping for a fixed time.

use std::time::{Duration, Instant};

/// The timeout of any wait, after which the test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// The polling interval.
const LOOK: Duration = Duration::from_millis(10);

/// Polls until there is a result.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    ask: impl FnMut() -> F,
) -> T {
    until_within(DEADLINE, what, ask).await
}

/// The same with a longer timeout.
pub(crate) async fn until_within<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    until_or(deadline, what, || {
        let asked = ask();
        async { asked.await.ok_or_else(String::new) }
    })
    .await
}

/// The same; a missing result gives its reason, which is shown on timeout.
pub(crate) async fn until_or<T, F: Future<Output = Result<T, String>>>(
    deadline: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let began = Instant::now();
    loop {
        let why = match ask().await {
            Ok(answer) => return answer,
            Err(why) => why,
        };
        assert!(
            began.elapsed() < deadline,
            "timed out after {deadline:?} waiting until {what}: {why}"
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// The same without a runtime.
pub(crate) fn until_blocking<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "timed out after {DEADLINE:?} waiting until {what}"
        );
        std::thread::sleep(LOOK);
    }
}
