//! Time and ids for tests.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use revwatch_core::clock::{Clock, Ids};
use tokio::time::Instant;
use uuid::{Builder, Uuid};

/// A wall clock that follows tokio's time, which a test can pause. It jumps on request.
pub struct VirtualClock {
    start: Timestamp,
    started: Instant,
    jumped_ms: AtomicI64,
}

/// Ids that count: the same in every run.
#[derive(Debug, Default)]
pub struct NumberedIds(AtomicU64);

impl VirtualClock {
    /// It is `start` now.
    pub fn starting_at(start: Timestamp) -> Self {
        Self {
            start,
            started: Instant::now(),
            jumped_ms: AtomicI64::new(0),
        }
    }

    /// Jumps ahead.
    pub fn jump(&self, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.jumped_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.started.elapsed()).unwrap_or_default();
        let jumped = SignedDuration::from_millis(self.jumped_ms.load(Ordering::Relaxed));
        self.start + passed + jumped
    }
}

impl Ids for NumberedIds {
    fn fresh(&self) -> Uuid {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let mut rest = [0; 10];
        rest[2..].copy_from_slice(&number.to_be_bytes());
        Builder::from_unix_timestamp_millis(number, &rest).into_uuid()
    }
}
