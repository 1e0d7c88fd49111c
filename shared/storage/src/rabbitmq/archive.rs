//! Reads the archive stream from a time up to its present end.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use lapin::types::AMQPValue;

use super::error::AmqpError;
use super::link::Link;
use super::stream::StreamReader;
use super::{message, topology};
use crate::ports::{Archive, Delivery, QueueError};

/// Stream positions use the broker's clock, deliveries ingest's.
const CLOCK_SKEW_SECONDS: i64 = 600;

/// Every delivery received at or after a time.
pub(super) struct ArchiveReader {
    walk: StreamReader,
    from_ms: i64,
    /// The deliveries of the last message that did not fit into the page.
    rest: VecDeque<Delivery>,
}

impl ArchiveReader {
    pub(super) async fn begin(link: &Arc<Link>, from_ms: i64) -> Result<Self, AmqpError> {
        Ok(Self {
            walk: StreamReader::begin(link, topology::ARCHIVE, entry(from_ms)).await?,
            from_ms,
            rest: VecDeque::new(),
        })
    }
}

#[async_trait]
impl Archive for ArchiveReader {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let max = max.max(1);
        while self.rest.len() < max {
            let Some(archived) = self.walk.next().await? else {
                break;
            };
            let deliveries = message::deliveries(archived, 0).into_iter();
            let wanted = deliveries.filter(|delivery| delivery.received_ms >= self.from_ms);
            self.rest.extend(wanted);
        }
        let page = self.rest.len().min(max);
        Ok(self.rest.drain(..page).collect())
    }
}

/// The start position in the stream. Chunks are found by the time they were written, which is later than
/// the time at which ingest received their deliveries.
fn entry(from_ms: i64) -> AMQPValue {
    match u64::try_from(from_ms / 1000 - CLOCK_SKEW_SECONDS) {
        Ok(seconds) if seconds > 0 => AMQPValue::Timestamp(seconds),
        _ => AMQPValue::LongString("first".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_all_streams_is_their_beginning() {
        let first = AMQPValue::LongString("first".into());
        assert_eq!(
            [entry(i64::MIN), entry(0), entry(600_000)],
            [first.clone(), first.clone(), first]
        );
        assert_eq!(
            entry(1_700_000_000_999),
            AMQPValue::Timestamp(1_700_000_000 - 600)
        );
    }
}
