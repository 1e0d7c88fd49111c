//! The memory of bodies that have not arrived completely, bounded over all connections.
//!
//! A body that arrives in one piece, as most events do, is kept as it came and never gets here. Of the others each
//! connection may hold [`SMALL_BYTES`], so that `limits.connections` bounds them all; a larger one reserves its buffer
//! from the budget `limits.unfinished_body_bytes` as it grows. Declaring a large body reserves nothing; only bytes that
//! were sent do.
//!
//! Invariant: the buffers of large bodies never hold more than the budget together. What is complete has left it: it is
//! verified before anything else happens, and after that `limits.in_flight` bounds it.
//!
//! Fairness. When the budget is used up, the body that is in it for longest gives way, if that is longer than the
//! patience (a tenth of `limits.body_seconds`); if none is, the body that needs the memory is refused. Hence:
//!
//! - Slow senders, however many, keep a larger body out for no longer than the patience, and a small one not at all.
//! - To keep out a sender who is done within the patience, others must fill the budget with new bodies in that time. A
//!   buffer is at most twice as large as what was sent, so that takes half the budget in bytes: by default 32 MiB in
//!   1.5 seconds.
//! - Without such pressure a slow sender has all of `limits.body_seconds`.
//!
//! There is no share per address: Stripe sends from few, and behind a proxy all senders may have one.
//! `limits.connections_per_peer` bounds what one address can have open.

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The unfinished bodies of all connections.
pub(crate) struct Bodies {
    budget_bytes: usize,
    patience: Duration,
    shared: Mutex<Shared>,
}

/// One body as it arrives. Dropped, it gives its memory back.
pub(crate) struct Body<'a> {
    bodies: &'a Bodies,
    /// It is not going to be larger than this.
    most_bytes: usize,
    len: usize,
    place: BodyBuffer,
}

/// The budget is used up, or the body gave way to another one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BodyBudgetError;

/// Where the bytes of a body are.
enum BodyBuffer {
    Small(Vec<u8>),
    Large(Number),
}

/// Large bodies in the order in which they came into the budget.
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

/// Bodies up to this size are not counted.
const SMALL_BYTES: usize = 16 * 1024;

impl Bodies {
    pub(crate) fn new(budget_bytes: usize, patience: Duration) -> Self {
        Self {
            budget_bytes,
            patience,
            shared: Mutex::default(),
        }
    }

