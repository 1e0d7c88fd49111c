//! The open connections of a port: at most so many in all and for each peer.
//!
//! Invariant: a connection without a complete request never keeps out one that has a request to send.
//! When all slots are taken (the port's, or the peer's own), the connection that has waited longest for a
//! complete request is closed and makes room; those that have sent a valid request before go last. So a
//! sender has as long for its request as others need to open that many connections. Only requests that
//! are being handled make others wait, and these end by their deadlines.
//!
//! Invariant: there are at most [`LEAVING`] more sockets than places. A connection that makes room gives up its
//! place at once and its socket a moment later; so the loop that accepts need not wait for that moment for each
//! connection of a flood, while other senders stand behind it.
//!
//! Invariant: there is an entry for each peer with an open connection, and no other: [`Bounds`] limits
//! the entries.
//!
//! [`Bounds`]: super::Bounds

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limiter::{Sender, sender};

pub(super) struct Slots {
    max: usize,
    max_per_peer: usize,
    taken: Mutex<Taken>,
    /// A connection has ended, or waits for its next request.
    changed: Notify,
}

/// One open connection. Dropping it releases its place.
pub(super) struct Slot {
    slots: Arc<Slots>,
    /// `None`: a trusted proxy.
    sender: Option<Sender>,
    progress: Mutex<Progress>,
    /// Another connection has got the place.
    evicted: CancellationToken,
}

/// Connections that have made room and are not closed yet.
const LEAVING: usize = 64;

/// Whether a connection was closed because another one needed its place.
#[derive(Debug, Clone)]
pub struct Eviction(CancellationToken);

