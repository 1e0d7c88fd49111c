//! Events, from their JSON through to the committed state and what is read of it.

use std::collections::BTreeSet;

use bytes::Bytes;
use revwatch_core::app_event::AppEvent;
use revwatch_core::event::Event;
use revwatch_core::source::Source;
use revwatch_storage::ports::Delivery;
use uuid::Uuid;

use crate::NOW_S;
use crate::state::{State, of_state};

/// One event per line, of different ids: Stripe's, or of the application.
///
/// Together and in this order, or one by one from the last to the first: the state is the same. Its sums are those of
/// the entities. Everything that shows it can do so.
pub fn events(data: &[u8]) {
    let deliveries = deliveries(data);
    let mut together = State::default();
    together.apply(&deliveries);
    let mut reversed = State::default();
    for delivery in deliveries.iter().rev() {
        reversed.apply(std::slice::from_ref(delivery));
    }
    let (seen, other) = (together.seen(), reversed.seen());
    assert_eq!(
        seen.entities, other.entities,
        "another order, other entities"
    );
    assert_eq!(
        seen.conditions, other.conditions,
        "another order, other conditions"
    );
    assert_eq!(
        of_state(&seen.counters),
        of_state(&other.counters),
        "another order, other sums"
    );
    seen.show();
}

/// More are only slower.
const MAX_EVENTS: usize = 64;

/// An event that comes again with other content has the content that came first, so each comes one time.
fn deliveries(data: &[u8]) -> Vec<Delivery> {
    let mut ids = BTreeSet::new();
    let lines = data
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let deliveries = lines
        .take(MAX_EVENTS)
        .zip(1..)
        .filter_map(|(body, number)| {
            let source = match AppEvent::parse(body) {
                Ok(_) => Source::App,
                Err(_) => Source::Stripe,
            };
            let (event_id, event_type) = match Event::read_head(source, body) {
                Ok(event) => (event.id.into_owned(), event.kind.into_owned()),
                Err(_) => (format!("unreadable_{number}"), "unreadable".to_owned()),
            };
            ids.insert(event_id.clone()).then(|| Delivery {
                id: Uuid::from_u128(number),
                event_id,
                event_type,
                partition: 0,
                endpoint: "stripe".to_owned(),
                received_ms: NOW_S * 1000,
                traceparent: None,
                body: Bytes::copy_from_slice(body),
            })
        });
    deliveries.collect()
}
