//! Memory for bodies that are still incomplete, bounded across all connections.
//!
//! A body that arrives in one piece, as most events do, is kept as it is and never gets here. For
//! other bodies, each connection may hold [`SMALL_BYTES`], so [`Bounds::connections`] bounds these
//! small buffers. A larger body reserves its buffer from the budget
//! [`Bounds::unfinished_body_bytes`] as it grows. Declaring a large body reserves nothing; only received bytes do.
//!
//! Invariant: the buffers of large bodies together never exceed the budget. A complete body has
//! left the budget: it is verified before anything else happens, and after that the service bounds it.
//!
//! Fairness: when the budget is used up, the oldest body in it is evicted if it is older than the
//! minimum time (a tenth of [`Bounds::body`]). Otherwise the body that needs the memory is
//! refused. Hence:
//!
//! - Slow senders, however many, block a larger body for no longer than the minimum time, and never
//!   block a small one.
//! - To block a sender that finishes within the minimum time, others must fill the budget with new
//!   bodies in that time. A buffer is at most twice as large as the received bytes, so this takes
//!   half the budget in bytes: for webhooks, by default, 32 MiB in 1.5 seconds.
//! - Without such pressure a slow sender has all of [`Bounds::body`].
//!
//! Addresses have no share of their own: Stripe sends from few addresses, and behind a proxy all senders
//! may share one. [`Bounds::connections_per_peer`] bounds what one address can have open.
//!
//! [`Bounds::connections`]: super::Bounds::connections
//! [`Bounds::unfinished_body_bytes`]: super::Bounds::unfinished_body_bytes
//! [`Bounds::body`]: super::Bounds::body
//! [`Bounds::connections_per_peer`]: super::Bounds::connections_per_peer

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The incomplete bodies of all connections.
pub(super) struct Bodies {
    budget_bytes: usize,
    min_time: Duration,
    shared: Mutex<Shared>,
}

/// One body as it arrives. Dropping it releases its memory.
pub(super) struct Body<'a> {
    bodies: &'a Bodies,
    /// Upper bound of its size.
    max_bytes: usize,
    len: usize,
    buffer: BodyBuffer,
}

/// The budget is used up, or the body was evicted in favor of another one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BodyBudgetError;

/// The bytes received so far.
enum BodyBuffer {
    Small(Vec<u8>),
    Large(Number),
}

/// Position of a large body in the order of entering the budget.
type Number = u64;

#[derive(Default)]
struct Shared {
    /// The capacities of all buffers.
    used_bytes: usize,
    next: Number,
    large: BTreeMap<Number, Large>,
}

struct Large {
    since: Instant,
    buffer: Vec<u8>,
}

/// Bodies up to this size are not counted against the budget.
const SMALL_BYTES: usize = 16 * 1024;

impl Bodies {
    pub(super) fn new(budget_bytes: usize, min_time: Duration) -> Self {
        Self {
            budget_bytes,
            min_time,
            shared: Mutex::default(),
        }
    }

