//! The queue and the archive: one table, and a cursor per partition.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::handle::{Sqlite, queue_error};
use crate::ports::{
    Archive, Consume, Consumer, Delivery, EventQueue, FIRST_DELIVERIES, Probed, Publish,
    QueueError, Replay,
};

#[async_trait]
impl Publish for Sqlite {
    fn partitions(&self) -> u32 {
        self.partition_count()
    }

    async fn publish(&self, delivery: Delivery) -> Result<(), QueueError> {
        let partition = delivery.partition;
        self.takes(partition)?;
        self.write(move |c| insert(c, &delivery))
            .await
            .map_err(queue_error)?;
        self.0.published[partition as usize].notify_waiters();
        Ok(())
    }

    async fn probe(&self) -> Result<Probed, QueueError> {
        self.takes(0)?;
        // A transaction that changes nothing writes nothing.
        let now_ms = self.0.clock.now_ms();
        self.write(move |c| {
            c.prepare_cached("INSERT OR REPLACE INTO meta VALUES ('probed_ms', ?1)")?
                .execute([now_ms.to_string()])
        })
        .await
        .map_err(queue_error)?;
        Ok(Probed::default())
    }
}

#[async_trait]
impl Consume for Sqlite {
    async fn consume(&self, partition: u32) -> Result<Box<dyn Consumer>, QueueError> {
        self.takes(partition)?;
        // Read by the writer, so that acknowledgements of this process are included.
        let at = self
            .write(move |c| {
                c.prepare_cached(
                    "SELECT coalesce((SELECT id FROM cursors WHERE partition = ?1), ?2)",
                )?
                .query_row(params![partition, first_id(partition) - 1], |row| {
                    row.get(0)
                })
            })
            .await
            .map_err(queue_error)?;
        Ok(Box::new(Cursor {
            db: self.clone(),
            partition,
            at,
            acknowledged: at,
        }))
    }

    async fn depth(&self) -> Result<Vec<u64>, QueueError> {
        let partitions = self.partition_count();
        self.read(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT coalesce((SELECT max(id) FROM archive WHERE id BETWEEN ?1 AND ?2), ?1 - 1)
                      - coalesce((SELECT id FROM cursors WHERE partition = ?3), ?1 - 1)",
            )?;
            (0..partitions)
                .map(|p| {
                    let waiting: i64 = statement
                        .query_row(params![first_id(p), first_id(p + 1) - 1, p], |r| r.get(0))?;
                    Ok(u64::try_from(waiting).unwrap_or(0))
                })
                .collect()
        })
        .await
        .map_err(queue_error)
    }
}

#[async_trait]
impl Replay for Sqlite {
    async fn archive(&self, from_ms: i64) -> Result<Box<dyn Archive>, QueueError> {
        let partitions = self.partition_count();
        let ends = self
            .read(move |c| {
                let mut end = c.prepare_cached(
                    "SELECT ifnull(max(id), 0) FROM archive WHERE id BETWEEN ?1 AND ?2",
                )?;
                (0..partitions)
                    .map(|p| end.query_row([first_id(p), first_id(p + 1) - 1], |row| row.get(0)))
                    .collect()
            })
            .await
            .map_err(queue_error)?;
        Ok(Box::new(ArchiveCursor {
            db: self.clone(),
            from_ms,
            ends,
            partition: 0,
            after: 0,
        }))
    }

    fn is_apart(&self) -> bool {
        false
    }

    async fn oldest_ms(&self) -> Result<Option<i64>, QueueError> {
        let partitions = self.partition_count();
        self.read(move |c| oldest_ms(c, partitions))
            .await
            .map_err(queue_error)
    }
}

#[async_trait]
impl EventQueue for Sqlite {
    async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        // After this write every acknowledgement is on disk.
        let _ = self.write(|_| Ok(())).await;
    }
}

impl Sqlite {
    pub(super) fn takes(&self, partition: u32) -> Result<(), QueueError> {
        if partition >= self.partition_count() {
            return Err(QueueError::Misconfigured(format!(
                "there is no partition {partition}"
            )));
        }
        if self.0.closed.load(Ordering::Acquire) {
            return Err(QueueError::Unavailable("the queue was closed".into()));
        }
        Ok(())
    }
}

/// Reads a partition from its last acknowledgement.
struct Cursor {
    db: Sqlite,
    partition: u32,
    /// The last id returned.
    at: i64,
    /// The last id acknowledged.
    acknowledged: i64,
}

