//! A check of readiness that is tried out again and again: it exercises what the process vouches for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admin::Check;

/// What is tried out, and the check that says how it went. Clones share both.
#[derive(Clone)]
pub struct Probe {
    check: Check,
    attempt: Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
    wake: Arc<Notify>,
}

/// How often a check is tried out. Each time writes a few bytes, and load balancers ask less often.
const INTERVAL: Duration = Duration::from_secs(2);
/// And at most so often, however often it is notified.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);
/// What takes longer does not work.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

impl Probe {
    /// The error of `attempt` is shown in `/readyz`: no secrets, no personal data.
    pub fn new<F, E>(check: Check, attempt: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: ToString,
    {
        let attempt = move || -> BoxFuture<'static, Result<(), String>> {
            let attempt = attempt();
            Box::pin(async move { attempt.await.map_err(|error| error.to_string()) })
        };
        Self {
            check,
            attempt: Arc::new(attempt),
            wake: Arc::default(),
        }
    }

    /// It also tries when it is notified: something has just failed at work.
    #[must_use]
    pub fn woken_by(self, wake: Arc<Notify>) -> Self {
        Self { wake, ..self }
    }

    /// Tries once.
    pub async fn attempt(&self) {
        match tokio::time::timeout(ATTEMPT_TIMEOUT, (self.attempt)()).await {
            Ok(Ok(())) => self.check.pass(),
            Ok(Err(reason)) => self.check.fail(reason),
            Err(_) => self
                .check
                .fail(format!("no answer within {ATTEMPT_TIMEOUT:?}")),
        }
    }

    /// Tries until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.attempt() => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SHORTEST_INTERVAL) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::admin::Readiness;

    #[tokio::test(start_paused = true)]
    async fn a_check_follows_what_is_tried_out() {
        let (readiness, works) = (Readiness::default(), Arc::new(AtomicBool::new(true)));
        let tried = works.clone();
        let probe = Probe::new(readiness.check("queue"), move || {
            let works = tried.load(Ordering::SeqCst);
            async move { works.then_some(()).ok_or("the broker takes nothing") }
        });
        let wake = Arc::new(Notify::new());
        let probe = probe.woken_by(wake.clone());
        assert!(!readiness.is_ready(), "nothing was tried out");
        probe.attempt().await;
        assert!(readiness.is_ready());

        let stop = CancellationToken::new();
        let running = tokio::spawn(probe.run(stop.clone()));
        works.store(false, Ordering::SeqCst);
        tokio::time::sleep(INTERVAL * 2).await;
        assert!(!readiness.is_ready());
        works.store(true, Ordering::SeqCst);
        wake.notify_one();
        tokio::time::sleep(SHORTEST_INTERVAL * 2).await;
        assert!(readiness.is_ready());
        stop.cancel();
        running.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_answers_fails_the_check() {
        let readiness = Readiness::default();
        let probe = Probe::new(
            readiness.check("queue"),
            std::future::pending::<Result<(), String>>,
        );
        probe.attempt().await;
        assert!(!readiness.is_ready());
    }
}
