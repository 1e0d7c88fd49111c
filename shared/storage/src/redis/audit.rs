//! The audit trail.

use async_trait::async_trait;
use redis::streams::StreamRangeReply;

use super::handle::RedisStore;
use super::keys;
use super::streams::{from_json, stream_id};
use crate::ports::{AuditEntry, AuditTrail, StoreError};

#[async_trait]
impl AuditTrail for RedisStore {
    /// The newest entry is the one committed last; within a millisecond, the one that happened last according to Stripe.
    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let partitions = self
            .each_partition(|partition| async move {
                let mut cmd = redis::cmd("XREVRANGE");
                cmd.arg(keys::audit(partition))
                    .arg("+")
                    .arg("-")
                    .arg("COUNT")
                    .arg(limit);
                self.link.run::<StreamRangeReply>(&cmd).await
            })
            .await?;
        let mut entries = Vec::new();
        for line in partitions.into_iter().flat_map(|reply| reply.ids) {
            let (millisecond, number) = stream_id(&line.id)?;
            let entry: AuditEntry = from_json(&line.map, "an audit entry")?;
            entries.push(((millisecond, entry.at_s, number), entry));
        }
        entries.sort_by_key(|(order, _)| std::cmp::Reverse(*order));
        Ok(entries
            .into_iter()
            .map(|(_, entry)| entry)
            .take(limit)
            .collect())
    }
}
