//! Handling of panics: every panic is counted and logged, and a task that must run as long as its
//! process is restarted.
//!
//! Invariant: neither a log line nor `/readyz` shows the message of a panic, which may hold any
//! data the code was handling. Only a string literal from the source is shown.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, PanicHookInfo, set_hook};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use prometheus::IntCounter;
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
            panic_message = panic_text(panic),
            "panic; please report this"
        );
    }));
}

/// The text of `panic!("…")`. A formatted message may hold data.
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

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_panic_is_counted_and_its_data_is_not_shown() {
        let panics = IntCounter::new("panics", "of this test").expect("a counter");
        let (lines, card) = (Lines::default(), "4242424242424242");
        let writer = lines.clone();
        let logged = move |work: fn(&str)| {
            let writer = writer.clone();
            let log = tracing_subscriber::fmt().with_writer(move || writer.clone());
            tracing::subscriber::with_default(log.finish(), || work(card));
        };
        let before = std::panic::take_hook();
        count_panics(panics.clone());
        let first = std::thread::spawn({
            let logged = logged.clone();
            move || logged(|_| panic!("on purpose"))
        });
        let first = first.join();
        let second = std::thread::spawn(move || logged(|data| panic!("it holds {data}"))).join();
        set_hook(before);
        assert!(first.is_err() && second.is_err() && panics.get() >= 2);
        let text = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
        assert!(
            text.contains("on purpose") && text.contains("(not shown: it may hold data)"),
            "{text}"
        );
        assert!(!text.contains(card), "{text}");
    }
}
