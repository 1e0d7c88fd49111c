//! Holding queues: one table.

use std::ops::ControlFlow;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::handle::{Sqlite, queue_error};
use super::queue::{DELIVERY, delivery, insert};
use crate::ports::{
    Delivery, Disposition, HeldDelivery, Holding, HoldingQueue, QueueError, TriageSummary,
};

#[async_trait]
impl Holding for Sqlite {
    async fn hold(&self, place: HoldingQueue, held: HeldDelivery) -> Result<(), QueueError> {
        self.write(move |c| insert_held(c, place, &held))
            .await
            .map(drop)
            .map_err(queue_error)
    }

    async fn visit_held(
        &self,
        place: HoldingQueue,
        visit: &mut (dyn FnMut(HeldDelivery) -> ControlFlow<()> + Send),
    ) -> Result<(), QueueError> {
        const PAGE: i64 = 100;
        let (mut after, last) = (0, self.last_held(place).await?);
        while after < last {
            let page = self
                .read(move |c| held_page(c, place, after, PAGE))
                .await
                .map_err(queue_error)?;
            let Some((seq, _)) = page.last() else { break };
            after = *seq;
            for (_, held) in page.into_iter().take_while(|(seq, _)| *seq <= last) {
                if visit(held).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn triage(
        &self,
        place: HoldingQueue,
        decide: &mut (dyn for<'a> FnMut(&'a HeldDelivery) -> Disposition + Send),
    ) -> Result<TriageSummary, QueueError> {
        const PAGE: i64 = 500;
        let (mut after, mut summary, last) =
            (0, TriageSummary::default(), self.last_held(place).await?);
        while after < last {
            let page = self
                .read(move |c| held_page(c, place, after, PAGE))
                .await
                .map_err(queue_error)?;
            let Some((seq, _)) = page.last() else { break };
            after = *seq;
            let mut decisions = Vec::new();
            for (seq, held) in page.into_iter().filter(|(seq, _)| *seq <= last) {
                match decide(&held).checked(self.0.partitions) {
                    Disposition::Keep => summary.kept += 1,
                    Disposition::Requeue(delivery) => decisions.push((seq, Some(*delivery))),
                    Disposition::Discard => decisions.push((seq, None)),
                }
            }
            let (requeued, discarded) = self
                .write(move |c| carry_out(c, &decisions))
                .await
                .map_err(queue_error)?;
            summary.requeued += requeued.len() as u64;
            summary.discarded += discarded;
            for partition in requeued {
                self.0.published[partition as usize].notify_waiters();
            }
        }
        Ok(summary)
    }

    async fn held_count(&self, place: HoldingQueue) -> Result<u64, QueueError> {
        self.read(move |c| {
            c.query_row(
                "SELECT count(*) FROM aside WHERE place = ?1",
                [column_value(place)],
                |row| row.get::<_, u64>(0),
            )
        })
        .await
        .map_err(queue_error)
    }
}

impl Sqlite {
    /// The sequence number of the last held delivery.
    async fn last_held(&self, place: HoldingQueue) -> Result<i64, QueueError> {
        let last = "SELECT ifnull(max(seq), 0) FROM aside WHERE place = ?1";
        self.read(move |c| c.query_row(last, [column_value(place)], |row| row.get(0)))
            .await
            .map_err(queue_error)
    }
}

/// Removes the decided deliveries and inserts those that are requeued into the queue, in one transaction. One that is
/// no longer held was decided by a concurrent triage: it is neither requeued nor counted. Returns the partition of
/// each requeued delivery, and how many were discarded.
fn carry_out(
    c: &Connection,
    decisions: &[(i64, Option<Delivery>)],
) -> rusqlite::Result<(Vec<u32>, u64)> {
    let (mut requeued, mut discarded) = (Vec::new(), 0);
    for (seq, decided) in decisions {
        let removed = c
            .prepare_cached("DELETE FROM aside WHERE seq = ?1")?
            .execute([seq])?;
        match decided {
            _ if removed == 0 => {}
            Some(delivery) => {
                insert(c, delivery)?;
                requeued.push(delivery.partition);
            }
            None => discarded += 1,
        }
    }
    Ok((requeued, discarded))
}

fn column_value(place: HoldingQueue) -> &'static str {
    match place {
        HoldingQueue::DeadLetters => "dead",
        HoldingQueue::Parked => "parked",
    }
}

fn insert_held(
    c: &Connection,
    place: HoldingQueue,
    held: &HeldDelivery,
) -> rusqlite::Result<usize> {
    let d = &held.delivery;
    c.prepare_cached(
        "INSERT OR IGNORE INTO aside (place, delivery, event_id, event_type, partition, endpoint, received_ms,
         traceparent, body, reason, at_ms) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
    )?
    .execute(params![
        column_value(place),
        d.id.as_bytes(),
        d.event_id,
        d.event_type,
        d.partition,
        d.endpoint,
        d.received_ms,
        d.traceparent,
        d.body.as_ref(),
        held.reason,
        held.at_ms
    ])
}

