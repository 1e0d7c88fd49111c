//! Restarts a task that must run as long as its process, after a panic. `panics` counts and logs it.
//!
//! Invariant: neither a log line nor `/readyz` shows the message of a panic.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use revwatch_core::backoff::Backoff;
use tokio_util::sync::CancellationToken;

use crate::admin::{Check, Readiness};
use crate::retries::Retries;

/// Keeps tasks running, and fails the check `tasks` while one of them is down. Clones share the
/// check.
#[derive(Debug, Clone)]
pub struct Supervisor {
    check: Check,
    failing: Arc<Mutex<BTreeSet<String>>>,
    stable_after: Duration,
    backoff: Backoff,
}

/// A task that has run for this long has recovered.
const STABLE_AFTER: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(200),
    max: Duration::from_secs(30),
};

impl Supervisor {
    /// Creates a supervisor with a check of its own, which passes until a task panics.
    pub fn new(readiness: &Readiness) -> Self {
        let check = readiness.check("tasks");
        check.pass();
        Self {
            check,
            failing: Arc::default(),
            stable_after: STABLE_AFTER,
            backoff: BACKOFF,
        }
    }

    /// Runs the task that `begin` creates until it ends by itself. After a panic it is restarted
    /// with increasing delay, so the task must be safe to start at any moment. It is not restarted
    /// after `stop`.
    pub async fn keep<F: Future<Output = ()>>(
        self,
        name: String,
        stop: CancellationToken,
        mut begin: impl FnMut(CancellationToken) -> F,
    ) {
        let mut retries = Retries::new(self.backoff);
        loop {
            let mut running =
                Box::pin(AssertUnwindSafe(async { begin(stop.clone()).await }).catch_unwind());
            let ended = match tokio::time::timeout(self.stable_after, &mut running).await {
                Ok(ended) => ended,
                Err(_) => {
                    self.note(&name, false);
                    retries.reset();
                    running.await
                }
            };
            if ended.is_ok() {
                break;
            }
            self.note(&name, true);
            let pause = retries.pause();
            tracing::error!(task = name, ?pause, "a task panicked; restarting it");
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.note(&name, false);
    }

    fn note(&self, name: &str, is_failing: bool) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = if is_failing {
            failing.insert(name.to_owned())
        } else {
            failing.remove(name)
        };
        match failing
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
        {
            _ if !changed => {}
            none if none.is_empty() => self.check.pass(),
            names => self
                .check
                .fail(format!("restarting after a panic: {names}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn quick(readiness: &Readiness) -> Supervisor {
        let quick = Duration::from_millis(1);
        Supervisor {
            stable_after: quick,
            backoff: Backoff {
                first: quick,
                ..BACKOFF
            },
            ..Supervisor::new(readiness)
        }
    }

    #[tokio::test]
    async fn a_task_that_panics_is_restarted_and_is_not_ready_in_between() {
        let (readiness, stop) = (Readiness::default(), CancellationToken::new());
        let (begun, seen) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let task = {
            let (readiness, begun, seen) = (readiness.clone(), begun.clone(), seen.clone());
            move |stop: CancellationToken| {
                seen.lock().expect("no panic").push(readiness.is_ready());
                let first = begun.fetch_add(1, Ordering::SeqCst) == 0;
                async move {
                    assert!(!first, "the first run");
                    stop.cancelled().await;
                }
            }
        };
        let running = tokio::spawn(quick(&readiness).keep("it".into(), stop.clone(), task));
        let ready_again = async {
            while begun.load(Ordering::SeqCst) < 2 || !readiness.is_ready() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LONG, ready_again)
            .await
            .expect("it runs again and is ready");
        stop.cancel();
        timeout(LONG, running)
            .await
            .expect("it ends")
            .expect("no panic");
        assert_eq!(*seen.lock().expect("no panic"), [true, false]);
    }

    #[tokio::test]
    async fn a_task_that_keeps_panicking_never_becomes_ready() {
        let (readiness, stop) = (Readiness::default(), CancellationToken::new());
        let supervisor = quick(&readiness);
        let (report, readiness_seen) = oneshot::channel();
        let (mut seen, mut report, seen_by) = (Vec::new(), Some(report), readiness.clone());
        let task = move |_| {
            seen.push(seen_by.is_ready());
            if let Some(report) = report.take_if(|_| seen.len() == 5) {
                report.send(seen.clone()).expect("awaited");
            }
            async { panic!("always") }
        };
        let running = tokio::spawn(supervisor.clone().keep("it".into(), stop.clone(), task));
        let seen = timeout(LONG, readiness_seen)
            .await
            .expect("in time")
            .expect("sent");
        // Another task that runs well does not hide it.
        supervisor
            .keep("another".into(), stop.clone(), |_| async {})
            .await;
        assert_eq!(
            (seen, readiness.is_ready()),
            (vec![true, false, false, false, false], false)
        );
        stop.cancel();
        timeout(LONG, running)
            .await
            .expect("it ends")
            .expect("no panic");
    }
}
