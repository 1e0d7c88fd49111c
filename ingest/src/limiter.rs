//! Counts refusals by address and reports when an address exceeds its limit.
//!
//! Invariant: memory is bounded, whatever is sent. Entries that are indistinguishable from a new
//! address are dropped every [`SWEEP_EVERY`] refusals, and beyond [`MAX_ADDRESSES`] all addresses
//! share one budget.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

/// The unit that shares one budget of refusals, and of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    V4(Ipv4Addr),
    /// A /64: the smallest network that a single customer is usually assigned.
    V6([u16; 4]),
    /// All senders, while the table is full. Harmless: signed requests are not limited.
    Overflow,
}

pub(crate) struct Limiter {
    budgets: DefaultKeyedRateLimiter<Sender>,
    clock: DefaultClock,
    refusals: AtomicU32,
    full: AtomicBool,
}

const SWEEP_EVERY: u32 = 1024;
const MAX_ADDRESSES: usize = 65_536;

impl Limiter {
    /// Allows `per_second` refusals sustained and bursts of `burst`; zero counts as one.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst));
        Self {
            budgets: DefaultKeyedRateLimiter::keyed(quota),
            clock: DefaultClock::default(),
            refusals: AtomicU32::new(0),
            full: AtomicBool::new(false),
        }
    }

    /// Counts one refusal. `Err` means that the address is over its limit, and holds the seconds to
    /// wait.
    pub(crate) fn refused(&self, from: IpAddr) -> Result<(), u64> {
        if self.refusals.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.budgets.retain_recent();
            self.full
                .store(self.budgets.len() >= MAX_ADDRESSES, Ordering::Relaxed);
        }
        let sender = if self.full.load(Ordering::Relaxed) {
            Sender::Overflow
        } else {
            sender(from)
        };
        self.budgets.check_key(&sender).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            (wait + Duration::from_millis(999)).as_secs().max(1)
        })
    }
}

/// The sender of an address.
pub(crate) fn sender(from: IpAddr) -> Sender {
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

    #[test]
    fn each_address_and_each_v6_network_has_its_own_budget() {
        let limiter = Limiter::new(1, 2);
        assert_eq!(
            [
                limiter.refused(ip("192.0.2.1")),
                limiter.refused(ip("::ffff:192.0.2.1"))
            ],
            [Ok(()), Ok(())]
        );
        assert_eq!(limiter.refused(ip("192.0.2.1")), Err(1));
        assert_eq!(limiter.refused(ip("192.0.2.2")), Ok(()));
        assert_eq!(
            [
                limiter.refused(ip("2001:db8::1")),
                limiter.refused(ip("2001:db8::2:1"))
            ],
            [Ok(()), Ok(())]
        );
        assert_eq!(limiter.refused(ip("2001:db8::3")), Err(1));
        assert_eq!(limiter.refused(ip("2001:db8:0:1::1")), Ok(()));
    }

    #[test]
    fn memory_stays_bounded() {
        // One refusal expires only after a second, so nothing is swept during the test.
        let limiter = Limiter::new(1, 1_000);
        for n in 0..150_000_u32 {
            let _ = limiter.refused(IpAddr::V4(Ipv4Addr::from_bits(n)));
        }
        assert!(
            limiter.budgets.len() <= MAX_ADDRESSES + SWEEP_EVERY as usize + 1,
            "{}",
            limiter.budgets.len()
        );
    }

    #[test]
    fn drops_addresses_without_recent_refusals() {
        // A refusal expires after a microsecond.
        let limiter = Limiter::new(1_000_000, 10);
        for n in 0..100_000_u32 {
            let _ = limiter.refused(IpAddr::V4(Ipv4Addr::from_bits(n)));
        }
        assert!(
            limiter.budgets.len() <= 2 * SWEEP_EVERY as usize,
            "{}",
            limiter.budgets.len()
        );
    }
}
