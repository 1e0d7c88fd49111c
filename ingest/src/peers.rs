//! Open connections by peer, and the limit per peer.
//!
//! Invariant: there is an entry for each peer with an open connection, and no other:
//! `limits.connections` bounds the entries.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limiter::{Sender, sender};

pub(crate) struct Peers {
    max_per_peer: usize,
    open: Mutex<HashMap<Sender, usize>>,
}

/// One open connection. Dropping it decrements the peer's count.
pub(crate) struct PeerSlot {
    peers: Arc<Peers>,
    sender: Sender,
}

impl Peers {
    pub(crate) fn new(max_per_peer: usize) -> Arc<Self> {
        Arc::new(Self {
            max_per_peer,
            open: Mutex::default(),
        })
    }

    /// Counts one more connection of `peer`; `None` if the peer is at its limit.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<PeerSlot> {
        let sender = sender(peer);
        let mut open = self.lock();
        let count = open.entry(sender).or_default();
        if *count >= self.max_per_peer {
            return None;
        }
        *count += 1;
        Some(PeerSlot {
            peers: self.clone(),
            sender,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Sender, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PeerSlot {
    fn drop(&mut self) {
        let mut open = self.peers.lock();
        if let Some(count) = open.get_mut(&self.sender) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.sender);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own_slots_and_a_v6_network_is_one_peer() {
        let peers = Peers::new(2);
        let admit = |address: &str| peers.admit(address.parse().expect("an address"));
        let first = admit("192.0.2.1").expect("a slot");
        let second = admit("::ffff:192.0.2.1").expect("a slot");
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
            "a peer without connections has no entry"
        );
    }
}
