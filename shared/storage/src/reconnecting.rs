//! A slot for something that takes time to open, breaks at times and is then opened again: a
//! connection, a channel.
//!
//! Invariant: at most one attempt to open it is in progress. It runs in a task of its own: a caller
//! whose `within` ends neither interrupts it nor starts another. After a failure no caller starts an
//! attempt before the backoff has passed: all of them receive the failure at once.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use revwatch_core::backoff::Backoff;
use tokio::time::Instant;

use crate::lock::lock;

/// See the module.
pub(crate) struct Reconnecting<T, E> {
    /// The name of the content, for messages.
    name: String,
    is_usable: fn(&T) -> bool,
    backoff: Backoff,
    state: Arc<Mutex<State<T, E>>>,
}

/// A failure that several waiting callers can receive.
pub(crate) trait SlotError: Clone + Send + Sync + 'static {
    /// The content cannot be had at the moment.
    fn unavailable(text: String) -> Self;
}

struct State<T, E> {
    current: Option<Arc<T>>,
    attempt: Option<Attempt<T, E>>,
    /// In a row.
    failures: u32,
    /// The latest failure, and until when all callers receive it.
    failed: Option<(E, Instant)>,
    closed: bool,
}

type Attempt<T, E> = Shared<BoxFuture<'static, Result<Arc<T>, E>>>;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);

impl<T: Send + Sync + 'static, E: SlotError> Reconnecting<T, E> {
    /// An empty slot. Its content is replaced when it is no longer usable; a `max_backoff` of zero
    /// means none.
    pub(crate) fn new(name: String, is_usable: fn(&T) -> bool, max_backoff: Duration) -> Self {
        let state = State {
            current: None,
            attempt: None,
            failures: 0,
            failed: None,
            closed: false,
        };
        Self {
            name,
            is_usable,
            backoff: Backoff {
                first: FIRST_BACKOFF,
                max: max_backoff,
            },
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The content of the slot. If there is none, it is opened with `open`, and waited for no longer
    /// than `within`.
    pub(crate) async fn get(
        &self,
        within: Duration,
        open: impl FnOnce() -> BoxFuture<'static, Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let attempt = {
            let mut state = lock(&self.state);
            if state.closed {
                return Err(E::unavailable(format!("{} was closed", self.name)));
            }
            match &state.current {
                Some(current) if (self.is_usable)(current) => return Ok(Arc::clone(current)),
                Some(_) => {
                    tracing::warn!(
                        what = self.name,
                        "the connection or channel was lost; opening it again"
                    );
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
        match tokio::time::timeout(within, attempt).await {
            Ok(result) => result,
            Err(_) => Err(E::unavailable(format!(
                "{} did not open within {within:?}",
                self.name
            ))),
        }
    }

    /// Empties the slot if it holds `which`, and returns whether it did. Callers that hold `which`
    /// may finish with it.
    pub(crate) fn discard(&self, which: &Arc<T>) -> bool {
        let mut state = lock(&self.state);
        let is_current = |current: &Arc<T>| Arc::ptr_eq(current, which);
        state
            .current
            .take_if(|current| is_current(current))
            .is_some()
    }

    /// From now on nothing is opened. Returns the content.
    #[cfg(any(feature = "rabbitmq", test))]
    pub(crate) fn close(&self) -> Option<Arc<T>> {
        let mut state = lock(&self.state);
        state.closed = true;
        state.current.take()
    }

    fn attempt(&self, opening: BoxFuture<'static, Result<T, E>>) -> Attempt<T, E> {
        let shared_state = Arc::clone(&self.state);
        let backoff = self.backoff;
        let name = self.name.clone();
        let task = tokio::spawn(async move {
            // A panic must not leave the ended attempt in the slot.
            let result = AssertUnwindSafe(opening)
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Err(E::unavailable(format!("opening {name} panicked"))))
                .map(Arc::new);
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
                    let until = Instant::now() + backoff.wait(state.failures);
                    state.failures += 1;
                    state.failed = Some((failure.clone(), until));
                }
            }
            result
        });
        let name = self.name.clone();
        async move {
            task.await
                .unwrap_or_else(|_| Err(E::unavailable(format!("opening {name} was interrupted"))))
        }
        .boxed()
        .shared()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Failure(String);

    impl SlotError for Failure {
        fn unavailable(text: String) -> Self {
            Self(text)
        }
    }

    #[tokio::test]
    async fn many_callers_share_one_attempt_and_its_result() {
        let slot: Reconnecting<u32, Failure> = Reconnecting::new("it".into(), |_| true, LONG);
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
        let slot: Reconnecting<u32, Failure> = Reconnecting::new("it".into(), |_| true, LONG);
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let open = || {
            async move {
                wait.await
                    .map(|()| 7)
                    .map_err(|_| Failure("dropped".into()))
            }
            .boxed()
        };
        assert!(slot.get(Duration::ZERO, open).await.is_err());
        go.send(()).expect("the attempt still waits");
        let second = slot
            .get(LONG, || {
                async { Err(Failure("a second attempt".into())) }.boxed()
            })
            .await;
        assert_eq!(*second.expect("the first attempt's result"), 7);
    }

    #[tokio::test]
    async fn after_a_failure_callers_receive_it_at_once() {
        let slot: Reconnecting<u32, Failure> = Reconnecting::new("it".into(), |_| true, LONG);
        let first = slot
            .get(LONG, || async { Err(Failure("down".into())) }.boxed())
            .await;
        assert!(first.is_err());
        let second = slot
            .get(LONG, || async { Ok(1) }.boxed())
            .await
            .expect_err("the backoff has not passed");
        assert_eq!(second, Failure("down".into()));
    }

    #[tokio::test]
    async fn a_panic_is_a_failed_attempt_and_the_next_one_is_made() {
        let none = Duration::ZERO;
        let slot: Reconnecting<u32, Failure> = Reconnecting::new("it".into(), |_| true, none);
        let panics = || async { panic!("while it is opened") }.boxed();
        let failure = slot.get(LONG, panics).await.expect_err("it panicked");
        assert_eq!(failure, Failure("opening it panicked".into()));
        let second = slot.get(LONG, || async { Ok(7) }.boxed()).await;
        assert_eq!(*second.expect("opened"), 7);
    }

    #[tokio::test]
    async fn the_unusable_and_the_discarded_are_replaced() {
        let slot: Reconnecting<u32, Failure> = Reconnecting::new("it".into(), |v| *v != 0, LONG);
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
        assert!(!slot.discard(&Arc::new(1)));
        assert_eq!(
            *slot
                .get(LONG, || async { Ok(2) }.boxed())
                .await
                .expect("kept"),
            1
        );
        assert!(slot.discard(&one));
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