#[async_trait]
impl Consumer for Cursor {
    async fn ready(&mut self) -> Result<(), QueueError> {
        loop {
            // Created before the check, so that a publish in between wakes this consumer.
            let published = self.db.0.published[self.partition as usize].notified();
            let ids = [self.at, first_id(self.partition + 1)];
            let check = "SELECT EXISTS (SELECT 1 FROM archive WHERE id > ?1 AND id < ?2)";
            let is_there = self
                .db
                .read(move |c| c.prepare_cached(check)?.query_row(ids, |row| row.get(0)));
            if is_there.await.map_err(queue_error)? {
                return Ok(());
            }
            published.await;
        }
    }

    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let db = self.db.clone();
        let (partition, limit) = (
            self.partition,
            i64::try_from(max.max(1)).unwrap_or(i64::MAX),
        );
        loop {
            // Created before the check, so that a publish in between wakes this consumer.
            let published = db.0.published[partition as usize].notified();
            let after = self.at;
            let found = db
                .read(move |c| page(c, partition, after, limit))
                .await
                .map_err(queue_error)?;
            if let Some((last, _)) = found.last() {
                self.at = *last;
                return Ok(found.into_iter().map(|(_, delivery)| delivery).collect());
            }
            published.await;
        }
    }

    /// Goes into the writer's next transaction and is not awaited. As with RabbitMQ, an acknowledgement lost in a crash
    /// only means redelivery, and dedupe keys make that harmless.
    async fn ack(&mut self) -> Result<(), QueueError> {
        let (partition, at) = (self.partition, self.at);
        if at == self.acknowledged {
            return Ok(());
        }
        let noting = self.db.begin_write(move |c| {
            c.prepare_cached("INSERT INTO cursors VALUES (?1, ?2) ON CONFLICT DO UPDATE SET id = max(id, excluded.id)")?
                .execute(params![partition, at])
        });
        drop(noting.await.map_err(queue_error)?);
        self.acknowledged = at;
        Ok(())
    }
}

/// Reads the archive, one partition after the other.
struct ArchiveCursor {
    db: Sqlite,
    from_ms: i64,
    /// The last id of each partition.
    ends: Vec<i64>,
    partition: u32,
    after: i64,
}

#[async_trait]
impl Archive for ArchiveCursor {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let limit = i64::try_from(max.max(1)).unwrap_or(i64::MAX);
        while let Some(end) = self.ends.get(self.partition as usize).copied() {
            let (partition, after) = (self.partition, self.after.max(first_id(self.partition) - 1));
            let page = if after < end {
                self.db
                    .read(move |c| page(c, partition, after, limit))
                    .await
                    .map_err(queue_error)?
            } else {
                Vec::new()
            };
            match page.last() {
                Some((last, _)) => self.after = *last,
                None => self.partition += 1,
            }
            let wanted = page
                .into_iter()
                .filter(|(id, d)| *id <= end && d.received_ms >= self.from_ms);
            let wanted: Vec<Delivery> = wanted.map(|(_, delivery)| delivery).collect();
            if !wanted.is_empty() {
                return Ok(wanted);
            }
        }
        Ok(Vec::new())
    }
}

/// Partitions are consecutive ranges of ids, each with room for 2^40 deliveries.
fn first_id(partition: u32) -> i64 {
    (i64::from(partition) << 40) + 1
}

/// Compares the first deliveries of each partition: there is no index by time, and the bodies may be gigabytes.
fn oldest_ms(connection: &Connection, partitions: u32) -> rusqlite::Result<Option<i64>> {
    let mut oldest = connection.prepare_cached(
        "SELECT min(received_ms) FROM
           (SELECT received_ms FROM archive WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)",
    )?;
    let of_partitions: Vec<Option<i64>> = (0..partitions)
        .map(|p| {
            let range = (first_id(p), first_id(p + 1) - 1);
            oldest.query_row(params![range.0, range.1, FIRST_DELIVERIES], |row| {
                row.get(0)
            })
        })
        .collect::<rusqlite::Result<_>>()?;
    Ok(of_partitions.into_iter().flatten().min())
}

/// When the last delivery of all partitions was received, in Unix milliseconds.
pub(super) fn newest_ms(connection: &Connection, partitions: u32) -> rusqlite::Result<Option<i64>> {
    let mut newest = connection.prepare_cached(
        "SELECT received_ms FROM archive WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1",
    )?;
    let mut of_all = None;
    for partition in 0..partitions {
        let range = [first_id(partition), first_id(partition + 1) - 1];
        let of_partition = newest.query_row(range, |row| row.get(0)).optional()?;
        of_all = of_all.max(of_partition);
    }
    Ok(of_all)
}

