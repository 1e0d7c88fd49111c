//! The system's clock and randomness. This is the lowest crate with effects, so adapters and every
//! crate above find them here.
//!
//! Invariant: no other code of the roles and of `shared/` reads the wall clock or draws random
//! numbers, except for the time stamps of logs and spans. `tests/purity.rs` checks it.

use jiff::Timestamp;
use revwatch_core::clock::{Clock, Ids};
use uuid::Uuid;

/// The system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// Ids from the system's clock and randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

/// A random number from 0 up to 1, for the jitter of pauses.
pub fn random_share() -> f64 {
    fastrand::f64()
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl Ids for SystemIds {
    fn fresh(&self) -> Uuid {
        Uuid::now_v7()
    }
}
