//! Reads the archive stream from a time up to its present end.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;

use super::error::AmqpError;
use super::link::Link;
use super::stream::StreamReader;
use super::{message, stream, topology};
use crate::ports::{Archive, Delivery, QueueError};

/// Stream positions use the broker's clock, deliveries ingest's.
const CLOCK_SKEW_MS: i64 = 600_000;

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
            walk: StreamReader::begin(
                link,
                topology::ARCHIVE,
                stream::since(from_ms.saturating_sub(CLOCK_SKEW_MS)),
            )
            .await?,
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
