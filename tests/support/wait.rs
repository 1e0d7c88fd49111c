//! Waiting for something to become so, instead of sleeping for luck.

use std::time::{Duration, Instant};

/// How long anything may take before its test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often to look.
const LOOK: Duration = Duration::from_millis(10);

/// Asks until there is an answer.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    ask: impl FnMut() -> F,
) -> T {
    until_within(DEADLINE, what, ask).await
}

/// The same for what may take longer.
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

/// The same where an answer that is not there yet says why, for whoever reads that it never came.
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
            "waited {deadline:?} in vain until {what}: {why}"
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
            "waited {DEADLINE:?} in vain until {what}"
        );
        std::thread::sleep(LOOK);
    }
}
