//! Open connections by peer, and how many one peer may have.
//!
//! Invariant: there is an entry per peer that has a connection open, and no other: `limits.connections` bounds them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limiter::{Sender, sender};

pub(crate) struct Peers {
    most_each: usize,
    open: Mutex<HashMap<Sender, usize>>,
}

/// One open connection. Dropped, it is open no longer.
pub(crate) struct PeerSlot {
    peers: Arc<Peers>,
    of: Sender,
}

impl Peers {
    pub(crate) fn new(most_each: usize) -> Arc<Self> {
        Arc::new(Self {
            most_each,
            open: Mutex::default(),
        })
    }

    /// Counts one more connection of `peer`; `None` if it has as many as it may.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<PeerSlot> {
        let of = sender(peer);
        let mut open = self.lock();
        let count = open.entry(of).or_default();
        if *count >= self.most_each {
            return None;
        }
        *count += 1;
        Some(PeerSlot {
            peers: self.clone(),
            of,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Sender, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PeerSlot {
    fn drop(&mut self) {
        let mut open = self.peers.lock();
        if let Some(count) = open.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_places_and_a_v6_network_is_one_peer() {
        let peers = Peers::new(2);
        let admit = |address: &str| peers.admit(address.parse().expect("an address"));
        let first = admit("192.0.2.1").expect("a place");
        let second = admit("::ffff:192.0.2.1").expect("a place");
        assert!(admit("192.0.2.1").is_none());
        let others: Vec<_> = ["192.0.2.2", "2001:db8::1", "2001:db8::2"]
            .iter()
            .map(|address| admit(address))
            .collect();
        assert!(others.iter().all(Option::is_some) && admit("2001:db8::3").is_none());
        drop(first);
        let again = admit("192.0.2.1");
        assert!(again.is_some() && admit("192.0.2.1").is_none());
        drop((second, others, again));
        assert!(
            peers.lock().is_empty(),
            "who has no connection is forgotten"
        );
    }
}