impl Eviction {
    /// Whether it was.
    pub fn has_come(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// How far a connection's current request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// No byte has arrived since the connection began.
    New,
    /// No byte has arrived since the last answer.
    Idle,
    /// Bytes have arrived that do not form a request yet.
    Head,
    /// The headers are complete; the body may not be.
    Request,
    /// A request was answered before its body was read completely.
    AnsweredEarly,
}

/// All connections of the peer have a request in progress.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PeerIsFullError;

struct Progress {
    stage: Stage,
    since: Instant,
    turn: Option<Turn>,
}

/// The order in which waiting connections make room: first those without a valid request so far, and
/// the longest wait first.
type Turn = (bool, u64);

#[derive(Default)]
struct Taken {
    /// With a place. Those that are leaving have none any more, here and in `by_peer`.
    open: usize,
    leaving: usize,
    by_peer: HashMap<Sender, usize>,
    waiting: BTreeMap<Turn, Waiting>,
    next: u64,
}

struct Waiting {
    sender: Option<Sender>,
    evicted: CancellationToken,
}

enum Tried {
    Admitted(Slot),
    /// Every connection has a request in progress, or too many are leaving.
    Full,
}

impl Slots {
    pub(super) fn new(max: usize, max_per_peer: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_per_peer,
            taken: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// A place for one more connection of `peer`; `None` is a trusted proxy. Waits while every
    /// connection has a request in progress, and while too many are leaving.
    pub(super) async fn admit(
        self: &Arc<Self>,
        peer: Option<IpAddr>,
    ) -> Result<Slot, PeerIsFullError> {
        loop {
            match self.try_admit(peer.map(sender))? {
                Tried::Admitted(slot) => return Ok(slot),
                // A change since then is remembered, so it is not missed.
                Tried::Full => self.changed.notified().await,
            }
        }
    }

    fn try_admit(self: &Arc<Self>, sender: Option<Sender>) -> Result<Tried, PeerIsFullError> {
        let mut taken = self.lock();
        if taken.leaving >= LEAVING {
            return Ok(Tried::Full);
        }
        let of_peer = sender.and_then(|sender| taken.by_peer.get(&sender).copied());
        if of_peer.unwrap_or_default() >= self.max_per_peer {
            taken
                .evict(|waiting| waiting.sender == sender)
                .ok_or(PeerIsFullError)?;
        } else if taken.open >= self.max && taken.evict(|_| true).is_none() {
            return Ok(Tried::Full);
        }
        taken.open += 1;
        if let Some(sender) = sender {
            *taken.by_peer.entry(sender).or_default() += 1;
        }
        drop(taken);
        let slot = Slot {
            slots: self.clone(),
            sender,
            progress: Mutex::new(Progress {
                stage: Stage::New,
                since: Instant::now(),
                turn: None,
            }),
            evicted: CancellationToken::new(),
        };
        slot.progress().turn = Some(slot.wait(false));
        Ok(Tried::Admitted(slot))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The current stage, and since when.
    pub(super) fn stage(&self) -> (Stage, Instant) {
        let progress = self.progress();
        (progress.stage, progress.since)
    }

    /// Bytes have arrived from the sender.
    pub(super) fn received(&self) {
        let mut progress = self.progress();
        match progress.stage {
            // Its headers' time began with the connection.
            Stage::New => progress.stage = Stage::Head,
            Stage::Idle => progress.enter(Stage::Head),
            Stage::Head | Stage::Request | Stage::AnsweredEarly => {}
        }
    }

    /// The headers are complete.
    pub(super) fn requested(&self) {
        self.progress().enter(Stage::Request);
    }

    /// The request is complete: until it is answered, the connection keeps its place. False: it has to make room
    /// already, and nothing may be begun.
    #[must_use]
    pub(super) fn completed(&self) -> bool {
        let turn = self.progress().turn.take();
        if let Some(turn) = turn {
            // Who is not in this list cannot be evicted any more, so what follows stays true.
            self.slots.lock().waiting.remove(&turn);
        }
        !self.evicted.is_cancelled()
    }

    /// The request is answered. `is_valid`: the sender has shown that it is one of ours.
    pub(super) fn answered(&self, is_valid: bool) {
        if !self.completed() {
            return;
        }
        let turn = self.wait(is_valid);
        let mut progress = self.progress();
        progress.enter(Stage::Idle);
        progress.turn = Some(turn);
    }

    /// A request is answered whose body was not read completely.
    pub(super) fn answered_early(&self) {
        self.progress().enter(Stage::AnsweredEarly);
    }

    /// Ends when the connection must make room for another one.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Whether it must make room, also after it was dropped.
    pub(super) fn eviction(&self) -> Eviction {
        Eviction(self.evicted.clone())
    }

    fn wait(&self, is_valid: bool) -> Turn {
        let mut taken = self.slots.lock();
        let turn = (is_valid, taken.next);
        taken.next += 1;
        let waiting = Waiting {
            sender: self.sender,
            evicted: self.evicted.clone(),
        };
        taken.waiting.insert(turn, waiting);
        drop(taken);
        self.slots.changed.notify_one();
        turn
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let has_place = self.completed();
        let mut taken = self.slots.lock();
        if has_place {
            taken.release(self.sender);
        } else {
            taken.leaving -= 1;
        }
        drop(taken);
        self.slots.changed.notify_one();
    }
}

impl Progress {
    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.since = Instant::now();
    }
}

impl Taken {
    /// Lets the first of those that wait, and that `may` go, make room.
    fn evict(&mut self, may: impl Fn(&Waiting) -> bool) -> Option<()> {
        let (&turn, _) = self.waiting.iter().find(|(_, waiting)| may(waiting))?;
        let Waiting { sender, evicted } = self.waiting.remove(&turn)?;
        self.release(sender);
        self.leaving += 1;
        evicted.cancel();
        Some(())
    }

