//! Something that takes a while to open, breaks at times and is then opened again: a connection, a
//! channel.
//!
//! Invariant: at most one attempt to open it is under way, in a task of its own, so that a caller who
//! loses patience neither interrupts it nor starts another; after a failure nobody tries again before
//! the backoff has passed, and callers are told at once instead of being kept waiting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use super::error::AmqpError;

/// See the module.
pub(super) struct Reconnecting<T> {
    /// What is kept, for messages.
    name: String,
    usable: fn(&T) -> bool,
    longest_backoff: Duration,
    state: Arc<Mutex<State<T>>>,
}

struct State<T> {
    current: Option<Arc<T>>,
    attempt: Option<Attempt<T>>,
    /// In a row.
    failures: u32,
    /// The latest failure, and until when it is the answer to everybody.
    failed: Option<(AmqpError, Instant)>,
    closed: bool,
}

type Attempt<T> = Shared<BoxFuture<'static, Result<Arc<T>, AmqpError>>>;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);

impl<T: Send + Sync + 'static> Reconnecting<T> {
    /// An empty slot. What is in it is replaced as soon as it is no longer `usable`; a `longest_backoff`
    /// of zero means none.
    pub(super) fn new(name: String, usable: fn(&T) -> bool, longest_backoff: Duration) -> Self {
        let state = State {
            current: None,
            attempt: None,
            failures: 0,
            failed: None,
            closed: false,
        };
        Self {
            name,
            usable,
            longest_backoff,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// What is in the slot, opened with `open` if need be, waiting for that no longer than `patience`.
    pub(super) async fn get(
        &self,
        patience: Duration,
        open: impl FnOnce() -> BoxFuture<'static, Result<T, AmqpError>>,
    ) -> Result<Arc<T>, AmqpError> {
        let attempt = {
            let mut state = lock(&self.state);
            if state.closed {
                return Err(AmqpError::unavailable(format!("{} was closed", self.name)));
            }
            match &state.current {
                Some(current) if (self.usable)(current) => return Ok(Arc::clone(current)),
                Some(_) => {
                    tracing::warn!(what = self.name, "lost; opening it again");
                    state.current = None;
                }
                None => {}
            }
            match (&state.attempt, &state.failed) {
                (Some(attempt), _) => attempt.clone(),
                (None, Some((failure, until))) if Instant::now() < *until => {
                    return Err(failure.clone());
                }
                (None, _) => {
                    let attempt = self.attempt(open());
                    state.attempt = Some(attempt.clone());
                    attempt
                }
            }
        };
        match tokio::time::timeout(patience, attempt).await {
            Ok(result) => result,
            Err(_) => Err(AmqpError::unavailable(format!(
                "{} did not open within {patience:?}",
                self.name
            ))),
        }
    }

    /// Forgets `which`, unless it has been replaced already. Those who hold it may finish with it.
    pub(super) fn discard(&self, which: &Arc<T>) {
        let mut state = lock(&self.state);
        if state
            .current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, which))
        {
            state.current = None;
        }
    }

    /// Nothing is opened any more. Returns what was open.
    pub(super) fn close(&self) -> Option<Arc<T>> {
        let mut state = lock(&self.state);
        state.closed = true;
        state.current.take()
    }

    fn attempt(&self, opening: BoxFuture<'static, Result<T, AmqpError>>) -> Attempt<T> {
        let shared_state = Arc::clone(&self.state);
        let longest_backoff = self.longest_backoff;
        let task = tokio::spawn(async move {
            let result = opening.await.map(Arc::new);
            let mut state = lock(&shared_state);
            state.attempt = None;
            match &result {
                Ok(_) if state.closed => {}
                Ok(opened) => {
                    state.current = Some(Arc::clone(opened));
                    state.failures = 0;
                    state.failed = None;
                }
                Err(failure) => {
                    let backoff = FIRST_BACKOFF
                        .saturating_mul(1 << state.failures.min(10))
                        .min(longest_backoff);
                    state.failures += 1;
                    state.failed = Some((failure.clone(), Instant::now() + backoff));
                }
            }
            result
        });
        let name = self.name.clone();
        async move {
            task.await.unwrap_or_else(|_| {
                Err(AmqpError::unavailable(format!(
                    "opening {name} was interrupted"
                )))
            })
        }
        .boxed()
        .shared()
    }
}

/// A panic elsewhere does not make the value behind the lock any worse: it is replaced as a whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn many_callers_share_one_attempt_and_its_result() {
        let slot: Reconnecting<u32> = Reconnecting::new("it".into(), |_| true, LONG);
        let opened = AtomicU32::new(0);
        let open = || {
            opened.fetch_add(1, Ordering::SeqCst);
            async { Ok(7) }.boxed()
        };
        let (a, b, c) = tokio::join!(
            slot.get(LONG, open),
            slot.get(LONG, open),
            slot.get(LONG, open)
        );
        assert_eq!([*a.expect("a"), *b.expect("b"), *c.expect("c")], [7, 7, 7]);
        assert_eq!(opened.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_impatient_caller_does_not_interrupt_the_attempt() {
        let slot: Reconnecting<u32> = Reconnecting::new("it".into(), |_| true, LONG);
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let open = || {
            async move {
                wait.await
                    .map(|()| 7)
                    .map_err(|_| AmqpError::unavailable("dropped".into()))
            }
            .boxed()
        };
        assert!(slot.get(Duration::ZERO, open).await.is_err());
        go.send(()).expect("the attempt still waits");
        let second = slot
            .get(LONG, || {
                async { Err(AmqpError::unavailable("a second attempt".into())) }.boxed()
            })
            .await;
        assert_eq!(*second.expect("the first attempt's result"), 7);
    }

    #[tokio::test]
    async fn after_a_failure_callers_are_told_at_once() {
        let slot: Reconnecting<u32> = Reconnecting::new("it".into(), |_| true, LONG);
        let first = slot
            .get(LONG, || {
                async { Err(AmqpError::unavailable("down".into())) }.boxed()
            })
            .await;
        assert!(first.is_err());
        let second = slot
            .get(LONG, || async { Ok(1) }.boxed())
            .await
            .expect_err("the backoff has not passed");
        assert!(second.to_string().contains("down"), "{second}");
    }

    #[tokio::test]
    async fn the_unusable_and_the_discarded_are_replaced() {
        let slot: Reconnecting<u32> = Reconnecting::new("it".into(), |v| *v != 0, LONG);
        assert_eq!(
            *slot
                .get(LONG, || async { Ok(0) }.boxed())
                .await
                .expect("opened"),
            0
        );
        let one = slot
            .get(LONG, || async { Ok(1) }.boxed())
            .await
            .expect("opened again");
        slot.discard(&Arc::new(1));
        assert_eq!(
            *slot
                .get(LONG, || async { Ok(2) }.boxed())
                .await
                .expect("kept"),
            1
        );
        slot.discard(&one);
        assert_eq!(
            *slot
                .get(LONG, || async { Ok(3) }.boxed())
                .await
                .expect("opened again"),
            3
        );
        assert_eq!(slot.close().as_deref(), Some(&3));
        assert!(slot.get(LONG, || async { Ok(4) }.boxed()).await.is_err());
    }
}