    /// Begins a body of which nothing has arrived yet.
    pub(super) fn begin(&self, max_bytes: usize) -> Body<'_> {
        Body {
            bodies: self,
            max_bytes,
            len: 0,
            buffer: BodyBuffer::Small(Vec::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body<'_> {
    /// Bytes received so far.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends bytes received at `now`.
    pub(super) fn push(&mut self, data: &[u8], now: Instant) -> Result<(), BodyBudgetError> {
        let len = self.len + data.len();
        match &mut self.buffer {
            BodyBuffer::Small(buffer) if len <= SMALL_BYTES => {
                buffer.reserve_exact(
                    capacity_for(len, buffer, self.max_bytes.min(SMALL_BYTES)) - buffer.len(),
                );
                buffer.extend_from_slice(data);
            }
            BodyBuffer::Small(buffer) => {
                let mut shared = self.bodies.lock();
                let number = shared.enter(take(buffer), now);
                self.buffer = BodyBuffer::Large(number);
                shared.push(number, data, self.max_bytes, self.bodies, now)?;
            }
            BodyBuffer::Large(number) => {
                self.bodies
                    .lock()
                    .push(*number, data, self.max_bytes, self.bodies, now)?;
            }
        }
        self.len = len;
        Ok(())
    }

    /// The complete body.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, BodyBudgetError> {
        match &mut self.buffer {
            BodyBuffer::Small(buffer) => Ok(take(buffer)),
            BodyBuffer::Large(number) => self.bodies.lock().leave(*number).ok_or(BodyBudgetError),
        }
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        if let BodyBuffer::Large(number) = self.buffer {
            drop(self.bodies.lock().leave(number));
        }
    }
}

impl Shared {
    fn enter(&mut self, buffer: Vec<u8>, now: Instant) -> Number {
        let number = self.next;
        self.next += 1;
        self.used_bytes += buffer.capacity();
        self.large.insert(number, Large { since: now, buffer });
        number
    }

    fn leave(&mut self, number: Number) -> Option<Vec<u8>> {
        let Large { buffer, .. } = self.large.remove(&number)?;
        self.used_bytes -= buffer.capacity();
        Some(buffer)
    }