    fn release(&mut self, sender: Option<Sender>) {
        self.open -= 1;
        if let Some(sender) = sender
            && let Some(count) = self.by_peer.get_mut(&sender)
        {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&sender);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    /// Tries to admit a connection of `peer` once.
    fn admit(slots: &Arc<Slots>, peer: &str) -> Result<Tried, PeerIsFullError> {
        slots.try_admit(Some(sender(peer.parse().expect("an address"))))
    }

    fn admitted(slots: &Arc<Slots>, peer: &str) -> Slot {
        match admit(slots, peer) {
            Ok(Tried::Admitted(slot)) => slot,
            _ => panic!("{peer} has no slot"),
        }
    }

    fn busy(slots: &Arc<Slots>, peer: &str) -> Slot {
        let slot = admitted(slots, peer);
        slot.requested();
        assert!(slot.completed(), "it keeps its place");
        slot
    }

    #[test]
    fn a_request_that_becomes_complete_too_late_is_not_begun() {
        let slots = Slots::new(1, 1);
        let slot = admitted(&slots, "192.0.2.1");
        slot.requested();
        let next = admitted(&slots, "192.0.2.2");
        assert!(!slot.completed());
        // What it does from now on changes nothing.
        slot.answered(true);
        drop(slot);
        assert!(next.completed());
        assert!(matches!(admit(&slots, "192.0.2.3"), Ok(Tried::Full)));
    }

    #[test]
    fn each_peer_has_its_own_slots_and_a_v6_network_is_one_peer() {
        let slots = Slots::new(100, 2);
        let first = busy(&slots, "192.0.2.1");
        let second = busy(&slots, "::ffff:192.0.2.1");
        assert!(matches!(admit(&slots, "192.0.2.1"), Err(PeerIsFullError)));
        let others = ["192.0.2.2", "2001:db8::1", "2001:db8::2"].map(|peer| busy(&slots, peer));
        assert!(matches!(admit(&slots, "2001:db8::3"), Err(PeerIsFullError)));
        let proxied = [(); 3].map(|()| slots.try_admit(None).expect("no limit of its own"));
        assert!(
            proxied
                .iter()
                .all(|tried| matches!(tried, Tried::Admitted(_)))
        );
        drop(first);
        let again = busy(&slots, "192.0.2.1");
        drop((second, others, again, proxied));
        let taken = slots.lock();
        assert!(
            taken.by_peer.is_empty() && taken.waiting.is_empty() && taken.open == 0,
            "a peer without connections has no entry"
        );
        assert_eq!(taken.leaving, 0);
    }

    #[test]
    fn the_longest_wait_makes_room_and_valid_senders_go_last() {
        let slots = Slots::new(3, 3);
        let (valid, first, second) = (
            busy(&slots, "192.0.2.1"),
            admitted(&slots, "192.0.2.2"),
            admitted(&slots, "192.0.2.3"),
        );
        valid.answered(true);
        // Half a request is none.
        first.received();
        first.requested();
        let mut next = Vec::new();
        for expected in [&first, &second, &valid] {
            assert!(!expected.evicted.is_cancelled());
            next.push(busy(&slots, "192.0.2.9"));
            assert!(expected.evicted.is_cancelled());
        }
        assert!(matches!(admit(&slots, "192.0.2.8"), Ok(Tried::Full)));
        drop(second);
        assert!(matches!(admit(&slots, "192.0.2.8"), Ok(Tried::Full)));
        next.pop();
        admitted(&slots, "192.0.2.8");
    }

    #[test]
    fn a_peer_at_its_limit_displaces_only_its_own() {
        let slots = Slots::new(100, 2);
        let other = admitted(&slots, "192.0.2.1");
        let own = [(); 2].map(|()| admitted(&slots, "192.0.2.2"));
        let _next = admitted(&slots, "192.0.2.2");
        assert!(own[0].evicted.is_cancelled() && !own[1].evicted.is_cancelled());
        assert!(!other.evicted.is_cancelled());
    }

    #[tokio::test]
    async fn while_every_connection_has_a_request_the_next_one_waits() {
        let slots = Slots::new(1, 1);
        let slot = busy(&slots, "192.0.2.1");
        let mut next = Box::pin(slots.admit(Some([192, 0, 2, 2].into())));
        let mut waits = || {
            let context = &mut Context::from_waker(Waker::noop());
            next.as_mut().poll(context).is_pending()
        };
        assert!(waits());
        slot.answered(false);
        assert!(next.await.is_ok());
        assert!(slot.evicted.is_cancelled(), "it makes room");
    }

    #[test]
    fn only_so_many_may_be_leaving() {
        let slots = Slots::new(1, 1);
        let mut leaving = (0..=LEAVING)
            .map(|_| admitted(&slots, "192.0.2.1"))
            .collect::<Vec<_>>();
        for peer in ["192.0.2.1", "192.0.2.2"] {
            assert!(matches!(admit(&slots, peer), Ok(Tried::Full)));
        }
        leaving.remove(0);
        admitted(&slots, "192.0.2.2");
        leaving.clear();
        let taken = slots.lock();
        assert_eq!((taken.leaving, taken.open), (0, 0));
    }

    #[test]
    fn the_headers_time_begins_with_the_connection_and_later_with_their_first_byte() {
        let slots = Slots::new(1, 1);
        let slot = admitted(&slots, "192.0.2.1");
        let (_, began) = slot.stage();
        slot.received();
        assert_eq!(slot.stage(), (Stage::Head, began));
        slot.requested();
        slot.answered(true);
        let (stage, idle) = slot.stage();
        assert_eq!(stage, Stage::Idle);
        slot.received();
        let (stage, since) = slot.stage();
        assert!(stage == Stage::Head && since >= idle);
    }
}
