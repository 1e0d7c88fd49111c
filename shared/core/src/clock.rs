//! Time and fresh ids, as parameters. The pure code takes the values; code with effects takes these
//! traits, so that a test decides what time it is and which ids come next.
//!
//! Only wall-clock time is here. Where a test needs to pause time, durations are measured with
//! tokio's `Instant`.

use jiff::Timestamp;
use uuid::Uuid;

/// The wall clock. It may jump, forwards and backwards.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Unix milliseconds.
    fn now_ms(&self) -> i64 {
        self.now().as_millisecond()
    }

    /// Unix seconds.
    fn now_s(&self) -> i64 {
        self.now().as_second()
    }
}

/// Ids that nothing else has.
pub trait Ids: Send + Sync {
    /// A UUID v7. Ids of one process ascend.
    fn fresh(&self) -> Uuid;
}