/// Drops acknowledged deliveries that were received before `before_ms`: the oldest of each partition,
/// some at a time, so that the writer is not blocked for long.
pub(super) fn prune(
    connection: &Connection,
    partitions: u32,
    before_ms: i64,
) -> rusqlite::Result<()> {
    const MAX_ROWS_PER_RUN: u32 = 2000;
    let mut oldest = connection.prepare_cached(
        "SELECT received_ms < ?3 FROM archive WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1",
    )?;
    let mut delete = connection.prepare_cached(
        "DELETE FROM archive WHERE received_ms < ?3 AND id IN (
           SELECT id FROM archive WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?4)",
    )?;
    let mut cursor = connection.prepare_cached("SELECT id FROM cursors WHERE partition = ?1")?;
    for partition in 0..partitions {
        let Some(acknowledged): Option<i64> =
            cursor.query_row([partition], |row| row.get(0)).optional()?
        else {
            continue;
        };
        let range = (first_id(partition), acknowledged);
        let due = oldest
            .query_row(params![range.0, range.1, before_ms], |row| row.get(0))
            .optional()?;
        if due == Some(true) {
            delete.execute(params![range.0, range.1, before_ms, MAX_ROWS_PER_RUN])?;
        }
    }
    Ok(())
}

/// Ids continue even after the archive was pruned up to the cursor.
pub(super) fn insert(connection: &Connection, delivery: &Delivery) -> rusqlite::Result<usize> {
    let first = first_id(delivery.partition);
    connection
        .prepare_cached(
            "INSERT INTO archive (id, delivery, event_id, event_type, endpoint, received_ms, traceparent, body)
             VALUES (1 + max(coalesce((SELECT max(id) FROM archive WHERE id BETWEEN ?1 AND ?2), ?1 - 1),
                             coalesce((SELECT id FROM cursors WHERE partition = ?3), ?1 - 1)),
                     ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            first,
            first_id(delivery.partition + 1) - 1,
            delivery.partition,
            delivery.id.as_bytes(),
            delivery.event_id,
            delivery.event_type,
            delivery.endpoint,
            delivery.received_ms,
            delivery.traceparent,
            delivery.body.as_ref()
        ])
}

/// The columns of a delivery, as [`delivery`] reads them.
pub(super) const DELIVERY: &str =
    "delivery, event_id, event_type, endpoint, received_ms, traceparent, body";

fn page(
    connection: &Connection,
    partition: u32,
    after: i64,
    limit: i64,
) -> rusqlite::Result<Vec<(i64, Delivery)>> {
    connection
        .prepare_cached(&format!(
            "SELECT id, {DELIVERY} FROM archive WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3"
        ))?
        .query_map(params![after, first_id(partition + 1), limit], |row| {
            Ok((row.get(0)?, delivery(row, 1, partition)?))
        })?
        .collect()
}

pub(super) fn delivery(row: &Row<'_>, from: usize, partition: u32) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        id: Uuid::from_bytes(row.get(from)?),
        event_id: row.get(from + 1)?,
        event_type: row.get(from + 2)?,
        partition,
        endpoint: row.get(from + 3)?,
        received_ms: row.get(from + 4)?,
        traceparent: row.get(from + 5)?,
        body: Bytes::from(row.get::<_, Vec<u8>>(from + 6)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_acknowledged_deliveries_are_pruned_and_ids_continue() {
        let c = Connection::open_in_memory().expect("a database");
        c.execute_batch(include_str!("schema.sql"))
            .expect("the schema");
        let add = |partition, received_ms| {
            let delivery = Delivery {
                id: Uuid::from_u128(1),
                event_id: "evt_1".into(),
                event_type: "payout.paid".into(),
                partition,
                endpoint: "stripe".into(),
                received_ms,
                traceparent: None,
                body: Bytes::new(),
            };
            insert(&c, &delivery).expect("inserted");
        };
        let kept = || -> Vec<(i64, i64)> {
            let mut all = c
                .prepare("SELECT id, received_ms FROM archive ORDER BY id")
                .expect("prepared");
            all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .expect("rows")
                .map(|r| r.expect("a row"))
                .collect()
        };
        for received_ms in [10, 20, 30] {
            add(0, received_ms);
            add(1, received_ms);
        }
        c.execute("INSERT INTO cursors VALUES (0, ?1)", [first_id(0) + 2])
            .expect("acknowledged");
        prune(&c, 2, 25).expect("pruned");
        let second = first_id(1);
        assert_eq!(
            kept(),
            [(3, 30), (second, 10), (second + 1, 20), (second + 2, 30)]
        );
        assert_eq!(newest_ms(&c, 2).expect("read"), Some(30));
        prune(&c, 2, 99).expect("pruned");
        add(0, 100);
        assert_eq!(newest_ms(&c, 2).expect("read"), Some(100));
        assert_eq!(kept()[0], (4, 100), "an id is never reused");
    }
}
