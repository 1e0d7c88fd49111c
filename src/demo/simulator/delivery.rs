//! Delivery as Stripe does it, and an application that retries: at least once, in no particular order. Pure and seeded.

use super::SimEvent;

/// Turns events into deliveries: neighbours change places, and some events are delivered a second
/// time later.
pub struct Delivery {
    rng: fastrand::Rng,
    /// Events whose second delivery is still due.
    pending: Vec<SimEvent>,
    duplicates: u64,
}

impl Delivery {
    /// Events change places within a window of this many.
    pub const WINDOW: usize = 8;
    /// One of this many events is delivered twice.
    pub const ONE_TWICE_OF: u32 = 10;

    pub fn new(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            pending: Vec::new(),
            duplicates: 0,
        }
    }

    /// All of `events`, shuffled, with some of the second deliveries that are due.
    pub fn deliver(&mut self, events: Vec<SimEvent>) -> Vec<SimEvent> {
        let mut deliveries = Vec::with_capacity(events.len() + 4);
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let mut window: Vec<SimEvent> = events.by_ref().take(Self::WINDOW).collect();
            let repeated: Vec<SimEvent> = window
                .iter()
                .filter(|_| self.rng.u32(0..Self::ONE_TWICE_OF) == 0)
                .cloned()
                .collect();
            let now = self.rng.usize(0..=self.pending.len());
            window.extend(self.pending.drain(..now));
            self.pending.extend(repeated);
            self.duplicates += now as u64;
            self.rng.shuffle(&mut window);
            deliveries.extend(window);
        }
        deliveries
    }

    /// The remaining second deliveries.
    pub fn flush(&mut self) -> Vec<SimEvent> {
        self.duplicates += self.pending.len() as u64;
        std::mem::take(&mut self.pending)
    }

    /// The number of second deliveries so far.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Sender;
    use super::*;

    #[test]
    fn every_event_is_delivered_some_twice_and_out_of_order() {
        let events: Vec<SimEvent> = (0..1000)
            .map(|i| SimEvent {
                sender: Sender::Stripe,
                kind: "x",
                created_s: i,
                body: i.to_string(),
            })
            .collect();
        let mut delivery = Delivery::new(7);
        let mut arrived: Vec<i64> = delivery
            .deliver(events)
            .iter()
            .map(|e| e.created_s)
            .collect();
        arrived.extend(delivery.flush().iter().map(|e| e.created_s));
        assert!(!arrived.is_sorted());
        assert_eq!(arrived.len() as u64, 1000 + delivery.duplicates());
        assert!(
            (60..150).contains(&delivery.duplicates()),
            "{}",
            delivery.duplicates()
        );
        arrived.sort_unstable();
        arrived.dedup();
        assert_eq!(arrived, (0..1000).collect::<Vec<_>>());
    }
}
