//! Reads open conditions and their changes.

use async_trait::async_trait;
use redis::streams::StreamRangeReply;
use revwatch_core::condition::Condition;
use revwatch_core::redact;

use super::handle::RedisStore;
use super::keys;
use super::scan::Scan;
use super::streams::{from_json, stream_id};
use crate::ports::{ChangeCursor, Changes, ConditionChange, ConditionFeed, DueWindow, StoreError};

#[async_trait]
impl ConditionFeed for RedisStore {
    async fn conditions(&self) -> Result<Vec<Condition>, StoreError> {
        let partitions = self
            .each_partition(|partition| self.partition_conditions(partition))
            .await?;
        Ok(partitions.into_iter().flatten().collect())
    }

    async fn conditions_due(&self, windows: &[DueWindow]) -> Result<Vec<Condition>, StoreError> {
        if windows.is_empty() {
            return Ok(Vec::new());
        }
        let partitions = self
            .each_partition(|partition| async move {
                let mut ranges = redis::pipe();
                for DueWindow { after_s, until_s } in windows {
                    let range = ranges.cmd("ZRANGE").arg(keys::due(partition));
                    range.arg(format!("({after_s}")).arg(until_s).arg("BYSCORE");
                }
                let members: Vec<String> = self
                    .link
                    .pipeline::<Vec<Vec<String>>>(&ranges)
                    .await?
                    .concat();
                if members.is_empty() {
                    return Ok(Vec::new());
                }
                let mut fetch = redis::cmd("HMGET");
                fetch.arg(keys::conditions(partition)).arg(members);
                let found: Vec<Option<Vec<u8>>> = self.link.run(&fetch).await?;
                // A missing condition was closed between the two requests.
                found
                    .into_iter()
                    .flatten()
                    .map(|value| condition(&value))
                    .collect()
            })
            .await?;
        // A condition that changed between the two requests may not be due any more.
        let due = |condition: &Condition| {
            windows
                .iter()
                .any(|window| window.after_s < condition.due_s && condition.due_s <= window.until_s)
        };
        Ok(partitions.into_iter().flatten().filter(due).collect())
    }

    async fn condition_changes(
        &self,
        cursor: &ChangeCursor,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        let share = (limit / self.partitions as usize).max(1);
        let mut partitions = self
            .each_partition(|partition| {
                self.partition_changes(partition, cursor.get(&partition).copied(), share)
            })
            .await?;
        // What some partitions leave of the limit goes to those with more changes: a burst is often one account's
        // and thus in one partition.
        let left = limit.saturating_sub(partitions.iter().map(|found| found.changes.len()).sum());
        let hot = partitions.iter().filter(|found| found.more).count();
        if let Some(share) = left.checked_div(hot).filter(|share| *share > 0) {
            let found = &partitions;
            let further = self
                .each_partition(|partition| async move {
                    match found.get(partition as usize).filter(|found| found.more) {
                        Some(found) => self
                            .partition_changes(partition, found.seen, share)
                            .await
                            .map(Some),
                        None => Ok(None),
                    }
                })
                .await?;
            for (found, further) in partitions.iter_mut().zip(further) {
                if let Some(further) = further {
                    found.go_on(further);
                }
            }
        }
        let mut all = Changes::default();
        for (partition, found) in (0..).zip(partitions) {
            all.changes.extend(found.changes);
            all.gap |= found.gap;
            all.more |= found.more;
            if let Some(seen) = found.seen {
                all.cursor.insert(partition, seen);
            }
        }
        Ok(all)
    }
}

impl RedisStore {
    pub(super) async fn partition_conditions(
        &self,
        partition: u32,
    ) -> Result<Vec<Condition>, StoreError> {
        let mut found = Vec::new();
        let mut scan = Scan::new(keys::conditions(partition));
        while let Some(page) = self.next_page(&mut scan).await? {
            for (_, value) in page {
                found.push(condition(&value)?);
            }
        }
        Ok(found)
    }

    /// The change at the cursor is read again: only if it still exists is nothing missing between it and
    /// the next one. It is missing if the stream was trimmed or the server lost data, because a sequence
    /// number is never reused.
    async fn partition_changes(
        &self,
        partition: u32,
        seen: Option<u64>,
        share: usize,
    ) -> Result<Found, StoreError> {
        // One more than requested shows whether there are more.
        let count = share.saturating_add(1);
        let mut range = redis::cmd("XRANGE");
        range.arg(keys::changes(partition));
        match seen {
            Some(seen) => range
                .arg(format!("{seen}-0"))
                .arg("+")
                .arg("COUNT")
                .arg(count.saturating_add(1)),
            None => range.arg("-").arg("+").arg("COUNT").arg(count),
        };
        let reply: StreamRangeReply = self.link.run(&range).await?;
        let mut found = Found {
            changes: Vec::with_capacity(reply.ids.len()),
            seen,
            gap: false,
            more: false,
        };
        let mut entries = reply.ids.into_iter();
        if let Some(seen) = seen {
            let anchor = entries
                .next()
                .map(|entry| stream_id(&entry.id))
                .transpose()?;
            if anchor != Some((seen, 0)) {
                let seen = self.last_change(partition).await?;
                return Ok(Found {
                    changes: Vec::new(),
                    seen,
                    gap: true,
                    more: false,
                });
            }
        }
        found.more = entries.len() > share;
        for entry in entries.take(share) {
            found.seen = Some(stream_id(&entry.id)?.0);
            found
                .changes
                .push(from_json(&entry.map, "a condition change")?);
        }
        Ok(found)
    }

    async fn last_change(&self, partition: u32) -> Result<Option<u64>, StoreError> {
        let mut newest = redis::cmd("XREVRANGE");
        newest
            .arg(keys::changes(partition))
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1);
        let reply: StreamRangeReply = self.link.run(&newest).await?;
        reply
            .ids
            .first()
            .map(|entry| Ok(stream_id(&entry.id)?.0))
            .transpose()
    }
}

/// The changes of one partition.
struct Found {
    changes: Vec<ConditionChange>,
    seen: Option<u64>,
    gap: bool,
    more: bool,
}

impl Found {
    fn go_on(&mut self, further: Self) {
        self.changes.extend(further.changes);
        (self.seen, self.gap, self.more) = (further.seen, further.gap, further.more);
    }
}

fn condition(json: &[u8]) -> Result<Condition, StoreError> {
    serde_json::from_slice(json)
        .map_err(|err| StoreError::Corrupt(format!("an open condition, {}", redact::place(&err))))
}