    fn push(
        &mut self,
        number: Number,
        data: &[u8],
        max_bytes: usize,
        limits: &Bodies,
        now: Instant,
    ) -> Result<(), BodyBudgetError> {
        // Missing: it was evicted.
        let Large { buffer, .. } = self.large.get(&number).ok_or(BodyBudgetError)?;
        let (len, had) = (buffer.len(), buffer.capacity());
        let capacity = capacity_for(len + data.len(), buffer, max_bytes);
        while self.used_bytes + (capacity - had) > limits.budget_bytes {
            let (&oldest, Large { since, .. }) =
                self.large.first_key_value().ok_or(BodyBudgetError)?;
            // The oldest may be this body itself: then its minimum time is over.
            let is_protected =
                oldest != number && now.saturating_duration_since(*since) < limits.min_time;
            // A refused body releases its memory immediately, so that it causes no further
            // refusals.
            let evicted = if is_protected { number } else { oldest };
            drop(self.leave(evicted));
            if evicted == number {
                return Err(BodyBudgetError);
            }
        }
        let Large { buffer, .. } = self.large.get_mut(&number).ok_or(BodyBudgetError)?;
        buffer.reserve_exact(capacity - len);
        buffer.extend_from_slice(data);
        self.used_bytes += buffer.capacity() - had;
        Ok(())
    }
}

/// The capacity with which `buffer` can hold `len` bytes: twice `len`, which amortizes copying, but
/// at most the size of the complete body.
fn capacity_for(len: usize, buffer: &Vec<u8>, max_bytes: usize) -> usize {
    if len <= buffer.capacity() {
        buffer.capacity()
    } else {
        (2 * len).min(max_bytes).max(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;
    const MIN_TIME: Duration = Duration::from_secs(1);

    fn used(bodies: &Bodies) -> usize {
        let shared = bodies.lock();
        let sum = shared
            .large
            .values()
            .map(|large| large.buffer.capacity())
            .sum();
        assert_eq!(shared.used_bytes, sum);
        sum
    }

    /// Pushes `bytes` in pieces, as they arrive from a socket.
    fn push(body: &mut Body<'_>, bytes: usize, now: Instant) -> Result<(), BodyBudgetError> {
        (0..bytes / KIB).try_for_each(|_| body.push(&[b'x'; KIB], now))
    }

    #[test]
    fn small_bodies_use_no_budget_and_large_ones_use_their_capacity() {
        let (bodies, now) = (Bodies::new(128 * KIB, MIN_TIME), Instant::now());
        let mut body = bodies.begin(100 * KIB);
        push(&mut body, SMALL_BYTES, now).expect("room");
        assert_eq!(used(&bodies), 0);
        push(&mut body, KIB, now).expect("room");
        assert_eq!(used(&bodies), 34 * KIB, "twice the 17 KiB");
        push(&mut body, 83 * KIB, now).expect("room");
        assert_eq!(
            (used(&bodies), body.len()),
            (100 * KIB, 100 * KIB),
            "at most the complete body"
        );
        assert_eq!(body.finish().expect("complete"), vec![b'x'; 100 * KIB]);
        assert_eq!(used(&bodies), 0);
        // Neither a declared size nor a dropped body uses budget.
        let mut dropped = bodies.begin(1_000 * KIB);
        push(&mut dropped, 20 * KIB, now).expect("room");
        assert!(used(&bodies) <= 40 * KIB);
        drop(dropped);
        assert_eq!(used(&bodies), 0);
        assert_eq!(bodies.begin(9).finish(), Ok(Vec::new()));
    }

    #[test]
    fn a_full_budget_refuses_large_bodies_and_accepts_small_ones() {
        let (bodies, now) = (Bodies::new(256 * KIB, MIN_TIME), Instant::now());
        let mut slow: Vec<_> = (0..4).map(|_| bodies.begin(64 * KIB)).collect();
        for body in &mut slow {
            push(body, 63 * KIB, now).expect("room");
        }
        assert_eq!(used(&bodies), 256 * KIB);
        let mut more = bodies.begin(64 * KIB);
        assert_eq!(push(&mut more, 64 * KIB, now), Err(BodyBudgetError));
        drop(more);
        let mut small = bodies.begin(64 * KIB);
        push(&mut small, SMALL_BYTES, now).expect("a small body needs no budget");
        assert_eq!(small.finish().map(|body| body.len()), Ok(SMALL_BYTES));
        push(&mut slow[0], KIB, now).expect("a body can use its own buffer");
        assert_eq!(slow.remove(0).finish().map(|body| body.len()), Ok(64 * KIB));
        let mut more = bodies.begin(64 * KIB);
        push(&mut more, 64 * KIB, now).expect("one has left the budget");
        assert_eq!(used(&bodies), 256 * KIB);
    }

    #[test]
    fn under_pressure_the_oldest_body_is_evicted_after_its_minimum_time() {
        let (bodies, start) = (Bodies::new(128 * KIB, MIN_TIME), Instant::now());
        let late = start + MIN_TIME;
        let (mut first, mut second) = (bodies.begin(64 * KIB), bodies.begin(64 * KIB));
        push(&mut first, 60 * KIB, start).expect("room");
        push(&mut second, 60 * KIB, start + MIN_TIME / 2).expect("room");
        let mut third = bodies.begin(64 * KIB);
        push(&mut third, 64 * KIB, late).expect("the first is evicted");
        assert_eq!(used(&bodies), 128 * KIB);
        assert_eq!(push(&mut first, KIB, late), Err(BodyBudgetError));
        assert_eq!(first.finish(), Err(BodyBudgetError));
        assert_eq!(
            push(&mut bodies.begin(64 * KIB), 64 * KIB, late),
            Err(BodyBudgetError),
            "the second is within its minimum time"
        );
        push(&mut second, 4 * KIB, late).expect("it keeps its buffer");
        assert_eq!(second.finish().map(|body| body.len()), Ok(64 * KIB));
        drop(third);
        assert_eq!(used(&bodies), 0);
    }

    #[test]
    fn a_growing_body_does_not_evict_younger_ones() {
        let (bodies, start) = (Bodies::new(128 * KIB, MIN_TIME), Instant::now());
        let (mut old, mut young) = (bodies.begin(128 * KIB), bodies.begin(64 * KIB));
        push(&mut old, 32 * KIB, start).expect("room");
        push(&mut young, 64 * KIB, start).expect("room");
        assert_eq!(
            push(&mut old, 96 * KIB, start + 2 * MIN_TIME),
            Err(BodyBudgetError)
        );
        assert_eq!(young.finish().map(|body| body.len()), Ok(64 * KIB));
    }
}
