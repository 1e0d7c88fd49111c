//! Counts refusals by address and reports when an address exceeds its limit.
//!
//! The generic cell rate algorithm: each refusal advances its sender's next arrival by one interval,
//! and a sender whose next arrival is more than a burst ahead of the clock is over its limit.
//!
//! Invariant: memory is bounded, whatever is sent. Senders whose next arrival has passed are
//! indistinguishable from new ones and are dropped every [`SWEEP_EVERY`] refusals. Beyond
//! [`MAX_SENDERS`] all senders share one budget.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The unit that shares one budget of refusals, and of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sender {
    V4(Ipv4Addr),
    /// A /64: the smallest network that a single customer is usually assigned.
    V6([u16; 4]),
    /// All senders, while the table is full. Harmless: signed requests are not limited.
    Overflow,
}

pub(super) struct Limiter {
    interval: Duration,
    burst: Duration,
    budgets: Mutex<Budgets>,
}

#[derive(Default)]
struct Budgets {
    /// Hashed with a random key, because senders choose their addresses.
    next_arrivals: HashMap<Sender, Instant>,
    refusals: u32,
    is_full: bool,
}

const SWEEP_EVERY: u32 = 1024;
const MAX_SENDERS: usize = 65_536;

impl Limiter {
    /// Allows `per_second` refusals sustained and bursts of `burst`; zero counts as one.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            interval,
            burst: interval * burst.max(1),
            budgets: Mutex::default(),
        }
    }

    /// Counts one refusal. `Err` means that the address is over its limit, and holds the seconds to
    /// wait.
    pub(super) fn refused(&self, from: IpAddr) -> Result<(), u64> {
        self.refused_at(from, Instant::now())
    }

    fn refused_at(&self, from: IpAddr, now: Instant) -> Result<(), u64> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.sweep(now);
        let sender = if budgets.is_full {
            Sender::Overflow
        } else {
            sender(from)
        };
        let next_arrival = budgets.next_arrivals.entry(sender).or_insert(now);
        let advanced = (*next_arrival).max(now) + self.interval;
        let wait = advanced.saturating_duration_since(now + self.burst);
        if wait.is_zero() {
            *next_arrival = advanced;
            return Ok(());
        }
        Err((wait + Duration::from_millis(999)).as_secs().max(1))
    }
}

impl Budgets {
    fn sweep(&mut self, now: Instant) {
        self.refusals += 1;
        if self.refusals == SWEEP_EVERY {
            self.refusals = 0;
            self.next_arrivals.retain(|_, next| *next > now);
            self.is_full = self.next_arrivals.len() >= MAX_SENDERS;
        }
    }
}

/// The sender of an address.
pub(super) fn sender(from: IpAddr) -> Sender {
    match from.to_canonical() {
        IpAddr::V4(v4) => Sender::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Sender::V6([a, b, c, d])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn senders(limiter: &Limiter) -> usize {
        limiter
            .budgets
            .lock()
            .expect("unpoisoned")
            .next_arrivals
            .len()
    }

    #[test]
    fn each_address_and_each_v6_network_has_its_own_budget() {
        let (limiter, now) = (Limiter::new(1, 2), Instant::now());
        let refused = |text| limiter.refused_at(ip(text), now);
        assert_eq!(
            [refused("192.0.2.1"), refused("::ffff:192.0.2.1")],
            [Ok(()), Ok(())]
        );
        assert_eq!(refused("192.0.2.1"), Err(1));
        assert_eq!(refused("192.0.2.2"), Ok(()));
        assert_eq!(
            [refused("2001:db8::1"), refused("2001:db8::2:1")],
            [Ok(()), Ok(())]
        );
        assert_eq!(refused("2001:db8::3"), Err(1));
        assert_eq!(refused("2001:db8:0:1::1"), Ok(()));
    }

    #[test]
    fn a_burst_is_followed_by_the_sustained_rate() {
        let (limiter, began, from) = (Limiter::new(2, 3), Instant::now(), ip("192.0.2.1"));
        let refused = |ms| limiter.refused_at(from, began + Duration::from_millis(ms));
        let burst = [refused(0), refused(0), refused(0), refused(0)];
        assert_eq!(burst, [Ok(()), Ok(()), Ok(()), Err(1)]);
        // One every 500 ms, however often it is called in between.
        assert_eq!(
            [refused(499), refused(500), refused(501), refused(1000)],
            [Err(1), Ok(()), Err(1), Ok(())]
        );
        // A pause restores the burst, and no more than the burst.
        let burst = [60_000; 4].map(refused);
        assert_eq!(burst, [Ok(()), Ok(()), Ok(()), Err(1)]);
    }

    #[test]
    fn the_wait_is_rounded_up_to_seconds() {
        let (limiter, began, from) = (Limiter::new(0, 0), Instant::now(), ip("192.0.2.1"));
        assert_eq!(limiter.refused_at(from, began), Ok(()));
        assert_eq!(limiter.refused_at(from, began), Err(1));
        let earlier = began
            .checked_sub(Duration::from_millis(1100))
            .expect("a running clock");
        assert_eq!(limiter.refused_at(from, earlier), Err(3));
    }

    #[test]
    fn memory_stays_bounded() {
        let (limiter, now) = (Limiter::new(1, 1_000), Instant::now());
        for n in 0..150_000_u32 {
            let _ = limiter.refused_at(IpAddr::V4(Ipv4Addr::from_bits(n)), now);
        }
        let known = senders(&limiter);
        assert!(known <= MAX_SENDERS + SWEEP_EVERY as usize + 1, "{known}");
    }

    #[test]
    fn drops_senders_without_recent_refusals() {
        let (limiter, began) = (Limiter::new(1_000, 10), Instant::now());
        for n in 0..100_000_u32 {
            let now = began + Duration::from_millis(n.into());
            let _ = limiter.refused_at(IpAddr::V4(Ipv4Addr::from_bits(n)), now);
        }
        let known = senders(&limiter);
        assert!(known <= SWEEP_EVERY as usize + 1, "{known}");
    }
}