    /// A body of which nothing has arrived.
    pub(crate) fn begin(&self, most_bytes: usize) -> Body<'_> {
        Body {
            bodies: self,
            most_bytes,
            len: 0,
            place: BodyBuffer::Small(Vec::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body<'_> {
    /// How much of it has arrived.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends what has arrived `now`.
    pub(crate) fn push(&mut self, data: &[u8], now: Instant) -> Result<(), BodyBudgetError> {
        let len = self.len + data.len();
        match &mut self.place {
            BodyBuffer::Small(buffer) if len <= SMALL_BYTES => {
                buffer.reserve_exact(
                    capacity_for(len, buffer, self.most_bytes.min(SMALL_BYTES)) - buffer.len(),
                );
                buffer.extend_from_slice(data);
            }
            BodyBuffer::Small(buffer) => {
                let mut shared = self.bodies.lock();
                let number = shared.enter(take(buffer), now);
                self.place = BodyBuffer::Large(number);
                shared.push(number, data, self.most_bytes, self.bodies, now)?;
            }
            BodyBuffer::Large(number) => {
                self.bodies
                    .lock()
                    .push(*number, data, self.most_bytes, self.bodies, now)?;
            }
        }
        self.len = len;
        Ok(())
    }

    /// The complete body.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, BodyBudgetError> {
        match &mut self.place {
            BodyBuffer::Small(buffer) => Ok(take(buffer)),
            BodyBuffer::Large(number) => self.bodies.lock().leave(*number).ok_or(BodyBudgetError),
        }
    }
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        if let BodyBuffer::Large(number) = self.place {
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
        most_bytes: usize,
        of: &Bodies,
        now: Instant,
    ) -> Result<(), BodyBudgetError> {
        // Not there: it gave way.
        let Large { buffer, .. } = self.large.get(&number).ok_or(BodyBudgetError)?;
        let (len, had) = (buffer.len(), buffer.capacity());
        let capacity = capacity_for(len + data.len(), buffer, most_bytes);
        while self.used_bytes + (capacity - had) > of.budget_bytes {
            let (&oldest, Large { since, .. }) =
                self.large.first_key_value().ok_or(BodyBudgetError)?;
            // It may be this one: then it has had its time.
            let has_time = oldest != number && now.saturating_duration_since(*since) < of.patience;
            // A refused body returns its memory at once, so that no other is refused because of it.
            let leaves = if has_time { number } else { oldest };
            drop(self.leave(leaves));
            if leaves == number {
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

/// The capacity with which `buffer` can hold `len` bytes: twice that, so that growing is not copying all the time, but
/// not more than the whole body.
fn capacity_for(len: usize, buffer: &Vec<u8>, most_bytes: usize) -> usize {
    if len <= buffer.capacity() {
        buffer.capacity()
    } else {
        (2 * len).min(most_bytes).max(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;
    const PATIENCE: Duration = Duration::from_secs(1);

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

    /// Pushes `bytes` in pieces as they come from a socket.
    fn push(body: &mut Body<'_>, bytes: usize, now: Instant) -> Result<(), BodyBudgetError> {
        (0..bytes / KIB).try_for_each(|_| body.push(&[b'x'; KIB], now))
    }

    #[test]
    fn small_bodies_take_nothing_and_large_ones_what_their_buffers_hold() {
        let (bodies, now) = (Bodies::new(128 * KIB, PATIENCE), Instant::now());
        let mut body = bodies.begin(100 * KIB);
        push(&mut body, SMALL_BYTES, now).expect("room");
        assert_eq!(used(&bodies), 0);
        push(&mut body, KIB, now).expect("room");
        assert_eq!(used(&bodies), 34 * KIB, "twice the 17 KiB");
        push(&mut body, 83 * KIB, now).expect("room");
        assert_eq!(
            (used(&bodies), body.len()),
            (100 * KIB, 100 * KIB),
            "not more than the whole"
        );
        assert_eq!(body.finish().expect("complete"), vec![b'x'; 100 * KIB]);
        assert_eq!(used(&bodies), 0);
        // Neither what was declared nor one that is dropped takes anything.
        let mut dropped = bodies.begin(1_000 * KIB);
        push(&mut dropped, 20 * KIB, now).expect("room");
        assert!(used(&bodies) <= 40 * KIB);
        drop(dropped);
        assert_eq!(used(&bodies), 0);
        assert_eq!(bodies.begin(9).finish(), Ok(Vec::new()));
    }

    #[test]
    fn over_the_budget_nothing_is_taken_and_small_bodies_are() {
        let (bodies, now) = (Bodies::new(256 * KIB, PATIENCE), Instant::now());
        let mut slow: Vec<_> = (0..4).map(|_| bodies.begin(64 * KIB)).collect();
        for body in &mut slow {
            push(body, 63 * KIB, now).expect("room");
        }
        assert_eq!(used(&bodies), 256 * KIB);
        let mut more = bodies.begin(64 * KIB);
        assert_eq!(push(&mut more, 64 * KIB, now), Err(BodyBudgetError));
        drop(more);
        let mut small = bodies.begin(64 * KIB);
        push(&mut small, SMALL_BYTES, now).expect("a small one needs no budget");
        assert_eq!(small.finish().map(|body| body.len()), Ok(SMALL_BYTES));
        push(&mut slow[0], KIB, now).expect("who has memory can use it");
        assert_eq!(slow.remove(0).finish().map(|body| body.len()), Ok(64 * KIB));
        let mut more = bodies.begin(64 * KIB);
        push(&mut more, 64 * KIB, now).expect("one has left");
        assert_eq!(used(&bodies), 256 * KIB);
    }

    #[test]
    fn under_pressure_the_oldest_gives_way_once_it_had_its_time() {
        let (bodies, start) = (Bodies::new(128 * KIB, PATIENCE), Instant::now());
        let late = start + PATIENCE;
        let (mut first, mut second) = (bodies.begin(64 * KIB), bodies.begin(64 * KIB));
        push(&mut first, 60 * KIB, start).expect("room");
        push(&mut second, 60 * KIB, start + PATIENCE / 2).expect("room");
        let mut third = bodies.begin(64 * KIB);
        push(&mut third, 64 * KIB, late).expect("the first gives way");
        assert_eq!(used(&bodies), 128 * KIB);
        assert_eq!(push(&mut first, KIB, late), Err(BodyBudgetError));
        assert_eq!(first.finish(), Err(BodyBudgetError));
        assert_eq!(
            push(&mut bodies.begin(64 * KIB), 64 * KIB, late),
            Err(BodyBudgetError),
            "the second has not had its time"
        );
        push(&mut second, 4 * KIB, late).expect("it keeps what it has");
        assert_eq!(second.finish().map(|body| body.len()), Ok(64 * KIB));
        drop(third);
        assert_eq!(used(&bodies), 0);
    }

    #[test]
    fn one_that_needs_more_does_not_push_out_younger_ones() {
        let (bodies, start) = (Bodies::new(128 * KIB, PATIENCE), Instant::now());
        let (mut old, mut young) = (bodies.begin(128 * KIB), bodies.begin(64 * KIB));
        push(&mut old, 32 * KIB, start).expect("room");
        push(&mut young, 64 * KIB, start).expect("room");
        assert_eq!(
            push(&mut old, 96 * KIB, start + 2 * PATIENCE),
            Err(BodyBudgetError)
        );
        assert_eq!(young.finish().map(|body| body.len()), Ok(64 * KIB));
    }
}
