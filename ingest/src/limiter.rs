//! Counts refusals by address and says when an address has had too many.
//!
//! Invariant: bounded memory whatever is sent. What is indistinguishable from a new address is
//! forgotten every [`SWEEP_EVERY`] refusals, and beyond [`MAX_ADDRESSES`] all share one budget.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

/// Who shares one budget of refusals, and of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    V4(Ipv4Addr),
    /// A /64: the smallest network a single customer is usually given.
    V6([u16; 4]),
    /// Everybody, while the table is full. Harmless: what is signed is not limited.
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
    /// `per_second` sustained, `burst` at once; zero counts as one.
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

    /// Counts one refusal. `Err` says that the address is over its limit, and for how many seconds.
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

/// Whose address it is.
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
    fn each_address_has_its_own_budget_and_a_v6_network_has_one() {
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
        // One refusal is forgiven only after a second, so that nothing is swept meanwhile.
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
    fn forgets_who_has_been_quiet() {
        // A refusal is forgiven after a microsecond.
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