fn held_page(
    c: &Connection,
    place: HoldingQueue,
    after: i64,
    limit: i64,
) -> rusqlite::Result<Vec<(i64, HeldDelivery)>> {
    c.prepare_cached(&format!(
        "SELECT seq, partition, reason, at_ms, {DELIVERY} FROM aside WHERE place = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
    ))?
    .query_map(params![column_value(place), after, limit], |row| {
        let delivery = delivery(row, 4, row.get(1)?)?;
        Ok((row.get(0)?, HeldDelivery { delivery, reason: row.get(2)?, at_ms: row.get(3)? }))
    })?
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::super::Open;
    use super::*;
    use crate::ports::Consume as _;

    fn held(n: u128) -> HeldDelivery {
        HeldDelivery {
            delivery: Delivery {
                id: Uuid::from_u128(n),
                event_id: format!("evt_{n}"),
                event_type: "payout.paid".into(),
                partition: 0,
                endpoint: "stripe".into(),
                received_ms: 1,
                traceparent: None,
                body: Bytes::from_static(b"{}"),
            },
            reason: "a test".into(),
            at_ms: 1,
        }
    }

    /// A triage by another process, which ends before this returns.
    fn triage_elsewhere(folder: &Path, disposition: &Disposition) -> TriageSummary {
        let triage = async {
            let other = Sqlite::open(folder, Open::Existing).expect("the same store");
            let mut decide = |_: &HeldDelivery| disposition.clone();
            other
                .triage(HoldingQueue::DeadLetters, &mut decide)
                .await
                .expect("a triage")
        };
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(triage)
        };
        std::thread::scope(|scope| scope.spawn(run).join().expect("no panic"))
    }

    #[tokio::test]
    async fn of_two_concurrent_triages_one_decides_on_a_delivery() {
        let requeue = Disposition::Requeue(Box::new(held(1).delivery));
        for first in [Disposition::Discard, requeue.clone()] {
            let folder = tempfile::tempdir().expect("a folder");
            let sqlite =
                Sqlite::open(folder.path(), Open::Create { partitions: 1 }).expect("a store");
            let dead = HoldingQueue::DeadLetters;
            sqlite.hold(dead, held(1)).await.expect("held");
            let mut elsewhere = TriageSummary::default();
            // It is decided elsewhere after this triage has read it.
            let mut decide = |_: &HeldDelivery| {
                elsewhere = triage_elsewhere(folder.path(), &first);
                requeue.clone()
            };
            let here = sqlite.triage(dead, &mut decide).await.expect("a triage");
            assert_eq!(here, TriageSummary::default(), "{first:?}");
            assert_eq!(elsewhere.requeued + elsewhere.discarded, 1);
            let queued = sqlite.depth().await.expect("a depth");
            assert_eq!(queued, [elsewhere.requeued], "{first:?}");
        }
    }
}
