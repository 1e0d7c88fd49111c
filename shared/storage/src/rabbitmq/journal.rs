//! The journal: a stream of JSON lines, published to it directly.

use std::collections::HashSet;
use std::sync::Arc;

use lapin::types::AMQPValue;

use super::error::AmqpError;
use super::link::Link;
use super::publish::{OutboundMessage, Publisher};
use super::stream::StreamReader;
use super::topology;
use crate::journal;
use crate::ports::JournalEntry;
use crate::system::{SystemClock, SystemIds};

/// The most lines published at the same time.
const WRITE_BATCH: usize = 256;

/// Returns once all lines are confirmed.
pub(super) async fn record(
    publisher: &Arc<Publisher>,
    entries: Vec<JournalEntry>,
) -> Result<(), AmqpError> {
    let mut rest = entries.as_slice();
    while !rest.is_empty() {
        // Lines published at the same time may overtake each other. The last line for a key must stay the last.
        let mut keys = HashSet::new();
        let next = rest
            .iter()
            .take(WRITE_BATCH)
            .map(|entry| (entry.space.as_str(), entry.key.as_str()));
        let (some, later) = rest.split_at(next.take_while(|key| keys.insert(*key)).count());
        futures_util::future::try_join_all(
            some.iter().map(|entry| publisher.publish(message(entry))),
        )
        .await?;
        rest = later;
    }
    Ok(())
}

fn message(entry: &JournalEntry) -> OutboundMessage {
    OutboundMessage {
        // The default exchange routes to the queue named by the routing key.
        exchange: "",
        routing_key: topology::JOURNAL.to_owned(),
        properties: super::message::journal_properties(),
        body: serde_json::to_vec(entry).unwrap_or_default().into(),
    }
}

/// Records, before it happens, that deliveries are requeued long after they were received.
pub(super) async fn note_requeued(
    publisher: &Arc<Publisher>,
    received_ms: impl Iterator<Item = i64>,
) -> Result<(), AmqpError> {
    match received_ms.min() {
        Some(earliest_ms) => {
            let line = journal::requeued(earliest_ms, &SystemClock, &SystemIds);
            record(publisher, vec![line]).await
        }
        None => Ok(()),
    }
}

/// Passes the lines from `entry` on, a value of `x-stream-offset`, to `each`. Unreadable messages are skipped and logged.
pub(super) async fn read(
    link: &Arc<Link>,
    entry: AMQPValue,
    each: &mut (dyn FnMut(JournalEntry) + Send),
) -> Result<(), AmqpError> {
    let mut walk = StreamReader::begin(link, topology::JOURNAL, entry).await?;
    let mut unreadable = 0_u64;
    while let Some(message) = walk.next().await? {
        match serde_json::from_slice(&message.data) {
            Ok(entry) => each(entry),
            Err(_) => unreadable += 1,
        }
    }
    if unreadable > 0 {
        tracing::warn!(unreadable, "skipped unreadable lines of the journal");
    }
    Ok(())
}
