//! What becomes of a panic: it is counted and logged wherever it happens, and a task that has to run as long as its
//! process is started again.
//!
//! Invariant: neither a log line nor `/readyz` shows what a panic said, which may hold anything that the code had in
//! hand. Only a text that stands in the code is shown.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, PanicHookInfo, set_hook};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use prometheus::IntCounter;
use tokio_util::sync::CancellationToken;

use crate::admin::{Check, Readiness};

/// Keeps tasks running, and the check `tasks` failing while one of them cannot. Clones share the check.
#[derive(Debug, Clone)]
pub struct Supervisor {
    check: Check,
    failing: Arc<Mutex<BTreeSet<String>>>,
    steady: Duration,
    first_pause: Duration,
}

/// A task that has run for so long is well again.
const STABLE_AFTER: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

impl Supervisor {
    /// With a check of its own, which passes until a task panics.
    pub fn new(readiness: &Readiness) -> Self {
        let check = readiness.check("tasks");
        check.pass();
        Self {
            check,
            failing: Arc::default(),
            steady: STABLE_AFTER,
            first_pause: FIRST_PAUSE,
        }
    }

    /// Runs what `begin` makes until it ends by itself; after a panic it begins again, later each time. The task must
    /// be one that may begin at any moment. It is not begun again after `stop`.
    pub async fn keep<F: Future<Output = ()>>(
        self,
        name: String,
        stop: CancellationToken,
        mut begin: impl FnMut(CancellationToken) -> F,
    ) {
        let mut pause = self.first_pause;
        loop {
            let mut running =
                Box::pin(AssertUnwindSafe(async { begin(stop.clone()).await }).catch_unwind());
            let ended = match tokio::time::timeout(self.steady, &mut running).await {
                Ok(ended) => ended,
                Err(_) => {
                    self.note(&name, false);
                    pause = self.first_pause;
                    running.await
                }
            };
            if ended.is_ok() {
                break;
            }
            self.note(&name, true);
            tracing::error!(task = name, ?pause, "a task panicked and begins again");
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(MAX_BACKOFF);
        }
        self.note(&name, false);
    }

    fn note(&self, name: &str, fails: bool) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = if fails {
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
                .fail(format!("begins again after a panic: {names}")),
        }
    }
}

/// From now on every panic of the process is counted and logged.
pub(crate) fn count_panics(panics: IntCounter) {
    set_hook(Box::new(move |panic| {
        panics.inc();
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(
            place,
            thread = thread.name(),
            said = panic_text(panic),
            "panic; please report this"
        );
    }));
}

/// The text of `panic!("…")`. One that was put together may hold data.
fn panic_text(panic: &PanicHookInfo<'_>) -> &'static str {
    panic
        .payload()
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("(not shown: it may hold data)")
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
            steady: quick,
            first_pause: quick,
            ..Supervisor::new(readiness)
        }
    }

    #[tokio::test]
    async fn a_task_that_panics_once_runs_again_and_is_not_ready_in_between() {
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
                    assert!(!first, "the first time");
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
            .expect("it runs again, and is ready");
        stop.cancel();
        timeout(LONG, running)
            .await
            .expect("it ends")
            .expect("no panic");
        assert_eq!(*seen.lock().expect("no panic"), [true, false]);
    }

    #[tokio::test]
    async fn a_task_that_keeps_panicking_is_never_ready_again() {
        let (readiness, stop) = (Readiness::default(), CancellationToken::new());
        let supervisor = quick(&readiness);
        let (tell, told) = oneshot::channel();
        let (mut seen, mut tell, seen_by) = (Vec::new(), Some(tell), readiness.clone());
        let task = move |_| {
            seen.push(seen_by.is_ready());
            if let Some(tell) = tell.take_if(|_| seen.len() == 5) {
                tell.send(seen.clone()).expect("awaited");
            }
            async { panic!("as always") }
        };
        let running = tokio::spawn(supervisor.clone().keep("it".into(), stop.clone(), task));
        let seen = timeout(LONG, told).await.expect("in time").expect("told");
        // Another task that is well does not hide it.
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

    #[test]
    fn every_panic_is_counted_and_what_it_holds_is_not_shown() {
        let panics = IntCounter::new("panics", "of this test").expect("a counter");
        let before = std::panic::take_hook();
        count_panics(panics.clone());
        let ended = std::thread::spawn(|| panic!("as asked")).join();
        set_hook(before);
        assert!(ended.is_err() && panics.get() >= 1);
    }
}
